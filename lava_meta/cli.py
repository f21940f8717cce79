"""The command `lava-meta`.

Exit codes: 0 done; 1 failed, with one line on standard error that says what and what to do; 2 the words on the command
line are off; 3 the networks were run but differ; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Metaplastic binarized neural networks: train without forgetting, convert to Lava, run on integers.\n\n"
    "Start with [bold]lava-meta demo[/bold] (a minute, offline). Then train on a task sequence, convert the model, and "
    "run it in Lava's simulator:\n\n"
    "    lava-meta train --data mnist --tasks 3 --m 4 --epochs 3 --batch-size 100 --out results/mnist\n\n"
    "    lava-meta convert results/mnist/model.safetensors -o net.safetensors\n\n"
    "    lava-meta run net.safetensors --data mnist",
)

_DEBUG = {"on": False}

Data = Annotated[str, typer.Option(help="digits (embedded), mnist, fashion-mnist or usps.")]
Out = Annotated[Path, typer.Option(help="Folder for settings, metrics, figures and the network.")]
Lanes = Annotated[int, typer.Option(min=1, help="Images that pass in one Lava time step; 1 as on a chip.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
) -> None:
    _DEBUG["on"] = debug


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="digits (a minute, offline) or mnist (some minutes).")] = "digits",
    out: Out = Path("results/demo"),
    m: Annotated[float | None, typer.Option(min=0, help="Metaplasticity; by default chosen for the data.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="Permuted tasks in a row.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs a task.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything.")] = 0,
) -> None:
    """Train a plain and a metaplastic network on permuted tasks, and run the second one in Lava.

    Prints both accuracy matrices, saves three figures and the network, and checks every class that Lava gives against
    PyTorch.
    """
    from lava_meta.experiments import demo as experiment

    if data not in experiment.PRESETS:
        raise typer.BadParameter(f"{data!r}; choose one of {', '.join(experiment.PRESETS)}", param_hint="--data")
    given = {name: value for name, value in (("m", m), ("tasks", tasks), ("epochs", epochs)) if value is not None}
    settings = replace(experiment.PRESETS[data], seed=seed, **given)
    result = experiment.run(settings, out)
    print(experiment.describe(result, out))
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
    m: Annotated[str, typer.Option(help="Metaplasticity: one value, or one a layer separated by commas.")] = "8",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs a task.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 50,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 0.005,
    weight_decay: Annotated[float, typer.Option(help="Coupled weight decay.")] = 1e-7,
    keep_moments: Annotated[bool, typer.Option(help="One optimizer throughout, not a new one each task.")] = False,
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
    from lava_meta import figures
    from lava_meta.data import load_dataset
    from lava_meta.model_file import save_model
    from lava_meta.nn import BinaryMLP
    from lava_meta.streams import permuted_tasks, split_classes, stream_of_subsets
    from lava_meta.training import TrainSettings
    from lava_meta.training import train as run

    if norm not in ("fixed", "batch", "layer"):
        raise typer.BadParameter(f"{norm!r}; choose fixed, batch or layer", param_hint="--norm")
    widths = _numbers(hidden, int, "--hidden")
    gates = _numbers(m, float, "--m")
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
    settings = TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        m=gates[0] if len(gates) == 1 else tuple(gates),
        weight_decay=weight_decay,
        reset_moments=not keep_moments,
        seed=seed,
    )
    result = run(model, tests, settings, out, resume=resume, overwrite=overwrite)
    save_model(model, out / "model.safetensors")
    name = f"m = {m}"
    rows = {name: [record.accuracies for record in result.history]}
    figures.save(figures.accuracy_over_time(rows, epochs, 1 / tests.classes), out / "figures" / "accuracy_over_time")
    figures.save(figures.accuracy_matrices({name: result.matrix}), out / "figures" / "accuracy_matrix")
    print(f"Test accuracy (%) on task t after each task:\n\n{result.matrix}\n")
    print(f"ACC {100 * result.matrix.acc():.1f}   forgetting {100 * result.matrix.forgetting():.1f}")
    print(f"the network is {out / 'model.safetensors'}; convert it with `lava-meta convert`")


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(help="model.safetensors of `lava-meta train`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the network.")] = Path("net.safetensors"),
    task: Annotated[int, typer.Option(min=0, help="Whose statistics and affine a batch-norm net takes.")] = 0,
) -> None:
    """Convert a trained model into a network of integers for Lava, checked against the model."""
    from lava_meta.converters import convert as to_lava
    from lava_meta.model_file import load_model

    net = to_lava(load_model(model), task=task)
    net.save(out)
    print(f"{net.parity}\nwrote {out} ({out.stat().st_size:,} bytes)")


@app.command()
def run(
    network: Annotated[Path, typer.Argument(help="A network file of `lava-meta convert`.")],
    images: Annotated[Path | None, typer.Argument(help="Images, an .npy file of unsigned integers (n, ...).")] = None,
    data: Annotated[str | None, typer.Option(help="Instead of images: the test set of digits, mnist, ...")] = None,
    lanes: Lanes = 64,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the classes to this .npy file.")] = None,
) -> None:
    """Classify images in Lava's simulator; with --data, tell the accuracy too."""
    import time

    import numpy as np

    from lava_meta.converters import LavaNetwork
    from lava_meta.data import load_dataset
    from lava_meta.errors import FormatError
    from lava_meta.files import write_atomically
    from lava_meta.graph import BinaryGraph

    if (images is None) == (data is None):
        raise typer.BadParameter("give an .npy file of images, or --data with the name of a data set")
    net = LavaNetwork(BinaryGraph.load(network))
    labels = None
    if images is not None:
        try:
            pixels = np.load(images, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FormatError(f"{images} is not a whole .npy file of numbers: {error}") from error
    else:
        assert data is not None
        test = load_dataset(data).test
        pixels, labels = test.x.numpy(), test.y.numpy()
    begin = time.perf_counter()
    classes = net.predict(pixels, lanes=lanes, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - begin
    if out is not None:
        with write_atomically(out) as temporary, open(temporary, "wb") as file:
            np.save(file, classes)
    elif labels is None:
        print("\n".join(map(str, classes)))
    print(f"{len(classes)} images in {seconds:.2f} s, start of Lava included", file=sys.stderr)
    if labels is not None:
        print(f"accuracy {100 * np.mean(classes == labels):.2f} % of {len(labels)}")


@app.command()
def info(network: Annotated[Path, typer.Argument(help="A network file of `lava-meta convert`.")]) -> None:
    """Show what a network file holds, layer by layer."""
    from rich.console import Console
    from rich.table import Table

    from lava_meta.graph import BinaryGraph

    graph = BinaryGraph.load(network)
    rows = graph.summary()
    table = Table(*rows[0], title=f"{network.name}: pixels 0..{graph.max_level}, images {graph.input_shape}")
    for column in list(table.columns)[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    total = {key: sum(row[key] for row in rows) for key in ("synapses", "bits", "operations")}
    table.add_section()
    table.add_row("total", "", "", *(f"{value:,}" for value in total.values()))
    Console().print(table)


def _numbers(text: str, kind: type, option: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(f"{text!r}; give {what} separated by commas", param_hint=option) from None


def main() -> None:
    """Run the command line; turn errors into one readable line and an exit code."""
    from lava_meta.errors import LavaMetaError

    try:
        app()
    except KeyboardInterrupt as stop:
        print(f"lava-meta: {stop or 'stopped'}", file=sys.stderr)
        raise SystemExit(130) from None
    except (LavaMetaError, OSError, ValueError, TypeError) as error:
        if _DEBUG["on"]:
            raise
        kind = "" if isinstance(error, LavaMetaError | ValueError) else f"{type(error).__name__}: "
        print(f"lava-meta: {kind}{error}", file=sys.stderr)
        raise SystemExit(1) from None
