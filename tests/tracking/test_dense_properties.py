"""The dense engine: what holds whatever the images, the masks and the start are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import wavedask as wd
from wavedask.kernels.dense import block
from wavedask.kernels.fields import Fields
from wavedask.kernels.start import coarse
from wavedask.simulate import Pair, displaced_pair

SHAPE = (160, 176)
SHIFT = (0.37, -1.62)
GRAIN = 4.0
WINDOW, SEARCH = 15, 4

Array = NDArray[Any]

few = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return displaced_pair(
        SHAPE, displacement_y=SHIFT[0], displacement_x=SHIFT[1], grain=GRAIN, seed=11
    )


def tracked(sample: Array, reference: Array, **options: Any) -> Fields:
    return wd.cross_spot(sample, reference, window=WINDOW, search=SEARCH, **options)


def known(found: Fields) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(found.displacement_y))


def well_marked(found: Fields) -> bool:
    """Whether a finite number stands where there is a match, and a mark everywhere else."""
    there = found.window > 0
    return bool(
        np.isfinite(np.stack([field[there] for field in found])).all()
        and np.isnan(np.stack(found[:2])[:, ~there]).all()
        and np.isposinf(np.stack(found[2:4])[:, ~there]).all()
        and (np.stack(found[2:4])[:, there] > 0).all()
    )


blocks = st.lists(
    st.tuples(
        st.integers(0, SHAPE[0] - 1),
        st.integers(0, SHAPE[1] - 1),
        st.integers(1, 60),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=3,
)


def masked(image: Array, places: list[tuple[int, int, int, int]]) -> Array:
    out = np.array(image, np.float32)
    for top, left, height, width in places:
        out[top : top + height, left : left + width] = np.nan
    return out


@few
@given(first=blocks, second=blocks)
def test_masking_more_never_brings_a_pixel_back(
    pair: Pair, first: list[tuple[int, int, int, int]], second: list[tuple[int, int, int, int]]
) -> None:
    little = tracked(masked(pair.sample, first), pair.reference)
    much = tracked(masked(pair.sample, first + second), pair.reference)
    assert well_marked(little)
    assert well_marked(much)
    # At the rim of a gap a node more or less may do, for starts move with what is left.
    back = known(much) & ~known(little)
    assert back.mean() < 0.002
    # And less data never is better data, but for the noise of the measured spectrum of the noise.
    both = known(much) & known(little)
    if both.any():
        assert np.quantile(little.uncertainty_x[both] / much.uncertainty_x[both], 0.99) < 1.2


@few
@given(places=blocks)
def test_what_is_left_beside_a_mask_is_right(
    pair: Pair, places: list[tuple[int, int, int, int]]
) -> None:
    found = tracked(masked(pair.sample, places), pair.reference)
    error = np.hypot(found.displacement_y - SHIFT[0], found.displacement_x - SHIFT[1])
    expected = np.hypot(found.uncertainty_y, found.uncertainty_x)
    assert (error[known(found)] < 6 * expected[known(found)]).all()


@few
@given(
    kind=st.sampled_from(["noise", "constant", "ramp", "sparse", "spikes", "huge"]),
    other=st.sampled_from(["noise", "constant", "ramp", "sparse", "spikes", "huge", "speckle"]),
    gaps=blocks,
    seed=st.integers(0, 2**32 - 1),
)
def test_nothing_infinite_goes_unmarked(
    pair: Pair, kind: str, other: str, gaps: list[tuple[int, int, int, int]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    images = {
        "noise": random.normal(size=SHAPE),
        "constant": np.full(SHAPE, 7.0),
        "ramp": 3.0 * y - 2.0 * x,
        "sparse": random.poisson(0.01, SHAPE),
        "spikes": np.where(random.random(SHAPE) < 0.01, np.inf, random.random(SHAPE)),
        "huge": 1e12 * random.random(SHAPE),
        "speckle": pair.reference,
    }
    found = tracked(masked(images[kind], gaps), images[other])
    assert well_marked(found)


@pytest.mark.parametrize("direction", [(1, 0), (0, -1), (0.7, 0.7)])
def test_a_start_wrong_by_half_a_grain_converges(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, direction: tuple[float, float]
) -> None:
    right = tracked(pair.sample, pair.reference)
    wrong = GRAIN / 2 * np.array(direction, np.float32)[:, None, None]
    original = coarse.start_field

    def astray(*args: Any, **kwargs: Any) -> tuple[Array, Array]:
        start, reason = original(*args, **kwargs)
        return start + wrong, reason

    monkeypatch.setattr(block, "start_field", astray)
    found = tracked(pair.sample, pair.reference)
    inner = np.s_[20:-20, 20:-20]
    assert known(found)[inner].mean() > 0.99
    there = known(found) & known(right)
    difference = np.hypot(
        found.displacement_y - right.displacement_y, found.displacement_x - right.displacement_x
    )
    assert difference[inner][there[inner]].max() < 0.05


def test_a_start_wrong_by_two_grains_is_marked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    original = coarse.start_field

    def astray(*args: Any, **kwargs: Any) -> tuple[Array, Array]:
        start, reason = original(*args, **kwargs)
        rows, columns = start.shape[1:]
        start[1, : rows // 2, : columns // 2] += 2 * GRAIN
        return start, reason

    monkeypatch.setattr(block, "start_field", astray)
    found = tracked(pair.sample, pair.reference)
    error = np.hypot(found.displacement_y - SHIFT[0], found.displacement_x - SHIFT[1])
    corner = np.s_[: SHAPE[0] // 2 - 20, : SHAPE[1] // 2 - 20]
    assert known(found)[corner].mean() < 0.05
    far = np.s_[SHAPE[0] // 2 + 20 :, SHAPE[1] // 2 + 20 :]
    assert known(found)[far][:-20, :-20].all()
    # The low-pass carries the fault three windows beyond it, and no farther.
    beyond = known(found)
    beyond[: SHAPE[0] // 2 + 45, : SHAPE[1] // 2 + 45] = False
    beyond[-20:], beyond[:, -20:] = False, False
    assert error[beyond].max() < 0.1
