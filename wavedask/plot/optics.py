"""Pictures of what was fitted to a wavefront: modes, caustic, profile of a mirror."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wavedask.conventions import (
    CAUSTIC_DISTANCE_X,
    CAUSTIC_DISTANCE_Y,
    CAUSTIC_POSITION_X,
    CAUSTIC_POSITION_Y,
    CAUSTIC_X,
    CAUSTIC_Y,
    COEFFICIENT,
    COEFFICIENT_UNCERTAINTY,
    FOCUS_DISTANCE_X,
    FOCUS_DISTANCE_Y,
    FOCUS_FWHM_X,
    FOCUS_FWHM_Y,
    FOCUSING_MODES,
    HEIGHT_ERROR,
    HEIGHT_ERROR_RMS,
    METRE,
    MIRROR_POSITION,
    MODE_NAME,
    PLANE,
    POINT,
    SLOPE_ERROR,
    SLOPE_ERROR_RMS,
    SLOPE_ERROR_UNCERTAINTY,
    TILT_MODES,
    Quantity,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.plot.maps import Picture
from wavedask.prefixes import prefixed_values

Floats = NDArray[np.float64]

MOST_BARS: Final = 24
"""Modes of a picture; of more, the strongest ones are drawn."""
WIDTHS: Final = 10
"""Half of the drawn width of a caustic, in full widths at half maximum of the focus."""
NEEDED: Final = {
    "modes": (COEFFICIENT,),
    "mirror": (SLOPE_ERROR, HEIGHT_ERROR),
    "focus": (CAUSTIC_Y, CAUSTIC_X),
}
"""Variables that each of these pictures needs."""


def plot_modes(fit: xr.Dataset) -> Figure:
    """Draw the coefficients of modes as bars, with their standard errors.

    Parameters
    ----------
    fit : xarray.Dataset
        One frame of a result of `wavedask.optics.zernike` or `legendre`, or of a store of a run
        with modes. Tilts are left out. Defocus has axes of its own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        No modes, or those of several frames.

    Examples
    --------
    >>> fit = xr.Dataset(
    ...     {"coefficient": ("mode_number", [5e-9, 1e-9, -2e-9])},
    ...     {"mode_name": ("mode_number", ["defocus", "coma x", "spherical"])},
    ... )
    >>> [len(axes.patches) for axes in plot_modes(fit).axes]
    [1, 2]
    """
    _check(fit, (COEFFICIENT,), "zernike or legendre")
    names = [str(name) for name in np.atleast_1d(fit[MODE_NAME.name].values)]
    values = np.asarray(fit[COEFFICIENT.name].values, np.float64)
    errors = np.full(values.size, np.nan)
    if COEFFICIENT_UNCERTAINTY.name in fit:
        errors = np.asarray(fit[COEFFICIENT_UNCERTAINTY.name].values, np.float64)
    kept = [place for place, name in enumerate(names) if name not in TILT_MODES]
    groups = [
        [place for place in kept if names[place] in FOCUSING_MODES],
        _strongest([place for place in kept if names[place] not in FOCUSING_MODES], values),
    ]
    groups = [group for group in groups if group] or [list(range(len(names)))]
    figure, panels = _panels(
        [len(group) + 1 for group in groups], title="modes of the wavefront, with standard errors"
    )
    for axes, group in zip(panels, groups, strict=True):
        _draw_bars(axes, [names[place] for place in group], values[group], errors[group])
    return figure


def _strongest(places: list[int], values: Floats) -> list[int]:
    """Select the largest coefficients, in the order of their numbers."""
    first = sorted(places, key=lambda place: -abs(np.nan_to_num(values[place])))
    return sorted(first[:MOST_BARS])


def _draw_bars(axes: Axes, names: list[str], values: Floats, errors: Floats) -> None:
    _, unit, scale = prefixed_values(np.abs(values) + np.nan_to_num(errors), METRE)
    bars = scale * errors if np.isfinite(errors).any() else None
    axes.bar(names, values * scale, yerr=bars, color="#56b4e9", edgecolor="0.2", capsize=3)
    axes.axhline(0.0, color="0.2", linewidth=0.8)
    axes.set_ylabel(f"{COEFFICIENT.name} [{unit}]")
    axes.tick_params(axis=X, labelrotation=60, labelsize="small")
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.grid(axis=Y, alpha=0.3)


def plot_caustic(focus: xr.Dataset) -> Figure:
    """Draw the profiles of a beam along its axis, near its focus, along y and x.

    Parameters
    ----------
    focus : xarray.Dataset
        One frame of a result of `wavedask.optics.find_focus`, or of a store of a run with a focus.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        No caustics, or those of several frames.

    Examples
    --------
    >>> caustic = (("caustic_plane", "caustic_point"), np.eye(3))
    >>> line = ("caustic_plane", np.array([0.9, 1.0, 1.1]))
    >>> across = ("caustic_point", np.array([-1e-6, 0.0, 1e-6]))
    >>> one = {"caustic_y": caustic, "caustic_distance_y": line, "caustic_position_y": across}
    >>> other = {name[:-1] + "x": array for name, array in one.items()}
    >>> [axes.get_title() for axes in plot_caustic(xr.Dataset(one | other)).axes[:2]]
    ['along y', 'along x']
    """
    _check(focus, (CAUSTIC_Y, CAUSTIC_X), "find_focus")
    figure, panels = _panels([1, 1], title="caustic: power near the focus")
    sides = (
        (Y, CAUSTIC_Y, CAUSTIC_DISTANCE_Y, CAUSTIC_POSITION_Y, FOCUS_DISTANCE_Y, FOCUS_FWHM_Y),
        (X, CAUSTIC_X, CAUSTIC_DISTANCE_X, CAUSTIC_POSITION_X, FOCUS_DISTANCE_X, FOCUS_FWHM_X),
    )
    for axes, (dim, caustic, distance, position, best, width) in zip(panels, sides, strict=True):
        z, across = (
            np.asarray(focus[part.name].values, np.float64) for part in (distance, position)
        )
        power = np.asarray(focus[caustic.name].transpose(PLANE, POINT).values, np.float64)
        if not np.isfinite(z).all() or not np.isfinite(across).all():
            axes.set_title(f"along {dim}: none", fontsize="medium")
            continue
        known = width.name in focus and bool(np.isfinite(focus[width.name]))
        if known:
            near = np.abs(across) <= WIDTHS * float(focus[width.name])
            if near.sum() > 8:
                across, power = across[near], power[:, near]
        along, beside = prefixed_values(z, METRE), prefixed_values(across, METRE)
        axes.pcolormesh(along.values, beside.values, power.T, cmap="viridis", rasterized=True)
        title = f"along {dim}"
        if best.name in focus:
            axes.axvline(
                float(focus[best.name]) * along.scale, color="white", linewidth=0.8, ls="--"
            )
        if known:
            size = prefixed_values(focus[width.name], METRE)
            title += f": {size.values:.3g} {size.unit} FWHM"
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(f"distance behind the detector [{along.unit}]")
        axes.set_ylabel(f"{dim} [{beside.unit}]")
    return figure


def plot_mirror(found: xr.Dataset) -> Figure:
    """Draw slope error and height error along a mirror.

    Parameters
    ----------
    found : xarray.Dataset
        One frame of a result of `wavedask.optics.mirror`, or of a store of a run with a mirror.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        No profiles, or those of several frames.

    Examples
    --------
    >>> line = ("mirror_position", np.array([0.0, 1e-9, 0.0]))
    >>> found = xr.Dataset(
    ...     {"slope_error": line, "height_error": line}, {"mirror_position": [-1e-2, 0.0, 1e-2]}
    ... )
    >>> [axes.get_ylabel() for axes in plot_mirror(found).axes]
    ['slope_error [nrad]', 'height_error [nm]']
    """
    _check(found, (SLOPE_ERROR, HEIGHT_ERROR), "mirror")
    along = prefixed_values(found[MIRROR_POSITION.name], METRE)
    figure, pair = _panels([1, 1], stacked=True)
    for axes, error, rms in zip(
        pair, (SLOPE_ERROR, HEIGHT_ERROR), (SLOPE_ERROR_RMS, HEIGHT_ERROR_RMS), strict=True
    ):
        values, unit, scale = prefixed_values(found[error.name], error.units)
        axes.plot(along.values, values, color="#0072b2")
        if error is SLOPE_ERROR and SLOPE_ERROR_UNCERTAINTY.name in found:
            sigma = scale * np.asarray(found[SLOPE_ERROR_UNCERTAINTY.name].values, np.float64)
            if np.isfinite(sigma).any():
                band = values - sigma, values + sigma
                axes.fill_between(along.values, *band, color="#0072b2", alpha=0.25, lw=0)
        axes.axhline(0.0, color="0.2", linewidth=0.8)
        axes.set_ylabel(f"{error.name} [{unit}]")
        axes.grid(alpha=0.3)
        if rms.name in found:
            size = f"{float(found[rms.name]) * scale:.3g} {unit}"
            axes.set_title(f"{error.long_name}: {size} rms", fontsize="medium")
    pair[1].set_xlabel(f"position along the mirror [{along.unit}]")
    return figure


def _panels(
    shares: Sequence[int], *, stacked: bool = False, title: str | None = None
) -> tuple[Figure, list[Axes]]:
    """Make a figure of the width of a page with axes side by side, or stacked with one x axis."""
    figure = Picture(figsize=(8.2, 4.2 if stacked else 3.6), layout="constrained")
    if title is not None:
        figure.suptitle(title, fontsize="medium")
    if stacked:
        return figure, list(figure.subplots(len(shares), height_ratios=shares, sharex=True))
    axes = figure.subplots(1, len(shares), width_ratios=shares, squeeze=False)
    return figure, list(axes.flat)


PICTURES: Final = {"modes": plot_modes, "mirror": plot_mirror, "focus": plot_caustic}
"""Pictures of one frame, by their kind."""


def _check(found: xr.Dataset, needed: tuple[Quantity, ...], source: str) -> None:
    """Refuse a dataset that is not the outcome of one frame."""
    missing = [quantity.name for quantity in needed if quantity.name not in found]
    if missing:
        raise InputError(
            f"there is no {', '.join(missing)}: the dataset has "
            f"{', '.join(map(str, found)) or 'no variables'}",
            f"Give one frame of a result of {source}.",
        )
    if found[needed[0].name].ndim > (2 if needed[0] is CAUSTIC_Y else 1):
        raise InputError(
            f"{needed[0].name} has the dimensions {found[needed[0].name].dims}",
            "Choose one frame, as isel(frame=0).",
        )
