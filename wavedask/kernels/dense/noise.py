"""The noise as it is: its spectrum, from what a match leaves unexplained.

Photon noise is white on a detector that counts photons. A scintillator spreads each photon over
several pixels, and speckle that partly decorrelates between the images leaves a residual with the
grain of the speckle. Both have their power where the pattern has its own, and do more harm to a
displacement than white noise of the same variance: a window averages over fewer independent values.

With the power spectrum N of the noise, of mean one over all frequencies, and S that of the gradient
of the pattern, the sum of noise times gradient over a window of n pixels has the variance
``n <N S>``, where white noise has ``n <S>``: the covariance of the displacement is the sandwich
``H^-1 <N S> H^-1 / n``. All spectra are measured in cells of the image, a few windows wide.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.interpolate import BSpline

from wavedask.kernels.dense.nodes import NodeGrid, pixel_row
from wavedask.kernels.grids import interpolate
from wavedask.kernels.jit import JIT, njit
from wavedask.kernels.spline import Order, SplineFilters, displaced_row
from wavedask.kernels.uncertainty import MOST_NOISE, TINY

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

CELL: Final = 48
"""Pixels along the side of a cell."""
LEAST_DATA: Final = 0.5
"""Part of a cell that must have data."""
PHASES: Final = 16
"""Fractions of a pixel at which the response of a displaced spline is tabulated."""
TAKEN: Final = 0.8
"""Part of a fitted value of the noise that the fit takes, for the window and its low-pass."""
MOST_TAKEN: Final = 0.8
"""Largest part of the residual that the fit may have taken."""
WHITE: Final = np.array([4.0, 0.5, 1.7, 1.7, 2.0, 2.0, 0.6, 0.6])
"""The fields of `Noise` for white noise, about: where there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What the noise does to a match, at the nodes; every array has their shape.

    Attributes
    ----------
    parameters : ndarray of float32
        Values of the residual in a window that the fit has taken, as if they were independent.
    passed : ndarray of float32
        Part of the variance of the noise that the spline passes when it displaces the reference.
    gradient_y, gradient_x : ndarray of float32
        Variance that noise of unit variance has in the gradient.
    colour_y, colour_x : ndarray of float32
        Variance of noise times gradient, summed over a window, over that of white noise in the
        sample alone: about 2 for white noise in both images.
    cross_y, cross_x : ndarray of float32
        The same for the noise of the reference times that of the gradient, over the product of
        their variances.
    """

    parameters: Floats
    passed: Floats
    gradient_y: Floats
    gradient_x: Floats
    colour_y: Floats
    colour_x: Floats
    cross_y: Floats
    cross_x: Floats


@lru_cache(maxsize=8)
def _responses(order: Order, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
    return np.array(displaced), gradient**2


@njit(**JIT)  # type: ignore[untyped-decorator]
def residual_image(
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
    out : ndarray of float32, shape (rows, columns)
        Where the residual goes.
    """
    rows, columns = s.shape
    spread = np.empty((4, 4, columns), np.float32)
    held = np.full((4, 4), -1, np.int64)
    row = np.empty((5, columns), np.float32)
    whole = np.empty((2, columns), np.int32)
    for y in range(rows):
        at = y - first_y
        pixel_row(u_y, step, weights, at, -first_x, spread[0], held[0], row[0])
        pixel_row(u_x, step, weights, at, -first_x, spread[1], held[1], row[1])
        pixel_row(gain, step, linear, at, -first_x, spread[2], held[2], row[2])
        pixel_row(offset, step, linear, at, -first_x, spread[3], held[3], row[3])
        displaced_row(spline, margin, order, y, 0, row[0], row[1], whole, row[4])
        for x in range(columns):
            out[y, x] = s[y, x] - m[y, x] * (row[2, x] * row[4, x] + row[3, x])


def linear_weights(step: int) -> Floats:
    """Weights of a linear interpolation at each of the `step` phases between two nodes."""
    phase = np.arange(step, dtype=np.float32) / np.float32(step)
    return np.stack([0 * phase, 1 - phase, phase, 0 * phase], axis=1)


