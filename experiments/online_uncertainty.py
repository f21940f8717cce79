"""Does a network that learned on-line know what it does not know?

A hidden weight says how sure its sign is; networks whose signs are drawn accordingly disagree where they do not know
(`lava_meta.online_learning.uncertainty`). One task, one pass, three questions:

    all labels   does it tell test images from those of another data set, and are its probabilities right?
    unsure       it asks for a label only where it is least sure: accuracy over the share of labels asked for
    random       the same share of labels, of images drawn at random
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from pydantic import PositiveInt

from lava_meta.data import Images
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import band, spread_note
from lava_meta.experiments.common.online import OnlineSettings, arms_of, dataset_of
from lava_meta.experiments.common.settings import changed
from lava_meta.io.config import Several
from lava_meta.online_learning import Learner, Prediction
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles

BINS = np.linspace(0, 1, 11)  # of confidence
ROWS: dict[str, dict[str, object]] = {"all labels": {}, "unsure": {"asks": "unsure"}, "random": {"asks": "random"}}


@dataclass(frozen=True)
class UncertaintySettings(OnlineSettings):
    """What is not known, and how labels are asked for."""

    other: str = "fashion-mnist"  # the data set of other images; of digits, digits with their pixels shuffled
    samples: PositiveInt = 10
    width: float = 0.035
    asks: str = "all"  # labels: "all", or of each block those that are "unsure" or "random"
    shares: Several[float] = (0.05, 0.1, 0.2, 0.4)
    block: PositiveInt = 200


def auc(known: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Area under the ROC curve of telling `other` by larger values: P(other > known) + P(equal) / 2."""
    ordered = np.sort(known)
    below = np.searchsorted(ordered, other, side="left") + np.searchsorted(ordered, other, side="right")
    return float(below.mean() / (2 * len(known)))


def calibration(prediction: Prediction, labels: NDArray[np.int64]) -> tuple[float, list[list[float]]]:
    """Expected calibration error over ten bins of confidence; per bin, its mean confidence, accuracy and share."""
    confidence = prediction.probabilities.max(axis=1)
    right = prediction.classes == labels
    bins = np.digitize(confidence, BINS[1:-1])
    rows = [
        [float(confidence[bins == b].mean()), float(right[bins == b].mean()), float((bins == b).mean())]
        for b in range(len(BINS) - 1)
        if (bins == b).any()
    ]
    return sum(share * abs(mean - accuracy) for mean, accuracy, share in rows), rows


def measure(run: Run[UncertaintySettings]) -> Measurement:
    """Learn once, with all labels or with those that it asks for."""
    settings = run.settings
    dataset = dataset_of(settings, settings.data)
    order = np.random.default_rng([run.seed, 3]).permutation(len(dataset.train))[: settings.images]
    train = dataset.train.take(order)
    if settings.asks == "all":
        learner = _learned(settings, run.seed, train, 1.0)
        learner.save(run.folder / "learner.safetensors")
        return _knows(settings, learner, dataset.test, _other(settings, dataset.test, run.seed))
    accuracies = [100 * _learned(settings, run.seed, train, share).accuracy(dataset.test) for share in settings.shares]
    names = [f"ACC, {share:.0%} of labels" for share in settings.shares]
    return Measurement(dict(zip(names, accuracies, strict=True)), {"accuracies": accuracies})


def _learned(settings: UncertaintySettings, seed: int, train: Images, share: float) -> Learner:
    sizes = [train.features, *settings.hidden, train.classes]
    learner = Learner(sizes, max_level=train.max_level, **settings.learner_settings(seed))
    generator = np.random.default_rng([seed, 4])
    with learner:
        for start in range(0, len(train), settings.block):
            x, y = train.x[start : start + settings.block], train.y[start : start + settings.block]
            count = max(1, round(share * len(x)))
            if settings.asks == "unsure":
                said = learner.predict(x, uncertainty=True, samples=settings.samples, width=settings.width)
                chosen = np.sort(np.argsort(-said.entropy, kind="stable")[:count])
            else:
                chosen = np.sort(generator.permutation(len(x))[:count])
            learner.partial_fit(x[chosen], y[chosen])
    return learner


def _other(settings: UncertaintySettings, test: Images, seed: int) -> Images:
    if settings.data == "digits":
        return test.permuted(np.random.default_rng([seed, 5]).permutation(test.features))
    return dataset_of(settings, settings.other).test


