"""Sources sum up where frames come from, without loss."""

import json
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from wavedask.frames.sources import (
    frame_files,
    reference_coordinates,
    sources_of,
    stack_coordinates,
    without_keys,
)

FRAMES = st.lists(
    st.tuples(st.sampled_from(["a.edf", "b::c.h5"]), st.integers(0, 30)), min_size=1, unique=True
)


def scan(frames: list[tuple[str, int]], dataset: str | None = None) -> xr.Dataset:
    files, indices = zip(*frames, strict=True)
    coords: dict[str, Any] = {
        "source_file": ("frame", np.array(files, object)),
        "source_index": ("frame", list(indices)),
    }
    if dataset is not None:
        coords["source_dataset"] = ("frame", np.array([dataset] * len(files), object))
    return xr.Dataset(coords=coords)


def expanded(ranges: str) -> list[int]:
    found: list[int] = []
    for part in ranges.split(", "):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@given(FRAMES)
def test_every_frame_is_told_in_its_order(frames: list[tuple[str, int]]) -> None:
    found = sources_of(scan(frames))
    for file, ranges in found.items():
        assert expanded(ranges) == [index for name, index in frames if name == file]
    inner = sources_of(scan(frames, "1.1/data"))
    assert inner == {file: {"1.1/data": ranges} for file, ranges in found.items()}


@given(FRAMES)
def test_a_stack_is_one_frame_that_names_all_of_its_own(frames: list[tuple[str, int]]) -> None:
    stack = xr.Dataset(coords=stack_coordinates(scan(frames)))
    assert stack.sizes == {"frame": 1}
    assert (stack.source_file.item(), stack.source_index.item()) == frames[0]
    assert json.loads(stack.stack_frames.item()) == sources_of(scan(frames))
    assert frame_files(stack) == {file for file, _ in frames}


def test_references_are_told_where_they_are_known() -> None:
    pair = scan([("a.edf", 0), ("a.edf", 1)], "d")
    found = reference_coordinates(pair)
    assert {name: variable.values.tolist() for name, variable in found.items()} == {
        "reference_file": ["a.edf", "a.edf"],
        "reference_dataset": ["d", "d"],
        "reference_index": [0, 1],
    }
    assert all(variable.attrs["long_name"].endswith("reference") for variable in found.values())
    assert reference_coordinates(pair.isel(frame=0)) == {}
    assert frame_files(xr.Dataset(coords=found)) == {"a.edf"}


def test_keys_are_left_out_at_any_depth() -> None:
    nested = {"a": {"b": {"c": 1, "d": 2}}, "e": 3, "f": None}
    assert without_keys(nested, ["a.b.c", "e", "f.g", "none.such"]) == {
        "a": {"b": {"d": 2}},
        "f": None,
    }
    assert nested["a"] == {"b": {"c": 1, "d": 2}}
