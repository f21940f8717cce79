"""The command `report`: what a network costs on a chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lava_meta.cli.app import Overwrite, app
from lava_meta.cli.outputs import check_outputs
from lava_meta.cli.spiking import Steps, is_spiking, report_of
from lava_meta.cli.testing import AsIs, Network, check_one_source, load_network, read_images, tests_for


@app.command()
def report(
    *,
    network: Network,
    data: Annotated[
        str | None, typer.Option(help="Count on the tests of the tasks of digits, mnist, ... that were learned.")
    ] = None,
    as_is: AsIs = False,
    images: Annotated[Path | None, typer.Option(help="Count on these images, an .npy file (n, ...).")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Count on this many images at most, the first ones of each task.")
    ] = 1000,
    steps: Steps = None,
    target: Annotated[str, typer.Option(help="The chip.")] = "loihi2",
    weight_bits: Annotated[int, typer.Option(min=2, max=8, help="Of a stored weight.")] = 8,
    own_kernels: Annotated[
        bool, typer.Option("--own-kernels", help="Store a convolution's weights per synapse.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for report.json, .txt, .png, .pdf.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Neurons, synapses, memory, operations, cores and energy of a network, counted on images of what it has learned.

    Cores are filled by stated rules, and the energy is by Loihi 1's coefficients: every assumption is listed with its
    source. Nothing is verified on a chip.
    """
    from lava_meta.loihi.chips import find_chip

    check_one_source(images, data)
    find_chip(target)
    written = [] if out is None else [out / f"report.{kind}" for kind in ("json", "txt", "png", "pdf")]
    check_outputs(written, inputs=[network, images], overwrite=overwrite)
    testing = labels = None
    if is_spiking(network):
        found = report_of(network, images, steps, limit, target, weight_bits, own_kernels=own_kernels)
    else:
        loaded = load_network(network)
        if images is not None:
            pixels = read_images(images)[:limit]
        else:
            testing = tests_for(network, loaded.learned, data, as_is=as_is)
            pixels, labels = testing.mixed(limit)
        found = loaded.report(target, pixels, labels=labels, weight_bits=weight_bits, share_kernels=not own_kernels)
    print(found)
    if testing is not None:
        print(f"\n{testing.accuracy_of(loaded)}")
    if out is not None:
        found.save(out)
        print(f"\nwrote {out / 'report.json'}, .txt, .png and .pdf")
