"""Feature vectors for class-incremental learning: what a fixed network makes of images, in 8 bits.

random      fixed random convolutions, rectified and pooled: needs nothing, and separates digits well enough
NAME        the input of the last linear layer of any of torchvision's classifiers, such as resnet18, with the
            weights that torchvision has for it (fetched by torchvision, or found in its cache)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.data import Dataset, Images
from lava_meta.errors import DataError

_BATCH = 500
_CENTRE, _LEVELS = 128, 32  # level of a feature's mean, and levels a standard deviation
_CELLS = 2  # random convolutions are pooled to 2x2 cells


def feature_dataset(dataset: Dataset, backbone: str, features: int, seed: int, weights: str = "DEFAULT") -> Dataset:
    """The data set with feature vectors, uint8 (n, features), instead of images.

    Each feature is centred on level 128, one standard deviation of its own over all training images is 32 levels, and
    what lies beyond 0..255 is cut. Left with their own means, features share a pattern that fills the sums of the first
    layer and closes its window (measured: 3 % of the values inside). features: how many the random convolutions give, a
    multiple of 4; a backbone has its own number.

    Raises `ValueError` for a name that torchvision does not know and `DataError` where its weights cannot be had.
    """
    extract = _random(dataset, features, seed) if backbone == "random" else _backbone(backbone, weights)
    train, test = (_extracted(images, extract) for images in (dataset.train, dataset.test))
    mean, std = train.mean(dim=0), train.std(dim=0).clamp(min=1e-12)
    name = f"{dataset.name}, {backbone} features"

    def quantized(values: Tensor, images: Images) -> Images:
        x = (_CENTRE + _LEVELS * (values - mean) / std).round().clamp(0, 255).to(torch.uint8)
        return Images(x, images.y, f"{images.name}, {backbone} features", images.classes)

    return Dataset(name, quantized(train, dataset.train), quantized(test, dataset.test))


@torch.inference_mode()
def _extracted(images: Images, extract: nn.Module) -> Tensor:
    parts = [extract(x.to(torch.float32) / images.max_level) for x in images.x.split(_BATCH)]
    return torch.cat(parts).cpu().clone()


class _RandomConvolutions(nn.Module):
    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        self.filters = filters

    def forward(self, x: Tensor) -> Tensor:
        maps = functional.conv2d(x, self.filters, padding=self.filters.shape[-1] // 2).relu()
        return functional.adaptive_avg_pool2d(maps, _CELLS).flatten(1)


def _random(dataset: Dataset, features: int, seed: int) -> nn.Module:
    if features % _CELLS**2:
        raise ValueError(f"features is {features}; random convolutions give a multiple of {_CELLS**2}")
    depth, height, _ = dataset.train.shape
    size = 3 if height < 16 else 5
    draw = torch.Generator().manual_seed(seed)
    filters = torch.randn(features // _CELLS**2, depth, size, size, generator=draw)
    return _RandomConvolutions(filters - filters.mean(dim=(1, 2, 3), keepdim=True))


class _Backbone(nn.Module):
    """The input of a classifier's last linear layer, for images scaled and normed as torchvision's weights expect."""

    mean: Tensor
    std: Tensor
    kept: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        linear[-1].register_forward_pre_hook(lambda module, args: setattr(self, "kept", args[0]))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        x = functional.interpolate(x, size=224, mode="bilinear", antialias=True)
        self.model((x - self.mean) / self.std)
        return self.kept.flatten(1)


def _backbone(name: str, weights: str) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(f"features of {name!r} are not known: give random, or a classifier of torchvision")
    try:
        model = models.get_model(name, weights=None if weights == "none" else weights)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"the weights of {name} cannot be had: {error}. Fetch them once where there is a network: "
            f"torchvision.models.get_model({name!r}, weights='DEFAULT')"
        ) from error
    return _Backbone(model)
