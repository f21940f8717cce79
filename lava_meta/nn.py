"""Binarized networks in PyTorch: hidden weights that train, signs that compute.

A binary layer keeps a real *hidden weight* `h` for every synapse, uses `w = sign(h)` in its products, and passes the
gradient of `w` straight through to `h` (Courbariaux et al. 2016). With an optimizer of `lava_meta.optim` the hidden
weight is also what consolidates the synapse. `sign(0) = +1` everywhere, so that a weight or an activation is one bit.

    pixels (0 .. max_level) -> Pixels -> BinaryLinear -> norm -> Sign -> ... -> BinaryLinear -> norm -> logits

Three norms are offered for `BinaryMLP`:

`fixed` (the default)
    a constant: `v / sqrt(fan_in)` in hidden layers, `v / (std * sqrt(fan_in))` in the first, whose pixels are centred
    by a constant integer. The logits are normed within each sample, in training only. No statistics, no label, no
    state: what is trained is what is deployed, in exact integers.
`batch`
    the paper's: batch norm with an affine and statistics a task (`TaskBatchNorm`).
`layer`
    each sample normed over its units, no affine (`SampleNorm`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.data import Images

Norm = Literal["fixed", "batch", "layer"]


class SignSTE(torch.autograd.Function):
    """`sign(x)` with `sign(0) = +1`, and a straight-through gradient inside a window.

    Forward: `y = +1 where x >= 0, else -1`. Backward: `dx = dy where |x| <= window, else 0`.

    Source: Courbariaux et al., Binarized Neural Networks, 2016 (arXiv 1602.02830).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: float) -> Tensor:
        ctx.window = window
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() <= ctx.window, grads[0], 0.0), None


class _BinaryWeight(torch.autograd.Function):
    """`sign(h)`; the gradient of the binary weight reaches the hidden weight unchanged, whatever its size."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return torch.where(hidden >= 0, 1.0, -1.0).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return grads[0]


def sign_ste(x: Tensor, window: float = 1.0) -> Tensor:
    """`sign(x)` with a straight-through gradient where `|x| <= window`; see `SignSTE`."""
    return SignSTE.apply(x, window)


class Sign(nn.Module):
    """The sign activation: +1 where `x >= 0`, else -1, with the gradient of `SignSTE`."""

    def __init__(self, window: float = 1.0) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        return sign_ste(x, self.window)

    def extra_repr(self) -> str:
        return f"window={self.window}"


class BinaryLinear(nn.Linear):
    """`y = sign(h) x`: a linear layer of binary weights, without bias.

    Shapes: x (..., in_features), h = `weight` (out_features, in_features), y (..., out_features). Hidden weights start
    uniform in (-init_width, init_width), and are never clipped.
    """

    def __init__(self, in_features: int, out_features: int, init_width: float = 0.05) -> None:
        self.init_width = init_width
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Draw the hidden weights anew, uniform in (-init_width, init_width)."""
        nn.init.uniform_(self.weight, -self.init_width, self.init_width)

    @property
    def binary_weight(self) -> Tensor:
        """`sign(h)`, +1 and -1, through which gradients reach `h` unchanged."""
        return _BinaryWeight.apply(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.binary_weight)


