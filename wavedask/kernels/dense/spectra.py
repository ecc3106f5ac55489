"""Spectra of what a match leaves unexplained, and what noise of such a spectrum does to a match."""

from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.interpolate import BSpline

from wavedask.kernels.dense.cells import Cells
from wavedask.kernels.dense.detectornoise import DetectorNoise
from wavedask.kernels.dense.fixed import MODES, nodes_in, tapered_pixels
from wavedask.kernels.dense.nodes import NodeGrid, pixel_row
from wavedask.kernels.dense.noise import MOST_TAKEN, WHITE, Noise
from wavedask.kernels.grids import interpolate
from wavedask.kernels.jit import JIT, njit
from wavedask.kernels.spline import Order, SplineFilters, displaced_row
from wavedask.kernels.uncertainty import MOST_NOISE, TINY

Floats = NDArray[np.float32]
Spectra = NDArray[np.complex64]

PRIOR: Final = 0.25
"""Standard deviation of the share of the sample in the noise, as far as the means tell it."""
NEAR_AXIS: Final = 3
"""Frequencies of a cell, from zero on, at which stripes and edges leave a residual, too."""
LEAST_GAIN: Final = 0.3
"""Smallest gain of a match over the true one that is corrected in full."""
SHARES: Final = (0.05, 0.98)
"""Smallest and largest share of the sample in the noise of the residual."""
LEAST_DATA: Final = 0.5
"""Part of a cell that must have data."""
PHASES: Final = 16
"""Fractions of a pixel at which the response of a displaced spline is tabulated."""
LEAST_COLOUR: Final = np.float32(1e-2)
"""Rounding may leave less where noise and pattern have no frequency in common."""
SIGNIFICANT: Final = 0.3
"""Part by which the residual must exceed stated noise before all of the excess counts."""
VARIANCES: Final = slice(2, 8)
"""The fields of `Noise` that multiply the variance of the residual."""
TAKEN: Final = 0.8
"""Part of a fitted value of the noise that the fit takes, for the window and its low-pass."""


@lru_cache(maxsize=8)
def _responses(order: Order, size: int) -> tuple[Floats, Floats]:
    """Power responses at the frequencies of `size` pixels: of displaced splines, and the gradient.

    Returns
    -------
    displaced : ndarray, shape (PHASES + 1, size)
        After a displacement by 0 to 1 px.
    gradient : ndarray, shape (size,)
    """
    angle = 2 * np.pi * np.fft.fftfreq(size)
    filters = SplineFilters.of_order(order)
    side = filters.prefilter.astype(np.float64)
    prefilter = side[0] + 2 * np.cos(np.outer(angle, np.arange(1, side.size))) @ side[1:]
    taps = filters.gradient.astype(np.float64)
    gradient = 2 * np.sin(np.outer(angle, np.arange(taps.size))) @ taps
    basis = BSpline.basis_element(np.arange(order + 2), extrapolate=False)
    knots = np.arange(order + 2)
    displaced = []
    for part in np.linspace(0, 1, PHASES + 1):
        weights = np.nan_to_num(basis(knots + part))
        displaced.append(np.abs(prefilter * (np.exp(1j * np.outer(angle, knots)) @ weights)) ** 2)
    return np.array(displaced, np.float32), (gradient**2).astype(np.float32)


