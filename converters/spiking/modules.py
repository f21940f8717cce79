"""snnTorch's neurons by their constants: what makes a `Neurons` node of a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import snntorch as snn
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lava_meta.errors import ConversionError
from lava_meta.graph.nodes import Conv, Linear, Shape
from lava_meta.graph.spiking_neurons import Recurrent

Neuron = snn.Leaky | snn.Lapicque | snn.Synaptic | snn.Alpha | snn.RLeaky | snn.RSynaptic

KINDS: dict[type, str] = {
    snn.Leaky: "leaky",
    snn.Lapicque: "lapicque",
    snn.Synaptic: "synaptic",
    snn.Alpha: "alpha",
    snn.RLeaky: "rleaky",
    snn.RSynaptic: "rsynaptic",
}
SUPPORTED = ", ".join(f"snntorch.{kind.__name__}" for kind in KINDS)
_PROBE = (-1.0, -1e-30, 0.0, 1e-30, 0.25, 0.75, 1.0, 100.0)


@dataclass(frozen=True)
class Cell:
    """A module of neurons at its place in a model, and what it takes and gives besides the current."""

    module_name: str
    module: Any
    model: str
    place: int = 0  # of several at which the module is called, each with states of its own

    @property
    def name(self) -> str:
        """The module's, and at which place."""
        return f"{self.module_name}#{self.place + 1}" if self.place else self.module_name

    @property
    def states(self) -> tuple[str, ...]:
        """The module's state attributes, in the order in which its forward takes and gives them."""
        names = {
            "leaky": ("mem",),
            "lapicque": ("mem",),
            "synaptic": ("syn", "mem"),
            "alpha": ("syn_exc", "syn_inh", "mem"),
            "rleaky": ("spk", "mem"),
            "rsynaptic": ("spk", "syn", "mem"),
        }
        return names[self.model]

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"{self.name} ({type(self.module).__name__})"


def cells_of(model: nn.Module) -> list[Cell]:
    """The neurons of a model, checked. Raises `ConversionError` naming those that have no integer form."""
    from snntorch._neurons.neurons import SpikingNeuron

    found = []
    for name, module in model.named_modules():
        if type(module) in KINDS:
            cell = Cell(name or "model", module, KINDS[type(module)])
            _check(cell)
            found.append(cell)
        elif isinstance(module, SpikingNeuron) or type(module).__module__.startswith("snntorch._neurons"):
            if any(module is getattr(cell.module, "recurrent", None) for cell in found):
                continue
            raise ConversionError(
                f"{name} ({type(module).__name__}) is not supported; the neurons that convert are {SUPPORTED}"
            )
    if not found:
        raise ConversionError(f"the model has no spiking neurons: it needs {SUPPORTED}")
    return found


def place_of(latest: Sequence[Sequence[Any]], given: Sequence[Any]) -> int | None:
    """At which place of a network a module of neurons is called with these states.

    Args:
        latest: the states that it gave at each place last.
        given: the states that it takes; None for those that it keeps itself.

    Returns:
        The place that gave them, the first if it keeps them itself, a new one if they are at rest; else None.
    """
    if all(state is None for state in given):
        return 0
    for place, states in enumerate(latest):
        if all(state is None or state.data_ptr() == own.data_ptr() for state, own in zip(given, states, strict=False)):
            return place
    return len(latest) if all(state is None or at_rest(state) for state in given) else None


def at_rest(state: Any) -> bool:
    """Whether a state is 0, and depends on no image."""
    try:
        return not isinstance(state, Tensor) or state.numel() == 0 or not bool(state.any())
    except ConversionError:  # of a value of the images, under `recording`
        return False


def _check(cell: Cell) -> None:
    module, label = cell.module, cell.label
    if module.inhibition or module.state_quant:
        raise ConversionError(f"{label} has inhibition or state_quant, which are not supported")
    factor = module.graded_spikes_factor
    if not bool(((factor != 0) & torch.isfinite(factor)).all()):
        raise ConversionError(f"{label} has a graded_spikes_factor that is 0 or not finite")
    if cell.model == "rsynaptic" and not module.reset_delay:
        raise ConversionError(f"{label} has reset_delay=False, which snnTorch's RSynaptic does not apply to its states")
    probe = torch.tensor(_PROBE, device=module.threshold.device)
    with torch.no_grad():
        if not torch.equal(module.spike_grad(probe), (probe > 0).float()):
            raise ConversionError(
                f"{label} has a spike_grad whose forward pass is not the step at 0: spikes are 0 and 1 here; for "
                "spikes of two signs, take one layer of neurons for each sign"
            )


