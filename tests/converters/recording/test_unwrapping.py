"""Wrapped, pruned and parametrized models convert to what they compute, or say which call unwraps them."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable

import pytest
import torch
from given_models import network, plain
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

import lava_meta
from lava_meta.converters.recording.unwrapping import plain_copy
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryMLP


class _Scaled(nn.Module):
    """XNOR-Net's weights: signs times the mean size of each unit's."""

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(weight >= 0, 1.0, -1.0).to(weight) * weight.abs().mean(dim=1, keepdim=True)


class _Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _pruned() -> nn.Module:
    model = network()
    prune.l1_unstructured(model[0], "weight", 0.3)
    prune.random_unstructured(model[0], "weight", 0.3)
    model(torch.rand(3, 784))  # leaves a weight with a gradient's history, which no copy takes
    return model


def _parametrized() -> nn.Module:
    model = plain()
    for layer in (model[0], model[3]):
        parametrize.register_parametrization(layer, "weight", _Scaled())
    model(torch.rand(99, 784))
    return model.eval()


def _normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        norm(model[0])
    model.train()(torch.rand(99, 784))
    return model.eval()


def _part(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = network()
    model[0] = wrap(model[0])
    return model.eval()


def _compiled_in_place() -> nn.Module:
    model = network()
    model.compile()
    return model


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "pruned": _pruned,
    "parametrized": _parametrized,
    "parametrized in half": lambda: _parametrized().half(),
    "weight norm": lambda: _normed(parametrizations.weight_norm),
    "weight norm of hooks": lambda: _normed(nn.utils.weight_norm),
    "spectral norm": lambda: _normed(parametrizations.spectral_norm),
    "spectral norm of hooks": lambda: _normed(nn.utils.spectral_norm),
    "compiled": lambda: torch.compile(network()),  # type: ignore[return-value]
    "compiled in place": _compiled_in_place,
    "a part compiled": lambda: _part(torch.compile),  # type: ignore[arg-type]
    "data parallel": lambda: nn.DataParallel(network()),
    "a part data parallel": lambda: _part(nn.DataParallel),
    "both": lambda: nn.DataParallel(torch.compile(network())),  # type: ignore[arg-type]
    "averaged": lambda: AveragedModel(network()),
    "traced module": lambda: fx.symbolic_trace(network()),
    "graph module": lambda: fx.GraphModule(network(), _Leaves().trace(network())),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_models_convert_to_what_they_compute_and_stay_as_they_were(name: str) -> None:
    model = WRAPPED[name]()
    inner = getattr(model, "module", getattr(model, "_orig_mod", model))
    inner = getattr(inner, "_orig_mod", inner)
    dtype = next(inner.parameters()).dtype
    images = torch.randint(0, 256, (200, 784), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    stance = getattr(torch.compiler, "set_stance", lambda _: warnings.catch_warnings())
    with torch.no_grad(), stance("force_eager"):
        before = inner((images / 255).to(dtype))
        state = copy.deepcopy(inner.state_dict())
        net = lava_meta.convert(model, mean=0, std=1)
        after = inner((images / 255).to(dtype))
    assert net.parity.exact
    assert torch.equal(before, after)
    assert all(torch.equal(state[key], value) for key, value in inner.state_dict().items())
    agreement = net.compare(model, images, preprocess=lambda x: x / 255)
    assert agreement.equal == int((before.argmax(dim=1).numpy() == net.graph.predict(images)).sum()) >= 198


def test_a_parametrized_model_can_be_converted_again_and_trained_on() -> None:
    """The class that a parametrization makes is shared by copies: it must keep its property."""
    model = _parametrized()
    for _ in range(2):
        lava_meta.convert(model, mean=0, std=1)
    assert parametrize.is_parametrized(model[0])
    model.train()(torch.rand(9, 784)).sum().backward()
    assert model[0].parametrizations.weight.original.grad is not None


def test_hooks_that_record_are_no_part_of_the_model() -> None:
    model = network()
    seen: list[object] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    assert lava_meta.convert(model, mean=0, std=1).parity.exact
    assert all(type(output) is Tensor for output in seen)


def test_a_copy_shares_nothing_with_the_model() -> None:
    model = _pruned()
    clone = plain_copy(model)
    pointers = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    assert not pointers & {tensor.data_ptr() for tensor in (*clone.parameters(), *clone.buffers())}
    assert not list(clone[0].named_buffers())
    assert prune.is_pruned(model)


class _Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.lock = network(), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BinaryMLP, TypeError, "class BinaryMLP; it must be a torch.nn.Module: make one"),
        (lambda: network().state_dict(), TypeError, "OrderedDict.*load_state_dict"),
        (lambda: "model.pt", TypeError, "type str"),
        (lambda: nn.Sequential(nn.LazyLinear(3)).eval(), ConversionError, r"0\.weight has no shape yet"),
        (lambda: network().to("meta"), ConversionError, r"0\.weight has no values, only a shape"),
        (lambda: _Locked().eval(), ConversionError, "the model cannot be copied .*lock"),
    ],
)
def test_what_cannot_be_unwrapped_says_what_to_do(
    make: Callable[[], nn.Module], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        lava_meta.convert(make(), mean=0, std=1)
