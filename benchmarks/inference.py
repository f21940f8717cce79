"""Images per second of a converted network, beside stock Lava and plain PyTorch, in one run.

    python benchmarks/inference.py            # about four minutes
    python benchmarks/inference.py --quick    # about one and a half

Networks with random weights and the fixed norm's thresholds, each in ways that must give equal sums before anything is
timed:

    ours     LavaNetwork.sums, everything included: check of the images, the rings to and from Lava's actor. The images
             of a time step (`lanes`) are computed by themselves; those of many steps travel in one message
    stock    Lava's own Processes with the same integers, one image a time step (they have no lanes), under the same
             supervised runtime: RingBuffer, Dense, LIF, ..., Dense, RingBuffer in floating point; the convolutional
             network in the stock form of this package (Conv and LIF, fixed point)
    torch    float32 products and comparisons on one thread, a batch of `lanes` at a time
    kernel   the packed kernels alone, called in this process

The repetitions of all ways alternate, and each figure is a median, so that a busy machine disturbs all alike. The bound
is what the processor could do at best: the fastest rate at which the inner loops run on data in the first-level cache,
for all the network's words; or, where it takes longer, reading all packed weights once a batch from where they lie.

Networks of other forms are in `benchmarks/acyclic.py`. Last come a dense and a convolutional network of spiking neurons
beside snnTorch and stock Lava (`benchmarks/spiking.py`, if snnTorch is there).

Then, for each network in interpreters of their own, from the start of the process: the time until the first class,
where it goes, and what loading costs in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import lava_meta.processes  # noqa: F401  adapts Lava to this Python

# isort: split
import numpy as np
import torch
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from numba import njit
from torch.nn.functional import conv2d, linear, max_pool2d

from lava_meta.converters.lava import LavaNetwork
from lava_meta.graph import BinaryGraph
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.graph.packed import loops, network
from lava_meta.graph.packed.sums import SignSums
from lava_meta.loihi.stock import latencies, plan
from lava_meta.processes.runtime import Supervised

DENSE = {"64-64-64": (64, 64, 64), "784-1024²-10": (784, 1024, 1024, 10), "784-4096²-10": (784, 4096, 4096, 10)}
CONV = "conv 64-128-10"  # on 28x28 pixels: 3x3 with padding, each with 2x2 max pooling
NETWORKS = (*DENSE, CONV)
LANES = (1, 32, 256)
IMAGES = 8192


def random_graph(name: str) -> BinaryGraph:
    """Random signs; a first dense layer centred on a mean pixel of 33, thresholds of 0 behind it."""
    rng = np.random.default_rng(0)
    if name == CONV:
        half = (Pool((2, 2), (2, 2)),)
        one = ConvLayer.from_weights(
            rng.random((64, 1, 3, 3)) < 0.5, (1, 28, 28), rng.integers(-200, 200, 64), padding=(1, 1), pools=half
        )
        two = ConvLayer.from_weights(
            rng.random((128, 64, 3, 3)) < 0.5, one.output_shape, np.zeros(128), padding=(1, 1), pools=half
        )
        return BinaryGraph((one, two), Readout.from_weights(rng.random((10, two.n_out)) < 0.5), 255, (1, 28, 28))
    sizes = DENSE[name]
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes[:-1])):
        weight = rng.random((n_out, n_in)) < 0.5
        row = np.where(weight, 1, -1).sum(axis=1)
        layers.append(DenseLayer.from_weights(weight, 33 * row if i == 0 else 0 * row))
    readout = Readout.from_weights(rng.random((sizes[-1], sizes[-2])) < 0.5)
    return BinaryGraph(tuple(layers), readout, 255, (sizes[0],))


class Stock:
    """The same network of Lava's own Processes, floating point.

    Their spikes s are 0 and 1: `W a = 2 W s - R` with R the row sums of W, so a unit of a later layer fires iff
    `W s >= (threshold + R) / 2`. LIF with du = dv = 1 holds only its input and the bias, and fires above 0.
    """

    def __init__(self, graph: BinaryGraph, images: np.ndarray) -> None:
        self.delay = len(graph.layers) + 1  # each Dense sends what it computed in the step before
        source = Source(data=images.T.astype(float))
        port = source.s_out
        for i, layer in enumerate(graph.layers):
            weight = np.where(layer.weight, 1.0, -1.0)
            threshold = layer.threshold if i == 0 else np.ceil((layer.threshold + weight.sum(axis=1)) / 2)
            dense = Dense(weights=weight, num_message_bits=8 if i == 0 else 0)
            lif = LIF(shape=(layer.n_out,), du=1, dv=1, vth=0, bias_mant=0.5 - threshold)
            port.connect(dense.s_in)
            dense.a_out.connect(lif.a_in)
            port = lif.s_out
        weight = np.where(graph.readout.weight, 1.0, -1.0)
        self.row = weight.sum(axis=1)
        self.last: AbstractProcess = Dense(weights=weight)
        port.connect(self.last.s_in)
        self.sink = Sink(shape=(graph.n_out,), buffer=len(images) + self.delay)
        self.last.a_out.connect(self.sink.a_in)
        self._run = Supervised(self.last, Loihi2SimCfg(select_tag="floating_pt"), timeout=300)

    def __enter__(self) -> Stock:
        self._run.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._run.close()

    def sums(self, number: int) -> np.ndarray:
        """Run the first `number` images and read their sums; only right as the first call."""
        self.steps(number + self.delay)
        return 2 * self.sink.data.get()[:, self.delay : self.delay + number].T - self.row

    def steps(self, number: int) -> None:
        """Run so many time steps, an image each."""
        self._run.steps(number)


class StockForm:
    """The network in this package's stock form, for convolutions."""

    def __init__(self, graph: BinaryGraph, images: np.ndarray) -> None:
        self.images = images
        self.delay = latencies(plan(graph))["readout"]
        self._net = LavaNetwork(graph, form="stock", timeout=300)

    def __enter__(self) -> StockForm:
        self._net.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._net.stop()

    def sums(self, number: int) -> np.ndarray:
        """The sums of the first `number` images."""
        return self._net.sums(self.images[:number])

    def steps(self, number: int) -> None:
        """Run at least so many time steps, an image each; `number` exceeds the delay."""
        self._net.sums(self.images[: number - self.delay])


