"""Files that someone altered and sealed again: their checksum fits, what they declare does not.

Each is loaded and computes, or is refused with `FormatError` or `TooLargeError`; within bounded memory.
"""

from __future__ import annotations

import copy
import os
import random
import resource
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lava_meta
from lava_meta.errors import FormatError, TooLargeError
from lava_meta.graph import BinaryGraph, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.packed.network import PackedNetwork
from lava_meta.io.sealed import CHECKPOINT, GRAPH, LEARNER, read_sealed, write_sealed
from lava_meta.nn import BinaryMLP, Pixels, Sign
from lava_meta.nn.layers import BinaryLinear
from lava_meta.online_learning import Learner
from lava_meta.online_learning.device import Device
from lava_meta.training.checkpoint import read_checkpoint
from lava_meta.training.model_file import load_model, save_model

SEED = 20261128
LARGEST = 2**31  # bytes of the whole process: half of it one image's largest map, as numpy holds it
VALUES: list[Any] = [0, 1, -1, 2, 7, 5000, 2**31, 2**63, -(2**40), 0.5, 1e308, -0.0, True, False, None, "", "x"]
VALUES += ["1e999999999", [], {}, [3], [0, 0], [5000, 5000], [1, 2, 3], {"kind": "tanh2", "m": 1}, [[1, 1], [1, 1]]]


def graphs() -> dict[str, BinaryGraph]:
    torch.manual_seed(0)
    norm = nn.Sequential(Pixels(2.5), BinaryLinear(3, 4), nn.LayerNorm(4), Sign(), BinaryLinear(4, 2)).eval()
    with torch.no_grad():
        norm[2].bias.fill_(0.3)
    rng = np.random.default_rng(0)
    conv = ConvLayer.from_weights(
        rng.normal(size=(2, 1, 2, 2)), (1, 4, 4), np.zeros(2), padding=(1, 1), pools=(Pool((2, 2), (2, 2), every=(1,)),)
    )
    conv = ConvLayer(**vars(conv) | {"sum_window": Window((2, 2))})
    return {
        "norm": lava_meta.convert(norm).graph,
        "conv": BinaryGraph((conv,), Readout.from_weights(rng.normal(size=(3, conv.n_out))), 15, (1, 4, 4), -16),
        "binarized": lava_meta.convert(nn.Sequential(Pixels(7), Sign(), BinaryLinear(3, 2)).eval()).graph,
    }


def learners() -> dict[str, Learner]:
    quick = {"backend": "kernels"}
    return {
        "fixed": lava_meta.online([6, 5, 3], feedback="direct", **quick),
        "float": lava_meta.online([6, 5, 3], precision="float", **quick),
        "device": lava_meta.online([6, 3], device=Device(relative_noise=0.1), **quick),
        "front": lava_meta.online(graphs()["conv"], plastic=["readout"], **quick),
    }


def saved(folder: Path) -> Iterator[tuple[str, Path, str, Callable[[Path], Any]]]:
    """Name, file, format, and what opens and uses it."""
    for name, graph in graphs().items():
        graph.save(folder / name)
        yield name, folder / name, GRAPH, use_network
    for name, learner in learners().items():
        learner.save(folder / name)
        yield name, folder / name, LEARNER, use_learner
    for norm in ("fixed", "batch"):
        save_model(BinaryMLP([6, 5, 3], norm, seed=0), folder / norm)  # type: ignore[arg-type]
        yield f"model, {norm}", folder / norm, CHECKPOINT, use_model


def use_network(path: Path) -> None:
    graph = lava_meta.load(path).graph
    if graph.n_in > 10_000:
        return  # nobody gives it such an image by mistake
    images = np.full((2, *graph.input_shape), graph.max_level, graph.dtype)
    expected = graph.activations(images)
    found = PackedNetwork(graph).activations(graph.check_images(images))
    assert all(np.array_equal(found[layer], expected[layer]) for layer in expected)


def use_learner(path: Path) -> None:
    learner = lava_meta.load(path)
    images = np.full((2, *learner.front.graph.input_shape) if learner.front else (2, learner.n_in), 1, np.uint8)
    assert learner.predict(images).shape == (2,) if learner.backend != "lava" else learner.graph().n_in


def use_model(path: Path) -> None:
    model = load_model(path)
    assert model(torch.zeros(2, model.sizes[0])).shape == (2, model.sizes[-1])


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in items:
        found += [(value, key), *places(inner)]
    return found


