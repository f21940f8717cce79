"""Loggers: what they write is what the run gave, read back by the libraries' own readers."""

import json
import logging
import sys

import pytest

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import PackageMissingError
from lava_meta.nn import BinaryMLP
from lava_meta.training import Callback, TrainSettings, train
from lava_meta.training.loggers import Lines, MLflow, TensorBoard, WeightsAndBiases

DIGITS = load_dataset("digits")
SMALL = Dataset("small", DIGITS.train.take(range(180), "train"), DIGITS.test.take(range(90), "test"))
SCENARIO = permuted_tasks(SMALL, 2, seed=0)
STEPS = [0, 3, 6, 9, 12]  # of the tests: 3 steps per epoch, 2 epochs, 2 tasks


class Stop(Callback):
    def on_step(self, run):
        if run.step == 8:
            raise KeyboardInterrupt


def run(*callbacks, out=None, resume=False):
    model = BinaryMLP.for_images(SMALL.train, [24], seed=1)
    settings = TrainSettings(epochs=2, batch_size=60, m=8.0)
    return train(model, SCENARIO, settings, out, progress=False, callbacks=callbacks, resume=resume)


def stopped_and_resumed(logger, out):
    """The result, of a run that was stopped in its third epoch and went on. logger: makes one."""
    with pytest.raises(KeyboardInterrupt):
        run(logger(), Stop(), out=out)
    return run(logger(), out=out, resume=True)


def accuracies(result):
    return [record.accuracies[0] for record in result.history]


def test_lines():
    lines = []
    result = run(Lines(lines.append, every=5))
    assert [line.split(":")[0] for line in lines] == [f"step {n}" for n in (0, 3, 5, 6, 9, 10, 12)]
    assert f"acc {result.matrix.acc():.3g}, forgetting {result.matrix.forgetting():.3g}" in lines[-1]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = stopped_and_resumed(lambda: TensorBoard(every=1), tmp_path)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    tests = read.Scalars("accuracy/task 1")
    assert [event.step for event in tests] == STEPS
    assert [event.value for event in tests] == pytest.approx(accuracies(result))
    assert [event.step for event in read.Scalars("loss")] == list(range(1, 13))
    assert read.Scalars("acc")[-1].value == pytest.approx(result.matrix.acc())
    with pytest.raises(ValueError, match="TensorBoard needs a folder"):
        run(TensorBoard())


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = []

    class Kept(WeightsAndBiases):
        def write(self, values, step):
            logged.append((step, dict(values)))
            super().write(values, step)

    result = stopped_and_resumed(lambda: Kept(project="toy", dir=str(tmp_path), every=100), tmp_path / "run")
    wandb.teardown()
    folders = list(tmp_path.glob("wandb/offline-run-*"))
    assert len(folders) == 2
    assert len({folder.name.split("-")[-1] for folder in folders}) == 1, "resumed under another id"
    assert {step: values["accuracy/task 1"] for step, values in logged} == dict(
        zip(STEPS, accuracies(result), strict=True)
    )


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder needs no server and no database
    uri = (tmp_path / "mlruns").as_uri()
    result = stopped_and_resumed(lambda: MLflow("toy", uri=uri, every=100), tmp_path / "run")
    client = mlflow.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    history = {m.step: m.value for m in client.get_metric_history(found.info.run_id, "accuracy/task 1")}
    assert history == dict(zip(STEPS, accuracies(result), strict=True))
    assert found.data.params["batch_size"] == "60"
    assert found.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("logger", "package", "install"),
    [
        (TensorBoard, "tensorboard", r"pip install 'lava-meta\[tensorboard\]'"),
        (WeightsAndBiases, "wandb", "pip install wandb"),
        (MLflow, "mlflow", "pip install mlflow"),
    ],
)
def test_a_package_that_is_missing_is_named_before_the_run(logger, package, install, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PackageMissingError, match=install):
        logger()


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="every is 0"):
        Lines(every=0)


def test_what_they_keep_is_json(tmp_path):
    logger = Lines(every=2)
    run(logger)
    again = Lines(every=2)
    again.load(json.loads(json.dumps(logger.state())))
    assert again.state() == logger.state() == {"last": 12}
