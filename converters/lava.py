"""From a `BinaryGraph` to Lava: the network that users hold, run, and wire to their own Processes.

    net = LavaNetwork(graph)
    with net:
        classes = net.predict(images, lanes=64)

Lava's processes start with the first call inside the `with` block, stay for the calls that follow, and always end with
the block. A call outside a block starts and ends its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from lava_meta.errors import require_lava
from lava_meta.graph import BinaryGraph

if TYPE_CHECKING:
    from lava_meta.processes.layered_network.process import LayeredNetwork
    from lava_meta.processes.streaming import StreamingRun

_FORMS = ("packed", "floating_pt", "fixed_pt")


class LavaNetwork:
    """A binarized network that runs in Lava's simulator, and computes the same integers as `graph`, its oracle.

    `graph` and `save` work without Lava; everything that runs needs it. `form` says what runs, with equal results:

    - `packed`: the whole network on packed bits in one Process, the fastest.
    - `floating_pt`, `fixed_pt`: always one Process a layer, with the ProcessModels of this tag.

    `timeout` is the time in seconds without a finished time step after which a run is given up. `parity` is the result
    of the converter's check against the model the network came from, or None.

    Methods that run raise `LavaMissingError` without Lava, `TypeError` or `ValueError` for images or lanes that do not
    fit, `RunError` with the failing model's traceback, and `RunTimeout`.
    """

    def __init__(self, graph: BinaryGraph, *, parity: Any = None, form: str = "packed", timeout: float = 60.0) -> None:
        if form not in _FORMS:
            raise ValueError(f"form is {form!r}; a network runs in one of the forms {', '.join(_FORMS)}")
        self.graph = graph
        self.parity = parity
        self._form = form
        self._timeout = timeout
        self._depth = 0  # of `with` blocks
        self._running: StreamingRun | None = None

    def predict(self, images: Any, lanes: int = 64, progress: bool = False) -> np.ndarray:
        """Classes int64 (n,) of images (n, ...), unsigned pixels 0 .. `graph.max_level`, numpy or torch.

        `lanes` images pass in one Lava time step: 1 as on a chip, more for speed. `progress` shows a bar.
        """
        return self.graph.readout.classes(self.sums(images, lanes, progress))

    def sums(self, images: Any, lanes: int = 64, progress: bool = False) -> np.ndarray:
        """The readout's integer sums, int64 (n, classes)."""
        return self._outputs(images, lanes, progress, ("readout",))["readout"]

    def activations(
        self, images: Any, lanes: int = 64, progress: bool = False, layers: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The outputs of `layers` (default: of all) by name, as `graph.activations` gives them.

        int8 signs (n, units) of `hidden1`, `hidden2`, ...; int64 sums (n, classes) of `readout`.
        """
        known = [name for name, _ in self.graph.named_layers()]
        names = tuple(dict.fromkeys(known if layers is None else layers))
        if not names or not {*names} <= {*known}:
            raise ValueError(f"layers is {layers!r}; this network has {', '.join(known)}")
        return self._outputs(images, lanes, progress, names)

    def process(self, lanes: int = 1) -> LayeredNetwork:
        """A new Lava Process of this network, to be wired to one's own: ports `s_in`, `out` and `hidden1`, ...

        See `lava_meta.processes.layered_network.process.LayeredNetwork` for what the ports carry, and
        `lava_meta.processes.runtime.Supervised` for running it.
        """
        require_lava("LavaNetwork.process")
        from lava_meta.processes.layered_network.process import LayeredNetwork

        return LayeredNetwork(graph=self.graph, lanes=check_lanes(lanes))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one safetensors file, atomically."""
        self.graph.save(path)

    def stop(self) -> None:
        """End Lava's processes, if there are any; the next call starts them again."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def __enter__(self) -> LavaNetwork:
        require_lava("Running a LavaNetwork")
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.stop()

    def __repr__(self) -> str:
        sizes = [self.graph.n_in, *(layer.n_out for _, layer in self.graph.named_layers())]
        return f"LavaNetwork({'-'.join(map(str, sizes))})"

    def _outputs(self, images: Any, lanes: int, progress: bool, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        pixels = self.graph.check_images(images)
        lanes = check_lanes(lanes)
        require_lava("Running a LavaNetwork")
        out: dict[str, list[np.ndarray]] = {name: [] for name in names}
        # An error or Ctrl-C leaves a run with batches still inside: it is of no further use.
        with contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            with _bar(len(pixels), enabled=progress) as advance:
                for batch in self._started(lanes, names).stream(pixels):
                    for name in names:
                        out[name].append(batch[name])
                    advance(len(batch[names[0]]))
            if self._depth > 0:
                stack.pop_all()
        return {
            name: np.concatenate(parts).astype(np.int64 if name == "readout" else np.int8, copy=False)
            for name, parts in out.items()
        }

    def _started(self, lanes: int, names: tuple[str, ...]) -> StreamingRun:
        """The running network if it has these lanes and gives these layers; else a new one in its place."""
        from lava_meta.processes.streaming import StreamingRun

        if self._running is not None and (self._running.lanes != lanes or not {*names} <= {*self._running.names}):
            self.stop()
        if self._running is None:
            self._running = StreamingRun(self.graph, lanes, names, self._form, self._timeout)
            self._running.start()
        return self._running


def check_lanes(lanes: int) -> int:
    """`lanes` as an int of at least 1. Raises `TypeError`, `ValueError`."""
    if isinstance(lanes, bool) or not isinstance(lanes, (int, np.integer)):
        raise TypeError(f"lanes is {lanes!r}; it is the whole number of images in a time step")
    if lanes < 1:
        raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
    return int(lanes)


@contextlib.contextmanager
def _bar(total: int, enabled: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar over `total` images on standard error; yields the function that advances it."""
    if not enabled:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("images", total=total)
        yield lambda count: bar.update(task, advance=count)
