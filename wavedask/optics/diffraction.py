"""Fresnel propagation of a focused field, one axis at a time."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

from wavedask.errors import InputError

Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.complex128]

LARGEST_STEP: Final = 0.5
"""Waves by which a phase may change from one pixel to the next."""


def transformed(
    field: Field,
    *,
    positions: Floats,
    focus: float,
    distance: float,
    wavelength: float,
    out: Floats,
    axis: int,
) -> Field:
    r"""Propagate a field along one axis to chosen positions, by one Fourier transform.

    The field is :math:`U(x) e^{-i k x^2 / 2 q}`. At the distance z its Fresnel integral is

    .. math:: U'(x') = \sqrt{\frac{1}{\lambda |z|}} \int U(x)\, e^{-i k x^2 (1/q - 1/z) / 2}\,
              e^{-i k x x' / z} dx,

    without the phase of x' (Goodman, Introduction to Fourier Optics, 4.2). Near the focus the
    quadratic phase under the integral is slow, and pixels sample it. The chirp-z transform gives
    any positions x' (Rabiner et al., Bell Syst. Tech. J. 48, 1249, 1969).

    Parameters
    ----------
    field : ndarray of complex
        U, without the phase of the sphere.
    positions : ndarray
        Positions x along `axis`, of equal steps, m.
    focus : float
        Distance q to the focus, m; infinite for a plane wave.
    distance : float
        Distance z to propagate, m; negative is upstream.
    wavelength : float
        Wavelength, m.
    out : ndarray
        Positions x', of equal steps, m.
    axis : int
        Axis of the field.

    Returns
    -------
    ndarray of complex
        With `out` along `axis`. Its squared modulus is the power per metre of x'.

    Raises
    ------
    InputError
        Pixels that do not sample the phase under the integral: the message has the numbers.

    Examples
    --------
    >>> x = np.linspace(-1e-3, 1e-3, 101)
    >>> spot = transformed(
    ...     np.ones(101, complex), positions=x, focus=1.0, distance=1.0, wavelength=1e-10,
    ...     out=np.array([0.0, 5e-8]), axis=0,
    ... )
    >>> bool(abs(spot[1]) < 0.02 * abs(spot[0]))  # the first zero of a slit
    True
    """
    k = 2 * math.pi / wavelength
    bend = 1 / focus - 1 / distance
    step, out_step = float(positions[1] - positions[0]), float(out[1] - out[0])
    waves = field_at_rim(bend, positions, wavelength)
    if waves > LARGEST_STEP:
        raise InputError(
            f"pixels of {step:.3g} m do not sample the field at {distance:.6g} m: its phase "
            f"changes by {waves:.3g} waves from pixel to pixel at the rim, and {LARGEST_STEP} is "
            "the most",
            "Ask for a distance nearer to the focus, or give a smaller aperture.",
        )
    wide = [1] * field.ndim
    wide[axis] = -1
    phase = -k * (positions**2 * bend / 2)
    chirped = field * np.exp(1j * phase).reshape(wide)
    turn = k * step / distance
    transform = signal.CZT(
        positions.size,
        out.size,
        w=np.exp(-1j * turn * out_step),
        a=np.exp(1j * turn * out[0]),
    )
    moved = np.exp(-1j * k * positions[0] * out / distance).reshape(wide)
    size = step / math.sqrt(wavelength * abs(distance))
    return np.asarray(transform(chirped, axis=axis) * moved * size)


def field_at_rim(bend: float, positions: Floats, wavelength: float) -> float:
    """Return by how many waves a quadratic phase changes from pixel to pixel at the rim.

    Parameters
    ----------
    bend : float
        Curvature of the phase, 1/m.
    positions : ndarray
        Positions, m.
    wavelength : float
        Wavelength, m.

    Examples
    --------
    >>> field_at_rim(1e-3, np.array([-1e-4, 1e-4]), 1e-10)
    0.2
    """
    step = abs(float(positions[1] - positions[0]))
    return float(np.abs(positions).max()) * step * abs(bend) / wavelength


def scaled(
    field: Field, *, step: float, focus: float, distance: float, wavelength: float, axis: int
) -> tuple[Field, float]:
    r"""Propagate a field along one axis far from its focus; the pixels scale with the beam.

    With M = 1 - z / q, a beam with the phase of a sphere propagates as one without it over z / M,
    on pixels that are M times as large (Sziklas and Siegman, Appl. Opt. 14, 1874, 1975).

    Parameters
    ----------
    field : ndarray of complex
        U, without the phase of the sphere.
    step : float
        Pixel size along `axis`, m.
    focus, distance, wavelength : float
        As of `transformed`.
    axis : int
        Axis of the field.

    Returns
    -------
    field : ndarray of complex
        Its squared modulus is the power per metre.
    scale : float
        M, by which positions are multiplied; negative behind the focus.

    Raises
    ------
    InputError
        A plane too near to the focus for the pixels.

    Examples
    --------
    >>> moved, scale = scaled(
    ...     np.ones(64, complex), step=1e-5, focus=2.0, distance=1.0, wavelength=1e-10, axis=0
    ... )
    >>> scale
    0.5
    """
    size = field.shape[axis]
    scale = 1 - distance / focus
    far = math.inf if scale == 0 else distance / scale
    reach = wavelength * abs(far) / (size * step * step)
    if reach > 1:
        raise InputError(
            f"{size} pixels of {step:.3g} m do not sample the field at {distance:.6g} m, which is "
            f"{reach:.3g} times nearer to the focus than they can",
            "Ask for a distance farther from the focus or at it, or give a smaller pixel.",
        )
    frequency = fft.fftfreq(2 * size, step)
    wide = [1] * field.ndim
    wide[axis] = -1
    kernel = np.exp(-1j * math.pi * wavelength * far * frequency**2).reshape(wide)
    # Twice the field, so that what leaves it on one side does not enter on the other.
    spectrum = fft.fft(field, 2 * size, axis=axis)
    back = np.take(fft.ifft(spectrum * kernel, axis=axis), np.arange(size), axis=axis)
    return np.asarray(back / math.sqrt(abs(scale))), scale
