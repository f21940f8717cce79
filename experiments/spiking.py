"""The rule in a spiking network: leaky units of snnTorch over binary synapses, on permuted tasks.

    current_t = scale * (W1 (p - c))             the image, held for T steps, in the first layer
                (W s_t) / sqrt(fan_in)           spikes s_t of 0 and 1 in the others
    u_t       = beta * u_(t-1) + current_t - threshold * s_(t-1),    s_t = 1 where u_t > threshold
    logits    = mean over the steps of (W s_t) / sqrt(fan_in) in the readout, normed within each image in training

Nothing of the rule changes: it looks at hidden weights and at steps, not at what the units are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, cast

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.errors import require
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import permuted_task_figures
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TrainingSettings, best_m, load, measured, rule_arms, train_arm
from lava_meta.nn import BinaryLinear, FixedNorm, Pixels, SampleNorm
from lava_meta.plotting.figure import Figure


@dataclass(frozen=True)
class SpikingSettings(TrainingSettings):
    """The network's units: T steps per image, the share of the membrane that stays, the threshold of a spike."""

    data: str = "mnist"
    tasks: PositiveInt = 3
    steps: PositiveInt = 10
    beta: Annotated[float, Field(ge=0, le=1)] = 0.9
    threshold: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm != "fixed":
            raise ValueError(f"norm is {self.norm!r}; a spiking network takes norm = fixed")


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

    capturable = True  # the units carry nothing over: every pass begins with membranes of 0

    def __init__(self, settings: SpikingSettings, images: Images) -> None:
        require("snntorch", "The experiment spiking")
        import snntorch

        super().__init__()
        sizes = (images.features, *settings.hidden, images.classes)
        self.steps, self.hidden, self.rate = settings.steps, settings.hidden, torch.zeros(())
        self.pixels = Pixels(offset=round(images.mean_level), max_level=images.max_level)
        self.synapses = nn.ModuleList(BinaryLinear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        scales = [1 / (math.sqrt(n) * (images.std_level if i == 0 else 1)) for i, n in enumerate(sizes[:-1])]
        self.norms = nn.ModuleList(FixedNorm(scale) for scale in scales)
        self.units = nn.ModuleList(
            snntorch.Leaky(beta=settings.beta, threshold=settings.threshold) for _ in settings.hidden
        )
        self.readout = SampleNorm(training_only=True)

    def forward(self, pixels: Tensor) -> Tensor:
        image = self.norms[0](self.synapses[0](self.pixels(pixels.flatten(1))))
        membranes = [torch.zeros(len(pixels), width, device=pixels.device) for width in self.hidden]
        total, fired = 0.0, []
        for _ in range(self.steps):
            current = image
            for i, unit in enumerate(self.units):
                spikes, membranes[i] = unit(current, membranes[i])
                fired.append(spikes.detach().mean())
                current = self.norms[i + 1](self.synapses[i + 1](spikes))
            total = total + current
        self.rate = torch.stack(fired).mean() if fired else torch.zeros(())
        return self.readout(total / self.steps)


def spiking_network(settings: SpikingSettings, scenario: Scenario, seed: int) -> SpikingMLP:
    """The network of an arm, its initial weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpikingMLP(settings, scenario.train[0])


def measure(run: Run[SpikingSettings]) -> Measurement:
    """Train one arm on the sequence of tasks."""
    settings, seed = run.settings, run.seed
    scenario = permuted_tasks(load(settings, settings.data, seed), settings.tasks, seed)
    model, result = train_arm(run, scenario, spiking_network)
    spiking = cast(SpikingMLP, model)
    with torch.inference_mode():
        spiking(scenario.tests[0].x[:500].float().to(settings.device))
    return measured(result, **{"units that fire a step (%)": round(100 * float(spiking.rate), 2)})


def figures(settings: SpikingSettings, results: Results) -> Mapping[str, Figure]:
    """As for the other permuted tasks."""
    return permuted_task_figures(results, settings.tasks, settings.training.epochs)


def claims(settings: SpikingSettings, results: Results) -> Sequence[Claim]:
    """Ours: the rule works here too."""
    best = best_m(results)
    said, holds = results.apart("ACC", "m = 0", best), results.above(best, "m = 0", "ACC")
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
