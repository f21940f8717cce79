"""A whole binary network as one Process: the fast forms, for the CPU."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph import AcyclicGraph, Graph
from lava_meta.graph.packed.compiled import compiled
from lava_meta.processes.ring import Ring


class BinaryNetwork(AbstractProcess):
    """`graph` computed on packed bits within one actor, to be wired to other Processes.

    Equal integers to `LayeredNetwork`, which has an actor for each layer; here nothing but the network's input and
    output travels between actors.

    Ports, for `lanes` images per time step; the answer to a time step's input comes within the same step:

    - `s_in` (lanes, pixels), one source: what `graph.domain` says, for images raw pixels 0 .. `graph.max_level`, of any
      integer or float type; `graph.dtype` is the fastest. Other values end the run with a `ValueError`.
    - `out`, int64: what `output` names: `"readout"`, the integer sums (lanes, classes); `"classes"` (lanes,), of
      maps (lanes, rows, columns); `"hidden1"`, ..., the signs +1 and -1 of a hidden layer (lanes, units).

    The packed weights travel to the model by `proc_params`: as a Var they would pass through float64.
    """

    _runtime = None  # Lava's `__del__` reads it, even where `__init__` has raised

    def __init__(self, *, graph: Graph, lanes: int = 1, output: str = "readout", name: str | None = None) -> None:
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
        places = graph.readout.shape[1:] if isinstance(graph, AcyclicGraph) else ()
        shapes: dict[str, tuple[int, ...]] = {name: (lanes, layer.n_out) for name, layer in graph.named_layers()}
        shapes["classes"] = (lanes, *places)
        if output not in shapes:
            raise ValueError(f"output is {output!r}; this network has {', '.join(shapes)}")
        super().__init__(graph=graph, network=compiled(graph), output=output, name=name)
        self.s_in = InPort(shape=(lanes, graph.n_in))
        self.out = OutPort(shape=shapes[output])


class StreamedNetwork(AbstractProcess):
    """`graph` computed on packed bits from a ring of pixels to a ring for each wanted layer, without ports.

    A time step of ports between Processes costs the simulator more than the network (half a millisecond against tens
    of microseconds), so a network that only serves data sets leaves them out. It follows Lava's asynchronous
    protocol: no step waits for other Processes, only for the next images. A time step computes `lanes` images, by
    themselves; a message brings the images of one step or of several, of which the last may lack some.

    `inlet`: the graph's inputs (images, pixels), of type `graph.dtype`. `outlets`: rings by the name of a layer,
    (images, units): signs +1 and -1 of `hidden1`, ..., integer sums of `readout`. All hold messages of the same number
    of images.

    Raises `ValueError` for a ring of another shape or type.
    """

    _runtime = None  # Lava's `__del__` reads it, even where `__init__` has raised

    def __init__(
        self, *, graph: Graph, lanes: int, inlet: Ring, outlets: dict[str, Ring], name: str | None = None
    ) -> None:
        network = compiled(graph)
        images = inlet.shape[0]
        shapes = {name: (images, layer.n_out) for name, layer in graph.named_layers()}
        if lanes < 1 or images % lanes:
            raise ValueError(f"the inlet holds {images} images, which are no whole time steps of {lanes} lanes")
        if inlet.shape != (images, graph.n_in) or inlet.dtype != network.dtype:
            raise ValueError(f"the inlet holds {inlet.dtype} {inlet.shape}, not {network.dtype} (images, {graph.n_in})")
        if not outlets or not {*outlets} <= {*shapes}:
            raise ValueError(f"outlets are {', '.join(outlets) or 'missing'}; this network has {', '.join(shapes)}")
        for layer, ring in outlets.items():
            if ring.shape != shapes[layer]:
                raise ValueError(f"the outlet of {layer} has shape {ring.shape}, not {shapes[layer]}")
        super().__init__(network=network, lanes=lanes, inlet=inlet, outlets=outlets, name=name)
