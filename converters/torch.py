"""From a trained PyTorch network to integers.

The network is read as a sequence of modules. What stands between a binary layer and the sign that follows it (scales,
batch norm, clipping) is a monotone function of each unit's sum, so it can only ask whether an *integer* sum reaches an
integer threshold. The threshold is not computed from a formula, which would round differently from the norm itself: it
is searched by evaluating the model's own modules, in float64, on integers. Ties, tiny gains, gains of exactly zero and
inverted gains come out as the model has them.

A layer norm compares each sum with the mean of its layer. That stays in integers too: `n * s_j - sum(s) >= T_j`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.nn import BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign, TaskBatchNorm, select_task

Affine = tuple[np.ndarray, np.ndarray]


@dataclass
class Stage:
    """One binary layer and the modules between it and the next."""

    name: str
    linear: BinaryLinear
    norms: list[tuple[str, nn.Module]] = field(default_factory=list)
    sign: Sign | None = None

    @property
    def weight(self) -> np.ndarray:
        """Booleans (units, inputs), True for +1."""
        return (self.linear.weight.detach() >= 0).cpu().numpy()


IDENTITIES = (nn.Identity, nn.Dropout)
MONOTONE = (FixedNorm, TaskBatchNorm, nn.BatchNorm1d, nn.Hardtanh)
SUPPORTED = (BinaryLinear, Pixels, Sign, SampleNorm, nn.Flatten, nn.Sequential, *IDENTITIES, *MONOTONE)


def prepare(model: nn.Module, task: int = 0) -> nn.Module:
    """A float64 copy of `model` on the CPU, in eval mode, with the statistics and affine of `task`.

    It is what conversion is exact to. Raises `ConversionError` for a model in training mode.
    """
    if model.training:
        raise ConversionError("the model is in training mode: call model.eval() first")
    clone = copy.deepcopy(model).cpu().double().eval()
    select_task(clone, task)
    return clone


def to_graph(
    model: nn.Module,
    *,
    task: int = 0,
    mean: float | None = None,
    std: float | None = None,
    max_level: int = 255,
    input_shape: Sequence[int] | None = None,
) -> BinaryGraph:
    """Fold a dense binarized network, in eval mode, into a `BinaryGraph`.

    Args:
        model: an `nn.Sequential` (nested ones too, `BinaryMLP` among them) of the modules in `SUPPORTED`.
        task: whose batch-norm statistics and affine to take; other norms know no tasks.
        mean, std: for a model without a `Pixels` module, how its inputs were normalised:
            `(p / max_level - mean) / std`, as torchvision's `ToTensor` and `Normalize` do.
        max_level: for such a model, the brightest pixel.
        input_shape: of one image, kept with the network; by default flat.

    Raises `ConversionError` naming the module that cannot be converted, and why.
    """
    clone = prepare(model, task)
    pixels, stages = read(clone)
    if pixels is None:
        if mean is None or std is None:
            raise ConversionError(
                "the model has no Pixels module, so its input scaling is unknown: pass mean= and std= as given to "
                "torchvision's Normalize (mean=0, std=1 for ToTensor alone), or put lava_meta.nn.Pixels first"
            )
        pixels = Pixels.standardize(mean, std, max_level).double()
    elif mean is not None or std is not None:
        raise ConversionError("the model normalises its own pixels (Pixels): mean= and std= do not apply")
    for stage in stages:
        if not torch.isfinite(stage.linear.weight).all():
            raise ConversionError(f"{stage.name} has hidden weights that are not finite")
    layers = [_hidden(stage, pixels if i == 0 else None) for i, stage in enumerate(stages[:-1])]
    return BinaryGraph(
        layers=tuple(layers),
        readout=_readout(stages[-1], pixels if len(stages) == 1 else None),
        max_level=pixels.max_level,
        input_shape=tuple(input_shape) if input_shape else (stages[0].linear.in_features,),
    )


def read(model: nn.Module) -> tuple[Pixels | None, list[Stage]]:
    """The model's `Pixels`, if any, and its stages in order. Raises `ConversionError` for anything else."""
    pixels: Pixels | None = None
    stages: list[Stage] = []
    for name, module in _flat(model):
        label = f"{name} ({type(module).__name__})"
        if isinstance(module, nn.Flatten):
            continue
        if isinstance(module, Pixels):
            if stages or pixels:
                raise ConversionError(f"{label} must be the first module and stand once")
            pixels = module
        elif isinstance(module, BinaryLinear):
            if stages and stages[-1].sign is None:
                raise ConversionError(f"{label} follows {stages[-1].name} without a sign activation between them")
            stages.append(Stage(label, module))
        elif not stages:
            raise ConversionError(f"{label} stands before the first binary layer; only Flatten and Pixels may")
        elif isinstance(module, Sign):
            if stages[-1].sign is not None:
                raise ConversionError(f"{label} follows another sign activation")
            stages[-1].sign = module
        elif isinstance(module, IDENTITIES):
            continue
        elif isinstance(module, (*MONOTONE, SampleNorm)):
            if stages[-1].sign is not None:
                raise ConversionError(f"{label} stands behind a sign activation; norms go before it")
            stages[-1].norms.append((label, module))
        elif isinstance(module, nn.LayerNorm):
            raise ConversionError(
                f"{label} is not supported: it rounds its mean, so that ties fall on either side; train with "
                "lava_meta.nn.SampleNorm, the same norm without affine and with an exact mean"
            )
        else:
            known = ", ".join(sorted(kind.__name__ for kind in SUPPORTED))
            raise ConversionError(f"{label} is not supported; supported are {known}")
    if not stages:
        raise ConversionError(f"{type(model).__name__} has no BinaryLinear: there is nothing to convert")
    if stages[-1].sign is not None:
        raise ConversionError(f"{stages[-1].name} is the readout, but a sign activation follows it")
    return pixels, stages


