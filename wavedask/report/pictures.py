"""The pictures of a report, as data of the page itself."""

import base64
import io
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import xarray as xr
from matplotlib.figure import Figure

from wavedask.conventions import (
    ABERRATION,
    CORRELATION,
    CURVATURE_X,
    CURVATURE_Y,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    FIGURE_ERROR,
    IMAGE,
    LONG_NAME,
    REASON,
    RESIDUAL,
    SLOPE_X,
    SLOPE_Y,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    WAVEFRONT,
    WAVEFRONT_UNCERTAINTY,
    Quantity,
    X,
    Y,
)
from wavedask.plot import PICTURES, Picture, kinds_of, plot_map, plot_reasons

DPI: Final = 90
MOST_PIXELS: Final = 600
"""Pixels of a map along an axis that a picture shows; larger maps are drawn with a step."""
CONTOURED: Final = (WAVEFRONT, RESIDUAL, FIGURE_ERROR, ABERRATION)
FIRST: Final = (
    IMAGE,
    WAVEFRONT,
    WAVEFRONT_UNCERTAINTY,
    RESIDUAL,
    FIGURE_ERROR,
    ABERRATION,
)
"""Maps of a frame that the page shows first, of which those that a result has are drawn."""
OTHERS: Final = (
    SLOPE_Y,
    SLOPE_X,
    DISPLACEMENT_Y,
    DISPLACEMENT_X,
    CURVATURE_Y,
    CURVATURE_X,
    CORRELATION,
    UNCERTAINTY_Y,
    UNCERTAINTY_X,
)
"""Maps that it shows behind the pictures of modes, mirror and focus."""
MEANINGS: Final = {
    "modes": "modes of the wavefront with standard errors",
    "mirror": "slope error and height error of the mirror",
    "focus": "caustic near the focus",
}
"""What the pictures that are no maps show, by their kind."""


class Shown(NamedTuple):
    """A picture of the page: its text for people who do not see it, and its data."""

    text: str
    source: str


def embedded(figure: Figure, text: str, *, dpi: int = DPI) -> Shown:
    """Turn a figure into a picture inside the page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    text : str
        What it shows.
    dpi : int, optional
        Pixels per inch.

    Returns
    -------
    Shown

    Examples
    --------
    >>> embedded(Picture(figsize=(1, 1)), "nothing").source[:22]
    'data:image/png;base64,'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return Shown(text, "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())


def frame_pictures(frame: xr.Dataset) -> Iterator[Shown]:
    """Draw the maps of one frame.

    Parameters
    ----------
    frame : xarray.Dataset, dims (y, x)
        One frame of a result; with ``image`` the corrected frame, too. Maps are computed one by
        one.

    Yields
    ------
    Shown

    Examples
    --------
    >>> import numpy as np
    >>> frame = xr.Dataset({"wavefront": (("y", "x"), np.eye(3), {"units": "m"})})
    >>> [picture.text for picture in frame_pictures(frame)]
    ['wavefront']
    """
    yield from _maps(frame, FIRST)
    for kind, draw in PICTURES.items():
        if kind in kinds_of(frame):
            yield embedded(draw(frame), MEANINGS[kind])
    yield from _maps(frame, OTHERS)
    if REASON.name in frame:
        yield embedded(plot_reasons(thinned(frame[REASON.name])), REASON.long_name)


def _maps(frame: xr.Dataset, quantities: Iterable[Quantity]) -> Iterator[Shown]:
    for quantity in quantities:
        if quantity.name in frame and set(frame[quantity.name].dims) == {Y, X}:
            field = thinned(frame[quantity.name])
            picture = Picture(figsize=(3.95, 3.2), layout="constrained")
            plot_map(field, axes=picture.add_subplot(), contours=quantity in CONTOURED)
            yield embedded(picture, str(field.attrs.get(LONG_NAME, quantity.name)))


def thinned(field: xr.DataArray, *, most: int = MOST_PIXELS) -> xr.DataArray:
    """Take every n-th pixel of a map that is larger than a picture can show."""
    steps = {dim: slice(None, None, -(-field.sizes[dim] // most)) for dim in (Y, X)}
    return field.isel(steps)
