"""The low-pass: its response, and what it leaves alone."""

import numpy as np
import pytest
from scipy import ndimage

from wavedask.kernels.dense.lowpass import SHARPNESS, SIGMA, smoothed


@pytest.mark.parametrize("sigma", [1.5, 2.7])
def test_the_low_pass_is_that_of_its_formula(sigma: float) -> None:
    impulse = np.zeros((120, 130), np.float32)
    impulse[60, 65] = 1
    found = smoothed(impulse, sigma)
    # Far from the border the mirror image is as good as a period.
    spectrum = np.fft.fft2(impulse)
    rest = spectrum.copy()
    for _ in range(SHARPNESS):
        rest = rest - ndimage.fourier_gaussian(rest, sigma)
    expected = np.fft.ifft2(spectrum - rest).real
    assert np.abs(found - expected).max() < 1e-4


def test_the_low_pass_keeps_what_is_wide_and_drops_what_is_narrow() -> None:
    half, step = 7, 3
    sigma = SIGMA * half / step
    nodes = np.arange(200) * step
    passed = {}
    for windows in (1.0, 6.0):
        wave = np.sin(2 * np.pi * nodes / (windows * 15))
        image = np.broadcast_to(wave, (200, 200)).astype(np.float32)
        found = smoothed(np.ascontiguousarray(image), sigma)
        passed[windows] = float((found[100, 50:150] @ wave[50:150]) / (wave[50:150] @ wave[50:150]))
    assert passed[6.0] == pytest.approx(1, abs=1e-3)
    assert passed[1.0] < 0.05


@pytest.mark.parametrize("gradient", [0.0, 0.1])
def test_a_field_with_a_trend_stays_as_it_is(gradient: float) -> None:
    y, x = np.mgrid[:90, :110].astype(np.float32)
    field = 3 + gradient * y - gradient * x + 1e-3 * (y - 45) ** 2
    found = smoothed(field, 2.6)
    assert np.abs(found - field).max() < 1e-3


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.0])
def test_a_wave_of_three_windows_stays_at_the_border(phase: float) -> None:
    half, step = 10, 4
    nodes = np.arange(64) * step
    wave = np.sin(2 * np.pi * nodes / (3 * (2 * half + 1)) + phase)
    field = np.ascontiguousarray(np.broadcast_to(wave, (60, 64)), np.float32)
    lost = np.abs(smoothed(field, SIGMA * half / step) - field)
    # A straight line beyond the border loses 0.14 in the last column and 0.07 before it.
    assert lost[:, [0, -1]].max() < 0.13
    assert lost[:, 3:-3].max() < 0.06