class Torch:
    """The same network in float32 on one thread."""

    def __init__(self, graph: BinaryGraph) -> None:
        self.weights = [
            torch.from_numpy(np.where(layer.weight, 1, -1).astype(np.float32)) for _, layer in graph.named_layers()
        ]
        self.thresholds = [torch.from_numpy(layer.threshold.astype(np.float32)) for layer in graph.layers]
        self.convolutions = [layer if isinstance(layer, ConvLayer) else None for layer in graph.layers]

    @torch.inference_mode()
    def sums(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.to(torch.float32)
        for weight, threshold, layer in zip(self.weights, self.thresholds, self.convolutions, strict=False):
            if layer is None:
                x = torch.where(linear(x, weight) >= threshold, 1.0, -1.0)
            else:
                kernel = weight.view(layer.channels, -1, *layer.window.kernel)
                x = conv2d(x.view(-1, *layer.input_shape), kernel, padding=layer.window.padding)
                x = max_pool2d(torch.where(x >= threshold, 1.0, -1.0), layer.pools[0].kernel)
        return linear(x.flatten(1), self.weights[-1])


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# The bound.


@njit
def _bit_rate(weight, x, counts, times):  # type: ignore[no-untyped-def]
    for _ in range(times):
        loops._add_xor(weight, 0, x, 0, 32, counts)


@njit
def _product_rate(mask, quads, counts, times):  # type: ignore[no-untyped-def]
    for _ in range(times):
        loops._count_products(mask, quads, 0, counts)


@njit
def read_words(array):  # type: ignore[no-untyped-def]
    """Pass over an array of uint64."""
    total = np.uint64(0)
    for i in range(array.size):
        total ^= array[i]
    return total


class Machine:
    """Peak rates of this processor from its caches, a second: words counted, in windows too, and bytes multiplied."""

    def __init__(self) -> None:
        weight, x = np.ones((32, 64), np.uint64), np.ones(32, np.uint64)
        mask, quads = np.ones((64, 64), np.uint32), np.ones((4, 64), np.uint32)
        counts, row = np.empty((4, 64), np.int64), np.empty(64, np.int64)
        times = 8000
        _bit_rate(weight, x, row, 1)
        _product_rate(mask, quads, counts, 1)
        self.words = times * 32 * 64 / min(seconds(lambda: _bit_rate(weight, x, row, times)) for _ in range(20))
        self.bytes = (
            times * 4 * 64 * 256 / min(seconds(lambda: _product_rate(mask, quads, counts, times)) for _ in range(20))
        )
        windows = SignSums(np.ones((64, 512, 1, 1), bool), Window((1, 1)), (16, 16))
        x = np.ones((1, 16, 16, 8), np.uint64)
        self.windows = max(self.words, 16 * 16 * 8 * 64 / min(seconds(lambda: windows.sums(x)) for _ in range(200)))

    def bound(self, graph: BinaryGraph, lanes: int) -> float:
        """The least time an image, in seconds."""
        weights = np.concatenate([layer.bits.reshape(-1) for _, layer in graph.named_layers()])
        first, *later = [layer for _, layer in graph.named_layers()]
        products = isinstance(first, ConvLayer) or lanes >= network.PRODUCTS_FROM
        compute = sum(
            layer.bits.size * positions(layer) / (self.windows if isinstance(layer, ConvLayer) else self.words)
            for layer in later
        )
        if products:
            compute += first.weight.size * positions(first) / self.bytes
        else:
            compute += 8 * first.bits.size / self.words
        read_words(weights)
        return max(compute, min(seconds(lambda: read_words(weights)) for _ in range(100)) / lanes)


def positions(layer: DenseLayer | ConvLayer | Readout) -> int:
    """How often a layer's weights are used for one image."""
    return layer.conv_shape[1] * layer.conv_shape[2] if isinstance(layer, ConvLayer) else 1


# Start-up and memory, in an interpreter of their own.

_START = """
import json, sys, time
from pathlib import Path

laps = {}

def lap(name):
    laps[name] = time.time() - float(sys.argv[2]) - sum(laps.values())

def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))

import numpy as np
import lava_meta
from lava_meta.graph import BinaryGraph
from lava_meta.converters import LavaNetwork
lap("python")
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
net = lava_meta.load(sys.argv[1])
grown = memory("VmHWM") - before
lap("load")
import numba
import lava_meta.graph.packed.network
lap("numba")
import lava_meta.processes.streaming
import lava.magma.compiler.compiler
lap("Lava")
image = np.zeros((1, net.graph.n_in), np.uint8)
with net:
    net.predict(image, lanes=1)
    lap("start")
    calls = []
    for _ in range(50):
        begin = time.perf_counter()
        net.predict(image, lanes=1)
        calls.append(time.perf_counter() - begin)
packed = sum(layer.bits.nbytes for _, layer in net.graph.named_layers())
print(json.dumps(laps | {"call": sorted(calls)[25], "grown": grown, "packed": packed}))
"""


def start_up(graph: BinaryGraph, times: int) -> dict[str, float]:
    """Medians: times in seconds; the peak growth of the process while loading and the packed weights, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        graph.save(path)
        runs = []
        for _ in range(times):
            begin = time.time()
            command = [sys.executable, "-c", _START, str(path), str(begin)]
            run = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            run["first class"] = sum(run[name] for name in ("python", "load", "numba", "Lava", "start"))
            runs.append(run)
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def measure(name: str, machine: Machine, repetitions: int, budget: float) -> None:
    """Print the rows of one network; each repetition of each way takes about `budget` seconds."""
    graph = random_graph(name)
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, graph.n_in), dtype=np.uint8)
    expected = graph.sums(images[:300])
    kernel = network.PackedNetwork(graph)
    plain = Torch(graph)
    started = {lanes: LavaNetwork(graph) for lanes in LANES}
    stock = StockForm(graph, images) if name == CONV else Stock(graph, images[:16])
    with stock, contextlib.ExitStack() as stack:
        for lanes, net in started.items():
            stack.enter_context(net)
            np.testing.assert_array_equal(net.sums(images[:300], lanes), expected)
        np.testing.assert_array_equal(stock.sums(4), expected[:4])
        np.testing.assert_array_equal(kernel.sums(images[:300]), expected)
        np.testing.assert_array_equal(plain.sums(torch.from_numpy(images[:300])).numpy(), expected)

        ways: dict[tuple[str, int], tuple[int, Callable[[int], object]]] = {}

        def add(way: str, lanes: int, function: Callable[[int], object], least: int) -> None:
            """Choose a number of images, whole batches, that takes about the budget; a trial tells."""
            cost = seconds(lambda: function(least)) / least
            ways[way, lanes] = (max(least, min(IMAGES, int(budget / cost)) // lanes * lanes), function)

        def kernels(n: int, lanes: int) -> None:
            for part in batches(images, n, 512):  # to a call, about as to a message
                kernel.activations(part.numpy(), ("readout",), lanes)

        add("stock", 1, stock.steps, stock.delay + 2)
        for lanes in LANES:
            add("ours", lanes, lambda n, lanes=lanes: started[lanes].sums(images[:n], lanes), 512)
            add(
                "torch",
                lanes,
                lambda n, lanes=lanes: [plain.sums(x) for x in batches(images, n, lanes)],
                max(32, lanes),
            )
            add("kernel", lanes, lambda n, lanes=lanes: kernels(n, lanes), 512)
        times: dict[tuple[str, int], list[float]] = {key: [] for key in ways}
        for _ in range(repetitions):
            for key, (number, function) in ways.items():
                times[key].append(seconds(lambda: function(number)) / number)  # noqa: B023
    once = {key: statistics.median(values) for key, values in times.items()}
    base = once["stock", 1]
    for lanes in LANES:
        ours, plain_time, alone = (once[way, lanes] for way in ("ours", "torch", "kernel"))
        bound = machine.bound(graph, lanes)
        print(
            f"{name:15}{lanes:6}{1 / ours:12,.0f}{1e6 * ours:11.2f}{base / ours:9,.0f}x{plain_time / ours:8.1f}x"
            f"{1e6 * base:12,.0f}{1e6 * plain_time:11.2f}{1e6 * alone:11.2f}{1e6 * bound:10.2f}{bound / alone:8.0%}",
            flush=True,
        )


def batches(images: np.ndarray, number: int, lanes: int) -> list[torch.Tensor]:
    """`number` images in batches of `lanes`."""
    return list(torch.from_numpy(images[:number]).split(lanes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    parser.add_argument("--network", choices=NETWORKS, action="append", help="only this one; repeatable")
    arguments = parser.parse_args()
    repetitions, budget = (3, 0.1) if arguments.quick else (7, 0.5)
    torch.set_num_threads(1)
    machine = Machine()
    print(
        f"{_processor()}, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, torch {torch.__version__}\n"
        f"peak rates: {machine.words / 1e9:.1f} words counted a ns ({machine.windows / 1e9:.1f} in windows), "
        f"{machine.bytes / 1e9:.0f} bytes multiplied a ns\n"
        f"times in us an image, medians of {repetitions}\n\n"
        f"{'network':15}{'lanes':>6}{'images/s':>12}{'ours':>11}{'stock/':>10}{'torch/':>9}"
        f"{'stock':>12}{'torch':>11}{'kernel':>11}{'bound':>10}{'of it':>8}"
    )
    for name in arguments.network or NETWORKS:
        measure(name, machine, repetitions, budget)
    parts = ("python", "load", "numba", "Lava", "start")
    print(
        "\nfrom the start of the process to the first class, and its parts, in s: Python with numpy; load; import of "
        "numba; import of Lava;\ncompilers (numba's from a cache) and start with the first image. A further call with "
        "one image in us.\nPeak growth of memory while loading and packed weights in MB. Medians\n\n"
        f"{'network':15}{'first class':>12}{''.join(f'{part:>9}' for part in parts)}"
        f"{'call':>9}{'growth':>9}{'weights':>9}{'times':>7}"
    )
    for name in arguments.network or NETWORKS:
        found = start_up(random_graph(name), 3 if arguments.quick else 7)
        spent = "".join(f"{found[part]:9.3f}" for part in parts)
        print(
            f"{name:15}{found['first class']:12.3f}{spent}{1e6 * found['call']:9.0f}{found['grown'] / 1e6:9.2f}"
            f"{found['packed'] / 1e6:9.2f}{found['grown'] / found['packed']:7.1f}",
            flush=True,
        )
    if importlib.util.find_spec("snntorch") and not arguments.network:
        import spiking

        print(f"\nspiking neurons, images held for {spiking.STEPS} time steps, images/s; medians of {repetitions}\n")
        spiking.table(repetitions)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