class BinaryConv2d(nn.Conv2d):
    """`y = sign(h) * x`: a two-dimensional convolution with binary weights, without bias; zero padding.

    Shapes: x (n, in_channels, height, width); h = `weight` (out_channels, in_channels / groups, *kernel_size). Hidden
    weights start uniform in (-init_width, init_width), and are never clipped.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        init_width: float = 0.05,
    ) -> None:
        self.init_width = init_width
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)

    def reset_parameters(self) -> None:
        """Draw the hidden weights anew, uniform in (-init_width, init_width)."""
        nn.init.uniform_(self.weight, -self.init_width, self.init_width)

    @property
    def binary_weight(self) -> Tensor:
        """`sign(h)`, +1 and -1, through which gradients reach `h` unchanged."""
        return _BinaryWeight.apply(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.binary_weight, None)


class Pixels(nn.Module):
    """Raw unsigned pixels `p` in 0 .. max_level become `gain * (p - offset)`; offset and gain are in pixel levels.

    A network that begins with it carries its own input convention. With an integer offset and a gain of 1 the products
    of the first layer are exact integers; `standardize` gives torchvision's `ToTensor` and `Normalize(mean, std)`.
    """

    offset: Tensor
    gain: Tensor

    def __init__(self, offset: float = 0.0, gain: float = 1.0, max_level: int = 255) -> None:
        super().__init__()
        if not (math.isfinite(offset) and math.isfinite(gain) and gain > 0):
            raise ValueError(f"offset ({offset}) must be finite and gain ({gain}) finite and positive")
        if max_level < 1:
            raise ValueError(f"max_level is {max_level}; the brightest pixel must be at least 1")
        self.max_level = max_level
        self.register_buffer("offset", torch.tensor(float(offset)))
        self.register_buffer("gain", torch.tensor(float(gain)))

    @classmethod
    def standardize(cls, mean: float, std: float, max_level: int = 255) -> Pixels:
        """`(p / max_level - mean) / std`, with mean and std as fractions of the full range (0 .. 1)."""
        if not std > 0:
            raise ValueError(f"std is {std}; it must be positive")
        return cls(offset=mean * max_level, gain=1 / (std * max_level), max_level=max_level)

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.to(self.offset.dtype) - self.offset
        return x if self.gain == 1 else x * self.gain

    def extra_repr(self) -> str:
        return f"offset={self.offset:g}, gain={self.gain:g}, max_level={self.max_level}"


class FixedNorm(nn.Module):
    """`y = scale * x`, a constant: no statistics, no affine, no state."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale is {scale}; it must be finite and positive")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


class SampleNorm(nn.Module):
    """Each sample normed over its own units: `y = (x - mean) / sqrt(var + eps)`, population variance, no affine.

    Layer norm without parameters (Ba et al. 2016); for dense layers also the paper's instance norm. The mean is a sum
    divided once, so that integer sums which equal their mean give exactly 0. With `training_only` it is the identity
    in eval mode: on logits the argmax is the same, and what is deployed stays an integer.
    """

    def __init__(self, eps: float = 1e-5, training_only: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.training_only = training_only

    def forward(self, x: Tensor) -> Tensor:
        if self.training_only and not self.training:
            return x
        centred = x - x.sum(dim=-1, keepdim=True) / x.shape[-1]
        return centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}, training_only={self.training_only}"


