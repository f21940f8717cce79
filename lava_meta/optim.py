"""The metaplastic rule as torch optimizers.

An ordinary optimizer proposes a step u for every hidden weight; the metaplastic one takes it as `lava_meta.rule` says:

    h <- h - u * f(h)   where the step shrinks |h|: sign(h) * u > 0
         h - u          elsewhere

f is Tanh2(m), or any other consolidation function. u contains the momentum, so the gate looks at the momentum too and
not at the last gradient alone. Parameters of fewer than two dimensions (biases, the gains of norms) have no binary
weight: their steps are never gated. Weight decay is coupled: added to the gradient.

`m` and `consolidation` are options of a parameter group, so that each layer can have its own; `parameter_groups` makes
such groups. A new task can go on with the moments of the last one, or start again: `optimizer.state.clear()`.

Speed: at 4096 x 4096 a step costs what it moves through memory, and a plain sequence of torch calls moves every
temporary through it. Here a tensor is walked in blocks that stay in the cache, so that only the weights, gradients and
moments themselves come and go. Results do not depend on the blocks. With `fused=True` float32 parameters take one
compiled pass instead, several times faster still, whose steps differ by roundings: `lava_meta.kernels.update` on the
CPU, `update_gpu` on a GPU.

Source: Laborieux et al., Nature Communications 12:2549 (2021); Kingma and Ba, "Adam" (2015).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lava_meta.kernels import update
from lava_meta.kernels.gpu import gpu_pass
from lava_meta.rule import CONSOLIDATIONS, Consolidation, Constant, Tanh2, consolidation_from_dict, sign

BLOCK = 65536
"""Elements that a thread works on at a time: 256 KiB of float32 for each tensor in play."""


class _Metaplastic(torch.optim.Optimizer):
    """What the metaplastic optimizers share: group options, the gate, and the walk over the parameters."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group. It may set any option; `m` or `consolidation`, whichever it sets, replaces both defaults."""
        group = dict(param_group)
        if group.get("consolidation") is not None:
            group.setdefault("m", 0.0)
        elif "m" in group:
            group["consolidation"] = None
        _check_options({**self.defaults, **group})
        super().add_param_group(group)

    fused: bool
    capturable: bool = True  # nothing of a step is kept on the host

    @property
    def can_be_captured(self) -> bool:
        """Whether every step after the first is the same work on the parameters' device, as a CUDA graph needs it.

        Not so where steps are counted on the host, nor with a gate of the user's own, which may do anything.
        """
        gates = [_consolidation_of(group) for group in self.param_groups]
        return self.capturable and all(type(gate) in CONSOLIDATIONS.values() for gate in gates)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step on every parameter that has a gradient; returns the closure's loss, or None without one.

        Raises TypeError for a sparse or complex gradient; no parameter has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                _check_gradient(parameter, f"{type(self).__name__}, group {index}")
        self._step_all({}, {})
        return loss

    @torch.no_grad()
    def step_with(self, gradients: Mapping[Tensor, Tensor], signs: Mapping[Tensor, Tensor]) -> bool:
        """Take one step with gradients that come apart from their parameters, and write binary weights in passing.

        Returns False where a compiled pass met a weight that is not finite; the clear form does not look.

        gradients: by parameter, of its shape, float32 or bfloat16; a parameter without one here has it in `grad`.
        signs: by parameter, int8 of its shape; they get sign(h), +1 and -1, after the step.
        """
        return self._step_all(gradients, signs)

    def _step_all(self, gradients: Mapping[Tensor, Tensor], signs: Mapping[Tensor, Tensor]) -> bool:
        finite = True
        for group in self.param_groups:
            f = _consolidation_of(group)
            for parameter in group["params"]:
                gradient = gradients.get(parameter, parameter.grad)
                if gradient is not None:
                    own = f if parameter.dim() >= 2 else Constant()
                    finite &= self._update(parameter, gradient, group, own, signs.get(parameter))
        return finite

    def _update(
        self, hidden: Tensor, gradient: Tensor, group: dict[str, Any], f: Consolidation, signs: Tensor | None
    ) -> bool:
        """One step of one parameter, in place; False where it is known not to be finite any more."""
        raise NotImplementedError

    def _gate(self, f: Consolidation, *tensors: Tensor) -> update.Gate | None:
        """`f` for the pass compiled for the CPU; None where that is not to do it."""
        return update.gate_of(f) if self.fused and update.can_pass(*tensors) else None

    def _gpu_pass(self, *tensors: Tensor) -> Any:
        """The pass compiled for a GPU; None where that is not to do it."""
        return gpu_pass(*tensors) if self.fused else None

    def state_dict(self) -> dict[str, Any]:
        """As every torch optimizer's, of tensors and plain values only: a consolidation function as its dict."""
        state = super().state_dict()
        for group in state["param_groups"]:
            if group["consolidation"] is not None:
                group["consolidation"] = group["consolidation"].to_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next steps are bitwise the same. Raises ValueError for options out
        of range or groups that are not those of this optimizer."""
        groups = [dict(group) for group in state_dict["param_groups"]]
        for group in groups:
            if group["consolidation"] is not None:
                group["consolidation"] = consolidation_from_dict(group["consolidation"])
            _check_options(group)
        super().load_state_dict({**state_dict, "param_groups": groups})


class MetaplasticAdam(_Metaplastic):
    """Adam, with its shrinking steps scaled by a consolidation function.

        g      = gradient + weight_decay * h
        mean   = betas[0] * mean + (1 - betas[0]) * g           m_hat = mean / (1 - betas[0]**t)
        square = betas[1] * square + (1 - betas[1]) * g**2      v_hat = square / (1 - betas[1]**t)
        u      = lr * m_hat / (sqrt(v_hat) + eps)
        h     <- h - u * (f(h) where sign(h) * u > 0, else 1)

    params: parameters, named parameters, or groups with options of their own. lr: >= 0; the paper's is 0.005.
    m: metaplasticity >= 0, 0 for plain; f = Tanh2(m). consolidation: any other f, in the place of m.
    betas: in [0, 1). eps: > 0. weight_decay: >= 0. fused: one compiled pass where there is one, within roundings.
    capturable: steps are counted on the parameter's device and nothing waits for it, so that a step can be captured
    in a CUDA graph (after one that was not, which makes the state). A replay has the options of the capture.

    With m = 0, and not fused, every weight is bitwise that of `torch.optim.Adam`: the order of operations is the same.
    The state of a parameter is `step` (int64), `exp_avg` and `exp_avg_sq`, all tensors; a state saved with one
    setting of `fused` and `capturable` goes on with any other.

    Raises ValueError or TypeError naming the option that is wrong; ValueError where both m and consolidation are given.
    Source: Laborieux et al. 2021, Kingma and Ba 2015.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.005,
        m: float = 0.0,
        *,
        consolidation: Consolidation | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool = False,
        capturable: bool = False,
    ) -> None:
        self.fused = _checked_switch("fused", fused)
        self.capturable = _checked_switch("capturable", capturable)
        options = {
            "lr": lr,
            "m": m,
            "consolidation": consolidation,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        _check_options(options)
        super().__init__(params, options)

    def _update(
        self, hidden: Tensor, gradient: Tensor, group: dict[str, Any], f: Consolidation, signs: Tensor | None
    ) -> bool:
        state, there = self.state[hidden], self._counts_there(hidden)
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64, device=hidden.device if there else "cpu")
            state["exp_avg"] = torch.zeros_like(hidden, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(hidden, memory_format=torch.preserve_format)
        state["step"] += 1
        t = state["step"].double() if there else state["step"].item()  # the same formulas, in float64
        beta1, beta2 = group["betas"]
        corrections = 1 - beta1**t, 1 - beta2**t
        moments = state["exp_avg"], state["exp_avg_sq"]
        if gpu := self._gpu_pass(hidden, gradient, *moments):
            gpu.adam(
                hidden,
                gradient,
                *moments,
                f,
                corrections,
                decay=group["weight_decay"],
                betas=group["betas"],
                lr=group["lr"],
                eps=group["eps"],
                signs=signs,
            )
            return True
        step_size = group["lr"] / corrections[0]
        root_correction = corrections[1] ** 0.5
        if gate := self._gate(f, hidden, gradient, *moments):
            return update.adam(
                hidden,
                gradient,
                *moments,
                gate,
                decay=group["weight_decay"],
                betas=group["betas"],
                step_size=float(step_size),
                root_correction=float(root_correction),
                eps=group["eps"],
                signs=signs,
            )
        for h, g, mean, square in _blocks(hidden, gradient.to(hidden.dtype), *moments):
            if group["weight_decay"] != 0:
                g = g.add(h, alpha=group["weight_decay"])
            mean.lerp_(g, 1 - beta1)
            square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            u = (mean * step_size).div_(square.sqrt().div_(root_correction).add_(group["eps"]))
            _take(h, u, f)
        if signs is not None:
            signs.copy_(sign(hidden))
        return True

    def _counts_there(self, hidden: Tensor) -> bool:
        """Whether a parameter's steps are counted on its device, and not on the host."""
        return self.capturable or (self.fused and hidden.is_cuda)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for hidden, state in self.state.items():
            state["step"] = state["step"].to(hidden.device if self._counts_there(hidden) else "cpu")


class MetaplasticSGD(_Metaplastic):
    """Stochastic gradient descent with momentum, its shrinking steps scaled by a consolidation function.

        g      = gradient + weight_decay * h
        b      = momentum * b + (1 - dampening) * g             (b = g in the first step; b = g without momentum)
        u      = lr * b
        h     <- h - u * (f(h) where sign(h) * u > 0, else 1)

    params: parameters, named parameters, or groups with options of their own. lr: >= 0.
    m: metaplasticity >= 0, 0 for plain; f = Tanh2(m). consolidation: any other f, in the place of m.
    momentum, dampening: in [0, 1). weight_decay: >= 0. fused: one compiled pass where there is one, within roundings.

    With m = 0 a step differs from that of `torch.optim.SGD` by the rounding of u alone, which torch folds into one
    multiply-and-add. The state of a parameter is `momentum_buffer`, or nothing without momentum. Nothing is counted, so
    any step but the first can be captured in a CUDA graph.

    Raises ValueError or TypeError naming the option that is wrong; ValueError where both m and consolidation are given.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        m: float = 0.0,
        *,
        consolidation: Consolidation | None = None,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        fused: bool = False,
    ) -> None:
        self.fused = _checked_switch("fused", fused)
        options = {
            "lr": lr,
            "m": m,
            "consolidation": consolidation,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
        }
        _check_options(options)
        super().__init__(params, options)

    def _update(
        self, hidden: Tensor, gradient: Tensor, group: dict[str, Any], f: Consolidation, signs: Tensor | None
    ) -> bool:
        momentum, decay = group["momentum"], group["weight_decay"]
        state = self.state[hidden] if momentum != 0 else {}
        first = "momentum_buffer" not in state
        if momentum != 0 and first:
            state["momentum_buffer"] = torch.zeros_like(hidden, memory_format=torch.preserve_format)
        moving = state.get("momentum_buffer")
        tensors = hidden, gradient, *(() if moving is None else (moving,))
        numbers = {
            "decay": decay,
            "momentum": 0.0 if first else momentum,
            "keep": 1.0 if first else 1 - group["dampening"],
            "lr": group["lr"],
        }
        if gpu := self._gpu_pass(*tensors):
            gpu.sgd(hidden, gradient, moving, f, **numbers, signs=signs)
            return True
        if gate := self._gate(f, *tensors):
            return update.sgd(hidden, gradient, moving, gate, **numbers, signs=signs)
        gradient = gradient.to(hidden.dtype)
        # Without momentum there is no buffer, and the gradient only fills its place.
        for h, g, buffer in _blocks(hidden, gradient, gradient if moving is None else moving):
            if decay != 0:
                g = g.add(h, alpha=decay)
            if momentum != 0:
                g = buffer.copy_(g) if first else buffer.mul_(momentum).add_(g, alpha=1 - group["dampening"])
            _take(h, g * group["lr"], f)
        if signs is not None:
            signs.copy_(sign(hidden))
        return True


def parameter_groups(model: nn.Module, m: float | Sequence[float]) -> list[dict[str, Any]]:
    """Groups for an optimizer with one metaplasticity a layer: `MetaplasticAdam(parameter_groups(net, [2.0, 4.0]))`.

    A layer here is a trainable parameter of two or more dimensions, in the model's order. m: one value for all of
    them, or a sequence with one value each. Returns one group a layer with its m, then, if there are any, one group of
    the trainable parameters that have no binary weight, with m = 0.

    Raises ValueError where the numbers of values and layers differ.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    layers = [parameter for parameter in trainable if parameter.dim() >= 2]
    others = [parameter for parameter in trainable if parameter.dim() < 2]
    values = [m] * len(layers) if isinstance(m, numbers.Real) else list(m)  # type: ignore[arg-type]
    if len(values) != len(layers):
        raise ValueError(f"m has {len(values)} values for {len(layers)} layers: give one value, or one a layer")
    groups: list[dict[str, Any]] = [{"params": [p], "m": value} for p, value in zip(layers, values, strict=True)]
    return [*groups, {"params": others, "m": 0.0}] if others else groups


def _take(hidden: Tensor, step: Tensor, f: Consolidation) -> None:
    """`metaplastic_update` in place, bit for bit; `step` is used up.

    The gate is chosen by a maximum, because f <= 1 and a selection by a mask is ten times slower: it is f where
    `grows` is 0, and 1 where it is 1. What torch takes the sign of 0 to be does not matter here, since f(0) = 1.
    """
    if not f.is_plain:
        grows = torch.sign(hidden).mul_(step)
        torch.le(grows, 0, out=grows)
        step.mul_(torch.maximum(f(hidden), grows))
    hidden.sub_(step)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching flat views of tensors of one shape, each small enough for the cache. One view of everything where there
    is no such cache (a GPU) or the elements do not lie in one row."""
    if all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors):
        size = BLOCK * torch.get_num_threads()
        yield from zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True)
    else:
        yield tensors


def _consolidation_of(group: dict[str, Any]) -> Consolidation:
    return group["consolidation"] or Tanh2(group["m"])


def _check_gradient(parameter: Tensor, where: str) -> None:
    gradient = parameter.grad
    if gradient is None:
        return
    kind = "complex" if gradient.is_complex() else "sparse" if gradient.layout != torch.strided else None
    if kind:
        raise TypeError(
            f"{where}: the parameter of shape {tuple(parameter.shape)} has a {kind} gradient; "
            "metaplastic steps need dense, real ones"
        )


def _check_options(options: dict[str, Any]) -> None:
    """Raise the error that names the first option that is out of its range."""
    f, m = options["consolidation"], options["m"]
    if f is not None and not isinstance(f, Consolidation):
        raise TypeError(f"consolidation must be a Consolidation such as Linear(2.0), not {f!r}")
    Tanh2(m)  # says what m may be
    if f is not None and m != 0:
        raise ValueError(f"give m or consolidation, not both: m={m} already means Tanh2({m})")
    for name in ("lr", "weight_decay", "eps"):
        if name in options:
            _check_range(name, options[name])
    for name in ("momentum", "dampening"):
        if name in options:
            _check_range(name, options[name], below=1)
    if "betas" in options:
        if not isinstance(options["betas"], tuple | list) or len(options["betas"]) != 2:
            raise ValueError(f"betas must be two numbers, not {options['betas']!r}")
        for index, beta in enumerate(options["betas"]):
            _check_range(f"betas[{index}]", beta, below=1)
    if options.get("eps") == 0:
        raise ValueError("eps must be above 0: a weight that has had no gradient yet would get 0/0")


def _checked_switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
    return value


def _check_range(name: str, value: Any, below: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 <= float(value) < below:
        end = "finite" if below == math.inf else f"below {below}"
        raise ValueError(f"{name} must be at least 0 and {end}, not {value}")
