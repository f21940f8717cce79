"""What a run of a module is made of: its operations, the values between them, and where in the user's code they are."""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

# Operations that leave values as they are.
SAME = {"detach", "clone", "alias", "lift_fresh", "contiguous", "native_dropout", "dropout"}
# Operations that move values to other places, with zeros around or between.
MOVES = {
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "expand_as"),
    *("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "flip", "roll", "repeat"),
    *("unsafe_split", "unsafe_chunk", "swapaxes", "tril", "triu", "diag_embed"),
    *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "take"),
    *("index_select", "index", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
    *("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "rot90"),
    *("reflection_pad3d", "replication_pad3d", "upsample_nearest3d", "_upsample_nearest_exact3d"),
    *("im2col", "unfold", "diagonal", "movedim", "as_strided"),
}


@dataclass(frozen=True)
class Ref:
    """A value that depends on the images, by its number; of this shape, that of the run."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where in the user's code, and in the model, an operation is done."""

    file: str
    line: int
    module: str  # its name in the model, "" for the model itself
    kind: str  # the module's class

    def __str__(self) -> str:
        code = linecache.getline(self.file, self.line).strip()
        where = f"{self.module} ({self.kind})" if self.module else f"the model ({self.kind})"
        return f"{self.file}:{self.line}, in {where}" + (f": `{code}`" if code else "")


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on values that depend on the images."""

    number: int  # among all operations of the run
    op: Any  # an ATen overload, never one that writes in place; or `put_part`
    args: tuple[Any, ...]  # with a `Ref` for each such value; other tensors are constants, float64
    kwargs: dict[str, Any]
    outputs: tuple[Ref | None, ...]
    place: Place
    types: tuple[torch.dtype | None, ...] = ()  # of the outputs, as PyTorch has them

    @property
    def name(self) -> str:
        """`add` for `aten.add.Tensor`."""
        return "put_part" if self.op is put_part else str(self.op._schema.name).removeprefix("aten::")

    @property
    def pointwise(self) -> bool:
        """Whether PyTorch says that it does something to each number alone."""
        return self.op is not put_part and torch.Tag.pointwise in self.op.tags

    @property
    def refs(self) -> list[Ref]:
        """The values that it takes."""
        return [leaf for leaf in tree_flatten((self.args, self.kwargs))[0] if isinstance(leaf, Ref)]

    def does_the_same(self, other: Step) -> bool:
        """Whether it does what another does, with the same."""
        parts, others = (tree_flatten((own.args, own.kwargs)) for own in (self, other))
        if self.op is not other.op or parts[1] != others[1]:
            return False
        return all(
            torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else type(a) is type(b) and a == b
            for a, b in zip(parts[0], others[0], strict=True)
        )


def put_part(value: Tensor, written: Tensor, *, whole: Tensor, part: Tensor) -> Tensor:
    """A memory of which a part was written, flat: `value` at its places in all of it, then what is written."""
    flat = torch.zeros(len(whole), dtype=torch.float64)
    flat[whole] = value.reshape(-1)
    flat[part] = written.reshape(-1)
    return flat


def makers(steps: Iterable[Step]) -> dict[int, tuple[Step, int]]:
    """By the number of a value, the step that made it, and which of its outputs it is."""
    return {ref.number: (step, i) for step in steps for i, ref in enumerate(step.outputs) if ref is not None}
