"""A spiking network that users hold and run in Lava: `LavaNetwork`'s counterpart with time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.lava import check_lanes
from lava_meta.errors import require_lava
from lava_meta.graph.spiking import DYNAMICS, SpikingGraph, classes_by_latency, classes_by_rate
from lava_meta.loihi.stock.spiking import plan_spiking

if TYPE_CHECKING:
    from lava_meta.loihi.cost import Report

FORMS = (*DYNAMICS, "stock")
READOUTS = {"rate": classes_by_rate, "latency": classes_by_latency}


class SpikingNetwork:
    """Binary layers of leaky integrate-and-fire neurons that run in Lava's simulator.

    `graph` is their reference implementation. `form` says which ProcessModels run: `floating_pt`, float32 as snnTorch
    computes; `fixed_pt`, integers, quantised as `lava_meta.graph.spiking` states; `stock`, the same integers by Lava's
    own Processes within Loihi's ranges, one input at a time whatever `lanes`, if these can express the neurons
    (`lava_meta.loihi.stock.spiking`). `timeout` is the time in seconds without a finished time step after which a run
    is given up. `parity` is the converter's check against the model the network came from, or None.

    All methods take `images` (n, ...) of integers 0 .. `graph.max_level`, each held for `steps` time steps; or, without
    `steps`, one frame per time step, (steps, n, ...). `lanes` images run at once. Every image meets neurons at rest.

    Methods raise `ConversionError` for neurons without a stock form, `LavaMissingError` without Lava, `TypeError` or
    `ValueError` for arguments that do not fit, `RunError` with the failing model's traceback, and `RunTimeout`.
    """

    def __init__(
        self, graph: SpikingGraph, *, parity: Any = None, form: str = "floating_pt", timeout: float = 60.0
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form is {form!r}; a spiking network runs in one of the forms {', '.join(FORMS)}")
        self.graph = graph
        self.parity = parity
        self._form = form
        self._timeout = timeout

    def predict(self, images: Any, steps: int | None = None, readout: str = "rate", lanes: int = 64) -> NDArray[Any]:
        """Classes int64 (n,): by `rate`, the class with the most spikes; by `latency`, the one that fires first.

        Ties go to the lowest index, and so does `latency` if no class fires.
        """
        if readout not in READOUTS:
            raise ValueError(f"readout is {readout!r}; it is one of {', '.join(READOUTS)}")
        return READOUTS[readout](self.spikes(images, steps, lanes, ["output"])["output"])

    def counts(self, images: Any, steps: int | None = None, lanes: int = 64) -> NDArray[Any]:
        """Spikes of each class, int64 (n, classes)."""
        counts: NDArray[Any] = self.spikes(images, steps, lanes, ["output"])["output"].sum(axis=0, dtype=np.int64)
        return counts

    def spikes(
        self, images: Any, steps: int | None = None, lanes: int = 64, layers: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The spikes of `layers` (default: of all) by name, uint8 (steps, n, units), as `graph.spikes` gives them."""
        known = [name for name, _ in self.graph.named_layers()]
        names = tuple(known if layers is None else layers)
        if not names or not {*names} <= {*known}:
            raise ValueError(f"layers is {layers!r}; this network has {', '.join(known)}")
        frames = self.graph.frames(images, steps)
        lanes = check_lanes(lanes)
        if self._form == "stock":
            plan_spiking(self.graph, len(frames))
            lanes = 1
        require_lava("Running a SpikingNetwork")
        from lava_meta.processes.spiking import stream_spikes

        batches = list(stream_spikes(self.graph, frames, lanes, names, self._form, self._timeout))
        return {name: np.concatenate([batch[name] for batch in batches], axis=1) for name in names}

    def report(self, target: str, images: Any, steps: int | None = None, **options: Any) -> Report:
        """What the network's stock form costs on a chip ("loihi2"), counted on `images`; needs no Lava.

        options, errors: those of `lava_meta.loihi.cost.spiking.spiking_report`.
        """
        from lava_meta.loihi.cost.spiking import spiking_report

        return spiking_report(self.graph, images, target, steps=steps, **options)

    def __repr__(self) -> str:
        sizes = [self.graph.n_in, *(layer.n_out for layer in self.graph.layers)]
        return f"SpikingNetwork({'-'.join(map(str, sizes))})"
