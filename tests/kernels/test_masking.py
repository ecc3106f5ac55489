"""Codes of detectors in images of integers, and gaps of zeros."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavedask.kernels.masking import code_pixels, filled, zero_gaps

SHAPE = (96, 120)


def counts(mean: float, dtype: str = "u4", seed: int = 0) -> NDArray[np.integer]:
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(dtype)


def found(image: NDArray[np.integer], **options: bool) -> dict[int, int]:
    return {code: int(where.sum()) for code, where in code_pixels(image, **options)}


@pytest.mark.parametrize(
    ("dtype", "code"),
    [
        ("u2", 65535),
        ("u4", 2**32 - 1),
        ("u8", 2**64 - 1),
        ("u4", 65535),  # 16 bits, stored in 32
        ("i4", 65535),
        ("i8", 2**32 - 1),
        ("i4", -1),
        ("i2", -2),
        (">u2", 65535),
    ],
)
def test_codes_are_found_by_their_value(dtype: str, code: int) -> None:
    image = counts(300).astype(dtype)
    image[10, 20:25] = code
    assert found(image) == {code: 5}
    (where,) = (where for _, where in code_pixels(image))
    assert np.array_equal(where, image == np.array(code, dtype))


def test_both_codes_of_a_pilatus() -> None:
    image = counts(300, "i4")
    image[40:44] = -1
    image[3, 3] = -2
    assert found(image) == {-2: 1, -1: 4 * SHAPE[1]}


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "i8"])
def test_counts_are_no_codes(dtype: str) -> None:
    image = counts(100).clip(0, 120).astype(dtype)
    assert found(image) == {}


def test_what_looks_like_a_code_and_is_none() -> None:
    above = counts(300)
    above[0, 0], above[0, 1] = 65535, 65536
    assert found(above) == {}
    subtracted = counts(3, "i4").astype("i4") - 3
    assert subtracted.min() < -2
    assert found(subtracted) == {}
    video = counts(100).clip(0, 255).astype("u1")
    video[:9] = 255
    assert found(video) == {}
    assert found(np.full(SHAPE, 65535.0)) == {}


def test_gaps_of_modules_are_found() -> None:
    image, gap = counts(20), np.zeros(SHAPE, bool)
    gap[30:34] = gap[:, 50:52] = gap[70:90, 80:100] = True
    image[gap] = 0
    image[5, 5] = 0  # a single count of zero
    where = zero_gaps(image)
    assert where is not None
    assert np.array_equal(where, gap)
    assert found(image) == {0: int(gap.sum())}
    assert found(image, gaps=False) == {}


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.3, 1.0, 3.0])
def test_a_weak_image_has_no_gaps(mean: float) -> None:
    for seed in range(5):
        assert zero_gaps(counts(mean, seed=seed)) is None


@settings(deadline=None)
@given(
    mean=st.sampled_from([0.5, 5.0, 500.0]),
    first=st.integers(0, 80),
    height=st.integers(1, 16),
    columns=st.booleans(),
    seed=st.integers(0, 3),
)
def test_a_gap_over_the_frame_is_found_whole_and_alone(
    mean: float, first: int, height: int, columns: bool, seed: int
) -> None:
    image = counts(mean, seed=seed)
    image = image.T if columns else image
    image[first : first + height] = 0
    where = zero_gaps(np.ascontiguousarray(image))
    assert where is not None
    assert where[first : first + height].all()
    where[first : first + height] = False
    # What is zero by chance on both sides of a gap may belong to a square of zeros with it.
    assert where.mean() < 0.01


def test_frames_without_beam_are_left_alone() -> None:
    assert zero_gaps(np.zeros(SHAPE, np.uint16)) is None
    dark = np.zeros(SHAPE, np.uint16)
    dark[4, 5] = 1
    assert zero_gaps(dark) is None


def test_masked_arrays_become_nan() -> None:
    mask = np.array([[False, True]])
    for dtype, expected in (("u2", "f4"), ("f4", "f4"), ("i4", "f8"), ("f8", "f8")):
        plain = filled(np.ma.array([[3, 9]], mask=mask, dtype=dtype))
        assert not isinstance(plain, np.ma.MaskedArray)
        assert plain.dtype == expected
        np.testing.assert_array_equal(plain, [[3, np.nan]])
    nothing: Any = np.ma.array([[3, 9]], dtype="u2")
    assert filled(nothing).dtype == "u2"
    image = np.ones((2, 2))
    assert filled(image) is image
