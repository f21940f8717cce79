"""Callbacks: when they are called and with what, what they may change, and that a resumed run does not show it."""

import json
import warnings

import pytest
import torch
from torch import nn

import lava_meta
from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import RunFolderError
from lava_meta.nn import BinaryLinear, BinaryMLP
from lava_meta.training import BestCheckpoint, Callback, EarlyStopping, TrainSettings, evaluate, train
from lava_meta.training.callbacks import EVENTS
from lava_meta.training.checkpoint import read_checkpoint
from lava_meta.training.loggers import Lines

DIGITS = load_dataset("digits")
SMALL = Dataset("small", DIGITS.train.take(range(230), "train"), DIGITS.test.take(range(90), "test"))
SCENARIO, HELD_OUT = permuted_tasks(SMALL, 2, seed=0).hold_out(0.3, seed=0)
QUICK = TrainSettings(epochs=3, batch_size=60, m=8.0)  # 3 steps per epoch


def net():
    return BinaryMLP.for_images(SMALL.train, [24], seed=1)


def quiet(model, settings=QUICK, out=None, **options):
    return train(model, SCENARIO, settings, out, progress=False, **options)


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


class Seen(Callback):
    """Writes down every event."""

    def __init__(self):
        self.events = []


def written(event):
    def write(self, run):
        self.events.append((event.removeprefix("on_"), run.task, run.epoch, run.step, run.loss))

    return write


for event in EVENTS:
    setattr(Seen, event, written(event))


class StopAt(Callback):
    """Ctrl-C, once."""

    def __init__(self, task, epoch):
        self.at = task, epoch

    def on_step(self, run):
        if (run.task, run.epoch) == self.at and run.step % 3 == 2:
            raise KeyboardInterrupt


