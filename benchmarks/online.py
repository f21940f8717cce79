"""Time of learning on-line: beside Lava's learning engine, the numpy reference, and PyTorch, in one run.

    python benchmarks/online.py            # a few minutes

First, a time step of one plastic layer inside Lava, dense errors, one input in eight active: `MetaplasticDense` against
stock `LearningDense` with the linear gate of docs/engine.md, each between sources that send the same spikes and errors,
under the same supervised runtime. Beside them the layer as `MetaplasticNetwork`, one Process that also takes the images
and makes the errors: it shows how much of a step is messages between Processes, which is Lava's own; and an image in
the engine form, which takes five steps of `LearningDense` and its neurons.

Second, images per second of the whole 784-512-10 learner on MNIST-like spikes: in Lava as one Process and as one per
layer, the compiled kernels, the reference implementation, and PyTorch doing the same update in float32 on one thread.
Beside the kernels with signs and with sparse spikes, taken in turns, stands the bound: the time in which the bytes of
the active synapses can be read, read again and written by a plain copy. A silent unit's synapses count for nothing in
the readout. Then the compiled loop over images beside Python's loop over the same kernels, and Lava's one Process by
the CPU time of its actor, which other work on the machine disturbs less.

Last, how cost grows with images, with active inputs and with synapses, and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lava_meta.processes  # noqa: F401  adapts Lava to this Python

# isort: split
import numpy as np
import torch
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import LearningDense
from lava.proc.io.source import RingBuffer

from lava_meta.online_learning import LayerSettings, Learner, OnlineRule
from lava_meta.online_learning.backend import LocalEngine
from lava_meta.online_learning.compiled.fixed import CompiledLayer
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.reference import initial_state
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense
from lava_meta.processes.runtime import Supervised, loggers_unchanged
from lava_meta.rule import Linear
from lava_meta.rule.lowering import lower

ACTIVE = 1 / 8
ENGINE_STEPS = 5  # time steps per image with one layer


def stock_layer(n_in: int, n_out: int, form: str) -> AbstractProcess:
    """`LearningDense` with its spikes, and its errors as the traces y1 = e and y2 = |e|."""
    generator = np.random.default_rng(0)
    spikes = (generator.random((n_in, 16)) < ACTIVE).astype(int)
    errors = generator.integers(-60, 60, (n_out, 16))
    lowered = lower(Linear(1.0), precision="float" if form == "floating_pt" else "fixed")
    rule = Loihi3FLearningRule(dw=lowered.dw, dt=lowered.dt, x1_tau=1, t_epoch=1, rng_seed=1)
    tags = generator.integers(-40, 40, (n_out, n_in))
    dense = LearningDense(weights=np.where(tags >= 0, 128, -128), tag_1=tags, learning_rule=rule)
    RingBuffer(data=spikes).s_out.connect(dense.s_in)
    RingBuffer(data=errors).s_out.connect(dense.s_in_y1)
    RingBuffer(data=np.abs(errors)).s_out.connect(dense.s_in_y2)
    return dense


def our_layer(n_in: int, n_out: int, form: str, engine_steps: int = 0) -> AbstractProcess:
    """`MetaplasticDense` with the same spikes and errors, in our form or in the engine's."""
    generator = np.random.default_rng(0)
    spikes = (generator.random((1, n_in, 16)) < ACTIVE).astype(int)
    errors = generator.integers(-60, 60, (1, n_out, 16))
    precision = "float" if form == "floating_pt" else 9 if engine_steps else 8
    settings = LayerSettings(n_in, n_out, precision=precision, input_mean=ACTIVE, engine_steps=engine_steps)
    layer = MetaplasticDense(settings=settings)
    RingBuffer(data=spikes).s_out.connect(layer.s_in)
    RingBuffer(data=errors / 128 if precision == "float" else errors).s_out.connect(layer.e_in)
    return layer


def milliseconds_a_step(
    build: Callable[[], AbstractProcess], form: str, steps: int, repeats: int = 3, *, in_engine: bool = False
) -> float:
    """Median over runs of `steps` time steps in a network that has warmed up."""
    with loggers_unchanged():
        process = build()
    config = Loihi2SimCfg(select_tag=form, select_sub_proc_model=in_engine)
    with Supervised(process, config, timeout=300) as run:
        run.steps(3)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run.steps(steps)
            times.append((time.perf_counter() - start) / steps * 1e3)
    return statistics.median(times)


