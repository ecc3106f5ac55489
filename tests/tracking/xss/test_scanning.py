"""Speckle scanning against geometric truth: delays, curvatures, labels, chunks, bad input."""

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError, MotorError
from wavedask.simulate import (
    REFERENCE,
    Crl,
    Membrane,
    Setting,
    Source,
    SpeckleField,
    differential_beamline,
    membrane_scan,
    speckle_field,
)

PIXEL = 1e-6
SIDE = 40
INNER = (slice(8, -8), slice(8, -8))

Field = NDArray[np.float64]
Foot = Callable[[Field, Field], tuple[Field, Field]]


@pytest.fixture(scope="module")
def speckle() -> SpeckleField:
    """A membrane whose grains have 4 um."""
    return speckle_field(160, grain=4.0, seed=5)


def scan_of(
    speckle: SpeckleField,
    foot: Foot,
    positions: dict[str, Any],
    *,
    counts: float | None = None,
    shape: tuple[int, int] = (SIDE, SIDE),
    seed: int = 0,
) -> xr.DataArray:
    """Frames of a membrane at positions (um) of motors ..._y and ..._x; `foot` in um on it."""
    y, x = np.indices(shape, np.float64)
    at_y, at_x = foot(y, x)
    places: dict[str, Field] = {
        name: np.asarray(values, float) for name, values in positions.items()
    }
    n = len(next(iter(places.values())))
    moved = {
        axis: next((v for k, v in places.items() if k.endswith(axis)), np.zeros(n)) for axis in "yx"
    }
    images = np.stack([speckle(at_y - moved["y"][k], at_x - moved["x"][k]) for k in range(n)])
    if counts is not None:
        images = np.random.default_rng(seed).poisson(counts * images).astype(np.float64)
    return xr.DataArray(
        images.astype(np.float32),
        dims=("frame", "y", "x"),
        coords={
            **{k: ("frame", v, {"units": "um", "long_name": k}) for k, v in places.items()},
            "energy": ((), 17.0, {"units": "keV", "long_name": "energy"}),
        },
        attrs={"units": "counts", "long_name": "raw", "title": "scan"},
    )


def straight(y: Field, x: Field) -> tuple[Field, Field]:
    return y, x


def lens(y: Field, x: Field) -> tuple[Field, Field]:
    """Feet of the rays on the membrane behind which a lens and a wedge deflect: 1 um a pixel."""
    return y - 0.6 - 0.02 * (y - SIDE / 2), x + 1.1 - 0.02 * (x - SIDE / 2)


def steps(n: int, step: float) -> Field:
    return np.asarray(step * np.arange(n), np.float64)


def mesh(n: int, step: float) -> dict[str, Field]:
    slow, fast = np.meshgrid(steps(n, step), steps(n, step), indexing="ij")
    return {"diffuser_y": slow.ravel(), "diffuser_x": fast.ravel()}


