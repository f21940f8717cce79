"""One call for every backend of a network; `lava_meta.processes.backends` says what runs there."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from lava_meta.converters.lava import LavaNetwork
from lava_meta.loihi.stock import plan
from lava_meta.processes.backends import check_backend


def run(
    net: LavaNetwork, images: Any, backend: str = "cpu", *, lanes: int = 64, progress: bool = False
) -> NDArray[Any]:
    """Classes int64 (n,) of `images` (n, ...), unsigned pixels, computed on `backend`; equal on all of them.

    `lanes` images are computed at once on "cpu" and "kernels", one on the others. `progress` shows a bar, except on a
    chip.
    "cpu" is Lava's simulator; without Lava, the compiled kernels run instead, as with "kernels".

    Before anything starts, raises `ValueError` for another backend, `TypeError` for another kind of network, both for
    images that do not fit, `ConversionError` if the network does not fit Loihi's ranges, `LavaMissingError` for
    "loihi-sim" without Lava, or without Intel's extension for "loihi".
    """
    check_backend(backend)
    if not isinstance(net, LavaNetwork):
        hint = "; one with time runs with SpikingNetwork(graph, form='stock')" if hasattr(net, "spikes") else ""
        raise TypeError(f"run takes a LavaNetwork, as lava_meta.convert gives it, not a {type(net).__name__}{hint}")
    if backend == "cpu":
        return net.predict(images, lanes=lanes, progress=progress)
    if backend == "kernels":
        return LavaNetwork(net.graph, backend="kernels").predict(images, lanes=lanes, progress=progress)
    if backend == "loihi-sim":
        return LavaNetwork(net.graph, form="stock").predict(images, progress=progress)
    graph = net.graph
    pixels = graph.check_images(images)
    layers = plan(graph)
    # A chip's runtime is Intel's, so the run is Lava's own and not supervised.
    from lava_meta.processes.stock_script import run as run_stock

    return graph.readout.classes(run_stock(layers, pixels > 0 if graph.signs else pixels, backend))
