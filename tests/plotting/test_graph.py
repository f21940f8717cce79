"""The picture of a network of any form: a row per node, and a track for each value that is still to be taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_nodes

from lava_meta.graph import AcyclicGraph
from lava_meta.graph.acyclic import READOUT
from lava_meta.plotting.graph import draw_graph, tracks_of
from lava_meta.plotting.network import picture, save


def edges(graph: AcyclicGraph) -> dict[str, tuple[str, ...]]:
    return {"input": (), **{name: node.sources for name, node in graph.nodes.items()}, READOUT: (graph.output,)}


@pytest.mark.parametrize("seed", range(30))
def test_no_value_runs_through_another(seed: int) -> None:
    taken = edges(random_nodes.graph(seed))
    tracks, rows = tracks_of(taken), {name: row for row, name in enumerate(taken)}
    for name in taken:
        takers = [rows[other] for other, sources in taken.items() if name in sources]
        end = max(takers, default=rows[name])
        between = [other for other in taken if rows[name] < rows[other] < end]
        assert all(tracks[other] != tracks[name] for other in between)


def test_it_names_every_node_and_joins_each_to_its_sources(tmp_path: Path) -> None:
    graph = random_nodes.graph(3)
    figure = picture(graph)
    axis = figure.axes[0]
    words = [text.get_text() for text in axis.texts]
    assert {*edges(graph)} <= {*words}
    assert len(axis.patches) == sum(len({*sources}) for sources in edges(graph).values())
    for row in graph.summary():
        assert not row["synapses"] or f"{row['synapses']:,}" in words
    save(figure, tmp_path / "a.svg")
    save(draw_graph(graph), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
