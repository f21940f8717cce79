"""What a network will cost on a chip; see `report`."""

from __future__ import annotations

from lava_meta.loihi.cost.report import Report, report

__all__ = ["Report", "report"]
