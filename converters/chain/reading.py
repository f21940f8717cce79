"""A PyTorch model as a sequence of stages: each a binary layer, what stands before its sign, and pooling behind it.

What can be read is said once, in the table below: it decides what is converted, and the page of the documentation is
printed from it (`support_table`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lava_meta.converters.chain.functions import Cast, StrictSign, TorchSign
from lava_meta.converters.chain.tracing import FUNCTION_NAMES, has_own_forward, trace
from lava_meta.converters.recording.calling import COARSE, is_wide
from lava_meta.converters.recording.exported import keeps_no_code
from lava_meta.converters.refusals import NotAChain
from lava_meta.converters.registry import Affine, parts_of
from lava_meta.nn import AbsStep, BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign, TaskBatchNorm

BINARY: dict[type[nn.Module], str] = {
    BinaryLinear: "packed weights",
    BinaryConv2d: "packed weights; stride, zero padding, dilation and groups as they are, kernels of any two extents",
}
MONOTONE: dict[type[nn.Module], str] = {
    Affine: "part of the thresholds; for layers of your own. Of numbers, before the first layer, part of its inputs",
    FixedNorm: "part of the thresholds",
    TaskBatchNorm: "part of the thresholds, with stored statistics of one task; gains of either sign and zero",
    nn.BatchNorm1d: "part of the thresholds, with running statistics; gains of either sign and zero",
    nn.BatchNorm2d: "part of the thresholds, with running statistics; gains of either sign and zero",
    nn.Hardtanh: "part of the thresholds",
}
PER_IMAGE: dict[type[nn.Module], str] = {
    SampleNorm: "integer sums beside their mean; behind dense layers only",
    nn.LayerNorm: "integer sums beside their mean and their spread; with a bias, a threshold that follows the spread",
    nn.GroupNorm: "the same within each group of channels",
    nn.InstanceNorm2d: "the same within each channel; with running statistics, part of the thresholds",
}
MAXIMA = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
POOLS: dict[type[nn.Module], str] = {
    nn.MaxPool2d: "OR of signs; AND in channels whose norm behind it falls. Before or behind the sign",
    nn.AvgPool2d: "integer sums over the window, directly behind the convolution; where windows at the border are "
    "divided by less, a threshold for every position",
    nn.AdaptiveMaxPool2d: "the same, where its extents divide those of the image",
    nn.AdaptiveAvgPool2d: "the same, where its extents divide those of the image",
}
IDENTITIES: dict[type[nn.Module], str] = {
    nn.Identity: "nothing",
    nn.Dropout: "nothing, in eval mode",
    nn.Dropout1d: "nothing, in eval mode",
    nn.Dropout2d: "nothing, in eval mode",
    nn.Dropout3d: "nothing, in eval mode",
    nn.AlphaDropout: "nothing, in eval mode",
    nn.FeatureAlphaDropout: "nothing, in eval mode",
}
FINAL: dict[type[nn.Module], str] = {
    nn.Softmax: "nothing, behind the readout: it keeps the order of the classes. The network's values are those before",
    nn.LogSoftmax: "the same",
}
SCALED: dict[Any, str] = {
    nn.Linear: "as `BinaryLinear` and `Affine`, where the weights of each unit are +c and -c",
    nn.Conv2d: "as `BinaryConv2d` and `Affine`, where the weights of each channel are +c and -c",
    "brevitas.nn.QuantLinear": "the same, with binary weight quantizers",
    "brevitas.nn.QuantConv2d": "the same, with binary weight quantizers",
    "brevitas.nn.QuantIdentity": "as `Sign`, where it gives -1 and +1",
    "brevitas.nn.QuantHardTanh": "as `Sign`, where it gives -1 and +1",
}
SUPPORT: dict[Any, str] = {
    Pixels: "part of the first layer's thresholds, at a padded border a threshold for every position; pixels, or "
    "signed features with a `min_level`",
    **BINARY,
    **SCALED,
    **MONOTONE,
    **PER_IMAGE,
    **POOLS,
    Sign: "the comparison with the threshold, +1 on a tie; before the first layer, a threshold for every input",
    AbsStep: "two units of signs, one for each edge, behind layers without groups; with pooling behind it, and "
    "elsewhere, as any function of the sums",
    nn.Flatten: "the order (channels, rows, columns)",
    **IDENTITIES,
    **FINAL,
    nn.Sequential: "its modules, nested to any depth",
    nn.Module: f"what its forward calls one after the other: modules, {FUNCTION_NAMES}, products "
    "with and sums of numbers, comparisons with 0, `torch.where`, and views as (images, -1)",
}
SUPPORTED = tuple(kind for kind in SUPPORT if isinstance(kind, type))
SIGNS = (Sign, StrictSign, TorchSign)


@dataclass
class Stage:
    """One binary layer and the modules between it and the next, with their places in the model.

    A unit of 0 and 1 that is active on both sides (`AbsStep`) becomes two units of signs of the same weights, for its
    rising and its falling edge: `a = (s_rising + s_falling) / 2 + 1`. All rising ones come first.
    """

    name: str
    layer: BinaryLinear | BinaryConv2d
    before: list[tuple[str, nn.Module]] = field(default_factory=list)  # norms and pooling before the sign, in order
    sign: nn.Module | None = None  # one of `SIGNS`, or `AbsStep`
    behind_steps: bool = False  # its inputs are units of 0 and 1, two signs each
    behind: list[tuple[str, nn.Module]] = field(default_factory=list)  # pooling of signs
    rounds: bool = False  # the model's own layer sums products that float64 rounds, as those with +c and -c
    sign_place: int = -1  # of the sign among `Chain.modules`; -1 where a registered module is more than a sign
    end: int = 0  # place of its last module that computes

    @property
    def weight(self) -> NDArray[Any]:
        """Booleans (units, fan-in), True for +1; a convolution's in the order (inputs, rows, columns)."""
        own = (self.layer.weight.detach() >= 0).flatten(1).cpu().numpy()
        return np.tile(own, (2 if isinstance(self.sign, AbsStep) else 1, 2 if self.behind_steps else 1))

    @property
    def norms(self) -> list[tuple[str, nn.Module]]:
        """What stands before the sign without the pooling."""
        return norms_of(self.before)


