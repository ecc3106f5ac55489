"""Zernike and Legendre modes of a surface: their values, their gradient, and their fit."""

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from numpy.polynomial import legendre

from wavedask.conventions import X, Y
from wavedask.errors import InputError
from wavedask.kernels.masking import filled
from wavedask.optics.correlated import Noise, regular_grid, residual_noise
from wavedask.optics.pieces import levels_left, numbered_pieces, solved

Floats = npt.NDArray[np.float64]
Basis = Literal["zernike", "legendre"]
BASES: Final = ("zernike", "legendre")

POINTS: Final = 100_000
"""Number of points whose modes are in memory at a time during a fit."""
CACHED: Final = 8192
"""Number of points that are evaluated at a time, so that they stay in the processor cache."""


class ModeFit(NamedTuple):
    """Modes of a surface.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (count,)
        In the unit of the surface.
    errors : ndarray of float64, shape (count,)
        Standard error of each; see `fit_modes`.
    residual : ndarray of float64
        Surface without the modes, in the shape of the surface; NaN where that is. With several
        pieces, each without its own level.
    covariance : ndarray of float64, shape (count, count)
        Covariance of the coefficients.
    """

    coefficients: Floats
    errors: Floats
    residual: Floats
    covariance: Floats


def mode_orders(basis: Basis, count: int) -> list[tuple[int, int]]:
    """Orders of the modes, in the order of their coefficients.

    Parameters
    ----------
    basis : "zernike" or "legendre"
        Zernike modes are in OSA/ANSI order (Z80.28), ``j = (n (n + 2) + m) / 2`` from zero.
        Legendre products are in order of total degree, then of decreasing degree in y. In both
        bases, 0 is piston, 1 is tilt in y, and 2 is tilt in x.
    count : int
        Number of modes.

    Returns
    -------
    list of (int, int)
        Zernike: radial order n and azimuthal frequency m, negative for the sine. Legendre:
        degrees in y and in x.

    Raises
    ------
    InputError
        An unknown basis or a count below 1.

    Examples
    --------
    >>> mode_orders("zernike", 6)
    [(0, 0), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2)]
    >>> mode_orders("legendre", 6)
    [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    """
    if basis not in BASES:
        raise InputError(f"basis is {basis!r}", f"Choose one of: {', '.join(BASES)}.")
    if count < 1:
        raise InputError(f"{count} modes", "Ask for one or more.")
    orders: list[tuple[int, int]] = []
    degree = 0
    while len(orders) < count:
        if basis == "zernike":
            orders += [(degree, m) for m in range(-degree, degree + 1, 2)]
        else:
            orders += [(degree - k, k) for k in range(degree + 1)]
        degree += 1
    return orders[:count]


def evaluate_modes(
    coefficients: npt.ArrayLike, y: npt.ArrayLike, x: npt.ArrayLike, *, basis: Basis
) -> Floats:
    """Evaluate a sum of modes.

    Every mode has a root mean square of 1, and every mode except piston has zero mean, over the
    unit disc (Zernike) or the square from -1 to 1 (Legendre). So a coefficient is the rms of its
    mode.

    Parameters
    ----------
    coefficients : array_like, shape (count,)
        Coefficients in the order of `mode_orders`.
    y, x : array_like or xarray.DataArray
        Positions in units of the radius or of half the side; they broadcast. Coordinates of a map,
        labelled ``y`` and ``x``, span the map.
    basis : "zernike" or "legendre"
        Kind of the modes.

    Returns
    -------
    ndarray of float64
        The surface, in the unit of the coefficients. Outside the disc or square the polynomials
        are continued.

    Raises
    ------
    InputError
        An unknown basis or no coefficients.

    Examples
    --------
    >>> defocus = [0, 0, 0, 0, 1]
    >>> print(evaluate_modes(defocus, 0.0, [0.0, 1.0], basis="zernike").round(3))
    [-1.732  1.732]
    """
    (surface,) = _summed(coefficients, y, x, basis=basis, derivatives=False)
    return np.asarray(surface)


def gradient_modes(
    coefficients: npt.ArrayLike, y: npt.ArrayLike, x: npt.ArrayLike, *, basis: Basis
) -> tuple[Floats, Floats]:
    """Evaluate the gradient (y, x) of a sum of modes.

    Parameters
    ----------
    coefficients, y, x, basis
        As in `evaluate_modes`.

    Returns
    -------
    (ndarray, ndarray)
        Derivatives along y and x, per unit of the radius or half side.

    Raises
    ------
    InputError
        An unknown basis or no coefficients.

    Examples
    --------
    >>> down, across = gradient_modes([0, 3.0], 0.2, 0.1, basis="zernike")
    >>> float(down), float(across)
    (6.0, 0.0)
    """
    down, across = _summed(coefficients, y, x, basis=basis, derivatives=True)
    return down, across


