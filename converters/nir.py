"""Dense networks to and from NIR, the exchange format of neuromorphic frameworks.

In a `BinaryGraph` signals are +1 and -1 and a unit fires where it *reaches* its integer threshold. In NIR signals are 0
and 1 and a unit fires where it *exceeds* its threshold. With `a = 2 z - 1` and `R_j`, the sum of unit j's weights,

    u_j = sum_k W_jk a_k = 2 sum_k W_jk z_k - R_j              hidden inputs; on raw pixels u_j = sum_k W_jk p_k
    polarity_j * u_j >= T_j    becomes    polarity_j * u_j + 1/2 - T_j > 0

The left side of the last line is an `nir.Affine`, and its comparison with 0 an `nir.Threshold`. Sums are integers, so
they stay half a unit away from the threshold: whether a reader compares with > or >= does not matter. Layer by layer:

    plain hidden layer     Affine(P 2W, 1/2 - T - P R), Threshold(0)      first layer: Affine(P W, 1/2 - T)
    centred hidden layer   Affine(2W, -R), Affine(P (n I - 1), 1/2 - T), Threshold(0)
    readout                Affine(2W, -R); Affine(diag(scale), offset) unless all scales are 1 and all offsets 0

P holds the polarities on its diagonal, and 1 is the matrix of ones. Every number in these nodes is exact, and so is
every sum that a reader computes in float64. A reader in float32 is exact too while its partial sums and biases stay
below 2**23: for 8-bit pixels up to 32 thousand inputs, for hidden layers up to millions; for centred layers, where
`n_out` times the sums must stay below, that is hundreds of units on pixels and thousands on signs. The readout's scale
and offset are float64, and a float32 reader rounds them.

The metadata hold what NIR has no place for: the graph's `max_level` and `input_shape`, a node's `polarity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import nir
import numpy as np

from lava_meta.conv import ConvLayer
from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout

_EXACT = 2**51  # float64 holds every half-integer below


def to_nir(network: BinaryGraph | LavaNetwork, *, time_step: float | None = None) -> nir.NIRGraph:
    """The network as an NIR graph of the nodes above, from raw pixels (n_in,) to the readout's values (classes,).

    Write it with `nir.write(path, graph)`; the class is the argmax of the output, lowest index on ties.

    Args:
        network: what `lava_meta.convert` returns, or its graph.
        time_step: for readers that know no `nir.Threshold`. With it, in seconds, units are `nir.LIF` neurons that keep
            nothing from one step to the next when simulated with exactly this step (`tau = time_step`, `r = 1`): the
            same comparison. snnTorch's importer takes 1e-4.

    Raises `ConversionError` for a convolution and for a threshold too large for float64, `ValueError` for a time step
    that is not positive, `TypeError` for another kind of network.
    """
    if time_step is not None and not (np.isfinite(time_step) and time_step > 0):
        raise ValueError(f"time_step is {time_step}; it is a positive number of seconds")
    graph = network.graph if isinstance(network, LavaNetwork) else network
    if isinstance(graph, BinaryGraph) and (graph.signs or graph.binarize is not None or graph.min_level):
        raise ConversionError(f"the network takes {graph.domain}, or binarizes them: only unsigned pixels are written")
    if not isinstance(graph, BinaryGraph):
        raise TypeError(f"to_nir takes a LavaNetwork or a BinaryGraph; got {type(network).__name__}")
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array([graph.n_in]))}
    for name, layer in graph.named_layers():
        if isinstance(layer, ConvLayer):
            raise ConversionError(f"{name} is a convolution; to_nir takes networks of dense layers")
        weight, bias = _on_spikes(layer, first=len(nodes) == 1)
        if isinstance(layer, Readout):
            nodes[name] = nir.Affine(_stored(weight), bias)
            # An offset of -0.0 is written too: a network read back is equal to the byte.
            if (layer.scale != 1).any() or layer.offset.any() or np.signbit(layer.offset).any():
                nodes[f"{name}_values"] = nir.Affine(np.diag(layer.scale), layer.offset.copy())
            continue
        shift = 0.5 - layer.threshold
        if np.abs(shift).max() > _EXACT:
            raise ConversionError(f"{name} has a threshold of more than 51 bits, which float64 does not hold exactly")
        sign = layer.polarity[:, None]
        metadata = {"polarity": layer.polarity.copy()}
        if layer.centred:
            nodes[f"{name}_sums"] = nir.Affine(_stored(weight), bias)
            nodes[name] = nir.Affine(_stored(sign * _centring(layer.n_out)), shift, metadata=metadata)
        else:
            nodes[name] = nir.Affine(_stored(sign * weight), layer.polarity * bias + shift, metadata=metadata)
        nodes[f"{name}_fires"] = _fires(layer.n_out, time_step)
    nodes["output"] = nir.Output(np.array([graph.n_out]))
    names = list(nodes)
    details: dict[str, Any] = {"max_level": graph.max_level, "input_shape": np.array(graph.input_shape)}
    if time_step is not None:
        details["time_step"] = time_step
    return nir.NIRGraph(nodes, list(pairwise(names)), metadata=details)


def from_nir(
    graph: nir.NIRGraph, *, max_level: int | None = None, input_shape: tuple[int, ...] | None = None
) -> LavaNetwork:
    """The network of an NIR graph, exactly; `from_nir(to_nir(network))` is equal to `network`, to the byte when saved.

    Other programs' graphs are taken where they are one chain from raw pixels, of these nodes:

    - `Affine` or `Linear` whose weights are +c and -c, each unit with a positive c of its own; behind a `Threshold` its
      inputs are 0 and 1.
    - directly behind it, `Scale` or an `Affine` with a diagonal matrix: a factor for each unit.
    - `Threshold`: z = 1 where its input exceeds its threshold.
    - a `Flatten` of the whole input, in front.

    Thresholds are computed in rationals: the result is what the stored numbers say, whatever a program that simulates
    the graph in float32 rounds. `nir.LIF` is taken in graphs written by `to_nir(time_step=...)` only.

    Args:
        graph: as `nir.read(path)` gives it.
        max_level: of the pixels, 0 .. max_level (1 for spikes); needed where the graph's metadata do not have it.
        input_shape: of one image; by default the metadata's, or that of the input node.

    Raises `ConversionError` with the name of the first node that cannot be converted exactly, and why.
    """
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"from_nir takes an NIRGraph, as nir.read(path) gives it; got {type(graph).__name__}")
    chain = _chain(graph)
    level = max_level if max_level is not None else graph.metadata.get("max_level")
    if level is None:
        raise ConversionError("the graph does not say which pixels it takes: pass max_level= (1 for spikes, or 255)")
    shape = tuple(int(extent) for extent in chain[0][1].output_type["output"])
    if len(chain) > 1 and isinstance(chain[1][1], nir.Flatten):
        if np.size(chain[1][1].output_type["output"]) != 1:
            raise ConversionError(f"{chain[1][0]} (Flatten) must flatten all of the input's dimensions into one")
        del chain[1]
    elif len(shape) != 1:
        raise ConversionError(f"{chain[0][0]} (Input) has shape {shape} and no Flatten behind it")
    shape = tuple(int(extent) for extent in input_shape or graph.metadata.get("input_shape", shape))
    layers: list[DenseLayer] = []
    sums: _Sums | None = None
    for name, node in chain[1:-1]:
        label = f"{name} ({type(node).__name__})"
        if isinstance(node, (nir.Threshold, nir.LIF)):
            if sums is None:
                raise ConversionError(f"{label} has no Affine or Linear in front of it")
            layers.append(sums.layer(label, _thresholds(label, node, graph.metadata.get("time_step"))))
            sums = None
        elif isinstance(node, (nir.Affine, nir.Linear, nir.Scale)):
            if sums is None:
                sums = _Sums(label, node, first=not layers)
            else:
                sums.follow(label, node)
        else:
            raise ConversionError(f"{label} is not supported; supported are Affine, Linear, Scale and Threshold")
    if sums is None:
        raise ConversionError(f"{chain[-2][0]} is the last node; the output must be that of an Affine or Linear")
    return LavaNetwork(BinaryGraph(tuple(layers), sums.readout(), int(level), shape))


def _on_spikes(layer: DenseLayer | Readout, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias that give `W x` from what NIR's units send: from pixels as they are, else from 0 and 1."""
    weight = np.where(layer.weight, 1.0, -1.0)
    return (weight, np.zeros(layer.n_out)) if first else (2 * weight, -weight.sum(axis=1))


