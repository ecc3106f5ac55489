"""Both mirrors of a KB pair are recovered from rays that were traced in three dimensions."""

import dataclasses
import math
from functools import lru_cache

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import interpolate

from wavedask.errors import InputError
from wavedask.optics import KBMirror, kb_pair
from wavedask.optics.reflection import Ellipse

Floats = NDArray[np.float64]

P, Q, APART, BEHIND = 40.0, 0.5, 0.25, 0.1
"""Of the second mirror, which stands APART behind the first and BEHIND before the detector."""
ANGLES = 3.5e-3, 2.5e-3
LENGTHS = 0.1, 0.08
SIDE, RAYS = 61, 61
FIGURE = 15e-9
VERTICAL = KBMirror(theta=ANGLES[0], p=P - APART, distance=BEHIND + APART, center=0.0)
HORIZONTAL = KBMirror(theta=ANGLES[1], p=P, distance=BEHIND, center=0.0)


def figure(along: Floats, number: int, size: float) -> Floats:
    """Height error of a mirror: waves of an amplitude, m."""
    return np.asarray(size * np.cos(2 * np.pi * (2 + number) * along / LENGTHS[number]))


def surface(number: int, p: float, q: float, size: float) -> interpolate.CubicSpline:
    along = np.linspace(-LENGTHS[number], LENGTHS[number], 4001)
    heights = Ellipse(p, q, ANGLES[number]).height(along)
    return interpolate.CubicSpline(along, heights + figure(along, number, size))


def reflected(
    place: Floats, way: Floats, axis: int, theta: float, shape: interpolate.CubicSpline
) -> tuple[Floats, Floats]:
    """Reflect rays; rows are along the beam, vertical and horizontal, before and behind."""
    turn = np.array([[math.cos(theta), math.sin(theta)], [-math.sin(theta), math.cos(theta)]])
    start, ahead = turn @ place[[0, axis]], turn @ way[[0, axis]]
    length = -start[1] / ahead[1]
    for _ in range(6):
        along = start[0] + length * ahead[0]
        miss = start[1] + length * ahead[1] - shape(along)
        length = length - miss / (ahead[1] - shape(along, 1) * ahead[0])
    met = start + length * ahead
    normal = np.stack([-shape(met[0], 1), np.ones_like(met[0])])
    normal /= np.hypot(*normal)
    ahead = ahead - 2 * (ahead * normal).sum(axis=0) * normal
    back = np.array([[math.cos(theta), math.sin(theta)], [math.sin(theta), -math.cos(theta)]])
    place, way = place + length * way, way.copy()
    place[[0, axis]], way[[0, axis]] = back @ met, back @ ahead
    return place, way


@lru_cache
def measured(size: float) -> xr.Dataset:
    """Slopes on the detector behind a pair with figure errors of a size, in absolute mode."""
    down = np.linspace(-0.5, 0.5, RAYS) * LENGTHS[0] * math.sin(ANGLES[0])
    across = np.linspace(-0.5, 0.5, RAYS) * LENGTHS[1] * math.sin(ANGLES[1])
    v, h = (part.ravel() for part in np.meshgrid(down, across, indexing="ij"))
    source = np.stack([np.full(v.size, -VERTICAL.p), 0 * v, 0 * v])
    way = np.stack([np.full(v.size, VERTICAL.p), v, h])
    place, way = reflected(source, way, 1, ANGLES[0], surface(0, VERTICAL.p, Q + APART, size))
    place[0] -= APART
    place, way = reflected(place, way, 2, ANGLES[1], surface(1, P, Q, size))
    slopes = way[1:] / way[0]
    at = place[1:] + slopes * (BEHIND - place[0])
    axes = [np.linspace(-0.48, 0.48, SIDE) * np.ptp(line) for line in at]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) + at.mean(axis=1)
    scale = np.ptp(at, axis=1)
    fields = interpolate.CloughTocher2DInterpolator((at / scale[:, None]).T, slopes.T)(grid / scale)
    return xr.Dataset(
        {f"slope_{axis}": (("y", "x"), fields[..., n]) for n, axis in enumerate("yx")},
        {"y": axes[0] + at[0].mean(), "x": axes[1] + at[1].mean()},
        {"mode": "absolute", "distance": 7.0},
    )


def test_the_figures_of_both() -> None:
    wf = measured(FIGURE)
    kept = kb_pair(
        wf,
        vertical=dataclasses.replace(VERTICAL, q=Q + APART, free=()),
        horizontal=dataclasses.replace(HORIZONTAL, q=Q, free=()),
    )
    for number, mirror in enumerate((kept.vertical, kept.horizontal)):
        along = mirror.mirror_position.values
        truth = figure(along, number, FIGURE)
        truth -= np.polynomial.Polynomial.fit(along, truth, 1)(along)
        assert np.std(mirror.height_error.values - truth) < 0.05 * np.std(truth)


def test_p_and_q_of_perfect_mirrors() -> None:
    free = ("p", "q")
    found = kb_pair(
        measured(0.0),
        vertical=dataclasses.replace(VERTICAL, free=free),
        horizontal=dataclasses.replace(HORIZONTAL, free=free),
    )
    for mirror, p, q in (
        (found.vertical, VERTICAL.p, Q + APART),
        (found.horizontal, HORIZONTAL.p, Q),
    ):
        assert float(mirror.ellipse_p) == pytest.approx(p, rel=0.01)
        assert float(mirror.ellipse_q) == pytest.approx(q, rel=0.01)
    assert float(found.foci.astigmatic_difference) == pytest.approx(0, abs=1e-3)
    assert float(found.foci.focus_distance_x) == pytest.approx(Q - BEHIND, abs=1e-3)


def test_mirrors_that_contradict_each_other() -> None:
    wf = measured(0.0)
    with pytest.raises(InputError, match=r"p \+ distance is 40.35 m of the vertical"):
        kb_pair(wf, vertical=dataclasses.replace(VERTICAL, p=P), horizontal=HORIZONTAL)
    with pytest.raises(InputError, match=r"vertical mirror: wf has no 'slope_y'"):
        kb_pair(wf.drop_vars("slope_y"), vertical=VERTICAL, horizontal=HORIZONTAL)
    with pytest.raises(InputError, match="horizontal mirror: theta"):
        kb_pair(wf, vertical=VERTICAL, horizontal=dataclasses.replace(HORIZONTAL, theta=3.0))
