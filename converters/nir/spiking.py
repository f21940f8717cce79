"""Spiking networks as NIR: binary synapses and `nir.LIF`.

    NIR      tau dv/dt = (v_leak - v) + r I;  a spike if v > v_threshold, after which v is v_reset
    here     v = beta v + gain (W x);         a spike if v > threshold, after which v is 0

are equal in a simulation with steps of dt by Euler's method, if `tau = dt / (1 - beta)`, `r = gain tau / dt`,
`v_leak = v_reset = 0`, and I = W x, an integer. Of the resets of `lava_meta.graph.spiking`, NIR has "zero" without a
delay.
"""

from __future__ import annotations

import nir
import numpy as np

from lava_meta.errors import ConversionError
from lava_meta.graph.spiking import LIFLayer, SpikingGraph


def spiking_nodes(graph: SpikingGraph, time_step: float) -> dict[str, nir.NIRNode]:
    """Input, layers and output by name, for steps of `time_step` seconds.

    Raises `ConversionError` naming the layer whose neurons NIR has no node for.
    """
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array([graph.n_in]))}
    for number, (layer_name, layer) in enumerate(graph.named_layers(), 1):
        name = layer_name if number < len(graph.layers) else "last"  # NIR's own node is called output
        _check(name, layer)
        if number == 1 and graph.offset:
            nodes[name] = nir.Affine(layer.weight, -graph.offset * layer.weight.sum(axis=1, dtype=np.float64))
        else:
            nodes[name] = nir.Linear(layer.weight)
        zeros, beta = np.zeros(layer.n_out), layer.beta.astype(np.float64)
        nodes[f"{name}_fires"] = nir.LIF(
            tau=time_step / (1 - beta),
            r=layer.gain / (1 - beta),
            v_leak=zeros,
            v_threshold=layer.threshold.astype(np.float64),
            v_reset=zeros.copy(),
        )
    nodes["output"] = nir.Output(np.array([graph.n_out]))
    return nodes


def _check(name: str, layer: LIFLayer) -> None:
    if layer.reset != "zero" or layer.reset_delay:
        late = ", one step late" if layer.reset_delay else ""
        raise ConversionError(
            f"{name} has the reset {layer.reset!r}{late}; NIR's LIF goes to v_reset with its spike: train with "
            'reset_mechanism="zero" and reset_delay=False'
        )
    if (layer.beta == 1).any():
        raise ConversionError(f"{name} has neurons with a beta of 1, for which LIF has no time constant")
    if (layer.threshold < 0).any():
        raise ConversionError(f"{name} has thresholds below 0, over which a neuron lies after its reset")
