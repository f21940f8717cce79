"""The accuracy matrix against examples worked by hand."""

import json
import math
import sys

import numpy as np
import pytest

from lava_meta.errors import FormatError, PackageMissingError
from lava_meta.training.metrics import AccuracyMatrix

NAN = math.nan

# Three tasks. By hand: ACC = (.5 + .7 + .9)/3 = .7; BWT = ((.5-.9) + (.7-.8))/2 = -.25;
# forgetting: task 0 max(.9, .6) - .5 = .4, task 1 max(.3, .8) - .7 = .1, mean .25; FWT = ((.3-.1) + (.2-.1))/2 = .15.
THREE = AccuracyMatrix(
    np.array([[0.1, 0.1, 0.1], [0.9, 0.3, 0.1], [0.6, 0.8, 0.2], [0.5, 0.7, 0.9]]), (0, 1, 2), ("a", "b", "c")
)


def test_three_tasks_by_hand():
    assert THREE.acc() == pytest.approx(0.7)
    assert THREE.bwt() == pytest.approx(-0.25)
    assert THREE.forgetting() == pytest.approx(0.25)
    assert THREE.fwt() == pytest.approx(0.15)
    assert THREE.summary() == {
        "acc": THREE.acc(),
        "bwt": THREE.bwt(),
        "fwt": THREE.fwt(),
        "forgetting": THREE.forgetting(),
    }


def test_part_way_counts_the_tasks_begun():
    assert THREE.acc(1) == pytest.approx(0.9)
    assert THREE.acc(2) == pytest.approx(0.7)
    assert THREE.bwt(2) == pytest.approx(-0.3)
    assert THREE.forgetting(2) == pytest.approx(0.3)
    assert THREE.fwt(2) == pytest.approx(0.2)


def test_forgetting_is_from_the_best_and_can_be_negative():
    # Task 0 improves after part 2 and falls after part 3: BWT is from its own part, forgetting from the best.
    matrix = AccuracyMatrix(np.array([[0, 0], [0.5, 0], [0.8, 0.5], [0.7, 0.6]]), (0, 1, 1), ("a", "b"))
    assert matrix.bwt() == pytest.approx(0.2)
    assert matrix.forgetting() == pytest.approx(0.1)
    assert matrix.forgetting(2) == pytest.approx(-0.3)


def test_a_task_that_comes_back_counts_from_its_last_training():
    matrix = AccuracyMatrix(np.array([[0.1, 0.1], [0.9, 0.2], [0.4, 0.8], [0.7, 0.5]]), (0, 1, 0), ("a", "b"))
    assert matrix.bwt() == pytest.approx(0.5 - 0.8)  # task 0 was trained last: only task 1 counts
    assert matrix.forgetting() == pytest.approx(0.8 - 0.5)
    assert matrix.fwt() == pytest.approx(0.2 - 0.1)


def test_a_stream_has_one_task_and_nothing_earlier():
    matrix = AccuracyMatrix(np.array([[0.1], [0.5], [0.6]]), (0, 0), ("all",))
    assert matrix.acc() == pytest.approx(0.6)
    assert math.isnan(matrix.bwt())
    assert math.isnan(matrix.fwt())
    assert math.isnan(matrix.forgetting())


def test_what_was_not_measured_is_not_averaged_away():
    values = THREE.values.copy()
    values[0] = NAN
    without_start = AccuracyMatrix(values, (0, 1, 2), ("a", "b", "c"))
    assert math.isnan(without_start.fwt())
    assert without_start.acc() == pytest.approx(0.7)
    values[3, 1] = NAN
    without_end = AccuracyMatrix(values, (0, 1, 2), ("a", "b", "c"))
    assert math.isnan(without_end.acc())
    assert math.isnan(without_end.bwt())
    assert math.isnan(without_end.forgetting())
    assert without_end.acc(2) == pytest.approx(0.7)


def test_forgetting_needs_only_the_rows_that_were_measured():
    values = THREE.values.copy()
    values[1, 1] = NAN  # task 1 was not tested before it was learned
    assert AccuracyMatrix(values, (0, 1, 2), ("a", "b", "c")).forgetting() == pytest.approx(0.25)


@pytest.mark.parametrize("after", [0, 4, -1])
def test_after_must_be_a_part(after):
    with pytest.raises(ValueError, match=r"1\.\.3"):
        THREE.acc(after)


