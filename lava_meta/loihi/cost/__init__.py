"""What a network will cost on a chip; see `report`, and `acyclic_report` for networks that are no chain."""

from __future__ import annotations

from lava_meta.loihi.cost.acyclic import GraphReport, acyclic_report
from lava_meta.loihi.cost.report import Report, report

__all__ = ["GraphReport", "Report", "acyclic_report", "report"]
