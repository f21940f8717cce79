"""The quadratic binary task: why a large hidden weight means an important sign.

Minimise L(w) = 1/2 (w - w*)^T H (w - w*) over binary weights w = sign(h), by plain gradient steps h <- h - lr * g with
g = H (w - w*). A component of the optimum inside (-1, 1) makes its hidden weight oscillate about 0; one outside lets it
grow for ever, at a rate that says what its sign is worth. Switching the sign of w_i costs exactly

    L(w with w_i switched) - L(w) = 2 H_ii - 2 w_i g_i

and |h_i| grows by -lr * w_i g_i a step. So over any stretch of n steps in which w_i stays,

    mean cost of switching = 2 H_ii + 2 (growth of |h_i|) / (lr n)                  the theory line
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import matplotlib as mpl
import numpy as np
import torch
from pydantic import Field, NonNegativeFloat

from lava_meta.experiments.common.claims import Claim, between, both, judge
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.settings import Settings, changed
from lava_meta.io.config import Several
from lava_meta.optim import MetaplasticSGD
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import BLUE, VERMILION, arm_styles
from lava_meta.rule import sign

_TWO = "2 dimensions"


@dataclass(frozen=True)
class QuadraticSettings(Settings):
    """The problem: H has eigenvalues uniform in `eigenvalue` +- `half_range` in random directions."""

    dimensions: Several[Annotated[int, Field(ge=2)]] = (2, 500)
    steps: Annotated[int, Field(ge=10)] = 1000
    lr_two: NonNegativeFloat = 0.35  # in two dimensions, where H = ((1, coupling), (coupling, 1)) and w* = (1.5, 0.5)
    coupling: float = 0.3
    lr: NonNegativeFloat = 0.01  # in more
    eigenvalue: NonNegativeFloat = 20.0
    half_range: NonNegativeFloat = 9.5
    optimum: float = 1.5  # in more than two dimensions, w* is uniform in (-optimum, optimum)
    bins: Annotated[int, Field(ge=2)] = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not abs(self.coupling) < 1:
            raise ValueError(f"coupling is {self.coupling}; H is positive only where it lies between -1 and 1")
        if not self.half_range < self.eigenvalue:
            raise ValueError(f"half_range is {self.half_range}; it must be below eigenvalue = {self.eigenvalue}")


def problem(settings: QuadraticSettings, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """H (d, d), symmetric and positive, and the optimum w* (d,)."""
    if dimension == 2:
        return np.array([[1.0, settings.coupling], [settings.coupling, 1.0]]), np.array([1.5, 0.5])
    draw = np.random.default_rng([seed, dimension])
    directions, _ = np.linalg.qr(draw.standard_normal((dimension, dimension)))
    values = draw.uniform(
        settings.eigenvalue - settings.half_range, settings.eigenvalue + settings.half_range, dimension
    )
    hessian = (directions * values) @ directions.T
    return (hessian + hessian.T) / 2, draw.uniform(-settings.optimum, settings.optimum, dimension)


def descend(
    hessian: np.ndarray, optimum: np.ndarray, lr: float, steps: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hidden weights (steps + 1, d), the start included, and the cost of switching each sign (steps, d)."""
    start = np.random.default_rng([seed, 1]).uniform(-0.05, 0.05, (1, len(optimum)))
    hidden = torch.nn.Parameter(torch.tensor(start))
    optimizer = MetaplasticSGD([hidden], lr=lr)
    path, costs = [start[0]], []
    for _ in range(steps):
        w = sign(hidden.detach().numpy()[0])
        g = hessian @ (w - optimum)
        costs.append(2 * np.diag(hessian) - 2 * w * g)
        hidden.grad = torch.from_numpy(g[None])
        optimizer.step()
        path.append(hidden.detach().numpy()[0].copy())
    return np.array(path), np.array(costs)


def arms(settings: QuadraticSettings) -> Mapping[str, QuadraticSettings]:
    """One arm a dimension."""
    return {f"{d} dimensions": changed(settings, dimensions=(d,)) for d in settings.dimensions}


