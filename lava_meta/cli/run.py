"""The command that classifies images with a network of integers: `run`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lava_meta.cli.app import Lanes, Overwrite, app, when_stopped
from lava_meta.cli.outputs import check_outputs
from lava_meta.cli.spiking import Steps, classifier, is_spiking, run_spiking
from lava_meta.cli.testing import (
    AsIs,
    Network,
    accuracy_lines,
    check_one_source,
    load_network,
    read_images,
    tests_for,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lava_meta.converters import LavaNetwork
    from lava_meta.online_learning import Learner


@app.command()
def run(
    *,
    network: Network,
    images: Annotated[Path | None, typer.Argument(help="Images, an .npy file of integers (n, ...).")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Instead of images: the tests of the tasks of digits, mnist, ... that were learned."),
    ] = None,
    as_is: AsIs = False,
    lanes: Lanes = 64,
    layer: Annotated[str | None, typer.Option(help="Give the signs of a hidden layer, such as hidden1.")] = None,
    sums: Annotated[
        bool, typer.Option("--sums", help="Give the integer sums of the classes; of a spiking network, their spikes.")
    ] = False,
    steps: Steps = None,
    backend: Annotated[
        str,
        typer.Option(
            help="cpu (Lava's simulator; without Lava, kernels); kernels (the same without Lava); "
            "loihi-sim (stock Processes, one image per step); loihi (a chip; classes only)."
        ),
    ] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this .npy file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Classify images in Lava's simulator, or without images all tests of what the network has learned.

    For images, prints one line per image: the class, or with --layer or --sums the integers asked for. For tests,
    prints the accuracy per task and the mean. Files may be larger than memory: images are read as
    they are needed, and results are written at once.
    """
    from lava_meta.online_learning import LearnerOverTime
    from lava_meta.processes.backends import check_backend

    check_backend(backend)
    if backend == "loihi" and (layer is not None or sums):
        raise typer.BadParameter("a chip gives classes: leave out --layer and --sums")
    check_one_source(images, data)
    if layer is not None and sums:
        raise typer.BadParameter("--layer and --sums are two outputs: give one of them")
    check_outputs([] if out is None else [out], inputs=[network, images], overwrite=overwrite)
    if is_spiking(network):
        run_spiking(network, images, steps, backend, lanes, out, counts=sums)
        return
    if steps is not None:
        raise typer.BadParameter(f"{network} is no spiking network: it has no time steps", param_hint="--steps")
    loaded = load_network(network)
    if images is not None:
        sets = [_Set(read_images(images))]
    else:
        tests = tests_for(network, loaded.learned, data, as_is=as_is).tests
        sets = [_Set(test.x.numpy(), test.y.numpy(), test.name) for test in tests]
    if isinstance(loaded, LearnerOverTime) and (layer is not None or sums):
        raise typer.BadParameter("a learner over time gives classes: leave out --layer and --sums")
    wanted = layer or ("readout" if sums else "classes")
    work = _Work(sets, wanted)

    begin = time.perf_counter()
    with (
        when_stopped(lambda: work.stopped(out)),
        _sink(out, work.total, quiet=images is None) as put,
        _computed(loaded, wanted, backend, lanes) as blocks,
    ):
        work.do(blocks, put)
    seconds = time.perf_counter() - begin
    print(f"{work.total} images in {seconds:.2f} s, the start included", file=sys.stderr)
    if images is None:
        shares = {one.name: right / len(one.images) for one, right in zip(sets, work.right, strict=True)}
        print(accuracy_lines(shares, [len(one.images) for one in sets]))


_Blocks = Iterator[dict[str, "NDArray[Any]"]]


@dataclass(frozen=True)
class _Set:
    """Images (n, ...), and of a test their labels (n,) and its name."""

    images: Any
    labels: NDArray[Any] | None = None
    name: str = ""


class _Work:
    """Sets of images on their way through a network: how many are done, and how many of each set are right."""

    def __init__(self, sets: list[_Set], wanted: str) -> None:
        self._sets, self._wanted = sets, wanted
        self.total = sum(len(one.images) for one in sets)
        self.done = 0
        self.right: list[int] = []

    def do(self, blocks: Callable[[_Set], _Blocks], put: Callable[[NDArray[Any]], None]) -> None:
        """`put` the outputs of all sets, block by block."""
        for one in self._sets:
            start, right = self.done, 0
            for block in blocks(one):
                put(block[self._wanted])
                done = self.done + len(block[self._wanted])
                if one.labels is not None:
                    right += int((block["classes"] == one.labels[self.done - start : done - start]).sum())
                self.done = done
            self.right.append(right)

    def stopped(self, out: Path | None) -> str:
        """What Ctrl-C leaves."""
        kept = f"{out} was not written" if out is not None else "what was printed stands"
        return f"stopped after {self.done} of {self.total} images; {kept}: run the same again"


@contextmanager
def _computed(
    loaded: LavaNetwork | Learner, wanted: str, backend: str, lanes: int
) -> Iterator[Callable[[_Set], _Blocks]]:
    """What computes of a set what is wanted, and of a test the classes too."""
    from lava_meta.converters import LavaNetwork
    from lava_meta.converters.backends import run as run_on
    from lava_meta.online_learning import LearnerOverTime

    if isinstance(loaded, LearnerOverTime):
        classes = classifier(loaded, backend, lanes)
        yield lambda one: ({"classes": classes(piece)} for piece in _pieces(one.images))
        return
    graph, encode = (loaded.graph, None) if isinstance(loaded, LavaNetwork) else (loaded.graph(), loaded.encode)

    def blocks(one: _Set) -> _Blocks:
        if backend == "loihi":
            return iter([{"classes": run_on(net, one.images if encode is None else encode(one.images), backend)}])
        source = one.images if encode is None else map(encode, _pieces(one.images))
        names = [wanted] if one.labels is None else [wanted, "classes"]
        return net.stream(source, lanes, names, progress=sys.stderr.isatty())

    form = "stock" if backend == "loihi-sim" else "packed"
    with LavaNetwork(graph, form=form, backend="kernels" if backend == "kernels" else None) as net:
        yield blocks


def _pieces(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some thousand images at a time, read when their turn comes."""
    return (images[start : start + 4096] for start in range(0, len(images), 4096))


@contextmanager
def _sink(out: Path | None, total: int, *, quiet: bool) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Where blocks of the output go, one after the other: a file (whole or not at all), or else standard output.

    The file's place on the disk is taken before the first block is written: a disk that is too full says so at once.
    """
    import numpy as np

    from lava_meta.errors import RunFolderError
    from lava_meta.io.files import reserve, write_atomically

    if out is None:
        yield (lambda part: None) if quiet else _print_rows
        return
    with write_atomically(out) as file:

        def put(part: NDArray[Any]) -> None:
            size = total * part[0].nbytes
            try:
                if file.tell() == 0:
                    about = {"descr": part.dtype.str, "fortran_order": False, "shape": (total, *part.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, about)
                    reserve(file, file.tell() + size)
                file.write(np.ascontiguousarray(part).data)
            except OSError as error:
                raise RunFolderError(f"{out} takes {size / 2**20:,.1f} MiB and cannot be written: {error}") from error

        yield put


def _print_rows(part: NDArray[Any]) -> None:
    print("\n".join(" ".join(map(str, row)) for row in part.reshape(len(part), -1)))
