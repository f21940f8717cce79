"""Commands that make, run and show networks of integers: `convert`, `run` and `info`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lava_meta.cli.app import Lanes, app

if TYPE_CHECKING:
    import numpy as np


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
    from lava_meta.files import write_atomically
    from lava_meta.graph import BinaryGraph

    if (images is None) == (data is None):
        raise typer.BadParameter("give an .npy file of images, or --data with the name of a data set")
    net = LavaNetwork(BinaryGraph.load(network))
    labels = None
    if images is not None:
        pixels = read_images(images)
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


def read_images(path: Path) -> np.ndarray:
    """The array of an .npy file. Raises `FormatError` for any other."""
    import numpy as np

    from lava_meta.errors import FormatError

    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FormatError(f"{path} is not a whole .npy file of numbers: {error}") from error
