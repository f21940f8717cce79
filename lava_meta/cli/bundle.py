"""The command that packs a network for someone with a chip: `bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_meta.cli.app import app


@app.command()
def bundle(
    network: Annotated[Path, typer.Argument(help="A network file of `lava-meta convert`, or a learner's.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    images: Annotated[Path | None, typer.Option(help="For acceptance: an .npy file of inputs (n, ...).")] = None,
    data: Annotated[str | None, typer.Option(help="Instead: the test set of digits, mnist, ...")] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="tanh2, exponential, linear, quadratic; by default a learner's own, else tanh2 of 1.35."),
    ] = None,
    m: Annotated[float | None, typer.Option(min=0, help="Metaplasticity of tanh2 or exponential.")] = None,
    T: Annotated[float | None, typer.Option("--T", help="Range of linear or quadratic.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle in the folder.")] = False,
) -> None:
    """Write a folder that runs a network on stock Lava Processes without this package: for a colleague with a chip.

    Holds the network, its stock Processes, a script that runs them, a hundred inputs with the sums they must give, the
    NIR file, and a rule's strings. Everything is checked against Loihi's ranges first.
    """
    from lava_meta.cli.networks import read_images
    from lava_meta.converters import load
    from lava_meta.converters.bundle import bundle as write
    from lava_meta.data import load_dataset
    from lava_meta.rule import consolidation_from_dict

    if images is not None and data is not None:
        raise typer.BadParameter("give --images or --data, not both")
    pixels = labels = None
    if images is not None:
        pixels = read_images(images)
    elif data is not None:
        test = load_dataset(data).test
        pixels, labels = test.x.numpy(), test.y.numpy()
    given = {name: value for name, value in (("m", m), ("T", T)) if value is not None}
    if given and rule is None:
        raise typer.BadParameter("--m and --T belong to a rule: give --rule too")
    consolidation = None if rule is None else consolidation_from_dict({"kind": rule, **given})
    folder = write(load(network), out, images=pixels, labels=labels, rule=consolidation, overwrite=overwrite)
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"wrote {folder}: {names}\nrun it with `python {folder / 'run.py'}`")
