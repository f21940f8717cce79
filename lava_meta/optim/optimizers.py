"""The metaplastic rule as torch optimizers.

An ordinary optimizer proposes a step u for every hidden weight; the metaplastic one takes it as `lava_meta.rule` says:

    h <- h - u * f(h)   where the step shrinks |h|: sign(h) * u > 0
         h - u * g(h)   elsewhere

f is Tanh2(m), or any other consolidation function; g is 1, or another one, `grow`. u contains the momentum, so the gate
looks at the momentum too and not at the last gradient alone. Weight decay is coupled: added to the gradient.

Only hidden weights are gated: those that a `lava_meta.nn.BinaryLayer` uses or `mark_binary` has marked. Any other
weight is gated only if its own parameter group gives a gate; parameters of fewer than two dimensions
(biases, the gains of norms) never are. An optimizer that is asked for a gate and meets other weights warns once.

`m`, `consolidation` and `grow` are options of a parameter group, so that each layer can have its own;
`parameter_groups` makes such groups. A new task can go on with the moments of the last one, or start again:
`optimizer.state.clear()`.

A step is computed in one of several forms (`lava_meta.optim.form`): in torch's operations (`clear`), or with
`fused=True` in one compiled pass over float32 parameters, several times faster, whose steps differ by roundings
(`fused_cpu` on the CPU, `fused_gpu` on a GPU).

Source: Laborieux et al., Nature Communications 12:2549 (2021); Kingma and Ba, "Adam" (2015); for one scale per layer,
Zhao et al., "Deconstructing what makes a good optimizer for autoregressive language models" (2025), there Adalayer; for
the largest scale so far, Reddi, Kale and Kumar, "On the convergence of Adam and beyond" (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lava_meta.nn.binary import is_binary, mark_binary
from lava_meta.optim import fused_cpu
from lava_meta.optim.clear import Clear
from lava_meta.optim.form import AdamNumbers, Form, SgdNumbers, Weight
from lava_meta.optim.gpu import OnGpu
from lava_meta.optim.groups import warn_of_free
from lava_meta.optim.options import FORM, GATES, checked_options, consolidation_of, grow_of, loaded_options
from lava_meta.optim.relative import relative_tanh2
from lava_meta.rule import BUILT_IN, Consolidation, Constant


class _Metaplastic(torch.optim.Optimizer):
    """What the metaplastic optimizers share: group options, the gate, and the walk over the parameters."""

    clear_form: ClassVar[Form] = Clear()
    fused_forms: ClassVar[tuple[Form, ...]] = (OnGpu(), fused_cpu)  # tried in this order by groups with fused=True
    options: ClassVar[tuple[str, ...]]  # those that torch's optimizer of this kind has too
    kept: ClassVar[tuple[str, ...]]  # the names of a parameter's state
    scalars: ClassVar[tuple[str, ...]] = ("step",)  # those that are one number
    _told = False  # of weights that are not gated

    def __init__(self, params: Iterable[Any], options: dict[str, Any]) -> None:
        super().__init__(params, checked_options({**options, "gated": "binary"}))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with any options of its own.

        Args:
            param_group: `params`, and options. `m` or `consolidation`, whichever it has, replaces the defaults of both
                and of `grow`. Any of the three gates every weight of the group. `gated` chooses otherwise: "binary" for
                hidden weights alone, "all" for every parameter of two or more dimensions.
        """
        group = dict(param_group)
        if group.get("consolidation") is not None or "m" in group:
            group = {"m": 0.0, "consolidation": None, "grow": None, "gated": "all", **group}
        elif group.get("grow") is not None:
            group.setdefault("gated", "all")
        super().add_param_group(checked_options({**self.defaults, **group}))

    @property
    def can_be_captured(self) -> bool:
        """Whether every step after the first is the same work on the parameters' device, as a CUDA graph needs it.

        Not so if steps are counted on the host, if gates follow the weights, nor with a gate of the user's own, which
        may do anything.
        """
        return all(
            not group["relative"]
            and {type(consolidation_of(group)), type(grow_of(group))} <= {*BUILT_IN}
            and all(self._counts_there(p, group) for p in group["params"])
            for group in self.param_groups
        )

    def _counts_there(self, hidden: Tensor, group: dict[str, Any]) -> bool:
        """Whether nothing of a parameter's steps is counted on the host."""
        return True

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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

        Returns False if a compiled pass met a weight that is not finite; torch's operations do not look.

        gradients: by parameter, of its shape, float32 or bfloat16; a parameter without one here has it in `grad`.
        signs: by parameter, int8 of its shape; they get sign(h), +1 and -1, after the step.
        """
        return self._step_all(gradients, signs)

    def _step_all(self, gradients: Mapping[Tensor, Tensor], signs: Mapping[Tensor, Tensor]) -> bool:
        finite = True
        free: list[str] = []  # weights that a gate was asked for, but not by their name
        for group in self.param_groups:
            f, grow = consolidation_of(group), grow_of(group)
            forms = (*self.fused_forms, self.clear_form) if group["fused"] else (self.clear_form,)
            for index, parameter in enumerate(group["params"]):
                gradient = gradients.get(parameter, parameter.grad)
                if gradient is None:
                    continue
                weight = parameter.dim() >= 2
                gated = weight and (group["gated"] == "all" or is_binary(parameter))
                if weight and not gated and not (f.is_plain and grow.is_plain):
                    free.append(_name_of(group, index))
                gates = (f, grow) if gated else (Constant(), Constant())
                if gated and group["relative"] and not f.is_plain:
                    gates = (relative_tanh2(group["m"], parameter), grow)
                task = Weight(parameter, gradient, gates[0], signs.get(parameter), gates[1])
                finite &= self._update(task, group, forms)
        if free and not self._told:
            self._told = True
            warn_of_free(free)
        return finite

    def _update(self, weight: Weight, group: dict[str, Any], forms: Sequence[Form]) -> bool:
        """One step of a parameter, in the first form that takes it; False if it is known not to be finite any more."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """As every torch optimizer's, of tensors and plain values only: a consolidation function as its dict.

        Raises TypeError or ValueError for a consolidation function that no file can hold.
        """
        state = super().state_dict()
        for group in state["param_groups"]:
            for name in GATES:
                if group[name] is not None:
                    group[name] = group[name].to_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next steps are bitwise the same.

        The state may also be that of torch's own optimizer of this kind, or of an older version: options that it does
        not have stay as they are in this optimizer, as do `fused` and `capturable`.

        Args:
            state_dict: what `state_dict` gave. It is not changed.

        Raises:
            ValueError: for options out of range or that this optimizer does not have (`amsgrad`, for one), groups of
                other sizes, or the state of another kind of optimizer. Nothing has changed then.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError("this is no optimizer's state: it lacks state and param_groups, which state_dict() gives")
        saved = state_dict["param_groups"]
        sizes, own_sizes = ([len(group["params"]) for group in groups] for groups in (saved, self.param_groups))
        if sizes != own_sizes:
            raise ValueError(
                f"the state has groups of {_listed(sizes)} parameters and this optimizer of {_listed(own_sizes)}: make "
                "it with the groups that the state was saved with"
            )
        for number, group in enumerate(saved):
            if missing := [name for name in self.options if name not in group]:
                raise ValueError(self._not_ours(f"group {number}", missing, group))
        groups = [loaded_options(own, group) for own, group in zip(self.param_groups, saved, strict=True)]
        own_forms = [{name: own[name] for name in FORM if name in own} for own in self.param_groups]
        super().load_state_dict({"state": self._loaded_states(state_dict), "param_groups": groups})
        for group, form in zip(self.param_groups, own_forms, strict=True):
            group.update(form)

    def _loaded_states(self, state_dict: Mapping[str, Any]) -> dict[Any, Any]:
        """The state of each parameter, checked; by the numbers of the parameters."""
        places = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        found = {}
        for number, parameter in zip(places, parameters, strict=True):
            values = {name: value for name, value in state_dict["state"].get(number, {}).items() if value is not None}
            if not values:
                continue
            missing = [name for name in self.kept if name not in values]
            if missing:
                raise ValueError(self._not_ours(f"parameter {number}", missing, values))
            for name in self.kept:
                shape = torch.as_tensor(values[name]).shape
                if name not in self.scalars and shape != parameter.shape:
                    raise ValueError(
                        f"{name} of parameter {number} has the shape {tuple(shape)}, and the parameter "
                        f"{tuple(parameter.shape)}: the state is that of another network"
                    )
            found[number] = {name: values[name] for name in self.kept}
        return found

    def _not_ours(self, where: str, missing: Sequence[str], there: Iterable[str]) -> str:
        return (
            f"the state of {where} has no {', '.join(missing)} but {', '.join(there)}: it was not saved by a "
            f"{type(self).__name__} or its counterpart in torch"
        )

    def __getstate__(self) -> dict[str, Any]:
        """For copies, whose parameters are copies too, and have lost their marks."""
        marks = [[is_binary(parameter) for parameter in group["params"]] for group in self.param_groups]
        return {**super().__getstate__(), "marks": marks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        marks = state.get("marks", [])
        super().__setstate__({name: value for name, value in state.items() if name != "marks"})
        for group, marked in zip(self.param_groups, marks, strict=False):
            for parameter, binary in zip(group["params"], marked, strict=True):
                if binary:
                    mark_binary(parameter)


class MetaplasticAdam(_Metaplastic):
    """Adam, with its shrinking steps scaled by a consolidation function.

        g      = gradient + weight_decay * h
        mean   = betas[0] * mean + (1 - betas[0]) * g           m_hat = mean / (1 - betas[0]**t)
        square = betas[1] * square + (1 - betas[1]) * g**2      v_hat = square / (1 - betas[1]**t)
        u      = lr * m_hat / (sqrt(v_hat) + eps)
        h     <- h - u * (f(h) where sign(h) * u > 0, else grow(h))

    params: parameters, named parameters, or groups with options of their own. lr: >= 0; the paper's is 0.005.
    m: metaplasticity >= 0, 0 for plain; f = Tanh2(m). consolidation: any other f instead of m, or a function of |h|.
    grow: such a function for growing steps; None, as in the paper, is 1. relative: m counts in medians of |h| of the
    layer, f(h) = sech(m * h / median)**2, so that it need not fit the rate and the number of steps.
    betas: in [0, 1). eps: > 0. weight_decay: >= 0. fused: one compiled pass where there is one, within roundings.
    capturable: steps are counted on the parameter's device and nothing waits for it, so that a step can be captured
    in a CUDA graph (after one that was not, which makes the state). A replay has the options of the capture.

    With m = 0, and not fused, every weight is bitwise that of `torch.optim.Adam`: the order of operations is the same.
    The state of a parameter is `step` (int64), `exp_avg` and `exp_avg_sq`, all tensors; a state saved with one
    setting of `fused` and `capturable` goes on with any other.

    Raises ValueError or TypeError naming the option that is wrong; ValueError where both m and consolidation are given.
    Source: Laborieux et al. 2021, Kingma and Ba 2015.
    """

    options: ClassVar[tuple[str, ...]] = ("lr", "betas", "eps", "weight_decay")
    kept: ClassVar[tuple[str, ...]] = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.005,
        m: float = 0.0,
        *,
        consolidation: Consolidation | Callable[[Any], Any] | None = None,
        grow: Consolidation | Callable[[Any], Any] | None = None,
        relative: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool = False,
        capturable: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "m": m,
            "consolidation": consolidation,
            "grow": grow,
            "relative": relative,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "fused": fused,
            "capturable": capturable,
        }
        super().__init__(params, options)

    def _update(self, weight: Weight, group: dict[str, Any], forms: Sequence[Form]) -> bool:
        state, corrections = self._counted(weight.hidden, group)
        moments = state["exp_avg"], state["exp_avg_sq"]
        numbers = AdamNumbers(group["weight_decay"], group["betas"], group["lr"], group["eps"])
        return _first(forms, weight, *moments).adam(weight, moments, corrections, numbers)

    def _counted(self, hidden: Tensor, group: dict[str, Any]) -> tuple[dict[str, Any], tuple[Any, Any]]:
        """A parameter's state, made in its first step, with this step counted; 1 - beta**t of both moments."""
        state, there = self.state[hidden], self._counts_there(hidden, group)
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64, device=hidden.device if there else "cpu")
            for name in self.kept[1:]:
                scalar = name in self.scalars
                state[name] = (
                    torch.zeros((), device=hidden.device)
                    if scalar
                    else torch.zeros_like(hidden, memory_format=torch.preserve_format)
                )
        state["step"] += 1
        t = state["step"].double() if there else state["step"].item()  # the same formulas, in float64
        beta1, beta2 = group["betas"]
        return state, (1 - beta1**t, 1 - beta2**t)

    def _counts_there(self, hidden: Tensor, group: dict[str, Any]) -> bool:
        return bool(group["capturable"]) or (group["fused"] and hidden.is_cuda)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for hidden in group["params"]:
                if state := self.state.get(hidden):
                    place = hidden.device if self._counts_there(hidden, group) else "cpu"
                    # torch counts in float32, and older ones in Python; a copy, because steps are counted in place.
                    state["step"] = torch.as_tensor(state["step"]).to(place, torch.int64, copy=True)