@dataclass
class Front:
    """What stands before the first binary layer: `Pixels`, what scales the inputs, and what binarizes them."""

    pixels: Pixels | None = None
    before: list[tuple[str, nn.Module]] = field(default_factory=list)  # norms before the sign, and Flatten
    sign: nn.Module | None = None
    end: int = -1  # place of the sign among `Chain.modules`
    rounded: str = ""  # what rounds the levels to half precision

    @property
    def modules(self) -> list[tuple[str, nn.Module]]:
        """All of them before the sign, in order."""
        return ([] if self.pixels is None else [("Pixels", self.pixels)]) + self.before


@dataclass(frozen=True)
class Chain:
    """A model as the modules that it calls one after the other, and what they make: a front and stages."""

    modules: list[tuple[str, nn.Module]]  # with their places, as `flat` gives them
    front: Front
    stages: list[Stage]


def is_monotone(module: nn.Module) -> bool:
    """Whether a module is a fixed monotone function of each sum."""
    return isinstance(module, tuple(MONOTONE)) or (isinstance(module, nn.InstanceNorm2d) and module.track_running_stats)


def is_per_image(module: nn.Module) -> bool:
    """Whether a module norms the sums of each image by their own statistics."""
    return isinstance(module, tuple(PER_IMAGE)) and not is_monotone(module)


