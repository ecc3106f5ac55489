"""Grids of points anchored to the frame, and interpolation from them to pixels."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.floating]


def anchored(start: int, stop: int, *, step: int, offset: int = 0) -> NDArray[np.intp]:
    """Grid coordinates ``offset + k step`` in the half-open interval from `start` to `stop`.

    They depend on the frame only, not on the tile that asks: the result of a tracker whose grids
    are anchored does not depend on how the frame was cut.

    Examples
    --------
    >>> anchored(5, 20, step=4).tolist()
    [8, 12, 16]
    >>> anchored(5, 20, step=4, offset=2).tolist()
    [6, 10, 14, 18]
    """
    first = offset + -(-(start - offset) // step) * step
    return np.arange(first, stop, step, dtype=np.intp)


def neighbours(values: Floats) -> Floats:
    """Stack the eight neighbours of every point of a grid; NaN beyond the border.

    Parameters
    ----------
    values : ndarray, shape (n, m)

    Returns
    -------
    ndarray, shape (8, n, m)
    """
    rows, columns = values.shape
    padded = np.pad(values, 1, constant_values=np.nan)
    return np.stack(
        [
            padded[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
            if (y, x) != (0, 0)
        ]
    )


def continued(values: Floats) -> Floats:
    """Predict every point of a grid from those around it, so that a gradient makes no bias.

    The median of the means of opposite neighbours; where no two are opposite, of what two
    neighbours in line lead to; where none are in line, of the neighbours.

    Parameters
    ----------
    values : ndarray, shape (n, m)
        NaN is a gap.

    Returns
    -------
    ndarray, shape (n, m)
        NaN where there is no neighbour.

    Examples
    --------
    >>> continued(np.array([[1.0, 2.0, np.nan]]))
    array([[2., 1., 3.]])
    """
    near = neighbours(values)
    opposite = (near[:4] + near[:3:-1]) / 2
    padded = np.pad(values, 2, constant_values=np.nan)
    rows, columns = values.shape
    far = np.stack(
        [
            padded[2 + y : 2 + y + rows, 2 + x : 2 + x + columns]
            for y in (-2, 0, 2)
            for x in (-2, 0, 2)
            if (y, x) != (0, 0)
        ]
    )
    out = median_of(opposite)
    for choice in (2 * near - far, near):
        out = np.where(np.isnan(out), median_of(choice), out)
    return np.asarray(out)


def median_of(values: Floats) -> Floats:
    """Median along the first axis of what is not NaN; NaN where nothing is left.

    NumPy's ``nanmedian`` gives the same, some fifty times slower, and warns.

    Examples
    --------
    >>> median_of(np.array([[1.0, np.nan], [4.0, np.nan], [np.nan, np.nan]]))
    array([2.5, nan])
    """
    ordered = np.sort(values, axis=0)  # NaN sorts to the end
    count = np.isfinite(values).sum(0)
    low, high = (
        np.take_along_axis(ordered, np.clip(index, 0, len(values) - 1)[None], 0)[0]
        for index in ((count - 1) // 2, count // 2)
    )
    return np.asarray((low + high) / 2)


def linear_weights(grid: NDArray[np.intp], positions: NDArray[np.intp]) -> Floats:
    """Matrix of linear interpolation from an equally spaced grid; constant beyond its ends.

    Returns
    -------
    ndarray, shape (positions, grid)
        Rows sum to one.
    """
    return _weights(grid, positions, _hat)


def nearest_weights(grid: NDArray[np.intp], positions: NDArray[np.intp]) -> Floats:
    """Matrix that takes the value of the nearest grid point.

    Returns
    -------
    ndarray, shape (positions, grid)
        A one in each row.
    """
    step = grid[1] - grid[0] if grid.size > 1 else 1
    nearest = np.clip((positions - grid[0] + step // 2) // step, 0, grid.size - 1)
    return np.asarray(nearest[:, None] == np.arange(grid.size), np.float64)


def cubic_weights(grid: NDArray[np.intp], positions: NDArray[np.intp]) -> Floats:
    """Matrix of cubic convolution (Keys 1981, a = -1/2) from an equally spaced grid.

    Its support is four points, so that a tile with a halo of two grid steps interpolates as the
    whole frame does; a cubic spline would not.

    Returns
    -------
    ndarray, shape (positions, grid)
        Rows sum to one; beyond the ends of the grid the last value is kept.
    """
    return _weights(grid, positions, _keys)


def _hat(distance: Floats) -> Floats:
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def _keys(distance: Floats) -> Floats:
    d = np.abs(distance)
    near = 1 + d**2 * (1.5 * d - 2.5)
    far = 2 - 4 * d + 2.5 * d**2 - 0.5 * d**3
    return np.asarray(np.where(d < 1, near, np.where(d < 2, far, 0.0)))


def _weights(
    grid: NDArray[np.intp], positions: NDArray[np.intp], kernel: Callable[[Floats], Floats]
) -> Floats:
    if grid.size == 1:
        return np.ones((positions.size, 1))
    where = np.clip((positions - grid[0]) / (grid[1] - grid[0]), 0, grid.size - 1)
    # Two points beyond either end carry the continuation, then are folded back onto the ends.
    wide = kernel(where[:, None] - np.arange(-2, grid.size + 2)[None, :])
    weights = np.array(wide[:, 2:-2])
    # Linear continuation: f(-1) = 2 f(0) - f(1); f(-2) is never reached inside the grid.
    weights[:, 0] += 2 * wide[:, 1]
    weights[:, 1] -= wide[:, 1]
    weights[:, -1] += 2 * wide[:, -2]
    weights[:, -2] -= wide[:, -2]
    return np.asarray(weights)


def largest_around(
    codes: NDArray[np.uint8],
    *,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    pixel_rows: NDArray[np.intp],
    pixel_columns: NDArray[np.intp],
) -> NDArray[np.uint8]:
    """Give each pixel the largest code of the grid points around it.

    These are the corners of its cell, or the two ends of the side or the point that it lies on: a
    pixel gets a code above 0 where `interpolate` leaves a gap.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n, m)
    rows, columns : ndarray of int, shapes (n,) and (m,)
        Coordinates of the grid, equally spaced.
    pixel_rows, pixel_columns : ndarray of int, shapes (p,) and (q,)
        Coordinates of the pixels.

    Returns
    -------
    ndarray of uint8, shape (p, q)

    Examples
    --------
    >>> grid, pixels = np.arange(0, 9, 4), np.arange(9)
    >>> codes = np.array([[0, 0, 7]], np.uint8)
    >>> line = np.zeros(1, np.intp)
    >>> largest_around(
    ...     codes, rows=line, columns=grid, pixel_rows=line, pixel_columns=pixels
    ... ).tolist()
    [[0, 0, 0, 0, 0, 7, 7, 7, 7]]
    """
    out = codes
    for axis, (grid, pixels) in enumerate(((rows, pixel_rows), (columns, pixel_columns))):
        step = int(grid[1] - grid[0]) if grid.size > 1 else 1
        last = grid.size - 1
        below = np.clip((pixels - grid[0]) // step, 0, last)
        above = np.clip(-((grid[0] - pixels) // step), 0, last)
        out = np.maximum(out.take(below, axis), out.take(above, axis))
    return np.asarray(out, np.uint8)


def interpolate(
    values: Floats,
    *,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    pixel_rows: NDArray[np.intp],
    pixel_columns: NDArray[np.intp],
    cubic: bool = True,
    bridge: bool = False,
) -> Floats:
    """Interpolate a field from a grid to pixels; gaps stay gaps.

    Parameters
    ----------
    values : ndarray, shape (n, m)
        Values at the grid; NaN is a gap.
    rows, columns : ndarray of int, shapes (n,) and (m,)
        Coordinates of the grid, equally spaced.
    pixel_rows, pixel_columns : ndarray of int, shapes (p,) and (q,)
        Coordinates of the pixels.
    cubic : bool, default True
        Cubic convolution; otherwise linear.
    bridge : bool, default False
        Whether only the pixels nearest to a gap are NaN.

    Returns
    -------
    ndarray, shape (p, q)
        A pixel of a cell with a gap at a corner is NaN, unless it lies on a side without one. Where
        a gap still counts, to a cubic from farther away or to a bridge, it does so with what its
        own neighbours lead to.
    """
    if min(values.shape) == 0:
        return np.full((pixel_rows.size, pixel_columns.size), np.nan)
    gaps = np.isnan(values)
    filled = values
    if gaps.any():
        beyond = np.nan_to_num(continued(values))
        filled = np.where(gaps, beyond, values)

    def spread(field: Floats, weights: Callable[..., Floats]) -> Floats:
        # Sparse, and so without the threads of a BLAS: the cores belong to Dask.
        down = sparse.csr_array(weights(rows, pixel_rows))
        across = sparse.csr_array(weights(columns, pixel_columns))
        return np.asarray((across @ (down @ field).T).T)

    out = spread(filled, cubic_weights if cubic else linear_weights)
    if gaps.any():
        share = spread(gaps.astype(np.float64), nearest_weights if bridge else linear_weights)
        out[share > 0] = np.nan
    return out
