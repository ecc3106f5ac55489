"""Standard errors of a focus: errors of the wavefront, carried through the diffraction."""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from wavedask.geometry import Errors, Geometry, radius_effects
from wavedask.optics.beam import AXES, Beam
from wavedask.optics.caustic import SPOTS, Axis, Peak, peak, profile, sizes
from wavedask.optics.diffraction import LARGEST_STEP
from wavedask.optics.noise_modes import NoiseModes

Floats = npt.NDArray[np.float64]
Bends = tuple[float, float]

PIXELS: Final = 96
"""Pixels along each axis on which changes of a focus are computed, at least."""
POINTS: Final = 385
"""Positions across a profile: 8 in the smallest possible spot."""
STEP: Final = 0.25
"""Distance of the planes between which the smallest width is interpolated, in depths of focus."""
WIDER: Final = 1.02
"""Width of the outer planes over that of the middle one, at least: a parabola needs a bend."""
DOUBLED: Final = 4
"""How often the distance of the planes is doubled for that."""
FARTHEST: Final = 2.0
"""Distance of an interpolated minimum from the middle plane, at most, in distances of planes."""


@dataclass(frozen=True, slots=True)
class SetUp:
    """What errors of the set-up do to the curvature of a wavefront.

    Attributes
    ----------
    errors : Errors
        Standard errors of the set-up.
    detectors : Geometry or None
        The two detectors of absolute mode; None in differential mode.
    lever : float
        Distance over which slopes were measured, m.
    curvature : float
        Curvature of the beam that the wavefront lacks, 1/m.
    """

    errors: Errors
    detectors: Geometry | None
    lever: float
    curvature: float

    def bends(self, beam: Beam) -> list[Bends]:
        """Return the changes of the curvatures 1 / q along (y, x), one pair for each error."""
        if self.detectors is None:
            if self.errors.distance is None:
                return []
            error = self.errors.distance[0]
            # The detector moves: the measured curvature scales, and the beam before has another.
            along = [
                error * (self.curvature**2 - (1 / focus + self.curvature) / self.lever)
                for focus in beam.focus
            ]
            return [(along[0], along[1])]
        changes = []
        for axis in AXES:
            effects = radius_effects(
                beam.focus[axis],
                _spread(beam, axis),
                axis=axis,
                setup=self.detectors,
                errors=self.errors,
            )
            changes.append({kind: effect / beam.focus[axis] for kind, effect in effects.items()})
        pairs: list[Bends] = []
        for kind in changes[0]:
            down, across = float(changes[0][kind]), float(changes[1][kind])
            # Both axes share a distance; each has a pixel size and a distortion of its own.
            pairs += [(down, across)] if kind[0] == "distance" else [(down, 0.0), (0.0, across)]
        return pairs


def focus_errors(
    beam: Beam, foci: tuple[Axis, Axis], highest: Peak, noise: NoiseModes, bends: list[Bends]
) -> Floats:
    r"""Compute the standard errors of the numbers of a focus.

    Each independent error :math:`e_k` of the wavefront is added to the field and taken from it.
    With the changes :math:`f_k^\pm` of a number, its slope and bend along the error are
    :math:`a_k = (f_k^+ - f_k^-) / 2` and :math:`b_k = (f_k^+ + f_k^-) / 2`. The mean square of the
    difference from the truth is

    .. math:: \max(0, \sum a_k^2 - 4 \sum b_k^2) + 2 \sum b_k^2 + (\sum b_k)^2.

    The second sum is what the error in the measured wavefront itself adds to the first. The last
    term is the bias: noise makes a focus wider, and the Strehl ratio smaller.

    Parameters
    ----------
    beam : Beam
        Measured field.
    foci : (Axis, Axis)
        Its foci along y and x.
    highest : Peak
        Its largest intensity.
    noise : NoiseModes
        Errors of the wavefront, over all its pixels.
    bends : list of (float, float)
        Changes of the curvatures along (y, x) by errors of the set-up, 1/m.

    Returns
    -------
    ndarray, shape (10,)
        Standard errors of the distances along y and x, of their difference, of the full widths at
        half maximum, the rms widths and the widths with 80 % of the power, each along y and x, in
        m; and of the Strehl ratio.
    """
    reduced, side = _reduced(beam)
    spots = [_Search.start(reduced, beam, axis, foci[axis].distance) for axis in AXES]
    down, across = (
        2 * (np.arange(size) * side[axis] + (side[axis] - 1) / 2) / (beam.field.shape[axis] - 1) - 1
        for axis, size in enumerate(reduced.field.shape)
    )

    def numbers(change: Floats | float, bend: Bends) -> Floats:
        changed = _changed(reduced, change, bend)
        found = [search.found(changed) for search in spots]
        moved = sum(one[0] - search.middle for one, search in zip(found, spots, strict=True)) / 2
        value = _highest(changed, highest.distance + moved, min(beam.depth(0), beam.depth(1)))
        (y, *of_y), (x, *of_x) = found
        pairs = [part for pair in zip(of_y, of_x, strict=True) for part in pair]
        return np.array([y, x, y - x, *pairs, value])

    usual = numbers(0.0, (0.0, 0.0))
    slopes, curves = [], []
    changes = [(part, (0.0, 0.0)) for part in noise.maps(down, across)]
    for change, bend in [*changes, *((0.0, bend) for bend in bends)]:
        more = numbers(change, bend) - usual
        less = numbers(-np.asarray(change), (-bend[0], -bend[1])) - usual
        slopes.append((more - less) / 2)
        curves.append((more + less) / 2)
    a, b = np.array(slopes), np.array(curves)
    bias = b.sum(axis=0)
    square = 2 * (b**2).sum(axis=0)
    return np.asarray(np.sqrt(np.maximum((a**2).sum(axis=0) - 2 * square, 0.0) + square + bias**2))


