"""The low-pass that keeps the refinement stable, and fields continued over gaps.

``K = 1 - (1 - G)^n`` with a Gaussian G, applied by cosine transform. It is flat where the signal is
and steep beyond, so that little but noise is lost: with n = 40 and a sigma of 1.68 half windows the
noise is 0.945 of that of a window of 21 px (the Cramer-Rao bound of a box), and 90 % of the
amplitude passes at a period of 2.2 windows.
"""

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from wavedask.kernels.jit import JIT, njit

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SQUARE: Final = np.ones((3, 3), np.uint8)

SHARPNESS: Final = 40
"""The n of the low-pass."""
SIGMA: Final = 1.68
"""Standard deviation of the low-pass's Gaussian, in half windows."""
NOISE: Final = 0.9
"""Standard deviation of the low-passed solution over that of a window of two half windows."""
NO_RESPONSE: Final = 1e-6
"""Response below which a frequency is left out: the resolution of float32."""
LEAST_NODES: Final = 3
"""Nodes by which a field is extended at its border, at least."""
EXTENT: Final = 2
"""Windows by which a field is extended at its border, from as many windows inside."""
CORRELATED: Final = ((1.0, 1.0), (2.0, 10.0))
"""What a field is taken for when it is extended: the sum of random processes with these lengths of
correlation, in windows, and variances..."""
ROUGHNESS: Final = 0.05
"""... and of noise of this variance at each node. With less of it, noise at the border grows; with
more, waves of three windows are cut off there."""
TREND_NODES: Final = 4096
"""Nodes, about, from which the trend of a field is found."""


@lru_cache(maxsize=16)
def low_pass(shape: tuple[int, int], sigma: float) -> Floats:
    """Response of the low-pass at the frequencies of a cosine transform.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of nodes.
    sigma : float
        Standard deviation of the Gaussian G in nodes.

    Returns
    -------
    ndarray of float32, shape (n, m)
        ``1 - (1 - G)^n``, one at zero frequency; not more than the rows and columns: frequencies
        are left out where there is no response.
    """
    square = [(np.arange(size) / (2 * size)) ** 2 for size in shape]
    gaussian = np.exp(-2 * (np.pi * sigma) ** 2 * np.add.outer(*square))
    response = (1 - (1 - gaussian) ** SHARPNESS).astype(np.float32)
    rows, columns = (
        int(np.count_nonzero(response.take(0, axis) >= NO_RESPONSE)) for axis in (1, 0)
    )
    response = np.ascontiguousarray(response[:rows, :columns])
    response.setflags(write=False)
    return response


def passed_noise(window: int) -> float:
    """Compute the standard deviation of the low-passed solution over that of the window alone.

    In the pass band the iteration undoes the mean over the window, so that white noise leaves what
    the low-pass passes of it: ``window * sqrt(mean(K^2))``. K scales with the half window, which
    counts no pixel for the centre: of small windows, the low-pass is the narrower.

    Examples
    --------
    >>> [round(passed_noise(window), 3) for window in (5, 21)]
    [1.125, 0.945]
    >>> response = low_pass((400, 400), SIGMA * 2)
    >>> abs(5 * np.sqrt(np.sum(response**2, dtype=float)) / 400 - passed_noise(5)) < 0.01
    np.True_
    """
    return NOISE * window / (window - 1)


def _terms(y: Floats, x: Floats) -> NDArray[np.float64]:
    """Evaluate the terms 1, y, x, y^2, yx and x^2 at some places."""
    y, x = y.astype(np.float64), x.astype(np.float64)
    return np.stack([np.ones_like(y), y, x, y * y, y * x, x * x])


