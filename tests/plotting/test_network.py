"""The picture and the words of a network say what it holds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.description import kind, short, spread
from lava_meta.graph.norm import GroupNorm
from lava_meta.plotting.network import picture, save

HUGE = 2**62  # a constant unit's


def network() -> BinaryGraph:
    """A layer of each kind, thresholds of every spread."""
    rng = np.random.default_rng(6)
    one = ConvLayer.from_weights(
        rng.random((4, 1, 3, 3)) < 0.5,
        (2, 9, 9),
        np.array([-HUGE, 3, 5, HUGE]),
        groups=2,
        stride=(2, 2),
        padding=(1, 2),
        sum_window=Window((2, 2)),
        pools=(Pool((2, 2)),),
    )
    two = DenseLayer.from_weights(rng.random((6, one.n_out)) < 0.5, np.full(6, 7), centred=True)
    norm = GroupNorm(1, np.ones(5), np.ones(5), Fraction(1, 100), Fraction(0), np.zeros(0, np.int64))
    three = DenseLayer.from_weights(rng.random((5, 6)) < 0.5, np.zeros(5), norm=norm)
    return BinaryGraph((one, two, three), Readout.from_weights(rng.random((3, 5)) < 0.5), 15, (2, 9, 9))


def test_a_layer_in_words() -> None:
    one, two, three = network().layers
    assert kind(one) == "conv 3x3, stride 2, padding 1x2, 2 groups, sums 2x2, pool 2x2"
    assert spread(one) == f"{-HUGE} .. 3 .. {HUGE}"
    assert (kind(two), spread(two)) == ("dense, centred", "7")
    assert (kind(three), spread(three)) == ("dense, norm of each image", "")
    assert (kind(network().readout), spread(network().readout)) == ("readout", "")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (15_234, "15.2 kB"), (2.5e6, "2.5 MB"), (3e12, "3e+03 GB")],
)
def test_numbers_are_told_in_three_digits(count: float, text: str) -> None:
    assert short(count, "B") == text


def test_the_picture_names_every_layer_its_size_and_its_memory(tmp_path: Path) -> None:
    graph = network()
    figure = picture(graph)
    words = "\n".join(text.get_text() for axis in figure.axes for text in axis.texts)
    for name, row in zip(("hidden1", "hidden2", "hidden3", "readout"), graph.summary(), strict=True):
        assert name in words
        assert f"{row['synapses']:,} synapses\n{short(row['bits'] / 8, 'B')}" in words
    for text in ("unsigned integers\n0 to 15", "2 × 9 × 9", "conv 3x3\nstride 2", "all thresholds 7"):
        assert text in words
    total = sum(row["synapses"] for row in graph.summary())
    assert f"{total:,} binary synapses" in figure.texts[0].get_text()
    # The thresholds of the first layer that no constant unit has.
    shown = figure.axes[1]
    low, high = shown.get_xlim()
    assert low < 3
    assert 5 < high < 20
    for ending in ("png", "pdf", "svg"):
        save(figure, tmp_path / f"a.{ending}")
        save(picture(graph), tmp_path / f"b.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


@pytest.mark.parametrize("sizes", [(1, 1), (5, 1, 1, 1), (784, *[64] * 9, 10)])
def test_networks_of_any_depth_and_width_are_drawn(sizes: tuple[int, ...]) -> None:
    *hidden, classes = sizes[1:]
    layers, n_in = [], sizes[0]
    for units in hidden:
        layers.append(DenseLayer.from_weights(np.ones((units, n_in)), np.arange(units)))
        n_in = units
    figure = picture(BinaryGraph(tuple(layers), Readout.from_weights(np.ones((classes, n_in))), 255, (sizes[0],)))
    assert figure.get_size_inches()[0] >= 1.5 * len(sizes)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a picture is a \.png, \.pdf or \.svg file; got 'net\.txt'"):
        save(picture(network()), "net.txt")
