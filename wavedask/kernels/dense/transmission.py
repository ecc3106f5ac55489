"""The transmission inside the windows, at the resolution that the noise allows.

The gain of a match follows a transmission that is constant over a window. An edge or a texture
inside the window looks like a displacement, and must be divided out. The ratio of a sample to its
displaced reference is the transmission with the noise of single pixels: it is taken apart into
details of several sizes (the starlet transform: an "à trous" wavelet transform with a B-spline),
and only details that stand out of the noise are kept. Where there are none, the ratio is that of a
smooth field, and nothing of the speckle is divided out.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIZES: Final = 4
"""Details of 1, 2, 4 and 8 px are told apart; what is wider is smooth."""
STANDS_OUT: Final = 5.0
"""Size of a detail, over the rms of those around, that is no noise."""
SURROUNDINGS: Final = 63
"""Pixels along each axis over which the rms is taken."""
STEEP: Final = 0.1
"""Change of the logarithm of the transmission from one window to the next that is an edge."""
RANGE: Final = 10.0
"""Where less is left than the mean over this, there is no speckle to be seen."""
SMALLEST: Final = 1e-3
"""Transmission below which a pixel says nothing."""


def near_edges(sample: Floats, reference: Floats, apart: int) -> Mask:
    """Tell where the transmission changes so fast that windows must not take it for constant.

    Parameters
    ----------
    sample, reference : ndarray of float32, shape (node rows, node columns)
        Means in the windows, in counts.
    apart : int
        Nodes from one window to the next.

    Returns
    -------
    ndarray of bool, shape (node rows, node columns)
        Nodes within a window of such a change.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log(sample / reference).astype(np.float32)
    unknown = ~np.isfinite(level)
    low, high = (
        fold(np.where(unknown, blank, level), np.ones((apart + 1, apart + 1), np.uint8))
        for fold, blank in ((cv2.erode, np.float32(np.inf)), (cv2.dilate, np.float32(-np.inf)))
    )
    return np.asarray(high - low > STEEP)


def local_transmission(ratio: Floats, known: Mask) -> Floats:
    """Estimate the transmission from the ratio of a sample to its displaced reference.

    Parameters
    ----------
    ratio : ndarray of float32, shape (rows, columns)
        Of single pixels.
    known : ndarray of bool, shape (rows, columns)
        Where both images have data.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Within a factor of `RANGE` of its mean.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> noise = 1 + 0.02 * random.standard_normal((128, 128)).astype(np.float32)
    >>> everywhere = np.ones(noise.shape, np.bool_)
    >>> float(local_transmission(noise, everywhere).std()) < 0.002
    True
    >>> edge = np.where(np.arange(128) < 64, 0.3, 1.0).astype(np.float32)
    >>> found = local_transmission(noise * edge, everywhere)
    >>> print(f"{found[64, 40]:.2f} {found[64, 62]:.2f} {found[64, 66]:.2f}")
    0.30 0.30 1.00
    """
    known = known & (ratio > SMALLEST)
    if not known.any():
        return np.ones_like(ratio)
    values = np.log(np.where(known, ratio, 1)).astype(np.float32)
    level = np.float32(values[known].mean(dtype=np.float64))
    weight = known.astype(np.float32)
    values = weight * (values - level)
    if not known.all():
        box = (SURROUNDINGS, SURROUNDINGS)
        near = cv2.blur(values, box) / np.maximum(cv2.blur(weight, box), np.float32(1e-3))
        values = np.where(known, values, near).astype(np.float32)
    kept = np.zeros_like(values)
    for size in range(SIZES):
        smooth = _smoothed(values, 2**size)
        detail = values - smooth
        values = smooth
        stands = _standing_out(detail)
        # The flanks of a detail belong to it.
        grown = cv2.dilate(stands.astype(np.uint8), np.ones((2 * 2**size + 1,) * 2, np.uint8)) > 0
        kept += np.where(grown, detail, np.float32(0))
    limit = np.float32(np.log(RANGE))
    return np.asarray(np.exp(level + np.clip(values + kept, -limit, limit)), np.float32)


def _smoothed(values: Floats, step: int) -> Floats:
    """Low-pass by the B-spline (1, 4, 6, 4, 1) / 16, its taps so many pixels apart."""
    taps = np.zeros(4 * step + 1, np.float32)
    taps[::step] = np.array([1, 4, 6, 4, 1], np.float32) / 16
    border = cv2.BORDER_REFLECT
    return np.asarray(cv2.sepFilter2D(values, cv2.CV_32F, taps, taps, borderType=border))


def _standing_out(detail: Floats) -> Mask:
    """Tell which details are larger than those around, of which the large ones count less."""
    size = np.abs(detail)
    usual = np.float32(np.median(size[::4, ::4])) / np.float32(0.67)
    if not usual > 0:
        return size > 0
    square = np.square(np.minimum(size / usual, STANDS_OUT))
    around = cv2.blur(square, (SURROUNDINGS, SURROUNDINGS))
    return np.asarray(np.square(size / usual) > STANDS_OUT**2 * np.maximum(around, 0.25))
