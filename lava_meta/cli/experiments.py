"""Commands that run the paper's experiments: `experiment` and `compare`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lava_meta.cli.app import Config, Overwrite, app, when_stopped
from lava_meta.cli.outputs import check_outputs, figure_files


@app.command()
def experiment(
    *,
    name: Annotated[str | None, typer.Argument(help="Which one; --list shows all.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="small (under 2 minutes, the default), medium (under 30) or paper.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run with seeds 0 to N - 1.")] = None,
    m: Annotated[str | None, typer.Option(help="Metaplasticities, separated by commas; 0 is plain.")] = None,
    rule: Annotated[str | None, typer.Option(help="plain, metaplastic, ewc, ...: separated by commas.")] = None,
    norm: Annotated[str | None, typer.Option(help="fixed, batch or layer.")] = None,
    config: Config = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: any setting, as training.lr=0.01; repeat it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of results; by default results/NAME-SCALE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the experiment in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the experiment in the folder.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Run on so many processes at once, by Dask.", show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Run on the workers of this Dask scheduler, as tcp://host:8786.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option(help="Start the --workers as jobs of this queue, as slurm, by dask-jobqueue.")
    ] = None,
    hand_over: Annotated[
        float, typer.Option(min=0, help="Seconds after which a worker hands over the checkpoint of its run.")
    ] = 120.0,
    every: Annotated[bool, typer.Option("--all", help="Run all experiments, one after the other.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the experiments and stop.")] = False,
) -> None:
    """Run an experiment of the paper, and report what came out beside what the paper claims.

    Leaves settings, tables, figures, report.md and report.html in the folder. A run that was stopped goes on with
    --resume. --config takes a file of settings, or the settings.json of a folder. --workers 4 runs four at once;
    --scheduler on other machines.
    """
    from lava_meta.experiments.common import experiment as known

    if show:
        for one in map(known.find, known.names()):
            print(f"{one.name:24} {one.titled(one.scales['paper'])}")
        return
    if every == (name is not None):
        raise typer.BadParameter("give the name of one experiment, or --all; --list shows them")
    short = (("seeds", seeds), ("m", m), ("rules", rule), ("norm", norm))
    texts = [*(given or ()), *(f"{key}={value}" for key, value in short if value is not None)]
    execute = where(workers, scheduler, queue, hand_over)
    chosen = Choice(scale, texts, config, resume, overwrite, execute)
    if name is not None:
        one = known.find(name)
        folder = out or Path("results") / f"{name}-{chosen.scale_of(one)}"
        with when_stopped(lambda: _kept(folder)):
            _run(one, chosen, folder)
        return
    if config is not None:
        raise typer.BadParameter("--config is of one experiment: leave out --all")
    results = out or Path("results")
    with when_stopped(lambda: _kept(results)):
        failed = _all(known.names(), chosen, results)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Choice:
    """What was asked for on the command line."""

    scale: str | None
    texts: list[str]
    config: Path | None
    resume: bool
    overwrite: bool
    execute: Any

    def scale_of(self, one: Any) -> str:
        """The scale from which settings differ: small, unless the command line or the file names another."""
        scale = self.scale or self._file(one).get("scale") or "small"
        if scale not in one.scales:
            raise typer.BadParameter(f"{scale!r}; choose {', '.join(one.scales)}", param_hint="--scale")
        return str(scale)

    def settings(self, one: Any) -> Any:
        """The experiment's settings: its scale's, the file's, and those of the command line."""
        from lava_meta.io.config import changed, of_file, override

        settings = one.scales[self.scale_of(one)]
        if self.config is not None:
            values = self._file(one)["settings"]
            with of_file(self.config):
                settings = changed(settings, values)
        return override(settings, self.texts)

    def _file(self, one: Any) -> dict[str, Any]:
        """The file as a run's settings.json is: "experiment", "scale" and "settings"; it may be the last alone."""
        from lava_meta.cli.config_file import read_settings

        found = {} if self.config is None else read_settings(self.config)
        if not isinstance(found.get("settings"), dict):
            found = {"settings": found}
        if found.get("experiment", one.name) != one.name:
            raise ValueError(f"{self.config} is of the experiment {found['experiment']}, not of {one.name}")
        return found


def where(workers: int | None, scheduler: str | None, queue: str | None, hand_over: float) -> Any:
    """What makes the runs."""
    from lava_meta.experiments.common.jobs import serially
    from lava_meta.experiments.common.scheduling import Cluster

    if workers is None and scheduler is None and queue is None:
        return serially
    try:
        return Cluster(workers, scheduler, queue, hand_over, say=lambda line: print(line, flush=True))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--workers or --scheduler") from None


def _kept(folder: Path) -> str:
    return (
        f"stopped; the runs that are complete are kept in {folder}, and of the one under way its checkpoint, if it has "
        "one: the same command with --resume goes on"
    )


def _run(one: Any, chosen: Choice, folder: Path) -> None:
    from lava_meta.experiments.common.runner import run_experiment
    from lava_meta.io.config import lines

    settings = chosen.settings(one)
    print(f"{one.titled(settings)}\n" + "\n".join(f"    {line}" for line in lines(settings)), flush=True)
    results = run_experiment(
        one,
        settings,
        folder,
        scale=chosen.scale_of(one),
        resume=chosen.resume,
        overwrite=chosen.overwrite,
        progress=sys.stderr.isatty(),
        say=lambda line: print(line, flush=True),
        execute=chosen.execute,
    )
    for claim in one.claims(settings, results):
        print(f"claimed: {claim.said}\n    {claim.measured}: {claim.verdict.value}")
    print(f"report, tables and figures are in {folder}")


def _all(names: list[str], chosen: Choice, out: Path) -> list[str]:
    """Run all experiments, each with those of the settings that it has.

    Returns the names of those that failed, for example because a data set is missing; the others still run.
    """
    from lava_meta.errors import LavaMetaError
    from lava_meta.experiments.common.experiment import find
    from lava_meta.io.config import knows

    failed = []
    for name in names:
        one = find(name)
        scale = chosen.scale_of(one)
        fitting = [text for text in chosen.texts if knows(one.scales[scale], text.partition("=")[0])]
        try:
            _run(one, replace(chosen, texts=fitting), out / f"{name}-{scale}")
        except LavaMetaError as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}; once mended, run the same with --resume", file=sys.stderr)
    return failed


@app.command()
def compare(
    *,
    folders: Annotated[list[Path], typer.Argument(help="Folders of experiments or of training runs.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and the figure.")] = Path("results/compare"),
    overwrite: Overwrite = False,
) -> None:
    """Draw runs side by side: the arms of experiments, or trainings of `lava-meta train`."""
    check_outputs([out / "compare.md", *figure_files(out / "compare")], overwrite=overwrite)
    from lava_meta.experiments.common.compare import compare_folders

    print(compare_folders(folders, out))
