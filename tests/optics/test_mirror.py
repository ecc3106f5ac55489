"""A grazing mirror is recovered from rays that were traced by other equations."""

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import interpolate, optimize
from support.laziness import forbid_computing

from wavedask.errors import InputError
from wavedask.optics import mirror

P, Q, THETA = 40.0, 0.5, 3e-3
LENGTH = 0.12


def ellipse(along: np.ndarray, p: float = P, q: float = Q, theta: float = THETA) -> np.ndarray:
    """Heights of an ellipse by its definition: the way over the surface is p + q."""
    source = np.array([-p * math.cos(theta), p * math.sin(theta)])
    focus = np.array([q * math.cos(theta), q * math.sin(theta)])

    def excess(z: float, x: float) -> float:
        # In differences, for the whole way has too few digits.
        before = (x**2 + z**2 - 2 * (x * source[0] + z * source[1])) / (
            math.hypot(x - source[0], z - source[1]) + p
        )
        behind = (x**2 + z**2 - 2 * (x * focus[0] + z * focus[1])) / (
            math.hypot(x - focus[0], z - focus[1]) + q
        )
        return float(before + behind)

    return np.array([optimize.brentq(excess, -1e-9, 1e-3, args=(x,), xtol=1e-18) for x in along])


def figure(along: np.ndarray) -> np.ndarray:
    """Height error: 20 nm in three periods."""
    return 20e-9 * np.sin(2 * np.pi * 3 * along / LENGTH) * np.exp(-((along / 0.05) ** 2))


def beam(
    *,
    distance: float,
    heights: np.ndarray | None = None,
    sign: int = 1,
    side: int = 301,
    noise: float = 0.0,
    lines: int = 7,
    seed: int = 0,
) -> xr.Dataset:
    """Slopes on a detector behind a mirror, along x."""
    along = np.linspace(-LENGTH / 2, LENGTH / 2, 4001)
    surface = (
        interpolate.CubicSpline(along, ellipse(along) + figure(along))
        if heights is None
        else interpolate.CubicSpline(along, heights)
    )
    z, tilt = surface(along), surface(along, 1)
    incident = np.stack([along + P * math.cos(THETA), z - P * math.sin(THETA)])
    incident /= np.hypot(*incident)
    normal = np.stack([-tilt, np.ones_like(tilt)]) / np.hypot(1, tilt)
    out = incident - 2 * (incident * normal).sum(axis=0) * normal
    axis = np.array([math.cos(THETA), math.sin(THETA)])
    across = sign * np.array([math.sin(THETA), -math.cos(THETA)])
    start = np.stack([along, z])
    way = (distance - axis @ start) / (axis @ out)
    place = across @ (start + way * out)
    slope = (across @ out) / (axis @ out)
    order = np.argsort(place)
    pixels = np.linspace(place.min(), place.max(), side)
    line = interpolate.CubicSpline(place[order], slope[order])(pixels)
    values = np.tile(line, (lines, 1))
    data = {"slope_x": (("y", "x"), values, {"units": "rad"})}
    if noise:
        values += np.random.default_rng(seed).normal(scale=noise, size=values.shape)
        data["slope_uncertainty_x"] = (("y", "x"), np.full(values.shape, noise), {"units": "rad"})
    step = pixels[1] - pixels[0]
    return xr.Dataset(
        data,
        {"y": np.arange(lines) * step, "x": pixels + 3e-3},
        {"mode": "absolute", "distance": distance, "source_distance": P},
    )


def center_of(wf: xr.Dataset) -> float:
    """Where the ray from the middle of the mirror meets the detector: the traced frame has it."""
    return 3e-3


