"""Spiking networks to be looked at: spike rasters, traces of potentials, and maps of firing rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from lava_meta.plotting.figure import Figure
from lava_meta.plotting.palette import BLUE, PALETTE

_MOST = 200  # neurons of a raster, evenly chosen from larger layers


def raster(spikes: Mapping[str, NDArray[Any]], title: str = "") -> Figure:
    """One panel per layer of spikes (steps, units) of one image: a mark per spike, the layer's firing rate beside it.

    Of layers of more than 200 neurons every n-th is drawn; the axis says which.
    """
    heights = [max(1.0, min(len(values[0]), _MOST) ** 0.5 / 4) for values in spikes.values()]
    figure = Figure(figsize=(6.4, 0.9 + 0.95 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(spikes), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, (name, values) in zip(axes, spikes.items(), strict=True):
        steps, units = values.shape
        every = -(-units // _MOST)
        when, who = np.nonzero(values[:, ::every])
        drawn = -(-units // every)
        half = 0.45 * every  # of a mark, in neurons
        axis.vlines(when + 1, who * every - half, who * every + half, color=BLUE, lw=1.2)
        axis.set_ylim(-0.6 * every, (drawn - 0.4) * every)
        axis.set_xlim(0.5, steps + 0.5)
        axis.set_ylabel(name if every == 1 else f"{name}\n(1 of {every})")
        axis.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
        axis.text(1.01, 0.5, f"{values.mean():.0%}", transform=axis.transAxes, va="center", fontsize="small")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("time step")
    axes[-1].xaxis.set_major_locator(mpl.ticker.MaxNLocator(10, integer=True))
    axes[0].set_title(title or "spikes; at the right, the share of neurons that fire in a step", fontsize="medium")
    return figure


def traces(
    potentials: NDArray[Any],
    spikes: NDArray[Any],
    neurons: Sequence[int],
    thresholds: NDArray[Any] | None = None,
    name: str = "",
) -> Figure:
    """Potentials (steps, units) of some neurons, one panel each, thresholds dashed, ticks above where they fire."""
    steps, units = potentials.shape
    figure = Figure(figsize=(6.4, 0.7 + 0.85 * units), layout="constrained")
    axes = figure.subplots(units, 1, sharex=True, squeeze=False)[:, 0]
    time = np.arange(1, steps + 1)
    for unit, axis in enumerate(axes):
        axis.plot(time, potentials[:, unit], color=PALETTE[unit % len(PALETTE)], marker=".", ms=4, lw=1)
        if thresholds is not None:
            axis.axhline(thresholds[unit], color="0.5", ls="--", lw=0.8)
        fired = time[spikes[:, unit] > 0]
        axis.plot(fired, np.full(len(fired), 0.97), "|", ms=7, color="black", transform=axis.get_xaxis_transform())
        axis.margins(y=0.2)
        axis.set_ylabel(f"neuron {neurons[unit]}", fontsize="small")
        axis.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels(axes)
    axes[-1].set_xlabel("time step")
    axes[-1].xaxis.set_major_locator(mpl.ticker.MaxNLocator(10, integer=True))
    axes[0].set_title(f"potentials of {name}; dashed the threshold, ticks are spikes", fontsize="medium")
    return figure


def rate_map(rates: NDArray[Any], name: str = "") -> Figure:
    """Firing rates (channels, rows, columns) of a layer as one map per channel, or (units,) as bars."""
    if rates.ndim == 1:
        figure = Figure(figsize=(6.4, 2.4), layout="constrained")
        axis = figure.subplots()
        axis.bar(np.arange(len(rates)), rates, color=BLUE, width=0.8)
        axis.set_xlabel("neuron")
        axis.set_ylabel("spikes per step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"firing rates of {name}", fontsize="medium")
        return figure
    across = min(8, len(rates))
    down = -(-len(rates) // across)
    figure = Figure(figsize=(0.9 * across + 0.8, 0.9 * down + 0.6), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    most = max(float(rates.max()), 1e-9)
    image: Any = None
    for place, axis in enumerate(axes.reshape(-1)):
        axis.set_axis_off()
        if place < len(rates):
            image = axis.imshow(rates[place], cmap="Blues", vmin=0, vmax=most)
            axis.set_title(str(place), fontsize="x-small", pad=2)
    figure.colorbar(image, ax=axes, label="spikes per step", shrink=0.8)
    figure.suptitle(f"firing rates of {name}, by channel", fontsize="medium")
    return figure
