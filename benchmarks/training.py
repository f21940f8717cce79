"""Time and memory of training: the fast way beside the clear one and, if asked, the public code of the paper.

    python benchmarks/training.py                              # some minutes
    python benchmarks/training.py --quick --width 1024         # one width, fewer repetitions
    python benchmarks/training.py --reference FOLDER           # FOLDER: your clone of the public code
    python benchmarks/training.py --whole --reference FOLDER   # one whole epoch of MNIST of each way
    python benchmarks/training.py --scaling                    # cost against synapses and images
    python benchmarks/training.py --gates                      # the optimizer alone, of each rule
    python benchmarks/training.py --busy 2                     # with 0 and 2 busy neighbours: two or three minutes
    python benchmarks/training.py --convolutions --threads 2 --reference FOLDER    # the paper's convolutional networks
    python benchmarks/training.py --spiking --cpu              # the spiking network, layer by layer and step by step
    python benchmarks/training.py --device cuda                # fast and clear on a GPU

784-width-width-10 on MNIST, batches of 100, m = 1.35, decay 1e-7, the same number of threads for all:

    fast     train(..., TrainSettings(fast=True)), with batch norm, as the others have
    fixed    the same with the fixed norm, the one that deploys
    clear    fast=False: torch's modules, autograd and the clear optimizer
    public   Laborieux et al., github.com/Laborieux-Axel/SynapticMetaplasticityBNN: its model, optimizer, loop and
             loader (which works in a process of its own beside)

Repetitions alternate, and each figure is a median, so that a busy machine disturbs all alike. A step is forward,
backward and update on a batch at hand. An epoch is everything from permuted images to tested accuracy: ours tests
before and after, the public code once after. Memory is the growth of a process's peak over what it had after imports,
data included. The bound is what this machine could do at best with the fast way's form of the work: its bytes at
the rate at which the processor passes over arrays of that size, then its products at their fastest. On a GPU it is the
bytes alone, at the rate of a copy of 1 GiB, and the last line says what the steps of the paper's Figure 2 would take.

With --busy the steps of `fixed` are timed in processes of their own, first on the machine as it is and then beside so
many processes that compute without end (each ends by itself after `NEIGHBOUR_SECONDS`):

    one      one thread
    spin     as many threads as there are cores, which spin while they wait: what torch does by itself
    sleep    as many, which sleep (OMP_WAIT_POLICY=PASSIVE)
    chosen   what `lava-meta train` does: they sleep, and their number follows the products
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.machinery
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import training_convolutions

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.datasets import data_folders
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.spiking import SCALES, spiking_network
from lava_meta.nn import BinaryMLP
from lava_meta.optim.threads import threads_for
from lava_meta.rule import Towards
from lava_meta.training import TrainSettings, products, train
from lava_meta.training.steps import step_factory
from lava_meta.training.torch_device import usable_device

M, DECAY, BATCH = 1.35, 1e-7, 100
WIDTHS = (512, 1024, 4096)


clock = time.perf_counter  # or the process's own time, with --cpu


def wait() -> None:
    """Until a GPU, if there is one, has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def seconds(function: Callable[[], object]) -> float:
    wait()
    start = clock()
    function()
    wait()
    return clock() - start


def sizes(width: int) -> tuple[int, ...]:
    return (784, width, width, 10)


def synapses(width: int) -> int:
    return 784 * width + width * width + 10 * width


BOTH = {"consolidation": Towards(0.5, 0.005, 2.0), "grow": Towards(0.5, 0.3), "m": 0.0}
RULES: dict[str, dict[str, Any]] = {
    "paper's gate": {},
    "gates in both directions": BOTH,
    "paper's gate, adalayer": {"optimizer": "adalayer"},
    "both directions, adalayer": {"optimizer": "adalayer", **BOTH},
    "m in medians, adalayer": {"optimizer": "adalayer", "relative": True},
}


class Ours:
    """One of our ways."""

    def __init__(self, width: int, *, fast: bool, norm: Any = "batch", device: str = "cpu", **rule: Any) -> None:
        self.model = BinaryMLP(sizes(width), norm, pixel_mean=33.3, pixel_std=78.6, seed=0).to(device)
        settings = TrainSettings(epochs=1, batch_size=BATCH, m=M, weight_decay=DECAY, fast=fast)
        self.settings = replace(settings, **rule)
        self._step = step_factory(fast=fast)(self.model, shown=False)
        self.optimizer = self.settings.make_optimizer(self.model, **self._step.optimizer_form)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._step.loss(x, y)
        self._step.backward()
        self._step.update(self.optimizer)

    def update(self) -> None:
        """The optimizer alone, on the last gradients."""
        self._step.update(self.optimizer)

    def epoch(self, data: Dataset) -> float:
        result = train(self.model, permuted_tasks(data, 1, 0), self.settings, progress=False)
        return result.matrix.acc()


