"""One run of a module as the list of tensor operations that it did with its input.

The module is called as it is, in float64, on two images, or on one (`lava_meta.converters.recording.alone`). PyTorch
tells of every operation that arrives at its kernels (`TorchDispatchMode`), below autograd functions, hooks,
parametrizations and whatever Python the forward is written in: tests of shapes have been decided, and what is made of
parameters alone has been computed. What stays is what is done to the images. Values are known by the memory that they
lie in, so `x.data = sign(x.data)` and writing in place are seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_map_only, tree_structure

from lava_meta.converters.recording.calling import COARSE, as_tree, each, is_wide, untouched
from lava_meta.converters.recording.every_module import every_module
from lava_meta.converters.recording.exported import advice
from lava_meta.converters.recording.half import rounded_to
from lava_meta.converters.recording.masked import whole
from lava_meta.converters.recording.places import innermost
from lava_meta.converters.recording.steps import Place, Ref, Step, makers, put_part
from lava_meta.converters.recording.written_out import EQUATIONS, Functions, whole_numbers
from lava_meta.errors import ConversionError

IMAGES = 2  # images of a recorded run: enough to see which values belong to which image

_READS = {  # of values, by Python: what follows may depend on them
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "item",
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "allclose",
}
_COLLECTED = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
_CAST = torch.ops.aten._to_copy.default
_LEAVES = {Tensor.numpy, Tensor.tolist, Tensor.__array__}  # of torch, to where nothing sees what is done
_EMPTY = {f"aten::{name}" for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")}


@dataclass(frozen=True)
class Decision:
    """A test of values of the images by Python, such as `if x.max() > 1`, and how it went in the run."""

    value: Ref  # one boolean
    outcome: bool
    place: Place


@dataclass
class Recording:
    """What a run did."""

    steps: list[Step]
    decisions: list[Decision]
    input: Ref
    output: Any  # what the module returned, with a `Ref` for each value
    modules: dict[int, str] = field(repr=False, default_factory=dict)
    images: int = IMAGES
    rounded: frozenset[int] = frozenset()  # the numbers of operations that round to half precision
    rounded_at: frozenset[tuple[str, int]] = frozenset()  # files and lines of these
    left: Place | None = None  # where values of the images were handed to what is not PyTorch
    again: Callable[[int], Recording] | None = field(repr=False, default=None)  # with a test that goes the other way

    def is_idle(self, decision: Decision) -> bool:
        """Whether the model computes the same however a test goes, as where it only warns."""
        if self.again is None:
            return False
        number = next(i for i, own in enumerate(self.decisions) if own is decision)
        try:
            other = self.again(number)
        except ConversionError:  # it fails, or asks for more, as for a message
            return False
        same = len(self.steps) == len(other.steps) and tree_structure(self.output) == tree_structure(other.output)
        return (
            same
            and tree_leaves(self.output) == tree_leaves(other.output)
            and all(
                own.does_the_same(its) and own.outputs == its.outputs
                for own, its in zip(self.steps, other.steps, strict=True)
            )
        )

    @cached_property
    def made_by(self) -> dict[int, tuple[Step, int]]:
        """By the number of a value, the step that made it, and which of its outputs it is."""
        return makers(self.steps)


class Float64(TorchDispatchMode):
    """Inside, every floating value is float64, whatever the code names; subclasses see each operation."""

    by_kernels: frozenset[str] = frozenset()  # operations that are left as they are, though there are equations
    rounds = False  # whether the operation at hand rounds to half precision: that is a quantizer, and stays

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would import its compiler to say that this is not to be compiled: seconds, and nothing is."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func._schema.name).removeprefix("aten::")
        equation = None if name in self.by_kernels else EQUATIONS.get(name)
        if equation is not None:
            with self:
                found = equation(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        if torch.is_inference_mode_enabled():  # there, operations arrive that are made of others elsewhere
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return self.done(func, args, kwargs or {})

    def done(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Do the operation."""
        if func._schema.name == "aten::_assert_tensor_metadata":  # that floats are of the type that was exported
            return None
        if self.rounds:
            return rounded_to(args[0], kwargs["dtype"])
        if draws(func):  # in float64 other numbers would be drawn
            return each(to_float64, func(*args, **kwargs))
        args = whole_numbers(func, args)
        result = func(*each(to_float64, args), **each(to_float64, kwargs))
        if func._schema.name in _EMPTY:  # what lies in new memory means nothing, but stays the same if it is 0
            result.zero_()
        if isinstance(result, Tensor) and result.dtype == torch.float32 and not func._schema.is_mutable:
            result = _of_integers(func, args, kwargs, result)
        # What is written in place is what was given; what is made, as by torch.zeros, is float64 too.
        return result if func._schema.is_mutable else each(to_float64, result)


