"""A rod of plastic has the thickness of a cylinder, from its wavefront in real X-ray speckle."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import optimize

import wavedask as wd
from wavedask.optics import refractive_decrement

Floats = NDArray[np.float64]

PIXEL = 6.5e-6
RADIUS = 250 * PIXEL
"""Of the rod of solid PMMA, by its edges in the transmission; the axis is near column 804."""


def test_the_thickness_of_a_rod(fourrod: tuple[xr.DataArray, xr.DataArray]) -> None:
    """Measured: 1.01 of the tabulated thickness, and 4.3 um rms residual over 2460 um."""
    part = {"y": slice(190, 250), "x": slice(480, 1140)}
    reference, sample = (images.isel(part) for images in fourrod)
    tracked = wd.track(sample, reference, over="frame", window=15, search=6)
    wf = wd.wavefront(tracked, distance=0.7, pixel_size=PIXEL, energy=25.0).compute()
    # Perspex: C5H8O2 of 1.18 g/cm3. The thickness in mm.
    delta = refractive_decrement("C5H8O2", energy=25.0, density=1.18)
    # The rod is inclined: a few rows are at one place of it.
    profile = -1e3 / delta * wf.wavefront.isel(y=slice(10, 50)).mean("y").values
    column = np.arange(part["x"].start, part["x"].stop, dtype=np.float64)
    inside = np.abs(column - 804) < 0.85 * 250

    def rod(x: Floats, axis: float, size: float, level: float, tilt: float) -> Floats:
        away = (x - axis) / 250
        return np.asarray(size * 2e3 * RADIUS * np.sqrt(1 - away**2) + level + tilt * away)

    thickness = profile[inside]
    found, _ = optimize.curve_fit(rod, column[inside], thickness, (804.0, 1.0, 0.0, 0.0))
    assert found[1] == pytest.approx(1, abs=0.03)
    residual = thickness - rod(column[inside], *found)
    assert np.sqrt(np.mean(residual**2)) < 4e-3 * np.ptp(thickness)