class Public:
    """The public code, imported from the user's own clone."""

    def __init__(self, width: int, folder: Path) -> None:
        self._import(folder)
        self.model = self.models.BNN(list(sizes(width)), init="uniform", width=0.1, norm="bn")
        gates = {}
        for name, parameter in self.model.named_parameters():
            parameter.newname = f"l{name[9]}"  # layers.fcN.weight: what its optimizer looks a gate up by
            gates[parameter.newname] = M
        self.optimizer = self.models.Adam_meta(self.model.parameters(), lr=0.005, meta=gates, weight_decay=DECAY)
        self.arguments = argparse.Namespace(ewc=False, si=False)
        self.device = torch.device("cpu")

    def _import(self, folder: Path) -> None:
        place = next(iter(folder.glob("Continual_Learning*/models_utils.py")), None)
        if place is None:
            raise SystemExit(
                f"{folder} holds no Continual_Learning.../models_utils.py: is it a clone of the public code?"
            )
        roots = [root for root in data_folders() if (root / "MNIST").is_dir() and (root / "FashionMNIST").is_dir()]
        if not roots:
            raise SystemExit("the public code reads MNIST and Fashion-MNIST when it is imported: set LAVA_META_DATA")
        # It reads them from where it is started, and imports pandas only for its tables.
        sys.path.insert(0, str(place.parent))
        if importlib.util.find_spec("pandas") is None:
            empty = sys.modules["pandas"] = types.ModuleType("pandas")
            empty.__spec__ = importlib.machinery.ModuleSpec("pandas", None)  # torch asks for it
        self.home = tempfile.mkdtemp()
        for link, name in (("mnist_pytorch", "MNIST"), ("fmnist_pytorch", "FashionMNIST")):
            Path(self.home, link).mkdir()
            Path(self.home, link, name).symlink_to((roots[0] / name).resolve())
        warnings.filterwarnings("ignore", message="This overload of", category=UserWarning)
        with _inside(self.home):
            import data_utils
            import models_utils

            self.data, self.models = data_utils, models_utils
            self.loaders = data_utils.create_permuted_loaders("MNIST")

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        pixels = x.to(torch.float32).div_(255)
        self.models.train(self.model, [(pixels, y)], 0, self.optimizer, self.device, self.arguments)

    def update(self) -> None:
        self.optimizer.step()

    def epoch(self, data: Dataset) -> float:
        _, tests, train_images = self.loaders
        some = torch.utils.data.Subset(train_images, range(len(data.train)))
        loader = torch.utils.data.DataLoader(some, batch_size=BATCH, shuffle=True, num_workers=1)
        self.models.train(self.model, loader, 0, self.optimizer, self.device, self.arguments)
        some = torch.utils.data.Subset(tests.dataset, range(len(data.test)))
        loader = torch.utils.data.DataLoader(some, batch_size=1000, shuffle=False, num_workers=1)
        return self.models.test(self.model, loader, self.device)[0]


@contextlib.contextmanager
def _inside(folder: str) -> Any:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def make(way: str, width: int, reference: Path | None) -> Any:
    if way == "public":
        assert reference is not None
        return Public(width, reference)
    return Ours(width, fast=way != "clear", norm="fixed" if way == "fixed" else "batch")