def _of_integers(func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor:
    """What an operation on integers gives in float64, as of `x.int() / 3`, which PyTorch rounds to float32."""
    given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    if not given or any(part.is_floating_point() for part in given) or func is _CAST:
        return result
    wide, others = widened((args, kwargs))
    found: Tensor = func(*tree_map(to_float64, wide), **tree_map(to_float64, others))
    return found if found.dtype == torch.float64 else result


def draws(func: Any) -> bool:
    """Whether an operation draws random numbers into new memory, by no tensor's values or shape."""
    schema = func._schema
    random = torch.Tag.nondeterministic_seeded in func.tags
    return random and not schema.is_mutable and not any("Tensor" in str(own.type) for own in schema.arguments)


def widened(given: Any) -> Any:
    """Integers as float64, which has no ends; bits as they are."""
    return tree_map_only(Tensor, lambda part: part if part.dtype == torch.bool else part.double(), given)


def counted(op: Any) -> bool:
    """Whether an operation has a number: PyTorch detaches what it makes, or not, by who else holds it."""
    return str(op._schema.name) != "aten::detach"


def to_float64(value: Any) -> Any:
    """A floating tensor or type as float64; anything else as it is, as types of 8 bits, to which values are rounded."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64:
        return value.to(torch.float64)
    return torch.float64 if is_wide(value) else value


@dataclass
class _Memory:
    """What lies in one storage: by geometry (offset, size, stride) the number of a value."""

    latest: tuple[Any, int]
    known: dict[Any, int]
    keep: torch.UntypedStorage  # held, so that its memory is not given to another value
    width: int  # bytes of an element


class _Recorder(Float64):
    def __init__(
        self, model: nn.Module, turned: int = -1, *, draws_again: bool = False, casts_round: bool = True
    ) -> None:
        super().__init__()
        self._casts_round = casts_round  # those of weights do in any case
        self.turned = turned  # the number of a test that goes the other way
        self._draws_again = draws_again  # the same random numbers at each call
        self.names = {id(module): name for name, module in every_module(model).items()}
        self.steps: list[Step] = []
        self.decisions: list[Decision] = []
        self.rounded: set[int] = set()  # the numbers of operations that round to half precision
        self.rounded_at: set[tuple[str, int]] = set()
        self.done_before = 0
        self.left: Place | None = None
        self._memory: dict[int, _Memory] = {}
        self._constants: dict[Any, Tensor] = {}
        self._values = 0
        self._shapes: dict[int, tuple[int, ...]] = {}

    def done(self, func: Any, args: Any, kwargs: Any) -> Any:
        number, self.done_before = self.done_before, self.done_before + counted(func)
        name = str(func._schema.name).removeprefix("aten::")
        refs: list[Ref] = []
        place: list[Place] = []

        def at() -> Place:
            if not place:
                place.append(self._place())
            return place[0]

        def seen(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            ref = self.find(leaf, at)
            if ref is None:
                return self._constant(leaf)
            refs.append(ref)
            return ref

        leaves: list[Any] = []
        each(leaves.append, (args, kwargs))
        known = any(isinstance(leaf, Tensor) and self._is_known(leaf) for leaf in leaves)
        recorded: Any = (each(seen, args), each(seen, kwargs)) if known else ((), {})
        if refs and name in _READS:
            return self._read(func, args, refs[0], at())
        random = torch.Tag.nondeterministic_seeded in func.tags
        if random and not (draws(func) and self._draws_again):
            raise ConversionError(
                f"{at()} draws random numbers ({name}) in eval mode: call it in training mode alone, or draw the same "
                "at each call, as torch.randn(..., generator=torch.Generator().manual_seed(0))"
            )
        self.rounds = func is _CAST and kwargs.get("dtype") in COARSE and (self._casts_round or not refs)
        if self.rounds:
            self.rounded.add(number)
            self.rounded_at.add((at().file, at().line))
        result = super().done(func, args, kwargs)
        if not refs or name == "_has_compatible_shallow_copy_type":
            return result
        written = func._schema.is_mutable
        turned = torch.Tag.inplace_view in func.tags  # another shape of what lies there, as `transpose_` gives it
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        if written:
            func, recorded = self._out_of_place(func, recorded, at)
        written = written and not turned
        before = self._whole(args[0]) if written else None
        noted = tuple(self.note(output, written=written) if isinstance(output, Tensor) else None for output in outputs)
        types = tuple(output.dtype if isinstance(output, Tensor) else None for output in outputs)
        self.steps.append(Step(number, func, recorded[0], recorded[1], noted, at(), types))
        if written and before is not None and noted[0] is not None:
            self._merge(args[0], before, noted[0], at())
        return result

    def _is_known(self, tensor: Tensor) -> bool:
        """Whether a value lies in a tensor's memory; what is done to weights alone, row by row at times, is none."""
        return tensor.untyped_storage().data_ptr() in self._memory

    def _constant(self, tensor: Tensor) -> Tensor:
        """A copy; one for all uses of a weight that stays as it is, as in a network with time steps."""
        key = (tensor.untyped_storage().data_ptr(), _geometry(tensor), tensor.dtype)
        known = self._constants.get(key)
        value = to_float64(tensor.detach())
        if known is None or not torch.equal(known, value):
            known = self._constants[key] = value.clone()
        return known

    def _read(self, func: Any, args: Any, ref: Ref, place: Place) -> Any:
        """What Python reads of a value: of one boolean, it is noted, to be proven."""
        name = str(func._schema.name).removeprefix("aten::")
        if name not in ("_local_scalar_dense", "item", "is_nonzero") or args[0].dtype != torch.bool:
            raise ConversionError(
                f"{place} asks for values of the images ({name}): what follows depends on them, and a network of "
                "integers has no branches. Use torch.where, or tests of shapes; what is only reported, as a count, "
                "belongs behind `if self.training`"
            )
        outcome = bool(super().done(func, args, {})) != (len(self.decisions) == self.turned)
        self.decisions.append(Decision(ref, outcome, place))
        return outcome

    def _whole(self, tensor: Tensor) -> tuple[Any, Any] | None:
        """What lies in all of the memory of which a tensor is a part, and its geometry; None if it is all of it."""
        storage = tensor.untyped_storage()
        size = storage.nbytes() // tensor.element_size()
        if size == tensor.numel():
            return None
        memory = self._memory.get(storage.data_ptr())
        if memory is None:  # a constant, as new memory is
            flat = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (size,), (1,))
            return to_float64(flat).clone(), (0, (size,), (1,))
        return self._ref(memory.latest[1]), memory.latest[0]

    def _merge(self, tensor: Tensor, before: tuple[Any, Any], written: Ref, place: Place) -> None:
        """All of a memory, after a part of it was written."""
        value, geometry = before
        size = tensor.untyped_storage().nbytes() // tensor.element_size()
        part = _places(_geometry(tensor), size)
        whole = _places(geometry, size)
        if len(whole) != size:
            raise ConversionError(f"{place} writes into a part of a tensor that is a part itself: use torch.cat")
        if isinstance(value, Tensor):  # of a constant, that part is the images' already
            value[part] = 0
        ref = self._new((size,))
        places = {"whole": whole, "part": part}
        self.steps.append(Step(-1, put_part, (value, written), places, (ref,), place))
        flat = (0, (size,), (1,))
        storage = tensor.untyped_storage()
        self._memory[storage.data_ptr()] = _Memory(
            (flat, ref.number), {flat: ref.number}, storage, tensor.element_size()
        )

    def _out_of_place(self, func: Any, recorded: Any, at: Callable[[], Place]) -> tuple[Any, Any]:
        """The operation that gives what this one writes."""
        args, _ = recorded
        aten = torch.ops.aten
        name = str(func._schema.name).removeprefix("aten::")
        if name == "copy_":
            return aten.expand_as.default, ((args[1], args[0]), {})
        if name == "index_put_":
            (mask,) = args[1] if len(args[1]) == 1 else (None,)
            if isinstance(mask, Ref) and isinstance(args[2], Tensor) and not args[2].numel():
                raise ConversionError(
                    f"{at()} writes what a mask chooses, which is nothing of the images that the model was read with: "
                    "use torch.where"
                )
            if isinstance(mask, Ref) and mask.shape == tuple(args[0].shape):  # into a value, or into new memory
                return aten.where.self, ((mask, args[2], args[0]), {})
        packet = getattr(aten, name.removesuffix("_"), None)
        overload = getattr(packet, func._overloadname, None) or getattr(packet, "int", None)  # as transpose.int
        if not name.endswith("_") or overload is None:
            raise ConversionError(f"{at()} writes into a tensor ({name}), which is not supported: make a new one")
        return overload, recorded

    def find(self, tensor: Tensor, at: Callable[[], Place]) -> Ref | None:
        """The value that lies in a tensor's memory; None for a constant."""
        if not tensor.numel():
            return None
        memory = self._memory.get(tensor.untyped_storage().data_ptr())
        if memory is None:
            return None
        geometry = _geometry(tensor)
        if geometry not in memory.known:
            memory.known[geometry] = self._alias(memory, tensor, at())
        return self._ref(memory.known[geometry])

    def _alias(self, memory: _Memory, tensor: Tensor, place: Place) -> int:
        """A view that was made before its memory was written: its elements are taken from what was written."""
        latest, number = memory.latest
        size = memory.keep.nbytes() // memory.width
        places = _places(latest, size)
        index = torch.full((size,), -1)
        index[places] = torch.arange(len(places))
        taken = index[_places(_geometry(tensor), size)].reshape(tensor.shape)
        if (taken < 0).any():
            raise ConversionError(f"{place} writes into a part of a tensor: use torch.where, or torch.cat")
        ref = self._new(tuple(tensor.shape))
        self.steps.append(Step(-1, torch.ops.aten.take.default, (self._ref(number), taken), {}, (ref,), place))
        return ref.number

    def note(self, tensor: Tensor, *, written: bool = False) -> Ref:
        ref = self._new(tuple(tensor.shape))
        storage, geometry = tensor.untyped_storage(), _geometry(tensor)
        memory = self._memory.get(storage.data_ptr())
        if memory is None or written:
            self._memory[storage.data_ptr()] = _Memory(
                (geometry, ref.number), {geometry: ref.number}, storage, tensor.element_size()
            )
        elif tensor.is_floating_point():
            memory.known.setdefault(geometry, ref.number)  # a view of the same elements is the value that it was
        else:
            memory.known[geometry] = ref.number
        return ref

    def _new(self, shape: tuple[int, ...]) -> Ref:
        self._shapes[self._values] = shape
        self._values += 1
        return self._ref(self._values - 1)

    def _ref(self, number: int) -> Ref:
        return Ref(number, self._shapes[number])

    def _place(self) -> Place:
        return innermost(self.names)


