"""Notebooks, executed by a real kernel: what cells show, how much they print, and cells that are interrupted."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

pytestmark = [pytest.mark.lava, pytest.mark.timeout(240)]

TRAIN = """
    import lava_meta
    digits = lava_meta.load_dataset("digits")
    scenario = lava_meta.permuted_tasks(digits, tasks=2, seed=0)
    model = lava_meta.BinaryMLP.for_images(digits.train, hidden=[32], seed=0)
    result = lava_meta.train(model, scenario, lava_meta.TrainSettings(epochs=40, m=2.0))
    net = lava_meta.convert(model.eval())
"""


class Kernel:
    """A running kernel, and a notebook of the cells that it has executed."""

    def __init__(self) -> None:
        self.notebook = nbformat.v4.new_notebook()
        self.client = nbclient.NotebookClient(self.notebook, timeout=120, allow_errors=True)

    def run(self, code: str, interrupt_after: float | None = None) -> list[Any]:
        """The outputs of one cell."""
        cell = nbformat.v4.new_code_cell(textwrap.dedent(code))
        self.notebook.cells.append(cell)

        async def execute() -> None:
            cell_done = asyncio.ensure_future(self.client.async_execute_cell(cell, len(self.notebook.cells) - 1))
            if interrupt_after is not None:
                await asyncio.sleep(interrupt_after)
                await self.client.km.interrupt_kernel()
            await cell_done

        asyncio.get_event_loop().run_until_complete(execute())
        return list(cell.outputs)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    asyncio.set_event_loop(asyncio.new_event_loop())
    kernel = Kernel()
    with kernel.client.setup_kernel():
        yield kernel


def errors(outputs: list[Any]) -> list[str]:
    return [output.ename for output in outputs if output.output_type == "error"]


def text(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_training_shows_one_live_bar(kernel: Kernel) -> None:
    outputs = kernel.run(TRAIN)
    assert errors(outputs) == []
    bars = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(bars) == 1
    assert len(outputs) <= 3, outputs
    assert "arning" not in text(outputs)


def test_results_networks_and_reports_are_tables(kernel: Kernel) -> None:
    for shown in ("result.matrix", "result", "net", "net.graph", 'net.report("loihi2", digits.test.x[:5])'):
        (output,) = kernel.run(shown)
        assert output.data["text/html"].startswith(("<table", "<p>")), shown
        assert len(output.data["text/plain"]) < 500


def test_a_picture_is_shown_by_returning_it(kernel: Kernel) -> None:
    (output,) = kernel.run("net.picture()")
    assert len(output.data["image/png"]) > 10_000


def test_lava_runs_in_a_notebook(kernel: Kernel) -> None:
    outputs = kernel.run("""
        with net:
            classes = net.predict(digits.test.x, lanes=64)
        print((classes == net.graph.predict(digits.test.x)).all())
    """)
    assert errors(outputs) == []
    assert text(outputs).strip() == "True"


@pytest.mark.slow
def test_an_interrupted_cell_can_be_run_again(kernel: Kernel) -> None:
    forever = """
        import numpy as np
        with net:
            while True:
                net.predict(digits.test.x, lanes=1)
    """
    assert errors(kernel.run(forever, interrupt_after=4.0)) == ["KeyboardInterrupt"]
    outputs = kernel.run("""
        import multiprocessing
        with net:
            again = net.predict(digits.test.x, lanes=64)
        print((again == classes).all(), multiprocessing.active_children())
    """)
    assert errors(outputs) == []
    assert text(outputs).strip() == "True []"
    outputs = kernel.run("result = lava_meta.train(model, scenario, lava_meta.TrainSettings(epochs=10**6, m=2.0))", 3.0)
    assert errors(outputs) == ["KeyboardInterrupt"]
    assert errors(kernel.run(TRAIN)) == []
