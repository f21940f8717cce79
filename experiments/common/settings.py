"""Settings of experiments: frozen dataclasses, checked by their fields' types (`lava_meta.io.config`).

lava-meta experiment NAME --config run.yaml --set training.epochs=3 --set hidden=512,512 --set train_images=none
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import PositiveInt

from lava_meta.io import config

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """The base of every experiment's settings. Raises `TypeError` or `ValueError` naming the setting that is wrong."""

    seeds: PositiveInt = 3  # the experiment is run with seeds 0 .. seeds - 1
    threads: PositiveInt = 1  # of torch

    def __post_init__(self) -> None:
        config.check(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return config.to_dict(self)


def changed(settings: S, **values: Any) -> S:
    """`settings` with other values, those of the training too (`epochs=3`), checked as new ones are."""
    return config.changed(settings, values)
