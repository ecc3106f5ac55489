"""Stacks that are paired in their order: sorted where labels show it, or refused."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from wavedask.errors import MotorError
from wavedask.frames.order import in_the_same_order


def stack(positions: Any, name: str = "diffuser", **attrs: Any) -> xr.DataArray:
    """Frames that hold their position."""
    values = np.asarray(positions, float)
    coords = {name: ("frame", values, attrs)}
    return xr.DataArray(values[:, None, None], coords, ("frame", "y", "x"))


def held(images: xr.DataArray) -> list[float]:
    return images.values.ravel().round(3).tolist()


@given(order=st.permutations(range(5)), name=st.sampled_from(["diffuser", "frame"]))
def test_a_reference_taken_in_another_order_is_sorted(order: list[int], name: str) -> None:
    sample = stack(np.arange(5.0) + 0.01, name)
    assert held(in_the_same_order(sample, stack(np.array(order), name))) == [0, 1, 2, 3, 4]


def test_positions_without_a_partner_are_refused() -> None:
    message = (
        r"'diffuser' of the sample goes from 0 to 3, that of the reference from 1 to 4.*at 0 \("
    )
    with pytest.raises(MotorError, match=message):
        in_the_same_order(stack([0, 1, 2, 3]), stack([1, 2, 3, 4]))


@pytest.mark.parametrize(
    ("sample", "reference"),
    [
        # A motor that jitters; a lens that was taken out; a position taken twice.
        (stack([0.0, 1e-4, -1e-4, 3e-4]), stack([2e-4, -3e-4, 0.5e-4, -2e-4])),
        (stack([0.0, 1.0, 2.0, 3.0]), stack([-8.0, -8.1, -8.2, -8.3])),
        (stack([0.0, 0.0, 1.0, 1.0]), stack([1.0, 1.0, 0.0, 0.0])),
        (stack([0.0, 1.0, 2.0, 3.0]), stack([3.0, 2.0, np.nan, 0.0])),
        # A counter and an energy are no positions.
        (stack([0.0, 1.0, 2.0], role="counter"), stack([2.0, 1.0, 0.0], role="counter")),
        (stack([8.0, 9.0, 10.0], "energy"), stack([10.0, 9.0, 8.0], "energy")),
        (stack([0.0, 1.0, 2.0]), stack([2.0, 1.0])),
        (stack([0.0, 1.0]), stack([1.0, 0.0], "other")),
    ],
)
def test_what_tells_nothing_changes_nothing(sample: xr.DataArray, reference: xr.DataArray) -> None:
    assert in_the_same_order(sample, reference) is reference
