"""Focal length, radius and their errors from the numbers of a fitted lens."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask import conventions as cv
from wavedask.conventions import Quantity
from wavedask.geometry import Errors, Geometry, radius_effects
from wavedask.optics.shapes import Beam
from wavedask.units import MEMBRANE_DISTANCE, MODE, relabelled

PLAIN: Final = (
    cv.CENTER_Y,
    cv.CENTER_UNCERTAINTY_Y,
    cv.CENTER_X,
    cv.CENTER_UNCERTAINTY_X,
    cv.RESIDUAL_RMS,
    cv.RESIDUAL_RMS_UNCERTAINTY,
    cv.RESIDUAL_RANGE,
    cv.RESIDUAL_RANGE_UNCERTAINTY,
    cv.RESIDUAL_NOISE,
    cv.EXPLAINED_VARIANCE,
    cv.APERTURE_CENTER_Y,
    cv.APERTURE_CENTER_X,
    cv.APERTURE_WIDTH_Y,
    cv.APERTURE_WIDTH_X,
)
"""Fields of a lens that are given out as they are, by their names."""
AXES: Final = (cv.AZIMUTH, cv.AZIMUTH_UNCERTAINTY)
MATTER: Final = (
    (cv.FIGURE_ERROR_RMS, cv.RESIDUAL_RMS),
    (cv.FIGURE_ERROR_RMS_UNCERTAINTY, cv.RESIDUAL_RMS_UNCERTAINTY),
    (cv.FIGURE_ERROR_RANGE, cv.RESIDUAL_RANGE),
    (cv.FIGURE_ERROR_RANGE_UNCERTAINTY, cv.RESIDUAL_RANGE_UNCERTAINTY),
)
"""Numbers of the thickness, and of the wavefront from which they follow."""


@dataclass(frozen=True, slots=True)
class _Curvature:
    """A curvature of the fit, and the variables that follow from it."""

    part: str
    focal_length: tuple[Quantity, Quantity] | None
    radius: tuple[Quantity, Quantity]


ROUND: Final = _Curvature(
    "",
    (cv.FOCAL_LENGTH, cv.FOCAL_LENGTH_UNCERTAINTY),
    (cv.RADIUS, cv.RADIUS_UNCERTAINTY),
)
ALONG: Final = (
    _Curvature(
        "_y",
        (cv.FOCAL_LENGTH_Y, cv.FOCAL_LENGTH_UNCERTAINTY_Y),
        (cv.RADIUS_Y, cv.RADIUS_UNCERTAINTY_Y),
    ),
    _Curvature(
        "_x",
        (cv.FOCAL_LENGTH_X, cv.FOCAL_LENGTH_UNCERTAINTY_X),
        (cv.RADIUS_X, cv.RADIUS_UNCERTAINTY_X),
    ),
)


def lens_numbers(
    wf: xr.Dataset,
    fit: dict[str, xr.DataArray],
    beam: Beam,
    power: xr.DataArray | None,
    shape: str,
) -> Iterator[xr.DataArray]:
    """Yield the numbers of a lens, with their standard errors.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`, whose attributes state the errors of the set-up.
    fit : dict of str to xarray.DataArray
        Fields of `LensFit`, one value for each frame.
    beam : Beam
        Where the lens stands.
    power : xarray.DataArray or None
        Deflection over the slope of one surface, which turns a focal length into a radius.
    shape : str
        Shape that was fitted.

    Yields
    ------
    xarray.DataArray
        Each with its name, units and long_name.
    """
    relative = _radius_errors(wf, fit, beam.distance, beam.source)

    def focal_length(curvature: xr.DataArray) -> xr.DataArray:
        focal: xr.DataArray = xr.apply_ufunc(
            _focal_length,
            curvature,
            kwargs={"beam": beam},
            dask="parallelized",
            output_dtypes=[np.float64],
        )
        return focal

    for one in (ROUND, *(ALONG if shape in ("paraboloid", "crossed") else ())):
        curvature = fit[f"curvature{one.part}"]
        error = np.hypot(fit[f"curvature{one.part}_error"], curvature * relative[one.part])
        focal, ahead, behind = (
            focal_length(part) for part in (curvature, curvature + error / 2, curvature - error / 2)
        )
        uncertainty = abs(ahead - behind)
        if one is ROUND or shape == "crossed":
            assert one.focal_length is not None
            yield relabelled(focal, one.focal_length[0])
            yield relabelled(uncertainty, one.focal_length[1])
        if power is not None:
            yield relabelled(focal * power, one.radius[0])
            yield relabelled(uncertainty * power, one.radius[1])
    for quantity in (*PLAIN, *(AXES if shape in ("cylinder", "crossed") else ())):
        yield relabelled(fit[quantity.name], quantity)


def _focal_length(curvature: Any, *, beam: Beam) -> Any:
    """Return the focal length of a lens from the curvature of its wavefront."""
    # A wavefront without curvature belongs to a lens without power.
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / beam.power(curvature)


def _radius_errors(
    wf: xr.Dataset, fit: dict[str, xr.DataArray], distance: float, source: float
) -> dict[str, Any]:
    """Relative error of the radius of the wavefront by the set-up: of both axes together, y and x.

    As far as the errors were given to `wavefront`; an error of a pixel size does nothing to the
    radius of a differential wavefront.
    """
    errors = Errors.from_attrs(wf.attrs)
    if wf.attrs.get(MODE) == "absolute":
        setup = Geometry.from_attrs(wf.attrs)
        along = []
        for axis, name in enumerate((cv.Y, cv.X)):
            with np.errstate(divide="ignore"):
                radius = 1 / fit[f"curvature_{name}"]
            effects = radius_effects(
                radius, fit[f"spread_{name}"], axis=axis, setup=setup, errors=errors
            )
            along.append(np.sqrt(sum((effect**2 for effect in effects.values()), start=0.0)))
        return {"": np.hypot(*along) / np.sqrt(2), "_y": along[0], "_x": along[1]}
    change = 0.0
    if errors.distance:
        # The detector moves: its lever and its distance to the source change.
        lever = min(distance, float(wf.attrs.get(MEMBRANE_DISTANCE, np.inf)))
        change = errors.distance[0] * (1 / lever + 1 / (source + distance))
    return {"": change, "_y": change, "_x": change}
