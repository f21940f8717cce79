"""The GPU's optimizer kernels without a GPU: run by Triton's interpreter, and compiled for real ones."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import fused_steps
import pytest
import torch
from fused_steps import both
from torch import nn

from lava_meta.nn import mark_binary
from lava_meta.optim import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD, gpu
from lava_meta.optim.clear import Clear
from lava_meta.optim.form import Weight
from lava_meta.rule import Consolidation, Constant, Linear, Towards

pytest.importorskip("triton", reason="triton comes with torch where that is built for CUDA")


class Own(Consolidation):
    kind = "own"

    def _of(self, distance: Any, xp: Any) -> Any:
        return 1 / (1 + distance)


@dataclass(frozen=True)
class Squared(Linear):
    """A subclass, which the kernel's `linear` would compute wrongly."""

    def _of(self, distance: Any, xp: Any) -> Any:
        return super()._of(distance, xp) ** 2


FUNCTIONS = [*fused_steps.FUNCTIONS, Own(), Squared(0.5)]
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (MetaplasticAdam, {"lr": 0.005, "capturable": True}),
    "sgd": (MetaplasticSGD, {"lr": 0.01}),
    "momentum": (MetaplasticSGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.1}),
    "adalayer": (MetaplasticAdalayer, {"lr": 0.005, "capturable": True}),
}


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """`fused_gpu`, its kernels run by Triton's interpreter: the same source, on the CPU, block by block."""
    spec = importlib.util.find_spec("lava_meta.optim.fused_gpu")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def on_gpu(kernels: ModuleType) -> Callable[[Any], Any]:
    """The optimizer whose fused steps take the kernels, as if the parameters were on a GPU."""
    return lambda make: type(make.__name__, (make,), {"fused_forms": (kernels,)})


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.kind)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_kernels_take_the_clear_steps(name: str, f: Consolidation, on_gpu: Callable[[Any], Any]) -> None:
    make, options = OPTIMIZERS[name]
    h = torch.rand((31, 67), generator=torch.Generator().manual_seed(0)) - 0.5  # two blocks and a part of a third
    h.view(-1)[:2] = torch.tensor([0.0, -0.0])
    clear, fused = both(on_gpu(make), {**options, "consolidation": f, "weight_decay": 1e-3}, h, 4, 1)
    torch.testing.assert_close(fused, clear, rtol=1e-6, atol=1e-7)
    assert not torch.equal(fused, h)
    options = {**options, "consolidation": Towards(0.5, 0.1), "grow": f}
    clear, fused = both(on_gpu(make), options, h, 4, 1)
    torch.testing.assert_close(fused, clear, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1e-30, 1.0, 30.0, 1e20])
def test_gates_of_any_size_of_weight(size: float, on_gpu: Callable[[Any], Any]) -> None:
    h = (torch.rand((40, 50), generator=torch.Generator().manual_seed(0)) - 0.5) * size
    for f in FUNCTIONS[1:]:
        clear, fused = both(on_gpu(MetaplasticSGD), {"lr": size, "consolidation": f}, h, 1, 1)
        torch.testing.assert_close(fused, clear, rtol=2e-6, atol=size * 1e-7)
        shrinks = (h - clear) * h > 0
        torch.testing.assert_close((h - fused)[shrinks], (h - clear)[shrinks], rtol=1e-5, atol=size * 1e-7)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_weights_that_are_not_finite_stay_so_and_no_others(on_gpu: Callable[[Any], Any]) -> None:
    h = torch.rand((3, 8), generator=torch.Generator().manual_seed(0)) - 0.5
    h[0, 0], h[1, 1], h[2, 2] = math.nan, math.inf, -math.inf
    for f in FUNCTIONS:
        clear, fused = both(on_gpu(MetaplasticAdam), {"consolidation": f, "capturable": True}, h, 2, 1)
        assert torch.equal(torch.isfinite(fused), torch.isfinite(h))
        torch.testing.assert_close(fused[torch.isfinite(h)], clear[torch.isfinite(h)], rtol=1e-6, atol=1e-7)


def test_what_the_kernels_do_not_take_is_done_in_the_clear_form(on_gpu: Callable[[Any], Any]) -> None:
    h = torch.rand((20, 30), generator=torch.Generator().manual_seed(0)) - 0.5
    for other in (h.double(), h.T):
        results = []
        for fused in (False, True):
            parameter = mark_binary(nn.Parameter(other.clone(memory_format=torch.preserve_format)))
            parameter.grad = torch.ones_like(other)
            on_gpu(MetaplasticAdam)([parameter], m=4.0, fused=fused).step()
            results.append(parameter.detach())
        torch.testing.assert_close(*results, rtol=1e-6, atol=1e-8)


class Ungated(Clear):
    """Kernels that forget the gate."""

    def sgd(self, weight: Weight, buffer: Any, numbers: Any) -> bool:
        return super().sgd(weight._replace(f=Constant()), buffer, numbers)


def test_the_kernels_prove_themselves_before_they_are_used(kernels: Any) -> None:
    gpu.check(kernels, torch.device("cpu"))
    assert gpu.OnGpu(lambda: kernels).kernels(torch.device("cpu")) is kernels
    with pytest.raises(RuntimeError, match="a step of sgd came out wrong"):
        gpu.check(Ungated(), torch.device("cpu"))


def test_without_triton_or_a_compiler_there_is_one_warning_and_no_pass() -> None:
    loaded: list[str] = []

    def fails() -> None:
        loaded.append("tried")
        raise RuntimeError("Failed to find C compiler.\nmore")

    form = gpu.OnGpu(fails)
    assert not form.takes(Weight(torch.zeros(2), torch.zeros(2), Constant()))
    assert loaded == []  # on the CPU nothing is asked
    with pytest.warns(UserWarning, match=r"does not work on cuda:7 \(Failed to find C compiler.\); torch's operations"):
        assert form.kernels(torch.device("cuda:7")) is None
    assert form.kernels(torch.device("cuda:7")) is None
    assert loaded == ["tried"]


@pytest.mark.parametrize(
    "capability", [80, pytest.param(70, marks=pytest.mark.slow), pytest.param(90, marks=pytest.mark.slow)]
)
def test_the_kernels_compile_for_gpus(capability: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To machine code, by Triton's own compiler and assembler, which need no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lava_meta.optim import fused_gpu

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = {"hidden", "gradient", "mean", "square", "buffer", "rate", "shares", "growing"}
    types = dict.fromkeys(pointers, "*fp32") | {"correction1": "*fp64", "correction2": "*fp64", "n": "i32"}
    adam, sgd = fused_gpu._adam, fused_gpu._sgd
    for kernel, gates in ((adam, ("plain", "tanh2", "given")), (sgd, ("linear", "quadratic", "towards", "towards2"))):
        for gate in gates:
            constants = {"GATE": gate, "GROW": "plain" if gate == "tanh2" else gate, "BLOCK": fused_gpu.BLOCK}
            constants |= {"MOVING": gate == "linear", "RATE_THERE": gate == "towards"}
            constants = {name: constants[name] for name in kernel.arg_names if name in constants}
            signature = {
                name: "constexpr" if name in constants else types.get(name, "fp32") for name in kernel.arg_names
            }
            source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
            compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
            assert len(compiled.asm["cubin"]) > 1000