def _stored(weight: np.ndarray) -> np.ndarray:
    return weight.astype(np.float32)  # integers below 2**24: half the memory, nothing lost


def _centring(units: int) -> np.ndarray:
    """`n I - 1`: takes sums u to `n * u_j - sum_k u_k`."""
    return units * np.eye(units) - 1


def _fires(units: int, time_step: float | None) -> nir.NIRNode:
    zeros, ones = np.zeros(units), np.ones(units)
    if time_step is None:
        return nir.Threshold(zeros)
    return nir.LIF(tau=time_step * ones, r=ones, v_leak=zeros, v_threshold=zeros.copy(), v_reset=zeros.copy())


def _chain(graph: nir.NIRGraph) -> list[tuple[str, Any]]:
    """The nodes by name, from the input to the output."""
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(inputs) != 1:
        raise ConversionError(f"the graph has {len(inputs)} input nodes; a chain from one input is supported")
    after: dict[str, str] = {}
    for source, target in graph.edges:
        if source in after:
            raise ConversionError(f"{source} is connected to {after[source]} and to {target}; a chain is supported")
        after[source] = target
    names = inputs
    while names[-1] in after:
        if after[names[-1]] in names:
            raise ConversionError(f"{names[-1]} leads back to {after[names[-1]]}; a chain is supported")
        names.append(after[names[-1]])
    left = [name for name in graph.nodes if name not in names]
    if left:
        raise ConversionError(f"{left[0]} is not on the way from {names[0]} to {names[-1]}; a chain is supported")
    if not isinstance(graph.nodes[names[-1]], nir.Output):
        raise ConversionError(f"{names[-1]} is where the graph ends, but it is not an Output node")
    return [(name, graph.nodes[name]) for name in names]


