"""Commands that make, run and show networks of integers: `convert`, `run` and `info`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lava_meta.cli.app import Lanes, app

if TYPE_CHECKING:
    import numpy as np

    from lava_meta.graph import BinaryGraph

Network = Annotated[Path, typer.Argument(help="A network file of `lava-meta convert`.")]


@app.command()
def convert(
    model: Annotated[
        str,
        typer.Argument(
            help="model.safetensors of `lava-meta train`, or your own: FILE.py:FUNCTION, which returns the module."
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="For FILE.py:FUNCTION: its state dict, a safetensors file.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the network.")] = Path("net.safetensors"),
    task: Annotated[int, typer.Option(min=0, help="Whose statistics and affine a batch-norm net takes.")] = 0,
    mean: Annotated[
        float | None, typer.Option(help="The model takes (p / max_level - mean) / std, as by torchvision's Normalize.")
    ] = None,
    std: Annotated[float | None, typer.Option(help="See --mean.")] = None,
    max_level: Annotated[int, typer.Option(help="The brightest pixel, for a model without `Pixels`.")] = 255,
    min_level: Annotated[int, typer.Option(help="The least input, negative for signed features.")] = 0,
    input_shape: Annotated[
        str | None, typer.Option(help="Of one image: 1,28,28. For a model that begins with a convolution.")
    ] = None,
) -> None:
    """Convert a trained model into a network of integers for Lava, checked against the model."""
    from lava_meta.converters import convert as to_lava

    own = ":" in Path(model).name
    if weights is not None and not own:
        raise typer.BadParameter("weights go with a model of your own, FILE.py:FUNCTION", param_hint="--weights")
    if own:
        from lava_meta.model_source import make_model

        module = make_model(model, weights)
    else:
        from lava_meta.model_file import load_model

        module = load_model(model)
    shape = None if input_shape is None else _extents(input_shape)
    net = to_lava(module, task=task, mean=mean, std=std, max_level=max_level, min_level=min_level, input_shape=shape)
    net.save(out)
    print(f"{net.parity}\nwrote {out} ({out.stat().st_size:,} bytes)")


@app.command()
def run(
    network: Network,
    images: Annotated[Path | None, typer.Argument(help="Images, an .npy file of integers (n, ...).")] = None,
    data: Annotated[str | None, typer.Option(help="Instead of images: the test set of digits, mnist, ...")] = None,
    lanes: Lanes = 64,
    layer: Annotated[str | None, typer.Option(help="Give the signs of a hidden layer, such as hidden1.")] = None,
    sums: Annotated[bool, typer.Option("--sums", help="Give the integer sums of the classes.")] = False,
    backend: Annotated[
        str, typer.Option(help="cpu; loihi-sim (stock Processes, one image a step); loihi (a chip; classes only).")
    ] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this .npy file.")] = None,
) -> None:
    """Classify images in Lava's simulator; with --data, tell the accuracy too.

    Prints a line for each image: its class, or with --layer or --sums the integers asked for. Files may be larger than
    memory: images are read as they are needed, and what comes out goes to the file at once.
    """
    import time

    from lava_meta.converters import LavaNetwork
    from lava_meta.converters.backends import check_backend
    from lava_meta.converters.backends import run as run_on
    from lava_meta.graph import BinaryGraph

    check_backend(backend)
    if backend == "loihi" and (layer is not None or sums):
        raise typer.BadParameter("a chip gives classes: leave out --layer and --sums")
    if (images is None) == (data is None):
        raise typer.BadParameter("give an .npy file of images, or --data with the name of a data set")
    if layer is not None and sums:
        raise typer.BadParameter("--layer and --sums are two outputs: give one of them")
    graph = BinaryGraph.load(network)
    wanted = layer or ("readout" if sums else "classes")
    pixels, labels = (read_images(images), None) if images is not None else _test_set(data or "")
    right = done = 0
    begin = time.perf_counter()
    form = "stock" if backend == "loihi-sim" else "packed"
    with LavaNetwork(graph, form=form) as net, _sink(out, len(pixels), quiet=labels is not None) as put:
        asked = {wanted: None, "classes": None} if labels is not None else {wanted: None}
        stream = net.stream(pixels, lanes, tuple(asked), progress=sys.stderr.isatty())
        for part in [{"classes": run_on(net, pixels, backend)}] if backend == "loihi" else stream:
            put(part[wanted])
            if labels is not None:
                right += int((part["classes"] == labels[done : done + len(part["classes"])]).sum())
                done += len(part["classes"])
    seconds = time.perf_counter() - begin
    print(f"{len(pixels)} images in {seconds:.2f} s, start of Lava included", file=sys.stderr)
    if labels is not None:
        print(f"accuracy {100 * right / done:.2f} % of {done}")


@app.command()
def info(
    network: Network,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the network as well, to this .png, .pdf or .svg file.")
    ] = None,
) -> None:
    """Show what a network file holds, layer by layer."""
    from rich.console import Console

    from lava_meta.graph import BinaryGraph

    graph = BinaryGraph.load(network)
    Console().print(_table(graph, network.name))
    if picture is not None:
        from lava_meta.picture import picture as draw
        from lava_meta.picture import save

        save(draw(graph), picture)
        print(f"wrote {picture}")


def _table(graph: BinaryGraph, name: str) -> Any:
    from rich import box
    from rich.table import Table

    from lava_meta.description import kind, short, spread

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


def _extents(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}; give extents as 1,28,28", param_hint="--input-shape") from None


def read_images(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped into memory. Raises `FormatError` for any other."""
    import numpy as np

    from lava_meta.errors import FormatError
    from lava_meta.files import open_regular

    open_regular(path).close()
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy's reader of headers raises whatever a damaged one leads to
        raise FormatError(f"{path} is not a whole .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim < 2:
        raise FormatError(f"{path} does not hold one array of images (n, ...)")
    return array


def _test_set(name: str) -> tuple[np.ndarray, np.ndarray]:
    from lava_meta.data import load_dataset

    test = load_dataset(name).test
    return test.x.numpy(), test.y.numpy()


@contextmanager
def _sink(out: Path | None, total: int, quiet: bool) -> Iterator[Callable[[np.ndarray], None]]:
    """Where parts of the output go, one after the other: a file (whole or not at all), or else standard output.

    The file's place on the disk is taken before the first part is written: a disk that is too full says so at once.
    """
    import numpy as np

    from lava_meta.errors import RunFolderError
    from lava_meta.files import reserve, write_atomically

    if out is None:
        yield (lambda part: None) if quiet else _print_rows
        return
    with write_atomically(out) as file:

        def put(part: np.ndarray) -> None:
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


def _print_rows(part: np.ndarray) -> None:
    print("\n".join(" ".join(map(str, row)) for row in part.reshape(len(part), -1)))
