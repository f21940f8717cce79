"""From a trained PyTorch network to integers.

The network is read as a sequence of stages (`lava_meta.converters.chain.reading`). What stands between a binary layer
and the sign that follows it (scales, batch norm, clipping) is a monotone function of each unit's sum, so it can only
ask whether an *integer* sum reaches an integer threshold. The threshold is not computed from a formula, which would
round differently from the norm itself: it is searched by evaluating the model's own modules, in float64, on integers.
Ties, tiny gains, gains of exactly zero and inverted gains come out as the model has them.

A convolution is dense at each of its positions, with the weights of its channel. Its sums have another range at the
border, and in a padded first layer another constant part too (see `lava_meta.graph.conv`): there the search is done for
every position at once.

A norm over the sums of one image compares each with their mean, which stays in integers too: `n * s_j - sum(s) >= T_j`.
With a bias its threshold follows their spread (`lava_meta.graph.norm`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lava_meta.converters.chain.functions import StrictSign, TorchSign
from lava_meta.converters.chain.per_image import check_numbers, check_readout_norm, per_image_norm
from lava_meta.converters.chain.pooling import MAXIMA, Average, fixed_pools, pair
from lava_meta.converters.chain.reading import Chain, Front, Stage, is_per_image, norms_of, read
from lava_meta.converters.chain.scale import InputScale, feed_of, scale_of
from lava_meta.converters.chain.sums import Sums
from lava_meta.converters.feed import Feed
from lava_meta.converters.options import TAKES_SIGNS, Options
from lava_meta.converters.recording.calling import is_coarse
from lava_meta.converters.recording.every_module import every_module
from lava_meta.converters.recording.unwrapping import check_given, plain_copy, unwrap
from lava_meta.converters.refusals import NotAChain
from lava_meta.converters.registry import Affine
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.graph.bits import pack
from lava_meta.graph.conv import ConvLayer, Pool
from lava_meta.graph.dense import REACH, DenseLayer, Readout, reachable
from lava_meta.graph.inputs import Binarize
from lava_meta.io.memory import require_memory
from lava_meta.nn import (
    AbsStep,
    BinaryConv2d,
    BinaryConvNet,
    BinaryLinear,
    FixedNorm,
    TaskBatchNorm,
    select_task,
)

_NEVER = REACH + 1  # a threshold that no sum reaches


def prepare(model: nn.Module, task: int = 0, *, hooks: bool = False) -> nn.Module:
    """A plain float64 copy of `model` on the CPU (`unwrapping.plain_copy`), with the statistics and affine of `task`.

    It is what conversion is exact to.

    Raises:
        TypeError: `model` is no module.
        ConversionError: A part of it is in training mode, has no values yet, or cannot be unwrapped.
        TooLargeError: It does not fit in memory a second time.
    """
    model = unwrap(model)
    check_given(model)
    largest = max((parameter.numel() for parameter in model.parameters()), default=0)
    every = sum(parameter.numel() for parameter in model.parameters())
    require_memory(8 * every + 9 * largest, "Converting this model in float64", "convert it on a machine with more")
    clone = plain_copy(model, hooks=hooks)
    for module in every_module(clone).values():
        module.cpu().double()
    select_task(clone, task)
    return clone


@dataclass(frozen=True)
class Folded:
    """A model as it was read, and what it became."""

    chain: Chain  # of the copy in float64
    graph: BinaryGraph
    feed: Feed
    task: int


def fold(model: nn.Module, **given: Any) -> Folded:
    """Fold a binarized network, in eval mode, into a `BinaryGraph`.

    Args:
        model: a chain of the modules in `reading.SUPPORTED`, as an `nn.Sequential` or in a forward of its own.
        given: the fields of `options.Options`, those of `lava_meta.convert`.

    Raises:
        ConversionError: a module cannot be converted; the message names it and says why.
    """
    options = Options(**given)
    clone = prepare(model, options.task)
    chain = read(clone)
    front, stages = chain.front, chain.stages
    if front.rounded and not is_coarse(unwrap(model)):
        raise NotAChain(f"{front.rounded} rounds the levels of the images to half precision")
    for stage in stages:
        if not torch.isfinite(stage.layer.weight).all():
            raise ConversionError(f"{stage.name} has hidden weights that are not finite")
    images = _input_shape(clone, stages[0], options.input_shape)
    feed = _fed(front, images, options)
    binarize, first = None, None
    if feed is not None and front.sign is not None:
        binarize = _binarize(front, feed, images)
    elif feed is not None:
        first = InputScale.of(feed, front, images)  # what the sums of the first layer are made of
    shape, layers = images, []
    for i, stage in enumerate(stages):
        if not isinstance(stage.layer, BinaryConv2d) and stage.weight.shape[1] != math.prod(shape):
            raise ConversionError(f"{stage.name} takes {stage.layer.in_features} inputs, but gets {shape}")
        if i < len(stages) - 1:
            layers.append(_hidden(stage, shape, scale_of(stage, first if i == 0 else None)))
            shape = layers[-1].output_shape
    graph = BinaryGraph(
        layers=tuple(layers),
        readout=_readout(stages[-1], scale_of(stages[-1], first if len(stages) == 1 else None)),
        max_level=1 if feed is None else feed.max_level,
        input_shape=images,
        min_level=-1 if feed is None else feed.min_level,
        signs=options.signs,
        binarize=binarize,
    )
    feed = feed or Feed.given(None, None, images, graph.max_level, graph.min_level)
    return Folded(chain, graph, feed, options.task)


def _fed(front: Front, shape: tuple[int, ...], options: Options) -> Feed | None:
    """How levels become the model's input; None if it takes signs as they are."""
    if not options.signs:
        return feed_of(front, shape, options)
    if norms_of(front.modules) or front.sign is not None:
        raise ConversionError(TAKES_SIGNS)
    return None


