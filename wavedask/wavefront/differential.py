"""Differential mode: slopes from one detector, with and without the optic."""

import numpy as np
import xarray as xr

from wavedask.conventions import (
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    METRE,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
)
from wavedask.errors import InputError
from wavedask.tracking import is_registered
from wavedask.units import in_metres, in_range, relabelled

PARTS = (
    (DISPLACEMENT_Y, UNCERTAINTY_Y, SLOPE_Y, SLOPE_UNCERTAINTY_Y),
    (DISPLACEMENT_X, UNCERTAINTY_X, SLOPE_X, SLOPE_UNCERTAINTY_X),
)


def slope_per_length(
    distance: float, *, source_distance: float = np.inf, membrane_distance: float | None = None
) -> float:
    """Slope of the wavefront at the detector for a displacement of one metre, in rad/m.

    ``1 / l - 1 / t``, with l the distance to the detector from the last element (optic or
    membrane), and t the distance from the source.

    Parameters
    ----------
    distance : float
        From the optic to the detector, in m.
    source_distance : float, default inf
        From the source to the optic, in m.
    membrane_distance : float, optional
        From the membrane to the detector, in m. By default the membrane is upstream of the optic.

    Returns
    -------
    float

    Raises
    ------
    InputError
        A membrane that is not between source and detector.

    Examples
    --------
    >>> slope_per_length(2.0)
    0.5
    >>> slope_per_length(2.0, source_distance=38.0)
    0.475
    """
    total = source_distance + distance
    lever = distance
    if membrane_distance is not None:
        lever = in_range("membrane_distance", membrane_distance, low=1e-4, high=1e4, unit=METRE)
        if lever >= total:
            raise InputError(
                f"membrane_distance is {lever:g} m, and the source is {total:g} m from the"
                " detector",
                "The membrane stands between the two.",
            )
        # A membrane upstream of the optic sees the same beam with it and without it.
        lever = min(lever, distance)
    return 1 / lever - 1 / total


def differential_slopes(
    tracking: xr.Dataset, pixels: tuple[float, float], *, factor: float
) -> list[xr.DataArray]:
    """Convert the displacements of one detector to slopes relative to the reference beam.

    Parameters
    ----------
    tracking : xarray.Dataset
        As of `wavedask.wavefront.pupil.selected`.
    pixels : (float, float)
        Pixel sizes along (y, x), in m.
    factor : float
        As of `slope_per_length`.

    Returns
    -------
    list of xarray.DataArray
        ``slope_y``, ``slope_x``, and their standard errors, infinite where there is no slope, if
        `tracking` has any; in rad, with coordinates in m. Lazy if `tracking` is.

    Raises
    ------
    InputError
        If the tracking is that of two detectors.
    """
    if is_registered(tracking):
        raise InputError(
            "tracking is registered, that is of two detectors, and mode is 'differential'",
            "Use mode='absolute', or track without registration.",
        )
    slopes, errors = [], []
    for (displacement, uncertainty, slope, error), pixel in zip(PARTS, pixels, strict=True):
        values = tracking[displacement.name]
        slopes.append(relabelled(in_metres(values * (pixel * factor), pixels), slope))
        if uncertainty.name in tracking:
            sigma = (tracking[uncertainty.name] * (pixel * factor)).where(values.notnull(), np.inf)
            errors.append(relabelled(in_metres(sigma, pixels), error))
    return slopes + errors
