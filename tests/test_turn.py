"""A turn that threads take one after the other."""

from __future__ import annotations

import os
import pickle
import threading

from lava_meta.turn import Turn


def test_its_thread_may_enter_again_and_another_waits() -> None:
    turn, order = Turn(), []

    def other() -> None:
        with turn:
            order.append("other")

    thread = threading.Thread(target=other)
    with turn, turn:
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_a_forked_child_and_a_copy_have_it_free() -> None:
    turn, held, release = Turn(), threading.Event(), threading.Event()

    def hold() -> None:
        with turn:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with pickle.loads(pickle.dumps(turn)):
        pass
    child = os.fork()
    if child == 0:
        with turn:
            os._exit(0)
    ended = os.waitpid(child, 0)
    release.set()
    thread.join()
    assert ended == (child, 0)
