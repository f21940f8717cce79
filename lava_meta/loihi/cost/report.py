"""What a network will cost on a chip: counted on given data, placed by stated rules, estimated by stated figures.

    report = net.report("loihi2", images)
    print(report)
    report.save("folder")          report.json, report.txt, report.png, report.pdf

The report is about the stock form (`lava_meta.loihi.stock`), the one that can be taken to a chip. Nothing in it was
verified on a chip: no chip was available.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph import BinaryGraph
from lava_meta.loihi.chips import TAG_BITS, TRACE_BITS, TRACES, Chip, find_chip
from lava_meta.loihi.cost import energy, neurobench
from lava_meta.loihi.cost.assumptions import assumptions
from lava_meta.loihi.cost.figure import draw
from lava_meta.loihi.cost.placement import place
from lava_meta.loihi.cost.populations import INPUT, Population, populations
from lava_meta.loihi.cost.record import LayerCost, Record, Totals
from lava_meta.loihi.cost.saving import save_report
from lava_meta.loihi.cost.tables import as_html, as_text
from lava_meta.loihi.cost.workload import Workload, measure
from lava_meta.loihi.stock import StockLayer, latencies, plan


class Report(Record):
    """Filled by `report`; printed it is text, saved it is text, JSON and a figure."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write report.json, report.txt, report.png and report.pdf, each whole or not at all."""
        save_report(self, draw(self), folder)

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        totals = self.totals
        return (
            f"Report({self.chip.name}, {totals.neurons:,} neurons, {totals.synapses:,} synapses, "
            f"{len(self.cores)} cores, {self.nanojoules.total:,.3g} nJ per image by Loihi 1's coefficients)"
        )

    def _repr_html_(self) -> str:
        return as_html(self)


def report(
    graph: BinaryGraph,
    images: Any,
    target: str = "loihi2",
    *,
    labels: Any = None,
    weight_bits: int = 8,
    share_kernels: bool = True,
    plastic: Mapping[str, int] | None = None,
) -> Report:
    """Count, place and estimate.

    images (n, ...), and labels (n,) if any: what is counted on. weight_bits: 2 to 8, of a stored weight.
    share_kernels: whether a core stores a convolution's kernel once, or every synapse. plastic: layers that learn, by
    name, and the bits of their hidden weights.

    Raises `ValueError` for an unknown target, or arguments out of range; `ConversionError` if a layer has no stock
    form or a neuron no room; and what `graph.check_images` raises.
    """
    pixels = graph.check_images(images)
    labels = check_labels(labels, len(pixels))
    plastic = dict(plastic or {})
    layers = dict(graph.named_layers())
    if not {*plastic} <= {*layers}:
        raise ValueError(f"plastic is {', '.join(plastic)}; this network has {', '.join(layers)}")
    mapped = plan(graph)
    groups = populations(mapped)
    placed = Placed(mapped, groups, find_chip(target), weight_bits, plastic, share_kernels=share_kernels)
    workload = measure(groups, pixels > 0 if graph.signs else pixels)  # signs enter as spikes
    learning = {name: layers[name] for name in plastic}
    return placed.report(workload, neurobench.metrics(graph, pixels, labels), learning)


def check_labels(labels: Any, images: int) -> NDArray[Any] | None:
    """Labels (images,), or None for none. Raises `ValueError` for others."""
    if labels is None:
        return None
    known = np.asarray(labels)
    if known.shape != (images,):
        raise ValueError(f"labels have shape {known.shape}; expected one for each of {images} images")
    return known


