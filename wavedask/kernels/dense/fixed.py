"""What stays with the detector: a pattern common to both images pulls the displacement to zero.

The noise of a flat field, dust, or a gain that was not corrected is the same in sample and
reference at the same pixel, while the speckle has moved by u. The match takes the displaced
reference out of the sample. With N the spectrum of the noise of the reference, F that of the part
of it that the sample has, too, and T the response of a displacement by u, the cross-spectrum of
what is left with the reference is

    C = F - T N.

Speckle that the match explains has no part in it. A fit of ``F = f P`` and ``N = n P`` to C gives f
and n, where P is the spectrum that the noise has by what is left: mostly from frequencies beyond
those of the grains, where C is least uncertain. Where u is zero, T is one, and f and n cannot be
told apart; but there the pull is zero, too. It is

    H^-1 sum F G Im T,    about -u times the part that F has in the gradients,

with G the response of the gradient filter and H the covariance of the gradient, and is taken out of
the displacement. Cells are those in which the noise is measured; a node takes the mean of those
nearby, so that a tile with its halo gives what the frame gives.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.interpolate import BSpline

from wavedask.kernels.dense.cells import Cells
from wavedask.kernels.dense.nodes import NodeGrid
from wavedask.kernels.jit import JIT, njit
from wavedask.kernels.spline import Order, SplineFilters

Floats = NDArray[np.float32]
Complex = NDArray[np.complex64]
Lags = tuple[int, int]

PHASES: Final = 16
"""Fractions of a pixel at which the response of a displaced spline is tabulated."""
SMOOTH: Final = 5
"""Frequencies along each axis over which the power spectra are averaged."""
MODES: Final = 0.265
"""Part of the frequencies that are independent, for the taper mixes neighbours."""
SIGNIFICANT: Final = 3.0
"""Standard errors from which a fixed pattern is believed."""
NEARLY_ALL: Final = 0.98
"""Part of the noise that the fixed pattern may be."""
ROUNDS: Final = 3
"""Times that the spectrum of the noise is found from the share of the fixed pattern."""
LEAST_TOLD: Final = 1e-6
"""Sine, squared, of the angle between the responses of fixed pattern and noise, at least."""
REACH: Final = 60.0
"""Pixels along each axis from the centre of a cell to where it counts no more."""
FARTHEST: Final = 8.0
"""Displacement in pixels from which nothing that stays in place can pull."""


@dataclass(frozen=True, slots=True)
class FixedPattern:
    """What stays with the detector, in the cells.

    Attributes
    ----------
    share : ndarray of float32, shape (cell rows, cell columns)
        Part of the noise of an image that both images have in common, as far as it is believed.
    error : ndarray of float32, shape (cell rows, cell columns)
        Its standard error; NaN where nothing could be measured.
    power : ndarray of float32, shape (cell rows, cell columns, rows, columns // 2 + 1)
        Spectrum of the noise of an image, whose mean is the variance.
    """

    share: Floats
    error: Floats
    power: Floats

    @property
    def found(self) -> bool:
        """Whether there is any."""
        return bool((self.share > 0).any())


@dataclass(frozen=True, slots=True)
class Pull:
    """What a fixed pattern does at the nodes, along y and x, per pixel.

    The unit is that of the normalised sample, squared.

    Attributes
    ----------
    force, error : ndarray of float32, shape (2, node rows, node columns)
        What it adds to the covariance of the match with the gradient, and the standard error.
    gradient : ndarray of float32, shape (2, node rows, node columns)
        Variance that the noise, with the fixed pattern, has in the gradient.
    """

    force: Floats
    error: Floats
    gradient: Floats


@lru_cache(maxsize=8)
def _displaced(order: Order, size: int) -> Complex:
    """Responses of splines displaced by 0 to 1 px, shape (PHASES + 1, size)."""
    angle = _angles(size)
    side = SplineFilters.of_order(order).prefilter.astype(np.float64)
    prefilter = side[0] + 2 * np.cos(np.outer(angle, np.arange(1, side.size))) @ side[1:]
    half = (order + 1) // 2
    basis = BSpline.basis_element(np.arange(order + 2) - half, extrapolate=False)
    pixels = np.arange(-half, half + 2)
    parts = np.linspace(0, 1, PHASES + 1)
    weights = np.nan_to_num(basis(pixels - parts[:, None]))
    return np.asarray(prefilter * (weights @ np.exp(-1j * np.outer(pixels, angle))), np.complex64)


def _angles(size: int) -> NDArray[np.float64]:
    return np.asarray(2 * np.pi * np.fft.fftfreq(size))


def _axis_responses(order: Order, size: int, displacement: Floats) -> Complex:
    """Responses along one axis to displacements in pixels, in a last axis of that size."""
    whole = np.floor(displacement)
    part = np.rint((displacement - whole) * PHASES).astype(np.intp)
    turned = np.exp(-1j * whole[..., None] * _angles(size))
    return np.asarray(_displaced(order, size)[part] * turned, np.complex64)


def responses(
    u: tuple[Floats, Floats], grid: NodeGrid, cells: tuple[Cells, Cells], order: Order
) -> Complex:
    """Mean response of the displacement in each cell, from four of its nodes."""
    nodes = np.ix_(*(nodes_in(part, grid, axis) for axis, part in enumerate(cells)))
    down, across = (
        _axis_responses(order, part.size, component[nodes].reshape(cells[0].count, 2, -1, 2))
        for part, component in zip(cells, u, strict=True)
    )
    half = across[..., : cells[1].size // 2 + 1]
    # A product with few terms: no BLAS, whose threads would change the last bits.
    return np.asarray(np.einsum("iajbk,iajbl->ijkl", down, half) / 4)


def nodes_in(cells: Cells, grid: NodeGrid, axis: int) -> NDArray[np.intp]:
    """Two nodes a cell, a quarter of its side from its ends."""
    quarter = cells.size // 4
    pixels = (cells.centres[:, None] + np.array([-quarter, quarter])).ravel()
    nodes = np.rint((pixels - grid.first[axis]) / grid.step).astype(np.intp)
    return np.asarray(np.clip(nodes, 0, grid.nodes[axis] - 1), np.intp)


def fixed_pattern(
    left: Complex,
    there: Complex,
    weights: Floats,
    u: tuple[Floats, Floats],
    gain: Floats,
    grid: NodeGrid,
    cells: tuple[Cells, Cells],
    *,
    order: Order,
    shift: Lags,
) -> FixedPattern | None:
    """Find what both images have in common at the same pixels of the detector.

    Parameters
    ----------
    left, there : ndarray of complex64
        Spectra of the cells, as of `spectra_of`: of what the match leaves of the samples, and of
        the references.
    weights : ndarray of float32, shape (images, cell rows, cell columns, rows, columns)
        Weights of the pixels of the cells.
    u : (ndarray, ndarray)
        Displacement (y, x) at the nodes, in pixels.
    gain : ndarray of float32, shape (node rows, node columns)
        By which the match multiplies the references.
    grid : NodeGrid
        The nodes.
    cells : (Cells, Cells)
        The cells along y and x.
    order : 3 or 5
        Of the splines.
    shift : (int, int)
        Pixels (y, x) by which the references were moved before.

    Returns
    -------
    FixedPattern or None
        None where the displacement is so large everywhere that nothing could pull.
    """
    nodes = np.ix_(*(nodes_in(part, grid, axis) for axis, part in enumerate(cells)))
    total = [np.abs(part[nodes] + by).min() for part, by in zip(u, shift, strict=True)]
    if max(total) > FARTHEST:
        return None
    shape = cells[0].count, 2, cells[1].count, 2
    factor = gain[nodes].reshape(shape).mean(axis=(1, 3))[..., None, None]
    norm = np.maximum(tapered_pixels(weights), 1)
    power = smoothed(np.square(np.abs(left)).sum(axis=0)) / norm
    reference = smoothed(np.square(np.abs(there)).sum(axis=0)) / norm * factor**2
    cross = (left * there.conj()).sum(axis=0) / norm * factor
    moved = responses(u, grid, cells, order)
    kept = np.exp(
        1j
        * np.add.outer(
            shift[0] * _angles(cells[0].size),
            shift[1] * _angles(cells[1].size)[: cells[1].size // 2 + 1],
        )
    ).astype(np.complex64)
    weight = cells[1].share / np.float32(len(weights))
    images = power, reference, cross, moved
    flat = [image.reshape(-1, *image.shape[2:]) for image in images]
    part = np.zeros(len(flat[0]), np.float32)
    sums = np.empty((len(part), 8))
    _add_up(*flat, kept, weight, part, np.arange(len(part)), sums)
    share, whole, error = _solution(sums)
    for _ in range(ROUNDS):
        found = np.flatnonzero(share > SIGNIFICANT * error)
        if not found.size:
            break
        # What of the noise is common partly cancels in what is left.
        part[found] = np.clip(share[found] / np.maximum(whole[found], share[found]), 0, NEARLY_ALL)
        _add_up(*flat, kept, weight, part, found, sums)
        share, whole, error = _solution(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        believed = 1 - (SIGNIFICANT * error / share) ** 4
    share = np.where((share > 0) & (believed > 0), share * believed, 0).astype(np.float32)
    both, passed = (kept.conj() * moved).real, np.square(np.abs(moved))
    shape = power.shape[:2]
    cancelled = 2 * part.reshape(*shape, 1, 1) * both
    return FixedPattern(
        share.astype(np.float32).reshape(shape),
        error.reshape(shape).astype(np.float32),
        (power / (1 + passed - cancelled)).astype(np.float32),
    )


@njit(**JIT)  # type: ignore[untyped-decorator]
def _add_up(
    power: Floats,
    reference: Floats,
    cross: Complex,
    moved: Complex,
    kept: Complex,
    weight: Floats,
    part: Floats,
    which: NDArray[np.intp],
    out: NDArray[np.float64],
) -> None:
    """Add up what a fit of ``(f kept - n moved) noise`` to the cross-spectra of some cells needs.

    Of the two unknowns: squares and product, the right side, and its variances and covariance.
    """
    for cell in which:
        sums = np.zeros(8, np.float64)
        for k in range(power.shape[1]):
            for m in range(power.shape[2]):
                inverse = 1 / reference[cell, k, m]
                here, there = kept[k, m], moved[cell, k, m]
                both = here.real * there.real + here.imag * there.imag
                passed = there.real * there.real + there.imag * there.imag
                left = power[cell, k, m]
                noise = left / (1 + passed - 2 * part[cell] * both)
                scale = noise * inverse
                seen = cross[cell, k, m] * inverse
                square = weight[m] * scale * scale
                # The variance of a frequency is that of two independent images.
                spread = square * weight[m] * left * inverse / (2 * MODES)
                sums[0] += square
                sums[1] -= square * both
                sums[2] += square * passed
                sums[3] += weight[m] * scale * (here.real * seen.real + here.imag * seen.imag)
                sums[4] -= weight[m] * scale * (there.real * seen.real + there.imag * seen.imag)
                sums[5] += spread
                sums[6] -= spread * both
                sums[7] += spread * passed
        out[cell] = sums


def _solution(
    sums: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Solve for f and n in all cells: f, n, and the error of f, NaN where nothing can be told."""
    a, b, c, p, q, v, x, z = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = a * c - b * b
        share, whole = (c * p - b * q) / determinant, (a * q - b * p) / determinant
        variance = (c * c * v - 2 * b * c * x + b * b * z) / determinant**2
    known = np.isfinite(share) & np.isfinite(variance) & (determinant > LEAST_TOLD * a * c)
    return (
        np.where(known, share, 0),
        np.where(known, whole, 1),
        np.where(known, np.sqrt(np.maximum(variance, 0)), np.nan),
    )


def tapered_pixels(weights: Floats) -> Floats:
    """Sum of the squared taper over the pixels of each cell that have data, of all images."""
    taper = np.outer(*(np.hanning(size + 2)[1:-1] for size in weights.shape[-2:])) ** 2
    total = np.einsum("nijkl,kl->ij", weights, taper.astype(np.float32))
    return np.asarray(total, np.float32)[..., None, None]


def smoothed(power: Floats) -> Floats:
    """Average power spectra over neighbouring frequencies."""
    along = ndimage.uniform_filter1d(power, SMOOTH, axis=-2, mode="wrap")
    return np.asarray(ndimage.uniform_filter1d(along, SMOOTH, axis=-1, mode="reflect"), np.float32)


def pull_of(
    pattern: FixedPattern,
    u: tuple[Floats, Floats],
    grid: NodeGrid,
    cells: tuple[Cells, Cells],
    *,
    order: Order,
    shift: Lags,
) -> Pull:
    """Compute what a fixed pattern adds to the covariances of the match with the gradient.

    Parameters
    ----------
    pattern : FixedPattern
        In the cells.
    u : (ndarray, ndarray)
        Displacement (y, x) at the nodes, in pixels.
    grid, cells, order, shift
        As in `fixed_pattern`.

    Returns
    -------
    Pull
    """
    slopes = SplineFilters.of_order(order).gradient.astype(np.float64)
    lines = [grid.coordinates(axis) for axis in (0, 1)]
    pull, error, noise = np.zeros((3, 2, *grid.nodes), np.float32)
    covered = np.full(grid.nodes, 1e-6, np.float32)
    for i, j in np.argwhere(np.isfinite(pattern.error)):
        weights, parts = [], []
        for k, part, line in zip((i, j), cells, lines, strict=True):
            inside = np.clip(line, part.centres[0], part.centres[-1])
            weight = np.maximum(1 - np.abs(inside - part.centres[k]) / REACH, 0)
            near = np.flatnonzero(weight)
            parts.append(slice(near[0], near[-1] + 1))
            weights.append(weight[parts[-1]])
        nodes = parts[0], parts[1]
        weight = np.outer(*weights).astype(np.float32)
        covered[nodes] += weight
        if not pattern.share[i, j]:
            continue
        lags = [part[nodes] + by for part, by in zip(u, shift, strict=True)]
        size = cells[0].size, cells[1].size
        correlation = fft.irfft2(pattern.power[i, j], s=size, workers=1)
        for axis in (0, 1):
            sloped = _sloped(correlation, slopes, axis)
            at = _between(sloped, lags, order)
            pull[axis][nodes] += weight * pattern.share[i, j] * at
            error[axis][nodes] += weight * pattern.error[i, j] * np.abs(at)
            noise[axis][nodes] -= weight * _sloped(sloped, slopes, axis)[0, 0]
    return Pull(pull / covered, error / covered, noise / covered)


def _sloped(values: Floats, taps: NDArray[np.float64], axis: int) -> Floats:
    """Correlate periodic values with the antisymmetric filter of the gradient."""
    total = np.zeros(values.shape)
    for k, tap in enumerate(taps[1:], start=1):
        total += tap * (np.roll(values, -k, axis) - np.roll(values, k, axis))
    return total.astype(np.float32)


def _between(table: Floats, lags: list[Floats], order: Order) -> Floats:
    """Interpolate a periodic table at lags in pixels, zero beyond those that pull."""
    values = ndimage.map_coordinates(table, np.stack(lags), order=order, mode="grid-wrap")
    return np.where(np.maximum(*np.abs(lags)) < FARTHEST, values, 0).astype(np.float32)
