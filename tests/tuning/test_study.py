"""The folder of a search: stopped and gone on with, refused, and its budget."""

import json
from pathlib import Path

import pytest

from lava_meta.errors import FormatError, RunFolderError
from lava_meta.io.config import read_config
from lava_meta.io.locks import HeldError, held
from lava_meta.tuning.study import LOCK, STUDY, open_study
from lava_meta.tuning.suggest import Searched
from lava_meta.tuning.trial import Budget, Trial, best_of, table

pytest.importorskip("optuna")


def go(out, trials, *, fail_at=None, tried=None, at_once=1, **options):
    """A search on a curve with its peak at m = 12."""

    def run(wanted):
        found = []
        for folder, given in wanted:
            values = given or {"m": 10.0, "lr": 0.01}
            if tried is not None:
                if len(tried) == fail_at:
                    folder.mkdir(parents=True)
                    raise KeyboardInterrupt
                tried.append(folder)
            found.append(Trial(values, 90 - abs(values["m"] - 12), (80.0, 90.0), 2.0))
        return found

    with open_study(out, Searched(), {"of": options.pop("of", "curve")}, **options) as study:
        return study.go_on(run, lambda trial: {"m": trial.values["m"]}, Budget(trials), lambda line: None, at_once)


def test_stopped_and_gone_on_with_is_as_if_it_had_not_been(tmp_path):
    whole = go(tmp_path / "whole", 5)
    tried: list[Path] = []
    with pytest.raises(
        KeyboardInterrupt, match=r"3 of 5 trials are kept in .*/stopped, and the best of them in config"
    ):
        go(tmp_path / "stopped", 5, tried=tried, fail_at=3)
    best = best_of(whole[:3])
    assert read_config(tmp_path / "stopped" / "config.yaml") == {"m": best.values["m"]}
    under_way = list((tmp_path / "stopped" / "trials").iterdir())
    assert go(tmp_path / "stopped", 5, tried=tried, resume=True) == whole
    assert tried[3] in under_way  # it goes on from the checkpoint that lies there
    assert not (tmp_path / "stopped" / "trials").exists()
    assert (tmp_path / "stopped" / STUDY).read_bytes() == (tmp_path / "whole" / STUDY).read_bytes()


def test_more_trials_may_follow_at_once_too(tmp_path):
    first = go(tmp_path, 2)
    more = go(tmp_path, 5, resume=True, at_once=3)
    assert more[:2] == first
    assert len(more) == 5
    assert go(tmp_path, 5, resume=True) == more


def test_what_it_leaves(tmp_path):
    trials = go(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != LOCK) == [
        "config.yaml", "figures", STUDY, "table.md"
    ]  # fmt: skip
    assert (tmp_path / "table.md").read_text() == table(trials) + "\n"
    assert (tmp_path / "figures" / "accuracy_over_m.png").stat().st_size > 5000
    rows = [row.split(" | ") for row in table(trials).splitlines()]
    assert rows[0] == ["| trial", "m", "lr", "accuracy", "task 1", "task 2", "seconds |"]
    assert rows[2] == ["| 1", "10", "0.01", "88.0", "80.0", "90.0", "2 |"]  # of 10, 20 and 5


def test_another_search_is_refused_by_its_difference(tmp_path):
    go(tmp_path, 1)
    with pytest.raises(RunFolderError, match="of is 'curve' there, 'line' here"):
        go(tmp_path, 1, of="line", resume=True)
    with pytest.raises(RunFolderError, match="resume it, overwrite it"):
        go(tmp_path, 1)
    assert len(go(tmp_path, 2, of="line", overwrite=True)) == 2


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(RunFolderError, match=r"holds thesis\.tex, which is no search of ours"):
        go(tmp_path, 1, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_altered_study_is_refused(tmp_path):
    go(tmp_path, 2)
    content = json.loads((tmp_path / STUDY).read_text())
    content["trials"][0]["accuracy"] = 99.9
    (tmp_path / STUDY).write_text(json.dumps(content))
    with pytest.raises(FormatError, match="was altered"):
        go(tmp_path, 3, resume=True)


def test_one_process_at_a_time(tmp_path):
    go(tmp_path, 1)
    with held(tmp_path / LOCK), pytest.raises(HeldError, match="in use by"):
        go(tmp_path, 2, resume=True)


class TestBudget:
    def test_no_trial_begins_that_would_end_too_late(self):
        of = [Trial({}, 0.0, (), seconds) for seconds in (2.0, 5.0, 3.0)]
        assert Budget(12).left(of) == 9
        assert Budget(12, 15.0).left(of) == 9  # 10 s spent, 5 s left
        assert Budget(12, 14.9).left(of) == 0
        assert Budget(2).left(of) == 0
        assert Budget(12, 0.1).left([]) == 12  # one is made at least

    @pytest.mark.parametrize(
        ("values", "says"),
        [((0,), "trials is 0"), ((True,), "trials is True"), ((1, 0.0), r"seconds is 0\.0")],
    )
    def test_its_range(self, values, says):
        with pytest.raises(ValueError, match=says):
            Budget(*values)