@pytest.mark.parametrize(("distance", "sign"), [(0.2, 1), (0.2, -1), (1.4, 1), (1.4, -1)])
def test_figure_and_focus_are_found_before_and_behind_the_focus(distance: float, sign: int) -> None:
    wf = beam(distance=distance, sign=sign)
    found = mirror(wf, axis="x", theta=THETA, sign=sign, center=center_of(wf))  # type: ignore[arg-type] # 1 or -1
    assert float(found.ellipse_q) == pytest.approx(Q, rel=0.01)
    along = found.mirror_position.values
    assert along[0] == pytest.approx(-LENGTH / 2, rel=0.02)
    truth = figure(along)
    truth = truth - np.polynomial.Polynomial.fit(along, truth, 1)(along)
    left = found.height_error.values
    # The best ellipse takes a little of the curvature of the figure.
    bend = np.polynomial.Polynomial.fit(along, left - truth, 2)(along)
    assert np.std(left - truth - bend) < 0.05 * np.std(truth)
    assert float(found.height_error_rms) == pytest.approx(np.std(truth), rel=0.05)
    assert float(found.height_error_pv) == pytest.approx(np.ptp(truth), rel=0.05)
    peak = found.psd_height.idxmax().item()
    assert peak == pytest.approx(3 / LENGTH, abs=1 / LENGTH)
    radius = 2 * P * Q / ((P + Q) * math.sin(THETA))
    assert float(found.local_radius.sel(mirror_position=0, method="nearest")) == pytest.approx(
        radius, rel=0.05
    )
    assert found.slope_error.attrs["units"] == "rad"


def test_p_and_q_of_another_ellipse() -> None:
    along = np.linspace(-LENGTH / 2, LENGTH / 2, 4001)
    wf = beam(distance=0.2, heights=ellipse(along, p=30.0, q=0.45))
    found = mirror(wf, axis="x", theta=THETA, center=center_of(wf), free=("p", "q"))
    assert float(found.ellipse_p) == pytest.approx(30.0, rel=0.01)
    assert float(found.ellipse_q) == pytest.approx(0.45, rel=0.01)
    assert float(found.ellipse_theta) == THETA
    assert float(found.height_error_rms) < 2e-11
    kept = mirror(wf, axis="x", theta=THETA, center=center_of(wf), q=0.5, free=())
    assert float(kept.ellipse_q) == 0.5
    assert float(kept.height_error_rms) > 1e-7


def test_errors_of_q_hold() -> None:
    scores = []
    along = np.linspace(-LENGTH / 2, LENGTH / 2, 4001)
    heights = ellipse(along)
    for seed in range(16):
        wf = beam(distance=0.2, heights=heights, noise=2e-7, seed=seed)
        found = mirror(wf, axis="x", theta=THETA, center=center_of(wf))
        scores.append((float(found.ellipse_q) - Q) / float(found.ellipse_q_uncertainty))
    assert 0.6 < np.sqrt(np.mean(np.square(scores))) < 1.5
    ratio = float(found.slope_error_rms / found.slope_error_uncertainty.mean())
    # White noise between two pixels is smaller than at one: by 0.82 in the mean.
    assert ratio == pytest.approx(0.82, abs=0.1)


def test_a_plane_and_a_cylinder() -> None:
    along = np.linspace(-LENGTH / 2, LENGTH / 2, 4001)
    flat = beam(distance=1.0, heights=figure(along))
    found = mirror(flat, axis="x", theta=THETA, shape="plane", center=center_of(flat))
    truth = figure(found.mirror_position.values)
    assert float(found.height_error_rms) == pytest.approx(np.std(truth), rel=0.05)
    assert "ellipse_q" not in found
    bent = beam(distance=1.0, heights=along**2 / (2 * 900.0))
    found = mirror(bent, axis="x", theta=THETA, shape="cylinder", center=center_of(bent))
    assert float(found.mirror_radius) == pytest.approx(900.0, rel=1e-3)
    assert float(found.height_error_rms) < 1e-10
    with pytest.raises(InputError, match="does not focus"):
        mirror(beam(distance=1.0, heights=-(along**2) / 1800.0), axis="x", theta=THETA)


def test_curvatures_are_integrated() -> None:
    wf = beam(distance=0.2)
    slope = wf.slope_x.values
    step = float(wf.x[1] - wf.x[0])
    curvature = (("y", "x"), np.gradient(slope, step, axis=1), {"units": "1/m"})
    curved = xr.Dataset({"curvature_x": curvature}, wf.coords, {"distance": 0.2})
    one = mirror(wf, axis="x", theta=THETA, center=center_of(wf))
    other = mirror(curved, axis="x", theta=THETA, p=P, center=center_of(wf))
    assert float(other.ellipse_q) == pytest.approx(float(one.ellipse_q), rel=2e-3)
    assert float(other.height_error_rms) == pytest.approx(float(one.height_error_rms), rel=0.05)


