"""What a network does for each image, counted by running its stock form on given images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.loihi.cost.populations import INPUT, Population

_BATCH_VALUES = 4_000_000  # received by the largest population at once: bounds memory


@dataclass(frozen=True)
class Work:
    """Means per image of one population."""

    spikes: float  # sent: values that are not 0
    operations: float  # synaptic operations before its neurons
    active: float  # neurons that receive or send at least one spike


@dataclass(frozen=True, eq=False)
class Workload:
    """Means per image of a network; `sent` holds the spikes of each population, by neuron, (units,)."""

    images: int
    work: dict[str, Work]  # by population
    sent: dict[str, NDArray[Any]]  # by population, and of the input


def measure(populations: Sequence[Population], pixels: NDArray[Any]) -> Workload:
    """Run `pixels`, integers (n, inputs), through the populations, one image per step, and count."""
    widest = max(int(population.fan_in.max()) if len(population.shape) == 3 else 1 for population in populations)
    units = max(population.units * widest for population in populations)
    batch = max(1, min(512, _BATCH_VALUES // units))

    def steps() -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(pixels), batch):
            values = {INPUT: pixels[start : start + batch].astype(np.int64)}
            for population in populations:
                values[population.name] = population.send(values)
            yield values

    return count(populations, steps(), len(pixels))


def count(populations: Sequence[Population], steps: Iterable[dict[str, NDArray[Any]]], images: int) -> Workload:
    """Count what is sent, values (n, units) by population and of the input, in all steps of so many images."""
    names = [INPUT, *(population.name for population in populations)]
    sent = dict.fromkeys(names, np.zeros(1))
    operations, active = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for values in steps:
        for population in populations:
            done = population.operations(values)
            operations[population.name] += int(done.sum())
            active[population.name] += int(((done > 0) | (values[population.name] != 0)).sum())
        for name in names:
            sent[name] = sent[name] + (values[name] != 0).sum(axis=0)
    means = {name: total / images for name, total in sent.items()}
    work = {name: Work(float(means[name].sum()), operations[name] / images, active[name] / images) for name in names}
    return Workload(images, work, means)
