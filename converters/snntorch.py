"""From snnTorch to Lava: spiking networks as people write them, spike for spike.

    class Net(nn.Module):                       # or an nn.Sequential, or one time step of a network
        def forward(self, x):
            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
            spikes = []
            for step in range(25):
                spk1, mem1 = self.lif1(self.fc1(x), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                spikes.append(spk2)
            return torch.stack(spikes)

    net = lava_meta.from_snntorch(Net().eval(), mean=0, std=1)
    classes = net.predict(pixels, steps=25)

The model is read by running it once (`lava_meta.converters.spiking.reading`). Its sums are integers, exact in every
order; what snnTorch then does to them in float32, neuron by neuron, `lava_meta.graph.spiking_neurons` does in the same
order. Chains of binary layers and `Leaky` become a `SpikingGraph`, anything else a `SteppedGraph`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lava_meta.converters.feed import ModelUse
from lava_meta.converters.spiking.chain import chain_of
from lava_meta.converters.spiking.check import check, observe
from lava_meta.converters.spiking.fit import fit
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.converters.spiking.parity import SpikingParity
from lava_meta.converters.spiking.reading import SpikingRead, read_spiking
from lava_meta.errors import ConversionError
from lava_meta.graph.spiking import SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.loihi.stock.spiking import plan_spiking

_IMAGES, _STEPS = 32, 16  # of the check that every conversion makes


def from_snntorch(
    model: nn.Module,
    *,
    max_level: int | None = None,
    input_shape: Sequence[int] | None = None,
    form: str = "floating_pt",
    min_level: int = 0,
    mean: Any = None,
    std: Any = None,
    bits: int | None = None,
    time: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
) -> SpikingNetwork:
    """Convert a spiking network, in eval mode, into a Lava network with the same spikes.

    Args:
        model: neurons of snnTorch (`Leaky`, `Lapicque`, `Synaptic`, `Alpha`, `RLeaky`, `RSynaptic`) behind linear
            layers, convolutions, norms, pooling, in any order without branches over values: an `nn.Sequential`, a class
            whose forward runs over the time steps, or one whose forward is one time step.
        max_level: inputs are integers min_level .. max_level: 1 for spikes. Default: that of `Pixels`, else 255 with
            mean and std, else 1.
        input_shape: of one image, as the model takes it; by default that of the first linear layer.
        form: which ProcessModels run: `floating_pt`, `fixed_pt`, or `stock`, Lava's own
            (`lava_meta.loihi.stock.stepped`).
        min_level: the least level.
        mean: what was taken from the inputs, as to torchvision's Normalize: 0 with std=1 for ToTensor alone.
        std: what they were divided by.
        bits: round weights that are no integers of so many bits (2 to 8), one scale per neuron or channel; for the form
            `stock`, so that thresholds are whole numbers of synapses.
        time: what the forward is: one time step (`step`), all of them for images that it holds (`held`), or for frames
            (steps, n, ...) (`first`) or (n, steps, ...) (`second`). By default the one that fits.
        steps: the number of frames, if its forward counts on one.
        batch_size: the number of images, if its forward counts on one; a number that it names is found.

    The result has been checked against the model on random images (`net.parity`).

    Raises:
        ConversionError: naming the module or line that cannot be converted, and why.
    """
    if bits is not None and not (type(bits) is int and 2 <= bits <= 8):
        raise ValueError(f"bits is {bits!r}; weights are rounded to 2 to 8 bits")
    read = read_spiking(
        model,
        input_shape=input_shape,
        mean=mean,
        std=std,
        max_level=max_level,
        min_level=min_level,
        bits=None if form == "stock" else bits,
        time=time,
        steps=steps,
        batch_size=batch_size,
    )
    graph = _for_stock(read.graph, bits) if form == "stock" and bits is not None else chain_of(read.graph) or read.graph
    frames = _random_frames(read)
    try:
        parity = check(read, graph, frames, seed=0, rounded=bits is not None)
    except ValueError as error:
        raise ConversionError(str(error)) from error
    return SpikingNetwork(graph, parity=parity, form=form, readout=read.readout, model_use=ModelUse(read.feed))


def model_spikes(model: nn.Module, frames: NDArray[Any], **options: Any) -> dict[str, NDArray[Any]]:
    """What `model` itself sends, by layer, for frames (steps, n, n_in); options as for `from_snntorch`."""
    read = read_spiking(model, **options)
    found = observe(read, np.asarray(frames)).spikes
    chain = chain_of(read.graph)
    if chain is None:
        return found
    return {name: spikes for (name, _), spikes in zip(chain.named_layers(), found.values(), strict=True)}


def agreement(model: nn.Module, net: SpikingNetwork, images: Any, steps: int, **options: Any) -> SpikingParity:
    """How `net` compares with the model that it came from, on images of yours; options as for `from_snntorch`."""
    read = read_spiking(model, **options)
    return check(read, net.graph, net.graph.frames(images, steps), rounded=True)


def _for_stock(graph: SteppedGraph, bits: int) -> SpikingGraph | SteppedGraph:
    """A chain of binary layers that fits as it is; anything else rounded."""
    chain = chain_of(graph)
    if chain is not None:
        with contextlib.suppress(ConversionError):
            plan_spiking(chain, _STEPS)
            return chain
    return fit(graph, bits)


def _random_frames(read: SpikingRead) -> NDArray[Any]:
    """Random images, held; half of them sparse, so that neurons meet small currents too."""
    graph = read.graph
    rng = np.random.default_rng(0)
    images = max(4, min(_IMAGES, 2**24 // sum(layer.n_in + layer.n_out for layer in graph.placed.values()) // _STEPS))
    drawn = rng.integers(graph.min_level, graph.max_level, (images, graph.n_in), endpoint=True)
    drawn[::2] *= rng.random(drawn[::2].shape) < 0.1
    return graph.frames(drawn, read.steps if read.fixed else _STEPS)
