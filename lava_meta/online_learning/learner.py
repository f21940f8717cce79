"""A network that learns from a stream, one image at a time.

    learner = lava_meta.online([784, 512, 10], precision=8)
    with learner:
        history = learner.fit(permuted_tasks(load_dataset("mnist"), 5, seed=0), images=20_000)
        classes = learner.predict(images)
    learner.save("learner.safetensors")

The network sees an image as spikes: 1 where a pixel is above half of the brightest level, else 0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from lava_meta.data import Images
from lava_meta.errors import ConversionError, DataError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.metrics import AccuracyMatrix
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.engine import Engine, LocalEngine, State, make_layer
from lava_meta.online_learning.history import History, Probe
from lava_meta.online_learning.layers import initial_state
from lava_meta.online_learning.settings import LayerSettings, OnlineRule, Precision, check_precision
from lava_meta.rule import Consolidation
from lava_meta.streams import Scenario

if TYPE_CHECKING:
    from lava_meta.converters.lava import LavaNetwork
    from lava_meta.nn import BinaryMLP

BACKENDS = ("lava", "kernels", "oracle")
FEEDBACK = ("symmetric", "direct")
_PLACEHOLDER_MEAN = 0.125  # of the inputs, until the first images are seen


class Learner:
    """A binarized network 784-512-10 (`sizes`), its hidden weights, and the on-line rule.

    rule: an `OnlineRule`, or a consolidation function of |h| / limit for a rule with defaults.
    precision: "float", or the bits of a hidden weight, 3 to 16: then no step uses a floating-point number.
    feedback: "symmetric" passes errors down through the binary weights; "direct" through fixed random signs.
    backend: "lava" learns inside Lava's simulator; "oracle" runs the clear numpy twin, "kernels" the compiled one; in
        fixed point all three end in identical states. In floating point "kernels" is the oracle.
    lanes: images a time step. They see the same weights; then their steps are taken in order.
    device: the memory that holds the hidden weights, a `Device`; None is an ideal one of whole levels.
    input_mean: mean of the spikes, which sets the first layer's thresholds; by default that of the first images.

    Raises ValueError or TypeError for arguments that do not fit.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rule: OnlineRule | Consolidation | None = None,
        precision: Precision = 8,
        feedback: str = "symmetric",
        seed: int = 0,
        backend: str = "lava",
        lanes: int = 1,
        input_mean: float | None = None,
        max_level: int = 255,
        timeout: float = 60.0,
        device: Device | None = None,
    ) -> None:
        check_precision(precision)
        if len(sizes) < 2 or any(isinstance(n, bool) or int(n) != n or n < 1 for n in sizes) or sizes[-1] < 2:
            raise ValueError(f"sizes is {list(sizes)}; give inputs, hidden units if any, and at least two classes")
        for name, value, known in (("backend", backend, BACKENDS), ("feedback", feedback, FEEDBACK)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        if seed < 0 or lanes < 1:
            raise ValueError(f"seed is {seed} and lanes is {lanes}; a seed is 0 or more, lanes 1 or more")
        if isinstance(rule, Consolidation):
            rule = OnlineRule(consolidation=rule)
        self.sizes = tuple(int(n) for n in sizes)
        self.rule = rule or OnlineRule()
        self.precision, self.feedback, self.seed, self.backend, self.lanes = precision, feedback, seed, backend, lanes
        self.input_mean, self.max_level, self.timeout, self.device = input_mean, max_level, timeout, device
        self.parts_learned = 0
        generator = np.random.default_rng([seed, 0])
        self.settings = [
            LayerSettings(
                n_in,
                n_out,
                readout=i == len(sizes) - 2,
                precision=precision,
                rule=self.rule,
                seed=int(generator.integers(2**32)),
                input_mean=(_PLACEHOLDER_MEAN if input_mean is None else input_mean) if i == 0 else 0.0,
                device=device,
            )
            for i, (n_in, n_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        ]
        self.states: list[State] = [initial_state(settings, generator) for settings in self.settings]
        signs = np.array([-1, 1], np.int8 if precision != "float" else np.float32)
        self.direct = [
            generator.choice(signs, (self.sizes[-1], settings.n_out)) if feedback == "direct" else None
            for settings in self.settings[:-1]
        ]
        self._engine: Engine | None = None
        self._depth = 0

    @classmethod
    def from_model(cls, model: BinaryMLP, reach: float | None = None, **settings: Any) -> Learner:
        """A learner that goes on from a `BinaryMLP` with the fixed norm, hidden weights included.

        reach: the |h| of the model that becomes a layer's limit; larger ones are clamped to it. By default the 90th
        percentile of each layer. The thresholds stay those of the fixed norm, the mean pixel times the sum of binary
        weights; but the learner sees spikes where the model saw grey pixels. settings: as for `Learner`, without sizes.

        Raises ConversionError for another norm, ValueError for a reach that is not positive.
        """
        if model.settings["norm"] != "fixed":
            raise ConversionError(
                f"a learner has the thresholds of the fixed norm; this model has norm={model.settings['norm']!r}"
            )
        if reach is not None and not reach > 0:
            raise ValueError(f"reach is {reach}; it is the positive |h| that becomes the limit")
        level = model.settings["max_level"]
        mean = round(model.settings["pixel_mean"]) / level
        learner = cls(model.sizes, input_mean=mean, max_level=level, **settings)
        units = [s.unit if learner.precision != "float" else 1 for s in learner.settings]
        parts = zip(model.binary_layers().values(), learner.states, learner.limits, units, strict=True)
        for layer, state, limit, unit in parts:
            h = layer.weight.detach().cpu().numpy().T
            share = np.clip(h / (reach or float(np.quantile(np.abs(h), 0.9))), -1, 1) * limit
            # Rounded down, so that a negative weight stays negative.
            state["hidden"][:] = share if learner.precision == "float" else np.floor(share / unit) * unit
            np.clip(state["hidden"], -limit, limit, out=state["hidden"])
        return learner

    # Learning.

    def fit(
        self,
        stream: Scenario | Images | Iterable[Images],
        probes: Sequence[Probe] = (),
        *,
        images: int | None = None,
        every: int | None = None,
        evaluate: bool = True,
    ) -> History:
        """Learn each part of `stream` once, in order, its images shuffled by (seed, parts learned before).

        images: of each part, at most this many. probes: called after each part, and after every `every` images.
        evaluate: measure a scenario's tests before learning and after each part; False measures only at the end.
        With several lanes, a last group of a part that is not full is left out.

        A failure in Lava (`RunError`) leaves what was learned up to the last snapshot, 1,000 images ago or less.
        Raises `DataError` for an empty stream, `ValueError` for images that do not fit the network.
        """
        history = History()
        tests = list(stream.tests) if isinstance(stream, Scenario) else []
        parts: Iterable[Images] = (
            stream.train if isinstance(stream, Scenario) else [stream] if isinstance(stream, Images) else stream
        )
        rows = [self._accuracies(tests, evaluate)]
        with self:
            empty = True
            for part in parts:
                empty = False
                self._learn_part(part, images, every, probes, history)
                rows.append(self._accuracies(tests, evaluate))
        if empty:
            raise DataError("the stream has no images to learn")
        if isinstance(stream, Scenario):
            rows[-1] = self._accuracies(tests, True)
            history.accuracy = AccuracyMatrix(np.array(rows), stream.task_of, tuple(test.name for test in tests))
        return history

    def _learn_part(
        self, part: Images, limit: int | None, every: int | None, probes: Sequence[Probe], history: History
    ) -> None:
        self._check_images(part)
        self.max_level = part.max_level
        x = self.encode(part.x)
        if self.input_mean is None:
            self._set_input_mean(float(x.mean()))
        order = np.random.default_rng([self.seed, 1, self.parts_learned]).permutation(len(x))[:limit]
        order = order[: len(order) // self.lanes * self.lanes]
        labels = part.y.numpy()
        engine = self._started()
        chunk = max(1, (every or len(order)) // self.lanes) * self.lanes
        right = 0
        for start in range(0, len(order), chunk):
            chosen = order[start : start + chunk]
            began = time.perf_counter()
            right += engine.learn(x[chosen].view(np.int8), labels[chosen])
            history.seconds += time.perf_counter() - began
            history.images += len(chosen)
            if probes:
                values = {probe.__name__: probe(self) for probe in probes}  # type: ignore[attr-defined]
                history.probes.append({"images": history.images, "part": self.parts_learned, **values})
        history.online.append(right / max(1, len(order)))
        self.parts_learned += 1

    def _set_input_mean(self, mean: float) -> None:
        self.input_mean = mean
        self.settings[0] = replace(self.settings[0], input_mean=mean)
        self._stop()

    def _check_images(self, images: Images) -> None:
        if images.features != self.sizes[0] or images.classes > self.sizes[-1]:
            raise ValueError(
                f"{images.name} has {images.features} pixels and {images.classes} classes; this network takes "
                f"{self.sizes[0]} pixels and has {self.sizes[-1]} classes"
            )

    # What it has learned.

    def encode(self, images: Any) -> np.ndarray:
        """Spikes uint8 (n, pixels), 0 or 1, of images (n, ...) with levels 0 .. max_level, numpy or torch."""
        array = np.asarray(images)
        if array.dtype.kind not in "ui" or array.ndim < 2:
            raise TypeError(f"images are {array.dtype} of shape {array.shape}; give unsigned levels (n, ...)")
        flat = array.reshape(len(array), -1)
        if flat.shape[1] != self.sizes[0]:
            raise ValueError(f"images have {flat.shape[1]} pixels; this network takes {self.sizes[0]}")
        return (flat > self.max_level // 2).astype(np.uint8)

    def graph(self) -> BinaryGraph:
        """The binary network that the hidden weights stand for now. It takes encoded images (levels 0 and 1)."""
        layers = [make_layer(s, state, False) for s, state in zip(self.settings, self.states, strict=True)]
        hidden = tuple(
            DenseLayer.from_weights(layer.hidden.T >= 0, layer.integer_thresholds()) for layer in layers[:-1]
        )
        return BinaryGraph(hidden, Readout.from_weights(layers[-1].hidden.T >= 0), 1, (self.sizes[0],))

    def network(self) -> LavaNetwork:
        """`graph` as a network for Lava. Feed it with `encode(images)`."""
        from lava_meta.converters.lava import LavaNetwork

        return LavaNetwork(self.graph(), timeout=self.timeout)

    def predict(self, images: Any) -> np.ndarray:
        """Classes int64 (n,) of raw images, by the network as it is now: in Lava where the backend is "lava"."""
        spikes = self.encode(images)
        return self.network().predict(spikes) if self.backend == "lava" else _packed(self.graph(), spikes)

    def accuracy(self, images: Images) -> float:
        """Share of `images` classified right, by the compiled kernels."""
        self._check_images(images)
        return float((_packed(self.graph(), self.encode(images.x)) == images.y.numpy()).mean())

    @property
    def hidden(self) -> list[np.ndarray]:
        """Copies of each layer's hidden weights (units, inputs): int16 levels, or stored units of a device; float32."""
        return [np.ascontiguousarray(state["hidden"].T) for state in self.states]

    @property
    def limits(self) -> list[float]:
        """Largest |h| of each layer, in the units of `hidden`."""
        return [s.limit if self.precision == "float" else s.limit_stored for s in self.settings]

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

                self._engine = LavaEngine(self.settings, self.states, self.direct, self.lanes, self.timeout)
            else:
                compiled = self.backend == "kernels"
                self._engine = LocalEngine(self.settings, self.states, self.direct, self.lanes, compiled)
        return self._engine

    def _stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __repr__(self) -> str:
        return f"Learner({'-'.join(map(str, self.sizes))}, precision={self.precision}, backend={self.backend!r})"


def online(sizes: Sequence[int], **settings: Any) -> Learner:
    """A `Learner`; see there for the settings."""
    return Learner(sizes, **settings)


def _packed(graph: BinaryGraph, spikes: np.ndarray) -> np.ndarray:
    from lava_meta.kernels.packed import PackedNetwork

    network = PackedNetwork(graph)
    return np.concatenate([network.predict(batch) for batch in _batches(spikes, 256)]).astype(np.int64)


def _batches(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(x), size):
        yield np.ascontiguousarray(x[start : start + size])
