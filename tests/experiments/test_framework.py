"""The framework of the experiments: settings from text, the folder of results, resuming, reports, comparing."""

import base64
import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import pytest
from html_cells import Cells
from matplotlib.figure import Figure
from pydantic import Field, PositiveInt

from lava_meta.errors import DivergenceError, FormatError, RunFolderError
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.compare import compare_folders
from lava_meta.experiments.common.experiment import Experiment, Measurement, find, names
from lava_meta.experiments.common.jobs import Job, jobs_of
from lava_meta.experiments.common.rules import RULES
from lava_meta.experiments.common.runner import load_results, run_experiment
from lava_meta.experiments.common.settings import Settings
from lava_meta.experiments.common.training import TrainingSettings
from lava_meta.io.config import OrNone, Several, override
from lava_meta.training.metrics import AccuracyMatrix

TINY = ["epochs=1", "hidden=8", "train_images=60", "test_images=60"]


@dataclass(frozen=True)
class Dice(Settings):
    m: Several[Annotated[float, Field(ge=0)]] = (0.0, 1.0)
    sides: Annotated[int, Field(ge=2)] = 6
    bias: float = 0.5
    loaded: bool = False
    limit: OrNone[PositiveInt] = None
    colour: Literal["red", "blue"] = "red"


def toy(calls, fail_at=None):
    def measure(run):
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append((run.settings.m[0], run.seed))
        return Measurement({"score": 10 * run.settings.m[0] + run.seed}, {"rolls": [run.seed]})

    def arms(settings):
        return {f"m = {m:g}": override(settings, [f"m={m}"]) for m in settings.m}

    return Experiment(
        name="toy",
        title="A toy",
        source="Nobody 1900.",
        scales={"small": Dice()},
        arms=arms,
        measure=measure,
        figures=lambda settings, results: {"empty": Figure(figsize=(1, 1))},
        claims=lambda settings, results: [
            Claim("more m, more score", results.text("m = 1", "score"), results.above("m = 1", "m = 0", "score"))
        ],
        headline=("score",),
    )


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("rules=hope", "no rule 'hope'; there are plain"),
            ("lr=-1", "lr must"),
            ("m=-1", "m must"),
            ("epochs=0", "epochs is '0'; it must be greater than or equal to 1"),
            ("hidden=8,0", r"hidden\[1\] is '0'; it must be greater than 0"),
            ("held_out=1", "held_out is '1'; it must be less than 1"),
            ("norm=group", "norm is 'group'; it must be 'fixed', 'batch' or 'layer'"),
            ("training.m=2", r"training has \{'m': 2.0.*: give m, rules and seeds instead"),
        ],
    )
    def test_settings_of_trainings(self, text, says):
        with pytest.raises(ValueError, match=says):
            override(TrainingSettings(), [text])

    def test_a_name_alone_is_that_of_the_training_unless_the_experiment_has_it_too(self):
        got = override(TrainingSettings(), ["lr=0.01", "ewc_strength=7", "m=2,4"])
        assert (got.training.lr, got.methods.ewc_strength, got.m) == (0.01, 7.0, (2.0, 4.0))
        assert got == override(TrainingSettings(), ["training.lr=0.01", "methods.ewc-strength=7", "m=2,4"])


