"""Every way of learning, each at its best: hyperparameters are tuned on held-out training images, then tested once.

For each rule the same budget: `values` of its one hyperparameter are tried with seed 0 on training images alone, a
share of which is held out, and the one with the best mean accuracy after the last task is taken. The network is then
trained anew on all training images, with every seed, and meets the test images. What was tried is kept in the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.claims import Claim, both, opposite
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results
from lava_meta.experiments.common.figures import bars, final_accuracies
from lava_meta.experiments.common.runner import read_measurement
from lava_meta.experiments.common.settings import at_least, changed
from lava_meta.experiments.common.training import load, measured, train_arm
from lava_meta.experiments.permuted_mnist import PermutedSettings
from lava_meta.training.metrics import task_name

_M = (2.0, 4.0, 8.0, 16.0, 32.0)
# The one hyperparameter of a rule, and what is tried. Rules that are not here have none that matters.
TUNED: dict[str, tuple[str, tuple[float, ...]]] = {
    "metaplastic": ("m", _M),
    "probabilistic": ("m", _M),
    "real": ("m", _M),
    "beakers": ("m", _M),
    "ewc": ("ewc_strength", (1e1, 1e2, 1e3, 1e4, 1e5)),
    "random": ("ewc_strength", (1e1, 1e2, 1e3, 1e4, 1e5)),
    "si": ("si_strength", (1e-3, 1e-2, 1e-1, 1e0, 1e1)),
}
REAL_PLAIN = "real, plain"


@dataclass(frozen=True)
class BaselineSettings(PermutedSettings):
    """`m` and the strengths are chosen, not set; `values` of each are tried."""

    rules: tuple[str, ...] = (
        "plain",
        "random",
        "si",
        "ewc",
        "metaplastic",
        "probabilistic",
        "beakers",
        "replay",
        "together",
        "real",
    )
    m: tuple[float, ...] = (0.0,)
    values: int = 5  # tried for each rule, at most five
    share: float = 0.2  # of the training images that is held out

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, values=1)
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}; it must lie strictly between 0 and 1")


SCALES = {
    "small": BaselineSettings(
        data="digits", tasks=4, hidden=(128, 128), epochs=6, batch_size=50, values=3, evaluate="task"
    ),
    "medium": BaselineSettings(tasks=5, hidden=(512, 512), epochs=2, train_images=20000, seeds=3, evaluate="task"),
    "paper": BaselineSettings(norm="batch", hidden=(4096, 4096), epochs=40, seeds=5, evaluate="task"),
}


def arms(settings: BaselineSettings) -> dict[str, BaselineSettings]:
    """One arm a rule; the real network without the rule too, where it is among them."""
    made = {rule: replace(settings, rules=(rule,)) for rule in settings.rules}
    return made | ({REAL_PLAIN: replace(made["real"], values=1)} if "real" in made else {})


def measure(settings: BaselineSettings, seed: int, folder: Path, progress: bool) -> Measurement:
    """Choose with seed 0, then train and test."""
    rule = settings.rules[0]
    name, grid = TUNED.get(rule, ("", ()))
    # An arm that tries one value is one that keeps what it was given.
    tried: dict[str, float] = {}
    if name and settings.values > 1:
        first = folder.parent / "seed0" / "result.json"
        if seed != 0 and first.exists():
            tried = dict(read_measurement(first).data["tried"])
        else:  # another process may be about to find the same
            tried = {
                str(value): _held_out(settings, name, value, folder, progress) for value in _spread(grid, settings)
            }
    chosen = float(max(tried, key=lambda value: tried[value])) if tried else 0.0
    final = _with(settings, name, chosen) if tried else settings
    scenario = permuted_tasks(load(final, final.data, seed), final.tasks, seed)
    result = measured(train_arm(final, scenario, seed, folder, progress)[1], **({name: chosen} if tried else {}))
    return replace(result, data={**result.data, "tried": tried})


def _spread(grid: Sequence[float], settings: BaselineSettings) -> list[float]:
    """As many of the values as the budget allows, the middle ones first."""
    middle = len(grid) // 2
    nearest = sorted(range(len(grid)), key=lambda i: abs(i - middle))[: settings.values]
    return [grid[i] for i in sorted(nearest)]


def _with(settings: BaselineSettings, name: str, value: float) -> BaselineSettings:
    return changed(settings, **{name: (value,) if name == "m" else value})


def _held_out(settings: BaselineSettings, name: str, value: float, folder: Path, progress: bool) -> float:
    """Mean accuracy (%) after the last task on training images that were held out."""
    candidate = _with(changed(settings, held_out=settings.share), name, value)
    scenario = permuted_tasks(load(candidate, candidate.data, 0), candidate.tasks, 0)
    result = train_arm(candidate, scenario, 0, folder / "tuning" / f"{name} {value:g}", progress)[1]
    return measured(result).metrics["ACC"]


def figures(settings: BaselineSettings, results: Results) -> Mapping[str, Figure]:
    """Mean accuracy of every rule, and each task's."""
    return {
        "mean_accuracy": bars(results, "ACC", "mean accuracy after the last task (%)"),
        "final_accuracies": final_accuracies(results, [task_name(task) for task in range(settings.tasks)], chance=0.1),
    }


def claims(settings: BaselineSettings, results: Results) -> Sequence[Claim]:
    """The paper's ordering, each rule at its best."""
    return [
        Claim(
            "plain < random consolidation < metaplastic",
            results.apart("ACC", "plain", "random", "metaplastic"),
            both(results.above("random", "plain", "ACC"), results.above("metaplastic", "random", "ACC")),
        ),
        Claim(
            "metaplastic comes close to EWC (at most 3 points below)",
            results.apart("ACC", "ewc", "metaplastic"),
            results.above("metaplastic", "ewc", "ACC", by=-3.0),
        ),
        Claim(
            "a full-precision network gains nothing from the rule (less than a point)",
            results.apart("ACC", REAL_PLAIN, "real"),
            opposite(results.above("real", REAL_PLAIN, "ACC", by=1.0)),
        ),
    ]


EXPERIMENT = Experiment(
    name="baselines",
    title="Every way of learning at its best: permuted {data}, {tasks} tasks",
    source="Laborieux et al. 2021, Figure 2 and supplement: the order of the ways. Tuned here, each with one budget.",
    scales=SCALES,
    arms=arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
