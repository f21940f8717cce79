"""Each experiment at a tiny size: it runs, reports and draws; and its arithmetic against an independent reference."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lava_meta import convert
from lava_meta.cli.app import app
from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import dataset_sequence, permuted_tasks
from lava_meta.errors import DataError
from lava_meta.experiments import quadratic_binary_task as quadratic
from lava_meta.experiments import residual
from lava_meta.experiments.common.conv import ConvSettings, conv_network
from lava_meta.experiments.common.experiment import Run, find
from lava_meta.experiments.common.features import feature_dataset
from lava_meta.experiments.common.runner import load_results, run_experiment
from lava_meta.experiments.common.training import dense_network
from lava_meta.experiments.open_choices import ChoiceSettings
from lava_meta.experiments.residual import ResidualSettings
from lava_meta.experiments.sign_switch import SwitchSettings, switch
from lava_meta.experiments.spiking import SpikingSettings, equal_in_lava, spiking_network, tasks_of
from lava_meta.io.config import override
from lava_meta.nn import BinaryConv2d, BinaryLinear
from lava_meta.optim import MetaplasticAdam
from lava_meta.training import evaluate

DIGITS = load_dataset("digits")
TINY = ["epochs=1", "train_images=120", "test_images=60", "seeds=1", "m=0,4", "fast=no", "batch_size=40"]
DENSE = [*TINY, "hidden=12"]
CASES = {
    "permuted_mnist": [*DENSE, "tasks=2", "rules=metaplastic,ewc", "seeds=2"],
    "permuted_capacity": [*TINY, "tasks=2", "widths=8,12", "rules=metaplastic,together"],
    "open_choices": [*DENSE, "tasks=2", "batches=60,20", "recalibrated_on=50"],
    "hidden_weights": [*DENSE, "tasks=2"],
    "stream_fashion": [*DENSE, "data=digits", "subsets=3"],
    "mnist_fashion": DENSE,
    "mnist_usps": [*TINY, "channels=3,4"],
    "residual_permuted": [*TINY, "data=digits", "tasks=2", "width=12"],
    "residual_usps": [*TINY, "width=4"],
    "stream_cifar": [*TINY, "subsets=2", "channels=3,4", "hidden=8"],
    "class_incremental": [*DENSE, "features=16", "data=digits", "backbone=random"],
    "sign_switch": [*DENSE, "flips=5,1", "bins=3", "runs=2", "images=50"],
    "spiking": [*DENSE, "tasks=2", "steps=2"],
    "baselines": [*DENSE, "m=0", "tasks=2", "values=2", "rules=plain,metaplastic,bimu,mesu,real-small,real"],
    "quadratic_binary_task": ["seeds=2", "dimensions=2,20", "steps=50", "bins=3"],
}


@pytest.fixture
def image_files(tmp_path, monkeypatch):
    """Files as those of MNIST, Fashion-MNIST and USPS, made of digits."""
    root = tmp_path / "data"
    big = torch.nn.functional.interpolate(DIGITS.train.x[:200].float() * 15, size=28).to(torch.uint8)[:, 0].numpy()
    labels = DIGITS.train.y[:200].to(torch.uint8).numpy()
    for name in ("MNIST", "FashionMNIST"):
        (root / name / "raw").mkdir(parents=True)
        for kind in ("train", "t10k"):
            images = struct.pack(">4B3I", 0, 0, 8, 3, *big.shape) + big.tobytes()
            (root / name / "raw" / f"{kind}-images-idx3-ubyte").write_bytes(images)
            file = root / name / "raw" / f"{kind}-labels-idx1-ubyte"
            file.write_bytes(struct.pack(">4B1I", 0, 0, 8, 1, len(labels)) + labels.tobytes())
    small = big[:, 6:22, 6:22]
    (root / "USPS").mkdir()
    np.savez(root / "USPS" / "usps.npz", x_train=small, y_train=labels, x_test=small, y_test=labels)
    monkeypatch.setenv("LAVA_META_DATA", str(root))


@pytest.mark.parametrize("name", CASES)
def test_it_runs_reports_and_draws(name, image_files, tmp_path):
    experiment = find(name)
    settings = override(experiment.scales["small"], CASES[name])
    results = run_experiment(experiment, settings, tmp_path / "out", scale="small")
    assert list(results.arms) == list(experiment.arms(settings))
    assert all(len(runs) == settings.seeds for runs in results.arms.values())
    report = (tmp_path / "out" / "report.md").read_text()
    assert all(claim.said in report.replace("\\|", "|") for claim in experiment.claims(settings, results))
    figures = sorted(path.stem for path in (tmp_path / "out" / "figures").glob("*.png"))
    assert figures == sorted(experiment.figures(settings, results))
    assert len(figures) >= 1
    label, arm = list(experiment.arms(settings).items())[-1]  # equal settings and seed give equal numbers
    assert experiment.measure(Run(arm, 0, tmp_path / "again")).metrics == results.arms[label][0].metrics


def test_a_run_stopped_in_the_middle_of_a_training_goes_on(tmp_path, monkeypatch):
    """Stopped in the third epoch of the first arm: the resumed experiment ends with the very same tables."""
    experiment = find("permuted_mnist")
    settings = override(
        experiment.scales["small"], [*DENSE, "epochs=2", "tasks=2", "rules=metaplastic,ewc", "checkpoint_seconds=0"]
    )
    step, steps = MetaplasticAdam.step, []

    def stopping(self, *args):
        steps.append(1)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(MetaplasticAdam, "step", stopping)
    with pytest.raises(KeyboardInterrupt, match="2 of 4 epochs are kept"):
        run_experiment(experiment, settings, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "results.json").exists()
    run_experiment(experiment, settings, tmp_path / "stopped", resume=True)
    assert len(steps) == 8 + (12 - 6) + 12 + 12  # three steps an epoch; the epoch that was cut short is run again
    run_experiment(experiment, settings, tmp_path / "whole")
    tables = [(tmp_path / name / "summary.csv").read_text() for name in ("stopped", "whole")]
    assert tables[0] == tables[1]


def test_a_seed_whose_first_one_is_under_way_elsewhere_chooses_alike(tmp_path):
    experiment = find("baselines")
    settings = override(experiment.scales["small"], [*DENSE, "m=0", "tasks=2", "values=2", "rules=metaplastic"])
    arm = experiment.arms(settings)["metaplastic"]
    alone = experiment.measure(Run(arm, 1, tmp_path / "alone" / "seed1"))
    run_experiment(experiment, override(settings, ["seeds=2"]), tmp_path / "out")
    assert alone.data["tried"].keys() == {"4.0", "8.0"}
    assert alone.metrics == load_results(tmp_path / "out")[1].arms["metaplastic"][1].metrics


class TestQuadratic:
    SETTINGS = quadratic.QuadraticSettings(dimensions=(12,), steps=60)

    def test_the_cost_of_a_switch_is_the_difference_of_the_loss(self):
        hessian, optimum = quadratic.problem(self.SETTINGS, 12, seed=0)
        assert np.linalg.eigvalsh(hessian).min() > 10
        path, costs = quadratic.descend(hessian, optimum, 0.01, 60, seed=0)

        def loss(w):
            return (w - optimum) @ hessian @ (w - optimum) / 2

        w = np.where(path[30] >= 0, 1.0, -1.0)
        for i in range(12):
            other = w.copy()
            other[i] *= -1
            assert costs[30, i] == pytest.approx(loss(other) - loss(w), abs=1e-9)

    def test_growth_tells_the_mean_cost(self):
        hessian, optimum = quadratic.problem(self.SETTINGS, 12, seed=1)
        path, costs = quadratic.descend(hessian, optimum, 0.01, 60, seed=1)
        held = (np.sign(path) == np.sign(path[-1])).all(axis=0)
        assert held.sum() >= 2
        growth = np.abs(path[-1]) - np.abs(path[0])
        want = 2 * np.diag(hessian) + 2 * growth / (0.01 * 60)
        np.testing.assert_allclose(costs.mean(axis=0)[held], want[held], rtol=1e-9)

    @pytest.mark.parametrize(("text", "says"), [("coupling=1", "coupling"), ("half_range=20", "half_range")])
    def test_refuses_what_is_no_minimum(self, text, says):
        with pytest.raises(ValueError, match=says):
            override(self.SETTINGS, [text])


def test_switching_signs_is_seen_and_undone():
    """A readout of one weight a class: the loss after a switch can be written down."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    hidden = model[1].weight.data
    images = DIGITS.test.take(range(40))
    before = hidden.clone()
    found = switch(model, hidden, images, flips=213, bins=3, runs=1, draw=torch.Generator().manual_seed(0))
    assert torch.equal(hidden, before)
    assert [size for size, _, _ in found] == sorted(size for size, _, _ in found)
    order = hidden.flatten().abs().argsort(stable=True)
    for (size, loss, _), group in zip(found, order.tensor_split(3), strict=True):
        switched = hidden.flatten().clone()
        switched[group[:213]] *= -1  # bins of 214, 213 and 213: the last two are switched whole
        assert size == pytest.approx(float(hidden.flatten()[group].abs().mean()), rel=1e-6)
        if len(group) == 213:
            want = nn.functional.cross_entropy(images.x.flatten(1).float() @ switched.view(10, 64).T, images.y)
            assert loss == pytest.approx(float(want), rel=1e-5)
    with pytest.raises(ValueError, match="300 signs cannot be switched in a bin of 213"):
        switch(model, hidden, images, flips=300, bins=3, runs=1, draw=torch.Generator())


