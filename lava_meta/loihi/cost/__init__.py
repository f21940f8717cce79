"""What a network will cost on a chip: `report` of chains of binary layers, `acyclic_report` of others, and `cost`."""

from __future__ import annotations

from typing import Any

from lava_meta.graph import AcyclicGraph, Graph
from lava_meta.loihi.cost.acyclic import GraphReport, acyclic_report
from lava_meta.loihi.cost.report import Report, report

__all__ = ["GraphReport", "Report", "acyclic_report", "cost", "report"]


def cost(graph: Graph, images: Any, target: str = "loihi2", **options: Any) -> Report | GraphReport:
    """The report that suits the network; options and errors are those of `report` and `acyclic_report`."""
    if isinstance(graph, AcyclicGraph):
        return acyclic_report(graph, images, target, **options)
    return report(graph, images, target, **options)
