"""Images per second of spiking networks in the layouts of tutorials, beside snnTorch and stock Lava, on one thread.

    python benchmarks/spiking.py            # about two minutes

    ours     SpikingNetwork.spikes of the output, in Lava: check of the images and rings to and from the actor included
    kernel   the compiled network alone, called in this process
    snntorch the model itself under torch.no_grad, a batch at a time
    stock    Lava's own Dense and LIF in floating point, one image at a time (they have no lanes); the dense network

Random weights, images of which a fifth of the pixels is lit, held for 25 steps; neurons are set to 0 with their spike,
as Lava's LIF are. Ours and snnTorch's spikes must be equal, except for potentials within rounding of a threshold,
before anything is timed. The repetitions of all ways alternate, and each figure is a median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import snntorch as snn
import torch
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from torch import nn

import lava_meta
from lava_meta.graph.packed.spiking import CompiledRun
from lava_meta.processes.runtime import Supervised

STEPS, BATCH, BETA = 25, 128, 0.9


def neurons(*, output: bool = False) -> nn.Module:
    """Set to 0 with their spike."""
    return snn.Leaky(beta=BETA, init_hidden=True, output=output, reset_mechanism="zero", reset_delay=False)


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """784-1000-10, and 12C5-MP2-64C5-MP2-10."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(784, 1000), neurons(), nn.Linear(1000, 10), neurons(output=True))
    conv = nn.Sequential(
        nn.Conv2d(1, 12, 5),
        nn.MaxPool2d(2),
        neurons(),
        nn.Conv2d(12, 64, 5),
        nn.MaxPool2d(2),
        neurons(),
        nn.Flatten(),
        nn.Linear(1024, 10),
        neurons(output=True),
    )
    return {"dense 784-1000-10": (dense.eval(), (784,)), "conv 12C5-64C5-10": (conv.eval(), (1, 28, 28))}


def snntorch_spikes(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Spikes of the output (steps, n, 10)."""
    for module in model:
        if isinstance(module, snn.Leaky):
            module.reset_mem()
    with torch.no_grad():
        return np.stack([model(x)[0].numpy().astype(np.uint8) for _ in range(STEPS)])


class Stock:
    """The dense network of Lava's own Processes; LIF keep nothing from image to image, as the run restarts them."""

    def __init__(self, model: nn.Module, images: np.ndarray) -> None:
        held = np.repeat(images.astype(float) / 255, STEPS, axis=0)
        port = Source(data=held.T).s_out
        for place in (1, 3):
            layer = model[place]
            dense = Dense(weights=layer.weight.detach().double().numpy(), num_message_bits=24 if place == 1 else 0)
            bias = layer.bias.detach().double().numpy()
            lif = LIF(shape=(len(bias),), du=1, dv=1 - BETA, vth=1.0, bias_mant=bias)
            port.connect(dense.s_in)
            dense.a_out.connect(lif.a_in)
            port = lif.s_out
        self.sink = Sink(shape=(10,), buffer=len(held) + 2)
        port.connect(self.sink.a_in)
        self._run = Supervised(self.sink, Loihi2SimCfg(select_tag="floating_pt"), timeout=300)

    def __enter__(self) -> Stock:
        self._run.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._run.close()

    def steps(self, number: int) -> None:
        """Run so many time steps."""
        self._run.steps(number)


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(model: nn.Module, shape: tuple[int, ...], bits: int | None, repetitions: int) -> list[float]:
    """Images per second of ours, the kernel and snnTorch."""
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (BATCH, 784)) * (rng.random((BATCH, 784)) < 0.2)).astype(np.uint8)
    many = np.repeat(images, 16, axis=0)
    x = torch.from_numpy(images.reshape(-1, *shape)).float() / 255
    net = lava_meta.from_snntorch(model, input_shape=shape, mean=0, std=1, bits=bits)
    run, output = CompiledRun(net.graph), net.graph.output
    frames = net.graph.frames(images, STEPS)[:1]

    def kernel() -> np.ndarray:
        return run.trains(frames, STEPS, [output])[output]

    share = float((kernel() == snntorch_spikes(model, x)).mean())
    if bits is None and share < 0.9999:
        raise SystemExit(f"{share:.4%} of spikes are equal")
    ways: list[tuple[int, Callable[[], object]]] = [
        (len(many), lambda: net.spikes(many, STEPS, BATCH, [output])),
        (BATCH, kernel),
        (BATCH, lambda: snntorch_spikes(model, x)),
    ]
    rates = [[count / seconds(call) for count, call in ways] for _ in range(repetitions)]
    return [statistics.median(way) for way in zip(*rates, strict=True)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'network':20} {'weights':8} " + " ".join(f"{way:>10}" for way in ("ours", "kernel", "snntorch", "stock")))
    for name, (model, shape) in networks().items():
        stock_rate = float("nan")
        if len(shape) == 1:
            with Stock(model, np.full((12, 784), 50)) as stock:
                stock.steps(STEPS)  # the first steps compile
                stock_rate = 4 / seconds(lambda stock=stock: stock.steps(4 * STEPS))
        for bits in (None, 8):
            row = [*measured(model, shape, bits, arguments.repetitions), stock_rate]
            print(f"{name:20} {bits or 'real':8} " + " ".join(f"{rate:10,.0f}" for rate in row), flush=True)


if __name__ == "__main__":
    main()