def norms_of(modules: Sequence[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """The modules without the pooling, and without Flatten."""
    return [(label, module) for label, module in modules if not isinstance(module, (*POOLS, nn.Flatten))]


def support_table() -> str:
    """The supported modules and what they become, as a Markdown table."""
    lines = [f"| `{_name(kind)}` | {text} |" for kind, text in SUPPORT.items()]
    return "\n".join(["| module | becomes |", "| --- | --- |", *lines, ""])


def _name(kind: type[nn.Module] | str) -> str:
    if isinstance(kind, str):
        return kind
    return f"{'nn.' if kind.__module__.startswith('torch.') else ''}{kind.__name__}"


def flat(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The modules that `model` calls one after the other, with their places; one used twice stands twice.

    Raises `ConversionError` for a forward that is not a chain of modules and functions that are known.
    """
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        return [
            leaf
            for name, child in model._modules.items()
            if child is not None
            for leaf in flat(child, f"{prefix}.{name}" if prefix else name)
        ]
    return trace(model, prefix) if has_own_forward(model) else [(prefix or "model", model)]


def read(model: nn.Module) -> Chain:
    """What stands before the first layer, and the stages in order. Raises `ConversionError` for anything else."""
    if keeps_no_code(model):
        raise NotAChain("a graph of operations keeps no modules to read")
    modules = flat(model)
    front = Front()
    stages: list[Stage] = []
    flattened = False
    final: str | None = None
    for place, label, module, parts in _parts(modules):
        if final is not None and not isinstance(module, (*IDENTITIES, *FINAL, Cast)):
            raise NotAChain(f"{label} stands behind {final}, which only the end of a network may have")
        if isinstance(module, nn.Flatten):
            _check_flatten(label, module, stages)
            flattened = True
            if not stages:
                front.before.append((label, module))
        elif isinstance(module, Pixels):
            if stages or front.pixels or front.sign or norms_of(front.before):
                raise NotAChain(f"{label} must be the first module and stand once")
            front.pixels = module
        elif isinstance(module, BinaryLinear | BinaryConv2d):
            _check_layer(label, module, stages, flattened=flattened)
            others = [place for place, norm in norms_of(front.before) if not isinstance(norm, Affine)]
            if not stages and front.sign is None and others:
                raise NotAChain(
                    f"{others[-1]} stands before the first binary layer; without a sign behind it, only Flatten, "
                    "Pixels and numbers may"
                )
            behind_steps = bool(stages) and isinstance(stages[-1].sign, AbsStep)
            if behind_steps and _groups(module) > 1:
                raise NotAChain(f"{label} has groups, behind units of 0 and 1")
            stages.append(Stage(label, module, behind_steps=behind_steps, rounds=parts > 1))
        elif not stages:
            _read_front(front, place, label, module)
        elif isinstance(module, Cast):
            if stages[-1].sign is None and module.dtype is not None and not is_wide(module.dtype):
                raise NotAChain(f"{label} makes {module.dtype} of sums; only signs may become such")
        elif isinstance(module, SIGNS):
            _add_sign(stages[-1], module, place if parts == 1 else -1)
        elif isinstance(module, AbsStep):
            _add_steps(label, stages[-1], module, place if parts == 1 else -1)
        elif isinstance(module, tuple(IDENTITIES)):
            continue
        elif isinstance(module, tuple(FINAL)):
            _check_final(label, module, stages[-1])
            final = label
            continue
        elif isinstance(module, tuple(POOLS)):
            if flattened or isinstance(stages[-1].layer, BinaryLinear):
                raise NotAChain(f"{label} stands where images are flat; pooling goes before Flatten")
            _check_pool(label, module, stages[-1])
            (stages[-1].before if stages[-1].sign is None else stages[-1].behind).append((label, module))
        elif isinstance(module, (*MONOTONE, *PER_IMAGE)):
            if stages[-1].sign is not None:
                raise NotAChain(f"{label} stands behind a sign activation; norms go before it")
            if flattened and isinstance(stages[-1].layer, BinaryConv2d) and not _is_elementwise(module):
                raise NotAChain(f"{label} norms every position behind Flatten; put it before, for each channel")
            if isinstance(module, SampleNorm) and isinstance(stages[-1].layer, BinaryConv2d):
                raise NotAChain(f"{label} norms rows of an image behind {stages[-1].name}; use FixedNorm")
            stages[-1].before.append((label, module))
        else:
            known = ", ".join(sorted(kind.__name__ for kind in SUPPORTED if kind is not nn.Module))
            raise NotAChain(f"{label} is not supported; supported are {known}")
        if stages and not isinstance(module, nn.Flatten):
            stages[-1].end = place
    if not stages:
        raise NotAChain(f"{type(model).__name__} has no BinaryLinear: there is nothing to convert")
    if isinstance(stages[-1].layer, BinaryConv2d):
        raise NotAChain(f"{stages[-1].name} is the last binary layer; a network ends with BinaryLinear")
    if stages[-1].sign is not None:
        raise NotAChain(f"{stages[-1].name} is the readout, but a sign activation follows it")
    return Chain(modules, front, stages)


def _read_front(front: Front, place: int, label: str, module: nn.Module) -> None:
    """A module before the first binary layer: norms and a sign, which make signs of the inputs."""
    if isinstance(module, SIGNS):
        front.end = place
        if front.sign is None or isinstance(front.sign, TorchSign):  # as in `_add_sign`
            front.sign = module
    elif is_monotone(module) and front.sign is None:
        front.before.append((label, module))
    elif isinstance(module, Cast) and module.dtype in COARSE:
        front.rounded = label
    elif not isinstance(module, (*IDENTITIES, Cast)):
        raise NotAChain(
            f"{label} stands before the first binary layer; only Flatten, Pixels, and norms with a sign behind them may"
        )


def _parts(modules: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[int, str, nn.Module, int]]:
    """The modules, registered ones as what they are made of.

    With the place among `modules`, the label, and how many parts the module at this place has.
    """
    for place, (name, module) in enumerate(modules):
        label = f"{name} ({type(module).__name__})"
        parts = parts_of(label, module)
        for part in parts:
            yield place, label, part, len(parts)


def _check_layer(label: str, module: nn.Module, stages: Sequence[Stage], *, flattened: bool) -> None:
    if stages and stages[-1].sign is None:
        raise NotAChain(f"{label} follows {stages[-1].name} without a sign activation between them")
    after_conv = stages and isinstance(stages[-1].layer, BinaryConv2d)
    if isinstance(module, BinaryLinear):
        if after_conv and not flattened:
            raise NotAChain(f"{label} follows {stages[-1].name} without a Flatten between them")
        return
    if flattened or (stages and not after_conv):
        raise NotAChain(f"{label} takes images, but what comes before it is flat")
    if module.padding_mode != "zeros":
        raise NotAChain(f"{label} pads with {module.padding_mode}; only zeros are supported")


def _check_flatten(label: str, module: nn.Flatten, stages: Sequence[Stage]) -> None:
    if module.start_dim != 1 or module.end_dim not in (-1, 3):
        raise NotAChain(f"{label} has start_dim={module.start_dim}, end_dim={module.end_dim}; use nn.Flatten()")


def _add_sign(stage: Stage, sign: nn.Module, place: int) -> None:
    """The sign of a stage; a further one leaves signs as they are, but decides the 0 that `torch.sign` passes on."""
    if isinstance(stage.sign, AbsStep):
        raise NotAChain(f"{stage.name} has a sign behind its steps, which are never below 0")
    if stage.sign is None or isinstance(stage.sign, TorchSign):
        stage.sign, stage.sign_place = sign, place if stage.sign is None else stage.sign_place


def _add_steps(label: str, stage: Stage, steps: AbsStep, place: int) -> None:
    if stage.sign is not None or place < 0 or _groups(stage.layer) > 1:
        raise NotAChain(f"{label} becomes two units of signs where it stands alone behind a layer without groups")
    stage.sign, stage.sign_place = steps, place


def _groups(layer: nn.Module) -> int:
    return layer.groups if isinstance(layer, BinaryConv2d) else 1


def _check_final(label: str, module: nn.Module, stage: Stage) -> None:
    if stage.sign is not None:
        raise NotAChain(f"{label} stands behind a sign activation; it goes behind the last layer")
    if getattr(module, "dim", None) not in (None, 1, -1):
        raise NotAChain(f"{label} has dim={module.dim}, which mixes images; use dim=1")


def _is_elementwise(module: nn.Module) -> bool:
    """Whether a norm does the same to every value, wherever it stands."""
    return isinstance(module, (nn.Hardtanh, FixedNorm)) or (isinstance(module, Affine) and module.scale.numel() == 1)


def _check_pool(label: str, module: nn.Module, stage: Stage) -> None:
    if isinstance(stage.sign, AbsStep):
        raise NotAChain(f"{label} stands behind units of 0 and 1; put it before them")
    if isinstance(module, MAXIMA):
        if module.return_indices:
            raise NotAChain(f"{label} has return_indices=True; only the values go on")
        return
    if stage.sign is not None:
        raise NotAChain(f"{label} stands behind a sign activation: its means are no signs; put it before the sign")
    if stage.before:
        raise NotAChain(
            f"{label} stands behind {stage.before[-1][0]}: means of rounded values; put it directly behind {stage.name}"
        )
