"""Physical values: their ranges and units, and maps on coordinates in metres."""

import math
from typing import Any, Final

import numpy as np
import scipy.constants
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import LONG_NAME, METRE, PIXEL, UNITS, Quantity, X, Y, labelled
from wavedask.errors import InputError

DISTANCE: Final = "distance"
"""Attribute: distance from the optic to the plane of the wavefront, in m."""
SOURCE_DISTANCE: Final = "source_distance"
"""Attribute: distance from the source to the optic, in m; only where it was given."""
MEMBRANE_DISTANCE: Final = "membrane_distance"
"""Attribute: distance from the membrane to the detector, in m; only where it was given."""
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


def in_range(name: str, value: float, *, low: float, high: float, unit: str) -> float:
    """Check that a physical value lies in its range.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    value : float
        The value.
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
        If it lies outside.

    Examples
    --------
    >>> in_range("energy", 17000.0, low=0.01, high=1000.0, unit="keV")
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: energy is 17000 keV. It must lie between 0.01 and 1000 keV: ...
    """
    # NaN is not between anything.
    if not low < value < high:
        raise InputError(
            f"{name} is {value:g} {unit}",
            f"It must lie between {low:g} and {high:g} {unit}: is it given in another unit?",
        )
    return float(value)


def pixel_sizes(pixel_size: Any, *, name: str = PIXEL_SIZE) -> tuple[float, float]:
    """Check a pixel size, and give it along both axes.

    Parameters
    ----------
    pixel_size : float or (float, float)
        One size, or those along (y, x), in m.
    name : str
        What it is, for the message.

    Returns
    -------
    (float, float)
        Sizes along (y, x) in m.

    Raises
    ------
    InputError
        Not one or two numbers, or outside 1 nm to 1 mm.

    Examples
    --------
    >>> pixel_sizes(1e-6)
    (1e-06, 1e-06)
    """
    try:
        sizes = np.asarray(pixel_size, dtype=np.float64)
    except (TypeError, ValueError):
        sizes = np.empty((0,))
    if sizes.shape not in ((), (2,)):
        raise InputError(
            f"{name} is {pixel_size!r}", "Give one size, or one along y and one along x, in m."
        )
    along_y, along_x = (
        in_range(name, size, low=1e-9, high=1e-3, unit=METRE)
        for size in np.broadcast_to(sizes, 2).tolist()
    )
    return along_y, along_x


def source_distance_of(source_distance: float | None) -> float:
    """Check the distance from source to optic; infinite for None, a parallel beam.

    Raises
    ------
    InputError
        Not a positive number.

    Examples
    --------
    >>> source_distance_of(None), source_distance_of(40)
    (inf, 40.0)
    """
    if source_distance is None or source_distance == math.inf:
        return math.inf
    return in_range(SOURCE_DISTANCE, source_distance, low=1e-3, high=1e6, unit=METRE)


def wavelength_of(energy: float | None, wavelength: float | None) -> float | None:
    """Return the wavelength in m, given it or the photon energy in keV; None for neither.

    Raises
    ------
    InputError
        If both are given, or one is out of range.

    Examples
    --------
    >>> print(f"{1e10 * wavelength_of(12.0, None):.4f} angstrom")
    1.0332 angstrom
    """
    if energy is not None and wavelength is not None:
        raise InputError(
            f"energy is {energy:g} keV and wavelength is {wavelength:g} m",
            "Give one of them; the other follows.",
        )
    if energy is not None:
        return HC_KEV_M / in_range("energy", energy, low=0.01, high=1000.0, unit="keV")
    if wavelength is not None:
        return in_range(WAVELENGTH, wavelength, low=1e-12, high=1.3e-7, unit=METRE)
    return None


def relabelled(array: xr.DataArray, quantity: Quantity) -> xr.DataArray:
    """Name an array anew: what was computed from one quantity is another.

    Parameters
    ----------
    array : xarray.DataArray
        Values; their own name and attributes are dropped.
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
    """Pixel numbers along a dimension: its coordinate, or a count from 0 without one.

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
    """Give an array its coordinates y and x in metres, from its pixel numbers.

    Parameters
    ----------
    array : xarray.DataArray, dims (..., y, x)
        Coordinates, if any, count pixels.
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


def one_chunk_per_map(array: xr.DataArray) -> xr.DataArray:
    """Put each map into one chunk, if the array is lazy: integration needs it whole.

    Examples
    --------
    >>> maps = xr.DataArray(np.zeros((2, 4, 4)), dims=("frame", "y", "x")).chunk(2)
    >>> one_chunk_per_map(maps).chunks
    ((1, 1), (4,), (4,))
    """
    if array.chunks is None:
        return array
    sizes = {dim: -1 if dim in (Y, X) else 1 for dim in array.dims}
    # Of the variable: DataArray.chunk() would make the coordinates lazy, too.
    return array.copy(deep=False, data=array.variable.chunk(sizes).data)
