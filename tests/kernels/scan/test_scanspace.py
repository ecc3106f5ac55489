"""Matching in (scan, pixel) space on bare arrays: splines, delays, symmetry, speed of failure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from wavedask.kernels.fields import Fields
from wavedask.kernels.scan.lags import NOWHERE, whole_delays
from wavedask.kernels.scan.scanspace import (
    ScanMatch,
    derivative,
    derivative_filter,
    spline_coefficients,
)
from wavedask.simulate import speckle_field

SIDE = 28
INNER = np.s_[5:-5, 5:-5]
STEP = 0.5

Floats = NDArray[np.float32]


def stack(
    shape: tuple[int, int], shift: tuple[float, float], *, counts: float = 0.0, seed: int = 0
) -> Floats:
    """Frames (first, second, y, x) of a membrane in steps of half a pixel; `shift` is in px."""
    speckle = speckle_field(96, grain=4.0, seed=11)
    y, x = np.indices((SIDE, SIDE), np.float64)
    images = np.stack(
        [
            [speckle(y + shift[0] - STEP * i, x + shift[1] - STEP * j) for j in range(shape[1])]
            for i in range(shape[0])
        ]
    )
    if counts:
        images = np.random.default_rng(seed).poisson(counts * images) / counts
    return images.astype(np.float32)


@pytest.mark.parametrize("n", [7, 12, 40, 300])
def test_the_coefficients_are_those_of_a_spline(n: int) -> None:
    samples = np.random.default_rng(n).standard_normal(n)
    coefficients = spline_coefficients(n) @ samples
    known = make_interp_spline(np.arange(n), samples, k=3)
    for t in (0.0, 0.3, 0.5, 1.0):
        weights = [
            (1 - t) ** 3 / 6,
            2 / 3 - t**2 * (1 - t / 2),
            2 / 3 - (1 - t) ** 2 * (1 - (1 - t) / 2),
            t**3 / 6,
        ]
        ours = sum(w * coefficients[k : n - 1 + k] for k, w in enumerate(weights))
        np.testing.assert_allclose(ours, known(np.arange(n - 1) + t), atol=2e-5)


def test_derivatives_are_antisymmetric_and_quiet() -> None:
    matrix = derivative(20).astype(float)
    assert np.array_equal(np.diag(matrix), np.zeros(20))
    np.testing.assert_allclose(matrix, -matrix[::-1, ::-1], atol=1e-7)
    place = np.arange(20.0)
    np.testing.assert_allclose((matrix @ place**3)[3:-3], 3 * place[3:-3] ** 2, rtol=1e-4)
    assert np.sum(derivative_filter(3) ** 2) < 0.3


@pytest.mark.parametrize("line", [True, False])
@given(first=st.floats(-1.4, 1.4), second=st.floats(-1.4, 1.4))
@settings(max_examples=6, deadline=None)
def test_any_delay_is_found(line: bool, first: float, second: float) -> None:
    shape = (1, 32) if line else (14, 14)
    match = ScanMatch(line, (3, 3), (3, 5) if line else (5, 5))
    found = Fields(*match.match(stack(shape, (first, second)), stack(shape, (0, 0))))
    known = np.isfinite(found.displacement_x[INNER])
    assert known.mean() > 0.9
    expected = (-first if line else first / STEP, second / STEP)
    for values, true in zip((found.displacement_y, found.displacement_x), expected, strict=True):
        error = np.abs(values[INNER][known] - true)
        assert np.median(error) < 2e-3
        assert np.quantile(error, 0.95) < 0.02


@pytest.mark.parametrize("line", [True, False])
def test_swapping_the_scans_turns_the_sign(line: bool) -> None:
    shape = (1, 32) if line else (14, 14)
    match = ScanMatch(line, (3, 3), (3, 4) if line else (4, 4))
    stacks = [stack(shape, shift, counts=8000, seed=1) for shift in ((0.3, 0.7), (0, 0))]
    there, back = (Fields(*match.match(*pair)) for pair in (stacks, stacks[::-1]))
    # Not where the pixel is, but where the grain is: equal for a rigid shift, up to the noise.
    for name in ("displacement_y", "displacement_x"):
        sum_of_both = (getattr(there, name) + getattr(back, name))[INNER]
        assert np.nanstd(sum_of_both) < 0.02
        assert abs(np.nanmean(sum_of_both)) < 0.003


def test_errors_fall_with_the_counts_as_stated() -> None:
    match = ScanMatch(False, (3, 3), (4, 4))
    spreads = []
    for counts in (2000.0, 32000.0):
        found = Fields(
            *match.match(
                stack((14, 14), (0.3, -0.4), counts=counts, seed=1),
                stack((14, 14), (0, 0), counts=counts, seed=2),
            )
        )
        score = (found.displacement_x - -0.4 / STEP)[INNER] / found.uncertainty_x[INNER]
        assert 0.75 < np.nanstd(score) < 1.3
        spreads.append(np.nanmedian(found.uncertainty_x[INNER]))
    assert spreads[0] / spreads[1] == pytest.approx(4, rel=0.1)


def test_without_noise_the_error_is_that_of_the_sums() -> None:
    same = stack((1, 24), (0, 0))
    found = Fields(*ScanMatch(True, (3, 3), (2, 3)).match(same, same))
    assert np.nanmax(np.abs(found.displacement_x)) < 1e-4
    assert np.isfinite(found.uncertainty_x[INNER]).all()
    assert 0 < np.nanmax(found.uncertainty_x[INNER]) < 0.01
    np.testing.assert_allclose(found.correlation[INNER], 1, atol=1e-5)


def test_windows_deform_with_the_delay() -> None:
    speckle = speckle_field(96, grain=4.0, seed=11)
    y, x = np.indices((SIDE, SIDE), np.float64)
    bent = 0.04 * (x - SIDE / 2)
    sample, reference = (
        np.stack([speckle(y, x + shift - STEP * j) for j in range(40)])[None].astype(np.float32)
        for shift in (bent, 0)
    )
    found = Fields(*ScanMatch(True, (7, 7), (3, 5)).match(sample, reference))
    error = found.displacement_x - bent / STEP
    assert np.isfinite(error[INNER]).all()
    assert np.sqrt(np.mean(error[INNER] ** 2)) < 0.004
    assert found.correlation[INNER].min() > 0.9995


def test_the_edge_of_the_search_is_no_match() -> None:
    sample, reference = stack((1, 32), (0, 1.5)), stack((1, 32), (0, 0))
    known = np.ones((SIDE, SIDE), bool)
    centred = [part - part.mean(axis=(0, 1)) for part in (sample, reference)]
    lags = whole_delays(*centred, known, known, (3, 3), (2, 3), (0, 0), True)
    assert (lags[:, 5:-5, 5:-5] == NOWHERE).mean() > 0.95
    wide = whole_delays(*centred, known, known, (3, 3), (2, 5), (0, 0), True)
    assert (wide[1, 5:-5, 5:-5] == 3).mean() > 0.95
    around = whole_delays(*centred, known, known, (3, 3), (2, 2), (0, 4), True)
    assert (around[1, 5:-5, 5:-5] == 3).mean() > 0.95


def test_a_window_of_gaps_or_without_a_pattern_is_marked() -> None:
    sample, reference = stack((1, 32), (0.2, 0.3)), stack((1, 32), (0, 0))
    sample[:, :, :8] = np.nan
    sample[:, :, 18:, :9] = 1.0
    reference[0, 7, 14, 20] = np.nan  # one frame is enough
    found = Fields(*ScanMatch(True, (3, 3), (3, 4)).match(sample, reference))
    for part in (np.s_[:7], np.s_[20:, :7]):
        assert np.isnan(found.displacement_y[part]).all()
        assert np.isinf(found.uncertainty_x[part]).all()
        assert (found.window[part] == 0).all()
    assert np.isfinite(found.displacement_x[12:16, 18:23]).all()


def test_one_direction_does_not_tell_the_other() -> None:
    x = np.indices((SIDE, SIDE), np.float64)[1]
    pattern = speckle_field(96, grain=4.0, seed=2)
    # Stripes along y: nothing says how far they moved along themselves.
    stripes = np.stack([pattern(0.0, x - STEP * j) for j in range(32)])[None].astype(np.float32)
    found = Fields(*ScanMatch(True, (5, 5), (3, 4)).match(stripes, stripes))
    assert np.isnan(found.displacement_y).all()
