"""What `lava-meta train` does, as a configuration: its flags, its `--config` file and config.yaml in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lava_meta.io.config import OrNone, Several, check, write_config
from lava_meta.training import TrainSettings
from lava_meta.training.run_folder import SETTINGS

if TYPE_CHECKING:
    from lava_meta.data.scenarios import Scenario
    from lava_meta.nn import BinaryMLP

_Units = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class TrainConfig:
    """A data set, the tasks made of it, a network, and how it is trained."""

    data: Annotated[str, Field(description="digits (embedded), mnist, fashion-mnist or usps.")] = "digits"
    scenario: Annotated[
        Literal["permuted", "split", "stream"],
        Field(description="permuted (pixels shuffled for each task), split (classes in groups) or stream."),
    ] = "permuted"
    tasks: Annotated[int, Field(ge=1, description="Tasks, groups of classes, or subsets of the stream.")] = 5
    hidden: Annotated[Several[_Units], Field(description="Units of the hidden layers, separated by commas.")] = (
        512,
        512,
    )
    norm: Annotated[
        Literal["fixed", "batch", "layer"], Field(description="fixed (deploys as it is), batch or layer.")
    ] = "fixed"
    activation: Annotated[
        Literal["sign", "abs_step"], Field(description="Hidden units: sign (+1, -1) or abs_step (0, 1; forgets less).")
    ] = "sign"
    held_out: Annotated[
        float, Field(ge=0, le=0.9, description="Test on this share of the training images: to choose m honestly.")
    ] = 0.0
    device: Annotated[str, Field(description="cpu, or cuda for a GPU (cuda:1 for the second).")] = "cpu"
    threads: Annotated[
        OrNone[_Units], Field(description="Threads of torch; by default chosen by the size of the products.")
    ] = None
    training: TrainSettings = TrainSettings(fast=True)

    def __post_init__(self) -> None:
        check(self)

    def tests(self) -> Scenario:
        """The tasks. Raises `ValueError` for classes that do not part into so many groups."""
        from lava_meta.data import load_dataset
        from lava_meta.data.scenarios import permuted_tasks, split_classes, stream_of_subsets

        seed, dataset = self.training.seed, load_dataset(self.data)
        if self.held_out:
            dataset = dataset.hold_out(self.held_out, seed)
        if self.scenario == "permuted":
            return permuted_tasks(dataset, self.tasks, seed)
        if self.scenario == "stream":
            return stream_of_subsets(dataset, self.tasks, seed)
        classes = dataset.train.classes
        share, rest = divmod(classes, self.tasks)
        if rest:
            raise ValueError(f"tasks is {self.tasks}; {classes} classes do not part into so many equal groups")
        return split_classes(dataset, [range(i * share, (i + 1) * share) for i in range(self.tasks)])

    def network(self, tests: Scenario) -> BinaryMLP:
        """An untrained network for these tasks, on the device."""
        from lava_meta.nn import BinaryMLP
        from lava_meta.training.torch_device import usable_device

        device = usable_device(self.device)
        options: dict[str, Any] = {"tasks": len(tests.tests)} if self.norm == "batch" else {}
        options |= {"activation": self.activation, "seed": self.training.seed}
        model = BinaryMLP.for_images(tests.train[0], self.hidden, self.norm, **options)
        return model.to(device)


@contextmanager
def kept(config: TrainConfig, file: Path) -> Iterator[None]:
    """Write `config` to `file` once the block has run, or is stopped with Ctrl-C after the run in the folder began."""
    try:
        yield
    except KeyboardInterrupt:
        if (file.parent / SETTINGS).exists():
            write_config(file, config)
        raise
    write_config(file, config)
