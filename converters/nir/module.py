"""An NIR graph of any acyclic form as a PyTorch module, which `lava_meta.convert`'s reader takes."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lava_meta.errors import ConversionError


class GraphModule(nn.Module):
    """Computes an NIR graph in float64, node after node; what several edges bring to a node adds up.

    Raises `ConversionError` naming a node that is not supported, or one on a cycle.
    """

    def __init__(self, graph: nir.NIRGraph) -> None:
        super().__init__()
        self._sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self._sources[str(target)].append(str(source))
        self._input = _only(graph, nir.Input)
        self._output = _only(graph, nir.Output)
        self._order = self._sorted()
        self._nodes = {name: _made(name, graph.nodes[name]) for name in self._order}
        for place, name in enumerate(self._order):  # names of nodes may hold dots
            self.add_module(f"node{place}", self._nodes[name])

    def forward(self, x: Tensor) -> Tensor:
        values = {self._input: x}
        for name in self._order:
            first, *others = (values[source] for source in self._sources[name])
            total = first
            for other in others:
                total = total + other
            values[name] = self._nodes[name](total)
        return values[self._output]

    def _sorted(self) -> list[str]:
        """What leads to the output, each node behind its sources."""
        order: list[str] = []
        state: dict[str, bool] = {self._input: True}  # whether it is placed; on the way there, False

        def visit(name: str) -> None:
            if state.get(name):
                return
            if name in state:
                raise ConversionError(f"{name} lies on a cycle; a network without memory has none")
            if not self._sources[name]:
                raise ConversionError(f"{name} takes nothing")
            state[name] = False
            for source in self._sources[name]:
                visit(source)
            state[name] = True
            order.append(name)

        visit(self._output)
        return order


class _Node(nn.Module):
    """A node with its arrays, float64."""

    weight: Tensor
    bias: Tensor
    scale: Tensor
    threshold: Tensor

    def __init__(self, **arrays: Any) -> None:
        super().__init__()
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array, np.float64)))


class _Affine(_Node):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _Scale(_Node):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class _Threshold(_Node):
    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(x.dtype)


class _Conv(_Node):
    def __init__(self, node: Any) -> None:
        super().__init__(weight=node.weight, bias=node.bias)
        self.options: dict[str, Any] = {
            "stride": _extents(node.stride),
            "dilation": _extents(node.dilation),
            "groups": int(node.groups),
            "padding": node.padding if isinstance(node.padding, str) else _extents(node.padding),
        }
        self.function: Any = F.conv1d if isinstance(node, nir.Conv1d) else F.conv2d

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.function(x, self.weight, self.bias, **self.options)
        return found


class _Pool(nn.Module):
    def __init__(self, node: Any) -> None:
        super().__init__()
        self.window = [_extents(part) for part in (node.kernel_size, node.stride, node.padding)]
        kernel = torch.Size(np.broadcast_to(self.window[0], (2,)).tolist())
        self.times = kernel.numel() if isinstance(node, nir.SumPool2d) else 1

    def forward(self, x: Tensor) -> Tensor:
        means = F.avg_pool2d(x, *self.window)
        return means * self.times if self.times > 1 else means


def _made(name: str, node: Any) -> nn.Module:
    label = f"{name} ({type(node).__name__})"
    if isinstance(node, (nir.Affine, nir.Linear)):
        if node.weight.ndim != 2:
            raise ConversionError(f"{label} has weights of shape {node.weight.shape}; expected a matrix")
        return _Affine(weight=node.weight, bias=getattr(node, "bias", np.zeros(len(node.weight))))
    if isinstance(node, nir.Scale):
        return _Scale(scale=node.scale)
    if isinstance(node, nir.Threshold):
        return _Threshold(threshold=node.threshold)
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        return _Conv(node)
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        return _Pool(node)
    if isinstance(node, nir.Flatten):
        end = int(node.end_dim)
        return nn.Flatten(int(node.start_dim) + 1, end + 1 if end >= 0 else end)
    if isinstance(node, nir.Output):
        return nn.Identity()
    raise ConversionError(
        f"{label} is not supported; supported are Affine, Linear, Scale, Conv1d, Conv2d, SumPool2d, AvgPool2d, Flatten "
        "and Threshold"
    )


def _extents(value: Any) -> Any:
    """A number or several, as torch takes them."""
    found = np.asarray(value)
    return int(found) if found.ndim == 0 else tuple(int(extent) for extent in found)


def _only(graph: nir.NIRGraph, kind: type) -> str:
    found = [str(name) for name, node in graph.nodes.items() if isinstance(node, kind)]
    if len(found) != 1:
        raise ConversionError(f"the graph has {len(found)} {kind.__name__.lower()} nodes; one is supported")
    return found[0]
