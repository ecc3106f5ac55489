"""Numbers, ranges and units as text, for the tables of the command line."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import DIMENSIONLESS, PIXEL, UNITS, UNKNOWN_UNIT
from wavedask.prefixes import prefixed

SEVERAL: Final = 8
"""Names in a row, where there are many: a line of a terminal or two."""
BARE: Final = frozenset({UNKNOWN_UNIT, DIMENSIONLESS})
"""Units that are not worth a word."""


def counted(count: int, noun: str) -> str:
    """Write a number and its noun, in the plural where it must be.

    Examples
    --------
    >>> counted(1, "file"), counted(2, "file")
    ('1 file', '2 files')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(settings: Mapping[str, Any]) -> str:
    """Write settings in one line; those that are not set are left out.

    Examples
    --------
    >>> listed({"window": 21, "over": None})
    'window 21'
    """
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value not in (None, {}))


def setting(value: Any) -> str:
    """Write one setting: a number, a text, a list or a section.

    Examples
    --------
    >>> setting([-1, -2]), setting({"window": 21})
    ('-1, -2', 'window 21')
    """
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return listed(value) if isinstance(value, Mapping) else str(value)


def unit_suffix(array: xr.DataArray) -> str:
    """Write the unit of an array after its value; nothing where there is none."""
    unit = array.attrs.get(UNITS, UNKNOWN_UNIT)
    return "" if unit in BARE else f" {unit}"


def value_range(coord: xr.DataArray) -> str:
    """Write the smallest and the largest value of a coordinate, and the number of values.

    Examples
    --------
    >>> value_range(xr.DataArray([0.0, 0.5, 0.5], attrs={"units": "mm"}))
    '0 … 0.5 mm (2 values)'
    """
    values = np.unique(coord.values[np.isfinite(coord.values)])
    if not values.size:
        return "no number"
    unknown = int((~np.isfinite(coord.values)).sum())
    gaps = f", unknown in {unknown} frames" if unknown else ""
    return f"{values[0]:g} … {values[-1]:g}{unit_suffix(coord)} ({values.size} values{gaps})"


def axis_range(positions: xr.DataArray) -> str:
    """Write the first and the last position of an axis, and its number of pixels."""
    values = np.asarray(positions.values, np.float64)
    scale, unit = prefixed(float(np.abs(values).max()), str(positions.attrs.get(UNITS, PIXEL)))
    return f"{values[0] * scale:.4g} … {values[-1] * scale:.4g} {unit}, {values.size} px"


def file_size(count: int) -> str:
    """Write a number of bytes in the largest binary unit that it fills.

    Examples
    --------
    >>> file_size(40), file_size(1536)
    ('40 B', '1.5 KiB')
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
