"""B-spline kernels against scipy.ndimage."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels.spline import Order, SplineFilters, coefficients, displaced_row, gradient

Floats = NDArray[np.float32]
ORDERS: list[Order] = [3, 5]


def speckle(shape: tuple[int, int] = (60, 70)) -> Floats:
    noise = np.random.default_rng(3).standard_normal(shape)
    return np.asarray(ndimage.gaussian_filter(noise, 1.2), np.float32)


def displaced(image: Floats, u_y: Any, u_x: Any, *, order: Order, margin: int = 24) -> Floats:
    """All rows of an image, displaced."""
    spline = coefficients(image, SplineFilters.of_order(order).prefilter, margin)
    out = np.empty_like(image)
    v_y, v_x = (np.broadcast_to(u, image.shape).astype(np.float32) for u in (u_y, u_x))
    whole = np.empty((2, image.shape[1]), np.int32)
    for y in range(len(image)):
        displaced_row(spline, margin, order, y, 0, v_y[y], v_x[y], whole, out[y])
    return out


@pytest.mark.parametrize("order", ORDERS)
def test_coefficients_are_those_of_scipy(order: Order) -> None:
    image = speckle()
    ours = coefficients(image, SplineFilters.of_order(order).prefilter, 6)
    theirs = ndimage.spline_filter(image, order, mode="mirror", output=np.float64)
    assert ours.shape == (72, 82)
    assert np.abs(ours[6:-6, 6:-6] - theirs).max() < 1e-5 * np.abs(theirs).max()
    assert (ours[:6] == ours[6]).all()
    assert (ours[:, -6:] == ours[:, -7:-6]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_a_spline_goes_through_its_pixels(order: Order) -> None:
    image = speckle()
    # At the border the coefficients are repeated and not mirrored.
    difference = displaced(image, 0, 0, order=order) - image
    assert np.abs(difference[2:-2, 2:-2]).max() < 3e-6


@pytest.mark.parametrize("order", ORDERS)
def test_displaced_rows_are_those_of_scipy(order: Order) -> None:
    image = speckle()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float64)
    u_y = 3.3 + 2.1 * np.sin(x / 9) - 0.05 * y
    u_x = -2.7 + 1.9 * np.cos(y / 7) + 0.08 * x
    theirs = ndimage.map_coordinates(
        image.astype(np.float64), [y - u_y, x - u_x], order=order, mode="mirror"
    )
    inside = (y - u_y > 3) & (y - u_y < 56) & (x - u_x > 3) & (x - u_x < 66)
    assert inside.mean() > 0.6
    difference = np.abs(displaced(image, u_y, u_x, order=order) - theirs)[inside]
    # A float32 of 50 px knows its place to 4e-6 px.
    assert difference.max() < 2e-5


@settings(max_examples=25, deadline=None)
@given(
    order=st.sampled_from(ORDERS),
    u_y=st.floats(-500, 500, width=32),
    u_x=st.floats(-500, 500, width=32),
)
def test_outside_the_image_there_is_something_finite(order: Order, u_y: float, u_x: float) -> None:
    image = speckle((24, 30))
    found = displaced(image, u_y, u_x, order=order, margin=10)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 2 * np.abs(image).max()


@pytest.mark.parametrize("order", ORDERS)
def test_the_margin_repeats_the_edge(order: Order) -> None:
    image = speckle((40, 50))
    found = displaced(image, 0.4, 12.3, order=order, margin=20)
    # Columns 0 to 8 come from beyond the left edge, where nothing changes along a row.
    assert np.ptp(found[:, :8], axis=1).max() < 1e-5
    assert np.ptp(found[:, 16:], axis=1).min() > 0.1


@pytest.mark.parametrize("order", ORDERS)
def test_the_gradient_is_that_of_the_spline(order: Order) -> None:
    image = speckle()
    out_y, out_x = np.empty_like(image), np.empty_like(image)
    gradient(image, SplineFilters.of_order(order).gradient, out_y, out_x)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float64)
    small = 1e-3

    def at(d_y: float, d_x: float) -> NDArray[np.float64]:
        return np.asarray(
            ndimage.map_coordinates(
                image.astype(np.float64), [y + d_y, x + d_x], order=order, mode="mirror"
            )
        )

    numeric_y = (at(small, 0) - at(-small, 0)) / (2 * small)
    numeric_x = (at(0, small) - at(0, -small)) / (2 * small)
    assert np.abs(out_y - numeric_y)[2:-2].max() < 1e-4 * np.abs(numeric_y).max()
    assert np.abs(out_x - numeric_x)[:, 2:-2].max() < 1e-4 * np.abs(numeric_x).max()


@pytest.mark.parametrize("order", ORDERS)
def test_the_gradient_of_a_wave(order: Order) -> None:
    x = np.arange(200)
    image = np.broadcast_to(np.sin(2 * np.pi * x / 10), (50, 200)).astype(np.float32)
    out_y, out_x = np.empty_like(image), np.empty_like(image)
    gradient(np.ascontiguousarray(image), SplineFilters.of_order(order).gradient, out_y, out_x)
    truth = 2 * np.pi / 10 * np.cos(2 * np.pi * x / 10)
    assert np.abs(out_x[:, 30:-30] - truth[30:-30]).max() < {3: 4e-3, 5: 4e-4}[order]
    assert np.abs(out_y).max() < 1e-6


@pytest.mark.parametrize("order", ORDERS)
def test_a_tile_with_a_halo_gives_what_the_frame_gives(order: Order) -> None:
    image = speckle((120, 120))
    filters = SplineFilters.of_order(order)
    halo = filters.prefilter.size
    whole = coefficients(image, filters.prefilter, 0)
    part = coefficients(np.ascontiguousarray(image[40:, 30:]), filters.prefilter, 0)
    difference = np.abs(part[halo:, halo:] - whole[40 + halo :, 30 + halo :])
    assert difference.max() < 3e-6
