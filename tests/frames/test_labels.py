"""Pixel labels: what is the same pixel is matched, what cannot be is refused."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from support.laziness import forbid_computing

from wavedask.errors import FrameMismatchError
from wavedask.frames import aligned, common_pixels, covering


def field(rows: Any, columns: Any, **attrs: Any) -> xr.DataArray:
    """A map whose value tells the label."""
    rows, columns = np.asarray(rows, float), np.asarray(columns, float)
    coords = {"y": ("y", rows, attrs), "x": ("x", columns, attrs)}
    return xr.DataArray(100 * rows[:, None] + columns, coords, ("y", "x"))


def cut(*images: xr.DataArray) -> list[xr.DataArray]:
    return aligned(dict(zip("abcdef", images, strict=False)))


@given(
    starts=st.lists(st.integers(0, 8), min_size=2, max_size=4),
    falls=st.lists(st.booleans(), min_size=4, max_size=4),
    step=st.sampled_from([1.0, 4.0, 0.65e-6]),
)
def test_the_common_pixels_of_any_cuts_are_the_same(
    starts: list[int], falls: list[bool], step: float
) -> None:
    whole = np.arange(20) * step
    parts = []
    for start, fall in zip(starts, falls, strict=False):
        columns = whole[start : start + 10]
        parts.append(field(whole[:3], columns[::-1] if fall else columns))
    found = cut(*parts)
    for part in found:
        np.testing.assert_allclose(part, 100 * part.y + part.x, rtol=1e-12, atol=1e-300)
        xr.testing.assert_identical(part.x, found[0].x)
    assert found[0].sizes["x"] == 10 - (max(starts) - min(starts))


def test_labels_are_those_of_the_first_where_both_round_differently() -> None:
    one, other = field([0, 1], 0.65e-6 * np.arange(5)), field([0, 1], 0.65 * np.arange(5) / 1e6)
    other = other.assign_coords(x=other.x + 1e-18)
    found = cut(one, other)
    xr.testing.assert_identical(found[1].x, one.x)


def test_what_has_no_labels_is_left_as_it_is() -> None:
    bare = xr.DataArray(np.zeros((3, 4)), dims=("y", "x"))
    labelled = field(np.arange(3), np.arange(4))
    assert all(a is b for a, b in zip(cut(bare, labelled), (bare, labelled), strict=True))
    assert covering(labelled, bare, names=("scan", "flat")) is bare
    # Labels along one axis count along that axis.
    rows = labelled.drop_vars("x")
    found = cut(rows, labelled.isel(y=slice(1, None)))
    assert [part.shape for part in found] == [(2, 4), (2, 4)]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (np.arange(10) + 0.5, "numbers other pixels than the first"),
        (2 * np.arange(5), "numbers other pixels than the first"),
        (np.arange(10) * 1.05, "numbers other pixels than the first"),
        (np.arange(30, 40), "has no pixel in common with the first"),
        ([0, 2, 1, 3], "one does not rise or fall"),
        ([], "one does not rise or fall"),
        ([0, 1, np.nan], "one does not rise or fall"),
    ],
)
def test_labels_of_other_grids_are_refused_with_both_ranges(columns: Any, words: str) -> None:
    one, other = field([0, 1], np.arange(10)), field([0, 1], columns)
    with pytest.raises(FrameMismatchError, match=rf"x of the a is 0 to 9 \(10 pixels\).*{words}"):
        cut(one, other)


def test_metres_are_no_pixel_numbers() -> None:
    one, other = field([0, 1], [0, 1], units="px"), field([0, 1], [0, 1], units="m")
    with pytest.raises(FrameMismatchError, match="is in 'm', the first in 'px'"):
        common_pixels(one, other, "x", names=("tracking", "pupil"))


def test_a_flat_of_the_whole_detector_serves_a_region() -> None:
    flat = field(np.arange(8), np.arange(9))
    region = flat.isel(y=slice(2, 5), x=slice(3, 9))
    xr.testing.assert_identical(covering(region, flat, names=("scan", "flat")), region)
    with pytest.raises(FrameMismatchError, match=r"y of the flat is 3 to 7.*does not have all pix"):
        covering(region, flat.isel(y=slice(3, None)), names=("scan", "flat"))


def test_nothing_is_computed() -> None:
    data = da.zeros((4, 30, 30), chunks=(1, 30, 30))
    images = [
        xr.DataArray(data, dims=("frame", "y", "x"), coords={"y": np.arange(30) + k})
        for k in (0, 3)
    ]
    with forbid_computing():
        found = cut(*images)
    assert [part.sizes["y"] for part in found] == [27, 27]
    assert found[0].chunks is not None