class MetaplasticAdalayer(MetaplasticAdam):
    """Adam with one adaptive step per layer: every weight's step is divided by the same scale, the largest so far.

        g      = gradient + weight_decay * h
        mean   = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * (mean over the layer of gradient**2)      one number
        scale  = sqrt(the largest square so far / (1 - betas[1]**t))
        u      = lr * mean / (1 - betas[0]**t) / (scale + eps)
        h     <- h - u * (f(h) where sign(h) * u > 0, else grow(h))

    Adam divides each weight's mean gradient by its own size, which makes steps of full size of the smallest noise: the
    longer a training, the further noise alone drives |h|. Here noise stays as small as it is beside what the layer has
    learned from. The state holds one array per weight instead of two.

    Arguments, state and forms are those of `MetaplasticAdam`, with `exp_avg_sq` and `max_exp_avg_sq` of shape ().

    Source: Zhao et al. 2025 (Adalayer), Reddi et al. 2018 (the maximum).
    """

    kept: ClassVar[tuple[str, ...]] = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    scalars: ClassVar[tuple[str, ...]] = ("step", "exp_avg_sq", "max_exp_avg_sq")

    def _update(self, weight: Weight, group: dict[str, Any], forms: Sequence[Form]) -> bool:
        state, (correction1, correction2) = self._counted(weight.hidden, group)
        (beta1, beta2), mean, largest = group["betas"], state["exp_avg"], state["max_exp_avg_sq"]
        form = _first(forms, weight, mean)
        square = state["exp_avg_sq"].lerp_(form.mean_square(weight.gradient), 1 - beta2)
        torch.maximum(largest, square, out=largest)
        known = largest.double() if largest.is_cuda else largest.item()  # nothing waits for a GPU
        rate = group["lr"] / correction1 / ((known / correction2) ** 0.5 + group["eps"])
        return form.sgd(weight, mean, SgdNumbers(group["weight_decay"], beta1, 1 - beta1, rate))


