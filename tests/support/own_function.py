"""A consolidation function of a user's own, for the tests of all that may meet one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lava_meta.rule import Consolidation


@dataclass(frozen=True)
class Soft(Consolidation):
    """f(h) = 1 / (1 + |h|/s). Registered by the fixture `registry` and by nothing else."""

    s: float
    kind: ClassVar[str] = "soft"

    def _of(self, distance: Any, xp: Any) -> Any:
        return 1 / (1 + distance / self.s)
