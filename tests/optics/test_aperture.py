"""The aperture of a lens with a sharp edge, in small maps that were tracked."""

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.optics import fit_lens
from wavedask.optics.aperture import found_aperture
from wavedask.simulate import displaced_pair


@pytest.mark.parametrize(
    ("side", "radius", "window", "gradient"),
    [(128, 0.3, 9, 0.01), (128, 0.4, 9, 0.03), (160, 0.25, 15, 0.03)],
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
