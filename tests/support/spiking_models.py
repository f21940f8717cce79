"""Spiking networks in the layouts in which people write them, and random ones of every kind of neuron."""

from __future__ import annotations

from typing import Any

import numpy as np
import snntorch as snn
import torch
import torch.nn.functional as F
from snntorch import utils
from torch import Tensor, nn

STEPS = 7
KINDS = ("leaky", "lapicque", "synaptic", "alpha", "rleaky", "rsynaptic")


class Dense(nn.Module):
    """States made and handed on in forward; spikes and potentials of the last layer as lists that are stacked."""

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 40)
        self.lif1 = snn.Leaky(beta=0.95)
        self.fc2 = nn.Linear(40, outputs)
        self.lif2 = snn.Leaky(beta=0.95)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, potentials = [], []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return torch.stack(spikes, dim=0), torch.stack(potentials, dim=0)


class Trains(Dense):
    """The same for frames (steps, n, ...)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spikes, potentials = [], []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step].view(x.size(1), -1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return torch.stack(spikes), torch.stack(potentials)


class BatchFirst(Dense):
    """Frames (n, steps, ...), of which a fixed number is read."""

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = torch.zeros(len(x), 40), torch.zeros(len(x), 10)
        total = 0.0
        for step in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x[:, step].flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            total = total + spk2
        return total


class OneStep(Dense):
    """One time step; whoever calls it keeps the states."""

    def forward(self, x: Tensor, mem1: Tensor, mem2: Tensor) -> tuple[Tensor, ...]:
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2, mem1, mem2


class Membrane(Dense):
    """Only potentials are returned, of neurons that never fire."""

    def __init__(self) -> None:
        super().__init__()
        self.lif2 = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[1]


class Parts(nn.Module):
    """Sequences within a class, of which the last neurons give spikes and potentials."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 40), snn.Leaky(beta=0.9, init_hidden=True, output=True))
        self.decoder = nn.Sequential(nn.Linear(40, 10), snn.Leaky(beta=0.9, init_hidden=True))

    def forward(self, x: Tensor) -> Tensor:
        utils.reset(self)
        spikes = []
        for _ in range(STEPS):
            spk, _ = self.encoder(x)
            spikes.append(self.decoder(spk))
        return torch.stack(spikes)


class LayerByLayer(Dense):
    """All time steps of one layer before those of the next, as autoencoders have them."""

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        first, last = [], []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            first.append(spk1)
        between = torch.stack(first, dim=2)
        for step in range(STEPS):
            spk2, mem2 = self.lif2(self.fc2(between[..., step]), mem2)
            last.append(spk2)
        return torch.stack(last)


class Readout(Dense):
    """A last layer without neurons, whose values are averaged over the steps."""

    def forward(self, x: Tensor) -> Tensor:
        mem1 = self.lif1.init_leaky()
        total = []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            total.append(self.fc2(spk1))
        return torch.stack(total).mean(dim=0)


class Convolutional(nn.Module):
    """Pooling of currents and of spikes, batch norm, dropout, states kept inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.lif1 = snn.Leaky(beta=0.5, init_hidden=True)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.lif2 = snn.Leaky(beta=0.5, init_hidden=True)
        self.drop = nn.Dropout(0.3)
        self.fc1 = nn.Linear(8 * 2 * 2, 10)
        self.lif3 = snn.Leaky(beta=0.5, init_hidden=True, output=True)
        with torch.no_grad():
            self.bn.running_mean.uniform_(-0.2, 0.2)
            self.bn.running_var.uniform_(0.1, 0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        utils.reset(self)
        spikes, potentials = [], []
        for _ in range(STEPS):
            spk1 = self.lif1(F.max_pool2d(self.bn(self.conv1(x)), 2))
            spk2 = F.max_pool2d(self.lif2(self.conv2(spk1)), kernel_size=1)
            spk3, mem3 = self.lif3(self.fc1(self.drop(spk2).view(x.size(0), -1)))
            spikes.append(spk3)
            potentials.append(mem3)
        return torch.stack(spikes), torch.stack(potentials)


class Branches(Dense):
    """Spikes of two layers joined, and a shortcut past one."""

    def __init__(self) -> None:
        super().__init__()
        self.fc2, self.fc3 = nn.Linear(40, 40), nn.Linear(80, 10)
        self.lif3 = snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes = []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1) + spk1, mem2)
            spk3, mem3 = self.lif3(self.fc3(torch.cat([spk1, spk1 + spk2], dim=1)), mem3)
            spikes.append(spk3)
        return torch.stack(spikes)


class Recurrent(Dense):
    """What layer `source` sent `delay` steps before goes to the first layer, beside its inputs or joined to them."""

    def __init__(self, source: int = 1, delay: int = 1, *, bias: bool = True, joined: bool = False) -> None:
        super().__init__()
        width = (40, 10)[source - 1]
        self.source, self.delay, self.joined, self.width = source, delay, joined, width
        if joined:
            self.fc1 = nn.Linear(64 + width, 40)
        else:
            self.back = nn.Linear(width, 40, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        sent, spikes = [torch.zeros(len(x), self.width)] * self.delay, []
        for step in range(12):
            before = sent[step]
            current = self.fc1(torch.cat([x, before], 1)) if self.joined else self.fc1(x) + self.back(before)
            spk1, mem1 = self.lif1(current, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            sent.append((spk1, spk2)[self.source - 1])
            spikes.append(spk2)
        return torch.stack(spikes)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Binarized(Dense):
    """Real weights of which every forward takes the signs, and a batch norm behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(40)
        with torch.no_grad():
            self.bn.running_mean.uniform_(-1, 1)
            self.bn.running_var.uniform_(5, 40)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes = []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.bn(F.linear(x, _Sign.apply(self.fc1.weight))), mem1)
            spk2, mem2 = self.lif2(F.linear(spk1, _Sign.apply(self.fc2.weight)), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


def sequential() -> nn.Module:
    """States kept inside, one time step."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 40),
        snn.Leaky(beta=0.9, init_hidden=True),
        nn.Linear(40, 10),
        snn.Leaky(beta=0.9, init_hidden=True, output=True),
    )


def conv_sequential() -> nn.Module:
    """The same with convolutions, average pooling and spikes that are pooled."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        snn.Leaky(beta=0.5, init_hidden=True),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 2),
        nn.MaxPool2d(2),
        snn.Leaky(beta=0.5, threshold=0.5, init_hidden=True),
        nn.Flatten(),
        nn.Linear(8, 10),
        snn.Leaky(beta=0.5, init_hidden=True, output=True),
    )