class TaskBatchNorm(nn.Module):
    """Batch norm with gains, offsets and statistics a task: `y = gain * (x - mean) / sqrt(var + eps) + offset`.

    Takes (n, features) or (n, features, height, width). Three choices that change results more than most do:

    affine
        `"task"`: every task keeps its own gain and offset; a new task goes on from those of the task before it (the
        paper's runs). `"shared"`: one pair for all tasks. `"none"`: gain 1, offset 0.
    statistics
        what eval mode uses. `"batch"`: those of the batch at hand (the paper; needs a large batch of one task).
        `"stored"`: running averages kept a task, as in `torch.nn.BatchNorm1d`. Training always uses the batch's.
    gain
        where gains start: `"ones"` (PyTorch since 1.2) or `"uniform"` in (0, 1) (before).

    Source: Ioffe and Szegedy 2015; a gain and an offset a task as in Laborieux et al. 2021.
    """

    running_mean: Tensor
    running_var: Tensor
    task_gain: Tensor
    task_offset: Tensor
    trained: Tensor
    task: Tensor

    def __init__(
        self,
        features: int,
        tasks: int = 1,
        affine: Literal["task", "shared", "none"] = "task",
        statistics: Literal["batch", "stored"] = "batch",
        gain: Literal["ones", "uniform"] = "ones",
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("affine", affine, ("task", "shared", "none")),
            ("statistics", statistics, ("batch", "stored")),
            ("gain", gain, ("ones", "uniform")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, allowed))}")
        if tasks < 1:
            raise ValueError(f"tasks is {tasks}; a norm serves at least one task")
        self.features, self.tasks = features, tasks
        self.affine, self.statistics = affine, statistics
        self.momentum, self.eps = momentum, eps
        if affine != "none":
            self.gain = nn.Parameter(torch.rand(features) if gain == "uniform" else torch.ones(features))
            self.offset = nn.Parameter(torch.zeros(features))
            self.register_buffer("task_gain", torch.ones(tasks, features))
            self.register_buffer("task_offset", torch.zeros(tasks, features))
        self.register_buffer("running_mean", torch.zeros(tasks, features))
        self.register_buffer("running_var", torch.ones(tasks, features))
        self.register_buffer("trained", torch.zeros(tasks, dtype=torch.bool))
        self.register_buffer("task", torch.tensor(0))

    @torch.no_grad()
    def select_task(self, task: int) -> None:
        """Use the affine and the statistics of `task`; one that was never trained goes on from the present affine."""
        if not 0 <= task < self.tasks:
            raise ValueError(f"task is {task}; this norm was made for tasks 0 to {self.tasks - 1}")
        before = int(self.task)
        if self.affine == "task" and task != before:
            if self.trained[before]:
                self.task_gain[before] = self.gain
                self.task_offset[before] = self.offset
            if self.trained[task]:
                self.gain.copy_(self.task_gain[task])
                self.offset.copy_(self.task_offset[task])
        self.task.fill_(task)

    def forward(self, x: Tensor) -> Tensor:
        task = int(self.task)
        over = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        if self.training or self.statistics == "batch":
            samples = x.numel() // self.features
            if samples < 2:
                raise ValueError(
                    "batch norm was given a single value a feature, which has no statistics: use a larger batch, or "
                    'statistics="stored" in eval mode'
                )
            mean, var = x.mean(dim=over), x.var(dim=over, unbiased=False)
            if self.training:
                self._store(task, mean.detach(), var.detach() * samples / (samples - 1))
        else:
            if not self.trained[task]:
                raise ValueError(
                    f"task {task} has no stored statistics: train on it, or call lava_meta.nn.recalibrate(model, images)"
                )
            mean, var = self.running_mean[task], self.running_var[task]
        scale = torch.rsqrt(var + self.eps)
        y = (x - mean.view(shape)) * scale.view(shape)
        return y if self.affine == "none" else y * self.gain.view(shape) + self.offset.view(shape)

    @torch.no_grad()
    def _store(self, task: int, mean: Tensor, var: Tensor) -> None:
        # The first batch of a task replaces the initial 0 and 1, later ones move the average.
        weight = self.momentum if self.trained[task] else 1.0
        self.running_mean[task] += weight * (mean - self.running_mean[task])
        self.running_var[task] += weight * (var - self.running_var[task])
        self.trained[task] = True

    def extra_repr(self) -> str:
        return f"{self.features}, tasks={self.tasks}, affine={self.affine!r}, statistics={self.statistics!r}"


def select_task(model: nn.Module, task: int) -> None:
    """Select `task` in every `TaskBatchNorm` of a model; nothing to do for other norms."""
    for module in model.modules():
        if isinstance(module, TaskBatchNorm):
            module.select_task(task)


def use_statistics(model: nn.Module, statistics: Literal["batch", "stored"]) -> None:
    """Choose what every `TaskBatchNorm` of a model uses in eval mode: the batch's statistics or the stored ones."""
    if statistics not in ("batch", "stored"):
        raise ValueError(f"statistics is {statistics!r}; choose 'batch' or 'stored'")
    for module in model.modules():
        if isinstance(module, TaskBatchNorm):
            module.statistics = statistics


@torch.no_grad()
def recalibrate(model: nn.Module, images: Tensor, task: int = 0) -> None:
    """Store, for `task`, the statistics that `images` have under the present weights, and use stored statistics.

    One exact pass over `images` (n, ...) as a single batch: mean and unbiased variance a feature, in place of averages
    that went stale while later tasks were learned.
    """
    norms = [module for module in model.modules() if isinstance(module, TaskBatchNorm)]
    was_training = model.training
    momenta = [norm.momentum for norm in norms]
    select_task(model, task)
    model.train()
    try:
        for norm in norms:
            norm.momentum = 1.0
        model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
    use_statistics(model, "stored")


