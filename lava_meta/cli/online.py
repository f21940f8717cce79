"""Learning on-line from the command line: `online`, and what `demo --online` does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lava_meta.cli.app import Data, Overwrite, app, numbers, when_stopped
from lava_meta.cli.outputs import check_outputs


def demo_online(out: Path, seed: int, given: dict[str, Any], overwrite: bool) -> None:
    """The on-line demonstration, printed. Exits with 3 where Lava's network differs from its oracle."""
    from lava_meta.experiments import online_demo

    with when_stopped(lambda: f"stopped; learners that are complete are kept in {out}: the same again begins anew"):
        result = online_demo.run(out, seed, overwrite=overwrite, progress=True, **given)
    print(online_demo.describe(result, out))
    if result.mismatches:
        raise typer.Exit(3)


@app.command()
def online(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="What goes on learning: a network of `lava-meta convert`, a model of `lava-meta train`, or a learner; "
            "by default a new network."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the learner.")] = Path("learner.safetensors"),
    data: Data = "digits",
    permutation: Annotated[
        int | None, typer.Option(min=0, help="Shuffle the pixels: task number of permuted tasks of this seed.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Learn at most so many; by default all, once.")] = None,
    hidden: Annotated[str, typer.Option(help="Units of a new network's hidden layers, separated by commas.")] = "512",
    lr: Annotated[float | None, typer.Option(help="100 / images is a start; docs/online.md.")] = None,
    bits: Annotated[int, typer.Option(min=3, max=16, help="Of a hidden weight.")] = 8,
    plastic: Annotated[str | None, typer.Option(help="Layers that learn, separated by commas; by default all.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="lava, or kernels: the same bits without Lava. By default Lava if it is there.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the learner in --out that was stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Learn a data set inside Lava, one image at a time: a new network, a converted one, or a learner that goes on.

    Ctrl-C leaves what was learned so far in --out; the same command with --resume goes on to the identical result.
    """
    import lava_meta
    from lava_meta.data.scenarios import dataset_sequence, one_part, permuted_tasks
    from lava_meta.errors import LavaMetaError
    from lava_meta.online_learning import Learner, OnlineRule

    if resume and overwrite:
        raise typer.BadParameter("--resume goes on with the learner in --out, --overwrite replaces it: choose one")
    goes_on = resume and out.exists()
    check_outputs([out], inputs=[source], overwrite=overwrite or goes_on)
    dataset = lava_meta.load_dataset(data)
    task = dataset_sequence([dataset])
    if permutation is not None:
        task = one_part(permuted_tasks(dataset, permutation + 1, seed), permutation)
    train, test = task.train[0], task.tests[0]
    count = min(images or len(train), len(train))
    settings: dict[str, Any] = {
        "rule": OnlineRule(lr=lr if lr is not None else min(0.1, 100 / count)),
        "precision": bits,
        "plastic": plastic.split(",") if plastic else None,
        "seed": seed,
        **({} if backend is None else {"backend": backend}),
    }
    known = None if source is None or goes_on else lava_meta.load(source)
    if goes_on:
        learner = _stopped_learner(out, task.name)
    elif isinstance(known, Learner):
        learner = known
    elif known is not None:
        learner = lava_meta.online(known, **settings)
    else:
        learner = lava_meta.online([train.features, *numbers(hidden, int, "--hidden"), train.classes], **settings)

    def keep() -> str:
        begun = learner.under_way[1] if learner.under_way else 0
        if not begun:
            return "stopped before the first images were learned; nothing was written: run the same again"
        learner.save(out)
        return f"stopped; {begun} of {count} images are learned and kept in {out}: the same with --resume goes on"

    try:
        with when_stopped(keep), learner:
            history = learner.fit(task, images=images, progress=True)
    except LavaMetaError:
        print(f"lava-meta: {keep()}", file=sys.stderr)
        raise
    learner.save(out)
    assert history.accuracy is not None
    before, after = 100 * history.accuracy.values[0, 0], 100 * history.accuracy.values[-1, 0]
    rate = history.images / max(history.seconds, 1e-9)
    print(f"{history.images} images of {train.name}, {rate:,.0f} images/s; right before they were learned ", end="")
    print(f"{100 * history.online[0]:.1f} %\naccuracy on {test.name}: {before:.1f} % before, {after:.1f} % after")
    print(f"wrote {out}")


def _stopped_learner(out: Path, task: str) -> Any:
    """The learner that was stopped while it learned `task`. Raises `OutputError` for one that was not."""
    from lava_meta.errors import OutputError
    from lava_meta.online_learning import load_learner

    learner = load_learner(out)
    if learner.under_way is None:
        raise OutputError(f"{out} has learned all that it was given: to learn more, give it as the source")
    if not learner.learned or learner.learned[-1].scenario != task:
        was = learner.learned[-1].scenario if learner.learned else learner.under_way[0]
        raise OutputError(f"{out} was stopped while it learned {was}, not {task}: give the same options with --resume")
    return learner
