"""Units and ranges of physical values, and coordinates in metres."""

import re
from functools import cache
from itertools import product
from numbers import Real
from typing import Any, Final

import numpy as np
import scipy.constants
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    DIMENSIONLESS,
    LONG_NAME,
    METRE,
    PIXEL,
    UNITS,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError

DISTANCE: Final = "distance"
"""Attribute: distance from the optic to the plane of the wavefront, in m."""
SOURCE_DISTANCE: Final = "source_distance"
"""Attribute: distance from the source to the optic, in m; only where it was given."""
MEMBRANE_DISTANCE: Final = "membrane_distance"
"""Attribute: distance from the membrane to the detector, in m; only where it was given."""
NEAR_DISTANCE: Final = "near_distance"
"""Attribute: distance from the optic to the near detector, in m; absolute mode only."""
NEAR_PIXEL_SIZE: Final = "near_pixel_size"
"""Attribute: pixel size of the near detector along y and x, in m; absolute mode only."""
PIXEL_SIZE: Final = "pixel_size"
"""Attribute: step of the detector's pixels along y and x, in m."""
ENERGY: Final = "energy_keV"
"""Attribute: photon energy, in keV; only where it is known."""
WAVELENGTH: Final = "wavelength"
"""Attribute: wavelength, in m; only where it is known."""
MODE: Final = "mode"
"""Attribute: how slopes were measured, ``differential`` or ``absolute``."""

HC_KEV_M: Final = scipy.constants.h * scipy.constants.c / (1e3 * scipy.constants.e)
"""Photon energy times wavelength, in keV m."""


ODD_SPELLINGS: Final = {"A": "angstrom", "ANGSTROM": "angstrom", "KEV": "keV", "EV": "eV"}
"""Spellings of a unit that are common in files and have another meaning, or none, in pint."""


UNIT: Final = re.compile(
    r"(1 ?/ ?)?[^\W\d_]{1,20}((\^|\*\*)?-?\d)?( ?[*/ ] ?[^\W\d_]{1,20}((\^|\*\*)?-?\d)?){0,5}"
)
"""What may be a unit. Texts come from files, and pint calculates what they hold."""


@cache
def conversion(unit: str, to: str) -> float | None:
    """Return the factor from one unit to another.

    Parameters
    ----------
    unit, to : str
        Units in any spelling that pint reads: ``um``, ``µm``, ``micron`` and ``micrometer`` are
        one unit. Upper and lower case count only where they must: ``MM`` is a length, too.

    Returns
    -------
    float or None
        None if one of them is no unit, or if they do not measure the same quantity.

    Examples
    --------
    >>> conversion("micron", "m"), conversion("eV", "keV"), conversion("keV", "m")
    (1e-06, 0.001, None)
    """
    if unit == to:
        return 1.0
    if PIXEL in (unit, to) or not all(UNIT.fullmatch(text) for text in (unit, to)):
        return None  # pint takes px for a length, that of CSS
    import pint  # takes half a second, needed only for units that differ

    for one, other in product(_spellings(unit), _spellings(to)):
        try:
            return float(_registry().Quantity(1.0, one).to(other).magnitude)
        except pint.PintError:
            continue
    return None


def _spellings(unit: str) -> list[str]:
    """Spell a unit in ways that pint may know."""
    return [unit, *filter(None, [ODD_SPELLINGS.get(unit.upper())]), unit.lower()]


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()


def number_of(name: str, value: Any, *, unit: str) -> float:
    """Check that a value is one real number.

    Raises
    ------
    InputError
        A text, an array, a truth value, or nothing.

    Examples
    --------
    >>> number_of("distance", "1.0", unit="m")
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: distance is '1.0'. Give a number, in m.
    """
    number = _real(value)
    if number is None:
        words = "" if unit == DIMENSIONLESS else f", in {unit}"
        raise InputError(f"{name} is {value!r}", f"Give a number{words}.")
    return number


