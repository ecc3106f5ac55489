"""SI prefixes that make lengths and angles readable."""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wavedask.conventions import METRE, RADIAN

PREFIXES: Final = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k"}
SCALED_UNITS: Final = frozenset({METRE, RADIAN})
"""Units that take a prefix."""


class Prefixed(NamedTuple):
    """Values in a unit that reads well.

    Attributes
    ----------
    values : ndarray of float64
    unit : str
    scale : float
        Factor that was applied.
    """

    values: npt.NDArray[np.float64]
    unit: str
    scale: float


def prefixed(largest: float, unit: str) -> tuple[float, str]:
    """Find the SI prefix with which a value lies between 1 and 1000.

    Parameters
    ----------
    largest : float
        Largest absolute value to show.
    unit : str
        Its unit; only metres and radians take a prefix.

    Returns
    -------
    factor : float
        Factor to multiply the values with.
    unit : str
        Unit of the values after that.

    Examples
    --------
    >>> factor, unit = prefixed(6.5e-07, "m")
    >>> f"{6.5e-07 * factor:g} {unit}"
    '650 nm'
    """
    if unit not in SCALED_UNITS or largest == 0:
        return 1.0, unit
    power = 3 * math.floor(math.log10(largest) / 3)
    power = min(max(power, min(PREFIXES)), max(PREFIXES))
    return 10.0**-power, PREFIXES[power] + unit


def prefixed_values(values: npt.ArrayLike, unit: str) -> Prefixed:
    """Scale values by the SI prefix of the largest of them.

    Parameters
    ----------
    values : array_like of float
        Values; those that are not finite do not count.
    unit : str
        Their unit; only metres and radians take a prefix.

    Returns
    -------
    Prefixed

    Examples
    --------
    >>> found = prefixed_values([2e-6, -5e-4, np.nan], "m")
    >>> f"{found.values[1]:g} {found.unit}"
    '-500 µm'
    """
    array = np.asarray(values, np.float64)
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
    scale, shown = prefixed(largest, unit)
    return Prefixed(array * scale, shown, scale)