def _thresholds(label: str, node: nir.Threshold | nir.LIF, time_step: float | None) -> np.ndarray:
    if isinstance(node, nir.Threshold):
        return node.threshold
    if time_step is None or (node.tau != time_step).any() or (node.r != 1).any() or node.v_leak.any():
        raise ConversionError(
            f"{label} remembers earlier time steps, which a binarized network does not; use Threshold, or a graph "
            "written by to_nir(time_step=...)"
        )
    return node.v_threshold


class _Sums:
    """Linear nodes between two thresholds: `scale_j * d_j + offset_j`, `d` as in `DenseLayer`, without rounding."""

    scale: Sequence[Fraction | float]
    offset: Sequence[Fraction | float]

    def __init__(self, label: str, node: Any, first: bool) -> None:
        if isinstance(node, nir.Scale) or node.weight.ndim != 2:
            raise ConversionError(f"{label} must be an Affine or Linear with a matrix of weights")
        weight = np.asarray(node.weight, np.float64)
        size = np.abs(weight)
        if not (np.isfinite(size).all() and (size == size[:, :1]).all() and size.all()):
            raise ConversionError(f"{label} has weights that are not +c and -c with one c, not 0, for each unit")
        self.label = label
        self.centred = False
        polarity = _polarity(label, node, np.ones(len(weight), np.int8))
        self.positive = (weight > 0) == (polarity > 0)[:, None]
        # On pixels the sums are W p = u; on spikes z = (a + 1) / 2 they are W z = (u + R) / 2.
        row = np.zeros(len(weight)) if first else 2 * self.positive.sum(axis=1) - weight.shape[1]
        factors = [Fraction(float(c)) / (1 if first else 2) for c in polarity * size[:, 0]]
        self.scale = factors
        self.offset = [
            Fraction(b) + factor * int(r) for b, factor, r in zip(_bias(label, node), factors, row, strict=True)
        ]

    def follow(self, label: str, node: Any) -> None:
        """Another linear node: factors of the units, or the centring of a layer norm."""
        units = len(self.scale)
        matrix = np.diag(node.scale) if isinstance(node, nir.Scale) else np.asarray(node.weight, np.float64)
        factors, bias = [float(factor) for factor in np.diag(matrix)], _bias(label, node)
        plain = not self.centred and all(s == 1 for s in self.scale) and not any(self.offset)
        square = matrix.shape == (units, units)
        if square and "polarity" not in node.metadata and (matrix == np.diag(factors)).all():
            if plain:  # as they are: rationals would lose the sign of -0.0
                self.scale, self.offset = factors, bias
            else:
                self.offset = [
                    Fraction(f) * Fraction(o) + Fraction(b) for f, o, b in zip(factors, self.offset, bias, strict=True)
                ]
                self.scale = [Fraction(f) * Fraction(s) for f, s in zip(factors, self.scale, strict=True)]
            return
        polarity = _polarity(label, node, np.where(np.diag(matrix) < 0, -1, 1))
        if not (square and plain and np.array_equal(matrix, polarity[:, None] * _centring(units))):
            raise ConversionError(
                f"{label} follows {self.label} without a threshold between them, and is neither a factor for each unit "
                "(a diagonal matrix) nor the centring n I - 1 of sums of +1 and -1"
            )
        self.centred, self.scale, self.offset = True, [float(p) for p in polarity], bias

    def layer(self, label: str, thresholds: np.ndarray) -> DenseLayer:
        """The layer that fires where `scale * d + offset > threshold`."""
        if thresholds.shape != (len(self.scale),) or not np.isfinite(thresholds).all():
            raise ConversionError(f"{label} needs one finite threshold for each of {len(self.scale)} units")
        if not all(self.scale):
            raise ConversionError(f"{label} follows {self.label} and a factor of 0: a unit that never changes")
        # Of integers, polarity * d > q is polarity * d >= floor(q) + 1.
        reached = [
            floor((Fraction(float(t)) - Fraction(o)) / abs(Fraction(s))) + 1
            for t, o, s in zip(thresholds, self.offset, self.scale, strict=True)
        ]
        if max(map(abs, reached)) >= 2**63:
            raise ConversionError(f"{label} has a threshold of more than 63 bits in units of the weights")
        polarity = np.array([1 if s > 0 else -1 for s in self.scale])
        return DenseLayer.from_weights(self.positive, np.array(reached, np.int64), polarity, self.centred)

    def readout(self) -> Readout:
        """The last layer, if float64 holds its scales and offsets."""
        scale, offset = [float(s) for s in self.scale], [float(o) for o in self.offset]
        if self.centred or scale != self.scale or offset != self.offset:
            raise ConversionError(
                f"{self.label} is the readout; written for inputs of +1 and -1, its values are centred or need more "
                "bits than float64 has"
            )
        return Readout.from_weights(self.positive, np.array(scale), np.array(offset))


def _polarity(label: str, node: Any, default: np.ndarray) -> np.ndarray:
    """Which units the node's metadata call inverted; any choice describes the same function."""
    polarity = np.asarray(node.metadata.get("polarity", default))
    if polarity.shape != default.shape or not np.isin(polarity, (-1, 1)).all():
        raise ConversionError(f"{label} has a polarity in its metadata that is not +1 or -1 for each unit")
    return polarity


def _bias(label: str, node: Any) -> list[float]:
    units = int(np.prod(node.output_type["output"]))
    bias = np.asarray(node.bias if isinstance(node, nir.Affine) else np.zeros(units), np.float64)
    if bias.shape != (units,) or not np.isfinite(bias).all():
        raise ConversionError(f"{label} needs one finite bias for each of {units} units")
    return bias.tolist()