def test_a_differential_wavefront_lacks_the_curvature_of_the_beam() -> None:
    wf = beam(distance=0.2)
    place = wf.x - center_of(wf)
    relative = wf.assign(slope_x=wf.slope_x - place / (P + 0.2)).assign_attrs(mode="differential")
    found = mirror(relative, axis="x", theta=THETA, center=center_of(wf))
    assert float(found.ellipse_q) == pytest.approx(Q, rel=0.01)


def test_frames_and_the_other_axis() -> None:
    wf = beam(distance=0.2)
    turned = xr.Dataset(
        {"slope_y": (("y", "x"), wf.slope_x.values.T)},
        {"y": wf.x.values, "x": wf.y.values},
        wf.attrs,
    )
    one = mirror(wf, axis="x", theta=THETA)
    xr.testing.assert_allclose(one, mirror(turned, axis="y", theta=THETA))
    empty = wf.where(wf.x < 0)
    stack = xr.concat([wf, empty], "frame").assign_coords(bender=("frame", [0.0, 1.0]))
    both = mirror(stack.chunk({"frame": 1}), axis="x", theta=THETA)
    assert both.slope_error.dims == ("frame", "mirror_position")
    assert both.bender.values.tolist() == [0.0, 1.0]
    np.testing.assert_allclose(both.height_error_rms[0], one.height_error_rms)
    assert np.isnan(both.ellipse_q[1])


def test_a_stack_stays_lazy_frame_by_frame() -> None:
    """Chunks do not matter, and a frame that saw less of the mirror is NaN beyond."""
    wf = beam(distance=0.2, side=201)
    less = wf.where(wf.x > float(wf.x[40]))
    stack = xr.concat([wf, less], "frame").assign_coords(
        bender=("frame", [0.0, 1.0], {"units": "V"})
    )
    even = np.linspace(-0.02, 0.02, 101)
    options: dict[str, Any] = {"axis": "x", "theta": THETA, "center": center_of(wf)}
    with forbid_computing():
        lazy = mirror(stack.chunk({"frame": 1, "x": 50}), positions=even, **options)
        assert lazy.height_error.chunks[0] == (1, 1)
    eager = mirror(stack, positions=even, **options)
    xr.testing.assert_identical(lazy.compute(), eager)
    assert eager.bender.attrs["units"] == "V"
    by_first = mirror(stack.chunk({"frame": 2}), **options)
    xr.testing.assert_identical(by_first.compute(), mirror(stack, **options))
    gaps = np.isnan(by_first.height_error).sum("mirror_position").values
    assert gaps[0] == 0
    assert 30 < gaps[1] < 50
    assert np.isfinite(by_first.psd_height).all()


@pytest.mark.parametrize("positions", [[0.0, 1.0], np.arange(10.0) ** 2, np.full(9, np.nan)])
def test_positions_that_are_none(positions: object) -> None:
    with pytest.raises(InputError, match="positions"):
        mirror(beam(distance=0.2, side=51), axis="x", theta=THETA, positions=positions)  # type: ignore[arg-type] # the mistakes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axis": "z"}, "axis is 'z'"),
        ({"shape": "toroid"}, "shape is 'toroid'"),
        ({"sign": 0}, "sign is 0"),
        ({"free": ("p", "p")}, "free is"),
        ({"theta": 3.0}, "theta"),
        ({"theta": 3e-3, "p": 39.0}, "39"),
        ({"axis": "y"}, "no 'slope_y' and no 'curvature_y'"),
    ],
)
def test_wrong_input(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mirror(beam(distance=0.2, side=51), **{"axis": "x", "theta": THETA, **options})  # type: ignore[arg-type] # the mistakes


def test_rays_that_cross() -> None:
    wf = beam(distance=0.2, side=51)
    wf["slope_x"] = -40 * np.sin((wf.x - 3e-3) * 2e4) * 1e-4 + 0 * wf.slope_x
    with pytest.raises(InputError, match="cross"):
        mirror(wf, axis="x", theta=THETA)
