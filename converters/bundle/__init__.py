"""A folder with all that a colleague with a chip needs, without this package.

    bundle.json           what the folder is, and the checksum of every file
    README.md             what is in it, how to run it, what to expect
    run.py                runs the network as stock Lava Processes on the test images and compares; Lava's names only
    lava_import.py        adapts Lava to the Python and numpy at hand
    processes.json, .npz  the stock Processes: structure and integers
    acceptance.npz        test images, the sums and classes they must give, their labels if known
    network.safetensors   the network, for `lava_meta.load`
    network.nir           the network in the exchange format, if it can express it
    learner.safetensors   a network that learns, for `lava_meta.load`
    rule.json             a plasticity rule as the strings of Lava's learning engine
    report.json           what the network takes of a Loihi 2, counted on the test images (`lava_meta.loihi.cost`)

The folder is written beside its place and then renamed: it is whole or not there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.bundle.folder import (
    IMAGES,
    check_place,
    known_labels,
    write_end,
    write_json,
    write_nir,
    write_run,
)
from lava_meta.converters.bundle.readme import Contents, readme
from lava_meta.converters.bundle.spiking import spiking_bundle
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph import Graph
from lava_meta.io.files import write_folder_atomically
from lava_meta.io.learned import Learned
from lava_meta.loihi.cost import cost
from lava_meta.loihi.stock import plan
from lava_meta.online_learning import Learner, LearnerOverTime
from lava_meta.rule import Consolidation, Tanh2, consolidation_from_dict
from lava_meta.rule.lowering import PRECISIONS, EngineRule, lower

PAPERS_RULE = Tanh2(m=1.35)


def bundle(
    network: LavaNetwork | Graph | Learner | SpikingNetwork,
    folder: str | os.PathLike[str],
    *,
    images: Any = None,
    steps: int | None = None,
    time_first: bool | None = None,
    labels: Any = None,
    accuracies: Mapping[str, float] | None = None,
    rule: Consolidation | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the folder and return its path.

    Args:
        network: what `lava_meta.convert` or `lava_meta.load` returns, or a network's graph. Of a learner, the network
            that it is now.
        folder: the folder to write.
        images: for acceptance, the first hundred of them; by default random inputs of seed 0. Of a spiking network,
            whose folder has its spikes instead of sums, as its methods take them, a tenth as many.
        steps: of a spiking network: time steps an image is held; without it, images are frames.
        time_first: which axis of such frames is time.
        labels: their classes, if known.
        accuracies: shares of right classes, 0 to 1, by the name of what was tested, for the README: of a network that
            learned several tasks, one per task.
        rule: the consolidation function to lower; by default the one with which the network was trained, or the learner
            learns. If the file does not say, or each layer had its own: the paper's, 1 - tanh(1.35 h)**2.
        overwrite: replace a bundle that is there.

    Raises:
        ConversionError: the network does not fit Loihi's ranges (its layers or nodes are named), or the rule cannot be
            lowered.
        TypeError: images or labels are of another type.
        ValueError: images or labels do not fit the network.
        RunFolderError: the folder holds something else, or a bundle and `overwrite` is False.
    """
    if isinstance(network, SpikingNetwork):
        if rule is not None or accuracies is not None:
            raise ValueError("the folder of a spiking network has no rule and no table of accuracies")
        return spiking_bundle(
            network, folder, images=images, steps=steps, time_first=time_first, labels=labels, overwrite=overwrite
        )
    if isinstance(network, LearnerOverTime):
        raise ConversionError(
            "a learner over time is bundled as the network that it is now: bundle(convert(learner), folder, "
            "images=learner.trains(images), time_first=False)"
        )
    if steps is not None or time_first is not None:
        raise ValueError("steps and time_first are those of spiking networks")
    learner = network if isinstance(network, Learner) else None
    graph = _graph_of(network)
    target = Path(folder)
    check_place(target, overwrite=overwrite)
    layers = plan(graph)
    acceptance = _acceptance(graph, learner, images, labels)
    learned = network.learned if isinstance(network, (LavaNetwork, Learner)) else ()
    own, origin = _rule_of(learner, learned) if rule is None else (rule, "The one that was asked for")
    rules = {precision: lower(own, precision=precision) for precision in PRECISIONS}
    found = cost(graph, acceptance["images"], labels=acceptance.get("labels"))

    with write_folder_atomically(target) as temporary:
        saved = LavaNetwork(graph, parity=getattr(network, "parity", None), learned=learned)
        saved.save(temporary / "network.safetensors")
        if learner:
            learner.save(temporary / "learner.safetensors")
        nir_refusal = write_nir(graph, temporary / "network.nir")
        write_run(temporary, _about(graph), layers, acceptance, found.to_dict())
        write_json(temporary / "rule.json", {precision: _rule(engine) for precision, engine in rules.items()})
        contents = Contents(
            graph=graph,
            layers=layers,
            acceptance=acceptance,
            random=images is None,
            rules=rules,
            origin=origin,
            nir_refusal=nir_refusal,
            learner=learner is not None,
            learned=learned,
            accuracies=accuracies,
        )
        write_end(temporary, readme(contents))
    return target


