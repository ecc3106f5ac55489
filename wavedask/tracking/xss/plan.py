"""Checked settings and labelled maps that all ways of speckle scanning share."""

from collections.abc import Mapping
from typing import Any, Final

import xarray as xr

from wavedask.conventions import (
    DIMENSIONLESS,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    FRAME,
    LONG_NAME,
    QUANTITIES,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    UNITS,
    WINDOW,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.frames import DECLARED, image_of, masked_images
from wavedask.geometry import each
from wavedask.kernels.fields import Fields
from wavedask.kernels.scan import LEAST_OVERLAP, ScanMatch
from wavedask.tracking.xss.axes import ScanAxes
from wavedask.tracking.xss.blocks import ScanPlan
from wavedask.units import number_of, whole_number

Images = xr.DataArray | xr.Dataset
Pair = tuple[int, int]

DISPLACEMENTS: Final = ((DISPLACEMENT_Y, UNCERTAINTY_Y), (DISPLACEMENT_X, UNCERTAINTY_X))
"""A displacement and its standard error, along y and x."""
LONGEST_SEARCH: Final = 16
"""Largest default search, in steps."""
LEAST_SEARCH: Final = 2
"""Smallest search, in steps or pixels: a match at the edge of the search does not count."""
ACROSS: Final = 4
"""Default search across a scan of one motor, px."""


def stack_of(images: Images, name: str) -> xr.DataArray:
    """Return the frames of a scan, with dims (frame, y, x).

    Raises
    ------
    InputError
        A single image, or something that is not an image.
    """
    frames = image_of(images, name)
    if FRAME not in frames.dims:
        raise InputError(
            f"{name} is a single image", "Give the frames of a scan, with a motor that moves."
        )
    return masked_images(frames, name)


def checked_magnification(magnification: float) -> float:
    """Check a magnification: a positive number."""
    if not 0 < number_of("magnification", magnification, unit=DIMENSIONLESS) < float("inf"):
        raise InputError(
            f"magnification is {magnification}",
            "Give the distance from the source to the detector over that to the membrane.",
        )
    return float(magnification)


def scan_plan(
    axes: ScanAxes,
    *,
    window: int | Pair,
    search: int | Pair | None,
    least: float,
    centre: Pair = (0, 0),
    apart: Pair = (0, 0),
) -> ScanPlan:
    """Check the settings and plan the matching of a scan.

    Parameters
    ----------
    axes : ScanAxes
        The scan.
    window, search, least
        As of `track_scan`.
    centre : (int, int), default (0, 0)
        Centre of the search: a delay (y, x), in steps or pixels.
    apart : (int, int), default (0, 0)
        As of `ScanPlan`.

    Returns
    -------
    ScanPlan

    Raises
    ------
    InputError
        Invalid settings, or a search that leaves no overlap of the two scans.
    """
    sides = _pair(WINDOW.name, window)
    for side in sides:
        if side < 1 or side % 2 == 0:
            raise InputError(f"window is {window!r}", "Give an odd number of pixels, or (y, x).")
    if not 0 <= number_of("least", least, unit=DIMENSIONLESS) < 1:
        raise InputError(f"least is {least!r}", "Give a correlation from 0 to below 1.")
    reach = _reach(axes, search, centre)
    turned = axes.line and axes.scanned[0] == 0

    def ordered(pair: Pair) -> Pair:
        return pair[::-1] if turned else pair

    match = ScanMatch(axes.line, ordered(sides), ordered(reach), ordered(centre), float(least))
    shape = (1, max(axes.shape)) if axes.line else axes.shape
    return ScanPlan(match, shape, turned, apart)


def _reach(axes: ScanAxes, search: int | Pair | None, centre: Pair) -> Pair:
    """Return the search along (y, x)."""
    reach = list((ACROSS, ACROSS) if search is None else _pair("search", search))
    for axis in axes.scanned:
        count = axes.shape[axis]
        room = count - 2 - abs(centre[axis]) - LEAST_OVERLAP
        if room < LEAST_SEARCH:
            raise InputError(
                f"the scan along {(Y, X)[axis]!r} has {count} positions, and a delay of"
                f" {abs(centre[axis])} steps without any curvature",
                "Give a longer scan, or a smaller separation.",
            )
        if search is None:
            reach[axis] = min(LONGEST_SEARCH, max(count // 4, LEAST_SEARCH), room)
        elif reach[axis] > room:
            raise InputError(
                f"search is {reach[axis]} along {(Y, X)[axis]!r}, around a delay of"
                f" {centre[axis]} steps",
                f"Give {LEAST_SEARCH} to {room}: the scan has {count} positions.",
            )
    if min(reach) < LEAST_SEARCH:
        raise InputError(
            f"search is {search!r}",
            f"Give {LEAST_SEARCH} or more: a match at the edge of the search does not count.",
        )
    return reach[0], reach[1]


def _pair(name: str, given: Any) -> Pair:
    remedy = "Give a whole number, or two: (y, x)."
    values = [whole_number(name, value, remedy=remedy, given=given) for value in each(given)]
    if len(values) not in (1, 2):
        raise InputError(f"{name} is {given!r}", remedy)
    return values[0], values[-1]


def delays_of(fields: Fields) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the delays with their standard errors, along y and x, in steps or pixels."""
    return (
        (fields.displacement_y, fields.uncertainty_y),
        (fields.displacement_x, fields.uncertainty_x),
    )


def maps(
    variables: Mapping[str, Any], *, like: xr.DataArray, attrs: Mapping[Any, Any]
) -> xr.Dataset:
    """Label maps (y, x) by their names, with the coordinates of a stack that do not change."""
    kept = like.isel({FRAME: 0}, drop=True)
    others = (UNITS, LONG_NAME, *DECLARED)
    return xr.Dataset(
        {
            name: labelled(values, QUANTITIES[name], dims=(Y, X), coords=kept.coords)
            for name, values in variables.items()
        },
        attrs={name: value for name, value in attrs.items() if name not in others},
    )
