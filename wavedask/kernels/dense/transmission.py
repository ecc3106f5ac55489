"""The transmission inside the windows, at the resolution that the noise allows.

The gain of a match follows a transmission that is constant over a window. An edge inside the window
looks like a displacement, and must be divided out. The ratio of a sample to its displaced reference
is the transmission with the noise of single pixels. It is taken apart into details of several sizes
(the starlet transform: an "à trous" wavelet transform with a B-spline), and only details that stand
out of those at quiet nodes around are kept. Where there are none, the ratio is that of a smooth
field, and nothing of the speckle is divided out.

Only where the first match is weak beside a strong one, and the transmission changes there, is there
something to gain. A region without any match, dark or saturated, has no transmission to be seen:
its ratio holds the speckle of the reference, and dividing by it would make a match of nothing.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.dense.nodes import NodeGrid, linear_weights, padded, pixels_from_nodes
from wavedask.kernels.dense.prepare import Prepared, residuals

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIZES: Final = 4
"""Details of 1, 2, 4 and 8 px are told apart; what is wider is smooth."""
STANDS_OUT: Final = 5.0
"""Size of a detail, over the root mean square of those at quiet nodes, that is no noise."""
SURROUNDINGS: Final = 63
"""Pixels along each axis from which a missing pixel is filled."""
AROUND_NODE: Final = 9
"""Pixels along each axis over which details are averaged at a node."""
LEAST_QUIET: Final = np.float32(0.02)
"""Part of the nodes nearby that must be quiet, for details to be compared."""
SIDES: Final = 24
"""Pixels to either side along each axis, at which a smooth transmission is that beyond an edge."""
STEEP: Final = 0.2
"""Change of the logarithm of the transmission from one window to the next that is an edge."""
SMALLEST: Final = 1e-3
"""Transmission below which a pixel says nothing."""
UNKNOWN: Final = np.float32(1e3)
"""Logarithm of a transmission that is not known."""


def beside_edges(sample: Floats, reference: Floats, strong: Mask, usable: Mask, apart: int) -> Mask:
    """Tell where an edge of the transmission spoils the match of nodes beside good ones.

    Parameters
    ----------
    sample, reference : ndarray of float32, shape (node rows, node columns)
        Means in the windows, in counts.
    strong : ndarray of bool, shape (node rows, node columns)
        Nodes with a strong match.
    usable : ndarray of bool, shape (node rows, node columns)
        Nodes whose window has a pattern.
    apart : int
        Nodes from one window to the next.

    Returns
    -------
    ndarray of bool, shape (node rows, node columns)
        Nodes within a window of an edge, where some match is weak, and within two of a strong one.

    Examples
    --------
    >>> sample = np.where(np.arange(20) < 10, 30.0, 100.0).astype(np.float32) + np.zeros((5, 1))
    >>> strong = np.abs(np.arange(20) - 9.5) > 1 + np.zeros((5, 1))
    >>> beside_edges(sample, 0 * sample + 100, strong, strong | True, 2)[2].astype(int)
    array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    """
    known = usable & (sample > 0) & (reference > 0)
    level = np.log(np.where(known, sample, 1) / np.where(known, reference, 1)).astype(np.float32)
    low, high = (
        fold(np.where(known, level, blank), np.ones((apart + 1, apart + 1), np.uint8))
        for fold, blank in ((cv2.erode, UNKNOWN), (cv2.dilate, -UNKNOWN))
    )
    steep = known & (high - low > STEEP) & (high > -UNKNOWN)
    near, far = (
        cv2.dilate(values.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
        for values, side in ((steep & ~strong, 2 * apart + 1), (strong, 4 * apart + 1))
    )
    return np.asarray(near & steep & far)


def pixel_transmission(
    pair: Prepared, grid: NodeGrid, u: Floats, quiet: Mask, *, reach: int
) -> Floats:
    """Estimate the transmission of every pixel.

    Parameters
    ----------
    pair : Prepared
        The stack of pairs.
    grid : NodeGrid
        The nodes.
    u : ndarray of float32, shape (2, node rows, node columns)
        Displacement (y, x) in pixels.
    quiet : ndarray of bool, shape (node rows, node columns)
        Nodes with a strong match and no edge.
    reach : int
        Nodes from an edge to those with which its details are compared.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    one = np.ones(grid.nodes, np.float32)
    nodes = [padded(values) for values in (*u, one, 0 * one)]
    displaced = residuals(pair, grid, nodes, np.arange(grid.shape[0]))
    known = pair.m.sum(axis=0) > 0
    sample = (pair.m * pair.offset_s + pair.scale_s * pair.s).sum(axis=0)
    reference = (pair.m * pair.offset_r + pair.scale_r * (pair.s - displaced)).sum(axis=0)
    known &= reference > 0
    ratio = np.where(known, sample / np.where(known, reference, 1), 1)
    return local_transmission(ratio, known, grid, quiet, reach)


