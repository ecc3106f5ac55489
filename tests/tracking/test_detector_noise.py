"""The noise of a detector that is given: errors that hold, and a residual that checks it."""

import json
import logging
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

import wavedask as wd
from wavedask.errors import InputError
from wavedask.simulate import speckle_field

Array = NDArray[Any]
SIZE = 192
SHIFT = (0.37, -1.62)
FWHM = float(np.sqrt(8 * np.log(2)))


def pair_of(
    counts: float,
    blur: float,
    seed: int,
    *,
    gain: float = 1.0,
    readout: float = 0.0,
    longer: float = 1.0,
    lost: float = 0.0,
) -> list[Array]:
    """Sample and reference of a detector: photons, spots, readout; the reference exposed longer."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    grain = float(np.sqrt(max(16 - blur**2, 4)))
    speckle, other = (speckle_field(SIZE + 8, grain=grain, seed=s) for s in (seed, seed + 1000))
    kept = 1 - lost
    bright = speckle(y - SHIFT[0], x - SHIFT[1])
    bright = 1 + kept * (bright - 1) + np.sqrt(1 - kept**2) * (other(y, x) - 1)
    random = np.random.default_rng(seed)
    images = []
    for image, exposure in ((bright, counts), (speckle(y, x), counts * longer)):
        photons = random.poisson(exposure * np.maximum(image, 0)).astype(float)
        spots = ndimage.gaussian_filter(gain * photons, blur / FWHM) if blur else gain * photons
        images.append(spots + readout * random.standard_normal(image.shape))
    return images


def ratio(pairs: list[list[Array]], *, window: int = 15, **options: Any) -> float:
    """Rms of error over stated error."""
    scores = []
    for sample, reference in pairs:
        found = wd.cross_spot(sample, reference, window=window, search=4, **options)
        for u, true, error in zip(found[:2], SHIFT, found[2:4], strict=True):
            scores.append(((u - true) / error)[30:-30, 30:-30])
    return float(np.sqrt(np.nanmean(np.square(scores))))


@pytest.mark.parametrize(
    ("counts", "blur", "gain", "readout"),
    [(300, 2.0, 1.0, 0.0), (300, 3.0, 1.0, 0.0), (400, 2.0, 4.0, 30.0)],
)
def test_errors_hold_for_few_blurred_photons(
    counts: float, blur: float, gain: float, readout: float
) -> None:
    pairs = [pair_of(counts, blur, seed, gain=gain, readout=readout) for seed in (1, 2)]
    noise = wd.DetectorNoise(gain=gain, readout=readout, psf=blur)
    assert 0.9 < ratio(pairs, detector_noise=noise) < 1.15


def test_a_small_window_has_errors_that_hold() -> None:
    pairs = [pair_of(2000, 0.0, seed) for seed in (1, 2)]
    assert 0.9 < ratio(pairs, window=7) < 1.2
    assert 0.9 < ratio(pairs, window=7, detector_noise={"gain": 1.0}) < 1.15


@pytest.mark.parametrize("counts", [100.0, 300.0, 3000.0])
@pytest.mark.parametrize("blur", [0.0, 2.0])
def test_errors_hold_from_few_to_many_photons(counts: float, blur: float) -> None:
    """At 100 photons the noise times the noise of the gradient is a third of the variance."""
    pairs = [pair_of(counts, blur, seed) for seed in (1, 2, 3)]
    assert 0.8 < ratio(pairs, window=21) < 1.15


@pytest.mark.parametrize("blur", [0.0, 2.0])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_reference_that_is_exposed_ten_times_longer(blur: float, normalised: bool) -> None:
    pairs = [pair_of(800, blur, seed, longer=10.0) for seed in (1, 2)]
    if normalised:
        pairs = [[image / image.mean() for image in pair] for pair in pairs]
    assert 0.85 < ratio(pairs) < 1.15


def test_lost_speckle_counts_beside_the_stated_noise() -> None:
    pairs = [pair_of(4000, 2.0, seed, lost=0.1) for seed in (1, 2)]
    noise = wd.DetectorNoise(gain=1.0, psf=2.0)
    assert 0.8 < ratio(pairs, window=21, detector_noise=noise) < 1.2


def tracked(gain: float) -> xr.Dataset:
    images = [xr.DataArray(image, dims=("y", "x")) for image in pair_of(1000, 2.0, 3)]
    return wd.track(*images, window=15, search=4, detector_noise={"gain": gain, "psf": 2.0})


def test_the_right_gain_is_confirmed_by_the_residual(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wavedask"):
        found = tracked(1.0)
    assert found.attrs["residual_over_noise"] == pytest.approx(1, abs=0.15)
    assert json.loads(found.attrs["detector_noise"]) == {"gain": 1.0, "readout": 0.0, "psf": 2.0}
    assert "detector_noise" not in caplog.text


@pytest.mark.parametrize(("gain", "words"), [(0.5, "counts in the uncert"), (2.0, "too large")])
def test_a_wrong_gain_is_noticed(gain: float, words: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wavedask"):
        found = tracked(gain)
    assert found.attrs["residual_over_noise"] == pytest.approx(1 / gain, rel=0.15)
    assert words in caplog.text
    right = tracked(1.0)
    inside = np.s_[30:-30, 30:-30]
    larger = found.uncertainty_x.values[inside] / right.uncertainty_x.values[inside]
    assert np.median(larger) == pytest.approx(1.0 if gain < 1 else np.sqrt(gain), rel=0.12)


def test_a_spot_as_an_array_is_that_of_its_width() -> None:
    sample, reference = pair_of(500, 2.0, 4)
    line = np.exp(-(np.arange(-6, 7) ** 2) / (2 * (2.0 / FWHM) ** 2))
    settings: Any = {"window": 15, "search": 4}
    one, other = (
        wd.cross_spot(sample, reference, detector_noise={"gain": 1.0, "psf": psf}, **settings)
        for psf in (2.0, np.outer(line, line))
    )
    inside = np.s_[30:-30, 30:-30]
    quotient = other.uncertainty_y[inside] / one.uncertainty_y[inside]
    np.testing.assert_allclose(quotient, 1, atol=0.02)


def test_tiles_and_frames_give_the_same() -> None:
    sample, reference = pair_of(500, 2.0, 5)
    settings: Any = {"window": 7, "search": 2, "rigid": (0, -2), "detector_noise": {"gain": 1.0}}
    whole = wd.cross_spot(sample, reference, **settings)
    lazy = wd.cross_spot(da.from_array(sample, chunks=(96, 192)), reference, **settings)
    for one, other in zip(whole[:2], lazy[:2], strict=True):
        np.testing.assert_allclose(np.asarray(other), one, atol=2e-3)
    np.testing.assert_allclose(np.asarray(lazy.uncertainty_x), whole.uncertainty_x, rtol=0.05)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gain": 0}, "gain is 0"),
        ({"gain": True}, "gain is True"),
        ({"gain": 1, "readout": -1}, "readout is -1"),
        ({"gain": 1, "psf": -1}, "psf is -1"),
        ({"gain": 1, "psf": 30}, "psf is 30 px wide, and the window 21 px"),
        ({"gain": 1, "psf": [[1, 1]]}, "odd sides"),
        ({"gain": 1, "psf": [[1, -1, 1]]}, "from 0 up"),
        ({"gain": 1, "psf": "wide"}, "psf is 'wide'"),
        ({"gain": float("nan")}, "gain is nan"),
        ({"readout": 1}, "gain is needed"),
        ({"gain": 1, "blur": 2}, "dictionary of gain, readout, psf"),
    ],
)
def test_noise_that_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    images = np.ones((2, 64, 64))
    with pytest.raises(InputError, match=words):
        wd.cross_spot(*images, detector_noise=given)


def test_the_loop_of_template_matches_takes_no_noise() -> None:
    images = np.ones((2, 64, 64))
    with pytest.raises(InputError, match='engine="dense"'):
        wd.cross_spot(*images, engine="opencv", detector_noise={"gain": 1})
