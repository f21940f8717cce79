"""NeuroBench's metrics of a network, under NeuroBench's names.

    Footprint                     bytes of all parameters and buffers, weights of 0 included
    Connection Sparsity           share of weights that are 0: there are none in a network of +1 and -1
    Activation Sparsity           share of neuron outputs that are 0, over hidden neurons and images
    Synaptic Operations           an image; Dense: every connection; Effective_MACs and Effective_ACs: those whose
                                  input and weight are not 0, MACs where a layer's inputs take other values than -1, 0
                                  and 1, else ACs
    Classification Accuracy       share of right classes, where labels are given

Hidden neurons are counted as they are deployed, spikes of 0 and 1: in the PyTorch model the same outputs are -1 and +1,
and none is 0. As in NeuroBench, pooling, biases and padding are no synaptic operations.

Source: Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems", Nature
Communications 16:1545 (2025), and its harness.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lava_meta.conv import ConvLayer
from lava_meta.graph import BinaryGraph

_BATCH = 64  # images at once


def metrics(graph: BinaryGraph, pixels: np.ndarray, labels: np.ndarray | None = None) -> dict[str, Any]:
    """The metrics above, on pixels (n, n_in) as `graph.check_images` gives them, and labels (n,)."""
    n = len(pixels)
    hidden = [0] * len(graph.layers)  # operations of the layers behind the first
    first = silent = outputs = right = 0
    for start in range(0, n, _BATCH):
        x = pixels[start : start + _BATCH]
        first += connections(graph.named_layers()[0][1], x != 0)
        for i, layer in enumerate(graph.layers):
            sums = layer.sums(x)
            fired = (replace(layer, pools=()) if isinstance(layer, ConvLayer) else layer).fires(sums)
            silent += int((~fired).sum())
            outputs += fired.size
            spikes = layer.fires(sums)
            hidden[i] += connections(graph.named_layers()[i + 1][1], spikes)
            x = np.where(spikes, 1, -1).astype(np.int8)
        if labels is not None:
            right += int((graph.readout.classes(graph.readout.sums(x)) == labels[start : start + _BATCH]).sum())
    graded = int(pixels.max()) > 1
    found: dict[str, Any] = {
        "Footprint": sum(
            array.nbytes
            for _, layer in graph.named_layers()
            for array in vars(layer).values()
            if isinstance(array, np.ndarray)
        ),
        "Connection Sparsity": 0.0,
        "Activation Sparsity": silent / outputs if outputs else 0.0,
        "Synaptic Operations": {
            "Dense": sum(connections(layer, np.ones((1, layer.n_in), bool)) for _, layer in graph.named_layers()),
            "Effective_MACs": first / n if graded else 0.0,
            "Effective_ACs": (sum(hidden) + (0 if graded else first)) / n,
        },
    }
    if labels is not None:
        found["Classification Accuracy"] = right / n
    return found


def connections(layer: Any, on: np.ndarray) -> int:
    """Connections of a layer whose input is on, over all images: booleans (n, n_in)."""
    if isinstance(layer, ConvLayer):
        seen = layer.window.views(on.reshape(len(on), *layer.input_shape))
        return int(np.count_nonzero(seen)) * (layer.channels // layer.groups)
    return int(np.count_nonzero(on)) * layer.n_out
