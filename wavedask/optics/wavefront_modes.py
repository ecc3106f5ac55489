"""Zernike or Legendre modes of a wavefront, from its slopes, with their covariance."""

import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    COEFFICIENT,
    COEFFICIENT_COVARIANCE,
    COEFFICIENT_UNCERTAINTY,
    METRE,
    MODE_DEGREE,
    MODE_MIX,
    MODE_NAME,
    MODE_NUMBER,
    MODE_ORDER,
    OTHER_MODE,
    RESIDUAL,
    RESIDUAL_RMS,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    WAVEFRONT,
    WINDOW,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.kernels.surface import mean_window
from wavedask.maps import MAP, Output, map_by_map
from wavedask.optics.mode_names import legendre_name, rim_value, zernike_name
from wavedask.optics.modes import Basis, evaluate_modes, gradient_modes, mode_orders
from wavedask.optics.pieces import numbered_pieces
from wavedask.optics.slopes import LEAST_CELLS, POINTS, Slopes
from wavedask.optics.surface import check_axes, check_values, surface_of
from wavedask.units import relabelled

Floats = npt.NDArray[np.float64]

NEEDED: Final = (WAVEFRONT, SLOPE_Y, SLOPE_X)
STATED: Final = (SLOPE_UNCERTAINTY_Y, SLOPE_UNCERTAINTY_X, WINDOW)
ROUNDING: Final = 1e-9
"""Part of the half width by which a point on the rim may lie outside."""
NUMBERS: Final = "number"
"""Dimension of what a map is fitted with, on its way out of a block."""
BASIS: Final = "basis"
"""Attribute: kind of the modes."""
CENTER: Final = "center"
"""Attribute: middle (y, x) of the disc or square of the modes, m."""
HALF_WIDTH: Final = "half_width"
"""Attribute: radius of the disc or half the side of the square, m; along (y, x) if they differ."""

INDEX: Final = "index"
"""Attribute: by what the modes are numbered."""
CELLS_PER_ORDER: Final = 16
"""Cells along a pupil for each degree of the modes."""

logger = logging.getLogger("wavedask")


@dataclass(frozen=True)
class Modes:
    """Modes to fit.

    Attributes
    ----------
    basis : "zernike" or "legendre"
    orders : tuple of (int, int)
        Of each mode, without piston.
    numbers : tuple of int
        Their numbers.
    center, half : (float, float)
        Middle and half width (y, x) of the disc or rectangle, m.
    index : str
        By what they are numbered.
    mask : ndarray of bool, shape (y, x), optional
        Pupil.
    orthonormal : bool
        Whether they are made orthonormal over the pixels with data.
    """

    basis: Basis
    orders: tuple[tuple[int, int], ...]
    numbers: tuple[int, ...]
    center: tuple[float, float]
    half: tuple[float, float]
    index: str = "osa"
    mask: npt.NDArray[np.bool_] | None = None
    orthonormal: bool = False

    @property
    def degree(self) -> int:
        """Highest degree of the polynomials."""
        if self.basis == "zernike":
            return max(n for n, _ in self.orders)
        return max(i + k for i, k in self.orders)

    @property
    def names(self) -> list[str]:
        """Name each mode."""
        name = zernike_name if self.basis == "zernike" else legendre_name
        return [name(*order) for order in self.orders]

    @property
    def scales(self) -> list[float]:
        """Value of each mode at the rim, if coefficients refer to the rim; else 1, its rms."""
        if self.index == "fringe" and not self.orthonormal:
            return [1 / rim_value(*order) for order in self.orders]
        return [1.0] * len(self.orders)

    def inside(self, y: Floats, x: Floats) -> npt.NDArray[np.bool_]:
        """Points in the pupil; positions in half widths."""
        if self.basis == "zernike":
            within = y**2 + x**2 <= 1 + ROUNDING
        else:
            within = (np.abs(y) <= 1 + ROUNDING) & (np.abs(x) <= 1 + ROUNDING)
        return within if self.mask is None else within & self.mask

    def _places(self) -> tuple[list[int], int]:
        """Numbers of the modes in the order of `mode_orders`, and how many there are of these."""
        count = (self.degree + 1) * (self.degree + 2) // 2
        known = {order: number for number, order in enumerate(mode_orders(self.basis, count))}
        return [known[order] for order in self.orders], count

    def heights(self, coefficients: Floats, y: Floats, x: Floats) -> Floats:
        """Evaluate the sum of modes of unit rms."""
        places, count = self._places()
        plain = np.zeros(count)
        plain[places] = coefficients
        return evaluate_modes(plain, y, x, basis=self.basis)

    def slopes(self, coefficients: Floats, y: Floats, x: Floats) -> Floats:
        """Evaluate the gradient (y, x) of the sum of modes, shape (2, ...), per half width."""
        places, count = self._places()
        plain = np.zeros(count)
        plain[places] = coefficients
        return np.stack(gradient_modes(plain, y, x, basis=self.basis))

    def gradients(self, y: Floats, x: Floats) -> Floats:
        """Evaluate the gradient of each mode, shape (2, modes, points), per half width."""
        return np.stack([self.slopes(one, y, x) for one in np.eye(len(self.orders))], axis=1)

    def orthogonalised(self, y: Floats, x: Floats) -> Floats:
        """Cholesky factor of the mean products of the modes, without piston, over points."""
        unit = np.eye(len(self.orders))
        sums, products = np.zeros(len(unit)), np.zeros(unit.shape)
        for start in range(0, y.size, POINTS):
            block = slice(start, start + POINTS)
            values = np.stack([self.heights(one, y[block], x[block]) for one in unit])
            sums += values.sum(axis=1)
            products += values @ values.T
        # Without their means: orthogonal to piston.
        means = products / y.size - np.outer(sums, sums) / y.size**2
        return np.asarray(np.linalg.cholesky(means), np.float64)