def _knows(settings: UncertaintySettings, learner: Learner, test: Images, other: Images) -> Measurement:
    """What drawn networks, and the network alone, say of images that it should know and of others."""
    ways = {"drawn": (settings.samples, settings.width), "one network": (1, 0.0)}
    metrics: dict[str, float] = {}
    data = {}
    for name, (samples, width) in ways.items():
        known, unknown = (
            learner.predict(images.x, uncertainty=True, samples=samples, width=width) for images in (test, other)
        )
        error, rows = calibration(known, test.y.numpy())
        metrics |= {
            f"ACC, {name}": 100 * float((known.classes == test.y.numpy()).mean()),
            f"AUC entropy, {name}": 100 * auc(known.entropy, unknown.entropy),
            f"calibration error, {name}": 100 * error,
        }
        if samples > 1:
            metrics["AUC disagreement"] = 100 * auc(known.disagreement, unknown.disagreement)
        data[name] = {
            "reliability": rows,
            "known": np.histogram(known.entropy, 30, (0, np.log(test.classes)))[0].tolist(),
            "unknown": np.histogram(unknown.entropy, 30, (0, np.log(test.classes)))[0].tolist(),
        }
    return Measurement(metrics, {"ways": data})


def figures(settings: UncertaintySettings, results: Results) -> Mapping[str, Figure]:
    """Entropy of known and other images, reliability, and accuracy over the share of labels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.3), layout="constrained")
        entropy, reliability, labels = figure.subplots(1, 3)
        if "all labels" in results.arms:
            _draw_knowledge(entropy, reliability, results.arms["all labels"][0].data["ways"])
        styles = arm_styles(results.arms)
        for label in ("unsure", "random"):
            if label in results.arms:
                values = np.array([run.data["accuracies"] for run in results.arms[label]])
                band(labels, 100 * np.array(settings.shares), values, label=label, markersize=3, **styles[label])
        note = spread_note(results, "band", line=True)
        labels.set(xlabel="labels asked for (%)", ylabel=f"test accuracy (%){note}", title="asking")
        labels.legend()
    return {"uncertainty": figure}


def _draw_knowledge(entropy: Axes, reliability: Axes, ways: Mapping[str, Mapping[str, list[float]]]) -> None:
    drawn = ways["drawn"]
    edges = np.linspace(0, 1, len(drawn["known"]) + 1)
    for name, label in (("known", "test images"), ("unknown", "other images")):
        counts = np.array(drawn[name], dtype=float)
        entropy.stairs(100 * counts / counts.sum(), edges, label=label)
    entropy.set(xlabel="entropy, share of the largest", ylabel="images (%)", title="drawn networks")
    entropy.legend()
    for name, way in ways.items():
        mean, accuracy, _ = np.array(way["reliability"]).T
        reliability.plot(100 * mean, 100 * accuracy, marker="o", markersize=3, label=name)
    reliability.plot([0, 100], [0, 100], color="0.6", linewidth=0.7, linestyle=":")
    reliability.set(xlabel="confidence (%)", ylabel="right (%)", title="calibration")
    reliability.legend()


def claims(settings: UncertaintySettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    name = f"ACC, {min(settings.shares):.0%} of labels"
    return [
        Claim(
            "labels asked for where it is unsure teach more than as many at random",
            results.apart(name, "random", "unsure"),
            results.above("unsure", "random", name),
        )
    ]


_SETTINGS = changed(
    UncertaintySettings(), rules=tuple(ROWS), activation="spikes", temperature=10.0, class_rate=0.02, backend="kernels"
)
EXPERIMENT = Experiment(
    name="online_uncertainty",
    title="What a network that learned {data} on-line knows of its own ignorance",
    source="Ours: docs/results/online.md. Out-of-distribution images as in Cottart et al. 2026 (BiMU).",
    scales={
        "small": changed(_SETTINGS, data="digits", images=1000, lr=0.05, samples=5, shares=(0.1, 0.3)),
        "medium": _SETTINGS,
        "paper": _SETTINGS,
    },
    arms=arms_of(ROWS),
    measure=measure,
    figures=figures,
    claims=claims,
    headline=("ACC, drawn", "AUC disagreement"),
)
