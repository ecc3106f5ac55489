"""The spectrum of a wavefront has the power of its heights, at the right frequencies."""

import numpy as np
import pytest
import xarray as xr

from wavedask.errors import InputError
from wavedask.optics import psd

STEP = 0.65e-6


def wavefront(heights: np.ndarray) -> xr.Dataset:
    axes = {
        dim: (dim, np.arange(size) * STEP, {"units": "m"})
        for dim, size in zip(("y", "x"), heights.shape[-2:], strict=True)
    }
    dims = ("frame", "y", "x")[-heights.ndim :]
    return xr.Dataset({"wavefront": (dims, heights, {"units": "m"})}, axes)


def power(spectrum: xr.DataArray) -> float:
    (name,) = spectrum.dims
    frequency = spectrum[name].values
    return float(spectrum.values.sum() * (frequency[1] - frequency[0]))


@pytest.mark.parametrize("shape", [(128, 96), (127, 95)])
def test_the_integral_is_the_variance(shape: tuple[int, int]) -> None:
    heights = np.random.default_rng(1).normal(scale=2e-9, size=shape)
    heights += 1e-6 * np.arange(shape[1])  # a tilt does not count
    spectrum = psd(wavefront(heights))
    for array in (spectrum.psd_y, spectrum.psd_x):
        assert power(array) == pytest.approx(4e-18, rel=0.08)
        assert array.attrs["units"] == "m3"
    assert float(spectrum.frequency_x.max()) == pytest.approx(1 / (2 * STEP), rel=0.02)


def test_a_mask_costs_no_power() -> None:
    heights = np.random.default_rng(2).normal(scale=1e-9, size=(128, 128))
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    heights[y**2 + x**2 > 0.8] = np.nan
    assert power(psd(wavefront(heights)).psd_x) == pytest.approx(1e-18, rel=0.1)


def test_a_slope_of_the_spectrum_is_found() -> None:
    # Figure of a polished mirror: amplitudes fall with the frequency, here power as f^-2.
    rng = np.random.default_rng(3)
    size = 1024
    frequency = np.fft.rfftfreq(size)[1:]
    lines = []
    for _ in range(64):
        amplitude = np.zeros(size // 2 + 1, complex)
        amplitude[1:] = (rng.normal(size=(2, size // 2)).T @ [1, 1j]) / frequency
        lines.append(np.fft.irfft(amplitude, size))
    spectrum = psd(wavefront(1e-9 * np.array(lines))).psd_x.values[8:200]
    found = np.polyfit(np.log(np.arange(spectrum.size) + 9.0), np.log(spectrum), 1)[0]
    assert found == pytest.approx(-2, abs=0.1)


def test_frames_stay_lazy_and_apart() -> None:
    heights = np.random.default_rng(4).normal(size=(3, 16, 12))
    eager, lazy = psd(wavefront(heights)), psd(wavefront(heights).chunk({"frame": 1, "y": 8}))
    assert lazy.psd_y.chunks is not None
    assert lazy.psd_y.dims == ("frame", "frequency_y")
    xr.testing.assert_allclose(eager, lazy.compute())


def test_what_has_no_spectrum() -> None:
    with pytest.raises(InputError, match="7 x 20 pixels"):
        psd(wavefront(np.zeros((7, 20))))
    with pytest.raises(InputError, match="no 'residual'"):
        psd(wavefront(np.zeros((20, 20))), variable="residual")
    uneven = wavefront(np.zeros((20, 20))).assign_coords(x=np.geomspace(1, 2, 20))
    with pytest.raises(InputError, match="no equal, increasing steps"):
        psd(uneven)
    pixels = wavefront(np.zeros((20, 20)))
    pixels.x.attrs["units"] = "px"
    with pytest.raises(InputError, match="'x' is in 'px'"):
        psd(pixels)
    assert np.isnan(psd(wavefront(np.full((20, 20), np.nan))).psd_x).all()
