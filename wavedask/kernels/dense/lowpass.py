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


def smoothed(values: Floats, response: Floats) -> Floats:
    """Low-pass a field that may have a trend, by cosine transform.

    A quadratic surface is taken out and put back: the low-pass would keep it anyway, but for the
    border, where the mirror image that the transform implies has no gradient (and where a point
    reflection, which has one, doubles the noise and keeps the iteration from settling).

    Parameters
    ----------
    values : ndarray of float32, shape (rows, columns)
        The field at the nodes.
    response : ndarray of float32, shape (rows, columns)
        As of `low_pass`.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    side = int(np.sqrt(TREND_NODES))
    lines = (np.arange(0, size, max(1, size // side)) for size in values.shape)
    rows, columns = (line.ravel() for line in np.meshgrid(*lines, indexing="ij"))
    trend = quadratic_surface(values, rows, columns)
    spectrum = fft.dctn(np.asarray(values - trend, np.float32), workers=1, overwrite_x=True)
    spectrum *= response
    return np.asarray(trend + fft.idctn(spectrum, workers=1, overwrite_x=True), np.float32)


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