def fit_wavefront(
    wf: xr.Dataset,
    *,
    count: int,
    basis: Basis = "zernike",
    center: tuple[float, float] | None = None,
    half_width: float | None = None,
) -> xr.Dataset:
    """Fit modes to the slopes of a wavefront; return coefficients with their covariance.

    The slopes are what was measured: fitted to them, modes need no integration, and the relative
    height of separate pieces of a pupil does not matter. Each slope counts by its standard error.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`, with ``slope_y``, ``slope_x``, ``wavefront`` and coordinates in m;
        their standard errors and ``window`` where it has them.
    count : int
        How many modes, in the order of `mode_orders`, with piston.
    basis : "zernike" or "legendre", default "zernike"
        Kind of the modes. With Zernike modes, slopes outside the disc are not used.
    center : (float, float), optional
        Middle (y, x) of the disc or square in m; by default that of the map.
    half_width : float, optional
        Radius of the disc or half the side of the square in m; by default half the shorter side of
        the map for a disc, half the longer side for a square.

    Returns
    -------
    xarray.Dataset
        Lazy if `wf` is. Along ``mode_number``, which counts from 1 as `mode_orders` does from 0,
        for piston has no slope:

        * ``coefficient``: rms that the mode adds to the wavefront, in m,
        * ``coefficient_uncertainty``: its standard error in m,
        * ``coefficient_covariance``: along ``mode_number`` and ``other_mode``, in m2,
        * ``mode_degree``, ``mode_order``: coordinates that name the mode (n and m of Zernike,
          degrees in y and x of Legendre),

        and ``residual``, the wavefront without them, of zero mean on each piece, and
        ``residual_rms``, both in m.

        A frame with too few slopes is NaN, and a warning is logged.

    Raises
    ------
    InputError
        If slopes, wavefront or coordinates are missing, or an argument is out of its range.

    Notes
    -----
    Errors of the slopes have the spectrum of the tracker, white up to its low-pass, and the
    covariance counts them so. Figure beyond the modes is no noise, and does not enter it: ask for
    enough modes. Without standard errors of the slopes, the noise is estimated from what the modes
    leave of them, and such figure counts as noise.

    Examples
    --------
    >>> y, x = np.mgrid[-1e-3:1e-3:41j, -1e-3:1e-3:41j]
    >>> wf = xr.Dataset(
    ...     {
    ...         "wavefront": (("y", "x"), (y**2 + x**2) / 80.0),
    ...         "slope_y": (("y", "x"), y / 40.0),
    ...         "slope_x": (("y", "x"), x / 40.0),
    ...     },
    ...     {"y": y[:, 0], "x": x[0]},
    ... )
    >>> modes = fit_wavefront(wf, count=6)
    >>> print((1e9 * modes.coefficient.values).round(3) + 0)
    [0.    0.    0.    3.608 0.   ]
    """
    orders = mode_orders(basis, count)
    if count < 2:
        raise InputError(f"{count} modes", "Ask for two or more: piston has no slope.")
    check_wavefront(wf)
    y, x = (wf[dim].to_numpy().astype(np.float64) for dim in (Y, X))
    middle, width = _disc(y, x, basis, center, half_width)
    modes = Modes(basis, tuple(orders[1:]), tuple(range(1, count)), middle, (width, width))
    return fitted_modes(wf, modes).assign_attrs({HALF_WIDTH: width})


