"""Commands that make, run and show networks of integers: `convert`, `run` and `info`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lava_meta.cli.app import Lanes, Overwrite, app, when_stopped
from lava_meta.cli.outputs import check_outputs
from lava_meta.cli.testing import AsIs, Network, accuracy_lines, load_network, read_images, tests_for

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from lava_meta.graph import Graph


@app.command()
def convert(
    *,
    model: Annotated[
        str,
        typer.Argument(
            help="model.safetensors of `lava-meta train`, or your own: FILE.py:FUNCTION, which returns the module."
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="For FILE.py:FUNCTION: its state dict, a safetensors file.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The network file to write.")] = Path("net.safetensors"),
    overwrite: Overwrite = False,
    task: Annotated[int, typer.Option(min=0, help="Whose statistics and affine a batch-norm net takes.")] = 0,
    mean: Annotated[
        str | None,
        typer.Option(
            help="The model takes (p / max_level - mean) / std, as by torchvision's Normalize: 0.1307, or one per "
            "channel, 0.485,0.456,0.406."
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(help="See --mean; the same for all channels.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The model takes raw levels, and scales them itself.")] = False,
    signs: Annotated[bool, typer.Option("--signs", help="The model takes +1 and -1.")] = False,
    max_level: Annotated[int, typer.Option(help="The brightest pixel, for a model without `Pixels`.")] = 255,
    min_level: Annotated[int, typer.Option(help="The least input, negative for signed features.")] = 0,
    input_shape: Annotated[
        str | None, typer.Option(help="Of one image: 1,28,28. For a model that begins with a convolution.")
    ] = None,
) -> None:
    """Convert a trained model into a network of integers for Lava, checked against the model."""
    from lava_meta.converters import convert as to_lava

    own = ":" in Path(model).name
    check_outputs([out], inputs=[Path(model.rpartition(":")[0] if own else model), weights], overwrite=overwrite)
    net = to_lava(
        _model(model, weights),
        task=task,
        mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"),
        max_level=max_level,
        min_level=min_level,
        raw=raw,
        signs=signs,
        input_shape=None if input_shape is None else _extents(input_shape),
    )
    net.save(out)
    print(f"{net.parity}\nwrote {out} ({out.stat().st_size:,} bytes)")


@app.command("compare-model")
def compare_model(
    *,
    network: Network,
    model: Annotated[str, typer.Argument(help="What it was converted from, as for `lava-meta convert`.")],
    images: Annotated[Path | None, typer.Argument(help="Images, an .npy file of integers (n, ...).")] = None,
    data: Annotated[str | None, typer.Option(help="Instead of images: the tests learned of digits, mnist, ...")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="For FILE.py:FUNCTION: its state dict, a safetensors file.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="As for `lava-meta convert`.")] = None,
    std: Annotated[str | None, typer.Option(help="As for `lava-meta convert`.")] = None,
) -> None:
    """Count how many images get the same class from a network and from the PyTorch model that it came from.

    Without images, those of the tests of all tasks that the network has learned. Exit code 3 if any differs.
    """
    import numpy as np
    import torch

    from lava_meta.converters import LavaNetwork
    from lava_meta.converters.scale import Feed

    if images is not None and data is not None:
        raise typer.BadParameter("give an .npy file of images or --data, not both")
    net = load_network(network)
    if not isinstance(net, LavaNetwork):
        raise typer.BadParameter(f"{network} is a learner, which came from no model", param_hint="NETWORK")
    if images is not None:
        pixels = read_images(images)
    else:
        tests = tests_for(network, net.learned, data, as_is=False).tests
        if not tests:
            raise typer.BadParameter("give an .npy file of images, or --data with the name of a data set")
        pixels = np.concatenate([test.x.numpy() for test in tests])
    graph = net.graph
    means, stds = _numbers(mean, "--mean"), _numbers(std, "--std")
    feed = Feed.given(means, stds, graph.input_shape, graph.max_level, graph.min_level)
    scale = None if mean is None else lambda x: torch.from_numpy(feed(x.to(torch.float32).numpy()))
    found = net.compare(_model(model, weights), pixels, preprocess=scale)
    print(found)
    if found.differing:
        raise typer.Exit(3)


def _model(model: str, weights: Path | None) -> nn.Module:
    """The PyTorch model that an argument names: a file of `lava-meta train`, or FILE.py:FUNCTION with its weights."""
    if ":" in Path(model).name:
        from lava_meta.cli.model_source import make_model

        return make_model(model, weights)
    if weights is not None:
        raise typer.BadParameter("weights go with a model of your own, FILE.py:FUNCTION", param_hint="--weights")
    from lava_meta.training.model_file import load_model

    return load_model(model).eval()


@app.command()
def run(
    *,
    network: Network,
    images: Annotated[Path | None, typer.Argument(help="Images, an .npy file of integers (n, ...).")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Instead of images: the tests of the tasks of digits, mnist, ... that were learned."),
    ] = None,
    as_is: AsIs = False,
    lanes: Lanes = 64,
    layer: Annotated[str | None, typer.Option(help="Give the signs of a hidden layer, such as hidden1.")] = None,
    sums: Annotated[bool, typer.Option("--sums", help="Give the integer sums of the classes.")] = False,
    backend: Annotated[
        str,
        typer.Option(
            help="cpu (Lava's simulator; without Lava, kernels); kernels (the same without Lava); "
            "loihi-sim (stock Processes, one image per step); loihi (a chip; classes only)."
        ),
    ] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this .npy file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Classify images in Lava's simulator, or without images all tests of what the network has learned.

    For images, prints one line per image: the class, or with --layer or --sums the integers asked for. For tests,
    prints the accuracy per task and the mean. Files may be larger than memory: images are read as
    they are needed, and results are written at once.
    """
    import time

    from lava_meta.converters import LavaNetwork
    from lava_meta.converters.backends import run as run_on
    from lava_meta.processes.backends import check_backend

    check_backend(backend)
    if backend == "loihi" and (layer is not None or sums):
        raise typer.BadParameter("a chip gives classes: leave out --layer and --sums")
    if images is not None and data is not None:
        raise typer.BadParameter("give an .npy file of images or --data, not both")
    if layer is not None and sums:
        raise typer.BadParameter("--layer and --sums are two outputs: give one of them")
    check_outputs([] if out is None else [out], inputs=[network, images], overwrite=overwrite)
    loaded = load_network(network)
    sets: list[tuple[Any, NDArray[Any] | None]]
    names: list[str] = []
    if images is not None:
        sets = [(read_images(images), None)]
    else:
        tests = tests_for(network, loaded.learned, data, as_is=as_is).tests
        if not tests:
            raise typer.BadParameter("give an .npy file of images, or --data with the name of a data set")
        sets, names = [(test.x.numpy(), test.y.numpy()) for test in tests], [test.name for test in tests]
    graph = loaded.graph if isinstance(loaded, LavaNetwork) else loaded.graph()
    encode = None if isinstance(loaded, LavaNetwork) else loaded.encode
    wanted = layer or ("readout" if sums else "classes")
    asked = tuple(dict.fromkeys([wanted, "classes"] if names else [wanted]))
    total, done, right = sum(len(pixels) for pixels, _ in sets), 0, []

    def stopped() -> str:
        kept = f"{out} was not written" if out is not None else "what was printed stands"
        return f"stopped after {done} of {total} images; {kept}: run the same again"

    begin = time.perf_counter()
    form = "stock" if backend == "loihi-sim" else "packed"
    with (
        when_stopped(stopped),
        LavaNetwork(graph, form=form, backend="kernels" if backend == "kernels" else None) as net,
        _sink(out, total, quiet=bool(names)) as put,
    ):
        for pixels, labels in sets:
            source = pixels if encode is None else map(encode, _pieces(pixels))
            if backend == "loihi":
                parts: Any = [{"classes": run_on(net, pixels if encode is None else encode(pixels), backend)}]
            else:
                parts = net.stream(source, lanes, asked, progress=sys.stderr.isatty())
            start, hits = done, 0
            for part in parts:
                put(part[wanted])
                if labels is not None:
                    hits += int((part["classes"] == labels[done - start : done - start + len(part["classes"])]).sum())
                done += len(part[wanted])
            right.append(hits / len(pixels))
    seconds = time.perf_counter() - begin
    print(f"{total} images in {seconds:.2f} s, the start included", file=sys.stderr)
    if names:
        print(accuracy_lines(dict(zip(names, right, strict=True)), [len(pixels) for pixels, _ in sets]))


