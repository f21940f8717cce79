"""Norms whose statistics are those of one image, as a `GroupNorm` of the layer's sums."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lava_meta.converters.chain.reading import AVERAGES, MAXIMA, Stage, is_per_image
from lava_meta.converters.chain.sums import Sums
from lava_meta.converters.refusals import NotAChain
from lava_meta.errors import ConversionError
from lava_meta.graph.norm import GroupNorm
from lava_meta.nn import AbsStep, FixedNorm, SampleNorm, Sign


def per_image_norm(stage: Stage, sums: Sums, shape: tuple[int, ...]) -> GroupNorm | None:
    """The norm of a stage whose sums have `shape`, (units,) or (channels, rows, columns); None where there is none.

    Raises `ConversionError` for one beside another norm, or with anything else that moves its sums or its signs.
    """
    places = [i for i, (_, module) in enumerate(stage.before) if is_per_image(module)]
    if not places:
        return None
    label, norm = stage.before[places[0]]
    eps = _checked_eps(label, norm)
    steps = stage.sign if isinstance(stage.sign, AbsStep) else None
    if type(stage.sign) is not Sign and steps is None:
        raise NotAChain(f"{label} stands before another sign than lava_meta.nn.Sign (+1 where x >= 0)")
    if not isinstance(sums.divisor, int):
        raise NotAChain(f"{label} stands behind means whose windows at the border are divided by less")
    scale = Fraction(1) if sums.scale is None else sums.scale.gain
    scale /= sums.divisor
    for i, (other, module) in enumerate(stage.before):
        if i < places[0] and isinstance(module, FixedNorm):
            scale *= Fraction(module.scale)
        elif i < places[0] and isinstance(module, MAXIMA):
            raise NotAChain(f"{label} norms what {other} has pooled; put it before the pooling")
        elif i > places[0] and steps is not None and not isinstance(module, MAXIMA):
            raise NotAChain(f"{other} stands between {label} and units of 0 and 1")
        elif i > places[0] and not _keeps_signs(module):
            raise NotAChain(f"{other} and {label} stand in one layer: one norm a layer is supported")
        elif i < places[0] and not isinstance(module, AVERAGES):
            raise NotAChain(f"{label} norms what {other} gives: one norm a layer is supported")
    if steps is None:
        groups, gain, bias = _parameters(label, norm, shape)
    else:
        groups, gain, bias = _edges(label, norm, (shape[0] // 2, *shape[1:]), steps)
    if sums.scale is not None and len(sums.scale.offset) > 1:
        raise NotAChain(f"{label} norms sums of inputs with a mean for each channel; give all the same mean")
    origin = Fraction(0) if sums.scale is None else sums.scale.offset[0]
    row = np.broadcast_to(sums.row, shape).reshape(-1) if origin else np.zeros(0, np.int64)
    try:
        return GroupNorm(groups, gain, bias, Fraction(eps) / scale**2, origin, np.ascontiguousarray(row))
    except ValueError as error:
        raise ConversionError(f"{label}: {error}") from error


def _checked_eps(label: str, norm: Any) -> float:
    """The norm's eps. Raises `ConversionError` for a norm that gives NaN."""
    check_numbers(label, norm)
    if not 0 < norm.eps < math.inf:
        raise ConversionError(
            f"{label} has eps={norm.eps:g}, with which equal sums give NaN (0 / 0): give it a positive eps, such as "
            "1e-5"
        )
    return float(norm.eps)


def _parameters(label: str, norm: nn.Module, shape: tuple[int, ...]) -> tuple[int, NDArray[Any], NDArray[Any]]:
    """Groups, gains and biases; these are one number for all units, for each channel, or for each unit."""
    if isinstance(norm, SampleNorm):
        return 1, np.ones(1), np.zeros(1)
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    channels: int | None = None
    if isinstance(norm, nn.LayerNorm):
        own = tuple(norm.normalized_shape)
        if shape[len(shape) - len(own) :] != own:
            raise NotAChain(f"{label} norms {own}, but the layer before it gives {shape}")
        groups = math.prod(shape) // math.prod(own)
    else:
        assert isinstance(norm, (nn.GroupNorm, nn.InstanceNorm2d))
        channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
        groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else channels
        if channels != shape[0] or (isinstance(norm, nn.InstanceNorm2d) and len(shape) != 3):
            raise NotAChain(f"{label} takes {channels} channels, but the layer before it gives {shape}")
        if isinstance(norm, nn.InstanceNorm2d) and shape[1:] == (1, 1):
            raise ConversionError(
                f"{label} norms each channel by itself, but a channel has one value here (1x1), which PyTorch refuses "
                "too: remove it, or use nn.GroupNorm(1, channels) or nn.BatchNorm2d"
            )
    return groups, _flat(weight, 1.0, shape, channels), _flat(bias, 0.0, shape, channels)


def _edges(
    label: str, norm: nn.Module, shape: tuple[int, ...], steps: AbsStep
) -> tuple[int, NDArray[Any], NDArray[Any]]:
    """Of the rising and the falling edges of units of `shape`: both are beyond `width`, which is the next number."""
    groups, gain, bias = _parameters(label, norm, shape)
    if groups != 1 or bias.any():
        raise NotAChain(f"{label} has groups, or a bias, before units of 0 and 1")
    gain = np.repeat(gain, shape[0]) if gain.size == 1 else gain
    return 1, np.concatenate([gain, -gain]), np.full(2 * gain.size, -math.nextafter(steps.width, math.inf))


def _flat(value: Tensor | None, default: float, shape: tuple[int, ...], channels: int | None) -> NDArray[Any]:
    if value is None:
        return np.full(1, default)
    array = value.detach().double().numpy()
    return (array if channels is not None else np.broadcast_to(array, shape)).reshape(-1).copy()


def _keeps_signs(module: nn.Module) -> bool:
    """Whether a module behind a norm leaves the signs of values as they are; max pooling leaves the greatest's."""
    if isinstance(module, MAXIMA):
        return True
    if not isinstance(module, (nn.Hardtanh, FixedNorm)):
        return False
    probe = torch.tensor([-1e9, -1e-9, 0.0, 1e-9, 1e9], dtype=torch.float64)
    return torch.equal(module(probe) >= 0, probe >= 0)


def check_numbers(label: str, module: nn.Module) -> None:
    """Raises `ConversionError` for a parameter or statistic that is not finite."""
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ConversionError(
                f"{label} has NaN or infinity in its {name}: training diverged, or the file is damaged; load an "
                "earlier checkpoint"
            )


def check_readout_norm(label: str, norm: Any) -> None:
    """Raises `ConversionError` unless the norm keeps the order of the classes: one group, no affine of its own."""
    _checked_eps(label, norm)
    if isinstance(norm, SampleNorm):
        return
    gain, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
    gains = torch.ones(1) if gain is None else gain.detach()
    biases = torch.zeros(1) if bias is None else bias.detach()
    whole = isinstance(norm, nn.LayerNorm) or (isinstance(norm, nn.GroupNorm) and norm.num_groups == 1)
    if not whole or not (gains == gains.flatten()[0]).all() or not (gains > 0).all() or biases.any():
        raise ConversionError(
            f"{label} stands behind the readout with a gain or bias of its own for each class, so that the class "
            "depends on the image's spread; use elementwise_affine=False there"
        )
