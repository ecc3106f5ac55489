"""The virtual beamline against theory and an independent non-uniform Fourier transform."""

from pathlib import Path

import ducc0
import fabio
import numpy as np
import pytest
import tifffile
from scipy import fft

from wavedask.errors import FileError, InputError
from wavedask.simulate import (
    Camera,
    Lens,
    displaced_pair,
    lens_truth,
    speckle_field,
    write_campaign,
)


@pytest.mark.parametrize("grain", [2.5, 4.0, 8.0])
def test_speckle_anywhere_is_its_fourier_series(grain: float) -> None:
    speckle = speckle_field(120, grain=grain, contrast=0.25, seed=1)
    period = speckle.period
    y, x = np.random.default_rng(0).uniform(-period, 2 * period, (2, 500))
    full = fft.fft2(fft.irfft2(speckle.spectrum, s=(period, period))) / period**2
    exact = ducc0.nufft.u2nu(
        grid=fft.fftshift(full),
        coord=np.stack([y, x], axis=1) * (2 * np.pi / period),
        forward=False,
        epsilon=1e-12,
        fft_order=False,
    ).real
    np.testing.assert_allclose(speckle(y, x), 1 + 0.25 * exact, atol=5e-6)


def test_grain_and_contrast_are_what_was_asked() -> None:
    grain = 6.0
    speckle = speckle_field(512, grain=grain, contrast=0.2, seed=2)
    y, x = np.mgrid[: speckle.period, : speckle.period]
    image = speckle(y, x)
    assert image.mean() == pytest.approx(1, abs=1e-3)
    assert image.std() == pytest.approx(0.2, rel=0.01)
    power = np.abs(fft.fft2(image - image.mean())) ** 2
    correlation = fft.ifft2(power).real
    # A grain of that width correlates with itself over sqrt(2) of it.
    half = np.interp(0.5, correlation[0, 1:20][::-1] / correlation[0, 0], np.arange(19, 0, -1))
    assert 2 * half == pytest.approx(np.sqrt(2) * grain, rel=0.05)


def test_a_displaced_pair_obeys_the_sign_and_the_photons() -> None:
    pair = displaced_pair((64, 64), displacement_y=3, displacement_x=-2, noise=False)
    np.testing.assert_allclose(pair.sample[3:, :-2], pair.reference[:-3, 2:], rtol=1e-5)
    noisy = displaced_pair((256, 256), counts=500, seed=1)
    exact = displaced_pair((256, 256), counts=500, noise=False, seed=1)
    error = (noisy.sample - exact.sample) / np.sqrt(np.maximum(exact.sample, 1))
    assert error.std() == pytest.approx(1, rel=0.02)
    assert np.std(noisy.sample - noisy.reference) == pytest.approx(np.sqrt(1000), rel=0.02)


def test_speckle_that_cannot_be_made() -> None:
    with pytest.raises(InputError, match=r"grain is 1.5 px"):
        speckle_field(64, grain=1.5)
    with pytest.raises(InputError, match=r"contrast is 0.6"):
        speckle_field(64, contrast=0.6)


LENS = Lens(
    radius=50e-6,
    delta=1.2e-6,
    error=np.array([[0, 0, 0, 2e-6], [0, 1e-6, 0, 0], [0, 0, 0, 0], [-3e-6, 0, 0, 0]]),
    half_aperture=100e-6,
)


def test_an_ideal_lens_makes_a_wavefront_of_radius_f_minus_d() -> None:
    lens = Lens(radius=50e-6, delta=1.2e-6)
    distance = 2.0
    truth = lens_truth(lens, shape=(101, 121), pixel_size=1e-6, distance=distance)
    y, x = (np.arange(n) - (n - 1) / 2 for n in (101, 121))
    ideal = -(y[:, None] ** 2 + x**2) * 1e-12 / (2 * (lens.focal_length - distance))
    np.testing.assert_allclose(truth.wavefront, ideal - ideal.mean(), atol=1e-18)
    assert truth.slope_x[50, 0] > 0 > truth.slope_x[50, -1]


