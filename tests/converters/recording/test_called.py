"""How models are called and what they give: in inference mode, as mappings, named tuples and objects."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from values import FED, drawn, equals_double, equals_float64, fed

import lava_meta
from lava_meta.errors import ConversionError

Named = namedtuple("Named", "features logits")


class Record(OrderedDict[str, Any]):
    """A mapping of a class that PyTorch does not know."""


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps, self.attention = nn.Conv2d(2, 6, 3, padding=1), nn.MultiheadAttention(6, 2, batch_first=True)
        self.last = nn.Linear(6, 4)

    def features(self, x: Tensor) -> Tensor:
        tokens = torch.sign(self.maps(x)).flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens)[0]
        tokens += 1
        found: Tensor = tokens.mean(1)
        return found

    def forward(self, x: Tensor) -> Any:
        return self.last(self.features(x))


def equals(model: Base, output: Any = None) -> None:
    """Values and classes are those of a module without what is tested, in float64."""
    net = lava_meta.convert(model.eval(), input_shape=(2, 4, 4), output=output, **FED)
    levels = drawn((2, 4, 4), 60, 5)
    with torch.no_grad():
        theirs = Base().double()(fed(levels)).numpy()
    assert len(np.unique(theirs.argmax(1))) > 1
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), theirs, atol=1e-6)
    np.testing.assert_array_equal(net.graph.predict(levels), theirs.argmax(1))


def test_forwards_in_inference_mode() -> None:
    class Decorated(Base):
        @torch.inference_mode()
        def forward(self, x: Tensor) -> Any:
            return super().forward(x)

    class Within(Base):
        def forward(self, x: Tensor) -> Any:
            with torch.inference_mode():
                features = self.features(x)
            return self.last(features.clone())

    equals(Decorated())
    equals(Within())


@pytest.mark.parametrize(
    ("wrapped", "outputs"),
    [
        (Record, ("logits",)),
        (lambda **parts: SimpleNamespace(**parts), ("logits",)),
        (lambda **parts: Named(**parts), ("logits", 1, -1)),
        (lambda **parts: tuple(parts.values()), (1, -1)),
    ],
)
def test_outputs_of_any_kind(wrapped: Any, outputs: tuple[Any, ...]) -> None:
    class Several(Base):
        def forward(self, x: Tensor) -> Any:
            features = self.features(x)
            return wrapped(features=features, logits=self.last(features))

    for output in outputs:
        equals(Several(), output)


def test_what_hides_its_input_is_said() -> None:
    class Hides(Base):
        def forward(self, x: Tensor) -> Any:
            return super().forward(torch.tensor(x.tolist()))

    with pytest.raises(ConversionError, match=r"x.tolist\(\).* hands values of the images to what is not PyTorch"):
        equals(Hides())


def test_several_inputs_are_refused_by_their_names() -> None:
    class Two(Base):
        def forward(self, x: Tensor, mask: Tensor) -> Any:  # type: ignore[override]
            return super().forward(x * mask)

    with pytest.raises(ConversionError, match="Its forward takes x, mask: wrap it in a module whose forward takes"):
        equals(Two())


DRAWN: dict[str, Callable[[Tensor], Tensor]] = {
    "a projection": lambda x: torch.sign(x) @ torch.randn(12, 6, generator=torch.Generator().manual_seed(3)).to(x),
    "an order": lambda x: x[:, torch.randperm(12, generator=torch.Generator().manual_seed(3))],
    "weights": lambda x: x * torch.randint(-1, 2, (12,), generator=torch.Generator().manual_seed(3)),
}


class Drawing(nn.Module):
    def __init__(self, drawn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.drawn, self.last = nn.Linear(32, 12), drawn, nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.drawn(self.first(x.flatten(1)))[:, :6])
        return found


@pytest.mark.parametrize("name", DRAWN)
def test_random_numbers_that_are_the_same_at_each_call(name: str) -> None:
    """As the model draws them: of float32, though all else is computed in float64."""
    equals_double(Drawing(DRAWN[name]).eval(), (2, 4, 4), 5)


def test_other_random_numbers_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    for own in (None, generator):  # which goes on from call to call
        model = Drawing(lambda x, own=own: x * torch.rand(12, generator=own)).eval()
        with pytest.raises(ConversionError, match=r"draws random numbers \(rand\).*manual_seed"):
            lava_meta.convert(model, input_shape=(2, 4, 4), **FED)


def test_an_input_that_is_given_another_shape_in_place() -> None:
    """As by networks that repeat an image for each step of time."""
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(10, 12), nn.Linear(12, 4)])

    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: Tensor) -> Tensor:
            x.unsqueeze_(0)
            found: Tensor = self.layers[1](torch.sign(self.layers[0](x.repeat(3, 1, 1)))).mean(0)
            return found

    equals_float64(Repeated().eval(), (10,))
