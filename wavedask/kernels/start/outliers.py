"""Matches that contradict their neighbours, and what takes their place."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.fields import Reason
from wavedask.kernels.grids import continued, median_of, neighbours
from wavedask.kernels.start.matching import ABSENT, Matches

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]

OUTLIER: Final = 3.0
"""Normalised-median residual above which a vector is an outlier (Westerweel & Scarano use 2)."""
OUTLIER_FLOOR: Final = 0.5
"""Pixels added to the median residual: the precision that a first pass is expected to have."""
MAX_GRADIENT: Final = 0.15
"""Displacement per pixel beyond which neighbours contradict each other instead of varying."""


def without_outliers(matches: Matches, *, spacing: int) -> tuple[Floats, Floats, Codes]:
    """Replace outliers and gaps of a displacement field by what their neighbours lead to.

    The normalised-median test of Westerweel & Scarano (Exp. Fluids 39, 1096, 2005): a vector is
    compared with the median of its eight neighbours, in units of their median residual.

    Parameters
    ----------
    matches : Matches
        A grid of matches, shape (n, m).
    spacing : int
        Pixels between the points of the grid.

    Returns
    -------
    displacement_y, displacement_x : ndarray of float32, shape (n, m)
        NaN where fewer than half of the neighbours, and than three, are left to confirm or replace
        a vector, or where they contradict each other. Points without data (masked, beyond the
        border, flat) are not counted among the neighbours.
    reason : ndarray of uint8, shape (n, m)
        Why there is no vector; 0 where there is one.
    """
    fields = (matches.displacement_y, matches.displacement_x)
    kept = matches.valid.copy()
    for field in fields:
        around = neighbours(field)
        median = median_of(around)
        residual = median_of(np.abs(around - median))
        with np.errstate(invalid="ignore"):
            kept &= ~(np.abs(field - median) > OUTLIER * (residual + OUTLIER_FLOOR))
            kept &= ~(residual > MAX_GRADIENT * spacing + OUTLIER_FLOOR)
    # What too few confirm must not lead the gaps beside it astray.
    absent = np.isin(matches.reason, ABSENT)
    kept &= _confirmed(kept, absent)
    near = _confirmed(kept, absent)
    cleaned = []
    for field in fields:
        clean = np.where(kept, field, np.nan)
        clean = np.where(kept, clean, np.where(near, continued(clean), np.nan))
        cleaned.append(clean.astype(np.float32))
    dropped = np.where(matches.valid, np.uint8(Reason.OUTLIER), matches.reason)
    reason = np.where(np.isnan(cleaned[0]), dropped, np.uint8(Reason.MATCHED))
    return cleaned[0], cleaned[1], reason


def _confirmed(kept: Mask, absent: Mask) -> Mask:
    """Where half of the neighbours that have data are kept, or three: those of a corner."""
    around = neighbours(np.where(absent, np.nan, np.where(kept, 1.0, 0.0)))
    needed = np.minimum(np.isfinite(around).sum(0) / 2, 3)
    return np.asarray(np.nansum(around, axis=0) >= needed, np.bool_)
