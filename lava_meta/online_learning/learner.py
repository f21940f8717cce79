"""A network that learns from a stream, one image at a time.

    learner = lava_meta.online([784, 512, 10], precision=8)
    with learner:
        history = learner.fit(permuted_tasks(load_dataset("mnist"), 5, seed=0), images=20_000)
        classes = learner.predict(images)
    learner.save("learner.safetensors")

The network sees an image as spikes: 1 if a pixel is above half of the brightest level, else 0; or as its pixels.
`lava_meta.online` makes a learner from sizes, from a converted network, or from a model.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from lava_meta import providers
from lava_meta.data import Images
from lava_meta.data.scenarios import Scenario
from lava_meta.errors import DataError, LavaMetaError, available
from lava_meta.graph import BinaryGraph
from lava_meta.interrupts import interrupts_held
from lava_meta.io.files import reading
from lava_meta.io.learned import Learned, added, from_header, to_header
from lava_meta.moved import by_old_name
from lava_meta.online_learning import files
from lava_meta.online_learning.backend import BACKEND, SNAPSHOT, Backend, Engine, LocalEngine, known_backend
from lava_meta.online_learning.checkpoint import FitCheckpoint
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.encoding import Front, encoding_of
from lava_meta.online_learning.given import OWN, as_stream, in_order, own_images
from lava_meta.online_learning.history import History, Probe, Run, positional_probes
from lava_meta.online_learning.network import PlasticNetwork, check_sizes
from lava_meta.online_learning.neurons import State
from lava_meta.online_learning.options import LearnerOptions, as_rule
from lava_meta.online_learning.settings import LayerSettings, OnlineRule, Precision
from lava_meta.online_learning.uncertainty import SAMPLES, WIDTH, Prediction, uncertain
from lava_meta.online_learning.watch import Watch
from lava_meta.progress import ImagesProgress
from lava_meta.rule import Consolidation
from lava_meta.training.callbacks import Callback
from lava_meta.training.metrics import AccuracyMatrix

if TYPE_CHECKING:
    from typing_extensions import Self

    from lava_meta.loihi.cost import Report

_SAVED = (
    "sizes",
    "precision",
    "feedback",
    "seed",
    "backend",
    "lanes",
    "input_mean",
    "max_level",
    "timeout",
    "inputs",
    "plastic",
    "form",
)


def _of(path: str) -> Any:
    """What lies at `path`, to be read on the learner itself."""
    return property(attrgetter(path))


class Learner:
    """A binarized network 784-512-10 (`sizes`), its hidden weights, and the on-line rule.

    Args:
        sizes: inputs, units of hidden layers, classes.
        rule: an `OnlineRule`, or a consolidation function of |h| / limit for a rule with defaults.
        backend: "lava" learns inside Lava's simulator; "reference" runs the reference implementation in numpy,
            "kernels" the compiled one; in fixed point all three end in identical states. In floating point "kernels"
            equals the reference within rounding.
        front: frozen layers of a converted network before the first of `sizes` (see `lava_meta.online`).
        options: the fields of `LearnerOptions`, by name; all can be read on the learner.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """

    # Of its network, its encoding and its options.
    sizes: tuple[int, ...] = _of("net.sizes")  # inputs of the first layer that learns, and the units of each layer
    names: tuple[str, ...] = _of("net.names")  # of these layers: "hidden1", "hidden2", ..., "readout"
    plastic: tuple[str, ...] = _of("net.plastic")  # of those whose synapses learn
    settings: list[LayerSettings] = _of("net.settings")
    states: list[State] = _of("net.states")  # `online_learning.reference` says what they hold
    hidden: list[NDArray[Any]] = _of("net.hidden")  # copies (units, inputs): int16 levels or stored units; float32
    limits: list[float] = _of("net.limits")  # largest |h| of each layer, in the units of `hidden`
    front: Front | None = _of("net.front")
    n_in: int = _of("encoding.n_in")  # pixels of an image
    rule: OnlineRule = _of("options.rule")
    precision: Precision = _of("options.precision")
    feedback: str = _of("options.feedback")
    seed: int = _of("options.seed")
    lanes: int = _of("options.lanes")
    input_mean: float | None = _of("options.input_mean")
    max_level: int = _of("options.max_level")
    timeout: float = _of("options.timeout")
    device: Device | None = _of("options.device")
    inputs: str = _of("options.inputs")
    form: str = _of("options.form")

    def __init__(
        self,
        sizes: Sequence[int],
        rule: OnlineRule | Consolidation | Callable[[Any], Any] | None = None,
        *,
        backend: str = "lava",
        front: Front | None = None,
        **options: Any,
    ) -> None:
        sizes = check_sizes(sizes)
        self.backend = known_backend(backend)
        self.options = LearnerOptions(rule=as_rule(rule), **options)
        self.encoding = front or encoding_of(sizes[0], self.options)
        self.net = PlasticNetwork.drawn(sizes, self.options, self.encoding)
        self.parts_learned = 0
        self.under_way: tuple[str, int] | None = None  # an experience that was stopped, and its images learned so far
        self.learned: tuple[Learned, ...] = ()
        self._engine: Engine | None = None
        self._depth = 0  # of `with` blocks

    # Learning.

    def fit(
        self,
        stream: Any,
        y: Any = None,
        *,
        probes: Sequence[Probe] = (),
        callbacks: Sequence[Callback] = (),
        images: int | None = None,
        every: int | None = None,
        evaluate: bool = True,
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_seconds: float = 20.0,
        resume: bool = False,
    ) -> History:
        """Learn each experience of `stream` once, in order, its images shuffled by (seed, experiences learned before).

        What is learned is added to `learned`, which files keep. A failure in Lava (`RunError`) and Ctrl-C leave what
        was learned up to the last snapshot, 1,000 images ago or less, and `under_way` says where: `fit` with the same
        experience goes on from there, to the identical state.

        Args:
            stream: a scenario, images, or several of them; a `Dataset`, a list of them, a torch `Dataset` or
                `DataLoader`; or arrays x (n, ...) of levels.
            y: the classes of x, (n,), if these are arrays.
            callbacks: as of `lava_meta.train`; a step is up to 1,000 images, its loss the share of errors.
            probes: called after each experience, and after every `every` images.
            images: of each experience, at most this many. Of several lanes, a last group that is not full is left out.
            every: images between two calls of the probes.
            evaluate: measure a scenario's tests before learning and after each experience; False only at the end.
            progress: show a bar, or elsewhere than in a terminal a line now and then.
            checkpoint: the learner's file, as of `save`, which is written on the way, at the end, and when this is
                stopped. Probes that remember, as `flip_rate`, begin again after it.
            checkpoint_seconds: at least so long between two times that it is written.
            resume: go on from the file with the same call, to the identical result; or begin if there is none.

        Raises:
            DataError: an empty stream, or an experience with fewer images than lanes.
            RunFolderError: a checkpoint of another call.
            ValueError: images that do not fit the network.
            TypeError: data of another kind, or real numbers without a scale; the message names the call.
        """
        if isinstance(y, list | tuple) and y and callable(y[0]):
            y, probes = None, positional_probes(y)
        stream = as_stream(stream, y, self.sizes[-1], self.max_level)
        tests = list(stream.tests) if isinstance(stream, Scenario) else []
        run = Run(images, every, tuple(probes))
        if resume and checkpoint is None:
            raise ValueError("resume goes on from the file of a call: give checkpoint=")
        kept = None
        if checkpoint is not None:
            kept = FitCheckpoint(Path(checkpoint), checkpoint_seconds, run, self._call(stream, run), self._write)
            if resume and kept.load():
                self._become(type(self).restored(checkpoint, *files.read_network(checkpoint), self.backend))
        run.rows = run.rows or [self._accuracies(tests, measure=evaluate)]
        self.learned = added(self.learned, self._account(stream))
        watch = Watch(self, callbacks, stream, run)
        with self, ImagesProgress(enabled=progress) as bar, watch:
            try:
                for part in islice(_parts(stream), run.parts, None):
                    watch.begins()
                    count = self._learn_part(part, run, bar, watch, kept)
                    accuracies = self._accuracies(tests, measure=evaluate)
                    with interrupts_held():
                        run.ends_part(count, accuracies)
                        self.parts_learned += 1
                        self.under_way = None
                    watch.ends()
            except (KeyboardInterrupt, LavaMetaError):
                if kept and run.history.images:
                    kept.write()
                raise
        if len(run.rows) == 1:
            raise DataError("the stream has no images to learn")
        if kept:
            kept.write()
        if isinstance(stream, Scenario):
            run.rows[-1] = self._accuracies(tests, measure=True)
            names = tuple(test.name for test in tests)
            run.history.accuracy = AccuracyMatrix(np.array(run.rows), stream.task_of, names)
        return run.history

    def _call(self, stream: Scenario | Images | Iterable[Images], run: Run) -> dict[str, Any]:
        """What makes a call of `fit` the call that it is."""
        if not isinstance(stream, Scenario | Images):
            raise TypeError("a checkpoint is of a scenario or of images, which can be gone through again")
        fixed = [name for name in _SAVED if name not in ("backend", "input_mean", "max_level", "timeout")]
        return {
            **{name: getattr(self, name) for name in fixed},
            "rule": self.rule.to_dict(),
            "device": None if self.device is None else self.device.to_dict(),
            "stream": stream.name,
            "tests crc32": stream.checksum() if isinstance(stream, Scenario) else None,
            "images": run.images,
            "every": run.every,
            "probes": [probe.__name__ for probe in run.probes],
            **self._own_choices(),
        }

    def _own_choices(self) -> dict[str, Any]:
        """What a kind of learner is made with beside `LearnerOptions`, JSON-ready: its file and its calls hold it."""
        return {}

    def _become(self, other: Learner) -> None:
        """Take over all that another learner has learned."""
        self._stop()
        for name in ("options", "encoding", "net", "parts_learned", "under_way", "learned"):
            setattr(self, name, getattr(other, name))

    def partial_fit(self, x: Any, y: Any = None) -> Learner:
        """Learn images once, in the order in which they come, and return the learner.

        Without y, x is any iterable of (x, y), such as a generator or a `DataLoader`, or `Images`. What comes is
        learned in groups of up to 1,000; a stream whose next image depends on what was learned is given image by image.

        The first images that a learner sees set its `input_mean`; `max_level` is that of its options, or of the images
        that `fit` saw. Inside a `with` block, Lava's processes stay for the next call.

        Args:
            x: raw images, uint8 (n, ...), numpy or torch, n a multiple of the lanes; or one image (...).
            y: their classes, integers (n,); or one class.

        Raises:
            DataError, TypeError, ValueError: images or classes that do not fit.
        """
        if y is None:
            with self:
                for images, classes in in_order(x, max(1, SNAPSHOT // self.lanes) * self.lanes):
                    self.partial_fit(images, classes)
            return self
        part = self._own_images(x, y)
        self._check_images(part)
        self._meet(part)
        inputs, labels = self.encode(part.x), part.y.numpy()
        self.learned = added(self.learned, self._account(part))
        with self:
            engine = self._started()
            for some in _groups(np.arange(len(part)), SNAPSHOT, self.lanes):
                with self.net.unchanged_on_failure():
                    engine.learn(inputs[some], labels[some])
        return self

    def _own_images(self, x: Any, y: Any) -> Images:
        """Images (n, ...) and classes (n,), or one of each, checked."""
        part = own_images(x, y, self.sizes[-1], self.max_level)
        if len(part) % self.lanes:
            raise ValueError(f"y has {len(part)} classes; give a multiple of the {self.lanes} lanes")
        return part

    def _account(self, stream: Scenario | Images | Iterable[Images]) -> Learned:
        """What the learner's file will say of this training."""
        known = stream if isinstance(stream, Scenario) else None
        return Learned(
            scenario=getattr(stream, "name", OWN),
            recipe=None if known is None else known.recipe,
            checksum=None if known is None else known.checksum(),
            rule=self.rule.consolidation.described(),
            seed=self.seed,
        )

    def _learn_part(self, part: Images, run: Run, bar: ImagesProgress, watch: Watch, kept: FitCheckpoint | None) -> int:
        """Learn what is left of an experience. Returns how many images it has in all."""
        self._check_images(part)
        self._meet(part)
        x, labels = self.encode(part.x), part.y.numpy()
        begun = self._resumed(part)
        order = self._order(part, run.images)
        bar.begin(part.name, len(order) - begun)
        engine = self._started()
        for group in _groups(np.arange(len(order)), run.every or len(order), self.lanes):
            for places in _groups(group[group >= begun], SNAPSHOT, self.lanes):
                some = order[places]
                started = time.perf_counter()
                with self._all_or_nothing(run):
                    known = engine.learn(x[some], labels[some])
                    run.count(len(some), known, time.perf_counter() - started)
                    self.under_way = (part.name, int(places[-1]) + 1)
                bar.advance(len(some))
                watch.steps(len(some), known)
                if kept:
                    kept.when_due()
            run.look(self)
        return len(order)

    @contextmanager
    def _all_or_nothing(self, run: Run) -> Iterator[None]:
        """A block that learns and counts: what stops it leaves weights and counts as they were before."""
        under_way, counted = self.under_way, (run.history.images, run.history.seconds, run.right)
        try:
            with self.net.unchanged_on_failure():
                yield
        except BaseException:
            self.under_way = under_way
            run.history.images, run.history.seconds, run.right = counted
            raise

    def _resumed(self, part: Images) -> int:
        """How many images of `part` were learned before a stop; another one that was stopped is left as it is."""
        name, begun = self.under_way or (part.name, 0)
        if name != part.name:
            self.parts_learned += 1
            begun = 0
        self.under_way = (part.name, begun)
        return begun

    def _order(self, part: Images, limit: int | None) -> NDArray[np.int64]:
        """The places of the images to learn, in whole groups of lanes."""
        order = np.random.default_rng([self.seed, 1, self.parts_learned]).permutation(len(part))[:limit]
        if len(order) < self.lanes:
            raise DataError(f"{part.name} has {len(order)} images to learn, fewer than the {self.lanes} lanes")
        return order[: len(order) // self.lanes * self.lanes]

    def _meet(self, images: Images) -> None:
        """Take the levels and the mean of the first images for the first layer's own."""
        known = self.encoding.meet(images)
        if known == self.encoding:
            return
        if known.input_mean == 0:
            warnings.warn(
                f"no input is active in the first {len(images)} images: a pixel counts above half of max_level = "
                f"{images.max_level}, and theirs go up to {int(images.x.max())}; give the learner their max_level=",
                stacklevel=3,
            )
        self.encoding = known
        self.options = replace(self.options, input_mean=known.input_mean, max_level=images.max_level)
        if self.net.fit_inputs(known):
            self._stop()

    def _check_images(self, images: Images) -> None:
        if images.features != self.n_in or images.classes > self.sizes[-1]:
            raise ValueError(
                f"{images.name} has {images.features} pixels and {images.classes} classes; this network takes "
                f"{self.n_in} pixels and has {self.sizes[-1]} classes"
            )
        self.encoding.check(images)

    # What it has learned.

    def encode(self, images: Any) -> NDArray[Any]:
        """What the network sees, uint8 (n, pixels), of images (n, ...) with levels 0 .. max_level, numpy or torch.

        Spikes, 0 or 1; or the pixels themselves. A frozen front takes what its network takes.
        """
        return self.encoding(images)

    def graph(self) -> BinaryGraph:
        """The binary network that the hidden weights stand for now. It takes encoded images: spikes are levels 0, 1."""
        return self.net.graph()

    def network(self) -> Any:
        """Deprecated: `lava_meta.convert(learner)`."""
        return by_old_name("Learner.network")(self)

    def report(self, target: str, images: Any, **options: Any) -> Report:
        """What the network that it is now costs on a chip ("loihi2") while it learns raw `images` (n, ...).

        Layers that learn are plastic: their tags, traces and synaptic updates are counted too. options, errors: those
        of `lava_meta.loihi.cost.report`.
        """
        from lava_meta.loihi.cost import report

        bits = 32 if self.precision == "float" else int(self.precision)
        return report(self.graph(), self.encode(images), target, plastic=dict.fromkeys(self.plastic, bits), **options)

    @overload
    def predict(self, images: Any, *, uncertainty: Literal[False] = False) -> NDArray[np.int64]: ...

    @overload
    def predict(
        self, images: Any, *, uncertainty: Literal[True], samples: int = ..., width: float = ...
    ) -> Prediction: ...

    def predict(
        self, images: Any, *, uncertainty: bool = False, samples: int = SAMPLES, width: float = WIDTH
    ) -> NDArray[np.int64] | Prediction:
        """Classes int64 (n,) of raw images, by the network as it is now: in Lava if the backend is "lava".

        A network whose thresholds follow the spread of each image's inputs is classified by the layers that learn,
        outside Lava.

        Args:
            images: raw images (n, ...).
            uncertainty: classify with networks whose signs are drawn by how sure they are, outside Lava, and give a
                `Prediction`: classes, probabilities, entropy, disagreement (`lava_meta.online_learning.uncertainty`).
            samples: so many of them.
            width: |h| as a share of its limit over which the probability of a flipped sign falls to 1/e.
        """
        if uncertainty:
            return uncertain(self.net, self.encode(images), samples=samples, width=width, seed=self.seed)
        if self.net.divisive:
            return self._own_classes(self.encode(images), compiled=self.backend != "reference")
        return self._backend().classes(self.graph(), self.encode(images), self.options)

    def accuracy(self, images: Images) -> float:
        """Share of `images` classified right, by the compiled kernels."""
        from lava_meta.graph.packed.compiled import classify

        self._check_images(images)
        x = self.encode(images.x)
        classes = self._own_classes(x, compiled=True) if self.net.divisive else classify(self.graph(), x)
        return float((classes == images.y.numpy()).mean())

    def _own_classes(self, x: NDArray[Any], *, compiled: bool) -> NDArray[np.int64]:
        return LocalEngine(self.net, compiled=compiled).classes(x)

    def _accuracies(self, tests: Sequence[Images], *, measure: bool) -> list[float]:
        return [self.accuracy(test) if measure else float("nan") for test in tests]

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one safetensors file, atomically: `lava_meta.load` resumes to the identical state."""
        self._write(path, {})

    def _write(self, path: str | os.PathLike[str], more: dict[str, Any]) -> None:
        header: dict[str, Any] = {name: getattr(self, name) for name in _SAVED} | self._own_choices()
        if self.device is not None:
            header["device"] = self.device.to_dict()
        header |= {"rule": self.rule.to_dict(), "parts_learned": self.parts_learned}
        header["learned"] = to_header(self.learned)
        if self.under_way is not None:
            header["under_way"] = list(self.under_way)
        files.write_network(path, self.net, header | more)

    @classmethod
    def restored(
        cls, path: str | os.PathLike[str], header: dict[str, Any], tensors: files.Tensors, backend: str | None = None
    ) -> Self:
        """The learner of this kind in the file at `path`, of this content; errors as of `load_learner`."""
        if backend is not None:
            backend = known_backend(backend)
        with reading(path):
            options = {name: header[name] for name in _SAVED}
            files.check_declared_sizes(options["sizes"], tensors)
            options["backend"] = backend or available(known_backend(options["backend"], warn=False))
            if "device" in header:
                options["device"] = Device(**header["device"])
            learner = cls(rule=OnlineRule.from_dict(header["rule"]), **options, **cls._choices_in(header, tensors))
            files.restore(learner.net, tensors)
            learner.parts_learned = files.check_count("parts_learned", header["parts_learned"])
            learner.learned = from_header(header.get("learned"))
            if header.get("under_way") is not None:
                part, images = header["under_way"]
                learner.under_way = (str(part), files.check_count("under_way", images))
            return learner

    @classmethod
    def _choices_in(cls, header: dict[str, Any], tensors: files.Tensors) -> dict[str, Any]:
        """What else a learner of this kind is made with, from its file."""
        return {"front": files.front_of(header, tensors)}

    # The run.

    def __enter__(self) -> Learner:
        self._backend().check()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 or error is not None:
            self._stop()

    def _backend(self) -> Backend:
        backend: Backend = providers.find(BACKEND, self.backend)
        return backend

    def _started(self) -> Engine:
        if self._engine is None:
            self._engine = self._backend().start(self.net, self.options)
        return self._engine

    def _stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __repr__(self) -> str:
        return f"Learner({'-'.join(map(str, self.sizes))}, precision={self.precision}, backend={self.backend!r})"


def _parts(stream: Scenario | Images | Iterable[Images]) -> Iterable[Images]:
    if isinstance(stream, Scenario):
        return stream.train
    return [stream] if isinstance(stream, Images) else stream


def _groups(places: NDArray[np.int64], size: int, lanes: int) -> Iterator[NDArray[np.int64]]:
    """The places, about `size` at a time, in whole groups of lanes."""
    size = max(1, size // lanes) * lanes
    return (places[start : start + size] for start in range(0, len(places), size))
