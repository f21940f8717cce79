"""What changes while a run goes on, to and from a checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lava_meta.errors import FormatError
from lava_meta.training.callbacks import Callbacks
from lava_meta.training.checkpoint import load_optimizer, optimizer_tensors
from lava_meta.training.evaluation import device_of
from lava_meta.training.history import History
from lava_meta.training.methods import Hooks
from lava_meta.training.run_folder import RunFolder


@dataclass
class RunState:
    """A run between two epochs; beside it torch's own random generators, which models may draw from."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    method: Hooks
    order: torch.Generator  # of the images
    history: History
    callbacks: Callbacks

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the run, by name."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        tensors |= {f"method.{name}": tensor for name, tensor in self.method.tensors().items()}
        tensors |= {"random.order": self.order.get_state(), "random.torch": torch.get_rng_state()}
        device = device_of(self.model)
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        return tensors

    def to_dict(self) -> dict[str, Any]:
        """All the rest, as JSON holds it."""
        history = self.history
        state = {"done": history.done, "history": history.to_list(), "threads": torch.get_num_threads()}
        if history.ended:
            state["ended"] = history.ended
        if self.callbacks.all:
            state["callbacks"] = self.callbacks.to_dict()
        return state

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> int | None:
        """Go back to what `tensors` and `to_dict` gave.

        Returns:
            The number of threads that the run was computed on, if it is known.

        Raises:
            FormatError: They are those of another run.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        try:
            self.model.load_state_dict(under("model."))
            load_optimizer(self.optimizer, under("optimizer."))
            self.method.load(under("method."))
            self.order.set_state(tensors["random.order"])
            torch.set_rng_state(tensors["random.torch"])
            device = device_of(self.model)
            if device.type == "cuda":
                torch.cuda.set_rng_state(tensors["random.cuda"], device)
            self.history.load(state["history"], state["done"], state.get("ended", ()))
            self.callbacks.load(state.get("callbacks", {}))
            return _threads(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise FormatError(f"the checkpoint does not fit this run: {error}") from error


class Checkpoints:
    """When and where a run is kept, if it is."""

    def __init__(self, folder: RunFolder | None, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.kept = 0  # epochs in the folder
        self._saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.seconds

    def save(self, state: RunState) -> None:
        if self.folder is None:
            return
        self.folder.save(state.tensors(), state.to_dict())
        self.kept, self._saved_at = state.history.done, time.monotonic()
        self.save_metrics(state.history)

    def save_metrics(self, history: History) -> None:
        if self.folder is not None:
            self.folder.save_metrics(history.matrix(), history.to_list())

    def load(self, state: RunState) -> int | None:
        """Go back to the checkpoint in the folder; the threads that its run was computed on."""
        assert self.folder is not None
        threads = state.load(*self.folder.load())
        self.kept = state.history.done
        self.save_metrics(state.history)
        return threads

    @property
    def begun(self) -> bool:
        return self.folder is not None and self.folder.begun


def _threads(state: dict[str, Any]) -> int | None:
    threads = state.get("threads")  # earlier versions did not say
    if "threads" in state and (type(threads) is not int or threads < 1):
        raise ValueError(f"it names {threads!r} threads")
    return threads