def constants_of(cell: Cell, shape: Shape) -> dict[str, NDArray[Any]]:
    """float32 constants of neurons of this shape, by the names of `lava_meta.graph.spiking_neurons.MODELS`."""
    module = cell.module
    with torch.no_grad():
        values = {"threshold": module.threshold}
        if cell.model == "lapicque":
            rc = module.R * module.C
            values |= {"R": module.R, "inverse": 1 / rc, "time_step": module.time_step}
            values |= {"keep": 1 - module.time_step / rc}
        else:
            values["beta"] = module.beta.clamp(0, 1)
        if cell.model in ("synaptic", "rsynaptic", "alpha"):
            values["alpha"] = module.alpha.clamp(0, 1)
        if cell.model == "alpha":
            a, b = torch.log(values["alpha"]), torch.log(values["beta"])
            values["tau"] = a / (b - a) + 1
    return {name: _shared(cell, name, value, shape) for name, value in values.items()}


def factor_of(cell: Cell, shape: Shape) -> NDArray[Any]:
    """What a spike counts, float64."""
    return _shared(cell, "graded_spikes_factor", cell.module.graded_spikes_factor, shape).astype(np.float64)


def _shared(cell: Cell, name: str, value: Tensor, shape: Shape) -> NDArray[Any]:
    """A constant with the rank of the neurons, extents of 1 where it is shared."""
    value = value.detach().cpu()
    # snnTorch computes in float32 with whatever single number it is given, in float64 with many of them.
    if value.numel() == 1:
        made = value.to(torch.float32).numpy().reshape((1,) * len(shape))
    else:
        extents = tuple(value.shape)
        while len(extents) > len(shape) and extents[0] == 1:
            extents = extents[1:]
        extents = (1,) * (len(shape) - len(extents)) + extents
        fits = len(extents) == len(shape) and all(e in (1, own) for e, own in zip(extents, shape, strict=True))
        if not fits or value.dtype == torch.float64:
            raise ConversionError(
                f"{cell.label}: {name} must be one number, or float32 of one for each of {shape} neurons; it is "
                f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
            )
        made = value.to(torch.float32).numpy().reshape(extents)
    if not np.isfinite(made).all():
        raise ConversionError(
            f"{cell.label} has a {name} that is not finite: training diverged, or a constant (beta of 0 or 1) has no "
            "such neuron"
        )
    return made.copy()


def recurrent_of(
    cell: Cell, shape: Shape, weighted: Callable[[NDArray[Any]], tuple[Any, NDArray[Any]]]
) -> Recurrent | None:
    """The recurrent synapses; `weighted` gives weights (units, fan_in) as a node's weight and a unit per row."""
    if cell.model not in ("rleaky", "rsynaptic"):
        return None
    inner, ones = cell.module.recurrent, (1,) * len(shape)
    if not isinstance(inner, (nn.Linear, nn.Conv2d)):
        gain = _shared(cell, "V", torch.as_tensor(inner.V), shape).astype(np.float64)
        return Recurrent(None, gain, np.zeros(ones))
    matrix = inner.weight.detach().double().cpu().numpy()
    if not np.isfinite(matrix).all():
        raise ConversionError(f"{cell.label} has recurrent weights that are not finite")
    units = len(matrix)
    by_unit = (units, *ones[1:]) if isinstance(inner, nn.Conv2d) else (*ones[1:], units)
    weight, unit = weighted(matrix.reshape(units, -1))
    node: Linear | Conv
    if isinstance(inner, nn.Linear):
        node = Linear(("self",), weight)
    else:
        from lava_meta.graph.conv import Window

        kernel, padding = inner.kernel_size, inner.padding
        node = Conv(("self",), weight, Window((kernel[0], kernel[1]), (1, 1), (int(padding[0]), int(padding[1]))))
    bias = np.zeros(units) if inner.bias is None else inner.bias.detach().double().cpu().numpy()
    return Recurrent(node, np.broadcast_to(unit.reshape(-1), (units,)).reshape(by_unit).copy(), bias.reshape(by_unit))
