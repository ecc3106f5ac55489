"""Facts about the set-up by name, and where data state them: coordinates and attributes."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    BINNING,
    DETECTOR_DISTANCE,
    DIMENSIONLESS,
    EXPOSURE_TIME,
    FRAME,
    METRE,
    PHOTON_ENERGY,
    PIXEL_SIZE_X,
    PIXEL_SIZE_Y,
    SURE,
    UNITS,
    UNKNOWN_UNIT,
)
from wavedask.errors import InputError
from wavedask.units import (
    DISTANCE,
    ENERGY,
    HC_KEV_M,
    MEMBRANE_DISTANCE,
    NEAR_DISTANCE,
    NEAR_PIXEL_SIZE,
    PIXEL_SIZE,
    SOURCE_DISTANCE,
    WAVELENGTH,
    conversion,
    number_of,
)

Floats = NDArray[np.float64]
Labelled: TypeAlias = xr.Dataset | xr.DataArray

KEV: Final = "keV"
SECOND: Final = "s"
NUMBER: Final = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*")
"""A number, and its unit if there is one, as headers hold them."""


PAIR: Final = re.compile(r"\s*([\d.]+(?:[eE][-+]?\d+)?)\s*[x×,; ]\s*([\d.]+(?:[eE][-+]?\d+)?)\s*")
"""Two numbers along (y, x), such as ``2x2``."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A property of the set-up that several places may state.

    Attributes
    ----------
    argument : str
        Argument by which the user states it.
    units : str
        Unit in which values are compared and returned.
    stated_as : mapping of str to str
        Names of coordinates, attributes or variables that state it, with the unit of a value that
        names none. The first name is the one that results of this package use.
    usual : (float, float)
        Range of values that need no confirmation.
    possible : (float, float)
        Range of values that are accepted with a confirmation.
    tolerance : float
        Relative difference up to which two values are the same.
    axis : int, optional
        Which of the two values along (y, x), if it is stated by pairs.
    """

    argument: str
    units: str
    stated_as: Mapping[str, str] = field(repr=False)
    usual: tuple[float, float]
    possible: tuple[float, float]
    tolerance: float
    axis: int | None = None


_LENGTHS: Final = ((1e-4, 100.0), (1e-4, 1e4), 1e-4)
_NEAR: Final = ((-100.0, 100.0), (-1e4, 1e4), 1e-4)
# Absolute mode enlarges the difference of two pixel sizes a hundred times.
_PIXELS: Final = ((1e-8, 5e-4), (1e-10, 1e-1), 1e-5)
_ANY: Final = ((0.0, np.inf), (0.0, np.inf), 1e-3)

FACTS: Final[Mapping[str, Fact]] = {
    PHOTON_ENERGY: Fact(
        PHOTON_ENERGY,
        KEV,
        {ENERGY: KEV, PHOTON_ENERGY: KEV, "photon_energy": KEV, WAVELENGTH: METRE},
        (1.0, 200.0),
        (0.01, 1000.0),
        1e-3,
    ),
    DISTANCE: Fact(DISTANCE, METRE, {DISTANCE: METRE, DETECTOR_DISTANCE: METRE}, *_LENGTHS),
    NEAR_DISTANCE: Fact(DISTANCE, METRE, {NEAR_DISTANCE: METRE}, *_NEAR),
    # Beamlines of free-electron lasers are a kilometre long.
    SOURCE_DISTANCE: Fact(
        SOURCE_DISTANCE, METRE, {SOURCE_DISTANCE: METRE}, (1e-3, 2e3), (1e-3, 1e6), 1e-4
    ),
    MEMBRANE_DISTANCE: Fact(MEMBRANE_DISTANCE, METRE, {MEMBRANE_DISTANCE: METRE}, *_LENGTHS),
    EXPOSURE_TIME: Fact(EXPOSURE_TIME, SECOND, {EXPOSURE_TIME: SECOND}, *_ANY),
    **{
        f"{PIXEL_SIZE}_{axis}": Fact(
            PIXEL_SIZE, METRE, {PIXEL_SIZE: METRE, quantity.name: METRE}, *_PIXELS, axis
        )
        for axis, quantity in enumerate((PIXEL_SIZE_Y, PIXEL_SIZE_X))
    },
    **{
        f"{NEAR_PIXEL_SIZE}_{axis}": Fact(
            PIXEL_SIZE, METRE, {NEAR_PIXEL_SIZE: METRE}, *_PIXELS, axis
        )
        for axis in (0, 1)
    },
    **{
        f"{BINNING}_{axis}": Fact(
            BINNING, DIMENSIONLESS, {BINNING: DIMENSIONLESS}, *_ANY, axis
        )
        for axis in (0, 1)
    },
}  # fmt: skip
"""The facts that are compared, by name; those of pairs by axis: ``pixel_size_0`` is along y."""

GIVEN: Final = "as given"
"""Place of an argument, in a message."""
STATING: Final = frozenset({SURE, *(name for fact in FACTS.values() for name in fact.stated_as)})
"""Names of attributes that state facts."""


class Stated(NamedTuple):
    """One statement: values in the unit of the fact, one or one for each frame, and its place."""

    values: Floats
    place: str


def given_value(fact: Fact, given: Any, label: str) -> Floats:
    """Check what the user gave: a number, or one for each frame."""
    if isinstance(given, xr.DataArray):
        given = _converted(fact, given.to_numpy(), str(given.attrs.get(UNITS, fact.units)), label)
    if np.ndim(given) == 0:
        number = number_of(label, given, unit=fact.units)
        if np.isnan(number):
            raise InputError(f"{label} is nan {fact.units}", "Give a number, or leave it out.")
        return np.asarray(number)
    values = np.asarray(given)
    if values.dtype.kind not in "iuf" or values.ndim != 1 or not values.size:
        raise InputError(f"{label} is {given!r}", f"Give a number in {fact.units}.")
    return values.astype(np.float64).reshape(() if values.size == 1 else values.shape)


def stated_in(fact: Fact, data: Labelled, words: str) -> Iterator[Stated]:
    """Find all statements about a fact in the coordinates and attributes of data.

    Parameters
    ----------
    fact : Fact
    data : xarray.Dataset or xarray.DataArray
    words : str
        What `data` is, for the message.

    Yields
    ------
    Stated
        Values in the unit of the fact, NaN for a frame that states nothing.

    Raises
    ------
    InputError
        A unit that does not convert, or a coordinate that does not lie along ``frame``.
    """
    canonical, *_ = fact.stated_as
    names: Iterable[str] = fact.stated_as
    if fact.argument in np.atleast_1d(data.attrs.get(SURE, [])):
        # The user confirmed the value in an earlier step, whatever the files state.
        own = (canonical, PHOTON_ENERGY) if fact.argument == PHOTON_ENERGY else (canonical,)
        names = [name for name in own if name in data.attrs or name in data.coords][:1]
    for name in names:
        assumed = fact.stated_as[name]
        if name in data.attrs:
            found = _parsed(fact, data.attrs[name], assumed, f"attribute {name!r} of {words}")
            if found is not None:
                yield found
        variable = _variable(data, name)
        if variable is None or variable.dtype.kind not in "iuf":
            continue
        kind = "coordinate" if name in data.coords else "variable"
        place = f"{kind} {name!r} of {words}"
        unit = str(variable.attrs.get(UNITS, UNKNOWN_UNIT))
        values = read_labels(variable).astype(np.float64)
        found = _known(fact, values, assumed if unit == UNKNOWN_UNIT else unit, place)
        if found is not None:
            yield found


def _variable(data: Labelled, name: str) -> xr.Variable | None:
    """Return a coordinate of the frames; or a single number of a dataset, as calibrations hold."""
    if name in data.coords:
        variable = data.coords[name].variable
        if set(variable.dims) - {FRAME}:
            raise InputError(
                f"coordinate {name!r} lies along {variable.dims}, and not along {FRAME!r}",
                "Give one value, or one for each frame; a mesh of frames is made afterwards.",
            )
        return variable
    if isinstance(data, xr.Dataset) and name in data and not data[name].ndim:
        return data[name].variable
    return None


def _parsed(fact: Fact, raw: Any, assumed: str, place: str) -> Stated | None:
    """Read an attribute: a number, a pair along (y, x), or a text that starts with a number."""
    if isinstance(raw, str) and fact.axis is not None and (pair := PAIR.fullmatch(raw)):
        raw = [float(pair[1]), float(pair[2])]
    parts = np.atleast_1d(np.asarray(raw, dtype=object)).ravel().tolist()
    if not parts or len(parts) > (1 if fact.axis is None else 2):
        return None
    part = parts[0] if fact.axis is None else parts[min(fact.axis, len(parts) - 1)]
    unit = assumed
    if isinstance(part, str):
        match = NUMBER.fullmatch(part)
        if match is None:
            return None
        part, unit = float(match[1]), match[2] or assumed
    if isinstance(part, bool) or not isinstance(part, int | float | np.number):
        return None
    return _known(fact, np.asarray(part, np.float64), unit, place)


def _known(fact: Fact, values: Floats, unit: str, place: str) -> Stated | None:
    """Convert the values that are positive and finite; None if there are none."""
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return None
    return Stated(_converted(fact, np.where(known, values, np.nan), unit, place), place)


def _converted(fact: Fact, values: Any, unit: str, place: str) -> Any:
    factor = conversion(unit, fact.units)
    if factor is not None:
        return values * factor
    length = conversion(unit, METRE) if fact.argument == PHOTON_ENERGY else None
    if length is None:
        raise InputError(
            f"{place} is in {unit!r}, which does not convert to {fact.units}",
            "Correct its unit, or rename it if it is something else.",
        )
    return HC_KEV_M / (values * length)


def read_labels(labels: xr.Variable | xr.DataArray) -> NDArray[Any]:
    """Read the values of a coordinate, which `chunk` may have made lazy.

    Only labels are read, never pixels, so this does not use the scheduler of the user.

    Examples
    --------
    >>> read_labels(xr.Variable("frame", [1.0, 2.0]).chunk(1))
    array([1., 2.])
    """
    with dask.config.set(scheduler="synchronous"):
        return np.asarray(labels.to_numpy())
