"""Standard error of a matched displacement, from the image and the correlation."""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FREE_PARAMETERS: Final = 4
"""Two displacements, a gain and an offset are fitted to every window."""


def displacement_uncertainty(
    image: Floats,
    correlation: Floats,
    *,
    window: int,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> tuple[Floats, Floats]:
    """Estimate the standard error of the displacement of windows around points of an image.

    A window of N pixels is matched with the reference up to gain and offset; what is left is noise
    of variance ``s^2 = N / (N - 4) * var * (1 - correlation^2)``, and the covariance of the two
    displacements is ``s^2 H^-1`` with H the sum of the outer products of the gradient over the
    window (the Cramer-Rao bound for independent noise).

    Parameters
    ----------
    image : ndarray of float32, shape (rows, columns)
        The sample image without gaps, its mean near zero.
    correlation : ndarray of float32, shape (n,)
        Correlation of each window with its match.
    window : int
        Side of the windows in pixels, odd.
    rows, columns : ndarray of int, shape (n,)
        Centres of the windows.

    Returns
    -------
    uncertainty_y, uncertainty_x : ndarray of float32, shape (n,)
        In pixels; infinite where the window has no gradient or there is no correlation.
    """
    border = cv2.BORDER_REFLECT_101
    difference = np.array([[-0.5, 0.0, 0.5]], np.float32)
    identity = np.ones((1, 1), np.float32)
    gradient_y = cv2.sepFilter2D(image, cv2.CV_32F, identity, difference, borderType=border)
    gradient_x = cv2.sepFilter2D(image, cv2.CV_32F, difference, identity, borderType=border)

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        blurred = cv2.blur(values, (window, window), borderType=border)
        return np.asarray(blurred[rows, columns], np.float64)

    def covariance(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
        return mean(first * second) - mean(first) * mean(second)

    yy, xx = covariance(gradient_y, gradient_y), covariance(gradient_x, gradient_x)
    yx = covariance(gradient_y, gradient_x)
    residual = covariance(image, image) * (1 - correlation.astype(np.float64) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = residual / ((window**2 - FREE_PARAMETERS) * (yy * xx - yx**2))
        standard_errors = np.sqrt(scale * xx), np.sqrt(scale * yy)
    error_y, error_x = (
        np.where(np.isfinite(error), error, np.inf).astype(np.float32) for error in standard_errors
    )
    return error_y, error_x