def _flat(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        return [
            leaf
            for name, child in model.named_children()
            for leaf in _flat(child, f"{prefix}.{name}" if prefix else name)
        ]
    if next(model.children(), None) is not None:
        raise ConversionError(
            f"{prefix or 'the model'} ({type(model).__name__}) has a forward of its own, which cannot be read: "
            "build it as an nn.Sequential"
        )
    return [(prefix or "model", model)]


def _hidden(stage: Stage, pixels: Pixels | None) -> DenseLayer:
    per_sample = [(label, module) for label, module in stage.norms if isinstance(module, SampleNorm)]
    if not per_sample:
        threshold, polarity = _search(stage, pixels)
        return DenseLayer.from_weights(stage.weight, threshold, polarity)
    for label, module in stage.norms:
        if isinstance(module, (TaskBatchNorm, nn.BatchNorm1d)) or len(per_sample) > 1:
            raise ConversionError(f"{label} and {per_sample[0][0]} stand in one layer: one norm a layer is supported")
    units = stage.linear.out_features
    threshold = np.zeros(units, np.int64)
    if pixels is not None:
        # The constant part of a sum, -offset * R_j, moves with its mean; exact in rationals.
        row = _row_sums(stage.weight)
        offset = Fraction(float(pixels.offset))
        threshold = np.array([math.ceil(offset * int(shift)) for shift in units * row - row.sum()])
    return DenseLayer.from_weights(stage.weight, threshold, centred=True)


def _search(stage: Stage, pixels: Pixels | None) -> tuple[np.ndarray, np.ndarray]:
    """The integer threshold and polarity of every unit, by bisection on the model's own norm."""
    weight = stage.weight
    row = _row_sums(weight)
    if pixels is None:
        low, high = np.full(len(row), -weight.shape[1]), np.full(len(row), weight.shape[1])
        offset, gain = 0.0, 1.0
    else:
        low = -pixels.max_level * (~weight).sum(axis=1)
        high = pixels.max_level * weight.sum(axis=1)
        offset, gain = float(pixels.offset), float(pixels.gain)
    norms = _monotone(stage)

    def fires(sums: np.ndarray) -> np.ndarray:
        values = norms(torch.from_numpy(gain * (sums - offset * row))[None])[0].detach().numpy()
        if np.isnan(values).any():
            raise ConversionError(f"the norm after {stage.name} gives NaN")
        return values >= 0

    at_low, at_high = fires(low), fires(high)
    inverted = at_low & ~at_high
    # Invariant: the comparison does not hold at `below` and holds at `reached`, or lies outside the range.
    below, reached = np.where(at_low == at_high, low - 1, low), np.where(at_low == at_high, low, high)
    while (reached - below > 1).any():
        middle = (below + reached) // 2
        holds = fires(middle) ^ inverted
        inside = reached - below > 1
        reached = np.where(inside & holds, middle, reached)
        below = np.where(inside & ~holds, middle, below)
    never = ~at_low & ~at_high
    # Inverted units fire up to the last sum that does not hold: -s >= -below.
    threshold = np.where(inverted, -below, np.where(never, high + 1, reached))
    return threshold.astype(np.int64), np.where(inverted, -1, 1).astype(np.int8)


def _monotone(stage: Stage) -> Callable[[torch.Tensor], torch.Tensor]:
    for label, module in stage.norms:
        _check_statistics(label, module)
    modules = [module for _, module in stage.norms]

    @torch.no_grad()
    def apply(x: torch.Tensor) -> torch.Tensor:
        for module in modules:
            x = module(x)
        return x

    return apply


def _check_statistics(label: str, module: nn.Module) -> None:
    if isinstance(module, nn.BatchNorm1d) and (module.running_mean is None or not module.num_batches_tracked):
        raise ConversionError(
            f"{label} has no running statistics: it would norm by each batch. Make it with track_running_stats=True "
            "and pass training images through it once in training mode"
        )
    if isinstance(module, TaskBatchNorm):
        if module.statistics == "batch":
            raise ConversionError(
                f"{label} norms by the statistics of each batch: call lava_meta.nn.use_statistics(model, 'stored'), or "
                "lava_meta.nn.recalibrate(model, images, task) for exact ones"
            )
        if not module.trained[module.task]:
            raise ConversionError(
                f"{label} has no statistics for task {module.task}: train on it, or call "
                "lava_meta.nn.recalibrate(model, images, task)"
            )


def _readout(stage: Stage, pixels: Pixels | None) -> Readout:
    weight = stage.weight
    units = len(weight)
    scale, offset = np.ones(units), np.zeros(units)
    if pixels is not None:
        # gain * (K - offset * R): the common gain keeps the argmax, the constant does not.
        offset = -float(pixels.offset) * _row_sums(weight)
        if any(not isinstance(module, SampleNorm) for _, module in stage.norms):
            scale, offset = float(pixels.gain) * scale, float(pixels.gain) * offset
    for label, module in stage.norms:
        _check_statistics(label, module)
        if isinstance(module, SampleNorm):
            continue  # monotone within a sample: the argmax is the same
        if isinstance(module, FixedNorm):
            scale, offset = module.scale * scale, module.scale * offset
        elif isinstance(module, (TaskBatchNorm, nn.BatchNorm1d)):
            a, b = _affine(module)
            scale, offset = a * scale, a * offset + b
        else:
            raise ConversionError(f"{label} stands behind the readout; classes would depend on where it clips")
    if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        raise ConversionError(f"the norm after {stage.name} is not finite")
    if not offset.any() and (scale == scale[0]).all() and scale[0] > 0:
        scale = np.ones(units)
    return Readout.from_weights(weight, scale, offset)


def _affine(norm: nn.Module) -> Affine:
    """Batch norm in eval mode as `scale * x + offset`, float64."""
    if isinstance(norm, TaskBatchNorm):
        mean, var = norm.running_mean[norm.task], norm.running_var[norm.task]
        gain, shift = (None, None) if norm.affine == "none" else (norm.gain, norm.offset)
    else:
        assert isinstance(norm, nn.BatchNorm1d)
        mean, var, gain, shift = norm.running_mean, norm.running_var, norm.weight, norm.bias
    with torch.no_grad():
        scale = 1 / torch.sqrt(var + norm.eps)
        scale = scale if gain is None else gain * scale
        offset = -mean * scale if shift is None else shift - mean * scale
    return scale.numpy(), offset.numpy()


def _row_sums(weight: np.ndarray) -> np.ndarray:
    """`R_j`, the sum of unit j's weights, int64."""
    return 2 * weight.sum(axis=1, dtype=np.int64) - weight.shape[1]