@app.command()
def info(
    *,
    network: Network,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the network as well, to this .png, .pdf or .svg file.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Show what a network file holds, layer by layer, and what it has learned."""
    from rich.console import Console

    from lava_meta.converters import LavaNetwork

    check_outputs([] if picture is None else [picture], inputs=[network], overwrite=overwrite)
    loaded = load_network(network)
    graph = loaded.graph if isinstance(loaded, LavaNetwork) else loaded.graph()
    Console().print(_table(graph, network.name))
    for one in loaded.learned:
        print(f"learned {one}")
    if isinstance(loaded, LavaNetwork) and loaded.parity is not None:
        print(f"self-check: {loaded.parity}")
    if picture is not None:
        from lava_meta.graph import require_chain
        from lava_meta.plotting.network import picture as draw
        from lava_meta.plotting.network import save

        save(draw(require_chain(graph, "The picture")), picture)
        print(f"wrote {picture}")


def _table(graph: Graph, name: str) -> Any:
    from rich import box
    from rich.table import Table

    from lava_meta.graph.description import kind, short, spread

    rows = graph.summary()
    title = f"{name}: takes {graph.domain}, shape {graph.input_shape}"
    table = Table("layer", "kind", title=title, box=box.SIMPLE_HEAD)
    table.add_column("thresholds", min_width=10)
    for column in ("units", "synapses", "memory", "operations"):
        table.add_column(column, justify="right", no_wrap=True)

    def numbers(synapses: int, bits: int, operations: int) -> tuple[str, str, str]:
        return f"{synapses:,}", short(bits / 8, "B"), short(operations)

    counted = ("synapses", "bits", "operations")
    for row, (layer_name, layer) in zip(rows, graph.named_layers(), strict=True):
        units = "x".join(map(str, layer.output_shape))
        table.add_row(layer_name, kind(layer), spread(layer), units, *numbers(*(row[key] for key in counted)))
    table.add_section()
    table.add_row("total", "", "", "", *numbers(*(sum(row[key] for row in rows) for key in counted)))
    return table


def _numbers(text: str | None, option: str) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}; give a number, or one per channel as 0.485,0.456,0.406", param_hint=option
        ) from None


def _extents(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}; give extents as 1,28,28", param_hint="--input-shape") from None


def _pieces(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some thousand images at a time, read when their turn comes."""
    return (images[start : start + 4096] for start in range(0, len(images), 4096))


@contextmanager
def _sink(out: Path | None, total: int, *, quiet: bool) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Where blocks of the output go, one after the other: a file (whole or not at all), or else standard output.

    The file's place on the disk is taken before the first block is written: a disk that is too full says so at once.
    """
    import numpy as np

    from lava_meta.errors import RunFolderError
    from lava_meta.io.files import reserve, write_atomically

    if out is None:
        yield (lambda part: None) if quiet else _print_rows
        return
    with write_atomically(out) as file:

        def put(part: NDArray[Any]) -> None:
            size = total * part[0].nbytes
            try:
                if file.tell() == 0:
                    about = {"descr": part.dtype.str, "fortran_order": False, "shape": (total, *part.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, about)
                    reserve(file, file.tell() + size)
                file.write(np.ascontiguousarray(part).data)
            except OSError as error:
                raise RunFolderError(f"{out} takes {size / 2**20:,.1f} MiB and cannot be written: {error}") from error

        yield put


def _print_rows(part: NDArray[Any]) -> None:
    print("\n".join(" ".join(map(str, row)) for row in part.reshape(len(part), -1)))
