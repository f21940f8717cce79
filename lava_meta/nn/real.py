"""The full-precision counterpart of `BinaryMLP`: what the rule does if no weight is binary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import nn

from lava_meta.nn.binary import BinaryLayer
from lava_meta.nn.layers import Pixels
from lava_meta.nn.networks import check_dense, measured, seeded
from lava_meta.nn.norms import SampleNorm, TaskBatchNorm, select_task

if TYPE_CHECKING:
    from lava_meta.data import Images


class GatedLinear(BinaryLayer, nn.Linear):
    """`nn.Linear`, whose real weights the metaplastic optimizers gate as if their signs were what computes."""

    capturable: ClassVar[bool] = True


class RealMLP(nn.Sequential):
    """A dense network of real weights on raw pixels: sizes (pixels, hidden, ..., classes), ReLU, no biases.

    The control of the paper: a metaplastic optimizer gates the very weights that compute, and nothing is gained, since
    a weight cannot grow without changing what the network says. `norm` is `"batch"` (the paper's; options as for
    `TaskBatchNorm`) or `"layer"`; both leave the scale of the weights without effect. Weights start uniform in
    (-init_width, init_width).

    Input: (n, ...) raw pixels of any numeric type. Output: logits (n, classes). It does not convert to integers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        norm: Literal["batch", "layer"] = "batch",
        *,
        pixel_mean: float = 0.0,
        pixel_std: float = 80.0,
        max_level: int = 255,
        init_width: float = 0.05,
        seed: int | None = None,
        **batch_norm: Any,
    ) -> None:
        check_dense(sizes, norm, ("batch", "layer"), pixel_std, batch_norm)
        layers: list[nn.Module] = [nn.Flatten(), Pixels(pixel_mean, 1 / pixel_std, max_level)]
        with seeded(seed):
            for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
                linear = GatedLinear(fan_in, fan_out, bias=False)
                nn.init.uniform_(linear.weight, -init_width, init_width)
                layers += [linear, TaskBatchNorm(fan_out, **batch_norm) if norm == "batch" else SampleNorm()]
                if i < len(sizes) - 2:
                    layers.append(nn.ReLU())
        super().__init__(*layers)

    @classmethod
    def for_images(
        cls, images: Images, hidden: Sequence[int], norm: Literal["batch", "layer"] = "batch", **options: Any
    ) -> RealMLP:
        """A network for these images: their pixels, classes, mean, deviation and brightest level are measured."""
        return cls(
            (images.features, *hidden, images.classes),
            norm,
            **measured(images),
            **options,
        )

    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task` (batch norm)."""
        select_task(self, task)
