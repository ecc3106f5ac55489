"""Ratio of the visibilities of two images, without what photon noise adds to them."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.box import box_row
from wavedask.kernels.jit import INLINED, JIT, njit
from wavedask.kernels.spline import Order, SplineFilters, gradient
from wavedask.kernels.uncertainty import MOST_NOISE, SplineNoise

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

LARGEST_SHARE: Final = 0.9
"""Part of a variance that may be noise."""
LEAK: Final = 3.0
"""Pattern that passes the second difference, at most, over that of a Gaussian spectrum."""
TINY: Final = 1e-12
"""Variance of a window without a pattern; images have unit variance."""


def noise_share(
    images: Floats,
    known: Floats,
    *,
    window: int,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> Floats:
    """Find which part of the variance in windows around some pixels is white noise.

    Parameters
    ----------
    images : ndarray of float32, shape (images, rows, columns)
        Centred images, zero where nothing is known.
    known : ndarray of float32, shape (images, rows, columns)
        1 where a pixel has a value, 0 elsewhere.
    window : int
        Side of the windows in pixels, odd; at the border what is left of them.
    rows, columns : ndarray of int, shapes (n,) and (m,)
        Coordinates of the pixels, increasing.

    Returns
    -------
    ndarray of float32, shape (n, m)
        Between 0 and 1; over all images together.
    """
    sums = np.empty((5, rows.size, columns.size), np.float32)
    _noise_sums(images, known, window // 2, rows, columns, sums)
    rough, there, square, first, count = sums
    count = np.maximum(count, np.float32(TINY))
    variance = np.maximum(square / count - (first / count) ** 2, np.float32(TINY))
    # Both ways together, the second difference passes 36 times the variance.
    share = rough / (36 * np.maximum(there, np.float32(TINY)) * variance)
    return np.asarray(np.clip(share, 0, 1), np.float32)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add_row(
    image: Floats, known: Floats, y: int, sign: np.float32, down: Floats, least: Floats, out: Floats
) -> None:
    """Add what a row of an image has to the sums of its columns, or take it out again.

    The second difference, both ways, passes noise and hardly any pattern (Immerkaer, Comput. Vis.
    Image Underst. 64, 300, 1996). Beside a gap and at the border it has no place.
    """
    here, weight = image[y], known[y]
    for x in range(here.size):
        out[2, x] += sign * here[x] * here[x]
        out[3, x] += sign * here[x]
        out[4, x] += sign * weight[x]
    if y == 0 or y == len(image) - 1:
        return
    above, below = image[y - 1], image[y + 1]
    over, under = known[y - 1], known[y + 1]
    for x in range(here.size):
        down[x] = above[x] - np.float32(2) * here[x] + below[x]
        least[x] = min(over[x], weight[x], under[x])
    for x in range(1, here.size - 1):
        rough = down[x - 1] - np.float32(2) * down[x] + down[x + 1]
        whole = sign * min(least[x - 1], least[x], least[x + 1])
        out[0, x] += whole * rough * rough
        out[1, x] += whole


@njit(**JIT)  # type: ignore[untyped-decorator]
def _noise_sums(
    images: Floats,
    known: Floats,
    half: int,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: Floats,
) -> None:
    """Sum over windows: square of the second difference, where it was taken, square, value, count.

    Row by row, by running sums: the images stay in the cache of the core.
    """
    height, width = images.shape[1:]
    sums = np.zeros((5, width), np.float32)
    down, least = np.empty(width, np.float32), np.empty(width, np.float32)
    wide = np.zeros(width + 2 * half, np.float32)
    even, odd = np.empty_like(wide), np.empty_like(wide)
    line = np.empty(width, np.float32)
    one = np.float32(1)
    begin = end = max(rows[0] - half, 0)
    for k in range(rows.size):
        stop = min(rows[k] + half + 1, height)
        for n in range(len(images)):
            for y in range(end, stop):
                _add_row(images[n], known[n], y, one, down, least, sums)
            for y in range(begin, max(rows[k] - half, begin)):
                _add_row(images[n], known[n], y, -one, down, least, sums)
        begin, end = max(rows[k] - half, begin), stop
        for i in range(5):
            wide[half : half + width] = sums[i]
            box_row(wide, 2 * half + 1, even, odd, line)
            for j in range(columns.size):
                out[i, k, j] = line[columns[j]]


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
    displacement_y: NDArray[np.float32],
    displacement_x: NDArray[np.float32],
    uncertainty_y: NDArray[np.float32],
    uncertainty_x: NDArray[np.float32],
) -> tuple[Floats, Floats]:
    """Estimate the standard errors of transmission and dark field from what a match leaves.

    With white noise, a gain fitted to N pixels has the relative variance ``(1 - rho^2) / (rho^2
    N)``, and a ratio of means that of the noise over the mean, ``(1 - rho^2) var(s) / (mean(s)^2
    N)``. Correlated noise averages less: `correlated_excess` gives the factors of both variances.

    Parameters
    ----------
    sample : ndarray of float32, shape (rows, columns)
        NaN is missing.
    correlation, transmission, dark_field, window : ndarray of float32, shape (rows, columns)
        As of the tracker.
    displacement_y, displacement_x, uncertainty_y, uncertainty_x : ndarray of float32
        As of the tracker, in pixels.

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
    scale = np.float32(values[known].std(dtype=np.float64)) or np.float32(1)
    values /= scale
    share, mean, hessian = _window_means(values, known, side)
    variance = hessian[0]
    square = np.clip(correlation.astype(np.float64) ** 2, TINY, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = (1 - square) / (share * window.astype(np.float64) ** 2)
        noise = noise_share(
            values[None],
            known[None].astype(np.float32),
            window=side,
            rows=np.arange(values.shape[0]),
            columns=np.arange(values.shape[1]),
        )
        stated = uncertainty_y.astype(np.float64) ** 2 + uncertainty_x.astype(np.float64) ** 2
        spline = SplineNoise.of_order(3)
        passed = spline.at(displacement_y) * spline.at(displacement_x)
        of_mean, of_gain = correlated_excess(
            stated, left, hessian, noise, (1 + passed) / (1 - square)
        )
        errors = [
            np.abs(transmission)
            * np.sqrt(left * of_mean * variance)
            * (scale / np.abs(middle + scale * mean)),
            np.abs(dark_field) * np.sqrt(left * of_gain / square),
        ]
    of_transmission, of_dark_field = (
        np.where(measured & np.isfinite(error), error, np.inf).astype(np.float32)
        for error in errors
    )
    return of_transmission, of_dark_field


def correlated_excess(
    stated: Doubles,
    left: Doubles,
    hessian: tuple[Floats, Floats, Floats, Floats],
    share: Floats,
    twice: Doubles,
) -> tuple[Doubles, Doubles]:
    r"""Find how much larger correlated noise makes the variance of a mean and of a gain.

    The tracker has measured the spectrum of the noise, and states the error of a displacement with
    it. For white noise that error follows from the residual and the gradient; the quotient c of the
    two variances tells how far the noise is correlated. For a pattern and a noise whose spectra are
    Gaussian, ``exp(-a^2 k^2)`` and ``4 pi b^2 exp(-b^2 k^2)``, the noise multiplies the variance of
    the displacement, the gain and the mean by

    .. math:: c = 4 \pi b^2 / (1 + b^2 / a^2)^2, \quad c (1 + b^2 / a^2), \quad
              c (1 + b^2 / a^2)^2.

    The part of the noise that is white by its second differences has the factor 1.

    Parameters
    ----------
    stated : ndarray of float64
        Variance of the displacement that the tracker states, y and x together, px2.
    left : ndarray of float64
        Unexplained part of the variance of the sample, over the pixels of a window.
    hessian : (ndarray, ndarray, ndarray, ndarray)
        Variance of the sample in windows, and the covariances yy, yx and xx of its gradient.
    share : ndarray of float32
        Part of this variance that is white noise.
    twice : ndarray of float64
        White noise of both images over that of the sample, and over the unexplained part of the
        variance.

    Returns
    -------
    mean, gain : ndarray of float64
        Factors of the variances.
    """
    variance, h_yy, h_yx, h_xx = (part.astype(np.float64) for part in hessian)
    excess = SplineNoise.of_order(3).gradient * share * variance
    h_yy, h_xx = (np.maximum(part - excess, (1 - MOST_NOISE) * part) for part in (h_yy, h_xx))
    grain = variance * np.maximum(1 - share, 1 - LARGEST_SHARE) / np.maximum(h_yy + h_xx, TINY)
    # What second differences pass of the pattern.
    rough = 6 - 8 * np.exp(-1 / (4 * grain)) + 2 * np.exp(-1 / grain)
    white = np.clip((share - LEAK * rough**2 / 36) * twice, 0, 1)
    determinant = np.maximum(h_yy * h_xx - h_yx**2, TINY)
    independent = left * variance * (h_yy + h_xx) / determinant
    factor = (stated / independent - white) / np.maximum(1 - white, TINY)
    # x = b^2 / a^2 solves c (1 + x)^2 = 4 pi a^2 x; noise coarser than the pattern counts as it.
    half = np.maximum(2 * np.pi * grain / np.maximum(factor, 1) - 1, 1)
    coarse = half - np.sqrt(half**2 - 1)
    gain = np.maximum(factor, 1) * (1 + coarse)
    mean = gain * (1 + coarse)
    return white + (1 - white) * mean, white + (1 - white) * gain


def _window_means(
    values: Floats, known: NDArray[np.bool_], side: int
) -> tuple[Floats, Floats, tuple[Floats, Floats, Floats, Floats]]:
    """Share of known pixels, mean, variance and covariances of the gradient in windows."""
    slopes = np.empty_like(values), np.empty_like(values)
    gradient(values, SplineFilters.of_order(3).gradient, *slopes)
    # Beside a gap the gradient is that of the gap.
    whole = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    there = known.astype(np.float32)

    def mean(part: Floats, weight: Floats) -> Floats:
        total, share = (
            cv2.blur(one, (side, side), borderType=cv2.BORDER_REFLECT_101)
            for one in (part * weight, weight)
        )
        return np.asarray(total / np.maximum(share, np.float32(TINY)), np.float32)

    first = mean(values, there)
    variance = np.maximum(mean(values**2, there) - first**2, 0)
    down, across = (mean(part, whole) for part in slopes)
    yy, yx, xx = (
        mean(one * other, whole) - here * beside
        for one, other, here, beside in (
            (slopes[0], slopes[0], down, down),
            (slopes[0], slopes[1], down, across),
            (slopes[1], slopes[1], across, across),
        )
    )
    share = cv2.blur(there, (side, side), borderType=cv2.BORDER_REFLECT_101)
    return np.maximum(share, np.float32(TINY)), first, (variance, yy, yx, xx)
