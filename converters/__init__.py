"""From trained networks to Lava, and back from files.

net = lava_meta.convert(model)
net.save("digits.safetensors")
net = lava_meta.load("digits.safetensors")
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import ConversionError
from lava_meta.io.file_kinds import LEARNING, MODEL, NETWORK, SPIKING, require_kind
from lava_meta.io.learned import learned_of

if TYPE_CHECKING:
    from torch import nn

    from lava_meta.converters.feed import ModelUse
    from lava_meta.converters.parity.chain import Parity
    from lava_meta.converters.spiking.network import SpikingNetwork
    from lava_meta.graph import Graph
    from lava_meta.nn import BinaryMLP
    from lava_meta.online_learning import Learner, LearnerOverTime

__all__ = ["LavaNetwork", "convert", "load", "register"]


@overload
def convert(model: LearnerOverTime) -> SpikingNetwork: ...  # type: ignore[overload-overlap]  # a kind of Learner


@overload
def convert(
    model: nn.Module | Learner,
    *,
    task: int = ...,
    mean: Any = ...,
    std: Any = ...,
    max_level: int = ...,
    min_level: int = ...,
    raw: bool = ...,
    signs: bool = ...,
    input_shape: Sequence[int] | None = ...,
    output: str | int | None = ...,
    strict: bool = ...,
    bits: int | None = ...,
    images: Any = ...,
) -> LavaNetwork: ...


def convert(
    model: nn.Module | Learner,
    *,
    task: int = 0,
    mean: Any = None,
    std: Any = None,
    max_level: int = 255,
    min_level: int = 0,
    raw: bool = False,
    signs: bool = False,
    input_shape: Sequence[int] | None = None,
    output: str | int | None = None,
    strict: bool = True,
    bits: int | None = None,
    images: Any = None,
) -> LavaNetwork | SpikingNetwork:
    """Convert a binarized network, in eval mode, into a Lava network that computes the same.

    Any acyclic network is taken as it is written (docs/forms.md). A chain of binary layers becomes a
    `lava_meta.BinaryGraph`, equal to the bit; any other a `lava_meta.graph.AcyclicGraph`, whose decisions are exact,
    and whose real values between layers lie within the bounds that `net.parity` names.

    Exact means: on raw pixels, every hidden sign and every class equal the model evaluated in float64, ties and
    inverted gains included. The result has been checked on random images, and on inputs made to meet each threshold
    (`net.parity`): against the model in float64, and against the model as it was given, which is left untouched.

    What the model is fed is never guessed. It takes raw levels p if it begins with `Pixels`, if its forward divides by
    max_level, or with `raw=True`; it takes `x = (p / max_level - mean) / std` with `mean` and `std`. What its forward
    does to x before the first layer (`2 * x - 1`) comes on top.

    Args:
        model: any module of one input: compiled, data-parallel, pruned, parametrized, scripted and exported ones too.
            Or a `Learner`, of which the network that it is now is taken and to which no other argument applies: a
            `SpikingNetwork` of a `LearnerOverTime`, which takes its `trains`.
        task: whose batch-norm statistics and affine to take; other norms know no tasks.
        mean: as given to torchvision's `Normalize`: a number, or one per channel, in a tuple, list, array or tensor, in
            fractions of max_level: min_level / max_level .. 1. `mean=0, std=1` for `ToTensor` alone.
        std: likewise, > 0.
        max_level: the greatest level: 255 for pixels of 8 bits, 127 for signed features. `Pixels` has its own.
        min_level: the least level: 0 for pixels, -128 for signed features. `Pixels` has its own.
        raw: the model takes the levels as they are.
        signs: the model's inputs are +1 and -1.
        input_shape: of one image, kept with the network; by default flat. A model that does not begin with a dense
            layer needs it: (channels, rows, columns), (channels, length) or (channels, depth, rows, columns);
            `BinaryConvNet` knows its own.
        output: which of several outputs, by its key, its place or the name of the module that gives it.
        strict: raise when the self-check finds a mismatch; False leaves the figure in `net.parity`.
        bits: 2 to 8: round the real and wide weights of a network that is no chain of binary layers to so many, with a
            scale for each output. `net.parity` is then of the model with these weights, and `net.agreement` says how
            many of `images` keep their class.
        images: with `bits`: integers (n, ...) as the network takes them, on which the agreement is measured.

    Returns:
        The network, with its self-check in `net.parity`.

    Raises:
        ConversionError: something cannot be converted, or layers differ; the message names them.
        ValueError: `bits` is out of range, or given without `images`.
        TypeError: `model` is neither an `nn.Module` nor a `Learner`.
    """
    from torch import nn

    if not isinstance(model, nn.Module):
        from lava_meta.online_learning import Learner, LearnerOverTime

        if isinstance(model, LearnerOverTime):
            from lava_meta.converters.spiking.network import SpikingNetwork

            return SpikingNetwork(model.graph(), timeout=model.timeout, readout="last")
        if isinstance(model, Learner):
            return LavaNetwork(model.graph(), learned=model.learned, timeout=model.timeout)
    from lava_meta.converters.recording.calling import rng_kept
    from lava_meta.converters.recording.unwrapping import unwrap

    options: dict[str, Any] = {"raw": raw, "signs": signs, "max_level": max_level, "min_level": min_level}
    options |= {"task": task, "mean": mean, "std": std, "input_shape": input_shape, "output": output}
    if bits is not None:
        from lava_meta.converters.rounding import Rounding

        Rounding(bits)  # raises ValueError out of range, also where there is nothing to round
    if (bits is None) != (images is None):
        raise ValueError("bits and images belong together: what rounding weights changes is measured on images")
    if not isinstance(model, nn.Module):
        model = unwrap(model)  # an exported program
    if any(type(module).__module__.startswith("snntorch.") for module in unwrap(model).modules()):
        raise ConversionError("the model has spiking neurons of snnTorch: lava_meta.from_snntorch(model) converts it")
    with rng_kept(unwrap(model)):
        graph, parity, use = _converted(model, options, bits)
    if strict and not parity.exact:
        raise ConversionError(
            f"the converted network differs from the model: {parity}; by layer {parity.mismatches}. Sums that tie with "
            "a threshold within float64 rounding do this; strict=False converts all the same"
        )
    net = LavaNetwork(graph, parity=parity, learned=learned_of(model), model_use=use)
    if bits is not None:
        net.agreement = net.compare(model, images)
    return net


def _converted(model: nn.Module, options: dict[str, Any], bits: int | None) -> tuple[Graph, Parity, ModelUse]:
    """The network of a chain of binary layers, or of any other acyclic model, its self-check, and how it is called."""
    from lava_meta.converters.feed import ModelUse
    from lava_meta.converters.refusals import NotAChain

    if options["output"] is None:
        from lava_meta.converters.chain.folding import fold
        from lava_meta.converters.parity.chain import check

        with contextlib.suppress(NotAChain):
            folded = fold(model, **options)
            return folded.graph, check(model, folded), ModelUse(folded.feed)
    from lava_meta.converters.lowering.acyclic import to_acyclic
    from lava_meta.converters.parity.acyclic import check_acyclic

    if bits is not None:
        from lava_meta.converters.rounding import Rounding, rounded

        model = rounded(model, Rounding(bits, options["std"]))
    read = to_acyclic(model, **options)
    return read.lowered.graph, check_acyclic(model, read), ModelUse(read.feed, read.place)


def register(kind: type[nn.Module], parts: Callable[[Any], Sequence[nn.Module]]) -> None:
    """Let modules of exactly `kind` convert: as the supported modules that `parts(module)` gives, one after the other.

    Args:
        kind: the class of the layer; subclasses are not included.
        parts: makes the supported modules of one layer.

    Raises:
        TypeError: `kind` is not a class of modules.
    """
    from lava_meta.converters.registry import register as add

    add(kind, parts)


def load(path: str | os.PathLike[str]) -> LavaNetwork | SpikingNetwork | Learner | BinaryMLP:
    """What a file of lava_meta holds, in the identical state.

    Returns:
        A `LavaNetwork` (written by its `save`), with `parity` and `learned`; a `SpikingNetwork`, a `Learner` or a
        `LearnerOverTime` (by theirs); or a trained model in eval mode, a torch module (model.safetensors of
        `lava-meta train`), which `convert` takes.

    Raises:
        FormatError: for any other file, with what it is and which call takes it, and for one that was altered.
        FileNotFoundError: if there is none.
    """
    kind = require_kind(path, NETWORK, SPIKING, LEARNING, MODEL)
    if kind == SPIKING:
        from lava_meta.converters.spiking.network import SpikingNetwork

        return SpikingNetwork.load(path)
    if kind == LEARNING:
        from lava_meta.online_learning import load_learner

        return load_learner(path)
    if kind == MODEL:
        from lava_meta.training.model_file import load_model

        return load_model(path)
    return LavaNetwork.load(path)
