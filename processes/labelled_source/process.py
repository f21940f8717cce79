"""A source of spike images with their labels."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_meta.errors import DataError


class LabelledSource(AbstractProcess):
    """Sends `lanes` images and their labels a time step, in order; with `steps`, the same ones in so many time steps.

    Ports: `s_out` (lanes, n_in) and `label_out` (lanes,), int32. Var `position` (1,): the next image; set it to 0 to
    start again. A step past the last whole group of images ends the run with a `DataError`.

    images: integers (n, n_in): spikes, signs, or pixels. labels: (n,) integers, 0 or more. Raises `DataError` for no
    images, for images and labels that differ in number.
    """

    _runtime = None  # Lava's `__del__` reads it, even where `__init__` has raised

    def __init__(
        self, *, images: np.ndarray, labels: np.ndarray, lanes: int = 1, steps: int = 1, name: str | None = None
    ) -> None:
        if lanes < 1 or steps < 1:
            raise ValueError(f"lanes is {lanes} and steps is {steps}; a time step takes at least one image, and it one")
        if images.ndim != 2 or len(images) < lanes or labels.shape != (len(images),):
            raise DataError(
                f"images have shape {images.shape} and labels {labels.shape}; give at least {lanes} images "
                "(n, inputs) and one label each"
            )
        super().__init__(images=images, labels=labels, steps=steps, name=name)
        self.s_out = OutPort(shape=(lanes, images.shape[1]))
        self.label_out = OutPort(shape=(lanes,))
        self.position = Var(shape=(1,), init=0)
