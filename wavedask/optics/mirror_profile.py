"""Slope of a grazing mirror along its length, from one map, and the shape that fits it."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import interpolate

from wavedask.errors import InputError
from wavedask.kernels.surface import AREA
from wavedask.optics.reflection import (
    LEAST,
    Ellipse,
    Fit,
    Rays,
    fit_circle,
    fit_ellipse,
    fit_plane,
    mirror_slopes,
)

Floats = npt.NDArray[np.float64]

FREE: Final = ("p", "q", "theta")
"""Numbers of an ellipse."""
RADIUS_NAME: Final = "curve"
"""Name of the radius in the fit of a circle."""


@dataclass(frozen=True, slots=True)
class MirrorSetup:
    """What `mirror` was told, checked.

    Attributes
    ----------
    positions : ndarray
        Of the pixels along the axis of the mirror, m.
    curved : bool
        Whether curvatures were measured, not slopes.
    beam : float
        Curvature of the beam that the slopes lack, 1/m.
    p, theta, distance : float
        As of `mirror`.
    q, center : float or None
        As of `mirror`.
    sign : int
        As of `mirror`.
    shape : str
        As of `mirror`.
    free : tuple of str
        As of `mirror`.
    """

    positions: Floats
    curved: bool
    beam: float
    p: float
    q: float | None
    theta: float
    distance: float
    center: float | None
    sign: int
    shape: str
    free: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A mirror as one frame shows it.

    Attributes
    ----------
    along : ndarray
        Positions at which rays meet the mirror, along its tangent, m.
    slope, error, sigma : ndarray
        Slope of the surface there, the same without the shape, and its standard error, rad.
    values, errors : dict of str to float
        Numbers of the shape, and their standard errors.
    """

    along: Floats
    slope: Floats
    error: Floats
    sigma: Floats
    values: dict[str, float]
    errors: dict[str, float]


def mirror_profile(
    values: Floats, errors: Floats, window: float, setup: MirrorSetup
) -> Profile | None:
    """Compute the mirror that one map shows.

    Parameters
    ----------
    values, errors : ndarray, shape (lines, positions)
        Slopes of the beam in rad, or its curvatures in 1/m, and their standard errors; NaN where
        there are none.
    window : float
        Side in pixels of the window within which errors are the same.
    setup : MirrorSetup
        What `mirror` was told.

    Returns
    -------
    Profile or None
        None with too few slopes.

    Raises
    ------
    InputError
        Rays that fit no mirror, or slopes that do not tell the free numbers apart.
    """
    line, error = _mean_line(values, errors, window)
    known = np.isfinite(line)
    if np.count_nonzero(known) < LEAST:
        return None
    first, last = np.flatnonzero(known)[[0, -1]]
    used = setup.positions[first : last + 1]
    line, error = (np.interp(used, setup.positions[known], part[known]) for part in (line, error))
    place = used - (float(used.mean()) if setup.center is None else setup.center)
    if setup.curved:
        # Errors of a sum of curvatures grow like a random walk.
        error = error * (place[1] - place[0]) * math.sqrt(place.size * window / 3)
        line = interpolate.CubicSpline(place, line).antiderivative()(place)
    line = line + setup.beam * place
    # Slopes count from the ray from the middle of the mirror.
    smooth = np.polynomial.Polynomial.fit(place, line, min(5, place.size // 4))
    line = line - smooth(0.0)
    rays = mirror_slopes(
        place, line, p=setup.p, theta=setup.theta, distance=setup.distance, sign=setup.sign
    )
    sigma = rays.lever * error[rays.order]
    stated = np.isfinite(sigma).all() and (sigma > 0).all()
    fit = _fitted(rays, sigma if stated else np.ones(sigma.size), setup)
    left = rays.slope - fit.slope
    grown = math.sqrt(min(math.sqrt(AREA) * window, left.size))
    if not stated:
        # What the shape leaves is taken as the error, for the numbers of the shape.
        scatter = float(np.std(left))
        sigma, grown = np.full(sigma.size, np.nan), grown * scatter
    # Errors within a window are the same.
    errors_of = {name: value * grown for name, value in fit.errors.items()}
    return Profile(rays.along, rays.slope, left, sigma, fit.values, errors_of)


def _mean_line(values: Floats, errors: Floats, window: float) -> tuple[Floats, Floats]:
    """Average across the mirror, by the errors where they are known."""
    known = np.isfinite(values)
    stated = known & np.isfinite(errors) & (errors > 0)
    weights = known.astype(np.float64)
    if stated.any():
        known = stated
        weights = np.divide(1.0, errors**2, out=np.zeros_like(errors), where=known)
    total = weights.sum(axis=0)
    # A line that few pixels saw is one of the border.
    there = (total > 0) & (known.sum(axis=0) >= known.sum(axis=0).max() / 4)
    mean = np.full(total.size, np.nan)
    mean[there] = (np.where(known, values, 0.0) * weights).sum(axis=0)[there] / total[there]
    error = np.full(total.size, np.nan)
    if stated.any():
        # Pixels within a window have the same error.
        error[there] = np.sqrt(math.sqrt(AREA) * window / total[there])
        single = np.sqrt(1 / weights.max(axis=0)[there])
        error[there] = np.minimum(error[there], single)
    return mean, error


def _fitted(rays: Rays, sigma: Floats, setup: MirrorSetup) -> Fit:
    """Fit the shape; with the distance to the focus that was not given found first."""
    weights = 1 / sigma**2
    if setup.shape == "plane":
        return fit_plane(rays.along, rays.slope, weights)
    if setup.shape == "cylinder":
        return fit_circle(rays.along, rays.slope, weights, RADIUS_NAME)
    focus = setup.q
    if focus is None:
        # Of a circle of radius R: 1 / p + 1 / q = 2 / (R sin(theta)).
        circle = fit_circle(rays.along, rays.slope, weights, RADIUS_NAME)
        power = 2 / (circle.values[RADIUS_NAME] * math.sin(setup.theta)) - 1 / setup.p
        if not power > 0:
            raise InputError(
                "the reflected beam does not focus, and an ellipse focuses",
                "Check p, theta, sign and the mode; or choose shape='cylinder' or 'plane'.",
            )
        focus = 1 / power
    start = Ellipse(setup.p, focus, setup.theta)
    free = setup.free if setup.q is not None or "q" in setup.free else ("q", *setup.free)
    if not free:
        slope = start.slope(rays.along)
        tilt = float(np.average(rays.slope - slope, weights=weights))
        fit = Fit(slope + tilt, {}, {})
    else:
        fit = fit_ellipse(rays.along, rays.slope, weights, start, free)
    # Numbers that were kept have no error.
    return Fit(
        fit.slope, {**start._asdict(), **fit.values}, {**dict.fromkeys(FREE, 0.0), **fit.errors}
    )


def integrated(along: Floats, slope: Floats) -> Floats:
    """Integrate slopes to heights without mean and tilt."""
    heights = interpolate.CubicSpline(along, slope).antiderivative()(along)
    line = np.polynomial.Polynomial.fit(along, heights, 1)
    return np.asarray(heights - line(along))
