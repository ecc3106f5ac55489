"""Absolute mode: slopes of the whole wavefront from two detectors, one behind the other."""

import logging
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    DETECTOR_ROTATION,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    RADIUS_OF_CURVATURE_UNCERTAINTY_X,
    RADIUS_OF_CURVATURE_UNCERTAINTY_Y,
    RADIUS_OF_CURVATURE_X,
    RADIUS_OF_CURVATURE_Y,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    TILT_X,
    TILT_Y,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    WINDOW,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.geometry import Errors, Geometry, radius_effects
from wavedask.kernels.affine import affine_fit
from wavedask.kernels.surface import AREA
from wavedask.tracking import Registration, registration_of
from wavedask.units import in_metres, pixel_numbers, relabelled

Floats = NDArray[np.float64]

NUMBERS: Final = "number"
"""Dimension of the fit results of a map, inside `apply_ufunc`."""
LEAST_PIXELS: Final = 12
"""Smallest number of matched pixels for a fit."""

logger = logging.getLogger("wavedask")


class _Fit(NamedTuple):
    """Results of the fit of one map, in rad, 1/m and m."""

    tilt_y: Any
    tilt_x: Any
    rotation: Any
    radius_y: Any
    radius_x: Any
    error_y: Any
    error_x: Any
    spread_y: Any
    spread_x: Any


class AbsoluteSlopes(NamedTuple):
    """Slopes between two detectors.

    Attributes
    ----------
    maps : list of xarray.DataArray
        ``slope_y``, ``slope_x`` and their standard errors.
    numbers : list of xarray.DataArray
        Results for each map: tilt, rotation and radius of curvature.
    """

    maps: list[xr.DataArray]
    numbers: list[xr.DataArray]


