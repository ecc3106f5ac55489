"""What a tracker gives for every pixel."""

from typing import Any, Final, NamedTuple

import numpy as np


class Fields(NamedTuple):
    """Fields of a tracking, float32, all of one shape.

    Attributes
    ----------
    displacement_y, displacement_x : array
        ``u`` in pixels with ``sample(p) = reference(p - u)``; NaN where there is no match.
    uncertainty_y, uncertainty_x : array
        Standard error of the displacement in pixels; infinite where there is no match.
    correlation : array
        Zero-normalised cross-correlation at the match, -1 to 1; where there is none, the highest
        that was seen, or NaN.
    window : array
        Side in pixels of the window that gave the match; 0 where there is none.
    transmission : array
        Ratio of the local means, sample to reference; NaN where there is no match.
    dark_field : array
        Ratio of the relative visibilities, sample to reference: the gain of the match over the
        transmission; NaN where there is no match.
    """

    displacement_y: Any
    displacement_x: Any
    uncertainty_y: Any
    uncertainty_x: Any
    correlation: Any
    window: Any
    transmission: Any
    dark_field: Any


NO_MATCH: Final = Fields(np.nan, np.nan, np.inf, np.inf, np.nan, 0, np.nan, np.nan)
"""What a pixel without a match holds."""
