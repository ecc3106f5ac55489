"""Exposures that an experiment combines, with one frame of the result for each setting."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import DRIFT_UNCERTAINTY_X, DRIFT_UNCERTAINTY_Y, EXPOSURE, FRAME
from wavedask.experiment.sections import Combine
from wavedask.frames import names_of, positions, stack_coordinates
from wavedask.tracking import combine


def combined(tracking: xr.Dataset, settings: Combine) -> xr.Dataset:
    """Combine exposures so that the result lies along frame, as a store needs it.

    Parameters
    ----------
    tracking : xarray.Dataset, dims (frame, y, x)
        As from `track`.
    settings : Combine
        Arguments of `wavedask.combine`.

    Returns
    -------
    xarray.Dataset, dims (frame, y, x)
        The maps of `wavedask.combine`, one frame for each setting. The coordinate
        ``stack_frames`` names the exposures of each. Drifts have the dimensions (frame, exposure),
        in the order of these; NaN (for a standard error: infinite) where a setting has fewer
        exposures than others.

    Raises
    ------
    InputError, MotorError
        As in `wavedask.combine`.

    Examples
    --------
    >>> u = xr.DataArray(np.zeros((3, 8, 8)), dims=("frame", "y", "x"))
    >>> error = u + 0.1
    >>> tracking = xr.Dataset(
    ...     {
    ...         "displacement_y": u,
    ...         "displacement_x": u,
    ...         "uncertainty_y": error,
    ...         "uncertainty_x": error,
    ...     }
    ... )
    >>> dict(combined(tracking, Combine()).sizes)
    {'frame': 1, 'y': 8, 'x': 8, 'exposure': 3}
    """
    mean = combine(tracking, **dict(settings))
    members = _members(tracking, mean, settings)
    # Along frame without `by`, along exposure with it; neither is the frame of the result.
    along = FRAME if settings.by is None else EXPOSURE
    drifts = [name for name, variable in mean.data_vars.items() if variable.dims == (along,)]
    errors = (DRIFT_UNCERTAINTY_Y.name, DRIFT_UNCERTAINTY_X.name)
    table = {
        name: _by_setting(mean[name], members, missing=np.inf if name in errors else np.nan)
        for name in drifts
    }
    maps = mean.drop_dims(along)
    if settings.by is None:
        maps = maps.expand_dims(FRAME)
    origins = [xr.Dataset(coords=stack_coordinates(tracking.isel({FRAME: own}))) for own in members]
    return maps.assign(table).assign_coords(xr.concat(origins, FRAME).coords)


def _members(tracking: xr.Dataset, mean: xr.Dataset, settings: Combine) -> list[NDArray[np.intp]]:
    """Frames of each setting, in the order in which `combine` lists their drifts."""
    if settings.by is None:
        return [np.arange(tracking.sizes[FRAME])]
    motors = names_of(settings.by, argument="by")
    frames, places = (positions(part, motors, name="combine") for part in (tracking, mean))
    limits = np.broadcast_to(np.asarray(settings.tolerance, np.float64), len(motors))
    apart = (np.abs(frames[:, None] - places[None]) / limits).max(axis=2)
    nearest = apart.argmin(axis=1)
    return [np.flatnonzero(nearest == setting) for setting in range(len(places))]


def _by_setting(
    drift: xr.DataArray, members: list[NDArray[np.intp]], *, missing: float
) -> xr.DataArray:
    """Arrange the drifts of all exposures in one row per setting."""
    longest = max(own.size for own in members)
    rows, start = [], 0
    for own in members:
        row = xr.DataArray(drift.data[start : start + own.size], dims=(EXPOSURE,))
        rows.append(row.pad({EXPOSURE: (0, longest - own.size)}, constant_values=missing))
        start += own.size
    return xr.concat(rows, FRAME).assign_attrs(drift.attrs)