def fit_modes(
    surface: npt.ArrayLike,
    y: npt.ArrayLike,
    x: npt.ArrayLike,
    *,
    basis: Basis,
    count: int,
    weights: npt.ArrayLike | None = None,
) -> ModeFit:
    """Fit modes to a surface by least squares.

    All modes are fitted together, because they are not orthogonal over a pupil that is cut or has
    gaps. If the points with data of a map form separate pieces, each piece has a level of its own,
    which is fitted too: an integration does not know it.

    The errors follow from what the fit leaves of a map on a regular grid. Noise of an integrated
    wavefront is mostly in its large waves. The spectrum of the residual beyond the modes tells how
    much of it the modes hold. Where the spectrum is flat, and for scattered points, the noise is
    white, with the scatter of the residual. This takes a pupil several windows of the tracker wide,
    and counts figure beyond the modes as noise: if slopes are available, use `fit_wavefront`.

    Parameters
    ----------
    surface : array_like or xarray.DataArray
        Values; NaN, or masked by `numpy.ma`, where there are none. A labelled map is taken in the
        order (y, x).
    y, x : array_like or xarray.DataArray
        Positions in units of the radius or half the side; they broadcast with the surface, by their
        labels ``y`` and ``x`` where they have some. With Zernike modes, points outside the unit
        disc are not used.
    basis : "zernike" or "legendre"
        Kind of the modes.
    count : int
        Number of modes, in the order of `mode_orders`.
    weights : array_like, optional
        Weight of each point (1/variance), zero or more; by default all weights are equal. A weight
        that `numpy.ma` masks is zero. Where the noise is white, the errors are those that the
        weights say.

    Returns
    -------
    ModeFit

    Raises
    ------
    InputError
        Too few points, points that do not determine the modes, or negative weights.

    Examples
    --------
    >>> y, x = np.mgrid[-1:1:41j, -1:1:41j]
    >>> fit = fit_modes(2 + x**2 + y**2, y, x, basis="zernike", count=6)
    >>> print(fit.coefficients.round(3) + 0)
    [2.5   0.    0.    0.    0.289 0.   ]
    """
    mode_orders(basis, count)
    heights, rows, columns, wanted = (
        np.asarray(array, np.float64)
        for array in np.broadcast_arrays(
            *(filled(_in_order(part)) for part in (surface, y, x)),
            1.0 if weights is None else np.ma.filled(_in_order(weights), 0),
        )
    )
    if not np.all(wanted >= 0):
        raise InputError("weights are negative or NaN", "Give 1/variance, zero where unknown.")
    used = np.isfinite(heights) & np.isfinite(rows) & np.isfinite(columns) & (wanted > 0)
    if basis == "zernike":
        used &= rows**2 + columns**2 <= 1
    points = np.flatnonzero(used)
    if points.size < count:
        raise InputError(
            f"{count} modes for {points.size} points with data",
            "Ask for fewer modes, or scale y and x so that the pupil is the unit disc.",
        )

    def modes_at(block: npt.NDArray[np.intp]) -> Floats:
        return np.stack(
            [
                evaluate_modes(one, rows.flat[block], columns.flat[block], basis=basis)
                for one in np.eye(count)
            ]
        )

    pieces = numbered_pieces(used)
    sums = np.zeros((int(pieces.max()) + 1, count + 2))
    normal, right = np.zeros((count, count)), np.zeros(count)
    for block in _blocks(points):
        modes = modes_at(block)
        weighted = modes * wanted.flat[block]
        normal += weighted @ modes.T
        right += weighted @ heights.flat[block]
        columns_of = (*weighted, wanted.flat[block] * heights.flat[block], wanted.flat[block])
        for column, values in enumerate(columns_of):
            sums[:, column] += np.bincount(pieces.flat[block], values, len(sums))
    inverse, coefficients = solved(normal, right, sums)
    residual = np.full(heights.shape, np.nan)
    for block in _blocks(np.flatnonzero(np.isfinite(heights))):
        model = evaluate_modes(coefficients, rows.flat[block], columns.flat[block], basis=basis)
        residual.flat[block] = heights.flat[block] - model
    if len(sums) > 1:
        residual[used] -= levels_left(sums, coefficients)[pieces[used]]
    noise = _noise(residual, used, rows, columns, basis=basis, count=count, pieces=len(sums))
    if noise.surface is None:
        covariance = inverse * (noise.scatter if weights is None else 1.0)
    else:
        cells = np.zeros((count, noise.surface.pixels.size))
        for block in _blocks(points):
            weighted = modes_at(block) * wanted.flat[block]
            for mode, values in zip(cells, weighted, strict=True):
                mode += np.bincount(noise.surface.node.flat[block], values, mode.size)
        moved = inverse @ cells @ noise.surface.factor
        covariance = moved @ moved.T
    return ModeFit(coefficients, np.sqrt(np.diag(covariance)), residual, covariance)


