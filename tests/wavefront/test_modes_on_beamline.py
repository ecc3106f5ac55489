"""Both modes on frames of the virtual beamline: waves, cameras with noise, true optics."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.optics import ModalSurface
from wavedask.simulate import (
    DARK,
    FLAT,
    REFERENCE,
    SAMPLE,
    Beamline,
    Crl,
    Distortion,
    Setting,
    Source,
    absolute_beamline,
    detector_mesh,
    differential_beamline,
    membrane_scan,
)

TURN = np.deg2rad(0.8)
DISTANCES = (0.3, 0.8)


def misaligned(beamline: Beamline) -> Beamline:
    """The same with a near detector that is turned, and off the axis by tens of pixels."""
    near, far = beamline.detectors
    return replace(beamline, detectors=(replace(near, rotation=TURN, center=(25e-6, -40e-6)), far))


def corrected(beamline: Beamline, settings: list[Setting], *, detector: int = 0) -> xr.DataArray:
    """Frames without dark and flat, as an experiment gets them."""
    dark = beamline.expose([DARK] * 3, detector=detector, first=100)
    flat = beamline.expose([FLAT] * 3, detector=detector, first=200)
    # The camera has dead pixels, and correct says so of frames in memory: keep it lazy.
    frames = beamline.expose(settings, detector=detector).chunk({"frame": 1})
    return wd.correct(frames, dark=dark, flat=flat).compute()


def measured(beamline: Beamline, settings: list[Setting], *, over: str | None) -> xr.Dataset:
    """Both detectors, from raw frames to the wavefront at the far one."""
    near, far = (corrected(beamline, settings, detector=number) for number in (0, 1))
    on_near, on_far = (detector.pixel_size for detector in beamline.detectors)
    found = wd.register(far, near, pixel_size=(on_far, on_near))
    tracked = wd.track(far, near, window=21, search=6, over=over, registration=found)
    return wd.wavefront(
        tracked,
        mode="absolute",
        distance=DISTANCES,
        pixel_size=(on_near, on_far),
        energy=beamline.source.energy,
        source_distance=40.0,
    )


def test_the_beam_of_a_source_at_40_m() -> None:
    beamline = misaligned(absolute_beamline(shape=(320, 320), distances=DISTANCES))
    result = measured(beamline, [SAMPLE], over=None).isel(frame=0)
    for axis in "yx":
        radius = float(result[f"radius_of_curvature_{axis}"])
        assert radius == pytest.approx(40.0 + DISTANCES[1], rel=0.005)
    assert float(result.detector_rotation) == pytest.approx(TURN, abs=2e-4)


def test_a_lens_with_a_figure_in_the_beam_of_a_source() -> None:
    """Absolute XSVT over nine positions of the membrane, at 9.1 keV."""
    side = 256
    figure = ModalSurface(
        (0,) * 6 + (5e-6, 3e-6, -4e-6, 4e-6, 0, 4e-6), half_width=side * 1.25e-6
    )  # fmt: skip
    delta = wd.optics.refractive_decrement("Be", energy=9.1)
    lens = Crl(40.0, radius=300e-6, delta=delta, error=figure)
    beamline = misaligned(
        absolute_beamline(
            optic=lens,
            shape=(side, side),
            distances=DISTANCES,
            source=Source(energy=9.1, size=(15e-6, 40e-6)),
        )
    )
    result = measured(beamline, membrane_scan(3, 3, 30e-6), over="frame")
    result = result.isel({dim: slice(10, -10) for dim in ("y", "x")})
    truth = beamline.truth(detector=1, reference=SAMPLE, reference_detector=0).wavefront
    known = result.wavefront.copy(data=truth[10:-10, 10:-10]).where(result.wavefront.notnull())
    lens_found = wd.optics.fit_lens(result, material="Be")
    lens_true = wd.optics.fit_lens(result.assign(wavefront=known), material="Be")
    assert float(lens_found.radius) == pytest.approx(300e-6, rel=0.01)
    assert float(lens_found.radius) == pytest.approx(float(lens_true.radius), rel=0.003)
    difference = lens_found.residual - lens_true.residual
    assert float(difference.std()) < 0.1 * float(lens_true.residual_rms)


def test_distorted_detectors_have_to_be_calibrated() -> None:
    """The whole way: two mesh scans, undistorted frames, their pixel sizes, and the error stated.

    The distortion reaches 1.2 px in the corners. Left in, it would pass for a beam of another
    source; the calibration gives the radius back, and knows how well.
    """
    side = 192
    beamline = misaligned(absolute_beamline(shape=(side, side), distances=DISTANCES))
    near, far = (
        replace(detector, distortion=Distortion((side, side), barrel=barrel))
        for detector, barrel in zip(beamline.detectors, (1.2, -0.8), strict=True)
    )
    beamline = replace(beamline, detectors=(near, far))
    bent, straight, sizes, errors = [], [], [], []
    for number in (0, 1):
        mesh = detector_mesh(4, 4, 16e-6, jitter=5e-9, seed=number)
        calibration = wd.detector_distortion(
            corrected(beamline, mesh, detector=number),
            motor_y="dety",
            motor_x="detx",
            progress=False,
        )
        frames = corrected(beamline, membrane_scan(2, 2, 30e-6), detector=number)
        bent.append(frames)
        straight.append(wd.correct(frames, distortion=calibration))
        sizes.append(tuple(float(calibration[f"pixel_size_{axis}"]) for axis in "yx"))
        errors.append(tuple(float(calibration[f"pixel_size_{axis}_error"]) for axis in "yx"))

    def measured_with(images: list[xr.DataArray], pixel_size: Any) -> xr.Dataset:
        found = wd.register(images[1], images[0], pixel_size=pixel_size[::-1])
        return wd.wavefront(
            wd.track(images[1], images[0], window=21, search=6, over="frame", registration=found),
            mode="absolute",
            distance=DISTANCES,
            pixel_size=pixel_size,
            pixel_size_error=(errors[0], errors[1]),
        )

    true = 40.0 + DISTANCES[1]
    wrong = measured_with(bent, (1.6e-6, 1.6e-6))
    right = measured_with(straight, tuple(sizes))
    for axis in "yx":
        radius = float(right[f"radius_of_curvature_{axis}"])
        error = float(right[f"radius_of_curvature_uncertainty_{axis}"])
        assert abs(radius - true) < 3 * error
        assert error < 0.04 * true
        assert abs(float(wrong[f"radius_of_curvature_{axis}"]) / true - 1) > 0.2


@pytest.mark.parametrize("downstream", [0.0, 0.3])
def test_a_lens_in_differential_mode_with_the_membrane_before_and_behind(
    downstream: float,
) -> None:
    """The same lens, whichever of the two comes first, and the beam not parallel."""
    lens = Crl(40.0, radius=100e-6, delta=1.2e-6)
    beamline = differential_beamline(optic=lens, distance=1.0, shape=(256, 256))
    assert beamline.membrane is not None
    beamline = replace(
        beamline, membrane=replace(beamline.membrane, position=lens.position + downstream)
    )
    sample, reference = (corrected(beamline, [setting]) for setting in (SAMPLE, REFERENCE))
    (detector,) = beamline.detectors
    result = wd.wavefront(
        wd.track(sample, reference, window=21, search=8),
        distance=1.0,
        pixel_size=detector.pixel_size,
        source_distance=40.0,
        membrane_distance=1.0 - downstream,
    ).isel(frame=0)
    inside = (slice(21, -21), slice(21, -21))
    truth = beamline.truth().difference_slope_x
    error = result.slope_x.to_numpy() - truth
    assert np.nanstd(error[inside]) < 0.03 * np.nanstd(truth)
    focal_length = float(wd.optics.fit_lens(result, delta=lens.delta).focal_length)
    assert focal_length == pytest.approx(lens.focal_length, rel=0.005)
