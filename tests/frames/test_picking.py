"""Frames that are picked by new names are those that indexing gives."""

import dask
import dask.array as da
import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.laziness import forbid_computing

from wavedask.frames.picking import pick_frames

VALUES = np.random.default_rng(0).standard_normal((7, 6, 4))


def dataset(frames_per_block: int) -> xr.Dataset:
    lazy = da.from_array(VALUES, chunks=(frames_per_block, 3, 4))
    return xr.Dataset(
        {
            "flat": (("y", "x"), VALUES[0]),
            "wavefront": (("frame", "y", "x"), lazy, {"units": "m"}),
            "turned": (("x", "frame"), lazy[:, 0].T),
            "tilt": ("frame", VALUES[:, 0, 0]),
        },
        {"lens_x": ("frame", np.arange(7.0), {"units": "mm"}), "energy": 17.0, "y": np.arange(6)},
        {"title": "t"},
    )


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(1, 4))
@settings(deadline=None)
def test_what_is_picked_is_what_indexing_gives(frames: list[int], block: int) -> None:
    data, numbers = dataset(block), np.array(frames, np.intp)
    with forbid_computing():
        picked, array = pick_frames(data, numbers), pick_frames(data.wavefront, numbers)
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(picked.compute(), data.isel(frame=numbers).compute())
        xr.testing.assert_identical(array.compute(), data.wavefront.isel(frame=numbers).compute())
        # What is picked goes on as any lazy data does.
        later = pick_frames(picked, np.arange(len(frames))[::-1]).wavefront.sum(("y", "x"))
        np.testing.assert_allclose(later, VALUES.sum((1, 2))[frames[::-1]])
    assert list(picked.data_vars) == list(data.data_vars)


def test_coordinates_that_lie_along_other_dimensions_stay() -> None:
    data = dataset(1).assign_coords(other=("pair", [1, 2]))
    xr.testing.assert_identical(
        pick_frames(data, np.array([5, 2])).coords.to_dataset(),
        data.isel(frame=[5, 2]).coords.to_dataset(),
    )


def test_picking_twice_the_same_gives_the_same_name() -> None:
    data = dataset(1)
    names = {pick_frames(data, np.array([4, 1])).wavefront.data.name for _ in range(2)}
    names.add(pick_frames(data, np.array([1, 4])).wavefront.data.name)
    assert len(names) == 2
