"""The virtual beamline: its waves against its rays, its rays against theory, its detector."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import wavedask as wd
from wavedask.errors import InputError
from wavedask.optics.modes import ModalSurface
from wavedask.simulate import (
    DARK,
    FLAT,
    REFERENCE,
    SAMPLE,
    Beamline,
    Camera,
    Crl,
    Detector,
    Membrane,
    Mirror,
    Rod,
    Setting,
    Source,
    absolute_beamline,
    detector_mesh,
    differential_beamline,
    membrane_scan,
    propagate,
    pulse_train,
)

PIXEL = 0.65e-6
SHAPE = (128, 144)
ERROR = ModalSurface((0, 0, 0, 2e-7, 0, -3e-7, 1e-7, 2e-7, 0, 3e-7), half_width=1e-4)
INNER = (slice(16, -16), slice(16, -16))


def camera(shape: tuple[int, int] = SHAPE, **options: Any) -> Camera:
    return Camera(shape, **{"vignetting": 0.0, "structure": 0.0, "bad_fraction": 0.0, **options})


def beamline(**options: Any) -> Beamline:
    """Beamline with one detector 0.5 m behind a membrane at 40 m, without a blur."""
    defaults = {
        "source": Source(),
        "detectors": (Detector(40.5, PIXEL, camera()),),
        "membrane": Membrane(40.0, size=4e-4),
    }
    return Beamline(**{**defaults, **options})


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_a_beam_without_anything_is_flat_and_dark_is_dark() -> None:
    line = beamline()
    np.testing.assert_allclose(line.intensity(FLAT), 1, atol=5e-4)
    assert not line.intensity(DARK).any()
    assert line.intensity(replace(FLAT, intensity=0.25)).mean() == pytest.approx(0.25, rel=1e-3)


def test_speckle_is_a_beam_redistributed() -> None:
    speckle = beamline().intensity(REFERENCE)
    assert speckle.mean() == pytest.approx(1, abs=0.03)
    assert 0.1 < speckle.std() < 0.8
    assert np.array_equal(speckle, beamline().intensity(REFERENCE))
    other = beamline(membrane=Membrane(40.0, size=4e-4, seed=5)).intensity(REFERENCE)
    assert abs(np.corrcoef(speckle.ravel(), other.ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("oversampling", [3.0, 4.0])
def test_the_image_does_not_depend_on_the_grid(oversampling: float) -> None:
    lens = Crl(40.2, radius=100e-6, delta=1.2e-6, error=ERROR)
    coarse = beamline(optics=(lens,)).intensity()
    fine = beamline(optics=(lens,), oversampling=oversampling).intensity()
    assert rms(coarse - fine) < 2e-3 * fine.std()


def test_the_profile_of_the_beam_is_that_of_its_divergence() -> None:
    sigma = 0.6e-6
    line = beamline(source=Source(divergence=(sigma, 2 * sigma)), membrane=None)
    flat = line.intensity(FLAT)
    y, x = line.detectors[0].lab(*line.detectors[0].pixels())
    expected = np.exp(-((y / 40.5 / sigma) ** 2 + (x / 40.5 / sigma / 2) ** 2) / 2)
    np.testing.assert_allclose(flat, expected, atol=2e-3)


def test_a_moved_membrane_moves_its_speckle_magnified() -> None:
    magnification = 40.5 / 40.0
    line = beamline()
    here = line.intensity(REFERENCE)
    shift = (3 * PIXEL / magnification, -5 * PIXEL / magnification)
    there = line.intensity(replace(REFERENCE, membrane=shift))
    np.testing.assert_allclose(there[3:, :-5], here[:-3, 5:], atol=1e-3)
    truth = line.truth(replace(REFERENCE, membrane=shift), REFERENCE)
    np.testing.assert_allclose(truth.displacement_y, 3, atol=1e-6)
    np.testing.assert_allclose(truth.displacement_x, -5, atol=1e-6)


def test_a_moved_source_moves_the_speckle_the_other_way() -> None:
    line = beamline()
    shift = 2 * PIXEL / (0.5 / 40.0)
    here, there = (line.intensity(replace(REFERENCE, source=(0.0, a))) for a in (0.0, shift))
    np.testing.assert_allclose(there[:, :-2], here[:, 2:], atol=1e-3)
    truth = line.truth(replace(REFERENCE, source=(0.0, shift)), REFERENCE)
    np.testing.assert_allclose(truth.displacement_x, -2, atol=1e-6)
    np.testing.assert_allclose(truth.difference_slope_x, -shift / 40.5, rtol=1e-6)


def test_an_extended_source_blurs_as_its_image_through_the_grains() -> None:
    size = (60e-6, 150e-6)
    sharp = beamline().intensity(REFERENCE)
    blurred = beamline(source=Source(size=size)).intensity(REFERENCE)
    sigma = [s * (0.5 / 40.0) / PIXEL for s in size]
    expected = ndimage.gaussian_filter(sharp.astype(float), sigma, truncate=6)
    np.testing.assert_allclose(blurred[INNER], expected[INNER], atol=1e-3)


@pytest.mark.parametrize("membrane_at", [39.9, 40.0, 40.3])
def test_tracked_speckle_goes_where_the_rays_of_the_lens_go(membrane_at: float) -> None:
    lens = Crl(40.1, radius=60e-6, delta=1.2e-6, error=ERROR, center=(1e-5, -6e-6))
    line = beamline(
        optics=(lens,),
        detectors=(Detector(40.8, PIXEL, camera((192, 192)), psf=0.3e-6),),
        membrane=Membrane(membrane_at, size=5e-4),
    )
    truth = line.truth()
    assert np.ptp(truth.displacement_x) > 2
    found = wd.cross_spot(line.intensity(SAMPLE), line.intensity(REFERENCE), window=21, search=10)
    inner = (slice(20, -20), slice(20, -20))
    for measured, true in (
        (found.displacement_y, truth.displacement_y),
        (found.displacement_x, truth.displacement_x),
    ):
        error = (np.asarray(measured) - true)[inner]
        assert rms(error) < 0.04
        assert abs(error.mean()) < 0.01


def test_a_cylindrical_lens_bends_along_one_axis() -> None:
    lens = Crl(40.0, radius=60e-6, delta=1.2e-6, axis=0)
    line = beamline(optics=(lens,), detectors=(Detector(40.8, PIXEL, camera()),))
    truth = line.truth()
    np.testing.assert_allclose(truth.displacement_x, 0, atol=1e-9)
    gradient = np.diff(truth.displacement_y, axis=0)
    # u = p (1 - m_0 / m) with the scales of the fan with and without lens.
    with_lens, without = 0.8 * (1 / 40 - 1 / lens.focal_length) + 1, 0.8 / 40 + 1
    np.testing.assert_allclose(gradient, 1 - without / with_lens, rtol=1e-9)
    found = wd.cross_spot(line.intensity(SAMPLE), line.intensity(REFERENCE), window=21, search=8)
    error_x = np.asarray(found.displacement_x)[INNER]
    error_y = (np.asarray(found.displacement_y) - truth.displacement_y)[INNER]
    # The lens changes the path by 3 %, and with it the speckle a little: noise, but no bias.
    assert rms(error_x) < 0.03
    assert rms(error_y) < 0.05
    true = truth.displacement_y[INNER]
    assert abs(np.polyfit(true.ravel(), error_y.ravel(), 1)[0]) < 0.01


def test_a_mirror_bends_by_twice_its_slope_error() -> None:
    x = np.linspace(-0.5, 0.5, 101)
    height = 3e-9 * np.sin(2 * np.pi * 3 * x)
    mirror = Mirror(40.0, tuple(height), length=0.2, angle=3e-3, axis=1)
    line = beamline(
        fixed=(mirror,),
        detectors=(Detector(40.2, PIXEL, camera((32, 96))),),
        membrane=Membrane(40.1, size=4e-4),
    )
    truth = line.truth(REFERENCE, REFERENCE)
    _, lab = line.detectors[0].lab(*line.detectors[0].pixels())
    bend = truth.slope_x - lab / 40.2
    # On the mirror, s along it is x / angle; the slope of its height there, twice over.
    along = lab / (40.2 / 40.0) / 3e-3
    expected = -2 * 3e-9 * 2 * np.pi * 3 / 0.2 * np.cos(2 * np.pi * 3 * along / 0.2)
    assert np.abs(expected).max() > 3e-7
    np.testing.assert_allclose(bend, expected, atol=0.03 * np.abs(expected).max())
    np.testing.assert_allclose(truth.displacement_x, 0, atol=1e-6)


def test_a_rod_bends_by_the_law_of_refraction() -> None:
    radius, delta = 40e-6, 2e-6
    rod = Rod(40.0, radius=radius, delta=delta, beta=1e-9, center=(0.0, 4e-6))
    line = beamline(
        optics=(rod,), detectors=(Detector(40.3, PIXEL, camera()),), membrane=Membrane(39.9)
    )
    truth = line.truth()
    _, x = line.detectors[0].lab(*line.detectors[0].pixels())
    inside = np.abs(x / (40.3 / 40.0) - 4e-6) < 0.8 * radius
    # Where the ray crossed the rod, from the truth itself.
    crossed = (x - truth.displacement_x * PIXEL)[inside] / (40.3 / 40.0) - 4e-6
    bend = 2 * delta * crossed / np.sqrt(radius**2 - crossed**2)
    measured = truth.displacement_x[inside] * PIXEL / 0.3
    np.testing.assert_allclose(measured, bend, rtol=2e-2, atol=1e-9)
    assert np.nanmax(np.abs(truth.displacement_y)) < 1e-6
    assert np.isnan(truth.displacement_x).mean() < 0.05  # rays cross at the edge
    outside = np.abs(x - 4e-6) > 1.1 * radius
    np.testing.assert_allclose(truth.displacement_x[outside], 0, atol=1e-6)
    places = np.linspace(-2 * radius, 2 * radius, 2001)
    numeric = np.gradient(rod.wavefront(0.0, places), places)
    # But for the kinks at the edge.
    error = np.abs(rod.slope(0.0, places)[1] - numeric)
    assert np.sort(error)[-8] < 2e-2 * np.abs(numeric).max()
    found = wd.cross_spot(line.intensity(SAMPLE), line.intensity(REFERENCE), window=15, search=6)
    core = np.abs(x - 4e-6) < 0.5 * radius
    core[:16], core[-16:] = False, False
    assert np.ptp(truth.displacement_x[core]) > 1.9
    error = (np.asarray(found.displacement_x) - truth.displacement_x)[core]
    assert rms(error) < 0.08


@pytest.mark.parametrize("membrane_at", [39.9, 40.3])
def test_the_truth_is_consistent(membrane_at: float) -> None:
    lens = Crl(40.1, radius=60e-6, delta=1.2e-6, error=ERROR)
    line = beamline(
        optics=(lens,), detectors=(Detector(41.0, PIXEL, camera()),), membrane=Membrane(membrane_at)
    )
    truth = line.truth()
    lever = 41.0 - max(40.1, membrane_at)
    effective = lever * 41.0 / (41.0 - lever)
    np.testing.assert_allclose(
        truth.displacement_y * PIXEL, truth.difference_slope_y * effective, rtol=1e-9, atol=1e-16
    )
    for surface, slopes in (
        (truth.wavefront, (truth.slope_y, truth.slope_x)),
        (truth.difference, (truth.difference_slope_y, truth.difference_slope_x)),
    ):
        assert surface.mean() == pytest.approx(0, abs=1e-18)
        for axis in (0, 1):
            numeric = np.gradient(surface, PIXEL, axis=axis)[2:-2, 2:-2]
            scale = np.abs(slopes[axis]).max()
            np.testing.assert_allclose(numeric, slopes[axis][2:-2, 2:-2], atol=1e-3 * scale)


def test_two_detectors_give_the_absolute_slope() -> None:
    lens = Crl(39.5, radius=100e-6, delta=1.2e-6, error=ERROR)
    line = absolute_beamline(optic=lens, shape=(64, 64), pixel_sizes=(1.6e-6, (1.2e-6, 1.4e-6)))
    near, far = line.detectors
    truth = line.truth(SAMPLE, SAMPLE, detector=1, reference_detector=0)
    assert np.isnan(truth.displacement_y).all()
    far_y, far_x = far.lab(*far.pixels())
    near_y, near_x = near.lab(truth.reference_y, truth.reference_x)
    distance = far.position - near.position
    np.testing.assert_allclose((far_y - near_y) / distance, truth.slope_y, atol=1e-15)
    np.testing.assert_allclose((far_x - near_x) / distance, truth.slope_x, atol=1e-15)
    bare = line.truth(REFERENCE, REFERENCE, detector=1, reference_detector=0)
    np.testing.assert_allclose(bare.slope_x, far_x / far.position, rtol=1e-9, atol=1e-18)


def test_the_radius_of_the_beam_is_found_between_two_detectors() -> None:
    line = absolute_beamline(shape=(256, 256))
    truth = line.truth(REFERENCE, REFERENCE, detector=1, reference_detector=0)
    near, far = (line.intensity(REFERENCE, detector=number) for number in (0, 1))
    found = wd.cross_spot(far, near, window=31, search=8)
    _, x = line.detectors[1].pixels()
    inner = (slice(24, -24), slice(24, -24))
    error = (np.asarray(found.displacement_x) - (x - truth.reference_x))[inner]
    assert rms(error) < 0.06
    gradient = np.polyfit(x[inner].ravel(), np.asarray(found.displacement_x)[inner].ravel(), 1)[0]
    assert 0.5 / gradient == pytest.approx(40.8, rel=0.01)


def test_a_lens_concentrates_and_absorbs() -> None:
    lens = Crl(40.0, radius=50e-6, delta=1.2e-6, beta=5e-8)
    line = beamline(optics=(lens,), detectors=(Detector(40.5, PIXEL, camera()),), membrane=None)
    y, x = line.detectors[0].lab(*line.detectors[0].pixels())
    free, scale = 1 + 0.5 / 40, 1 + 0.5 * (1 / 40 - 1 / lens.focal_length)
    thickness = 2 * (y**2 + x**2) / scale**2 / (2 * 50e-6)
    expected = (free / scale) ** 2 * np.exp(-4 * np.pi / line.source.wavelength * 5e-8 * thickness)
    assert expected.min() < 0.95 * expected.max()
    np.testing.assert_allclose(line.intensity(SAMPLE)[INNER], expected[INNER], rtol=2e-3)


def test_the_rim_of_an_aperture_is_marked() -> None:
    lens = Crl(40.0, radius=60e-6, delta=1.2e-6, aperture=60e-6)
    line = beamline(optics=(lens,), detectors=(Detector(41.5, PIXEL, camera()),))
    truth = line.truth()
    y, x = line.detectors[0].lab(*line.detectors[0].pixels())
    radius = np.hypot(y, x)
    assert np.isfinite(truth.displacement_x[radius < 25e-6]).all()
    outside = truth.displacement_x[radius > 38e-6]
    np.testing.assert_allclose(outside, 0, atol=1e-6)
    assert np.isfinite(line.intensity()).all()


def test_rays_that_have_crossed_are_no_truth() -> None:
    def behind(amplitude: float) -> Beamline:
        ripple = ModalSurface((*(0.0,) * 20, amplitude), half_width=5e-5, basis="legendre")
        lens = Crl(40.0, radius=100e-6, delta=2e-6, error=ripple)
        return beamline(optics=(lens,), detectors=(Detector(41.0, PIXEL, camera()),))

    truth = behind(1e-5).truth()
    lost = np.isnan(truth.slope_x)
    assert 0.02 < lost.mean() < 0.2
    assert np.array_equal(lost, np.isnan(truth.reference_x))
    # What is left is in order.
    assert np.nanmin(np.diff(truth.reference_x, axis=1)) > 0
    with pytest.raises(InputError, match=r"rays cross before the plane at 41 m: \d+ %"):
        behind(1e-4).truth()


def test_pixels_and_lab_are_inverse_and_turned_the_right_way() -> None:
    detector = Detector(
        40.5, (1e-6, 2e-6), camera((9, 11)), rotation=np.pi / 2, center=(3e-6, -2e-6)
    )
    y, x = detector.lab(np.array([5.0]), np.array([5.0]))
    # One pixel (1 um) further down is further along the motor x.
    np.testing.assert_allclose((y[0], x[0]), (3e-6, -1e-6), atol=1e-18)
    turned = replace(detector, rotation=0.3)
    places = turned.lab(*turned.pixels(), motors=(1e-5, 2e-5))
    np.testing.assert_allclose(
        turned.pixel(*places, motors=(1e-5, 2e-5)), turned.pixels(), atol=1e-12
    )


def test_a_turned_detector_sees_the_turned_image() -> None:
    straight = beamline(detectors=(Detector(40.5, PIXEL, camera((96, 96))),))
    turned = beamline(detectors=(Detector(40.5, PIXEL, camera((96, 96)), rotation=np.pi / 2),))
    plain = straight.intensity(REFERENCE)
    # Down on the turned detector is along x in the lab.
    np.testing.assert_allclose(turned.intensity(REFERENCE), np.rot90(plain, -1), atol=2e-3)
    lens = Crl(40.0, radius=60e-6, delta=1.2e-6, axis=0)
    along = replace(turned, optics=(lens,)).truth()
    assert np.ptp(along.displacement_x) > 0.5
    np.testing.assert_allclose(along.displacement_y, 0, atol=1e-9)


def test_distortion_says_which_true_pixel_is_seen() -> None:
    def shifted(y: Any, x: Any) -> tuple[Any, Any]:
        return np.full(np.shape(y), 2.0), np.full(np.shape(x), -3.0)

    plain = beamline().intensity(REFERENCE)
    distorted = beamline(
        detectors=(Detector(40.5, PIXEL, camera(), distortion=shifted),)
    ).intensity(REFERENCE)
    np.testing.assert_allclose(distorted[:-2, 3:], plain[2:, :-3], atol=1e-3)


def test_a_moved_detector_sees_the_beam_move_back() -> None:
    line = beamline()
    still, moved = line.intensities(
        [REFERENCE, replace(REFERENCE, detector=(4 * PIXEL, 0.0), detector_error=(0.0, PIXEL))]
    )
    np.testing.assert_allclose(moved[:-4, :-1], still[4:, 1:], atol=1e-3)
    truth = line.truth(
        replace(REFERENCE, detector=(4 * PIXEL, 0.0), detector_error=(0.0, PIXEL)), REFERENCE
    )
    np.testing.assert_allclose(truth.displacement_y, -4, atol=1e-6)
    np.testing.assert_allclose(truth.displacement_x, -1, atol=1e-6)


def test_frames_have_the_noise_of_their_photons_and_their_motors() -> None:
    gain, counts = 2.5, 3000.0
    line = beamline(
        detectors=(Detector(40.5, PIXEL, camera(counts=counts, gain=gain, readout=0.0)),),
        membrane=Membrane(40.0, size=4e-4, phase=0.1),
    )
    frames = line.expose([REFERENCE] * 20)
    assert frames.dims == ("frame", "y", "x")
    assert frames.dtype == np.uint16
    signal = frames.to_numpy().astype(float) - 100
    assert signal.mean() == pytest.approx(counts, rel=0.02)
    assert np.mean(signal.var(axis=0, ddof=1) / signal.mean(axis=0)) == pytest.approx(gain, 0.02)
    assert np.array_equal(frames[3], line.expose([REFERENCE], first=3)[0])
    scan = line.expose(membrane_scan(1, 3, 2e-6))
    np.testing.assert_allclose(scan.membrane_x, [-0.002, 0, 0.002])
    assert scan.membrane_x.units == "mm"
    assert float(scan.energy) == 17
    assert float(scan.detz) == pytest.approx(500)


def test_a_mesh_is_where_its_motors_say_but_for_the_jitter() -> None:
    mesh = detector_mesh(20, 30, (1e-5, 2e-5), jitter=1e-7, seed=3)
    places = np.array([setting.detector for setting in mesh]).reshape(20, 30, 2)
    np.testing.assert_allclose(np.diff(places[..., 0], axis=0), 1e-5)
    np.testing.assert_allclose(np.diff(places[..., 1], axis=1), 2e-5)
    np.testing.assert_allclose(places.mean(axis=(0, 1)), 0, atol=1e-15)
    error = np.array([setting.detector_error for setting in mesh])
    assert error.std() == pytest.approx(1e-7, rel=0.1)
    assert beamline().motors(mesh[0])["dety"] == pytest.approx(-0.095)


def test_a_train_jitters_and_drifts() -> None:
    train, again = (
        pulse_train(
            800,
            distance=40.0,
            pointing_jitter=(1e-7, 3e-7),
            intensity_jitter=0.2,
            drift=(0.0, 2e-6),
            seed=4,
        )
        for _ in range(2)
    )
    tilt = -np.array([pulse.source for pulse in train]) / 40.0
    tilt[:, 1] -= np.linspace(0, 2e-6, 800)
    np.testing.assert_allclose(tilt.std(axis=0), (1e-7, 3e-7), rtol=0.1)
    intensity = np.array([pulse.intensity for pulse in train])
    assert intensity.mean() == pytest.approx(1, rel=0.02)
    assert intensity.std() == pytest.approx(0.2, rel=0.1)
    assert train == again


def test_what_aliases_is_refused_with_its_numbers() -> None:
    fine = beamline(membrane=Membrane(40.0, grain=1.5e-6, phase=3.0, size=4e-4))
    with pytest.raises(
        InputError, match=r"phase of the membrane changes by .* cycles per grid point"
    ):
        fine.intensity()
    steep = Crl(40.0, radius=1.5e-6, delta=1.2e-6, aperture=2e-5)
    with pytest.raises(InputError, match=r"Crl at 40 m: its phase .* multiply oversampling by"):
        beamline(optics=(steep,), membrane=None).intensity()
    rough = ModalSurface((*(0.0,) * 400, 2e-5), half_width=1e-4)
    lens = Crl(40.0, radius=50e-6, delta=1.2e-6, error=rough)
    with pytest.raises(InputError, match=r"cycles per .* along|rays cross"):
        beamline(optics=(lens,)).intensity()
    with pytest.raises(InputError, match=r"points along y: .* max_points is 300"):
        beamline(max_points=300).intensity()
    with pytest.raises(InputError, match=r"repeats after 0\.0001"):
        beamline(membrane=Membrane(40.0, size=1e-4)).intensity()


def test_a_focus_before_the_detector_is_refused() -> None:
    lens = Crl(40.0, radius=1e-6, delta=1.2e-6)
    with pytest.raises(InputError, match=r"focused 0\.4.* m behind the plane at 40 m"):
        beamline(optics=(lens,)).intensity()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: beamline(detectors=()), "no detector"),
        (lambda: beamline(detectors=(Detector(39.0, PIXEL),)), "detector is at 39"),
        (lambda: beamline().intensity(detector=1), "detector is 1"),
        (lambda: beamline().expose([]), "no settings"),
        (lambda: beamline().truth(SAMPLE, FLAT), "only one of sample and reference"),
        (lambda: Source(energy=0), "energy is 0 keV"),
        (lambda: Source(size=(-1e-6, 0)), "size of the source"),
        (lambda: Membrane(40.0, grain=0), "grain of the membrane is 0 m"),
        (lambda: Membrane(40.0, phase=-1), "phase is -1"),
        (lambda: Crl(40.0, radius=1e-4, delta=1e-6, axis=2), "axis is 2"),
        (lambda: Crl(40.0, radius=-1e-4, delta=1e-6), "radius of the lens"),
        (lambda: Rod(40.0, radius=1e-5, delta=1e-6, axis=2), "axis is 2"),
        (lambda: Mirror(40.0, (0.0,), length=0.1, angle=1e-3), "height has 1 points"),
        (lambda: Detector(40.0, 0.0), "pixel_size is 0"),
        (lambda: Setting(intensity=-1), "intensity is -1"),
        (lambda: membrane_scan(0, 2, 1e-6), "0 x 2 positions"),
        (lambda: membrane_scan(1, 2, 1e-6, base=FLAT), "base has no membrane"),
        (lambda: pulse_train(0, distance=1.0), "0 pulses"),
        (lambda: pulse_train(2, distance=1.0, intensity_jitter=-1), "intensity_jitter -1"),
        (lambda: absolute_beamline(distances=(0.8, 0.3)), r"distances are \(0\.8, 0\.3\)"),
        (lambda: differential_beamline(distance=-1.0), "detector is at 39"),
    ],
)
def test_bad_input_is_named(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_wave_in_its_fan_is_the_wave_sampled_outright() -> None:
    """Everything off its axis: the fan bends and tilts, and the wave on it is the same."""
    source = Source(divergence=(2e-6, 3e-6))
    lens = Crl(6.0, radius=30e-6, delta=1.2e-6, axis=1, center=(0.0, 8e-6), error=ERROR)
    membrane = Membrane(6.0, size=4e-4, phase=0.6, absorption=0.1)
    place, offset, z, step = (3e-6, -5e-6), (4e-6, -6e-6), 0.7, 0.25e-6
    setting = Setting(membrane=place, source=offset)
    detector = Detector(6.0 + z, 0.3e-6, camera((192, 192)))
    line = Beamline(source, (detector,), membrane, (lens,), oversampling=2.0)
    beam = line._beam(setting)
    grid = beam.grid(detector, [(0.0, 0.0)], oversampling=2.0, max_points=4096)
    fan = beam.system.fan(6.0 + z)
    found = beam.intensity(grid, 6.0 + z)

    lab = np.asarray((np.arange(720) - 360) * step, np.float64)
    y, x = lab[:, None], lab[None, :]
    away = (y - offset[0]) / 6.0, (x - offset[1]) / 6.0
    amplitude = np.exp(-((away[0] / 2e-6) ** 2 + (away[1] / 3e-6) ** 2) / 4)
    path = 6.0 * (away[0] ** 2 + away[1] ** 2) / 2 + lens.wavefront(y, x - 8e-6)
    wave = amplitude * np.exp(2j * np.pi / source.wavelength * path)
    wave = wave * membrane.transmitted(lab - place[0], lab - place[1])
    far = propagate(wave, wavelength=source.wavelength, spacing=step, distance=z)
    outright = np.abs(far) ** 2 * ((6.0 + z) / 6.0) ** 2

    rows = np.arange(200, grid.y.size - 200, 3)
    columns = np.arange(200, grid.x.size - 200, 3)
    at_y = (fan.chief[0] + fan.scale[0] * grid.y[rows])[:, None] / step + 360
    at_x = (fan.chief[1] + fan.scale[1] * grid.x[columns])[None, :] / step + 360
    expected = ndimage.map_coordinates(outright, np.broadcast_arrays(at_y, at_x), order=5)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found[np.ix_(rows, columns)], expected, atol=3e-3)


@pytest.mark.parametrize("membrane_at", [39.8, 40.5])
def test_the_source_is_imaged_through_the_grains(membrane_at: float) -> None:
    lens = Crl(40.2, radius=30e-6, delta=1.2e-6)
    line = beamline(
        fixed=(lens,),
        source=Source(size=(10e-6, 30e-6)),
        detectors=(Detector(41.0, PIXEL, camera((16, 16))),),
        membrane=Membrane(membrane_at),
    )
    moved = line.truth(replace(REFERENCE, source=(10e-6, -30e-6)), REFERENCE)
    blur = line._beam(REFERENCE).blur(41.0)
    np.testing.assert_allclose(-moved.displacement_y * PIXEL, blur[0], rtol=1e-6)
    np.testing.assert_allclose(moved.displacement_x * PIXEL, blur[1], rtol=1e-6)


def test_a_camera_without_faults_sees_the_beam_as_it_is() -> None:
    plain = Camera((40, 50), counts=4000, structure=0.0, vignetting=0.0, bad_fraction=0.0)
    np.testing.assert_array_equal(plain.flat_field, 4000)
    structured = replace(plain, structure=0.1).flat_field
    assert structured.std() / structured.mean() == pytest.approx(0.1, rel=0.3)
    corner, middle = replace(plain, vignetting=1.0).flat_field[[0, 20], [0, 25]]
    assert corner < 0.3 * middle