def _binarize(front: Front, feed: Feed, shape: tuple[int, ...]) -> Binarize:
    """The threshold and polarity of every input, by bisection on what the model does before the sign."""

    def values(levels: NDArray[Any]) -> NDArray[Any]:
        return through("the input", front.modules, feed(levels.reshape(1, *shape).astype(np.float64))).reshape(-1)

    low, high = np.full(math.prod(shape), feed.min_level), np.full(math.prod(shape), feed.max_level)
    plus = fires(front.sign)
    inverted = plus(values(low)) & ~plus(values(high))
    threshold = _reached(lambda levels: plus(values(levels)), low, high, inverted)
    if isinstance(front.sign, TorchSign) and (values(np.where(inverted, -1, 1) * threshold) == 0).any():
        raise NotAChain("torch.sign gives 0 for an input that is 0; use lava_meta.nn.Sign")
    return Binarize(threshold, np.where(inverted, -1, 1).astype(np.int8))


def _input_shape(model: nn.Module, first: Stage, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is None and isinstance(model, BinaryConvNet):
        return model.image_shape
    if isinstance(first.layer, BinaryLinear):
        return tuple(given) if given else (first.layer.in_features,)
    if given is None:
        raise ConversionError(f"{first.name} takes images of any extent: pass input_shape=(channels, rows, columns)")
    return tuple(given)


def _hidden(stage: Stage, shape: tuple[int, ...], scale: InputScale | None) -> DenseLayer | ConvLayer:
    if isinstance(stage.layer, BinaryConv2d):
        return _convolution(stage, stage.layer, shape, scale)
    layer = DenseLayer.from_weights(stage.weight, np.zeros(len(stage.weight)))
    sums, row = Sums.of(stage, layer, scale), layer.row_sums()
    norm = per_image_norm(stage, sums, row.shape)
    if norm is None:
        threshold, polarity = _search(stage, sums)
        return replace(layer, threshold=threshold, polarity=polarity)
    if norm.groups > 1 or norm.bias[norm.gain != 0].any():  # its threshold follows the spread, or the group's mean
        return DenseLayer.from_weights(stage.weight, np.zeros(len(row)), norm=norm)
    # Without a bias, what is compared is the sum and its mean alone; a gain of 0 leaves the bias.
    gain, bias = (np.broadcast_to(value, row.shape) for value in (norm.gain, norm.bias))
    moved = [norm.origin * int(shift) for shift in len(row) * row - row.sum()]
    polarity = np.where(gain < 0, -1, 1).astype(np.int8)
    limits = [math.ceil(int(p) * m) for p, m in zip(polarity, moved, strict=True)]
    threshold = reachable(np.array(limits, object)).astype(np.int64)
    threshold[gain == 0] = np.where(bias < 0, _NEVER, -_NEVER)[gain == 0]
    return DenseLayer.from_weights(stage.weight, threshold, polarity, centred=True)


def _convolution(stage: Stage, conv: BinaryConv2d, shape: tuple[int, ...], scale: InputScale | None) -> ConvLayer:
    weight = stage.weight.reshape(len(stage.weight), -1, *conv.kernel_size)
    if len(shape) != 3 or shape[0] != weight.shape[1] * conv.groups:
        raise ConversionError(
            f"{stage.name} takes {conv.in_channels} channels, but gets {shape}; images are (channels, rows, columns)"
        )
    padding, after = _padding(conv)
    options: dict[str, Any] = {
        "stride": conv.stride,
        "padding": padding,
        "dilation": conv.dilation,
        "after": after,
        "groups": conv.groups,
    }
    try:
        layer = ConvLayer.from_weights(weight, shape, np.zeros(len(weight)), **options)
        pools = fixed_pools(stage, layer.conv_shape[1:])
        if pools and isinstance(pools[0], Average):
            layer = replace(layer, sum_window=pools[0].window)
            if isinstance(pools[0].divisor, int) and pools[0].divisor < 0:  # turned weights, and a divisor above 0
                layer = replace(layer, bits=pack(~layer.weight))
        layer = replace(layer, pools=tuple(pool for pool in pools if isinstance(pool, Pool)))
    except ValueError as error:
        raise NotAChain(f"{stage.name} does not fit its input {shape}: {error}") from error
    sums = Sums.of(stage, layer, scale)
    falling = [_falling(stage, sums, i) for i, (_, module) in enumerate(stage.before) if isinstance(module, MAXIMA)]
    falling += [()] * (len(layer.pools) - len(falling))  # pooling behind the sign sees signs: none falls
    turned = [replace(pool, every=every) for pool, every in zip(layer.pools, falling, strict=True)]
    layer = replace(layer, pools=tuple(turned))
    norm = per_image_norm(stage, sums, layer.sums_shape)
    if norm is not None:
        return replace(layer, norm=norm)
    threshold, polarity = _search(stage, sums.shared() if sums.even else sums)
    return replace(layer, threshold=threshold, polarity=polarity)


def _padding(conv: BinaryConv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of zeros on both sides, and those further below and right; as `padding="same"` has them."""
    if conv.padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(conv.padding, str):
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return (total[0] // 2, total[1] // 2), (total[0] % 2, total[1] % 2)
    return pair(conv.padding), (0, 0)


def _search(stage: Stage, sums: Sums) -> tuple[NDArray[Any], NDArray[Any]]:
    """The integer threshold of every sum and the polarity of every unit, by bisection on the model's own norm."""

    def holds(s: NDArray[Any]) -> NDArray[Any]:
        plus: NDArray[Any] = decided(stage, sums.values(s)[None])[0]
        return plus

    least, greatest = (decided(stage, value[None])[0] for value in sums.extremes())
    inverted = least & ~greatest
    polarity = np.where(inverted, -1, 1)
    reached = _reached(holds, sums.low, sums.high, inverted)
    if isinstance(stage.sign, TorchSign):
        _check_no_zero(stage, sums, reached, polarity)
    return reached, polarity.reshape(-1).astype(np.int8)


def fires(sign: nn.Module | None) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Where a sign gives +1."""
    return (lambda x: x > 0) if isinstance(sign, StrictSign) else (lambda x: x >= 0)


def decided(stage: Stage, values: NDArray[Any]) -> NDArray[Any]:
    """Where units of signs give +1 for the values (n, units, ...) that the stage's layer gives, booleans."""
    if not isinstance(stage.sign, AbsStep):
        return fires(stage.sign)(through(stage.name, stage.norms, values))
    rows = np.concatenate(np.split(values, 2, axis=1))  # the norms know each unit once
    rising, falling = np.split(through(stage.name, stage.norms, rows), 2)
    return np.concatenate([rising > stage.sign.width, falling < -stage.sign.width], axis=1)


def _check_no_zero(stage: Stage, sums: Sums, reached: NDArray[Any], polarity: NDArray[Any]) -> None:
    """Raises `ConversionError` where `torch.sign` may meet a sum that its norm makes 0."""
    candidates = reached
    if sums.scale is None and sums.row.ndim == 1:  # sums of n signs have the parity of n; n varies at a border
        candidates = reached + (reached - sums.high) % 2
    s = polarity * candidates
    zero = _through(stage.name, stage.norms, sums.values(s)) == 0
    if (zero & (s >= sums.low) & (s <= sums.high)).any():
        raise NotAChain(
            f"torch.sign behind {stage.name} gives 0 for sums that its norm makes 0; use lava_meta.nn.Sign, or a "
            "comparison"
        )


def _reached(
    plus: Callable[[NDArray[Any]], NDArray[Any]], low: NDArray[Any], high: NDArray[Any], inverted: NDArray[Any]
) -> NDArray[Any]:
    """The least t = s, or where `inverted` t = -s, at which a monotone `plus(s)` holds, int64; s in low .. high."""
    polarity = np.where(inverted, -1, 1)
    # It holds from some t on: at `reached`, not at `below`, or outside the range.
    below = np.where(inverted, -high, low) - 1
    reached = np.where(inverted, -low, high) + 1
    while (inside := reached - below > 1).any():
        middle = (below + reached) // 2
        holds = plus(polarity * middle)
        reached = np.where(inside & holds, middle, reached)
        below = np.where(inside & ~holds, middle, below)
    return reached.astype(np.int64)


def _falling(stage: Stage, sums: Sums, place: int) -> tuple[int, ...]:
    """The channels that fall with what the pooling at `place` gives: by the norms behind it, or as falling edges."""
    steps, rest = isinstance(stage.sign, AbsStep), norms_of(stage.before[place:])
    falls = np.zeros(len(stage.weight) // (1 + steps), bool)
    if rest and not any(is_per_image(module) for _, module in stage.norms):  # what follows those keeps signs
        reaching = [value[: len(falls)] for value in sums.extremes()]
        ends = [_through(stage.name, norms_of(stage.before[:place]), value) for value in reaching]
        least, most = (_through(stage.name, rest, end(*ends)) for end in (np.minimum, np.maximum))
        falls = (most < least).reshape(-1)
    return tuple(np.flatnonzero(np.concatenate([falls, ~falls]) if steps else falls).tolist())


def _through(origin: str, norms: Sequence[tuple[str, nn.Module]], values: NDArray[Any]) -> NDArray[Any]:
    """The values (units, ...) that `origin` gives as the norms make them, in float64."""
    outputs: NDArray[Any] = through(origin, norms, values[None])[0]
    return outputs


@torch.no_grad()
def through(origin: str, modules: Sequence[tuple[str, nn.Module]], values: NDArray[Any]) -> NDArray[Any]:
    """The values (n, ...) that `origin` gives as the modules make them, in float64.

    Raises:
        ConversionError: naming a module that has no statistics, does not take them, or gives NaN.
    """
    x = torch.from_numpy(np.array(values, dtype=np.float64))
    for label, module in modules:
        check_statistics(label, module)
        try:
            x = module(x)
        except (RuntimeError, ValueError) as error:
            raise ConversionError(f"{label} does not take what {origin} gives: {error}") from error
        if torch.isnan(x).any():
            check_numbers(label, module)
            raise ConversionError(f"{label} gives NaN for what {origin} gives: its variance plus eps must be positive")
    return x.numpy()


def check_statistics(label: str, module: nn.Module) -> None:
    """Raises `ConversionError` for a batch norm that has no statistics, or norms by each batch."""
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        if module.running_mean is None or module.running_var is None:
            raise ConversionError(
                f"{label} has no running statistics: it would norm by each batch. Make it with "
                "track_running_stats=True and pass training images through it once in training mode"
            )
        if not module.num_batches_tracked and _is_as_made(module):
            raise ConversionError(
                f"{label} has no running statistics yet, only the means of 0 and variances of 1 that it was made with: "
                "pass training images through it once in training mode, or load trained ones"
            )
    if isinstance(module, TaskBatchNorm):
        if module.statistics == "batch":
            raise ConversionError(
                f"{label} norms by the statistics of each batch: call lava_meta.nn.use_statistics(model, 'stored'), or "
                "lava_meta.nn.recalibrate(model, images, task) for exact ones"
            )
        if not module.trained[module.task]:
            raise ConversionError(
                f"{label} has no statistics for task index {module.task}: train on it, or call "
                "lava_meta.nn.recalibrate(model, images, task)"
            )


def _is_as_made(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> bool:
    """Whether nothing was learned or loaded; a norm whose statistics were copied in has counted no batches either."""
    zeros, ones = (norm.running_mean, norm.bias), (norm.running_var, norm.weight)
    return not any(value is not None and value.any() for value in zeros) and all(
        value is None or bool((value == 1).all()) for value in ones
    )


def _readout(stage: Stage, first: InputScale | None) -> Readout:
    weight = stage.weight
    units = len(weight)
    scale, offset = np.ones(units), np.zeros(units)
    if first is not None:
        # gain * (K - constant): the common gain keeps the argmax, the constant does not.
        offset = -first.constant(Readout.from_weights(weight))
        if stage.behind_steps or any(not is_per_image(module) for _, module in stage.norms):
            scale, offset = float(first.gain) * scale, float(first.gain) * offset
    for label, module in stage.norms:
        check_statistics(label, module)
        if is_per_image(module):
            check_readout_norm(label, module)
            continue  # monotone within a sample: the argmax is the same
        if isinstance(module, FixedNorm):
            scale, offset = module.scale * scale, module.scale * offset
        elif isinstance(module, Affine):
            a, b = module.factor.numpy(), module.offset.numpy()
            scale, offset = a * scale, a * offset + b
        elif isinstance(module, (TaskBatchNorm, nn.BatchNorm1d)):
            a, b = _affine(module)
            with np.errstate(invalid="ignore"):  # what is not finite is refused below, by name
                scale, offset = a * scale, a * offset + b
        else:
            raise NotAChain(f"{label} stands behind the readout; classes would depend on where it clips")
        if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
            check_numbers(label, module)
            raise ConversionError(f"{label} gives values that are not finite: its variance plus eps must be positive")
    if not offset.any() and (scale == scale[0]).all() and scale[0] > 0:
        scale = np.ones(units)
    return Readout.from_weights(weight, scale, offset)


def _affine(norm: nn.Module) -> tuple[NDArray[Any], NDArray[Any]]:
    """Batch norm in eval mode as `scale * x + offset`, float64."""
    mean: torch.Tensor | None
    var: torch.Tensor | None
    if isinstance(norm, TaskBatchNorm):
        mean, var = norm.running_mean[norm.task], norm.running_var[norm.task]
        gain, shift = (None, None) if norm.affine == "none" else (norm.gain, norm.offset)
    else:
        assert isinstance(norm, nn.BatchNorm1d)
        mean, var, gain, shift = norm.running_mean, norm.running_var, norm.weight, norm.bias
    assert mean is not None  # a norm without statistics was refused
    assert var is not None
    with torch.no_grad():
        scale = 1 / torch.sqrt(var + norm.eps)
        scale = scale if gain is None else gain * scale
        offset = -mean * scale if shift is None else shift - mean * scale
    return scale.numpy(), offset.numpy()
