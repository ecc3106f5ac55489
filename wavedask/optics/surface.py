"""The map that functions of optics work on: checked, with axes in metres."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import METRE, UNITS, WAVEFRONT, X, Y
from wavedask.errors import InputError
from wavedask.maps import one_chunk_per_map

Floats = npt.NDArray[np.float64]

EQUAL: Final = 1e-3
"""Steps of an axis are equal within this fraction of a step."""
LARGEST: Final = 1e12
"""Largest value of a map, in its unit; a square of what is above may be no number."""


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
        No such variable, no coordinates, or coordinates that are not in metres, not finite, or that
        neither rise nor fall.

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
    check_axes(surface)
    if surface.dtype.kind != "f":
        surface = surface.astype(np.float64)
    return one_chunk_per_map(surface.transpose(..., Y, X))


def check_axes(data: xr.DataArray | xr.Dataset) -> None:
    """Refuse axes that are not in metres, or whose positions neither rise nor fall.

    Parameters
    ----------
    data : xarray.DataArray or xarray.Dataset
        With the coordinates ``y`` and ``x``.

    Raises
    ------
    InputError
        The message names the axis.

    Examples
    --------
    >>> check_axes(xr.DataArray(np.eye(2), {"y": [0.0, 1e-6], "x": [1e-6, 0.0]}, ("y", "x")))
    """
    for dim in (Y, X):
        unit = data[dim].attrs.get(UNITS, METRE)
        if unit != METRE:
            raise InputError(f"coordinate {dim!r} is in {unit!r}", f"It must be in {METRE!r}.")
        apart = np.diff(np.asarray(data[dim].values, np.float64))
        if not (np.isfinite(data[dim].values).all() and ((apart > 0).all() or (apart < 0).all())):
            raise InputError(
                f"the positions along {dim!r} are not finite, or neither rise nor fall",
                "Give a result of wavefront, or sort it: wf.sortby(...).",
            )


def check_values(values: npt.NDArray[Any], name: str) -> None:
    """Refuse a map with values that no measurement has, and whose squares are no numbers.

    Raises
    ------
    InputError
        The message names the map and its largest value.

    Examples
    --------
    >>> check_values(np.array([1e-9, np.nan]), "wavefront")
    """
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest > LARGEST:
        raise InputError(
            f"{name} has a value of {largest:.3g}", "Make pixels without data NaN, or check units."
        )


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
