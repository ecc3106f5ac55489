"""Thin optics: refractive lenses, a rod, a mirror, and the protocol of further ones.

An optic has a wavefront W (path length: the wave is multiplied by ``exp(i k W)``), its gradient
(the deflection of a ray), and a power 1/f, which the propagation takes out of W exactly.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate

from wavedask.errors import InputError
from wavedask.optics import ModalSurface
from wavedask.simulate.elements import Pair, above_zero

Floats = NDArray[np.float64]


class Optic(Protocol):
    """A thin optic at a position along the beam."""

    @property
    def position(self) -> float:
        """Distance from the source, m."""

    @property
    def center(self) -> Pair:
        """Lab position (y, x) of its axis, m."""

    @property
    def power(self) -> Pair:
        """One over the focal length of its ideal shape along y and x, 1/m."""

    def wavefront(self, y: Any, x: Any) -> Floats:
        """Path length in m at ``(y, x)`` in m from its axis; arrays that broadcast."""

    def slope(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Gradient (y, x) of the wavefront in rad."""

    def attenuation(self, y: Any, x: Any, *, wavelength: float) -> Floats | None:
        """Attenuation exponent of the intensity; None if it is transparent."""


class _Refractive:
    """A thin piece of material: its thickness gives the phase and the absorption."""

    delta: float
    beta: float

    def thickness(self, y: Any, x: Any) -> Floats:
        """Thickness of material in m at ``(y, x)`` in m from the axis."""
        raise NotImplementedError

    def wavefront(self, y: Any, x: Any) -> Floats:
        """Path length in m, ``-delta * thickness``."""
        return -self.delta * self.thickness(y, x)

    def attenuation(self, y: Any, x: Any, *, wavelength: float) -> Floats | None:
        """Attenuation exponent of the intensity, ``2 k beta * thickness``."""
        if not self.beta:
            return None
        return 4 * np.pi / wavelength * self.beta * self.thickness(y, x)

    def _check_material(self) -> None:
        if self.beta < 0:
            raise InputError(f"beta is {self.beta}", "Give zero or more.")


def _check_axis(axis: int | None, *, round_too: bool = False) -> None:
    """Raise an error unless an axis is 0 or 1 (or None, if the optic may be round)."""
    if axis not in ((None, 0, 1) if round_too else (0, 1)):
        other = ", or None (round)" if round_too else ""
        raise InputError(f"axis is {axis}", f"Give 0 (deflects along y) or 1 (along x){other}.")


def _along(axis: int, bend: Floats) -> tuple[Floats, Floats]:
    """Slope (y, x) of an optic that deflects along one axis only."""
    flat = np.zeros(bend.shape)
    return (bend, flat) if axis == 0 else (flat, bend)


