"""A matplotlib figure that a notebook shows when a cell returns it."""

from __future__ import annotations

import io

import matplotlib.figure


class Figure(matplotlib.figure.Figure):
    """Made without pyplot, and so shown once and freed with its last reference."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=150)
        return out.getvalue()