class TestFeatures:
    SOME = Dataset("some", DIGITS.train.take(range(30)), DIGITS.test.take(range(10)))

    def test_random_convolutions(self):
        got = feature_dataset(self.SOME, "random", 32, seed=0)
        assert got.train.shape == got.test.shape == (32,)
        assert got.train.x.dtype == torch.uint8
        assert torch.equal(got.train.y, self.SOME.train.y)
        levels = got.train.x.double()
        assert (levels.mean(dim=0) - 128).abs().max() < 1
        assert (levels.std(dim=0) - 32).abs().max() < 1
        assert torch.equal(got.test.x, feature_dataset(self.SOME, "random", 32, seed=0).test.x)
        assert not torch.equal(got.test.x, feature_dataset(self.SOME, "random", 32, seed=1).test.x)

    def test_a_backbone_gives_what_its_last_layer_reads(self):
        torch.manual_seed(0)
        few = Dataset("few", DIGITS.train.take(range(2)), DIGITS.test.take(range(2)))
        got = feature_dataset(few, "resnet18", 0, seed=0, weights="none")
        assert got.train.shape == (512,)
        assert got.train.x.any()

    def test_refuses_what_it_does_not_know(self):
        with pytest.raises(ValueError, match="multiple of 4"):
            feature_dataset(self.SOME, "random", 30, seed=0)
        with pytest.raises(ValueError, match="resnet9000"):
            feature_dataset(self.SOME, "resnet9000", 32, seed=0)


