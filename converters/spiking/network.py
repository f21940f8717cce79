"""A spiking network that users hold and run in Lava: `LavaNetwork`'s counterpart with time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.feed import ModelUse
from lava_meta.converters.lava import check_lanes
from lava_meta.converters.spiking.parity import SpikingParity
from lava_meta.errors import ConversionError, FormatError, require_lava
from lava_meta.graph.given import as_array, batches
from lava_meta.graph.packed.spiking import CompiledRun
from lava_meta.graph.spiking import (
    DYNAMICS,
    SpikingGraph,
    classes_at_last,
    classes_by_latency,
    classes_by_mean_potential,
    classes_by_potential,
    classes_by_rate,
    pooled,
)
from lava_meta.graph.spiking_file import load_spiking, save_spiking
from lava_meta.graph.spiking_graph import SteppedGraph, check_fixed
from lava_meta.io.files import reading
from lava_meta.loihi.stock.spiking import plan_spiking
from lava_meta.loihi.stock.stepped import plan_stepped

if TYPE_CHECKING:
    from lava_meta.loihi.cost import GraphReport, Report
    from lava_meta.plotting.figure import Figure
    from lava_meta.processes.layered_network.process import LayeredNetwork
    from lava_meta.processes.stock_network.process import StockNetwork

FORMS = (*DYNAMICS, "stock")
READOUTS = {"rate": classes_by_rate, "latency": classes_by_latency}
POTENTIALS = {"membrane": classes_by_potential, "mean": classes_by_mean_potential, "last": classes_at_last}


class SpikingNetwork:
    """A network of spiking neurons that runs in Lava's simulator.

    `graph` is its reference: a `SpikingGraph` (chains of binary layers and `Leaky` neurons) or a `SteppedGraph` (any
    other). `form` says which ProcessModels run: `floating_pt`, float32 as snnTorch computes; `fixed_pt`, integers,
    quantised as `lava_meta.graph.spiking` and `lava_meta.graph.spiking_neurons` state; `stock`, the same integers by
    Lava's own Processes within Loihi's ranges, one input at a time whatever `lanes`, if these can express the neurons
    (`lava_meta.loihi.stock.spiking`, `lava_meta.loihi.stock.stepped`). `timeout` is the time in seconds without a
    finished time step after which a run is given up. `parity` is the converter's check against the model the network
    came from, or None. `readout` is how `predict` reads classes by default, None if that is not known, `model_use` what
    that model is fed.

    All methods take `images` (n, ...) of integers (whole floats and bits too) in the graph's levels, or of floats as
    that model is fed them, which are mapped back to levels, or a DataLoader or Dataset of these; each held for
    `steps` time steps; or, without `steps`, one frame per time step: (steps, n, ...) with `time_first=True`,
    (n, steps, ...) with `time_first=False`. `lanes` images run at once. Every image meets neurons at rest.

    Methods raise `ConversionError` for neurons without a stock form, `LavaMissingError` without Lava, `TypeError` or
    `ValueError` for arguments that do not fit, `RunError` with the failing model's traceback, and `RunTimeout`.
    """

    def __init__(
        self,
        graph: SpikingGraph | SteppedGraph,
        *,
        parity: SpikingParity | None = None,
        form: str = "floating_pt",
        timeout: float = 60.0,
        readout: str | None = "rate",
        model_use: ModelUse | None = None,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form is {form!r}; a spiking network runs in one of the forms {', '.join(FORMS)}")
        if isinstance(graph, SteppedGraph):
            if form == "fixed_pt":
                check_fixed(graph)
            elif form == "stock":
                plan_stepped(graph, 1)
        self.graph = graph
        self.parity = parity
        self.readout = readout
        self.model_use = model_use
        self._form = form
        self._timeout = timeout

    def predict(
        self,
        images: Any,
        steps: int | None = None,
        readout: str | None = None,
        lanes: int = 64,
        *,
        time_first: bool | None = None,
        population: int | None = None,
    ) -> NDArray[Any]:
        """Classes int64 (n,).

        Args:
            images: see the class.
            steps: likewise.
            readout: `rate`, the class with the most spikes; `latency`, the one that fires first; `membrane`, the one
                whose potential is the greatest at any step; `mean`, in the mean of all steps; `last`, at the last step.
                By default `self.readout`.
            lanes: images at once.
            time_first: see the class.
            population: the number of classes of a population code: as many neighbouring neurons vote for each.

        Ties go to the lowest index, and so does `latency` if no class fires.
        """
        readout = self.readout if readout is None else readout
        known = {**READOUTS, **POTENTIALS}
        if readout is None:
            raise ValueError(
                "the model returns neither spikes nor potentials of all steps, nor classes by their sums, means, last "
                f"or greatest ones: pass readout=, one of {', '.join(known)}"
            )
        if readout not in known:
            raise ValueError(f"readout is {readout!r}; it is one of {', '.join(known)}")
        by_potential = readout in POTENTIALS
        if population is not None and by_potential:
            raise ValueError(f"population={population} counts spikes; it does not go with readout={readout!r}")
        output = self._output
        if isinstance(self.graph, SteppedGraph) and not self.graph.neurons[output].spiking and not by_potential:
            raise ValueError(f"{output} never fires: read it with readout='last' or 'membrane'")
        options: dict[str, Any] = {"lanes": lanes, "time_first": time_first}
        if by_potential:
            return POTENTIALS[readout](self.potentials(images, steps, [output], **options)[output])
        spikes = self.spikes(images, steps, layers=[output], **options)[output]
        return READOUTS[readout](spikes if population is None else pooled(spikes, population))

    @property
    def _output(self) -> str:
        """The layer that is read."""
        return self.graph.output if isinstance(self.graph, SteppedGraph) else self.graph.named_layers()[-1][0]

    def counts(
        self, images: Any, steps: int | None = None, lanes: int = 64, *, time_first: bool | None = None
    ) -> NDArray[Any]:
        """Spikes of each output neuron, int64 (n, units)."""
        name = self._output
        spikes = self.spikes(images, steps, lanes, [name], time_first=time_first)[name]
        counts: NDArray[Any] = spikes.sum(axis=0, dtype=np.int64)
        return counts

    def spikes(
        self,
        images: Any,
        steps: int | None = None,
        lanes: int = 64,
        layers: Sequence[str] | None = None,
        *,
        time_first: bool | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The spikes of `layers` (default: of all) by name, uint8 (steps, n, units), as `graph.spikes` gives them."""
        names = self._names(layers)
        return self._run(images, steps, lanes, names, time_first=time_first)

    def potentials(
        self,
        images: Any,
        steps: int | None = None,
        layers: Sequence[str] | None = None,
        lanes: int = 64,
        *,
        time_first: bool | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The potentials after every step of `layers` (default: of all) by name, (steps, n, units).

        Of networks with a `SpikingGraph`, and in the form `stock`, computed by the reference.
        """
        names = self._names(layers)
        if isinstance(self.graph, SpikingGraph) or self._form == "stock":
            form = "floating_pt" if self._form == "floating_pt" else "fixed_pt"
            frames = self.frames(images, steps, time_first=time_first)
            return self.graph.traces(frames, None, form, (), names)[1]
        found = self._run(images, steps, lanes, tuple(f"{name}.mem" for name in names), time_first=time_first)
        return {name: found[f"{name}.mem"] for name in names}

    def stream(self, frames: Iterable[Any], layers: Sequence[str] | None = None) -> Iterator[dict[str, NDArray[Any]]]:
        """The spikes of each frame (n, ...) as it comes, uint8 (n, units) by layer: streams may have no end.

        Neurons begin at rest and go on from frame to frame. Computed in this process, without Lava, by the compiled
        network; a `SpikingNetworkProcess` does the same among Lava's Processes.
        """
        names = self._names(layers)
        form = "floating_pt" if self._form == "floating_pt" else "fixed_pt"
        run = CompiledRun(self.graph, form) if isinstance(self.graph, SteppedGraph) else self.graph.run(form)
        for frame in frames:
            spikes = run.step(self.graph.frames(self._levels(as_array(frame), 1), 1)[0])
            yield {name: spikes[name].astype(np.uint8) for name in names}

    def _names(self, layers: Sequence[str] | None) -> tuple[str, ...]:
        known = [name for name, _ in self.graph.named_layers()]
        names = tuple(known if layers is None else layers)
        if not names or not {*names} <= {*known}:
            raise ValueError(f"layers is {layers!r}; this network has {', '.join(known)}")
        return names

    def frames(self, images: Any, steps: int | None = None, *, time_first: bool | None = None) -> NDArray[Any]:
        """What enters step by step, integers (steps, n, n_in): see the class."""
        parts = batches(images)
        array = as_array(images) if parts is None else np.concatenate([*parts])
        if steps is None and time_first is None:
            raise ValueError(
                f"inputs have shape {array.shape}: pass steps= to hold images (n, ...), or time_first=True "
                "for frames (steps, n, ...), time_first=False for (n, steps, ...)"
            )
        return self.graph.frames(self._levels(array, steps), steps, time_first=time_first is not False)

    def _levels(self, array: NDArray[Any], steps: int | None) -> NDArray[Any]:
        """Images, or frames without `steps`, as integers if they are floats as the model is fed them."""
        feed = None if self.model_use is None else self.model_use.feed
        if feed is None or feed.mean is None or array.dtype.kind != "f" or array.ndim < 2:
            return array
        rows = array if steps is not None else array.reshape(-1, *array.shape[2:])
        return feed.levels(rows, self.graph).reshape(array.shape)

    def _run(
        self, images: Any, steps: int | None, lanes: int, names: tuple[str, ...], *, time_first: bool | None
    ) -> dict[str, NDArray[Any]]:
        frames = self.frames(images, steps, time_first=time_first)
        lanes = check_lanes(lanes)
        stock = self._form == "stock"
        if stock:
            plan = plan_spiking if isinstance(self.graph, SpikingGraph) else plan_stepped
            plan(self.graph, len(frames))  # type: ignore[arg-type]  # each its own
            lanes = 1
        require_lava("Running a SpikingNetwork")
        from lava_meta.processes.spiking import stream_spikes, stream_stepped

        if isinstance(self.graph, SpikingGraph) or stock:
            batches = list(stream_spikes(self.graph, frames, lanes, names, self._form, self._timeout))
        else:
            given = frames if steps is None else frames[:1]
            batches = list(stream_stepped(self.graph, given, steps, lanes, names, self._form, self._timeout))
        return {name: np.concatenate([batch[name] for batch in batches], axis=1) for name in names}

    # To be looked at; computed by the reference, for one image.

    def raster(self, image: Any, steps: int | None = None, layers: Sequence[str] | None = None) -> Figure:
        """The spikes of one image, or of one train (steps, ...), by layer and neuron over time: a figure."""
        from lava_meta.plotting.spiking import raster

        spikes, _ = self._looked_at(image, steps, self._names(layers), ())
        return raster({name: values[:, 0] for name, values in spikes.items()})

    def trace(self, image: Any, layer: str, steps: int | None = None, neurons: Sequence[int] = range(4)) -> Figure:
        """The potentials of some neurons of a layer over time, for one image or one train: a figure."""
        from lava_meta.plotting.spiking import traces

        (name,) = self._names([layer])
        layers: Sequence[tuple[str, Any]] = self.graph.named_layers()
        units = dict(layers)[name].n_out
        chosen = [int(neuron) for neuron in neurons][:units]
        if not chosen or min(chosen) < 0 or max(chosen) >= units:
            raise ValueError(f"neurons is {neurons!r}; {name} has neurons 0 to {units - 1}")
        spikes, potentials = self._looked_at(image, steps, (name,), (name,))
        threshold = self._threshold(name)
        shown = None if threshold is None else threshold[chosen]
        return traces(potentials[name][:, 0, chosen], spikes[name][:, 0, chosen], chosen, shown, name)

    def rate_map(self, image: Any, layer: str, steps: int | None = None) -> Figure:
        """How often each neuron of a layer fires for one image or train, as maps of its channels or bars: a figure."""
        from lava_meta.plotting.spiking import rate_map

        (name,) = self._names([layer])
        rates = self._looked_at(image, steps, (name,), ())[0][name][:, 0].mean(axis=0)
        shape = self.graph.placed[name].output_shape if isinstance(self.graph, SteppedGraph) else rates.shape
        return rate_map(rates.reshape(shape if len(shape) == 3 else -1), name)

    def _looked_at(
        self, image: Any, steps: int | None, layers: tuple[str, ...], potentials: tuple[str, ...]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        one = self._levels(as_array(image)[None], steps)
        frames = self.graph.frames(one, steps, time_first=steps is not None)
        form = "floating_pt" if self._form == "floating_pt" else "fixed_pt"
        return self.graph.traces(frames, None, form, layers, potentials)

    def _threshold(self, name: str) -> NDArray[Any] | None:
        """Of every neuron, in the units of the potentials; None in fixed point and of an integrator."""
        if self._form != "floating_pt":
            return None
        if isinstance(self.graph, SpikingGraph):
            return dict(self.graph.named_layers())[name].threshold
        node, shape = self.graph.neurons[name], self.graph.placed[name].output_shape
        return np.broadcast_to(node.constants["threshold"], shape).reshape(-1) if node.spiking else None

    def process(self, lanes: int = 1, steps: int | None = None) -> LayeredNetwork | StockNetwork:
        """A new Lava Process of this network, made of one per node or, in the form `stock`, of Lava's own.

        For networks with a `SteppedGraph`, to be wired to one's own Processes, with the ports `s_in`, `out` and
        `port(name)`; its neurons start again every `steps` time steps, or never. `SpikingNetworkProcess` is the whole
        network as one. See `lava_meta.processes.layered_network.process`, `lava_meta.processes.stock_network.process`.

        Raises:
            ConversionError: The network is a chain of binary layers: its Processes are `BinaryLIF`, layer by layer.
        """
        require_lava("SpikingNetwork.process")
        lanes = check_lanes(lanes)
        if isinstance(self.graph, SpikingGraph):
            raise ConversionError("chains of binary layers are wired layer by layer, of BinaryLIF Processes")
        if self._form == "stock":
            from lava_meta.processes.stock_network.process import StockNetwork

            return StockNetwork(graph=self.graph, steps=steps)
        from lava_meta.processes.layered_network.process import LayeredNetwork

        return LayeredNetwork(graph=self.graph, lanes=lanes, steps=steps)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network, its parity and how it is read to one safetensors file, atomically."""
        notes: dict[str, Any] = {"readout": self.readout}
        notes |= {} if self.model_use is None else {"model_use": self.model_use.to_dict()}
        if self.parity is not None:
            notes["parity"] = asdict(self.parity)
        save_spiking(path, self.graph, notes)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, form: str = "floating_pt") -> SpikingNetwork:
        """The network that `save` wrote. Raises `FormatError` if the file is not one, or not as it was written."""
        graph, notes = load_spiking(path)
        with reading(path):
            readout = notes.get("readout", "rate")
            if readout not in {None, *READOUTS, *POTENTIALS}:
                raise FormatError(f"its readout is {readout!r}")
            parity = SpikingParity(**notes["parity"]) if "parity" in notes else None
            use = ModelUse.from_dict(notes.get("model_use"), graph)
        return cls(graph, parity=parity, form=form, readout=readout, model_use=use)

    def report(
        self, target: str, images: Any, steps: int | None = None, *, time_first: bool = True, **options: Any
    ) -> Report | GraphReport:
        """What the network's stock form costs on a chip ("loihi2"), counted on `images`; needs no Lava.

        Of a network that is no chain of binary layers, a row per node, and why a node does not fit.

        options, errors: those of `lava_meta.loihi.cost.spiking.spiking_report` or
        `lava_meta.loihi.cost.stepped.stepped_report`.
        """
        from lava_meta.loihi.cost.spiking import spiking_report
        from lava_meta.loihi.cost.stepped import stepped_report

        frames = self.frames(images, steps, time_first=time_first)
        if isinstance(self.graph, SteppedGraph):
            return stepped_report(self.graph, frames, target, **options)
        return spiking_report(self.graph, frames, target, **options)

    def __repr__(self) -> str:
        if isinstance(self.graph, SteppedGraph):
            return f"SpikingNetwork({self.graph.sizes})"
        sizes = [self.graph.n_in, *(layer.n_out for layer in self.graph.layers)]
        return f"SpikingNetwork({'-'.join(map(str, sizes))})"
