"""The README of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph import Graph
from lava_meta.io.learned import Learned
from lava_meta.loihi.stock import StockLayer, latencies
from lava_meta.rule.lowering import EngineRule
from lava_meta.version import __version__

_POINTS = {"fixed": "Fixed point:", "float": "Floating point:"}


@dataclass(frozen=True)
class Contents:
    """What a bundle holds, for its README."""

    graph: Graph
    layers: list[StockLayer]
    acceptance: dict[str, NDArray[Any]]
    random: bool  # whether the inputs for acceptance were drawn
    rules: dict[str, EngineRule]  # by precision
    origin: str  # of the rule
    nir_refusal: str | None  # why there is no NIR file
    learner: bool  # whether there is a learner beside the network
    learned: Sequence[Learned]
    accuracies: Mapping[str, float] | None

    @property
    def kind(self) -> str:
        """What the inputs for acceptance are."""
        return "random inputs" if self.random else "images"


def readme(contents: Contents) -> str:
    """Its text: what is in the folder, how to run it, what to expect, and what nobody has tried."""
    sections = (_head, _what_it_learned, _files, _processes, _rule, _not_tried)
    return "\n".join(section(contents) for section in sections)


def _head(contents: Contents) -> str:
    graph, acceptance = contents.graph, contents.acceptance
    n, kind = len(acceptance["images"]), contents.kind
    known = ""
    if "labels" in acceptance:
        known = f" {100 * np.mean(acceptance['classes'] == acceptance['labels']):.1f} % of these classes are right."
    return f"""# A binarized network for Loihi 2

{graph.n_in} inputs ({graph.domain}), {graph.n_out} classes; written by lava_meta {__version__}.

    python run.py                     Lava's simulation of Loihi 2
    python run.py --backend loihi     a chip, with Intel's extension of Lava (lava-loihi)

`run.py` needs `lava-nc==0.10.0`, on Python 3.10 to 3.13, and nothing of lava_meta. It runs {n} {kind}, one per time
step, and compares the readout's integer sums with those in `acceptance.npz`. Expected: `0 of
{acceptance["sums"].size} sums differ`, exit code 0.{known}
"""


def _what_it_learned(contents: Contents) -> str:
    """What the network was trained on, and its accuracy per task."""
    text = "".join(f"Learned: {one}.\n" for one in contents.learned) or "What it learned is not in its file.\n"
    accuracies = contents.accuracies
    if not accuracies:
        return text
    rows = "".join(f"| {name} | {100 * accuracy:.1f} |\n" for name, accuracy in accuracies.items())
    mean = f"| mean | {100 * np.mean([*accuracies.values()]):.1f} |\n" if len(accuracies) > 1 else ""
    return f"{text}\n| test, all of its images | right classes (%) |\n| --- | --- |\n{rows}{mean}"


def _files(contents: Contents) -> str:
    labels = ", `labels`" if "labels" in contents.acceptance else ""
    learner = "| `learner.safetensors` | the same with its hidden weights, for `lava_meta.load` |\n"
    nir = "the network in NIR" if contents.nir_refusal is None else f"not written: {contents.nir_refusal}"
    return f"""| file | holds |
| --- | --- |
| `run.py` | the run, on Lava's public names |
| `lava_import.py` | adapts Lava to the Python and numpy at hand, changes nothing on disk |
| `processes.json`, `processes.npz` | the stock Processes, their arguments and connections |
| `acceptance.npz` | `images`, and the `sums` and `classes` that they must give{labels} |
| `network.safetensors` | the network, for `lava_meta.load` |
{learner if contents.learner else ""}| `network.nir` | {nir} |
| `rule.json` | the rule below, with the widths of every product |
| `report.json` | cores, memory, spikes and operations on the {contents.kind}, with every assumption; nothing verified |
| `bundle.json` | the checksum of every file |
"""


def _processes(contents: Contents) -> str:
    steps = latencies(contents.layers)
    rows = "\n".join(
        f"| {layer.name} | {', '.join(f'{name} ({part.kind})' for name, part in layer.parts.items())} "
        f"| {steps[layer.name]} |"
        for layer in contents.layers
    )
    return f"""## Processes

| layer | Processes | answers after steps |
| --- | --- | --- |
{rows}

Pixels enter as graded spikes; between layers go spikes, any value above 0 standing for one. The readout's sums leave as
graded spikes, and the class is the argmax of `scale * sums + offset` (`processes.json`), lowest index on ties.
All integers were checked against the ranges that Lava 0.10.0 documents: 8-bit weights, exponents -8 to 7, biases of 13
bits and an exponent, 24-bit states and graded spikes.
"""


def _rule(contents: Contents) -> str:
    strings = "\n\n".join(
        f"{_POINTS[precision]}\n\n" + "\n".join(f"    {line}" for line in engine.summary().splitlines())
        for precision, engine in contents.rules.items()
    )
    return f"""## The rule

{contents.origin},
in the language of Lava's learning engine (`Loihi3FLearningRule`).

{strings}
"""


def _not_tried(contents: Contents) -> str:
    neurons = {part.kind for layer in contents.layers for part in layer.parts.values() if part.is_neurons}
    return f"""## Not tried

No chip was available to lava_meta: its tests run such folders in the simulator, and nothing else. On a chip, look first
at these:

- Kinds of neurons that the extension must have: {", ".join(sorted(neurons))}.
- What synapses hand to graded neurons takes up to 24 bits. Lava's neurons document 24 bits for it, its `Dense` 16.
- Synapses with a negative `weight_exp` must round the sum down, as Lava's models do.
- Synapses with `num_message_bits` 0 must take any graded spike as one spike.
- The adapters `PyToNxAdapter` and `NxToPyAdapter` must carry graded spikes of 24 bits with a sign.
"""
