"""Zernike or Legendre modes of a wavefront, from its slopes, with their covariance."""

import logging
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
    MODE_NUMBER,
    MODE_ORDER,
    OTHER_MODE,
    RESIDUAL,
    RESIDUAL_RMS,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    UNITS,
    WAVEFRONT,
    WINDOW,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.kernels.surface import mean_window
from wavedask.optics.modes import Basis, evaluate_modes, gradient_modes, mode_orders
from wavedask.optics.pieces import numbered_pieces
from wavedask.optics.slopes import Slopes
from wavedask.units import one_chunk_per_map, relabelled

Floats = npt.NDArray[np.float64]

NEEDED: Final = (WAVEFRONT, SLOPE_Y, SLOPE_X)
STATED: Final = (SLOPE_UNCERTAINTY_Y, SLOPE_UNCERTAINTY_X, WINDOW)
NUMBERS: Final = "number"
"""Dimension of what a map is fitted with, on its way out of a block."""
BASIS: Final = "basis"
"""Attribute: kind of the modes."""
CENTER: Final = "center"
"""Attribute: middle (y, x) of the disc or square of the modes, m."""
HALF_WIDTH: Final = "half_width"
"""Attribute: radius of the disc or half the side of the square, m."""

logger = logging.getLogger("wavedask")


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
    _check(wf)
    y, x = (wf[dim].to_numpy().astype(np.float64) for dim in (Y, X))
    middle, width = _disc(y, x, basis, center, half_width)
    names = [*NEEDED, *(STATED if all(part.name in wf for part in STATED) else ())]
    arrays = [one_chunk_per_map(wf[part.name]) for part in names]
    numbers, residual = xr.apply_ufunc(
        _fit_map,
        *arrays,
        kwargs={
            Y: (y - middle[0]) / width,
            X: (x - middle[1]) / width,
            HALF_WIDTH: width,
            BASIS: basis,
            "count": count,
        },
        input_core_dims=[[Y, X]] * len(arrays),
        output_core_dims=[[NUMBERS], [Y, X]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64, arrays[0].dtype],
        dask_gufunc_kwargs={"output_sizes": {NUMBERS: (count - 1) * count + 1}},
        keep_attrs="override",
    )
    residual = residual.assign_coords({dim: wf[dim] for dim in (Y, X)})
    return _labelled_fit(numbers, residual, orders, wf.attrs).assign_attrs(
        {BASIS: basis, CENTER: list(middle), HALF_WIDTH: width}
    )


def _check(wf: xr.Dataset) -> None:
    missing = [part.name for part in NEEDED if part.name not in wf]
    if missing:
        raise InputError(
            f"wf has no {', '.join(missing)}; it has {', '.join(map(str, wf))}",
            "Give the result of wavefront.",
        )
    for dim in (Y, X):
        unit = wf[dim].attrs.get(UNITS, METRE) if dim in wf.coords else "nothing"
        if unit != METRE:
            raise InputError(f"coordinate {dim!r} is in {unit}", f"It must be in {METRE}.")


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
    half_width: float,
    basis: Basis,
    count: int,
) -> tuple[Floats, npt.NDArray[Any]]:
    """Fit one map: coefficients, covariance and rms in one row, and the residual."""
    slope_maps = [np.asarray(part, np.float64) for part in (slope_y, slope_x)]
    sigma, window = None, 1.0
    if stated:
        sigma = np.asarray(stated[0], np.float64), np.asarray(stated[1], np.float64)
        window = mean_window(stated[2], stated[0])
    inside = y[:, None] ** 2 + x**2 <= 1 if basis == "zernike" else None
    slopes = Slopes(*slope_maps, y=y, x=x, inside=inside, sigma=sigma, window=window)

    def gradients(block: slice) -> Floats:
        parts = [
            gradient_modes(one, slopes.y[block], slopes.x[block], basis=basis)
            for one in np.eye(count)[1:]
        ]
        return np.asarray(np.stack(parts, axis=1) / half_width)

    try:
        if slopes.y.size < count:
            raise InputError(
                f"{count} modes for {slopes.y.size} points with slopes",
                "Ask for fewer modes, or give center and half_width of the pupil in m.",
            )
        fit = slopes.fit(gradients, count - 1)
    except InputError as error:
        logger.warning("fit_wavefront: a frame is not fitted: %s", error)
        return np.full((count - 1) * count + 1, np.nan), np.full_like(surface, np.nan)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    valid = np.isfinite(surface)
    if basis == "zernike":
        valid &= rows**2 + columns**2 <= 1
    residual = np.full(surface.shape, np.nan)
    model = evaluate_modes((0.0, *fit.coefficients), rows[valid], columns[valid], basis=basis)
    left = np.asarray(surface, np.float64)[valid] - model
    piece = numbered_pieces(valid)[valid]
    if left.size:
        left -= (np.bincount(piece, left) / np.bincount(piece))[piece]
    residual[valid] = left
    rms = np.sqrt(np.mean(np.square(left))) if left.size else np.nan
    return np.concatenate([fit.coefficients, fit.covariance.ravel(), [rms]]), residual.astype(
        surface.dtype
    )


def _labelled_fit(
    numbers: xr.DataArray,
    residual: xr.DataArray,
    orders: list[tuple[int, int]],
    attrs: dict[Any, Any],
) -> xr.Dataset:
    """Take the row of numbers of each map apart."""
    modes = len(orders) - 1
    lead = tuple(str(dim) for dim in numbers.dims[:-1])
    others = {name: coord for name, coord in numbers.coords.items() if set(coord.dims) <= set(lead)}
    number = np.arange(1, modes + 1)
    names = {
        MODE_DEGREE.name: labelled(np.array(orders)[1:, 0], MODE_DEGREE, dims=(MODE_NUMBER.name,)),
        MODE_ORDER.name: labelled(np.array(orders)[1:, 1], MODE_ORDER, dims=(MODE_NUMBER.name,)),
        MODE_NUMBER.name: labelled(number, MODE_NUMBER, dims=(MODE_NUMBER.name,)),
    }
    square = numbers.data[..., modes:-1].reshape(*numbers.shape[:-1], modes, modes)
    coefficient = labelled(
        numbers.data[..., :modes],
        COEFFICIENT,
        dims=(*lead, MODE_NUMBER.name),
        coords={**others, **names},
    )
    diagonal = modes + (modes + 1) * np.arange(modes)
    error = labelled(
        numbers.data[..., diagonal] ** 0.5,
        COEFFICIENT_UNCERTAINTY,
        dims=(*lead, MODE_NUMBER.name),
        coords={**others, **names},
    )
    covariance = labelled(
        square,
        COEFFICIENT_COVARIANCE,
        dims=(*lead, MODE_NUMBER.name, OTHER_MODE.name),
        coords={
            **others,
            **names,
            OTHER_MODE.name: labelled(number, OTHER_MODE, dims=(OTHER_MODE.name,)),
        },
    )
    rms = relabelled(numbers.isel({NUMBERS: -1}), RESIDUAL_RMS)
    parts = (coefficient, error, covariance, relabelled(residual, RESIDUAL), rms)
    return xr.Dataset({str(part.name): part for part in parts}, attrs=attrs)
