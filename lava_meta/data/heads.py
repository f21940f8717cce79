"""Which classes a readout decides between, if tasks have classes of their own.

    shared  labels stay, and all tasks have one readout: the same classes in other images (domain-incremental)
    class   one readout for the classes of all tasks, those of each task counted after those before (class-incremental)
    task    the same, but only the classes of the task at hand are compared: the task is known (task-incremental)

Source: van de Ven, Tuytelaars and Tolias, Three types of incremental learning, 2022 (doi 10.1038/s42256-022-00568-3).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, get_args

Head = Literal["shared", "class", "task"]
Heads = tuple[tuple[int, ...], ...]  # the classes of each task


def check_head(head: Head | None) -> None:
    """Raise `ValueError` unless it is one of them, or None."""
    if head is not None and head not in get_args(Head):
        raise ValueError(f"head is {head!r}; choose one of {', '.join(map(repr, get_args(Head)))}")


def offsets(classes: Sequence[int], head: Head | None) -> list[int]:
    """What is added to the labels of each task, of so many classes each."""
    return [0] * len(classes) if head in (None, "shared") else [0, *accumulate(classes[:-1])]