class TestNetworks:
    @pytest.mark.parametrize(("norm", "activation"), [("fixed", "sign"), ("batch", "sign"), ("layer", "abs_step")])
    def test_the_convolutional_network_follows_its_settings(self, norm, activation):
        settings = ConvSettings(
            norm=norm, activation=activation, channels=(4, 6), convolutions=2, hidden=(20,), init_std=0.007
        )
        scenario = dataset_sequence([DIGITS, DIGITS])
        model = conv_network(settings, scenario, seed=0)
        assert model(DIGITS.test.x[:8].float()).shape == (8, 10)
        shapes = [tuple(p.shape) for p in model.parameters() if p.dim() >= 2]
        assert shapes == [(4, 1, 3, 3), (4, 4, 3, 3), (6, 4, 3, 3), (6, 6, 3, 3), (20, 24), (10, 20)]
        weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.dim() >= 2])
        assert 0.0065 < float(weights.std()) < 0.0075
        same = conv_network(settings, scenario, seed=0)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))

    def test_what_does_not_fit_is_named(self):
        with pytest.raises(ValueError, match="norm is 'fixed'; a residual network takes batch or layer"):
            ResidualSettings(norm="fixed")
        with pytest.raises(ValueError, match="4 poolings leave nothing of images of 8x8"):
            conv_network(ConvSettings(channels=(2, 2, 2, 2)), dataset_sequence([DIGITS]), 0)
        with pytest.raises(ValueError, match="norm = fixed"):
            SpikingSettings(norm="batch")
        with pytest.raises(ValueError, match="norm is 'fixed'; this experiment is about 'batch'"):
            ChoiceSettings(norm="fixed")
        with pytest.raises(ValueError, match="flips has 2 values for 3 layers"):
            SwitchSettings(flips=(1, 2))

    def test_rate_coded_spikes_follow_the_pixels_and_the_network_takes_them_step_by_step(self):
        settings = SpikingSettings(sequence="split", coding="rate", tasks=5, steps=40, hidden=(9,))
        scenario = tasks_of(settings, DIGITS, seed=3)
        assert [sorted(test.y.unique().tolist()) for test in scenario.tests] == [[2 * k, 2 * k + 1] for k in range(5)]
        train = scenario.train[0]
        rates = train.x.reshape(len(train), 40, 64).float().mean(dim=(0, 1))
        pixels = DIGITS.train.x[DIGITS.train.y < 2].flatten(1).float().mean(dim=0) / 16
        np.testing.assert_allclose(rates, pixels, atol=0.02)
        model = spiking_network(settings, scenario, seed=0).eval()
        x = scenario.tests[0].x[:5].float()
        frames = x.reshape(5, 40, 64)
        assert model(x).shape == (5, 10)
        with torch.no_grad():
            silent = frames.clone()
            silent[:, 20:] = 0
            assert not torch.equal(model(silent.flatten(1)), model(x))
        assert equal_in_lava(model, scenario, 40) == 100
        with pytest.raises(ValueError, match="permuted spikes would lose their time"):
            SpikingSettings(coding="rate")

    def test_the_spiking_network_step_by_step(self):
        """Against the equations, written out."""
        settings = SpikingSettings(hidden=(9, 7), steps=4, beta=0.8, threshold=0.7)
        model = spiking_network(settings, dataset_sequence([DIGITS]), seed=0).eval()
        x = DIGITS.test.x[:6]
        w = [np.where(layer.weight.detach().numpy() >= 0, 1.0, -1.0) for layer in model.synapses]
        mean, std = round(DIGITS.train.mean_level), DIGITS.train.std_level
        image = (x.flatten(1).numpy().astype(float) - mean) @ w[0].T / (std * 8)
        u, s = [np.zeros((6, 9)), np.zeros((6, 7))], [np.zeros((6, 9)), np.zeros((6, 7))]
        total = 0
        for _ in range(4):
            currents = [image, None]
            for i in range(2):
                u[i] = 0.8 * u[i] + currents[i] - 0.7 * s[i]
                s[i] = (u[i] > 0.7).astype(float)
                if i == 0:
                    currents[1] = s[0] @ w[1].T / 3
            total = total + s[1] @ w[2].T / np.sqrt(7)
        np.testing.assert_allclose(model(x.float()).detach().numpy(), total / 4, atol=1e-5)
        assert 0 <= evaluate(model, DIGITS.test) <= 1

    @pytest.mark.parametrize("options", [{}, {"sequence": "split", "coding": "rate", "tasks": 5}])
    def test_the_spiking_network_trains_layer_by_layer_as_step_by_step(self, options):
        settings = SpikingSettings(hidden=(30, 20), steps=6, **options)
        scenario = tasks_of(settings, DIGITS, seed=0)
        model = spiking_network(settings, scenario, seed=0)
        model.readout = nn.Identity()  # which alone differs between training and testing
        x = scenario.train[0].x[:40].float()
        weights = [layer.weight for layer in model.synapses]
        found = []
        for training in (True, False):
            logits = model.train(training)(x)
            loss = (logits * torch.arange(10)).sin().sum()
            found.append((logits.detach(), model.rate, *torch.autograd.grad(loss, weights)))
        assert 0.02 < model.rate < 0.9
        for by_layers, by_steps in zip(*found, strict=True):
            torch.testing.assert_close(by_layers, by_steps, rtol=1e-4, atol=1e-5)
            assert by_steps.abs().max() > 1e-3


