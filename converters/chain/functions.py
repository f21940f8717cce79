"""The functions and tensor methods that a traced forward may call, as modules that compute the same."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.converters.refusals import NotAChain
from lava_meta.converters.registry import Affine
from lava_meta.nn import Sign, sign_ste


class StrictSign(nn.Module):
    """+1 where `x > 0`, else -1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, -1.0).to(x.dtype)


class TorchSign(nn.Module):
    """`torch.sign`, which gives 0 for 0: a sign only where no sum is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(x)


class Cast(nn.Module):
    """Another type of float; None for that of `x` itself. Signs stay as they are, sums too but for their rounding."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x if self.dtype is None else x.to(self.dtype)


class Bits(nn.Module):
    """A comparison with 0 and what is made of its 0 and 1: `scale * bit + offset`; a sign once that is -1 and +1."""

    def __init__(self, strict: bool, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.strict, self.scale, self.offset = strict, scale, offset

    def then(self, scale: float, offset: float) -> nn.Module:
        """With another factor and addend behind it."""
        made = Bits(self.strict, self.scale * scale, self.offset * scale + offset)
        if (made.scale, made.offset) == (2.0, -1.0):
            return StrictSign() if self.strict else Sign()
        return made


class Quotient(Affine):
    """`y = x / divisor`."""

    @property
    def factor(self) -> Tensor:
        return 1 / self.scale

    def forward(self, x: Tensor) -> Tensor:
        return x / self.scale.reshape(-1, *(1 for _ in x.shape[2:])).to(x.dtype)


class FunctionalBatchNorm(nn.BatchNorm1d):
    """`functional.batch_norm` with fixed statistics, on vectors and on images."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    if training:
        raise NotAChain("drops inputs in eval mode too: call it with training=self.training")
    return nn.Identity()


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> nn.Module:
    return _clamp(min_val, max_val)


def _clamp(min: float, max: float) -> nn.Module:
    if not all(isinstance(end, (int, float)) for end in (min, max)) or min >= max:
        raise TypeError("nn.Hardtanh takes a range of two numbers")
    return nn.Hardtanh(min, max)


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return _with(layer, weight=weight, bias=bias)


def _conv2d(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> nn.Module:
    units, inputs, *kernel = weight.shape
    layer = nn.Conv2d(
        inputs * groups, units, (kernel[0], kernel[1]), stride, padding, dilation, groups, bias is not None
    )
    return _with(layer, weight=weight, bias=bias)


def _batch_norm(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> nn.Module:
    if training or running_mean is None or running_var is None:
        raise NotAChain("norms by the statistics of each batch: call it with training=self.training")
    if (weight is None) != (bias is None):
        raise NotAChain("has a weight or a bias alone; give both or none")
    norm = FunctionalBatchNorm(len(running_mean), eps, affine=weight is not None)
    norm.num_batches_tracked = torch.ones((), dtype=torch.int64)
    return _with(norm, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)


def _layer_norm(
    normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> nn.Module:
    norm = nn.LayerNorm(tuple(normalized_shape), eps, elementwise_affine=weight is not None, bias=bias is not None)
    return _with(norm, weight=weight, bias=bias)


def _group_norm(
    num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> nn.Module:
    if weight is None or bias is None:
        raise NotAChain("has no weight or no bias; use nn.GroupNorm")
    return _with(nn.GroupNorm(num_groups, len(weight), eps), weight=weight, bias=bias)


def _with(module: nn.Module, **values: Tensor | None) -> nn.Module:
    """The module in eval mode with these parameters and buffers."""
    for name, value in values.items():
        if value is not None:
            getattr(module, name).data = value.detach().clone()
    return module.eval()


def _relu(inplace: bool = False) -> nn.Module:
    return nn.ReLU()  # refused, with advice


def _scale(factor: Any) -> nn.Module:
    return _as_written(operator.mul, factor, Affine(_flat(factor)))


def _shift(addend: Any) -> nn.Module:
    return _as_written(operator.add, addend, Affine(torch.ones_like(_flat(addend)), _flat(addend)))


def _divide(divisor: Any) -> nn.Module:
    return _as_written(operator.truediv, divisor, Quotient(_flat(divisor)))


def _as_written(operation: Callable[[Any, Any], Tensor], value: Any, module: Affine) -> Affine:
    """The module, computing with a Python number as the forward does; the same number as a half tensor rounds first."""
    if not isinstance(value, Tensor):
        module.forward = lambda x: operation(x, value)  # type: ignore[method-assign]
    return module


def _flat(value: Any) -> Tensor:
    """A number, or one for each unit or channel, as a vector."""
    tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    wide = [extent for extent in tensor.shape if extent != 1]
    # Channels are the second dimension of a value: of (units,), (1, units), (channels, 1, 1), (1, channels, 1, 1).
    units = tensor.ndim in (1, 2) and tensor.shape[-1:] == tensor.shape[tensor.ndim - 1 :]
    at_channels = (
        tensor.ndim in (3, 4) and tensor.shape[-2:] == (1, 1) and tensor.shape[: tensor.ndim - 3] in ((), (1,))
    )
    if wide and not (len(wide) == 1 and (at_channels or (units and tensor.shape[-1] == wide[0]))):
        raise NotAChain(f"takes numbers of shape {tuple(tensor.shape)}; one for each unit or channel is supported")
    return tensor.reshape(-1)


def _compare(strict: bool) -> Callable[..., nn.Module]:
    def make(threshold: Any) -> nn.Module:
        if isinstance(threshold, Tensor) or threshold != 0:
            raise NotAChain("compares with another number than 0; add an offset before")
        return Bits(strict)

    return make


def _compare_below(strict: bool) -> Callable[..., nn.Module]:
    """`x < 0` is 1 minus `x >= 0`, `x <= 0` 1 minus `x > 0`."""

    def make(threshold: Any) -> nn.Module:
        _compare(strict)(threshold)
        return Bits(strict, -1.0, 1.0)

    return make


def _to(*arguments: Any, **options: Any) -> nn.Module:
    """`x.to(...)`: a type, a tensor of that type, or a value of the forward (`x.dtype`), which has the type of x."""
    given = [*arguments, *options.values()]
    types = [value.dtype if isinstance(value, Tensor) else value for value in given]
    return Cast(next((value for value in types if isinstance(value, torch.dtype)), None))


def _same(*arguments: Any, **options: Any) -> nn.Module:
    return Cast()


def _softmax(dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> nn.Module:
    return nn.Softmax(dim)


def _log_softmax(dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> nn.Module:
    return nn.LogSoftmax(dim)


# What a function's further arguments make of it; the arguments have the function's own names and order.
FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    functional.max_pool2d: _max_pool,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    functional.hardtanh: _hardtanh,
    functional.dropout: _dropout,
    functional.dropout1d: _dropout,
    functional.dropout2d: _dropout,
    functional.dropout3d: _dropout,
    functional.softmax: _softmax,
    functional.log_softmax: _log_softmax,
    torch.softmax: _softmax,
    torch.log_softmax: _log_softmax,
    functional.linear: _linear,
    functional.conv2d: _conv2d,
    functional.batch_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
    functional.group_norm: _group_norm,
    torch.flatten: _flatten,
    torch.clamp: _clamp,
    torch.sign: TorchSign,
    sign_ste: Sign,
}
METHODS: dict[str, Callable[..., nn.Module]] = {
    "flatten": _flatten,
    "clamp": _clamp,
    "sign": TorchSign,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "float": lambda: Cast(torch.float32),
    "double": lambda: Cast(torch.float64),
    "half": lambda: Cast(torch.float16),
    "bfloat16": lambda: Cast(torch.bfloat16),
    "to": _to,
    "type_as": _to,
    "contiguous": _same,
    "clone": _same,
    "detach": _same,
}
# Operators, by the names of Python's functions and of tensors' methods; the value may stand on either side of * and +.
OPERATORS: dict[str, Callable[..., nn.Module]] = {
    "mul": _scale,
    "add": _shift,
    "sub": lambda number: _shift(-number),
    "truediv": _divide,
    "div": _divide,
    "neg": lambda: _scale(-1.0),
    "ge": _compare(strict=False),
    "gt": _compare(strict=True),
    "lt": _compare_below(strict=False),
    "le": _compare_below(strict=True),
}
REFUSED_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {functional.relu: _relu, torch.relu: _relu}
FUNCTION_NAMES = ", ".join(sorted({function.__name__ for function in FUNCTIONS}))
COMMUTATIVE = {"mul", "add"}


def operator_of(target: Any) -> str | None:
    """The name in `OPERATORS` of a called function or method, if it is one of them."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    python = not isinstance(target, str) and getattr(operator, name, None) is target
    of_torch = not isinstance(target, str) and getattr(torch, name, None) is target
    return name if name in OPERATORS and (isinstance(target, str) or python or of_torch) else None
