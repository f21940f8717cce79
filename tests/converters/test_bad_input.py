"""What is refused, end to end through the public functions: models, inputs, lanes, sizes, files. One test each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from given_models import to_graph
from torch import nn

import lava_meta
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.nir import from_nir, to_nir
from lava_meta.errors import ConversionError, FormatError, TooLargeError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.bits import words
from lava_meta.io.memory import available_memory
from lava_meta.nn import BinaryConv2d, BinaryLinear, BinaryMLP, Pixels, Sign

TB = 10**12


def _conv() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(Pixels(90), BinaryConv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=1.0), nn.MaxPool2d(2), Sign(), nn.Flatten()),
        BinaryLinear(36, 5),
    )


def _net() -> LavaNetwork:
    return lava_meta.convert(BinaryMLP([16, 8, 3], seed=0).eval())


def test_an_unsupported_layer() -> None:
    model = nn.Sequential(
        Pixels(), BinaryLinear(16, 8), nn.Sequential(nn.Identity(), nn.Softmax(0)), BinaryLinear(8, 2)
    )
    with pytest.raises(ConversionError, match=r"in 2\.1 \(Softmax\).*over the images"):
        lava_meta.convert(model.eval())


def test_the_wrong_order_of_channels() -> None:
    model = _conv()
    model(torch.randint(0, 256, (20, 3, 8, 8)))
    with pytest.raises(ConversionError, match=r"takes 3 channels, but gets \(8, 8, 3\); images are \(channels, rows"):
        lava_meta.convert(model.eval(), input_shape=(8, 8, 3))
    net = lava_meta.convert(model.eval(), input_shape=(3, 8, 8))
    with pytest.raises(ValueError, match=r"images have shape \(2, 8, 8, 3\); expected \(n, 3, 8, 8\)"):
        net.graph.predict(np.zeros((2, 8, 8, 3), np.uint8))


def test_a_model_in_training_mode() -> None:
    with pytest.raises(ConversionError, match=r"the model is in training mode: call model\.eval\(\)"):
        lava_meta.convert(BinaryMLP([16, 8, 3], seed=0))


def test_weights_that_are_not_finite() -> None:
    model = nn.Sequential(Pixels(), BinaryLinear(16, 8), Sign(), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        model[3].weight[1, 4] = torch.nan
    with pytest.raises(ConversionError, match=r"in 3 \(Linear\).*has weights that are not finite"):
        lava_meta.convert(model)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            np.full((2, 16), 0.5),
            TypeError,
            "images are float64 and hold 0.5; this network takes unsigned integers 0 to 255",
        ),
        (np.zeros((2, 16), bool), TypeError, "images are bool"),
        (np.zeros((2, 16), np.complex64), TypeError, "images are complex64"),
        (np.array([["a"] * 16]), TypeError, "images are <U1"),
        (np.full((2, 16), None), TypeError, "images are a ndarray, which makes no array of numbers"),
        (torch.full((2, 16), torch.nan), TypeError, "images are float32 and hold nan"),
        (torch.full((2, 16), torch.inf), TypeError, "images are float32 and hold inf"),
        (np.full((2, 16), 256), ValueError, "pixels run from 256 to 256; this network takes 0 to 255"),
        (np.full((2, 16), -1), ValueError, "pixels run from -1"),
        (np.full((2, 16), 2**40), ValueError, "this network takes 0 to 255"),
        (np.zeros((2, 17), np.uint8), ValueError, r"shape \(2, 17\); expected \(n, 16\)"),
        (np.uint8(3), ValueError, r"shape \(\); expected"),
        (np.zeros((0, 16), np.uint8), ValueError, "no images were given"),
    ],
)
def test_inputs_of_another_range_or_type(images: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _net().graph.predict(images)


@pytest.mark.lava
@pytest.mark.parametrize("lanes", [0, -3])
def test_no_lanes(lanes: int) -> None:
    net = _net()
    images = np.zeros((2, 16), np.uint8)
    for call in (net.predict, net.sums, net.activations):
        with pytest.raises(ValueError, match=f"lanes is {lanes}; a time step takes at least one image"):
            call(images, lanes=lanes)
    with pytest.raises(ValueError, match=f"lanes is {lanes}"):
        net.process(lanes=lanes)


@pytest.mark.skipif(available_memory() is None, reason="this system does not say how much memory is free")
class TestNetworksLargerThanMemory:
    """Sizes of terabytes, of which nothing is ever allocated: arrays of one element shown many times, a sparse file."""

    def giant(self) -> BinaryGraph:
        """A million units of 16 million synapses each: 2 TB of bits."""
        units, n_in = 10**6, 2**24
        bits = np.broadcast_to(np.zeros((1, words(n_in)), np.uint64), (units, words(n_in)))
        layer = DenseLayer(bits, n_in, np.zeros(units, np.int64), np.ones(units, np.int8))
        readout = Readout.from_weights(np.ones((1, units)))
        return BinaryGraph((layer,), readout, 255, (n_in,))

    @pytest.mark.lava
    @pytest.mark.parametrize("form", ["packed", "floating_pt"])
    def test_running_one(self, form: str) -> None:
        graph = self.giant()
        with pytest.raises(TooLargeError, match=r"needs about [2-9][0-9,]*,\d\d\d\.\d GB of memory, and .* free"):
            LavaNetwork(graph, form=form).predict(np.zeros((1, graph.n_in), np.uint8), lanes=1)

    @pytest.mark.lava
    def test_too_many_lanes(self) -> None:
        with pytest.raises(TooLargeError, match=r"with 1000000000000 images at a time needs .*; take fewer lanes"):
            _net().predict(np.zeros((2, 16), np.uint8), lanes=TB)

    def test_converting_one(self) -> None:
        model = nn.Sequential(Pixels(), BinaryLinear(1, 1), Sign(), BinaryLinear(1, 1)).eval()
        model[1].weight.data = torch.ones(1).expand(10**6, 10**6)
        with pytest.raises(TooLargeError, match=r"Converting this model in float64 needs about 17,000\.0 GB"):
            lava_meta.convert(model)

    def test_reading_one(self, tmp_path: Path) -> None:
        path = tmp_path / "net"
        tensor = {"dtype": "U64", "shape": [TB // 8], "data_offsets": [0, TB]}
        notes = {"lava_meta": json.dumps({"format": "lava_meta.graph"})}
        header = json.dumps({"__metadata__": notes, "hidden1.bits": tensor}).encode()
        with open(path, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            try:
                os.truncate(file.fileno(), 8 + len(header) + TB)
            except OSError:
                pytest.skip("this file system has no sparse files of this size")
        with pytest.raises(TooLargeError, match=r"Reading .*net needs about 1,000\.0 GB"):
            BinaryGraph.load(path)


def _files() -> dict[str, BinaryGraph]:
    """The smallest networks with every kind of field that a file can hold."""
    torch.manual_seed(0)
    layer = nn.Sequential(Pixels(2.5), BinaryLinear(3, 2), nn.LayerNorm(2), Sign(), BinaryLinear(2, 2)).eval()
    with torch.no_grad():
        layer[2].bias.fill_(0.3)
    conv = nn.Sequential(
        *(Pixels(-1, 1, 5, -4), BinaryConv2d(1, 2, 2, padding="same"), nn.AvgPool2d(2, 1, 1), nn.MaxPool2d(2)),  # type: ignore[arg-type]
        *(Sign(), nn.Flatten(), BinaryLinear(2, 2)),
    )
    return {
        "dense": to_graph(BinaryMLP([3, 2, 2], seed=0).eval()),
        "norm": to_graph(layer),
        "binarized": to_graph(nn.Sequential(Pixels(7), Sign(), BinaryLinear(3, 2)).eval()),
        "signed convolution": to_graph(conv.eval(), input_shape=(1, 2, 2)),
    }


@pytest.mark.parametrize("name", _files())
def test_every_byte_of_a_file_flipped_in_turn(name: str, tmp_path: Path) -> None:
    """It loads as the identical network, or is refused with `FormatError`; nothing else, and never another network."""
    path, rng = tmp_path / "net", np.random.default_rng(1)
    _files()[name].save(path)
    whole = path.read_bytes()
    same = 0
    for i in range(len(whole)):
        altered = bytearray(whole)
        altered[i] ^= int(rng.integers(1, 256))
        path.write_bytes(altered)
        try:
            loaded = lava_meta.load(path)
        except FormatError:
            continue
        loaded.save(path)  # white space of the header for other white space
        assert path.read_bytes() == whole, i
        same += 1
    assert same < len(whole) / 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_bit_and_every_cut_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "net"
    for graph in _files().values():
        graph.save(path)
        whole = path.read_bytes()
        changed = [whole[:n] for n in range(len(whole))] + [whole + b"\0", whole[::-1]]
        for i in range(8 * len(whole)):
            altered = bytearray(whole)
            altered[i // 8] ^= 1 << i % 8
            changed.append(bytes(altered))
        for content in changed:
            path.write_bytes(content)
            try:
                loaded = lava_meta.load(path)
            except FormatError:
                continue
            loaded.save(path)
            assert path.read_bytes() == whole


def test_every_order_of_steps_gives_the_same_bytes(tmp_path: Path) -> None:
    """Convert, save, load, convert again, to NIR and back, in orders of all kinds: one graph."""
    path = tmp_path / "net"
    model = BinaryMLP([20, 9, 7, 4], seed=0).eval()

    def saved(net: LavaNetwork) -> bytes:
        net.graph.save(path)  # NIR has no place for the self-check and the account of what was learned
        return path.read_bytes()

    def loaded(net: LavaNetwork) -> LavaNetwork:
        net.save(path)
        again = lava_meta.load(path)
        assert isinstance(again, LavaNetwork)
        return again

    def through_nir(net: LavaNetwork) -> LavaNetwork:
        return from_nir(to_nir(net))

    def used(net: LavaNetwork) -> LavaNetwork:
        net.graph.predict(np.zeros((3, 20), np.uint8))
        return net

    def again(net: LavaNetwork) -> LavaNetwork:
        return lava_meta.convert(model)

    steps = (loaded, through_nir, used, again)
    expected = saved(lava_meta.convert(model))
    for first in steps:
        for second in steps:
            net = second(first(lava_meta.convert(model)))
            assert saved(net) == expected, (first.__name__, second.__name__)
            assert saved(loaded(net)) == expected