class TestEvents:
    def test_their_order_and_what_they_see(self):
        seen = Seen()
        result = quiet(net(), callbacks=[seen])
        want = [("start", 0, 0, 0), ("test", 0, 0, 0)]
        for task in (1, 2):
            want.append(("task_start", task, 1, 9 * (task - 1)))
            for epoch in (1, 2, 3):
                done = 9 * (task - 1) + 3 * epoch
                want += [("step", task, epoch, step) for step in range(done - 2, done + 1)]
                want.append(("epoch", task, epoch, done))
                if epoch == 3:
                    want.append(("task_end", task, epoch, done))
                want.append(("test", task, epoch, done))
        assert [event[:-1] for event in seen.events] == [*want, ("end", 2, 3, 18)]
        losses = [loss for name, *_, loss in seen.events if name == "epoch"]
        assert losses == [record.loss for record in result.history[1:]]
        steps = [loss for name, *_, loss in seen.events if name == "step"]
        sizes = [60, 60, len(SCENARIO.train[0]) - 120]
        mean = sum(size * loss for size, loss in zip(sizes, steps[:3], strict=True)) / sum(sizes)
        assert losses[0] == pytest.approx(mean, rel=1e-6)

    def test_weights_and_matrix_are_at_hand(self):
        rows = []

        class Look(Callback):
            def on_test(self, run):
                weights = next(run.model.parameters())
                again = run.accuracy(SCENARIO.tests[0])
                rows.append((run.accuracies, again, run.matrix.values.copy(), weights.clone()))

        model = net()
        result = quiet(model, callbacks=[Look()])
        assert [row[0] for row in rows] == [record.accuracies for record in result.history]
        assert all(own[0] == again for own, again, *_ in rows)
        assert rows[-1][2].tolist() == result.matrix.values.tolist()
        assert torch.equal(rows[-1][3], next(model.parameters()))
        assert not torch.equal(rows[-2][3], rows[-1][3])

    @pytest.mark.parametrize("fast", [False, True])
    def test_looking_changes_nothing(self, fast):
        """Not even in a model that draws at random when it is tested."""

        class Noisy(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net()

            def forward(self, x):
                return self.net(x) + 0.1 * torch.randn(len(x), 10)

        class Look(Callback):
            def on_step(self, run):
                run.accuracy(HELD_OUT[0])

        for make in (net, Noisy):
            one, other = make(), make()
            settings = TrainSettings(epochs=2, m=8.0, fast=fast)
            assert quiet(one, settings, callbacks=[Look()]).history == quiet(other, settings).history
            assert same(one, other)

    def test_on_end_comes_after_an_error_too(self):
        seen = Seen()
        with pytest.raises(KeyboardInterrupt):
            quiet(net(), callbacks=[StopAt(1, 2), seen])
        assert seen.events[-1][0] == "end"

    @pytest.mark.parametrize("wrong", [print, Callback, "tensorboard"])
    def test_refuses_what_is_no_callback(self, wrong):
        with pytest.raises(TypeError, match=r"callbacks\[0\] is .*derived from lava_meta.Callback"):
            quiet(net(), callbacks=[wrong])


class TestFailures:
    def test_a_logger_that_raises_is_left_out_after_one_warning(self):
        calls = []

        class Broken(Lines):
            def write(self, values, step):
                calls.append(step)
                raise ConnectionError("no network")

        model, plain = net(), net()
        with pytest.warns(UserWarning, match=r"Broken.on_test raised ConnectionError\('no network'\)") as caught:
            result = quiet(model, callbacks=[Broken(every=1)])
        assert len([one for one in caught if "Broken" in str(one.message)]) == len(calls) == 1
        assert result.history == quiet(plain).history
        assert same(model, plain)

    def test_one_that_cannot_begin_stops_the_run_before_it_costs_anything(self):
        class Broken(Callback):
            def on_start(self, run):
                raise ConnectionError("no network")

            def on_end(self, run):
                ended.append(run)  # it was never begun

        ended, seen = [], Seen()
        with pytest.raises(ConnectionError):
            quiet(net(), callbacks=[seen, Broken()])
        assert [name for name, *_ in seen.events] == ["start", "end"]
        assert ended == []

    def test_one_that_changes_what_is_learned_stops_the_run(self):
        with pytest.raises(ValueError, match="EarlyStopping has held-out images of 1 experiences; this is number 2"):
            quiet(net(), callbacks=[EarlyStopping([HELD_OUT[0]])])


class TestHeldOut:
    def test_early_stopping_ends_a_task_when_its_own_images_say_so(self):
        settings = TrainSettings(epochs=12, batch_size=60, m=8.0)
        seen = []

        class Look(Callback):
            def on_epoch(self, run):
                seen.append((run.task, run.epoch, run.accuracy(HELD_OUT[run.task - 1])))

        result = quiet(net(), settings, callbacks=[Look(), EarlyStopping(HELD_OUT, patience=2)])
        epochs = []
        for task in (1, 2):
            curve = [accuracy for number, _, accuracy in seen if number == task]
            stop = next(
                (e for e in range(2, len(curve)) if max(curve[: e - 1]) >= max(curve[e - 1 : e + 1])), len(curve) - 1
            )
            assert stop == len(curve) - 1, "it went on after two epochs without a new best, or stopped before"
            epochs.append(len(curve))
        assert min(epochs) < 12
        assert [(r.part, r.epoch) for r in result.history[1:]] == [
            (task, epoch) for task, last in enumerate(epochs, 1) for epoch in range(1, last + 1)
        ]
        rows = [result.history[0], result.history[epochs[0]], result.history[-1]]
        assert result.matrix.values.tolist() == [list(row.accuracies) for row in rows]
        shorter = quiet(net(), TrainSettings(epochs=epochs[0], batch_size=60, m=8.0))
        assert shorter.matrix.values[1].tolist() == result.matrix.values[1].tolist()

    @pytest.mark.parametrize("evaluate_when", ["epoch", "task"])
    def test_the_best_weights_come_back(self, evaluate_when, tmp_path):
        best = BestCheckpoint(HELD_OUT)
        settings = TrainSettings(epochs=6, batch_size=60, m=8.0, evaluate=evaluate_when)
        model = net()
        result = quiet(model, settings, tmp_path / "run", callbacks=[best])
        loaded = lava_meta.load(tmp_path / "run" / "best.safetensors")
        assert same(loaded, model)
        assert evaluate(model, HELD_OUT[1]) == best.best
        assert evaluate(model, SCENARIO.tests[1]) == result.matrix.values[2, 1]

    def test_of_a_model_of_ones_own_the_weights_are_kept(self, tmp_path):
        model = nn.Sequential(nn.Flatten(), BinaryLinear(64, 10))
        quiet(model, callbacks=[BestCheckpoint(HELD_OUT, tmp_path / "best", restore=False)])
        tensors, about = read_checkpoint(tmp_path / "best")
        model.load_state_dict(tensors)
        assert evaluate(model, HELD_OUT[1]) == about["accuracy"]

    def test_a_file_is_needed(self):
        with pytest.raises(ValueError, match="give its path, or the run a folder"):
            quiet(net(), callbacks=[BestCheckpoint(HELD_OUT)])

    @pytest.mark.parametrize("options", [{"patience": 0}, {"min_delta": -1}])
    def test_settings_out_of_range(self, options):
        with pytest.raises(ValueError, match="patience is"):
            EarlyStopping(HELD_OUT, **options)


class TestResuming:
    def callbacks(self, lines):
        return [EarlyStopping(HELD_OUT, patience=2), BestCheckpoint(HELD_OUT), Lines(lines.append, every=2)]

    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize("at", [(1, 1), (1, 3), (2, 2)])
    def test_a_stopped_run_goes_on_to_the_same_result(self, at, fast, tmp_path):
        settings = TrainSettings(epochs=12, batch_size=60, m=8.0, fast=fast)
        lines, model = [], net()
        whole = quiet(model, settings, tmp_path / "whole", callbacks=self.callbacks(lines))
        with pytest.raises(KeyboardInterrupt):
            quiet(net(), settings, tmp_path / "run", callbacks=[*self.callbacks([]), StopAt(*at)])
        json.dumps(read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")[1])
        later, again = [], net()
        result = quiet(again, settings, tmp_path / "run", resume=True, callbacks=self.callbacks(later))
        assert result.history == whole.history
        assert same(model, again)
        assert later == lines[len(lines) - len(later) :]
        for name in ("metrics.csv", "accuracy.csv", "best.safetensors", "checkpoint.safetensors"):
            assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        finished = quiet(net(), settings, tmp_path / "run", resume=True, callbacks=self.callbacks([]))
        assert finished.history == whole.history

    def test_what_changes_the_run_must_be_the_same(self, tmp_path):
        quiet(net(), out=tmp_path, callbacks=[EarlyStopping(HELD_OUT, patience=2)])
        with pytest.raises(RunFolderError, match=r"callbacks is .*'patience': 2.* there, .*'patience': 4.* here"):
            quiet(net(), out=tmp_path, resume=True, callbacks=[EarlyStopping(HELD_OUT, patience=4)])
        with pytest.raises(RunFolderError, match="callbacks is"):
            quiet(net(), out=tmp_path, resume=True)

    def test_who_only_looks_may_come_and_go(self, tmp_path):
        whole = quiet(net())
        with pytest.raises(KeyboardInterrupt):
            quiet(net(), out=tmp_path, callbacks=[StopAt(2, 2)])
        lines = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert quiet(net(), out=tmp_path, resume=True, callbacks=[Lines(lines.append)]).history == whole.history
        assert lines[-1].startswith("step 18: accuracy/task 1 ")
