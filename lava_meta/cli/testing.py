"""On which images a network file is tested: by default on the tasks that it has learned."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from lava_meta.io.file_kinds import ARRAY, LEARNING, NETWORK, require_kind

if TYPE_CHECKING:
    from lava_meta.converters import LavaNetwork
    from lava_meta.data import Images
    from lava_meta.io.learned import Learned
    from lava_meta.online_learning import Learner

Network = Annotated[Path, typer.Argument(help="A network file of `lava-meta convert`, or a learner's.")]
AsIs = Annotated[
    bool, typer.Option("--as-is", help="With --data: the test set as it is, not the tasks that were learned of it.")
]


@dataclass(frozen=True)
class Testing:
    """Labelled tests, one or one per task."""

    tests: list[Images]

    def mixed(self, limit: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Images (n, ...) and labels (n,), `limit` at most: the first of each test in equal shares, taken in turn."""
        share = max(1, limit // len(self.tests))
        first = [(test.x[:share].numpy(), test.y[:share].numpy()) for test in self.tests[:limit]]
        order = np.argsort(np.concatenate([np.arange(len(y)) for _, y in first]), kind="stable")
        x, y = (np.concatenate(parts)[order] for parts in zip(*first, strict=True))
        return x, y

    def accuracies(self, network: LavaNetwork | Learner) -> dict[str, float]:
        """Per test, the share of all its images that is classified right, by the compiled kernels."""
        return {test.name: network.accuracy(test) for test in self.tests}

    def accuracy_of(self, network: LavaNetwork | Learner) -> str:
        """`accuracies`, in words."""
        return accuracy_lines(self.accuracies(network), [len(test) for test in self.tests])


def accuracy_lines(accuracies: dict[str, float], counts: Sequence[int]) -> str:
    """One line per test, and the mean over the tests."""
    rows = list(zip(accuracies.items(), counts, strict=True))
    if len(rows) == 1:
        return f"accuracy {100 * rows[0][0][1]:.2f} % of {counts[0]}"
    lines = [f"{name}: {100 * accuracy:.2f} % of {count}" for (name, accuracy), count in rows]
    return "\n".join([*lines, f"accuracy {100 * np.mean([*accuracies.values()]):.2f} %, mean of {len(rows)} tests"])


def check_one_source(images: Path | None, data: str | None) -> None:
    """Raise `BadParameter` if both a file of images and a data set are given."""
    if images is not None and data is not None:
        raise typer.BadParameter("give an .npy file of images, or --data with the name of a data set, not both")


def load_network(path: Path) -> LavaNetwork | Learner:
    """The network or learner in a file. Raises `FormatError` for any other, with what takes it."""
    from lava_meta.converters import load

    require_kind(path, NETWORK, LEARNING)
    return load(path)  # type: ignore[return-value]


def read_images(path: Path) -> NDArray[Any]:
    """The array of an .npy file, mapped into memory. Raises `FormatError` for any other."""
    from lava_meta.errors import FormatError

    require_kind(path, ARRAY)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy's reader of headers raises whatever a damaged one leads to
        raise FormatError(f"{path} is not a whole .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim < 2:
        raise FormatError(f"{path} does not hold one array of images (n, ...)")
    return array


def tests_for(path: Path, learned: Sequence[Learned], data: str | None, *, as_is: bool) -> Testing:
    """The tests of the tasks that the file at `path` has learned, of the data set `data` or, if None, of all.

    If it learned no task of `data`, or `as_is`, the test set of `data` as it is, and a warning on standard error
    that says what was learned. Raises `BadParameter` if nothing says on what to test.
    """
    from lava_meta.data import load_dataset
    from lava_meta.data.scenarios import datasets_of

    fitting = [one for one in learned if one.recipe and (data is None or data in datasets_of(one.recipe))]
    if data is not None and (as_is or not fitting):
        test = load_dataset(data).test
        if learned:
            _warn(f"{path} learned {'; then '.join(one.scenario for one in learned)}; it is tested on {data} as it is")
        else:
            _warn(f"{path} does not say what it learned; it is tested on {data} as it is")
        return Testing([test])
    scenarios = {json.dumps(one.recipe, sort_keys=True): one for one in fitting}  # each once
    tests = [test for one in scenarios.values() for test in _rebuilt(path, one, several=len(scenarios) > 1)]
    if not tests:
        raise typer.BadParameter("give an .npy file of images, or --data with the name of a data set")
    return Testing(tests)


def _rebuilt(path: Path, one: Learned, *, several: bool) -> list[Images]:
    from lava_meta.data.scenarios import rebuild

    assert one.recipe is not None
    scenario = rebuild(one.recipe)
    if one.checksum not in (None, scenario.checksum()):
        _warn(f"{path} learned other images than those of {scenario.name} here: their checksums differ")
    print(f"testing on what was learned: {scenario.name}", file=sys.stderr)
    return [replace(test, name=f"{test.name} of {scenario.name}") if several else test for test in scenario.tests]


def _warn(text: str) -> None:
    print(f"lava-meta: warning: {text}", file=sys.stderr)
