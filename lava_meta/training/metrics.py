"""The accuracy matrix, and what it says about learning and forgetting.

`R[i, j]` is the accuracy on test j after experience i, with experiences counted from 1 and row 0 measured before any
training. For readers (tables, CSV columns, figures) tasks count from 1 as well; indices in code and in JSON (`task_of`)
from 0. Let `last(j)` be the last experience that trained task j and `first(j)` the first; in a sequence of T distinct
tasks both are the task's own place. Then, after experience k, over the tasks begun by then:

    ACC         mean of R[k, j]: how good it is at everything learned
    BWT         mean, where last(j) < k, of R[k, j] - R[last(j), j]: what later learning did to earlier tasks
    forgetting  mean, where last(j) < k, of max(R[1 .. k-1, j]) - R[k, j]: what was lost from the best
    FWT         mean, where 1 < first(j) <= k, of R[first(j) - 1, j] - R[0, j]: what earlier learning gave later tasks

Sources: ACC, BWT and FWT from Lopez-Paz and Ranzato, Gradient Episodic Memory, 2017 (arXiv 1706.08840), section 2,
whose matrix starts at row 1 and keeps row 0 as the vector b; forgetting, and the averages part way, from Chaudhry et
al., Riemannian Walk, 2018 (arXiv 1801.10112), section 3. They are stated for distinct tasks; `first` and `last` carry
them to streams that come back to a task.

An accuracy that was not measured is NaN, and a mean that needs it is NaN too: nothing is averaged over what happens to
be there. A mean over no task (BWT of a single one) is NaN as well.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import FormatError, require
from lava_meta.html import Shaded, table
from lava_meta.io.files import read_json, reading, write_json, write_text


@dataclass(frozen=True, eq=False)
class AccuracyMatrix:
    """Accuracies after each experience on each test, and their summaries; see the module's equations.

    Raises `ValueError` for fields that do not fit each other, or accuracies outside 0..1.
    """

    values: NDArray[
        Any
    ]  # float64 (experiences + 1, tests), fractions 0..1; row 0 before any training; NaN: not measured
    task_of: tuple[int, ...]  # (experiences,), the test that belongs to each
    names: tuple[str, ...]  # (tests,)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "task_of", tuple(int(task) for task in self.task_of))
        object.__setattr__(self, "names", tuple(self.names))
        if values.shape != (len(self.task_of) + 1, len(self.names)) or not values.size:
            raise ValueError(
                f"values has shape {values.shape}; {len(self.task_of)} experiences and {len(self.names)} tests need "
                f"({len(self.task_of) + 1}, {len(self.names)})"
            )
        if not all(0 <= task < len(self.names) for task in self.task_of):
            raise ValueError(f"task_of is {self.task_of}; it must name tests 0..{len(self.names) - 1}")
        if ((values < 0) | (values > 1)).any():
            raise ValueError("accuracies must be fractions between 0 and 1, or NaN where not measured")

    @property
    def parts(self) -> int:
        """Number of trained experiences, T."""
        return len(self.task_of)

    def __getitem__(self, index: Any) -> Any:
        """`matrix[after, test]`, a fraction, or any part of `values`: `after` 0 is before training, tests from 0."""
        return self.values[index]

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        """The values, for numpy; they cannot be changed unless they are copied."""
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    def __len__(self) -> int:
        return len(self.values)

    def to_pandas(self) -> Any:
        """A data frame: a row after each experience, 0 before any training, and a column per test; fractions.

        Raises `PackageMissingError` if pandas is not installed.
        """
        require("pandas", "AccuracyMatrix.to_pandas")
        import pandas

        rows = pandas.RangeIndex(len(self), name="after")
        return pandas.DataFrame(self.values, index=rows, columns=pandas.Index(self.columns(), name="test"))

    def acc(self, after: int | None = None) -> float:
        """ACC: mean of `R[k, j]` over the tasks begun by experience k = `after` (default: all)."""
        k = self._part(after)
        return _mean([self.values[k, j] for j in self._tasks(k)])

    def bwt(self, after: int | None = None) -> float:
        """BWT: mean of `R[k, j] - R[last(j), j]` over the tasks whose last training was before experience k.

        Negative if later experiences made earlier tasks worse.
        """
        k = self._part(after)
        return _mean([self.values[k, j] - self.values[last, j] for j, last in self._earlier(k)])

    def forgetting(self, after: int | None = None) -> float:
        """Mean of `max(R[1 .. k-1, j]) - R[k, j]` over the tasks whose last training was before experience k.

        The maximum is over the rows that were measured; with none measured the result is NaN.
        """
        k = self._part(after)
        lost = []
        for j, _ in self._earlier(k):
            measured = self.values[1:k, j][~np.isnan(self.values[1:k, j])]
            lost.append(measured.max() - self.values[k, j] if len(measured) else math.nan)
        return _mean(lost)

    def fwt(self, after: int | None = None) -> float:
        """FWT: mean of `R[first(j) - 1, j] - R[0, j]` over the tasks that began after experience 1, by experience k."""
        k = self._part(after)
        first = {j: self.task_of.index(j) + 1 for j in self._tasks(k)}
        return _mean([self.values[i - 1, j] - self.values[0, j] for j, i in first.items() if i > 1])

    def summary(self) -> dict[str, float]:
        """`{"acc", "bwt", "fwt", "forgetting"}` after the last experience, as fractions."""
        return {"acc": self.acc(), "bwt": self.bwt(), "fwt": self.fwt(), "forgetting": self.forgetting()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: accuracies that were not measured are None."""
        return {
            "names": list(self.names),
            "task_of": list(self.task_of),
            "values": [[_none(value) for value in row] for row in self.values.tolist()],
            "summary": {name: _none(value) for name, value in self.summary().items()},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> AccuracyMatrix:
        """Inverse of `to_dict`. Raises `FormatError` when a field is missing or does not fit."""
        try:
            values = [[math.nan if value is None else value for value in row] for row in content["values"]]
            return cls(np.array(values, dtype=np.float64), tuple(content["task_of"]), tuple(content["names"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not an accuracy matrix: {error!r}") from error

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict`, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> AccuracyMatrix:
        """Read what `to_json` wrote. Raises `FormatError` for a file that is not that."""
        with reading(path):
            return cls.from_dict(read_json(path))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line per row (part, task, then one column per test), atomically; empty: not measured.

        Experiences and tasks count from 1; row 0, before any training, has no task.
        """
        rows = [
            [part, self.task_of[part - 1] + 1 if part else "", *("" if math.isnan(v) else repr(v) for v in row)]
            for part, row in enumerate(self.values.tolist())
        ]
        write_csv(path, ["part", "task", *self.columns()], rows)

    def __str__(self) -> str:
        """A small table in percent, one line per experience, with ACC so far at its end; tasks count from 1."""
        heads = [task_name(task) for task in range(len(self.names))]
        lines = ["after  " + " ".join(f"{head:>6}" for head in heads) + "    ACC"]
        for part, row in enumerate(self.values.tolist()):
            cells = " ".join(
                f"{'-' if math.isnan(v) else f'{100 * v:.1f}':>{max(6, len(head))}}"
                for head, v in zip(heads, row, strict=True)
            )
            acc = self.acc(part) if part else math.nan
            lines.append(f"{part:5}  {cells}" + ("" if math.isnan(acc) else f"  {100 * acc:5.1f}"))
        return "\n".join(lines)

    def __repr__(self) -> str:
        parts, tests = self.parts, len(self.names)
        return f"AccuracyMatrix({parts} experiences, {tests} tests, ACC {100 * self.acc():.1f} %)"

    def _repr_html_(self) -> str:
        """As `str`, with the accuracies shaded."""
        rows = []
        for part, row in enumerate(self.values.tolist()):
            cells = ["-" if math.isnan(v) else Shaded(f"{100 * v:.1f}", v) for v in row]
            acc = self.acc(part) if part else math.nan
            rows.append([part, *cells, "" if math.isnan(acc) else f"{100 * acc:.1f}"])
        heads = [task_name(task) for task in range(len(self.names))]
        return table(["after", *heads, "ACC"], rows, "Test accuracy (%)")

    def columns(self) -> list[str]:
        """The tests as columns of a table: "task 1: digits test, permutation 1"."""
        return [f"{task_name(task)}: {name}" for task, name in enumerate(self.names)]

    def _part(self, after: int | None) -> int:
        if after is None:
            return self.parts
        if not 1 <= after <= self.parts:
            raise ValueError(f"after is {after}; it must lie in 1..{self.parts}")
        return after

    def _tasks(self, k: int) -> list[int]:
        return sorted(set(self.task_of[:k]))

    def _earlier(self, k: int) -> list[tuple[int, int]]:
        last = {j: i for i, j in enumerate(self.task_of[:k], start=1)}
        return [(j, i) for j, i in sorted(last.items()) if i < k]


def task_name(index: int) -> str:
    """What tables, figures and columns call the task of `index`, which counts from 0: "task 1" is the first."""
    return f"task {index + 1}"


def write_csv(path: str | os.PathLike[str], head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table as CSV, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _none(value: float) -> float | None:
    return None if math.isnan(value) else value
