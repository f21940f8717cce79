"""The training loop: what it computes, what it keeps, what it refuses, and that a killed run loses nothing."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_function import Soft
from torch import nn

from lava_meta.data import Dataset, Images, load_dataset
from lava_meta.data.scenarios import Scenario, permuted_tasks, split_classes, stream_of_subsets
from lava_meta.errors import DataError, DivergenceError, FormatError, RunFolderError
from lava_meta.nn import BinaryLayer, BinaryLinear, BinaryMLP, TaskBatchNorm
from lava_meta.optim import MetaplasticAdam
from lava_meta.rule import Exponential, Tanh2, Towards, register_consolidation
from lava_meta.training import TrainSettings, evaluate, train
from lava_meta.training.checkpoint import read_checkpoint, write_checkpoint
from lava_meta.training.methods import EWC
from lava_meta.training.metrics import AccuracyMatrix

DIGITS = load_dataset("digits")
SMALL = Dataset("small", DIGITS.train.take(range(230), "train"), DIGITS.test.take(range(90), "test"))
SCENARIO = permuted_tasks(SMALL, 2, seed=0)
QUICK = TrainSettings(epochs=2, m=8.0)


def net(**options):
    return BinaryMLP.for_images(SMALL.train, [24], seed=1, **options)


def hidden(model):
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def quiet(model, scenario=SCENARIO, settings=QUICK, out=None, **options):
    return train(model, scenario, settings, out, progress=False, **options)


class TestWhatItComputes:
    def test_against_a_loop_written_out(self):
        """The same steps in plain code, with the order of the images drawn as the module says."""
        model = net()
        result = quiet(model)

        plain = net()
        order = torch.Generator().manual_seed(int(np.random.SeedSequence([0, 0]).generate_state(1, np.uint64)[0]))
        rows = []

        def test_all():
            plain.eval()
            with torch.no_grad():
                return [float((plain(t.x.float()).argmax(1) == t.y).double().mean()) for t in SCENARIO.tests]

        rows.append(test_all())
        for part in SCENARIO.train:
            optimizer = MetaplasticAdam(plain.parameters(), lr=0.005, m=8.0, weight_decay=1e-7)
            for _ in range(2):
                plain.train()
                shuffled = torch.randperm(len(part), generator=order)
                for start in range(0, len(part), 50):
                    index = shuffled[start : start + 50]
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(plain(part.x[index].float()), part.y[index]).backward()
                    optimizer.step()
            rows.append(test_all())
        assert same(hidden(model), hidden(plain))
        assert np.array_equal(result.matrix.values, np.array(rows))

    def test_data_and_settings_as_people_give_them(self):
        """Whatever the form, the run is that of the scenario made of it."""
        x, y = SMALL.train.x, SMALL.train.y
        own = Dataset.from_arrays(x, y)
        want = train(net(), own, epochs=2, m=8.0, progress=False)
        assert (want.settings.epochs, want.settings.m) == (2, 8.0)
        pairs = torch.utils.data.TensorDataset(x, y.to(torch.int16))
        for given in ((x, y), (x.numpy()[:, 0], y.tolist()), pairs, torch.utils.data.DataLoader(pairs, shuffle=True)):
            assert quiet(net(), given, QUICK).history == want.history
        changed = train(net(), own, QUICK, epochs=1, progress=False)
        assert (changed.settings.epochs, changed.settings.m) == (1, 8.0)

    @pytest.mark.parametrize(
        ("arguments", "options", "says"),
        [
            (
                (SMALL.train.x / 16, SMALL.train.y),
                {},
                r"settings is a Tensor, .*train\(model, \(x, y\)\)",
            ),
            (((SMALL.train.x / 16, SMALL.train.y),), {}, r"scale=\(low, high\)"),
            ((SCENARIO,), {"epoch": 3}, "no argument 'epoch'; settings by name are epochs, batch_size"),
            ((SMALL.train.x,), {}, r"give \(x, y\)"),
            ((object(),), {}, "object is no data set of torch"),
            ((SCENARIO,), {"method": "ewc"}, r"method is 'ewc'; give an object, as .*methods\.EWC\(\)"),
            ((SCENARIO,), {"method": EWC}, r"give an object, as .*EWC\(\)"),
        ],
    )
    def test_what_does_not_work_names_the_right_call(self, arguments, options, says):
        with pytest.raises(TypeError, match=says):
            train(net(), *arguments, **options)

    @pytest.mark.parametrize(("model", "what"), [(SCENARIO, "a Scenario"), (BinaryMLP, "the class BinaryMLP")])
    def test_what_is_no_model(self, model, what):
        with pytest.raises(TypeError, match=rf"model is {what}, not a module of torch: train\(model, data\)"):
            train(model, SCENARIO)

    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize("norm", ["fixed", "stored"])
    def test_a_model_of_another_width(self, norm, fast):
        model = BinaryMLP((60, 8, 10), "fixed")
        if norm == "stored":  # which is not tested before it is trained
            model = nn.Sequential(nn.Flatten(), BinaryLinear(60, 10), TaskBatchNorm(10, 2, statistics="stored"))
        own_words = "shapes cannot be multiplied|got 64 and 60"  # torch's, by the product that is taken
        with pytest.raises(ValueError, match=rf"does not take .*\(n, 1, 8, 8\).*({own_words})"):
            quiet(model, settings=replace(QUICK, m=1.0, fast=fast))

    def test_classes_that_change_between_tasks_need_a_head(self):
        few = SMALL.train.classes_only([0, 1, 2])
        other = Dataset("few", Images(few.x, few.y, "few", 3, 16), Images(few.x, few.y, "few test", 3, 16))
        with pytest.raises(ValueError, match="classes is 10 for test, 3 for few test; declare a head"):
            train(net(), [SMALL, other])
        scenario = Scenario("mixed", [SMALL.train, other.train], [SMALL.test], (0, 0))
        with pytest.raises(ValueError, match="classes is 10 for test, 3 for few; declare a head"):
            quiet(net(), scenario)

    def test_an_empty_task_is_named(self):
        with pytest.raises(DataError, match="data set 2 of 2: own data: there are no images"):
            train(
                net(),
                [SMALL, torch.utils.data.Subset(torch.utils.data.TensorDataset(SMALL.train.x, SMALL.train.y), [])],
            )

    def test_it_learns_and_metaplasticity_forgets_less(self):
        data = permuted_tasks(DIGITS, 2, seed=0)
        acc = {}
        for m in (0.0, 16.0):  # at 8 the last bits of a processor's products count for more than the gate
            model = BinaryMLP.for_images(DIGITS.train, [128], seed=0)
            matrix = quiet(model, data, TrainSettings(epochs=8, m=m, evaluate="task")).matrix
            assert matrix.values[0].max() < 0.4
            assert matrix.values[1, 0] > 0.9
            assert matrix.values[2, 1] > 0.9
            acc[m] = matrix.acc()
        assert acc[16.0] > acc[0.0] + 0.05

    @pytest.mark.parametrize("fast", [False, True])
    def test_a_plain_function_is_a_gate_where_nothing_is_saved(self, fast, tmp_path):
        models = net(), net()
        plain = replace(QUICK, consolidation=lambda size: 1 / (1 + size / 0.05), fast=fast)
        for model, settings in zip(models, (plain, replace(plain, consolidation=Soft(0.05))), strict=True):
            quiet(model, settings=settings)
        assert same(*map(hidden, models))
        with pytest.raises(TypeError, match="a plain Python function, and no file can hold it"):
            quiet(net(), settings=plain, out=tmp_path / "run")
        with pytest.raises(ValueError, match="Soft cannot be saved: it is not registered"):
            quiet(net(), settings=settings, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_layers_of_ones_own_are_gated_once_they_say_so(self):
        class Own(nn.Linear):
            def forward(self, x):
                return nn.functional.linear(x, (self.weight.sign() - self.weight).detach() + self.weight)

        class Known(BinaryLayer, Own):
            pass

        def trained(layer, m):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), layer(24, 10, bias=False))
            quiet(model, settings=replace(QUICK, m=m))
            return hidden(model)

        with pytest.warns(
            UserWarning, match=r"uses 2 of the weights \(1.weight, 3.weight\): their steps are not gated"
        ):
            ungated = trained(Own, 30.0)
        assert same(ungated, trained(Own, 0.0))
        with pytest.warns(UserWarning, match=r"uses 1 of the weights \(1.weight\)"):
            gated = trained(Known, 30.0)
        assert not same(gated, ungated)

    def test_the_history_has_the_loss_and_every_test(self):
        result = quiet(net())
        assert [(r.part, r.epoch) for r in result.history] == [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
        assert result.history[0].loss is None
        assert result.history[2].loss < result.history[1].loss
        assert tuple(result.matrix.values[1]) == result.history[2].accuracies

    def test_tests_after_each_part_only(self):
        every, parts = net(), net()
        full, sparse = quiet(every), quiet(parts, settings=replace(QUICK, evaluate="task"))
        assert sparse.history[1].accuracies == (None, None)
        assert np.array_equal(full.matrix.values, sparse.matrix.values)
        assert same(hidden(every), hidden(parts))

    def test_the_loss_weighs_images_not_batches(self):
        """With a step too small to move a float32 weight, the mean loss is that of the untrained model."""
        model = net()
        result = quiet(model, settings=TrainSettings(epochs=1, lr=1e-30, weight_decay=0.0, batch_size=100))
        images = SCENARIO.train[0]
        with torch.no_grad():
            want = nn.functional.cross_entropy(net().train()(images.x.float()), images.y)
        assert result.history[1].loss == pytest.approx(float(want), rel=1e-5)

    @pytest.mark.parametrize("change", ["torch", "numpy"])
    def test_what_ran_before_does_not_matter(self, change):
        models = []
        for seed in (0, 1):
            model = nn.Sequential(*net(), nn.Dropout(0.3))  # a model that draws at random itself
            if change == "torch":
                torch.manual_seed(seed)
            else:
                np.random.seed(seed)  # noqa: NPY002 (the state that must not matter)
            quiet(model)
            models.append(hidden(model))
        assert same(*models)

    def test_the_global_generator_is_left_alone(self):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        model = net()
        TrainSettings(m=(1.0, 2.0))
        quiet(model)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_seed_matters(self):
        models = [net(), net()]
        for seed, model in enumerate(models):
            quiet(model, settings=replace(QUICK, seed=seed))
        assert not same(*map(hidden, models))

    def test_moments_kept_or_reset(self):
        models = {}
        for reset in (True, False):
            models[reset] = net()
            quiet(models[reset], settings=replace(QUICK, reset_moments=reset))
        assert not same(*map(hidden, models.values()))
        one_part = {}
        for reset in (True, False):
            one_part[reset] = net()
            quiet(one_part[reset], permuted_tasks(SMALL, 1, seed=0), replace(QUICK, reset_moments=reset))
        assert same(*map(hidden, one_part.values()))

    def test_a_gate_a_layer_and_other_gates(self):
        def trained(**options):
            model = net()
            quiet(model, settings=TrainSettings(epochs=1, **options))
            return hidden(model)

        assert same(trained(m=(4.0, 4.0)), trained(m=4.0))
        assert same(trained(consolidation=Tanh2(4.0)), trained(m=4.0))
        assert not same(trained(m=(4.0, 0.0)), trained(m=4.0))
        assert not same(trained(consolidation=Exponential(4.0)), trained(m=4.0))
        assert not same(trained(m=4.0, optimizer="sgd", momentum=0.9), trained(m=4.0, optimizer="sgd"))

    def test_a_stream_has_one_test(self):
        result = quiet(net(), stream_of_subsets(SMALL, 4, seed=0))
        assert result.matrix.values.shape == (5, 1)
        assert len(result.history) == 9

    def test_the_task_is_selected_before_it_is_trained_or_tested(self):
        class Recorder(nn.Module):
            def __init__(self):
                super().__init__()
                self.net, self.calls, self.task = net(), [], None

            def select_task(self, index):
                self.task = index

            def forward(self, x):
                self.calls.append((self.training, self.task, len(x)))
                return self.net(x)

        model = Recorder()
        quiet(model, permuted_tasks(SMALL, 2, seed=0), TrainSettings(epochs=1, batch_size=200, eval_batch=60))
        tests = [(False, task, n) for task in (0, 1) for n in (60, 30)]
        learn = [[(True, task, n) for n in (200, 30)] for task in (0, 1)]
        look = [(False, task, 230) for task in (0, 1)]  # after a part's first epoch: do its layers learn?
        assert model.calls == [*tests, *learn[0], look[0], *tests, *learn[1], look[1], *tests]

    def test_batch_norm_with_an_affine_a_task(self):
        """Own statistics are measured everywhere; stored ones only for tasks that have some."""
        for statistics in ("batch", "stored"):
            model = net(norm="batch", tasks=2, statistics=statistics)
            values = quiet(model).matrix.values
            unknown = np.isnan(values)
            assert unknown.tolist() == (
                [[False] * 2] * 3 if statistics == "batch" else [[True, True], [False, True], [False, False]]
            )
            assert values[2, 1] > 0.3


class TestEvaluate:
    def test_counts_right_answers_in_any_batches(self):
        model = net()
        quiet(model)
        with torch.no_grad():
            want = float((model.eval()(SMALL.test.x.float()).argmax(1) == SMALL.test.y).double().mean())
        assert [evaluate(model, SMALL.test, size) for size in (1, 7, 90, 1000)] == [want] * 4

    def test_leaves_every_module_in_its_mode(self):
        model = net().train()
        model[0].eval()
        evaluate(model, SMALL.test)
        assert not model[0].training
        assert all(module.training for module in list(model)[1:])

    def test_puts_the_mode_back_after_an_error(self):
        model = net().train()
        with pytest.raises(ValueError, match=r"BinaryMLP does not take x, \(n, 5\) as float32"):
            evaluate(model, Images(torch.zeros(3, 5, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "x", 10))
        assert model.training
        with pytest.raises(TypeError, match=r"images is a tuple; give Images\(x, y\)"):
            evaluate(model, (SMALL.test.x, SMALL.test.y))

    def test_refuses_a_readout_of_another_width(self):
        narrow = BinaryMLP((64, 8, 4))
        with pytest.raises(ValueError, match=r"\(90, 4\).*\(90, 10\)"):
            evaluate(narrow, SMALL.test)


class TestSettings:
    @pytest.mark.parametrize(
        ("options", "error", "says"),
        [
            ({"epochs": 0}, ValueError, "epochs"),
            ({"epochs": 2.0}, TypeError, "epochs"),
            ({"batch_size": True}, TypeError, "batch_size"),
            ({"seed": -1}, ValueError, "seed"),
            ({"eval_batch": 0}, ValueError, "eval_batch"),
            ({"lr": float("nan")}, ValueError, "lr"),
            ({"lr": "fast"}, TypeError, "lr"),
            ({"m": -1.0}, ValueError, "m must"),
            ({"m": (1.0, -1.0)}, ValueError, "m must"),
            ({"weight_decay": -1e-7}, ValueError, "weight_decay"),
            ({"optimizer": "lion"}, ValueError, "optimizer"),
            ({"evaluate": "never"}, ValueError, "evaluate"),
            ({"momentum": 0.9}, ValueError, "momentum"),
            ({"m": 8.0, "optimizer": "sgd", "momentum": 1.5}, ValueError, "momentum"),
            ({"reset_moments": "yes"}, TypeError, "reset_moments"),
            ({"consolidation": "tanh"}, TypeError, "consolidation"),
        ],
    )
    def test_names_what_is_wrong(self, options, error, says):
        with pytest.raises(error, match=says):
            TrainSettings(**options)

    def test_as_json(self):
        settings = TrainSettings(m=[1.0, 2.0], consolidation=Exponential(3.0))
        content = json.loads(json.dumps(settings.to_dict()))
        assert content["consolidation"] == Exponential(3.0).to_dict()
        assert content["m"] is None  # the consolidation takes its place
        assert json.loads(json.dumps(TrainSettings(m=[1.0, 2.0]).to_dict()))["m"] == [1.0, 2.0]


class TestFolder:
    def test_metrics_are_those_of_the_result(self, tmp_path):
        result = quiet(net(), out=tmp_path / "new" / "run")
        folder = tmp_path / "new" / "run"
        assert result.out == folder
        with open(folder / "metrics.csv", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["part", "epoch", "loss", *result.matrix.columns()]
        assert [float(cell) for cell in rows[3][2:]] == [result.history[2].loss, *result.history[2].accuracies]
        content = json.loads((folder / "metrics.json").read_text())
        assert np.array_equal(AccuracyMatrix.from_dict(content["accuracy"]).values, result.matrix.values)
        assert len(content["history"]) == 5
        assert json.loads((folder / "settings.json").read_text())["scenario"]["name"] == SCENARIO.name

    def test_a_folder_changes_nothing(self, tmp_path):
        models = [net(), net()]
        quiet(models[0])
        quiet(models[1], out=tmp_path)
        assert same(*map(hidden, models))

    def test_a_run_in_the_folder_is_not_overwritten(self, tmp_path):
        quiet(net(), out=tmp_path)
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(RunFolderError, match="holds a run"):
            quiet(net(), out=tmp_path)
        assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def test_overwrite_removes_the_run_and_nothing_else(self, tmp_path):
        quiet(net(), out=tmp_path)
        (tmp_path / "notes.txt").write_text("keep")
        result = quiet(net(), settings=replace(QUICK, epochs=1), out=tmp_path, overwrite=True)
        assert len(result.history) == 3
        assert (tmp_path / "notes.txt").read_text() == "keep"
        assert json.loads((tmp_path / "settings.json").read_text())["settings"]["epochs"] == 1

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"settings": replace(QUICK, lr=0.01)}, "settings.lr is 0.005 there, 0.01 here"),
            ({"settings": replace(QUICK, m=2.0, seed=5)}, "settings.m is 8.0 there, 2.0 here; settings.seed is 0"),
            ({"settings": replace(QUICK, consolidation=Exponential(2.0))}, "settings.consolidation"),
            ({"scenario": permuted_tasks(SMALL, 2, seed=1)}, "scenario.name"),
            ({"scenario": split_classes(SMALL, ((0, 1), (2, 3)))}, "scenario.name"),
            ({"model": BinaryMLP.for_images(SMALL.train, [25], seed=1)}, "model.state"),
            ({"model": BinaryMLP.for_images(SMALL.train, [24], norm="layer", seed=1)}, "model.layers"),
        ],
    )
    def test_another_run_is_not_resumed(self, change, says, tmp_path):
        quiet(net(), out=tmp_path)
        before = (tmp_path / "checkpoint.safetensors").read_bytes()
        with pytest.raises(RunFolderError) as caught:
            quiet(**{"model": net(), "out": tmp_path, "resume": True, **change})
        assert says in str(caught.value)
        assert (tmp_path / "checkpoint.safetensors").read_bytes() == before

    def test_other_images_under_the_same_name_are_noticed(self, tmp_path):
        quiet(net(), out=tmp_path)
        other = Dataset("small", SMALL.train, DIGITS.test.take(range(10, 100), "test"))
        with pytest.raises(RunFolderError, match="tests crc32"):
            quiet(net(), permuted_tasks(other, 2, seed=0), out=tmp_path, resume=True)

    def test_other_libraries_are_warned_about(self, tmp_path):
        quiet(net(), out=tmp_path)
        file = tmp_path / "settings.json"
        file.write_text(file.read_text().replace(torch.__version__, "1.0"))
        with pytest.warns(UserWarning, match=r"libraries\.torch is '1\.0' there"):
            quiet(net(), out=tmp_path, resume=True)

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").write_text("")
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(RunFolderError, match="cannot be written"):
                quiet(net(), out=out)

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_write_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(RunFolderError, match="cannot be written"):
            quiet(net(), out=tmp_path)

    def test_nothing_is_left_by_a_run_that_cannot_begin(self, tmp_path):
        with pytest.raises(ValueError, match="3 values for 2 layers"):
            quiet(net(), settings=TrainSettings(m=(1.0, 2.0, 3.0)), out=tmp_path / "a")
        assert not (tmp_path / "a").exists()
        with pytest.raises(ValueError, match="needs logits"):
            quiet(BinaryMLP((64, 8, 4)), out=tmp_path / "b")
        assert [path.name for path in (tmp_path / "b").iterdir()] == [".training.lock"]

    def test_arguments_that_contradict(self, tmp_path):
        with pytest.raises(ValueError, match="choose one"):
            quiet(net(), out=tmp_path, resume=True, overwrite=True)
        with pytest.raises(ValueError, match="out="):
            quiet(net(), resume=True)
        with pytest.raises(ValueError, match="no parameters"):
            quiet(nn.Flatten())


class Stop(Exception):
    pass


class StopsAfter(nn.Module):
    """A network that raises in its n-th training step; it draws at random itself."""

    def __init__(self, steps, error=Stop, **options):
        super().__init__()
        self.net, self.noise = net(**options), nn.Dropout(0.2)
        self.steps, self.error = steps, error

    def forward(self, x):
        if self.training:
            self.steps -= 1
            if self.steps < 0:
                raise self.error
        return self.noise(self.net(x))


class TestResume:
    # 230 images in batches of 50 are 5 steps an epoch, 10 a part.
    @pytest.mark.parametrize("steps", [0, 3, 5, 10, 13, 15, 19])
    @pytest.mark.parametrize("reset", [True, False])
    def test_a_stopped_run_goes_on_to_the_same_result(self, steps, reset, tmp_path):
        settings = replace(QUICK, reset_moments=reset)
        whole = StopsAfter(10**9)
        want = quiet(whole, settings=settings, out=tmp_path / "whole")
        with pytest.raises(Stop):
            quiet(StopsAfter(steps), settings=settings, out=tmp_path / "stopped")
        torch.manual_seed(99)
        again = StopsAfter(10**9)
        with torch.no_grad():  # what the model was made with does not matter: the checkpoint has all of it
            again.net[2].weight.zero_()
        got = quiet(again, settings=settings, out=tmp_path / "stopped", resume=True)
        assert same(hidden(again), hidden(whole))
        assert got.history == want.history
        for file in ("checkpoint.safetensors", "metrics.csv", "accuracy.csv", "metrics.json", "settings.json"):
            assert (tmp_path / "stopped" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()

    @pytest.mark.parametrize("norm", ["batch", "layer"])
    def test_with_norms_that_have_a_state(self, norm, tmp_path):
        options = {"norm": norm, **({"tasks": 2, "gain": "uniform"} if norm == "batch" else {})}
        whole, again = StopsAfter(10**9, **options), StopsAfter(10**9, **options)
        quiet(whole)
        with pytest.raises(Stop):
            quiet(StopsAfter(17, **options), out=tmp_path)
        quiet(again, out=tmp_path, resume=True)
        assert same(hidden(again), hidden(whole))

    def test_fewer_checkpoints_on_request(self, tmp_path):
        """An hour between checkpoints: one before training and one at the end, and the same result by either way."""
        whole, again = StopsAfter(10**9), StopsAfter(10**9)
        quiet(whole, out=tmp_path / "whole", checkpoint_seconds=3600.0)
        with pytest.raises(Stop):
            quiet(StopsAfter(17), out=tmp_path / "stopped", checkpoint_seconds=3600.0)
        assert read_checkpoint(tmp_path / "stopped" / "checkpoint.safetensors")[1]["done"] == 0
        assert read_checkpoint(tmp_path / "whole" / "checkpoint.safetensors")[1]["done"] == 4
        quiet(again, out=tmp_path / "stopped", resume=True, checkpoint_seconds=3600.0)
        assert same(hidden(again), hidden(whole))

    @pytest.mark.parametrize(
        "options",
        [
            {"optimizer": "sgd", "momentum": 0.9},
            {"optimizer": "adalayer", "m": None, "consolidation": Towards(0.2, 0.01, 2.0), "grow": Towards(0.2, 0.3)},
        ],
        ids=["sgd", "adalayer"],
    )
    def test_other_optimizers(self, options, tmp_path):
        settings = replace(QUICK, reset_moments=False, **options)
        whole, again = StopsAfter(10**9), StopsAfter(10**9)
        quiet(whole, settings=settings)
        with pytest.raises(Stop):
            quiet(StopsAfter(12), settings=settings, out=tmp_path)
        quiet(again, settings=settings, out=tmp_path, resume=True)
        assert same(hidden(again), hidden(whole))

    def test_a_function_of_ones_own(self, tmp_path, registry):
        register_consolidation(Soft)
        settings = replace(QUICK, consolidation=Soft(0.05), reset_moments=False)
        whole, again = StopsAfter(10**9), StopsAfter(10**9)
        quiet(whole, settings=settings)
        with pytest.raises(Stop):
            quiet(StopsAfter(12), settings=settings, out=tmp_path)
        quiet(again, settings=settings, out=tmp_path, resume=True)
        assert same(hidden(again), hidden(whole))
        assert json.loads((tmp_path / "settings.json").read_text())["settings"]["consolidation"] == {
            "kind": "soft",
            "s": 0.05,
        }
        with pytest.raises(RunFolderError, match=r"settings\.consolidation"):
            quiet(again, settings=replace(settings, consolidation=Soft(0.1)), out=tmp_path, resume=True)

    def test_a_finished_run_is_read_back(self, tmp_path):
        model, again = net(), BinaryMLP.for_images(SMALL.train, [24], seed=2)
        first = quiet(model, out=tmp_path)
        second = quiet(again, out=tmp_path, resume=True)
        assert same(hidden(model), hidden(again))
        assert first.history == second.history

    def test_metrics_lost_behind_a_checkpoint_come_back_to_the_byte(self, tmp_path):
        quiet(net(), out=tmp_path)
        names = ("metrics.csv", "accuracy.csv", "metrics.json")
        before = {name: (tmp_path / name).read_bytes() for name in names}
        for name in names:
            (tmp_path / name).unlink()
        quiet(net(), out=tmp_path, resume=True)
        assert {name: (tmp_path / name).read_bytes() for name in names} == before

    def test_resume_begins_where_nothing_was_begun(self, tmp_path):
        assert len(quiet(net(), out=tmp_path / "new", resume=True).history) == 5

    def test_ctrl_c_says_how_to_go_on(self, tmp_path):
        with pytest.raises(KeyboardInterrupt, match=r"1 of 4 epochs are kept in .*run: .*resume"):
            quiet(StopsAfter(7, KeyboardInterrupt), out=tmp_path / "run")
        with pytest.raises(KeyboardInterrupt, match="nothing was kept"):
            quiet(StopsAfter(7, KeyboardInterrupt))
        whole, again = StopsAfter(10**9), StopsAfter(10**9)
        quiet(whole)
        quiet(again, out=tmp_path / "run", resume=True)
        assert same(hidden(again), hidden(whole))


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs that were killed and resumed, made in a process of its own: see training_worker.py."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("training_worker.py")), str(folder), str(SEED), str(KILLS)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


SEED, KILLS = 20261123, 4


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_killed_at_random_moments(killed):
    """`kill -9` at moments drawn at random: each run, resumed, ends with the very same files."""
    folder, report = killed
    assert len(report["moments"]) == KILLS
    want, state = read_checkpoint(folder / "whole" / "checkpoint.safetensors")
    assert state["done"] == 6
    for k in range(KILLS):
        got, its_state = read_checkpoint(folder / f"killed{k}" / "checkpoint.safetensors")
        assert all(torch.equal(got[name], want[name]) for name in want), (k, report)
        assert its_state == state, (k, report)
        assert contents(folder / f"killed{k}") == contents(folder / "whole"), (k, report)


def test_killed_before_each_file_is_put_in_place(killed):
    """The first twelve renames of a run: the settings, then checkpoints and metrics in turn."""
    folder, report = killed
    assert report["killed at rename"] == 12
    for k in range(1, 13):
        assert contents(folder / f"rename{k}") == contents(folder / "short"), k


def test_killed_with_half_a_checkpoint_written(killed):
    folder, report = killed
    assert report["killed in checkpoint"] == 1
    assert contents(folder / "half") == contents(folder / "short")


def test_a_full_disk_keeps_the_checkpoint_before(killed):
    """A real limit on the size of files, set while the second epoch trains."""
    folder, report = killed
    assert "cannot be written" in report["full disk"]
    assert "resume" in report["full disk"]
    assert report["epochs on the full disk"] == 1
    assert report["files on the full disk"] == sorted(contents(folder / "short"))
    assert contents(folder / "full") == contents(folder / "short")  # resumed, with room


class TestBrokenFiles:
    @pytest.fixture
    def run(self, tmp_path):
        quiet(net(), out=tmp_path)
        return tmp_path

    @pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
    def test_a_truncated_checkpoint(self, keep, run):
        file = run / "checkpoint.safetensors"
        size = file.stat().st_size
        os.truncate(file, int(keep * size) if 0 < keep < 1 else keep)
        with pytest.raises(FormatError, match=r"checkpoint\.safetensors"):
            quiet(net(), out=run, resume=True)

    def test_any_altered_byte_is_noticed(self, run):
        file = run / "checkpoint.safetensors"
        whole = file.read_bytes()
        rng = np.random.default_rng(0)
        header = int.from_bytes(whole[:8], "little")
        places = [*rng.integers(0, 8 + header, 60), *rng.integers(8 + header, len(whole), 60)]
        for place in places:
            changed = bytearray(whole)
            changed[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(changed)
            try:
                tensors, state = read_checkpoint(file)
            except FormatError:
                continue
            file.write_bytes(whole)
            want, want_state = read_checkpoint(file)
            # Only a byte without meaning (a blank between two entries) may change unnoticed.
            assert state == want_state, place
            assert tensors.keys() == want.keys(), place
            assert all(torch.equal(tensors[name], want[name]) for name in want), place

    def test_a_checkpoint_of_another_kind(self, run):
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(3)}, run / "checkpoint.safetensors")
        with pytest.raises(FormatError, match="format"):
            quiet(net(), out=run, resume=True)

    def test_a_checkpoint_of_another_run(self, run):
        write_checkpoint(run / "checkpoint.safetensors", {"model.x": torch.zeros(3)}, {"done": 1, "history": []})
        with pytest.raises(FormatError, match="does not fit"):
            quiet(net(), out=run, resume=True)

    @pytest.mark.parametrize("damage", ["gone", "truncated", "bytes"])
    def test_settings_that_cannot_be_read(self, damage, run):
        file = run / "settings.json"
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:50] if damage == "truncated" else b"\xff\xfe")
        with pytest.raises(FormatError, match=r"settings\.json"):
            quiet(net(), out=run, resume=True)

    def test_a_checkpoint_as_safetensors_reads_it(self, run):
        """An ordinary file, readable by whoever may read the others."""
        from safetensors.torch import load_file

        assert load_file(run / "checkpoint.safetensors")["model.2.weight"].shape == (24, 64)
        assert (run / "checkpoint.safetensors").stat().st_mode == (run / "metrics.json").stat().st_mode


class Poisoned(nn.Module):
    """A network one of whose hidden weights becomes infinite in the n-th training step."""

    def __init__(self, step):
        super().__init__()
        self.net, self.step = net(), step

    def forward(self, x):
        self.step -= self.training
        if self.training and self.step == 0:
            with torch.no_grad():
                self.net[2].weight[3, 5] = float("inf")
        return self.net(x)


class TestDivergence:
    def test_a_weight_that_shows_in_no_loss(self):
        with pytest.raises(DivergenceError, match=r"experience 1, epoch 2, step 5: 1 of 1536 values of net\.2\.weight"):
            quiet(Poisoned(8))

    def test_the_layer_and_the_step_of_a_loss_that_is_not_finite(self):
        class Broken(nn.Module):
            def __init__(self):
                super().__init__()
                self.net, self.blow, self.step = net(), nn.Identity(), 0

            def forward(self, x):
                self.step += self.training
                return self.blow(self.net(x)) if self.step < 7 else self.blow(self.net(x) * float("inf"))

        with pytest.raises(
            DivergenceError, match=r"experience 1, epoch 2, step 2: the loss is nan; .*layer blow \(Identity\)"
        ):
            quiet(Broken())

    def test_the_checkpoint_before_stays(self, tmp_path):
        with pytest.raises(DivergenceError):
            quiet(Poisoned(8), out=tmp_path)
        tensors, state = read_checkpoint(tmp_path / "checkpoint.safetensors")
        assert state["done"] == 1
        assert torch.isfinite(tensors["model.net.2.weight"]).all()


class TestProgress:
    def test_quiet(self, capsys):
        quiet(net())
        assert capsys.readouterr() == ("", "")

    def test_lines_where_there_is_no_terminal(self, capsys):
        train(net(), SCENARIO, QUICK)
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert [line.split(" loss")[0] for line in lines] == ["experience 1/2 epoch 2/2", "experience 2/2 epoch 2/2"]
        assert "ACC" in lines[0]
        assert "s left" in lines[0]

    def test_a_bar_in_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        train(net(), SCENARIO, QUICK)
        err = capsys.readouterr().err
        assert "experience 2/2 epoch 2/2" in err
        assert "100 %" in err


class TestOneWriter:
    def test_a_folder_in_use_is_refused_with_the_process_named(self, tmp_path):
        code = "import sys\nfrom lava_meta.io.locks import held\nwith held(sys.argv[1]): print(1, flush=True); input()"
        command = [sys.executable, "-c", code, str(tmp_path / ".training.lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            for options in ({}, {"resume": True}, {"overwrite": True}):
                with pytest.raises(RunFolderError, match=f"in use by process {other.pid}"):
                    quiet(net(), out=tmp_path, **options)
            assert [path.name for path in tmp_path.iterdir()] == [".training.lock"]
            other.communicate(b"\n", timeout=60)
        quiet(net(), out=tmp_path)

    def test_a_checkpoint_of_another_run_is_refused_with_the_difference(self, tmp_path):
        """As it came to lie there when two runs shared a folder: the settings of one, the checkpoint of the other."""
        import dataclasses

        quiet(net(), settings=dataclasses.replace(QUICK, seed=7), out=tmp_path / "a")
        quiet(net(), out=tmp_path / "b")
        (tmp_path / "a" / "checkpoint.safetensors").replace(tmp_path / "b" / "checkpoint.safetensors")
        with pytest.raises(
            RunFolderError, match=r"checkpoint.* belongs to another run.*settings\.seed is 7 there, 0 here"
        ):
            quiet(net(), out=tmp_path / "b", resume=True)


def test_a_checkpoint_of_the_first_format():
    """Written before checkpoints were sealed files."""
    tensors, state = read_checkpoint(Path(__file__).parents[1] / "old_files" / "checkpoint1.safetensors")
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "model.weight": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "n": 7,
        "flag": [True, False],
    }
    assert state == {"done": 2, "history": [{"part": 0, "loss": None}]}


def test_an_altered_checkpoint_of_the_first_format(tmp_path):
    whole = (Path(__file__).parents[1] / "old_files" / "checkpoint1.safetensors").read_bytes()
    for place in (len(whole) - 1, whole.index(b"done") + 8):
        altered = bytearray(whole)
        altered[place] ^= 1
        (tmp_path / "file").write_bytes(altered)
        with pytest.raises(FormatError, match="altered"):
            read_checkpoint(tmp_path / "file")


def test_tensors_of_every_type_come_back(tmp_path):
    kinds = (torch.bfloat16, torch.float16, torch.complex64, torch.bool, torch.uint8, torch.int64, torch.float64)
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(1.5, dtype=torch.bfloat16), "empty": torch.zeros(0, 3)}
    write_checkpoint(tmp_path / "file", tensors, {})
    found, _ = read_checkpoint(tmp_path / "file")
    assert all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in tensors.items()
    )
