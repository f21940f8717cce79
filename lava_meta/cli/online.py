"""Learning on-line from the command line: `online`, and what `demo --online` does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lava_meta.cli.app import Data, Overwrite, app, numbers, when_stopped
from lava_meta.cli.outputs import check_outputs

if TYPE_CHECKING:
    from lava_meta.data.scenarios import Scenario
    from lava_meta.online_learning import History, Learner, OnlineRule


def demo_online(out: Path, seed: int, given: dict[str, Any], *, overwrite: bool) -> None:
    """The on-line demonstration, printed. Exits with 3 if Lava's network differs from its reference implementation."""
    from lava_meta.experiments import online_demo

    with when_stopped(lambda: f"stopped; learners that are complete are kept in {out}: the same again starts over"):
        result = online_demo.run(out, seed, overwrite=overwrite, progress=True, **given)
    print(online_demo.describe(result, out))
    if result.mismatches:
        raise typer.Exit(3)


@app.command()
def online(
    *,
    source: Annotated[
        Path | None,
        typer.Argument(
            help="What goes on learning: a network of `lava-meta convert`, a model of `lava-meta train`, or a learner; "
            "by default a new network."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the learner.")] = Path("learner.safetensors"),
    data: Data = "digits",
    task: Annotated[
        int | None, typer.Option(min=1, help="Shuffle the pixels, as in this task of permuted tasks of this seed.")
    ] = None,
    permutation: Annotated[int | None, typer.Option(min=0, hidden=True, help="The old --task, counted from 0.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Learn at most so many; by default all, once.")] = None,
    hidden: Annotated[str, typer.Option(help="Units of a new network's hidden layers, separated by commas.")] = "512",
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; by default 100 / images, at most 0.1 (docs/online.md).")
    ] = None,
    bits: Annotated[int, typer.Option(min=3, max=16, help="Of a hidden weight.")] = 8,
    activation: Annotated[
        str | None,
        typer.Option(
            help="Of hidden units: spikes, sparse, as of a new network by default; abs_spikes, of units far from their "
            "threshold on either side; or signs, as of a converted one."
        ),
    ] = None,
    plastic: Annotated[str | None, typer.Option(help="Layers that learn, separated by commas; by default all.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="lava, or kernels: the same bits without Lava. By default Lava if it is there.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the learner in --out that was stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Learn a data set inside Lava, one image at a time: a new network, a converted one, or a learner that goes on.

    What was learned is kept in --out every 20 seconds and after Ctrl-C; the same command with --resume goes on to the
    identical result.
    """
    from lava_meta.online_learning.settings import ACTIVATIONS

    if activation not in (None, *ACTIVATIONS):
        raise typer.BadParameter(f"--activation is {activation}; choose one of {', '.join(ACTIVATIONS)}")
    if resume and overwrite:
        raise typer.BadParameter("--resume goes on with the learner in --out, --overwrite replaces it: choose one")
    goes_on = resume and out.exists()
    check_outputs([out], inputs=[source], overwrite=overwrite or goes_on)
    learned = _scenario(data, _task_number(task, permutation), seed)
    train = learned.train[0]
    count = min(images or len(train), len(train))
    if goes_on:
        learner = _stopped_learner(out, learned)
    else:
        rate = lr if lr is not None else min(0.1, 100 / count)
        make = _rules()[activation or ("spikes" if source is None else "signs")]
        options: dict[str, Any] = {
            "rule": make(lr=rate),
            "precision": bits,
            "plastic": plastic.split(",") if plastic else None,
            "seed": seed,
            **({} if backend is None else {"backend": backend}),
        }
        sizes = [train.features, *numbers(hidden, int, "--hidden"), train.classes]
        learner = _new_learner(source, sizes, options)
    history = _fit(learner, learned, count, out, resume=goes_on)
    learner.save(out)
    print(f"{_described(history, train.name, learned.tests[0].name)}\nwrote {out}")


def _task_number(task: int | None, permutation: int | None) -> int | None:
    """The task, counted from 1, by its option or by that of version 0.1."""
    if permutation is None:
        return task
    if task is not None:
        raise typer.BadParameter("give --task alone: --permutation is its old name, counted from 0")
    print("lava-meta: warning: --permutation is now --task, counted from 1; it goes with 0.3", file=sys.stderr)
    return permutation + 1


def _rules() -> dict[str, Callable[..., OnlineRule]]:
    """By the activation of hidden units: of fixed thresholds, so that the network converts."""
    from lava_meta.online_learning import OnlineRule

    return {
        "signs": OnlineRule,
        "spikes": partial(OnlineRule.sparse, divisive=False),
        "abs_spikes": partial(OnlineRule.two_sided, divisive=False),
    }


def _scenario(data: str, task: int | None, seed: int) -> Scenario:
    """The data set as one task: as it is, or with its pixels permuted as in `task`."""
    from lava_meta.data import load_dataset
    from lava_meta.data.scenarios import dataset_sequence, one_experience, permuted_tasks

    dataset = load_dataset(data)
    if task is None:
        return dataset_sequence([dataset])
    return one_experience(permuted_tasks(dataset, task, seed), task - 1)


def _new_learner(source: Path | None, sizes: Sequence[int], options: dict[str, Any]) -> Learner:
    """A learner of these sizes, or from the file at `source`; one that is in that file stays as it is."""
    import lava_meta

    if source is None:
        return lava_meta.online(sizes, **options)
    known = lava_meta.load(source)
    return known if isinstance(known, lava_meta.Learner) else lava_meta.online(known, **options)


def _fit(learner: Learner, task: Scenario, count: int, out: Path, *, resume: bool) -> History:
    """Learn `count` images. What stops this leaves what was learned in `out`, and says so."""
    from lava_meta.errors import LavaMetaError

    def kept() -> str:
        begun = learner.under_way[1] if learner.under_way else 0
        if not begun:
            return "stopped before the first images were learned; nothing was written: run the same again"
        return f"stopped; {begun} of {count} images are learned and kept in {out}: the same with --resume goes on"

    try:
        with when_stopped(kept), learner:
            return learner.fit(task, images=count, progress=True, checkpoint=out, resume=resume)
    except LavaMetaError:
        print(f"lava-meta: {kept()}", file=sys.stderr)
        raise


def _described(history: History, train: str, test: str) -> str:
    """What was learned of `train`, and how accuracy on `test` changed."""
    assert history.accuracy is not None
    before, after = 100 * history.accuracy.values[0, 0], 100 * history.accuracy.values[-1, 0]
    rate = history.images / max(history.seconds, 1e-9)
    return (
        f"{history.images} images of {train}, {rate:,.0f} images/s; right before they were learned "
        f"{100 * history.online[0]:.1f} %\naccuracy on {test}: {before:.1f} % before, {after:.1f} % after"
    )


def _stopped_learner(out: Path, scenario: Scenario) -> Learner:
    """The learner that was stopped while it learned `scenario`. Raises `OutputError` for one that was not."""
    from lava_meta.errors import OutputError
    from lava_meta.online_learning import load_learner

    learner = load_learner(out)
    if learner.under_way is None:
        raise OutputError(f"{out} has learned all that it was given: to learn more, give it as the source")
    last = learner.learned[-1] if learner.learned else None
    if last is None or last.recipe != scenario.recipe:
        was = last.scenario if last else learner.under_way[0]
        raise OutputError(
            f"{out} was stopped while it learned {was}, not {scenario.name}: give the same options with --resume"
        )
    return learner