def whole_number(name: str, value: Any, *, remedy: str, given: Any = None) -> int:
    """Check that a value is one whole number; 15.0 is one, too.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    value : int
        The value.
    remedy : str
        What would be right, for the message.
    given : optional
        What the user gave, where the value is a part of it.

    Returns
    -------
    int

    Raises
    ------
    InputError
        A fraction, a text, an array, a truth value, NaN, or nothing.

    Examples
    --------
    >>> whole_number("window", 15.0, remedy="Give a number of pixels.")
    15
    """
    number = _real(value)
    if number is None or not np.isfinite(number) or number != int(number):
        raise InputError(f"{name} is {(value if given is None else given)!r}", remedy)
    return int(number)


def _real(value: Any) -> float | None:
    """Return a real number as floating point; None for anything else, and for a truth value."""
    number = np.asarray(value).item() if getattr(value, "ndim", None) == 0 else value
    return None if isinstance(number, bool) or not isinstance(number, Real) else float(number)


def in_range(name: str, value: Any, *, low: float, high: float, unit: str) -> float:
    """Check that a physical value lies in its range.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    value : float
        The value, one real number.
    low, high : float
        It lies between these, exclusive.
    unit : str
        Unit of all three, for the message.

    Returns
    -------
    float
        The value.

    Raises
    ------
    InputError
        If it is no number, or lies outside.

    Examples
    --------
    >>> in_range("energy", 17000.0, low=0.01, high=1000.0, unit="keV")
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: energy is 17000 keV. It must lie between 0.01 and 1000 keV: ...
    """
    number = number_of(name, value, unit=unit)
    # NaN is not between anything.
    if not low < number < high:
        if unit == DIMENSIONLESS:
            raise InputError(f"{name} is {number:g}", f"It must lie between {low:g} and {high:g}.")
        raise InputError(
            f"{name} is {number:g} {unit}",
            f"It must lie between {low:g} and {high:g} {unit}: is it given in another unit?",
        )
    return number


def relabelled(array: xr.DataArray, quantity: Quantity) -> xr.DataArray:
    """Give an array the name and the attributes of another quantity.

    Parameters
    ----------
    array : xarray.DataArray
        Values. Their name and attributes are dropped.
    quantity : Quantity
        What they are.

    Returns
    -------
    xarray.DataArray
        The same values, dimensions and coordinates.

    Examples
    --------
    >>> from wavedask.conventions import SLOPE_Y
    >>> relabelled(xr.DataArray([1.0], attrs={"units": "px"}), SLOPE_Y).attrs["units"]
    'rad'
    """
    dims = tuple(str(dim) for dim in array.dims)
    return labelled(array.data, quantity, dims=dims, coords=array.coords)


def pixel_numbers(array: xr.DataArray | xr.Dataset, dim: str) -> NDArray[np.float64]:
    """Return the pixel numbers along a dimension: its coordinate, or 0, 1, 2... without one.

    Raises
    ------
    InputError
        The coordinate does not count pixels.

    Examples
    --------
    >>> pixel_numbers(xr.DataArray([7.0, 7.0], dims="x"), "x").tolist()
    [0.0, 1.0]
    """
    numbers = array[dim]
    if numbers.attrs.get(UNITS, PIXEL) != PIXEL:
        raise InputError(
            f"coordinate {dim!r} is in {numbers.attrs[UNITS]!r}",
            "Give the result of track, whose coordinates count pixels.",
        )
    return np.asarray(numbers.to_numpy(), np.float64)


def in_metres(array: xr.DataArray, pixels: tuple[float, float]) -> xr.DataArray:
    """Convert the coordinates y and x from pixel numbers to metres.

    Parameters
    ----------
    array : xarray.DataArray, dims (..., y, x)
        Its coordinates, if it has some, count pixels.
    pixels : (float, float)
        Pixel sizes along (y, x), in m.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    InputError
        Coordinates that are in metres already.

    Examples
    --------
    >>> in_metres(xr.DataArray(np.zeros((1, 3)), dims=("y", "x")), (1e-6, 2e-6)).x.to_numpy()
    array([0.e+00, 2.e-06, 4.e-06])
    """
    metres = {}
    for dim, pixel, words in ((Y, pixels[0], "vertical"), (X, pixels[1], "horizontal")):
        attrs = {UNITS: METRE, LONG_NAME: f"{words} position on the detector"}
        metres[dim] = (dim, pixel_numbers(array, dim) * pixel, attrs)
    return array.assign_coords(metres)