def _noise(
    residual: Floats,
    used: npt.NDArray[np.bool_],
    y: Floats,
    x: Floats,
    *,
    basis: Basis,
    count: int,
    pieces: int,
) -> Noise:
    """Estimate the noise from the residual, which is white where the points are no map."""
    freedom = max(int(np.count_nonzero(used)) - count - pieces + 1, 1)
    grid = regular_grid(y, x)
    if grid is None:
        return Noise(float(np.square(residual[used]).sum()) / freedom, None)
    degrees = mode_orders(basis, count)[-1]
    degree = degrees[0] if basis == "zernike" else sum(degrees)
    return residual_noise(residual, used, grid, degree=degree, freedom=freedom)


@dataclass(frozen=True)
class ModalSurface:
    """A surface given by modes over a disc or square of known size.

    Outside, it has the value of the nearest point on the rim, because polynomials diverge there.

    Attributes
    ----------
    coefficients : tuple of float
        Coefficients in m, in the order of `mode_orders`; each is the rms of its mode.
    half_width : float
        Radius of the disc (Zernike) or half the side of the square (Legendre), m.
    basis : "zernike" or "legendre", default "zernike"
        Kind of the modes.

    Raises
    ------
    InputError
        No coefficients, an unknown basis, or a half width that is not above zero.

    Examples
    --------
    >>> coma = ModalSurface((0, 0, 0, 0, 0, 0, 0, 0, 1e-6), half_width=2e-4)
    >>> print(f"{float(coma(0.0, 2e-4)):.2e}")
    2.83e-06
    """

    coefficients: tuple[float, ...]
    half_width: float
    basis: Basis = "zernike"

    def __post_init__(self) -> None:
        mode_orders(self.basis, len(self.coefficients))
        if not self.half_width > 0:
            raise InputError(f"half_width is {self.half_width} m", "It must be above zero.")

    def __call__(self, y: Any, x: Any) -> Floats:
        """Height in m at ``(y, x)`` in m from the middle; arrays that broadcast."""
        rows, columns, _ = self._nearest(y, x)
        return evaluate_modes(self.coefficients, rows, columns, basis=self.basis)

    def gradient(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Gradient (y, x), dimensionless, at ``(y, x)`` in m from the middle."""
        rows, columns, stretch = self._nearest(y, x)
        down, across = gradient_modes(self.coefficients, rows, columns, basis=self.basis)
        if self.basis == "zernike":
            # Beyond the rim the surface changes only along the rim, by less with the distance.
            outside = stretch > 1
            radial = np.where(outside, rows * down + columns * across, 0.0)
            down, across = (down - radial * rows) / stretch, (across - radial * columns) / stretch
        else:
            down = np.where(np.abs(np.asarray(y)) > self.half_width, 0.0, down)
            across = np.where(np.abs(np.asarray(x)) > self.half_width, 0.0, across)
        return down / self.half_width, across / self.half_width

    def _nearest(self, y: Any, x: Any) -> tuple[Floats, Floats, Floats]:
        """Scaled coordinates of the nearest point inside, and the radius where it is above 1."""
        rows, columns = np.broadcast_arrays(
            np.asarray(y, np.float64) / self.half_width, np.asarray(x, np.float64) / self.half_width
        )
        if self.basis == "legendre":
            return np.clip(rows, -1, 1), np.clip(columns, -1, 1), np.ones(rows.shape)
        stretch = np.maximum(np.hypot(rows, columns), 1.0)
        return rows / stretch, columns / stretch, stretch


def _in_order(values: Any) -> Any:
    """Bring labelled values to the order (y, x); others stay as they are."""
    if not isinstance(values, xr.DataArray):
        return values
    if set(values.dims) - {Y, X}:
        raise InputError(
            f"a map of modes has the dimensions {values.dims}",
            f"Give one map ({Y}, {X}): select a frame.",
        )
    ordered = values.transpose(Y, X, missing_dims="ignore").to_numpy()
    return ordered[:, np.newaxis] if values.dims == (Y,) else ordered


def _blocks(points: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    return [points[start : start + POINTS] for start in range(0, points.size, POINTS)]


def _summed(
    coefficients: npt.ArrayLike,
    y: npt.ArrayLike,
    x: npt.ArrayLike,
    *,
    basis: Basis,
    derivatives: bool,
) -> Floats:
    """Sum of modes, shape (1, ...), or its derivatives along y and x, shape (2, ...)."""
    given = np.atleast_1d(np.asarray(coefficients, np.float64))
    orders = mode_orders(basis, given.size)
    rows, columns = np.broadcast_arrays(
        *(np.asarray(_in_order(part), np.float64) for part in (y, x))
    )
    flat_y, flat_x = rows.ravel(), columns.ravel()
    sums = np.empty((2 if derivatives else 1, flat_y.size))
    summed = _zernike if basis == "zernike" else _legendre
    for start in range(0, flat_y.size, CACHED):
        block = slice(start, start + CACHED)
        sums[:, block] = summed(orders, given, flat_y[block], flat_x[block], derivatives)
    return sums.reshape(-1, *rows.shape)


def _zernike(
    orders: list[tuple[int, int]], coefficients: Floats, y: Floats, x: Floats, derivatives: bool
) -> list[Floats]:
    """Sum of Zernike modes or its derivatives, without dividing by the radius.

    ``R_n^m(r) = r^m P_k(2 r^2 - 1)`` with ``k = (n - m) / 2`` and the Jacobi polynomial P of
    parameters (0, m) (Born & Wolf, Principles of Optics, 9.2.1), and ``r^m exp(i m phi)`` is the
    power m of x + iy.
    """
    series: dict[int, dict[int, complex]] = {}
    for (n, m), coefficient in zip(orders, coefficients, strict=True):
        if coefficient:
            norm = np.sqrt((n + 1) * (1 if m == 0 else 2))
            # The real part of (a - ib) (x + iy)^m is r^m (a cos m phi + b sin m phi).
            term = coefficient * norm * (-1j if m < 0 else 1)
            by_degree = series.setdefault(abs(m), {})
            degree = (n - abs(m)) // 2
            by_degree[degree] = by_degree.get(degree, 0) + term
    argument = 2 * (x**2 + y**2) - 1
    place = x + 1j * y
    value, down, across = np.zeros((3, y.size))
    power, lower = np.ones(y.size, np.complex128), np.zeros(y.size, np.complex128)
    for m in range(max(series, default=-1) + 1):
        if m:
            power, lower = power * place, power
        if m not in series:
            continue
        radial, rising = _jacobi_sum(m, series[m], argument)
        if derivatives:
            bent = 4 * (rising * power).real
            turned = m * radial * lower
            down += bent * y - turned.imag
            across += bent * x + turned.real
        else:
            value += (radial * power).real
    return [down, across] if derivatives else [value]


def _jacobi_sum(
    m: int, series: dict[int, complex], argument: Floats
) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Sum of Jacobi polynomials of parameters (0, m), by degree, and its derivative."""
    before, slope_before, slope = np.zeros((3, argument.size))
    value = np.ones(argument.size)
    total = np.full(argument.size, series.get(0, 0), np.complex128)
    rising = np.zeros(argument.size, np.complex128)
    for k in range(1, max(series) + 1):
        if k == 1:
            gain, shift, back = (m + 2) / 2, -m / 2, 0.0
        else:
            # Three-term recurrence (Abramowitz & Stegun, 22.7.1).
            scale = 2 * k * (k + m) * (2 * k + m - 2)
            gain = (2 * k + m - 1) * (2 * k + m) * (2 * k + m - 2) / scale
            shift = -(2 * k + m - 1) * m**2 / scale
            back = 2 * (k - 1) * (k + m - 1) * (2 * k + m) / scale
        linear = gain * argument + shift
        slope_before, slope = slope, linear * slope + gain * value - back * slope_before
        before, value = value, linear * value - back * before
        if k in series:
            total += series[k] * value
            rising += series[k] * slope
    return total, rising


def _legendre(
    orders: list[tuple[int, int]], coefficients: Floats, y: Floats, x: Floats, derivatives: bool
) -> list[Floats]:
    """Sum of Legendre products or its derivatives."""
    table = np.zeros((max(i + k for i, k in orders) + 1,) * 2)
    for (i, k), coefficient in zip(orders, coefficients, strict=True):
        table[i, k] = coefficient * np.sqrt((2 * i + 1) * (2 * k + 1))
    tables = [legendre.legder(table, axis=axis) for axis in (0, 1)] if derivatives else [table]
    return [np.asarray(legendre.legval2d(y, x, one), np.float64) for one in tables]