def local_transmission(
    ratio: Floats, known: Mask, grid: NodeGrid, quiet: Mask, reach: int
) -> Floats:
    """Estimate the transmission from the ratio of a sample to its displaced reference.

    Parameters
    ----------
    ratio : ndarray of float32, shape (rows, columns)
        Of single pixels.
    known : ndarray of bool, shape (rows, columns)
        Where both images have data.
    grid : NodeGrid
        The nodes.
    quiet : ndarray of bool, shape (node rows, node columns)
        Nodes with a strong match and no edge: there details are what noise makes.
    reach : int
        Nodes from an edge to those with which its details are compared.

    Returns
    -------
    ndarray of float32, shape (rows, columns)

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> noise = 1 + 0.02 * random.standard_normal((128, 128)).astype(np.float32)
    >>> grid = NodeGrid(noise.shape, 4, (0, 0))
    >>> quiet = np.abs(grid.coordinates(1) - 64) > 20 + np.zeros((32, 1))
    >>> everywhere = np.ones(noise.shape, np.bool_)
    >>> float(local_transmission(noise, everywhere, grid, quiet, 10).std()) < 0.002
    True
    >>> edge = np.where(np.arange(128) < 64, 0.3, 1.0).astype(np.float32)
    >>> found = local_transmission(noise * edge, everywhere, grid, quiet, 10)
    >>> print(f"{found[64, 40]:.1f} {found[64, 62]:.1f} {found[64, 66]:.1f}")
    0.3 0.3 1.0
    """
    known = known & (ratio > SMALLEST)
    values = np.log(np.where(known, ratio, 1)).astype(np.float32)
    if not known.all():
        box = (SURROUNDINGS, SURROUNDINGS)
        near = cv2.blur(values, box) / np.maximum(
            cv2.blur(known.astype(np.float32), box), np.float32(1e-3)
        )
        values = np.where(known, values, near).astype(np.float32)
    kept = np.zeros_like(values)
    for size in range(SIZES):
        smooth = _smoothed(values, 2**size)
        detail = values - smooth
        values = smooth
        stands = np.abs(detail) > STANDS_OUT * _usual(detail, grid, quiet, reach)
        # The flanks of a detail belong to it.
        grown = cv2.dilate(stands.astype(np.uint8), np.ones((2 * 2**size + 1,) * 2, np.uint8)) > 0
        kept += np.where(grown, detail, np.float32(0))
    # No detail leads beyond the levels on both sides: a mismatch of the speckle is no edge.
    square = np.ones((2 * SIDES + 1, 2 * SIDES + 1), np.uint8)
    sharp = np.clip(values + kept, cv2.erode(values, square), cv2.dilate(values, square))
    return np.asarray(np.exp(sharp), np.float32)


def _usual(detail: Floats, grid: NodeGrid, quiet: Mask, reach: int) -> Floats:
    """Root mean square of the details at quiet nodes nearby; infinite where there are none."""
    nodes = np.ix_(grid.coordinates(0), grid.coordinates(1))
    near = (AROUND_NODE, AROUND_NODE)
    square = cv2.blur(np.square(detail), near, borderType=cv2.BORDER_REFLECT)[nodes]
    weight = quiet.astype(np.float32)
    box = (2 * reach + 1, 2 * reach + 1)
    total, share = (
        cv2.blur(values, box, borderType=cv2.BORDER_CONSTANT)
        for values in (square * weight, weight)
    )
    usual = np.where(share > LEAST_QUIET, np.sqrt(total / np.maximum(share, LEAST_QUIET)), UNKNOWN)
    out = np.empty(grid.shape, np.float32)
    weights = linear_weights(grid.step)
    pixels_from_nodes(padded(usual), grid.step, weights, *grid.first, out)
    return out


def _smoothed(values: Floats, step: int) -> Floats:
    """Low-pass by the B-spline (1, 4, 6, 4, 1) / 16, its taps so many pixels apart."""
    taps = np.zeros(4 * step + 1, np.float32)
    taps[::step] = np.array([1, 4, 6, 4, 1], np.float32) / 16
    border = cv2.BORDER_REFLECT
    return np.asarray(cv2.sepFilter2D(values, cv2.CV_32F, taps, taps, borderType=border))
