"""Batches pass through a running network whole, in order, and with bounded memory."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

pytest.importorskip("lava.magma")

from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.errors import RunError
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised
from lava_meta.processes.shared_memory import shared_array
from lava_meta.processes.stream.process import PixelSource, Sink, Source

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("nothing_left")]


def test_a_ring_gives_back_in_order_what_was_put_in():
    ring = Ring((2, 3), np.int32, slots=3)
    for start in range(0, 30, 3):
        for value in range(start, start + 3):
            ring.put(np.full((2, 3), value))
        assert [ring.get()[0, 0] for _ in range(3)] == [start, start + 1, start + 2]


def test_a_message_has_as_many_rows_as_were_put():
    ring = Ring((4, 2), np.uint8, slots=2)
    for rows in (2, 4, 1, 3):
        sent = np.arange(2 * rows).reshape(rows, 2)
        ring.put(sent)
        assert np.array_equal(ring.get(), sent)
    with pytest.raises(ValueError, match="broadcast"):
        ring.put(np.zeros((5, 2)))


@pytest.mark.lava
def test_a_source_fills_a_batch_that_is_not_full_with_its_last_row():
    inlet, outlet = Ring((4, 2), np.uint8), Ring((4, 2), np.int32)
    source, sink = PixelSource(ring=inlet), Sink(ring=outlet)
    source.s_out.connect(sink.a_in)
    inlet.put(np.array([[1, 2], [3, 4]]))
    with Supervised(sink, Loihi2SimCfg(), timeout=20) as run:
        run.steps(1)
        assert outlet.get().tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]


class GivenUp(Exception):
    """What `check` raises here."""


@pytest.mark.parametrize("action", ["put", "get"])
def test_who_waits_for_the_other_side_checks_on_it(action):
    ring = Ring((1,), np.int32, slots=1)

    def give_up() -> None:
        raise GivenUp

    if action == "put":
        ring.put(np.zeros(1))
        with pytest.raises(GivenUp):
            ring.put(np.zeros(1), give_up)
    else:
        with pytest.raises(GivenUp):
            ring.get(give_up)


@pytest.mark.lava
@pytest.mark.parametrize(
    ("kind", "dtype", "top"),
    [(Source, np.int32, 2**31 - 1), (PixelSource, np.uint8, 255), (Source, np.uint16, 2**16 - 1)],
)
def test_more_batches_than_slots_pass_in_order(kind, dtype, top):
    rng = np.random.default_rng(3)
    sent = rng.integers(0, top, (50, 2, 5), endpoint=True).astype(dtype)
    inlet, outlet = Ring((2, 5), dtype, slots=2), Ring((2, 5), np.int64, slots=2)
    source, sink = kind(ring=inlet), Sink(ring=outlet)
    source.s_out.connect(sink.a_in)
    received = []
    with Supervised(sink, Loihi2SimCfg(), timeout=20) as run:
        run.start(50)
        inlet.put(sent[0], run.check)
        for batch in [*sent[1:], None]:
            if batch is not None:
                inlet.put(batch, run.check)
            received.append(outlet.get(run.check))
        run.wait()
    assert np.array_equal(np.array(received), sent)


def test_a_shared_array_is_one_in_parent_and_child():
    array = shared_array((2, 3), np.int64)
    child = multiprocessing.get_context("fork").Process(target=array.fill, args=(7,))
    child.start()
    child.join()
    assert array.tolist() == [[7, 7, 7], [7, 7, 7]]


@pytest.mark.lava
def test_a_failure_elsewhere_reaches_who_waits_for_a_batch():
    import lava_toys as toys

    giver, outlet = toys.Giver(trouble="raise before", at=2), Ring((3,), np.int32)
    sink = Sink(ring=outlet)
    giver.s_out.connect(sink.a_in)
    with Supervised(sink, Loihi2SimCfg(), timeout=20) as run:
        run.start(5)
        assert outlet.get(run.check).tolist() == [1, 1, 1]
        with pytest.raises(RunError, match="broke on purpose"):
            outlet.get(run.check)
