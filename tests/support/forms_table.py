"""The table of docs/forms.md, from the forms and what they convert to. Run as a script, it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from published_forms import FORMS, made

from lava_meta.converters.lowering.acyclic import to_acyclic
from lava_meta.graph.nodes import Curve, Multiply, Node

PAGE = Path(__file__).parents[2] / "docs" / "forms.md"
TEXT = """# Forms of networks that convert

`lava_meta.convert` takes any acyclic network of binary, few-bit and real layers as it is written: the model runs once,
and what it does to its input becomes a graph of nodes that compute with integers (`lava_meta.graph.nodes`). The table
is generated from the tests (`tests/support/published_forms.py`), where each form is converted and compared with PyTorch
in float64.

*Exact*: every node decides as the model in float64 does, except where a sum lies within float64's own rounding of a
threshold. *Bounded*: real values between layers are integers with 40 binary digits behind the point, fewer where their
bounds leave no room; the bound of their error is carried along, and signs within it of a threshold are counted as ties
([exactness.md](exactness.md)). `net.parity` says for each node what was compared, what differs, what ties, the bounds,
and what could not be verified.

All forms run in numpy (`net.graph`), in the compiled kernels (`backend="kernels"`) and in Lava, as one Process
(`net.predict`) or as one per node (`LavaNetwork(net.graph, form="fixed_pt")`), with equal integers; they save, load,
and have a picture (`net.picture()`) and a report (`net.report("loihi2", images)`). Lava's stock Processes, bundles and
NIR take what they can hold, with equal integers, and refuse the rest by the names of its nodes: real streams, products
of streams, and weights and sums beyond their ranges ([hardware.md](hardware.md), [nir.md](nir.md)). On-line
learning takes chains of binary layers.

"""


def table() -> str:
    """The page."""
    lines = ["| form | what it has | shape of an image | nodes | result |", "| --- | --- | --- | --- | --- |"]
    for name, form in FORMS.items():
        model, options = made(name)
        graph = to_acyclic(model, **options).lowered.graph
        bounded = any(isinstance(node, Multiply) or _rounds(node) for node in graph.nodes.values())
        kinds = ", ".join(sorted({node.kind for node in graph.nodes.values()}))
        shape = "x".join(map(str, form.shape))
        lines.append(f"| {name} | {form.kind} | {shape} | {kinds} | {'bounded' if bounded else 'exact'} |")
    return TEXT + "\n".join(lines) + "\n"


def _rounds(node: Node) -> bool:
    """Whether a node is a stream that is rounded; one that turns integers round is not."""
    if not isinstance(node, Curve):
        return False
    numbers = np.concatenate([node.slope.reshape(-1), node.intercept.reshape(-1)])
    return not bool((numbers == np.rint(numbers)).all())


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