class TestFolder:
    def test_what_it_leaves(self, tmp_path):
        calls = []
        results = run_experiment(toy(calls), Dice(seeds=2), tmp_path / "out", scale="small")
        assert calls == [(0.0, 0), (1.0, 0), (0.0, 1), (1.0, 1)]
        assert results.text("m = 1", "score") == "10.5 ± 0.7"
        report = (tmp_path / "out" / "report.md").read_text()
        assert "| more m, more score | 10.5 ± 0.7 | holds |" in report
        assert "| m = 0 | 0.5 ± 0.7 |" in report
        assert (tmp_path / "out" / "figures" / "empty.png").exists()
        assert (tmp_path / "out" / "results.csv").read_text().splitlines()[1].startswith("m = 0,0,0.0,")
        assert "m = 1,score,10.5," in (tmp_path / "out" / "summary.csv").read_text()
        description, again = load_results(tmp_path / "out")
        assert description["settings"]["sides"] == 6
        assert again == results

    def test_the_page_stands_alone(self, tmp_path):
        run_experiment(toy([]), Dice(seeds=2), tmp_path)
        page = (tmp_path / "report.html").read_text()
        assert not re.search(r'https?:|src="(?!data:)|href=|@import|url\(', page)
        rows = Cells(page).rows
        assert ["more m, more score", "10.5 ± 0.7", "holds"] in rows
        assert ["m = 1", "10.5 ± 0.7", "0"] in rows
        assert ["m = 1", "1", "11", "0"] in rows
        assert ["sides", "6"] in rows
        (inside,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
        assert base64.b64decode(inside) == (tmp_path / "figures" / "empty.png").read_bytes()

    def test_the_tidy_table_has_a_row_per_value(self, tmp_path):
        def measure(run):
            matrix = AccuracyMatrix([[0.5, np.nan], [0.25, 1]], (0,), ("a", "b"))
            return Measurement({"score": 10 * run.settings.m[0] + run.seed}, {"matrix": matrix.to_dict()})

        run_experiment(replace(toy([]), measure=measure), Dice(seeds=2), tmp_path)
        with open(tmp_path / "tidy.csv", newline="") as file:
            rows = [tuple(row) for row in csv.reader(file)]
        assert rows[0] == ("experiment", "arm", "seed", "m", "metric", "after", "task", "value")
        assert len(rows) == 1 + 4 * (1 + 3)
        assert ("toy", "m = 1", "1", "1.0", "score", "", "", "11.0") in rows
        assert {row[5:] for row in rows if row[4] == "accuracy"} == {
            ("0", "1", "0.5"), ("1", "1", "0.25"), ("1", "2", "1.0"),
        }  # fmt: skip

    def test_a_stopped_run_goes_on(self, tmp_path):
        calls = []
        with pytest.raises(KeyboardInterrupt):
            run_experiment(toy(calls, fail_at=3), Dice(seeds=2), tmp_path)
        lines = []
        run_experiment(toy(calls), Dice(seeds=2), tmp_path, resume=True, say=lines.append)
        assert calls == [(0.0, 0), (1.0, 0), (0.0, 1), (1.0, 1)]
        assert [line.endswith("(read back)") for line in lines] == [True, True, True, False]

    def test_one_process_at_a_time(self, tmp_path):
        """Several processes are workers of one command (test_cluster.py)."""
        code = "import sys\nfrom lava_meta.io.locks import held\nwith held(sys.argv[1]): print(1, flush=True); input()"
        hold = [sys.executable, "-c", code, str(tmp_path / ".lock")]
        run_experiment(toy([]), Dice(seeds=1), tmp_path)
        calls = []
        with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"1\n"
            with pytest.raises(RunFolderError, match=f"in use by process {other.pid}"):
                run_experiment(toy(calls), Dice(seeds=2), tmp_path, resume=True)
            other.communicate(b"\n", timeout=60)
        run_experiment(toy(calls), Dice(seeds=2), tmp_path, resume=True)
        assert calls == [(0.0, 1), (1.0, 1)]

    def test_locks_of_an_earlier_version_are_in_nobodys_way(self, tmp_path):
        """Each run's folder had one, while processes shared the runs; one that was killed left it."""
        run_experiment(toy([]), Dice(seeds=1), tmp_path)
        (tmp_path / "runs" / "m_1" / "seed0" / ".lock").write_text("process 1 on nowhere")
        calls = []
        run_experiment(toy(calls), Dice(seeds=1), tmp_path, resume=True)
        assert calls == []

    def test_seeds_and_arms_may_be_added(self, tmp_path):
        calls = []
        run_experiment(toy(calls), Dice(seeds=1, m=(0.0,)), tmp_path)
        run_experiment(toy(calls), Dice(seeds=2, m=(0.0, 1.0)), tmp_path, resume=True)
        assert sorted(calls) == [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]

    def test_another_run_is_refused(self, tmp_path):
        run_experiment(toy([]), Dice(), tmp_path)
        with pytest.raises(RunFolderError, match="holds the experiment 'toy': resume it, overwrite it"):
            run_experiment(toy([]), Dice(), tmp_path)
        with pytest.raises(RunFolderError, match=r"settings\.sides is 6 there, 8 here"):
            run_experiment(toy([]), Dice(sides=8), tmp_path, resume=True)
        calls = []
        run_experiment(toy(calls), Dice(sides=8), tmp_path, overwrite=True)
        assert len(calls) == 6

    def test_a_folder_of_an_earlier_version_goes_on(self, tmp_path):
        """Its settings of the training stood among the others, and not all of today's were there."""
        from lava_meta.experiments.permuted import EXPERIMENTS

        experiment = EXPERIMENTS[0]
        settings = override(experiment.scales["small"], ["seeds=1", "m=0", "rules=metaplastic", "tasks=2", *TINY])
        run_experiment(experiment, settings, tmp_path)
        file = tmp_path / "settings.json"
        now = json.loads(file.read_text())
        flat = {**now["settings"], **now["settings"]["methods"], **now["settings"]["training"], "m": [0.0]}
        for name in ("training", "methods", "optimizer", "momentum", "seed", "consolidation"):
            flat.pop(name)
        file.write_text(json.dumps({**now, "settings": flat}))
        lines = []
        run_experiment(experiment, settings, tmp_path, resume=True, say=lines.append)
        assert lines[0].endswith("(read back)")
        assert json.loads(file.read_text()) == now
        file.write_text(json.dumps({**now, "settings": {**flat, "lr": 0.5}}))
        with pytest.raises(RunFolderError, match=r"settings\.training\.lr is 0\.5 there, 0\.005 here"):
            run_experiment(experiment, settings, tmp_path, resume=True)
        file.write_text(json.dumps({**now, "settings": {**flat, "dropout": 0.5}}))
        with pytest.raises(RunFolderError, match=r"of another version, so .*no setting 'dropout'"):
            run_experiment(experiment, settings, tmp_path, resume=True)

    def test_a_folder_of_something_else_is_never_touched(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(RunFolderError, match=r"thesis\.tex, which is no experiment of ours"):
                run_experiment(toy([]), Dice(), tmp_path, **options)
        assert (tmp_path / "thesis.tex").read_text() == "years of work"

    def test_overwrite_leaves_what_is_not_its_own(self, tmp_path):
        run_experiment(toy([]), Dice(), tmp_path)
        (tmp_path / "notes.txt").write_text("keep")
        run_experiment(toy([]), Dice(), tmp_path, overwrite=True)
        assert (tmp_path / "notes.txt").exists()

    def test_a_result_that_was_cut_short(self, tmp_path):
        run_experiment(toy([]), Dice(), tmp_path)
        file = tmp_path / "runs" / "m_0" / "seed1" / "result.json"
        file.write_text(file.read_text()[:20])
        with pytest.raises(FormatError, match=r"result\.json cannot be read.*remove it"):
            run_experiment(toy([]), Dice(), tmp_path, resume=True)

    def test_a_result_that_was_altered(self, tmp_path):
        """An accuracy changed by hand does not get into a report, of the runs or of the whole."""
        run_experiment(toy([]), Dice(), tmp_path)
        file = tmp_path / "runs" / "m_1" / "seed0" / "result.json"
        whole = file.read_text()
        assert '"score": 10' in whole
        file.write_text(whole.replace('"score": 10', '"score": 99'))
        with pytest.raises(FormatError, match=r"result\.json was altered.*remove it to run it again"):
            run_experiment(toy([]), Dice(), tmp_path, resume=True)
        file.write_text(whole)
        run_experiment(toy([]), Dice(), tmp_path, resume=True)
        results = tmp_path / "results.json"
        results.write_text(results.read_text().replace('"score": 10', '"score": 99'))
        with pytest.raises(FormatError, match=r"results\.json was altered"):
            load_results(tmp_path)

    def test_a_diverging_run_names_its_arm(self, tmp_path):
        from lava_meta.experiments.permuted import EXPERIMENTS, PermutedSettings

        wild = override(PermutedSettings(), ["data=digits", "lr=1e38", "m=0", "rules=metaplastic", *TINY])
        with pytest.raises(DivergenceError, match=r"m = 0, seed 0: .*experience 1, epoch 1, step \d+.*layer"):
            run_experiment(EXPERIMENTS[0], wild, tmp_path)


class TestCompare:
    def test_experiments_and_trainings(self, tmp_path):
        for name, sides in (("a", 6), ("b", 8)):
            run_experiment(toy([]), Dice(sides=sides), tmp_path / name)
        table = compare_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
        assert "| a: m = 0 | 1.0 ± 1.0 | 3 |" in table
        assert "| b: m = 1 | 11.0 ± 1.0 | 3 |" in table
        assert (tmp_path / "out" / "compare.png").exists()

    def test_refuses_what_it_cannot_compare(self, tmp_path):
        with pytest.raises(FormatError, match="neither"):
            compare_folders([tmp_path], tmp_path)
        run_experiment(toy([]), Dice(m=(0.0,)), tmp_path / "a")
        with pytest.raises(ValueError, match="at least two arms"):
            compare_folders([tmp_path / "a"], tmp_path / "out")


def test_every_experiment_is_found_and_whole():
    assert "permuted_mnist" in names()
    for name in names():
        experiment = find(name)
        assert experiment.name == name
        assert {"small", "medium", "paper"} <= set(experiment.scales)
        for settings in experiment.scales.values():
            assert len(experiment.arms(settings)) >= 1
    with pytest.raises(ValueError, match=r"no experiment 'nonsense'; there are .*permuted_mnist"):
        find("nonsense")


@pytest.mark.slow
def test_every_rule_runs_under_the_same_loop(tmp_path):
    settings = override(
        find("permuted_mnist").scales["small"],
        ["tasks=2", "epochs=1", "hidden=16", "train_images=150", "test_images=250", "m=2", f"rules={','.join(RULES)}"],
    )
    results = run_experiment(find("permuted_mnist"), settings, tmp_path / "all")
    labels = {rule: f"{rule}, m = 2" if RULES[rule].uses_m else rule for rule in RULES} | {"metaplastic": "m = 2"}
    assert list(results.arms) == [labels[rule] for rule in RULES]
    accuracies = {label: results.values(label, "ACC")[0] for label in results.arms}
    assert all(5 < value < 100 for value in accuracies.values())
    assert len(set(accuracies.values())) >= len(RULES) - 3  # they are different ways of learning


@pytest.mark.parametrize("name", names())
def test_settings_come_back_from_json(name, tmp_path):
    """As `--config` takes them from a folder's settings.json, and as a worker gets them."""
    experiment = find(name)
    for scale in experiment.scales.values():
        settings = override(scale, ["seeds=2", "threads=2"])
        for job in jobs_of(experiment, settings, tmp_path):
            again = Job.from_dict(json.loads(json.dumps(job.to_dict())), job.folder)
            assert (again.settings, again.arm, again.seed) == (settings, job.arm, job.seed)
            assert again.experiment is experiment
