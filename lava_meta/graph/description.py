"""What a layer of a `BinaryGraph` is, in a few words: for tables and pictures."""

from __future__ import annotations

import numpy as np

from lava_meta.graph.acyclic import Placed
from lava_meta.graph.conv import ConvLayer, Pair
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.graph.nodes import Conv, Curve, Linear, Node, Pool, Threshold
from lava_meta.graph.spiking_delays import Delayed
from lava_meta.graph.spiking_neurons import Neurons


def kind(layer: DenseLayer | ConvLayer | Readout | Placed) -> str:
    """Its sort and options, such as "conv 3x3, padding 1, pool 2x2"."""
    if isinstance(layer, Readout):
        return "readout"
    if isinstance(layer, Placed):
        return f"{node_words(layer.node)}, of {', '.join(layer.node.sources)}"
    words = ["dense"]
    if isinstance(layer, ConvLayer):
        window = layer.window
        words = [f"conv {_extents(window.kernel)}"]
        for name, usual in (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1))):
            value = getattr(window, name)
            if value != usual:
                words.append(f"{name} {value[0] if value[0] == value[1] else _extents(value)}")
        if layer.groups > 1:
            words.append(f"{layer.groups} groups")
        if layer.sum_window is not None:
            words.append(f"sums {_extents(layer.sum_window.kernel)}")
        words += [f"pool {_extents(pool.kernel)}" for pool in layer.pools]
    elif layer.centred:
        words.append("centred")
    if layer.norm is not None:
        words.append("norm of each image")
    return ", ".join(words)


def node_words(node: Node) -> str:
    """A node's sort and options, such as "binary conv 3x3, 2 groups"."""
    words = [node.kind]
    if isinstance(node, Neurons):
        words[0] = f"{node.model} neurons"
    if isinstance(node, Delayed):
        words.append(f"{node.delay} step{'s' * (node.delay > 1)}")
    if isinstance(node, (Linear, Conv)):
        each = node.weight.bits_each
        words[0] = f"{'binary' if each == 1 else f'{each}-bit'} {node.kind}"
    if isinstance(node, Pool):
        words[0] = f"{node.how} {node.kind}"
    if isinstance(node, (Conv, Pool)):
        words[0] += f" {_extents(node.window.kernel)}"
    if isinstance(node, Conv) and node.groups > 1:
        words.append(f"{node.groups} groups")
    if isinstance(node, Threshold):
        words.append(f"{len(node.codes)} levels")
    if isinstance(node, Curve):
        words.append(f"{len(node.start)} piece{'s' if len(node.start) > 1 else ''}")
    return ", ".join(words)


def spread(layer: DenseLayer | ConvLayer | Readout | Placed) -> str:
    """Least, median and greatest threshold, or the only one; nothing if a layer has none of its own."""
    if isinstance(layer, (Placed, Readout)) or layer.norm is not None:
        return ""
    low, middle, high = np.quantile(layer.threshold, (0, 0.5, 1), method="lower")
    return f"{low}" if low == high else f"{low} .. {middle} .. {high}"


def short(count: float, unit: str = "") -> str:
    """A number of things in thousands, millions or more, such as "2.58 MB" for bytes (`unit="B"`)."""
    for prefix in ("", "k", "M", "G"):
        if count < 999.5 or prefix == "G":
            break
        count /= 1000
    return f"{count:.3g} {prefix}{unit}".rstrip()


def _extents(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"
