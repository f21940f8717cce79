"""Steps a plan through Lava's own ProcessModels in this process: no actors, so that many networks take seconds.

Each model is Lava's class, made as Lava's builder makes it, with ports that only hand arrays on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.model.py.type import LavaPyType
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.graded.models import PyGradedReluVecModelFixed, PyGradedVecModelFixed
from lava.proc.lif.models import PyLifModelBitAcc, PyLifResetModelBitAcc
from lava.proc.sparse.models import PySparseModelBitAcc

from lava_meta.graph import BinaryGraph, Graph
from lava_meta.loihi.stock import StockLayer, latencies, plan
from lava_meta.processes.runtime import loggers_unchanged
from lava_meta.processes.stock_script import KINDS

MODELS: dict[str, Any] = {
    "Conv": PyConvModelFixed,
    "Dense": PyDenseModelBitAcc,
    "GradedReluVec": PyGradedReluVecModelFixed,
    "GradedVec": PyGradedVecModelFixed,
    "LIF": PyLifModelBitAcc,
    "LIFReset": PyLifResetModelBitAcc,
    "Sparse": PySparseModelBitAcc,
}
STATE = 2**23  # 24 bits with sign


class _Port:
    """Hands one array on."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.value = np.zeros(shape, np.int64)

    def send(self, value: np.ndarray) -> None:
        self.value = np.asarray(value)

    def recv(self) -> np.ndarray:
        return self.value


def make_model(kind: str, arguments: dict[str, Any]) -> Any:
    """Lava's fixed-point model of a stock Process, with its Vars at their first values."""
    with loggers_unchanged():
        process = KINDS[kind](**arguments)
    model = MODELS[kind](process.proc_params)
    for port in [*process.in_ports, *process.out_ports]:
        setattr(model, port.name, _Port(port.shape))
    for var in process.vars:
        declared: LavaPyType = getattr(MODELS[kind], var.name, None)
        if declared is None:
            continue
        if declared.cls is int:
            setattr(model, var.name, int(np.asarray(var.init).item()))
        elif kind == "Sparse" and var.name == "weights":
            model.weights = var.init.astype(np.int32)
        else:
            value = np.zeros(var.shape, declared.d_type)
            value[:] = var.init
            setattr(model, var.name, value)
    return model


class Layer:
    """One mapped layer, step by step."""

    def __init__(self, layer: StockLayer) -> None:
        self.layer = layer
        self.models = {name: make_model(part.kind, part.arguments) for name, part in layer.parts.items()}
        self.extremes: dict[str, int] = dict.fromkeys(layer.parts, 0)  # the greatest value that neurons received

    def step(self, x: np.ndarray, others: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """What the layer sends (n_out,) in a step in which it gets x (n_in,), or of layers by name, `others`."""
        parts, models = self.layer.parts, self.models
        received = {name: 0 for name, part in parts.items() if part.is_neurons}
        for source, target in self.layer.links:
            if not parts[source].is_neurons:
                buffer = models[source].a_buf if parts[source].kind == "Conv" else models[source].a_buff
                received[target] = received[target] + buffer.reshape(models[target].a_in.shape)
        for name, value in received.items():
            models[name].a_in.send(np.broadcast_to(value, models[name].a_in.shape).astype(np.int32))
            self.extremes[name] = max(self.extremes[name], int(np.abs(value).max()))
            models[name].run_spk()
        for name in self.layer.inputs:
            shape = models[name].s_in.shape
            flat = len(shape) == 1
            gets = (others or {})[self.layer.senders[name]] if name in self.layer.senders else x
            models[name].s_in.send(gets if flat else gets.reshape(shape[2], *shape[:2]).transpose(1, 2, 0))
        for source, target in self.layer.links:
            if parts[source].is_neurons:
                models[target].s_in.send(models[source].s_out.value)
        for name, part in parts.items():
            if not part.is_neurons:
                models[name].run_spk()
        out = models[self.layer.output].s_out.value
        return (out if out.ndim == 1 else out.transpose(2, 0, 1)).reshape(-1)


def activations(graph: BinaryGraph, images: np.ndarray) -> tuple[dict[str, np.ndarray], list[Layer]]:
    """Every layer's output by name, as `graph.activations` gives it, one image a step in a pipeline; and the layers."""
    found, layers = sent(graph, images)
    names = [name for name, _ in graph.named_layers()]
    return {name: found[name] if name == "readout" else np.where(found[name] > 0, 1, -1) for name in names}, layers


def sent(graph: Graph, images: np.ndarray) -> tuple[dict[str, np.ndarray], list[Layer]]:
    """What the layers of the stock form send by name, one image a step in a pipeline; and the layers."""
    pixels = graph.check_images(images).astype(np.int32)
    return pipeline(plan(graph), (pixels > 0).astype(np.int32) if graph.signs else pixels)


def pipeline(mapped: list[StockLayer], inputs: np.ndarray) -> tuple[dict[str, np.ndarray], list[Layer]]:
    """What the layers send by name for inputs (steps, n_in), each as many steps later as it answers; and the layers."""
    delay = latencies(mapped)
    layers = [Layer(layer) for layer in mapped]
    out: dict[str, list[np.ndarray]] = {name: [] for name in delay}
    sends: dict[str, np.ndarray] = {}
    for step in range(len(inputs) + max(delay.values())):
        sends["input"] = x = inputs[min(step, len(inputs) - 1)]
        for layer in layers:
            for model in layer.models.values():
                model.time_step = step + 1
            name = layer.layer.name
            sends[name] = x = layer.step(x, sends)
            if delay[name] <= step < delay[name] + len(inputs):
                out[name].append(x)
    return {name: np.stack(values) for name, values in out.items()}, layers
