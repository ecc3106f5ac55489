"""The public face of integration: kinds of arrays, laziness, labels, units and errors."""

import logging
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from support.laziness import forbid_computing

from wavedask.errors import InputError
from wavedask.wavefront.integration import METHODS, Method, equal_step, integrate

SHAPE = (5, 12, 15)
untyped_integrate: Any = integrate
"""For arguments that a type checker would refuse, too."""


def slopes(*, seed: int = 0, dtype: npt.DTypeLike = np.float64) -> list[npt.NDArray[Any]]:
    return list(np.random.default_rng(seed).normal(size=(2, *SHAPE)).astype(dtype))


def labelled_slopes(units: str | None = "rad") -> list[xr.DataArray]:
    y = ("y", 2e-6 * np.arange(SHAPE[1]), {"units": "m"})
    x = ("x", 1e-3 + 3e-6 * np.arange(SHAPE[2]), {"units": "m"})
    motor = ("frame", np.linspace(1.0, 2.0, SHAPE[0]), {"units": "mm"})
    return [
        xr.DataArray(
            values,
            dims=("frame", "y", "x"),
            coords={"y": y, "x": x, "lens_x": motor},
            attrs={} if units is None else {"units": units},
        )
        for values in slopes()
    ]


def lazy(array: npt.NDArray[Any], chunks: tuple[int, ...] = (2, 5, 4)) -> da.Array:
    blocks: da.Array = da.from_array(array, chunks=chunks)
    return blocks


@pytest.mark.parametrize("method", METHODS)
def test_dask_gives_what_numpy_gives_and_computes_nothing_before(method: Method) -> None:
    one, two = slopes()
    with forbid_computing():
        surface = integrate(lazy(one), lazy(two), method=method)
    assert surface.chunks == ((1,) * 5, (12,), (15,))
    np.testing.assert_array_equal(surface.compute(), integrate(one, two, method=method))


def test_each_map_of_a_stack_is_integrated_on_its_own() -> None:
    one, two = slopes()
    stack = integrate(one, two)
    for index in range(SHAPE[0]):
        np.testing.assert_array_equal(stack[index], integrate(one[index], two[index]))


@pytest.mark.parametrize("weights_shape", [SHAPE, SHAPE[1:], (1, *SHAPE[1:])])
def test_weights_are_one_map_or_as_many_as_there_are_slopes(
    weights_shape: tuple[int, ...],
) -> None:
    one, two = slopes()
    weights = np.random.default_rng(5).uniform(0.2, 1, weights_shape)
    surface = integrate(one, two, weights=weights)
    expected = integrate(one[3], two[3], weights=np.broadcast_to(weights, SHAPE)[3])
    np.testing.assert_array_equal(surface[3], expected)
    for given in (weights, da.from_array(weights)):
        chunked = integrate(lazy(one), lazy(two), weights=given)
        np.testing.assert_array_equal(chunked.compute(), surface)


@pytest.mark.parametrize(
    ("given", "result"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.int16, np.float32)],
)
def test_the_surface_has_the_precision_of_the_slopes(given: type, result: type) -> None:
    one, two = (10 * np.array(slopes())).astype(given)
    assert integrate(one, two).dtype == result
    assert integrate(lazy(one), lazy(two)).dtype == result
    assert integrate(lazy(one), lazy(two)).compute().dtype == result


