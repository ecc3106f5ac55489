"""The kernels of template matching, one by one."""

from functools import partial

import numpy as np
import pytest

from wavedask.kernels.fields import Reason
from wavedask.kernels.grids import anchored, cubic_weights, interpolate, linear_weights, median_of
from wavedask.kernels.start.matching import Matches, windows_between
from wavedask.kernels.start.outliers import without_outliers
from wavedask.kernels.start.peaks import quadratic_peak
from wavedask.kernels.start.rigid import rigid_shift, shifted
from wavedask.simulate import displaced_pair


def test_windows_grow_in_odd_steps_and_end_at_the_largest() -> None:
    for smallest, largest in ((5, 5), (5, 7), (11, 41), (21, 101)):
        sides = windows_between(smallest, largest)
        assert sides[0] == smallest
        assert sides[-1] == largest
        assert sides == sorted(set(sides))
        assert all(side % 2 for side in sides)


def test_a_quadratic_peak_is_exact_and_a_saddle_refused() -> None:
    y, x = np.mgrid[-1:2, -1:2]
    random = np.random.default_rng(0)
    for offset_y, offset_x in random.uniform(-0.5, 0.5, (20, 2)):
        v, u = y - offset_y, x - offset_x
        patch = 0.9 - 0.2 * v**2 - 0.1 * u**2 + 0.05 * u * v
        found = quadratic_peak(patch[None].astype(np.float32))
        np.testing.assert_allclose([found[0][0], found[1][0]], [offset_y, offset_x], atol=1e-5)
        assert found[2][0] == pytest.approx(0.9, abs=1e-5)
    saddle = (0.5 + 0.1 * x**2 - 0.1 * y**2)[None].astype(np.float32)
    ridge = (0.5 - 0.1 * x**2 + 0 * y)[None].astype(np.float32)
    far = (0.5 - 0.1 * (x - 1.4) ** 2 - 0.1 * y**2)[None].astype(np.float32)
    for patch in (saddle, ridge, far):
        assert np.isnan(quadratic_peak(patch)[0]).all()


def field(u: np.ndarray) -> Matches:
    u = u.astype(np.float32)
    reason = np.where(np.isnan(u), Reason.AMBIGUOUS, Reason.MATCHED).astype(np.uint8)
    return Matches(u, np.zeros_like(u), np.ones_like(u), np.full(u.shape, 21, np.int16), reason)


def test_an_outlier_is_replaced_and_a_gradient_kept() -> None:
    y, x = np.mgrid[:9, :9]
    ramp = 1.5 * y - 0.7 * x
    spoiled = ramp.copy()
    spoiled[4, 4] += 9
    spoiled[2, 6] = np.nan
    clean, *_ = without_outliers(field(spoiled), spacing=21)
    np.testing.assert_allclose(clean, ramp, atol=1e-5)


def test_random_vectors_and_lonely_ones_are_dropped() -> None:
    random = np.random.default_rng(1).uniform(-16, 16, (20, 20))
    clean, *_ = without_outliers(field(random), spacing=21)
    assert np.isnan(clean).mean() > 0.8
    lonely = np.full((9, 9), np.nan)
    lonely[4, 4] = 1.0
    assert np.isnan(without_outliers(field(lonely), spacing=21)[0]).all()
    alone, *_ = without_outliers(field(np.array([[2.0]])), spacing=21)
    assert alone.item() == 2.0


def test_anchored_grids_do_not_depend_on_the_tile() -> None:
    whole = set(anchored(0, 100, step=7, offset=3).tolist())
    for start, stop in ((0, 100), (13, 77), (20, 21)):
        part = set(anchored(start, stop, step=7, offset=3).tolist())
        assert part == {point for point in whole if start <= point < stop}


def test_interpolation_is_exact_for_what_it_claims() -> None:
    grid = anchored(0, 41, step=4)
    pixels = np.arange(41)
    for weights, polynomial in (
        (linear_weights, [0.3, -1.0]),
        (cubic_weights, [0.3, -1.0]),
        (cubic_weights, [0.01, 0.3, -1.0]),
    ):
        values = weights(grid, pixels) @ np.polyval(polynomial, grid)
        inner = slice(4, -4) if len(polynomial) == 3 else slice(None)
        np.testing.assert_allclose(values[inner], np.polyval(polynomial, pixels)[inner])


