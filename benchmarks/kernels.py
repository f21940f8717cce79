"""Which product is the fastest for a layer: one table for 8-bit pixels, one for packed signs. One thread.

    python benchmarks/kernels.py

planes: popcounts of bit planes; products: bytes multiplied, weights spread from bits on the way; popcount: XNOR and
popcount; float32: BLAS with weights that lie ready as float32 (32 times the memory), inputs converted on the way.
Times in us per image, the best of many alternating repetitions, thresholds included except for float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.bits import words
from lava_meta.graph.packed import network as packed

UNITS = (64, 1024, 4096)
LANES = (1, 4, 8, 32, 256)
REPETITIONS = 60


def best(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each way, the best of alternating repetitions."""
    found = dict.fromkeys(ways, float("inf"))
    for _ in range(REPETITIONS):
        for name, function in ways.items():
            start = time.perf_counter()
            function()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def one_layer(n_in: int, n_out: int) -> tuple[packed.PackedNetwork, np.ndarray]:
    """A network whose only cost is its first layer, and that layer's weights as float32."""
    rng = np.random.default_rng(0)
    weight = rng.random((n_out, n_in)) < 0.5
    layer = DenseLayer.from_weights(weight, np.zeros(n_out))
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((1, n_out))), 255, (n_in,))
    return packed.PackedNetwork(graph), np.where(weight, 1, -1).astype(np.float32)


def with_products_from(lanes: int, network: packed.PackedNetwork, pixels: np.ndarray) -> np.ndarray:
    """`sums` with the rule for byte products set to begin at `lanes`."""
    rule, packed.PRODUCTS_FROM = packed.PRODUCTS_FROM, lanes
    try:
        return network.sums(pixels)
    finally:
        packed.PRODUCTS_FROM = rule


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    print(f"{'first layer':16}{'lanes':>6}{'planes':>11}{'products':>11}{'float32':>11}")
    for n_in in (64, 784):
        for n_out in UNITS:
            network, weight = one_layer(n_in, n_out)
            matrix = torch.from_numpy(weight)
            for lanes in LANES:
                pixels = rng.integers(0, 256, (lanes, n_in), dtype=np.uint8)
                x = torch.from_numpy(pixels)
                found = best(
                    {
                        "planes": lambda n=network, p=pixels: with_products_from(packed.LANES + 1, n, p),
                        "products": lambda n=network, p=pixels: with_products_from(1, n, p),
                        "float32": lambda x=x, m=matrix: torch.nn.functional.linear(x.float(), m),
                    }
                )
                row = "".join(f"{1e6 * value / lanes:11.2f}" for value in found.values())
                print(f"{f'{n_in} x {n_out}':16}{lanes:6}{row}", flush=True)
    print(f"\n{'hidden layer':16}{'lanes':>6}{'popcount':>11}{'float32':>11}")
    for n in UNITS:
        small, _ = one_layer(64, n)
        weight = rng.random((n, n)) < 0.5
        hidden = DenseLayer.from_weights(weight, np.zeros(n))
        first = DenseLayer.from_weights(rng.random((n, 64)) < 0.5, np.zeros(n))
        graph = BinaryGraph((first, hidden), Readout.from_weights(np.ones((1, n))), 255, (64,))
        both = packed.PackedNetwork(graph)
        matrix = torch.from_numpy(np.where(weight, 1, -1).astype(np.float32))
        for lanes in LANES:
            pixels = rng.integers(0, 256, (lanes, 64), dtype=np.uint8)
            signs = torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), (lanes, n)))
            found = best(
                {
                    "both": lambda p=pixels, net=both: net.sums(p),
                    "first": lambda p=pixels, net=small: net.sums(p),
                    "float32": lambda x=signs, m=matrix: torch.nn.functional.linear(x, m),
                }
            )
            row = f"{1e6 * (found['both'] - found['first']) / lanes:11.2f}{1e6 * found['float32'] / lanes:11.2f}"
            print(f"{f'{words(n) * 64} x {n}':16}{lanes:6}{row}", flush=True)


if __name__ == "__main__":
    main()
