"""An image resampled at arbitrary coordinates by its B-spline; gaps stay gaps."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.errors import InputError
from wavedask.kernels.gaps import centred
from wavedask.kernels.jit import JIT, njit
from wavedask.kernels.spline import Floats, Order, SplineFilters, coefficients, displaced_row

MARGIN = 12
"""Pixels by which an image is continued before it is filtered."""
ON_A_PIXEL = 1e-4
"""A coordinate so near to a pixel reads that pixel alone, for the spline interpolates."""
SETTLED = 1e-4
"""Change in pixels at which the inverse of a distortion is found."""
MAX_ROUNDS = 50


def resampled(
    image: NDArray[np.floating],
    y: NDArray[np.floating],
    x: NDArray[np.floating],
    *,
    order: Order = 3,
) -> Floats:
    """Evaluate an image between its pixels.

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
        The image; NaN is a missing pixel.
    y, x : ndarray, shape (n,) or (n, m)
        Coordinates in pixels, rows and columns; they broadcast against each other. NaN is nowhere.
    order : 3 or 5, default 3
        Order of the B-spline. The quintic keeps fine grains (below 3 px) better.

    Returns
    -------
    ndarray of float32, shape of `y` and `x`
        NaN outside the image (beyond the centres of its outermost pixels) and where a missing
        pixel lies in the support of the spline, 4 x 4 or 6 x 6 pixels.

    Examples
    --------
    >>> image = np.arange(64.0).reshape(8, 8)
    >>> resampled(image, np.array([3.0, 3.5, 9.0]), np.array([2.0, 2.0, 2.0])).round(4)
    array([26., 30., nan], dtype=float32)
    """
    values = np.ascontiguousarray(image, np.float32)
    rows, columns = values.shape
    at_y, at_x = np.broadcast_arrays(np.asarray(y, np.float64), np.asarray(x, np.float64))
    shape = at_y.shape
    at_y, at_x = np.atleast_2d(at_y), np.atleast_2d(at_x)
    known = np.isfinite(values)
    inside = (at_y >= 0) & (at_y <= rows - 1) & (at_x >= 0) & (at_x <= columns - 1)
    blocked = ~inside
    if not known.all():
        blocked |= _touches_gap(~known, at_y, at_x, order)
    flattened, offset, scale = centred(values[None], known[None])
    # Reflected through the border's own values: a plain mirror image has a kink there, and the
    # spline of a kink rings.
    if min(rows, columns) > 1:
        continued = np.pad(flattened[0], MARGIN, mode="reflect", reflect_type="odd")
    else:
        continued = np.pad(flattened[0], MARGIN, mode="edge")
    spline = coefficients(continued, SplineFilters.of_order(order).prefilter, 0)
    # As displacements, whose fractions float32 holds where it could not hold a coordinate's.
    u_y = np.arange(at_y.shape[0])[:, None] - np.where(inside, at_y, 0.0)
    u_x = np.arange(at_x.shape[1])[None, :] - np.where(inside, at_x, 0.0)
    out = np.empty(at_y.shape, np.float32)
    _evaluate(spline, order, u_y.astype(np.float32), u_x.astype(np.float32), out)
    out *= np.float32(scale)
    out += np.float32(offset)
    out[blocked] = np.nan
    return out.reshape(shape)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _evaluate(spline: Floats, order: int, u_y: Floats, u_x: Floats, out: Floats) -> None:
    whole = np.empty((2, out.shape[1]), np.int32)
    for row in range(out.shape[0]):
        displaced_row(spline, MARGIN, order, row, 0, u_y[row], u_x[row], whole, out[row])


def _touches_gap(
    gap: NDArray[np.bool_], y: NDArray[np.float64], x: NDArray[np.float64], order: Order
) -> NDArray[np.bool_]:
    """Whether a missing pixel lies in the support around a coordinate."""
    reach = order // 2
    # A running sum over both axes counts the gaps of any rectangle from its corners.
    counted = np.pad(np.cumsum(np.cumsum(gap, 0, dtype=np.int32), 1, dtype=np.int32), ((1, 0),) * 2)
    spans = []
    for at, size in zip((y, x), gap.shape, strict=True):
        there = np.clip(np.nan_to_num(at), 0, size - 1)
        nearest = np.rint(there)
        alone = np.abs(there - nearest) < ON_A_PIXEL
        first = np.where(alone, nearest, np.floor(there) - reach)
        last = np.where(alone, nearest, np.floor(there) + 1 + reach)
        spans.append(
            (
                np.clip(first, 0, size - 1).astype(np.intp),
                np.clip(last, 0, size - 1).astype(np.intp) + 1,
            )
        )
    (top, bottom), (left, right) = spans
    inside = counted[bottom, right] - counted[top, right] - counted[bottom, left]
    return np.asarray(inside + counted[top, left] > 0)


def inverse_shift(f_y: Floats, f_x: Floats) -> tuple[Floats, Floats]:
    """Find where the true pixels lie in a distorted image.

    Parameters
    ----------
    f_y, f_x : ndarray, shape (rows, columns)
        Distortion in px, ``true = distorted + f(distorted)``; NaN where it is unknown.

    Returns
    -------
    shift_y, shift_x : ndarray of float32, shape (rows, columns)
        ``p - q`` in px of the distorted coordinates p with ``p + f(p) = q`` for every pixel q; NaN
        where p is outside the image or the distortion is unknown there.

    Raises
    ------
    InputError
        A distortion that folds the image, or is unknown everywhere.

    Examples
    --------
    >>> f = np.full((16, 16), 0.25, np.float32)
    >>> shift_y, _ = inverse_shift(f, 0 * f)
    >>> shift_y[8, 8]
    np.float32(-0.25)
    """
    known = np.isfinite(f_y) & np.isfinite(f_x)
    if not known.any():
        raise InputError("the distortion is unknown everywhere", "Give a calibration with values.")
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = [np.asarray(f, np.float32)[tuple(nearest)] for f in (f_y, f_x)]
    rows, columns = known.shape
    q_y, q_x = np.mgrid[:rows, :columns].astype(np.float64)
    shift = [-filled[0], -filled[1]]
    for _ in range(MAX_ROUNDS):
        at_y = np.clip(q_y + shift[0], 0, rows - 1)
        at_x = np.clip(q_x + shift[1], 0, columns - 1)
        new = [-resampled(f, at_y, at_x) for f in filled]
        change = max(float(np.abs(a - b).max()) for a, b in zip(new, shift, strict=True))
        shift = new
        if change < SETTLED:
            break
    else:
        raise InputError(
            f"the distortion changes by about a pixel per pixel, up to {np.nanmax(np.abs(f_y)):.3g}"
            f" and {np.nanmax(np.abs(f_x)):.3g} px: it has no inverse",
            "Calibrate again, with more smoothing; a detector does not fold its image.",
        )
    holes = np.where(known, np.float32(0), np.float32(np.nan))
    lost = ~np.isfinite(resampled(holes, q_y + shift[0], q_x + shift[1]))
    for part in shift:
        part[lost] = np.nan
    return shift[0], shift[1]
