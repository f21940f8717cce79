"""Commands that make, check and show networks of integers: `convert`, `compare-model` and `info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lava_meta.cli.app import Overwrite, app
from lava_meta.cli.outputs import check_outputs
from lava_meta.cli.spiking import is_spiking, learner_table, table
from lava_meta.cli.testing import Network, check_one_source, load_network, read_images, tests_for

if TYPE_CHECKING:
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
    bits: Annotated[
        int | None, typer.Option(min=2, max=8, help="Round real weights to so many bits; needs --images.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="With --bits: an .npy file of images on which the agreement is measured.")
    ] = None,
) -> None:
    """Convert a trained model into a network of integers for Lava, checked against the model."""
    from lava_meta.converters import convert as to_lava

    own = ":" in Path(model).name
    check_outputs(
        [out], inputs=[Path(model.rpartition(":")[0] if own else model), weights, images], overwrite=overwrite
    )
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
        bits=bits,
        images=None if images is None else read_images(images),
    )
    net.save(out)
    if net.agreement is not None:
        print(f"weights rounded to {bits} bits: {net.agreement}")
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
    from lava_meta.converters.feed import Feed

    check_one_source(images, data)
    net = load_network(network)
    if not isinstance(net, LavaNetwork):
        raise typer.BadParameter(f"{network} is a learner, which came from no model", param_hint="NETWORK")
    if images is not None:
        pixels = read_images(images)
    else:
        tests = tests_for(network, net.learned, data, as_is=False).tests
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
    from lava_meta.online_learning import LearnerOverTime

    check_outputs([] if picture is None else [picture], inputs=[network], overwrite=overwrite)
    if is_spiking(network):
        from lava_meta.converters.spiking.network import SpikingNetwork

        if picture is not None:
            raise typer.BadParameter("spiking networks have no picture", param_hint="--picture")
        Console().print(table(SpikingNetwork.load(network), network.name))
        return
    loaded = load_network(network)
    if isinstance(loaded, LearnerOverTime):
        if picture is not None:
            raise typer.BadParameter("learners over time have no picture", param_hint="--picture")
        Console().print(learner_table(loaded, network.name))
    else:
        graph = loaded.graph if isinstance(loaded, LavaNetwork) else loaded.graph()
        Console().print(_table(graph, network.name))
    for one in loaded.learned:
        print(f"learned {one}")
    if isinstance(loaded, LavaNetwork) and loaded.parity is not None:
        print(f"self-check: {loaded.parity}")
    if picture is not None:
        from lava_meta.plotting.network import picture as draw
        from lava_meta.plotting.network import save

        save(draw(graph), picture)
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