class TorchLearner:
    """The same update in float32: dense, since PyTorch has no better way, and without rounding."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.h = torch.rand((784, 512), generator=generator) * 0.04 - 0.02
        self.v = torch.rand((512, 10), generator=generator) * 0.04 - 0.02
        self.deviation, self.trace = torch.full((512,), 8.0), torch.zeros(512)

    @torch.inference_mode()
    def step(self, x: torch.Tensor, label: int) -> None:
        w, v = torch.where(self.h >= 0, 1.0, -1.0), torch.where(self.v >= 0, 1.0, -1.0)
        distance = x @ w - 0.13 * w.sum(0)
        a = torch.where(distance >= 0, 1.0, -1.0)
        e = torch.softmax(a @ v / 512**0.5, 0)
        e[label] -= 1
        d = torch.where(distance.abs() <= 0.625 * self.deviation, v @ e, 0.0)
        self.deviation += (distance.abs() - self.deviation) / 256
        self.trace += (d - self.trace) / 128
        for hidden, x_in, error, limit in ((self.v, a, e, 0.5), (self.h, x, d - self.trace, 1.0)):
            step = -0.005 * torch.outer(x_in, error)
            shrinks = torch.where(hidden >= 0, step < 0, step > 0)
            hidden += torch.where(shrinks, step * (1 - hidden.abs() / limit), step)
            hidden.clamp_(-limit, limit)


WAYS: dict[str, dict[str, Any]] = {
    "Lava, one Process": {"backend": "lava", "form": "fused"},
    "Lava, a Process per layer": {"backend": "lava", "form": "layers"},
    "Lava, one Process, float": {"backend": "lava", "form": "fused", "precision": "float"},
    "kernels": {"backend": "kernels"},
    "reference": {"backend": "reference"},
}


def images_a_second(way: str, number: int) -> float:
    """Of the whole 784-512-10 learner, after a first run that warms up."""
    if way == "PyTorch":
        generator = np.random.default_rng(0)
        x = (generator.random((number, 784)) < ACTIVE).astype(np.int8)
        labels = generator.integers(0, 10, number)
        learner, spikes = TorchLearner(), torch.from_numpy(x).float()
        learner.step(spikes[0], 0)
        start = time.perf_counter()
        for image, label in zip(spikes, labels.tolist(), strict=True):
            learner.step(image, label)
        return number / (time.perf_counter() - start)
    return number / seconds_of(number, [784, 512, 10], **WAYS[way])


def kernels_in_turns(number: int, rounds: int = 5) -> dict[str, float]:
    """Images per second of 784-512-10 with signs, with sparse spikes, and at the bound of each: medians of rounds."""
    generator = np.random.default_rng(0)
    x = (generator.random((number, 784)) < ACTIVE).astype(np.int8)
    labels = generator.integers(0, 10, number)
    learners = {
        name: Learner([784, 512, 10], rule, input_mean=ACTIVE, backend="kernels")
        for name, rule in (("signs", OnlineRule()), ("sparse spikes", OnlineRule.sparse()))
    }
    rates: dict[str, list[float]] = {name: [] for name in learners}
    for turn in range(rounds + 1):
        for name, learner in learners.items():
            start = time.perf_counter()
            learner._started().learn(x, labels)
            if turn:  # the first warms up
                rates[name].append(number / (time.perf_counter() - start))
    found = {name: statistics.median(values) for name, values in rates.items()}
    hidden = learners["signs"].net.states[0]["hidden"]
    other = hidden.copy()
    copies = []
    for _ in range(50):
        start = time.perf_counter()
        np.copyto(other, hidden)
        copies.append((time.perf_counter() - start) / (2 * hidden.nbytes))
    for name, spiking in (("signs", 1.0), ("sparse spikes", spiking_share(learners["sparse spikes"], x))):
        synapses = 784 * ACTIVE * 512 + 512 * spiking * 10
        found[f"{name}, bound"] = 1 / (3 * 2 * synapses * statistics.median(copies))
    return found


def loop_in_turns(units: int, number: int, rounds: int = 5) -> dict[str, float]:
    """CPU microseconds per image of 784-units-10: the compiled loop, and Python's over the same kernels."""
    generator = np.random.default_rng(0)
    x = (generator.random((number, 784)) < ACTIVE).astype(np.int8)
    labels = generator.integers(0, 10, number)
    engine = LocalEngine(Learner([784, units, 10], OnlineRule.two_sided(), input_mean=ACTIVE).net, compiled=True)
    ways: dict[str, Callable[[], object]] = {
        "one compiled loop": lambda: engine.learn(x, labels),
        "Python's loop": lambda: [engine.step(x[i : i + 1], labels[i : i + 1]) for i in range(number)],
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, learn in ways.items():
            start = time.process_time()
            learn()
            times[way].append((time.process_time() - start) / number * 1e6)
    return {way: min(found) for way, found in times.items()}


def spiking_share(learner: Learner, x: np.ndarray) -> float:
    """Share of hidden units that spike."""
    layer = make_layer(learner.net.settings[0], learner.net.states[0], compiled=True)
    return float(layer.forward(x).mean())


def seconds_of(number: int, sizes: list[int], **settings: Any) -> float:
    """Wall time in which a learner learns `number` random images, once it has started and learned ten."""
    generator = np.random.default_rng(0)
    x = (generator.random((number, sizes[0])) < ACTIVE).astype(np.int8)
    labels = generator.integers(0, sizes[-1], number)
    with Learner(sizes, input_mean=ACTIVE, **settings) as online:
        engine = online._started()
        engine.learn(x[:10], labels[:10])
        start = time.perf_counter()
        engine.learn(x, labels)
        return time.perf_counter() - start


def actor_microseconds(rule: OnlineRule, number: int = 10000) -> float:
    """CPU time per image of 784-512-10 in Lava's one Process: of so many more images; the start is in both runs."""
    costs = []
    for images in (number, 2 * number):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds_of(images, [784, 512, 10], rule=rule, **WAYS["Lava, one Process"])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (costs[1] - costs[0]) / number * 1e6


def kernel_microseconds(n_in: int, n_out: int, active: int) -> float:
    """One forward and backward pass of one layer, median of 50."""
    generator = np.random.default_rng(0)
    settings = LayerSettings(n_in, n_out, rule=OnlineRule(), input_mean=ACTIVE)
    layer = CompiledLayer(settings, initial_state(settings, generator))
    x = np.zeros((1, n_in), np.int8)
    x[0, generator.permutation(n_in)[:active]] = 1
    error = generator.integers(-100, 100, (1, n_out)).astype(np.int32)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        layer.forward(x)
        layer.backward(error, pass_down=False)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/online.json"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    record: dict[str, object] = {"machine": platform.processor() or platform.machine(), "load": os.getloadavg()}
    print(f"load average {os.getloadavg()[0]:.1f}\n\nms a time step in Lava", end="")
    print("        stock  a Process per layer    one Process   times faster    image in the engine")
    for n_in, n_out in ((784, 10), (1024, 1024)):
        for form in ("floating_pt", "fixed_pt"):
            steps = 100 if n_out == 10 else 5
            stock = milliseconds_a_step(lambda n=n_in, m=n_out, f=form: stock_layer(n, m, f), form, steps)
            ours = milliseconds_a_step(lambda n=n_in, m=n_out, f=form: our_layer(n, m, f), form, 20 * steps // 5)
            precision = "float" if form == "floating_pt" else 8
            fused = min(seconds_of(400, [n_in, n_out], precision=precision) for _ in range(3)) / 400 * 1e3
            image = ENGINE_STEPS * milliseconds_a_step(
                lambda n=n_in, m=n_out, f=form: our_layer(n, m, f, ENGINE_STEPS), form, steps, in_engine=True
            )
            print(f"{n_in:5}x{n_out:<5} {form:12} {stock:10.2f} {ours:14.3f} {fused:18.3f}", end="")
            print(f"{stock / ours:11.0f} {stock / fused:6.0f} {image:18.1f}", flush=True)
            record[f"{n_in}x{n_out} {form}"] = {
                "stock": stock,
                "a Process per layer": ours,
                "one Process": fused,
                "an image in the engine": image,
            }
    print("\nimages a second, 784-512-10")
    for way, number in (*((way, 100 if way == "reference" else 2000) for way in WAYS), ("PyTorch", 200)):
        rate = images_a_second(way, number)
        print(f"  {way:26} {rate:8.0f}", flush=True)
        record[f"images per second, {way}"] = rate
    for name, rate in kernels_in_turns(2000).items():
        print(f"  kernels, {name:24} {rate:8.0f}", flush=True)
        record[f"images per second, kernels, {name}"] = rate
    print("\nCPU us an image by the kernels, two-sided spikes, least of five turns")
    for units in (100, 512):
        for way, cost in loop_in_turns(units, 1000).items():
            print(f"  784-{units}-10, {way:18} {cost:8.0f}", flush=True)
            record[f"us an image, 784-{units}-10, {way}"] = cost
    print("\nCPU us an image in Lava, one Process, 784-512-10, least of three runs")
    for name, rule in (("signs", OnlineRule()), ("sparse", OnlineRule.sparse()), ("two-sided", OnlineRule.two_sided())):
        cost = min(actor_microseconds(rule) for _ in range(3))
        print(f"  {name:24} {cost:8.1f}", flush=True)
        record[f"us an image in Lava, {name}"] = cost
    print("\nms an image in Lava, one Process, 784-512-10, of so many images")
    for number in (500, 1000, 2000, 4000):
        cost = seconds_of(number, [784, 512, 10]) / number * 1e3
        print(f"  {number:5} images {cost:8.3f}", flush=True)
        record[f"ms an image of {number}"] = cost
    print("\nmicroseconds of the kernels, 784 inputs of which some are active, and units")
    for active, units in ((50, 512), (100, 512), (200, 512), (400, 512), (100, 1024), (100, 2048)):
        cost = kernel_microseconds(784, units, active)
        print(f"  {active:4} active, {units:5} units {cost:8.0f}  {1e3 * cost / active / units:6.2f} ns a synapse")
        record[f"kernel {active} active {units} units"] = cost
    synapses = 784 * 512 + 512 * 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"\nstate of 784-512-10: {2 * synapses / 1e6:.1f} MB in int16 (8 bits used); peak of this process {peak} MiB")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
