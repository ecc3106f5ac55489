"""What a tracking leaves unexplained is told apart."""

import logging
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

import wavedask as wd
from wavedask.errors import InputError
from wavedask.simulate import displaced_pair, speckle_field
from wavedask.tracking import residual

Array = NDArray[Any]
SHAPE = (224, 224)
SHIFT = (0.3, -0.6)
SETTINGS: Any = {"window": 21, "search": 4}


def labelled(images: list[Array]) -> list[xr.DataArray]:
    return [xr.DataArray(np.asarray(image, "f4"), dims=("y", "x")) for image in images]


def pair_of(counts: float = 8000.0, seed: int = 5, grain: float = 4.0) -> list[Array]:
    pair = displaced_pair(
        SHAPE,
        displacement_y=SHIFT[0],
        displacement_x=SHIFT[1],
        counts=counts,
        grain=grain,
        seed=seed,
    )
    return [pair.sample, pair.reference]


def stated(images: list[xr.DataArray]) -> dict[str, float]:
    """What the residual of a pair is made of."""
    return dict(wd.describe_residual(wd.track(*images, **SETTINGS), *images).attrs)


@pytest.mark.parametrize("counts", [200.0, 2000.0, 8000.0])
def test_counts(counts: float) -> None:
    found = stated(labelled(pair_of(counts)))
    assert found["effective_counts"] == pytest.approx(counts, rel=0.2)
    assert found["noise_blur_px"] < 0.5
    assert found["decorrelation"] == pytest.approx(0, abs=0.01)
    assert found["fixed_pattern"] == 0


def test_blur() -> None:
    images = [ndimage.gaussian_filter(image, 2.5 / 2.3548) for image in pair_of(grain=3.0)]
    found = stated(labelled(images))
    assert found["noise_blur_px"] == pytest.approx(2.5, abs=0.3)
    assert found["effective_counts"] == pytest.approx(8000, rel=0.4)


def test_lost_speckle() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    first, other = (speckle_field(SHAPE[0] + 8, grain=4.0, seed=seed) for seed in (3, 4))
    mixed = 1 + 0.8 * (first(y - SHIFT[0], x - SHIFT[1]) - 1) + 0.6 * (other(y, x) - 1)
    random = np.random.default_rng(1)
    images = [random.poisson(8000 * image) for image in (mixed, first(y, x))]
    found = stated(labelled(images))
    assert found["decorrelation"] == pytest.approx(0.2, abs=0.06)
    assert found["effective_counts"] == pytest.approx(8000, rel=0.4)


def test_a_fixed_pattern_is_stated_and_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residual, "LEAST_STATED", SHAPE[0] * SHAPE[1])
    gain = 1 + 0.03 * np.random.default_rng(6).standard_normal(SHAPE)
    images = labelled([image * gain for image in pair_of()])
    with caplog.at_level(logging.WARNING, "wavedask"):
        found = wd.track(*images, **SETTINGS)
    assert found.attrs["fixed_pattern"] == pytest.approx(0.03, abs=0.005)
    assert "share a pattern of" in caplog.text
    monkeypatch.setattr(residual, "LEAST_STATED", SHAPE[0] * SHAPE[1] + 1)
    assert "fixed_pattern" not in wd.track(*images, **SETTINGS).attrs
    lazy = wd.track(*(image.chunk() for image in images), **SETTINGS)
    assert "fixed_pattern" not in lazy.attrs
    report = wd.describe_residual(lazy, *images)
    assert report.attrs == {name: found.attrs[name] for name in report.attrs}
    assert "fixed pattern" in str(report)


def test_what_cannot_be_told_is_refused() -> None:
    sample, reference = labelled(pair_of())
    tracked = wd.track(sample, reference, **SETTINGS)
    with pytest.raises(InputError, match="has no dark_field"):
        wd.describe_residual(tracked.drop_vars("dark_field"), sample, reference)
    with pytest.raises(InputError, match="reference has frames of"):
        wd.describe_residual(tracked, sample, reference[:100])
    with pytest.raises(InputError, match="too few pixels"):
        wd.describe_residual(tracked * np.nan, sample, reference)
