"""The self-check looks at the model as it was given: its mode, its own forward, its own type; it changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from given_models import network
from torch import Tensor, nn
from values import Call

import lava_meta
from lava_meta.converters.parity.chain import domain_images
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryConv2d, BinaryLinear, BinaryMLP, Pixels, Sign

MEAN, STD = 0.1307, 0.3081


@pytest.mark.parametrize("place", [1, 4])
def test_a_submodule_in_training_mode_is_refused_by_its_place(place: int) -> None:
    model = network(behind=(nn.Dropout(),))
    model[place].train()
    with pytest.raises(ConversionError, match=rf"{place} \({type(model[place]).__name__}\) is in training mode: call "):
        lava_meta.convert(model, mean=0, std=1)
    assert lava_meta.convert(model.eval(), mean=0, std=1).parity.exact


class Restless(nn.Module):
    """A forward that draws random numbers, counts, keeps what it saw, and writes into its input, weights and mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.register_buffer("count", torch.zeros(()))
        self.calls, self.last = 0, None

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3)
        self.calls += 1
        if type(x) is Tensor:
            self.count += 1
            self.last = x
            self.inner[0].weight.data = self.inner[0].weight.sign()
            self.inner[3].weight.data.mul_(2)
            found = self.inner(x)
            x.zero_()
            return found
        return self.inner(x)


def test_the_users_module_is_left_as_it_was() -> None:
    model = Restless().eval()
    model.inner[3].weight.grad = torch.ones(10, 64)
    state, memory = copy.deepcopy(model.state_dict()), [tensor.data_ptr() for tensor in model.parameters()]
    rng = torch.get_rng_state()
    assert lava_meta.convert(model, mean=0, std=1).parity.exact
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert [tensor.data_ptr() for tensor in model.parameters()] == memory
    assert torch.equal(torch.get_rng_state(), rng)
    assert (model.calls, model.last, model.training) == (0, None, False)
    assert (model.inner[3].weight.grad == 1).all()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_random_numbers_of_a_script_stay_the_same() -> None:
    """Layers that the reading makes draw weights of their own."""
    model = network(Call(lambda x: 2 * (x >= 0).float() - 1))
    model[3] = Call(lambda x: nn.functional.linear(x, torch.ones(10, 64)))
    torch.manual_seed(3)
    lava_meta.convert(model.eval(), mean=0, std=1)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))


SIGNS = {
    "where": lambda x: torch.where(x >= 0, 1.0, -1.0),
    "bits": lambda x: 2 * (x >= 0).float() - 1,
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", SIGNS)
def test_signs_and_models_of_every_type_of_floats(name: str, dtype: torch.dtype) -> None:
    model = network(Call(SIGNS[name]))
    expected = lava_meta.convert(network(), mean=MEAN, std=STD).graph
    net = lava_meta.convert(model.to(dtype), mean=MEAN, std=STD)
    assert net.parity.exact
    assert net.parity.own_type == str(dtype).removeprefix("torch.")
    images = domain_images(expected, 200, seed=1)
    equal = (net.graph.predict(images) == expected.predict(images)).sum()
    assert equal == 200 if dtype in (torch.float32, torch.float64) else equal >= 150  # rounded weights of the norm


def test_weights_of_where_convert() -> None:
    class Binarized(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, torch.where(self.weight >= 0, 1.0, -1.0))

    torch.manual_seed(0)
    model = nn.Sequential(Binarized(784, 64, bias=False), nn.BatchNorm1d(64), Sign(), Binarized(64, 10, bias=False))
    model(torch.rand(99, 784))
    assert lava_meta.convert(model.eval(), mean=0, std=1).parity.exact


def test_a_model_of_two_types_that_casts_on_its_way() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, _, self.last, self.scale = network(behind=(nn.BatchNorm1d(10),))
            self.first.half()
            self.last.half()

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.first(x.half()).float())
            return self.scale(self.last(torch.where(x >= 0, 1.0, -1.0).half()).float())

    for scale in ({"mean": 0, "std": 1}, {"mean": MEAN, "std": STD}):
        assert lava_meta.convert(Mixed().eval(), **scale).parity.exact


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_what_a_models_own_type_rounds_is_counted_not_hidden(dtype: torch.dtype) -> None:
    """The count is that of the user's module, called as users call it, on the images of the check."""
    model = network(seed=4).to(dtype)
    net = lava_meta.convert(model, mean=MEAN, std=STD)
    images = domain_images(net.graph, net.parity.images, net.parity.seed)
    with torch.no_grad():
        own = model(((torch.from_numpy(images.astype("float32")) / 255 - MEAN) / STD).to(dtype)).argmax(dim=1).numpy()
    assert net.parity.exact
    assert net.parity.own_classes == (own != net.graph.predict(images)).sum()
    assert sum(net.parity.own.values()) > 0
    assert f"{str(dtype)[6:]} rounds" in str(net.parity)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_networks_on_raw_pixels_in_every_type(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(
        *(Pixels(90), BinaryConv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), Sign()),
        *(nn.Flatten(), BinaryLinear(36, 10)),
    )
    conv(torch.randint(0, 256, (50, 1, 8, 8)))
    assert lava_meta.convert(conv.eval().to(dtype), input_shape=(1, 8, 8)).parity.exact
    assert lava_meta.convert(BinaryMLP([64, 32, 10], seed=0).eval().to(dtype)).parity.exact


def test_a_model_that_fails_on_its_own_inputs_says_so() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            if type(x) is Tensor:
                raise OSError("no camera")
            return self.inner(x)

    with pytest.raises(ConversionError, match=r"itself fails on float32 inputs of shape \(64, 784\): OSError: no cam"):
        lava_meta.convert(Picky().eval(), mean=0, std=1)


def test_a_part_whose_mode_changes_nothing_may_be_in_training_mode():
    class Own(nn.Module):
        def forward(self, x):
            return torch.where(x >= 0, 1.0, -1.0)

    model = nn.Sequential(BinaryLinear(12, 8), Own(), BinaryLinear(8, 3)).eval()
    model[1].train()
    assert lava_meta.convert(model, mean=0, std=1).parity.exact