def measured_noise(
    residuals: Floats,
    samples: Floats,
    weights: Floats,
    u: tuple[Floats, Floats],
    grid: NodeGrid,
    *,
    order: Order,
    window: int,
    origin: tuple[int, int],
) -> Noise:
    """Measure what the noise does to a match, from the spectra of the residual and of the sample.

    Parameters
    ----------
    residuals, samples, weights : ndarray of float32, shape (images, rows, columns)
        What the match leaves, the weighted samples, and their weights.
    u : (ndarray, ndarray)
        Displacement (y, x) at the nodes, in pixels.
    grid : NodeGrid
        The nodes.
    order : 3 or 5
        Of the splines.
    window : int
        Side of the windows in pixels.
    origin : (int, int)
        Frame coordinates (y, x) of the first pixel, to which the cells are anchored.

    Returns
    -------
    Noise
        That of white noise where no cell has data.
    """
    pixels = len(samples) * window**2
    # Even sides, for the transform.
    sizes = tuple(min(CELL, length // 2 * 2) for length in grid.shape)
    firsts = [-start % size for start, size in zip(origin, sizes, strict=True)]
    firsts = [
        first if first + size <= length else 0
        for first, size, length in zip(firsts, sizes, grid.shape, strict=True)
    ]
    counts = [
        (length - first) // size
        for first, size, length in zip(firsts, sizes, grid.shape, strict=True)
    ]

    def cells(images: Floats) -> Floats:
        """Cut the cells out, shape (images, cell rows, cell columns, rows, columns)."""
        stops = [
            first + count * size for first, count, size in zip(firsts, counts, sizes, strict=True)
        ]
        cut = images[..., firsts[0] : stops[0], firsts[1] : stops[1]]
        shape = (-1, counts[0], sizes[0], counts[1], sizes[1])
        return np.ascontiguousarray(cut.reshape(shape).swapaxes(2, 3))

    taper = np.outer(*(np.hanning(size + 2)[1:-1] for size in sizes)).astype(np.float32)
    m = cells(weights)
    covered = m.mean(axis=(0, 3, 4))

    def power(images: Floats) -> NDArray[np.float64]:
        """Power spectra of the cells, summed over images; half of the frequencies are left out."""
        values = cells(images)
        total = np.maximum(m.sum(axis=(3, 4), keepdims=True), 1)
        values -= m * (values.sum(axis=(3, 4), keepdims=True) / total)
        spectra = fft.rfft2(values * taper, workers=1)
        return np.asarray((spectra.real**2 + spectra.imag**2).sum(axis=0), np.float64)

    # Each frequency of the half plane stands for two, but those of its first and last column.
    share = np.full(sizes[1] // 2 + 1, 2.0)
    share[0] = share[-1] = 1
    share /= sizes[0] * sizes[1]

    def mean(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((spectra * share).sum(axis=(-2, -1), keepdims=True))

    tables = [_responses(order, size) for size in sizes]
    half = slice(0, sizes[1] // 2 + 1)
    responses = [
        _mean_response(tables[axis][0], u[axis], grid, firsts, sizes, counts) for axis in (0, 1)
    ]
    passed = responses[0][..., :, None] * responses[1][..., None, half]
    steep_y = tables[0][1][:, None]
    steep_x = tables[1][1][None, half]
    known = covered >= LEAST_DATA
    near = _joined(known.astype(np.float64)[..., None, None])
    left, seen = (
        _joined(power(residuals) * known[..., None, None]),
        _joined(power(samples) * known[..., None, None]),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = left / (1 + passed)
        # What of the sample is noise has no part in the pattern.
        pattern = np.maximum(seen - noise, 0)
        spectra = [pattern * steep_y, pattern * steep_x, pattern]
        spectra = [spectrum / mean(spectrum) for spectrum in spectra]
        # The fit of each window has taken noise that looks like what it fits.
        taken = np.minimum(TAKEN * sum(spectra) / pixels, MOST_TAKEN)
        whole = noise / (1 - taken)
        parameters = pixels * (1 - mean(left) / mean(whole * (1 + passed)))
        shape = whole / mean(whole)
        # In a window, noise and gradient meet at lags shorter than its side only.
        seen_by_window = _windowed(shape * (1 + passed), window)
        found = []
        for steep, slopes in zip((steep_y, steep_x), spectra[:2], strict=True):
            gradient = mean(shape * steep)
            colour = mean(seen_by_window * slopes)
            cross = mean(shape**2 * passed * steep) / gradient
            found.append((gradient, colour, cross))
        parts = [parameters, mean(shape * passed)]
        parts += [part for axes in zip(*found, strict=True) for part in axes]
        maps = np.stack([part[..., 0, 0] for part in parts])
    usable = (near[..., 0, 0] > 0) & np.isfinite(maps).all(axis=0)
    if not usable.any():
        maps, usable = np.repeat(WHITE[:, None], usable.size, 1).reshape(maps.shape), ~usable
    if not usable.all():
        nearest = ndimage.distance_transform_edt(
            ~usable, return_distances=False, return_indices=True
        )
        maps = maps[:, *nearest]
    centres = [
        first + size // 2 + size * np.arange(count)
        for first, size, count in zip(firsts, sizes, counts, strict=True)
    ]
    spread = [
        interpolate(
            values,
            rows=centres[0],
            columns=centres[1],
            pixel_rows=grid.coordinates(0),
            pixel_columns=grid.coordinates(1),
            cubic=False,
        ).astype(np.float32)
        for values in maps
    ]
    return Noise(*spread)


def _windowed(spectra: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Convolve spectra with that of a window: lags count by the pairs that a window holds."""
    shape = spectra.shape[-2], 2 * (spectra.shape[-1] - 1)
    lags = fft.irfft2(spectra.astype(np.float32), s=shape, workers=1)
    for axis, size in ((-2, shape[0]), (-1, shape[1])):
        away = np.abs(np.fft.fftfreq(size, 1 / size))
        weight = np.maximum(1 - away / window, 0).astype(np.float32)
        lags *= weight[:, None] if axis == -2 else weight
    return np.asarray(fft.rfft2(lags, workers=1).real, np.float64)


def _joined(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over each cell and its eight neighbours, along the first two axes."""
    for axis in (0, 1):
        ends = [(0, 0)] * spectra.ndim
        ends[axis] = (1, 1)
        wide = np.pad(spectra, ends)
        count = spectra.shape[axis]
        spectra = sum(wide.take(range(k, k + count), axis) for k in range(3))
    return np.asarray(spectra)


def _mean_response(
    table: NDArray[np.float64],
    component: Floats,
    grid: NodeGrid,
    firsts: list[int],
    sizes: tuple[int, ...],
    counts: list[int],
) -> NDArray[np.float64]:
    """Mean response of displaced splines in each cell, along one axis."""
    where = []
    for axis, (first, size, count) in enumerate(zip(firsts, sizes, counts, strict=True)):
        pixels = first + size * (np.arange(4 * count) + 0.5) / 4
        nodes = np.rint((pixels - grid.first[axis]) / grid.step).astype(np.intp)
        where.append(np.clip(nodes, 0, grid.nodes[axis] - 1))
    phases = np.rint(component[np.ix_(*where)] % 1 * PHASES).astype(np.intp)
    rows = table[phases].reshape(counts[0], 4, counts[1], 4, -1)
    return np.asarray(rows.mean(axis=(1, 3)))


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard errors of a displacement, and where noise may be all that there is.

    Attributes
    ----------
    error_y, error_x : ndarray of float32
        In pixels.
    drowned : ndarray of bool
        Where the residual, were it noise, would explain the gradient in some direction.
    """

    error_y: Floats
    error_x: Floats
    drowned: Mask


def spread_of(
    correlation: Floats,
    variance: Floats,
    count: Floats,
    hessian: tuple[Floats, Floats, Floats],
    noise: Noise,
) -> Spread:
    """Estimate the standard error of a displacement that was refined in windows.

    Sample and reference hold the same pattern and noise of variance ``n^2`` each. Their correlation
    then is ``(1 - x)^2 / (1 - (1 - a) x)``, squared, with ``x = n^2 / var(sample)`` and the part a
    of the noise that the displacement of the reference passes: it gives ``n^2``. The gradient of
    the sample holds noise, too, and only what is left of H answers to a displacement. Three things
    add to the variance: the noise of the sample and of the reference, each times the gradient of
    the pattern, and the noise of the reference times that of the gradient. (The noise of the sample
    times its own gradient cancels over a window, for the filter is antisymmetric.)

    Parameters
    ----------
    correlation : ndarray of float32, shape (node rows, node columns)
        Of the match.
    variance, count : ndarray of float32
        Variance of the sample in the windows, and their pixels.
    hessian : (ndarray, ndarray, ndarray)
        Covariances yy, yx and xx of the gradient in the windows, with its noise.
    noise : Noise

    Returns
    -------
    Spread
    """
    taken = np.minimum(noise.parameters / count, MOST_TAKEN)
    unexplained = np.clip((1 - correlation**2) / (1 - taken), 0, 1)
    middle = 1 - (1 - unexplained) * (1 - noise.passed) / 2
    part = middle - np.sqrt(np.maximum(middle**2 - unexplained, 0))
    power = variance * np.minimum(part, 1)
    h_yy, h_yx, h_xx = hessian
    least = (h_yy + h_xx) / 2 - np.hypot((h_yy - h_xx) / 2, h_yx)
    largest = MOST_NOISE * np.maximum(least, 0)
    excess_y, excess_x = noise.gradient_y * power, noise.gradient_x * power
    drowned = np.maximum(excess_y, excess_x) >= largest
    excess_y, excess_x = np.minimum(excess_y, largest), np.minimum(excess_x, largest)
    h_yy, h_xx = np.maximum(h_yy - excess_y, 0), np.maximum(h_xx - excess_x, 0)
    determinant = np.maximum(h_yy * h_xx - h_yx**2, TINY)
    c_yy = noise.colour_y * h_yy + noise.cross_y * excess_y
    c_xx = noise.colour_x * h_xx + noise.cross_x * excess_x
    c_yx = np.sqrt(noise.colour_y * noise.colour_x) * h_yx
    errors = []
    for there, c_here, c_there in ((h_xx, c_yy, c_xx), (h_yy, c_xx, c_yy)):
        square = there**2 * c_here - 2 * there * h_yx * c_yx + h_yx**2 * c_there
        errors.append(np.sqrt(power * np.maximum(square, 0) / count) / determinant)
    return Spread(errors[0].astype(np.float32), errors[1].astype(np.float32), drowned)
