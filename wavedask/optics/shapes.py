"""Shapes of a lens: the slopes that they give the wavefront at the detector.

Every shape is a function of a few parameters. It gives slopes and heights at points of the detector
(y, x in m), and the derivatives of the slopes with respect to the parameters: all that a fit by
Gauss and Newton needs. `summary` turns the parameters into curvatures, axis and centre.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from wavedask.conventions import AZIMUTH, CENTER_X, CENTER_Y, CURVATURE_X, CURVATURE_Y

Floats = npt.NDArray[np.float64]

MOST_STEPS: Final = 20
"""Steps in which the origin of a ray is found."""
NARROWEST: Final = 0.98
"""Distance from the apex, in radii of a sphere, up to which its slope is computed."""


class Shape(Protocol):
    """What the wavefront of a lens looks like.

    Attributes
    ----------
    count : int
        Number of parameters.
    linear : bool
        Whether the slopes are linear in them.
    """

    @property
    def count(self) -> int:
        """Number of parameters."""

    @property
    def linear(self) -> bool:
        """Whether the slopes are linear in them."""

    def jacobian(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Differentiate the slopes by the parameters, shape (2, count, points)."""

    def slopes(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Slopes at points, shape (2, points), near the measured `slopes`."""

    def heights(self, parameters: Floats, y: Floats, x: Floats) -> Floats:
        """Wavefront at points, shape (points,), but for a constant, m."""

    def steps(self, parameters: Floats) -> Floats:
        """Give changes of the parameters that show their effect on the heights."""

    def summary(self, parameters: Floats) -> dict[str, float]:
        """Curvatures in 1/m, azimuth in rad and centre in m, by their names."""


@dataclass(frozen=True)
class Quadric:
    """Wavefront of second order: a tilt, and quadratic forms ``F`` with ``W = k (F p).p / 2``.

    Attributes
    ----------
    forms : ndarray, shape (count - 2, 2, 2)
        Symmetric matrices (y, x), one for each curvature.
    origin : (float, float)
        Position (y, x) in m at which the tilts are those of the wavefront.
    names : tuple of str
        Of the curvatures, as `summary` gives them.
    azimuth : float
        Angle in rad of the first axis, from x toward y; NaN without axes.
    """

    forms: Floats
    origin: tuple[float, float]
    names: tuple[str, ...]
    azimuth: float = math.nan

    linear = True

    @property
    def count(self) -> int:
        """Number of parameters."""
        return 2 + len(self.forms)

    def jacobian(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Differentiate the slopes."""
        place = np.stack([y - self.origin[0], x - self.origin[1]])
        tilts = np.repeat(np.eye(2)[:, :, None], y.size, axis=2)
        return np.concatenate([tilts, np.einsum("kab,bp->akp", self.forms, place)], axis=1)

    def slopes(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Slopes at points."""
        return np.asarray(np.einsum("m,amp->ap", parameters, self.jacobian(parameters, y, x, y)))

    def heights(self, parameters: Floats, y: Floats, x: Floats) -> Floats:
        """Wavefront at points."""
        down, across = y - self.origin[0], x - self.origin[1]
        form = np.einsum("k,kab->ab", parameters[2:], self.forms)
        return np.asarray(
            parameters[0] * down
            + parameters[1] * across
            + form[0, 0] / 2 * down**2
            + form[0, 1] * down * across
            + form[1, 1] / 2 * across**2
        )

    def steps(self, parameters: Floats) -> Floats:
        """Give changes of the parameters."""
        return np.ones(self.count)

    def summary(self, parameters: Floats) -> dict[str, float]:
        """Curvatures, azimuth and centre."""
        form = np.einsum("k,kab->ab", parameters[2:], self.forms)
        found = dict(zip(self.names, parameters[2:].tolist(), strict=True))
        if len(self.names) == 2:
            found["curvature"] = float(np.trace(form)) / 2
        found[AZIMUTH.name] = self.azimuth
        return found | _center(form, parameters[:2], self.origin)


@dataclass(frozen=True)
class General:
    """Any wavefront of second order: its axes follow from its three curvatures."""

    origin: tuple[float, float]
    cylinder: bool = False

    linear = True
    count = 5

    @property
    def _quadric(self) -> Quadric:
        forms = np.zeros((3, 2, 2))
        forms[0, 0, 0] = forms[1, 1, 1] = forms[2, 0, 1] = forms[2, 1, 0] = 1
        return Quadric(forms, self.origin, ("yy", "xx", "yx"))

    def jacobian(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Differentiate the slopes."""
        return self._quadric.jacobian(parameters, y, x, slopes)

    def slopes(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Slopes at points."""
        return self._quadric.slopes(parameters, y, x, slopes)

    def heights(self, parameters: Floats, y: Floats, x: Floats) -> Floats:
        """Wavefront at points."""
        return self._quadric.heights(parameters, y, x)

    def steps(self, parameters: Floats) -> Floats:
        """Give changes of the parameters."""
        return np.ones(self.count)

    def summary(self, parameters: Floats) -> dict[str, float]:
        """Curvatures along the axes: of the stronger for a cylinder, else of those near x and y."""
        yy, xx, yx = parameters[2:].tolist()
        mean, half = (yy + xx) / 2, math.hypot((xx - yy) / 2, yx)
        # The axis along which the curvature is larger, as a number with its sign.
        upper = math.atan2(2 * yx, xx - yy) / 2
        larger, smaller = mean + half, mean - half
        if self.cylinder:
            strong = larger if abs(larger) >= abs(smaller) else smaller
            azimuth = upper if strong == larger else upper + math.pi / 2
            along = {"curvature": strong}
        else:
            near_x = abs(math.sin(upper)) <= math.sqrt(0.5)
            azimuth = upper if near_x else upper + math.pi / 2
            first, second = (larger, smaller) if near_x else (smaller, larger)
            along = {"curvature": mean, CURVATURE_X.name: first, CURVATURE_Y.name: second}
        # An axis has no direction.
        azimuth = (azimuth + math.pi / 2) % math.pi - math.pi / 2
        form = np.array([[yy, yx], [yx, xx]])
        return along | {AZIMUTH.name: azimuth} | _center(form, parameters[:2], self.origin)


@dataclass(frozen=True)
class Cylinder:
    """A cylinder of free azimuth; parameters: tilts, curvature, and azimuth in rad."""

    origin: tuple[float, float]

    linear = False
    count = 4

    def _axes(self, parameters: Floats, y: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Direction (y, x) of the curvature, and the position along and across it."""
        sine, cosine = math.sin(parameters[3]), math.cos(parameters[3])
        down, across = y - self.origin[0], x - self.origin[1]
        return (
            np.array([sine, cosine]),
            sine * down + cosine * across,
            cosine * down - sine * across,
        )

    def jacobian(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Differentiate the slopes."""
        direction, along, beside = self._axes(parameters, y, x)
        turned = np.array([direction[1], -direction[0]])
        tilts = np.repeat(np.eye(2)[:, :, None], y.size, axis=2)
        bent = direction[:, None] * along
        rotated = parameters[2] * (direction[:, None] * beside + turned[:, None] * along)
        return np.concatenate([tilts, bent[:, None], rotated[:, None]], axis=1)

    def slopes(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Slopes at points."""
        direction, along, _ = self._axes(parameters, y, x)
        return np.asarray(parameters[:2, None] + parameters[2] * direction[:, None] * along)

    def heights(self, parameters: Floats, y: Floats, x: Floats) -> Floats:
        """Wavefront at points."""
        _, along, _ = self._axes(parameters, y, x)
        tilt = parameters[0] * (y - self.origin[0]) + parameters[1] * (x - self.origin[1])
        return np.asarray(tilt + parameters[2] / 2 * along**2)

    def steps(self, parameters: Floats) -> Floats:
        """Give changes of the parameters."""
        return np.array([1.0, 1.0, 1.0, 1e-4])

    def summary(self, parameters: Floats) -> dict[str, float]:
        """Curvature, azimuth, and the point of the axis nearest to the middle."""
        direction = np.array([math.sin(parameters[3]), math.cos(parameters[3])])
        form = np.outer(direction, direction) * parameters[2]
        azimuth = (float(parameters[3]) + math.pi / 2) % math.pi - math.pi / 2
        return {"curvature": float(parameters[2]), AZIMUTH.name: azimuth} | _center(
            form, parameters[:2], self.origin
        )


@dataclass(frozen=True)
class Beam:
    """Where the lens stands in the beam.

    Attributes
    ----------
    distance : float
        From the lens to the detector, m.
    source : float
        From the source to the lens, m; infinite for a parallel beam.
    absolute : bool
        Whether the wavefront holds the curvature of the beam.
    """

    distance: float
    source: float = math.inf
    absolute: bool = False

    @property
    def before(self) -> float:
        """Curvature of the beam at the detector that the wavefront lacks, 1/m."""
        return 0.0 if self.absolute else 1 / (self.source + self.distance)

    @property
    def source_share(self) -> float:
        """Distance of the source to the lens over that to the detector."""
        return 1 / (1 + self.distance / self.source)

    def curvature(self, power: float) -> float:
        """Curvature of the wavefront behind a lens of a power (1/f), at the detector, 1/m."""
        optical = 1 / self.source - power
        return optical / (1 + optical * self.distance) - self.before

    def power(self, curvature: float) -> float:
        """Power (1/f) of the lens whose wavefront has a curvature at the detector, 1/m."""
        whole = curvature + self.before
        return 1 / self.source - whole / (1 - whole * self.distance)

    def scale(self, curvature: float) -> float:
        """Size of the beam at the lens over that at the detector."""
        share = 1.0 if self.absolute else self.source_share
        return share - self.distance * curvature


@dataclass(frozen=True)
class Sphere:
    """Spherical surfaces of equal radius; parameters: curvature 1/R, centre (y, x), tilts (y, x).

    Rays are straight from the lens to the detector. A ray at ``r`` from the apex has passed ``power
    (R - sqrt(R^2 - r^2)) / delta`` of material, ``power = lenses * surfaces * delta``.

    Attributes
    ----------
    beam : Beam
        Where the lens stands.
    power : float
        Deflection over the slope of one surface.
    """

    beam: Beam
    power: float

    linear = False
    count = 5

    def _at_lens(self, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Where rays of given slopes have passed the lens, (y, x) in m."""
        share = 1.0 if self.beam.absolute else self.beam.source_share
        return np.asarray(np.stack([y, x]) * share - self.beam.distance * slopes)

    def _deflected(self, parameters: Floats, place: Floats) -> tuple[Floats, Floats, Floats]:
        """Deflection of rays at the lens, its derivatives by place, and the root in it."""
        curvature = float(parameters[0])
        away = place - parameters[1:3, None]
        square = curvature**2 * (away**2).sum(axis=0)
        root = np.sqrt(np.maximum(1 - square, 1 - NARROWEST**2))
        slope = -self.power * curvature * away / root + parameters[3:, None]
        matrix = -self.power * curvature * np.eye(2)[:, :, None] / root
        matrix = matrix - self.power * curvature**3 * away[:, None] * away[None] / root**3
        return slope, matrix, root

    def _moved(self, matrix: Floats) -> Floats:
        """Inverse (2, 2, points) of what the way to the detector makes of a change of slope."""
        way = np.eye(2)[:, :, None] + self.beam.distance / self._share * matrix
        determinant = way[0, 0] * way[1, 1] - way[0, 1] * way[1, 0]
        inverse = np.stack([np.stack([way[1, 1], -way[0, 1]]), np.stack([-way[1, 0], way[0, 0]])])
        return np.asarray(inverse / determinant)

    @property
    def _share(self) -> float:
        """Deflection at the lens over the slope that it adds at the detector."""
        return 1.0 if self.beam.absolute else 1 + self.beam.distance / self.beam.source

    def _of_beam(self, place: Floats) -> Floats:
        """Slope of the beam before the lens, where the wavefront has it."""
        return place / self.beam.source if self.beam.absolute else 0 * place

    def jacobian(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Differentiate the slopes."""
        place = self._at_lens(y, x, slopes)
        _, matrix, root = self._deflected(parameters, place)
        away = place - parameters[1:3, None]
        columns = np.concatenate(
            [
                (-self.power * away / root**3)[:, None],
                -matrix,
                np.repeat(np.eye(2)[:, :, None], y.size, axis=2),
            ],
            axis=1,
        )
        back = self._moved(matrix + self._bent())
        return np.asarray(np.einsum("abp,bmp->amp", back, columns) / self._share)

    def _bent(self) -> Floats:
        """Differentiate the slope of the beam by place."""
        return self._of_beam(np.eye(2))[:, :, None]

    def slopes(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> Floats:
        """Slopes at points: one step of Newton from the measured ones, for the rays' origins."""
        for _ in range(2):
            place = self._at_lens(y, x, slopes)
            deflected, matrix, _ = self._deflected(parameters, place)
            left = slopes - (deflected + self._of_beam(place)) / self._share
            back = self._moved(matrix + self._bent())
            slopes = slopes - np.einsum("abp,bp->ap", back, left)
        return slopes

    def _rays(self, parameters: Floats, y: Floats, x: Floats) -> Floats:
        """Where the rays that meet the detector at points have passed the lens, (y, x) in m."""
        slopes = np.zeros((2, y.size))
        for _ in range(MOST_STEPS):
            new = self.slopes(parameters, y, x, slopes)
            done = np.abs(new - slopes).max(initial=0) <= 1e-12 * np.abs(new).max(initial=0)
            slopes = new
            if done:
                break
        return self._at_lens(y, x, slopes)

    def path(self, parameters: Floats, y: Floats, x: Floats) -> Floats:
        """Path of the lens on the rays that meet the detector at points, m."""
        place = self._rays(parameters, y, x)
        _, _, root = self._deflected(parameters, place)
        away = ((place - parameters[1:3, None]) ** 2).sum(axis=0)
        # -power (R - sqrt(R^2 - r^2)), without the difference of large numbers.
        return np.asarray(-self.power * parameters[0] * away / (1 + root))

    def is_cut(self, parameters: Floats, y: Floats, x: Floats, slopes: Floats) -> bool:
        """Whether rays pass beside the spheres."""
        away = self._at_lens(y, x, slopes) - parameters[1:3, None]
        return bool((parameters[0] ** 2 * (away**2).sum(axis=0)).max() > NARROWEST**2)

    def heights(self, parameters: Floats, y: Floats, x: Floats) -> Floats:
        """Wavefront at points: the path along rays."""
        place = self._rays(parameters, y, x)
        path = self.path(parameters, y, x)
        path = path + parameters[3] * place[0] + parameters[4] * place[1]
        path += (place**2).sum(axis=0) / 2 / self.beam.source
        path += ((np.stack([y, x]) - place) ** 2).sum(axis=0) / 2 / self.beam.distance
        return np.asarray(path - (y**2 + x**2) / 2 * self.beam.before)

    def steps(self, parameters: Floats) -> Floats:
        """Give changes of the parameters."""
        curvature = abs(float(parameters[0])) or 1 / self.beam.distance
        return np.array([1e-4 * curvature, *(1e-4 / curvature,) * 2, 1.0, 1.0])

    def summary(self, parameters: Floats) -> dict[str, float]:
        """Paraxial curvature of the wavefront at the detector, and the apex, at the lens."""
        return {
            "curvature": self.beam.curvature(self.power * float(parameters[0])),
            AZIMUTH.name: math.nan,
            CENTER_Y.name: float(parameters[1]),
            CENTER_X.name: float(parameters[2]),
        }


def lens_path(shape: Shape, parameters: Floats, beam: Beam, y: Floats, x: Floats) -> Floats:
    """Path that a lens adds to the ray that meets the detector at a point, from its apex, m.

    It follows from the wavefront at the detector by the way of the ray: ``W(x0) = W(p) - |p -
    x0|^2 / 2 d``, less that of the beam.

    Parameters
    ----------
    shape : Shape
    parameters : ndarray of float64, shape (count,)
    beam : Beam
        Where the lens stands.
    y, x : ndarray of float64
        Positions at the detector in m, of one shape.

    Returns
    -------
    ndarray of float64
        Negative where there is more material than at the apex.
    """
    slopes = shape.slopes(parameters, y, x, np.zeros((2, y.size)))
    if isinstance(shape, Sphere):
        return shape.path(parameters, y, x)
    place = np.stack([y, x])
    origin = place * (1 if beam.absolute else beam.source_share) - beam.distance * slopes
    path = shape.heights(parameters, y, x) + (place**2).sum(axis=0) / 2 * beam.before
    path -= ((place - origin) ** 2).sum(axis=0) / 2 / beam.distance
    path -= (origin**2).sum(axis=0) / 2 / beam.source
    return np.asarray(path)


def _center(form: Floats, tilt: Floats, origin: tuple[float, float]) -> dict[str, float]:
    """Position without slope, the nearest to the origin; NaN for a plane."""
    size = float(np.abs(form).max())
    if size == 0 or not np.isfinite(form).all():
        return {CENTER_Y.name: math.nan, CENTER_X.name: math.nan}
    away = -np.linalg.pinv(form, rcond=1e-9, hermitian=True) @ tilt
    return {
        CENTER_Y.name: origin[0] + float(away[0]),
        CENTER_X.name: origin[1] + float(away[1]),
    }


def errors_of(
    shape: Shape, parameters: Floats, covariance: Floats
) -> tuple[dict[str, float], dict[str, float]]:
    """Values of `Shape.summary`, and their standard errors by propagation.

    Parameters
    ----------
    shape : Shape
    parameters : ndarray of float64, shape (count,)
    covariance : ndarray of float64, shape (count, count)

    Returns
    -------
    values, errors : dict of float
    """
    values = shape.summary(parameters)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    gradients: dict[str, list[float]] = {name: [] for name in values}
    for number, error in enumerate(errors):
        # Small against the error, and large against the rounding of the parameter.
        step = max(1e-3 * error, 1e-7 * abs(float(parameters[number]))) or 1e-30
        change = np.zeros_like(parameters)
        change[number] = step
        ends: list[Mapping[str, float]] = [
            shape.summary(parameters + change),
            shape.summary(parameters - change),
        ]
        for name in values:
            difference = ends[0][name] - ends[1][name]
            if name == AZIMUTH.name:
                difference = (difference + math.pi / 2) % math.pi - math.pi / 2
            gradients[name].append(difference / (2 * step))
    # Of a wavefront that is flat, the axis lies anywhere.
    with np.errstate(invalid="ignore", over="ignore"):
        spread = {
            name: float(np.sqrt(np.maximum(np.array(g) @ covariance @ np.array(g), 0)))
            for name, g in gradients.items()
        }
    return values, spread
