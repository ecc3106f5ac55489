"""Large frames are tracked tile by tile, and give what one block gives."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask.base import compute

import wavedask as wd
from wavedask.errors import InputError
from wavedask.simulate import Pair, displaced_pair
from wavedask.tracking import crossspot, moving


@pytest.fixture(scope="module")
def pair() -> Pair:
    return displaced_pair((480, 360), displacement_y=20.3, displacement_x=-35.7, seed=3)


def small_is_large(monkeypatch: pytest.MonkeyPatch, reach: int) -> None:
    monkeypatch.setattr(moving, "LARGE", 200)
    monkeypatch.setattr(moving, "MIDDLE", 200)
    for module in (moving, crossspot):
        monkeypatch.setattr(module, "REACH", reach)


@pytest.mark.parametrize("rigid", ["auto", (18, -37)])
def test_tiles_of_a_large_frame(rigid: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, reference = (
        da.from_array(image, chunks=chunks)
        for image, chunks in ((pair.sample, (160, 180)), (pair.reference, (90, 360)))
    )
    options = {"window": 15, "search": 8, "rigid": rigid}
    expected = compute(*wd.cross_spot(sample, reference, **options))
    small_is_large(monkeypatch, 40)
    tiles = wd.cross_spot(sample, reference, **options)
    found = compute(*tiles)
    for name, one, other in zip(tiles._fields, expected, found, strict=True):
        np.testing.assert_array_equal(other, one, err_msg=name)
    assert np.nanmedian(found[1]) == pytest.approx(-35.7, abs=0.02)


def test_a_large_frame_that_is_shifted_too_far(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    small_is_large(monkeypatch, 30)
    for sample in (pair.sample, da.from_array(pair.sample, chunks=120)):
        with pytest.raises(InputError, match="at most 30 are supported in frames larger than 200"):
            np.asarray(wd.cross_spot(sample, pair.reference, rigid=(31, 0)).reason)
