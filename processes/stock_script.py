"""A network of stock Lava Processes on its test images: runs them, and compares with the sums that are expected.

    python run.py                     Lava's simulation of Loihi 2
    python run.py --backend loihi     a Loihi 2 chip, with Intel's extension of Lava

Lies beside processes.json and processes.npz, which hold the Processes, and acceptance.npz, which holds images and what
they give (of a spiking network, frames by time step, and spikes); and beside lava_import.py, which adapts Lava to
Pythons after 3.10. Needs lava-nc 0.10.0; uses nothing but
Lava's public names, numpy and scipy. Exit code: 0 all sums are equal, 3 some differ, 1 the files are not as they were
written or the chip is missing.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

if __name__ == "__main__":
    import lava_import  # type: ignore[import-not-found]  # lies beside the copy of this file in a bundle

    lava_import.install()

from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.graded.process import GradedReluVec, GradedVec
from lava.proc.io.sink import RingBuffer as Recorder
from lava.proc.io.source import RingBuffer as Player
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.process import Sparse
from scipy.sparse import csr_matrix

_KINDS = (Conv, Dense, GradedReluVec, GradedVec, LIF, LIFReset, Sparse)
KINDS: dict[str, Any] = {kind.__name__: kind for kind in _KINDS}


def wire(layer: Any, entry: Any, others: Any = None) -> tuple[dict[str, Any], Any]:
    """Make a layer's Processes, wired to each other and to ports; these by name, and the port that leaves.

    `entry` is the port of the layer before, `others` those of layers by name, for a layer that names its senders. Ports
    carry flat images, in the order (channels, rows, columns); Lava's maps are (rows, columns, channels).
    """
    made = {name: KINDS[part.kind](**part.arguments) for name, part in layer.parts.items()}
    for source, target in layer.links:
        if hasattr(made[source], "s_out"):
            made[source].s_out.connect(made[target].s_in)
        else:
            made[source].a_out.reshape(made[target].a_in.shape).connect(made[target].a_in)
    for name in layer.inputs:
        port = made[name].s_in
        sends = others[layer.senders[name]] if name in layer.senders else entry
        if len(port.shape) == 3:
            rows, columns, channels = port.shape
            sends.reshape((channels, rows, columns)).transpose((1, 2, 0)).connect(port)
        else:
            sends.reshape(port.shape).connect(port)
    leaves = made[layer.output].s_out
    if len(leaves.shape) == 3:
        leaves = leaves.transpose((2, 0, 1))
    return made, leaves.reshape((int(np.prod(leaves.shape)),))


def run(layers: list[Any], inputs: np.ndarray, backend: str) -> np.ndarray:
    """What the last layer sends, int64 (n, classes), for `inputs` (n, n_in), one per time step."""
    late = steps(layers)
    film = np.concatenate([inputs, np.repeat(inputs[-1:], late, axis=0)]).astype(np.int32).T
    player = Player(data=film)
    port = player.s_out
    if backend == "loihi":  # between Processes in Python and those on the chip stand Intel's adapters
        from lava.proc.embedded_io.spike import NxToPyAdapter, PyToNxAdapter

        to_chip = PyToNxAdapter(shape=port.shape)
        port.connect(to_chip.inp)
        port = to_chip.out
    ports = {"input": port}
    for layer in layers:
        _, port = wire(layer, port, ports)
        ports[layer.name] = port
    if backend == "loihi":
        from_chip = NxToPyAdapter(shape=port.shape)
        port.connect(from_chip.inp)
        port = from_chip.out
    recorder = Recorder(shape=port.shape, buffer=film.shape[1])
    port.connect(recorder.a_in)
    config = Loihi2HwCfg if backend == "loihi" else Loihi2SimCfg
    player.run(condition=RunSteps(num_steps=film.shape[1]), run_cfg=config(select_tag="fixed_pt"))
    try:
        sums: np.ndarray = recorder.data.get().T[late:].astype(np.int64)
    finally:
        player.stop()
    return sums


def compare_spikes(layers: list[Any], expected: dict[str, np.ndarray], length: int, period: int, backend: str) -> int:
    """Run trains (n, steps, ...), one every `period` time steps, and print how many spikes differ."""
    trains, wanted = expected["images"], expected["spikes"]
    film = trains.reshape(len(trains), length, -1)
    film = np.concatenate([film, np.repeat(film[:, -1:], period - length, axis=1)], axis=1)  # idle in between
    sent = run(layers, film.reshape(len(trains) * period, -1), backend)
    spikes = sent.reshape(len(trains), period, -1)[:, :length] > 0
    differ = int((spikes != wanted).sum())
    print(f"{len(trains)} images of {length} steps in {backend}: {differ} of {wanted.size} spikes and silences differ")
    classes = spikes.sum(axis=1).argmax(axis=1)
    print(f"{int((classes != expected['classes']).sum())} classes (by rate) differ")
    if "labels" in expected:
        print(f"accuracy {100 * np.mean(classes == expected['labels']):.1f} %")
    return 3 if differ else 0


def steps(layers: list[Any]) -> int:
    """After how many time steps the last layer answers."""
    found, before = {"input": 0}, "input"
    for layer in layers:
        senders = (found[layer.senders.get(part, before)] for part in layer.inputs)
        found[layer.name] = max(senders, default=0) + layer.latency
        before = layer.name
    return found[before]


def load(folder: Path) -> tuple[list[Any], dict[str, Any]]:
    """The layers of processes.json and processes.npz, and what else the first one says."""
    written = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["sha256"]
    for name in ("processes.json", "processes.npz", "acceptance.npz"):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != written[name]:
            raise SystemExit(f"{name} is not as it was written")
    structure = json.loads((folder / "processes.json").read_text(encoding="utf-8"))
    with np.load(folder / "processes.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    layers = [SimpleNamespace(**layer) for layer in structure.pop("layers")]
    for layer in layers:
        layer.parts = {
            name: SimpleNamespace(
                kind=part["kind"],
                arguments={key: _value(value, arrays) for key, value in part["arguments"].items()},
            )
            for name, part in layer.parts.items()
        }
    return layers, structure


def _value(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """An argument: a number, extents, an array of the other file, or a sparse matrix of three of them."""
    if not isinstance(value, dict):
        return tuple(value) if isinstance(value, list) else value
    name = value["array"]
    if "shape" not in value:
        return arrays[name].astype(np.int32)
    parts = (arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
    return csr_matrix(tuple(parts), shape=value["shape"]).astype(np.int32)


def end_with_this_process() -> None:
    """Have the kernel kill the children that this process forks from now on, Lava's actors, if it is killed (Linux)."""
    parent, set_death_signal = os.getpid(), 1  # PR_SET_PDEATHSIG of <linux/prctl.h>

    def in_child() -> None:
        nonlocal parent
        if parent:  # what a child forks is the child's
            ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        parent = 0

    if sys.platform == "linux":
        os.register_at_fork(after_in_child=in_child)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description="Run this network's stock Lava Processes on its test images.")
    parser.add_argument("--backend", choices=("loihi-sim", "loihi"), default="loihi-sim")
    parser.add_argument("--images", type=int, help="how many; by default all")
    arguments = parser.parse_args()
    if arguments.backend == "loihi":
        from lava.utils import loihi

        if not loihi.is_installed():
            print("the backend loihi needs a Loihi 2 chip and Intel's extension of Lava (lava-loihi)", file=sys.stderr)
            return 1
    folder = Path(__file__).parent
    layers, about = load(folder)
    with np.load(folder / "acceptance.npz", allow_pickle=False) as file:
        expected = {name: file[name][: arguments.images] for name in file.files}
    if "steps" in about:
        return compare_spikes(layers, expected, about["steps"], about["period"], arguments.backend)
    inputs = expected["images"].reshape(len(expected["images"]), -1).astype(np.int32)
    sums = run(layers, inputs > 0 if about["spikes"] else inputs, arguments.backend)
    classes = np.argmax(np.array(about["scale"]) * sums + np.array(about["offset"]), axis=1)
    differ = int((sums != expected["sums"]).sum())
    print(f"{len(sums)} images in {arguments.backend}: {differ} of {sums.size} sums differ")
    print(f"{int((classes != expected['classes']).sum())} classes differ")
    if "labels" in expected:
        print(f"accuracy {100 * np.mean(classes == expected['labels']):.1f} %")
    return 3 if differ else 0


if __name__ == "__main__":
    end_with_this_process()
    sys.exit(main())
