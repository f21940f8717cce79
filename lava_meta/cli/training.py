"""Commands that train: `demo` and `train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lava_meta.cli.app import LATE, Config, Out, app, when_stopped
from lava_meta.cli.online import demo_online
from lava_meta.cli.outputs import check_outputs, figure_files

if TYPE_CHECKING:
    from lava_meta.training import TrainResult

FIGURES = ("accuracy_over_time", "accuracy_matrix")
FLAGS = {"fast": "--fast/--clear", "reset_moments": "--reset-moments/--keep-moments"}
"""Flags of `train` that have names of their own."""


@app.command()
def demo(
    *,
    data: Annotated[str, typer.Option(help="digits (a minute, offline) or mnist (ten minutes).")] = "digits",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; by default results/demo, demo-mnist or demo-online.", show_default=False),
    ] = None,
    m: Annotated[float | None, typer.Option(min=0, help="Metaplasticity; by default chosen for the data.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="Permuted tasks in a row.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs per task.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything.")] = 0,
    online: Annotated[bool, typer.Option("--online", help="Learn inside Lava instead, one image at a time.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a demonstration with other settings in the folder.")
    ] = False,
) -> None:
    """Train a plain and a metaplastic network on permuted tasks, and run the second one in Lava.

    Prints both accuracy matrices, saves three figures and the network, and checks every class that Lava gives against
    PyTorch. With --online both networks learn inside Lava. One that was stopped goes on when the same command is given
    again; one that is complete is made again in its folder, where it replaces its own files and no others.
    """
    from lava_meta.experiments import demo as experiment
    from lava_meta.io.config import changed

    if data not in experiment.PRESETS:
        raise typer.BadParameter(f"{data!r}; choose one of {', '.join(experiment.PRESETS)}", param_hint="--data")
    given = {name: value for name, value in {"m": m, "tasks": tasks, "epochs": epochs}.items() if value is not None}
    if online:
        if data != "digits" or {"m", "epochs"} & {*given}:
            raise typer.BadParameter("learns digits in one pass, with its own gate: leave out --data, --m and --epochs")
        demo_online(out or Path("results/demo-online"), seed, given, overwrite=overwrite)
        return
    settings = changed(experiment.PRESETS[data], {"seed": seed, **given})
    folder = out or Path("results") / ("demo" if data == "digits" else f"demo-{data}")
    with when_stopped(lambda: f"stopped; the epochs that are complete are kept in {folder}: the same again goes on"):
        result = experiment.run(settings, folder, overwrite=overwrite)
    print(experiment.describe(result, folder))
    if result.mismatches:
        raise typer.Exit(3)


def _train(
    *,
    out: Out,
    config: Config = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    given: dict[str, str],
) -> None:
    """Train a binarized network on a sequence of tasks, and test it on all of them after each.

    Every epoch leaves a checkpoint: after Ctrl-C or a crash, the same command with --resume goes on to the identical
    result. The trained network is model.safetensors in the folder, and config.yaml what --config takes to do the same.
    """
    from lava_meta.cli.config_file import read_settings
    from lava_meta.cli.flags import with_flags
    from lava_meta.cli.train_config import TrainConfig, kept
    from lava_meta.io.config import CONFIG, changed, of_file
    from lava_meta.training import train as run
    from lava_meta.training.model_file import save_model
    from lava_meta.training.run_folder import CHECKPOINT

    settings = TrainConfig()
    if config is not None:
        values = read_settings(config)
        with of_file(config):
            settings = changed(settings, values)
    settings = with_flags(settings, given)
    tests = settings.tests()
    model = settings.network(tests)
    if not (out / CHECKPOINT).exists():  # what belongs to a run in the folder is that run's to keep
        figures = [file for name in FIGURES for file in figure_files(out / "figures" / name)]
        own = [] if config is not None and config.resolve() == (out / CONFIG).resolve() else [out / CONFIG]
        check_outputs([out / "model.safetensors", *figures, *own], overwrite=overwrite)
    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "threads": settings.threads}
    with kept(settings, out / CONFIG):
        result = run(model, tests, settings.training, out, **options)
    with when_stopped(lambda: f"stopped; all epochs are kept in {out}: the same with --resume writes what is missing"):
        save_model(model, out / "model.safetensors")
        _draw(result, out, 1 / tests.classes)
    print(f"Test accuracy (%) on task t after each task:\n\n{result.matrix}\n")
    print(f"ACC {100 * result.matrix.acc():.1f}   forgetting {100 * result.matrix.forgetting():.1f}")
    print(f"the network is {out / 'model.safetensors'}; convert it with `lava-meta convert`")


def _draw(result: TrainResult, out: Path, chance: float) -> None:
    from lava_meta.plotting import figures

    m, gate = result.settings.m, result.settings.consolidation
    values = m if isinstance(m, tuple) else (m or 0.0,)
    name = gate.kind if gate is not None else f"m = {','.join(f'{value:g}' for value in values)}"
    rows = {name: [record.accuracies for record in result.history]}
    over_time, matrix = (out / "figures" / file for file in FIGURES)
    figures.save(figures.accuracy_over_time(rows, result.settings.epochs, chance), over_time)
    figures.save(figures.accuracy_matrices({name: result.matrix}), matrix)


@app.command(name="train", help=_train.__doc__)
def _listed() -> None:
    """Stand in the list of commands for `_train`, whose flags are those of the settings."""


def _train_command() -> Any:
    from lava_meta.cli.flags import command_of
    from lava_meta.cli.train_config import TrainConfig

    return command_of(_train, TrainConfig(), FLAGS)


LATE["train"] = _train_command
