"""The low-pass that keeps the refinement stable, and fields continued over gaps.

``K = 1 - (1 - G)^n`` with a Gaussian G, applied by cosine transform. It is flat where the signal is
and steep beyond, so that little but noise is lost: with n = 40 and a sigma of 1.68 half windows the
noise is 0.95 of that of the window itself (the Cramer-Rao bound of a box), and 90 % of the
amplitude passes at a period of 2.2 windows.
"""

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SQUARE: Final = np.ones((3, 3), np.uint8)

SHARPNESS: Final = 40
"""The n of the low-pass."""
SIGMA: Final = 1.68
"""Standard deviation of the low-pass's Gaussian, in half windows."""
NOISE: Final = 0.95
"""Standard deviation of the low-passed solution over that of the window alone."""
LEAST_NODES: Final = 3
"""Nodes by which a field is extended at its border, at least."""
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
    ndarray of float32, shape (rows, columns)
        ``1 - (1 - G)^n``, one at zero frequency.
    """
    square = [(np.arange(size) / (2 * size)) ** 2 for size in shape]
    gaussian = np.exp(-2 * (np.pi * sigma) ** 2 * np.add.outer(*square))
    response = (1 - (1 - gaussian) ** SHARPNESS).astype(np.float32)
    response.setflags(write=False)
    return np.asarray(response)


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
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in values.shape)
    v, u = y[rows], x[columns]
    terms = np.stack([np.ones_like(u), v, u, v * v, v * u, u * u]).astype(np.float64)
    # Sums without a BLAS, whose threads would change the last bit from process to process; a
    # little damping, for nodes that lie on one line.
    normal = np.einsum("in,jn->ij", terms, terms) + 1e-6 * rows.size * np.eye(len(terms))
    right = np.einsum("in,n->i", terms, values[rows, columns].astype(np.float64))
    c = np.linalg.solve(normal, right).astype(np.float32)
    down, across = c[0] + c[1] * y + c[3] * y * y, c[2] * x + c[5] * x * x
    return np.asarray(down[:, None] + across[None] + c[4] * np.outer(y, x), np.float32)


def smoothed(values: Floats, sigma: float) -> Floats:
    """Low-pass a field that may be curved at the border, by cosine transform.

    The mirror image that the transform implies has no gradient at the border, and the low-pass
    would spread the kink. So a quadratic surface is taken out and put back, and what is left is
    extended by a window on every side, along the lines that fit it best in the last window. (A
    point reflection would double the noise and keep the iteration from settling.)

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
    side = int(np.sqrt(TREND_NODES))
    lines = (np.arange(0, size, max(1, size // side)) for size in values.shape)
    rows, columns = (line.ravel() for line in np.meshgrid(*lines, indexing="ij"))
    trend = quadratic_surface(values, rows, columns)
    reach = max(LEAST_NODES, round(2 * sigma / SIGMA))
    wide = np.asarray(values - trend, np.float32)
    for axis in (0, 1):
        wide = _extended(wide, axis, reach)
    spectrum = fft.dctn(wide, workers=1, overwrite_x=True)
    spectrum *= low_pass(wide.shape, sigma)
    passed = fft.idctn(spectrum, workers=1, overwrite_x=True)
    return np.asarray(trend + passed[reach:-reach, reach:-reach], np.float32)


@lru_cache(maxsize=16)
def _continuation(nodes: int, reach: int) -> Floats:
    """Matrix that leads the first nodes of a line on to those before it, by a straight line.

    Nodes count the more, the nearer they are to the end.

    Returns
    -------
    ndarray of float32, shape (reach, nodes)
        The first row belongs to the node next to the end.
    """
    inside = (np.arange(nodes) + 0.5) / nodes
    outside = -(np.arange(reach) + 0.5) / nodes
    weight = np.cos(np.pi * inside / 2) ** 2
    moments = [np.sum(weight * inside**k) for k in range(3)]
    determinant = moments[0] * moments[2] - moments[1] ** 2
    level = weight * (moments[2] - moments[1] * inside) / determinant
    slope = weight * (moments[0] * inside - moments[1]) / determinant
    return (level + outside[:, None] * slope).astype(np.float32)


def _extended(values: Floats, axis: int, reach: int) -> Floats:
    """Extend a field along an axis on both sides, by the straight lines that fit its ends."""
    lines = np.moveaxis(values, axis, 0)
    nodes = min(reach, len(lines))
    if nodes < 2:
        parts = [np.repeat(lines[:1], reach, 0), lines, np.repeat(lines[-1:], reach, 0)]
    else:
        matrix = _continuation(nodes, reach)
        # Sums without a BLAS, whose threads would change the last bit from process to process.
        before, after = (
            np.einsum("kn,nc->kc", matrix, ends)
            for ends in (lines[:nodes], lines[: -nodes - 1 : -1])
        )
        parts = [before[::-1], lines, after]
    return np.ascontiguousarray(np.moveaxis(np.concatenate(parts), 0, axis), np.float32)


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