def alter(header: dict[str, Any], tensors: dict[str, np.ndarray], draw: random.Random) -> None:
    """One change of a value, a key, a shape, a type or numbers."""
    what = draw.random()
    if what < 0.6:
        found = [place for place in places(header) if place[1] not in ("format", "version")]
        container, key = draw.choice(found or [({0: None}, 0)])
        if draw.random() < 0.1:
            del container[key]
        else:
            container[key] = copy.deepcopy(draw.choice(VALUES))
        return
    if not tensors:
        return
    name = draw.choice(sorted(tensors))
    array = tensors[name]
    kind = draw.choice(["gone", "type", "flat", "longer", "shorter", "numbers", "empty", "scalar"])
    if kind == "gone":
        del tensors[name]
    elif kind == "type":
        tensors[name] = array.astype(draw.choice([np.float32, np.float64, np.int64, np.int8, np.uint64, np.bool_]))
    elif kind == "flat":
        tensors[name] = array.reshape(-1, 1)
    elif kind == "longer":
        tensors[name] = np.concatenate([array.reshape(array.shape or (1,))] * 2)
    elif kind == "shorter":
        tensors[name] = array.reshape(array.shape or (1,))[:-1]
    elif kind == "numbers":
        raw = np.frombuffer(draw.randbytes(array.nbytes), np.uint8)
        tensors[name] = raw.copy().view(array.dtype).reshape(array.shape) if array.dtype != bool else ~array
    else:
        tensors[name] = np.zeros((0, 3) if kind == "empty" else (), array.dtype)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fuzz(folder: Path, files: int, seed: int) -> dict[str, int]:
    """Counts of what became of `files` files of each sort. Raises whatever was neither."""
    draw = random.Random(seed)
    counts = {"used": 0, "refused": 0}
    unnamed: list[Exception] = []
    before = peak()
    for name, path, kind, use in saved(folder):
        header, tensors = read_sealed(path, kind, range(1, 9))
        for i in range(files):
            altered, arrays = copy.deepcopy(header), dict(tensors)
            for _ in range(draw.choice([1, 1, 2, 3])):
                alter(altered, arrays, draw)
            write_sealed(path, altered, arrays)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of numpy, over numbers beyond all range
                    use(path)
                counts["used"] += 1
            except (FormatError, TooLargeError) as error:
                counts["refused"] += 1
                unnamed += [error] if isinstance(error, FormatError) and path.name not in str(error) else []
            except Exception as error:
                raise AssertionError(f"{name}, file {i} of seed {seed}: {error!r} of {altered}") from error
    assert unnamed == []
    # As the system counts it: compiled code takes memory too. What the process took before is no fault of these files.
    assert peak() == before or peak() < LARGEST
    return counts


def test_files_that_were_altered_and_sealed_again(tmp_path: Path) -> None:
    counts = fuzz(tmp_path, 60, SEED)
    assert counts["refused"] > counts["used"] > 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_many_files_that_were_altered_and_sealed_again(seed: int, tmp_path: Path) -> None:
    counts = fuzz(tmp_path, 700, seed)
    assert counts["refused"] > counts["used"] > 20


def test_sizes_that_no_tensor_has_take_no_memory(tmp_path: Path) -> None:
    """5 kB that declare 15,000 x 15,000 synapses, whose making would take gigabytes."""
    lava_meta.online([64, 20, 10], backend="kernels").save(tmp_path / "learner")
    header, tensors = read_sealed(tmp_path / "learner", LEARNER, range(9))
    write_sealed(tmp_path / "learner", header | {"sizes": [15000, 15000, 2]}, tensors)
    save_model(BinaryMLP([64, 20, 10], seed=0), tmp_path / "model")
    header, tensors = read_sealed(tmp_path / "model", CHECKPOINT, range(9))
    header["state"]["settings"]["sizes"] = [15000, 15000, 2]
    write_sealed(tmp_path / "model", header, tensors)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"learner.*layer 1 has \(15000, 15000\)"):
            lava_meta.load(tmp_path / "learner")
        with pytest.raises(FormatError, match=r"model: its header says layers of \[\(15000, 15000\)"):
            load_model(tmp_path / "model")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_padding_out_of_proportion(tmp_path: Path) -> None:
    graph = graphs()["conv"]
    graph.save(tmp_path / "net")
    header, tensors = read_sealed(tmp_path / "net", GRAPH, range(9))
    header["conv"]["hidden1"]["window"] |= {"padding": [5000, 5000], "stride": [5001, 5001]}
    write_sealed(tmp_path / "net", header, tensors)
    with pytest.raises(
        FormatError, match=r"net.*windows and paddings make 100,080,016 values of an image of 16 inputs"
    ):
        lava_meta.load(tmp_path / "net")


@pytest.mark.parametrize("opener", [lava_meta.load, BinaryGraph.load, load_model, read_checkpoint])
def test_nested_json_and_what_is_no_file(opener: Callable[[Path], Any], tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    deep = "[" * 100_000
    for metadata in ({"lava_meta": deep}, {"checkpoint": deep}):
        save_file({"x": np.zeros(3)}, tmp_path / "net", metadata=metadata)
        with pytest.raises(FormatError, match="net"):
            opener(tmp_path / "net")
    (tmp_path / "net").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(FormatError, match=r"longer than the file|not a whole safetensors file"):
        opener(tmp_path / "net")
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(FormatError, match=r"not a file|not a regular file|is a folder|is the folder"):
            opener(place)
