"""What is held in few bytes is what was given, and the bytes are few."""

import pickle
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedask.io.frames import FrameRecord, RawFrame
from wavedask.io.headers import Headers
from wavedask.io.packed import Rows, packed, texts_of

NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: Path(*names))
ROOTED = st.builds(lambda root, path: Path(root) / path, st.sampled_from(["/", "."]), PATHS)
NUMBERS = st.integers(-(2**70), 2**70)
VALUES = st.one_of(st.floats(), NUMBERS, st.text(), st.booleans(), st.none(), ROOTED)


@given(
    st.one_of(
        *(st.lists(one) for one in (st.floats(), NUMBERS, st.text(), ROOTED, VALUES)),
        st.lists(st.integers(-3, 3), min_size=20),
        st.lists(st.sampled_from([0.0, -0.0, float("nan")])),
    )
)
def test_values_are_those_that_were_given(values: list[Any]) -> None:
    for kept in (packed(values), pickle.loads(pickle.dumps(packed(values)))):
        # By their words: no NaN equals another one, but 1 equals True.
        assert repr(list(kept)) == repr(values)
        assert repr([kept[place] for place in range(len(kept))]) == repr(values)
        assert repr(list(kept[::-2])) == repr(values[::-2])
        with pytest.raises(IndexError):
            kept[len(values)]


@given(st.lists(ROOTED))
def test_paths_as_texts(paths: list[Path]) -> None:
    assert texts_of(packed(paths)) == [str(path) for path in paths]


def test_a_name_that_is_no_utf8_is_kept() -> None:
    paths = [Path(f"/data/bad\udcff_{number}.edf") for number in range(5)]
    assert list(packed(paths)) == paths


@dataclass(frozen=True)
class Other:
    """A frame with fields of its own."""

    path: Path
    page: int


def test_objects_of_several_classes_keep_their_order() -> None:
    frames = [
        RawFrame(Path(f"a_{n}.edf"), n % 2, 512 * n, (4, 5), np.dtype("<u2"))
        if n % 3
        else Other(Path(f"b_{n}.tif"), n)
        for n in range(12)
    ]
    rows: Rows[Any] = Rows(frames)
    assert list(rows) == frames
    assert [rows[n] for n in range(12)] == frames


def test_a_frame_of_a_file_takes_few_bytes() -> None:
    """What is the same in all files is kept once, and what differs in the bytes that it needs."""

    def read(number: int) -> Any:
        path = Path(f"/data/id06/lens/scan_0001/sample_{number:06d}.edf")
        frame = RawFrame(path, 0, 1024, (2048, 2048), np.dtype("<u2"))
        motors = {"lens_x": 0.1 * number} | {f"motor_{n}": float(n) for n in range(100)}
        header = {"time_of_day": f"{1.7e9 + number}"} | {f"item_{n}": str(n) for n in range(30)}
        return (str(path), 8389632, 10**18 + number), [FrameRecord(frame, motors, {}, header)]

    files = [read(number) for number in range(2000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        headers = Headers(files)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # A motor and a time of 8 bytes, a name of 17, a text of 14, and where these end.
    assert kept / len(files) < 80
    assert headers.records()[files[7][0]] == files[7][1]
