"""A mesh of frames becomes two dimensions, whatever its order and the noise of its encoders."""

import logging
from typing import Any, cast

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.laziness import forbid_computing

from wavedask.errors import InputError, MotorError
from wavedask.frames.regrid import grid


def mesh(order: Any, *, noise: float = 0.0, shape: tuple[int, int] = (3, 4)) -> xr.Dataset:
    """Frames of a mesh in an order; each holds its number of the cell, row by row."""
    rng = np.random.default_rng(1)
    cells = np.asarray(order)
    lines = np.stack(np.divmod(cells, shape[1]), axis=1)
    read = lines * (0.5, 2.0) + (10.0, -3.0) + rng.uniform(-noise, noise, lines.shape)
    image = da.from_array(cells[:, None, None] * np.ones((1, 2, 2)), chunks=(1, 2, 2))
    return xr.Dataset(
        {
            "wavefront": (("frame", "y", "x"), image, {"units": "m"}),
            "number": ("frame", cells),
            "flat": (("y", "x"), np.ones((2, 2))),
        },
        {
            "lens_y": ("frame", read[:, 0], {"units": "mm", "role": "motor"}),
            "lens_x": ("frame", read[:, 1], {"units": "um"}),
            "name": ("frame", np.array([f"f{k}" for k in cells], dtype=object)),
            "complete": ("frame", cells >= 0, {"long_name": "frame has been written whole"}),
            "time": ("frame", np.datetime64("2026-11-22", "ns") + cells),
            "energy": 17.0,
        },
        {"title": "mesh"},
    )


@given(st.permutations(range(12)), st.floats(0, 0.06))
@settings(deadline=None, max_examples=30)
def test_any_order_and_noise_gives_the_mesh(order: list[int], noise: float) -> None:
    with forbid_computing():
        found = grid(mesh(order, noise=noise), "lens_y", "lens_x")
    assert found.wavefront.dims == ("lens_y", "lens_x", "y", "x")
    np.testing.assert_array_equal(found.number, np.arange(12).reshape(3, 4))
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(found.wavefront[..., 0, 1], np.arange(12).reshape(3, 4))
    np.testing.assert_allclose(found.lens_y, [10, 10.5, 11], atol=0.06)
    np.testing.assert_allclose(found.lens_x, [-3, -1, 1, 3], atol=0.06)
    np.testing.assert_array_equal(found.frame_count, 1)
    np.testing.assert_array_equal(np.array(order)[found.frame_number], found.number)


def test_labels_stay_and_whole_numbers_stay_whole() -> None:
    found = grid(mesh(range(12)), "lens_y", "lens_x")
    assert found.lens_y.attrs["units"] == "mm"
    assert found.wavefront.attrs["units"] == "m"
    assert found.attrs == {"title": "mesh"}
    assert found.number.dtype.kind == "i"
    assert found.flat.dims == ("y", "x")
    assert found.name.sel(lens_y=10.5, lens_x=-3).item() == "f4"
    assert {"name", "time", "complete", "energy", "frame_number"} <= set(found.coords)
    assert found.wavefront.sel(lens_x=1.2, method="nearest").sizes == {"lens_y": 3, "y": 2, "x": 2}


def test_gaps_hold_nothing_and_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        found = grid(mesh([k for k in range(12) if k not in (1, 6)]), "lens_y", "lens_x")
    assert "2 of 12 positions have no frame: (lens_y 10, lens_x -1), (lens_y 10.5" in caplog.text
    gap = found.isel(lens_y=0, lens_x=1)
    assert gap.frame_number.item() == -1
    assert gap.frame_count.item() == 0
    assert np.isnan(gap.wavefront.values).all()
    assert np.isnan(gap.number)
    assert gap.name.item() == ""
    assert gap.complete.dtype == bool
    assert not gap.complete
    assert np.isnat(gap.time.values)
    assert found.isel(lens_y=0, lens_x=2).wavefront.values.min() == 2


def test_of_repeated_frames_the_last_counts(caplog: pytest.LogCaptureFixture) -> None:
    data = mesh([*range(12), 5, 5], noise=0.05)
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        found = grid(data, "lens_y", "lens_x")
    assert "1 of 12 positions have several frames" in caplog.text
    assert found.frame_count.values[1, 1] == 3
    assert found.frame_number.values[1, 1] == 13


def test_lines_at_unequal_distances_need_a_tolerance() -> None:
    data = xr.Dataset(
        {"number": ("frame", np.arange(6))},
        {
            "a": ("frame", [0.0, 0.1, 5.0, 0.0, 0.1, 5.0]),
            "b": ("frame", [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        },
    )
    assert grid(data, "a", "b").sizes == {"a": 2, "b": 2}
    assert grid(data, "a", "b", tolerance=0.05).sizes == {"a": 3, "b": 2}
    assert grid(data, "a", "b", tolerance=(0.05, 2.0)).sizes == {"a": 3, "b": 1}


def test_what_is_no_mesh_is_refused() -> None:
    data = mesh(range(12))
    with pytest.raises(MotorError, match="no motor 'lens_z'"):
        grid(data, "lens_z", "lens_x")
    with pytest.raises(MotorError, match="'energy' did not move"):
        grid(data, "energy", "lens_x")
    with pytest.raises(InputError, match="Name two motors"):
        grid(data, "lens_x", "lens_x")
    with pytest.raises(InputError, match="of 0 frames"):
        grid(data.isel(frame=0), "lens_y", "lens_x")
    for tolerance in (0, "wide", {"lens_y": 1}, (1, "wide"), (1, 1, 1)):
        with pytest.raises(InputError, match="tolerance is"):
            grid(data, "lens_y", "lens_x", tolerance=cast("float", tolerance))
    for name in ("name", "time"):
        with pytest.raises(MotorError, match=f"'{name}' of the data is .*, not a number"):
            grid(data, name, "lens_x")
    with pytest.raises(InputError, match="the data is a DataArray"):
        grid(cast("xr.Dataset", data.wavefront), "lens_y", "lens_x")


def test_frames_may_be_numbered_by_a_coordinate_of_their_own() -> None:
    data = mesh([3, 2, 1, 0], shape=(2, 2)).assign_coords(frame=[30, 20, 10, 0])
    gridded = grid(data, "lens_y", "lens_x")
    assert gridded["frame"].values.tolist() == [[0, 10], [20, 30]]
    assert gridded.number.values.tolist() == [[0, 1], [2, 3]]
