"""Errors as a tracker makes them: white noise that a low-pass has passed."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]

CUTOFF = 0.54
"""Frequency at which the dense tracker's low-pass ends, in cycles per window: measured."""


def tracker_noise(shape: tuple[int, int], window: int, rng: np.random.Generator) -> Floats:
    """Draw errors of unit variance, without an end at the border of the frame."""
    margin = 2 * window
    wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    frequency = np.hypot(*np.meshgrid(fft.fftfreq(wide[0]), fft.fftfreq(wide[1]), indexing="ij"))
    passed = frequency < CUTOFF / window
    white = rng.standard_normal(wide)
    errors = fft.ifft2(fft.fft2(white) * passed).real / np.sqrt(passed.mean())
    return np.asarray(errors[margin:-margin, margin:-margin])
