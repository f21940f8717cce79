"""The rule in a spiking network: leaky units of snnTorch over binary synapses, on permuted tasks.

    current_t = scale * (W1 (p - c))             the image, held for T steps, in the first layer
                (W s_t) / sqrt(fan_in)           spikes s_t of 0 and 1 in the others
    u_t       = beta * u_(t-1) + current_t - threshold * s_(t-1),    s_t = 1 where u_t > threshold
    logits    = mean over the steps of (W s_t) / sqrt(fan_in) in the readout, normed within each image in training

Nothing of the rule changes: it looks at hidden weights and at steps, not at what the units are. With `coding = rate`
the image is spikes of 0 and 1 instead, as often as its pixels are bright. Each trained network is converted and run in
Lava, on test images of all tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, cast

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lava_meta.data import Dataset, Images
from lava_meta.data.scenarios import Scenario, permuted_tasks, split_classes
from lava_meta.errors import require
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import permuted_task_figures
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TrainingSettings, compared, load, measured, rule_arms, train_arm
from lava_meta.nn import BinaryLinear, FixedNorm, Pixels, SampleNorm, leaky_spikes
from lava_meta.plotting.figure import Figure


@dataclass(frozen=True)
class SpikingSettings(TrainingSettings):
    """The network's units: T steps per image, the share of the membrane that stays, the threshold of a spike."""

    data: str = "mnist"
    tasks: PositiveInt = 3
    steps: PositiveInt = 10
    beta: Annotated[float, Field(ge=0, le=1)] = 0.9
    threshold: PositiveFloat = 1.0
    sequence: Literal["permuted", "split"] = "permuted"  # split: two classes a task
    coding: Literal["held", "rate"] = "held"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm != "fixed":
            raise ValueError(f"norm is {self.norm!r}; a spiking network takes norm = fixed")
        if self.coding == "rate" and self.sequence == "permuted":
            raise ValueError("coding = rate goes with sequence = split: permuted spikes would lose their time")


SCALES = {
    "small": changed(
        SpikingSettings(), data="digits", tasks=4, m=(0.0, 8.0), hidden=(200, 200), epochs=6, batch_size=50, steps=5
    ),
    "medium": changed(
        SpikingSettings(), seeds=1, m=(0.0, 4.0), hidden=(512, 512), epochs=2, train_images=20000, evaluate="task"
    ),
    "paper": changed(SpikingSettings(), seeds=3, m=(0.0, 4.0), hidden=(1024, 1024), steps=20),
}


