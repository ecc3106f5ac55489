"""The aperture of a lens with a sharp edge, in small maps that were tracked."""

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

import wavedask as wd
from wavedask.optics import fit_lens
from wavedask.optics.aperture import found_aperture
from wavedask.optics.disc import found_disc
from wavedask.simulate import displaced_pair


@pytest.mark.parametrize(
    ("side", "radius", "window", "gradient"),
    [
        (64, 0.4, 9, 0.03),
        (96, 0.4, 15, 0.03),
        (128, 0.3, 9, 0.01),
        (128, 0.4, 9, 0.03),
        (160, 0.25, 15, 0.03),
    ],
)
def test_a_sharp_lens_is_found_in_a_small_map(
    side: int, radius: float, window: int, gradient: float
) -> None:
    y, x = np.mgrid[:side, :side] - np.array([side / 2 + 2.3, side / 2 - 1.7])[:, None, None]
    inside = np.hypot(y, x) <= radius * side
    moved = [np.where(inside, -gradient * part, 0.0) for part in (y, x)]
    pair = displaced_pair((side, side), displacement_y=moved[0], displacement_x=moved[1])
    sample, reference = (
        xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
    )
    tracking = wd.track(sample, reference, window=window, search=16)
    lens = fit_lens(wd.wavefront(tracking, distance=1.0, pixel_size=1e-6))
    found = lens.aperture.values
    assert found.sum() > window**2
    assert (found & ~inside).sum() < 0.02 * found.sum()
    # u = -g (p - c), and the slope u / d of W = -r^2 / 2 (f - d).
    error = float(lens.focal_length_uncertainty)
    assert float(lens.focal_length) == pytest.approx(1 / gradient + 1, abs=4 * error, rel=0.05)


def test_a_lens_of_too_few_windows_is_a_poor_fit() -> None:
    side, radius, gradient = 64, 0.2, 0.01
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = np.hypot(y, x) <= radius * side
    moved = [np.where(inside, -gradient * part, 0.0) for part in (y, x)]
    pair = displaced_pair((side, side), displacement_y=moved[0], displacement_x=moved[1])
    sample, reference = (
        xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
    )
    tracking = wd.track(sample, reference, window=9, search=16)
    lens = fit_lens(wd.wavefront(tracking, distance=1.0, pixel_size=1e-6))
    verdicts = dict(zip(lens.verdict.flag_meanings.split(), lens.verdict.flag_values, strict=True))
    assert int(lens.verdict) == verdicts["poor_fit"]


@pytest.mark.parametrize("window", [9, 15])
def test_a_strong_aberration_in_a_small_map_is_no_edge(window: int) -> None:
    line = np.asarray((np.arange(96) - 48) / 96, np.float64)
    y, x = np.meshgrid(line, line, indexing="ij")
    bent = 1 - 2 * (y**2 + x**2)
    for seed in range(6):
        random = np.random.default_rng(seed)
        noise = [gaussian_filter(random.standard_normal(y.shape), window / 3) for _ in "yx"]
        slopes = [
            -part * bent + 0.05 * 0.2 * one / one.std()
            for part, one in zip((y, x), noise, strict=True)
        ]
        cells = [part.reshape(48, 2, 48, 2).mean(axis=(1, 3)) for part in slopes]
        assert found_disc(cells[0], cells[1], window=window / 2) is None


@pytest.mark.parametrize("noise", [0.01, 0.1])
@pytest.mark.parametrize("side", [48, 96])
def test_a_lens_that_fills_the_map_has_no_edge(side: int, noise: float) -> None:
    random = np.random.default_rng(side)
    line = np.asarray((np.arange(side) - side / 2) * 1e-6, np.float64)
    y, x = np.meshgrid(line, line, indexing="ij")
    size = noise * side * 1e-6
    slopes = [-part + size * random.standard_normal(part.shape) for part in (y, x)]
    found = found_aperture(slopes[0], slopes[1], y=line, x=line, window=9)
    assert found.whole
