"""Which frame is tracked in which: pairs by motors, references of a train."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError, MotorError
from wavedask.frames.pairing import paired_frames, train_pairs
from wavedask.simulate import speckle_field

RNG = np.random.default_rng(7)


def frames(values: Any, units: str = "um", **motors: Any) -> xr.DataArray:
    """Frames that hold a number each, with motors."""
    data = np.asarray(values, np.float64).reshape(-1, 1, 1) * np.ones((1, 2, 3))
    coords = {name: ("frame", np.asarray(m, float), {"units": units}) for name, m in motors.items()}
    return xr.DataArray(data, dims=("frame", "y", "x"), coords=coords)


def held(images: xr.DataArray) -> list[float]:
    return [float(value) for value in images[:, 0, 0]]


def test_frames_pair_in_any_order_despite_encoders() -> None:
    y, x = (part.ravel() for part in np.meshgrid(np.arange(3.0), np.arange(4.0), indexing="ij"))
    order = RNG.permutation(12)
    reference = frames(np.arange(12), m_y=y, m_x=x).isel(frame=order)
    noise = RNG.uniform(-0.1, 0.1, (2, 12))
    sample = frames(np.arange(12), m_y=y + noise[0], m_x=x + noise[1])
    paired = paired_frames(sample, reference, motors=("m_y", "m_x"), one_to_one=True)
    assert held(paired) == list(range(12))
    with pytest.raises(MotorError, match=r"within 0.001, 0.001: the reference has no frame at"):
        paired_frames(sample, reference, motors=("m_y", "m_x"), tolerance=1e-3)


def test_many_samples_may_share_a_reference() -> None:
    sample, reference = frames([0] * 5, m=[2, 1, 1, 0, 2]), frames([0, 10, 20], m=[0, 1, 2])
    assert held(paired_frames(sample, reference, motors="m", tolerance=0.1)) == [20, 10, 10, 0, 20]
    with pytest.raises(MotorError, match=r"sample has several frames at \(m 1\), \(m 2\)"):
        paired_frames(sample, reference, motors="m", tolerance=0.1, one_to_one=True)


def test_a_mismatch_is_listed() -> None:
    reference = frames([0, 1, 2, 2], m=[0.0, 1.0, 2.0, 2.01])
    with pytest.raises(
        MotorError,
        match=r"no frame at \(m 3\), \(m 4\); the reference has several frames at \(m 2\)",
    ):
        paired_frames(frames([0, 0, 0], m=[2, 3, 4]), reference, motors="m", tolerance=0.1)
    with pytest.raises(MotorError, match=r"the sample has no frame at \(m 1\)"):
        paired_frames(frames([0], m=[0]), frames([0, 1], m=[0, 1]), motors="m", one_to_one=True)
    with pytest.raises(MotorError, match="and 4 more"):
        paired_frames(frames(range(12), m=range(50, 62)), reference, motors="m", tolerance=0.1)


def test_motors_that_cannot_pair() -> None:
    sample, reference = frames([0, 1], m=[0, 1]), frames([0, 1], "deg", m=[0, 1])
    with pytest.raises(MotorError, match="'um' in the sample and in 'deg' in the reference"):
        paired_frames(sample, reference, motors="m")
    with pytest.raises(MotorError, match="reference has no motor 'm'; it has: none"):
        paired_frames(sample, reference.drop_vars("m"), motors="m")
    with pytest.raises(MotorError, match="no position in some frame"):
        paired_frames(frames([0, 1], m=[0, np.nan]), sample, motors="m")
    with pytest.raises(InputError, match="motors is"):
        paired_frames(sample, sample, motors=("m", "m"))
    for tolerance in (0.0, -1.0, np.nan, np.inf, (1.0, 1.0)):
        with pytest.raises(InputError, match="tolerance is"):
            paired_frames(sample, sample, motors="m", tolerance=tolerance)


def test_a_single_reference_pairs_only_where_it_was_taken() -> None:
    reference = frames([5], m=[1.0])[0].assign_coords(m=((), 1.0, {"units": "um"}))
    assert held(paired_frames(frames([0, 0], m=[1, 1]), reference, motors="m")) == [5, 5]
    with pytest.raises(MotorError, match=r"no frame at \(m 1.5\)"):
        paired_frames(frames([0, 0], m=[1, 1.5]), reference, motors="m")


def stack(
    positions: list[float], shift: float, *, seed: int = 0, encoder: float = 0.0
) -> xr.DataArray:
    """Speckle at positions of a membrane, displaced by an optic; the encoder may read too much."""
    speckle = speckle_field(128, grain=3.0, seed=3)
    y, x = np.indices((64, 72), np.float64)
    images = np.stack([speckle(y - 0.4 * shift, x - shift - 23.7 * at) for at in positions])
    noisy = np.random.default_rng(seed).poisson(8000 * images).astype(np.float32)
    return xr.DataArray(
        noisy,
        dims=("frame", "y", "x"),
        coords={"membrane_x": ("frame", np.array(positions) + encoder, {"units": "um"})},
        attrs={"units": "counts"},
    )


def test_joint_tracking_pairs_by_motors() -> None:
    at = [0.0, 1.0, 2.0, 3.0]
    reference, sample = stack(at, 0.0, seed=1), stack(at, 1.3, seed=2)
    plain = wd.track(sample, reference, over="frame", window=7, search=4)
    mixed = reference.isel(frame=[2, 0, 3, 1])
    paired = wd.track(sample, mixed, over="frame", motors="membrane_x", window=7, search=4)
    xr.testing.assert_identical(paired, plain)
    assert float(paired.displacement_x[10:-10, 10:-10].mean()) == pytest.approx(1.3, abs=0.01)
    with pytest.raises(MotorError, match=r"sample has no frame at \(membrane_x 1\)"):
        wd.track(sample.isel(frame=[0, 2, 3]), mixed, over="frame", motors="membrane_x")


def test_single_frames_pair_by_motors_lazily() -> None:
    reference, sample = stack([0.0, 1.0], 0.0), stack([1.0, 0.0, 1.0], 0.6, encoder=0.03)
    lazy = [
        part.copy(data=da.from_array(part.values, chunks=(1, -1, -1)))
        for part in (sample, reference)
    ]
    with forbid_computing():
        tracked = wd.track(*lazy, motors="membrane_x", tolerance=0.05, window=15, search=4)
    assert tracked.displacement_x.shape == (3, 64, 72)
    inner = tracked.displacement_x.isel(y=slice(10, -10), x=slice(10, -10))
    np.testing.assert_allclose(inner.mean(("y", "x")), 0.6, atol=0.01)
    with pytest.raises(InputError, match=r"tolerance is 0.05 without motors"):
        wd.track(sample, sample, tolerance=0.05)


def train(shifts: list[float]) -> xr.DataArray:
    images = xr.concat([stack([0.0], shift, seed=k) for k, shift in enumerate(shifts)], "frame")
    return images.drop_vars("membrane_x").assign_coords(
        pulse=("frame", np.arange(len(shifts)), {"units": "1"})
    )


@pytest.mark.parametrize(
    ("reference", "pulses", "expected"),
    [
        ("first", [1, 2, 3], [0.5, 0.9, -0.4]),
        ("previous", [1, 2, 3], [0.5, 0.4, -1.3]),
        ("mean", [0, 1, 2, 3], [-0.25, 0.25, 0.65, -0.65]),
    ],
)
def test_pulses_of_a_train(reference: Any, pulses: list[int], expected: list[float]) -> None:
    images = train([0.0, 0.5, 0.9, -0.4])
    images = images.copy(data=da.from_array(images.values, chunks=(1, -1, -1)))
    with forbid_computing():
        tracked = wd.track(images, reference, window=15, search=4)
    assert tracked.pulse.values.tolist() == pulses
    inner = tracked.displacement_x.isel(y=slice(10, -10), x=slice(10, -10))
    np.testing.assert_allclose(inner.mean(("y", "x")), expected, atol=0.02)


def test_trains_that_make_no_sense() -> None:
    images = frames([1, 2, 3])
    with pytest.raises(InputError, match=r"reference is 'last'.*first, mean, previous"):
        train_pairs(images, "last")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="single frame"):
        train_pairs(images[0], "first")
    with pytest.raises(InputError, match="over is given, too"):
        wd.track(images, "first", over="frame")
    with pytest.raises(InputError, match="motors is given, too"):
        wd.track(images, "mean", motors="m")


def test_four_positions_of_a_real_membrane(data_dir: Callable[[str], Path]) -> None:
    folder = data_dir("xray_fourrod")
    flat = wd.open_scan(folder / "Flatfield.tif")
    part = {"y": slice(100, 260), "x": slice(560, 1048)}
    at = 207.5 * np.arange(4)
    sample, reference = (
        wd.correct(
            wd.open_scan(folder / f"{name}_*.tif", motors={"membrane [um]": read}).isel(part),
            flat=flat.isel(part),
        ).compute()
        for name, read in (
            ("SamplePlusSpeckle", at + RNG.normal(0, 1, 4)),
            ("ReferenceSpeckle", at),
        )
    )
    settings: dict[str, Any] = {"over": "frame", "window": 21, "search": 6}
    plain = wd.track(sample, reference, **settings)
    mixed = wd.track(
        sample, reference.isel(frame=[3, 1, 0, 2]), motors="membrane", tolerance=10.0, **settings
    )
    xr.testing.assert_identical(mixed, plain)
    # The wrong membrane position under a frame has nothing to do with it.
    unlabelled = reference.isel(frame=[3, 1, 0, 2]).drop_vars("membrane")
    wrong = wd.track(sample, unlabelled, **settings)
    assert float(mixed.correlation.median()) > 0.75 > float(wrong.correlation.median()) + 0.25
    assert 0.5 < float(mixed.transmission.median()) < 1.0


@pytest.mark.parametrize(("mine", "others"), [("f4", "f8"), ("f8", "f4"), ("f2", "f8")])
def test_positions_of_other_precision_pair(mine: str, others: str) -> None:
    def at(kind: str, *positions: float) -> xr.DataArray:
        values = np.array(positions, kind)
        return xr.DataArray(values[:, None, None], {"m": ("frame", values)}, ("frame", "y", "x"))

    one = paired_frames(at(mine, 0.1), at(others, 0.1), motors="m")
    assert one.sizes["frame"] == 1
    several = paired_frames(at(mine, 0.3, 0.1), at(others, 0.1, 0.3), motors="m", tolerance=1e-12)
    np.testing.assert_allclose(several.m, [0.3, 0.1], rtol=1e-3)


def test_positions_in_other_units_pair() -> None:
    sample = frames([0, 0], "micron", m=[1000.0, 3000.0])
    reference = frames([7, 8, 9], "mm", m=[3.0, 2.0, 1.0])
    assert held(paired_frames(sample, reference, motors="m")) == [9, 7]
    same = frames([7, 8, 9], "μm", m=[3000.0, 2000.0, 1000.0])
    assert held(paired_frames(sample, same, motors="m")) == [9, 7]
