"""Rays from a point source through the optics of a beam: the exact truth of geometric optics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError
from wavedask.simulate.elements import Pair
from wavedask.simulate.optics import Optic
from wavedask.simulate.propagation import Fan

Floats = NDArray[np.float64]

ITERATIONS: Final = 40
ROUGH: Final = 12
"""First iterations, which use the derivative of the ideal optics."""
NEIGHBOUR: Final = 1e-8
"""Distance between two rays for a finite difference, m."""
SINGULAR: Final = 1e-6
"""Area magnification below which rays count as crossing."""
SETTLED: Final = 1e-14
"""Change of the position of a ray at which the iteration stops, m."""
MAX_LOST: Final = 0.25
"""Largest share of the positions where rays may cross."""


@dataclass(frozen=True, slots=True)
class Rays:
    """Rays in one plane.

    Attributes
    ----------
    y, x : ndarray
        Lab position, m.
    slope_y, slope_x : ndarray
        Slope, rad.
    path : ndarray
        Optical path from the source minus the path along the axis: the wavefront, m.
    """

    y: Floats
    x: Floats
    slope_y: Floats
    slope_x: Floats
    path: Floats

    def at(self, length: float) -> "Rays":
        """Propagate through free space by a length along the beam."""
        return Rays(
            self.y + length * self.slope_y,
            self.x + length * self.slope_x,
            self.slope_y,
            self.slope_x,
            self.path + length / 2 * (self.slope_y**2 + self.slope_x**2),
        )

    def through(self, optic: Optic, center: Pair, *, paths: bool = True) -> "Rays":
        """Pass an optic with its axis at a lab position; update the paths only with `paths`."""
        y, x = self.y - center[0], self.x - center[1]
        bend_y, bend_x = optic.slope(y, x)
        return Rays(
            self.y,
            self.x,
            self.slope_y + bend_y,
            self.slope_x + bend_x,
            self.path + optic.wavefront(y, x) if paths else self.path,
        )


@dataclass(frozen=True)
class OpticalSystem:
    """Optics in the beam of a point source, in order, each with the lab position of its axis.

    A ray is identified by its coordinates in the fan of the ideal optics (`propagation.Fan`).

    Attributes
    ----------
    start : float
        Distance from the source of the plane where the fan begins, m; no optic is before it.
    source : (float, float)
        Lab position (y, x) of the source, m.
    optics : tuple of (Optic, (float, float))
        Sorted by position.
    """

    start: float
    source: Pair
    optics: tuple[tuple[Optic, Pair], ...]

    def fan(self, position: float) -> Fan:
        """Fan of the ideal optics, behind any optic in that plane."""
        fan = Fan.from_source(self.start, source=self.source)
        for optic, center in self.optics:
            if optic.position <= position:
                fan = fan.at(optic.position).through(optic.power, center)
        return fan.at(position)

    def lever(self, begin: float, end: float) -> Pair:
        """Displacement of a ray at `end` per deflection at `begin`, m/rad, by ideal optics."""
        levers = []
        for axis in (0, 1):
            place, slope, here = 0.0, 1.0, begin
            for optic, _ in self.optics:
                if begin < optic.position <= end:
                    place += slope * (optic.position - here)
                    slope -= optic.power[axis] * place
                    here = optic.position
            levers.append(place + slope * (end - here))
        return levers[0], levers[1]

    def trace(
        self, y: Floats, x: Floats, positions: Sequence[float], *, paths: bool = True
    ) -> list[Rays]:
        """Follow rays to planes, in the order of the beam; behind any optic in a plane.

        Without `paths`, the optics do not add to the optical paths.
        """
        away_y, away_x = y - self.source[0], x - self.source[1]
        rays = Rays(
            y,
            x,
            away_y / self.start,
            away_x / self.start,
            (away_y**2 + away_x**2) / (2 * self.start),
        )
        here = self.start
        left = list(self.optics)
        states = []
        for position in positions:
            while left and left[0][0].position <= position:
                optic, center = left.pop(0)
                rays = rays.at(optic.position - here).through(optic, center, paths=paths)
                here = optic.position
            rays, here = rays.at(position - here), position
            states.append(rays)
        return states

    def reaching(self, y: Floats, x: Floats, position: float) -> tuple[Floats, Floats]:
        """Find the rays that arrive at given positions in a plane.

        Parameters
        ----------
        y, x : ndarray
            Lab positions, m.
        position : float
            Distance of the plane from the source, m.

        Returns
        -------
        (ndarray, ndarray)
            Coordinates of the rays in the fan; NaN where rays cross, for example behind the rim of
            an aperture.

        Raises
        ------
        InputError
            Rays cross in more than a quarter of the positions.
        """
        fan = self.fan(position)
        targets = np.stack(np.broadcast_arrays(y, x))
        wanted = targets.reshape(2, -1)
        first = (wanted - np.reshape(fan.chief, (2, 1))) / np.reshape(fan.scale, (2, 1))
        found = first.copy()
        active = np.arange(wanted.shape[1])
        for iteration in range(ITERATIONS):
            if iteration == ROUGH:
                found[:, active] = first[:, active]
            here = found[:, active]
            step = self._step(here, wanted[:, active], fan, exact=iteration >= ROUGH)
            found[:, active] = here + step
            active = active[~(np.abs(step).max(axis=0, initial=0.0) < SETTLED)]
            if not active.size:
                break
        # Behind a caustic the image is inverted: its rays have crossed others.
        (yy, xy), (yx, xx) = self._spread(found, position)
        lost = ~(yy * xx - yx * xy > SINGULAR)
        lost[active] = True
        share = np.mean(lost)
        if share > MAX_LOST:
            raise InputError(
                f"rays cross before the plane at {position:.4g} m: {100 * share:.0f} % of the"
                " positions are reached by several rays",
                "Give weaker errors, a wider aperture, or a shorter distance.",
            )
        found[:, lost] = np.nan
        rays_y, rays_x = found.reshape(targets.shape)
        return rays_y, rays_x

    def _step(self, here: Floats, wanted: Floats, fan: Fan, *, exact: bool) -> Floats:
        """Newton step toward the rays that arrive at the wanted positions.

        The derivative comes from the ideal optics, or exactly from neighbouring rays.
        """
        off = wanted - self._arrival(here, fan.position)
        if not exact:
            return np.asarray(off / np.reshape(fan.scale, (2, 1)))
        (yy, xy), (yx, xx) = self._spread(here, fan.position)
        area = yy * xx - yx * xy
        area = np.where(np.abs(area) > SINGULAR, area, np.nan)
        return np.stack([(xx * off[0] - yx * off[1]) / area, (yy * off[1] - xy * off[0]) / area])

    def _spread(self, labels: Floats, position: float) -> tuple[Floats, Floats]:
        """Differentiate the position of arrival with respect to the y and the x of a ray."""
        centre = self._arrival(labels, position)
        below, beside = (
            (self._arrival(labels + np.reshape(aside, (2, 1)), position) - centre) / NEIGHBOUR
            for aside in ((NEIGHBOUR, 0.0), (0.0, NEIGHBOUR))
        )
        return below, beside

    def _arrival(self, labels: Floats, position: float) -> Floats:
        """Lab positions (y, x) at which rays arrive in a plane."""
        (rays,) = self.trace(labels[0], labels[1], [position], paths=False)
        return np.stack([rays.y, rays.x])
