"""Noise that a detector is known to have: of photons, of the spots they make, of the readout."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError
from wavedask.kernels.uncertainty import TINY

Floats = NDArray[np.float32]
Spot = tuple[tuple[float, ...], ...]

FWHM: Final = float(np.sqrt(8 * np.log(2)))
"""Full width at half maximum of a Gaussian over its standard deviation."""
WIDEST: Final = 33
"""Pixels along the sides of a spot, at most."""
LINE: Final = 1024
"""Frequencies from which the variance of blurred noise is computed."""


@dataclass(frozen=True, slots=True)
class DetectorNoise:
    """Noise of a detector, in the unit of the images.

    A detected photon makes a spot of `gain` counts in sum. The number of photons is Poisson
    distributed, so that noise is correlated over the spot; the readout adds white noise. The power
    spectrum of the noise of an image of mean I is ``gain * I * |P(f)|^2 + readout^2``, with P the
    Fourier transform of the spot.

    Parameters
    ----------
    gain : float
        Counts per photon (or per electron, where each photon makes one), above 0. The variance of a
        flat image over its mean, without readout, is ``gain * sum(psf^2)``, where the spot has the
        sum one: for a Gaussian spot of more than 1.5 px about ``0.44 * gain / psf^2``. Of images
        that were divided by a flat of mean F, the gain is that of the counts over F.
    readout : float, default 0.0
        Standard deviation of the noise of the readout, in counts.
    psf : float or array_like, default 0.0
        Full width at half maximum of the spot in pixels, a Gaussian; 0 for a photon counter. Or the
        spot itself: an array (y, x) of odd sides and values from 0 up, whose sum is made one.

    Raises
    ------
    InputError
        A gain that is not positive, a negative readout or width, or a spot that is no image.

    Examples
    --------
    >>> noise = DetectorNoise(gain=2.0, readout=3.0, psf=[[1, 2, 1]])
    >>> noise.psf
    ((0.25, 0.5, 0.25),)
    >>> noise.variance(np.array([100.0])).tolist()
    [84.0]
    >>> DetectorNoise(gain=-1)
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: detector_noise: gain is -1. Give the counts per photon, above 0.
    """

    gain: float
    readout: float = 0.0
    psf: float | Spot = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        gain = _number(self.gain, "gain", "Give the counts per photon, above 0.")
        if gain <= 0:
            raise _wrong("gain", self.gain, "Give the counts per photon, above 0.")
        remedy = "Give the standard deviation in counts, from 0 up."
        readout = _number(self.readout, "readout", remedy)
        if readout < 0:
            raise _wrong("readout", self.readout, remedy)
        object.__setattr__(self, "gain", gain)
        object.__setattr__(self, "readout", readout)
        object.__setattr__(self, "psf", _spot(self.psf))

    @classmethod
    def of(cls, given: Any) -> "DetectorNoise":
        """Take the noise of a detector as given: such an object, or its parameters by name.

        Raises
        ------
        InputError
            Neither of the two, an unknown name, or no gain.

        Examples
        --------
        >>> DetectorNoise.of({"gain": 0.5, "psf": 2})
        DetectorNoise(gain=0.5, readout=0.0, psf=2.0)
        """
        if isinstance(given, cls):
            return given
        names = cls.__slots__
        if not isinstance(given, dict) or "gain" not in given or not {*given} <= {*names}:
            raise InputError(
                f"detector_noise is {given!r}",
                f"Give a DetectorNoise, or a dictionary of {', '.join(names)}; gain is needed.",
            )
        return cls(**given)

    @property
    def side(self) -> float:
        """Larger side of the spot in pixels: full width at half maximum, or size of the array."""
        return float(max(np.shape(self.psf)) if isinstance(self.psf, tuple) else self.psf)

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters by name, of numbers and lists."""
        psf = [list(row) for row in self.psf] if isinstance(self.psf, tuple) else self.psf
        return {"gain": self.gain, "readout": self.readout, "psf": psf}

    def response(self, size: tuple[int, int]) -> Floats:
        """Power response of the spot at the frequencies of so many pixels, half of them along x.

        Parameters
        ----------
        size : (int, int)
            Pixels along y and x.

        Returns
        -------
        ndarray of float32, shape (rows, columns // 2 + 1)

        Examples
        --------
        >>> DetectorNoise(1.0, psf=[[1, 2, 1]]).response((2, 4)).tolist()
        [[1.0, 0.25, 0.0], [1.0, 0.25, 0.0]]
        """
        if not isinstance(self.psf, tuple):
            lines = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
            square = (2 * np.pi * self.psf / FWHM) ** 2 * (lines[0] ** 2 + lines[1] ** 2)
            return np.asarray(np.exp(-square), np.float32)
        spot = np.zeros(size)
        values = np.array(self.psf)
        rows, columns = (
            (np.arange(length) - length // 2) % around
            for length, around in zip(values.shape, size, strict=True)
        )
        np.add.at(spot, np.ix_(rows, columns), values)
        return np.asarray(np.abs(np.fft.rfft2(spot)) ** 2, np.float32)

    @property
    def kept(self) -> float:
        """Variance of blurred noise over that of white noise: the sum of the squared spot.

        Examples
        --------
        >>> DetectorNoise(1.0, psf=[[1, 2, 1]]).kept
        0.375
        >>> print(f"{DetectorNoise(1.0, psf=2.0).kept:.3f}")
        0.110
        """
        if isinstance(self.psf, tuple):
            return float(np.square(self.psf).sum())
        frequency = np.fft.fftfreq(LINE)
        line = np.exp(-((2 * np.pi * self.psf / FWHM * frequency) ** 2)).mean()
        return float(line**2)

    def spectrum(self, counts: Floats, size: tuple[int, int]) -> Floats:
        r"""Power spectrum of the noise at some mean counts; its mean is the variance.

        Parameters
        ----------
        counts : ndarray of float32, any shape
        size : (int, int)
            Pixels along y and x.

        Returns
        -------
        ndarray of float32, shape (\*shape of counts, rows, columns // 2 + 1)
        """
        photons = np.float32(self.gain) * np.maximum(counts, 0)[..., None, None]
        return np.asarray(photons * self.response(size) + self._floor, np.float32)

    def variance(self, counts: Floats) -> Floats:
        """Variance of a pixel at some mean counts, of any shape."""
        photons = np.float32(self.gain * self.kept) * np.maximum(counts, 0)
        return np.asarray(photons + self._floor, np.float32)

    @property
    def _floor(self) -> np.float32:
        """Variance of the readout; not zero, for counts may be."""
        return np.float32(max(self.readout**2, TINY))


def _wrong(name: str, value: Any, remedy: str) -> InputError:
    return InputError(f"detector_noise: {name} is {value!r}", remedy)


def _number(value: Any, name: str, remedy: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise _wrong(name, value, remedy)
    if not math.isfinite(value):
        raise _wrong(name, value, remedy)
    return float(value)


def _spot(given: Any) -> float | Spot:
    if isinstance(given, int | float | np.number):
        remedy = f"Give the full width at half maximum in pixels, from 0 to {WIDEST}."
        width = _number(given, "psf", remedy)
        if not 0 <= width <= WIDEST:
            raise _wrong("psf", given, remedy)
        return width
    remedy = (
        "Give the full width at half maximum in pixels, or an array (y, x) of odd sides of at most"
        f" {WIDEST} pixels, with values from 0 up that are not all zero."
    )
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise _wrong("psf", given, remedy) from error
    odd = values.ndim == 2 and all(side % 2 and side <= WIDEST for side in values.shape)
    if not odd or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise _wrong("psf", given, remedy)
    return tuple(tuple(row) for row in (values / values.sum()).tolist())