def measure(run: Run[QuadraticSettings]) -> Measurement:
    """Descend, and compare with theory."""
    settings, seed = run.settings, run.seed
    dimension = settings.dimensions[0]
    hessian, optimum = problem(settings, dimension, seed)
    lr = settings.lr_two if dimension == 2 else settings.lr
    path, costs = descend(hessian, optimum, lr, settings.steps, seed)
    if dimension == 2:
        growth = (path[-1, 0] - path[0, 0]) / settings.steps
        # The second weight settles where its mean gradient is 0; what that leaves for the first is a Schur complement.
        theory = lr * 0.5 * (hessian[0, 0] - hessian[0, 1] ** 2 / hessian[1, 1])
        metrics = {"growth / theory": growth / theory, "largest |h2|": float(np.abs(path[:, 1]).max())}
        return Measurement(metrics, {"path": path[:: max(1, settings.steps // 200)].tolist(), "growth": theory})
    half = settings.steps // 2
    held = (np.sign(path[half:]) == np.sign(path[-1])).all(axis=0)
    cost = costs[half:].mean(axis=0)
    rate = (np.abs(path[-1]) - np.abs(path[half])) / (lr * (settings.steps - half))
    theory = 2 * np.diag(hessian) + 2 * rate
    size, last = np.abs(path[-1]), costs[-1]
    groups = np.array_split(np.argsort(size), settings.bins)
    metrics = {
        "signs that stay (%)": 100 * float(held.mean()),
        "cost / theory": float((cost[held] / theory[held]).mean()),
        "correlation of cost and |h|": float(np.corrcoef(size[held], last[held])[0, 1]),
        "cost, largest / smallest |h|": float(last[groups[-1]].mean() / last[groups[0]].mean()),
    }
    data = {
        "bins": [[float(size[g].mean()), float(last[g].mean()), float(last[g].std())] for g in groups],
        "line": [float(2 * np.diag(hessian).mean()), 2 / (lr * settings.steps)],  # cost at |h| = 0, and a unit of |h|
    }
    return Measurement(metrics, data)


def figures(settings: QuadraticSettings, results: Results) -> Mapping[str, Figure]:
    """Trajectories in two dimensions; the cost of a switch against |h| in many, with the theory line."""
    return {f"quadratic_{label.split()[0]}d": _draw(settings, label, results) for label in results.arms}


def _draw(settings: QuadraticSettings, label: str, results: Results) -> Figure:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.6), layout="constrained")
        axis = figure.subplots()
        if label == _TWO:
            run = results.arms[label][0]
            path = np.array(run.data["path"])
            at = np.arange(len(path)) * max(1, settings.steps // 200)
            axis.plot(at, path[:, 0], color=BLUE, label="$h_1$, optimum at 1.5")
            axis.plot(at, path[:, 1], color=VERMILION, linestyle="-.", label="$h_2$, optimum at 0.5")
            axis.plot(at, path[0, 0] + run.data["growth"] * at, "k:", label="theory")
            axis.set(xlabel="step", ylabel="hidden weight")
        else:
            bins = np.array([run.data["bins"] for run in results.arms[label]])
            styles = arm_styles(f"seed {seed}" for seed in range(len(bins)))
            for run, (seed, look) in zip(bins, styles.items(), strict=True):
                axis.errorbar(run[:, 0], run[:, 1], yerr=run[:, 2], ls="none", ms=3, capsize=1.5, label=seed, **look)
            cost, slope = results.arms[label][0].data["line"]
            ends = np.array([0, bins[..., 0].max()])
            axis.plot(ends, cost + slope * ends, "k:", label="theory")
            axis.set(xlabel="|hidden weight|, mean of a bin", title=label)
            axis.set_ylabel("cost of switching the sign\nbar: ± 1 standard deviation in a bin")
        axis.legend()
    return figure


def claims(settings: QuadraticSettings, results: Results) -> Sequence[Claim]:
    """What the paper derives and shows."""
    found = []
    if _TWO in results.arms:
        said = f"growth of h1 / theory {results.text(_TWO, 'growth / theory', 3)}; |h2| stays below "
        said += f"{results.values(_TWO, 'largest |h2|').max():.2f}"
        growth = between(results.values(_TWO, "growth / theory"), 0.95, 1.05)
        text = "the weight whose optimum lies beyond 1 grows without end, the other oscillates"
        found.append(Claim(text, said, growth))
    for label in (label for label in results.arms if label != _TWO):
        ratio, spread = results.values(label, "cost / theory"), results.values(label, "cost, largest / smallest |h|")
        correlation = results.text(label, "correlation of cost and |h|", 2)
        found.append(
            Claim(
                f"{label}: the hidden weight's growth says what its sign is worth",
                f"cost / theory {results.text(label, 'cost / theory', 3)} for the signs that stay; cost in the top bin "
                f"/ bottom bin {spread.mean():.1f}; correlation {correlation}",
                both(between(ratio, 0.99, 1.01), judge(spread, 1.0)),
            )
        )
    return found


EXPERIMENT = Experiment(
    name="quadratic_binary_task",
    title="The quadratic binary task: what a hidden weight's growth means",
    source="Laborieux et al. 2021, the theory of hidden weights. The optimum's range in 500 dimensions and the "
    "coupling in two are ours.",
    scales={"small": QuadraticSettings(), "medium": QuadraticSettings(), "paper": QuadraticSettings(seeds=5)},
    arms=arms,
    measure=measure,
    figures=figures,
    claims=claims,
    headline=("growth / theory", "cost / theory"),
    digits=3,
)