@njit(**JIT)  # type: ignore[untyped-decorator]
def residual_rows(
    spline: Floats,
    margin: int,
    order: int,
    m: Floats,
    s: Floats,
    u_y: Floats,
    u_x: Floats,
    gain: Floats,
    offset: Floats,
    step: int,
    weights: Floats,
    linear: Floats,
    first_y: int,
    first_x: int,
    rows: NDArray[np.intp],
    out: Floats,
) -> None:
    """Take the match out of a sample: ``s - gain * reference(p - u) - offset``, 0 where no data is.

    Parameters
    ----------
    spline : ndarray of float32, shape (rows + 2 margin, columns + 2 margin)
        Coefficients of the reference.
    margin, order : int
        Of the spline.
    m, s : ndarray of float32, shape (rows, columns)
        Weight, and weighted sample.
    u_y, u_x, gain, offset : ndarray of float32, shape (node rows + 4, node columns + 4)
        The match at the nodes, padded.
    step, weights, first_y, first_x
        The grid of nodes, and the interpolation of the displacement.
    linear : ndarray of float32, shape (step, 4)
        Weights of a linear interpolation, for gain and offset.
    rows : ndarray of int, shape (n,)
        Rows that are wanted.
    out : ndarray of float32, shape (n, columns)
        Where the residual goes.
    """
    columns = s.shape[1]
    spread = np.empty((4, 4, columns), np.float32)
    held = np.full((4, 4), -1, np.int64)
    row = np.empty((5, columns), np.float32)
    whole = np.empty((2, columns), np.int32)
    for k in range(rows.size):
        y = rows[k]
        at = y - first_y
        pixel_row(u_y, step, weights, at, -first_x, spread[0], held[0], row[0])
        pixel_row(u_x, step, weights, at, -first_x, spread[1], held[1], row[1])
        pixel_row(gain, step, linear, at, -first_x, spread[2], held[2], row[2])
        pixel_row(offset, step, linear, at, -first_x, spread[3], held[3], row[3])
        displaced_row(spline, margin, order, y, 0, row[0], row[1], whole, row[4])
        for x in range(columns):
            out[k, x] = s[y, x] - m[y, x] * (row[2, x] * row[4, x] + row[3, x])


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
    passed, steep, share = _filters(u, grid, cells, order)
    expected = in_cells(ratio, grid, cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, expected = _with_full_gain(left, seen, passed, cells[1].share, expected)
        # The noise of the reference is that of the sample times this, and the spline passes a part.
        passed = passed * _noise_ratio(left, seen, passed, share, expected)[..., None, None]
        power, kept = _without_blur(left, seen, passed, cells[1].share)
        noise, pattern = power / (1 + passed), _power(seen)
        whole = noise / (1 - _taken(noise, pattern, steep, share, window, len(weights)))
        parameters = 1 - _mean(power, share) / _mean(whole * (1 + passed), share)
        chance = _chance(window, (power.shape[-2], 2 * (power.shape[-1] - 1)), len(weights))
        # In the sample there is the noise that is seen, not the one that the fit has taken, too.
        effects = _effects(whole, noise, pattern, passed, steep, share, window, chance)
        maps = np.stack([len(weights) * window**2 * parameters[..., 0, 0], *effects])
        maps[VARIANCES] *= kept
    usable = (weights.mean(axis=(0, 3, 4)) >= LEAST_DATA) & np.isfinite(maps).all(axis=0)
    return Noise(*at_nodes(maps, usable, np.array(WHITE), grid, cells))


def stated_noise(
    left: Spectra,
    seen: Spectra,
    weights: Floats,
    u: tuple[Floats, Floats],
    stated: DetectorNoise,
    counts: tuple[Floats, Floats],
    scales: tuple[Floats, Floats],
    grid: NodeGrid,
    cells: tuple[Cells, Cells],
    *,
    order: Order,
    window: int,
) -> Noise:
    """Compute what noise that is known does to a match; the residual must not say more.

    Where the residual has more power than the noise explains, at the frequencies of the gradient,
    part of it is no noise of the detector, such as speckle that is lost, and counts, too.

    Parameters
    ----------
    left, seen, weights, u, grid, cells, order, window
        As in `measured_noise`.
    stated : DetectorNoise
        Noise of the detector.
    counts : (ndarray, ndarray)
        Mean of samples and displaced references at the nodes, in counts.
    scales : (ndarray, ndarray)
        At the nodes, what the noise of samples and displaced references is divided by: to make it
        that of the normalised sample.

    Returns
    -------
    Noise
        With the variance of the noise of the sample, `Noise.power`.
    """
    passed, steep, share = _filters(u, grid, cells, order)
    size = cells[0].size, cells[1].size
    norm = np.maximum(tapered_pixels(weights), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise, other = (
            np.float32(1)
            / in_cells(scale, grid, cells)[..., None, None] ** 2
            * stated.spectrum(in_cells(level, grid, cells), size)
            for level, scale in zip(counts, scales, strict=True)
        )
        pattern = np.asarray(_power(seen) / norm, np.float32)
        # The gain of the match is too small by the noise of the reference: see _with_full_gain.
        own, total = _mean(noise, share), _mean(pattern, share)
        signal = np.maximum(total - own, (1 - MOST_TAKEN) * total)
        gain = np.ones_like(signal)
        for _ in range(2):
            gain = signal / (signal + _mean(other * passed, share) / gain**2)
            gain = np.maximum(gain, np.float32(LEAST_GAIN))
        ratio = passed * other / (noise * gain**2)
        residual = (left - (1 - gain) * seen) / gain
        power, _ = _without_blur(residual, seen, ratio, cells[1].share)
        taken = _taken(noise, pattern, steep, share, window, len(weights))
        effects = _effects(noise, noise, pattern, ratio, steep, share, window, 1.0)
        measured = np.asarray(power / norm / (1 + ratio) / (1 - taken), np.float32)
        found = _effects(measured, noise, pattern, ratio, steep, share, window, 1.0)
        # Variances of noise times gradient, along y and x: of the residual, over the stated.
        more = found[3:5] / effects[3:5] * (_mean(measured, share) / own)[..., 0, 0]
        maps = np.concatenate([np.zeros_like(effects[:1]), effects, more])
    usable = (weights.mean(axis=(0, 3, 4)) >= LEAST_DATA) & np.isfinite(maps).all(axis=0)
    default = np.array([*WHITE, 1.0, 1.0])
    *fields, more_y, more_x = at_nodes(maps, usable, default, grid, cells)
    for k, ratio in ((4, more_y), (5, more_x)):
        excess = np.maximum(ratio - 1, 0)
        counted = 1 + excess * np.minimum(excess / SIGNIFICANT, 1)
        fields[k], fields[k + 2] = fields[k] * counted, fields[k + 2] * counted
    return replace(Noise(*fields), power=stated.variance(counts[0]) / scales[0] ** 2)


def _filters(
    u: tuple[Floats, Floats], grid: NodeGrid, cells: tuple[Cells, Cells], order: Order
) -> tuple[Floats, tuple[Floats, Floats], Floats]:
    """Power responses of displacement and gradient in cells, and weights of the frequencies."""
    down, across = cells
    half = slice(0, across.size // 2 + 1)
    passed_y, passed_x = (_mean_response(order, axis, u[axis], grid, cells) for axis in (0, 1))
    steep = (
        _responses(order, down.size)[1][:, None],
        _responses(order, across.size)[1][None, half],
    )
    share = across.share / np.float32(down.size)
    return passed_y[..., :, None] * passed_x[..., None, half], steep, share


def in_cells(values: Floats, grid: NodeGrid, cells: tuple[Cells, Cells]) -> Floats:
    """Average values at the nodes over four nodes in each cell, shape (cell rows, cell columns)."""
    nodes = np.ix_(*(nodes_in(part, grid, axis) for axis, part in enumerate(cells)))
    four = values[nodes].reshape(cells[0].count, 2, cells[1].count, 2)
    return np.asarray(four.mean(axis=(1, 3)), np.float32)


def at_nodes(
    maps: Floats,
    usable: NDArray[np.bool_],
    default: Floats,
    grid: NodeGrid,
    cells: tuple[Cells, Cells],
) -> list[Floats]:
    """Average fields over neighbouring cells, and interpolate them to the nodes.

    Parameters
    ----------
    maps : ndarray of float32, shape (fields, cell rows, cell columns)
        The fields in the cells.
    usable : ndarray of bool, shape (cell rows, cell columns)
        Cells that have them; the others take the nearest.
    default : ndarray, shape (fields,)
        What to take where no cell is usable.
    grid : NodeGrid
        The nodes.
    cells : (Cells, Cells)
        The cells along y and x.

    Returns
    -------
    list of ndarray of float32, shape (node rows, node columns)
    """
    if not usable.any():
        maps, usable = np.broadcast_to(default[:, None, None], maps.shape), ~usable
    if not usable.all():
        nearest = ndimage.distance_transform_edt(
            ~usable, return_distances=False, return_indices=True
        )
        maps = maps[:, *nearest]
    maps = ndimage.uniform_filter(maps, (1, 3, 3), mode="nearest")
    return [
        interpolate(
            values,
            rows=cells[0].centres,
            columns=cells[1].centres,
            pixel_rows=grid.coordinates(0),
            pixel_columns=grid.coordinates(1),
            cubic=False,
        ).astype(np.float32)
        for values in maps
    ]


def _mean(spectra: Floats, share: Floats) -> Floats:
    """Mean over all frequencies, in two last axes of length one."""
    # A product with few columns: no BLAS, whose threads would change the last bits.
    return np.asarray(np.einsum("...kl,l->...", spectra, share)[..., None, None])


def _patterns(
    noise: Floats, seen: Floats, steep: tuple[Floats, Floats], share: Floats
) -> list[Floats]:
    """Spectra, of mean one, of the gradient of the pattern along y and x, and of the pattern.

    What of the sample is noise has no part in it. The difference is negative at some frequencies by
    chance: without these, the noise beyond the grains would count as pattern.
    """
    pattern = seen - noise
    spectra = []
    for part in (*steep, np.float32(1)):
        least = (1 - MOST_NOISE) * _mean(seen * part, share)
        spectra.append(pattern * part / np.maximum(_mean(pattern * part, share), least))
    return spectra


def _taken(
    noise: Floats,
    seen: Floats,
    steep: tuple[Floats, Floats],
    share: Floats,
    window: int,
    images: int,
) -> Floats:
    """Part of the noise that the fit of each window takes, for it looks like what is fitted."""
    alike = sum(_patterns(noise, seen, steep, share))
    return np.asarray(np.clip(TAKEN / (images * window**2) * alike, 0, MOST_TAKEN), np.float32)


def _effects(
    noise: Floats,
    in_sample: Floats,
    seen: Floats,
    passed: Floats,
    steep: tuple[Floats, Floats],
    share: Floats,
    window: int,
    chance: float,
) -> Floats:
    """Compute the fields of `Noise` from the second on, for each cell.

    Parameters
    ----------
    noise : ndarray of float32, shape (cell rows, cell columns, y, x)
        Power spectrum of the noise of the sample.
    in_sample : ndarray of float32
        What of it is in the spectrum of the sample.
    seen : ndarray of float32
        Power spectrum of the sample.
    passed : ndarray of float32
        Noise of the displaced reference over that of the sample.
    steep : (ndarray, ndarray)
        Power responses of the gradient along y and x.
    share : ndarray of float32
        Weights of the frequencies along x.
    window : int
        Side of the windows in pixels.
    chance : float
        As of `_chance`; 1 for spectra without chance.

    Returns
    -------
    ndarray of float32, shape (7, cell rows, cell columns)
    """
    shape = noise / _mean(noise, share)
    # In a window, noise and gradient meet at lags shorter than its side only.
    both = _windowed(shape * (1 + passed), window)
    filtered = shape * passed
    gradients = [_mean(shape * part, share) for part in steep]
    parts = [_mean(filtered, share), *gradients]
    parts += [
        np.maximum(_mean(both * slopes, share), LEAST_COLOUR)
        for slopes in _patterns(in_sample, seen, steep, share)[:2]
    ]
    parts += [
        chance * _mean(filtered * shape * part, share) / gradient
        for part, gradient in zip(steep, gradients, strict=True)
    ]
    return np.stack([part[..., 0, 0] for part in parts])


def _chance(window: int, size: tuple[int, int], images: int) -> float:
    """Factor of the noise of the reference times that of the gradient, for spectra of few images.

    A spectrum of one image has as large a standard deviation as its mean: its mean square is twice
    the square of its mean. And residual and sample share the noise of the sample: their spectra
    rise and fall together by chance, and the mean of their product is too small by what noise times
    noise adds, times the part of it that `_windowed` does not average out.

    Examples
    --------
    >>> [round(_chance(window, (48, 48), images=1), 2) for window in (11, 21, 61)]
    [0.58, 0.7, 0.88]
    """
    return (1 + _shared_modes(window, *size) / images) / (1 + 1 / images)


@lru_cache(maxsize=32)
def _shared_modes(window: int, rows: int, columns: int) -> float:
    """Part of the chance covariance of two spectra that is left when one is that of a window.

    The taper of a cell makes neighbouring frequencies rise and fall together; `_windowed` averages
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
    left, seen = _power(residual), _power(sample)
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
    left, seen = _power(residual), _power(sample)
    weight = share * left.mean(axis=(0, 1)) / np.maximum(seen.mean(axis=(0, 1)), TINY)
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


def _without_blur(
    residual: Spectra, sample: Spectra, passed: Floats, share: Floats
) -> tuple[Floats, Floats]:
    """Take a difference in resolution out of the residual.

    A scintillator blurs a pattern after the sample has magnified it, so the blurred sample is not
    the blurred reference displaced. Their spectra differ by a real and even factor, in the lowest
    order a constant, which is the gain of the match, and a quadratic form of the frequency. This
    part of the residual is not noise and does not shift the match: its product with the gradient is
    a divergence, whose mean over a window is nearly zero. What a constant alone fits stays: with
    few photons the gain is too small, and that is counted elsewhere.

    Parameters
    ----------
    residual, sample : ndarray of complex64, shape (images, cell rows, cell columns, y, x)
        Spectra of the cells.
    passed : ndarray of float32, shape (cell rows, cell columns, y, x)
        Noise of the displaced reference over that of the sample.
    share : ndarray of float32, shape (x,)
        Weights of the frequencies along x.

    Returns
    -------
    power : ndarray of float32, shape (cell rows, cell columns, y, x)
        Of the residual without it, summed over images.
    kept : ndarray of float32, shape (cell rows, cell columns)
        Part of the variance of the residual that is left.
    """
    y = np.fft.fftfreq(residual.shape[-2])[:, None]
    x = np.linspace(0, 0.5, residual.shape[-1])
    # This mean of the two images, weighted by the noise of the other, shares none with the
    # residual.
    pattern = sample - residual / (1 + passed)
    forms = np.stack(np.broadcast_arrays(1.0, y**2, x**2, y * x))
    weighted = forms * share
    common = (residual.real * pattern.real + residual.imag * pattern.imag).sum(axis=0)
    right = np.einsum("abkl,jkl->abj", common, weighted)
    # One product at a time: no BLAS, whose threads would change the last bits.
    normal = np.einsum("abkl,jnkl->abjn", _power(pattern), forms[:, None] * weighted)
    inverse = np.linalg.pinv(np.nan_to_num(normal), rcond=1e-10, hermitian=True)
    change = np.einsum("abjn,abn->abj", inverse, right)
    change[..., 0] -= right[..., 0] / normal[..., 0, 0]
    factor = np.einsum("abj,jkl->abkl", change, forms).astype(np.float32)
    power = _power(residual - factor * pattern)
    before, after = (np.einsum("abkl,l->ab", part, share) for part in (_power(residual), power))
    return power, after / before


def _power(spectra: Spectra) -> Floats:
    """Power, summed over images."""
    return np.asarray((spectra.real**2 + spectra.imag**2).sum(axis=0), np.float32)


def _windowed(spectra: Floats, window: int) -> Floats:
    """Convolve spectra with that of a window: lags count by the pairs that a window holds."""
    shape = spectra.shape[-2], 2 * (spectra.shape[-1] - 1)
    lags = fft.irfft2(spectra, s=shape, workers=1)
    for axis, size in ((-2, shape[0]), (-1, shape[1])):
        away = np.abs(np.fft.fftfreq(size, 1 / size))
        weight = np.maximum(1 - away / window, 0).astype(np.float32)
        lags *= weight[:, None] if axis == -2 else weight
    return np.asarray(fft.rfft2(lags, workers=1).real, np.float32)


def _mean_response(
    order: Order, axis: int, component: Floats, grid: NodeGrid, cells: tuple[Cells, Cells]
) -> Floats:
    """Mean response of displaced splines in each cell, along one axis."""
    table = _responses(order, cells[axis].size)[0]
    where = []
    for k, part in enumerate(cells):
        pixels = part.pixels[:, part.size // 8 :: part.size // 4][:, :4]
        nodes = np.rint((pixels.ravel() - grid.first[k]) / grid.step).astype(np.intp)
        where.append(np.clip(nodes, 0, grid.nodes[k] - 1))
    phases = np.rint(component[np.ix_(*where)] % 1 * PHASES).astype(np.intp)
    rows = table[phases].reshape(
        cells[0].count, -1, cells[1].count, len(where[1]) // cells[1].count, table.shape[1]
    )
    return np.asarray(rows.mean(axis=(1, 3)))
