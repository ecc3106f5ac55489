"""Settings become the same JSON whatever types they came in."""

import dataclasses
import datetime
import enum
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedask.errors import FileError, InputError
from wavedask.store.provenance import as_json, differences, fingerprints, versions


class Method(enum.Enum):
    DENSE = "dense"


@dataclasses.dataclass
class Search:
    window: int
    where: Path


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(trees)
def test_json_returns_unchanged_and_once_is_enough(value: Any) -> None:
    stored = as_json(value)
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert as_json(stored) == stored


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (np.float64("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Path("/data/a.edf"), "/data/a.edf"),
        (Method.DENSE, "dense"),
        (Search(21, Path("a")), {"window": 21, "where": "a"}),
        ({3, 1, 2}, [1, 2, 3]),
        (datetime.date(2026, 11, 22), "2026-11-22"),
        (np.datetime64("2026-11-22T10:00"), "2026-11-22T10:00"),
    ],
)
def test_types_beyond_json(value: Any, expected: Any) -> None:
    assert as_json(value) == expected
    assert type(as_json(value)) is type(expected)


@pytest.mark.parametrize("value", [b"raw", object(), len, 1j])
def test_what_cannot_be_stored_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"settings\.track\[1\]\.reference is a"):
        as_json({"track": [1, {"reference": value}]})


def test_keys_are_texts() -> None:
    with pytest.raises(InputError, match=r"settings\.track has the key 3"):
        as_json({"track": {3: 4}})


def test_fingerprints_change_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.edf"
    file.write_bytes(b"1234")
    (first,) = fingerprints([file])
    assert first["path"] == str(file)
    assert first["size"] == 4
    assert fingerprints([str(file)]) == [first]
    assert fingerprints([file, str(file)]) == [first]
    os.utime(file, ns=(0, first["mtime_ns"] + 1))
    assert fingerprints([file])[0]["mtime_ns"] == first["mtime_ns"] + 1


def test_a_vanished_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.edf"):
        fingerprints([tmp_path / "gone.edf"])


def test_versions_are_complete() -> None:
    assert {"wavedask", "numpy", "dask", "xarray", "zarr", "opencv"} <= set(versions())
    assert all(version[0].isdigit() for version in versions().values())


@given(st.dictionaries(st.text(max_size=3), st.integers()))
def test_equal_settings_do_not_differ(settings: dict[str, int]) -> None:
    assert differences({"a": settings}, {"a": dict(reversed(settings.items()))}) == []


def test_differences_name_both_values_and_what_is_absent() -> None:
    assert differences(
        {"a": {"b": 1, "c": {}}, "d": [1]}, {"a": {"b": 2}, "d": [1], "e": None}
    ) == [
        "a.b is 1 there and 2 here",
        "a.c is {} there and absent here",
        "e is absent there and None here",
    ]
