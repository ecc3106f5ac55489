"""SI prefixes that make lengths and angles readable."""

import math
from typing import Final

from wavedask.conventions import METRE, RADIAN

PREFIXES: Final = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k"}
SCALED_UNITS: Final = frozenset({METRE, RADIAN})
"""Units that take a prefix."""


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
