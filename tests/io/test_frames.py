"""Frames on disk behave as one array, and only what is asked for is read."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedask.errors import CorruptFileError, FileError, FrameMismatchError, InputError
from wavedask.io.frames import FrameStack, RawFrame, lazy, reading

SHAPE = (5, 6, 7)
VALUES = np.arange(210, dtype=">u2").reshape(SHAPE)


@pytest.fixture(
    scope="module", params=[(">u2", 6), ("<u2", 6), ("<u2", 70_001)], ids=lambda p: f"{p[0]}-{p[1]}"
)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrameStack:
    """Write frames as they are read at once or converted, behind a short or a long header."""
    dtype, header = np.dtype(request.param[0]), request.param[1]
    path = tmp_path_factory.mktemp("frames") / "raw.bin"
    path.write_bytes(b"h" * header + VALUES.astype(dtype).tobytes())
    return FrameStack(raw_frames(path, header, dtype))


def raw_frames(path: Path, header: int, dtype: np.dtype[Any]) -> list[RawFrame]:
    return [RawFrame(path, i, header + 84 * i, (6, 7), dtype) for i in range(5)]


def as_indices(positions: list[int]) -> np.ndarray:
    return np.array(positions, dtype=np.intp)


def axis_index(size: int) -> st.SearchStrategy[Any]:
    positions = st.integers(-size, size - 1)
    return st.one_of(positions, st.slices(size), st.lists(positions, max_size=4).map(as_indices))


@given(index=st.tuples(*(axis_index(size) for size in SHAPE)))
def test_indexing_is_numpys_one_axis_after_the_other(
    stack: FrameStack, index: tuple[Any, Any, Any]
) -> None:
    frame, y, x = index
    expected = VALUES[:, :, x][:, y][frame]
    np.testing.assert_array_equal(stack[index], expected)


def test_pixels_come_in_native_byte_order(stack: FrameStack) -> None:
    assert stack.dtype.isnative
    assert stack[0].dtype == np.dtype("u2")
    assert stack[0].dtype.isnative


@pytest.mark.parametrize("header", [6, 70_001])
def test_a_file_that_has_become_shorter_is_named(header: int, tmp_path: Path) -> None:
    path = tmp_path / "raw.bin"
    path.write_bytes(b"h" * header + VALUES.astype("<u2").tobytes()[:-3])
    frames = FrameStack(raw_frames(path, header, np.dtype("<u2")))
    np.testing.assert_array_equal(frames[3], VALUES[3])
    for index in (4, slice(3, 5)):
        with pytest.raises(CorruptFileError, match=r"raw\.bin is truncated: 2 pixels of frame 4"):
            frames[index]


def test_a_pickled_stack_reads_the_same(stack: FrameStack) -> None:
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stack))[3], VALUES[3])


def test_names_depend_on_files_and_chunks_only(stack: FrameStack) -> None:
    name = lazy(stack, stamp=1, chunks=None).name
    assert lazy(stack, stamp=1, chunks=None).name == name
    assert lazy(stack, stamp=2, chunks=None).name != name
    assert lazy(stack, stamp=1, chunks={"frame": 2}).name != name


def test_chunks_are_one_frame_each_unless_given(stack: FrameStack) -> None:
    assert lazy(stack, stamp=0, chunks=None).chunks == ((1,) * 5, (6,), (7,))
    assert lazy(stack, stamp=0, chunks={"frame": 4, "y": 3}).chunks == ((4, 1), (3, 3), (7,))


@pytest.mark.parametrize(
    "chunks", [{"time": 3}, {"frame": "many"}, {"y": (1, 2)}, {"frame": 0}, 2, "auto"]
)
def test_impossible_chunks_are_refused(stack: FrameStack, chunks: Any) -> None:
    with pytest.raises(InputError, match="chunks"):
        lazy(stack, stamp=0, chunks=chunks)


@pytest.mark.parametrize(
    ("shape", "dtype", "said"), [((6, 8), ">u2", "6 x 8 uint16"), ((6, 7), ">i2", "6 x 7 int16")]
)
def test_unlike_frames_are_refused_by_name(shape: tuple[int, int], dtype: str, said: str) -> None:
    first = RawFrame(Path("first.edf"), 0, 0, (6, 7), np.dtype("<u2"))
    other = RawFrame(Path("other.edf"), 2, 0, shape, np.dtype(dtype))
    with pytest.raises(
        FrameMismatchError,
        match=rf"first\.edf.* 6 x 7 uint16, but other\.edf \(frame 2\) is {said}",
    ):
        FrameStack([first, first, other])


def test_byte_order_is_no_difference() -> None:
    frames = [RawFrame(Path("f"), i, 0, (6, 7), np.dtype(f"{'<>'[i]}u2")) for i in range(2)]
    assert FrameStack(frames).shape == (2, 6, 7)


@pytest.mark.parametrize(
    ("raised", "turned_into"),
    [
        (FileNotFoundError("gone"), FileError),
        (PermissionError("locked"), FileError),
        (ValueError("odd"), FileError),
        (EOFError("short"), CorruptFileError),
        (InputError("ours"), InputError),
    ],
)
def test_reading_errors_name_the_file_and_leave_our_own_alone(
    raised: Exception, turned_into: type[Exception]
) -> None:
    with pytest.raises(turned_into) as caught, reading(Path("some.edf")):
        raise raised
    assert type(caught.value) is turned_into
    assert ("some.edf" in str(caught.value)) is (raised is not caught.value)
