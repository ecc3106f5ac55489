"""Pulse trains: the beam's intensity and pointing change from pulse to pulse."""

from dataclasses import replace

import numpy as np

from wavedask.errors import InputError
from wavedask.simulate.elements import Pair, above_zero
from wavedask.simulate.propagation import both
from wavedask.simulate.setting import SAMPLE, Setting


def pulse_train(
    pulses: int,
    *,
    distance: float,
    pointing_jitter: float | Pair = 0.0,
    intensity_jitter: float = 0.0,
    drift: Pair = (0.0, 0.0),
    base: Setting = SAMPLE,
    seed: int = 0,
) -> list[Setting]:
    """Make the settings of a train of pulses, whose source moves and whose intensity changes.

    The source moves sideways, which tilts the rays and shifts the whole speckle pattern. Its
    position and the intensity in each setting are the truth, which `Beamline.truth` uses.

    Parameters
    ----------
    pulses : int
        Number of pulses.
    distance : float
        Distance from the source to the plane of the angles below (the membrane), m.
    pointing_jitter : float or (float, float), default 0.0
        Standard deviation of the tilt (y, x) of the rays, rad; independent from pulse to pulse.
    intensity_jitter : float, default 0.0
        Relative standard deviation of the intensity; log-normal with mean 1.
    drift : (float, float), default (0, 0)
        Tilt (y, x) of the last pulse against the first, rad; linear in between.
    base : Setting
        Setting that gives everything else.
    seed : int, default 0
        Seed of the jitter.

    Returns
    -------
    list of Setting
        One per pulse.

    Raises
    ------
    InputError
        No pulse, a distance that is not above zero, or a negative jitter.

    Examples
    --------
    >>> train = pulse_train(3, distance=40.0, drift=(0.0, 1e-6))
    >>> [round(1e6 * setting.source[1]) for setting in train]  # um
    [0, -20, -40]
    """
    above_zero("distance", distance, "m")
    if pulses < 1:
        raise InputError(f"{pulses} pulses", "Ask for one or more.")
    if min(*both(pointing_jitter), intensity_jitter) < 0:
        raise InputError(
            f"pointing_jitter is {pointing_jitter} rad, intensity_jitter {intensity_jitter}",
            "Give zero or more.",
        )
    random = np.random.default_rng(seed)
    tilt = random.normal(0, 1, (pulses, 2)) * both(pointing_jitter)
    tilt += np.linspace(0, 1, pulses)[:, None] * drift
    width = np.sqrt(np.log1p(intensity_jitter**2))
    factor = np.exp(random.normal(-(width**2) / 2, width, pulses))
    return [
        replace(
            base,
            source=(
                base.source[0] - distance * float(tilt_y),
                base.source[1] - distance * float(tilt_x),
            ),
            intensity=base.intensity * float(brightness),
        )
        for (tilt_y, tilt_x), brightness in zip(tilt, factor, strict=True)
    ]
