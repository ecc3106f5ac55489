"""Spectra in cells, and what noise of such a spectrum does to a match."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.interpolate import BSpline

from wavedask.kernels.dense.cells import Cells
from wavedask.kernels.dense.fixed import nodes_in
from wavedask.kernels.dense.nodes import NodeGrid
from wavedask.kernels.dense.noise import MOST_TAKEN
from wavedask.kernels.grids import interpolate
from wavedask.kernels.spline import Order, SplineFilters
from wavedask.kernels.uncertainty import MOST_NOISE

Floats = NDArray[np.float32]
Spectra = NDArray[np.complex64]

LEAST_GAIN: Final = 0.3
"""Smallest gain of a match over the true one that is corrected in full."""
LEAST_DATA: Final = 0.5
"""Part of a cell that must have data."""
PHASES: Final = 16
"""Fractions of a pixel at which the response of a displaced spline is tabulated."""
LEAST_COLOUR: Final = np.float32(1e-2)
"""Rounding may leave less where noise and pattern have no frequency in common."""
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


def filters_of(
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


def mean_of(spectra: Floats, share: Floats) -> Floats:
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
        least = (1 - MOST_NOISE) * mean_of(seen * part, share)
        spectra.append(pattern * part / np.maximum(mean_of(pattern * part, share), least))
    return spectra


def taken_by_fit(
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


def effects_of(
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
        Factor of the mean product of two spectra of the noise; 1 for spectra without chance.

    Returns
    -------
    ndarray of float32, shape (7, cell rows, cell columns)
    """
    shape = noise / mean_of(noise, share)
    # In a window, noise and gradient meet at lags shorter than its side only.
    both = _windowed(shape * (1 + passed), window)
    filtered = shape * passed
    gradients = [mean_of(shape * part, share) for part in steep]
    parts = [mean_of(filtered, share), *gradients]
    parts += [
        np.maximum(mean_of(both * slopes, share), LEAST_COLOUR)
        for slopes in _patterns(in_sample, seen, steep, share)[:2]
    ]
    parts += [
        chance * mean_of(filtered * shape * part, share) / gradient
        for part, gradient in zip(steep, gradients, strict=True)
    ]
    return np.stack([part[..., 0, 0] for part in parts])


def without_blur(
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
    normal = np.einsum("abkl,jnkl->abjn", power_of(pattern), forms[:, None] * weighted)
    inverse = np.linalg.pinv(np.nan_to_num(normal), rcond=1e-10, hermitian=True)
    change = np.einsum("abjn,abn->abj", inverse, right)
    change[..., 0] -= right[..., 0] / normal[..., 0, 0]
    factor = np.einsum("abj,jkl->abkl", change, forms).astype(np.float32)
    power = power_of(residual - factor * pattern)
    before, after = (np.einsum("abkl,l->ab", part, share) for part in (power_of(residual), power))
    return power, after / before


def power_of(spectra: Spectra) -> Floats:
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
