"""What no network of integers can be is refused with the line of the user's code, the place in the model, and a way."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lava_meta
from lava_meta.errors import ConversionError

RAW: dict[str, Any] = {"raw": True, "input_shape": (8,)}


class Base(nn.Module):
    """A real layer, a sign, and what each test puts behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 3)

    def middle(self, x: Tensor) -> Any:
        return x

    def forward(self, x: Tensor) -> Any:
        return self.last(self.middle(torch.sign(self.first(x))))


def refused(model: nn.Module, match: str, code: str, **options: Any) -> None:
    """Conversion is refused in these words, at the line of `model` that holds `code`."""
    with pytest.raises(ConversionError, match=match) as caught:
        lava_meta.convert(model.eval(), **(RAW | options))
    lines, first = inspect.getsourcelines(type(model))
    line = first + next(i for i, text in enumerate(lines) if code in text)
    assert f"test_refusals.py:{line}, in " in str(caught.value)


def test_a_branch_on_values() -> None:
    class Branch(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    refused(Branch(), r"asks for values of the images.* do not decide .* Use torch\.where", "x.sum() > 0")


def test_a_branch_that_bounds_leave_open() -> None:
    class Open(Base):
        def middle(self, x: Tensor) -> Tensor:
            return -x if bool((x > 0).all()) else x

    refused(Open(), r"their bounds \(0 to 1\) do not decide how the test goes", "(x > 0).all()")


def test_tests_of_values_that_bounds_decide() -> None:
    """As asserts, and branches for what cannot be."""

    class Decided(Base):
        def middle(self, x: Tensor) -> Tensor:
            assert not torch.isnan(x).any()
            assert not torch.isinf(x).any()
            assert bool((x.abs() <= 1).all())
            clipped = F.hardtanh(3 * x)
            if clipped.data.max() > 1:
                raise AssertionError
            return -x if clipped.min() >= -1 else x

    model = Decided().eval()
    net = lava_meta.convert(model, **RAW)
    x = torch.randint(0, 256, (50, 8))
    assert (net.graph.predict(x.numpy()) == model(x.float()).argmax(1).numpy()).all()


def test_tests_of_real_values_that_choices_clip() -> None:
    """As a quantizer asserts that it is given values between 0 and 1, which `torch.where` made of real ones."""

    class Clips(Base):
        def middle(self, x: Tensor) -> Tensor:
            real = torch.tanh(x + x.mean(1, keepdim=True)) * x.roll(1, 1) * 3
            clipped = torch.relu(real)
            clipped = torch.where(clipped < 2, clipped, 2.0) / 2
            assert torch.all(clipped >= 0)
            assert torch.all(clipped <= 1)
            return torch.round(3 * clipped)

    model = Clips().eval()
    net = lava_meta.convert(model, **RAW)
    x = torch.randint(0, 256, (200, 8))
    theirs = model.double()(x.double()).detach()
    assert len(np.unique(theirs.argmax(1))) > 1
    np.testing.assert_allclose(net.logits(x.numpy()), theirs.numpy(), atol=1e-9)


def test_tests_of_what_a_model_is_fed_and_gives() -> None:
    """Inputs lie between 0 and 1 exactly, whatever float64 rounds; what a network gives is finite."""

    class Checked(Base):
        def forward(self, x: Tensor) -> Any:
            if not (x.min() >= 0 and x.max() <= 1):
                raise ValueError
            found = self.last(torch.sign(self.first(x)) + 0.1 * x.mean(dim=1, keepdim=True))
            return found if torch.isfinite(found).all() and not (found != found).any() else -found

    for most in (15, 49, 255):  # 49 * (1 / 49) is less than 1 in float64
        model = Checked().eval()
        net = lava_meta.convert(model, mean=0, std=1, max_level=most)
        levels = torch.randint(0, most + 1, (50, 8))
        assert (net.graph.predict(levels.numpy()) == model.double()(levels.double() / most).argmax(1).numpy()).all()


def test_a_test_of_inputs_that_their_mean_leaves_open() -> None:
    class Checked(Base):
        def forward(self, x: Tensor) -> Any:
            return self.last(torch.sign(self.first(x if x.min() >= 0 else -x)))

    refused(Checked(), r"their bounds \(-1\.5 to 1\.5\)", "x.min() >= 0", mean=0.5, std=1 / 3, raw=False)


def test_a_test_for_one_value_that_few_images_have() -> None:
    """Levels are numbers only up to float64's rounding, so that none of them equals a number by its bounds."""

    class Saturated(Base):
        def forward(self, x: Tensor) -> Any:
            return self.last(torch.sign(self.first(-x if (3 * x == 3).any() else x)))

    refused(Saturated(), r"their bounds .* do not decide", "(3 * x == 3).any()", mean=0, std=1, raw=False)


def test_tests_of_values_from_which_nothing_follows() -> None:
    """They are not decided by bounds; but the model computes the same if they go the other way."""

    class Warns(Base):
        def middle(self, x: Tensor) -> Tensor:
            size = x.sum(1, keepdim=True)
            if (size == 0).any():
                warnings.warn("a row of no size", stacklevel=2)
            return x / (size.abs() + 1)

    model = Warns().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lava_meta.convert(model, **RAW)
        x = torch.randint(0, 256, (50, 8))
        assert (net.graph.predict(x.numpy()) == model(x.float()).argmax(1).numpy()).all()

    class Asserts(Base):
        def middle(self, x: Tensor) -> Tensor:
            assert not bool((x.sum(1) == 0).all())
            return x

    refused(Asserts(), "do not decide how the test goes", "x.sum(1) == 0")

    class Scales(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x * (2 if bool((x.sum(1) == 0).any()) else 3)

    refused(Scales(), "do not decide how the test goes", "x.sum(1) == 0")


def test_values_that_leave_torch() -> None:
    class Leaves(Base):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(np.tanh(self.first(x).detach().numpy()))

    refused(Leaves(), "hands values of the images to what is not PyTorch", "np.tanh")


def test_values_that_a_mask_chooses() -> None:
    class Chooses(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x * x[x > 0].sum()

    refused(Chooses(), "takes the values that a mask chooses, of which there are more or less", "x[x > 0]")

    class OfOthers(Base):
        def middle(self, x: Tensor) -> Tensor:
            x[x < 0] = -x[x > 0].mean() + x[x < 0]
            return x

    refused(OfOthers(), "takes the values that a mask chooses", "x[x < 0]")

    class Nothing(Base):
        def middle(self, x: Tensor) -> Tensor:
            x[x > 2] = x[x > 2] / 2
            return x

    refused(Nothing(), "which is nothing of the images that the model was read with", "x[x > 2]")


def test_the_greatest_of_all_images() -> None:
    class Greatest(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x / self.first.weight.abs().max() / x.max()

    refused(Greatest(), "takes the greatest or least value of all images together; name the dimensions", "x.max()")


def test_a_value_that_python_reads() -> None:
    class Reads(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x * float(x.max())

    refused(Reads(), "asks for values of the images.* reported.* belongs behind `if self.training`", "float(x.max())")


def test_a_deviation_that_may_be_zero() -> None:
    class Divides(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x / x.std(dim=1, keepdim=True)

    refused(Divides(), "gives NaN or infinity .* add a small number where it divides", "x.std(")


def test_means_over_the_batch() -> None:
    class OverImages(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    refused(OverImages(), r"over the images", "x.mean(0)")


def test_images_that_are_mixed() -> None:
    class Mixes(Base):
        def middle(self, x: Tensor) -> Tensor:
            return torch.sign(x + x.flip(0))

    refused(Mixes(), "mixes the images of a batch", "x.flip(0)")


def test_statistics_of_each_batch() -> None:
    class OfTheBatch(Base):
        def middle(self, x: Tensor) -> Tensor:
            return F.batch_norm(x, None, None, training=True)

    refused(OfTheBatch(), "statistics of each batch, which mixes images", "F.batch_norm")


def test_a_softmax_over_the_images() -> None:
    class Attends(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x * torch.softmax(x, 0)

    refused(Attends(), "over the images", "torch.softmax")


def test_weights_from_the_images() -> None:
    class Dynamic(Base):
        def middle(self, x: Tensor) -> Tensor:
            return torch.mm(x, torch.outer(x[0], x[0]))

    refused(Dynamic(), "mixes the images|makes tensors whose shape|multiplies values with values", "torch.outer")


def test_mantissa_and_exponent() -> None:
    """Refused as one operation; the two that are advised convert."""

    class Apart(Base):
        def middle(self, x: Tensor) -> Tensor:
            mantissa, exponent = torch.frexp(x + 0.3)
            return mantissa * exponent

    class Advised(Base):
        def middle(self, x: Tensor) -> Tensor:
            x = x + 0.3
            exponent = torch.floor(torch.log2(x.abs().clamp_min(1e-6))) + 1
            return x / 2**exponent * exponent

    refused(Apart(), r"\(frexp\) gives two values of each: compute the exponent as torch\.floor", "torch.frexp")
    x = torch.randn(20, 6)
    assert torch.equal(Advised().middle(x), Apart().middle(x))
    assert lava_meta.convert(Advised().eval(), **RAW).parity.exact


def test_random_numbers() -> None:
    class Random(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    refused(Random(), "draws random numbers", "torch.rand_like")


def test_weights_that_are_not_finite() -> None:
    model = Base()
    with torch.no_grad():
        model.last.weight[1, 2] = torch.inf
    with pytest.raises(ConversionError, match=r"in last \(Linear\).*has weights that are not finite"):
        lava_meta.convert(model.eval(), **RAW)


def test_sums_that_do_not_fit() -> None:
    class Grows(Base):
        def forward(self, x: Tensor) -> Tensor:
            a, b = self.first(x), self.first(1 - x)
            for _ in range(3):
                a = 1e6 * a * b
            return self.last(torch.sign(a))

    refused(Grows(), "past 62 bits", "1e6 * a * b")


def test_shapes_that_follow_the_batch() -> None:
    class Shapes(Base):
        def middle(self, x: Tensor) -> Tensor:
            return x * float(x.shape[0])

    with pytest.raises(ConversionError):
        lava_meta.convert(Shapes().eval(), **RAW)


def test_an_output_that_there_is_not() -> None:
    class Heads(Base):
        def forward(self, x: Tensor) -> Any:
            x = torch.sign(self.first(x))
            return {"a": self.last(x), "b": self.last(-x)}

    with pytest.raises(ConversionError, match=r"gives 2 outputs \(a, b\): choose one with output="):
        lava_meta.convert(Heads().eval(), **RAW)
    with pytest.raises(ConversionError, match=r"no output 'c'; it gives a, b"):
        lava_meta.convert(Heads().eval(), **RAW, output="c")
    net = lava_meta.convert(Heads().eval(), **RAW, output="b")
    assert net.parity.exact


def test_nothing_is_said_of_the_inputs() -> None:
    with pytest.raises(ConversionError, match=r"nothing says what the model takes: pass mean= and std="):
        lava_meta.convert(Base().eval(), input_shape=(8,))


def test_a_shape_that_does_not_fit() -> None:
    with pytest.raises(ConversionError, match=r"fails on float64 inputs of shape \(2, 9\)"):
        lava_meta.convert(Base().eval(), raw=True, input_shape=(9,))


def test_a_network_that_feeds_itself() -> None:
    """State that is kept from call to call: a cycle through time."""

    class Keeps(Base):
        def middle(self, x: Tensor) -> Tensor:
            self.state = x if getattr(self, "state", None) is None else torch.sign(x + 0.5 * self.state.detach())
            return self.state

    with pytest.raises(
        ConversionError, match=r"though not on two images: .* keeps from earlier calls, which makes a cycle"
    ):
        lava_meta.convert(Keeps().eval(), **RAW)


def test_weights_and_norms_that_are_not_finite_in_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    model(torch.randn(8, 1, 8, 8))
    options: dict[str, Any] = {"raw": True, "input_shape": (1, 8, 8)}
    for change, match in (
        (lambda m: m[0].bias.data.fill_(torch.nan), r"in 0 \(Conv2d\).*has a bias that is not finite"),
        (lambda m: m[1].running_var.fill_(torch.inf), r"in 1 \(BatchNorm2d\).*running variance that is not finite"),
    ):
        own = copy.deepcopy(model).eval()
        change(own)
        with pytest.raises(ConversionError, match=match):
            lava_meta.convert(own, **options)
    assert lava_meta.convert(model.eval(), **options).parity.exact