def fitted_modes(wf: xr.Dataset, modes: Modes, *, strict: bool = False) -> xr.Dataset:
    """Fit modes to the slopes of a wavefront.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`, which was checked.
    modes : Modes
    strict : bool
        Whether a single map that cannot be fitted is an error.

    Returns
    -------
    xarray.Dataset
        As of `fit_wavefront`.
    """
    places = {dim: wf[dim].to_numpy().astype(np.float64) for dim in (Y, X)}
    names = [*NEEDED, *(STATED if all(part.name in wf for part in STATED) else ())]
    arrays = [surface_of(wf, part.name) for part in names]
    count = len(modes.orders)
    numbers, residual = map_by_map(
        _fit_map,
        *arrays,
        settings={**places, "modes": modes, "strict": strict and arrays[0].ndim == 2},
        outputs=[Output((NUMBERS,)), Output(MAP, arrays[0].dtype)],
        sizes={NUMBERS: count + 2 * count**2 + 1},
    )
    residual = residual.assign_coords({dim: wf[dim] for dim in (Y, X)})
    return _labelled_fit(numbers, residual, modes, wf.attrs).assign_attrs(
        {
            BASIS: modes.basis,
            CENTER: list(modes.center),
            HALF_WIDTH: list(modes.half),
            INDEX: modes.index,
        }
    )


def check_wavefront(wf: xr.Dataset) -> None:
    """Refuse a dataset that is no result of `wavefront`, or whose coordinates are not in m."""
    missing = [part.name for part in NEEDED if part.name not in wf]
    if missing:
        raise InputError(
            f"wf has no {', '.join(missing)}; it has {', '.join(map(str, wf))}",
            "Give the result of wavefront.",
        )
    for dim in (Y, X):
        if dim not in wf.coords:
            raise InputError(f"wf has no coordinate {dim!r}", f"It needs one in {METRE}.")
        if wf.sizes[dim] < 2:
            raise InputError(f"wf has one pixel along {dim!r}", "Modes need at least two.")
    check_axes(wf)


def _disc(
    y: Floats,
    x: Floats,
    basis: Basis,
    center: tuple[float, float] | None,
    half_width: float | None,
) -> tuple[tuple[float, float], float]:
    """Middle and half width of the modes."""
    sides = float(np.ptp(y)), float(np.ptp(x))
    width = (min(sides) if basis == "zernike" else max(sides)) / 2
    if half_width is not None:
        width = float(half_width)
    if not 0 < width < 1e3:
        raise InputError(f"half_width is {width:g} m", "Give a length above zero, in m.")
    if center is None:
        return (float(y.max() + y.min()) / 2, float(x.max() + x.min()) / 2), width
    middle = np.asarray(center, np.float64)
    if middle.shape != (2,) or not np.isfinite(middle).all():
        raise InputError(f"center is {center!r}", "Give two numbers in m, along y and x.")
    return (float(middle[0]), float(middle[1])), width


