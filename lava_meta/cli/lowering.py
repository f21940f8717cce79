"""The command that shows what becomes of a rule on a chip: `lower`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_meta.cli.app import Overwrite, app
from lava_meta.cli.outputs import check_outputs, figure_files


@app.command()
def lower(
    *,
    rule: Annotated[str, typer.Option(help="tanh2 or exponential (with --m); linear or quadratic (with --T).")],
    m: Annotated[float | None, typer.Option(min=0, help="Metaplasticity, in 1/(units of the hidden weight).")] = None,
    T: Annotated[float | None, typer.Option("--T", help="Range, in units of the hidden weight.")] = None,
    precision: Annotated[str, typer.Option(help="fixed (the engine's integers) or float.")] = "fixed",
    inputs: Annotated[str, typer.Option(help="spikes (0 or 1) or signs (+1 sent as a spike).")] = "spikes",
    scale: Annotated[float | None, typer.Option(help="Tag units of a hidden weight of 1; by default the best.")] = None,
    surrogate: Annotated[
        str, typer.Option(help="For a gate that is no polynomial: nearest, linear, quadratic, or refuse.")
    ] = "nearest",
    picture: Annotated[
        Path | None, typer.Option(help="Draw the declared and the lowered gate: PNG and PDF beside it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Lower a rule to the strings of Lava's learning engine, and show what that costs."""
    import re

    import numpy as np

    from lava_meta.online_learning.learning_engine.distance import distances, engine_gate
    from lava_meta.plotting import figures
    from lava_meta.rule import consolidation_from_dict
    from lava_meta.rule.lowering import lower as to_engine

    check_outputs([] if picture is None else figure_files(picture), overwrite=overwrite)
    given = {name: value for name, value in (("m", m), ("T", T)) if value is not None}
    engine = to_engine(
        consolidation_from_dict({"kind": rule, **given}),
        precision=precision,
        inputs=inputs,
        scale=scale,
        surrogate=surrogate,
    )
    print(engine.summary())
    if precision == "fixed":
        _print(engine.stages(), "Products, in the engine's integers")
        rows = [
            {name: value if isinstance(value, str) else f"{value:.4f}" for name, value in row.items()}
            for row in distances(engine)
        ]
        _print(rows, "One step of the integers against the gate expressed, in tag units")
    if picture is not None:
        h = np.linspace(0.0, engine.reach, 501)
        taken = {f"integers, trace {y}": engine_gate(engine, y) for y in (8, 127)} if precision == "fixed" else {}
        gates = (h, engine.declared(h)), (h, engine.consolidation(h))
        names = str(engine.declared).split("(points")[0], re.sub(r"(\.\d\d)\d+", r"\1", str(engine.consolidation))
        figures.save(figures.lowered_gate(*gates, taken, names), picture)
        print(f"wrote {picture.with_suffix('.png')} and {picture.with_suffix('.pdf')}")


def _print(rows: list[dict[str, str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*row.values())
    Console(width=110).print(table)