def louder(model: nn.Module, factor: float = 4.0) -> nn.Module:
    """Weights large enough that all layers fire; in eval mode."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.mul_(factor)
    return model.eval()


def neuron(kind: str, rng: np.random.Generator, shape: tuple[int, ...], recurrent: Any = None) -> nn.Module:
    """Neurons with random constants: one or many, learned or not; every reset, delayed or not."""
    many = rng.random() < 0.4

    def constant(values: Any) -> Any:
        return torch.tensor(values, dtype=torch.float32) if many else float(values.reshape(-1)[0])

    sizes = shape if len(shape) == 1 else (shape[0], 1, 1)
    options: dict[str, Any] = {
        "threshold": constant(np.round(rng.uniform(-0.1, 2.5, sizes) * 8) / 8),
        "reset_mechanism": str(rng.choice(["subtract", "zero", "none"])),
        "learn_beta": bool(rng.random() < 0.5),
        "learn_threshold": bool(rng.random() < 0.5),
        "init_hidden": True,
    }
    beta, alpha = rng.choice([0.0, 0.3, 0.5, 0.9, 0.95, 1.0], sizes), rng.choice([0.0, 0.4, 0.8, 1.2], sizes)
    if kind in ("leaky", "rleaky", "synaptic"):
        options["reset_delay"] = bool(rng.random() < 0.7)
    if kind in ("rleaky", "rsynaptic"):
        options |= recurrent or {"all_to_all": False, "V": constant(rng.choice([-0.5, 0.25, 1.0], sizes))}
    if kind == "leaky":
        return snn.Leaky(constant(beta), **options)
    if kind == "rleaky":
        return snn.RLeaky(constant(beta), **options)
    if kind == "lapicque":
        options |= {"threshold": float(rng.uniform(0.2, 2)), "time_step": float(rng.choice([0.5, 1.0]))}
        if rng.random() < 0.5:
            return snn.Lapicque(beta=float(rng.uniform(0.2, 0.95)), **options)
        options["learn_beta"] = False
        return snn.Lapicque(R=float(rng.uniform(0.5, 5)), C=float(rng.uniform(0.5, 5)), **options)
    if kind == "alpha":
        decays = np.sort(rng.uniform(0.1, 0.95, (2, *sizes)), axis=0)
        decays[1] = np.minimum(decays[1] + 0.02, 0.99)
        return snn.Alpha(alpha=constant(decays[1]), beta=constant(decays[0]), **options)
    make = snn.Synaptic if kind == "synaptic" else snn.RSynaptic
    return make(constant(alpha), constant(beta), **options)


def few_bits(module: nn.Module, rng: np.random.Generator) -> None:
    """Weights of a random width, times a power of two: binary, ternary, or up to 8 bits."""
    most = int(rng.choice([1, 1, 3, 7, 127]))
    weight = module.weight
    values = rng.integers(-most, most, weight.shape, endpoint=True)
    if most == 1 and rng.random() < 0.5:
        values = np.where(values >= 0, 1, -1)
    scale = 2.0 ** -np.round(np.log2(max(1.0, most * weight[0].numel() ** 0.5 / 3)))
    with torch.no_grad():
        weight.copy_(torch.tensor(values * scale, dtype=torch.float32))
        if module.bias is not None:
            module.bias.copy_(torch.tensor(np.round(rng.uniform(-1, 1, module.bias.shape) * 16) / 16))


def random_network(rng: np.random.Generator, kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Two or three layers of neurons of `kind`, with exact sums; dense, or with convolutions and pooling."""
    torch.manual_seed(int(rng.integers(2**31)))
    modules: list[nn.Module] = []
    shape: tuple[int, ...]
    if rng.random() < 0.3:
        shape = (2, 6, 6)
        modules.append(nn.Conv2d(2, 3, 3, padding=1, bias=bool(rng.random() < 0.5)))
        few_bits(modules[-1], rng)
        modules.append(nn.MaxPool2d(2) if rng.random() < 0.5 else nn.AvgPool2d(2))
        recurrent = {"conv2d_channels": 3, "kernel_size": 3} if rng.random() < 0.5 else None
        modules += [neuron(kind, rng, (3, 3, 3), recurrent), nn.Flatten()]
        width = 27
    else:
        width = int(rng.integers(1, 12))
        shape = (width,)
    for units in rng.integers(1, 12, int(rng.integers(1, 3))).tolist():
        modules.append(nn.Linear(width, units, bias=bool(rng.random() < 0.5)))
        few_bits(modules[-1], rng)
        recurrent = {"linear_features": units} if rng.random() < 0.5 else None
        modules.append(neuron(kind, rng, (units,), recurrent))
        width = units
    for module in modules:
        inner = getattr(module, "recurrent", None)
        if isinstance(inner, (nn.Linear, nn.Conv2d)):
            few_bits(inner, rng)
    return nn.Sequential(*modules).eval(), shape
