"""Commands that train: `demo` and `train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lava_meta.cli.app import Data, Out, app, numbers, when_stopped
from lava_meta.cli.online import demo_online
from lava_meta.cli.outputs import check_outputs, figure_files


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="digits (a minute, offline) or mnist (some minutes).")] = "digits",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; by default results/demo, demo-mnist or demo-online.", show_default=False),
    ] = None,
    m: Annotated[float | None, typer.Option(min=0, help="Metaplasticity; by default chosen for the data.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="Permuted tasks in a row.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs a task.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything.")] = 0,
    online: Annotated[bool, typer.Option("--online", help="Learn inside Lava instead, one image at a time.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a demonstration with other settings in the folder.")
    ] = False,
) -> None:
    """Train a plain and a metaplastic network on permuted tasks, and run the second one in Lava.

    Prints both accuracy matrices, saves three figures and the network, and checks every class that Lava gives against
    PyTorch. With --online both networks learn inside Lava. One that was stopped goes on when the same command is given
    again; one that is complete is made anew in its folder, where it replaces its own files and no others.
    """
    from lava_meta.experiments import demo as experiment

    if data not in experiment.PRESETS:
        raise typer.BadParameter(f"{data!r}; choose one of {', '.join(experiment.PRESETS)}", param_hint="--data")
    given: dict[str, Any] = {
        name: value for name, value in (("m", m), ("tasks", tasks), ("epochs", epochs)) if value is not None
    }
    if online:
        if data != "digits" or {"m", "epochs"} & {*given}:
            raise typer.BadParameter("learns digits in one pass, with its own gate: leave out --data, --m and --epochs")
        demo_online(out or Path("results/demo-online"), seed, given, overwrite)
        return
    settings = replace(experiment.PRESETS[data], seed=seed, **given)
    folder = out or Path("results") / ("demo" if data == "digits" else f"demo-{data}")
    with when_stopped(lambda: f"stopped; the epochs that are complete are kept in {folder}: the same again goes on"):
        result = experiment.run(settings, folder, overwrite=overwrite)
    print(experiment.describe(result, folder))
    if result.mismatches:
        raise typer.Exit(3)


@app.command()
def train(
    out: Out,
    data: Data = "digits",
    scenario: Annotated[
        str, typer.Option(help="permuted (pixels shuffled anew each task), split (classes in groups) or stream.")
    ] = "permuted",
    tasks: Annotated[int, typer.Option(min=1, help="Tasks, groups of classes, or subsets of the stream.")] = 5,
    hidden: Annotated[str, typer.Option(help="Units of the hidden layers, separated by commas.")] = "512,512",
    norm: Annotated[str, typer.Option(help="fixed (deploys as it is), batch or layer.")] = "fixed",
    m: Annotated[
        str | None,
        typer.Option(
            help="Metaplasticity: one value, or one per layer separated by commas; 0 is plain. "
            "By default proposed from the number of steps and --lr."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs a task.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 50,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 0.005,
    weight_decay: Annotated[float, typer.Option(help="Coupled weight decay.")] = 1e-7,
    keep_moments: Annotated[bool, typer.Option(help="One optimizer throughout, not a new one each task.")] = False,
    fast: Annotated[
        bool, typer.Option("--fast/--clear", help="Compiled steps and narrow products, or torch's own in float32.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; by default chosen by the size of the products.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda for a GPU (cuda:1 for the second).")] = "cpu",
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Test on this share of the training images: to choose m honestly.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
) -> None:
    """Train a binarized network on a sequence of tasks, and test it on all of them after each.

    Every epoch leaves a checkpoint: after Ctrl-C or a crash, the same command with --resume goes on to the identical
    result. The trained network is model.safetensors in the folder.
    """
    from lava_meta.data import load_dataset
    from lava_meta.data.scenarios import permuted_tasks, split_classes, stream_of_subsets
    from lava_meta.nn import BinaryMLP
    from lava_meta.plotting import figures
    from lava_meta.training import TrainSettings
    from lava_meta.training import train as run
    from lava_meta.training.model_file import save_model
    from lava_meta.training.run_folder import CHECKPOINT
    from lava_meta.training.torch_device import usable_device

    if norm not in ("fixed", "batch", "layer"):
        raise typer.BadParameter(f"{norm!r}; choose fixed, batch or layer", param_hint="--norm")
    widths = numbers(hidden, int, "--hidden")
    gates = [] if m is None else numbers(m, float, "--m")
    place = usable_device(device)
    dataset = load_dataset(data)
    if held_out:
        dataset = dataset.hold_out(held_out, seed)
    if scenario == "permuted":
        tests = permuted_tasks(dataset, tasks, seed)
    elif scenario == "split":
        classes = dataset.train.classes
        if classes % tasks:
            raise typer.BadParameter(f"{classes} classes do not part into {tasks} equal groups", param_hint="--tasks")
        share = classes // tasks
        tests = split_classes(dataset, [range(i * share, (i + 1) * share) for i in range(tasks)])
    elif scenario == "stream":
        tests = stream_of_subsets(dataset, tasks, seed)
    else:
        raise typer.BadParameter(f"{scenario!r}; choose permuted, split or stream", param_hint="--scenario")
    options: dict[str, Any] = {"tasks": len(tests.tests)} if norm == "batch" else {}
    model = BinaryMLP.for_images(tests.train[0], widths, norm, seed=seed, **options)  # type: ignore[arg-type]
    model.to(place)
    settings = TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        m=None if m is None else gates[0] if len(gates) == 1 else tuple(gates),
        weight_decay=weight_decay,
        reset_moments=not keep_moments,
        seed=seed,
        fast=fast,
    )
    drawn = [out / "figures" / name for name in ("accuracy_over_time", "accuracy_matrix")]
    if not (out / CHECKPOINT).exists():  # what belongs to a run in the folder is that run's to keep
        check_outputs(
            [out / "model.safetensors", *figure_files(drawn[0]), *figure_files(drawn[1])], overwrite=overwrite
        )
    result = run(model, tests, settings, out, resume=resume, overwrite=overwrite, threads=threads)
    with when_stopped(lambda: f"stopped; all epochs are kept in {out}: the same with --resume writes what is missing"):
        save_model(model, out / "model.safetensors")
        name = f"m = {result.settings.m}" if m is None else f"m = {m}"
        rows = {name: [record.accuracies for record in result.history]}
        figures.save(figures.accuracy_over_time(rows, epochs, 1 / tests.classes), drawn[0])
        figures.save(figures.accuracy_matrices({name: result.matrix}), drawn[1])
    print(f"Test accuracy (%) on task t after each task:\n\n{result.matrix}\n")
    print(f"ACC {100 * result.matrix.acc():.1f}   forgetting {100 * result.matrix.forgetting():.1f}")
    print(f"the network is {out / 'model.safetensors'}; convert it with `lava-meta convert`")
