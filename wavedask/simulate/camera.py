"""An imperfect camera."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavedask.simulate.speckle import speckle_field

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """An imperfect camera: offset, structure of the scintillator, bad pixels, noise.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    counts : float
        Counts of a pixel in the flat field, in the middle of the beam.
    offset : float
        Mean counts without beam.
    readout : float
        Standard deviation of the readout noise, counts.
    bad_fraction : float
        Fraction of pixels that are dead (read only the offset), and of those that are hot.
    seed : int
        Seed of the random numbers.
    gain : float
        Counts per photon: the photon noise of N counts is ``sqrt(gain N)``.
    structure : float
        Contrast of the scintillator's structure, which is fixed to the pixels; 0 to 0.3.
    vignetting : float
        How much the flat field falls off toward the corners: the exponent of a Gaussian at the
        middle of an edge.
    """

    shape: tuple[int, int]
    counts: float = 8000.0
    offset: float = 100.0
    readout: float = 2.0
    bad_fraction: float = 1e-4
    seed: int = 0
    gain: float = 1.0
    structure: float = 0.03
    vignetting: float = 0.25

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    @cached_property
    def _bad(self) -> Floats:
        """Random numbers that tell dead (low) and hot (high) pixels from the rest."""
        return self._random(0).random(self.shape)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Pixels that do not see the beam."""
        return self._bad < self.bad_fraction

    @property
    def hot(self) -> NDArray[np.bool_]:
        """Pixels with a large and noisy dark current."""
        return self._bad > 1 - self.bad_fraction

    @cached_property
    def flat_field(self) -> Floats:
        """Expected counts in a beam of intensity 1: its profile times the scintillator's."""
        rows, columns = self.shape
        y = np.linspace(-1, 1, rows)[:, None]
        x = np.linspace(-1, 1, columns)[None, :]
        profile = self.counts * np.exp(-self.vignetting * ((y - 0.1) ** 2 + (x + 0.05) ** 2))
        if self.structure:
            structure = speckle_field(
                max(self.shape), grain=12.0, contrast=self.structure, seed=self.seed + 1
            )
            profile = profile * structure(*np.mgrid[:rows, :columns])
        return np.where(self.dead, 0.0, profile)

    def expose(self, intensity: Any, *, frame: int) -> NDArray[np.uint16]:
        """Take a frame.

        Parameters
        ----------
        intensity : array_like, shape (y, x)
            Beam relative to that of the flat field: 0 is dark, 1 is flat.
        frame : int
            Number of the frame, which decides its noise.

        Returns
        -------
        ndarray of uint16, shape (y, x)
            Counts.
        """
        random = self._random(1, frame)
        signal = self.gain * random.poisson(self.flat_field * intensity / self.gain)
        signal = signal + self.offset + random.normal(0, self.readout, self.shape)
        signal[self.hot] += 5 * self.offset + random.normal(0, self.offset, self.hot.sum())
        signal[self.dead] = self.offset
        return np.asarray(np.clip(np.rint(signal), 0, np.iinfo(np.uint16).max), np.uint16)
