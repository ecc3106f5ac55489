"""Facts about the set-up that data and user state, compared before they are used.

A fact that is stated twice must be the same within a tolerance, a fact that only the data state is
taken from there, and an unusual value must be confirmed. All steps ask `agreed`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import FRAME, LONG_NAME, METRE, PHOTON_ENERGY, SURE, UNITS
from wavedask.errors import InputError
from wavedask.statements import FACTS, GIVEN, KEV, Fact, Labelled, Stated, given_value, stated_in
from wavedask.units import (
    ENERGY,
    HC_KEV_M,
    NEAR_PIXEL_SIZE,
    PIXEL_SIZE,
    SOURCE_DISTANCE,
    WAVELENGTH,
    in_range,
    number_of,
)

Floats = NDArray[np.float64]
AnyLabelled = TypeVar("AnyLabelled", xr.Dataset, xr.DataArray)
Data: TypeAlias = (
    Mapping[str, xr.Dataset] | Mapping[str, xr.DataArray] | Mapping[str, Labelled] | None
)
Names: TypeAlias = str | Sequence[str]


def agreed(
    name: str,
    given: Any = None,
    data: Data = None,
    *,
    sure: Names = (),
    label: str | None = None,
) -> Floats | None:
    """Return the value of a fact on which all places agree that state it.

    Parameters
    ----------
    name : str
        One of `FACTS`.
    given : optional
        What the user gave: a number in the unit of the fact, or one for each frame.
    data : mapping of str to xarray.Dataset or xarray.DataArray, optional
        What may state it in its coordinates and attributes, by its name in a message. A value that
        is not a positive finite number states nothing: many files hold 0 for what they do not know.
    sure : str or sequence of str, optional
        Arguments whose values the user confirms: an unusual value is accepted, and of `given` and
        `data` only `given` counts.
    label : str, optional
        Name of the fact in a message; by default its argument.

    Returns
    -------
    ndarray of float64, shape () or (frames,), or None
        The given value where there is one, else that of the data; for each frame where any place
        says so. None if nobody states it.

    Raises
    ------
    InputError
        Two places that differ: the message names both with their values. An unusual value that is
        not confirmed.

    Examples
    --------
    >>> scan = xr.Dataset(coords={"energy": ("frame", [8000.0, 12000.0], {"units": "eV"})})
    >>> agreed("energy", None, {"the scan": scan}).tolist()
    [8.0, 12.0]
    >>> agreed("energy", 17.0, {"the scan": scan})
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: energy is 17 keV as given and 8 keV in coordinate 'energy' of ...
    """
    fact, data = FACTS[name], data or {}
    label = fact.argument if label is None else label
    confirmed = fact.argument in _confirmed(sure, data)
    statements = [] if given is None else [Stated(given_value(fact, given, label), GIVEN)]
    for words, part in data.items() if statements else ():
        _check_frames(label, statements[0].values, part, words)
    if not (statements and fact.argument in _names(sure)):
        statements += [
            found for words, part in data.items() for found in stated_in(fact, part, words)
        ]
    if not statements:
        return None
    first = statements[0]
    _check_possible(fact, label, first)
    for other in statements[1:]:
        _check_same(fact, label, first, other)
    for statement in statements:
        _check_range(fact, label, statement, confirmed=confirmed)
    return _merged(statements)


def agreed_energy(
    energy: Any, wavelength: Any, data: Data = None, *, sure: Names = ()
) -> Floats | None:
    """Return the photon energy in keV on which the arguments and the data agree.

    Parameters
    ----------
    energy, wavelength : optional
        What the user gave, in keV and m.
    data, sure
        As of `agreed`.

    Returns
    -------
    ndarray of float64, shape () or (frames,), or None

    Raises
    ------
    InputError
        As `agreed`.

    Examples
    --------
    >>> print(f"{agreed_energy(None, 1e-10):.4f} keV")
    12.3984 keV
    """
    if wavelength is not None:
        for value in np.atleast_1d(np.asarray(wavelength, dtype=object)):
            in_range(WAVELENGTH, value, low=1e-12, high=1.3e-7, unit=METRE)
        as_energy = HC_KEV_M / np.asarray(wavelength, np.float64)
        if energy is not None:
            one = Stated(given_value(FACTS[PHOTON_ENERGY], energy, PHOTON_ENERGY), GIVEN)
            other = Stated(as_energy, "by the wavelength as given")
            _check_same(FACTS[PHOTON_ENERGY], PHOTON_ENERGY, one, other)
        else:
            energy = as_energy
    return agreed(PHOTON_ENERGY, energy, data, sure=sure)


def agreed_pixels(
    pixel_size: Any,
    data: Data = None,
    *,
    sure: Names = (),
    near: bool = False,
    label: str = PIXEL_SIZE,
) -> tuple[float, float] | None:
    """Return the pixel size along (y, x) in m on which the argument and the data agree.

    Parameters
    ----------
    pixel_size : float or (float, float), optional
        What the user gave, in m: one size, or those along (y, x).
    data, sure, label
        As of `agreed`.
    near : bool, default False
        Whether it is that of the near one of two detectors, which the tracking states apart.

    Returns
    -------
    (float, float) or None

    Raises
    ------
    InputError
        As `agreed`; not one or two numbers; sizes that differ from frame to frame.

    Examples
    --------
    >>> agreed_pixels(1e-6), agreed_pixels(None, {"image": xr.Dataset()})
    ((1e-06, 1e-06), None)
    """
    sizes: Any = (None, None)
    if pixel_size is not None:
        given = [pixel_size] if np.ndim(pixel_size) == 0 else list(pixel_size)
        if len(given) not in (1, 2):
            raise InputError(
                f"{label} is {pixel_size!r}", "Give one size, or one along y and one along x, in m."
            )
        sizes = [number_of(label, size, unit=METRE) for size in (given[0], given[-1])]
    name = NEAR_PIXEL_SIZE if near else PIXEL_SIZE
    found = [
        agreed_number(f"{name}_{axis}", size, data, sure=sure, label=label)
        for axis, size in enumerate(sizes)
    ]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def agreed_number(
    name: str,
    given: Any = None,
    data: Data = None,
    *,
    sure: Names = (),
    label: str | None = None,
) -> float | None:
    """Return what `agreed` does for a fact that must be the same in all frames.

    Raises
    ------
    InputError
        As `agreed`; a value that differs from frame to frame.

    Examples
    --------
    >>> moved = xr.Dataset(coords={"distance": ("frame", [1.0, 2.0])})
    >>> agreed_number("distance", None, {"the scan": moved})
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: distance changes from frame to frame, from 1 m to 2 m. Select ...
    """
    values = agreed(name, given, data, sure=sure, label=label)
    if values is None:
        return None
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if high > low and high - low > FACTS[name].tolerance * abs(high):
        unit = FACTS[name].units
        raise InputError(
            f"{label or FACTS[name].argument} changes from frame to frame, from {low:g} {unit} to"
            f" {high:g} {unit}",
            "Select the frames with one value, and treat each part on its own.",
        )
    return float(values.ravel()[np.argmin(np.isnan(values.ravel()))])


def with_energy(data: AnyLabelled, energy: Floats | None, *, sure: Names = ()) -> AnyLabelled:
    """State the photon energy in a result.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataArray
        The result.
    energy : ndarray, shape () or (frames,), optional
        As of `agreed_energy`, in keV.
    sure : str or sequence of str, optional
        As of `agreed`.

    Returns
    -------
    same type as `data`
        With the attributes ``energy_keV`` and ``wavelength``; or, with an energy for each frame,
        without them and with a coordinate ``energy``, in keV unless it was there.

    Examples
    --------
    >>> with_energy(xr.Dataset(), np.array([8.0, 12.0])).energy.units
    'keV'
    """
    if energy is None:
        return data
    if not energy.ndim:
        own = {ENERGY: float(energy), WAVELENGTH: HC_KEV_M / float(energy)}
        return data.assign_attrs(own)
    attrs = {name: value for name, value in data.attrs.items() if name not in (ENERGY, WAVELENGTH)}
    stated = data.copy(deep=False)
    stated.attrs = attrs
    if PHOTON_ENERGY in data.coords and PHOTON_ENERGY not in _names(sure):
        return stated
    words = {UNITS: KEV, LONG_NAME: "photon energy"}
    return stated.assign_coords({PHOTON_ENERGY: (FRAME, energy, words)})


def confirmed_facts(sure: Names, data: Data = None) -> list[str]:
    """List the arguments that the user confirmed, now and in earlier steps.

    Raises
    ------
    InputError
        A name that is none of an argument.

    Examples
    --------
    >>> confirmed_facts("energy", {"tracking": xr.Dataset(attrs={"sure": ["distance"]})})
    ['distance', 'energy']
    """
    return sorted(_confirmed(sure, data))


def _names(sure: Names) -> set[str]:
    names = {sure} if isinstance(sure, str) else set(sure)
    allowed = sorted({fact.argument for fact in FACTS.values()})
    if not names <= {*allowed}:
        raise InputError(f"sure is {sure!r}", f"Name some of: {', '.join(allowed)}.")
    return names


def _confirmed(sure: Names, data: Data) -> set[str]:
    earlier = {
        str(name)
        for part in (data or {}).values()
        for name in np.atleast_1d(part.attrs.get(SURE, []))
    }
    return _names(sure) | earlier


def _check_frames(label: str, values: Floats, data: Labelled, words: str) -> None:
    frames = data.sizes.get(FRAME, 1)
    if values.ndim and values.size != frames:
        raise InputError(
            f"{label} has {values.size} values {GIVEN}, and {words} has {frames} frames",
            "Give one value, or one for each frame.",
        )


def _check_same(fact: Fact, label: str, one: Stated, other: Stated) -> None:
    sizes = {one.values.size, other.values.size} - {1}
    if len(sizes) > 1:
        raise InputError(
            f"{label} has {one.values.size} values {_in(one.place)} and {other.values.size}"
            f" {_in(other.place)}",
            "Give one value, or one for each frame.",
        )
    a, b = np.broadcast_arrays(np.atleast_1d(one.values), np.atleast_1d(other.values))
    # What is not known in a frame contradicts nothing; two infinite distances are the same.
    differs = ~np.isclose(a, b, rtol=fact.tolerance, atol=0) & ~np.isnan(a) & ~np.isnan(b)
    if not differs.any():
        return
    first = int(differs.argmax())
    remedy = ", or drop it (assign_coords, assign_attrs, drop_vars)"
    if one.place == GIVEN:
        remedy = f"; or, if the given one is right, add sure={fact.argument!r}"
    frame = f" (frame {first})" if a.size > 1 else ""
    raise InputError(
        f"{label} is {a[first]:.6g} {fact.units} {_in(one.place)} and {b[first]:.6g} {fact.units}"
        f" {_in(other.place)}{frame}",
        f"Correct the one that is wrong{remedy}.",
    )


def _in(place: str) -> str:
    return place if place.startswith(("as ", "by ")) else f"in {place}"


def _check_range(fact: Fact, label: str, statement: Stated, *, confirmed: bool) -> None:
    _check_possible(fact, label, statement)
    low, high = fact.usual
    for value in _extremes(fact, statement):
        if not confirmed and not low <= value <= high:
            raise InputError(
                f"{label} is {value:.6g} {fact.units} {_in(statement.place)}, which is unusual",
                f"Usual are {low:g} to {high:g} {fact.units}: is it in another unit? If it is"
                f" right, add sure={fact.argument!r}.",
            )


def _check_possible(fact: Fact, label: str, statement: Stated) -> None:
    low, high = fact.possible
    for value in _extremes(fact, statement):
        if statement.place == GIVEN:
            in_range(label, value, low=low, high=high, unit=fact.units)
        elif not low < value < high:
            raise InputError(
                f"{label} is {value:.6g} {fact.units} {_in(statement.place)}, which cannot be",
                "Is it in another unit? Correct it or drop it (assign_coords, assign_attrs,"
                f" drop_vars); or give the right value, with sure={fact.argument!r}.",
            )


def _extremes(fact: Fact, statement: Stated) -> list[float]:
    """Return the smallest and the largest value; none of a source at infinity."""
    known = statement.values[~np.isnan(statement.values)]
    if fact.argument == SOURCE_DISTANCE:
        known = known[np.isfinite(known)]
    return np.unique([known.min(), known.max()]).tolist() if known.size else []


def _merged(statements: Sequence[Stated]) -> Floats:
    """Take the first value; for each frame, and from other places, where it is not known."""
    merged = statements[0].values
    for other in statements[1:]:
        if other.values.ndim > merged.ndim:
            merged = np.where(np.isnan(other.values), merged, other.values)
        elif merged.ndim:
            merged = np.where(np.isnan(merged), other.values, merged)
    return np.asarray(merged, np.float64)
