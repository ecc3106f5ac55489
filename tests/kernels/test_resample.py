"""Resampling by B-splines: exact speckle as truth, gaps, borders, and the inverse of a map."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wavedask.errors import InputError
from wavedask.kernels.resample import inverse_shift, resampled
from wavedask.kernels.spline import Order
from wavedask.simulate import Distortion, speckle_field

ORDERS: list[Order] = [3, 5]
SHAPE = (90, 110)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)


@pytest.fixture(scope="module")
def speckle() -> Any:
    return speckle_field(128, grain=4.0, contrast=0.25, seed=2)


@pytest.mark.parametrize(("order", "bound"), [(3, 1e-3), (5, 3e-4)])
def test_speckle_between_pixels_is_what_it_is(speckle: Any, order: Order, bound: float) -> None:
    y, x = Y + 2 * np.sin(X / 17) + 0.3, X + 1.5 * np.cos(Y / 13) - 0.4
    found = resampled(60000 * speckle(Y, X), y, x, order=order)
    error = found / 60000 - speckle(y, x)
    inner = (slice(8, -8),) * 2
    assert np.isfinite(found[inner]).all()
    assert error[inner].std() < bound


@pytest.mark.parametrize("order", ORDERS)
def test_at_the_pixels_it_is_the_image(speckle: Any, order: Order) -> None:
    image = speckle(Y, X)
    assert np.abs(resampled(image, Y, X, order=order) - image).max() < 1e-5


@given(shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)), order=st.sampled_from(ORDERS))
@settings(max_examples=15, deadline=None)
def test_it_is_the_spline_of_scipy_away_from_borders(
    shift: tuple[float, float], order: Order
) -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(5).random((50, 60)), 1.0)
    y, x = np.mgrid[16:34, 16:44] + np.reshape(shift, (2, 1, 1))
    theirs = ndimage.map_coordinates(image, [y, x], order=order, mode="mirror")
    assert np.abs(resampled(image, y, x, order=order) - theirs).max() < 2e-5


def test_a_plane_is_a_plane_up_to_the_border() -> None:
    plane = 3 * Y - 2 * X + 7
    y, x = np.array([0.0, 0.5, 88.5, 89.0]), np.array([108.5, 109.0, 0.25, 0.0])
    assert np.allclose(resampled(plane, y, x), 3 * y - 2 * x + 7, atol=2e-3)


def test_outside_is_nowhere() -> None:
    y = np.array([-0.01, 0.0, 89.0, 89.01, 5.0, 5.0, np.nan])
    x = np.array([5.0, 0.0, 109.0, 5.0, -3.0, 200.0, 5.0])
    found = resampled(np.ones(SHAPE), y, x)
    assert np.isfinite(found).tolist() == [False, True, True, False, False, False, False]


@pytest.mark.parametrize(("order", "support"), [(3, 4), (5, 6)])
def test_a_gap_blanks_the_support_of_the_spline_and_no_more(order: Order, support: int) -> None:
    image = np.ones(SHAPE)
    image[40, 50] = np.nan
    assert np.isnan(resampled(image, Y, X, order=order)).sum() == 1
    half = resampled(image, Y[:-1, :-1] + 0.5, X[:-1, :-1] + 0.5, order=order)
    rows, columns = np.nonzero(np.isnan(half))
    assert half.size - np.isfinite(half).sum() == support**2
    assert rows.min() + support // 2 == 40
    assert columns.max() - columns.min() == support - 1


def test_a_gap_hardly_disturbs_what_is_beside_it(speckle: Any) -> None:
    image = speckle(Y, X)
    holed = image.copy()
    holed[40, 50] = np.nan
    y, x = Y[10:-10, 10:-10] + 0.5, X[10:-10, 10:-10] + 0.5
    change = resampled(holed, y, x) - resampled(image, y, x)
    assert np.nanmax(np.abs(change)) < 0.02  # of a contrast of 0.25


def test_inverse_of_a_distortion() -> None:
    bent = Distortion(SHAPE, barrel=2.0)
    f_y, f_x = (part.astype(np.float32) for part in bent(Y, X))
    shift_y, shift_x = inverse_shift(f_y, f_x)
    at_y, at_x = bent.distorted(Y, X)
    assert np.isfinite(shift_y).all()
    assert np.abs(Y + shift_y - at_y).max() < 1e-3
    assert np.abs(X + shift_x - at_x).max() < 1e-3


def test_what_the_map_does_not_know_or_brings_from_outside_is_lost() -> None:
    f = np.full(SHAPE, -2.0, np.float32)  # the true pixel q lies at q + 2
    f[:, :10] = np.nan
    shift_y, _ = inverse_shift(f, 0 * f)
    lost = np.isnan(shift_y)
    assert lost[-2:].all()
    assert lost[:, :10].all()
    assert not lost[:-2, 10:].any()


def test_a_map_that_folds_has_no_inverse() -> None:
    f = (4 * np.sin(Y)).astype(np.float32)
    with pytest.raises(InputError, match="no inverse"):
        inverse_shift(f, 0 * f)
    with pytest.raises(InputError, match="unknown everywhere"):
        inverse_shift(np.full(SHAPE, np.nan, np.float32), 0 * f)