class BinaryMLP(nn.Sequential):
    """A dense binarized network on raw pixels: sizes (pixels, hidden, ..., classes), binary weights everywhere.

    `pixel_mean` and `pixel_std` are in pixel levels and describe the images of the first task: see `BinaryMLP.for_images`,
    which measures them. The mean is rounded to a whole level, so that the first layer's sums are exact integers.
    `tasks`, `affine`, `statistics` and `gain` go to the batch norm (`TaskBatchNorm`) and to no other norm.

    Input: (n, ...) raw pixels of any numeric type. Output: logits (n, classes); with the fixed norm in eval mode they
    are the integer sums themselves.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        norm: Norm = "fixed",
        *,
        pixel_mean: float = 0.0,
        pixel_std: float = 80.0,
        max_level: int = 255,
        init_width: float = 0.05,
        seed: int | None = None,
        **batch_norm: Any,
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes is {tuple(sizes)}; give at least (pixels, classes), all positive")
        if norm not in ("fixed", "batch", "layer"):
            raise ValueError(f"norm is {norm!r}; choose 'fixed', 'batch' or 'layer'")
        if batch_norm and norm != "batch":
            raise TypeError(f"{', '.join(batch_norm)}: only norm='batch' takes these options")
        layers: list[nn.Module] = [nn.Flatten(), Pixels(offset=round(pixel_mean), max_level=max_level)]
        last = len(sizes) - 2
        with _seeded(seed):
            for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
                layers.append(BinaryLinear(fan_in, fan_out, init_width))
                if norm == "batch":
                    layers.append(TaskBatchNorm(fan_out, **batch_norm))
                elif norm == "layer":
                    layers.append(SampleNorm())
                elif i == last:
                    layers.append(SampleNorm(training_only=True))
                else:
                    layers.append(FixedNorm(1 / (math.sqrt(fan_in) * (pixel_std if i == 0 else 1.0))))
                if i < last:
                    layers.append(Sign())
        super().__init__(*layers)
        self.sizes = tuple(sizes)
        self.norm = norm

    @classmethod
    def for_images(cls, images: Images, hidden: Sequence[int], norm: Norm = "fixed", **options: Any) -> BinaryMLP:
        """A network for these images: their pixels, classes, mean, deviation and brightest level are measured."""
        return cls(
            (images.x[0].numel(), *hidden, images.classes),
            norm,
            pixel_mean=images.mean_level,
            pixel_std=images.std_level,
            max_level=images.max_level,
            **options,
        )

    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task` (batch norm; the other norms know no tasks)."""
        select_task(self, task)


class BinaryConvNet(nn.Sequential):
    """A small binarized convolutional network on raw pixels (n, channels, height, width).

    `channels` blocks of a 3x3 `BinaryConv2d` (padding 1), a fixed scale, a 2x2 max pooling of the sums and a sign,
    then one binary readout. Max pooling before the sign equals a logical OR after it, and stays exact in integers.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: Sequence[int],
        classes: int,
        *,
        pixel_mean: float = 0.0,
        pixel_std: float = 80.0,
        max_level: int = 255,
        init_width: float = 0.05,
        seed: int | None = None,
    ) -> None:
        depth, height, width = image_shape
        if not channels or min(*channels, depth, classes) < 1:
            raise ValueError(f"channels is {tuple(channels)}; give at least one positive number")
        if min(height, width) >> len(channels) < 1:
            raise ValueError(f"{len(channels)} poolings leave nothing of images of {height}x{width}")
        layers: list[nn.Module] = [Pixels(offset=round(pixel_mean), max_level=max_level)]
        with _seeded(seed):
            for i, (fan_in, fan_out) in enumerate(pairwise((depth, *channels))):
                scale = 1 / (math.sqrt(9 * fan_in) * (pixel_std if i == 0 else 1.0))
                conv = BinaryConv2d(fan_in, fan_out, 3, padding=1, init_width=init_width)
                layers += [conv, FixedNorm(scale), nn.MaxPool2d(2), Sign()]
                height, width = height // 2, width // 2
            layers += [
                nn.Flatten(),
                BinaryLinear(channels[-1] * height * width, classes, init_width),
                SampleNorm(training_only=True),
            ]
        super().__init__(*layers)


class _seeded:
    """Draw from torch's generator seeded with `seed` inside the block, and put its state back after it."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        if self.seed is not None:
            self.state = torch.get_rng_state()
            torch.manual_seed(self.seed)

    def __exit__(self, *exc: object) -> None:
        if self.seed is not None:
            torch.set_rng_state(self.state)
