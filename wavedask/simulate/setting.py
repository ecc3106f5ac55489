"""Positions in a virtual beamline during one exposure, and scans of them."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from wavedask.errors import InputError
from wavedask.simulate.elements import Pair

IN: Final[Pair] = (0.0, 0.0)


@dataclass(frozen=True)
class Setting:
    """Positions and intensity during one exposure.

    Attributes
    ----------
    membrane : (float, float) or None, default (0, 0)
        Displacement (y, x) of the membrane, m; None is out of the beam.
    optic : (float, float) or None, default (0, 0)
        Displacement (y, x) of the optics, m; None is out of the beam.
    detector : (float, float), default (0, 0)
        Displacement (y, x) of the detectors as their motors report it, m.
    detector_error : (float, float), default (0, 0)
        True minus reported displacement (y, x) of the detectors, m.
    source : (float, float), default (0, 0)
        Displacement (y, x) of the source, m. At a distance z the rays
        tilt by minus this displacement over z.
    intensity : float, default 1.0
        Relative intensity of the beam; 0 is a dark frame.

    Raises
    ------
    InputError
        A negative intensity.
    """

    membrane: Pair | None = IN
    optic: Pair | None = IN
    detector: Pair = (0.0, 0.0)
    detector_error: Pair = (0.0, 0.0)
    source: Pair = (0.0, 0.0)
    intensity: float = 1.0

    def __post_init__(self) -> None:
        if not self.intensity >= 0:
            raise InputError(f"intensity is {self.intensity}", "Give zero or more.")

    @property
    def detector_place(self) -> Pair:
        """Displacement (y, x) of the detectors, m."""
        return (
            self.detector[0] + self.detector_error[0],
            self.detector[1] + self.detector_error[1],
        )

    @property
    def of_the_wave(self) -> "Setting":
        """The part that determines the wave: settings that agree in it share one propagation."""
        return replace(self, detector=(0.0, 0.0), detector_error=(0.0, 0.0), intensity=1.0)


SAMPLE: Final = Setting()
"""Membrane and optics in the beam."""
REFERENCE: Final = Setting(optic=None)
"""The membrane in the beam, the optics out of it."""
FLAT: Final = Setting(membrane=None, optic=None)
"""The beam, with neither membrane nor optics."""
DARK: Final = Setting(membrane=None, optic=None, intensity=0.0)
"""No beam."""


def membrane_scan(ny: int, nx: int, step: float | Pair, *, base: Setting = SAMPLE) -> list[Setting]:
    """Move the membrane over a grid (x is the fast axis): the stack of XSVT and XSS.

    Parameters
    ----------
    ny, nx : int
        Number of positions along each axis; 1 for a scan along the other axis.
    step : float or (float, float)
        Distance of neighbouring positions, m.
    base : Setting
        Setting that gives everything else.

    Returns
    -------
    list of Setting
        ``ny * nx`` settings; the grid is centred on the membrane of `base`.

    Raises
    ------
    InputError
        A number of positions below 1, or a base without membrane.

    Examples
    --------
    >>> [setting.membrane for setting in membrane_scan(1, 3, 2e-6)]
    [(0.0, -2e-06), (0.0, 0.0), (0.0, 2e-06)]
    """
    if base.membrane is None:
        raise InputError("base has no membrane", "Give one with a membrane in the beam.")
    middle_y, middle_x = base.membrane
    return [replace(base, membrane=(middle_y + y, middle_x + x)) for y, x in _places(ny, nx, step)]


def detector_mesh(
    ny: int,
    nx: int,
    step: float | Pair,
    *,
    jitter: float = 0.0,
    base: Setting = REFERENCE,
    seed: int = 0,
) -> list[Setting]:
    """Move the detectors over a grid (x is the fast axis): the scan for their calibration.

    Parameters
    ----------
    ny, nx : int
        Number of positions along each axis.
    step : float or (float, float)
        Distance of neighbouring positions, m.
    jitter : float, default 0.0
        Standard deviation per axis of the true positions against the motor readings, m.
    base : Setting
        Setting that gives everything else.
    seed : int, default 0
        Seed of the jitter.

    Returns
    -------
    list of Setting
        ``ny * nx`` settings; the grid is centred on zero.

    Raises
    ------
    InputError
        A number of positions below 1.

    Examples
    --------
    >>> [setting.detector for setting in detector_mesh(2, 1, 1e-5)]
    [(-5e-06, 0.0), (5e-06, 0.0)]
    """
    random = np.random.default_rng(seed)
    return [
        replace(base, detector=place, detector_error=_pair(random.normal(0, jitter, 2)))
        for place in _places(ny, nx, step)
    ]


def _places(ny: int, nx: int, step: float | Pair) -> list[Pair]:
    if ny < 1 or nx < 1:
        raise InputError(f"a grid of {ny} x {nx} positions", "Both numbers must be 1 or more.")
    step_y, step_x = step if isinstance(step, tuple) else (step, step)
    return [
        (step_y * (i - (ny - 1) / 2), step_x * (k - (nx - 1) / 2))
        for i in range(ny)
        for k in range(nx)
    ]


def _pair(values: np.ndarray) -> Pair:
    return float(values[0]), float(values[1])
