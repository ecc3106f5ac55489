"""Rectangles that cover what is active."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedask.kernels.dense.activity import rectangles


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(1, 9),
    longest=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_active_node_is_covered_once(
    shape: tuple[int, int], side: int, longest: int, share: float, seed: int
) -> None:
    active = np.random.default_rng(seed).random(shape) < share
    covered = np.zeros(shape, np.int64)
    for top, bottom, start, stop in rectangles(active, side=side, longest=longest):
        assert 0 <= top < bottom <= shape[0]
        assert 0 <= start < stop <= shape[1]
        assert max(bottom - top, stop - start) <= max(longest, side)
        assert active[top:bottom, start:stop].any()
        covered[top:bottom, start:stop] += 1
    assert covered.max(initial=0) <= 1
    assert (covered[active] == 1).all()


def test_a_whole_block_is_few_rectangles() -> None:
    assert len(rectangles(np.ones((64, 64), np.bool_), side=4, longest=32)) == 4
