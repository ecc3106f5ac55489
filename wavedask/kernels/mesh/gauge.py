"""The gauge of a distortion: no affine part, so that pixel size and rotation are defined."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.affine import affine_fit

Floats = NDArray[np.float64]


def without_affine(f_y: Any, f_x: Any, valid: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Take the affine part out of a distortion.

    Parameters
    ----------
    f_y, f_x : ndarray, shape (rows, columns)
        Distortion in px: ``true = p + f(p)``.
    valid : ndarray of bool, shape (rows, columns)
        Pixels over which the affine part is fitted, by least squares.

    Returns
    -------
    f_y, f_x : ndarray of float64, shape (rows, columns)
        Distortion in px without it.
    change : ndarray, shape (2, 2)
        Matrix that multiplies true coordinates and all that is measured in them.

    Notes
    -----
    No image can tell an affine distortion from other pixel sizes and axes. With
    ``f = A p + a + f0``, true coordinates ``p + f(p)`` are ``(I + A)(p + f1(p)) + a``, where ``f1``
    is the inverse of ``I + A`` times ``f0``: that is the distortion returned, and the inverse is
    the matrix.

    Examples
    --------
    >>> y, x = np.mgrid[:4.0, :5.0]
    >>> f_y, f_x, change = without_affine(0.25 * y, 0 * x, np.full((4, 5), True))
    >>> bool(np.allclose(f_y, 0)), change.tolist()
    (True, [[0.8, 0.0], [0.0, 1.0]])
    """
    y, x = np.mgrid[: valid.shape[0], : valid.shape[1]].astype(np.float64)
    maps = np.stack([f_y, f_x]).astype(np.float64)
    fitted = affine_fit(maps[:, valid], y[valid], x[valid], np.ones(np.count_nonzero(valid)))
    if fitted is None:
        raise ValueError("the valid pixels lie on a line")
    change = np.asarray(np.linalg.inv(np.eye(2) + fitted.matrix), np.float64)
    rest_y, rest_x = np.einsum("ij,jyx->iyx", change, maps - fitted.at(y, x))
    return rest_y, rest_x, change
