"""The noise as it is: its spectrum, from what a match leaves unexplained.

Photon noise is white on a detector that counts photons. A scintillator spreads each photon over
several pixels, and speckle that partly decorrelates between the images leaves a residual with the
grain of the speckle. Both have their power where the pattern has its own, and do more harm to a
displacement than white noise of the same variance: a window averages over fewer independent values.

With the power spectrum N of the noise, of mean one over all frequencies, and S that of the gradient
of the pattern, the sum of noise times gradient over a window of n pixels has the variance
``n <N S>``, where white noise has ``n <S>``: the covariance of the displacement is the sandwich
``H^-1 <N S> H^-1 / n``. `measurednoise` measures both in cells of the image; `statednoise` computes
N from what is known of the detector.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.uncertainty import MOST_NOISE, TINY

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MOST_TAKEN: Final = 0.9
"""Largest part of the residual that the fit may have taken."""
WHITE: Final = (4.0, 0.5, 1.7, 1.7, 2.0, 2.0, 0.6, 0.6)
"""The fields of `Noise` for white noise, about: where there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What the noise does to a match, at the nodes; every array has their shape.

    Attributes
    ----------
    parameters : ndarray of float32
        Values of the residual in a window that the fit has taken, as if they were independent.
    passed : ndarray of float32
        Variance of the noise of the displaced reference, times the squared gain of the match, over
        that of the sample: for like noise, what the spline passes.
    gradient_y, gradient_x : ndarray of float32
        Variance that noise of unit variance has in the gradient.
    colour_y, colour_x : ndarray of float32
        Variance of noise times gradient, summed over a window, over that of white noise in the
        sample alone: about 2 for white noise in both images.
    cross_y, cross_x : ndarray of float32
        The same for the noise of the reference times that of the gradient, over the product of
        the variances of sample and gradient.
    power : ndarray of float32, optional
        Variance of the noise of the sample, if it is known; else the correlation tells it.
    """

    parameters: Floats
    passed: Floats
    gradient_y: Floats
    gradient_x: Floats
    colour_y: Floats
    colour_x: Floats
    cross_y: Floats
    cross_x: Floats
    power: Floats | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard errors of a displacement, and where noise may be all that there is.

    Attributes
    ----------
    error_y, error_x : ndarray of float32
        In pixels.
    drowned : ndarray of bool
        Where the residual, were it noise, would explain the gradient in some direction.
    hessian : (ndarray, ndarray, ndarray)
        Covariances yy, yx and xx of the gradient without its noise.
    """

    error_y: Floats
    error_x: Floats
    drowned: Mask
    hessian: tuple[Floats, Floats, Floats]


def spread_of(
    correlation: Floats,
    variance: Floats,
    count: Floats,
    hessian: tuple[Floats, Floats, Floats],
    noise: Noise,
    *,
    excess: Floats | None = None,
) -> Spread:
    """Estimate the standard error of a displacement that was refined in windows.

    Sample and reference hold the same pattern, the sample noise of variance ``n^2`` and the
    displaced reference ``a n^2``. Their correlation then is ``(1 - x)^2 / (1 - (1 - a) x)``,
    squared, with ``x = n^2 / var(sample)``: it gives ``n^2``. The gradient of
    the sample holds noise, too, and only what is left of H answers to a displacement. Three things
    add to the variance: the noise of the sample and of the reference, each times the gradient of
    the pattern, and the noise of the reference times that of the gradient. (The noise of the sample
    times its own gradient cancels over a window, for the filter is antisymmetric.)

    Parameters
    ----------
    correlation : ndarray of float32, shape (node rows, node columns)
        Of the match.
    variance, count : ndarray of float32
        Variance of the sample in the windows, and their pixels.
    hessian : (ndarray, ndarray, ndarray)
        Covariances yy, yx and xx of the gradient in the windows, with its noise.
    noise : Noise
    excess : ndarray of float32, shape (2, node rows, node columns), optional
        Variance of the noise in the gradient along y and x, at least: noise that both images have
        in common at the same pixels is not seen in the correlation.

    Returns
    -------
    Spread
    """
    taken = np.minimum(noise.parameters / count, MOST_TAKEN)
    unexplained = np.clip((1 - correlation**2) / (1 - taken), 0, 1)
    middle = 1 - (1 - unexplained) * (1 - noise.passed) / 2
    part = middle - np.sqrt(np.maximum(middle**2 - unexplained, 0))
    power = np.maximum(variance, 0) * np.minimum(part, 1) if noise.power is None else noise.power
    h_yy, h_yx, h_xx = hessian
    least = (h_yy + h_xx) / 2 - np.hypot((h_yy - h_xx) / 2, h_yx)
    largest = MOST_NOISE * np.maximum(least, 0)
    excess_y, excess_x = noise.gradient_y * power, noise.gradient_x * power
    if excess is not None:
        excess_y, excess_x = np.maximum(excess_y, excess[0]), np.maximum(excess_x, excess[1])
    drowned = np.maximum(excess_y, excess_x) >= largest
    excess_y, excess_x = np.minimum(excess_y, largest), np.minimum(excess_x, largest)
    h_yy, h_xx = np.maximum(h_yy - excess_y, 0), np.maximum(h_xx - excess_x, 0)
    determinant = np.maximum(h_yy * h_xx - h_yx**2, TINY)
    c_yy = noise.colour_y * h_yy + noise.cross_y * excess_y
    c_xx = noise.colour_x * h_xx + noise.cross_x * excess_x
    c_yx = np.sqrt(noise.colour_y * noise.colour_x) * h_yx
    errors = []
    for there, c_here, c_there in ((h_xx, c_yy, c_xx), (h_yy, c_xx, c_yy)):
        square = there**2 * c_here - 2 * there * h_yx * c_yx + h_yx**2 * c_there
        errors.append(np.sqrt(power * np.maximum(square, 0) / count) / determinant)
    first, second = (error.astype(np.float32) for error in errors)
    return Spread(first, second, drowned, (h_yy, h_yx, h_xx))
