"""From snnTorch to Lava: binary layers with `snn.Leaky` neurons, spike for spike.

    model = nn.Sequential(
        BinaryLinear(64, 128), snn.Leaky(beta=0.9, threshold=8.0, init_hidden=True),
        BinaryLinear(128, 10), snn.Leaky(beta=0.9, threshold=8.0, init_hidden=True, output=True),
    )
    net = lava_meta.from_snntorch(model.eval(), max_level=16)
    classes = net.predict(images, steps=25)

Inputs are integers, pixels or 0/1 spikes, so that the sums of binary weights are integers, equal in every order of
summation; what snnTorch then does to them in float32, neuron by neuron, `lava_meta.graph.spiking` does in the same
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import snntorch as snn
import torch
from numpy.typing import NDArray
from torch import nn

from lava_meta.converters.spiking import SpikingNetwork
from lava_meta.converters.unwrapping import check_given, unwrap
from lava_meta.errors import ConversionError
from lava_meta.graph.bits import pack
from lava_meta.graph.spiking import LIFLayer, SpikingGraph, classes_by_rate
from lava_meta.nn import BinaryLinear, FixedNorm, Pixels

_SUPPORTED = "Pixels, Flatten, BinaryLinear, FixedNorm, Identity, Dropout and snntorch.Leaky"
_PROBE = (-1.0, -1e-30, 0.0, 1e-30, 0.25, 0.75, 1.0, 100.0)


@dataclass(frozen=True)
class SpikingParity:
    """What the self-check saw on random images: spikes that differ from snnTorch's, and how near fixed point comes."""

    images: int  # images checked
    steps: int  # time steps each was held
    seed: int  # of the images
    compared: int  # spikes and silences compared
    mismatches: dict[str, int]  # floating point against snnTorch, by layer: all 0 for an exact conversion
    fixed_spikes: dict[str, float]  # share of fixed point's spikes and silences that equal snnTorch's, by layer
    fixed_classes: float  # share of its classes (by rate) that do

    @property
    def exact(self) -> bool:
        """Whether floating point agrees spike for spike."""
        return not any(self.mismatches.values())


@dataclass
class _Stage:
    name: str
    linear: BinaryLinear
    norm: FixedNorm | None = None
    leaky: snn.Leaky | None = None


def from_snntorch(
    model: nn.Module,
    *,
    max_level: int | None = None,
    input_shape: Sequence[int] | None = None,
    form: str = "floating_pt",
) -> SpikingNetwork:
    """Convert a spiking network of binary layers, in eval mode, into a Lava network with the same spikes.

    Args:
        model: an `nn.Sequential` (nested ones too) of `BinaryLinear` layers, each followed by `snn.Leaky`, with an
            optional `FixedNorm` between the two, and optionally `Pixels` (an integer offset, a gain of 1) and `Flatten`
            in front. Leaky: reset `subtract`, `zero` or `none`, with or without delay; beta and threshold fixed or
            learned, one or one per neuron.
        max_level: inputs are integers 0 .. max_level: 1 for spikes. Default: that of `Pixels`, else 1.
        input_shape: of one image; by default flat.
        form: which ProcessModels run: `floating_pt` or `fixed_pt`.

    The result has been checked against the model on random images (`net.parity`). Raises `ConversionError` naming the
    module that cannot be converted, and why.
    """
    pixels, stages = _read(model)
    if pixels is not None and max_level not in (None, pixels.max_level):
        raise ConversionError(
            f"the model's Pixels have max_level {pixels.max_level}: max_level={max_level} does not apply"
        )
    try:
        graph = SpikingGraph(
            layers=tuple(_layer(stage) for stage in stages),
            max_level=pixels.max_level if pixels is not None else max_level if max_level is not None else 1,
            offset=int(pixels.offset) if pixels is not None else 0,
            input_shape=tuple(int(n) for n in input_shape) if input_shape else (stages[0].linear.in_features,),
        )
    except ValueError as error:
        raise ConversionError(str(error)) from error
    parity = _check(graph, pixels, stages)
    if not parity.exact:
        raise ConversionError(
            f"the converted network's spikes differ from the model's, by layer {parity.mismatches}: was a Leaky "
            "changed after it was made?"
        )
    return SpikingNetwork(graph, parity=parity, form=form)