def truth(axis: str) -> Field:
    """Displacement in px: what the lens moves the foot by, with the opposite sign."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    at_y, at_x = lens(y, x)
    return np.asarray(y - at_y if axis == "y" else x - at_x)


@pytest.mark.parametrize("axis", ["y", "x"])
def test_a_linear_scan_finds_delay_and_transverse_displacement(
    speckle: SpeckleField, axis: str
) -> None:
    motor = {f"diffuser_{axis}": steps(40, 0.5)}
    tracked = wd.track_scan(
        scan_of(speckle, lens, motor, counts=8000, seed=1),
        scan_of(speckle, straight, motor, counts=8000, seed=2),
        motor=f"diffuser_{axis}",
        pixel_size=PIXEL,
        window=5,
    )
    for name in "yx":
        error = (tracked[f"displacement_{name}"] - truth(name)).values[INNER]
        score = error / tracked[f"uncertainty_{name}"].values[INNER]
        assert np.isfinite(error).mean() > 0.99
        assert np.sqrt(np.nanmean(error**2)) < 0.02
        assert np.nanmedian(np.abs(score)) < 1.25 * 0.6745
    delay = tracked[f"delay_{axis}"].values[INNER]
    # The delay is in metres of the motor; its sensitivity is a fraction of the step of 0.5 um.
    assert np.nanmax(np.abs(delay + truth(axis)[INNER] * 1e-6)) < 0.1e-6
    assert f"delay_{'xy'['yx'.index(axis)]}" not in tracked


def test_a_mesh_finds_both_delays(speckle: SpeckleField) -> None:
    motors = mesh(14, 1.0)
    tracked = wd.track_scan(
        scan_of(speckle, lens, motors, counts=8000, seed=1),
        scan_of(speckle, straight, motors, counts=8000, seed=2),
        motor=("diffuser_y", "diffuser_x"),
        pixel_size=PIXEL,
        search=4,
    )
    for name in "yx":
        error = (tracked[f"displacement_{name}"] - truth(name)).values[INNER]
        score = error / tracked[f"uncertainty_{name}"].values[INNER]
        assert np.isfinite(error).mean() > 0.99
        assert np.nanstd(error) < 0.015
        assert 0.8 < np.nanstd(score) < 1.25


def test_the_slope_is_delay_over_distance(speckle: SpeckleField) -> None:
    motor = {"diffuser_x": steps(32, 0.5)}
    tracked = wd.track_scan(
        scan_of(speckle, lens, motor),
        scan_of(speckle, straight, motor),
        motor="diffuser_x",
        pixel_size=PIXEL,
    )
    physical = wd.wavefront(tracked, distance=0.8, pixel_size=PIXEL)
    np.testing.assert_allclose(
        physical.slope_x.values[INNER], -tracked.delay_x.values[INNER] / 0.8, rtol=1e-5
    )
    slope = physical.slope_x.values[INNER]
    assert np.polyfit(np.arange(SIDE)[8:-8], np.nanmean(slope, axis=0), 1)[0] == pytest.approx(
        0.02e-6 / 0.8, rel=0.02
    )


def test_scores_are_those_of_a_standard_error(speckle: SpeckleField) -> None:
    motor = {"diffuser_x": steps(40, 0.5)}

    def shifted(y: Field, x: Field) -> tuple[Field, Field]:
        return y - 0.3, x + 0.4

    for counts in (8000.0, 500.0):
        tracked = wd.track_scan(
            scan_of(speckle, shifted, motor, counts=counts, seed=3, shape=(80, 80)),
            scan_of(speckle, straight, motor, counts=counts, seed=4, shape=(80, 80)),
            motor="diffuser_x",
            pixel_size=PIXEL,
            window=5,
        )
        for name, true in (("y", 0.3), ("x", -0.4)):
            score = (tracked[f"displacement_{name}"] - true) / tracked[f"uncertainty_{name}"]
            assert 0.8 < float(score[INNER].std()) < 1.25
            assert abs(float(score[INNER].mean())) < 0.25
        assert float(tracked.transmission[INNER].mean()) == pytest.approx(1, abs=0.01)
        assert float(tracked.dark_field[INNER].mean()) == pytest.approx(1, abs=0.02)


def test_gain_offset_and_what_stands_still_change_nothing(speckle: SpeckleField) -> None:
    motor = {"diffuser_x": steps(32, 0.5)}
    sample, reference = (scan_of(speckle, foot, motor) for foot in (lens, straight))
    stripes = 1 + 0.5 * np.sin(np.arange(SIDE))[None, :, None]
    plain = wd.track_scan(sample, reference, motor="diffuser_x")
    dressed = wd.track_scan(0.4 * sample + stripes, 3 * reference + 7, motor="diffuser_x")
    np.testing.assert_allclose(dressed.delay_x[INNER], plain.delay_x[INNER], atol=2e-9)


def test_a_motor_that_runs_against_the_axis(speckle: SpeckleField) -> None:
    motor = {"diffuser_x": steps(32, 0.5)}
    stacks = [scan_of(speckle, foot, motor) for foot in (lens, straight)]
    plain = wd.track_scan(*stacks, motor="diffuser_x", pixel_size=PIXEL)
    stacks = [
        stack.assign_coords(diffuser_x=("frame", 100 - steps(32, 0.5), {"units": "um"}))
        for stack in stacks
    ]
    turned = wd.track_scan(*stacks, motor="diffuser_x", pixel_size=PIXEL, direction=-1)
    np.testing.assert_allclose(turned.displacement_x, plain.displacement_x, atol=2e-3)
    np.testing.assert_allclose(turned.delay_x, -plain.delay_x, atol=2e-9)


def test_order_and_encoders(speckle: SpeckleField) -> None:
    motor = {"diffuser_x": steps(32, 0.5)}
    sample, reference = (scan_of(speckle, foot, motor) for foot in (lens, straight))
    plain = wd.track_scan(sample, reference, motor="diffuser_x")
    mixed = reference.isel(frame=np.random.default_rng(0).permutation(32))
    xr.testing.assert_identical(wd.track_scan(sample, mixed, motor="diffuser_x"), plain)
    # The same positions, read 0.1 um higher: that much later does the sample come.
    late = sample.assign_coords(
        diffuser_x=("frame", steps(32, 0.5) + 0.1, {"units": "um", "long_name": "diffuser_x"})
    )
    offset = wd.track_scan(late, reference, motor="diffuser_x").delay_x - plain.delay_x
    assert np.isfinite(offset.values[INNER]).mean() > 0.98
    assert np.nanmax(np.abs(offset.values - 0.1e-6)) < 1e-10


@pytest.mark.parametrize("motor", ["diffuser_x", "diffuser_y"])
def test_chunks_change_nothing(
    speckle: SpeckleField, motor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavedask.tracking.xss.blocks.BLOCK_BYTES", 1.0)
    monkeypatch.setattr("wavedask.tracking.xss.blocks.LEAST_TILE", 24)
    motors = {motor: steps(24, 0.5)}
    sample, reference = (
        scan_of(speckle, foot, motors, counts=4000, shape=(70, 90)) for foot in (lens, straight)
    )
    sample[:, 30, 41] = np.nan
    eager = wd.track_scan(sample, reference, motor=motor, pixel_size=PIXEL)
    with forbid_computing():
        stacks = [
            stack.copy(data=da.from_array(stack.values, chunks=(1, -1, -1)))
            for stack in (sample, reference)
        ]
        lazy = wd.track_scan(*stacks, motor=motor, pixel_size=PIXEL)
        assert len(lazy.correlation.chunks[0]) * len(lazy.correlation.chunks[1]) > 2
    for name, values in lazy.compute().items():
        np.testing.assert_allclose(values, eager[name], rtol=2e-5, atol=2e-5, err_msg=str(name))


def diverging(distance: float, membrane: float) -> Foot:
    """Feet of the rays of a beam from a point at `distance`, on a membrane `membrane` before."""

    def foot(y: Field, x: Field) -> tuple[Field, Field]:
        scale = (distance - membrane) / distance
        return y * scale, x * scale

    return foot


@pytest.mark.parametrize("axis", ["y", "x"])
def test_neighbours_tell_the_curvature_of_a_beam(speckle: SpeckleField, axis: str) -> None:
    # 2 m from its source, 0.4 m behind the membrane, pixels of 1 um.
    scan = scan_of(speckle, diverging(2.0, 0.4), {f"m_{axis}": steps(50, 0.25)}, counts=20000)
    found = wd.track_scan(
        scan, motor=f"m_{axis}", pixel_size=PIXEL, distance=0.4, window=7, separation=8
    )
    curvature = found[f"curvature_{axis}"].values[INNER]
    error = found[f"curvature_uncertainty_{axis}"].values[INNER]
    assert np.nanmean(curvature) == pytest.approx(0.5, rel=0.02)
    score = (curvature - 0.5) / error
    assert 0.75 < np.nanstd(score) < 1.3
    assert found[axis].units == "m"
    assert set(found) == {f"curvature_{axis}", f"curvature_uncertainty_{axis}", "correlation"}


def test_neighbours_in_a_mesh_tell_both_curvatures(speckle: SpeckleField) -> None:
    def foot(y: Field, x: Field) -> tuple[Field, Field]:
        return 0.8 * y, 1.1 * x  # diverges along y, converges along x

    found = wd.track_scan(
        scan_of(speckle, foot, mesh(14, 1.0)),
        motor=("diffuser_y", "diffuser_x"),
        pixel_size=PIXEL,
        distance=0.5,
        separation=4,
    )
    assert float(found.curvature_y[INNER].mean()) == pytest.approx(0.2 / 0.5, rel=0.02)
    assert float(found.curvature_x[INNER].mean()) == pytest.approx(-0.1 / 0.5, rel=0.03)


def test_two_positions_tell_the_curvature_of_a_beam() -> None:
    speckle = speckle_field(200, grain=4.0, seed=5)
    scan = scan_of(speckle, diverging(2.0, 0.4), {"m_x": [0.0, 12.0]}, counts=8000, shape=(96, 96))
    tracked = wd.track(scan[1], scan[0], window=21, search=16)
    found = wd.self_reference(tracked, step=(0, 12e-6), pixel_size=PIXEL, distance=0.4)
    inner = found.isel(y=slice(20, -20), x=slice(30, -20))
    assert float(inner.curvature_x.mean()) == pytest.approx(0.5, rel=0.03)
    assert float(inner.curvature_uncertainty_x.median()) < 0.01
    assert float(found.x[0]) == pytest.approx(-6e-6)
    # The grains moved along x: the other axis says nothing.
    assert "curvature_y" not in found
    with pytest.raises(InputError, match="one of them 0"):
        wd.self_reference(tracked, step=(1e-6, 1e-6), pixel_size=PIXEL, distance=0.4)


def test_labels(speckle: SpeckleField) -> None:
    motor = {"diffuser_x": steps(16, 0.5)}
    sample, reference = (scan_of(speckle, foot, motor) for foot in (lens, straight))
    tracked = wd.track_scan(sample.to_dataset(name="image"), reference, motor="diffuser_x")
    assert set(tracked) == {
        "delay_x",
        "delay_uncertainty_x",
        "displacement_y",
        "uncertainty_y",
        "correlation",
        "window",
        "transmission",
        "dark_field",
        "reason",
    }
    assert tracked.delay_x.attrs["units"] == "m"
    assert tracked.displacement_y.attrs["units"] == "px"
    assert float(tracked.energy) == 17.0
    assert "diffuser_x" not in tracked.coords
    assert set(wd.track_scan(sample, reference, motor="diffuser_x", pixel_size=PIXEL)) == {
        *tracked,
        "displacement_x",
        "uncertainty_x",
    }


def test_what_has_no_match_is_marked(speckle: SpeckleField) -> None:
    motor = {"diffuser_x": steps(32, 0.5)}
    sample, reference = (scan_of(speckle, foot, motor, counts=8000) for foot in (lens, straight))
    sample[:, 5:16, 5:16] = np.nan
    sample[:, 25:36, 25:36] = 8000.0
    tracked = wd.track_scan(sample, reference, motor="diffuser_x", pixel_size=PIXEL)
    for part in (np.s_[7:14, 7:14], np.s_[27:34, 27:34]):
        assert np.isnan(tracked.displacement_x.values[part]).all()
        assert np.isinf(tracked.uncertainty_x.values[part]).all()
        assert np.isnan(tracked.delay_x.values[part]).all()
    assert np.isfinite(tracked.displacement_x.values[18:24, 8:32]).all()
    # A delay of 1.1 um is 2.2 steps: beyond a search of two.
    narrow = wd.track_scan(sample, reference, motor="diffuser_x", search=(4, 2))
    assert np.isnan(narrow.delay_x.values[:, :20]).mean() > 0.9


@pytest.fixture
def pair(speckle: SpeckleField) -> tuple[xr.DataArray, xr.DataArray]:
    motor = {"diffuser_x": steps(16, 0.5)}
    return scan_of(speckle, lens, motor), scan_of(speckle, straight, motor)


def test_positions_that_do_not_agree(
    speckle: SpeckleField, pair: tuple[xr.DataArray, xr.DataArray]
) -> None:
    sample, reference = pair
    with pytest.raises(MotorError, match=r"no frame at \(diffuser_x 1.5\)"):
        wd.track_scan(sample.drop_isel(frame=3), reference.drop_isel(frame=3), motor="diffuser_x")
    with pytest.raises(MotorError, match=r"reference has no frame at \(diffuser_x 1.5\)"):
        wd.track_scan(sample, reference.drop_isel(frame=3), motor="diffuser_x")
    moved = np.where(np.arange(16) == 7, 3.3, 0.5 * np.arange(16))
    wrong = sample.assign_coords(diffuser_x=("frame", moved, {"units": "um"}))
    with pytest.raises(MotorError, match="not on an equally spaced grid"):
        wd.track_scan(wrong, reference, motor="diffuser_x")
    twice = xr.concat([sample, sample[6:7]], "frame")
    with pytest.raises(MotorError, match=r"several frames at \(diffuser_x 3\)"):
        wd.track_scan(twice, reference, motor="diffuser_x")
    whole = scan_of(speckle, straight, mesh(8, 1.0))
    with pytest.raises(MotorError, match=r"no frame at \(diffuser_y 1, diffuser_x 3\)"):
        wd.track_scan(whole.drop_isel(frame=11), whole, motor=("diffuser_y", "diffuser_x"))
    with pytest.raises(MotorError, match="5 positions"):
        wd.track_scan(sample[:5], reference[:5], motor="diffuser_x")
    wrong = sample.assign_coords(diffuser_x=sample.diffuser_x.assign_attrs(units="deg"))
    with pytest.raises(MotorError, match="unit 'deg'"):
        wd.track_scan(wrong, reference, motor="diffuser_x")
    with pytest.raises(MotorError, match="no motor 'diffuser_z'"):
        wd.track_scan(sample, reference, motor="diffuser_z", axis="x")


def test_settings_that_make_no_sense(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    sample, reference = pair
    for settings, message in (
        ({"window": 4}, "window is 4"),
        ({"search": 40}, "search is 40 along 'x'"),
        ({"search": (1, 3)}, r"search is \(1, 3\)"),
        ({"least": 1.5}, "least is 1.5"),
        ({"direction": 2}, "direction is 2"),
        ({"axis": "z"}, "axis is 'z'"),
        ({"magnification": 0.0}, "magnification is 0"),
        ({"distance": 1.0}, "distance is 1.0, and there is a reference"),
        ({"pixel_size": 6.5}, "pixel_size is 6.5 m"),
        ({"window": "3"}, "window is '3'"),
        ({"search": float("nan")}, "search is nan"),
        ({"least": "0.5"}, "least is '0.5'"),
        ({"magnification": None}, "magnification is None"),
    ):
        with pytest.raises(InputError, match=message):
            wd.track_scan(sample, reference, motor="diffuser_x", **settings)
    with pytest.raises(InputError, match="no pixel_size"):
        wd.track_scan(sample, motor="diffuser_x", distance=1.0)
    with pytest.raises(InputError, match="16 positions, and a delay of 20 steps"):
        wd.track_scan(sample, motor="diffuser_x", distance=1.0, pixel_size=PIXEL, separation=10)
    with pytest.raises(InputError, match="separation is 3"):
        wd.track_scan(sample, motor="diffuser_x", distance=1.0, pixel_size=PIXEL, separation=3)
    with pytest.raises(InputError, match="single image"):
        wd.track_scan(sample[0], reference, motor="diffuser_x")
    renamed = [stack.rename(diffuser_x="paper") for stack in pair]
    with pytest.raises(InputError, match="does not say along which axis"):
        wd.track_scan(*renamed, motor="paper")
    with pytest.raises(InputError, match="Crop both"):
        wd.track_scan(sample, reference[:, 1:], motor="diffuser_x")


@pytest.mark.parametrize("behind", [-0.2, 0.25], ids=["membrane first", "optic first"])
def test_a_lens_in_a_diverging_beam_of_waves(behind: float) -> None:
    source_distance, distance = 20.0, 0.6
    lens = Crl(source_distance, radius=200e-6, delta=4e-6)
    beamline = differential_beamline(
        optic=lens,
        distance=distance,
        membrane_distance=behind,
        shape=(88, 88),
        pixel_size=PIXEL,
        seed=3,
    )
    sample = beamline.expose(membrane_scan(1, 36, 0.5e-6))
    reference = beamline.expose(membrane_scan(1, 36, 0.5e-6, base=REFERENCE), first=36)
    membrane = distance - behind  # to the detector
    total = source_distance + distance
    tracked = wd.track_scan(
        sample,
        reference,
        motor="membrane_x",
        pixel_size=PIXEL,
        magnification=total / (total - membrane),
        window=5,
    )
    truth = beamline.truth()
    inner = np.s_[12:-12, 12:-12]
    for axis in "yx":
        error = (tracked[f"displacement_{axis}"] - getattr(truth, f"displacement_{axis}"))[inner]
        assert np.isfinite(error).mean() > 0.98
        assert abs(float(error.mean())) < 0.005
        assert float(error.std()) < 0.04
    physical = wd.wavefront(
        tracked,
        distance=distance,
        pixel_size=PIXEL,
        source_distance=source_distance,
        membrane_distance=membrane,
    )
    slope, true = physical.slope_x.values[inner], truth.difference_slope_x[inner]
    known = np.isfinite(slope)
    assert np.polyfit(true[known], slope[known], 1)[0] == pytest.approx(1, abs=0.01)


def test_the_radius_of_a_beam_of_waves_without_a_reference() -> None:
    membrane = Membrane(3.0, size=200e-6, seed=2)
    beamline = differential_beamline(
        membrane=membrane,
        distance=0.4,
        shape=(88, 88),
        pixel_size=PIXEL,
        source=Source(size=(1e-6, 1e-6)),
        counts=20000,
    )
    inner = np.s_[12:-12, 12:-12]
    scan = beamline.expose(membrane_scan(1, 50, 0.4e-6))
    found = wd.track_scan(
        scan, motor="membrane_x", pixel_size=PIXEL, distance=0.4, window=9, separation=8
    )
    assert 1 / float(found.curvature_x[inner].mean()) == pytest.approx(3.4, rel=0.05)
    step = 15e-6
    frames = beamline.expose([Setting(membrane=(0, 0)), Setting(membrane=(0, step))])
    tracked = wd.track(frames[1], frames[0], window=21, search=20)
    moved = wd.self_reference(tracked, step=(0, step), pixel_size=PIXEL, distance=0.4)
    assert 1 / float(moved.curvature_x[inner].median()) == pytest.approx(3.4, rel=0.05)


def test_pixel_size_and_labels_are_those_of_the_frames(speckle: SpeckleField) -> None:
    positions = {"diffuser_x": steps(16, 0.5)}
    numbers = {"y": np.arange(SIDE), "x": np.arange(SIDE)}
    sample = scan_of(speckle, lambda y, x: (y, x + 0.6), positions).assign_coords(numbers)
    reference = scan_of(speckle, straight, positions).assign_coords(numbers)
    found = wd.track_scan(
        sample.isel(x=slice(0, 34)),
        reference.isel(x=slice(4, None)),
        motor="diffuser_x",
        pixel_size=PIXEL,
    )
    assert found.x.values.tolist() == list(range(4, 34))
    assert float(found.delay_x.median()) == pytest.approx(0.6e-6, abs=0.02e-6)
    assert found.attrs["pixel_size"] == [PIXEL, PIXEL]
    assert "distance" not in found.attrs
    slope = wd.wavefront(found, distance=1.0).slope_x
    assert float(slope.median()) == pytest.approx(-0.6e-6, abs=0.02e-6)
    with pytest.raises(InputError, match=r"pixel_size is 6.5e-07 m as given and 1e-06 m in attr"):
        wd.wavefront(found, distance=1.0, pixel_size=0.65e-6)
    stated = [part.assign_attrs(pixel_size=PIXEL) for part in (sample, reference)]
    filled = wd.track_scan(*stated, motor="diffuser_x")
    assert "displacement_x" in filled
    with pytest.raises(InputError, match="pixel_size is 2e-06 m as given and 1e-06 m in"):
        wd.track_scan(*stated, motor="diffuser_x", pixel_size=2e-6)
    with pytest.raises(InputError, match="y of the sample is 0 to 39"):
        wd.track_scan(sample, reference.assign_coords(y=reference.y + 0.5), motor="diffuser_x")


def test_a_self_reference_states_and_compares_its_set_up() -> None:
    u = xr.DataArray(np.full((4, 4), 40 * 40 / 39), dims=("y", "x"))
    tracking = xr.Dataset({"displacement_x": u, "displacement_y": 0 * u})
    tracking = tracking.assign_attrs(membrane_distance=1.0, pixel_size=1e-6)
    found = wd.self_reference(tracking, step=(0, 40e-6))
    np.testing.assert_allclose(1 / found.curvature_x, 40.0, rtol=1e-9)
    for setup, message in (
        ({"pixel_size": 2e-6}, "pixel_size is 2e-06 m as given and 1e-06 m in"),
        ({"distance": 1.5}, "distance is 1.5 m as given, and the tracking states 1 m"),
        ({"distance": "1.5"}, "distance is '1.5'"),
        ({"magnification": "2"}, "magnification is '2'"),
    ):
        arguments: dict[str, Any] = {"step": (0, 40e-6), **setup}
        with pytest.raises(InputError, match=message):
            wd.self_reference(tracking, **arguments)
    sure = wd.self_reference(tracking, step=(0, 40e-6), distance=1.5, sure="distance")
    assert sure.attrs["sure"] == ["distance"]
    bare = xr.Dataset({"displacement_x": u, "displacement_y": 0 * u})
    with pytest.raises(InputError, match="distance is not given, and the tracking does not state"):
        wd.self_reference(bare, step=(0, 40e-6), pixel_size=1e-6)
