"""The command `report`: what a network costs on a chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_meta.cli.app import app


@app.command()
def report(
    network: Annotated[Path, typer.Argument(help="A network file of `lava-meta convert`, or a learner's.")],
    data: Annotated[str | None, typer.Option(help="Count on the test set of digits, mnist, ...")] = None,
    images: Annotated[Path | None, typer.Option(help="Count on these images, an .npy file (n, ...).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Count on this many images at most, the first ones.")] = 1000,
    target: Annotated[str, typer.Option(help="The chip.")] = "loihi2",
    weight_bits: Annotated[int, typer.Option(min=2, max=8, help="Of a stored weight.")] = 8,
    own_kernels: Annotated[
        bool, typer.Option("--own-kernels", help="Store a convolution's weights for every synapse.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for report.json, .txt, .png, .pdf.")] = None,
) -> None:
    """Neurons, synapses, memory, operations, cores and energy of a network, counted on given images.

    Cores are filled by stated rules, and the energy is by Loihi 1's coefficients: every assumption is listed with its
    source. Nothing is verified on a chip.
    """
    import lava_meta
    from lava_meta.cli.networks import read_images
    from lava_meta.data import load_dataset

    if (images is None) == (data is None):
        raise typer.BadParameter("give --data with the name of a data set, or --images with an .npy file")
    labels = None
    if images is not None:
        pixels = read_images(images)[:limit]
    else:
        assert data is not None
        test = load_dataset(data).test
        pixels, labels = test.x.numpy()[:limit], test.y.numpy()[:limit]
    found = lava_meta.load(network).report(
        target, pixels, labels=labels, weight_bits=weight_bits, share_kernels=not own_kernels
    )
    print(found)
    if out is not None:
        found.save(out)
        print(f"\nwrote {out / 'report.json'}, .txt, .png and .pdf")
