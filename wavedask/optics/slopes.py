"""Modes fitted to the slopes of one map: no integration stands between, and no level of a piece."""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from wavedask.errors import InputError
from wavedask.kernels.surface import AREA
from wavedask.optics.modes import POINTS, Basis, gradient_modes
from wavedask.optics.pieces import WORST_CONDITION

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CELLS_PER_WINDOW: Final = 4
"""Cells along a window in which noise is summed up for the covariance."""
LEAST_BLOCKS: Final = 40
"""Blocks from whose means noise of large waves is estimated."""
LEAST_VARIANCE: Final = 1e-6
"""No slope counts more than one whose variance is this part of the mean one."""


class SlopeFit(NamedTuple):
    """Modes of a wavefront from its slopes.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (count - 1,)
        Of the modes after piston, in the unit of the slopes times that of the half width.
    covariance : ndarray of float64, shape (count - 1, count - 1)
    """

    coefficients: Floats
    covariance: Floats


def fit_slopes(
    slope_y: Floats,
    slope_x: Floats,
    *,
    y: Floats,
    x: Floats,
    half_width: float,
    basis: Basis,
    count: int,
    sigma: tuple[Floats, Floats] | None = None,
    window: float = 1.0,
) -> SlopeFit:
    """Fit the gradients of modes to slopes, by least squares weighted with their errors.

    Errors have the spectrum of the tracker: flat, of the density ``AREA * window^2`` variances, up
    to its low-pass. For modes that are smooth on that scale, weights of one over the variance are
    those of generalised least squares; the covariance counts the low-pass at the rim, too.

    Parameters
    ----------
    slope_y, slope_x : ndarray of float64, shape (y, x)
        NaN where there are none.
    y, x : ndarray of float64, shapes (y,) and (x,)
        Positions in units of the half width.
    half_width : float
        In m, for slopes in rad and coefficients in m.
    basis, count
        As of `fit_modes`; the first mode, piston, has no slope.
    sigma : (ndarray, ndarray), optional
        Standard errors of the slopes; without them the noise is estimated from what is left.
    window : float
        Side in pixels of the window within which errors are one.

    Returns
    -------
    SlopeFit

    Raises
    ------
    InputError
        Too few slopes, or slopes that do not tell the modes apart.
    """
    valid = np.isfinite(slope_y) & np.isfinite(slope_x)
    if sigma is not None:
        valid &= np.isfinite(sigma[0]) & np.isfinite(sigma[1])
    if basis == "zernike":
        valid &= y[:, None] ** 2 + x**2 <= 1
    pixels = int(np.count_nonzero(valid))
    if pixels < count:
        raise InputError(
            f"{count} modes for {pixels} points with slopes",
            "Ask for fewer modes, or give center and half_width of the pupil in m.",
        )
    weights = [
        valid.astype(np.float64) if sigma is None else _weights(part, valid)
        for part in sigma or (slope_y, slope_x)
    ]
    points = np.flatnonzero(valid)
    rows, columns = (part.ravel()[points] for part in np.broadcast_arrays(y[:, None], x))
    slopes = np.stack([slope_y.flat[points], slope_x.flat[points]])
    counts = np.stack([weight.flat[points] for weight in weights])
    normal, right = np.zeros((count - 1, count - 1)), np.zeros(count - 1)

    def gradients(block: slice) -> Floats:
        """Slopes of the modes, shape (2, count - 1, points)."""
        parts = [
            gradient_modes(one, rows[block], columns[block], basis=basis)
            for one in np.eye(count)[1:]
        ]
        return np.asarray(np.stack(parts, axis=1) / half_width)

    blocks = [slice(start, start + POINTS) for start in range(0, pixels, POINTS)]
    for block in blocks:
        for modes, slope, weight in zip(
            gradients(block), slopes[:, block], counts[:, block], strict=True
        ):
            weighted = modes * weight
            normal += weighted @ modes.T
            right += weighted @ slope
    if np.linalg.cond(normal) > WORST_CONDITION:
        raise InputError(
            f"{pixels} points with slopes do not tell {count} modes apart",
            "Ask for fewer modes, or give center and half_width of the pupil in m.",
        )
    inverse = np.asarray(np.linalg.inv(normal), np.float64)
    coefficients = np.asarray(inverse @ right, np.float64)
    density = np.ones((2, *valid.shape))
    if sigma is not None:
        density = np.square(np.where(valid, sigma, 0.0)) * max(AREA * window**2, 1.0)
    else:
        left = np.zeros((2, *valid.shape))
        for block in blocks:
            model = np.einsum("m,amp->ap", coefficients, gradients(block))
            left.reshape(2, -1)[:, points[block]] = slopes[:, block] - model
        density *= sum(_long_variance(part, valid.astype(np.float64)) for part in left) / 2
    # What independent sources of unit density push the sums of the modes, cell by cell.
    side = max(1, int(window) // CELLS_PER_WINDOW)
    cell_rows, cell_columns = (-(-size // side) for size in valid.shape)
    row, column = np.unravel_index(points, valid.shape)
    cell = row // side * cell_columns + column // side
    pushed = np.zeros((2, count - 1, cell_rows * cell_columns))
    strength = counts * np.sqrt(density.reshape(2, -1)[:, points])
    for block in blocks:
        values = gradients(block) * strength[:, None, block]
        for axis, mode in np.ndindex(2, count - 1):
            pushed[axis, mode] += np.bincount(
                cell[block], values[axis, mode], cell_rows * cell_columns
            )
    middle = np.zeros_like(normal)
    for part in pushed:
        # The density is that of pixels, and a cell has more of them.
        middle += _passed(part.reshape(-1, cell_rows, cell_columns), window / side) / side**2
    return SlopeFit(coefficients, inverse @ middle @ inverse)


def _passed(pushed: Floats, window: float) -> Floats:
    """Sum products of maps, shape (modes, y, x), over the frequencies that a tracker passes.

    White noise of unit density that a low-pass with sides of `window` cells has passed, multiplied
    with the maps and summed up: the covariance of the sums.
    """
    if window <= 1:
        flat = pushed.reshape(len(pushed), -1)
        return np.asarray(flat @ flat.T)
    # Wider by a window, lest the noise of one side come round to the other.
    shape = tuple(scipy.fft.next_fast_len(size + int(window) + 1) for size in pushed.shape[1:])
    frequency = np.hypot(scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.fftfreq(shape[1]))
    inside = frequency < 1 / (math.sqrt(math.pi * AREA) * window)
    spectra = np.stack([scipy.fft.fft2(one, shape, workers=1)[inside] for one in pushed])
    return np.asarray((spectra @ spectra.conj().T).real / math.prod(shape))


def _weights(sigma: Floats, valid: Mask) -> Floats:
    """Inverse variances, zero where there are no data."""
    square = np.square(np.where(valid, sigma, 0.0))
    least = LEAST_VARIANCE * float(square[valid].mean()) or 1.0
    return np.where(valid, 1 / np.maximum(square, least), 0.0)


def _doubled(values: Floats) -> Floats:
    """Sum over squares of two by two; those at the far end may be cut."""
    rows, columns = (np.arange(0, size, 2) for size in values.shape)
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1))


def _long_variance(sums: Floats, count: Floats) -> float:
    """Spectral density of noise at low frequencies, from sums over pixels and their number.

    Of independent values it is their variance; of correlated ones it is as much larger as they are
    fewer. Blocks are doubled as long as there are enough of them, and the largest counts.
    """
    largest = 0.0
    while True:
        full = count > count.max() / 2
        if np.count_nonzero(full) < LEAST_BLOCKS:
            return largest
        largest = max(largest, float((sums[full] ** 2 / count[full]).mean()))
        sums, count = _doubled(sums), _doubled(count)
