"""Frames in datasets of any number of leading axes, read as if they were one row."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wavedask.errors import FrameMismatchError
from wavedask.io.hdf5.stack import Hdf5Stack

LEADS = [(5,), (2, 3), (3, 1), (2, 2, 2), (4,)]
"""Leading axes of the datasets; the others are rows and columns."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stack") / "frames.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number, lead in enumerate(LEADS):
            file[str(number)] = rng.integers(0, 60_000, (*lead, 3, 4)).astype(">u2")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_it_indexes_as_one_row_of_frames(path: Path, data: Any) -> None:
    names = data.draw(st.lists(st.sampled_from("01234"), min_size=1, unique=True))
    with h5py.File(path) as file:
        stack = Hdf5Stack(path, {name: file[name] for name in names})
        row = np.concatenate([file[name][()].reshape(-1, 3, 4) for name in names])
    size = len(row)
    assert stack.shape == row.shape
    number = st.integers(-size, size - 1)
    index = data.draw(st.one_of(number, st.slices(size), st.lists(number).map(list)))
    rows, cols = data.draw(st.slices(3)), data.draw(st.slices(4))
    wanted = np.array(index, int) if isinstance(index, list) else index
    found = stack[wanted, rows, cols]
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, row[wanted][..., rows, cols])


def test_frames_of_another_shape_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.zeros((2, 3, 4)), np.zeros((2, 3, 5))
        with pytest.raises(FrameMismatchError, match=r"two\.h5: a has .*3, 4.* b of .*3, 5"):
            Hdf5Stack(path, {"a": file["a"], "b": file["b"]})
