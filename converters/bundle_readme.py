"""The README of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph import BinaryGraph
from lava_meta.io.learned import Learned
from lava_meta.loihi.stock import StockLayer, latencies
from lava_meta.rule.lowering import EngineRule
from lava_meta.version import __version__

_POINTS = {"fixed": "Fixed point:", "float": "Floating point:"}


def readme(
    graph: BinaryGraph,
    layers: list[StockLayer],
    acceptance: dict[str, NDArray[Any]],
    rules: dict[str, EngineRule],
    nir_refusal: str | None,
    *,
    random: bool,
    learns: bool,
    origin: str,
    learned: Sequence[Learned],
    accuracies: Mapping[str, float] | None,
) -> str:
    """Its text: what is in the folder, how to run it, what to expect, and what nobody has tried."""
    n = len(acceptance["images"])
    kind = "random inputs" if random else "images"
    known = ""
    if "labels" in acceptance:
        known = f" {100 * np.mean(acceptance['classes'] == acceptance['labels']):.1f} % of these classes are right."
    nir = "the network in NIR" if nir_refusal is None else f"not written: {nir_refusal}"
    learner = "| `learner.safetensors` | the same with its hidden weights, for `lava_meta.load` |\n" if learns else ""
    steps = latencies(layers)
    neurons = {part.kind for layer in layers for part in layer.parts.values() if part.is_neurons}
    rows = "\n".join(
        f"| {layer.name} | {', '.join(f'{name} ({part.kind})' for name, part in layer.parts.items())} "
        f"| {steps[layer.name]} |"
        for layer in layers
    )
    strings = "\n\n".join(
        f"{_POINTS[precision]}\n\n" + "\n".join(f"    {line}" for line in engine.summary().splitlines())
        for precision, engine in rules.items()
    )
    return f"""# A binarized network for Loihi 2

{graph.n_in} inputs ({graph.domain}), {graph.n_out} classes; written by lava_meta {__version__}.

    python run.py                     Lava's simulation of Loihi 2
    python run.py --backend loihi     a chip, with Intel's extension of Lava (lava-loihi)

`run.py` needs Python 3.10 with `lava-nc==0.10.0`, and nothing of lava_meta. It runs {n} {kind}, one per time step, and
compares the readout's integer sums with those in `acceptance.npz`. Expected: `0 of {acceptance["sums"].size} sums
differ`, exit code 0.{known}

{_what_it_learned(learned, accuracies)}| file | holds |
| --- | --- |
| `run.py` | the run, on Lava's public names |
| `processes.json`, `processes.npz` | the stock Processes, their arguments and connections |
| `acceptance.npz` | `images`, and the `sums` and `classes` that they must give{", `labels`" if known else ""} |
| `network.safetensors` | the network, for `lava_meta.load` |
{learner}| `network.nir` | {nir} |
| `rule.json` | the rule below, with the widths of every product |
| `report.json` | cores, memory, spikes and operations on the {kind}, with every assumption; nothing verified |
| `bundle.json` | the checksum of every file |

## Processes

| layer | Processes | answers after steps |
| --- | --- | --- |
{rows}

Pixels enter as graded spikes; between layers go spikes, any value above 0 standing for one. The readout's sums leave as
graded spikes, and the class is the argmax of `scale * sums + offset` (`processes.json`), lowest index on ties.
All integers were checked against the ranges that Lava 0.10.0 documents: 8-bit weights, exponents -8 to 7, biases of 13
bits and an exponent, 24-bit states and graded spikes.

## The rule

{origin},
in the language of Lava's learning engine (`Loihi3FLearningRule`).

{strings}

## Not tried

No chip was available to lava_meta: its tests run such folders in the simulator, and nothing else. On a chip, look first
at these:

- Kinds of neurons that the extension must have: {", ".join(sorted(neurons))}.
- What synapses hand to graded neurons takes up to 24 bits. Lava's neurons document 24 bits for it, its `Dense` 16.
- Synapses with a negative `weight_exp` must round the sum down, as Lava's models do.
- Synapses with `num_message_bits` 0 must take any graded spike as one spike.
- The adapters `PyToNxAdapter` and `NxToPyAdapter` must carry graded spikes of 24 bits with a sign.
"""


def _what_it_learned(learned: Sequence[Learned], accuracies: Mapping[str, float] | None) -> str:
    """What the network was trained on, and its accuracy per task, each with a blank line behind it."""
    told = "".join(f"Learned: {one}.\n" for one in learned) or "What it learned is not in its file.\n"
    if not accuracies:
        return f"{told}\n"
    rows = "".join(f"| {name} | {100 * accuracy:.1f} |\n" for name, accuracy in accuracies.items())
    mean = f"| mean | {100 * np.mean([*accuracies.values()]):.1f} |\n" if len(accuracies) > 1 else ""
    return f"{told}\n| test, all of its images | right classes (%) |\n| --- | --- |\n{rows}{mean}\n"