def _places(geometry: tuple[Any, ...], size: int) -> Tensor:
    """Where in a memory of `size` elements those of a tensor lie, flat, in the tensor's order."""
    offset, extents, strides = geometry
    return torch.arange(size).as_strided(extents, strides, offset).reshape(-1)


def _geometry(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tuple(tensor.size()), tuple(tensor.stride())


def _of_several_inputs(model: nn.Module) -> str:
    """What to do about a forward that takes more than images."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return ""
    needed = [part for part in parameters if part.default is part.empty and part.kind not in _COLLECTED]
    if len(needed) == 1 and needed[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        return ""
    names = ", ".join(part.name for part in needed)
    return f". Its forward takes {names}: wrap it in a module whose forward takes the images alone"


class _Drawn(Float64):
    """Keeps the random numbers that a run draws."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []

    def done(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = super().done(func, args, kwargs)
        if draws(func):
            self.drawn.append(result.clone())
        return result

    def equals(self, other: _Drawn) -> bool:
        """Whether both runs drew the same."""
        return len(self.drawn) == len(other.drawn) and all(map(torch.equal, self.drawn, other.drawn))


class _Leaving(TorchFunctionMode):
    """Notes where values of the images leave PyTorch, as by `.numpy()`: what comes back is taken for a constant."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder = self.recorder
        if func in _LEAVES and recorder.left is None and recorder.find(args[0], recorder._place) is not None:
            recorder.left = recorder._place()
        return func(*args, **(kwargs or {}))


def record(model: nn.Module, x: Tensor, turned: int = -1, *, casts_round: bool = True) -> Recording:
    """Run `model` on x, float64 (images, ...), and say what it did. The model is a copy in float64, left as it was.

    Casts to half precision round what is given to them, unless all of the model was in it (`casts_round`).

    Raises:
        ConversionError: It fails, its operations depend on the images' values, or it draws random numbers.
    """
    with untouched(model), Functions():
        try:
            first, again = _Drawn(), _Drawn()
            with first:
                model(x.clone())  # what a first call alone does, such as keeping master weights, is done
            if first.drawn:
                with again:
                    model(x.clone())
            recorder = _Recorder(model, turned, draws_again=first.equals(again), casts_round=casts_round)
            images = x.clone()  # a forward may write into what it is given, or give it another shape
            given = recorder.note(images)
            with recorder, _Leaving(recorder):
                result = model(images)
                recorder.done_before = -1

                def ref(leaf: Any) -> Any:
                    place = Place("?", 0, "", type(model).__name__)
                    return recorder.find(leaf, lambda: place) if isinstance(leaf, Tensor) else leaf

                output = tree_map(ref, as_tree(result))
        except ConversionError:
            raise
        except Exception as error:
            raise ConversionError(
                f"the model itself fails on float64 inputs of shape {tuple(x.shape)}: {type(error).__name__}: {error}"
                f"{advice(model)}{_of_several_inputs(model)}"
            ) from error
    found = Recording(
        whole(recorder.steps),
        recorder.decisions,
        given,
        output,
        images=len(x),
        rounded=frozenset(recorder.rounded),
        rounded_at=frozenset(recorder.rounded_at),
        left=recorder.left,
    )
    found.again = None if turned >= 0 else lambda number: record(model, x, number, casts_round=casts_round)
    return found


class _Writer(_Recorder):
    """Records an equation, all at one place of the user's code, with values that have numbers of their own."""

    def __init__(self, place: Place, first: int) -> None:
        super().__init__(nn.Module())
        self.place, self._values = place, first

    @property
    def end(self) -> int:
        """The number behind the last value's."""
        return self._values

    def _place(self) -> Place:
        return self.place


@dataclass(frozen=True)
class Written:
    """An operation as the simpler ones that an equation is made of."""

    steps: list[Step]
    given: list[tuple[Ref, Ref]]  # values that it takes: the number in these steps, and the number before
    outputs: list[Any]  # a `Ref` for each value
    end: int  # the number behind the last


def write(equation: Callable[..., Any], step: Step, first: int) -> Written:
    """What an equation does with the arguments of a step: with values of any digits, numbered from `first`."""
    writer = _Writer(step.place, first)
    given: dict[Ref, tuple[Ref, Tensor]] = {}

    def stand_in(ref: Ref) -> Tensor:
        if ref not in given:
            value = torch.ones(ref.shape, dtype=torch.float64)
            given[ref] = writer.note(value), value
        return given[ref][1]

    args, kwargs = tree_map_only(Ref, stand_in, (step.args, step.kwargs))
    with torch.no_grad(), writer:
        found = equation(*args, **kwargs)
    outputs = found if isinstance(found, (list, tuple)) else [found]
    known = [
        (writer.find(output, lambda: step.place) or output) if isinstance(output, Tensor) else output
        for output in outputs
    ]
    steps = [replace(own, number=-1) for own in writer.steps]
    return Written(steps, [(own, ref) for ref, (own, _) in given.items()], known, writer.end)