class Placed:
    """A mapped network on its cores, waiting for what it does; in networks with time an image is held for `steps`.

    Raises `ValueError` for `weight_bits` out of range, `ConversionError` if a neuron has no room.
    """

    def __init__(
        self,
        mapped: Sequence[StockLayer],
        groups: Sequence[Population],
        chip: Chip,
        weight_bits: int,
        plastic: Mapping[str, int],
        *,
        share_kernels: bool = True,
        steps: int | None = None,
    ) -> None:
        if isinstance(weight_bits, bool) or not isinstance(weight_bits, int) or not 2 <= weight_bits <= 8:
            raise ValueError(f"weight_bits is {weight_bits!r}; a stored weight of both signs has 2 to 8 bits")
        self.mapped, self.groups, self.chip = mapped, groups, chip
        self.bits = {layer.name: weight_bits + (TAG_BITS if layer.name in plastic else 0) for layer in mapped}
        self.cores = place(groups, chip, self.bits, share_kernels=share_kernels)
        convolutional = any(len(population.shape) == 3 for population in groups)
        self.assumptions = assumptions(
            chip,
            weight_bits,
            share_kernels=share_kernels,
            convolutional=convolutional,
            plastic=plastic,
            steps=steps,
        )
        self.steps = steps or 1

    def report(self, workload: Workload, metrics: dict[str, Any], learning: Mapping[str, Any]) -> Report:
        """Counts, cores and energy. learning: the layers that learn, by name."""
        layers = []
        before, leaving = INPUT, {INPUT: INPUT}
        for stock in self.mapped:
            entering = {leaving[stock.senders.get(part, before)] for part in stock.inputs}
            layers.append(self._row(stock, workload, entering, learning.get(stock.name)))
            before, leaving[stock.name] = stock.name, f"{stock.name}.{stock.output}"
        latency = latencies([*self.mapped])[self.mapped[-1].name] + self.steps - 1
        totals = Totals.of(layers, self.steps, latency)
        counts = energy.Operations(
            synaptic_operation=totals.synaptic_operations,
            active_neuron_update=totals.active_neurons,
            inactive_neuron_update=totals.neuron_updates - totals.active_neurons,
            synaptic_update=totals.synaptic_updates,
            **energy.traffic(self.groups, self.cores, workload),
        )
        stored = sum(core.bits / self.bits[core.layer] for core in self.cores)
        return Report(
            chip=self.chip,
            images=workload.images,
            layers=layers,
            totals=totals,
            cores=self.cores,
            chips=max(math.ceil(len(self.cores) / self.chip.cores), math.ceil(stored / self.chip.synapses)),
            neurobench=metrics,
            counts=counts,
            nanojoules=energy.nanojoules(counts),
            assumptions=self.assumptions,
        )

    def _row(self, stock: StockLayer, workload: Workload, entering: set[str], learning: Any) -> LayerCost:
        """What a layer takes and does; `entering` send to it, `learning` is the layer if it learns, else None."""
        own = [workload.work[population.name] for population in self.groups if population.layer == stock.name]
        on = [core for core in self.cores if core.layer == stock.name]
        spikes_in = sum(workload.work[sender].spikes for sender in entering)
        return LayerCost(
            layer=stock.name,
            neurons=sum(core.neurons for core in on),
            synapses=sum(core.synapses for core in on),
            synaptic_bytes=math.ceil(sum(core.bits for core in on) / 8),
            spikes_in=spikes_in,
            spikes_sent=sum(work.spikes for work in own),
            synaptic_operations=sum(work.operations for work in own),
            active_neurons=sum(work.active for work in own),
            cores=len(on),
            steps=stock.latency,
            **({} if learning is None else _plastic(learning, spikes_in)),
        )


def _plastic(layer: Any, spikes: float) -> dict[str, Any]:
    """What a layer that learns takes beside: tags, traces, and an update of every synapse of an active input."""
    traces = TRACES["inputs"] * layer.n_in + TRACES["units"] * layer.n_out
    return {
        "tag_bytes": math.ceil(layer.n_in * layer.n_out * TAG_BITS / 8),
        "trace_bytes": math.ceil(traces * TRACE_BITS / 8),
        "synaptic_updates": spikes * layer.n_out,
    }
