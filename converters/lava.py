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
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.feed import ModelUse
from lava_meta.errors import ConversionError, RunError, available, require_lava
from lava_meta.graph import AcyclicGraph, Graph, load_graph
from lava_meta.graph.given import batches
from lava_meta.io.learned import Learned, from_header, to_header
from lava_meta.progress import ImagesProgress
from lava_meta.turn import Turn

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from lava_meta.converters.kernels import KernelsRun
    from lava_meta.converters.parity.comparison import Agreement
    from lava_meta.data import Images
    from lava_meta.loihi.cost import GraphReport, Report
    from lava_meta.processes.layered_network.process import LayeredNetwork
    from lava_meta.processes.stock_network.process import StockNetwork
    from lava_meta.processes.streaming import StreamingRun

_FORMS = ("packed", "floating_pt", "fixed_pt", "stock")
_BACKENDS = (None, "lava", "kernels")
_BLOCK_BYTES = 2**22  # of pixels that are read, checked and run together


class LavaNetwork:
    """A binarized network that runs in Lava's simulator, and computes the same integers as `graph`, its reference.

    `backend` is "lava", which runs Lava's processes, or "kernels", which computes the same in the calling process
    without Lava; None takes Lava if it can be imported, and otherwise the kernels, and says so. `form` says what
    runs in Lava, with equal results:

    - `packed`: the whole network on packed bits in one Process, the fastest.
    - `floating_pt`, `fixed_pt`: always one Process per layer, with the ProcessModels of this tag.
    - `stock`: Lava's own Processes only, within Loihi's integer ranges; one image per time step, whatever `lanes`. A
      network that does not fit them raises `ConversionError`, which names the layer and the range.

    `timeout` is the time in seconds without a finished time step after which a run is given up. `parity` is the result
    of the converter's check against the model the network came from, or None; `learned` is what that model learned, the
    oldest first (`lava_meta.io.learned`); `model_use` says what that model is fed. Files keep all three.

    Images are integers of `graph.domain`, (n, ...), numpy or torch; floats that are whole; floats as that model is fed
    them, which are mapped back to levels; bits, for two levels; or a DataLoader or Dataset of these.

    Methods that run raise `LavaMissingError` if Lava is asked for and missing, `TypeError` or `ValueError` for
    images or lanes that do not fit, `RunError` with the failing model's traceback, and `RunTimeout`.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        parity: Any = None,
        learned: Sequence[Learned] = (),
        model_use: ModelUse | None = None,
        form: str = "packed",
        backend: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        if form not in _FORMS:
            raise ValueError(f"form is {form!r}; a network runs in one of the forms {', '.join(_FORMS)}")
        if backend not in _BACKENDS:
            raise ValueError(f"backend is {backend!r}; a network runs on 'lava' or 'kernels', or None chooses")
        if backend == "kernels" and form != "packed":
            raise ValueError(f"the form {form!r} is made of Lava's Processes; the kernels have the form 'packed' alone")
        if form == "stock":
            from lava_meta.loihi.stock import plan

            plan(graph)
        self.graph = graph
        self.agreement: Agreement | None = None  # with the model, if its weights were rounded (`convert(bits=...)`)
        self._parity = parity
        self.learned = tuple(learned)
        self.model_use = model_use
        self._form = form
        self._backend = backend
        self._timeout = timeout
        self._depth = 0  # of `with` blocks
        self._running: StreamingRun | KernelsRun | None = None
        self._streaming = False
        self._turn = Turn()  # of the thread whose call runs, or whose stream begins

    def __getstate__(self) -> dict[str, Any]:
        """A copy, and the network in another process, do not run."""
        return vars(self) | {"_depth": 0, "_running": None, "_streaming": False}

    @property
    def parity(self) -> Any:
        """The converter's `Parity`, or None. Raises `FormatError` if the file it came from has another record."""
        if isinstance(self._parity, dict):  # as a file has it: read when it is asked for, since this loads torch
            from lava_meta.converters.parity.chain import Parity

            self._parity = Parity.from_dict(self._parity)
        return self._parity

    def predict(self, images: Any, lanes: int = 64, *, progress: bool = False) -> NDArray[Any]:
        """Classes int64 (n,) of images (n, ...), or of a DataLoader or Dataset of them.

        `lanes` images pass in one Lava time step: 1 as on a chip, more for speed. `progress` shows a bar.
        """
        return self._outputs(images, lanes, ("classes",), progress=progress)["classes"]

    def sums(self, images: Any, lanes: int = 64, *, progress: bool = False) -> NDArray[Any]:
        """The readout's integer sums, int64 (n, classes)."""
        return self._outputs(images, lanes, ("readout",), progress=progress)["readout"]

    def logits(self, images: Any, lanes: int = 64, *, progress: bool = False) -> NDArray[Any]:
        """The model's values of the classes before a softmax, float64 (n, classes): `scale * sums + offset`."""
        return self.graph.readout.values(self.sums(images, lanes, progress=progress))

    def activations(
        self, images: Any, lanes: int = 64, *, layers: Sequence[str] | None = None, progress: bool = False
    ) -> dict[str, NDArray[Any]]:
        """The outputs of `layers` (default: of all) by name, as `graph.activations` gives them.

        int8 signs (n, units) of `hidden1`, `hidden2`, ...; int64 sums (n, classes) of `readout`; int64 `classes` (n,),
        which are no layer but may be asked for.
        """
        names = self._names(self._layer_names() if layers is None else layers)
        return self._outputs(images, lanes, names, progress=progress)

    def stream(
        self, images: Any, lanes: int = 64, layers: Sequence[str] = ("classes",), *, progress: bool = False
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Send a set of any size through and yield the outputs of `layers`, as `activations` names them, in parts.

        `images`: an array, such as a file mapped into memory, a DataLoader or Dataset, or an iterable of arrays
        (k, ...) of any lengths, such as a generator. Images are read when their turn comes, some megabytes at a time,
        and nothing is kept. How many images one output holds is not fixed; their order is kept. An iterable's images
        are computed as soon as there are `lanes` of them.

        The images are checked as they are read. While the stream is not at its end this network does nothing else
        (`RunError`); closing the iterator, as leaving a `for` loop does, ends it.
        """
        names, lanes = self._names(layers), self._lanes(lanes)
        self._chosen_backend()
        rows = max(1, _BLOCK_BYTES // (self.graph.n_in * lanes)) * lanes
        if hasattr(images, "shape"):
            parts: Iterator[Any] = (images[start : start + rows] for start in range(0, max(1, len(images)), rows))
            return self._run(map(self._levels, parts), len(images), lanes, names, progress=progress)
        source = batches(images)  # of a DataLoader or a Dataset, without labels
        regrouped = self._regrouped(images if source is None else source, lanes, rows)
        return self._run(regrouped, None, lanes, names, progress=progress)

    def accuracy(self, images: Images) -> float:
        """Share of labelled images classified right, by the compiled kernels; needs no Lava."""
        from lava_meta.graph.packed.compiled import classify

        return float((classify(self.graph, images.x) == images.y.numpy()).mean())

    def process(self, lanes: int = 1) -> LayeredNetwork | StockNetwork:
        """A new Lava Process of this network, to be wired to one's own: ports `s_in`, `out` and `hidden1`, ...

        See `lava_meta.processes.layered_network.process.LayeredNetwork` for what the ports carry, and
        `lava_meta.processes.runtime.Supervised` for running it. Other graphs than chains have stock Processes in the
        form 'stock' only, one image per time step (`lava_meta.processes.stock_network.process.StockNetwork`).
        """
        require_lava("LavaNetwork.process")
        lanes = check_lanes(lanes)
        if self._form == "stock" and isinstance(self.graph, AcyclicGraph):
            from lava_meta.processes.stock_network.process import StockNetwork

            return StockNetwork(graph=self.graph)
        from lava_meta.processes.layered_network.process import LayeredNetwork

        return LayeredNetwork(graph=self.graph, lanes=lanes)

    def run_config(self, backend: str = "cpu") -> Any:
        """The run configuration of Lava with which `process()` runs on `backend`: "cpu", "loihi-sim" or "loihi".

        See `lava_meta.processes.backends`. Raises `ValueError` for another name, `ConversionError` if the network
        does not fit Loihi's ranges, `LavaMissingError` for "loihi" without Intel's extension.
        """
        from lava_meta.processes.backends import run_config

        if backend.startswith("loihi") and isinstance(self.graph, AcyclicGraph) and self._form != "stock":
            raise ConversionError(
                "this network is no chain: its stock Processes are those of LavaNetwork(net.graph, form='stock')"
            )
        return run_config(self.graph, backend)

    def compare(self, model: nn.Module, images: Any, *, preprocess: Callable[[Tensor], Any] | None = None) -> Agreement:
        """How many images get the same class from the network and from `model`, the user's own, called as it is.

        The network's classes are those of the compiled kernels, which need no Lava.

        Args:
            model: A PyTorch module in eval mode that gives (n, classes), or the one of its outputs that was converted.
                It is left as it was.
            images: As for `predict`.
            preprocess: What the model's inputs are made with: called on tensors (k, ...) of images as they are given,
                `lambda x: (x / 255 - 0.1307) / 0.3081` for a model on normalised floats. By default what `mean` and
                `std` said when the network was converted; without these the model takes the integers.

        Returns:
            The counts, and the places of the images that differ; it prints as a sentence.

        Raises:
            ConversionError: A part of the model is in training mode, or it fails on the images.
            TypeError, ValueError: The images do not fit the network.
        """
        from lava_meta.converters.parity.comparison import compare

        return compare(self.graph, model, images, preprocess=preprocess, use=self.model_use)

    def report(self, target: str, images: Any, **options: Any) -> Report | GraphReport:
        """What the network costs on a chip ("loihi2"), counted on `images` (n, ...); needs no Lava.

        options, errors: those of `lava_meta.loihi.cost.report`. Of a network that is no chain, a row per node, and why
        a node does not fit (`lava_meta.loihi.cost.acyclic`).
        """
        from lava_meta.loihi.cost import cost

        return cost(self.graph, images, target, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network, its parity and what it has learned to one safetensors file, atomically."""
        parity = self.parity
        notes = {} if parity is None else {"parity": parity.to_dict()}
        if self.agreement is not None:
            notes["agreement"] = vars(self.agreement)
        notes |= {} if self.model_use is None else {"model_use": self.model_use.to_dict()}
        self.graph.save(path, notes | ({"learned": to_header(self.learned)} if self.learned else {}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LavaNetwork:
        """The network that `save` wrote, with its parity and what it has learned; files may lack both.

        Raises `FormatError` if the file is not one, or not as it was written.
        """
        graph, notes = load_graph(path)
        use = ModelUse.from_dict(notes.get("model_use"), graph)
        net = cls(graph, parity=notes.get("parity"), learned=from_header(notes.get("learned")), model_use=use)
        if "agreement" in notes:
            from lava_meta.converters.parity.comparison import Agreement

            found = notes["agreement"]
            net.agreement = Agreement(found["images"], found["equal"], tuple(found["differing"]), found["own_type"])
        return net

    def picture(self) -> Figure:
        """The network drawn layer by layer, a matplotlib figure; `plotting.network.save` writes it to a file."""
        from lava_meta.plotting.network import picture

        return picture(self.graph)

    def stop(self) -> None:
        """End Lava's processes, if there are any; the next call starts them again."""
        self._streaming = False
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def __enter__(self) -> LavaNetwork:
        self._chosen_backend()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.stop()

    def __repr__(self) -> str:
        return f"LavaNetwork({self.graph.sizes})"

    def _repr_html_(self) -> str:
        return self.graph._repr_html_()

    def _chosen_backend(self) -> str:
        """Where the network runs. Raises `LavaMissingError` if only Lava will do and it is missing."""
        if self._backend is None and self._form == "packed":
            return available("lava")
        if self._backend != "kernels":
            require_lava(f"Running a LavaNetwork in the form {self._form!r}")
        return self._backend or "lava"

    def _levels(self, images: Any) -> NDArray[Any]:
        """Images as `graph.check_images` gives them, of floats too that the model is fed."""
        use = self.model_use
        return self.graph.check_images(images, None if use is None else use.feed.reader(self.graph))

    def _lanes(self, lanes: int) -> int:
        lanes = check_lanes(lanes)
        return 1 if self._form == "stock" else lanes

    def _layer_names(self) -> list[str]:
        """The layers whose outputs this form gives; stock Processes compute few nodes of a graph as such."""
        if self._form == "stock" and isinstance(self.graph, AcyclicGraph):
            from lava_meta.loihi.stock import plan

            return [layer.name for layer in plan(self.graph)]
        return [name for name, _ in self.graph.named_layers()]

    def _names(self, layers: Sequence[str]) -> tuple[str, ...]:
        known = [*self._layer_names(), "classes"]
        names = tuple(dict.fromkeys([layers] if isinstance(layers, str) else layers))
        if not names or not {*names} <= {*known}:
            raise ValueError(f"layers is {layers!r}; this network has {', '.join(known)}")
        return names

    def _regrouped(self, source: Iterable[Any], lanes: int, rows: int) -> Iterator[NDArray[Any]]:
        """Pixels (k, n_in) of arrays of any lengths, in whole time steps if there are enough, up to `rows`."""
        waiting: list[NDArray[Any]] = []
        for part in source:
            if not hasattr(part, "shape"):
                raise TypeError(f"the source of images yields {type(part).__name__}; it must yield arrays of images")
            waiting.append(self._levels(part))
            if sum(map(len, waiting)) >= lanes:
                pixels = np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
                whole = len(pixels) // lanes * lanes
                yield from (pixels[start : min(start + rows, whole)] for start in range(0, whole, rows))
                waiting = [pixels[whole:].copy()] if whole < len(pixels) else []
        if waiting:
            yield np.concatenate(waiting)

    def _outputs(self, images: Any, lanes: int, names: tuple[str, ...], *, progress: bool) -> dict[str, NDArray[Any]]:
        pixels = self._levels(images)
        lanes = self._lanes(lanes)
        self._chosen_backend()
        with self._turn:
            parts = list(self._run(iter([pixels]), len(pixels), lanes, names, progress=progress))
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _run(
        self, blocks: Iterator[NDArray[Any]], total: int | None, lanes: int, names: tuple[str, ...], *, progress: bool
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """The outputs `names` of blocks of checked pixels, message by message."""
        with self._turn:
            if self._streaming:
                raise RunError("this network is in the middle of a stream: read that to its end or close it first")
            self._streaming = True
        layers = tuple(dict.fromkeys("readout" if name == "classes" else name for name in names))
        # An error, Ctrl-C or a reader who leaves: a run with images still inside is of no further use.
        with contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            with ImagesProgress(enabled=progress) as bar:
                bar.begin("images", total)
                for pixels in blocks:
                    for part in self._started(lanes, layers).stream(pixels):
                        if "classes" in names:
                            part["classes"] = self.graph.readout.classes(part["readout"])
                        bar.advance(len(part[layers[0]]))
                        yield {name: part[name] for name in names}
            self._streaming = False
            if self._depth > 0:
                stack.pop_all()

    def _started(self, lanes: int, names: tuple[str, ...]) -> StreamingRun | KernelsRun:
        """The running network if it has these lanes and gives these layers; else a new one."""
        if self._running is not None and (self._running.lanes != lanes or not {*names} <= {*self._running.names}):
            self.stop()
        if self._running is None:
            self._running = self._start(lanes, names)
        return self._running

    def _start(self, lanes: int, names: tuple[str, ...]) -> StreamingRun | KernelsRun:
        if self._chosen_backend() == "kernels":
            from lava_meta.converters.kernels import KernelsRun

            return KernelsRun(self.graph, lanes, names)
        from lava_meta.processes.streaming import StreamingRun

        run = StreamingRun(self.graph, lanes, names, self._form, self._timeout)
        run.start()
        return run


def check_lanes(lanes: int) -> int:
    """`lanes` as an int of at least 1. Raises `TypeError`, `ValueError`."""
    if isinstance(lanes, bool) or not isinstance(lanes, (int, np.integer)):
        raise TypeError(f"lanes is {lanes!r}; it is the whole number of images in a time step")
    if lanes < 1:
        raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
    return int(lanes)
