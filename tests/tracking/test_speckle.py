"""Grains, visibility, counts and blur of an image, and the settings that follow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import xarray as xr
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy import ndimage

import wavedask as wd
from wavedask.cli import main
from wavedask.errors import InputError
from wavedask.simulate import displaced_pair


def speckle(seed: int = 1, **options: float) -> NDArray[np.float32]:
    return displaced_pair((288, 288), seed=seed, **options).reference  # type: ignore[arg-type] # options are floats


@pytest.mark.parametrize("grain", [2.0, 2.5, 4.0, 8.0])
def test_the_grain_of_speckle(grain: float) -> None:
    report = wd.describe_speckle(speckle(grain=grain))
    assert report.grain_y == pytest.approx(grain, rel=0.1)
    assert report.grain_x == pytest.approx(grain, rel=0.1)
    assert report.visibility == pytest.approx(0.25, rel=0.08)
    assert report.counts == pytest.approx(8000, rel=0.25)
    assert report.order == (5 if grain < 3 else 3)
    assert report.window >= 4 * grain - 1
    assert report.window % 2 == 1


@pytest.mark.parametrize("counts", [50.0, 500.0])
def test_few_photons_ask_for_a_large_window(counts: float) -> None:
    report = wd.describe_speckle(speckle(counts=counts))
    assert report.counts == pytest.approx(counts, rel=0.15)
    assert report.visibility == pytest.approx(0.25, rel=0.08)
    assert report.grain_y == pytest.approx(4, rel=0.1)
    assert report.window > 25
    assert "noise" in report.reasons[0]


def test_the_expected_precision_is_that_of_the_tracker() -> None:
    pair = displaced_pair((288, 288), displacement_x=0.4, counts=800.0, seed=2)
    report = wd.describe_speckle(pair.reference)
    found = wd.cross_spot(pair.sample, pair.reference, window=report.window, search=4)
    inside = np.s_[45:-45, 45:-45]
    error = np.sqrt(np.mean((found.displacement_x[inside] - 0.4) ** 2))
    assert error == pytest.approx(report.precision, rel=0.3)


@pytest.mark.parametrize("blur", [1.5, 2.0])
def test_a_scintillator_blurs_the_noise(blur: float) -> None:
    image = ndimage.gaussian_filter(speckle().astype(float), blur / np.sqrt(8 * np.log(2)))
    report = wd.describe_speckle(image)
    assert report.blur == pytest.approx(blur, rel=0.2)
    assert any("scintillator" in reason for reason in report.reasons)


def test_noise_that_does_not_show() -> None:
    image = ndimage.gaussian_filter(speckle().astype(float), 4 / np.sqrt(8 * np.log(2)))
    report = wd.describe_speckle(image)
    assert np.isnan(report.counts)
    assert np.isnan(report.blur)
    assert "does not show" in str(report)


def test_a_grating_repeats_itself() -> None:
    y, x = np.mgrid[:256, :256]
    k = 2 * np.pi / 14
    bright = 5000 * (1 + 0.25 * np.sin(k * y) * np.sin(k * x))
    report = wd.describe_speckle(np.random.default_rng(0).poisson(bright))
    assert report.period == pytest.approx(14 / np.sqrt(2), rel=0.05)
    assert report.search < 14 / np.sqrt(2) / 2
    assert any("ambiguous" in reason for reason in report.reasons)


def test_saturation_gaps_and_a_slope_of_the_beam() -> None:
    y, x = np.mgrid[:288, :288]
    image = speckle() * np.exp(-((y - 100) ** 2 + (x - 200) ** 2) / (2 * 250**2))
    image = np.minimum(image, np.percentile(image, 99.5))
    image[:40] = np.nan
    report = wd.describe_speckle(image)
    assert report.saturated == pytest.approx(0.005, rel=0.3)
    assert report.missing == pytest.approx(40 / 288)
    assert report.visibility == pytest.approx(0.25, rel=0.12)
    assert report.grain_x == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((100, 100)), "flat"),
        (np.full((100, 100), np.nan), "no pixel with a value"),
        (-np.ones((100, 100)), "mean of the image is -1"),
        (np.ones((20, 100)), r"shape \(20, 100\)"),
        (np.random.default_rng(0).poisson(500, (200, 200)), "no speckle"),
    ],
)
def test_images_without_speckle_are_refused(image: NDArray[np.float64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wd.describe_speckle(image)


def test_a_lazy_scan_and_the_command_line(tmp_path: Path) -> None:
    image = speckle().astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    scan = wd.open_scan(tmp_path / "a.tif")
    report = wd.describe_speckle(scan)
    assert report == wd.describe_speckle(xr.DataArray(image, dims=("y", "x")))
    done = CliRunner().invoke(main, ["info", "--speckle", str(tmp_path / "a.tif")])
    assert done.exit_code == 0, done.output
    assert f"window={report.window}" in done.output


def test_real_speckle_of_a_beamline(data_dir: Callable[[str], Path]) -> None:
    """Fine grains, 6 % of contrast: the README's autocorrelation is 2.85 x 2.72 px wide."""
    folder = data_dir("xray_fourrod")
    image = tifffile.imread(folder / "ReferenceSpeckle_1.tif")
    report = wd.describe_speckle(image / tifffile.imread(folder / "Flatfield.tif"))
    assert report.grain_y * np.sqrt(2) == pytest.approx(2.85, abs=0.1)
    assert report.grain_x * np.sqrt(2) == pytest.approx(2.72, abs=0.15)
    assert report.visibility == pytest.approx(0.06, abs=0.005)
    assert report.order == 5
