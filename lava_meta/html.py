"""Tables as a notebook shows them: what the `_repr_html_` of results and networks return."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """An HTML table; numbers are written as `number` does, cells may be `Shaded`."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Shaded(str):
    """A cell's text on a blue ground, the darker the greater `share` (0..1)."""

    share: float

    def __new__(cls, text: str, share: float) -> Shaded:
        cell = super().__new__(cls, text)
        cell.share = share
        return cell


class Summarised:
    """A network that shows itself by its sizes in a line, and in a notebook by its summary as a table."""

    @property
    def sizes(self) -> str:
        """Its sizes in one line."""
        raise NotImplementedError

    def summary(self) -> list[dict[str, Any]]:
        """One row per layer, each with the same columns."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sizes})"

    def _repr_html_(self) -> str:
        rows = self.summary()
        return table([*rows[0]], [[*row.values()] for row in rows], repr(self))


def number(value: Any) -> str:
    """A value to be read: thousands parted by commas, three digits of what is below a thousand."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _cell(value: Any) -> str:
    style = ""
    if isinstance(value, Shaded):
        ink = "white" if value.share > 0.6 else "inherit"
        style = f' style="background:rgba(0,114,178,{value.share:.2f});color:{ink}"'
    return f"<td{style}>{escape(number(value))}</td>"