def test_a_gap_stays_a_gap_and_spoils_nothing() -> None:
    grid = anchored(0, 41, step=4)
    values = np.add.outer(grid * 1.0, 2.0 * grid)
    values[5, 5] = np.nan
    pixels = np.arange(41)
    spread = partial(
        interpolate, values, rows=grid, columns=grid, pixel_rows=pixels, pixel_columns=pixels
    )
    found = spread()
    truth = np.add.outer(pixels * 1.0, 2.0 * pixels)
    assert np.isnan(found[19:21, 19:21]).all()
    known = np.isfinite(found)
    assert (~known).sum() == 7**2  # the four cells around it
    bridged = spread(cubic=False, bridge=True)
    assert np.isnan(bridged).sum() == 4**2
    np.testing.assert_allclose(found[known], truth[known])


def test_median_of_what_is_there() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=(8, 30))
    values[random.random(values.shape) < 0.4] = np.nan
    np.testing.assert_allclose(median_of(values), np.nanmedian(values, axis=0))


@pytest.mark.parametrize("shift", [(0, 0), (37, -52), (-80, 3)])
def test_rigid_shift_of_whole_frames(shift: tuple[int, int]) -> None:
    pair = displaced_pair(
        (256, 300), displacement_y=shift[0] + 0.3, displacement_x=shift[1] - 0.2, seed=1
    )
    sample = pair.sample.copy()
    sample[50:70, 200:240] = np.nan
    found = rigid_shift(sample, pair.reference, window=21, search=8)
    np.testing.assert_allclose(found, shift, atol=1)  # the search takes up the rest


def test_the_noise_of_a_common_flat_field_does_not_hold_a_shift_back() -> None:
    # Where grains are large, all high frequencies are noise, which both images share.
    pair = displaced_pair((256, 256), displacement_x=-15.3, grain=12.0, counts=1e6, seed=3)
    noise = 1 + 0.03 * np.random.default_rng(1).normal(size=(256, 256))
    found = rigid_shift(pair.sample / noise, pair.reference / noise, window=21, search=16)
    np.testing.assert_allclose(found, (0, -15), atol=1)


@pytest.mark.parametrize("seed", [3, 9])
def test_a_shift_that_varies_is_found_behind_a_frame_that_stays(seed: int) -> None:
    # The peak of the correlation is spread over 34 px, and the edges of the frame have one at zero.
    y, x = np.mgrid[:320, :320]
    pair = displaced_pair(
        (320, 320),
        displacement_y=57 + 34 * (y / 320 - 0.5),
        displacement_x=21 + 34 * (x / 320 - 0.5),
        contrast=0.1,
        seed=seed,
    )
    away = np.maximum(np.abs(y - 160), np.abs(x - 160))
    frame = np.where(away < 134, 1.0, 0.2)
    found = rigid_shift(pair.sample * frame, pair.reference * frame, window=21, search=20)
    np.testing.assert_allclose(found, (57, 21), atol=8)


def test_no_rigid_shift_is_made_up() -> None:
    y, x = np.mgrid[:256, :256]
    lens = displaced_pair(
        (256, 256), displacement_y=0.09 * (y - 128), displacement_x=0.09 * (x - 128), seed=2
    )
    assert max(map(abs, rigid_shift(lens.sample, lens.reference, window=21, search=16))) <= 8
    noise = np.random.default_rng(0).normal(size=(2, 128, 128))
    flat = np.ones((128, 128))
    assert rigid_shift(flat, flat, window=21, search=8) == (0, 0)
    rigid_shift(noise[0], noise[1], window=21, search=8)  # any answer, but an answer


def test_shifting_by_more_than_the_frame_leaves_nothing() -> None:
    assert np.isnan(shifted(np.ones((4, 5)), (-9, 2))).all()
