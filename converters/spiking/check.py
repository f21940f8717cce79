"""A spiking network beside the model that it came from: which spikes differ, and whether rounding explains them.

Sums of few-bit weights are exact in any order, and then every spike must be the model's. Sums of real float32 weights
are rounded by PyTorch in an order that depends on the machine and the batch; here they are rounded once. So where
spikes differ, the network is checked step by step from the model's own states: potentials must agree within rounding,
and spikes but for potentials that lie this near to their threshold (ties).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_meta.converters.recording.calling import untouched
from lava_meta.converters.spiking.modules import Cell, cells_of, place_of
from lava_meta.converters.spiking.parity import SpikingParity
from lava_meta.converters.spiking.reading import SpikingRead
from lava_meta.errors import ConversionError
from lava_meta.graph.spiking import SpikingGraph, classes_by_rate
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import Neurons

_ROUNDING = 2.0**-18  # of potentials, in the largest of their layer's numbers


@dataclass(frozen=True)
class Observed:
    """What a model did, by layer."""

    spikes: dict[str, NDArray[Any]]  # uint8 (steps, n, units)
    states: dict[str, list[dict[str, NDArray[Any]]]]  # after every step


def observe(read: SpikingRead, frames: NDArray[Any]) -> Observed:
    """Run the model itself, from rest, on frames (steps, n, n_in) of integers."""
    n = frames.shape[1]
    size = read.batch_size or n
    rows = np.arange(-(-n // size) * size).reshape(-1, size) % n
    parts = [_observed(read, frames[:, part]) for part in rows]
    spikes = {layer: np.concatenate([part.spikes[layer] for part in parts], axis=1)[:, :n] for layer in parts[0].spikes}
    states = {
        layer: [
            {key: np.concatenate([part.states[layer][k][key] for part in parts])[:n] for key in after}
            for k, after in enumerate(found)
        ]
        for layer, found in parts[0].states.items()
    }
    return Observed(spikes, states)


def _observed(read: SpikingRead, frames: NDArray[Any]) -> Observed:
    """The same of as many images as the model takes at once."""
    model = read.model
    cells = {cell.name: cell for cell in cells_of(model)}
    seen: dict[str, list[tuple[Any, dict[str, Any]]]] = {name: [] for name in read.names}

    def replaced(cell: Cell) -> Any:
        module = cell.module
        latest: list[tuple[Any, ...]] = []  # by place
        names = [name for name in read.names if name.partition("#")[0] == cell.name]
        calls = 0

        def forward(current: Any, *given: Any, **named: Any) -> Any:
            nonlocal calls
            given = (*given, *(named[name] for name in cell.states[len(given) :] if name in named))
            if not calls:  # what the model may have kept of inputs before
                given = tuple(state if state is None else torch.zeros(0) for state in given)
            if given and read.time == "step":
                place = calls % len(names)
                given = latest[place] if calls >= len(names) else given
            else:
                place = place_of(latest, given) or 0
            found = type(module).forward(module, current, *given)
            states = {name: getattr(module, name) for name in cell.states}
            latest[place : place + 1] = [tuple(states.values())]
            calls += 1
            spikes = found[0] if isinstance(found, tuple) else found
            seen[names[place]].append((spikes, {name: value.clone() for name, value in states.items()}))
            return found

        return forward

    with untouched(model):
        for cell in cells.values():
            for name in cell.states:
                setattr(cell.module, name, torch.zeros(0))
            cell.module.__dict__["forward"] = replaced(cell)
        _run(read, frames)
    spikes, states = {}, {}
    for name, layer in read.names.items():
        calls = seen[name]
        n = frames.shape[1]
        spikes[layer] = np.stack([(fired != 0).numpy().reshape(n, -1).astype(np.uint8) for fired, _ in calls])
        states[layer] = [{key: value.numpy() for key, value in after.items()} for _, after in calls]
    return Observed(spikes, states)


def _run(read: SpikingRead, frames: NDArray[Any]) -> None:
    def fed(part: NDArray[Any]) -> Any:
        images = part.reshape(-1, *read.graph.input_shape).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(read.feed(images)))

    rest = [torch.zeros(0) for _ in range(read.given)]
    if read.time == "held":
        if len(frames) != read.steps or (frames != frames[:1]).any():
            raise ValueError(f"the model holds an image for {read.steps} steps; it takes no other frames")
        read.model(fed(frames[0]), *rest)
    elif read.time == "step":
        for frame in frames:
            read.model(fed(frame), *rest)
    else:
        trains = fed(frames.reshape(-1, frames.shape[-1])).reshape(*frames.shape[:2], *read.graph.input_shape)
        read.model(trains if read.time == "first" else trains.transpose(0, 1), *rest)


def check(
    read: SpikingRead,
    graph: SpikingGraph | SteppedGraph,
    frames: NDArray[Any],
    *,
    seed: int | None = None,
    rounded: bool = False,
) -> SpikingParity:
    """Compare; `rounded` says that weights were rounded, so that spikes may differ.

    Raises:
        ConversionError: spikes differ, and rounding does not explain it.
    """
    observed = observe(read, frames)
    chain = isinstance(graph, SpikingGraph)
    names = dict(zip(observed.spikes, [name for name, _ in graph.named_layers()], strict=False)) if chain else {}
    theirs = {names.get(name, name): spikes for name, spikes in observed.spikes.items()}
    last = graph.output if isinstance(graph, SteppedGraph) and graph.output in theirs else [*theirs][-1]
    ours = graph.spikes(frames)
    mismatches = {name: int((ours[name] != spikes).sum()) for name, spikes in theirs.items()}
    ties: dict[str, int] = {}
    if any(mismatches.values()) and not rounded:
        ties = _ties(graph, observed, frames) if isinstance(graph, SteppedGraph) else {}
        if not ties:
            raise ConversionError(
                f"the converted network's spikes differ from the model's, by layer {mismatches}: was a neuron changed "
                "after it was made?"
            )
    try:
        fixed = graph.spikes(frames, form="fixed_pt")
    except ConversionError:
        fixed = None

    def shares(found: dict[str, NDArray[Any]]) -> dict[str, float]:
        return {name: float((found[name] == spikes).mean()) for name, spikes in theirs.items()}

    def same_classes(found: dict[str, NDArray[Any]]) -> float:
        return float((classes_by_rate(found[last]) == classes_by_rate(theirs[last])).mean())

    return SpikingParity(
        images=frames.shape[1],
        steps=len(frames),
        seed=seed,
        compared=sum(spikes.size for spikes in theirs.values()),
        mismatches=mismatches,
        spikes=shares(ours),
        rates={name: float(np.abs(ours[name].mean(0) - spikes.mean(0)).mean()) for name, spikes in theirs.items()},
        classes=same_classes(ours),
        fixed_spikes={} if fixed is None else shares(fixed),
        fixed_classes=None if fixed is None else same_classes(fixed),
        ties=ties,
    )


def _ties(graph: SteppedGraph, observed: Observed, frames: NDArray[Any]) -> dict[str, int]:
    """Spikes of single steps that differ, by layer; every step begins with the model's own states.

    Raises `ConversionError` if a potential differs by more than rounding.
    """
    run = graph.run()
    ties = dict.fromkeys(observed.spikes, 0)
    for k, frame in enumerate(frames):
        forced = {name: spikes[k] for name, spikes in observed.spikes.items()}
        ours = run.step(frame, forced=forced)
        for name, node in graph.neurons.items():
            if name not in observed.states:
                continue
            after = observed.states[name][k]
            _compare(name, node, run.state(name), ours[name], forced[name].astype(bool), after)
            ties[name] += int((ours[name] != forced[name]).sum())
            state = run.state(name)
            state.states = {key: after[key].astype(np.float32) for key in node.states}
            state.spikes = forced[name].astype(bool).reshape(state.spikes.shape)
    return ties


def _compare(
    name: str, node: Neurons, state: Any, ours: NDArray[Any], theirs: NDArray[Any], after: dict[str, NDArray[Any]]
) -> None:
    v, w = state.states["mem"].reshape(ours.shape), after["mem"].reshape(ours.shape)
    threshold = np.broadcast_to(node.constants["threshold"], state.states["mem"].shape).reshape(ours.shape)
    size = max(float(np.abs(part).max()) for part in (v, w, threshold, *after.values()))
    allowed = _ROUNDING * max(size, 1e-30)
    silent = np.where(ours, w, v)  # of the side that did not fire, which no reset has changed
    differs = ours != theirs
    wrong = np.where(differs, np.abs(silent - threshold), np.abs(v - w)) > allowed
    if wrong.any():
        raise ConversionError(
            f"{name}: {int(wrong.sum())} potentials of a step differ from the model's by more than rounding: was a "
            "neuron changed after it was made?"
        )
