"""What `run`, `report`, `info` and `bundle` do with a network of spiking neurons, and with a learner over time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lava_meta.cli.testing import read_images
from lava_meta.io.file_kinds import SPIKING, what_is

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lava_meta.converters.spiking.network import SpikingNetwork
    from lava_meta.online_learning import LearnerOverTime

Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of spiking networks: time steps for which an image is held; without it the file holds frames, "
        "(n, steps, ...).",
    ),
]
_FORMS = {"cpu": None, "loihi-sim": "stock"}  # by backend; None is the network's own


def is_spiking(path: Path) -> bool:
    """Whether a file holds a network of spiking neurons."""
    return what_is(path).kind == SPIKING


def run_spiking(
    path: Path, images: Path | None, steps: int | None, backend: str, lanes: int, out: Path | None, *, counts: bool
) -> None:
    """Print a class a line, or the spikes of each output neuron; or write them."""
    import numpy as np

    from lava_meta.converters.spiking.network import SpikingNetwork
    from lava_meta.io.files import write_atomically

    if backend not in _FORMS:
        raise typer.BadParameter(
            f"a spiking network runs on {' and '.join(_FORMS)}, not on {backend}", param_hint="--backend"
        )
    given = _images(images)
    net = SpikingNetwork.load(path, form=_FORMS[backend] or "floating_pt")
    begin = time.perf_counter()
    options: dict[str, Any] = {"lanes": lanes, "time_first": False}
    found = net.counts(given, steps, **options) if counts else net.predict(given, steps, **options)
    if out is None:
        print("\n".join(" ".join(map(str, row)) for row in found.reshape(len(found), -1)))
    else:
        with write_atomically(out) as file:
            np.save(file, found)
    print(f"{len(found)} images in {time.perf_counter() - begin:.2f} s, the start included", file=sys.stderr)


def report_of(
    path: Path, images: Path | None, steps: int | None, limit: int, target: str, weight_bits: int, *, own_kernels: bool
) -> Any:
    """The report, counted on the images."""
    from lava_meta.converters.spiking.network import SpikingNetwork

    options = {"share_kernels": False} if own_kernels else {}
    given = _images(images)[:limit]
    net = SpikingNetwork.load(path)
    return net.report(target, given, steps, time_first=False, weight_bits=weight_bits, **options)


def bundle_of(path: Path, images: Path | None, steps: int | None, out: Path, *, overwrite: bool) -> Path:
    """The folder for a chip, of images or random trains."""
    from lava_meta.converters.bundle import bundle
    from lava_meta.converters.spiking.network import SpikingNetwork

    given = None if images is None else read_images(images)
    return bundle(SpikingNetwork.load(path), out, images=given, steps=steps, time_first=False, overwrite=overwrite)


def table(net: SpikingNetwork, name: str) -> Any:
    """Its layers or nodes, for `info`."""
    from rich import box
    from rich.table import Table

    from lava_meta.graph.description import short

    graph = net.graph
    title = f"{name}: takes {graph.min_level} to {graph.max_level}, shape {graph.input_shape}"
    title += "" if net.readout is None else f", read by {net.readout}"
    shown = Table("layer", "kind", title=title, box=box.SIMPLE_HEAD)
    for column in ("units", "synapses", "memory", "operations a time step"):
        shown.add_column(column, justify="right", no_wrap=True)
    rows = graph.summary()
    for row in rows:
        shown.add_row(
            row["layer"],
            row["kind"],
            f"{row['units']:,}",
            f"{row['synapses']:,}",
            short(row["bits"] / 8, "B"),
            short(row["operations"]),
        )
    return shown


def classifier(learner: LearnerOverTime, backend: str, lanes: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """From raw images to classes int64 (n,): in Lava if the learner converts, and otherwise by its own layers."""
    from lava_meta.converters import convert
    from lava_meta.errors import ConversionError, available

    if backend not in ("cpu", "kernels"):
        raise typer.BadParameter(
            f"a learner over time runs on cpu and kernels, not on {backend}", param_hint="--backend"
        )
    if backend == "cpu" and available("lava") == "lava":
        try:
            net = convert(learner)
        except ConversionError as reason:
            print(f"lava-meta: by the layers that learn, outside Lava: {reason}", file=sys.stderr)
        else:
            return lambda images: net.predict(learner.trains(images), lanes=lanes, time_first=False)
    return learner.predict


def learner_table(learner: LearnerOverTime, name: str) -> Any:
    """Its layers, for `info`."""
    from rich import box
    from rich.table import Table

    from lava_meta.graph.description import short

    steps, coding = learner.net.steps, learner.encoding.coding
    title = (
        f"{name}: learns from {steps} time steps an image, {coding}, leak {learner.net.leak:g}, shape ({learner.n_in},)"
    )
    shown = Table("layer", "kind", title=title, box=box.SIMPLE_HEAD)
    for column in ("units", "synapses", "hidden weights"):
        shown.add_column(column, justify="right", no_wrap=True)
    for layer_name, layer in zip(learner.names, learner.settings, strict=True):
        kind = "counts spikes" if layer.readout else layer.rule.activation.replace("_", " ") + ", leaky"
        synapses = layer.n_in * layer.n_out
        bits = 32 if layer.precision == "float" else int(layer.precision)
        shown.add_row(layer_name, kind, f"{layer.n_out:,}", f"{synapses:,}", short(synapses * bits / 8, "B"))
    return shown


def _images(path: Path | None) -> Any:
    if path is None:
        raise typer.BadParameter("a spiking network takes an .npy file of images")
    return read_images(path)
