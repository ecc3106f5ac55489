"""Two wavefronts of the same optic are compared where both have data."""

import numpy as np
import pytest
import xarray as xr

from wavedask.errors import InputError
from wavedask.optics import compare

SIDE = 60


def figure(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Figure of an optic in m, with detail that fixes its place."""
    detail = 3e-9 * np.sin(y[:, None] / 6e-6) * np.cos(x / 9e-6)
    return np.asarray(detail + (y[:, None] ** 2 + x**2) / 80)


def measured(
    *, step: float = 1e-6, start: float = 0.0, noise: float = 0.0, seed: int = 0
) -> xr.Dataset:
    axis = start + np.arange(SIDE) * step
    rng = np.random.default_rng(seed)
    heights = (
        figure(axis, axis) + rng.normal(scale=noise, size=(SIDE, SIDE))
        if noise
        else figure(axis, axis)
    )
    maps = {"wavefront": (("y", "x"), heights, {"units": "m"})}
    if noise:
        maps["wavefront_uncertainty"] = (("y", "x"), np.full((SIDE, SIDE), noise), {"units": "m"})
    return xr.Dataset(maps, {"y": axis, "x": axis})


def test_noise_explains_the_difference() -> None:
    a, b = measured(noise=1e-10, seed=1), measured(noise=1e-10, seed=2)
    for part in (a, b):
        # As at the border of a result.
        part.wavefront[0], part.wavefront_uncertainty[0] = np.nan, np.inf
    found = compare(a, b, register=False)
    assert found.ratio == pytest.approx(1.0, abs=0.05)
    assert found.rms[2] == pytest.approx(np.sqrt(2) * 1e-10, rel=0.05)
    assert found.pixels == SIDE * (SIDE - 1)
    assert "difference over its error" in repr(found)
    assert set(found.maps) == {"difference", "difference_uncertainty", "difference_rms"}


def test_another_pixel_size_piston_and_tilt_do_not_matter() -> None:
    a = measured()
    b = measured(step=0.8e-6, start=5e-6)
    b["wavefront"] = b.wavefront + 3e-6 + 1e-4 * b.x - 2e-5 * b.y
    found = compare(a, b, register=False)
    assert found.rms[2] < 2e-3 * found.rms[0]
    assert 0 < found.pixels < SIDE**2


def test_a_shift_is_found() -> None:
    a = measured()
    b = measured().assign_coords(y=a.y + 2.3e-6, x=a.x - 3.1e-6)
    found = compare(a, b)
    np.testing.assert_allclose(found.shift, (-2.3e-6, 3.1e-6), atol=2e-8)
    assert found.rms[2] < 1e-3 * found.rms[0]
    assert compare(a, b, register=False).rms[2] > 10 * found.rms[2]


def test_gaps_are_gaps() -> None:
    a, b = measured(), measured()
    a.wavefront[:10] = np.nan
    b.wavefront[:, 50:] = np.nan
    found = compare(a, b, register=False)
    assert np.isnan(found.maps.difference[:10]).all()
    assert np.isnan(found.maps.difference[:, 50:]).all()
    assert found.pixels == 50 * 50
    assert found.rms[2] < 1e-15


def test_what_cannot_be_compared() -> None:
    a = measured()
    with pytest.raises(InputError, match="share 0 pixels"):
        compare(a, measured(start=1.0), register=False)
    with pytest.raises(InputError, match=r"give b.isel\(frame=0\)"):
        compare(a, a.expand_dims("frame"))
