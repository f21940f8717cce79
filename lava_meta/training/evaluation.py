"""Testing a model on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.nn import TaskBatchNorm


def evaluate(
    model: nn.Module, images: Images, batch_size: int = 1000, logits_of: Callable[[Tensor], Tensor] | None = None
) -> float:
    """Share of images whose largest logit is their class (the first on ties), 0..1, in eval mode.

    logits_of: raw levels uint8 (n, *shape) to logits, where something else than the model's forward computes them.
    The training mode of every module is put back. Raises `ValueError` when the model does not take the images, or when
    the logits are not (n, >= classes).
    """
    if not isinstance(images, Images):
        raise TypeError(f"images is a {type(images).__name__}; give Images(x, y), or a data set's train or test")
    images = images.to(device_of(model))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            right = torch.zeros((), dtype=torch.int64, device=images.x.device)
            for x, y in zip(images.x.split(batch_size), images.y.split(batch_size), strict=True):
                with fed(model, images):
                    logits = model(x.to(torch.float32)) if logits_of is None else logits_of(x)
                if logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < images.classes:
                    raise ValueError(
                        f"the model gives {tuple(logits.shape)} for {len(x)} images; {images.name} needs logits "
                        f"({len(x)}, {images.classes})"
                    )
                right += (logits.argmax(dim=1) == y).sum()
    finally:
        for module, mode in modes:
            module.training = mode
    return int(right) / len(images)


@contextmanager
def fed(model: nn.Module, images: Images) -> Iterator[None]:
    """Let what the model's forward raises of shapes say which images it was given, as `ValueError`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"{type(model).__name__} does not take {images.name}, (n, {', '.join(map(str, images.shape))}) as float32: "
            f"{str(error).splitlines()[0]}. Give a model of this shape of image, or images of the model's"
        ) from error


def has_statistics(model: nn.Module, task: int) -> bool:
    """False if a norm is to use statistics stored for `task` and none are stored yet."""
    norms = [module for module in model.modules() if isinstance(module, TaskBatchNorm)]
    return not any(norm.statistics == "stored" and not norm.trained[task] for norm in norms)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are. Raises `ValueError` for a model without any."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError(f"{type(model).__name__} has no parameters to train")
    return parameter.device
