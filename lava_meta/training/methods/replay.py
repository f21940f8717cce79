"""Experience replay: a few stored images of what was learned before, in every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.training.evaluation import device_of
from lava_meta.training.methods.base import Hooks, Method, check_whole


@dataclass(frozen=True)
class Replay(Method):
    """Experience replay with a small memory (Chaudhry et al. 2019, arXiv 1902.10486).

    Each batch is joined by as many images drawn from the memory, with replacement; the loss is the mean over both.
    The memory holds a uniform sample of all images of the parts that have ended (a reservoir). What it is compared
    with stores no data: it is the baseline that shows what stored data would give.

    capacity: images kept, at least 1. Storage is capacity * pixels bytes. Where norms keep statistics or an affine a
    task, replayed images pass through those of the present task.
    """

    capacity: int = 1000
    kind: ClassVar[str] = "replay"

    def __post_init__(self) -> None:
        check_whole("capacity", self.capacity, 1)

    def start(self, model: nn.Module) -> Hooks:
        return _Reservoir(self.capacity, device_of(model))


class _Reservoir(Hooks):
    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        self.x = torch.empty(0, dtype=torch.uint8, device=device)
        self.y = torch.empty(0, dtype=torch.int64, device=device)
        self.seen = 0

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not self.seen:
            return x, y
        chosen = torch.randint(len(self.y), (len(y),)).to(self.device, non_blocking=True)
        return torch.cat([x, self.x[chosen]]), torch.cat([y, self.y[chosen]])

    def end_part(self, part: int, images: Images) -> None:
        order = torch.randperm(len(images))
        room = min(max(0, self.capacity - self.seen), len(images))
        chosen = order[:room].to(self.device)
        x, y = images.x[chosen], images.y[chosen]
        self.x, self.y = (torch.cat([self.x, x]), torch.cat([self.y, y])) if self.seen else (x, y)
        # The image that is the k-th of all takes a place drawn from the first k, if the memory has that place.
        rank = self.seen + torch.arange(room, len(images)) + 1
        place = (torch.rand(len(rank), dtype=torch.float64) * rank).long()
        for source, target in zip(order[room:][place < self.capacity], place[place < self.capacity], strict=True):
            self.x[target], self.y[target] = images.x[source], images.y[source]
        self.seen += len(images)

    def tensors(self) -> dict[str, Tensor]:
        return {"x": self.x, "y": self.y, "seen": torch.tensor(self.seen)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        self.x, self.y = (tensors[name].to(self.device, copy=True) for name in ("x", "y"))
        self.seen = int(tensors["seen"])