def test_single_precision_is_solved_in_double() -> None:
    one, two = slopes(dtype=np.float32)
    expected = integrate(one.astype(np.float64), two.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(integrate(one, two), expected)


def test_labels_give_step_unit_and_name() -> None:
    one, two = labelled_slopes()
    surface = integrate(one, two)
    assert (surface.name, surface.attrs["units"]) == ("wavefront", "m")
    assert "wavefront" in surface.attrs["long_name"]
    assert surface.dims == ("frame", "y", "x")
    xr.testing.assert_equal(surface["lens_x"], one["lens_x"])
    np.testing.assert_allclose(
        surface, integrate(one.to_numpy(), two.to_numpy(), spacing=(2e-6, 3e-6)), rtol=1e-9
    )


def test_labelled_slopes_stay_lazy() -> None:
    one, two = (array.chunk({"frame": 2, "y": 5}) for array in labelled_slopes())
    weights = xr.DataArray(np.ones(SHAPE[1:]), dims=("y", "x")).chunk({"x": 3})
    with forbid_computing():
        surface = integrate(one, two, weights=weights)
    assert surface.chunks == ((1,) * 5, (12,), (15,))
    xr.testing.assert_allclose(
        surface.compute(), integrate(*labelled_slopes()), rtol=1e-6, atol=1e-13
    )


def test_the_order_of_the_dimensions_does_not_matter() -> None:
    one, two = labelled_slopes()
    turned = integrate(one.transpose("x", "y", "frame"), two.transpose("y", "frame", "x"))
    assert turned.dims == ("frame", "y", "x")
    xr.testing.assert_equal(turned, integrate(one, two))


def test_a_falling_coordinate_mirrors_the_surface() -> None:
    one, two = labelled_slopes()
    back = slice(None, None, -1)
    mirrored = integrate(one.isel(y=back), two.isel(y=back)).isel(y=back)
    xr.testing.assert_allclose(mirrored, integrate(one, two), rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize(
    ("slope_unit", "length_unit", "expected"),
    [
        ("rad", "m", "m"),
        ("1", "px", "px"),
        ("px", "px", "px px"),
        (None, "m", "unknown"),
        ("rad", None, "unknown"),
    ],
)
def test_the_unit_is_that_of_slope_times_length(
    slope_unit: str | None, length_unit: str | None, expected: str
) -> None:
    one, two = labelled_slopes(slope_unit)
    for array in (one, two):
        for dim in ("y", "x"):
            array[dim].attrs = {} if length_unit is None else {"units": length_unit}
    assert integrate(one, two).attrs["units"] == expected


def test_without_coordinates_lengths_are_pixels() -> None:
    one, two = (array.drop_vars(["y", "x"]) for array in labelled_slopes())
    assert integrate(one, two).attrs["units"] == "px"
    assert integrate(one, two, spacing=2.0).attrs["units"] == "unknown"
    np.testing.assert_allclose(integrate(one, two, spacing=2.0), 2 * integrate(one, two))


def test_a_dead_frame_is_logged_by_its_number_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, two = slopes()
    one[3] = np.nan
    with caplog.at_level(logging.WARNING, "wavedask"):
        surface = integrate(lazy(one), lazy(two)).compute()
    assert [record.getMessage() for record in caplog.records] == [
        "integrate, map (3): no pixel has data: the surface is NaN"
    ]
    assert np.isnan(surface[3]).all()
    assert np.isfinite(np.delete(surface, 3, axis=0)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: untyped_integrate(a, b[:, 1:]), r"\(5, 12, 15\).*\(5, 11, 15\)"),
        (lambda a, b: untyped_integrate(a[0, 0], b[0, 0]), r"shape \(15,\)"),
        (lambda a, b: untyped_integrate(a[:0], b[:0]), "empty axis"),
        (lambda a, b: untyped_integrate(a + 1j, b), "complex128"),
        (
            lambda a, b: untyped_integrate(a, b, method="least_square"),
            "did you mean 'least_squares'",
        ),
        (lambda a, b: untyped_integrate(a, b, method="grad2surf", weights=a), "takes no weights"),
        (
            lambda a, b: untyped_integrate(a, b, weights=a[:2]),
            r"weights have the shape \(2, 12, 15\)",
        ),
        (
            lambda a, b: untyped_integrate(a, b, weights=a[0].T),
            r"weights have the shape \(15, 12\)",
        ),
        (lambda a, b: untyped_integrate(a, b, weights=a), "weights hold the value -"),
        (lambda a, b: untyped_integrate(a, b, spacing=0.0), "spacing is 0.0"),
        (lambda a, b: untyped_integrate(a, b, spacing=(1.0, np.nan)), "spacing is"),
        (lambda a, b: untyped_integrate(a, b, spacing=(1.0, 1.0, 1.0)), "spacing is"),
        (lambda a, b: untyped_integrate(xr.DataArray(a), b), "have labels"),
        (lambda a, b: untyped_integrate(a, b, weights=xr.DataArray(a)), "have labels"),
        (lambda a, b: untyped_integrate(xr.DataArray(a), xr.DataArray(b)), "dim_0"),
    ],
)
def test_bad_input_is_refused(
    change: Callable[[npt.NDArray[Any], npt.NDArray[Any]], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        change(*slopes())


def test_slopes_on_different_pixels_are_refused() -> None:
    one, two = labelled_slopes()
    with pytest.raises(InputError, match="second numbers other pixels"):
        integrate(one, two.assign_coords(y=two["y"] + 1e-6))


@pytest.mark.parametrize("positions", [[0.0, 1.0, 3.0], [0.0, 1.0, np.nan], [2.0, 2.0, 2.0]])
def test_unequal_steps_are_refused(positions: list[float]) -> None:
    with pytest.raises(InputError, match="not equally spaced"):
        equal_step(xr.DataArray(np.zeros(3), coords={"x": positions}, dims="x"), "x")


def test_slopes_of_overlapping_pixels_are_integrated_where_both_are() -> None:
    one, two = labelled_slopes()
    whole = integrate(one.isel(y=slice(2, 9)), two.isel(y=slice(2, 9)))
    weights = xr.ones_like(one).isel(x=slice(None, None, -1))
    overlap = integrate(one.isel(y=slice(0, 9)), two.isel(y=slice(2, None)), weights=weights)
    xr.testing.assert_allclose(overlap, whole)


def test_masked_arrays_are_gaps() -> None:
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    hidden = np.zeros(y.shape, bool)
    hidden[10:14, 9:12] = True
    slopes = [np.where(hidden, 1e3, -part) for part in (y, x)]
    expected = integrate(*(np.where(hidden, np.nan, slope) for slope in slopes))
    masked = [np.ma.array(slope, mask=hidden) for slope in slopes]
    lazy = [da.from_array(part, chunks=12) for part in masked]
    weights = np.ma.array(np.ones(y.shape), mask=hidden)
    for found in (
        integrate(*masked),
        integrate(*slopes, weights=weights),
        np.asarray(integrate(*lazy)),
        np.asarray(integrate(*(da.from_array(s) for s in slopes), weights=da.from_array(weights))),
    ):
        assert not isinstance(found, np.ma.MaskedArray)
        np.testing.assert_allclose(found, expected, atol=1e-12)
