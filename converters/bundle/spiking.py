"""A folder with a spiking network for a colleague with a chip: as `bundle`, with trains and spikes instead of sums."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.bundle.folder import IMAGES, check_place, known_labels, write_end, write_nir, write_run
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph.spiking import SpikingGraph, classes_by_rate
from lava_meta.io.files import write_folder_atomically
from lava_meta.loihi.stock import StockLayer, latencies
from lava_meta.loihi.stock.spiking import plan_spiking
from lava_meta.loihi.stock.stepped import period, plan_stepped
from lava_meta.version import __version__

_IMAGES = IMAGES // 10  # for acceptance: each takes many time steps of a simulation
_STEPS = 16  # of random trains
_NIR_STEP = 1e-4  # seconds, as snnTorch's


def spiking_bundle(
    network: SpikingNetwork,
    folder: str | os.PathLike[str],
    *,
    images: Any = None,
    steps: int | None = None,
    time_first: bool | None = None,
    labels: Any = None,
    overwrite: bool = False,
) -> Path:
    """Write the folder and return its path; see `lava_meta.bundle`.

    Raises:
        ConversionError: neurons without a stock form, by name.
    """
    graph, target = network.graph, Path(folder)
    check_place(target, overwrite=overwrite)
    frames = _frames(network, images, steps, time_first=time_first)
    length = len(frames)
    layers = plan_spiking(graph, length) if isinstance(graph, SpikingGraph) else plan_stepped(graph, length)
    output = graph.named_layers()[-1][0] if isinstance(graph, SpikingGraph) else graph.output
    if layers[-1].name != output:
        raise ConversionError(f"{output}, whose spikes are read, is not the last layer, {layers[-1].name}")
    every = length if isinstance(graph, SpikingGraph) else period(graph, length)
    found = graph.spikes(frames, form="fixed_pt")
    acceptance: dict[str, Any] = {
        "images": frames.swapaxes(0, 1).reshape(frames.shape[1], length, *graph.input_shape),
        "spikes": found[output].swapaxes(0, 1),
        "classes": classes_by_rate(found[output]),
    } | known_labels(labels, frames.shape[1], _IMAGES, given=images is not None)
    report = network.report("loihi2", frames)
    with write_folder_atomically(target) as temporary:
        network.save(temporary / "network.safetensors")
        refusal = write_nir(graph, temporary / "network.nir", _NIR_STEP)
        write_run(temporary, {"steps": length, "period": every}, layers, acceptance, report.to_dict())
        write_end(temporary, _readme(network, layers, acceptance, refusal, random=images is None, every=every))
    return target


def _frames(network: SpikingNetwork, images: Any, steps: int | None, *, time_first: bool | None) -> NDArray[Any]:
    """Frames (steps, n, inputs) for acceptance."""
    graph = network.graph
    if images is None:
        length = _STEPS if steps is None else steps
        drawn = np.random.default_rng(0).integers(0, 2, (length, _IMAGES, graph.n_in))
        return graph.frames(graph.min_level + drawn * (graph.max_level - graph.min_level), None)
    return network.frames(images, steps, time_first=time_first)[:, :_IMAGES]


def _readme(
    network: SpikingNetwork,
    layers: list[StockLayer],
    acceptance: dict[str, NDArray[Any]],
    refusal: str | None,
    *,
    random: bool,
    every: int,
) -> str:
    graph, wanted = network.graph, acceptance["spikes"]
    count, length = wanted.shape[:2]
    late = latencies(layers)
    rows = "\n".join(
        f"| {layer.name} | {', '.join(f'{name} ({part.kind})' for name, part in layer.parts.items())} "
        f"| {late[layer.name]} |"
        for layer in layers
    )
    kind = "random trains" if random else "images"
    exchanged = f"in NIR, of a time step of {_NIR_STEP:g} s" if refusal is None else f"not written: {refusal}"
    idle = (
        "" if every == length else " An idle step stands between two of them, in which recurrent layers are silenced."
    )
    return f"""# A spiking network for Loihi 2

{graph.n_in} inputs ({graph.min_level} to {graph.max_level}), {wanted.shape[2]} output neurons; written by lava_meta
{__version__}.

    python run.py                     Lava's simulation of Loihi 2
    python run.py --backend loihi     a chip, with Intel's extension of Lava (lava-loihi)

`run.py` needs `lava-nc==0.10.0`, on Python 3.10 to 3.13, and nothing of lava_meta. It runs {count} {kind}
of {length} time steps and compares the spikes of the output with those in `acceptance.npz`. Expected:
`0 of {wanted.size} spikes and silences differ`, exit code 0. Neurons start again with every one of them.{idle}

| file | holds |
| --- | --- |
| `run.py` | the run, on Lava's public names |
| `lava_import.py` | adapts Lava to the Python and numpy at hand, changes nothing on disk |
| `processes.json`, `processes.npz` | the stock Processes, their arguments and connections |
| `acceptance.npz` | `images` (n, steps, ...), the output's `spikes` (n, steps, neurons), `classes` by rate |
| `network.safetensors` | the network, for `lava_meta.load` |
| `network.nir` | {exchanged} |
| `report.json` | cores, memory, spikes and operations on these inputs, with every assumption; nothing verified |
| `bundle.json` | the checksum of every file |

| layer | Processes | answers after steps |
| --- | --- | --- |
{rows}

Spikes are integers above 0. All integers were checked against the ranges that Lava 0.10.0 documents. No chip was
available to lava_meta: its tests run such folders in the simulator, and nothing else.
"""
