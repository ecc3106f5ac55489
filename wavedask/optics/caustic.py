"""Profiles of a beam around its focus, and their sizes."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from wavedask.optics.beam import Beam

Floats = npt.NDArray[np.float64]

PLANES: Final = 61
"""Planes of a caustic."""
POINTS: Final = 769
"""Positions across a caustic: 16 in the smallest possible spot."""
DEPTHS: Final = 6.0
"""Depths of focus on either side of a focus that a caustic shows."""
SPOTS: Final = 24.0
"""Widths of the smallest possible spot on either side of the axis that a caustic shows."""
ENERGY: Final = 0.8
"""Part of the power within `Spot.width`."""
FINE: Final = 65
"""Positions along an axis in which the largest intensity is searched for."""
NEAR: Final = 3.0
"""Widths of the smallest spot on either side of the axis in which it is searched for."""


class Spot(NamedTuple):
    """Sizes of a profile: full width at half maximum, rms, width with 80 % of the power; m."""

    fwhm: float
    rms: float
    width: float


class Axis(NamedTuple):
    """The focus along one axis.

    Attributes
    ----------
    distance : float
        From the detector to the focus, m.
    spot : Spot
        Sizes there.
    caustic : ndarray, shape (planes, points)
        Power per length, 1/m.
    distances, positions : ndarray
        Of its planes and points, m.
    """

    distance: float
    spot: Spot
    caustic: Floats
    distances: Floats
    positions: Floats


class Peak(NamedTuple):
    """The largest intensity.

    Attributes
    ----------
    strehl : float
        Over that of the same amplitude with perfect spheres.
    distance : float
        From the detector, m.
    """

    strehl: float
    distance: float


def sizes(profile: Floats, positions: Floats) -> Spot:
    """Measure a profile.

    Parameters
    ----------
    profile : ndarray
        Power per length, whose integral over all positions is 1, 1/m.
    positions : ndarray
        Of equal steps, m.

    Returns
    -------
    Spot
        NaN where the profile ends before.

    Examples
    --------
    >>> x = np.linspace(-10, 10, 2001)
    >>> spot = sizes(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), x)
    >>> print(f"{spot.fwhm:.3f} {spot.rms:.3f} {spot.width:.3f}")
    2.355 1.000 2.563
    """
    step = positions[1] - positions[0]
    top = int(profile.argmax())
    half = profile[top] / 2
    edges = []
    for side in (profile[top::-1], profile[top:]):
        below = np.flatnonzero(side < half)
        if below.size:
            first = int(below[0])
            edges.append(first - 1 + (side[first - 1] - half) / (side[first - 1] - side[first]))
    fwhm = float(sum(edges) * step) if len(edges) == 2 else np.nan
    inside = profile.sum()
    mean = (profile @ positions) / inside
    rms = float(np.sqrt(profile @ (positions - mean) ** 2 / inside))
    # What lies beyond the positions counts half on either side.
    grown = np.cumsum(profile) * step
    outside = max(0.0, 1 - float(grown[-1])) / 2
    low, high = (1 - ENERGY) / 2 - outside, (1 + ENERGY) / 2 - outside
    if low < grown[0] or high > grown[-1]:
        return Spot(fwhm, rms, np.nan)
    # The sum up to a position holds its pixel whole.
    at = np.interp([low, high], grown, positions + step / 2)
    return Spot(fwhm, rms, float(at[1] - at[0]))


def along(beam: Beam, axis: int) -> Axis:
    """Find the focus along one axis.

    Parameters
    ----------
    beam : Beam
        The beam.
    axis : int
        0 for y, 1 for x.

    Returns
    -------
    Axis

    Examples
    --------
    >>> from wavedask.optics.beam import beam_of
    >>> x = np.linspace(-1e-4, 1e-4, 101)
    >>> surface = -(x[:, None] ** 2 + x**2) / (2 * 1.5)
    >>> beam = beam_of(surface, np.ones((101, 101)), y=x, x=x, wavelength=1e-10)
    >>> print(f"{along(beam, 0).distance:.3f} m")
    1.500 m
    """
    focus, depth, smallest = beam.focus[axis], beam.depth(axis), beam.spot(axis)
    # With few waves in the aperture, a range of several depths would reach the detector.
    reach = min(DEPTHS * depth, abs(focus) / 2)
    # By rays the beam is as wide as this at the ends of the range.
    across = max(SPOTS * smallest, 1.5 * beam.blur(axis, focus + reach))
    positions = np.linspace(-across, across, POINTS)

    distances = np.linspace(focus - reach, focus + reach, PLANES)
    caustic = np.array([profile(beam, axis, distance, positions) for distance in distances])

    def width(distance: float) -> float:
        return sizes(profile(beam, axis, distance, positions), positions).width

    widths = np.array([sizes(line, positions).width for line in caustic])
    if not np.isfinite(widths).any():
        return Axis(np.nan, Spot(np.nan, np.nan, np.nan), caustic, distances, positions)
    best = int(np.nanargmin(widths))
    around = distances[max(0, best - 2)], distances[min(PLANES - 1, best + 2)]
    found = optimize.minimize_scalar(
        lambda distance: float(np.nan_to_num(width(distance), nan=np.inf)) / smallest,
        bounds=(min(around), max(around)),
        method="bounded",
        options={"xatol": 1e-3 * depth},
    )
    distance = float(found.x)
    spot = sizes(profile(beam, axis, distance, positions), positions)
    return Axis(distance, spot, caustic, distances, positions)


def profile(beam: Beam, axis: int, distance: float, positions: Floats) -> Floats:
    """Propagate to a plane near the focus; return the profile along one axis.

    Parameters
    ----------
    beam : Beam
        The beam.
    axis : int
        0 for y, 1 for x.
    distance : float
        From the detector to the plane, m.
    positions : ndarray
        Of equal steps, m.

    Returns
    -------
    ndarray
        Power per length, 1/m.
    """
    moved = beam.along(axis, distance, positions)
    return np.asarray((np.abs(moved) ** 2).sum(axis=1 - axis) * beam.step(1 - axis), np.float64)


def peak(beam: Beam, distance: float) -> float:
    """Return the largest intensity in a plane over that of perfect spheres.

    Parameters
    ----------
    beam : Beam
        The beam.
    distance : float
        From the detector to the plane, m.
    """
    cell = beam.step(0) * beam.step(1)
    perfect = float(np.abs(beam.field).sum() * cell) ** 2
    grids = [np.linspace(-NEAR, NEAR, FINE) * beam.spot(axis) for axis in (0, 1)]
    field = beam.along(1, distance, grids[1], beam.along(0, distance, grids[0]))
    return float((np.abs(field) ** 2).max()) * (beam.wavelength * distance) ** 2 / perfect


def strehl(beam: Beam, foci: tuple[float, float]) -> Peak:
    """Find the largest intensity and the Strehl ratio.

    Parameters
    ----------
    beam : Beam
        The beam.
    foci : (float, float)
        Distances of the foci along y and x, m: the plane is searched for between them and half a
        depth of focus beyond.

    Returns
    -------
    Peak

    Examples
    --------
    >>> from wavedask.optics.beam import beam_of
    >>> x = np.linspace(-1e-4, 1e-4, 101)
    >>> surface = -(x[:, None] ** 2 + x**2) / (2 * 1.5)
    >>> beam = beam_of(surface, np.ones((101, 101)), y=x, x=x, wavelength=1e-10)
    >>> print(f"{strehl(beam, (1.5, 1.5)).strehl:.3f}")
    1.000
    """
    if not np.isfinite(foci).all():
        return Peak(np.nan, np.nan)
    margin = max(beam.depth(0), beam.depth(1)) / 2
    planes = np.linspace(min(foci) - margin, max(foci) + margin, 15)
    values = [peak(beam, float(distance)) for distance in planes]
    best = int(np.argmax(values))
    found = optimize.minimize_scalar(
        lambda distance: -peak(beam, float(distance)),
        bounds=(planes[max(0, best - 1)], planes[min(len(planes) - 1, best + 1)]),
        method="bounded",
        options={"xatol": 1e-3 * margin},
    )
    if -float(found.fun) > values[best]:
        return Peak(-float(found.fun), float(found.x))
    return Peak(values[best], float(planes[best]))
