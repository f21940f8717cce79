"""The report of spiking networks of any form: counts against PyTorch's own sums over the model's spikes."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("snntorch")
import spiking_models as models
import torch
from torch import nn

import lava_meta
from lava_meta.loihi.cost import GraphReport

OPTIONS = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
STEPS, N = 6, 5


def test_counts_are_those_of_the_networks_spikes(tmp_path) -> None:
    torch.manual_seed(4)
    model = models.louder(
        nn.Sequential(
            nn.Linear(16, 8),
            models.snn.RLeaky(0.8, linear_features=8, **OPTIONS),
            nn.Linear(8, 4),
            models.snn.Leaky(0.7, threshold=0.5, **OPTIONS),
        )
    )
    net = lava_meta.from_snntorch(model, bits=8, form="stock")
    frames = np.random.default_rng(1).integers(0, 2, (STEPS, N, 16))
    spikes = net.graph.spikes(frames, form="fixed_pt")
    found = net.report("loihi2", frames, labels=np.zeros(N, int))
    assert isinstance(found, GraphReport)
    assert found.placed is not None
    rows = {row.node: row for row in found.nodes}
    weights = [node.weight.values for node in net.graph.nodes.values() if hasattr(node, "weight")]
    back = net.graph.neurons["1"].recurrent.node.weight.values
    late = np.concatenate([np.zeros((1, N, 8)), spikes["1"][:-1]])  # what the recurrent synapses get
    done = [
        sum(int((x @ (w != 0).T).sum()) for x in part) / N
        for part, w in ((frames, weights[0]), (late, back), (spikes["1"], weights[1]))
    ]
    assert [row.effective_operations for row in found.nodes] == pytest.approx([done[0], done[1], done[2], 0])
    assert [row.operations for row in found.nodes] == [STEPS * n for n in (128, 64, 32, 0)]
    assert rows["1"].kind == "rleaky neurons"
    assert [row.weight_bits for row in found.nodes] == [8, rows["1"].weight_bits, 8, None]
    assert found.neurobench["Synaptic Operations"] == pytest.approx(
        {"Dense": STEPS * 224, "Effective_MACs": 0, "Effective_ACs": sum(done)}
    )
    everything = np.concatenate([s.reshape(-1) for s in spikes.values()])
    assert found.neurobench["Activation Sparsity"] == pytest.approx(1 - everything.mean())
    classes = spikes[net.graph.output].sum(axis=0).argmax(axis=1)
    assert found.neurobench["Classification Accuracy"] == pytest.approx((classes == 0).mean())
    layers = {row.layer: row for row in found.placed.layers}
    assert layers["3"].spikes_sent == pytest.approx(spikes["3"].sum() / N)
    assert layers["3"].spikes_in == pytest.approx(spikes["1"].sum() / N)
    assert layers["3"].neurons >= 4
    assert found.placed.totals.neuron_updates == STEPS * found.placed.totals.neurons
    assert f"held for {STEPS} time steps" in str(found)
    found.save(tmp_path / "report")
    assert json.loads((tmp_path / "report" / "report.json").read_text())["refused"] == {}


def test_what_does_not_fit_is_named_and_counted_all_the_same() -> None:
    torch.manual_seed(5)
    model = models.louder(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), models.snn.Leaky(0.7, init_hidden=True))
    )
    net = lava_meta.from_snntorch(model, input_shape=(1, 6, 6), bits=8)
    images = np.random.default_rng(2).integers(0, 2, (N, 1, 6, 6))
    found = net.report("loihi2", images, steps=STEPS)
    assert found.placed is None
    assert [*found.refused] == ["2"]
    assert found.refused["2"].startswith("resets by 'subtract' a step late")
    used = torch.tensor(net.graph.nodes["0.conv"].weight.values.reshape(4, 1, 3, 3) != 0).float()
    sums = float(torch.conv2d(torch.tensor(images).float(), used, padding=1).sum())
    assert found.nodes[0].effective_operations == pytest.approx(STEPS * sums / N)
    assert "Does not fit Loihi 2" in str(found)
    with pytest.raises(ValueError, match="weight_bits is 4"):
        net.report("loihi2", images, steps=STEPS, weight_bits=4)
