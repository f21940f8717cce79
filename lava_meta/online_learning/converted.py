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
    units that spike (activation="spikes")       stand for signs, a = (s + 1) / 2: thresholds of the layer above move,
                                                 and the readout must count spikes: scale * sum_j w_j (s_j + 1)

A network knows the signs of its weights, not how firmly they were held. A model does: its hidden weights come along, in
units of the 90th percentile of their layer. Without a model every synapse starts at the same share of its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.online_learning.encoding import Front
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.options import as_rule, check_plastic
from lava_meta.online_learning.settings import LayerSettings

if TYPE_CHECKING:
    from torch import nn

_FIRM = 0.9  # the quantile of a layer's |h| that becomes its limit


def from_graph(
    graph: BinaryGraph,
    *,
    model: nn.Module | None = None,
    strength: float = 0.5,
    plastic: Sequence[str] | None = None,
    **options: Any,
) -> Learner:
    """A learner that computes what `graph` computes until it learns.

    Args:
        graph: the converted network.
        model: where it came from; its hidden weights come along.
        strength: without a model, where hidden weights start, as a share of their limit, 0 to 1.
        plastic: names of the layers that learn; by default all.
        options: as for `Learner`.

    Raises:
        ConversionError: layers that cannot learn, by name; a model that is another one.
        ValueError: other arguments that do not fit.
    """
    if options.get("inputs", "pixels") != "pixels":
        raise ValueError(f"inputs is {options['inputs']!r}; a converted network takes pixels, which its thresholds fit")
    if not 0 < strength <= 1:
        raise ValueError(f"strength is {strength}; it is a share of the limit, above 0 and up to 1")
    names = [name for name, _ in graph.named_layers()]
    plastic = check_plastic(plastic, names)
    depth = names.index(plastic[0])
    activation = as_rule(options.get("rule")).activation
    spikes = activation != "signs" and len(graph.named_layers()) > depth + 1
    if spikes and activation == "abs_spikes":
        raise ConversionError(
            "units of a converted network fire on one side of their threshold: learn with activation='signs' or "
            "'spikes', or the readout alone (plastic=['readout'])"
        )
    learning = {name: _learnable(name, layer, spikes=spikes) for name, layer in graph.named_layers()[depth:]}
    weights = None if model is None else _hidden_weights(model, names)
    first, *_ = learning.values()
    learner = Learner(
        [first.n_in, *(layer.n_out for layer in learning.values())],
        plastic=plastic,
        **{**_inputs(graph, depth, first), "inputs": "pixels", "max_level": graph.max_level, **options},
    )
    for i, (name, layer) in enumerate(learning.items()):
        share = np.full(layer.weight.shape, strength) if weights is None else _shares(name, weights[name], layer.weight)
        _take_over(learner.net, i, layer, share)
    return learner


def _learnable(name: str, layer: Any, *, spikes: bool) -> DenseLayer | Readout:
    """`layer`. spikes: what learns below the readout sends spikes. Raises ConversionError for one that cannot learn."""
    if not isinstance(layer, (DenseLayer, Readout)):
        raise ConversionError(f"{name} is a convolution, which does not learn on-line: let layers above it be plastic")
    if isinstance(layer, DenseLayer) and layer.mean_over:
        raise ConversionError(f"{name} has a layer norm, whose mean a single unit does not know: freeze it")
    if not isinstance(layer, Readout):
        return layer
    counted = layer.scale * layer.row_sums() if spikes else 0.0
    if np.ptp(layer.scale) > 0 or np.ptp(layer.offset - counted) > 1e-9 * np.abs(counted).max() or layer.scale[0] <= 0:
        if spikes:
            raise ConversionError(
                f"the {name} of the converted network does not count spikes: learn with activation='signs', or the "
                "readout alone (plastic=['readout'])"
            )
        raise ConversionError(
            f"the {name} has a scale or an offset for each class (a batch norm, or units of 0 and 1); what learns "
            'takes the largest sum: train with norm="fixed" or "layer"; behind units of 0 and 1 learn with '
            "rule=OnlineRule.sparse(divisive=False)"
        )
    return layer


def _inputs(graph: BinaryGraph, depth: int, first: DenseLayer | Readout) -> dict[str, Any]:
    """Of the first layer that learns. Raises ConversionError for inputs that it cannot take."""
    if depth:
        return {"front": Front(graph, depth)}
    if graph.first_levels is None or graph.min_level < 0 or graph.max_level > 255:
        raise ConversionError(
            f"{graph.named_layers()[0][0]} learns from pixels of up to 8 bits, and this network takes {graph.domain}"
            + (", binarized" if graph.binarize is not None else "")
            + ": freeze it"
        )
    return {"input_mean": _explained_mean(first, graph.max_level)}


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


def _hidden_weights(model: nn.Module, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Of each layer, by name."""
    from lava_meta.nn import BinaryConv2d, BinaryLinear

    kinds = (BinaryLinear, BinaryConv2d)
    found = [module.weight.detach().cpu().numpy() for module in model.modules() if isinstance(module, kinds)]
    if len(found) != len(names):
        raise ConversionError(f"the model has {len(found)} binary layers and the network {len(names)}")
    return dict(zip(names, found, strict=True))


def _shares(name: str, hidden: NDArray[Any], positive: NDArray[Any]) -> NDArray[Any]:
    """|h| as a share of the limit, at most 1. Units of 0 and 1 are two units of the same weights each."""
    if hidden.ndim == 2:
        hidden = np.tile(hidden, [max(1, all_ // own) for own, all_ in zip(hidden.shape, positive.shape, strict=True)])
    if hidden.shape != positive.shape or ((hidden >= 0) != positive).any():
        raise ConversionError(
            f"{name}: the model's hidden weights do not have the network's signs; it is another model"
        )
    size: NDArray[Any] = np.abs(hidden).astype(np.float64)
    return (size / max(float(np.quantile(size, _FIRM)), 1e-30)).clip(max=1.0)


def _take_over(network: PlasticNetwork, i: int, layer: DenseLayer | Readout, share: NDArray[Any]) -> None:
    """Let layer `i` of the network compute what `layer` does, with hidden weights of these shares of their limit."""
    settings, state = network.settings[i], network.states[i]
    polarity = np.ones(layer.n_out, np.int8) if isinstance(layer, Readout) else layer.polarity
    positive = (layer.weight ^ (polarity < 0)[:, None]).T
    state["hidden"][:] = _place(share.T * network.limits[i], positive, settings)
    reference = make_layer(settings, state)  # also sums the weights again
    if isinstance(layer, DenseLayer):
        # No sum reaches beyond these; a unit whose gain was 0 never fires, or always.
        reach = layer.n_in * settings.max_level + 1
        thresholds = np.clip(layer.threshold, -reach, reach)
        if i > 0 and network.settings[i - 1].spiking:
            thresholds = -(-(thresholds + reference.balance) // 2)
        reference.neurons.set_thresholds(thresholds)


def _place(size: NDArray[Any], positive: NDArray[Any], settings: LayerSettings) -> NDArray[Any]:
    """Hidden weights of these sizes and signs; a negative one is never 0, whose sign is +1."""
    if settings.precision == "float":
        return np.where(positive, size, -np.maximum(size, 1e-6))
    levels = np.floor(size / settings.unit)
    return np.where(positive, levels, -np.maximum(1, levels)) * settings.unit