@pytest.mark.parametrize(
    ("values", "task_of", "says"),
    [
        (np.zeros((3, 2)), (0,), "shape"),
        (np.zeros((2, 1)), (0,), "shape"),
        (np.zeros((2, 2)), (2,), "task_of"),
        (np.full((2, 2), 97.0), (0,), "fractions"),
        (np.full((2, 2), -0.1), (0,), "fractions"),
    ],
)
def test_refuses_what_does_not_fit(values, task_of, says):
    with pytest.raises(ValueError, match=says):
        AccuracyMatrix(values, task_of, ("a", "b"))


def test_values_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        THREE.values[0, 0] = 1


def test_json_round_trip_is_exact(tmp_path):
    values = np.random.default_rng(0).random((4, 3))
    values[0, 2] = NAN
    matrix = AccuracyMatrix(values, (0, 1, 2), ("a", "b", "c"))
    matrix.to_json(tmp_path / "m.json")
    again = AccuracyMatrix.from_json(tmp_path / "m.json")
    assert np.array_equal(again.values, values, equal_nan=True)
    assert (again.task_of, again.names) == (matrix.task_of, matrix.names)
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["values"][0][2] is None
    assert content["summary"]["fwt"] is None


@pytest.mark.parametrize("text", ["", '{"names": ["a"]', "[]", "{}", '{"names": [], "task_of": [], "values": "x"}'])
def test_a_broken_file_is_refused(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(FormatError, match=r"m\.json"):
        AccuracyMatrix.from_json(tmp_path / "m.json")


def test_csv_has_a_row_a_part(tmp_path):
    values = THREE.values.copy()
    values[0, 1] = NAN
    AccuracyMatrix(values, (0, 1, 2), ("a", "b, turned", "c")).to_csv(tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        'part,task,task 1: a,"task 2: b, turned",task 3: c',
        "0,,0.1,,0.1",
        "1,1,0.9,0.3,0.1",
        "2,2,0.6,0.8,0.2",
        "3,3,0.5,0.7,0.9",
    ]


def test_shown_in_percent():
    assert str(THREE).splitlines()[0] == "after  task 1 task 2 task 3    ACC"
    assert str(THREE).splitlines()[-1].split() == ["3", "50.0", "70.0", "90.0", "70.0"]


def test_it_is_indexed_and_read_as_an_array():
    assert THREE[2, 1] == 0.8
    assert THREE[1:, 0].tolist() == [0.9, 0.6, 0.5]
    assert len(THREE) == 4
    assert np.asarray(THREE).tolist() == THREE.values.tolist()
    assert np.asarray(THREE, dtype=np.float32).dtype == np.float32
    assert np.mean(THREE) == THREE.values.mean()
    copy = np.array(THREE)
    copy[0, 0] = 1
    assert THREE[0, 0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(THREE)[0, 0] = 1


def test_average_accuracy_and_forgetting_are_those_of_the_field():
    """Chaudhry et al. 2018, equations 2 and 3, as the paper writes them: k tasks learned, a[k][j] on task j."""
    rng = np.random.default_rng(0)
    for tasks in (2, 5, 8):
        matrix = AccuracyMatrix(rng.random((tasks + 1, tasks)), tuple(range(tasks)), tuple(map(str, range(tasks))))
        a = {(row, j): float(matrix[row, j - 1]) for row in range(1, tasks + 1) for j in range(1, tasks + 1)}
        for k in range(1, tasks + 1):
            assert matrix.acc(k) == pytest.approx(sum(a[k, j] for j in range(1, k + 1)) / k)
            if k > 1:
                f = [max(a[row, j] for row in range(1, k)) - a[k, j] for j in range(1, k)]
                assert matrix.forgetting(k) == pytest.approx(sum(f) / (k - 1))


def test_as_a_data_frame():
    pytest.importorskip("pandas")
    frame = THREE.to_pandas()
    assert frame.index.tolist() == [0, 1, 2, 3]
    assert frame.index.name == "after"
    assert frame.columns.tolist() == ["task 1: a", "task 2: b", "task 3: c"]
    assert frame.loc[2, "task 2: b"] == 0.8
    assert frame.to_numpy().tolist() == THREE.values.tolist()


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageMissingError, match=r"lava-meta\[pandas\]"):
        THREE.to_pandas()