def some_images(images: int) -> Dataset:
    """MNIST's first images, and a sixth as many test images."""
    mnist = load_dataset("mnist")
    return Dataset("mnist", mnist.train.take(range(images)), mnist.test.take(range(images // 6)))


# The bound.


def pass_rate(size: int, threads: int) -> float:
    """Bytes per second while arrays of `size` bytes in all are read and written, by all threads."""
    rows = torch.ones(max(1, size // 4), dtype=torch.float32)
    torch.set_num_threads(threads)
    rows.mul_(1.0)
    return 2 * rows.nbytes / min(seconds(lambda: rows.mul_(1.0)) for _ in range(5))


def product_time(width: int) -> float:
    """The products of a step at the rates that the largest of them reaches with everything in the cache, in seconds."""
    n = 1024
    rng = torch.Generator().manual_seed(0)

    def signs(rows: int, kind: torch.dtype) -> torch.Tensor:
        return (torch.randint(0, 2, (rows, n), generator=rng) * 2 - 1).to(kind)

    layer = products.form()(n, n)
    layer.signs.fill_(1)
    x = signs(BATCH, layer.signs_type)
    if isinstance(layer, products.Bytes):
        digits = signs(2 * BATCH, torch.int8)
        d, y = signs(n, torch.bfloat16)[:, :BATCH].contiguous(), x.to(torch.bfloat16)
        pixels, back, outer = (
            lambda: torch._int_mm(x, layer.signs.T),
            lambda: torch._int_mm(digits, layer.signs),
            lambda: torch.mm(d, y, out=layer.gradient),
        )
    else:
        d, levels = signs(BATCH, torch.float32), signs(BATCH, torch.uint8)
        pixels, back, outer = (
            lambda: layer.sums_of_pixels(levels, 0),
            lambda: layer.back(d, d, 1.0, 1.0),
            lambda: layer.outer(d, x),
        )
    ways = [pixels, lambda: layer.sums(x), back, outer]
    first, sums, backward, weights = (min(seconds(way) for _ in range(40)) / n**2 for way in ways)
    inner = synapses(width) - 784 * width
    return 784 * width * first + inner * (sums + backward) + synapses(width) * weights


def bound(width: int, threads: int) -> tuple[float, float]:
    """Bytes per synapse, and the least time of a step in seconds."""
    form = products.form()
    sign, gradient = form.signs_type.itemsize, form.gradient_type.itemsize
    # Weight and two moments read and written, gradient written and read, signs written and read forwards; backwards
    # too, except in the first layer.
    each = 3 * 8 + 2 * gradient + 2 * sign
    total = each * synapses(width) + sign * (synapses(width) - 784 * width)
    held = (3 * 4 + gradient + sign) * synapses(width)
    return total / synapses(width), total / pass_rate(held, threads) + product_time(width)


# Measurements.


def measure(width: int, ways: dict[str, Any], repetitions: int, images: int) -> dict[str, dict[str, float]]:
    """Medians in seconds: step, update, epoch of each way."""
    rng = torch.Generator().manual_seed(1)
    data = some_images(images)
    x, y = data.train.x[:BATCH], data.train.y[:BATCH]
    times: dict[str, dict[str, list[float]]] = {way: {"step": [], "update": [], "epoch": []} for way in ways}
    for way in ways.values():
        way.step(x, y)  # compiles, allocates
        way.update()
    for _ in range(repetitions):
        index = torch.randint(0, images, (BATCH,), generator=rng)
        x, y = data.train.x[index], data.train.y[index]
        for name, way in ways.items():
            number = 1 if name in ("public", "clear") and width > 1000 else 5
            times[name]["step"].append(seconds(lambda: [way.step(x, y) for _ in range(number)]) / number)  # noqa: B023
            times[name]["update"].append(seconds(lambda: [way.update() for _ in range(number)]) / number)  # noqa: B023
    for _ in range(max(1, repetitions // 5)):
        for name, way in ways.items():
            times[name]["epoch"].append(seconds(lambda: way.epoch(data)))  # noqa: B023
    return {way: {what: statistics.median(values) for what, values in found.items()} for way, found in times.items()}


def memory(way: str, arguments: argparse.Namespace, width: int) -> float:
    """MiB by which a process of its own grows at most, data, one epoch and test."""
    command = [sys.executable, __file__, "--alone", way, "--width", str(width), "--threads", str(arguments.threads)]
    if arguments.reference is not None:
        command += ["--reference", str(arguments.reference)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(found.splitlines()[-1]))


def alone(way: str, width: int, reference: Path | None) -> float:
    def status(kind: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(kind))

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    make(way, width, reference).epoch(some_images(600))
    return (status("VmHWM") - before) / 1024


def compare(arguments: argparse.Namespace) -> None:
    names = ["fast", "fixed", "clear"] + (["public"] if arguments.reference else [])
    repetitions = 5 if arguments.quick else 15
    base = names[-1]
    head = f"{'width':>6} {'way':7}{'step ms':>10}{'update ms':>11}{'epoch s':>9}{'peak MiB':>10}"
    print(f"{head}   {base}/way: step, update, epoch")
    for width in arguments.width or WIDTHS:
        images = 600 if arguments.quick and width > 2000 else 3000 if width > 2000 or arguments.quick else 12000
        ways = {name: make(name, width, arguments.reference) for name in names}
        found = measure(width, ways, repetitions, images)
        each, least = bound(width, arguments.threads)
        del ways
        for name in names:
            times = found[name]
            ratios = ", ".join(f"{found[base][what] / times[what]:.1f}x" for what in times)
            peak = memory(name, arguments, width)
            print(
                f"{width:6} {name:7}{1e3 * times['step']:10.2f}{1e3 * times['update']:11.2f}{times['epoch']:9.2f}"
                f"{peak:10.0f}   {ratios}",
                flush=True,
            )
        print(
            f"{'':6} bound  {1e3 * least:10.2f}   {each:.0f} bytes per synapse and the products; fast reaches "
            f"{least / found['fast']['step']:.0%}; an epoch is {images} training and {images // 6} test images",
            flush=True,
        )


def whole(arguments: argparse.Namespace) -> None:
    names = ["fixed", "fast", "clear"] + (["public"] if arguments.reference else [])
    data = load_dataset("mnist")
    print(f"{'width':>6} {'way':7}{'epoch s':>9}   (60,000 training images, 10,000 test images)")
    for width in arguments.width or WIDTHS:
        found = {}
        for name in names:
            way = make(name, width, arguments.reference)
            x, y = data.train.x[:BATCH], data.train.y[:BATCH]
            way.step(x, y)  # compiles, allocates
            found[name] = seconds(lambda: way.epoch(data))  # noqa: B023
            print(f"{width:6} {name:7}{found[name]:9.2f}", flush=True)
        print(
            f"{'':6} {names[-1]}/way: "
            + ", ".join(f"{name} {found[names[-1]] / found[name]:.1f}x" for name in names[:-1])
        )


# Busy neighbours.

NEIGHBOUR_SECONDS = 120
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
BUSY_WIDTHS = (64, 256, 1024, 4096)


@contextlib.contextmanager
def neighbours(number: int) -> Any:
    """So many processes beside that keep a core busy each."""
    code = f"import time\nend = time.monotonic() + {NEIGHBOUR_SECONDS}\nwhile time.monotonic() < end: sum(range(1000))"
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(number):
            started.append(subprocess.Popen([sys.executable, "-c", code]))
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


class Worker:
    """A process of its own that trains when it is told to. threads: 0 for as many as pay."""

    def __init__(self, width: int, threads: int, policy: str | None) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in WAITING}
        environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", "--width", str(width), "--threads", str(threads)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> int:
        """Wait until it has warmed up; the number of its threads."""
        return int(self._answer())

    def step(self, budget: float) -> float:
        """Seconds per step, over so many seconds."""
        assert self.process.stdin is not None
        print(budget, file=self.process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a process that trains has ended with code {self.process.wait()}")
        return line

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def serve(width: int, threads: int) -> None:
    """What a `Worker` runs."""
    way = make("fixed", width, None)
    torch.set_num_threads(threads or threads_for(way.model, BATCH))
    data = some_images(600)
    x, y = data.train.x[:BATCH], data.train.y[:BATCH]
    for _ in range(3):  # compiles, allocates
        way.step(x, y)
    print(torch.get_num_threads(), flush=True)
    for line in sys.stdin:
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + float(line):
            way.step(x, y)
            steps += 1
        print((time.perf_counter() - begun) / steps, flush=True)


def busy(arguments: argparse.Namespace) -> None:
    cores = len(os.sched_getaffinity(0))
    rounds, budget = (5, 0.15) if arguments.quick else (9, 0.25)
    worst = 0.0
    head = f"{'width':>6} {'way':8}{'threads':>8}"
    for number in (0, arguments.busy):
        head += f"   | {number} neighbours: ms{'best ms':>9}{'ratio':>7}"
    print(f"{cores} cores; median and best of {rounds} turns; ratio: to the way with the least median\n{head}")
    for width in arguments.width or BUSY_WIDTHS:
        kinds = {"one": (1, None), "spin": (cores, None), "sleep": (cores, "PASSIVE"), "chosen": (0, "PASSIVE")}
        workers: dict[str, Worker] = {}
        lines: dict[str, str] = {}
        try:
            for name, (threads, policy) in kinds.items():
                workers[name] = Worker(width, threads, policy)
                lines[name] = f"{width:6} {name:8}{workers[name].ready():8}"
            for number in (0, arguments.busy):
                found: dict[str, list[float]] = {name: [] for name in workers}
                with neighbours(number):
                    for _ in range(rounds):
                        for name, worker in workers.items():
                            found[name].append(worker.step(budget))
                medians = {name: statistics.median(times) for name, times in found.items()}
                for name, median in medians.items():
                    ratio = median / min(medians.values())
                    lines[name] += f"   |{1e3 * median:18.2f}{1e3 * min(found[name]):9.2f}{ratio:6.1f}x"
                worst = max(worst, medians["chosen"] / min(medians.values()))
        finally:
            for worker in workers.values():
                worker.end()
        print("\n".join(lines.values()), flush=True)
    print(f"\nchosen takes at most {worst:.2f} times what the best way takes; load average {os.getloadavg()[0]:.1f}")


def on_device(arguments: argparse.Namespace) -> None:
    try:
        device = usable_device(arguments.device)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else device}, batches of {BATCH}\n")
    print(f"{'width':>6} {'way':7}{'step ms':>10}{'update ms':>11}{'epoch s':>9}   clear/way: step, update, epoch")
    repetitions, number = (3, 5) if arguments.quick else (15, 100)
    for width in arguments.width or WIDTHS:
        data = some_images(600 if arguments.quick else 60000)
        x, y = data.train.x[:BATCH].to(device), data.train.y[:BATCH].to(device)
        found = {}
        for name, fast, norm in (("clear", False, "batch"), ("fast", True, "batch"), ("fixed", True, "fixed")):
            way = Ours(width, fast=fast, norm=norm, device=arguments.device)
            for _ in range(10):  # compiles, and captures
                way.step(x, y)
            # Many at a time, as in training: the host runs ahead of a GPU.
            runs = {
                "step": lambda: [way.step(x, y) for _ in range(number)],  # noqa: B023
                "update": lambda: [way.update() for _ in range(number)],  # noqa: B023
            }
            found[name] = {
                what: statistics.median(seconds(run) for _ in range(repetitions)) / number for what, run in runs.items()
            }
            found[name]["epoch"] = seconds(lambda: way.epoch(data))  # noqa: B023
            times = found[name]
            ratios = ", ".join(f"{found['clear'][what] / times[what]:.1f}x" for what in times)
            print(
                f"{width:6} {name:7}{1e3 * times['step']:10.3f}{1e3 * times['update']:11.3f}{times['epoch']:9.2f}"
                f"   {ratios}",
                flush=True,
            )
        each, least = bound(width, arguments.threads) if device.type == "cpu" else gpu_bound(width, device)
        print(
            f"{'':6} bound  {1e3 * least:10.3f}   {each:.0f} bytes per synapse; fixed reaches "
            f"{least / found['fixed']['step']:.0%}; an epoch is {len(data.train)} training and {len(data.test)} test "
            f"images, tested twice\n{'':6} 144,000 steps, as of six tasks of 40 epochs: "
            f"{144000 * found['fixed']['step'] / 60:.1f} minutes (fixed)",
            flush=True,
        )


def gpu_bound(width: int, device: torch.device) -> tuple[float, float]:
    """Bytes per synapse of the captured step, and the time that a GPU's memory takes for them, in seconds."""
    # The sign: 4 read, a boolean written and read, 4 written. Forwards 4 read; backwards 4 read, except in the first
    # layer, and 4 written. The optimizer: weight, two moments and gradient read, the first three written.
    each = 10 + 4 + 4 + 28
    total = each * synapses(width) + 4 * (synapses(width) - 784 * width)
    source = torch.ones(2**28, device=device)
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(5))
    return total / synapses(width), total / rate


def gates(arguments: argparse.Namespace) -> None:
    """The optimizer's step and the whole step of each rule, in turns: medians, and of the ratio to the paper's gate."""
    print(f"{'width':>6}  {'rule':28}{'optimizer ms':>13}{'ratio':>7}{'step ms':>9}{'ratio':>7}")
    for width in arguments.width or WIDTHS:
        ways = {name: Ours(width, fast=True, norm="fixed", **rule) for name, rule in RULES.items()}
        batch = some_images(BATCH).train
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(2 + (10 if arguments.quick else 40)):
            for name, way in ways.items():
                step = seconds(lambda: way.step(batch.x, batch.y))  # noqa: B023
                update = seconds(way.update)
                if turn > 1:  # the first compile
                    times[name].append((update, step))
        base = np.array(times["paper's gate"])
        for name, found in times.items():
            update, step = 1e3 * np.median(found, axis=0)
            ratios = np.median(np.array(found) / base, axis=0)
            print(f"{width:6}  {name:28}{update:13.2f}{ratios[0]:7.2f}{step:9.2f}{ratios[1]:7.2f}", flush=True)


def scaling(arguments: argparse.Namespace) -> None:
    print(f"{'width':>6}{'synapses':>12}{'step ms':>10}{'ns a synapse':>14}")
    for width in (512, 1024, 2048, 4096):
        data = some_images(600)
        way = make("fixed", width, None)
        x, y = data.train.x[:BATCH], data.train.y[:BATCH]
        way.step(x, y)
        step = statistics.median(seconds(lambda: way.step(x, y)) for _ in range(20))  # noqa: B023
        print(f"{width:6}{synapses(width):12,}{1e3 * step:10.2f}{1e9 * step / synapses(width):14.2f}", flush=True)
    print(f"\n{'images':>7}{'epoch s':>9}{'us per image':>13}   (width 1024)")
    for images in (6000, 18000, 60000):
        data = some_images(images)
        way = make("fixed", 1024, None)
        epoch = statistics.median(seconds(lambda: way.epoch(data)) for _ in range(3))  # noqa: B023
        print(f"{images:7}{epoch:9.2f}{1e6 * epoch / images:13.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, shorter epochs")
    parser.add_argument("--width", type=int, action="append", help="only this one; repeatable")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--reference", type=Path, help="a clone of the public code")
    parser.add_argument("--device", help="only: fast and clear there (cuda, or cpu)")
    parser.add_argument("--whole", action="store_true", help="only: one epoch of all images, each way once")
    parser.add_argument("--gates", action="store_true", help="only: the optimizer and the step of each rule")
    parser.add_argument("--scaling", action="store_true", help="only: cost against synapses and images")
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="CPU time of the process, not time on the wall: for a busy machine, one thread",
    )
    parser.add_argument("--busy", type=int, metavar="N", help="only: steps beside N busy processes, and beside none")
    parser.add_argument("--convolutions", action="store_true", help="only: steps of convolutional networks")
    parser.add_argument("--spiking", action="store_true", help="only: steps of a spiking network")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    global clock
    clock = time.process_time if arguments.cpu else time.perf_counter
    arguments.reference = arguments.reference and arguments.reference.resolve()
    if arguments.serve:
        serve(arguments.width[0], arguments.threads)
        return
    torch.set_num_threads(arguments.threads)
    if arguments.alone:
        print(json.dumps(alone(arguments.alone, arguments.width[0], arguments.reference)))
        return
    print(
        f"{_processor()}; Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}; "
        f"{arguments.threads} thread(s); products as {products.form().__name__.lower()}\n"
    )
    if arguments.busy is not None:
        busy(arguments)
    elif arguments.convolutions:
        training_convolutions.compare(arguments.reference, 5 if arguments.quick else 15)
    elif arguments.spiking:
        spiking(arguments)
    elif arguments.device:
        on_device(arguments)
    elif arguments.whole:
        whole(arguments)
    elif arguments.gates:
        gates(arguments)
    elif arguments.scaling:
        scaling(arguments)
    else:
        compare(arguments)


def spiking(arguments: argparse.Namespace) -> None:
    """Steps of the experiment `spiking`, 10 time steps an image: all of a layer's at once, and one after the other."""
    settings = SCALES["medium"]
    scenario = permuted_tasks(load_dataset("mnist"), 1, 0)
    x, y = scenario.train[0].x[:BATCH], scenario.train[0].y[:BATCH]
    ways: dict[str, Callable[[], object]] = {}
    for name, by_layers in (("layer by layer", True), ("step by step", False)):
        model = spiking_network(settings, scenario, 0)
        model.by_layers = by_layers
        step = step_factory(fast=True)(model, shown=False)
        optimizer = replace(settings.training, m=8.0).make_optimizer(model, **step.optimizer_form)

        def one(step: Any = step, optimizer: Any = optimizer) -> None:
            step.loss(x, y)
            step.backward()
            step.update(optimizer)

        one()
        ways[name] = one
    times = [{name: seconds(one) for name, one in ways.items()} for _ in range(5 if arguments.quick else 15)]
    for name in ways:
        print(f"{name:16} {1e3 * statistics.median(row[name] for row in times):8.1f} ms")


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
