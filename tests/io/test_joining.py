"""Stacks and columns of several files: one behind the other, as if they had been one."""

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavedask.conventions import COUNTER, HEADER, MOTOR
from wavedask.errors import FrameMismatchError, MotorError
from wavedask.io.columns import Column
from wavedask.io.frames import Pixels, Stack, lazy
from wavedask.io.joining import JoinedStack, Part, joined_columns


class MemoryStack(Stack):
    """Frames in memory that count how often they are read."""

    def __init__(self, name: str, pixels: NDArray[Any], block: int = 1) -> None:
        super().__init__((len(pixels), *pixels.shape[1:]), pixels.dtype)
        self.name = name
        self.pixels = pixels
        self.frames_per_block = block
        self.reads: list[list[int]] = []

    @property
    def origins(self) -> list[tuple[str, int]]:
        return [(self.name, index) for index in range(self.shape[0])]

    def read(self, frames: NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        self.reads.append(frames.tolist())
        return self.pixels[frames][:, rows, cols]


def numbered(counts: list[int], blocks: list[int] | None = None) -> list[MemoryStack]:
    """Stacks whose frames are numbered throughout."""
    whole = np.arange(sum(counts) * 6).reshape(-1, 2, 3)
    parts = np.split(whole, np.cumsum(counts)[:-1])
    sizes = blocks or [1] * len(counts)
    return [
        MemoryStack(f"{n}.h5", part, size)
        for n, (part, size) in enumerate(zip(parts, sizes, strict=True))
    ]


COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(data=st.data())
def test_it_indexes_as_one_array(data: Any) -> None:
    stacks = numbered(data.draw(COUNTS))
    joined = JoinedStack(stacks)
    whole = np.concatenate([stack.pixels for stack in stacks])
    size = len(whole)
    numbers = st.integers(-size, size - 1)
    index = data.draw(
        st.one_of(numbers, st.slices(size), st.lists(numbers, min_size=1).map(np.array))
    )
    rows, cols = data.draw(st.slices(2)), data.draw(st.slices(3))
    np.testing.assert_array_equal(joined[index, rows, cols], whole[index][..., rows, cols])


@given(data=st.data())
def test_blocks_cover_every_stack_and_none_spans_two(data: Any) -> None:
    counts = data.draw(COUNTS)
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(counts), max_size=len(counts)))
    stacks = numbered(counts, sizes)
    frames = lazy(JoinedStack(stacks), stamp=None, chunks=None)
    with dask.config.set(scheduler="sync"):
        np.testing.assert_array_equal(frames, np.concatenate([stack.pixels for stack in stacks]))
    for stack, size in zip(stacks, sizes, strict=True):
        assert sum(map(len, stack.reads)) == stack.shape[0]
        assert max(map(len, stack.reads)) <= size


def test_frames_of_one_block_need_no_list_of_blocks() -> None:
    assert JoinedStack(numbered([2, 3])).frames_per_block == 1
    assert JoinedStack(numbered([5, 3], [2, 4])).frames_per_block == (2, 2, 1, 3)
    nested = JoinedStack([JoinedStack(numbered([3, 2], [2, 2])), *numbered([1])])
    assert nested.frames_per_block == (2, 1, 2, 1)


def test_origins_are_those_of_the_files() -> None:
    origins = JoinedStack(numbered([1, 2])).origins
    assert origins == [("0.h5", 0), ("1.h5", 0), ("1.h5", 1)]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (np.zeros((1, 2, 4), int), r"0\.h5 has 2 x 3 int64, but b\.h5 has 2 x 4 int64"),
        (np.zeros((1, 2, 3), "u2"), r"0\.h5 has 2 x 3 int64, but b\.h5 has 2 x 3 uint16"),
    ],
)
def test_frames_that_differ_are_refused(other: NDArray[Any], said: str) -> None:
    with pytest.raises(FrameMismatchError, match=said):
        JoinedStack([*numbered([1, 2]), MemoryStack("b.h5", other)])


def part(name: str, frames: int, *columns: Column, **constants: str) -> Part:
    return Part(Path(name), frames, list(columns), constants)


def column(values: Any, *, role: str = MOTOR, units: str = "mm", name: str = "lens") -> Column:
    return Column(name, role, np.array(values, float), units)


def test_one_value_holds_for_all_frames_of_its_file() -> None:
    parts = [part("a", 2, column(1.0)), part("b", 3, column([2.0, 3.0, 4.0]))]
    (only,), _ = joined_columns(parts)
    assert (only.values.tolist(), only.units, only.role) == ([1, 1, 2, 3, 4], "mm", MOTOR)


def test_the_later_column_of_a_file_counts() -> None:
    parts = [
        part("a", 1, column(1.0), column(5.0, units="unknown")),
        part("b", 1, column(2.0)),
    ]
    (only,), _ = joined_columns(parts)
    assert (only.values.tolist(), only.units) == ([5.0, 2.0], "mm")


def test_texts_that_differ_are_columns() -> None:
    parts = [
        part("a", 2, title="ascan", sample="Be", step="1"),
        part("b", 1, sample="Be", step="2.5"),
    ]
    columns, constants = joined_columns(parts)
    assert constants == {"sample": "Be"}
    assert {c.name: c.values.tolist() for c in columns} == {
        "title": ["ascan", "ascan", ""],
        "step": [1.0, 1.0, 2.5],
    }
    assert {c.role for c in columns} == {HEADER}


def test_lengths_are_checked_file_by_file() -> None:
    # Together they are as many as there are frames, and yet all are wrong.
    parts = [part("a", 2, column([1.0, 2.0, 3.0])), part("b", 3, column([4.0, 5.0]))]
    with pytest.raises(MotorError, match=r"'lens' of a has 3 values, but the scan there has 2"):
        joined_columns(parts)
    (only,), _ = joined_columns(parts, replaced={"lens"})
    assert np.isnan(only.values)
    assert only.units == "mm"


def test_a_counter_is_not_replaced_by_a_motor_of_its_name() -> None:
    parts = [part("a", 1, column(1.0, role=COUNTER)), part("b", 1)]
    with pytest.raises(MotorError, match=r"counter 'lens' is in a, but not in b"):
        joined_columns(parts, replaced={"lens"})


def test_units_must_agree_but_of_what_is_replaced() -> None:
    parts = [part("a", 1, column(1.0)), part("b", 1, column(1.0, units="um"))]
    with pytest.raises(MotorError, match=r"'lens' is in mm in a, but in um in b.*'lens \[unit\]'"):
        joined_columns(parts)
    (only,), _ = joined_columns(parts, replaced={"lens"})
    assert only.units == "unknown"
