"""A network that learns from a stream, one image at a time.

    learner = lava_meta.online([784, 512, 10], precision=8)
    with learner:
        history = learner.fit(permuted_tasks(load_dataset("mnist"), 5, seed=0), images=20_000)
        classes = learner.predict(images)
    learner.save("learner.safetensors")

The network sees an image as spikes: 1 where a pixel is above half of the brightest level, else 0; or as its pixels.
`online` makes a learner from sizes, from a converted network, or from a model.
"""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.data import Images
from lava_meta.data.scenarios import Scenario
from lava_meta.errors import DataError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.io.learned import Learned, added
from lava_meta.io.memory import require_memory
from lava_meta.online_learning.backend import Engine, Front, LocalEngine, State, make_layer
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.history import History, Probe
from lava_meta.online_learning.reference import initial_state
from lava_meta.online_learning.settings import LayerSettings, OnlineRule, Precision, check_precision
from lava_meta.rule import Consolidation
from lava_meta.training.metrics import AccuracyMatrix
from lava_meta.training.progress import ImagesProgress

if TYPE_CHECKING:
    from lava_meta.converters.lava import LavaNetwork
    from lava_meta.loihi.cost import Report

BACKENDS = ("lava", "kernels", "oracle")
CHOICES = {
    "backend": BACKENDS,
    "feedback": ("symmetric", "direct"),
    "inputs": ("spikes", "pixels"),
    "form": ("fused", "layers", "engine"),
}
SNAPSHOT = 1000  # images between two copies of what was learned
_BYTES_A_SYNAPSE = 24  # while it is made: draws in float64, and what becomes of them
_PLACEHOLDER_MEAN = 0.125  # of the inputs, until the first images are seen


