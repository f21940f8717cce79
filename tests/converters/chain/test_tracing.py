"""Models with a forward of their own convert where it is a chain; everything else is refused with its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from given_models import to_graph
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.converters.chain.folding import fold
from lava_meta.converters.chain.reading import flat
from lava_meta.converters.parity.chain import check
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryConv2d, BinaryLinear, Pixels, Sign, sign_ste


class Block(nn.Module):
    """A convolution with its norm, and functions for the rest."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.conv = BinaryConv2d(inputs, units, 3, padding=1)
        self.norm = nn.BatchNorm2d(units)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.hardtanh(self.norm(self.conv(x))), 2, 2, 0, 1, False)
        return sign_ste(functional.dropout(x, 0.2, self.training))


class Net(nn.Module):
    """Blocks in a list, one sign for two layers, views, and shapes read on the way."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pixels = Pixels(50)
        self.blocks = nn.ModuleList([Block(1, 4), Block(4, 5)])
        self.sign = Sign()
        self.head = nn.Sequential(BinaryLinear(20, 6), nn.BatchNorm1d(6))
        self.middle, self.out = BinaryLinear(6, 6), BinaryLinear(6, 3)
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        x = self.pixels(x)
        for block in self.blocks:
            x = block(x)
        x = self.sign(self.head(self.view(x)))
        return self.out(self.sign(self.middle(x)))


VIEWS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.flatten(1),
    lambda x: torch.flatten(x, start_dim=1),
    lambda x: x.view(x.shape[0], -1),
    lambda x: x.reshape(x.size(0), -1),
]


@pytest.mark.parametrize("view", VIEWS)
def test_a_forward_of_its_own_converts_exactly(view: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Net(view)
    for _ in range(3):
        model(torch.randint(0, 256, (40, 1, 9, 8)))
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norm.weight.copy_(torch.randn(norm.weight.shape))
                norm.bias.copy_(torch.randn(norm.bias.shape) / 3)
    model.eval()
    folded = fold(model, input_shape=(1, 9, 8))
    assert [layer.output_shape for layer in folded.graph.layers] == [(4, 4, 4), (5, 2, 2), (6,), (6,)]
    parity = check(model, folded, count=100)
    assert parity.exact, parity.mismatches
    names = [name for name, _ in flat(model)]
    assert names[:4] == ["pixels", "blocks.0.conv", "blocks.0.norm", "hardtanh"]
    assert names.count("sign") == 2


class Own(nn.Module):
    """Two layers of four units and a forward given from outside."""

    def __init__(self, forward: Callable[[Own, Tensor], Tensor]) -> None:
        super().__init__()
        self.pixels, self.sign, self.drop = Pixels(), Sign(), nn.Dropout()
        self.one, self.two = BinaryLinear(4, 4), BinaryLinear(4, 4)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.run(self, self.pixels(x)))


def _branches(model: Own, x: Tensor) -> Tensor:
    return model.sign(model.one(x)) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: m.sign(m.one(x)) + x, r"add \(add\) in the forward of the model \(Own\) does not take the value"),
        (lambda m, x: torch.cat([x, m.one(x)], 1), r"cat \(cat\) in the forward .* joins and branches"),
        (lambda m, x: (m.one(x), m.sign(x))[1], r"sign \(sign\) in the forward .* does not take the value before it"),
        (lambda m, x: m.sign(m.one(x) ** 3), r"pow_1 \(pow\) in the forward .* is not supported; supported"),
        (lambda m, x: torch.sign(m.one(x)), r"torch.sign behind one \(BinaryLinear\) gives 0"),
        (lambda m, x: m.one(x).view(4, -1), r"view \(view\) .* use x.flatten\(1\)"),
        (lambda m, x: functional.relu(m.one(x)), r"relu \(ReLU\) is not supported"),
        (lambda m, x: (m.one(x) >= 0).float(), r"ge passes on 0 and 1, not -1 and \+1: make signs"),
        (lambda m, x: m.one(x) >= 2, r"ge \(ge\) .* compares with another number than 0"),
        (lambda m, x: m.one(x).to(torch.int8), r"to \(Cast\) makes torch.int8 of sums; only signs"),
        (lambda m, x: m.one(x) * m.one.weight, r"mul \(mul\) .* takes numbers of shape \(4, 4\)"),
        (lambda m, x: torch.where(m.one(x) >= 0, m.one.weight[0], 1.0), r"where \(where\) .* chooses between tensors"),
        (lambda m, x: functional.batch_norm(m.one(x), None, None, training=True), r"batch_norm .* of each batch"),
        (lambda m, x: m.one(x).permute(0, 1), r"permute \(permute\) .* is not supported"),
        (lambda m, x: functional.dropout(m.one(x)), r"dropout \(dropout\) .* drops inputs in eval mode too"),
        (lambda m, x: m.one(x)[:, :4], r"getitem \(getitem\) .* is not supported"),
        (
            lambda m, x: functional.linear(x, m.one.weight),
            r"linear \(Linear\) has weights other than \+c and -c",
        ),
        (_branches, r"the model \(Own\) has a forward of its own that cannot be traced"),
        (lambda m, x: m.drop(m.one(x)), r"two \(BinaryLinear\) follows one \(BinaryLinear\) without a sign"),
    ],
)
def test_what_is_no_chain_of_known_modules_is_refused_with_its_place(forward, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConversionError, match=message):
        to_graph(Own(forward).eval())


def test_a_forward_with_two_inputs_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(ConversionError, match=r"1 \(Two\) takes 2 inputs"):
        to_graph(nn.Sequential(Pixels(), Two()).eval())


def test_a_forward_that_its_trace_does_not_repeat_is_found_out() -> None:
    """What a trace cannot see, here a hook, shows in the logits."""
    model = nn.Sequential(Pixels(), BinaryLinear(4, 4), Sign(), BinaryLinear(4, 2)).eval()
    folded = fold(model)
    model.register_forward_hook(lambda _module, _inputs, output: output + 1)
    with pytest.raises(ConversionError, match="other logits than the model's own forward"):
        check(model, folded)
