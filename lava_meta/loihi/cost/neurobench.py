"""NeuroBench's metrics of a network, under NeuroBench's names.

    Footprint                     bytes of all parameters and buffers, weights of 0 included
    Connection Sparsity           share of weights that are 0: there are none in a network of +1 and -1
    Activation Sparsity           share of neuron outputs that are 0, over hidden neurons and images
    Synaptic Operations           per image; Dense: every connection; Effective_MACs and Effective_ACs: those whose
                                  input and weight are not 0, MACs if a layer's inputs take other values than -1, 0
                                  and 1, else ACs
    Classification Accuracy       share of right classes, if labels are given

Signs are counted as they are deployed, spikes of 0 and 1: in the PyTorch model the same outputs are -1 and +1, and none
is 0. As in NeuroBench, pooling, biases and padding are no synaptic operations.

Source: Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems", Nature
Communications 16:1545 (2025), and its harness.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph import BinaryGraph
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer, Readout

_BATCH = 64  # images at once


def metrics(graph: BinaryGraph, pixels: NDArray[Any], labels: NDArray[Any] | None = None) -> dict[str, Any]:
    """The metrics above, on pixels (n, n_in) as `graph.check_images` gives them, and labels (n,)."""
    n = len(pixels)
    layers = [layer for _, layer in graph.named_layers()]
    operations = [0] * len(layers)
    silent = outputs = right = 0
    for start in range(0, n, _BATCH):
        x = pixels[start : start + _BATCH]
        on = x > 0 if graph.signs else x != 0
        if graph.binarize is not None:
            on = graph.binarize.fires(x)
            x = np.where(on, 1, -1)
        for i, layer in enumerate(graph.layers):
            operations[i] += connections(layer, on)
            sums = layer.sums(x)
            fired = (replace(layer, pools=()) if isinstance(layer, ConvLayer) else layer).fires(sums)
            silent += int((~fired).sum())
            outputs += fired.size
            on = layer.fires(sums)
            x = np.where(on, 1, -1)
        operations[-1] += connections(graph.readout, on)
        if labels is not None:
            right += int((graph.readout.classes(graph.readout.sums(x)) == labels[start : start + _BATCH]).sum())
    graded = graph.first_levels is not None and int(np.abs(pixels.astype(np.int64)).max()) > 1
    macs = operations[0] if graded else 0
    found: dict[str, Any] = {
        "Footprint": sum(map(_bytes, (*layers, graph.binarize))),
        "Connection Sparsity": 0.0,
        "Activation Sparsity": silent / outputs if outputs else 0.0,
        "Synaptic Operations": {
            "Dense": sum(connections(layer, np.ones((1, layer.n_in), bool)) for layer in layers),
            "Effective_MACs": macs / n,
            "Effective_ACs": (sum(operations) - macs) / n,
        },
    }
    if labels is not None:
        found["Classification Accuracy"] = right / n
    return found


def connections(layer: DenseLayer | ConvLayer | Readout, on: NDArray[Any]) -> int:
    """Connections of a layer whose input is on, over all images: booleans (n, n_in)."""
    if isinstance(layer, ConvLayer):
        seen = layer.window.views(on.reshape(len(on), *layer.input_shape))
        return int(np.count_nonzero(seen)) * (layer.channels // layer.groups)
    return int(np.count_nonzero(on)) * layer.n_out


def _bytes(part: Any) -> int:
    """Of all arrays of a layer, its norm included."""
    if isinstance(part, np.ndarray):
        return part.nbytes
    return sum(map(_bytes, vars(part).values())) if is_dataclass(part) else 0
