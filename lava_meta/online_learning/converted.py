"""A learner that goes on from a converted network.

The learner computes what the network computes, to the last tie, until it learns:

    frozen layers below the first plastic one    are the graph's own (`Front`), convolutions and layer norms included
    a unit that fires where p W x >= T           p folds into its weights: h = p |h| W, and the threshold is
                                                 t = c sum_j w_j + o, with o chosen so that t = T at the start
    c                                            of a first layer, the mean input; by default the one that explains the
                                                 thresholds best, sum_k T_k R_k / sum_k R_k**2 with R = sum_j w_j. For
                                                 the fixed norm it is the mean pixel, o is below one, and t goes on
                                                 following the weights. Of other layers, 0
    the first layer                              takes pixels, as the network does

A network knows the signs of its weights, not how firmly they were held. A model does: its hidden weights come along, in
units of the 90th percentile of their layer. Without a model every synapse starts at the same share of its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError, available
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.io.learned import learned_of
from lava_meta.online_learning.backend import Front, make_layer
from lava_meta.online_learning.learner import Learner, check_plastic
from lava_meta.online_learning.settings import LayerSettings

if TYPE_CHECKING:
    from torch import nn

_FIRM = 0.9  # the quantile of a layer's |h| that becomes its limit


def online(
    source: Any = None,
    *,
    sizes: Sequence[int] | None = None,
    plastic: Sequence[str] | None = None,
    model: nn.Module | None = None,
    strength: float = 0.5,
    **settings: Any,
) -> Learner:
    """A `Learner` from `sizes`, from a `LavaNetwork` or `BinaryGraph`, or from a model that `convert` takes.

    plastic: names of the layers that learn; by default all. The others compute what they always have.
    model: where the network came from; its hidden weights come along. A model as `source` is converted first.
    strength: without a model, where hidden weights of a network start, as a share of their limit, 0 to 1.
    settings: as for `Learner`; without a backend, "lava" where Lava can be imported, and otherwise "kernels".

    Raises ConversionError for layers that cannot learn, by name; TypeError and ValueError for other arguments.
    """
    if (source is None) == (sizes is None):
        raise TypeError("give sizes, or a network or model to go on from")
    settings.setdefault("backend", available("lava"))
    if sizes is not None or (isinstance(source, Sequence) and not isinstance(source, str)):
        return Learner(sizes if sizes is not None else source, plastic=plastic, **settings)
    if hasattr(source, "named_modules"):
        from lava_meta.converters import convert

        source, model = convert(source), source
    graph = getattr(source, "graph", source)
    if not isinstance(graph, BinaryGraph):
        raise TypeError(f"cannot learn from a {type(source).__name__}; give sizes, a LavaNetwork, or a model")
    if settings.get("inputs", "pixels") != "pixels":
        raise ValueError(
            f"inputs is {settings['inputs']!r}; a converted network takes pixels, which its thresholds fit"
        )
    if not 0 < strength <= 1:
        raise ValueError(f"strength is {strength}; it is a share of the limit, above 0 and up to 1")
    learner = _from_graph(graph, plastic, None if model is None else _hidden_weights(model), strength, settings)
    learner.learned = learned_of(source)
    return learner


def _from_graph(
    graph: BinaryGraph,
    plastic: Sequence[str] | None,
    weights: list[NDArray[Any]] | None,
    strength: float,
    settings: dict[str, Any],
) -> Learner:
    layers = dict(graph.named_layers())
    names = list(layers)
    plastic = check_plastic(plastic, names)
    depth = names.index(plastic[0])
    for name in names[depth:]:
        _check(name, layers[name])
    if weights is not None and len(weights) != len(names):
        raise ConversionError(f"the model has {len(weights)} binary layers and the network {len(names)}")
    learning = [layers[name] for name in names[depth:]]
    if depth:
        fixed: dict[str, Any] = {"front": Front(graph, depth)}
    elif graph.first_levels is None or graph.min_level < 0 or graph.max_level > 255:
        raise ConversionError(
            f"{names[0]} learns from pixels of up to 8 bits, and this network takes {graph.domain}"
            + (", binarized" if graph.binarize is not None else "")
            + ": freeze it"
        )
    else:
        fixed = {"input_mean": _explained_mean(learning[0], graph.max_level)}
    sizes = [learning[0].n_in, *(layer.n_out for layer in learning)]
    learner = Learner(sizes, plastic=plastic, **{**fixed, "inputs": "pixels", "max_level": graph.max_level, **settings})
    for i, layer in enumerate(learning):
        state, layer_settings = learner.states[i], learner.settings[i]
        polarity = np.ones(layer.n_out, np.int8) if isinstance(layer, Readout) else layer.polarity
        positive = (layer.weight ^ (polarity < 0)[:, None]).T
        if weights is None:
            share = np.full(positive.shape, strength)
        else:
            share = _shares(names[depth + i], weights[depth + i], layer.weight).T
        state["hidden"][:] = _place(share * learner.limits[i], positive, layer_settings)
        twin = make_layer(layer_settings, state, False)  # also sums the weights anew
        if isinstance(layer, DenseLayer):
            # No sum reaches beyond these; a unit whose gain was 0 never fires, or always.
            reach = layer.n_in * layer_settings.max_level + 1
            twin.set_thresholds(np.clip(layer.threshold, -reach, reach))
    return learner


def _check(name: str, layer: Any) -> None:
    if not isinstance(layer, (DenseLayer, Readout)):
        raise ConversionError(f"{name} is a convolution, which does not learn on-line: let layers above it be plastic")
    if isinstance(layer, DenseLayer) and layer.centred:
        raise ConversionError(f"{name} has a layer norm, whose mean a single unit does not know: freeze it")
    if isinstance(layer, Readout) and (np.ptp(layer.scale) > 0 or np.ptp(layer.offset) > 0 or layer.scale[0] <= 0):
        raise ConversionError(
            f"the {name} has a scale or an offset for each class (a batch norm); what learns takes the largest sum: "
            'train with norm="fixed" or "layer"'
        )


def _explained_mean(layer: DenseLayer | Readout, max_level: int) -> float:
    """The mean input c, as a share of `max_level`, for which c * R_k is nearest to the thresholds T_k."""
    if isinstance(layer, Readout):
        return 0.0
    threshold = (layer.polarity * np.clip(layer.threshold, -(2**40), 2**40)).astype(np.float64)
    balance = np.where(layer.weight, 1.0, -1.0).sum(axis=1)
    known = np.abs(threshold) <= layer.n_in * max_level
    square = float((balance[known] ** 2).sum())
    mean = float((threshold[known] * balance[known]).sum()) / square if square else 0.0
    return min(1.0, max(0.0, mean / max_level))


def _hidden_weights(model: nn.Module) -> list[NDArray[Any]]:
    from lava_meta.nn import BinaryConv2d, BinaryLinear

    kinds = (BinaryLinear, BinaryConv2d)
    return [module.weight.detach().cpu().numpy() for module in model.modules() if isinstance(module, kinds)]


def _shares(name: str, hidden: NDArray[Any], positive: NDArray[Any]) -> NDArray[Any]:
    """|h| as a share of the limit, at most 1."""
    if hidden.shape != positive.shape or ((hidden >= 0) != positive).any():
        raise ConversionError(
            f"{name}: the model's hidden weights do not have the network's signs; it is another model"
        )
    size = np.abs(hidden).astype(np.float64)
    return np.minimum(1.0, size / max(float(np.quantile(size, _FIRM)), 1e-30))


def _place(size: NDArray[Any], positive: NDArray[Any], settings: LayerSettings) -> NDArray[Any]:
    """Hidden weights of these sizes and signs; a negative one is never 0, whose sign is +1."""
    if settings.precision == "float":
        return np.where(positive, size, -np.maximum(size, 1e-6))
    levels = np.floor(size / settings.unit)
    return np.where(positive, levels, -np.maximum(1, levels)) * settings.unit
