"""Images as people have them, given to both kinds of network: floats, bits, tensors, DataLoaders, Datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lava_meta
from lava_meta.graph import AcyclicGraph, BinaryGraph
from lava_meta.graph.packed.compiled import classify
from lava_meta.nn import BinaryLinear, Sign

MEANS, STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Heads(nn.Module):
    """Real layers, a deviation for each channel, two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(144, 5), nn.Linear(144, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.sign(self.first(x)).flatten(1)
        return {"a": self.a(x), "b": self.b(x)}


def chain() -> lava_meta.LavaNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), BinaryLinear(192, 16), nn.BatchNorm1d(16), Sign(), BinaryLinear(16, 5))
    model(torch.rand(50, 3, 8, 8))
    return lava_meta.convert(model.eval(), mean=0.45, std=0.25, input_shape=(3, 8, 8))


def acyclic() -> lava_meta.LavaNetwork:
    return lava_meta.convert(Heads().eval(), mean=MEANS, std=STDS, input_shape=(3, 8, 8), output="b")


NETS = {"chain": (chain, (0.45,) * 3, (0.25,) * 3), "acyclic": (acyclic, MEANS, STDS)}
LEVELS = np.random.default_rng(3).integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)


@pytest.fixture(params=NETS)
def case(request: pytest.FixtureRequest) -> tuple[lava_meta.LavaNetwork, Any]:
    make, means, stds = NETS[request.param]
    net = make()
    assert isinstance(net.graph, BinaryGraph if request.param == "chain" else AcyclicGraph)
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in (means, stds))
    return lava_meta.LavaNetwork(net.graph, model_use=net.model_use, backend="kernels"), lambda x: (x - mean) / std


def test_floats(case: Any) -> None:
    net, normalise = case
    expected = net.graph.predict(LEVELS)
    unit = torch.from_numpy(LEVELS) / 255  # as ToTensor gives them
    for images in (LEVELS.astype(np.float32), torch.from_numpy(LEVELS).double(), torch.from_numpy(LEVELS).bfloat16()):
        assert np.array_equal(net.graph.predict(images), expected)
        assert np.array_equal(classify(net.graph, images), expected)
        assert np.array_equal(net.predict(images), expected)
    for images in (unit, unit.double().numpy(), normalise(unit), normalise(unit).requires_grad_()):
        assert np.array_equal(net.predict(images), expected)
        assert np.array_equal(np.concatenate([p["classes"] for p in net.stream(images)]), expected)


def test_what_no_level_gives_is_refused(case: Any) -> None:
    net, normalise = case
    unit = torch.from_numpy(LEVELS) / 255
    for images in (normalise(unit) + 1e-3, normalise(unit).half(), unit * 0.7, unit.where(unit > 0, torch.nan)):
        with pytest.raises(
            TypeError, match=r"images are float\d\d, not of levels; this network takes .* gives of them"
        ):
            net.predict(images)
    with pytest.raises(TypeError, match=r"images are float32 and hold 0\.\d+; this network takes"):
        net.graph.predict(unit)
    with pytest.raises(ValueError, match=r"features run|pixels run from"):
        net.predict(torch.from_numpy(LEVELS) * 300.0)
    with pytest.raises(ValueError, match="images have shape"):
        net.predict(unit[:, :2])


def test_what_could_be_two_things_is_refused(case: Any) -> None:
    net, _ = case
    with pytest.raises(TypeError, match=r"could be whole levels or levels / max_level: pass integers"):
        net.predict((torch.from_numpy(LEVELS) > 100).float())
    assert np.array_equal(net.predict(0.0 * LEVELS), net.graph.predict(0 * LEVELS))  # zeros are zeros


class Labelled(Dataset):
    def __len__(self) -> int:
        return len(LEVELS)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return torch.from_numpy(LEVELS[place]) / 255, place % 3


def test_loaders_and_datasets(case: Any) -> None:
    net, _ = case
    expected = net.graph.predict(LEVELS)
    raw = TensorDataset(torch.from_numpy(LEVELS), torch.zeros(40))
    for images in (raw, DataLoader(raw, batch_size=7), DataLoader(torch.from_numpy(LEVELS), batch_size=7)):
        assert np.array_equal(net.graph.predict(images), expected)
        assert np.array_equal(classify(net.graph, images), expected)
        assert np.array_equal(net.predict(images), expected)
    for images in (Labelled(), DataLoader(Labelled(), batch_size=9)):
        assert np.array_equal(net.predict(images), expected)
        assert np.array_equal(np.concatenate([p["classes"] for p in net.stream(images)]), expected)
    with pytest.raises(ValueError, match="no images were given"):
        net.predict(TensorDataset(torch.zeros(0, 3, 8, 8)))


def test_bits() -> None:
    torch.manual_seed(0)
    bits = np.random.default_rng(0).random((30, 20)) > 0.5
    model = nn.Sequential(BinaryLinear(20, 6), Sign(), BinaryLinear(6, 3)).eval()
    for options, levels in (({"raw": True, "max_level": 1}, 1 * bits), ({"signs": True}, 2 * bits - 1)):
        graph = lava_meta.convert(model, **options).graph
        assert np.array_equal(graph.predict(bits), graph.predict(levels))
        assert np.array_equal(graph.predict(torch.from_numpy(bits)), graph.predict(levels))


def test_compare_feeds_the_model_as_it_was_said(case: Any, tmp_path: Path) -> None:
    net, normalise = case
    model = Heads().eval() if isinstance(net.graph, AcyclicGraph) else None
    if model is None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), BinaryLinear(192, 16), nn.BatchNorm1d(16), Sign(), BinaryLinear(16, 5))
        model(torch.rand(50, 3, 8, 8))
        model.eval()
    unit = torch.from_numpy(LEVELS) / 255
    net.save(tmp_path / "net.safetensors")
    for own in (net, lava_meta.load(tmp_path / "net.safetensors")):
        for images in (LEVELS, unit, Labelled(), DataLoader(Labelled(), batch_size=9)):
            assert own.compare(model, images).equal == 40
        assert own.compare(model, LEVELS, preprocess=lambda x: normalise(x / 255)).equal == 40
        assert own.compare(model, LEVELS, preprocess=lambda x: -normalise(x / 255)).equal < 40
