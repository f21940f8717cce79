"""Images per second of spiking networks in the layouts of tutorials, beside snnTorch and stock Lava, on one thread.

    python benchmarks/spiking.py            # about two minutes

    ours     SpikingNetwork.spikes of the output, in Lava: check of the images and rings to and from the actor included
    kernel   the compiled network alone, called in this process
    snntorch the model itself under torch.no_grad, a batch at a time
    stock    Lava's own Dense and LIF in floating point, one image at a time (they have no lanes); the dense network
    bound    what the processor could do at best for these images: the sums of their spikes at the rate at which rows of
             weights are added in the first-level cache, updates of neurons at their loop's rate there, and the first
             layer, once an image, as a float32 product of matrices; "of it" is the kernel's share. It adds every
             spike and updates every neuron by itself: sums of neurons with equal trains, and trains by their period,
             may pass it

Random weights, images of which a fifth of the pixels is lit, held for 25 steps; neurons are set to 0 with their spike,
as Lava's LIF are. Ours and snnTorch's spikes must be equal, except for potentials within rounding of a threshold,
before anything is timed. The repetitions of all ways alternate, and each figure is a median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import lava_meta.processes  # adapts Lava to this Python

# isort: split
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
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.graph.packed import spiking_loops as loops
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


class Machine:
    """Seconds of one addition of a weight, one update of a neuron and one multiply-accumulate, in the nearest cache."""

    def __init__(self) -> None:
        ones, weight, sums = np.ones((64, 32), np.uint8), np.ones((32, 512), np.int16), np.empty((64, 512), np.int16)
        self.addition = fastest(lambda: loops.add_rows(ones, weight, sums)) / (64 * 32 * 512)
        current, potential, fired = (
            np.ones((1, 1024), np.float32),
            np.zeros((1, 1024), np.float32),
            np.empty((1, 1024), bool),
        )
        half, delayed = np.full(1024, 0.5, np.float32), False
        update = fastest(
            lambda: [loops.leaky(current, half, half, loops.ZERO, delayed, potential, fired) for _ in range(64)]
        )
        self.update = update / (64 * 1024)
        square = np.ones((256, 256), np.float32)
        self.product = fastest(lambda: square @ square) / 256**3

    def bound(self, net: SpikingNetwork, images: np.ndarray) -> float:
        """Images per second at best."""
        graph = net.graph
        first, *others = net.report("loihi2", images, STEPS).nodes
        updates = STEPS * sum(graph.placed[name].n_out for name in graph.neurons)
        additions = sum(row.effective_operations for row in others)
        return 1 / (first.operations / STEPS * self.product + updates * self.update + additions * self.addition)


def fastest(call: Callable[[], object]) -> float:
    """Seconds of the fastest of many calls."""
    return min(seconds(call) for _ in range(200))


def measured(
    model: nn.Module, shape: tuple[int, ...], bits: int | None, repetitions: int, machine: Machine
) -> list[float]:
    """Images per second of ours, the kernel and snnTorch, and the bound."""
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
    return [*(statistics.median(way) for way in zip(*rates, strict=True)), machine.bound(net, images[:16])]


def table(repetitions: int) -> None:
    """Measure and print."""
    machine = Machine()
    ways = ("ours", "kernel", "snntorch", "stock", "bound")
    print(f"{'network':20} {'weights':8} " + " ".join(f"{way:>10}" for way in ways) + f"{'of it':>8}{'snntorch/':>11}")
    for name, (model, shape) in networks().items():
        stock_rate = float("nan")
        if len(shape) == 1:
            with Stock(model, np.full((12, 784), 50)) as stock:
                stock.steps(STEPS)  # the first steps compile
                stock_rate = 4 / seconds(lambda stock=stock: stock.steps(4 * STEPS))
        for bits in (None, 8):
            ours, kernel, theirs, bound = measured(model, shape, bits, repetitions, machine)
            rates = " ".join(f"{rate:10,.0f}" for rate in (ours, kernel, theirs, stock_rate, bound))
            print(f"{name:20} {bits or 'real':8} {rates}{kernel / bound:8.0%}{kernel / theirs:10.1f}x", flush=True)


def main() -> None:
    """Measure and print, by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table(arguments.repetitions)


if __name__ == "__main__":
    main()
