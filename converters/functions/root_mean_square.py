"""Products `c g(S)` where S sums squares, that of c among them: norms over an image's values, as people write them.

Intervals know nothing of it: `c / sqrt(mean(c**2) + eps)` is at most `sqrt(n)`, though c may be large, the root small.
What follows from `c**2 <= S` is how large the product gets, and how far it moves with c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Expr, Known, Leaf, Slack, Source
from lava_meta.converters.functions.monotone import EPS
from lava_meta.graph.nodes import Curve, Gather, Multiply, Node, Pool, Shape

_SAMPLES = 2000  # of S, evenly by their logarithms
_CAUTION = 2.0  # beyond what these give


@dataclass(frozen=True)
class Normed:
    """What is known of a product."""

    most: float  # its greatest size
    slack: Slack


@dataclass(frozen=True)
class Graph:
    """The nodes so far, and their integers."""

    nodes: Mapping[str, Node]
    sources: Mapping[str, Source]

    def base(self, name: str) -> tuple[str, NDArray[np.int64]]:
        """The node whose values a node moves, and the number of that which it has at each of its places."""
        index = np.arange(math.prod(self.sources[name].shape)).reshape(self.sources[name].shape)
        node = self.nodes.get(name)
        while isinstance(node, Gather):
            if node.index is not None:
                index = np.where(index < 0, -1, node.index.reshape(-1)[index])
            name = node.sources[0]
            node = self.nodes.get(name)
        return name, index


def normed(graph: Graph, c: Leaf, root: Expr, held: Leaf, shape: Shape) -> Normed | None:
    """What is known of the product of `c` with `root`, which `held` holds as a stream; None if S is no such sum.

    `root`: a function of S. `shape`: of the product.
    """
    function = Function(root)
    name, place = graph.base(held.source.node)
    curve = graph.nodes.get(name)
    if not isinstance(curve, Curve) or curve.start.size > len(curve.start):
        return None
    summed, sums = graph.base(curve.sources[0])
    pool, place = graph.nodes.get(summed), sums.reshape(-1)[place]
    if not isinstance(pool, Pool) or pool.how != "sum":
        return None
    squares, taken = graph.base(pool.sources[0])
    square, factor = graph.nodes.get(squares), 1.0
    if isinstance(square, Curve) and square.start.size == 1 and not (square.start.any() or square.intercept.any()):
        factor = 1 / float(square.slope.reshape(-1)[0])  # squares that were shortened, for their sums to fit
        squares, places = graph.base(square.sources[0])
        square, taken = graph.nodes.get(squares), places.reshape(-1)[taken]
    if pool.window.kernel != taken.shape[1:] or not isinstance(square, Multiply) or len({*square.sources}) > 1:
        return None
    base, squared = graph.base(square.sources[0])
    own, at = graph.base(c.source.node)
    windows = np.full(math.prod(graph.sources[base].shape), -1)  # by value, the sum in which its square is
    windows[squared.reshape(-1)[taken.reshape(len(taken), -1)]] = np.arange(len(taken))[:, None]
    if own != base or min(at.min(), place.min(), taken.min()) < 0:
        return None
    if (windows[_ranked(at, shape)] != _ranked(place, shape)).any():
        return None
    terms, unit = taken[0].size, float(c.gain.reshape(-1)[0]) ** 2 * 2.0**square.shift * factor

    def moved(known: Known, own: float, total: NDArray[Any]) -> NDArray[Any]:
        """A sum of squares moves by `sum |c' - c| |c' + c|`, and its terms are rounded."""
        size = np.sqrt(total * unit)
        found: NDArray[Any] = (2 * math.sqrt(terms) * size + terms * own) * own / unit + terms
        return found

    return _bounds(c, function, curve, float(held.gain.reshape(-1)[0]), lambda total: np.sqrt(total * unit), moved)


def share(graph: Graph, c: Leaf, root: Expr, held: Leaf, times: float, power: float) -> Normed | None:
    """What is known of a product of a function of S, at least 0, with a c of which `|c| <= (times * S) ** power`."""
    function = Function(root)
    curve = graph.nodes.get(graph.base(held.source.node)[0])
    summed = function.leaf
    if not isinstance(curve, Curve) or curve.start.size > len(curve.start):
        return None
    if summed.constant.any() or any(extent > 1 for extent in function.shared):
        return None
    unit = float(summed.gain.reshape(-1)[0])

    def moved(known: Known, own: float, total: NDArray[Any]) -> NDArray[Any]:
        return np.full(total.shape, summed.slack(known) / unit + 1)

    gain = float(held.gain.reshape(-1)[0])
    return _bounds(c, function, curve, gain, lambda total: (times * unit * total) ** power, moved)


def _ranked(index: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    return index.reshape((1,) * (len(shape) - index.ndim) + index.shape)


def _bounds(
    c: Leaf,
    function: Function,
    curve: Curve,
    gain: float,
    greatest: Callable[[NDArray[Any]], NDArray[Any]],
    moved: Callable[[Known, float, NDArray[Any]], NDArray[Any]],
) -> Normed:
    """By S, the `greatest` |c| that it allows, and by how much it is `moved` where c moves by so much."""
    total = np.rint(np.geomspace(1, max(2, int(function.high.max())), _SAMPLES))
    total = np.unique(np.append(0.0, total))

    def root(x: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = np.clip(x, 0, float(function.high.max())).astype(np.int64)
        values: NDArray[np.float64] = function(inside.reshape(-1, *(1,) * len(function.shared))).reshape(-1)
        return values

    exact, size = root(total), greatest(total)
    piece = np.maximum(np.searchsorted(curve.start.reshape(-1), total, side="right") - 1, 0)
    start, slope, intercept = (part.reshape(-1)[piece] for part in (curve.start, curve.slope, curve.intercept))
    followed = np.abs((slope * (total - start) + intercept) * gain - exact)
    sizes = np.abs(exact)

    @np.errstate(over="ignore")  # what is proven alone may pass all floats; what is measured does not
    def slack(known: Known) -> float:
        source, own = function.leaf.source, c.slack(known)
        moves = moved(known, own, total) + 4 * EPS * total
        away = np.maximum(np.abs(root(total + moves) - exact), np.abs(root(total - moves) - exact)) + followed
        rounded = np.where((exact == 0) & (followed == 0), 0.0, 2 * gain * (size + sizes + 1))  # 0 is exact
        every = sizes * own + size * away + rounded
        # Sums that are as large as those that were seen, or 0.
        reached = max(0, int(np.searchsorted(total, known.least(source))) - 1)
        return _CAUTION * float(max(every[reached:].max(), every[0] if known.ends(source)[0] <= 0 else 0.0))

    return Normed(_CAUTION * float((size * sizes).max()), Slack(slack))