def _fit_map(
    surface: npt.NDArray[Any],
    slope_y: npt.NDArray[Any],
    slope_x: npt.NDArray[Any],
    *stated: Any,
    y: Floats,
    x: Floats,
    modes: Modes,
    strict: bool,
) -> tuple[Floats, npt.NDArray[Any]]:
    """Fit one map: coefficients, covariance, mixture and rms in one row, and the residual."""
    slope_maps = [np.asarray(part, np.float64) for part in (slope_y, slope_x)]
    sigma, window = None, 1.0
    if stated:
        sigma = np.asarray(stated[0], np.float64), np.asarray(stated[1], np.float64)
        window = mean_window(stated[2], stated[0])
    down, across = (y - modes.center[0]) / modes.half[0], (x - modes.center[1]) / modes.half[1]
    inside = modes.inside(down[:, None], across)
    count = len(modes.orders)
    slopes = Slopes(
        *slope_maps,
        y=down,
        x=across,
        inside=inside,
        sigma=sigma,
        window=window,
        cells=max(LEAST_CELLS, CELLS_PER_ORDER * modes.degree),
    )

    def gradients(block: slice) -> Floats:
        parts = modes.gradients(slopes.y[block], slopes.x[block])
        return np.asarray(parts / np.reshape(modes.half, (2, 1, 1)))

    try:
        for name, part in zip((SLOPE_Y, SLOPE_X), slope_maps, strict=True):
            check_values(part, name.name)
        if slopes.y.size <= count:
            raise InputError(
                f"{count + 1} modes for {slopes.y.size} points with slopes",
                "Ask for fewer modes, or give center and half_width of the pupil in m.",
            )
        fit = slopes.fit(gradients, count)
    except InputError as error:
        if strict:
            raise
        logger.warning("fit_wavefront: a frame is not fitted: %s", error)
        return np.full(count + 2 * count**2 + 1, np.nan), np.full_like(surface, np.nan)
    rows, columns = np.meshgrid(down, across, indexing="ij")
    valid = np.isfinite(surface) & inside
    residual = np.full(surface.shape, np.nan)
    rms = np.nan
    if valid.any():
        model = modes.heights(fit.coefficients, rows[valid], columns[valid])
        left = np.asarray(surface, np.float64)[valid] - model
        piece = numbered_pieces(valid)[valid]
        left -= (np.bincount(piece, left) / np.bincount(piece))[piece]
        residual[valid] = left
        rms = float(np.sqrt(np.mean(np.square(left))))
    mixture, coefficients, covariance = np.eye(count), fit.coefficients, fit.covariance
    if modes.orthonormal:
        mixed = modes.orthogonalised(rows[slopes.valid], columns[slopes.valid])
        coefficients, covariance = mixed.T @ coefficients, mixed.T @ covariance @ mixed
        mixture = np.asarray(np.linalg.inv(mixed), np.float64)
    numbers = (coefficients, covariance.ravel(), mixture.ravel(), [rms])
    return np.concatenate(numbers), residual.astype(surface.dtype)


def _labelled_fit(
    numbers: xr.DataArray, residual: xr.DataArray, modes: Modes, attrs: dict[Any, Any]
) -> xr.Dataset:
    """Take the row of numbers of each map apart."""
    count = len(modes.orders)
    lead = tuple(str(dim) for dim in numbers.dims[:-1])
    others = {name: coord for name, coord in numbers.coords.items() if set(coord.dims) <= set(lead)}
    number = np.array(modes.numbers)
    orders = np.array(modes.orders)
    along, square_dims = (MODE_NUMBER.name,), (*lead, MODE_NUMBER.name, OTHER_MODE.name)
    names = {
        MODE_DEGREE.name: labelled(orders[:, 0], MODE_DEGREE, dims=along),
        MODE_ORDER.name: labelled(orders[:, 1], MODE_ORDER, dims=along),
        MODE_NAME.name: labelled(np.array(modes.names), MODE_NAME, dims=along),
        MODE_NUMBER.name: labelled(number, MODE_NUMBER, dims=along),
    }
    beside = {OTHER_MODE.name: labelled(number, OTHER_MODE, dims=(OTHER_MODE.name,))}
    # Coefficients of modes that are not of unit rms are multiples of it.
    scale = np.array(modes.scales)
    values = numbers.data[..., :count] / scale
    squares = [
        numbers.data[..., first : first + count**2].reshape(*numbers.shape[:-1], count, count)
        for first in (count, count + count**2)
    ]
    diagonal = count + (count + 1) * np.arange(count)
    errors = numbers.data[..., diagonal] ** 0.5 / scale
    dims = (*lead, *along)
    coords: dict[Any, Any] = {**others, **names}
    parts = [
        labelled(values, COEFFICIENT, dims=dims, coords=coords),
        labelled(errors, COEFFICIENT_UNCERTAINTY, dims=dims, coords=coords),
        labelled(
            squares[0] / np.outer(scale, scale),
            COEFFICIENT_COVARIANCE,
            dims=square_dims,
            coords={**coords, **beside},
        ),
    ]
    if modes.orthonormal:
        parts.append(labelled(squares[1], MODE_MIX, dims=square_dims, coords={**coords, **beside}))
    rms = relabelled(numbers.isel({NUMBERS: -1}), RESIDUAL_RMS)
    parts += [relabelled(residual, RESIDUAL), rms]
    return xr.Dataset({str(part.name): part for part in parts}, attrs=attrs)