def _fit(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix, of the shape of the terms, that gives the coefficients that fit values best."""
    # Sums without a BLAS, whose threads would change the last bit from process to process; a
    # little damping, for nodes that lie on one line.
    normal = np.einsum("in,jn->ij", terms, terms) + 1e-6 * terms.shape[1] * np.eye(len(terms))
    return np.asarray(np.linalg.solve(normal, terms))


@lru_cache(maxsize=16)
def _trend_fit(shape: tuple[int, int]) -> tuple[NDArray[np.float64], tuple[slice, slice]]:
    """Matrix that gives the quadratic trend of a field, and the rows and columns that it needs."""
    side = int(np.sqrt(TREND_NODES))
    few = slice(None, None, max(1, shape[0] // side)), slice(None, None, max(1, shape[1] // side))
    y, x = (line[part] for line, part in zip(_lines(shape), few, strict=True))
    v, u = (line.ravel() for line in np.meshgrid(y, x, indexing="ij"))
    return _fit(_terms(v, u)), few


def _lines(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Coordinates of the rows and columns of a grid, from -1 to 1."""
    return (
        np.linspace(-1, 1, shape[0], dtype=np.float32),
        np.linspace(-1, 1, shape[1], dtype=np.float32),
    )


def quadratic_surface(values: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """Fit a quadratic surface to some nodes of a grid, and evaluate it at all.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, columns)
        The field at the nodes.
    rows, columns : ndarray of int, shape (n,)
        Nodes that count.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    y, x = _lines(values.shape)
    fit = _fit(_terms(y[rows], x[columns]))
    trend = np.einsum("in,n->i", fit, values[rows, columns]).astype(np.float32)
    surface = np.zeros_like(values)
    _add_quadratic(trend, y, x, surface, surface)
    return surface


@njit(**JIT)  # type: ignore[untyped-decorator]
def _add_quadratic(c: Floats, y: Floats, x: Floats, values: Floats, out: Floats) -> None:
    """Write the values plus a surface, whose terms are in the order of `_terms`, to `out`."""
    for i in range(y.size):
        level, slope = c[0] + (c[1] + c[3] * y[i]) * y[i], c[2] + c[4] * y[i]
        for j in range(x.size):
            out[i, j] = values[i, j] + level + (slope + c[5] * x[j]) * x[j]


def smoothed(values: Floats, sigma: float) -> Floats:
    """Low-pass a field that may be curved at the border, by cosine transform.

    The mirror image that the transform implies has no gradient at the border, and the low-pass
    would spread the kink. So a quadratic surface is subtracted and added again, and the rest is
    extended by two windows on every side: by the smooth continuation that is most likely after the
    last two windows inside. (A straight line loses 8 % of a wave of three windows half a window
    from the border, and 20 % in the last row. A point reflection doubles the noise, and the
    iteration does not settle.) After the extension the mirror image follows.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, columns)
        The field at the nodes.
    sigma : float
        Standard deviation of the Gaussian of the low-pass in nodes.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    fit, few = _trend_fit(values.shape)
    trend = np.einsum("in,n->i", fit, values[few].ravel()).astype(np.float32)
    y, x = _lines(values.shape)
    window = max(LEAST_NODES, round(2 * sigma / SIGMA))
    reach = EXTENT * window
    shape = tuple(fft.next_fast_len(size + 2 * reach, real=True) for size in values.shape)
    wide = np.empty(shape, np.float32)
    inside = wide[reach : reach + y.size, reach : reach + x.size]
    _add_quadratic(-trend, y, x, values, inside)
    down, across = (_continuation(min(reach, size), reach, window) for size in values.shape)
    _extend(wide, down, across, y.size, x.size)
    passed = _passed(wide, low_pass(shape, sigma))
    out = np.empty_like(values)
    _add_quadratic(trend, y, x, passed[reach:, reach:], out)
    return out


def _passed(values: Floats, response: Floats) -> Floats:
    """Filter a field; frequencies without a response are not computed."""
    rows, columns = response.shape
    spectrum = fft.dct(values, axis=1, workers=1)[:, :columns]
    spectrum = fft.dct(spectrum, axis=0, workers=1)[:rows] * response
    spectrum = fft.idct(spectrum, axis=0, n=len(values), workers=1, overwrite_x=True)
    return np.asarray(fft.idct(spectrum, axis=1, n=values.shape[1], workers=1), np.float32)


@lru_cache(maxsize=16)
def _continuation(nodes: int, reach: int, window: int) -> Floats:
    """Matrix that predicts the nodes beyond the end of a line from those inside.

    Kriging: the field is a constant plus random processes, which are even about the last node
    beyond the end, for the mirror image follows there.

    Parameters
    ----------
    nodes, reach : int
        Nodes inside and beyond the end.
    window : int
        Nodes in a window.

    Returns
    -------
    ndarray of float32, shape (reach, nodes)
        The first row belongs to the node next to the end, the first column to the last node inside.
    """
    inside, outside = -np.arange(nodes) / window, np.arange(1, reach + 1) / window
    mirror = (2 * reach + 1) / window
    known, wanted = (
        sum(
            variance * np.exp(-(((inside[:, None] - places) / length) ** 2) / 2)
            for length, variance in CORRELATED
            for places in (line, mirror - line)
        )
        for line in (inside, outside)
    )
    system = np.ones((nodes + 1, nodes + 1))
    system[:nodes, :nodes] = known + ROUGHNESS * np.eye(nodes)
    system[nodes, nodes] = 0
    right = np.concatenate([wanted, np.ones((1, reach))])
    return np.ascontiguousarray(np.linalg.solve(system, right)[:nodes].T, np.float32)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _extend(wide: Floats, down: Floats, across: Floats, rows: int, columns: int) -> None:
    """Extend values on every side by a prediction from their ends, and by a mirror image.

    Parameters
    ----------
    wide : ndarray of float32
        With values in so many rows and columns, after as many as the lines are long.
    down, across : ndarray of float32, shape (reach, nodes)
        As of `_continuation`, along the two axes.
    rows, columns : int
        Of the values.
    """
    reach = len(down)
    last = reach + rows - 1
    for k in range(reach):
        above, below = wide[reach - 1 - k], wide[last + 1 + k]
        for x in range(reach, reach + columns):
            above[x] = below[x] = np.float32(0)
        for j in range(down.shape[1]):
            first, final = wide[reach + j], wide[last - j]
            for x in range(reach, reach + columns):
                above[x] += down[k, j] * first[x]
                below[x] += down[k, j] * final[x]
    last = reach + columns - 1
    for y in range(2 * reach + rows):
        row = wide[y]
        for k in range(reach):
            before, after = np.float32(0), np.float32(0)
            for j in range(across.shape[1]):
                before += across[k, j] * row[reach + j]
                after += across[k, j] * row[last - j]
            row[reach - 1 - k], row[last + 1 + k] = before, after
        end = last + reach
        for k in range(1, row.size - end):
            row[end + k] = row[end + 1 - k]
    end = reach + rows + reach - 1
    for k in range(1, len(wide) - end):
        wide[end + k] = wide[end + 1 - k]


def bridged(values: Floats, reliable: Mask, reach: float, *, now: Floats | None = None) -> Floats:
    """Replace the values of unreliable nodes by those of reliable ones around them.

    What is averaged is the departure from a quadratic surface: a level continuation of a gradient
    would have a kink, which the low-pass spreads inward. A gap narrower than three nodes keeps what
    the low-pass has made of its surroundings already, where that is given as `now`.
    """
    if reliable.all() or not reliable.any():
        return values
    if now is not None:
        wide = cv2.morphologyEx((~reliable).astype(np.uint8), cv2.MORPH_OPEN, _SQUARE) > 0
        values = np.where(reliable | wide, values, now)
        if not wide.any():
            return values
        reliable = ~wide
    rows, columns = np.nonzero(reliable)
    chosen = slice(None, None, max(1, rows.size // TREND_NODES))
    trend = quadratic_surface(values, rows[chosen], columns[chosen])
    weight = reliable.astype(np.float32)
    departure, share = np.where(reliable, values - trend, np.float32(0)), weight
    sigma = max(reach / 2, 1.0)
    kept = np.zeros_like(values)
    waiting = ~reliable
    for _ in range(3):
        smooth = cv2.GaussianBlur(share, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        filled = cv2.GaussianBlur(departure, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        near = waiting & (smooth > 1e-3)
        kept[near] = filled[near] / smooth[near]
        waiting &= ~near
        if not waiting.any():
            break
        sigma *= 3
    return np.ascontiguousarray(np.where(reliable, values, trend + kept), np.float32)
