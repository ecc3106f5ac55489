"""Fit a lens to every map of a stack, inside an aperture that is found or given."""

import logging
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask import conventions as cv
from wavedask.conventions import X, Y
from wavedask.errors import InputError
from wavedask.kernels.surface import mean_window
from wavedask.maps import MAP, Output, map_by_map
from wavedask.optics.aperture import found_aperture
from wavedask.optics.lens_map import (
    LensFit,
    NoFitError,
    Wanted,
    check_slopes,
    derived_slopes,
    fitted_lens,
)
from wavedask.optics.surface import check_values

FloatArray = npt.NDArray[np.float64]

PARAMETER: Final = "lens"
"""Dimension of the fitted numbers, inside `map_by_map`."""

logger = logging.getLogger("wavedask")


def fit_maps(
    wf: xr.Dataset,
    surface: xr.DataArray,
    wanted: Wanted,
    power: xr.DataArray | None,
    aperture: Any,
) -> tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]]:
    """Fit every map.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`.
    surface : xarray.DataArray, dims (..., y, x)
        Its wavefront, whole in y and x.
    wanted : Wanted
        What is fitted.
    power : xarray.DataArray or None
        Deflection over the slope of one surface, where it is known.
    aperture : object
        As of `fit_lens`.

    Returns
    -------
    numbers, maps : dict of str to xarray.DataArray
        By the fields of `LensFit`, and ``residual``, ``path`` and ``inside``. Lazy if `wf` is.
    """
    names = [cv.SLOPE_Y.name, cv.SLOPE_X.name]
    has_slopes = all(name in wf for name in names)
    stated = [cv.SLOPE_UNCERTAINTY_Y.name, cv.SLOPE_UNCERTAINTY_X.name, cv.WINDOW.name]
    has_errors = all(name in wf for name in stated)
    kept = [*(names if has_slopes else ()), *(stated if has_errors else ())]
    arrays = [surface, *(wf[name].transpose(..., Y, X) for name in kept)]
    mask = _given_aperture(surface, aperture)
    if mask is not None:
        arrays.append(mask)
    numbers, *maps = map_by_map(
        _fit_map,
        *arrays,
        xr.DataArray(math.nan) if power is None else power,
        settings={
            "y": surface[Y].to_numpy().astype(np.float64),
            "x": surface[X].to_numpy().astype(np.float64),
            "wanted": wanted,
            "has": (has_slopes, has_errors, mask is not None),
            "find": isinstance(aperture, str),
            "alone": surface.ndim == 2,
        },
        outputs=[
            Output((PARAMETER,)),
            Output(MAP, surface.dtype),
            Output(MAP),
            Output(MAP, np.bool_),
        ],
        sizes={PARAMETER: len(LensFit._fields)},
    )
    fields = {
        name: numbers.isel({PARAMETER: number}) for number, name in enumerate(LensFit._fields)
    }
    places = {Y: surface[Y], X: surface[X]}
    found = zip((cv.RESIDUAL.name, "path", "inside"), maps, strict=True)
    return fields, {name: values.assign_coords(places) for name, values in found}


def _given_aperture(surface: xr.DataArray, aperture: Any) -> xr.DataArray | None:
    """Make a mask of an aperture that was given."""
    if aperture is None or (isinstance(aperture, str) and aperture == "auto"):
        return None
    shape = tuple(surface.sizes[dim] for dim in (Y, X))
    if isinstance(aperture, xr.DataArray):
        if set(aperture.dims) != {Y, X} or aperture.dtype != np.bool_:
            raise InputError(
                f"aperture has dimensions {aperture.dims} and data type {aperture.dtype}",
                f"Give a mask of bool with dimensions ({Y}, {X}).",
            )
        mask = aperture.transpose(Y, X)
        if mask.shape != shape:
            raise InputError(
                f"aperture has {mask.shape} pixels (y, x), and the wavefront {shape}",
                "Give a mask on the pixels of the wavefront.",
            )
        inside = mask.to_numpy()
    else:
        try:
            center_y, center_x, radius = (float(value) for value in aperture)
        except (TypeError, ValueError):
            center_y = center_x = radius = math.nan
        if not (math.isfinite(center_y) and math.isfinite(center_x) and 0 < radius < 10):
            raise InputError(
                f"aperture is {aperture!r}",
                "Give 'auto', None, a mask, or a circle: its centre (y, x) and its radius in m.",
            )
        y, x = (surface[dim].to_numpy().astype(np.float64) for dim in (Y, X))
        inside = (y[:, None] - center_y) ** 2 + (x - center_x) ** 2 <= radius**2
    if not inside.any():
        raise InputError("aperture holds no pixel of the wavefront", "Move it, or make it larger.")
    return xr.DataArray(inside, dims=(Y, X))


def _fit_map(
    surface: npt.NDArray[Any],
    *others: Any,
    y: FloatArray,
    x: FloatArray,
    wanted: Wanted,
    has: tuple[bool, bool, bool],
    find: bool,
    alone: bool,
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Fit one map; return the fields of `LensFit`, and the maps of `Fitted`."""
    heights, *maps = (np.asarray(part, np.float64) for part in (surface, *others))
    power = float(maps.pop())
    inside = maps.pop() > 0 if has[2] else None
    sigma, window = None, 1.0
    if has[1]:
        window = mean_window(maps[-1], maps[-2])
        sigma = maps[-3], maps[-2]
    slopes = (maps[0], maps[1]) if has[0] else derived_slopes(heights, y, x)
    nothing = np.full(heights.shape, np.nan)
    try:
        for name, part in zip(
            (cv.WAVEFRONT, cv.SLOPE_Y, cv.SLOPE_X), (heights, *slopes), strict=True
        ):
            check_values(part, name.name)
        if has[0]:
            check_slopes(heights, slopes, y, x)
        known = [np.where(np.isfinite(heights), part, np.nan) for part in slopes]
        if find:
            inside = found_aperture(*known, y=y, x=x, window=window).inside
        found = fitted_lens(
            heights,
            slopes,
            y=y,
            x=x,
            sigma=sigma,
            window=window,
            inside=inside,
            wanted=wanted,
            power=power,
        )
    except InputError as error:
        if alone and not isinstance(error, NoFitError):
            raise
        logger.warning("fit_lens: a frame is not fitted: %s", error)
        return np.array(LensFit()), nothing, nothing, np.zeros(heights.shape, np.bool_)
    return np.array(found.lens), found.residual, found.path, found.inside
