"""report.html: the report as one page that stands alone, its figures inside, its tables sorted at a click.

The page loads nothing: it can be mailed, archived, and read without a network.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from lava_meta.html import table

Rows = Sequence[Sequence[str]]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --ground: #fff; --band: #f5f7f9;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa4ae; --line: #3a424a; --ground: #14171a;
  --band: #1d2226; --accent: #6fb7e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: clamp(1.3rem, 4vw, 1.9rem); line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p { max-width: 46rem; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); }
tbody tr:hover { background: var(--band); }
th { font-weight: 600; white-space: nowrap; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after { content: " \\2195"; color: var(--soft); font-weight: 400; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--accent); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--accent); }
.arms td:not(:first-child), .runs td:not(:first-child) { white-space: nowrap; }
.figures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
figure { margin: 0; overflow-x: auto; }
figure.broad { grid-column: 1 / -1; }
figure.broad img { min-width: 44rem; }
figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 4px; }
figcaption { color: var(--soft); font-size: .9rem; }
summary { cursor: pointer; }
"""

# A click on a column's head sorts by its leading number, or by its text; a second click turns the order round.
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
        return Number.isNaN(x) || Number.isNaN(y)
          ? value(a).localeCompare(value(b), undefined, { numeric: true }) : x - y;
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => down ? order(b, a) : order(a, b));
      table.tBodies[0].append(...rows);
    });
  });
}
"""


def page(title: str, paragraphs: Sequence[str], sections: Sequence[str]) -> str:
    """A whole page of sections, which are HTML; title and paragraphs are text."""
    body = "".join(f'<p class="soft">{escape(text)}</p>' for text in paragraphs)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>{body}\n{''.join(sections)}\n<script>{_SCRIPT}</script></body></html>\n"
    )


def table_section(heading: str, columns: Sequence[str], rows: Rows, kind: str, *, folded: bool = False) -> str:
    """A table under its heading; `folded`: to be opened. kind: its class, for the style."""
    body = f'<div class="wide {kind}">{table(columns, rows)}</div>'
    if folded:
        return f"<h2>{escape(heading)}</h2><details><summary>{len(rows)} rows</summary>{body}</details>"
    return f"<h2>{escape(heading)}</h2>{body}"


def figure_section(figures: Mapping[str, Path]) -> str:
    """Figures by their names, from PNG files; nothing if there are none."""
    if not figures:
        return ""
    shown = "".join(_figure(name, file.read_bytes()) for name, file in figures.items())
    return f'<h2>Figures</h2><div class="figures">{shown}</div>'


def _figure(name: str, png: bytes) -> str:
    width, height = struct.unpack(">II", png[16:24])  # of the header that each PNG begins with
    kind = ' class="broad"' if width > 1.8 * height else ""
    return (
        f'<figure{kind}><img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
    )
