"""Networks written with functions, as people write them: each converts exactly, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from given_models import to_graph
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.converters.chain.folding import fold
from lava_meta.converters.parity.chain import check
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryLinear, FixedNorm, Pixels, Sign


class Ste(torch.autograd.Function):
    """The straight-through sign as most code bases have it, here with `where`."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return grad


class SteOfSetup(torch.autograd.Function):
    """The same in the newer form."""

    @staticmethod
    def forward(x):  # type: ignore[no-untyped-def]
        return 2 * (x >= 0).to(x.dtype) - 1

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return grad


class Xnor(nn.Module):
    """Hidden weights, their signs, and the mean of their sizes as a scale: XNOR-Net in functions."""

    def __init__(self, activation: Callable[[Tensor], Tensor], seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Parameter(torch.randn(4, 1, 3, 3, generator=generator))
        self.middle = nn.Parameter(torch.randn(9, 64, generator=generator))
        self.last = nn.Parameter(torch.randn(3, 9, generator=generator))
        self.gain, self.bias = nn.Parameter(torch.randn(4, generator=generator)), nn.Parameter(torch.randn(4) / 3)
        self.register_buffer("mean", torch.randn(4, generator=generator))
        self.register_buffer("var", torch.rand(4, generator=generator) + 0.5)
        self.pixels = Pixels(90, 0.02)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d(self.pixels(x), Ste.apply(self.conv), None, 1, 1)
        x = x * self.conv.abs().mean(dim=(1, 2, 3)).view(1, -1, 1, 1)
        x = functional.batch_norm(x, self.mean, self.var, self.gain, self.bias, self.training)
        x = self.activation(functional.max_pool2d(x.clamp(-1, 1), 2))
        x = functional.linear(x.view(-1, 64), Ste.apply(self.middle)) * self.middle.abs().mean(1) + 0.1
        x = self.activation(x)
        return functional.linear(x, self.last.abs().mean() * Ste.apply(self.last))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "autograd function": Ste.apply,
    "its newer form": SteOfSetup.apply,
    "where": lambda x: torch.where(x >= 0, 1.0, -1.0).to(x.dtype),
    "where below": lambda x: torch.where(x < 0, -1.0, 1.0).type_as(x),
    "strict": lambda x: torch.where(x > 0, 1.0, -1.0).to(x.dtype),
    "strict below": lambda x: (x <= 0).to(x.dtype) * -2 + 1,
    "bits": lambda x: 2 * x.ge(0).type_as(x) - 1,
    "torch.sign": torch.sign,
    "x.sign()": lambda x: x.sign(),
}


@pytest.mark.parametrize(("seed", "name"), list(enumerate(ACTIVATIONS)))
def test_a_network_of_functions_converts_exactly(name: str, seed: int) -> None:
    model = Xnor(ACTIVATIONS[name], seed).double().eval()
    folded = fold(model, input_shape=(1, 8, 8))
    graph = folded.graph
    assert [layer.output_shape for layer in graph.layers] == [(4, 4, 4), (9,)]
    parity = check(model, folded, count=100, seed=seed)
    assert parity.exact, parity.mismatches
    signs = graph.activations(np.random.default_rng(seed).integers(0, 256, (60, 64)).astype(np.uint8))["hidden2"]
    assert (signs.min(axis=0) != signs.max(axis=0)).any()