class Learner:
    """A binarized network 784-512-10 (`sizes`), its hidden weights, and the on-line rule.

    rule: an `OnlineRule`, or a consolidation function of |h| / limit for a rule with defaults.
    precision: "float", or the bits of a hidden weight, 3 to 16: then no step uses a floating-point number.
    feedback: "symmetric" passes errors down through the binary weights; "direct" through fixed random signs.
    backend: "lava" learns inside Lava's simulator; "oracle" runs the clear numpy twin, "kernels" the compiled one; in
        fixed point all three end in identical states. In floating point "kernels" equals the oracle within rounding.
    lanes: images a time step. They see the same weights; then their steps are taken in order.
    device: the memory that holds the hidden weights, a `Device`; None is an ideal one of whole levels.
    input_mean: mean of the first layer's inputs, 0 to 1, which sets its thresholds; by default that of the first
        images.
    inputs: what the first layer sees of an image, "spikes" or "pixels" (graded spikes of up to 8 bits).
    plastic: names of the layers that learn, of `hidden1`, `hidden2`, ..., `readout`; by default all. The synapses of
        the others stay as they are.
    form: how it runs in Lava: "fused", one Process; "layers", a Process a layer. Both end in identical states. "engine"
        learns in Lava's own learning engine, as a chip would (docs/engine.md): precision 9 or "float", one lane,
        feedback "direct" where there are hidden layers; `hidden` are then its tags.
    front: frozen layers of a converted network before the first of `sizes` (see `online`).

    Raises ValueError or TypeError for arguments that do not fit.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rule: OnlineRule | Consolidation | Callable[[Any], Any] | None = None,
        precision: Precision = 8,
        feedback: str = "symmetric",
        seed: int = 0,
        backend: str = "lava",
        lanes: int = 1,
        input_mean: float | None = None,
        max_level: int = 255,
        timeout: float = 60.0,
        device: Device | None = None,
        inputs: str = "spikes",
        plastic: Sequence[str] | None = None,
        form: str = "fused",
        front: Front | None = None,
    ) -> None:
        check_precision(precision)
        if len(sizes) < 2 or any(isinstance(n, bool) or int(n) != n or n < 1 for n in sizes) or sizes[-1] < 2:
            raise ValueError(f"sizes is {list(sizes)}; give inputs, hidden units if any, and at least two classes")
        for name, value in (("backend", backend), ("feedback", feedback), ("inputs", inputs), ("form", form)):
            if value not in CHOICES[name]:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(CHOICES[name])}")
        if operator.index(seed) < 0 or operator.index(lanes) < 1:
            raise ValueError(f"seed is {seed} and lanes is {lanes}; a seed is 0 or more, lanes 1 or more")
        if operator.index(max_level) < 1 or not timeout > 0:
            raise ValueError(f"max_level is {max_level} and timeout is {timeout}; both are positive")
        if form == "engine" and (lanes > 1 or (feedback != "direct" and len(sizes) > 2)):
            raise ValueError(
                "the learning engine sees one image at a time and passes no error down: give lanes=1 and, with hidden "
                "layers, feedback='direct'"
            )
        if rule is not None and not isinstance(rule, OnlineRule):
            rule = OnlineRule(consolidation=rule)  # type: ignore[arg-type]
        self.sizes = tuple(int(n) for n in sizes)
        self.rule = rule or OnlineRule()
        self.precision, self.feedback, self.seed, self.backend, self.lanes = precision, feedback, seed, backend, lanes
        self.input_mean, self.max_level, self.timeout, self.device = input_mean, max_level, timeout, device
        self.inputs, self.form, self.front = inputs, form, front
        self.parts_learned = 0
        self.under_way: tuple[str, int] | None = None  # a part that was stopped, and its images learned so far
        self.learned: tuple[Learned, ...] = ()
        depth = 0 if front is None else front.depth
        self.names = (*(f"hidden{i + depth}" for i in range(1, len(sizes) - 1)), "readout")
        self.plastic = check_plastic(plastic, self.names)
        pixels = inputs == "pixels" and front is None
        mean = 0.0 if front is not None else _PLACEHOLDER_MEAN if input_mean is None else input_mean
        generator = np.random.default_rng([seed, 0])
        self.settings = [
            LayerSettings(
                n_in,
                n_out,
                readout=i == len(sizes) - 2,
                precision=precision,
                rule=self.rule,
                seed=int(generator.integers(2**32)),
                input_mean=mean if i == 0 else 0.0,
                device=device,
                max_level=max_level if i == 0 and pixels else 1,
                frozen=name not in self.plastic,
                engine_steps=len(sizes) + 3 if form == "engine" else 0,
            )
            for i, (n_in, n_out, name) in enumerate(zip(self.sizes[:-1], self.sizes[1:], self.names, strict=True))
        ]
        synapses = sum(n_in * n_out for n_in, n_out in pairwise(self.sizes))
        feedbacks = self.sizes[-1] * sum(self.sizes[1:-1]) if feedback == "direct" else 0
        require_memory(
            _BYTES_A_SYNAPSE * (synapses + feedbacks),
            f"A learner of {'-'.join(map(str, self.sizes))}",
            "make it smaller",
        )
        self.states: list[State] = [initial_state(settings, generator) for settings in self.settings]
        signs = np.array([-1, 1], np.int8 if precision != "float" else np.float32)
        self.direct = [
            generator.choice(signs, (self.sizes[-1], settings.n_out)) if feedback == "direct" else None
            for settings in self.settings[:-1]
        ]
        self._engine: Engine | None = None
        self._depth = 0

    # Learning.

    def fit(
        self,
        stream: Scenario | Images | Iterable[Images],
        probes: Sequence[Probe] = (),
        *,
        images: int | None = None,
        every: int | None = None,
        evaluate: bool = True,
        progress: bool = False,
    ) -> History:
        """Learn each part of `stream` once, in order, its images shuffled by (seed, parts learned before).

        What is learned is added to `learned` (`lava_meta.io.learned`), which files keep.

        images: of each part, at most this many. probes: called after each part, and after every `every` images.
        evaluate: measure a scenario's tests before learning and after each part; False measures only at the end.
        With several lanes, a last group of a part that is not full is left out. progress: show a bar, or elsewhere
        than in a terminal a line now and then.

        A failure in Lava (`RunError`) and Ctrl-C leave what was learned up to the last snapshot, 1,000 images ago or
        less, and `under_way` says where: `fit` with the same part goes on from there, to the identical state.
        Raises `DataError` for an empty stream or a part with fewer images than lanes, `ValueError` for images that do
        not fit the network.
        """
        for name, value in (("images", images), ("every", every)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1, or None for all")
        history = History()
        tests = list(stream.tests) if isinstance(stream, Scenario) else []
        parts: Iterable[Images] = (
            stream.train if isinstance(stream, Scenario) else [stream] if isinstance(stream, Images) else stream
        )
        rows = [self._accuracies(tests, evaluate)]
        self.learned = added(self.learned, self._account(stream))
        with self, ImagesProgress(progress) as bar:
            empty = True
            for part in parts:
                empty = False
                self._learn_part(part, images, every, probes, history, bar)
                rows.append(self._accuracies(tests, evaluate))
        if empty:
            raise DataError("the stream has no images to learn")
        if isinstance(stream, Scenario):
            rows[-1] = self._accuracies(tests, True)
            history.accuracy = AccuracyMatrix(np.array(rows), stream.task_of, tuple(test.name for test in tests))
        return history

    def _account(self, stream: Scenario | Images | Iterable[Images]) -> Learned:
        """What the learner's file will say of this training."""
        known = stream if isinstance(stream, Scenario) else None
        return Learned(
            scenario=getattr(stream, "name", "images of the user's own"),
            recipe=None if known is None else known.recipe,
            checksum=None if known is None else known.checksum(),
            rule=self.rule.consolidation.described(),
            seed=self.seed,
        )

    def _learn_part(
        self,
        part: Images,
        limit: int | None,
        every: int | None,
        probes: Sequence[Probe],
        history: History,
        progress: ImagesProgress,
    ) -> None:
        self._check_images(part)
        if self.front is None and self.input_mean is None:
            self._meet(part)
        elif self.inputs == "spikes":
            self.max_level = part.max_level  # of the spikes' threshold, half of it
        x = self.encode(part.x)
        begun = 0
        if self.under_way is not None:
            name, count = self.under_way
            if name == part.name:
                begun = count
            else:  # that part is left as it is
                self.parts_learned += 1
        self.under_way = (part.name, begun)
        order = np.random.default_rng([self.seed, 1, self.parts_learned]).permutation(len(x))[:limit]
        if len(order) < self.lanes:
            raise DataError(f"{part.name} has {len(order)} images to learn, fewer than the {self.lanes} lanes")
        order = order[begun : len(order) // self.lanes * self.lanes]
        progress.begin(part.name, len(order))
        labels = part.y.numpy()
        engine = self._started()
        chunk = max(1, (every or len(order)) // self.lanes) * self.lanes
        right = 0
        for start in range(0, len(order), chunk):
            chosen = order[start : start + chunk]
            began = time.perf_counter()
            right += self._learn_steps(engine, x, labels, chosen, progress)
            history.seconds += time.perf_counter() - began
            history.images += len(chosen)
            if probes:
                began = time.perf_counter()
                values = {probe.__name__: probe(self) for probe in probes}
                history.probes.append({"images": history.images, "part": self.parts_learned, **values})
                history.probe_seconds += time.perf_counter() - began
        history.online.append(right / len(order) if len(order) else float("nan"))
        self.parts_learned += 1
        self.under_way = None

    def _learn_steps(
        self, engine: Engine, x: NDArray[Any], labels: NDArray[Any], chosen: NDArray[Any], progress: ImagesProgress
    ) -> int:
        """Learn the `chosen` images, a snapshot's at a time: what stops this leaves the last snapshot."""
        right = 0
        size = max(1, SNAPSHOT // self.lanes) * self.lanes
        for start in range(0, len(chosen), size):
            some = chosen[start : start + size]
            before = [{name: values.copy() for name, values in state.items()} for state in self.states]
            try:
                right += engine.learn(x[some], labels[some])
            except BaseException:
                for state, values in zip(self.states, before, strict=True):
                    for name in state:
                        state[name][:] = values[name]
                raise
            assert self.under_way is not None
            self.under_way = (self.under_way[0], self.under_way[1] + len(some))
            progress.advance(len(some))
        return right

    def _meet(self, part: Images) -> None:
        """Take the levels and the mean of the first images for the first layer's own."""
        self.max_level = part.max_level
        x = self.encode(part.x)
        pixels = self.inputs == "pixels"
        self.input_mean = float(x.mean()) / (self.max_level if pixels else 1)
        self.settings[0] = replace(
            self.settings[0], input_mean=self.input_mean, max_level=self.max_level if pixels else 1
        )
        self._stop()

    def _check_images(self, images: Images) -> None:
        if images.features != self.n_in or images.classes > self.sizes[-1]:
            raise ValueError(
                f"{images.name} has {images.features} pixels and {images.classes} classes; this network takes "
                f"{self.n_in} pixels and has {self.sizes[-1]} classes"
            )
        known = self.front is not None or self.input_mean is not None
        if self.inputs == "pixels" and known and images.max_level != self.max_level:
            raise ValueError(
                f"{images.name} has levels up to {images.max_level}; this network's thresholds are for levels up to "
                f"{self.max_level}"
            )

    # What it has learned.

    def encode(self, images: Any) -> NDArray[Any]:
        """What the network sees, uint8 (n, pixels), of images (n, ...) with levels 0 .. max_level, numpy or torch.

        Spikes, 0 or 1; or the pixels themselves. A frozen front takes what its network takes.
        """
        if self.front is not None:
            return self.front.graph.check_images(images)
        array = np.asarray(images)
        if array.dtype.kind not in "ui" or array.ndim < 2:
            raise TypeError(f"images are {array.dtype} of shape {array.shape}; give unsigned levels (n, ...)")
        flat = array.reshape(len(array), -1)
        if flat.shape[1] != self.n_in:
            raise ValueError(f"images have {flat.shape[1]} pixels; this network takes {self.n_in}")
        if self.inputs == "spikes":
            return (flat > self.max_level // 2).astype(np.uint8)
        low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
        if low < 0 or high > self.max_level:
            raise ValueError(f"pixels run from {low} to {high}; this network takes levels 0 to {self.max_level}")
        return flat.astype(np.uint8)

    def graph(self) -> BinaryGraph:
        """The binary network that the hidden weights stand for now. It takes encoded images: spikes are levels 0, 1."""
        layers = [make_layer(s, state, False) for s, state in zip(self.settings, self.states, strict=True)]
        hidden = tuple(
            DenseLayer.from_weights(layer.hidden.T >= 0, layer.integer_thresholds()) for layer in layers[:-1]
        )
        readout = Readout.from_weights(layers[-1].hidden.T >= 0)
        if self.front is not None:
            graph = self.front.graph
            return replace(graph, layers=(*graph.layers[: self.front.depth], *hidden), readout=readout)
        return BinaryGraph(hidden, readout, self.max_level if self.inputs == "pixels" else 1, (self.n_in,))

    def network(self) -> LavaNetwork:
        """`graph` as a network for Lava. Feed it with `encode(images)`."""
        from lava_meta.converters.lava import LavaNetwork

        return LavaNetwork(self.graph(), learned=self.learned, timeout=self.timeout)

    def report(self, target: str, images: Any, **options: Any) -> Report:
        """What the network that it is now costs on a chip ("loihi2") while it learns raw `images` (n, ...).

        Layers that learn are plastic: their tags, traces and synaptic updates are counted too. options, errors: those
        of `lava_meta.loihi.cost.report`.
        """
        from lava_meta.loihi.cost import report

        graph = self.graph()
        bits = 32 if self.precision == "float" else int(self.precision)
        names = [name for name, _ in graph.named_layers()][-len(self.settings) :]
        plastic = {name: bits for name, s in zip(names, self.settings, strict=True) if not s.frozen}
        return report(graph, self.encode(images), target, plastic=plastic, **options)

    def predict(self, images: Any) -> NDArray[Any]:
        """Classes int64 (n,) of raw images, by the network as it is now: in Lava where the backend is "lava"."""
        from lava_meta.graph.packed.compiled import classify

        spikes = self.encode(images)
        return self.network().predict(spikes) if self.backend == "lava" else classify(self.graph(), spikes)

    def accuracy(self, images: Images) -> float:
        """Share of `images` classified right, by the compiled kernels."""
        from lava_meta.graph.packed.compiled import classify

        self._check_images(images)
        return float((classify(self.graph(), self.encode(images.x)) == images.y.numpy()).mean())

    @property
    def n_in(self) -> int:
        """Pixels of an image."""
        return self.sizes[0] if self.front is None else self.front.graph.n_in

    @property
    def hidden(self) -> list[NDArray[Any]]:
        """Copies of each layer's hidden weights (units, inputs): int16 levels, or stored units of a device; float32."""
        return [np.ascontiguousarray(state["hidden"].T) for state in self.states]

    @property
    def limits(self) -> list[float]:
        """Largest |h| of each layer, in the units of `hidden`."""
        stored = self.precision != "float" or self.form == "engine"
        return [s.limit_stored if stored else s.limit for s in self.settings]

    def _accuracies(self, tests: Sequence[Images], measure: bool) -> list[float]:
        return [self.accuracy(test) if measure else float("nan") for test in tests]

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one safetensors file, atomically: `load_learner` resumes to the identical state."""
        from lava_meta.online_learning.files import save_learner

        save_learner(self, path)

    # The run.

    def __enter__(self) -> Learner:
        if self.backend == "lava":
            from lava_meta.errors import require_lava

            require_lava('online(backend="lava")')
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 or error is not None:
            self._stop()

    def _started(self) -> Engine:
        if self._engine is None:
            if self.backend == "lava":
                from lava_meta.processes.online_run import LavaEngine

                self._engine = LavaEngine(
                    self.settings, self.states, self.direct, self.lanes, self.timeout, self.form, self.front
                )
            else:
                compiled = self.backend == "kernels"
                self._engine = LocalEngine(self.settings, self.states, self.direct, self.lanes, compiled, self.front)
        return self._engine

    def _stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __repr__(self) -> str:
        return f"Learner({'-'.join(map(str, self.sizes))}, precision={self.precision}, backend={self.backend!r})"


def check_plastic(plastic: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    """The names of layers that learn, in order; None stands for all. Raises ValueError for others, and for none."""
    chosen = tuple(names) if plastic is None else (plastic,) if isinstance(plastic, str) else tuple(plastic)
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        raise ValueError(f"plastic is {plastic!r}; name one or more of {', '.join(names)}")
    return tuple(name for name in names if name in chosen)
