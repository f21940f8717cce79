"""What a network has learned, as its file says it: enough to test it on the same tasks again.

Models, networks and learners carry `learned`, a tuple of `Learned`, the oldest first. `train` and `Learner.fit` add to
it, `convert` hands it on, and every file keeps it in its header.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from lava_meta.errors import FormatError


@dataclass(frozen=True)
class Learned:
    """One training: the tasks, and how they were learned. JSON-ready.

    Raises `TypeError` for values of another type.
    """

    scenario: str  # in words: "permuted(mnist, tasks=5, seed=0)"
    recipe: dict[str, Any] | None = (
        None  # the same for `lava_meta.data.scenarios.rebuild`; None for images of the user's own
    )
    checksum: str | None = None  # CRC-32 of the test images and labels
    rule: dict[str, Any] | None = None  # consolidation function and its parameters; m is a list if layers differ
    method: dict[str, Any] | None = None  # beside the rule, such as EWC
    norm: str | None = None  # fixed, batch or layer; None for a model of the user's own
    seed: int | None = None  # of the training

    def __post_init__(self) -> None:
        for name, kinds in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"{name} of what was learned is {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    def __str__(self) -> str:
        rule = self.rule and ", ".join(f"{name} {value}" for name, value in self.rule.items() if name != "kind")
        how = [
            f"rule {self.rule['kind']}{f' ({rule})' if rule else ''}" if self.rule else "",
            f"method {self.method.get('kind')}" if self.method else "",
            f"norm {self.norm}" if self.norm else "",
            f"seed {self.seed}" if self.seed is not None else "",
        ]
        return "; ".join([self.scenario, *filter(None, how)])


_TYPES: dict[str, tuple[type, ...]] = {
    "scenario": (str,),
    "recipe": (dict, type(None)),
    "checksum": (str, type(None)),
    "rule": (dict, type(None)),
    "method": (dict, type(None)),
    "norm": (str, type(None)),
    "seed": (int, type(None)),
}


def learned_of(owner: Any) -> tuple[Learned, ...]:
    """What a model, network or learner says that it has learned; empty for one that says nothing."""
    found = getattr(owner, "learned", ())
    return tuple(one for one in found if isinstance(one, Learned)) if isinstance(found, tuple) else ()


def added(before: Sequence[Learned], new: Learned) -> tuple[Learned, ...]:
    """`before` and then `new`, which is not repeated when a training goes on."""
    return tuple(before) if before and before[-1] == new else (*before, new)


def to_header(learned: Sequence[Learned]) -> list[dict[str, Any]]:
    """As a file's header holds it."""
    return [one.to_dict() for one in learned]


def from_header(entries: Any) -> tuple[Learned, ...]:
    """What `to_header` gave; None, of files that do not say, is nothing. Fields of later versions are left out.

    Raises `FormatError` for anything else.
    """
    known = {field.name for field in fields(Learned)}
    try:
        return tuple(Learned(**{name: one[name] for name in one.keys() & known}) for one in entries or ())
    except (TypeError, AttributeError) as error:
        raise FormatError(f"the file's account of what was learned cannot be read: {error}") from error