def _sums(units: int, sign: Callable[[Tensor], Tensor], norm: nn.Module | None = None) -> nn.Module:
    """A hidden layer of `units` inputs whose sums are integers, behind a first one, with any sign."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = nn.Sequential(Pixels(8, max_level=16), BinaryLinear(20, units), Sign())
            self.hidden, self.norm, self.out = BinaryLinear(units, 11), norm or nn.Identity(), BinaryLinear(11, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(sign(self.norm(self.hidden(self.front(x)))))

    torch.manual_seed(1)
    return Net().eval()


def test_torch_sign_is_taken_where_no_sum_is_zero_and_refused_elsewhere() -> None:
    odd = _sums(7, torch.sign)
    assert check(odd, fold(odd), count=500).exact
    with pytest.raises(ConversionError, match=r"torch.sign behind hidden \(BinaryLinear\) gives 0 for sums"):
        to_graph(_sums(8, torch.sign))
    with pytest.raises(ConversionError, match=r"torch\.sign gives 0 for an input that is 0"):
        to_graph(nn.Sequential(Pixels(3), SignedByTorch(), BinaryLinear(4, 2)).eval())
    shifted = nn.Sequential(Pixels(3.5), SignedByTorch(), BinaryLinear(4, 2)).eval()
    assert check(shifted, fold(shifted)).exact


class SignedByTorch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sign()


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_a_strict_sign_gives_minus_one_on_ties(gain: float) -> None:
    norm = nn.BatchNorm1d(11)
    norm.num_batches_tracked += 1
    with torch.no_grad():
        norm.weight.fill_(gain)
    strict = _sums(8, lambda x: torch.where(x > 0, 1.0, -1.0).to(x.dtype), norm)
    plain = _sums(8, lambda x: torch.where(x >= 0, 1.0, -1.0).to(x), norm)
    networks = [fold(strict), fold(plain)]
    images = np.random.default_rng(0).integers(0, 17, (300, 20)).astype(np.uint8)
    ties = networks[0].graph.layers[1].sums(networks[0].graph.activations(images)["hidden1"]) == 0
    assert ties.mean() > 0.1
    for model, folded, sign in ((strict, networks[0], -1), (plain, networks[1], 1)):
        assert (folded.graph.activations(images)["hidden2"][ties] == sign).all()
        assert check(model, folded, images=images).exact


def test_a_strict_sign_behind_a_norm_of_the_image_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"norm \(LayerNorm\) stands before another sign"):
        to_graph(_sums(8, lambda x: torch.where(x > 0, 1.0, -1.0), nn.LayerNorm(11)))


def test_a_layer_called_twice_is_two_layers_of_the_same_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels, self.first, self.again = Pixels(30), BinaryLinear(16, 9), BinaryLinear(9, 9)
            self.norm, self.sign, self.out = FixedNorm(0.1), Sign(), BinaryLinear(9, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.sign(self.norm(self.first(self.pixels(x))))
            for _ in range(3):
                x = self.sign(self.norm(self.again(x)))
            return self.out(x)

    torch.manual_seed(0)
    model = Twice().eval()
    folded = fold(model)
    graph = folded.graph
    assert len(graph.layers) == 4
    assert np.array_equal(graph.layers[1].bits, graph.layers[3].bits)
    assert check(model, folded, count=200).exact


@pytest.mark.parametrize("kind", ["layer", "group"])
def test_functional_norms_of_the_image(kind: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels, self.hidden, self.out = Pixels(30), BinaryLinear(16, 10), BinaryLinear(10, 3)
            self.gain, self.bias = nn.Parameter(torch.randn(10)), nn.Parameter(torch.randn(10))

        def forward(self, x: Tensor) -> Tensor:
            x = self.hidden(self.pixels(x))
            if kind == "layer":
                x = functional.layer_norm(x, (10,), self.gain, self.bias)
            else:
                x = functional.group_norm(x, 2, self.gain, self.bias)
            return self.out(torch.where(x >= 0, 1.0, -1.0).to(x.dtype))

    torch.manual_seed(0)
    model = Net().eval()
    assert check(model, fold(model), count=200).exact


class Scaled(nn.Module):
    """Raw inputs, scaled in the forward as scripts do it, and a readout divided by a number."""

    def __init__(self, front: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.front = front
        self.hidden, self.norm, self.out = BinaryLinear(20, 16), nn.BatchNorm1d(16), BinaryLinear(16, 3)
        self.sign = Sign()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.sign(self.norm(self.hidden(self.front(x))) / 3)) / 4.0 + 0.5


FRONTS: dict[str, Callable[[Tensor], Tensor]] = {
    "divided": lambda x: x / 255,
    "normalised": lambda x: (x / 255.0 - 0.1307) / 0.3081,
    "centred": lambda x: x - 128,
    "between -1 and 1": lambda x: 2 * (x / 255) - 1,
    "a sign of it": lambda x: torch.where(x / 255 - 0.5 >= 0, 1.0, -1.0).to(x.dtype),
}


@pytest.mark.parametrize(("seed", "name"), list(enumerate(FRONTS)))
def test_inputs_that_the_forward_scales(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = Scaled(FRONTS[name])
    for _ in range(3):
        model(torch.randint(0, 256, (60, 20)).float())
    model.eval()
    folded = fold(model, raw=True)
    graph = folded.graph
    assert (graph.binarize is not None) == (name == "a sign of it")
    parity = check(model, folded, count=200, seed=seed)
    assert parity.exact, (parity.mismatches, parity.ties)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FRONTS)
def test_numbers_of_a_forward_round_as_they_do_in_the_models_own_type(name: str, dtype: torch.dtype) -> None:
    """PyTorch computes with a Python number in float32, and with the same number as a half tensor rounds it first."""
    torch.manual_seed(0)
    model = Scaled(FRONTS[name])
    for _ in range(3):
        model(torch.randint(0, 256, (60, 20)).float())
    model.eval().to(dtype)
    assert check(model, fold(model, raw=True)).exact