class TestCommandLine:
    def run(self, *words):
        return CliRunner().invoke(app, ["experiment", *map(str, words)])

    def test_one_experiment(self, tmp_path):
        words = [word for text in CASES["quadratic_binary_task"] for word in ("--set", text)]
        result = self.run("quadratic-binary-task", *words, "--out", tmp_path / "q")
        assert result.exit_code == 0, result.output
        assert "steps = 50" in result.output
        assert "[4/4]" in result.output
        assert "claimed:" in result.output
        assert self.run("quadratic-binary-task", *words, "--out", tmp_path / "q", "--resume").exit_code == 0

    def test_the_list(self):
        output = self.run("--list").output
        assert all(name in output for name in CASES)

    def test_a_missing_data_set_says_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LAVA_META_DATA", str(tmp_path))
        result = self.run("stream_cifar", "--set", "data=cifar10", "--out", tmp_path / "c")
        assert isinstance(result.exception, DataError)
        assert "cifar10 is in none of these folders" in str(result.exception)
        assert "download=True" in str(result.exception)

    @pytest.mark.parametrize("words", [(), ("spiking", "--all"), ("spiking", "--scale", "huge")])
    def test_words_that_are_off(self, words, tmp_path):
        assert self.run(*words).exit_code == 2


@pytest.mark.parametrize("make", [residual.dense_network, residual.conv_network])
def test_residual_networks_of_units_of_0_and_1_convert(make):
    settings = override(find("residual_usps").scales["small"], ["ends=binary", "norm=layer", "activation=abs_step"])
    model = make(settings, dataset_sequence([DIGITS]), seed=0).eval()
    net = convert(model, input_shape=(1, 8, 8))
    assert net.parity.exact
    images = DIGITS.test.x[:50]
    assert np.array_equal(net.graph.predict(images.numpy()), model(images).argmax(dim=1).numpy())


