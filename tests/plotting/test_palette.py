"""Colours of figures as readers with and without colour vision see them, and what arms are told apart by.

Distances are Euclidean in CIELAB (CIE 1976; 2.3 is just noticeable side by side), dichromats by the matrices of
Machado, Oliveira and Fernandes, IEEE TVCG 15:1291 (2009), severity 1, applied to linear RGB.
"""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from lava_meta.experiments.common.experiment import Measurement, Results
from lava_meta.experiments.common.figures import bars, final_accuracies, task_curves
from lava_meta.experiments.common.rules import RULES
from lava_meta.plotting import figures, palette
from lava_meta.training.metrics import AccuracyMatrix

VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
APART = 15.0
BASELINES = ["plain", "random", "si", "ewc", "metaplastic", "probabilistic", "beakers", "replay", "together", "real"]
BASELINES.append("real, plain")


def lab(colour, vision) -> np.ndarray:
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISION[vision] @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    t = np.array(to_xyz) @ seen / [0.95047, 1.0, 1.08883]
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(colours, vision) -> float:
    return min(float(np.linalg.norm(lab(a, vision) - lab(b, vision))) for a, b in combinations(colours, 2))


def test_the_distance_knows_white_and_grey_and_what_dichromats_confuse():
    np.testing.assert_allclose(lab("white", "normal"), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab("red", "normal"), [53.24, 80.09, 67.20], atol=0.05)  # published values of sRGB red
    assert nearest(["#b06060", "#7f7f4f"], "deuteranopia") < nearest(["#b06060", "#7f7f4f"], "normal") / 2


@pytest.mark.parametrize("vision", VISION)
def test_the_palette_stays_apart_and_shows_on_white(vision):
    assert nearest(palette.PALETTE, vision) > APART
    assert min(np.linalg.norm(lab(colour, vision) - lab("white", vision)) for colour in palette.PALETTE) > 20


@pytest.mark.parametrize(
    "labels",
    [
        BASELINES,
        ["m = 0", "m = 4", "m = 8", "m = 12", "random", "ewc"],
        ["plain (m = 0)", "metaplastic (m = 20)"],
        ["metaplastic once", "plain once", "metaplastic five times", "plain five times"],
        ["m = 0", "m = 1.35", "m = 1.35, gains from U(0, 1)", "m = 1.35, moments kept"],
        ["m = 0", "plain", "m = 2"],  # one rule by two names
    ],
)
def test_two_arms_share_neither_colour_nor_mark(labels):
    styles = palette.arm_styles(labels)
    assert list(styles) == labels
    assert len({style["color"] for style in styles.values()}) == len(labels)
    assert len({style["marker"] for style in styles.values()}) == len(labels)
    for vision in VISION:
        assert nearest([style["color"] for style in styles.values()], vision) > APART, vision


def test_with_more_arms_than_colours_no_two_share_both():
    styles = palette.arm_styles([*BASELINES, *(f"arm {i}" for i in range(9))])
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == len(BASELINES) + 9


def test_a_rule_looks_the_same_in_all_figures():
    assert {*RULES} <= {*palette.arm_styles(RULES)}
    alone = {rule: palette.arm_styles([rule])[rule] for rule in BASELINES}
    assert palette.arm_styles(BASELINES) == alone
    assert palette.arm_styles(["ewc", "m = 0"])["m = 0"] == alone["plain"]
    assert palette.arm_styles(["ewc", "m = 3"])["m = 3"] == alone["metaplastic"]
    assert palette.arm_styles(["beakers, m = 4"])["beakers, m = 4"] == alone["beakers"]
    assert palette.arm_styles(["an arm of its own", "ewc"])["ewc"] == alone["ewc"]


def test_a_larger_m_is_a_darker_blue():
    styles = palette.arm_styles(["m = 12", "m = 4", "m = 8"])
    lightness = [lab(styles[label]["color"], "normal")[0] for label in ("m = 4", "m = 8", "m = 12")]
    assert lightness == sorted(lightness, reverse=True)


def test_tasks_go_from_dark_to_light_with_a_mark_each():
    styles = palette.task_styles(6)
    assert [lab(style["color"], "normal")[0] for style in styles] == sorted(
        lab(style["color"], "normal")[0] for style in styles
    )
    assert len({style["marker"] for style in styles}) == 6


def results(seeds: int, labels=("m = 0", "m = 4", "ewc")) -> Results:
    draw = np.random.default_rng(0)
    history = [[list(row) for row in draw.random((5, 2))] for _ in range(seeds)]
    runs = [Measurement({"ACC": 50.0 + i}, {"accuracies": history[i]}) for i in range(seeds)]
    return Results(dict.fromkeys(labels, runs))


class TestFigures:
    @pytest.mark.parametrize("seeds", [1, 2])
    def test_bars_of_error_need_two_seeds_and_say_what_they_are(self, seeds):
        final, bar = final_accuracies(results(seeds), ["task 1", "task 2"]), bars(results(seeds), "ACC", "ACC (%)")
        curves = task_curves(results(seeds), 2, ["task 1", "task 2"])
        drawn = [len(axis.collections) for axis in (final.axes[0], bar.axes[0])]
        note = f"± 1 standard deviation, {seeds} seeds"
        said = [final.axes[0].get_ylabel(), bar.axes[0].get_xlabel(), curves._supxlabel.get_text()]
        if seeds == 1:
            assert drawn == [0, 0]
            assert not any("deviation" in text for text in said)
        else:
            assert min(drawn) > 0
            assert all(note in text for text in said)

    def test_arms_of_a_drawn_figure_differ_in_colour_and_mark(self):
        arms = results(2, BASELINES)
        axis = final_accuracies(arms, ["task 1", "task 2"]).axes[0]
        looks = [(line.lines[0].get_color(), line.lines[0].get_marker()) for line in axis.containers]
        assert len({colour for colour, _ in looks}) == len({mark for _, mark in looks}) == len(BASELINES)

    def test_panels_that_are_compared_share_their_axes(self):
        weights = {name: {"layer 1": np.linspace(-1, 1, 99) * scale} for name, scale in (("m = 0", 1), ("m = 4", 3))}
        first, second = figures.hidden_weight_histograms(weights).axes
        assert first.get_ylim() == second.get_ylim()
        assert first.get_xlim() == second.get_xlim()

    def test_tasks_count_from_one_in_figures_and_tables(self, tmp_path):
        matrix = AccuracyMatrix(np.full((3, 2), 0.5), (0, 1), ("a", "b"))
        legend = figures.accuracy_over_time({"m = 0": [[0.1, 0.1]] * 5}, epochs=2).axes[-1].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["task 1", "task 2"]
        assert str(matrix).splitlines()[0].split("  ")[1].strip().startswith("task 1")
        matrix.to_csv(tmp_path / "m.csv")
        assert (tmp_path / "m.csv").read_text().splitlines()[0] == "part,task,task 1: a,task 2: b"

    def test_text_in_pdf_is_truetype(self, tmp_path):
        figure = Figure(figsize=(1, 1))
        figure.text(0.1, 0.5, "task")
        figures.save(figure, tmp_path / "f")
        content = (tmp_path / "f.pdf").read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
