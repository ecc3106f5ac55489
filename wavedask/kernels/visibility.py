"""Ratio of the visibilities of two images, without what photon noise adds to them."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.spline import Order
from wavedask.kernels.uncertainty import SplineNoise

Floats = NDArray[np.float32]

SECOND: Final = np.array([[1.0, -2.0, 1.0]], np.float32)
"""Second difference; both ways it passes noise and hardly any pattern (Immerkaer, Comput. Vis.
Image Underst. 64, 300, 1996)."""
LARGEST_SHARE: Final = 0.9
"""Part of a variance that may be noise."""
TINY: Final = 1e-12
"""Variance of a window without a pattern; images have unit variance."""


def noise_share(images: Floats, known: Floats, *, window: int) -> Floats:
    """Find which part of the variance in windows around all pixels is white noise.

    Parameters
    ----------
    images : ndarray of float32, shape (images, rows, columns)
        Centred images, zero where nothing is known.
    known : ndarray of float32, shape (images, rows, columns)
        1 where a pixel has a value, 0 elsewhere.
    window : int
        Side of the windows in pixels, odd.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Between 0 and 1; over all images together.
    """
    border = cv2.BORDER_REFLECT_101
    sums = np.zeros((5, *images.shape[1:]), np.float32)
    square = np.ones((3, 3), np.uint8)

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, (window, window), borderType=border))

    for image, there in zip(images, known, strict=True):
        rough = cv2.sepFilter2D(image, cv2.CV_32F, SECOND, SECOND, borderType=border)
        if there.all():
            sums[[1, 4]] += 1
            sums[0] += mean(rough**2 / np.float32(36))
            sums[2] += mean(image**2)
            sums[3] += mean(image)
            continue
        # Beside a gap the difference is that of the gap.
        whole = cv2.erode(there, square, borderType=border)
        # Both ways together, the filter passes 36 times the variance.
        parts = (whole * rough**2 / 36, whole, image**2, image, there)
        for total, part in zip(sums, parts, strict=True):
            total += mean(np.asarray(part, np.float32))
    count = np.maximum(sums[4], TINY)
    variance = np.maximum(sums[2] / count - (sums[3] / count) ** 2, TINY)
    share = sums[0] / np.maximum(sums[1], TINY) / variance
    return np.asarray(np.clip(share, 0, 1), np.float32)


def visibility_gain(
    gain: Floats,
    correlation: Floats,
    share: Floats,
    means: tuple[Floats, Floats],
    displacement: tuple[Floats, Floats],
    *,
    order: Order,
) -> Floats:
    """Take the noise of the reference out of a fitted gain.

    A gain is the covariance of sample and displaced reference over the variance of the latter,
    which has its noise in it: with few photons the gain is too small. The noise of the sample does
    not matter. That of the reference follows from it by the counts, as photon noise does.

    Parameters
    ----------
    gain, correlation : ndarray of float32, shape (n, ...)
        Of the match; the gain in the units of the images.
    share : ndarray of float32
        Part of the variance of the sample that is noise; see `noise_share`.
    means : (ndarray, ndarray)
        Mean of sample and reference in the windows.
    displacement : (ndarray, ndarray)
        y and x in pixels: interpolation between the pixels passes less noise.
    order : 3 or 5
        Of the splines.

    Returns
    -------
    ndarray of float32
        The gain of the patterns.

    Examples
    --------
    >>> half, one, zero = (np.full(1, value, np.float32) for value in (0.5, 1.0, 0.0))
    >>> gain = visibility_gain(half, half, half, (one, one), (zero, zero), order=3)
    >>> print(gain.round(3))
    [1.]
    """
    noise = SplineNoise.of_order(order)
    passed = noise.at(displacement[0]) * noise.at(displacement[1])
    square = np.maximum(correlation.astype(np.float64) ** 2, TINY)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = passed * (means[1] / means[0]) * gain.astype(np.float64) ** 2 / square
    ratio = np.where(np.isfinite(ratio) & (ratio > 0), ratio, 0.0)
    # Noise makes a match worse, too: rho^2 = (1 - share) (1 - ratio share), at most.
    both = 1 + ratio
    root = np.sqrt(np.maximum(both**2 - 4 * ratio * (1 - square), 0))
    most = 2 * (1 - square) / (both + root)
    taken = np.minimum(ratio * np.minimum(share, most), LARGEST_SHARE)
    return np.asarray(gain / (1 - taken), np.float32)


def visibility_errors(
    sample: NDArray[np.float32],
    correlation: NDArray[np.float32],
    transmission: NDArray[np.float32],
    dark_field: NDArray[np.float32],
    window: NDArray[np.float32],
) -> tuple[Floats, Floats]:
    """Estimate the standard errors of transmission and dark field from what a match leaves.

    A gain fitted to N pixels has the relative variance ``(1 - rho^2) / (rho^2 N)``, and a ratio of
    means that of the noise over the mean, ``(1 - rho^2) var(s) / (mean(s)^2 N)``.

    Parameters
    ----------
    sample : ndarray of float32, shape (rows, columns)
        NaN is missing.
    correlation, transmission, dark_field, window : ndarray of float32, shape (rows, columns)
        As of the tracker.

    Returns
    -------
    transmission, dark_field : ndarray of float32, shape (rows, columns)
        Infinite where there is no match.
    """
    known = np.isfinite(sample)
    measured = np.isfinite(dark_field) & np.isfinite(correlation) & (window > 0)
    if not measured.any():
        nothing = np.full(sample.shape, np.inf, np.float32)
        return nothing, nothing.copy()
    side = int(np.median(window[measured])) | 1
    middle = np.float32(sample[known].mean(dtype=np.float64))
    # Of what is above the mean: squares of large numbers would lose the contrast.
    values = np.where(known, sample - middle, np.float32(0)).astype(np.float32)
    share, first, second = (
        cv2.blur(part, (side, side), borderType=cv2.BORDER_REFLECT_101)
        for part in (known.astype(np.float32), values, values**2)
    )
    share = np.maximum(share, np.float32(TINY))
    mean, variance = middle + first / share, np.maximum(second / share - (first / share) ** 2, 0)
    square = np.clip(correlation.astype(np.float64) ** 2, TINY, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = (1 - square) / (share * window.astype(np.float64) ** 2)
        errors = [
            np.abs(transmission) * np.sqrt(left * variance) / np.abs(mean),
            np.abs(dark_field) * np.sqrt(left / square),
        ]
    of_transmission, of_dark_field = (
        np.where(measured & np.isfinite(error), error, np.inf).astype(np.float32)
        for error in errors
    )
    return of_transmission, of_dark_field
