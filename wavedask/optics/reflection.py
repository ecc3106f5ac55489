"""Rays at a grazing mirror: the shape of the mirror from the slopes of the reflected beam.

Coordinates: the origin is the middle of the mirror, ``l`` runs along its tangent there, downstream,
and ``z`` away from the surface toward the beam. The source is at the distance p upstream, the focus
at q downstream, and the central ray meets the tangent at the grazing angle theta.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import interpolate, optimize

from wavedask.errors import InputError

Floats = npt.NDArray[np.float64]

FAR: Final = 1e7
"""Distance of a source or focus at infinity, m."""
TURNS: Final = 4
"""Times that rays are met with the surface that they gave: the first is right to a micrometre."""
WORST_CONDITION: Final = 1e8
"""Condition of the fit beyond which the slopes do not tell the numbers of an ellipse apart."""
LEAST: Final = 8
"""Positions along the mirror below which there is no profile."""


class Ellipse(NamedTuple):
    """An ellipse: distances from source and to focus in m, grazing angle in rad."""

    p: float
    q: float
    theta: float

    def height(self, along: Floats) -> Floats:
        """Return the surface at positions along the tangent, m.

        From ``|P F1| + |P F2| = p + q``, solved for z (Padmore et al., Proc. SPIE 2856, 1996, give
        the same curve as a series).

        Examples
        --------
        >>> ellipse = Ellipse(40.0, 0.5, 3e-3)
        >>> radius = 2 * 40.0 * 0.5 / (40.5 * 3e-3)
        >>> print(f"{float(ellipse.height(np.array([1e-3]))[0]) / (1e-6 / 2 / radius):.3f}")
        1.001
        """
        p, q = min(self.p, FAR), min(self.q, FAR)
        sine, cosine = math.sin(self.theta), math.cos(self.theta)
        total = p + q
        slant = sine * (2 * p * q - (p - q) * along * cosine) / total
        curve = 1 - (sine * (p - q) / total) ** 2
        root = np.sqrt(np.maximum(slant**2 - curve * (along * sine) ** 2, 0.0))
        # The smaller root, without the difference of two nearly equal numbers.
        return np.asarray((along * sine) ** 2 / (slant + root))

    def slope(self, along: Floats) -> Floats:
        """Return the slope of the surface at positions along the tangent, rad.

        Examples
        --------
        >>> print(f"{float(Ellipse(40.0, 0.5, 3e-3).slope(np.array([0.01]))[0]):.3e}")
        3.083e-05
        """
        p, q = min(self.p, FAR), min(self.q, FAR)
        sine, cosine = math.sin(self.theta), math.cos(self.theta)
        z = self.height(along)
        # Normal of the ellipse: sum of the unit vectors from both foci.
        behind = np.hypot(along + p * cosine, z - p * sine)
        ahead = np.hypot(along - q * cosine, z - q * sine)
        normal_l = (along + p * cosine) / behind + (along - q * cosine) / ahead
        normal_z = (z - p * sine) / behind + (z - q * sine) / ahead
        return np.asarray(-normal_l / normal_z)


class Rays(NamedTuple):
    """Rays that were measured, and the mirror that they meet.

    Attributes
    ----------
    along : ndarray
        Where each meets the mirror, along its tangent, m; increasing.
    slope : ndarray
        Slope of the mirror there, rad.
    lever : float
        Error of the slope of the mirror by an error of the slope of the beam: one half, less what
        the ray moves on the mirror.
    order : ndarray of int
        Numbers of the rays in this order.
    """

    along: Floats
    slope: Floats
    lever: float
    order: npt.NDArray[np.intp]


def mirror_slopes(
    positions: Floats, slopes: Floats, *, p: float, theta: float, distance: float, sign: int
) -> Rays:
    """Trace measured rays back to the mirror that reflected them.

    Each ray is met with the surface, and the normal there halves the angle between it and the ray
    from the source. The slopes give the surface, and the rays are met with it again.

    Parameters
    ----------
    positions : ndarray
        Places on the detector about the ray from the middle of the mirror, m.
    slopes : ndarray
        Slopes of the beam there about that ray, rad.
    p, theta : float
        Distance of the source in m, and grazing angle in rad.
    distance : float
        From the middle of the mirror to the detector, m.
    sign : int
        1 if, close behind the mirror, rays of its downstream end lie at larger positions.

    Returns
    -------
    Rays

    Raises
    ------
    InputError
        Rays that cross before the detector, so that places do not tell where they come from.

    Examples
    --------
    >>> x = np.linspace(-1e-4, 1e-4, 21)
    >>> rays = mirror_slopes(x, -x / 0.4, p=40.0, theta=3e-3, distance=0.1, sign=1)
    >>> bool(np.abs(rays.slope - Ellipse(40.0, 0.5, 3e-3).slope(rays.along)).max() < 1e-9)
    True
    """
    sine, cosine = math.sin(theta), math.cos(theta)
    outgoing = np.array([cosine, sine])
    # Across the beam, toward larger positions on the detector.
    across = sign * np.array([sine, -cosine])
    direction = outgoing[:, None] + across[:, None] * np.tan(slopes)
    direction /= np.hypot(*direction)
    place = distance * outgoing[:, None] + across[:, None] * positions
    source = -min(p, FAR) * np.array([cosine, -sine])
    along = np.zeros(positions.size)
    surface_at, order, slope = np.zeros(positions.size), np.arange(positions.size), along
    for _ in range(TURNS):
        # Where the ray is as high as the surface.
        back = (place[1] - surface_at) / direction[1]
        along = place[0] - back * direction[0]
        incident = np.stack([along - source[0], surface_at - source[1]])
        incident /= np.hypot(*incident)
        normal = direction - incident
        slope = -normal[0] / normal[1]
        order = np.argsort(along, kind="stable")
        if np.diff(along[order]).min() <= 0:
            raise InputError("two rays meet the mirror at one place", "Give fewer positions.")
        curve = interpolate.CubicSpline(along[order], slope[order]).antiderivative()
        surface_at = curve(along) - curve(0.0)
    ordered = np.diff(along) > 0
    if ordered.any() and not ordered.all():
        raise InputError(
            "rays cross between the mirror and the detector: the same part of the mirror is seen "
            "at two places",
            "Check distance, theta and the mode, or give a smaller part of the beam.",
        )
    # At a place on the detector, a beam of slope a comes from a place on the mirror that is off by
    # the distance times a, where the surface has turned the ray already.
    bend = float(np.polyfit(positions, slopes, 1)[0])
    return Rays(along[order], slope[order], 0.5 / abs(1 - distance * bend), order)


class Fit(NamedTuple):
    """A shape that was fitted to the slopes of a mirror.

    Attributes
    ----------
    slope : ndarray
        Slope of the shape, with the tilt that was fitted beside it, rad.
    values, errors : dict of str to float
        Numbers of the shape that were free, and their standard errors.
    """

    slope: Floats
    values: dict[str, float]
    errors: dict[str, float]


def fit_plane(along: Floats, slope: Floats, weights: Floats) -> Fit:
    """Fit a plane: its tilt alone.

    Examples
    --------
    >>> fit_plane(np.arange(3.0), np.ones(3), np.ones(3)).slope
    array([1., 1., 1.])
    """
    return Fit(np.full(along.size, np.average(slope, weights=weights)), {}, {})


def fit_circle(along: Floats, slope: Floats, weights: Floats, radius: str) -> Fit:
    """Fit a circle: tilt and radius.

    Parameters
    ----------
    along, slope : ndarray
        Positions in m and slopes in rad.
    weights : ndarray
        Inverse variances of the slopes.
    radius : str
        Name of the radius.

    Returns
    -------
    Fit
        A radius is positive where the mirror is concave.

    Examples
    --------
    >>> along = np.linspace(-0.1, 0.1, 11)
    >>> print(f"{fit_circle(along, along / 500.0, np.ones(11), 'radius').values['radius']:.3f} m")
    500.000 m
    """
    root = np.sqrt(weights)
    terms = np.stack([np.ones_like(along), along], axis=1)
    # The slope of a circle at grazing incidence is straight within 1e-9.
    level, bend = np.linalg.lstsq(terms * root[:, None], slope * root, rcond=None)[0]
    covariance = np.linalg.inv((terms * weights[:, None]).T @ terms)
    value = 1 / bend if bend else math.inf
    return Fit(
        level + bend * along,
        {radius: float(value)},
        {radius: float(math.sqrt(covariance[1, 1]) * value**2)},
    )


def fit_ellipse(
    along: Floats, slope: Floats, weights: Floats, start: Ellipse, free: tuple[str, ...]
) -> Fit:
    """Fit an ellipse: tilt, and those of p, q, theta that are free.

    Parameters
    ----------
    along, slope, weights : ndarray
        As of `fit_circle`.
    start : Ellipse
        Numbers that are kept, or from which the search begins.
    free : tuple of str
        Names of the numbers to fit: "p", "q", "theta".

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        Slopes that do not tell the free numbers apart.

    Examples
    --------
    >>> along, true = np.linspace(-0.05, 0.05, 51), Ellipse(40.0, 0.5, 3e-3)
    >>> fit = fit_ellipse(along, true.slope(along), np.ones(51), true._replace(q=0.45), ("q",))
    >>> print(f"{fit.values['q']:.4f} m")
    0.5000 m
    """
    root = np.sqrt(weights)
    known = np.array([getattr(start, name) for name in free])

    def model(scaled: Floats) -> Floats:
        ellipse = start._replace(**dict(zip(free, known * scaled[1:], strict=True)))
        return np.asarray(scaled[0] * unit + ellipse.slope(along))

    def misfit(scaled: Floats) -> Floats:
        return np.asarray((model(scaled) - slope) * root / norm)

    unit = float(np.ptp(slope)) or 1.0
    norm = root.mean() * unit
    low = np.concatenate([[-np.inf], np.full(len(free), 0.05)])
    high = np.concatenate([[np.inf], np.full(len(free), 20.0)])
    first = np.concatenate([[0.0], np.ones(len(free))])
    found = optimize.least_squares(
        misfit,
        first,
        # p and q bend a mirror in nearly the same way: their derivatives need all digits.
        jac="3-point",
        bounds=(low, high),
        x_scale="jac",
        xtol=1e-10,
        ftol=None,
        gtol=None,
    )
    jacobian = np.asarray(found.jac, np.float64)
    normal = jacobian.T @ jacobian
    sizes = np.sqrt(np.maximum(np.diag(normal), np.finfo(float).tiny))
    if np.linalg.cond(normal / np.outer(sizes, sizes)) > WORST_CONDITION:
        raise InputError(
            f"the slopes do not tell {', '.join(free)} of the ellipse apart",
            "Free fewer of them: p is the distance of the source, and often known.",
        )
    covariance = np.linalg.inv(normal) / norm**2
    values = known * found.x[1:]
    errors = np.abs(known) * np.sqrt(np.diag(covariance))[1:]
    return Fit(
        model(found.x),
        dict(zip(free, map(float, values), strict=True)),
        dict(zip(free, map(float, errors), strict=True)),
    )
