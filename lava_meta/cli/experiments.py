"""Commands that run the paper's experiments: `experiment` and `compare`."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from lava_meta.cli.app import Overwrite, app, when_stopped
from lava_meta.cli.outputs import check_outputs, figure_files


@app.command()
def experiment(
    name: Annotated[str | None, typer.Argument(help="Which one; --list shows all.")] = None,
    scale: Annotated[str, typer.Option(help="small (under 2 minutes), medium (under 30) or paper.")] = "small",
    seeds: Annotated[int | None, typer.Option(min=1, help="Run with seeds 0 to N - 1.")] = None,
    m: Annotated[str | None, typer.Option(help="Metaplasticities, separated by commas; 0 is plain.")] = None,
    rule: Annotated[str | None, typer.Option(help="plain, metaplastic, ewc, ...: separated by commas.")] = None,
    norm: Annotated[str | None, typer.Option(help="fixed, batch or layer.")] = None,
    given: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: any other setting; repeat it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of results; by default results/NAME-SCALE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the experiment in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the experiment in the folder.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Run all experiments, one after the other.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the experiments and stop.")] = False,
) -> None:
    """Run an experiment of the paper, and report what came out beside what the paper claims.

    Leaves settings, tables, figures and report.md in the folder. A run that was stopped goes on with --resume.
    """
    from lava_meta.experiments.common import experiment as known

    if show:
        for one in map(known.find, known.names()):
            print(f"{one.name:24} {one.titled(one.scales['paper'])}")
        return
    if every == (name is not None):
        raise typer.BadParameter("give the name of one experiment, or --all; --list shows them")
    texts = [*(given or ())]
    short = (("seeds", seeds), ("m", m), ("rules", rule), ("norm", norm))
    texts += [f"{key}={value}" for key, value in short if value is not None]
    if not every:
        assert name is not None
        folder = out or Path("results") / f"{name}-{scale}"
        with when_stopped(lambda: _kept(folder)):
            _run(known.find(name), scale, texts, folder, resume, overwrite)
        return
    results = out or Path("results")
    with when_stopped(lambda: _kept(results)):
        failed = _all(known.names(), scale, texts, results, resume, overwrite)
    if failed:
        raise typer.Exit(1)


def _kept(folder: Path) -> str:
    return (
        f"stopped; the runs that are complete are kept in {folder}, and of the one under way its checkpoint, if it has "
        "one: the same command with --resume goes on"
    )


def _run(one: Any, scale: str, texts: list[str], folder: Path, resume: bool, overwrite: bool) -> None:
    from lava_meta.experiments.common.runner import run_experiment
    from lava_meta.experiments.common.settings import override

    if scale not in one.scales:
        raise typer.BadParameter(f"{scale!r}; choose {', '.join(one.scales)}", param_hint="--scale")
    settings = override(one.scales[scale], texts)
    print(
        f"{one.titled(settings)}\n" + "\n".join(f"    {key} = {value}" for key, value in settings.to_dict().items()),
        flush=True,
    )
    results = run_experiment(
        one,
        settings,
        folder,
        scale=scale,
        resume=resume,
        overwrite=overwrite,
        progress=sys.stderr.isatty(),
        say=lambda line: print(line, flush=True),
    )
    if results is None:
        return
    for claim in one.claims(settings, results):
        print(f"claimed: {claim.said}\n    {claim.measured}: {claim.verdict.value}")
    print(f"report, tables and figures are in {folder}")


def _all(names: list[str], scale: str, texts: list[str], out: Path, resume: bool, overwrite: bool) -> list[str]:
    """Run all experiments, each with those of the settings that it has.

    Returns the names of those that failed, for example because a data set is missing; the others still run.
    """
    from lava_meta.errors import LavaMetaError
    from lava_meta.experiments.common.experiment import find

    failed = []
    for name in names:
        one = find(name)
        has = {field.name for field in fields(one.scales[scale])} if scale in one.scales else set()
        fitting = [text for text in texts if text.partition("=")[0].strip().replace("-", "_") in has]
        try:
            _run(one, scale, fitting, out / f"{name}-{scale}", resume, overwrite)
        except LavaMetaError as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}; once mended, run the same with --resume", file=sys.stderr)
    return failed


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of experiments or of training runs.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and the figure.")] = Path("results/compare"),
    overwrite: Overwrite = False,
) -> None:
    """Draw runs side by side: the arms of experiments, or trainings of `lava-meta train`."""
    check_outputs([out / "compare.md", *figure_files(out / "compare")], overwrite=overwrite)
    from lava_meta.experiments.common.compare import compare_folders

    print(compare_folders(folders, out))
