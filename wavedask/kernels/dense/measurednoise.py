"""Noise that is not known: measured in what a match leaves unexplained."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels.dense.cells import Cells
from wavedask.kernels.dense.fixed import MODES, smoothed
from wavedask.kernels.dense.nodes import NodeGrid
from wavedask.kernels.dense.noise import MOST_TAKEN, WHITE, Noise
from wavedask.kernels.dense.spectra import (
    LEAST_DATA,
    LEAST_GAIN,
    at_nodes,
    effects_of,
    filters_of,
    in_cells,
    mean_of,
    power_of,
    taken_by_fit,
    without_blur,
)
from wavedask.kernels.spline import Order
from wavedask.kernels.uncertainty import TINY

Floats = NDArray[np.float32]
Spectra = NDArray[np.complex64]

PRIOR: Final = 0.25
"""Standard deviation of the share of the sample in the noise, as far as the means tell it."""
NEAR_AXIS: Final = 3
"""Frequencies of a cell, from zero on, at which stripes and edges leave a residual, too."""
SHARES: Final = (0.05, 0.98)
"""Smallest and largest share of the sample in the noise of the residual."""
VARIANCES: Final = slice(2, 8)
"""The fields of `Noise` that multiply the variance of the residual."""


def measured_noise(
    left: Spectra,
    seen: Spectra,
    weights: Floats,
    u: tuple[Floats, Floats],
    ratio: Floats,
    grid: NodeGrid,
    cells: tuple[Cells, Cells],
    *,
    order: Order,
    window: int,
) -> Noise:
    """Measure what the noise does to a match, from the spectra of the residual and of the sample.

    Parameters
    ----------
    left, seen : ndarray of complex64
        Spectra of the cells, as of `spectra_of`: of what the match leaves, and of the samples.
    weights : ndarray of float32, shape (images, cell rows, cell columns, rows, columns)
        Weights of the pixels of the cells.
    u : (ndarray, ndarray)
        Displacement (y, x) at the nodes, in pixels.
    ratio : ndarray of float32, shape (node rows, node columns)
        Variance of the noise of the reference, times the squared gain of the match, over that of
        the noise of the sample, if the noise is that of the photons in both images.
    grid : NodeGrid
        The nodes.
    cells : (Cells, Cells)
        The cells along y and x.
    order : 3 or 5
        Of the splines.
    window : int
        Side of the windows in pixels.

    Returns
    -------
    Noise
        That of white noise where no cell has data.
    """
    passed, steep, share = filters_of(u, grid, cells, order)
    expected = in_cells(ratio, grid, cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, expected = _with_full_gain(left, seen, passed, cells[1].share, expected)
        # The noise of the reference is that of the sample times this, and the spline passes a part.
        passed = passed * _noise_ratio(left, seen, passed, share, expected)[..., None, None]
        power, kept = without_blur(left, seen, passed, cells[1].share)
        noise, pattern = power / (1 + passed), power_of(seen)
        whole = noise / (1 - taken_by_fit(noise, pattern, steep, share, window, len(weights)))
        parameters = 1 - mean_of(power, share) / mean_of(whole * (1 + passed), share)
        chance = _chance(window, (power.shape[-2], 2 * (power.shape[-1] - 1)), len(weights))
        # In the sample there is the noise that is seen, not the one that the fit has taken, too.
        effects = effects_of(whole, noise, pattern, passed, steep, share, window, chance)
        maps = np.stack([len(weights) * window**2 * parameters[..., 0, 0], *effects])
        maps[VARIANCES] *= kept
    usable = (weights.mean(axis=(0, 3, 4)) >= LEAST_DATA) & np.isfinite(maps).all(axis=0)
    return Noise(*at_nodes(maps, usable, np.array(WHITE), grid, cells))


def _chance(window: int, size: tuple[int, int], images: int) -> float:
    """Factor of the noise of the reference times that of the gradient, for spectra of few images.

    A spectrum of one image has as large a standard deviation as its mean: its mean square is twice
    the square of its mean. And residual and sample share the noise of the sample: their spectra
    rise and fall together by chance, and the mean of their product is too small by what noise times
    noise adds, times the part of it that a window does not average out.

    Examples
    --------
    >>> [round(_chance(window, (48, 48), images=1), 2) for window in (11, 21, 61)]
    [0.58, 0.7, 0.88]
    """
    return (1 + _shared_modes(window, *size) / images) / (1 + 1 / images)


@lru_cache(maxsize=32)
def _shared_modes(window: int, rows: int, columns: int) -> float:
    """Part of the chance covariance of two spectra that is left when one is that of a window.

    The taper of a cell makes neighbouring frequencies rise and fall together; a window averages
    over many.

    Examples
    --------
    >>> [round(_shared_modes(window, 48, 48), 2) for window in (11, 21, 61)]
    [0.16, 0.4, 0.76]
    """
    found = 1.0
    for size in (rows, columns):
        taper = np.hanning(size + 2)[1:-1] ** 2
        together = np.abs(np.fft.fft(taper)) ** 2 / taper.sum() ** 2
        weight = np.maximum(1 - np.abs(np.fft.fftfreq(size, 1 / size)) / window, 0)
        found *= float(np.sum(np.fft.ifft(weight).real * together))
    return found


def _with_full_gain(
    residual: Spectra, sample: Spectra, passed: Floats, share: Floats, expected: Floats
) -> tuple[Spectra, Floats]:
    """Take out of the residual what the gain of the match is too small by.

    With noise in the reference, the gain that leaves least is too small (regression dilution): by
    the factor ``(1 - x) / (1 - x + a x)``, where x and a x are the parts of the variance that are
    noise of sample and displaced reference, as in `spread_of`. Part of the pattern is left, which
    is no noise.

    Returns
    -------
    residual : ndarray of complex64, shape (images, cell rows, cell columns, y, x)
    expected : ndarray of float32, shape (cell rows, cell columns)
        Ratio of the noise, which has the squared gain in it.
    """
    left, seen = power_of(residual), power_of(sample)
    # What an edge or a stripe leaves lies at low frequencies along y or x: there, the noise is as
    # large as elsewhere.
    apart = np.ones(left.shape[-2:], np.float32) * share
    apart[:NEAR_AXIS] = apart[1 - NEAR_AXIS :] = apart[:, :NEAR_AXIS] = 0
    apart *= left.shape[-2] * share.sum() / apart.sum()
    whole = np.ones_like(apart) * share
    sums = [
        np.einsum("abkl,kl->ab", part, weight)
        for part, weight in ((left, apart), (left * passed, apart), (seen, whole))
    ]
    own, through, total = ndimage.uniform_filter(np.stack(sums), (1, 3, 3), mode="nearest")
    unexplained = np.clip(np.nan_to_num(own / total), 0, MOST_TAKEN)
    part = np.nan_to_num(through / own, nan=1.0)
    gain = np.sqrt(1 - unexplained)
    for _ in range(2):
        other = expected / gain**2 * part
        middle = 1 - (1 - unexplained) * (1 - other) / 2
        noise = middle - np.sqrt(np.maximum(middle**2 - unexplained, 0))
        gain = (1 - noise) / (1 - noise + other * noise)
    gain = np.maximum(gain, LEAST_GAIN).astype(np.float32)
    factor = gain[..., None, None]
    return (residual - (1 - factor) * sample) / factor, expected / gain**2


def _noise_ratio(
    residual: Spectra, sample: Spectra, passed: Floats, share: Floats, expected: Floats
) -> Floats:
    """Estimate the noise of the reference in each cell, times the squared gain, over the sample's.

    Residual and sample share the noise of the sample, and nothing else: the real part of their
    product, summed over frequencies, over the power of the residual is the share that the sample
    has in it. Frequencies count the more, the larger the residual is beside the pattern. Where it
    does not show, because the noise is blurred or weak, the share is the expected one.

    Parameters
    ----------
    residual, sample : ndarray of complex64, shape (images, cell rows, cell columns, y, x)
        Spectra of the cells.
    passed : ndarray of float32, shape (cell rows, cell columns, y, x)
        Response of the displaced spline.
    share : ndarray of float32, shape (x,)
        Weights of the frequencies along x.
    expected : ndarray of float32, shape (cell rows, cell columns)
        The ratio, if the noise is that of the photons.

    Returns
    -------
    ndarray of float32, shape (cell rows, cell columns)
    """
    common = (residual.real * sample.real + residual.imag * sample.imag).sum(axis=0)
    left, seen = power_of(residual), power_of(sample)
    # The noise that both share must not be in the weights, too: it would favour the frequencies at
    # which the sample happens to have little of it.
    typical, pattern = (smoothed(part.mean(axis=(0, 1))) for part in (left, seen))
    weight = share * typical / np.maximum(pattern, TINY)
    own, total, through = (
        np.einsum("abkl,kl->ab", part, weight) for part in (common, left, left * passed)
    )
    variance = np.einsum("abkl,abkl,kl->ab", left, seen, weight**2) / (2 * MODES)
    sums = np.nan_to_num(np.stack([own, total, through, variance]))
    own, total, through, variance = ndimage.uniform_filter(sums, (1, 3, 3), mode="nearest")
    cells = min(9, own.size)
    level = np.maximum(total, TINY)
    through = np.clip(through / level, 0.05, 1)
    first = 1 / (1 + np.where(np.isfinite(expected), expected, 1) * through)
    doubt = variance / cells / level**2
    part = (first * doubt + own / level * PRIOR**2) / (doubt + PRIOR**2)
    return np.asarray((1 / np.clip(part, *SHARES) - 1) / through, np.float32)