def model_spikes(model: nn.Module, frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What `model` itself sends, layer by layer as `SpikingGraph.spikes` names them, for frames (steps, n, n_in)."""
    return _model_spikes(*_read(model), frames)


def _read(model: nn.Module) -> tuple[Pixels | None, list[_Stage]]:
    model = unwrap(model)
    check_given(model)
    pixels: Pixels | None = None
    stages: list[_Stage] = []
    for name, module in _flat(model):
        label = f"{name} ({type(module).__name__})"
        open_stage = stages[-1] if stages and stages[-1].leaky is None else None
        if isinstance(module, (nn.Identity, nn.Dropout, nn.Flatten)):
            continue
        if isinstance(module, Pixels) and not stages and pixels is None:
            if float(module.gain) != 1 or float(module.offset) % 1:
                raise ConversionError(f"{label} must have an integer offset and a gain of 1: inputs stay integers")
            if module.min_level:
                raise ConversionError(f"{label} takes signed features; spiking networks take integers from 0 on")
            pixels = module
        elif isinstance(module, BinaryLinear) and open_stage is None:
            stages.append(_Stage(label, module))
        elif isinstance(module, FixedNorm) and open_stage is not None and open_stage.norm is None:
            open_stage.norm = module
        elif type(module) is snn.Leaky and open_stage is not None:
            _check_leaky(label, module)
            open_stage.leaky = module
        else:
            raise ConversionError(
                f"{label} is not supported at this place; a spiking network is built of {_SUPPORTED}: each "
                "BinaryLinear followed by its Leaky, with at most one FixedNorm between them"
            )
    if not stages or stages[-1].leaky is None:
        raise ConversionError("the model does not end with BinaryLinear and snntorch.Leaky")
    return pixels, stages


def _flat(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    if isinstance(model, nn.Sequential):
        children = [(f"{prefix}.{name}" if prefix else name, child) for name, child in model.named_children()]
        return [leaf for name, child in children for leaf in _flat(child, name)]
    return [(prefix or "model", model)]


def _check_leaky(label: str, leaky: snn.Leaky) -> None:
    if leaky.inhibition or leaky.state_quant:
        raise ConversionError(f"{label} has inhibition or state_quant, which are not supported")
    if (leaky.graded_spikes_factor != 1).any():
        raise ConversionError(f"{label} sends graded spikes; only spikes of 1 are supported")
    probe = torch.tensor(_PROBE, device=leaky.threshold.device)
    with torch.no_grad():
        if not torch.equal(leaky.spike_grad(probe), (probe > 0).float()):
            raise ConversionError(f"{label} has a spike_grad whose forward pass is not the step at 0")


def _layer(stage: _Stage) -> LIFLayer:
    leaky, weight = stage.leaky, stage.linear.weight.detach()
    assert leaky is not None
    if weight.dtype != torch.float32 or not torch.isfinite(weight).all():
        raise ConversionError(f"{stage.name} has hidden weights that are not finite float32")
    units = len(weight)
    values = {}
    for name, value in (("beta", leaky.beta.detach().clamp(0, 1)), ("threshold", leaky.threshold.detach())):
        # snnTorch computes in float32 with whatever single number it is given, in float64 with many of them.
        if value.numel() not in (1, units) or (value.ndim > 0 and value.dtype == torch.float64) or value.ndim > 1:
            raise ConversionError(
                f"{stage.name}: {name} must be one number, or float32 of one for each of {units} neurons"
            )
        values[name] = np.broadcast_to(value.to(torch.float32).cpu().numpy(), units).copy()
    return LIFLayer(
        bits=pack((weight >= 0).cpu().numpy()),
        n_in=weight.shape[1],
        gain=float(np.float32(stage.norm.scale)) if stage.norm is not None else 1.0,
        reset=leaky.reset_mechanism,
        reset_delay=bool(leaky.reset_delay),
        **values,
    )


def _model_spikes(pixels: Pixels | None, stages: list[_Stage], frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
    device = stages[0].linear.weight.device
    neurons: list[Any] = [stage.leaky for stage in stages]
    before = [leaky.mem for leaky in neurons]
    out: list[list[NDArray[Any]]] = [[] for _ in stages]
    try:
        for leaky in neurons:
            leaky.mem = torch.zeros(0, device=device)
        with torch.no_grad():
            for frame in frames:
                x = torch.from_numpy(frame.astype(np.float32)).to(device)
                x = x if pixels is None else pixels(x)
                for stage, leaky, parts in zip(stages, neurons, out, strict=True):
                    current = stage.linear(x)
                    sent = leaky(current if stage.norm is None else stage.norm(current))
                    x = sent[0] if isinstance(sent, tuple) else sent
                    parts.append(x.cpu().numpy().astype(np.uint8))
    finally:
        for leaky, mem in zip(neurons, before, strict=True):
            leaky.mem = mem
    names = [*(f"hidden{i}" for i in range(1, len(stages))), "output"]
    return {name: np.stack(parts) for name, parts in zip(names, out, strict=True)}


def _check(
    graph: SpikingGraph, pixels: Pixels | None, stages: list[_Stage], images: int = 32, steps: int = 16, seed: int = 0
) -> SpikingParity:
    rng = np.random.default_rng(seed)
    # Half of them sparse, so that neurons meet small currents too.
    drawn = rng.integers(0, graph.max_level, (images, graph.n_in), endpoint=True)
    drawn[::2] *= rng.random(drawn[::2].shape) < 0.1
    theirs = _model_spikes(pixels, stages, graph.frames(drawn, steps))
    ours, fixed = graph.spikes(drawn, steps), graph.spikes(drawn, steps, form="fixed_pt")
    return SpikingParity(
        images=images,
        steps=steps,
        seed=seed,
        compared=sum(spikes.size for spikes in theirs.values()),
        mismatches={name: int((ours[name] != theirs[name]).sum()) for name in theirs},
        fixed_spikes={name: float((fixed[name] == theirs[name]).mean()) for name in theirs},
        fixed_classes=float((classes_by_rate(fixed["output"]) == classes_by_rate(theirs["output"])).mean()),
    )
