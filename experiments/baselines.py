"""Every way of learning, each at its best: hyperparameters are tuned on held-out training images, then tested once.

For each rule the same budget: `values` of its one hyperparameter are tried with seed 0 on training images alone, a
share of which is held out, and the one with the best mean accuracy after the last task is taken. The network is then
trained again on all training images, with every seed, and meets the test images. What was tried is kept in the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, PositiveInt

from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.claims import Claim, both, opposite
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import bars, final_accuracies
from lava_meta.experiments.common.jobs import read_measurement
from lava_meta.experiments.common.rules import MethodSettings
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import load, measured, train_arm
from lava_meta.experiments.permuted import PermutedSettings
from lava_meta.io.config import Several
from lava_meta.plotting.figure import Figure
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
    "lasting": ("m", _M),
    "engrams": ("m", _M),
    "bimu": ("bimu_lr", (1.2, 2.4, 4.9, 10.0, 20.0)),
    "mesu": ("mesu_lr", (0.4, 0.8, 1.6, 3.2, 6.4)),
}
REAL_PLAIN = "real, plain"
_OF_STEPS = ("metaplastic", "lasting", "engrams", "together")  # tried with units of 0 and 1 and layer norm too


@dataclass(frozen=True)
class BaselineSettings(PermutedSettings):
    """`m` and the strengths are chosen, not set; `values` of each are tried."""

    rules: Several[str] = (
        "plain",
        "random",
        "si",
        "ewc",
        "metaplastic",
        "lasting",
        "engrams",
        "probabilistic",
        "beakers",
        "bimu",
        "mesu",
        "replay",
        "together",
        "real-small",
        "real",
    )
    methods: MethodSettings = MethodSettings(replay_images=500)
    m: Several[float] = (0.0,)
    values: PositiveInt = 5  # tried for each rule, at most five
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the training images that is held out


SCALES = {
    "small": changed(
        BaselineSettings(),
        data="digits",
        tasks=4,
        hidden=(128, 128),
        epochs=6,
        batch_size=50,
        values=3,
        evaluate="task",
    ),
    "medium": changed(
        BaselineSettings(), tasks=5, hidden=(256,), epochs=1, train_images=20000, seeds=3, evaluate="task"
    ),
    "paper": changed(BaselineSettings(), norm="batch", hidden=(4096, 4096), epochs=40, seeds=5, evaluate="task"),
}


def arms(settings: BaselineSettings) -> dict[str, BaselineSettings]:
    """One arm a rule; those of `_OF_STEPS` with the other units too; the real network without the rule too."""
    made = {rule: replace(settings, rules=(rule,)) for rule in settings.rules}
    if settings.activation == "sign":
        steps = {rule: replace(made[rule], norm="layer", activation="abs_step") for rule in _OF_STEPS if rule in made}
        made |= {f"{rule}, units of 0 and 1": arm for rule, arm in steps.items()}
    return made | ({REAL_PLAIN: replace(made["real"], values=1)} if "real" in made else {})


def measure(run: Run[BaselineSettings]) -> Measurement:
    """Choose with seed 0, then train and test."""
    settings, seed, folder = run.settings, run.seed, run.folder
    name, grid = TUNED.get(settings.rules[0], ("", ()))
    # An arm that tries one value is one that keeps what it was given.
    tried: dict[str, float] = {}
    if name and settings.values > 1:
        first = folder.parent / "seed0" / "result.json"
        if seed != 0 and first.exists():
            tried = dict(read_measurement(first).data["tried"])
        else:  # another process may be about to find the same
            tried = {str(value): _held_out(run, name, value) for value in _spread(grid, settings)}
    chosen = float(max(tried, key=lambda value: tried[value])) if tried else 0.0
    final = _with(settings, name, chosen) if tried else settings
    scenario = permuted_tasks(load(final, final.data, seed), final.tasks, seed)
    result = measured(train_arm(replace(run, settings=final), scenario)[1], **({name: chosen} if tried else {}))
    return replace(result, data={**result.data, "tried": tried})


def _spread(grid: Sequence[float], settings: BaselineSettings) -> list[float]:
    """As many of the values as the budget allows, the middle ones first."""
    middle = len(grid) // 2
    nearest = sorted(range(len(grid)), key=lambda i: abs(i - middle))[: settings.values]
    return [grid[i] for i in sorted(nearest)]


def _with(settings: BaselineSettings, name: str, value: float) -> BaselineSettings:
    return changed(settings, **{name: (value,) if name == "m" else value})


def _held_out(run: Run[BaselineSettings], name: str, value: float) -> float:
    """Mean accuracy (%) after the last task on training images that were held out."""
    candidate = _with(changed(run.settings, held_out=run.settings.share), name, value)
    scenario = permuted_tasks(load(candidate, candidate.data, 0), candidate.tasks, 0)
    folder = run.folder / "tuning" / f"{name} {value:g}"
    result = train_arm(Run(candidate, 0, folder, run.progress), scenario)[1]
    return measured(result).metrics["ACC"]


def figures(settings: BaselineSettings, results: Results) -> Mapping[str, Figure]:
    """Mean accuracy of every rule, and each task's."""
    return {
        "mean_accuracy": bars(results, "ACC", "mean accuracy after the last task (%)"),
        "final_accuracies": final_accuracies(results, [task_name(task) for task in range(settings.tasks)], chance=0.1),
    }


def claims(settings: BaselineSettings, results: Results) -> Sequence[Claim]:
    """The paper's ordering, each rule at its best; and whether beakers earn their place."""
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
            "beakers do better than plain training",
            results.apart("ACC", "plain", "beakers"),
            results.above("beakers", "plain", "ACC"),
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
