"""Avalanche's benchmarks as scenarios.

Avalanche is not imported: a benchmark is what has a `train_stream` and a `test_stream` of experiences, whose `dataset`
has items (x, y, task label).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lava_meta.data.arrays import Scale, Scaling, scale_of
from lava_meta.data.heads import Head, Heads, check_head, offsets
from lava_meta.data.images import Images
from lava_meta.data.scenarios import Scenario
from lava_meta.data.sources import experience_arrays
from lava_meta.errors import DataError


def from_avalanche(
    benchmark: Any,
    *,
    head: Head | None = None,
    scale: Scale | Scaling | tuple[Any, Any] | None = None,
    max_level: int = 255,
    name: str = "avalanche",
) -> Scenario:
    """The experiences of a benchmark's streams, in memory; a test per experience, or one test for all.

    Args:
        benchmark: of Avalanche, with a train and a test stream.
        head: "class" or "task" for a benchmark whose experiences number their classes from 0 each; "task" for one of
            which the task is known (`lava_meta.nn.TaskHeads`).
        scale: of values that are no levels, as of `Dataset.from_arrays`: (0, 255) for raw levels in floats, as
            `lava_meta.avalanche.benchmark` has them.
        max_level: the greatest level.
        name: what tables call it.

    Raises:
        DataError: an experience without images or labels, or streams that do not fit each other.
        ValueError: experiences that number other classes with the same labels, without a declared head.
    """
    check_head(head)
    train, tests = (
        [
            experience_arrays(experience, f"{name}, {kind} experience {number}")
            for number, experience in enumerate(getattr(benchmark, f"{kind}_stream"), 1)
        ]
        for kind in ("train", "test")
    )
    if len(tests) not in (1, len(train)):
        raise DataError(f"{name}: {len(train)} experiences to learn and {len(tests)} to test on do not fit each other")
    kept = scale_of(scale, np.concatenate([np.asarray(x) for x, _ in train]), max_level)

    def images(x: Any, y: Any, kind: str, number: int) -> Images:
        levels: Any = x if kept is None else kept(x)
        return Images(levels, y, f"{name} {kind} {number}", max_level=max_level if kept is None else kept.max_level)

    made = [images(*pair, "experience", number) for number, pair in enumerate(train, 1)]
    held = [images(*pair, "test", number) for number, pair in enumerate(tests, 1)]
    task_of = tuple(range(len(train))) if len(tests) > 1 else (0,) * len(train)
    labels = [
        _labels([part for part, at in zip(made, task_of, strict=True) if at == task] + [test])
        for task, test in enumerate(held)
    ]
    own = len({label for some in labels for label in some}) < sum(map(len, labels))  # numbered in each task
    if head is None and own and len(set(labels)) > 1:
        raise ValueError(
            f"{name}: tasks have classes {' and '.join(str(list(some)) for some in dict.fromkeys(labels))}: declare a "
            'head: "shared", "class" or "task"'
        )
    added = offsets([max(some) + 1 for some in labels], head if own else None)
    heads: Heads = tuple(tuple(label + offset for label in some) for some, offset in zip(labels, added, strict=True))
    classes = 1 + max(max(some) for some in heads)

    def numbered(part: Images, task: int) -> Images:
        return replace(part, y=part.y + added[task], classes=classes)

    return Scenario(
        name,
        tuple(numbered(part, task) for part, task in zip(made, task_of, strict=True)),
        tuple(numbered(test, task) for task, test in enumerate(held)),
        task_of,
        heads=heads if head == "task" else None,
    )


def _labels(parts: Sequence[Images]) -> tuple[int, ...]:
    return tuple(sorted({int(label) for part in parts for label in part.y.unique()}))
