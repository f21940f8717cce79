"""Learning on-line from the command line: `online`, and what `demo --online` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lava_meta.cli.app import Data, app, numbers


def demo_online(out: Path, seed: int, given: dict[str, Any]) -> None:
    """The on-line demonstration, printed. Exits with 3 where Lava's network differs from its oracle."""
    from lava_meta.experiments import online_demo

    result = online_demo.run(out, seed, **given)
    print(online_demo.describe(result, out))
    if result.mismatches:
        raise typer.Exit(3)


@app.command()
def online(
    source: Annotated[
        Path | None, typer.Argument(help="A network of `lava-meta convert`, or a learner to go on with; default: new.")
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
    backend: Annotated[str, typer.Option(help="lava, or kernels: the same bits without Lava.")] = "lava",
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything.")] = 0,
) -> None:
    """Learn a data set inside Lava, one image at a time: a new network, a converted one, or a learner that goes on."""
    import lava_meta
    from lava_meta.online_learning import Learner, OnlineRule
    from lava_meta.online_learning import online as learner_of
    from lava_meta.streams import permuted_tasks

    dataset = lava_meta.load_dataset(data)
    train, test = dataset.train, dataset.test
    if permutation is not None:
        tasks = permuted_tasks(dataset, permutation + 1, seed)
        train, test = tasks.train[permutation], tasks.tests[permutation]
    settings: dict[str, Any] = {
        "rule": OnlineRule(lr=lr if lr is not None else min(0.1, 100 / (images or len(train)))),
        "precision": bits,
        "plastic": plastic.split(",") if plastic else None,
        "backend": backend,
        "seed": seed,
    }
    known = None if source is None else lava_meta.load(source)
    if isinstance(known, Learner):
        learner = known
    elif known is not None:
        learner = learner_of(known, **settings)
    else:
        learner = learner_of([train.features, *numbers(hidden, int, "--hidden"), train.classes], **settings)
    before = learner.accuracy(test)
    with learner:
        history = learner.fit(train, images=images)
    learner.save(out)
    rate = history.images / history.seconds
    print(f"{history.images} images of {train.name}, {rate:,.0f} images/s; right before they were learned ", end="")
    print(f"{100 * history.online[0]:.1f} %\naccuracy on {test.name}: {100 * before:.1f} % before, ", end="")
    print(f"{100 * learner.accuracy(test):.1f} % after\nwrote {out}")
