"""The average of several exposures of one setting, and the drift between them."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    CHI2,
    COMMON_REFERENCE,
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
    REASON,
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
    common_reference: bool | None = None,
) -> xr.Dataset:
    r"""Combine exposures of one setting, weighted by their uncertainties.

    Each pixel is the mean of the exposures that have a value there, weighted by their inverse
    variances. Before that, the rigid shift of each exposure against the others is removed, and
    returned: the drift of the beam, or the pointing of a pulse.

    Parameters
    ----------
    tracking : xarray.Dataset, dims (frame, y, x)
        As of `track`: displacements with their standard errors.
    by : str or sequence of str, optional
        Names of motors: exposures at equal positions are combined, one result for each position.
        By default all frames are exposures of one setting.
    tolerance : float or sequence of float, optional
        With `by`: positions that differ by up to this are equal. In the unit of the motors, one
        number for all motors or one for each.
    remove_drift : bool, default True
        Whether the drift is removed; it is returned in either case.
    common_reference : bool, optional
        Whether all exposures were tracked in one reference image, whose noise no average removes;
        by default what `track` states in the attributes, and no otherwise.

    Returns
    -------
    xarray.Dataset
        Lazy if `tracking` is. Without `by` maps have the dimensions (y, x). With `by` they have
        the dimensions (frame, y, x), and the mean positions of the motors as coordinates.

        ``displacement_y``, ``displacement_x``, ``uncertainty_y``, ``uncertainty_x`` (px)
            The mean and its standard error, ``1 / sqrt(sum(1 / uncertainty**2))`` for exposures
            with a reference of their own. With a common one, the part of the variance that the
            scatter does not show (one minus the mean of ``chi2``; half of it, if sample and
            reference have equal counts) stays whole.
        ``chi2`` (1)
            Scatter of the exposures of a pixel, both components, relative to their uncertainties:
            1 on average if the uncertainties are right, less with a common reference, whose noise
            does not scatter, NaN for a single exposure.
        ``exposures`` (1)
            Number of exposures that have a value in the pixel.
        ``correlation``, ``transmission``, ``dark_field``
            Plain means over these exposures, where `tracking` has them; ``window`` is the largest;
            ``reason`` is the smallest of all exposures, which is 0 where one has a displacement.
        ``drift_y``, ``drift_x``, ``drift_uncertainty_y``, ``drift_uncertainty_x`` (px)
            Rigid shift of each exposure, with zero mean, and its standard error. Along ``frame``,
            with its coordinates; with `by` along ``exposure``, whose coordinate ``setting`` is the
            frame of the result. NaN and infinite for an exposure without a match.

    Raises
    ------
    InputError
        A tracking without frames, displacements or uncertainties; `by` without a tolerance; an
        argument of the wrong kind; exposures of one setting at different photon energies or
        distances.
    MotorError
        A motor that the tracking does not have, or a position that is within the tolerance of two
        settings.

    Notes
    -----
    The drift of an exposure is measured against a field that up to eight exposures, spread over the
    train, have in common: it is the robust mean of the difference over all pixels. Only these eight
    are in memory at once; all others pass one by one, so a train may have any length. For the error
    of the drift, the pixels of one window count as one.

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
    if not isinstance(remove_drift, bool | np.bool_):
        raise InputError(f"remove_drift is {remove_drift!r}", "Give True or False.")
    stated = tracking.attrs.get(COMMON_REFERENCE, False)
    shared = bool(stated if common_reference is None else common_reference)
    if by is None:
        if tolerance is not None:
            raise InputError(
                f"tolerance is {tolerance!r} without by", "Name the motors that it belongs to."
            )
        mean, drifts = _combined(tracking, remove_drift=remove_drift, shared=shared)
        along = {name: coord for name, coord in tracking.coords.items() if coord.dims == (FRAME,)}
        # The maps have all other coordinates.
        return mean.assign(drifts.assign_coords(along)).assign_attrs(tracking.attrs)
    names = names_of(by, argument="by")
    places = positions(tracking[DISPLACEMENT_Y.name], names, name="tracking")
    settings = _settings(places, names, tolerance)
    parts, drifts_of = [], []
    for setting in range(int(settings.max()) + 1):
        chosen = np.flatnonzero(settings == setting)
        part = tracking.isel({FRAME: chosen})
        mean, drifts = _combined(part, remove_drift=remove_drift, shared=shared)
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
    if not isinstance(tracking, xr.Dataset):
        raise InputError(f"tracking is a {type(tracking).__name__}", "Give the result of track.")
    needed = [quantity.name for parts in COMPONENTS for quantity in parts[:2]]
    missing = [name for name in needed if name not in tracking]
    if missing:
        raise InputError(
            f"tracking has no {', '.join(missing)}; it has {', '.join(map(str, tracking))}",
            "Give the result of track.",
        )
    for name in needed:
        if set(tracking[name].dims) != {FRAME, Y, X}:
            raise InputError(
                f"{name} of the tracking has the dimensions {tracking[name].dims}",
                f"Give several exposures: ({FRAME}, {Y}, {X}).",
            )
        if tracking[name].dtype.kind not in "iuf":
            raise InputError(
                f"{name} of the tracking has data type {tracking[name].dtype}", "Give real numbers."
            )
    if not tracking.sizes[FRAME]:
        raise InputError(
            "tracking has no frames", "Give one exposure or more: did a selection find none?"
        )


def _settings(
    places: NDArray[np.float64], names: tuple[str, ...], tolerance: Any
) -> NDArray[np.intp]:
    """Assign one number to all frames whose positions are equal within the tolerance."""
    limits = np.asarray(tolerance)
    known = limits.dtype.kind in "iuf" and bool((limits > 0).all() and np.isfinite(limits).all())
    if not known or limits.shape not in ((), (len(names),)):
        raise InputError(
            f"tolerance is {tolerance!r}",
            "Give the largest difference of equal positions: one positive number in the unit of the"
            " motors, or one for each motor.",
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


def _combined(
    tracking: xr.Dataset, *, remove_drift: bool, shared: bool
) -> tuple[xr.Dataset, xr.Dataset]:
    """Combine exposures of one setting: maps (y, x), and the drifts along frame."""
    tracking = of_one_set_up(tracking, "the tracking")
    tracking = tracking.transpose(FRAME, Y, X, ...)
    like = tracking[DISPLACEMENT_Y.name]
    others = [quantity for quantity in AVERAGED if quantity.name in tracking]
    window = tracking.get(WINDOW.name, xr.ones_like(like))
    parts = [tracking[c[k].name] for k in (0, 1) for c in COMPONENTS]
    parts += [window, *(tracking[quantity.name] for quantity in others)]
    sums, shifts, errors = exposure_sums(
        [part.data for part in parts], align=remove_drift, shared=shared
    )
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
    mean = xr.Dataset(
        {
            quantity.name: labelled(values.astype(np.float32), quantity, dims=(Y, X), coords=coords)
            for quantity, values in maps
        }
    )
    if REASON.name in tracking:
        reason = tracking[REASON.name]
        # Of the reasons of several exposures the mildest: matched, where one exposure is.
        values = reason.data.min(axis=0)
        mean[REASON.name] = labelled(values, REASON, dims=(Y, X), coords=coords, attrs=reason.attrs)
    return mean, xr.Dataset(drifts)