def test_the_truth_of_a_real_lens_is_consistent() -> None:
    pixel = 1e-6
    truth = lens_truth(LENS, shape=(120, 150), pixel_size=pixel, distance=1.5, center=(1e-5, -2e-5))
    slope_y, slope_x = (
        np.asarray(np.gradient(truth.wavefront, pixel, axis=axis)) for axis in (0, 1)
    )
    inner = (slice(2, -2), slice(2, -2))
    scale = np.abs(truth.slope_x).max()
    np.testing.assert_allclose(slope_y[inner], truth.slope_y[inner], atol=2e-4 * scale)
    np.testing.assert_allclose(slope_x[inner], truth.slope_x[inner], atol=2e-4 * scale)
    np.testing.assert_allclose(truth.displacement_y * pixel / 1.5, truth.slope_y)
    x = (np.arange(150) - 74.5) * pixel + 2e-5
    np.testing.assert_allclose(
        truth.origin_x + 1.5 * truth.slope_x, np.broadcast_to(x, (120, 150)), atol=1e-13
    )
    slopes = LENS.slope(truth.origin_y, truth.origin_x)
    np.testing.assert_allclose(slopes[0], truth.slope_y)


def test_a_detector_behind_the_focus_is_refused() -> None:
    with pytest.raises(InputError, match="focal length"):
        lens_truth(LENS, shape=(8, 8), pixel_size=1e-6, distance=30)


def test_a_camera_is_imperfect_as_told() -> None:
    camera = Camera((200, 220), counts=4000, offset=100, bad_fraction=1e-3, seed=5)
    darks = np.stack([camera.expose(0.0, frame=number) for number in range(4)]).astype(float)
    flat = camera.expose(1.0, frame=9).astype(float)
    assert camera.dead.any()
    assert camera.hot.any()
    good = ~(camera.dead | camera.hot)
    assert darks[:, good].mean() == pytest.approx(100, abs=0.5)
    assert darks[:, good].std() == pytest.approx(2, abs=0.2)
    assert darks[:, camera.hot].mean() > 300
    assert (flat[camera.dead] == 100).all()
    error = (flat - 100 - camera.flat_field)[good] / np.sqrt(camera.flat_field[good] + 4)
    assert error.std() == pytest.approx(1, abs=0.02)
    assert not np.array_equal(camera.expose(1.0, frame=1), camera.expose(1.0, frame=2))
    assert np.array_equal(camera.expose(1.0, frame=1), camera.expose(1.0, frame=1))


def test_an_edf_campaign_reads_as_the_beamline_wrote_it(tmp_path: Path) -> None:
    campaign = write_campaign(
        tmp_path / "run", lens=LENS, shape=(40, 50), centers=[(0, 0), (1e-5, 2e-5)], distance=1.5
    )
    names = sorted(path.name for path in campaign.folder.iterdir())
    assert len(names) == 5 + 5 + 1 + 2
    header = fabio.open(str(campaign.folder / "sample_0001.edf")).header
    motors = dict(
        zip(header["motor_mne"].split(), map(float, header["motor_pos"].split()), strict=True)
    )
    assert motors["lens_y"] == pytest.approx(0.01)
    assert motors["lens_x"] == pytest.approx(0.02)
    assert motors["energy"] == 17
    with pytest.raises(FileError, match="already holds 13 such files"):
        write_campaign(tmp_path / "run", lens=LENS, shape=(40, 50), distance=1.5)


def test_a_tiff_campaign_has_a_sidecar(tmp_path: Path) -> None:
    campaign = write_campaign(tmp_path, lens=LENS, shape=(40, 50), distance=1.5, file_format="tiff")
    assert tifffile.imread(tmp_path / "sample_0000.tiff").shape == (2, 40, 50)
    assert campaign.sidecar is not None
    lines = campaign.sidecar.read_text().splitlines()
    assert lines[0].split(",")[3] == "lens_x [mm]"
    assert len(lines) == 3
    with pytest.raises(InputError, match="file_format is 'hdf5'"):
        write_campaign(tmp_path, lens=LENS, file_format="hdf5")  # type: ignore[arg-type]
