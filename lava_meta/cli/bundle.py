"""The command that packs a network for someone with a chip: `bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_meta.cli.app import app
from lava_meta.cli.outputs import check_folder
from lava_meta.cli.spiking import Steps, bundle_of, is_spiking
from lava_meta.cli.testing import AsIs, Network, check_one_source, load_network, read_images, tests_for


@app.command()
def bundle(
    *,
    network: Network,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    images: Annotated[Path | None, typer.Option(help="For acceptance: an .npy file of inputs (n, ...).")] = None,
    data: Annotated[
        str | None, typer.Option(help="Instead: the tests of the tasks of digits, mnist, ... that were learned.")
    ] = None,
    steps: Steps = None,
    as_is: AsIs = False,
    rule: Annotated[
        str | None,
        typer.Option(
            help="tanh2, exponential, linear, quadratic; by default the one it learned with, else tanh2 of 1.35."
        ),
    ] = None,
    m: Annotated[float | None, typer.Option(min=0, help="Metaplasticity of tanh2 or exponential.")] = None,
    T: Annotated[float | None, typer.Option("--T", help="Range of linear or quadratic.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle in the folder.")] = False,
) -> None:
    """Write a folder that runs a network on stock Lava Processes without this package: for a colleague with a chip.

    Holds the network, its stock Processes, a script that runs them, a hundred inputs with the sums they must give, the
    NIR file, and a rule's strings; of a spiking network, ten trains with the spikes they must give. Everything is
    checked against Loihi's ranges first.
    """
    from lava_meta.converters.bundle import bundle as write
    from lava_meta.converters.bundle.folder import IMAGES
    from lava_meta.rule import consolidation_from_dict

    check_one_source(images, data)
    check_folder(out, [network, images])
    if is_spiking(network):
        if any(value is not None for value in (data, rule, m, T)) or as_is:
            raise typer.BadParameter("of the options, a spiking network takes --images, --steps and --overwrite")
        _print_written(bundle_of(network, images, steps, out, overwrite=overwrite))
        return
    if steps is not None:
        raise typer.BadParameter("belongs to networks of spiking neurons", param_hint="--steps")
    loaded = load_network(network)
    pixels = labels = accuracies = None
    if images is not None:
        pixels = read_images(images)
    elif data is not None:
        testing = tests_for(network, loaded.learned, data, as_is=as_is)
        pixels, labels = testing.mixed(IMAGES)
        accuracies = testing.accuracies(loaded)
    given = {name: value for name, value in (("m", m), ("T", T)) if value is not None}
    if given and rule is None:
        raise typer.BadParameter("--m and --T belong to a rule: give --rule too")
    consolidation = None if rule is None else consolidation_from_dict({"kind": rule, **given})
    folder = write(
        loaded, out, images=pixels, labels=labels, accuracies=accuracies, rule=consolidation, overwrite=overwrite
    )
    _print_written(folder)


def _print_written(folder: Path) -> None:
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"wrote {folder}: {names}\nrun it with `python {folder / 'run.py'}`")