def _about(graph: Graph) -> dict[str, Any]:
    return {
        "spikes": graph.signs,  # whether inputs of +1 and -1 enter as spikes
        "scale": graph.readout.scale.tolist(),
        "offset": graph.readout.offset.tolist(),
    }


def _acceptance(graph: Graph, learner: Learner | None, images: Any, labels: Any) -> dict[str, Any]:
    """Inputs with the sums and classes that they must give, and their labels if these are known."""
    inputs = _random_inputs(graph) if images is None else images[:IMAGES]
    if learner and images is not None:
        inputs = learner.encode(inputs)
    pixels = graph.check_images(inputs)
    sums = graph.sums(pixels)
    found = {"images": pixels.reshape(-1, *graph.input_shape), "sums": sums, "classes": graph.readout.classes(sums)}
    return found | known_labels(labels, len(pixels), IMAGES, given=images is not None)


def _graph_of(network: LavaNetwork | Graph | Learner) -> Graph:
    if isinstance(network, Learner):
        return network.graph()
    return network.graph if isinstance(network, LavaNetwork) else network


def _rule_of(learner: Learner | None, learned: Sequence[Learned]) -> tuple[Consolidation, str]:
    """The rule of the network, or the paper's, and where it comes from."""
    if learner is not None:
        return learner.rule.consolidation, "The network's own, of hidden weights as shares of their limits"
    trained = learned[-1].rule if learned else None
    if trained is None:
        return PAPERS_RULE, "What the network was trained with is not in its file; this is the paper's"
    try:
        return consolidation_from_dict(trained), "The one with which the network was trained"
    except (TypeError, ValueError):  # one per layer, or a function of the user's own
        return PAPERS_RULE, f"The network was trained with {trained}, which is no single rule; this is the paper's"


def _random_inputs(graph: Graph) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if graph.signs:
        return rng.choice(np.array([-1, 1], graph.dtype), (IMAGES, *graph.input_shape))
    return rng.integers(
        graph.min_level, graph.max_level, (IMAGES, *graph.input_shape), dtype=graph.dtype, endpoint=True
    )


def _rule(engine: EngineRule) -> dict[str, Any]:
    return {
        "declared": str(engine.declared),
        "expressed": str(engine.consolidation),
        "dt": engine.dt,
        "dw": engine.dw,
        "tag units for a hidden weight of 1": engine.scale,
        "tag units by which a trace y1 of 1 lowers a synapse": engine.step,
        "mean of the trace y3": engine.rounding,
        "distance of the gates": {"mean": engine.mean_distance, "largest": engine.max_distance},
        "products": engine.stages() if engine.precision == "fixed" else [],
    }
