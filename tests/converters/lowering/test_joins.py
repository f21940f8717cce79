"""What values become that are joined or padded, and how close to the model they stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from values import FED, VECTOR, Call, around, converts, drawn, equals_float64, fed, front

import lava_meta
from lava_meta.converters.lowering.acyclic import to_acyclic
from lava_meta.errors import ConversionError
from lava_meta.graph.nodes import Concat, Gather, Threshold
from lava_meta.graph.packed.acyclic import PackedAcyclic
from lava_meta.nn import BinaryConv2d, Sign


class Joining(nn.Module):
    """Two streams of maps, one of twice as many channels, joined, through an activation, to signs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.more = nn.Sequential(Sign(), BinaryConv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.last = nn.Sequential(nn.PReLU(24), Sign(), BinaryConv2d(24, 5, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        classes: torch.Tensor = self.last(torch.cat([x, self.more(x)], 1)).flatten(1)
        return classes


def test_maps_of_one_size_stay_maps() -> None:
    torch.manual_seed(0)
    model = Joining()
    model(torch.randn(50, 1, 6, 6))  # statistics
    model.eval()
    graph = to_acyclic(model, mean=0.5, std=0.25, input_shape=(1, 6, 6)).lowered.graph
    joined = [name for name, node in graph.nodes.items() if isinstance(node, Concat)]
    assert [graph.placed[name].output_shape for name in joined] == [(24, 6, 6)]
    assert all(
        graph.placed[node.sources[0]].output_shape == (5, 1, 1)
        for node in graph.nodes.values()
        if isinstance(node, Gather)
    )
    pixels = np.random.default_rng(1).integers(0, 256, (20, 36), dtype=np.uint8)
    np.testing.assert_array_equal(PackedAcyclic(graph).sums(pixels), graph.sums(pixels))
    given = (torch.from_numpy(pixels).reshape(-1, 1, 6, 6).double() / 255 - 0.5) / 0.25
    with torch.no_grad():
        np.testing.assert_array_equal(graph.predict(pixels), model.double()(given).argmax(1).numpy())


class Memory(nn.Module):
    """Layers of a keyword network: zeros around a series, a sign, a scale for each channel, a PReLU of one number."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(4, 6, 1), nn.PReLU())
        self.scale = nn.ParameterList([nn.Parameter(torch.rand(6, 1, 1) + 0.5) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(6) for _ in range(layers)])
        self.bends = nn.ModuleList([nn.PReLU(6) for _ in range(layers)])
        self.signs = nn.ParameterList([nn.Parameter(torch.randn(6, 1, 5)) for _ in range(layers)])
        self.last = nn.Linear(6 * 10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.front(x)
        for scale, norm, bend, signs in zip(self.scale, self.norms, self.bends, self.signs, strict=True):
            padded = torch.sign(nn.functional.pad(x, (2, 2)))
            sums = nn.functional.conv1d(padded, torch.sign(signs) * scale, groups=6)
            x = bend(norm(sums)) + x
        classes: torch.Tensor = self.last(x.flatten(1))
        return classes


def test_padded_streams_keep_close_bounds() -> None:
    """Zeros come behind the PReLU before them; channels with a bend and without do not widen the bounds."""
    torch.manual_seed(0)
    model = Memory(4)
    with torch.no_grad():
        for bend in model.bends:
            bend.weight[::2] = 1.0  # lines: one piece
        model(torch.randn(50, 4, 10))  # statistics
    net = lava_meta.convert(model.eval(), mean=0.5, std=0.25, input_shape=(4, 10))
    assert net.parity.exact
    assert max(bound for _, bound in net.parity.bounds.values()) < 1e-4


@pytest.mark.parametrize("fill", [1.0, -1.0, 0.5])
@pytest.mark.parametrize("signs", [True, False])
def test_padding_with_a_number(fill: float, signs: bool) -> None:
    """Of signs or of streams; signs around signs stay packed."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), *([Sign()] if signs else []))
            self.binary, self.last = BinaryConv2d(8, 6, 3), nn.Linear(6 * 4 * 5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded = nn.functional.pad(self.first(x), (1, 2, 1, 1), value=fill)
            classes: torch.Tensor = self.last(torch.sign(self.binary(padded) + 0.3).flatten(1))
            return classes

    torch.manual_seed(0)
    model = Padded()
    model(torch.randn(50, 2, 6, 6))  # statistics
    net = lava_meta.convert(model.eval(), mean=0.5, std=0.25, input_shape=(2, 6, 6))
    assert net.parity.exact
    kept = signs and abs(fill) == 1
    nodes = net.graph.nodes
    packed = [
        node for node in nodes.values() if isinstance(node, Threshold) and isinstance(nodes[node.sources[0]], Gather)
    ]
    assert bool(packed) == kept


class Scaled(nn.Module):
    """A gate between sums and scales of each channel: a curve for each, of values far larger than where it bends."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale, self.last = nn.Linear(16, 24), nn.Parameter(torch.randn(24)), nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        classes: torch.Tensor = self.last(torch.sigmoid(2000 * self.first(x)) * self.scale)
        return classes


def test_curves_of_each_channel_are_followed_closely() -> None:
    torch.manual_seed(0)
    model = Scaled().eval()
    net = lava_meta.convert(model, mean=0.5, std=0.25, input_shape=(16,))
    assert net.parity.bounds["readout"][0] < 1e-7


class Voting(nn.Module):
    """Three voters, each for the one of four whose value is the greatest."""

    def __init__(self) -> None:
        super().__init__()
        self.voters, self.last = nn.Linear(16, 12), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        votes = nn.functional.one_hot(torch.sign(self.voters(x)).view(-1, 3, 4).argmax(2), 4)
        classes: torch.Tensor = self.last(votes.to(x.dtype).sum(1))
        return classes


def test_votes_for_the_first_that_is_the_greatest() -> None:
    torch.manual_seed(1)
    model = Voting().eval()
    net = lava_meta.convert(model, mean=0.5, std=0.25, input_shape=(16,))
    pixels = np.random.default_rng(0).integers(0, 256, (200, 16))
    with torch.no_grad():
        expected = model.double()((torch.from_numpy(pixels).double() / 255 - 0.5) / 0.25).numpy()
    assert len(np.unique(expected.round(6), axis=0)) > 5
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(pixels)), expected, atol=1e-6)
    with pytest.raises(ConversionError, match="gives the number of a class"):
        lava_meta.convert(nn.Sequential(nn.Linear(16, 3), Chosen()).eval(), mean=0, std=1, input_shape=(16,))


class Chosen(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(dim=1)


class Signed(nn.Module):
    """Signs of real values, whose 0 is made +1 in place, and their sizes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signs = torch.sign(x)
        signs[signs == 0] = 1
        return signs * x.abs().round()


class Parts(nn.Module):
    """What masks choose, computed alone and put back, as in quantizers by logarithms."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x > 0.4
        x[wide] = 2 ** torch.round(4 * torch.log2(x[wide]) - 1) / 8
        x[x < -0.5] = -torch.sqrt(-x[x < -0.5]).clamp(max=1) * 2 + 1
        x[(x > 0.1) & (x < 0.3)] = 1 / x[(x > 0.1) & (x < 0.3)]
        y = torch.zeros_like(x)
        y[wide] = 1 - x[wide].abs() * x[wide]
        return x + y


class Close(nn.Module):
    """What `isclose`, `isfinite` and comparisons with infinity ask of values that are always finite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = torch.isclose(x, torch.zeros(1, dtype=x.dtype), atol=0.5)
        never = (x == torch.inf) | torch.isnan(x) | ~torch.isfinite(x)
        return torch.where(near | never, x, 2 * x) + (x != -torch.inf) * x.round()


class Clauses(nn.Module):
    """Constant rows times images that lie in columns."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter((torch.rand(9, 12) > 0.5).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        missed = self.rows @ (x.clamp(-1, 1)).t()
        return (missed.t() <= 1).to(x.dtype) + torch.mm(self.rows, x.t()).t()


class Gram(nn.Module):
    """Products of the rows of each image with each other, image by image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.mm(row.view(3, 4), row.view(3, 4).t()) for row in x])


@pytest.mark.parametrize("layer", [Signed(), Parts(), Close(), Clauses(), Gram()])
def test_products_and_writing_of_other_forms(layer: nn.Module) -> None:
    converts(layer)


CONSTANT = torch.rand(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
BESIDE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "stacked": lambda x: torch.stack([x, CONSTANT.to(x).expand_as(x), -x], 1).flatten(1),
    "filled": lambda x: x.masked_fill(x > 0.25, CONSTANT.to(x)[3]),
    "clamped": lambda x: torch.clamp(x, -CONSTANT.to(x), CONSTANT.to(x)),
    "triangle": lambda x: torch.tril(x.view(-1, 3, 4) + 1.5).flatten(1),
    "upper triangle": lambda x: torch.triu(x.view(-1, 3, 4), 1).flatten(1),
    "a row of a table": lambda x: CONSTANT.to(x).view(6, 2)[(x[:, :5] > 0).sum(1)],
    "several products": lambda x: torch.linalg.multi_dot([x, CONSTANT.to(x).view(12, 1), CONSTANT.to(x).view(1, 12)]),
}


@pytest.mark.parametrize("name", BESIDE)
def test_values_beside_constants(name: str) -> None:
    converts(BESIDE[name])


@pytest.mark.parametrize("moved", [torch.tril, lambda x: torch.triu(x + 0.5), torch.diag_embed])
def test_zeros_among_units_with_gains_of_their_own(moved: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """The weights behind keep their digits, though a place where nothing is has no gain."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), Call(lambda x: moved(x.view(-1, 2, 2)).flatten(1)))
    model.append(nn.Linear(8 if moved is torch.diag_embed else 4, 3))
    equals_float64(model.eval(), (1, 4, 4))


WEIGHT = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).sign() * 0.037
CONDITIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "choice": lambda z, h: torch.where(z > 0, torch.tanh(h), z),
    "with a number": lambda z, h: torch.where(z > 0, torch.tanh(h), 0.5),
    "both": lambda z, h: ((z > 0) & (h.roll(1, 1) > 0)).to(h.dtype) + h,
}


@pytest.mark.parametrize("joined", CONDITIONS)
def test_conditions_that_float64_decides(joined: str) -> None:
    """Sums of scaled signs that are 0 but for their rounding: a tie of the condition, not a difference behind it."""
    torch.manual_seed(0)
    layer = Call(lambda h: CONDITIONS[joined](nn.functional.linear(torch.sign(h), WEIGHT.to(h.dtype)), h))
    model = around(layer, shape=VECTOR, front=front(VECTOR))
    net = lava_meta.convert(model, input_shape=VECTOR, **FED)
    assert net.parity is not None
    assert sum(net.parity.ties.values()) > 0
    levels = drawn(VECTOR, 3000, 2)
    with torch.no_grad():
        model.double()
        signs = torch.sign(model[0](fed(levels)))
        decided = (nn.functional.linear(signs, WEIGHT).abs() > 1e-9).all(1).numpy()
        theirs = model(fed(levels)).numpy()[decided]
    assert 20 < decided.sum() < 3000
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels))[decided], theirs, atol=1e-6)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_masks_of_minus_infinity_that_are_added_warn_of_nothing() -> None:
    mask = torch.full((3, 3), -torch.inf).triu(1)

    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.front, self.readout = nn.Linear(4, 12), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.front(torch.where(x >= 0, 1.0, -1.0).to(x)).chunk(3, -1)
            shares = (q @ k.transpose(1, 2) + mask.to(x)).softmax(-1)
            return self.readout((shares @ v).flatten(1))

    equals_float64(Causal().eval(), (3, 4))