def absolute_slopes(tracking: xr.Dataset, setup: Geometry, errors: Errors) -> AbsoluteSlopes:
    """Convert the positions of grains on two detectors to the slopes of the rays between them.

    Parameters
    ----------
    tracking : xarray.Dataset
        Tracking of the far detector's images in the near one's, registered, as of
        `wavedask.wavefront.pupil.selected`.
    setup : Geometry
        The detectors.
    errors : Errors
        Known errors of the set-up; they contribute to the errors of the radii.

    Returns
    -------
    AbsoluteSlopes
        In the plane and on the grid of the far detector; lazy if `tracking` is.

    Raises
    ------
    InputError
        If the tracking has no registration or no uncertainties.
    """
    registration = registration_of(tracking)
    needed = (DISPLACEMENT_Y, DISPLACEMENT_X, UNCERTAINTY_Y, UNCERTAINTY_X, WINDOW)
    for quantity in needed:
        if quantity.name not in tracking:
            raise InputError(
                f"tracking has no {quantity.name!r}; it has {', '.join(map(str, tracking))}",
                "Give the whole result of track: a match counts by its uncertainty.",
            )
    maps = [tracking[quantity.name] for quantity in needed]
    *slopes, numbers = xr.apply_ufunc(
        partial(
            _map_slopes,
            y=pixel_numbers(tracking, Y),
            x=pixel_numbers(tracking, X),
            registration=registration,
            setup=setup,
        ),
        *maps,
        input_core_dims=[[Y, X]] * len(maps),
        output_core_dims=[[Y, X]] * 4 + [[NUMBERS]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[maps[0].dtype] * 4 + [np.float64],
        dask_gufunc_kwargs={"output_sizes": {NUMBERS: len(_Fit._fields)}},
        keep_attrs="override",
    )
    names = (SLOPE_Y, SLOPE_X, SLOPE_UNCERTAINTY_Y, SLOPE_UNCERTAINTY_X)
    fields = [
        relabelled(in_metres(values, setup.pixel_far), quantity)
        for values, quantity in zip(slopes, names, strict=True)
    ]
    fit = _Fit(*(numbers.isel({NUMBERS: index}) for index in range(len(_Fit._fields))))
    return AbsoluteSlopes(fields, _labelled_numbers(fit, setup, errors))


def _labelled_numbers(fit: _Fit, setup: Geometry, errors: Errors) -> list[xr.DataArray]:
    totals = []
    for axis, radius, error, spread in (
        (0, fit.radius_y, fit.error_y, fit.spread_y),
        (1, fit.radius_x, fit.error_x, fit.spread_x),
    ):
        effects = radius_effects(radius, spread, axis=axis, setup=setup, errors=errors)
        relative = sum(effect**2 for effect in effects.values())
        totals.append(np.sqrt(error**2 + radius**2 * relative))
    return [
        relabelled(values, quantity)
        for values, quantity in (
            (fit.radius_y, RADIUS_OF_CURVATURE_Y),
            (fit.radius_x, RADIUS_OF_CURVATURE_X),
            (totals[0], RADIUS_OF_CURVATURE_UNCERTAINTY_Y),
            (totals[1], RADIUS_OF_CURVATURE_UNCERTAINTY_X),
            (fit.tilt_y, TILT_Y),
            (fit.tilt_x, TILT_X),
            (fit.rotation, DETECTOR_ROTATION),
        )
    ]


def _map_slopes(
    u_y: NDArray[Any],
    u_x: NDArray[Any],
    sigma_y: NDArray[Any],
    sigma_x: NDArray[Any],
    window: NDArray[Any],
    *,
    y: Floats,
    x: Floats,
    registration: Registration,
    setup: Geometry,
) -> tuple[NDArray[Any], ...]:
    """Slopes of one map, their errors, and the fields of `_Fit`."""
    valid = np.isfinite(u_y) & np.isfinite(u_x)
    rows, columns = np.nonzero(valid)
    far = np.stack([y[rows], x[columns]])
    moved = far - np.stack([u_y[valid], u_x[valid]])
    matrix, offset = registration.matrix, registration.offset
    pixel_near, pixel_far = np.array(setup.pixel_near), np.array(setup.pixel_far)
    near = np.stack(
        [pixel_near[i] * (matrix[i, 0] * moved[0] + matrix[i, 1] * moved[1] + offset[i])
         for i in (0, 1)]
    )  # fmt: skip
    far *= pixel_far[:, None]
    squares = np.square([sigma_y[valid], sigma_x[valid]], dtype=np.float64)
    lever = np.square(matrix * pixel_near[:, None] / setup.gap)
    variance = np.stack([row[0] * squares[0] + row[1] * squares[1] for row in lever])
    # Limits the weight of a single very good match.
    least = 1e-6 * float(variance.mean()) if rows.size else 0.0
    weights = 1 / np.maximum(variance.sum(0), least or 1.0)
    fit = affine_fit(near, far[0], far[1], weights) if rows.size >= LEAST_PIXELS else None

    maps = np.full((4, *u_y.shape), np.nan)
    maps[2:] = np.inf
    if fit is None:
        logger.warning("wavefront: the matched pixels of a frame do not span a plane")
        return (*maps.astype(u_y.dtype), np.full(len(_Fit._fields), np.nan))
    # The wavefront has no curl: the affine map without its rotation is symmetric.
    angle = float(
        np.arctan2(fit.matrix[1, 0] - fit.matrix[0, 1], fit.matrix[0, 0] + fit.matrix[1, 1])
    )
    cosine, sine = np.cos(angle), np.sin(angle)
    near -= fit.mean[:, None]
    far_centred = far - fit.center[:, None]
    maps[0][valid] = (far_centred[0] - (cosine * near[0] + sine * near[1])) / setup.gap
    maps[1][valid] = (far_centred[1] - (cosine * near[1] - sine * near[0])) / setup.gap
    maps[2][valid], maps[3][valid] = np.sqrt(variance)
    turned = np.array([[cosine, sine], [-sine, cosine]]) @ fit.matrix
    radii = _radii(turned, fit.moments, far_centred, variance, weights, window[valid], setup)
    # A camera that is rotated one way sees the beam rotated the other way.
    numbers = np.concatenate([(fit.center - fit.mean) / setup.gap, [-angle], radii])
    return (*maps.astype(u_y.dtype), numbers)


def _radii(
    scale: Floats,
    moments: Floats,
    far: Floats,
    variance: Floats,
    weights: Floats,
    window: NDArray[Any],
    setup: Geometry,
) -> Floats:
    """Radii of curvature, their errors from matching, and the spread of the pixels, (y, x) each."""
    curvature = (1 - np.diag(scale)) / setup.gap
    correlated = np.maximum(AREA * np.mean(np.square(window, dtype=np.float64)), 1)
    error = np.sqrt(
        correlated * (np.square(weights * far) * variance).sum(1)
    ) / np.diag(moments)  # fmt: skip
    spread = np.sqrt(np.square(far).mean(1))
    # A plane wave has an infinite radius.
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = 1 / curvature
        return np.concatenate([radius, radius**2 * error, spread])
