"""Standard error of a matched displacement, from the image and the correlation."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from wavedask.kernels.spline import Order, SplineFilters

Floats = NDArray[np.float32]

FREE_PARAMETERS: Final = 4
"""Two displacements, a gain and an offset are fitted to every window."""
MOST_NOISE: Final = 0.8
"""Largest part of a measured gradient that is taken for noise."""
TINY: Final = 1e-12
"""Determinant of a window without a pattern; images have unit variance."""


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


@dataclass(frozen=True, slots=True)
class SplineNoise:
    """What splines make of white noise of unit variance.

    Attributes
    ----------
    gradient : float
        Variance of a derivative at the pixels.
    displaced : ndarray of float64, shape (n,)
        Variance after a displacement by 0 to 1 px in equal steps: interpolation between the pixels
        is a low-pass.
    """

    gradient: float
    displaced: NDArray[np.float64]

    @classmethod
    @cache
    def of_order(cls, order: Order) -> "SplineNoise":
        """Compute both for cubic (3) or quintic (5) splines."""
        filters = SplineFilters.of_order(order)
        side = filters.prefilter.astype(np.float64)
        prefilter = np.concatenate([side[:0:-1], side])
        basis = BSpline.basis_element(np.arange(order + 2), extrapolate=False)
        displaced = [
            np.sum(np.convolve(prefilter, np.nan_to_num(basis(np.arange(order + 2) + part))) ** 2)
            for part in np.linspace(0, 1, 33)
        ]
        gradient = 2 * np.sum(filters.gradient.astype(np.float64) ** 2)
        return cls(float(gradient), np.array(displaced))

    def at(self, displacement: Floats) -> Floats:
        """Return the variance after a displacement in pixels."""
        whole = np.linspace(0, 1, self.displaced.size)
        return np.interp(displacement % 1, whole, self.displaced).astype(np.float32)


def refined_uncertainty(
    residual: Floats,
    count: Floats,
    hessian: tuple[Floats, Floats, Floats],
    displacement: tuple[Floats, Floats],
    *,
    order: Order,
    blur: int,
    gradient: float | None = None,
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Estimate the standard error of a displacement refined in windows.

    Noise of variance ``n^2`` in the sample and, times the gain of the match, in the reference gives
    the solution the covariance ``2 n^2 H^-1 / N``: the Cramer-Rao bound. Two things stand between
    this and what a window measures:

    * The residual holds ``(1 + a) n^2`` and not ``2 n^2``: the spline that displaces the reference
      passes only a part ``a`` of its noise. What it stops is noise of high frequency, and none of
      that was in the error.
    * The measured ``H + G`` is that of a gradient with noise, of variance ``G = c n^2`` in both
      directions. Only H answers to a displacement, and the noise of the reference times that of the
      gradient adds ``a n^2 G H^-2 / N``. (The noise of the sample times its own gradient cancels
      over a window, for the filter is antisymmetric.)

    Parameters
    ----------
    residual : ndarray of float32, shape (rows, columns)
        Variance of the residual in the windows.
    count : ndarray of float32, shape (rows, columns)
        Pixels in the windows, N.
    hessian : (ndarray, ndarray, ndarray)
        Covariances yy, yx and xx of the gradient in the windows, with its noise.
    displacement : (ndarray, ndarray)
        y and x in pixels.
    order : 3 or 5
        Of the splines.
    blur : int
        Side of the windows in nodes.
    gradient : float, optional
        What the filter of the gradient makes of white noise of unit variance; by default that of
        the splines.

    Returns
    -------
    uncertainty_y, uncertainty_x : ndarray of float32, shape (rows, columns)
        In pixels.
    drowned : ndarray of bool, shape (rows, columns)
        Where the residual, were it noise, would explain the gradient in some direction.
    """
    h_yy, h_yx, h_xx = hessian
    noise = SplineNoise.of_order(order)
    passed = cv2.blur(
        noise.at(displacement[0]) * noise.at(displacement[1]),
        (blur, blur),
        borderType=cv2.BORDER_REFLECT,
    )
    variance = residual / (1 + passed)
    # However noisy the gradient, some of what was measured is the pattern: else nothing matches.
    least = (h_yy + h_xx) / 2 - np.hypot((h_yy - h_xx) / 2, h_yx)
    largest = MOST_NOISE * np.maximum(least, 0)
    excess = (noise.gradient if gradient is None else gradient) * variance
    drowned = excess >= largest
    excess = np.minimum(excess, largest)
    h_yy, h_xx = np.maximum(h_yy - excess, 0), np.maximum(h_xx - excess, 0)
    determinant = np.maximum(h_yy * h_xx - h_yx**2, TINY)
    both = passed * excess / determinant**2
    errors = []
    for other in (h_xx, h_yy):
        inverse, square = other / determinant, (other**2 + h_yx**2) * both
        errors.append(np.sqrt(variance * (2 * inverse + square) / count))
    return errors[0].astype(np.float32), errors[1].astype(np.float32), drowned
