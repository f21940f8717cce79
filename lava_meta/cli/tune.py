"""The command `tune`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lava_meta.cli.app import Config, app
from lava_meta.cli.experiments import Choice, where


@app.command()
def tune(
    *,
    name: Annotated[str, typer.Argument(help="An experiment; `lava-meta experiment --list` shows all.")],
    scale: Annotated[str | None, typer.Option(help="small (the default), medium or paper.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="The budget: how many trials.")] = 12,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="And no trial begins that would end after so many seconds of training."),
    ] = None,
    search: Annotated[str, typer.Option(help="m, and if wanted lr and grow, separated by commas.")] = "m",
    seeds: Annotated[int, typer.Option(min=1, help="Of each trial, whose accuracy is their mean.")] = 1,
    held_out: Annotated[float, typer.Option(help="Share of the training images on which trials are tested.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of what is tried.")] = 0,
    norm: Annotated[str | None, typer.Option(help="fixed, batch or layer.")] = None,
    config: Config = None,
    given: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: any setting; repeat it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default results/tune-NAME-SCALE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the search in the folder.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Run so many trials at once, by Dask.", show_default=False)
    ] = None,
) -> None:
    """Search the m of an experiment with Optuna, on images held out of training.

    The first trial has the m that training proposes. Test images are never looked at. Leaves every trial in table.md
    and a figure, and the best settings in config.yaml, which `lava-meta experiment NAME --config` takes. A search that
    was stopped goes on with --resume, with more trials too.
    """
    from lava_meta.experiments.common.experiment import find
    from lava_meta.experiments.common.tuning import tune_experiment
    from lava_meta.io.config import CONFIG
    from lava_meta.tuning import Budget
    from lava_meta.tuning.trial import table

    execute = where(workers, None, None, 120.0)
    chosen = Choice(scale, [*(given or ()), *([f"norm={norm}"] if norm else ())], config, resume, overwrite, execute)
    one = find(name)
    folder = out or Path("results") / f"tune-{name}-{chosen.scale_of(one)}"
    budget = Budget(trials, seconds)
    settings = chosen.settings(one)
    print(
        f"{one.titled(settings)}: {budget}, {seeds} seed{'s' * (seeds > 1)} each, {held_out:.0%} held out", flush=True
    )
    found = tune_experiment(
        one,
        settings,
        folder,
        scale=chosen.scale_of(one),
        budget=budget,
        search=tuple(part.strip() for part in search.split(",")),
        seeds=seeds,
        held_out=held_out,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        progress=sys.stderr.isatty(),
        say=lambda line: print(line, flush=True),
        execute=execute,
        at_once=workers or 1,
    )
    print(f"\n{table(found)}\n\nnow run: lava-meta experiment {name} --config {folder / CONFIG}")
