"""The report of a network with time: leaky integrate-and-fire neurons that see an image for some steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.spiking import SpikingGraph, classes_by_rate
from lava_meta.loihi.chips import find_chip
from lava_meta.loihi.cost.populations import INPUT, populations
from lava_meta.loihi.cost.report import Placed, Report, check_labels
from lava_meta.loihi.cost.workload import count
from lava_meta.loihi.stock.spiking import plan_spiking


def spiking_report(
    graph: SpikingGraph,
    images: Any,
    target: str = "loihi2",
    *,
    steps: int | None = None,
    labels: Any = None,
    weight_bits: int = 8,
) -> Report:
    """As `lava_meta.loihi.cost.report`, of the network's stock form in integers; counts are sums over an image's steps.

    images (n, ...), each held for `steps` time steps, or one frame per step, (steps, n, ...). Raises `ConversionError`
    if neurons have no stock form, and what `graph.frames` and `lava_meta.loihi.cost.report` raise.
    """
    chip = find_chip(target)
    frames = graph.frames(images, steps)
    labels = check_labels(labels, frames.shape[1])
    mapped = plan_spiking(graph, len(frames))
    groups = populations(mapped)
    placed = Placed(mapped, groups, chip, weight_bits, {}, steps=len(frames))
    spikes = graph.spikes(images, steps, "fixed_pt")
    sent = {f"{layer.name}.{layer.output}": spikes[layer.name] for layer in mapped}
    passing = ({INPUT: frames[t], **{name: values[t] for name, values in sent.items()}} for t in range(len(frames)))
    workload = count(groups, passing, frames.shape[1])
    return placed.report(workload, metrics(graph, frames, spikes, labels), {})


def metrics(
    graph: SpikingGraph, frames: NDArray[Any], spikes: Mapping[str, NDArray[Any]], labels: NDArray[Any] | None
) -> dict[str, Any]:
    """NeuroBench's metrics (`lava_meta.loihi.cost.neurobench`), of all time steps of an image together."""
    steps, n = frames.shape[:2]
    inputs = [frames, *(spikes[name] for name, _ in graph.named_layers()[:-1])]
    operations = [np.count_nonzero(x) * layer.n_out / n for x, layer in zip(inputs, graph.layers, strict=True)]
    fired = sum(int(np.count_nonzero(values)) for values in spikes.values())
    macs = operations[0] if frames.max() > 1 else 0.0
    found: dict[str, Any] = {
        "Footprint": sum(
            array.nbytes for layer in graph.layers for array in vars(layer).values() if isinstance(array, np.ndarray)
        ),
        "Connection Sparsity": 0.0,
        "Activation Sparsity": 1 - fired / sum(values.size for values in spikes.values()),
        "Synaptic Operations": {
            "Dense": steps * sum(layer.n_in * layer.n_out for layer in graph.layers),
            "Effective_MACs": macs,
            "Effective_ACs": sum(operations) - macs,
        },
    }
    if labels is not None:
        found["Classification Accuracy"] = float((classes_by_rate(spikes["output"]) == labels).mean())
    return found