@pytest.mark.parametrize("make", [residual.dense_network, residual.conv_network])
def test_binary_layers_of_residual_networks_are_gated_and_real_ones_are_not(make):
    settings = override(find("residual_usps").scales["small"], ["ends=real", "blocks=2"])
    model = make(settings, dataset_sequence([DIGITS]), seed=0)
    with pytest.warns(UserWarning, match="2 of the weights"):
        optimizer = replace(settings.training, m=20.0).make_optimizer(model)
    gated = {id(p) for group in optimizer.param_groups if group["m"] > 0 for p in group["params"]}
    binary = {id(m.weight) for m in model.modules() if isinstance(m, (BinaryLinear, BinaryConv2d))}
    assert gated == binary
    assert len(binary) == 2
    assert len([*model.parameters()]) > 4


@pytest.mark.parametrize("hidden", [(256,), (512, 512), (1000, 400)])
def test_a_small_real_network_takes_the_bits_of_the_binary_one(hidden):
    scenario = permuted_tasks(DIGITS, 1, seed=0)
    settings = replace(find("baselines").scales["small"], rules=("real-small",), hidden=hidden)
    real = dense_network(settings, scenario, seed=0)
    binary = dense_network(replace(settings, rules=("plain",)), scenario, seed=0)
    bits, real_bits = (sum(p.numel() for p in net.parameters()) * each for net, each in ((binary, 1), (real, 32)))
    assert 0.85 * bits < real_bits <= bits
