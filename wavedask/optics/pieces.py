"""Linear fits to a map that may lie in separate pieces, each with a level of its own."""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wavedask.errors import InputError

Floats = npt.NDArray[np.float64]

WORST_CONDITION: Final = 1e12
"""Condition of the normal equations beyond which points do not tell the functions apart."""


def numbered_pieces(used: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Label the separate pieces of a map from 0; points that are not on a map count as one piece.

    Examples
    --------
    >>> numbered_pieces(np.array([[True, False, True]]))
    array([[0, 0, 1]])
    """
    if used.ndim != 2:
        return np.zeros(used.shape, np.intp)
    return np.maximum(np.asarray(ndimage.label(used)[0], np.intp) - 1, 0)


def solved(normal: Floats, right: Floats, sums: Floats) -> tuple[Floats, Floats]:
    """Solve the normal equations of a fit whose first function is one, with a level per piece.

    Parameters
    ----------
    normal : ndarray, shape (count, count)
        Weighted sums of the products of the functions.
    right : ndarray, shape (count,)
        Weighted sums of the functions times the heights.
    sums : ndarray, shape (pieces, count + 2)
        Weighted sums over each piece of the functions, of the heights, and of one.

    Returns
    -------
    inverse : ndarray, shape (count, count)
        Covariance of the coefficients, for weights that are inverse variances.
    coefficients : ndarray, shape (count,)
        With several pieces the first makes the mean of what is left zero.

    Raises
    ------
    InputError
        If the points do not tell the functions apart.
    """
    count = len(normal)
    first = 0 if len(sums) == 1 else 1
    if first:
        # The level of each piece is fitted by taking means out of all else.
        means = sums[:, :count] / sums[:, -1:]
        normal = normal - means.T @ sums[:, :count]
        right = right - means.T @ sums[:, -2]
    told_apart = normal[first:, first:]
    if count > first and np.linalg.cond(told_apart) > WORST_CONDITION:
        raise InputError(
            f"the points with data do not tell {count} modes apart",
            "Ask for fewer modes, or scale y and x so that the points fill the pupil.",
        )
    inverse = np.zeros((count, count))
    inverse[first:, first:] = np.linalg.inv(told_apart)
    coefficients = inverse @ right
    if first:
        total = sums.sum(axis=0)
        coefficients[0] = (total[-2] - total[:count] @ coefficients) / total[-1]
        inverse[0, 0] = 1 / total[-1]
    return inverse, coefficients


def levels_left(sums: Floats, coefficients: Floats) -> Floats:
    """Return the level of each piece that the functions leave, shape (pieces,)."""
    return np.asarray((sums[:, -2] - sums[:, :-2] @ coefficients) / sums[:, -1])
