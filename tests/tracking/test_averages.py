"""Averages of exposures: weights, drift, scatter, settings."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError, MotorError
from wavedask.kernels.averaging import robust_mean
from wavedask.simulate import (
    REFERENCE,
    Crl,
    differential_beamline,
    displaced_pair,
    pulse_train,
)

SHAPE = (48, 56)


def truth() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.indices(SHAPE, np.float64)
    return 0.02 * (y - 24), 0.3 * np.sin(x / 9)


def exposures(
    drifts: Any, *, sigma: Any = 0.02, seed: int = 0, window: float = 1.0, **coords: Any
) -> xr.Dataset:
    """Trackings of one field, each drifted (y: half of it, x) and noisy."""
    rng = np.random.default_rng(seed)
    drifts = np.asarray(drifts, np.float64)
    sigmas = np.broadcast_to(sigma, drifts.shape)
    dims = ("frame", "y", "x")
    noise = rng.standard_normal((2, drifts.size, *SHAPE)) * sigmas[:, None, None]
    error = np.broadcast_to(sigmas[:, None, None], noise.shape[1:]).astype(np.float32)
    fields = [
        (field + part * drifts[:, None, None] + n).astype(np.float32)
        for field, part, n in zip(truth(), (0.5, 1.0), noise, strict=True)
    ]
    return xr.Dataset(
        {
            "displacement_y": (dims, fields[0]),
            "displacement_x": (dims, fields[1]),
            "uncertainty_y": (dims, error),
            "uncertainty_x": (dims, error.copy()),
            "correlation": (dims, np.full(error.shape, 0.9, np.float32)),
            "window": (dims, np.full(error.shape, window, np.float32)),
        },
        coords={
            name: ("frame", value, {"units": "mm", "long_name": name})
            for name, value in coords.items()
        }
        | {"energy": 17.0, "y": np.arange(10.0, 10.0 + SHAPE[0])},
        attrs={"title": "train"},
    )


def test_weights_drift_and_their_errors() -> None:
    drifts = np.array([0.0, 0.4, -0.3, 0.1, 0.9, 0.2])
    sigma = np.array([0.01, 0.02, 0.05, 0.02, 0.02, 0.1])
    mean = wd.combine(exposures(drifts, sigma=sigma))
    expected = 1 / np.sqrt(np.sum(sigma**-2.0))
    np.testing.assert_allclose(mean.uncertainty_x, expected, rtol=1e-5)
    # The mean of the train is where its drift is zero.
    error = mean.displacement_x - truth()[1] - drifts.mean()
    assert float(error.std()) == pytest.approx(expected, rel=0.1)
    assert abs(float(error.mean())) < 0.005
    for axis, part in (("y", 0.5), ("x", 1.0)):
        found = mean[f"drift_{axis}"] - part * (drifts - drifts.mean())
        assert float(np.abs(found / mean[f"drift_uncertainty_{axis}"]).max()) < 5
        assert float(np.abs(found).max()) < 0.01
    assert float(mean.chi2.mean()) == pytest.approx(1, abs=0.05)
    assert float(mean.exposures.min()) == 6
    assert mean.drift_x.dims == ("frame",)
    assert mean.attrs["title"] == "train"
    assert float(mean.energy) == 17.0
    assert float(mean.y[0]) == 10.0


def test_the_drift_that_is_left_shows_in_chi2() -> None:
    tracking = exposures(np.linspace(-0.5, 0.5, 9))
    kept = wd.combine(tracking, remove_drift=False)
    assert float(kept.chi2.median()) > 50
    np.testing.assert_allclose(kept.drift_x, np.linspace(-0.5, 0.5, 9), atol=0.005)
    np.testing.assert_allclose(
        kept.displacement_x, tracking.displacement_x.mean("frame"), atol=1e-5
    )


def test_the_error_of_the_drift_is_calibrated() -> None:
    scores = []
    for seed in range(20):
        mean = wd.combine(exposures(np.zeros(8), seed=seed))
        scores.append(mean.drift_x / mean.drift_uncertainty_x)
    assert 0.8 < float(np.std(scores)) < 1.25


def test_pixels_that_some_exposures_lack() -> None:
    drifts = np.linspace(0, 2, 5)
    tracking = exposures(drifts)
    # A pupil that wanders: each exposure sees another part, and all but one something wrong.
    for frame in range(5):
        tracking.displacement_x[frame, :, 10 * frame : 10 * frame + 12] = np.nan
        tracking.uncertainty_x[frame, :, 10 * frame : 10 * frame + 12] = np.inf
    tracking.displacement_x[2, 5:9, 30:34] += 7.0
    tracking.displacement_x[:, 40, 40] = np.nan
    mean = wd.combine(tracking)
    np.testing.assert_allclose(mean.drift_x, drifts - 1.0, atol=0.01)
    error = (mean.displacement_x - truth()[1] - 1.0).values
    assert np.isnan(error[40, 40])
    assert np.isinf(mean.uncertainty_x[40, 40])
    assert float(mean.exposures[40, 40]) == 0
    error[5:9, 30:34] = 0
    assert np.nanstd(error) < 0.012
    # Where a stripe begins or ends there is no step.
    columns = np.nanmean(error, axis=0)
    assert np.abs(np.diff(columns)).max() < 0.012
    assert float(mean.chi2[6, 33]) > 100
    assert np.isnan(mean.chi2[40, 40])


def test_a_pixel_that_a_single_exposure_of_many_knows() -> None:
    drifts = np.sin(np.arange(20.0))
    tracking = exposures(drifts)
    rare = [k for k in range(20) if k != 1]  # not one of the eight that are held
    for name in ("displacement_x", "displacement_y"):
        tracking[name][:, :, 20:] += 5.0
        tracking[name][rare, :, 20:] = np.nan
    mean = wd.combine(tracking)
    np.testing.assert_allclose(mean.drift_x, drifts - drifts.mean(), atol=0.005)
    error = (mean.displacement_x - truth()[1] - drifts.mean()).values
    assert error[:, :20].mean() == pytest.approx(0, abs=0.005)
    assert error[:, 20:].mean() == pytest.approx(5, abs=0.01)


def test_a_blank_pulse_is_left_out() -> None:
    tracking = exposures([0.0, 0.2, 0.4])
    tracking.displacement_x[0], tracking.displacement_y[0] = np.nan, np.nan
    mean = wd.combine(tracking)
    assert np.isnan(mean.drift_x[0])
    assert np.isinf(mean.drift_uncertainty_x[0])
    np.testing.assert_allclose(mean.drift_x[1:], [-0.1, 0.1], atol=0.005)
    assert float(mean.exposures.max()) == 2
    alone = wd.combine(tracking.isel(frame=[1]))
    assert np.isnan(alone.chi2).all()
    np.testing.assert_allclose(alone.displacement_x, tracking.displacement_x[1], atol=1e-6)


def test_exposures_of_equal_positions() -> None:
    lens_y = [0.0, 1.0, 0.001, 1.002, 0.0]
    lens_x = [5.0, 5.0, 5.001, 5.0, 5.0]
    drifts = [0.0, 3.0, 0.2, 3.4, 0.1]
    tracking = exposures(drifts, lens_y=lens_y, lens_x=lens_x)
    mean = wd.combine(tracking, by=("lens_y", "lens_x"), tolerance=0.01)
    assert mean.displacement_x.dims == ("frame", "y", "x")
    np.testing.assert_allclose(mean.lens_y, [0.001 / 3, 1.001])
    assert mean.lens_y.attrs["units"] == "mm"
    assert mean.setting.values.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(mean.drift_x, [-0.1, 0.1, 0, -0.2, 0.2], atol=0.01)
    for frame, chosen in enumerate(([0, 2, 4], [1, 3])):
        one = wd.combine(tracking.isel(frame=chosen))
        for name in ("displacement_x", "uncertainty_y", "chi2", "exposures"):
            np.testing.assert_array_equal(mean[name].isel(frame=frame), one[name])


def test_a_train_of_any_length_is_lazy() -> None:
    tracking = exposures(np.sin(np.arange(20.0)))
    lazy = tracking.map(lambda v: v.copy(data=da.from_array(v.values, chunks=(1, 24, -1))))
    with forbid_computing():
        mean = wd.combine(lazy)
    eager = wd.combine(tracking)
    for name, values in mean.compute().items():
        np.testing.assert_allclose(values, eager[name], rtol=1e-5, atol=1e-6, err_msg=str(name))


def test_a_tracked_train() -> None:
    pairs = [displaced_pair((96, 96), displacement_x=0.1 * k, seed=3) for k in range(5)]
    rng = np.random.default_rng(1)
    images = xr.DataArray(
        np.stack([rng.poisson(pair.sample).astype(np.float32) for pair in pairs]),
        dims=("frame", "y", "x"),
    )
    reference = xr.DataArray(pairs[0].reference, dims=("y", "x"))
    mean = wd.combine(wd.track(images, reference, window=15, search=4))
    np.testing.assert_allclose(mean.drift_x, 0.1 * (np.arange(5) - 2), atol=0.01)
    assert set(mean) == {
        "displacement_y",
        "displacement_x",
        "uncertainty_y",
        "uncertainty_x",
        "correlation",
        "transmission",
        "dark_field",
        "window",
        "reason",
        "chi2",
        "exposures",
        "drift_y",
        "drift_x",
        "drift_uncertainty_y",
        "drift_uncertainty_x",
    }
    physical = wd.wavefront(mean, distance=1.0, pixel_size=1e-6)
    assert physical.slope_x.shape == (96, 96)


@pytest.mark.parametrize("reference_counts", [4000.0, 40_000.0])
def test_the_noise_of_a_common_reference_stays(reference_counts: float) -> None:
    """Twelve exposures in one reference: its noise, equal to theirs or less, is in all of them."""
    rng = np.random.default_rng(1)
    scores: list[Any] = []
    naive: list[Any] = []
    for seed in range(3):
        clean = displaced_pair((128, 128), displacement_x=0.7, noise=False, counts=1.0, seed=seed)
        images = xr.DataArray(
            rng.poisson(4000 * np.stack([clean.sample] * 12)).astype(np.float32),
            dims=("frame", "y", "x"),
        )
        reference = xr.DataArray(
            rng.poisson(reference_counts * clean.reference).astype(np.float32), dims=("y", "x")
        )
        tracked = wd.track(images, reference, window=15, search=4)
        inside = {"y": slice(20, -20), "x": slice(20, -20)}
        for common, into in ((None, scores), (False, naive)):
            mean = wd.combine(tracked, remove_drift=False, common_reference=common).isel(inside)
            into += [
                ((mean.displacement_x - 0.7) / mean.uncertainty_x).values,
                (mean.displacement_y / mean.uncertainty_y).values,
            ]
    assert 0.75 < np.sqrt(np.mean(np.square(scores))) < 1.25
    if reference_counts == 4000:
        assert np.sqrt(np.mean(np.square(naive))) > 2


def test_single_exposures_keep_their_error() -> None:
    tracking = exposures([0.0, 0.0], lens_x=[1.0, 2.0])
    mean = wd.combine(tracking, by="lens_x", tolerance=0.1, common_reference=True)
    np.testing.assert_allclose(mean.uncertainty_x, tracking.uncertainty_x, rtol=1e-5)


def test_a_common_reference_is_stated_and_lazy() -> None:
    frames = xr.DataArray(np.ones((3, 40, 40)), dims=("frame", "y", "x")).chunk({"frame": 1})
    with forbid_computing():
        one = wd.track(frames, frames[0], window=9, search=2)
        each = wd.track(frames, frames, window=9, search=2)
        mean = wd.combine(one)
    assert one.attrs["common_reference"] == 1
    assert "common_reference" not in each.attrs
    assert mean.uncertainty_x.chunks is not None
    train = wd.track(frames, "first", window=9, search=2)
    assert train.attrs["common_reference"] == 1


def test_the_pointing_of_simulated_pulses() -> None:
    lens = Crl(20.0, radius=200e-6, delta=4e-6)
    beamline = differential_beamline(optic=lens, distance=0.6, shape=(128, 128), pixel_size=1e-6)
    pulses = pulse_train(
        5, distance=20.0, pointing_jitter=0.4e-6, intensity_jitter=0.3, drift=(0.0, 1e-6), seed=2
    )
    reference = beamline.expose([REFERENCE], first=9)
    frames = beamline.expose(pulses)
    mean = wd.combine(wd.track(frames, reference, window=15, search=6))
    assert float(mean.exposures[64, 64]) == 5
    # The source moves aside by s: behind the membrane and the lens, 20 m on, the pattern moves by
    # -s 0.6 / 20.
    for axis, part in enumerate("yx"):
        place = np.array([pulse.source[axis] for pulse in pulses])
        expected = -(place - place.mean()) * 0.6 / 20 / 1e-6
        assert np.ptp(expected) > 0.3
        np.testing.assert_allclose(mean[f"drift_{part}"], expected, atol=0.02)
    truth = beamline.truth()
    inner = np.s_[12:-12, 12:-12]
    error = (mean.displacement_x - truth.displacement_x).values[inner]
    assert float(np.std(error)) < 0.03


@given(
    st.lists(st.floats(-100, 100), min_size=5, max_size=40),
    st.floats(-1000, 1000),
    st.floats(0.01, 10),
)
def test_a_robust_mean_moves_with_its_values(
    values: list[float], shift: float, scale: float
) -> None:
    array, ones = np.array(values), np.ones(len(values))
    mean, error = robust_mean(array, ones, ones)
    moved, spread = robust_mean(scale * array + shift, scale * ones, ones)
    assert moved == pytest.approx(scale * mean + shift, abs=1e-6 * (1 + abs(shift)))
    assert spread == pytest.approx(scale * error, rel=1e-3, abs=1e-4)
    assert array.min() - 1e-9 <= mean <= array.max() + 1e-9


def test_bad_input() -> None:
    tracking = exposures([0.0, 0.1], lens_x=[0.0, 1.0])
    with pytest.raises(InputError, match="no uncertainty_x"):
        wd.combine(tracking.drop_vars("uncertainty_x"))
    with pytest.raises(InputError, match="several exposures"):
        wd.combine(tracking.isel(frame=0))
    for wrong in ("0.1", ["0.1"], True, np.nan, np.inf, -1.0, [1.0, 2.0]):
        with pytest.raises(InputError, match="tolerance is"):
            wd.combine(tracking, by="lens_x", tolerance=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="by is 5"):
        wd.combine(tracking, by=5, tolerance=0.1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="remove_drift is 'no'"):
        wd.combine(tracking, remove_drift="no")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tracking is a DataArray"):
        wd.combine(tracking.displacement_x)
    with pytest.raises(InputError, match="tracking has no frames"):
        wd.combine(tracking.isel(frame=slice(0, 0)))
    with pytest.raises(InputError, match="uncertainty_x of the tracking has the dimensions"):
        wd.combine(tracking.assign(uncertainty_x=tracking.uncertainty_x.isel(frame=0)))
    with pytest.raises(InputError, match="tolerance is None"):
        wd.combine(tracking, by="lens_x")
    with pytest.raises(InputError, match="tolerance is 1 without by"):
        wd.combine(tracking, tolerance=1)
    with pytest.raises(MotorError, match="no motor 'lens_z'"):
        wd.combine(tracking, by="lens_z", tolerance=1)
    with pytest.raises(MotorError, match=r"\(lens_x 0.6\) is within the tolerance 0.7 of"):
        wd.combine(exposures([0.0, 0.1, 0.2], lens_x=[0.0, 1.0, 0.6]), by="lens_x", tolerance=0.7)


def test_exposures_of_different_energies_are_not_averaged() -> None:
    u = (("frame", "y", "x"), np.zeros((2, 4, 4)))
    names = ("displacement_y", "displacement_x", "uncertainty_y", "uncertainty_x")
    tracking = xr.Dataset(dict.fromkeys(names, u)).assign_coords(
        energy=("frame", [8.0, 12.0], {"units": "keV"}), lens_x=("frame", [0.0, 1.0])
    )
    with pytest.raises(InputError, match="energy changes from frame to frame, from 8 keV to 12"):
        wd.combine(tracking)
    apart = wd.combine(tracking, by="lens_x", tolerance=0.1)
    assert apart.energy.values.tolist() == [8.0, 12.0]