@dataclass(frozen=True)
class Crl(_Refractive):
    """A stack of parabolic refractive lenses, round or cylindrical, with a thickness error.

    Attributes
    ----------
    position : float
        Distance from the source, m.
    radius : float
        Apex radius of curvature of each parabolic surface, m.
    delta : float
        Refractive index decrement of the material.
    surfaces : int, default 2
        Number of parabolic surfaces: two for a biconcave lens.
    beta : float, default 0.0
        Imaginary part of the refractive index; 0 is transparent.
    aperture : float, optional
        Diameter (width, if cylindrical) of the parabolic part, m. Outside, the material is as
        thick as at the rim. By default the parabola has no end.
    error : ModalSurface, optional
        Excess thickness in m, summed over all surfaces.
    axis : int, optional
        0 or 1 for a cylindrical lens that deflects along y or x; by default the lens is round.
    center : (float, float), default (0, 0)
        Lab position (y, x) of its axis, m.

    Raises
    ------
    InputError
        A value out of range.

    Examples
    --------
    >>> lens = Crl(40.0, radius=50e-6, delta=1.2e-6)
    >>> print(f"{lens.focal_length:.2f} m")
    20.83 m
    """

    position: float
    radius: float
    delta: float
    surfaces: int = 2
    beta: float = 0.0
    aperture: float | None = None
    error: ModalSurface | None = None
    axis: int | None = None
    center: Pair = (0.0, 0.0)

    def __post_init__(self) -> None:
        above_zero("position of the lens", self.position, "m")
        above_zero("radius of the lens", self.radius, "m")
        above_zero("delta of the lens", self.delta, "")
        above_zero("surfaces of the lens", self.surfaces, "")
        if self.aperture is not None:
            above_zero("aperture of the lens", self.aperture, "m")
        self._check_material()
        _check_axis(self.axis, round_too=True)

    @property
    def focal_length(self) -> float:
        """Focal length ``f = R / (surfaces delta)``, m."""
        return self.radius / (self.surfaces * self.delta)

    @property
    def power(self) -> Pair:
        """One over the focal length along y and x, 1/m."""
        strength = 1 / self.focal_length
        return (0.0 if self.axis == 1 else strength, 0.0 if self.axis == 0 else strength)

    def thickness(self, y: Any, x: Any) -> Floats:
        """Thickness of material in m at ``(y, x)`` in m from the axis."""
        square = self._square(y, x)
        if self.aperture is not None:
            square = np.minimum(square, (self.aperture / 2) ** 2)
        ideal = self.surfaces * square / (2 * self.radius)
        return ideal if self.error is None else ideal + self.error(y, x)

    def slope(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Gradient (y, x) of the wavefront in rad."""
        y, x = np.broadcast_arrays(y, x)
        inside = np.ones(y.shape)
        if self.aperture is not None:
            inside = np.where(self._square(y, x) <= (self.aperture / 2) ** 2, 1.0, 0.0)
        power_y, power_x = self.power
        slope_y, slope_x = -power_y * y * inside, -power_x * x * inside
        if self.error is not None:
            down, across = self.error.gradient(y, x)
            slope_y, slope_x = slope_y - self.delta * down, slope_x - self.delta * across
        return np.asarray(slope_y), np.asarray(slope_x)

    def _square(self, y: Any, x: Any) -> Floats:
        weight_y, weight_x = (0.0 if self.axis == 1 else 1.0, 0.0 if self.axis == 0 else 1.0)
        return np.asarray(weight_y * np.square(y) + weight_x * np.square(x))


@dataclass(frozen=True)
class Rod(_Refractive):
    """A round rod across the beam, such as a fibre or a wire.

    Attributes
    ----------
    position : float
        Distance from the source, m.
    radius : float
        Radius of the rod, m.
    delta : float
        Refractive index decrement of the material.
    beta : float, default 0.0
        Imaginary part of the refractive index; 0 is transparent.
    axis : int, default 1
        0: the rod is horizontal and deflects along y. 1: it is vertical and deflects along x.
    center : (float, float), default (0, 0)
        Lab position (y, x) of its axis, m.
    rounding : float, default 5e-7
        Width over which the edge is rounded, m. The thickness ``2 sqrt(R^2 - x^2)`` of a perfect
        rod is infinitely steep at its edge, which no grid can sample.

    Raises
    ------
    InputError
        A value out of range.

    Examples
    --------
    >>> rod = Rod(40.0, radius=5e-5, delta=9e-7)
    >>> print(f"{float(rod.thickness(0.0, 0.0)):.2e} m")
    1.00e-04 m
    """

    position: float
    radius: float
    delta: float
    beta: float = 0.0
    axis: int = 1
    center: Pair = (0.0, 0.0)
    rounding: float = 5e-7

    def __post_init__(self) -> None:
        above_zero("position of the rod", self.position, "m")
        above_zero("radius of the rod", self.radius, "m")
        above_zero("delta of the rod", self.delta, "")
        above_zero("rounding of the rod", self.rounding, "m")
        self._check_material()
        _check_axis(self.axis)

    @property
    def power(self) -> Pair:
        """Zero: a rod has no focal length."""
        return (0.0, 0.0)

    def thickness(self, y: Any, x: Any) -> Floats:
        """Thickness of material in m at ``(y, x)`` in m from the axis."""
        return self._chord(np.broadcast_arrays(y, x)[self.axis])[0]

    def slope(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Gradient (y, x) of the wavefront in rad."""
        bend = -self.delta * self._chord(np.broadcast_arrays(y, x)[self.axis])[1]
        return _along(self.axis, bend)

    def _chord(self, across: Floats) -> tuple[Floats, Floats]:
        """Thickness, and its derivative across the rod.

        ``T = 2 sqrt(u)`` with ``u = R^2 - x^2``; below ``u = e = 2 R rounding`` the tangent to this
        curve, down to zero at ``u = -e``.
        """
        inside = self.radius**2 - np.square(across)
        edge = 2 * self.radius * self.rounding
        root = np.sqrt(np.maximum(inside, edge))
        thickness = np.where(inside > edge, 2 * root, np.maximum(inside + edge, 0) / root)
        steepness = np.where(inside > -edge, -2 * across / root, 0.0)
        return thickness, steepness


@dataclass(frozen=True)
class Mirror:
    """The figure error of a plane mirror at grazing incidence, as a thin optic on one axis.

    Attributes
    ----------
    position : float
        Distance from the source, m.
    height : tuple of float
        Height error in m at two or more equally spaced points along the mirror; a bump, which
        shortens the path, is positive. A cubic spline joins the points.
    length : float
        Distance from the first to the last point, m.
    angle : float
        Grazing angle, rad: the mirror fills ``length * angle`` of the beam. Beyond the mirror the
        height keeps its value at the end.
    axis : int, default 0
        0 or 1: the mirror deflects along y or x.
    center : (float, float), default (0, 0)
        Lab position (y, x) of its middle, m.

    Raises
    ------
    InputError
        A value out of range.
    """

    position: float
    height: tuple[float, ...] = field(repr=False)
    length: float
    angle: float
    axis: int = 0
    center: Pair = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, unit in (("position", "m"), ("length", "m"), ("angle", "rad")):
            above_zero(f"{name} of the mirror", getattr(self, name), unit)
        if len(self.height) < 2:
            raise InputError(f"height has {len(self.height)} points", "Give two or more.")
        _check_axis(self.axis)

    @property
    def power(self) -> Pair:
        """Zero: the whole figure is error."""
        return (0.0, 0.0)

    @cached_property
    def _figure(self) -> interpolate.CubicSpline:
        half = self.length * self.angle / 2
        return interpolate.CubicSpline(
            np.linspace(-half, half, len(self.height)), np.asarray(self.height, np.float64)
        )

    def wavefront(self, y: Any, x: Any) -> Floats:
        """Path length in m, ``-2 angle * height``."""
        half = self.length * self.angle / 2
        across = np.broadcast_arrays(y, x)[self.axis]
        return np.asarray(-2 * self.angle * self._figure(np.clip(across, -half, half)))

    def slope(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Gradient (y, x) of the wavefront in rad."""
        half = self.length * self.angle / 2
        across = np.broadcast_arrays(y, x)[self.axis]
        bend = np.where(np.abs(across) <= half, -2 * self.angle * self._figure(across, 1), 0.0)
        return _along(self.axis, bend)

    def attenuation(self, y: Any, x: Any, *, wavelength: float) -> Floats | None:
        """Return None: the mirror reflects everything."""
        return None
