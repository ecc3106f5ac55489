"""Averages of several exposures of one setting, and the drift between them."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    CHI2,
    CORRELATION,
    DARK_FIELD,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    DRIFT_UNCERTAINTY_X,
    DRIFT_UNCERTAINTY_Y,
    DRIFT_X,
    DRIFT_Y,
    EXPOSURE,
    EXPOSURES,
    FRAME,
    SETTING,
    TRANSMISSION,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    WINDOW,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError, MotorError
from wavedask.frames import listed, names_of, of_one_set_up, positions
from wavedask.statements import STATING
from wavedask.tracking.exposures import exposure_sums

COMPONENTS: Final = (
    (DISPLACEMENT_Y, UNCERTAINTY_Y, DRIFT_Y, DRIFT_UNCERTAINTY_Y),
    (DISPLACEMENT_X, UNCERTAINTY_X, DRIFT_X, DRIFT_UNCERTAINTY_X),
)
AVERAGED: Final = (CORRELATION, TRANSMISSION, DARK_FIELD)


def combine(
    tracking: xr.Dataset,
    *,
    by: str | Sequence[str] | None = None,
    tolerance: float | Sequence[float] | None = None,
    remove_drift: bool = True,
) -> xr.Dataset:
    r"""Combine exposures of one setting by their uncertainties.

    Each pixel is the mean of the exposures that know it, weighted by their inverse variances. The
    rigid shift that an exposure has against the others, of a beam that drifts or a pulse that
    points elsewhere, is taken out first and returned.

    Parameters
    ----------
    tracking : xarray.Dataset, dims (frame, y, x)
        As of `track`: displacements with their standard errors.
    by : str or sequence of str, optional
        Motors: exposures at equal positions are combined, one result for each position. By default
        all frames are exposures of one setting.
    tolerance : float or sequence of float, optional
        With `by`: largest difference of positions that are equal, in the unit of the motors, one
        for all or one for each.
    remove_drift : bool, default True
        Whether exposures are shifted onto each other; the drift is returned in either case.

    Returns
    -------
    xarray.Dataset
        Lazy if `tracking` is. Without `by` maps have the dimensions (y, x), with it (frame, y, x)
        with the mean positions of the motors as coordinates.

        ``displacement_y``, ``displacement_x``, ``uncertainty_y``, ``uncertainty_x`` (px)
            The mean and its standard error, ``1 / sqrt(sum(1 / uncertainty**2))``.
        ``chi2`` (1)
            Scatter of the exposures of a pixel, both components, over what their uncertainties
            explain: 1 on average if these are right, and NaN of a single exposure.
        ``exposures`` (1)
            How many know the pixel.
        ``correlation``, ``transmission``, ``dark_field``
            Plain means over these, where `tracking` has them; ``window`` the largest.
        ``drift_y``, ``drift_x``, ``drift_uncertainty_y``, ``drift_uncertainty_x`` (px)
            Rigid shift of each exposure, with zero mean, and its standard error, along ``frame``
            with its coordinates; with `by` along ``exposure``, whose coordinate ``setting`` is the
            frame of the result. NaN and infinite for an exposure without a match.

    Raises
    ------
    InputError
        A tracking without frames, displacements or uncertainties; `by` without a tolerance;
        exposures of one setting at different photon energies or distances.
    MotorError
        Motors that the tracking does not have, or positions that are within the tolerance of two
        settings.

    Notes
    -----
    A drift is the robust mean over the pixels of the difference to the field that up to eight
    exposures, spread over the train, have in common. So a train of any length passes exposure by
    exposure, and only these eight are held. Its error counts pixels of one window as one. What all
    exposures have in common, the noise of a common reference say, is in no way reduced, and not
    seen by ``chi2``.

    Examples
    --------
    >>> u = np.array([0.2, 0.5, 0.2]).reshape(3, 1, 1) + np.zeros((3, 8, 8))
    >>> error = np.array([0.1, 0.1, 0.05]).reshape(3, 1, 1) + np.zeros((3, 8, 8))
    >>> names = ("displacement_y", "displacement_x", "uncertainty_y", "uncertainty_x")
    >>> parts = dict(zip(names, (0 * u, u, error, error)))
    >>> tracking = xr.Dataset({name: (("frame", "y", "x"), part) for name, part in parts.items()})
    >>> mean = combine(tracking)
    >>> print(mean.drift_x.values.round(2), f"{mean.uncertainty_x[0, 0]:.3f} px")
    [-0.1  0.2 -0.1] 0.041 px
    """
    _check(tracking)
    if by is None:
        if tolerance is not None:
            raise InputError(
                f"tolerance is {tolerance!r} without by", "Name the motors that it belongs to."
            )
        mean, drifts = _combined(tracking, remove_drift=remove_drift)
        along = {name: coord for name, coord in tracking.coords.items() if coord.dims == (FRAME,)}
        # Maps have all other coordinates.
        return mean.assign(drifts.assign_coords(along)).assign_attrs(tracking.attrs)
    names = names_of(by, argument="by")
    places = positions(tracking[DISPLACEMENT_Y.name], names, name="tracking")
    settings = _settings(places, names, tolerance)
    parts, drifts_of = [], []
    for setting in range(int(settings.max()) + 1):
        chosen = np.flatnonzero(settings == setting)
        mean, drifts = _combined(tracking.isel({FRAME: chosen}), remove_drift=remove_drift)
        motors = {
            name: ((), places[chosen, k].mean(), tracking[name].attrs)
            for k, name in enumerate(names)
        }
        parts.append(mean.assign_coords(motors))
        label = labelled(np.full(chosen.size, setting), SETTING, dims=(FRAME,))
        drifts_of.append(drifts.assign_coords({SETTING.name: label}).rename({FRAME: EXPOSURE}))
    # Each setting has its motors, and may have a photon energy or distance of its own.
    own = [*names, *(name for name in parts[0].coords if name in STATING and name not in names)]
    combined = xr.concat(
        parts, FRAME, data_vars="all", coords=own, compat="override", join="override"
    )
    return combined.assign(xr.concat(drifts_of, EXPOSURE)).assign_attrs(tracking.attrs)


def _check(tracking: xr.Dataset) -> None:
    needed = [quantity.name for parts in COMPONENTS for quantity in parts[:2]]
    missing = [name for name in needed if name not in tracking]
    if missing:
        raise InputError(
            f"tracking has no {', '.join(missing)}; it has {', '.join(map(str, tracking))}",
            "Give the result of track.",
        )
    if set(tracking[needed[0]].dims) != {FRAME, Y, X}:
        raise InputError(
            f"tracking has the dimensions {tracking[needed[0]].dims}",
            f"Give several exposures: ({FRAME}, {Y}, {X}).",
        )


def _settings(
    places: NDArray[np.float64], names: tuple[str, ...], tolerance: Any
) -> NDArray[np.intp]:
    """Give frames whose positions are equal within the tolerance one number."""
    limits = np.asarray(np.nan if tolerance is None else tolerance, np.float64)
    if limits.shape not in ((), (len(names),)) or not (limits > 0).all():
        raise InputError(
            f"tolerance is {tolerance!r}",
            "Give the largest difference of equal positions, in the unit of the motors: one"
            " positive number, or one for each motor.",
        )
    first: list[NDArray[np.float64]] = []
    numbers = []
    for place in places:
        near = [k for k, other in enumerate(first) if (np.abs(place - other) <= limits).all()]
        if len(near) > 1:
            raise MotorError(
                f"{listed(place, names)} is within the tolerance {tolerance!r} of"
                f" {listed([first[k] for k in near], names)}",
                "Give a smaller tolerance.",
            )
        if not near:
            near = [len(first)]
            first.append(place)
        numbers.append(near[0])
    return np.array(numbers, np.intp)


def _combined(tracking: xr.Dataset, *, remove_drift: bool) -> tuple[xr.Dataset, xr.Dataset]:
    """Combine exposures of one setting: maps (y, x), and the drifts along frame."""
    tracking = of_one_set_up(tracking, "the tracking")
    tracking = tracking.transpose(FRAME, Y, X, ...)
    like = tracking[DISPLACEMENT_Y.name]
    others = [quantity for quantity in AVERAGED if quantity.name in tracking]
    window = tracking.get(WINDOW.name, xr.ones_like(like))
    parts = [tracking[c[k].name] for k in (0, 1) for c in COMPONENTS]
    parts += [window, *(tracking[quantity.name] for quantity in others)]
    sums, shifts, errors = exposure_sums([part.data for part in parts], align=remove_drift)
    drifts = {}
    for k, (_, _, moved, spread) in enumerate(COMPONENTS):
        drifts[moved.name] = labelled(shifts[:, k], moved, dims=(FRAME,))
        drifts[spread.name] = labelled(errors[:, k], spread, dims=(FRAME,))
    maps: list[tuple[Quantity, Any]] = [(EXPOSURES, sums.count), (CHI2, sums.chi2)]
    for k, (displacement, uncertainty, _, _) in enumerate(COMPONENTS):
        maps += [(displacement, sums.mean[k]), (uncertainty, sums.error[k])]
    maps += list(zip(others, sums.others, strict=True))
    if WINDOW.name in tracking:
        maps.append((WINDOW, sums.window))
    coords = like.isel({FRAME: 0}, drop=True).coords
    return xr.Dataset(
        {
            quantity.name: labelled(values.astype(np.float32), quantity, dims=(Y, X), coords=coords)
            for quantity, values in maps
        }
    ), xr.Dataset(drifts)
