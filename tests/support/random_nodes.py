"""Random acyclic graphs of integers that fit Loihi's ranges: branches, joins, few-bit levels, poolings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lava_meta.graph import AcyclicGraph
from lava_meta.graph.acyclic import INPUT, Scores
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Add, Concat, Conv, Curve, Gather, Linear, Node, Pool, Threshold, weight_of


def graph(seed: int, *, wide: int = 3) -> AcyclicGraph:
    """Some ten nodes on (2, 5, 6), of weights up to `wide`."""
    rng = np.random.default_rng(seed)
    signs = bool(rng.random() < 0.25)
    domain: dict[str, Any] = {"max_level": int(rng.choice([1, 15, 255])), "input_shape": (2, 5, 6)}
    if signs:
        domain = domain | {"max_level": 1, "min_level": -1, "signs": True}
    nodes: dict[str, Node] = {}
    shapes: dict[str, tuple[int, ...]] = {INPUT: (2, 5, 6)}
    levels = {INPUT}  # nodes whose integers are small
    plain = {INPUT}  # those that are not the greatest of sums

    def add(node: Node, *, small: bool = False, greatest: bool = False) -> str:
        name = f"{node.kind}{len(nodes)}"
        nodes[name] = node
        shapes[name] = node.shape([shapes[source] for source in node.sources])
        levels.update({name} if small else ())
        plain.update(() if greatest else {name})
        return name

    def threshold(source: str) -> str:
        shape, count = shapes[source], int(rng.integers(1, 4))
        shared = (count, shape[0], 1, 1)
        spread = 6 if source in levels else 40
        limits = np.sort(rng.integers(-spread, spread, shared), axis=0)
        step = rng.integers(0, 3, shared) * rng.choice([-1, 1], shape[0])[:, None, None]
        codes = np.concatenate([np.zeros((1, *shared[1:]), np.int64), np.cumsum(step, axis=0)])
        return add(Threshold((source,), limits, codes - 1), small=True)

    def conv(source: str) -> str:
        channels = shapes[source][0]
        groups = channels if rng.random() < 0.3 else 1
        units = groups * int(rng.integers(1, 4))
        kernel = int(rng.integers(1, 4))
        fan_in = channels // groups * kernel**2
        binary = rng.random() < 0.5
        weight = rng.choice([-1, 1], (units, fan_in)) if binary else rng.integers(-wide, wide + 1, (units, fan_in))
        padding = (int(rng.integers(0, 2)),) * 2 if kernel > 1 else (0, 0)
        return add(Conv((source,), weight_of(weight), Window((kernel, kernel), padding=padding), groups))

    last = threshold(conv(INPUT))
    for _ in range(int(rng.integers(2, 6))):
        what = int(rng.integers(0, 7))
        maps = [name for name in levels if len(shapes[name]) == 3 and min(shapes[name][1:]) >= 4]
        source = str(rng.choice(sorted(maps)))
        if what == 0:
            window = Window((2, 2), (int(rng.integers(1, 3)),) * 2)
            last = add(Pool((source,), window, "max"), small=True) if source != INPUT else last
        elif what == 1:
            last = threshold(add(Pool((conv(source),), Window((2, 2)), "max"), greatest=True))
        elif what == 2:
            one = conv(source)
            alike = [name for name in sorted(plain) if shapes[name] == shapes[one]]
            last = threshold(add(Add((one, str(rng.choice(alike))))))
        elif what == 3:
            alike = [name for name in sorted(levels) if shapes[name][1:] == shapes[source][1:]]
            last = add(Concat((source, str(rng.choice(alike)))), small=True)
            last = threshold(conv(last))
        elif what == 4:
            index = rng.permutation(math.prod(shapes[source])).reshape(shapes[source])
            if rng.random() < 0.5:  # whole channels
                index = np.arange(index.size).reshape(index.shape)[rng.permutation(len(index))]
            index[0] = -1
            last = threshold(conv(add(Gather((source,), shapes[source], index), small=True)))
        elif what == 5:
            line = Curve(
                (conv(source),), np.full((1, 1, 1, 1), 3), np.full((1, 1, 1, 1), 2.0), np.full((1, 1, 1, 1), -5.0)
            )
            last = threshold(add(line))
        else:
            last = threshold(add(Pool((source,), Window((2, 2)), "sum")))
    flat = add(Gather((last,), (math.prod(shapes[last]),)))
    weight = rng.integers(-wide, wide + 1, (4, math.prod(shapes[last])))
    out = add(Linear((flat,), weight_of(weight)))
    offset = rng.normal(size=4)
    return AcyclicGraph(nodes, out, Scores(rng.choice([-1.0, 0.5, 2.0], 4), offset), **domain)


def images(graph: AcyclicGraph, n: int, seed: int = 0) -> np.ndarray:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(graph.min_level, graph.max_level + 1, (n, *graph.input_shape))
    return np.where(pixels == 0, 1, pixels) if graph.signs else pixels


def flattened(source: str, shape: tuple[int, ...]) -> Gather:
    """A node that flattens what `source` gives."""
    return Gather((source,), (math.prod(shape),))
