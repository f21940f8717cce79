"""Sequences in which data are learned: permuted tasks, split classes, data sets in a row, streams of subsets.

A `Scenario` is what the training loop runs through and what the accuracy matrix is measured on. Its experiences are
learned in order, each of one task, which has one test. Everything drawn at random comes from one seed, and what is
drawn for an experience depends on that seed and its index only: the first five of ten permuted tasks
are the five of five.

Sources: permuted pixels, Goodfellow et al. 2013 (arXiv 1312.6211); split classes, Zenke et al. 2017
(arXiv 1703.04200); data sets in a row and a stream of subsets, Laborieux et al. 2021 (arXiv 2003.03533).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import numpy as np
import torch

from lava_meta.data.datasets import Dataset, load_dataset
from lava_meta.data.heads import Head, Heads, check_head, offsets
from lava_meta.data.images import Images
from lava_meta.errors import DataError, FormatError
from lava_meta.io.memory import require_memory


class Experiences(Sequence[Images]):
    """A sequence of images made when asked for, and not kept: fifty permuted tasks need the memory of one."""

    def __init__(self, count: int, make: Callable[[int], Images]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Images: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Images, ...]: ...
    def __getitem__(self, index: int | slice) -> Images | tuple[Images, ...]:
        indices = range(self._count)[index]
        if isinstance(indices, range):
            return tuple(self._make(i) for i in indices)
        return self._make(indices)

    def __iter__(self) -> Iterator[Images]:
        return map(self._make, range(self._count))


@dataclass(frozen=True)
class Scenario:
    """Experiences learned one after the other, a test per task, and the task of each experience.

    `name` holds the whole recipe, seed included. Raises `ValueError` if there is no experience or no test, if `task_of`
    does not name one test per experience, or if the tests differ in shape, classes or levels.
    """

    name: str
    train: Sequence[Images]  # in the order in which they are learned; take an item once: it may be made again
    tests: Sequence[Images]
    task_of: tuple[int, ...]  # (experiences,), index into tests
    recipe: dict[str, Any] | None = None  # JSON-ready, for `rebuild`; None if a data set is the user's own
    heads: Heads | None = None  # the classes of each test, if only these are compared: `lava_meta.nn.TaskHeads`

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.tests):
            raise ValueError(f"{self.name}: a scenario needs at least one experience to learn and one test")
        if len(self.task_of) != len(self.train):
            raise ValueError(f"{self.name}: {len(self.train)} experiences, but task_of names {len(self.task_of)} tests")
        if not all(0 <= task < len(self.tests) for task in self.task_of):
            raise ValueError(f"{self.name}: task_of is {self.task_of}; it must name tests 0..{len(self.tests) - 1}")
        if self.heads is not None and len(self.heads) != len(self.tests):
            raise ValueError(f"{self.name}: {len(self.heads)} heads for {len(self.tests)} tests; give one per test")
        same_kind(self.name, self.tests)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.tests[0].shape

    @property
    def classes(self) -> int:
        """Number of classes, the width of the readout."""
        return self.tests[0].classes

    def __repr__(self) -> str:
        experiences, tests = len(self.train), len(self.tests)
        return f"Scenario({self.name!r}, {experiences} experiences, {tests} tests, {self.classes} classes)"

    def hold_out(self, fraction: float, seed: int) -> tuple[Scenario, Sequence[Images]]:
        """The scenario with fewer images to learn, and those of each experience that are held out.

        Of experience k from 1 the share is drawn from (seed, k - 1), of every class; the tests stay.
        """

        def split(index: int) -> tuple[Images, Images]:
            drawn = np.random.SeedSequence([seed, index]).generate_state(1)[0]
            return self.train[index].split(fraction, int(drawn))

        _seed(seed)
        count = len(self.train)
        recipe = self.recipe and {"kind": "rest", "of": self.recipe, "fraction": fraction, "seed": seed}
        name = f"{self.name}, {fraction:g} held out (seed {seed})"
        rest = replace(self, name=name, train=Experiences(count, lambda index: split(index)[0]), recipe=recipe)
        return rest, Experiences(count, lambda index: split(index)[1])

    def checksum(self) -> str:
        """CRC-32 of the test images and labels, 8 hexadecimal digits."""
        crc = 0
        for test in self.tests:
            crc = zlib.crc32(test.x.cpu().contiguous().numpy().data, crc)
            crc = zlib.crc32(test.y.cpu().contiguous().numpy().data, crc)
        return f"{crc:08x}"


def permuted_tasks(dataset: Dataset, tasks: int, seed: int, *, first_identity: bool = False) -> Scenario:
    """The same images again and again, for each task with its pixels in another fixed random order.

    Task k's permutation is drawn from (seed, k - 1), k from 1; with `first_identity` task 1 keeps the pixels where they
    are.
    Training images are permuted when a task begins. Raises `ValueError` for fewer than one task or a negative seed.
    """
    _positive("tasks", tasks)
    _seed(seed)

    def permute(images: Images, task: int) -> Images:
        if first_identity and task == 0:
            return images
        order = np.random.default_rng([seed, task]).permutation(images.features)
        return images.permuted(order, f"{images.name}, permutation {task + 1}")

    first = ", first as it is" if first_identity else ""
    return Scenario(
        f"permuted({dataset.name}, tasks={tasks}, seed={seed}{first})",
        Experiences(tasks, lambda task: permute(dataset.train, task)),
        tuple(permute(dataset.test, task) for task in range(tasks)),
        tuple(range(tasks)),
        _recipe("permuted", [dataset], tasks=tasks, seed=seed, first_identity=first_identity),
    )


def split_classes(
    dataset: Dataset, groups: Sequence[Sequence[int]], *, head: Literal["class", "task"] = "class"
) -> Scenario:
    """One task per group of classes, as ((0, 1), (2, 3), ...); labels stay.

    With the head "class" all classes are compared in all tasks, with "task" those of the task at hand
    (`lava_meta.nn.TaskHeads`). Raises `ValueError` for no group, an empty group, a label that is not a class, or one
    named twice.
    """
    if head not in ("class", "task"):
        raise ValueError(f"head is {head!r}; choose 'class' or 'task'")
    named = [label for group in groups for label in group]
    if not groups or not all(len(group) for group in groups):
        raise ValueError(f"groups is {groups}; give at least one group, and at least one class in each")
    wrong = sorted({label for label in named if not 0 <= label < dataset.train.classes})
    if wrong:
        raise ValueError(f"groups names class {wrong[0]}; {dataset.name} has classes 0..{dataset.train.classes - 1}")
    twice = sorted({label for label in named if named.count(label) > 1})
    if twice:
        raise ValueError(f"groups names class {twice[0]} more than once")
    heads = tuple(tuple(int(label) for label in group) for group in groups)
    known: dict[str, Any] = {} if head == "class" else {"head": head}

    def group_of(images: Images, group: Sequence[int]) -> Images:
        return images.classes_only(group, f"{images.name}, classes {' '.join(map(str, group))}")

    return Scenario(
        f"split({dataset.name}, groups={' | '.join(' '.join(map(str, group)) for group in groups)})",
        tuple(group_of(dataset.train, group) for group in groups),
        tuple(group_of(dataset.test, group) for group in groups),
        tuple(range(len(groups))),
        _recipe("split", [dataset], groups=list(map(list, heads)), **known),
        heads if head == "task" else None,
    )


def dataset_sequence(
    datasets: Sequence[Any], *, pad_to: tuple[int, int] | None = None, head: Head | None = None
) -> Scenario:
    """One data set after the other, as MNIST and then Fashion-MNIST.

    Args:
        datasets: each a `Dataset`, or whatever `Dataset.of` makes one of.
        pad_to: (height, width): smaller images are centred on a black field of that size, as USPS's 16x16 for MNIST's
            28x28.
        head: "shared", "class" or "task" (`lava_meta.data.heads`), which data sets of different classes need. None:
            they have the same classes.

    Raises:
        ValueError: no data set, or data sets that differ in shape, levels, or classes without a head.
    """
    check_head(head)
    if not datasets:
        raise ValueError("datasets is empty; give at least one")
    datasets = [_numbered(dataset, number, len(datasets)) for number, dataset in enumerate(datasets, 1)]
    train, tests = [d.train for d in datasets], [d.test for d in datasets]
    if pad_to is not None:
        train, tests = [i.padded(*pad_to) for i in train], [i.padded(*pad_to) for i in tests]
    names = " then ".join(d.name for d in datasets)
    heads = None
    if head is not None:
        counts = [test.classes for test in tests]
        first = offsets(counts, head)
        classes = max(count + offset for count, offset in zip(counts, first, strict=True))
        train, tests = (
            [part.relabelled(offset, classes) for part, offset in zip(parts, first, strict=True)]
            for parts in (train, tests)
        )
        heads = tuple(tuple(range(o, o + count)) for o, count in zip(first, counts, strict=True))
    same_kind(names, tests)
    size = f", {pad_to[0]}x{pad_to[1]}" if pad_to else ""
    kind = f", head={head}" if head else ""
    recipe = _recipe(
        "sequence", datasets, pad_to=None if pad_to is None else list(pad_to), **({"head": head} if head else {})
    )
    return Scenario(
        f"sequence({names}{size}{kind})",
        tuple(train),
        tuple(tests),
        tuple(range(len(train))),
        recipe,
        heads if head == "task" else None,
    )


def _numbered(data: Any, number: int, count: int) -> Dataset:
    """A data set of a sequence, whose errors say which it is."""
    try:
        return Dataset.of(data)
    except (DataError, TypeError) as error:
        raise type(error)(f"data set {number} of {count}: {error}") from None


def stream_of_subsets(dataset: Dataset, subsets: int, seed: int) -> Scenario:
    """The training images cut into disjoint random subsets, seen one after the other; one test throughout.

    Subsets differ in size by one image at most. Raises `ValueError` for fewer than one subset, more subsets than
    images, or a negative seed.
    """
    _positive("subsets", subsets)
    _seed(seed)
    if subsets > len(dataset.train):
        raise ValueError(f"{subsets} subsets, but {dataset.name} has {len(dataset.train)} training images")
    order = np.random.default_rng([seed, 0]).permutation(len(dataset.train))
    pieces = np.array_split(order, subsets)

    def piece(index: int) -> Images:
        return dataset.train.take(pieces[index], f"{dataset.train.name}, subset {index + 1}")

    name = f"stream({dataset.name}, subsets={subsets}, seed={seed})"
    recipe = _recipe("stream", [dataset], subsets=subsets, seed=seed)
    return Scenario(name, Experiences(subsets, piece), (dataset.test,), (0,) * subsets, recipe)


def all_together(scenario: Scenario) -> Scenario:
    """All experiences of a scenario as one, their images shuffled: the upper bound of every comparison.

    The tests stay. A network must serve all of them as one task: if its norm keeps an affine or statistics per task,
    take `affine="shared"` and one task. Memory holds the images of all experiences at once.
    """

    def together(index: int) -> Images:
        parts = list(scenario.train)
        x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
        return replace(parts[0], x=x, y=y, name=f"all experiences of {scenario.name}")

    recipe = None if scenario.recipe is None else {"kind": "together", "of": scenario.recipe}
    return Scenario(f"together({scenario.name})", Experiences(1, together), scenario.tests, (0,), recipe)


def one_experience(scenario: Scenario, index: int) -> Scenario:
    """Experience `index` of a scenario and its test, alone. Raises `IndexError` if there is none."""
    if not 0 <= index < len(scenario.train):
        raise IndexError(f"{scenario.name} has experiences 0..{len(scenario.train) - 1}, not {index}")
    return Scenario(
        f"experience {index + 1} of {scenario.name}",
        Experiences(1, lambda _: scenario.train[index]),
        (scenario.tests[scenario.task_of[index]],),
        (0,),
        None if scenario.recipe is None else {"kind": "part", "of": scenario.recipe, "index": index},
        None if scenario.heads is None else (scenario.heads[scenario.task_of[index]],),
    )


def rebuild(recipe: dict[str, Any]) -> Scenario:
    """The scenario whose `recipe` this is, from data sets that `load_dataset` finds here.

    Raises `FormatError` for a recipe of another form, `DataError` for a data set that is missing, `TooLargeError` if
    the tests do not fit in memory.
    """
    try:
        options = dict(recipe)
        kind = options.pop("kind")
        if kind == "together":
            return all_together(rebuild(options["of"]))
        if kind == "part":
            return one_experience(rebuild(options["of"]), options["index"])
        if kind == "rest":
            return rebuild(options["of"]).hold_out(options["fraction"], options["seed"])[0]
        datasets = [_dataset(**source) for source in options.pop("data")]
        if kind == "sequence":
            return dataset_sequence(datasets, **options)
        if kind == "permuted":
            bytes_of_tests = options["tasks"] * datasets[0].test.x.numel()
            require_memory(bytes_of_tests, "Rebuilding the tests", "test on fewer tasks")
        return _MAKERS[kind](datasets[0], **options)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
        raise FormatError(f"the recipe of what was learned cannot be read: {error!r}") from error


_MAKERS: dict[str, Callable[..., Scenario]] = {
    "permuted": permuted_tasks,
    "split": split_classes,
    "stream": stream_of_subsets,
}


def datasets_of(recipe: dict[str, Any]) -> list[str]:
    """Names of the data sets in a recipe, as `load_dataset` takes them; empty for a recipe of another form."""
    while isinstance(recipe.get("of"), dict):
        recipe = recipe["of"]
    sources = recipe.get("data")
    return [source["name"] for source in sources if "name" in source] if isinstance(sources, list) else []


def _dataset(name: str, held_out: float = 0.0, seed: int = 0) -> Dataset:
    dataset = load_dataset(name)
    return dataset.hold_out(held_out, seed) if held_out else dataset


def _recipe(kind: str, datasets: Sequence[Dataset], **options: Any) -> dict[str, Any] | None:
    sources = [dataset.source for dataset in datasets]
    return None if None in sources else {"kind": kind, "data": sources, **options}


def same_kind(name: str, images: Sequence[Images]) -> None:
    """Raise `ValueError` unless all have the shape, classes and levels of the first."""
    for other in images[1:]:
        for field, hint in _HINTS.items():
            ours, theirs = getattr(images[0], field), getattr(other, field)
            if ours != theirs:
                raise ValueError(f"{name}: {field} is {ours} for {images[0].name}, {theirs} for {other.name}{hint}")


_HINTS = {
    "shape": "; pad_to=(height, width) brings images to one size",
    "classes": '; declare a head: dataset_sequence(datasets, head="shared", "class" or "task")',
    "max_level": "",
}


def _positive(what: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{what} is {value}; it must be at least 1")


def _seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