def _spread(beam: Beam, axis: int) -> float:
    """Return the rms distance of the pixels with beam from their mean along an axis, m."""
    lit = np.abs(beam.field) > 0
    return float(np.std(np.broadcast_to(_wide(beam.axes[axis], axis), lit.shape)[lit]))


def _wide(line: Floats, axis: int) -> Floats:
    return line[:, None] if axis == 0 else line


def _reduced(beam: Beam) -> tuple[Beam, tuple[int, int]]:
    """Average a field over blocks of pixels; return it with the sides of a block."""
    field, axes, sides = beam.field, [], []
    for axis in AXES:
        size = field.shape[axis]
        ahead, behind = (np.take(field, range(start, size - 1 + start), axis) for start in (1, 0))
        turned = np.abs(np.angle(ahead * behind.conj())) / (2 * math.pi)
        steepest = float(turned.max(initial=0.0))
        side = max(1, size // PIXELS)
        while side > 1 and steepest * side > LARGEST_STEP / 2:
            side -= 1
        blocks = -(-size // side)
        padding = [(0, 0), (0, 0)]
        padding[axis] = (0, blocks * side - size)
        shape = [*field.shape[:axis], blocks, side, *field.shape[axis + 1 :]]
        field = np.pad(field, padding).reshape(shape).mean(axis=axis + 1)
        first = float(beam.axes[axis][0]) + beam.step(axis) * (side - 1) / 2
        axes.append(first + beam.step(axis) * side * np.arange(blocks))
        sides.append(side)
    power = float((np.abs(field) ** 2).sum()) * math.prod(float(a[1] - a[0]) for a in axes)
    reduced = Beam(field / math.sqrt(power), (axes[0], axes[1]), beam.focus, beam.wavelength)
    return reduced, (sides[0], sides[1])


def _changed(beam: Beam, change: Floats | float, bend: Bends) -> Beam:
    """Add a change to the wavefront of a field: its two curvatures to the spheres."""
    field, bends = beam.field, list(bend)
    if isinstance(change, np.ndarray) and change.ndim:
        y, x = beam.axes[0][:, None], beam.axes[1]
        scales = float(np.abs(y).max()), float(np.abs(x).max())
        v, u = (np.broadcast_to(p / s, field.shape) for p, s in zip((y, x), scales, strict=True))
        terms = np.stack([np.ones(field.shape), v, u, v * v, u * u], axis=-1)
        # The square of the amplitude weights the fit.
        weights = np.abs(field)
        fit = np.linalg.lstsq(
            (terms * weights[..., None]).reshape(-1, 5), (change * weights).ravel(), rcond=None
        )[0]
        rest = change - terms @ fit
        field = field * np.exp(2j * math.pi * rest / beam.wavelength)
        bends = [b - 2 * fit[3 + axis] / scales[axis] ** 2 for axis, b in enumerate(bends)]
    focus = [1 / (1 / q + b) for q, b in zip(beam.focus, bends, strict=True)]
    return replace(beam, field=field, focus=(focus[0], focus[1]))


@dataclass(frozen=True, slots=True)
class _Search:
    """How the smallest width along an axis is found.

    Attributes
    ----------
    axis : int
    middle : float
        Distance of the focus in the measured field, m.
    offset : float
        The same, behind the focus of the sphere.
    step : float
        Distance of the planes, m.
    positions : ndarray
        Positions across the profile, m.
    """

    axis: int
    middle: float
    offset: float
    step: float
    positions: Floats

    @classmethod
    def start(cls, reduced: Beam, beam: Beam, axis: int, distance: float) -> "_Search":
        """Choose the planes."""
        step = STEP * beam.depth(axis)
        across = max(SPOTS * beam.spot(axis), 1.5 * beam.blur(axis, distance + 4 * step))
        search = cls(
            axis,
            distance,
            distance - beam.focus[axis],
            step,
            np.linspace(-across, across, POINTS),
        )
        for _ in range(DOUBLED):
            low, middle, high = search.widths(reduced, distance)
            if not (low + high) / 2 < WIDER * middle:
                break
            search = replace(search, step=2 * search.step)
        return search

    def widths(self, beam: Beam, distance: float) -> list[float]:
        """Return the widths in three planes."""
        return [
            sizes(profile(beam, self.axis, place, self.positions), self.positions).width
            for place in (distance - self.step, distance, distance + self.step)
        ]

    def found(self, beam: Beam) -> tuple[float, float, float, float]:
        """Return the distance of the focus, and the sizes there."""
        distance = beam.focus[self.axis] + self.offset
        low, middle, high = self.widths(beam, distance)
        distance += self.step * _vertex(low, middle, high)
        spot = sizes(profile(beam, self.axis, distance, self.positions), self.positions)
        return distance, spot.fwhm, spot.rms, spot.width


def _vertex(low: float, middle: float, high: float) -> float:
    """Return where the parabola through values at -1, 0 and 1 has its extremum."""
    bend = low - 2 * middle + high
    if not bend:
        return 0.0
    return float(np.clip((low - high) / 2 / bend, -FARTHEST, FARTHEST))


def _highest(beam: Beam, distance: float, depth: float) -> float:
    """Return the Strehl ratio of a field whose largest intensity is near a plane."""
    step = STEP * depth
    low, middle, high = (peak(beam, distance + part * step) for part in (-1, 0, 1))
    vertex = _vertex(low, middle, high)
    return middle - (low - high) * vertex / 4
