"""What a tracker gives for every pixel."""

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np


class Reason(IntEnum):
    """Why a pixel has no displacement; where several reasons hold, the largest counts."""

    MATCHED = 0
    """It has one."""
    BORDER = 1
    """Too much of its window, or of the match, lies outside of the frame."""
    MASKED = 2
    """Too much of its window, or of the match, has no data."""
    NO_STRUCTURE = 3
    """The window is flat, or a pattern of lines along one direction."""
    SEARCH_LIMIT = 4
    """The best match lies at the limit of the search."""
    AMBIGUOUS = 5
    """A second match is nearly as good: a periodic pattern."""
    NOT_CONVERGED = 6
    """The refinement has not settled."""
    UNCORRELATED = 7
    """Nothing within the search resembles the window."""
    OUTLIER = 8
    """The match disagrees with its neighbours, or stands alone."""
    OUTSIDE_PUPIL = 9
    """It was not asked for; no tracker gives this reason."""


class Fields(NamedTuple):
    """Fields of a tracking, all of one shape; ``reason`` is uint8, the others are float32.

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
    reason : array
        Why there is no match, a value of `Reason`; 0 where there is one.
    """

    displacement_y: Any
    displacement_x: Any
    uncertainty_y: Any
    uncertainty_x: Any
    correlation: Any
    window: Any
    transmission: Any
    dark_field: Any
    reason: Any


NO_MATCH: Final = Fields(
    np.nan, np.nan, np.inf, np.inf, np.nan, 0, np.nan, np.nan, Reason.NOT_CONVERGED
)
"""What a pixel without a match holds; a tracker gives the reason that it knows."""
