"""Models that are TorchScript, or what torch.export gives, and what models give in dataclasses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from values import around, equals_float64

import lava_meta
from lava_meta.errors import ConversionError

SHAPE = (2, 6, 6)


class Signs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))


class Binary(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, torch.sign(self.weight), self.bias)


def network() -> nn.Module:
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), Signs())
    return around(Binary(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(), Signs(), shape=SHAPE, front=front)


def scripted_and_loaded(model: nn.Module, folder: Path) -> nn.Module:
    torch.jit.script(model).save(folder / "model.pt")
    loaded: nn.Module = torch.jit.load(folder / "model.pt")
    return loaded


def exported(model: nn.Module, images: int | None) -> Any:
    dim = None if images else ({0: torch.export.Dim("images")},)
    return torch.export.export(model, (torch.zeros(images or 2, *SHAPE),), dynamic_shapes=dim)


def state_of(given: Any) -> dict[str, Tensor]:
    state = given.state_dict
    return dict(state() if callable(state) else state)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "made",
    [
        lambda model, _: torch.jit.trace(model, torch.zeros(2, *SHAPE)),
        lambda model, _: torch.jit.script(model),
        scripted_and_loaded,
        lambda model, _: nn.Sequential(torch.jit.script(model[0]), *model[1:]).eval(),
        lambda model, _: exported(model, None),
        lambda model, _: exported(model, None).module(),
        lambda model, _: exported(model, 1),  # takes one image at a time
        lambda model, _: nn.DataParallel(torch.jit.script(model)),
    ],
)
def test_a_graph_converts_as_the_module_that_it_was_made_of(
    made: Callable[[nn.Module, Path], nn.Module], tmp_path: Path
) -> None:
    model = network()
    given = made(model, tmp_path)
    state = copy.deepcopy(state_of(given))
    net = equals_float64(model, SHAPE, given)
    images = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8)
    assert net.compare(given, images).equal == 5
    after = state_of(given)
    assert all(torch.equal(after[name], value) for name, value in state.items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda model: exported(model, 3), r"exported for batches of 3 images.*dynamic_shapes"),
        (lambda model: torch.jit.script(model.train()), r"in training mode: call model\.eval"),
        (lambda model: torch.jit.freeze(torch.jit.script(model)), r"It is frozen.*torch\.jit\.freeze was given"),
        (lambda model: exported(model.train(), None), "draws random numbers"),
    ],
)
def test_graphs_that_are_refused_say_why(made: Callable[[nn.Module], nn.Module], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        lava_meta.convert(made(network()), mean=0.5, std=0.25, input_shape=SHAPE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("made", [torch.jit.script, lambda model: exported(model, None)])
def test_weights_of_graphs_are_not_rounded(made: Callable[[nn.Module], Any]) -> None:
    images = torch.randint(0, 256, (3, *SHAPE))
    with pytest.raises(ConversionError, match=r"bits= rounds the weights of layers that Python code calls"):
        lava_meta.convert(made(network()), mean=0.5, std=0.25, input_shape=SHAPE, bits=8, images=images)


@dataclass
class Output:
    loss: Tensor | None
    parts: list[Any]


class Giving(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Output:
        classes = self.inner(x)
        return Output(None, [Output(classes.sum(1), [classes])])


def test_a_value_within_dataclasses_is_chosen_by_its_names() -> None:
    model = network()
    net = lava_meta.convert(Giving(model).eval(), mean=0.5, std=0.25, input_shape=SHAPE, output="parts.0.parts.0")
    assert net.parity.exact
    plain = lava_meta.convert(model, mean=0.5, std=0.25, input_shape=SHAPE)
    images = torch.randint(0, 256, (20, *SHAPE)).numpy()
    assert (net.graph.sums(images) == plain.graph.sums(images)).all()
    with pytest.raises(ConversionError, match=r"2 outputs \(parts\.0\.loss, parts\.0\.parts\.0\): choose one"):
        lava_meta.convert(Giving(model).eval(), mean=0.5, std=0.25, input_shape=SHAPE)
