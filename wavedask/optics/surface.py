"""The map that functions of optics work on: checked, with axes in metres."""

from typing import Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import METRE, UNITS, WAVEFRONT, X, Y
from wavedask.errors import InputError
from wavedask.units import one_chunk_per_map

Floats = npt.NDArray[np.float64]

EQUAL: Final = 1e-3
"""Steps of an axis are equal within this fraction of a step."""


def surface_of(wf: xr.Dataset, variable: str = WAVEFRONT.name) -> xr.DataArray:
    """Return a map of a result with its axes in metres, whole in y and x.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`.
    variable : str, default "wavefront"
        The map.

    Returns
    -------
    xarray.DataArray, dims (..., y, x)
        Lazy if `wf` is.

    Raises
    ------
    InputError
        No such variable, no coordinates, or coordinates that are not in metres.

    Examples
    --------
    >>> axes = {"y": [0.0, 1e-6], "x": [0.0, 1e-6]}
    >>> wf = xr.Dataset({"wavefront": (("y", "x"), np.eye(2))}, axes)
    >>> surface_of(wf).dims
    ('y', 'x')
    """
    if variable not in wf:
        raise InputError(
            f"wf has no {variable!r}; it has {', '.join(map(str, wf)) or 'no variables'}",
            "Give the result of wavefront.",
        )
    surface = wf[variable]
    for dim in (Y, X):
        if dim not in surface.dims or dim not in surface.coords:
            raise InputError(
                f"{variable} has the dimensions {surface.dims} and no coordinate {dim!r}",
                f"It needs the coordinates {Y!r} and {X!r} in {METRE}.",
            )
        unit = surface[dim].attrs.get(UNITS, METRE)
        if unit != METRE:
            raise InputError(f"coordinate {dim!r} is in {unit!r}", f"It must be in {METRE!r}.")
    return one_chunk_per_map(surface.transpose(..., Y, X))


def equal_steps(surface: xr.DataArray) -> tuple[float, float]:
    """Return the steps of the axes (y, x) in m.

    Raises
    ------
    InputError
        An axis with one pixel, or with unequal steps.

    Examples
    --------
    >>> axes = {"y": [0.0, 2e-6, 4e-6], "x": [0.0, 1e-6, 2e-6]}
    >>> equal_steps(xr.DataArray(np.zeros((3, 3)), axes, ("y", "x")))
    (2e-06, 1e-06)
    """
    steps = []
    for dim in (Y, X):
        positions = np.asarray(surface[dim].values, np.float64)
        apart = np.diff(positions)
        step = float(apart.mean()) if apart.size else 0.0
        if not step > 0 or np.abs(apart - step).max() > EQUAL * step:
            raise InputError(
                f"the positions along {dim!r} have no equal, increasing steps",
                "Give a result of wavefront, or interpolate it to equal steps.",
            )
        steps.append(step)
    return steps[0], steps[1]


def without_plane(
    surface: Floats, y: Floats, x: Floats, *, weights: Floats | None = None
) -> Floats:
    """Take the best plane out of a map; NaN where there is no data.

    Parameters
    ----------
    surface : ndarray, shape (rows, columns)
        Heights, NaN where there are none.
    y, x : ndarray, shapes (rows,) and (columns,)
        Positions.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> y, x = np.arange(3.0), np.arange(4.0)
    >>> bool(np.abs(without_plane(2 * y[:, None] - x + 5, y, x)).max() < 1e-12)
    True
    """
    rows, columns = np.nonzero(np.isfinite(surface))
    heights = surface[rows, columns]
    if not heights.size:
        return surface.copy()
    # Scaled, so that the equations are well conditioned whatever the unit.
    terms = [np.ones(heights.size)]
    for positions in (y[rows], x[columns]):
        spread = float(np.ptp(positions))
        if spread > 0:
            terms.append((positions - positions.mean()) / spread)
    matrix = np.stack(terms, axis=1)
    fit = np.linalg.lstsq(matrix, heights, rcond=None)[0]
    flat = np.full(surface.shape, np.nan)
    flat[rows, columns] = heights - matrix @ fit
    return flat
