"""The map of reasons: why a pixel has no displacement."""

from typing import Final

import numpy as np
import xarray as xr
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wavedask.conventions import FLAG_MEANINGS, FLAG_VALUES, REASON, X, Y
from wavedask.errors import InputError
from wavedask.plot.maps import Picture, edges_of

MATCHED: Final = "#e8e8e8"
"""Colour of the pixels with a displacement: the others should be seen."""
PALETTE: Final = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#f0e442", "#7f3c8d", "#5a5a5a", "#11a579", "#a5aa99", "#000000"),
)
"""Colours that people with a colour vision deficiency tell apart; the first are those of Okabe and
Ito (2008)."""


def plot_reasons(reason: xr.DataArray) -> Figure:
    """Draw why pixels have no displacement, with the share of each reason.

    Parameters
    ----------
    reason : xarray.DataArray, dims (y, x)
        Variable ``reason`` of one frame, with the attributes ``flag_values`` and ``flag_meanings``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        Not a single map, or codes without meanings.

    Examples
    --------
    >>> codes = xr.DataArray(
    ...     np.array([[0, 0], [0, 1]], np.uint8),
    ...     dims=("y", "x"),
    ...     name="reason",
    ...     attrs={"flag_values": [0, 1], "flag_meanings": "matched border"},
    ... )
    >>> [text.get_text() for text in plot_reasons(codes).axes[0].get_legend().get_texts()]
    ['matched 75.0 %', 'border 25.0 %']
    """
    if set(reason.dims) != {Y, X}:
        raise InputError(
            f"{reason.name} has dimensions {reason.dims}",
            f"Choose one map of dimensions ({Y}, {X}), such as field.isel(frame=0).",
        )
    if not {FLAG_VALUES, FLAG_MEANINGS} <= reason.attrs.keys():
        raise InputError(
            f"{reason.name} has no attributes {FLAG_VALUES!r} and {FLAG_MEANINGS!r}",
            f"Give the variable {REASON.name!r} of a result.",
        )
    codes = np.asarray(reason.transpose(Y, X).values)
    values = [int(value) for value in np.atleast_1d(reason.attrs[FLAG_VALUES])]
    names = [name.replace("_", " ") for name in str(reason.attrs[FLAG_MEANINGS]).split()]
    colours = [MATCHED, *(PALETTE[number % len(PALETTE)] for number in range(len(values) - 1))]
    bounds = [value - 0.5 for value in values] + [values[-1] + 0.5]
    extent, unit_y, unit_x = edges_of(reason.transpose(Y, X))
    figure = Picture(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        codes,
        cmap=ListedColormap(colours),
        norm=BoundaryNorm(bounds, len(colours)),
        extent=extent,
        interpolation="nearest",
    )
    axes.set_title(REASON.long_name, fontsize="medium")
    axes.set_xlabel(f"{X} [{unit_x}]")
    axes.set_ylabel(f"{Y} [{unit_y}]")
    shares = [float((codes == value).mean()) for value in values]
    patches = [
        Patch(facecolor=colour, edgecolor="0.3", label=f"{name} {100 * share:.1f} %")
        for colour, name, share in zip(colours, names, shares, strict=True)
        if share > 0
    ]
    axes.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False
    )
    return figure