class MetaplasticSGD(_Metaplastic):
    """Stochastic gradient descent with momentum, its shrinking steps scaled by a consolidation function.

        g      = gradient + weight_decay * h
        b      = momentum * b + (1 - dampening) * g             (b = g in the first step; b = g without momentum)
        u      = lr * b
        h     <- h - u * (f(h) where sign(h) * u > 0, else grow(h))

    params: parameters, named parameters, or groups with options of their own. lr: >= 0.
    m: metaplasticity >= 0, 0 for plain; f = Tanh2(m). consolidation: any other f instead of m, or a function of |h|.
    grow: such a function for growing steps; None, as in the paper, is 1. relative: m counts in medians of |h| of the
    layer, f(h) = sech(m * h / median)**2, so that it need not fit the rate and the number of steps.
    momentum, dampening: in [0, 1). weight_decay: >= 0. fused: one compiled pass where there is one, within roundings.

    With m = 0 a step differs from that of `torch.optim.SGD` by the rounding of u alone, which torch folds into one
    multiply-and-add. The state of a parameter is `momentum_buffer`, or nothing without momentum. Nothing is counted, so
    any step but the first can be captured in a CUDA graph.

    Raises ValueError or TypeError naming the option that is wrong; ValueError where both m and consolidation are given.
    """

    options: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dampening", "weight_decay")
    kept: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        m: float = 0.0,
        *,
        consolidation: Consolidation | Callable[[Any], Any] | None = None,
        grow: Consolidation | Callable[[Any], Any] | None = None,
        relative: bool = False,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        fused: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "m": m,
            "consolidation": consolidation,
            "grow": grow,
            "relative": relative,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "fused": fused,
        }
        super().__init__(params, options)

    def _update(self, weight: Weight, group: dict[str, Any], forms: Sequence[Form]) -> bool:
        hidden, momentum = weight.hidden, group["momentum"]
        state = self.state[hidden] if momentum != 0 else {}
        first = "momentum_buffer" not in state
        if momentum != 0 and first:
            state["momentum_buffer"] = torch.zeros_like(hidden, memory_format=torch.preserve_format)
        buffer = state.get("momentum_buffer")
        numbers = SgdNumbers(
            decay=group["weight_decay"],
            momentum=0.0 if first else momentum,
            keep=1.0 if first else 1 - group["dampening"],
            lr=group["lr"],
        )
        return _first(forms, weight, *(() if buffer is None else (buffer,))).sgd(weight, buffer, numbers)


def _name_of(group: dict[str, Any], index: int) -> str:
    """What to call a parameter of a group in a message."""
    names = group.get("param_names")
    return names[index] if names else f"of shape {tuple(group['params'][index].shape)}"


def _first(forms: Sequence[Form], weight: Weight, *kept: Tensor) -> Form:
    """The first form that takes a weight; the clear one, which is last, takes them all."""
    return next(form for form in forms if form.takes(weight, *kept))


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes[:6])) + (f" ... ({len(sizes)} groups)" if len(sizes) > 6 else "")


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
