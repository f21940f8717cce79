"""What notebooks show: tables that a browser can read, with the numbers of the objects they stand for."""

from __future__ import annotations

import numpy as np
import torch
from html_cells import Cells

import lava_meta
from lava_meta import html
from lava_meta.training.metrics import AccuracyMatrix


def test_text_is_escaped_and_numbers_are_short() -> None:
    shown = Cells(html.table(["<a & b>"], [[1234567], [0.123456], [True], ["<script>"]]))
    assert shown.rows == [["<a & b>"], ["1,234,567"], ["0.123"], ["True"], ["<script>"]]


def test_a_matrix_is_a_table_of_percent() -> None:
    matrix = AccuracyMatrix(np.array([[0.1, np.nan], [0.9, 0.2], [0.8, 0.95]]), (0, 1), ("a", "b"))
    assert Cells(matrix._repr_html_()).rows == [
        ["after", "task 1", "task 2", "ACC"],
        ["0", "10.0", "-"],
        ["1", "90.0", "20.0", "90.0"],
        ["2", "80.0", "95.0", "87.5"],
    ]
    assert repr(matrix) == "AccuracyMatrix(2 experiences, 2 tests, ACC 87.5 %)"


def test_networks_and_reports_are_tables_and_one_line_in_a_terminal() -> None:
    model = lava_meta.BinaryMLP([64, 32, 10], max_level=16, seed=0).eval()
    net = lava_meta.convert(model)
    rows = Cells(net._repr_html_()).rows
    assert [row[0] for row in rows] == ["layer", "hidden1", "readout"]
    assert rows[1][1:4] == ["64", "32", "2,048"]
    report = net.report("loihi2", torch.zeros(3, 64, dtype=torch.uint8))
    rows = Cells(report._repr_html_()).rows
    assert [row[0] for row in rows[: len(report.layers) + 2]] == [
        "layer",
        *(layer.layer for layer in report.layers),
        "total",
    ]
    for shown in (net, net.graph, *net.graph.layers, net.graph.readout, report):
        assert len(repr(shown)) < 120