class SpikingMLP(nn.Module):
    """Raw pixels (n, ...) to logits (n, classes); `rate` is the mean share of units that fired in the last pass."""

    by_layers = True  # in training on the CPU: the same spikes, a layer's time steps at once
    capturable = True  # the units carry nothing over: every pass begins with membranes of 0

    def __init__(self, settings: SpikingSettings, images: Images) -> None:
        require("snntorch", "The experiment spiking")
        import snntorch

        super().__init__()
        self.rate_coded = settings.coding == "rate"
        features = images.features // settings.steps if self.rate_coded else images.features
        sizes = (features, *settings.hidden, images.classes)
        self.steps, self.hidden, self.rate = settings.steps, settings.hidden, torch.zeros(())
        self.constants = (settings.beta, settings.threshold)
        self.pixels = Pixels(offset=round(images.mean_level), max_level=images.max_level)
        self.synapses = nn.ModuleList(BinaryLinear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        scales = [1 / (math.sqrt(n) * (images.std_level if i == 0 else 1)) for i, n in enumerate(sizes[:-1])]
        self.norms = nn.ModuleList(FixedNorm(scale) for scale in scales)
        self.units = nn.ModuleList(
            snntorch.Leaky(beta=settings.beta, threshold=settings.threshold) for _ in settings.hidden
        )
        self.readout = SampleNorm(training_only=True)

    def forward(self, pixels: Tensor) -> Tensor:
        frames = pixels.reshape(len(pixels), self.steps, -1) if self.rate_coded else None
        if self.by_layers and self.training and self.hidden and pixels.device.type == "cpu":
            given = pixels.flatten(1)[None] if frames is None else frames.transpose(0, 1)
            return self.readout(self._by_layers(given) / self.steps)
        image = self._current(pixels.flatten(1)) if frames is None else torch.zeros(())
        membranes = [torch.zeros(len(pixels), width, device=pixels.device) for width in self.hidden]
        total, fired = torch.zeros(()), []
        for step in range(self.steps):
            current = image if frames is None else self._current(frames[:, step])
            for i, unit in enumerate(self.units):
                spikes, membranes[i] = unit(current, membranes[i])
                fired.append(spikes.detach().mean())
                current = self.norms[i + 1](self.synapses[i + 1](spikes))
            total = total + current
        self.rate = torch.stack(fired).mean() if fired else torch.zeros(())
        return self.readout(total / self.steps)

    def _by_layers(self, pixels: Tensor) -> Tensor:
        """The sums of all steps of pixels (steps or 1, n, ...): the same spikes, with one product a layer."""
        current, fired = self._current(pixels), []
        for norm, synapses in zip(self.norms[1:], self.synapses[1:], strict=True):
            spikes = leaky_spikes(current, self.steps, *self.constants)
            fired.append(spikes.detach().mean())
            current = norm(synapses(spikes if synapses is not self.synapses[-1] else spikes.sum(dim=0)))
        self.rate = torch.stack(fired).mean()
        return current

    def _current(self, pixels: Tensor) -> Tensor:
        return self.norms[0](self.synapses[0](self.pixels(pixels)))


def rate_coded(images: Images, steps: int, seed: int) -> Images:
    """Images (n, steps * features) of spikes, each with the probability of its pixel's brightness in every step."""
    generator = torch.Generator().manual_seed(seed)
    share = images.x.flatten(1).float() / images.max_level
    spikes = torch.stack([torch.rand(share.shape, generator=generator) < share for _ in range(steps)], dim=1)
    return Images(spikes.flatten(1).to(torch.uint8), images.y, f"{images.name}, {steps} steps", images.classes, 1)


def tasks_of(settings: SpikingSettings, dataset: Dataset, seed: int) -> Scenario:
    """The sequence of tasks."""
    if settings.sequence == "permuted":
        return permuted_tasks(dataset, settings.tasks, seed)
    if settings.coding == "rate":
        train = rate_coded(dataset.train, settings.steps, 2 * seed)
        dataset = Dataset(dataset.name, train, rate_coded(dataset.test, settings.steps, 2 * seed + 1))
    classes = range(dataset.train.classes)
    groups = [classes[2 * task : 2 * task + 2] for task in range(min(settings.tasks, len(classes) // 2))]
    return split_classes(dataset, groups)


def equal_in_lava(model: SpikingMLP, scenario: Scenario, steps: int) -> float:
    """The share of test images of which the converted network gives the model's class in Lava, in percent."""
    from lava_meta.converters.snntorch import from_snntorch

    images = torch.cat([test.x[:100] for test in scenario.tests])
    with torch.inference_mode():
        wanted = model(images.float().to(next(model.parameters()).device)).cpu().numpy().argmax(axis=1)
    if model.rate_coded:
        trains = images.reshape(len(images), steps, -1)
        net = from_snntorch(model, input_shape=trains.shape[2:], time="second", steps=steps)
        sums = net.potentials(trains, layers=["output"], time_first=False)["output"][-1]
    else:
        net = from_snntorch(model, input_shape=images[0].reshape(-1).shape)
        sums = net.potentials(images.flatten(1), steps, ["output"])["output"][-1]
    return 100 * float(((sums / steps).argmax(axis=1) == wanted).mean())


def spiking_network(settings: SpikingSettings, scenario: Scenario, seed: int) -> SpikingMLP:
    """The network of an arm, its initial weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpikingMLP(settings, scenario.train[0])


def measure(run: Run[SpikingSettings]) -> Measurement:
    """Train one arm on the sequence of tasks."""
    settings, seed = run.settings, run.seed
    scenario = tasks_of(settings, load(settings, settings.data, seed), seed)
    model, result = train_arm(run, scenario, spiking_network)
    spiking = cast(SpikingMLP, model)
    with torch.inference_mode():
        spiking(scenario.tests[0].x[:500].float().to(settings.device))
    fired = round(100 * float(spiking.rate), 2)
    equal = equal_in_lava(spiking, scenario, settings.steps)
    return measured(result, **{"units that fire a step (%)": fired, "classes equal in Lava (%)": equal})


def figures(settings: SpikingSettings, results: Results) -> Mapping[str, Figure]:
    """As for the other permuted tasks."""
    return permuted_task_figures(results, settings.tasks, settings.training.epochs)


def claims(settings: SpikingSettings, results: Results) -> Sequence[Claim]:
    """Ours: the rule works here too."""
    plain, best = compared(results)
    said, holds = results.apart("ACC", plain, best), results.above(best, plain, "ACC")
    return [Claim("metaplasticity keeps earlier tasks in a spiking network too (ours)", said, holds)]


EXPERIMENT = Experiment(
    name="spiking",
    title="The rule in a spiking network: permuted {data}, {tasks} tasks",
    source="Ours, beyond the paper: snnTorch's leaky integrate-and-fire units over binary synapses.",
    scales=SCALES,
    arms=rule_arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
