"""Layers of random weights: their distributions, gradients, and the network's two modes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from lava_meta import convert
from lava_meta.nn import AbsStep, BayesianMLP, BernoulliLinear, GaussianLinear, is_binary


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_signs_are_drawn_with_the_probability_of_h():
    layer = BernoulliLinear(5, 3, draws=20_000).eval()
    with torch.no_grad():
        layer.weight.uniform_(-2, 2)
    signs = layer.drawn()
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    mean = torch.tanh(layer.weight.detach())
    bound = 5 * torch.sqrt((1 - mean**2) / layer.draws)
    assert ((signs.mean(dim=0) - mean).abs() < bound).all()
    assert is_binary(layer.weight)


def test_relaxed_weights_have_the_signs_of_drawn_ones_and_the_gradient_of_tanh():
    layer = BernoulliLinear(4, 3, draws=2, temperature=0.5)
    torch.manual_seed(7)
    relaxed = layer.train().drawn()
    torch.manual_seed(7)
    signs = layer.eval().drawn()
    assert torch.equal(torch.sign(relaxed.detach()), signs)
    upstream = torch.randn(relaxed.shape)
    relaxed.backward(upstream)
    want = (upstream * (1 - relaxed.detach() ** 2) / 0.5).sum(dim=0)
    torch.testing.assert_close(layer.weight.grad, want)


def test_gaussian_weights_have_their_mean_and_deviation():
    layer = GaussianLinear(2, 3, draws=20_000)
    with torch.no_grad():
        layer.deviation.uniform_(0.1, 2)
    weights = layer.drawn().detach()
    assert ((weights.mean(0) - layer.mean).abs() < 5 * layer.deviation / 20_000**0.5).all()
    assert ((weights.std(0) / layer.deviation - 1).abs() < 5 / 40_000**0.5).all()


def test_each_copy_of_a_batch_meets_weights_of_its_own():
    layer = BernoulliLinear(6, 4, draws=3).eval()
    x = torch.randn(5, 6)
    torch.manual_seed(3)
    y = layer(x.repeat(3, 1))
    torch.manual_seed(3)
    want = [x @ weights.T for weights in layer.drawn()]
    torch.testing.assert_close(y, torch.cat(want))
    assert not torch.equal(want[0], want[1])


def test_abs_step_and_its_gradient():
    x = torch.tensor([-1.6, -1.4, -1.0, -0.6, -0.4, 0.0, 0.4, 0.6, 1.1, 1.4, 1.6], requires_grad=True)
    y = AbsStep()(x)
    assert y.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    y.sum().backward()
    assert x.grad.tolist() == [0, -1, -1, -1, 0, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("weights", ["bernoulli", "gaussian"])
def test_predictions_are_the_mean_over_the_networks_drawn(weights):
    model = BayesianMLP((6, 5, 3), weights, draws=4, pixel_mean=100.0, pixel_std=50.0, seed=0).eval()
    x = torch.randint(0, 256, (7, 6)).float()
    torch.manual_seed(1)
    got = model(x).detach().numpy()
    torch.manual_seed(1)
    drawn = [model[2].drawn().detach().double().numpy(), model[5].drawn().detach().double().numpy()]

    def normed(v):
        return (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-5)

    results = []
    for first, second in zip(*drawn, strict=True):
        u = normed((x.numpy() - 100) / 50 @ first.T)
        a = (np.abs(u) > 1).astype(float) if weights == "bernoulli" else np.maximum(u, 0)
        z = normed(a @ second.T)
        results.append(z - np.log(np.exp(z).sum(1, keepdims=True)))
    np.testing.assert_allclose(got, np.mean(results, axis=0), atol=1e-5)


def test_the_loss_of_copies_is_the_mean_over_draws():
    model = BayesianMLP((6, 3), draws=2, seed=0).train()
    x, y = torch.randint(0, 256, (4, 6)).float(), torch.tensor([0, 1, 2, 0])
    logits = model(x.repeat(2, 1))
    whole = functional.cross_entropy(logits, y.repeat(2))
    apart = [functional.cross_entropy(part, y) for part in logits.split(4)]
    torch.testing.assert_close(whole, torch.stack(apart).mean())
    with pytest.raises(ValueError, match="batch of 5 is not 2 copies"):
        model(x[:1].repeat(5, 1))


@pytest.mark.parametrize("activation", ["sign", "abs_step"])
def test_the_most_probable_binary_network_is_what_is_drawn_when_sure_and_converts(activation):
    model = BayesianMLP((16, 12, 3), activation=activation, draws=2, pixel_mean=120.0, seed=0).eval()
    one = model.most_probable()
    with torch.no_grad():
        for module in model:
            if isinstance(module, BernoulliLinear):
                module.weight *= 1e4
    x = torch.randint(0, 256, (200, 16), dtype=torch.uint8)
    torch.testing.assert_close(model(x), functional.log_softmax(one(x.float()), dim=1))
    graph = convert(one, input_shape=(16,)).graph
    assert (torch.as_tensor(graph.predict(x.numpy())) == one(x.float()).argmax(dim=1)).all()


def test_the_most_probable_real_network_has_the_means():
    layer = GaussianLinear(5, 3)
    x = torch.randn(4, 5)
    torch.testing.assert_close(layer.most_probable()(x), x @ layer.mean.T)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"weights": "real"}, "weights"), ({"activation": "tanh"}, "activation"), ({"draws": 0}, "draws")],
)
def test_names_what_is_wrong(options, says):
    with pytest.raises(ValueError, match=says):
        BayesianMLP((4, 2), **options)
    with pytest.raises(ValueError, match="temperature"):
        BernoulliLinear(2, 2, temperature=0)
