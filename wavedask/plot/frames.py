"""The same map of several frames, small, with one range of colours."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from wavedask.conventions import DIMENSIONLESS, FRAME, LONG_NAME, UNITS, X, Y
from wavedask.errors import InputError
from wavedask.plot.maps import NO_DATA, OUTLYING, SIGNED, Picture
from wavedask.prefixes import prefixed

COLUMNS: Final = 6
SIDE: Final = 1.7
"""Inches of a small map."""


def plot_frames(stack: xr.DataArray, frames: Sequence[int]) -> Figure:
    """Draw the same map of several frames with one colour bar.

    Parameters
    ----------
    stack : xarray.DataArray, dims (frame, y, x)
        The maps; only those of `frames` are computed.
    frames : sequence of int
        Numbers of the frames.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        Not maps along ``frame``, or no frames.

    Examples
    --------
    >>> maps = xr.DataArray(np.ones((3, 4, 4)), dims=("frame", "y", "x"), name="wavefront")
    >>> len(plot_frames(maps, [0, 2]).axes)  # two maps and a colour bar
    3
    """
    if set(stack.dims) != {FRAME, Y, X} or not len(frames):
        raise InputError(
            f"{stack.name} has dimensions {stack.dims}, and frames is {list(frames)}",
            f"Give maps of dimensions ({FRAME}, {Y}, {X}), and at least one frame.",
        )
    chosen = stack.isel({FRAME: list(frames)}).transpose(FRAME, Y, X)
    values = np.asarray(chosen.values, np.float64)
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [OUTLYING, 100 - OUTLYING]) if known.size else (0.0, 1.0)
    colours = "viridis"
    if stack.name in SIGNED:
        high = max(abs(low), abs(high)) or 1.0
        low, colours = -high, "RdBu_r"
    scale, unit = prefixed(max(abs(low), abs(high)), str(stack.attrs.get(UNITS, "")))
    columns = min(COLUMNS, len(frames))
    rows = math.ceil(len(frames) / columns)
    figure = Picture(
        figsize=(SIDE * columns + 1.4, SIDE * rows * values.shape[1] / values.shape[2] + 0.7),
        layout="constrained",
    )
    drawn = None
    for place, number in enumerate(frames):
        axes = figure.add_subplot(rows, columns, place + 1)
        drawn = axes.imshow(
            np.where(np.isfinite(values[place]), values[place] * scale, np.nan),
            cmap=colours,
            vmin=low * scale,
            vmax=high * scale,
        )
        axes.set_facecolor(NO_DATA)
        axes.set_title(f"{FRAME} {number}", fontsize="small")
        axes.set_xticks([])
        axes.set_yticks([])
    assert drawn is not None  # there is at least one frame
    bar = figure.colorbar(drawn, ax=figure.axes, shrink=0.8)
    name = str(stack.attrs.get(LONG_NAME, stack.name))
    bar.set_label(f"{name} [{unit}]" if unit not in ("", DIMENSIONLESS) else name)
    return figure
