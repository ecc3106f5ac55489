"""Standard errors of transmission and dark field."""

import numpy as np
import pytest
import xarray as xr
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError
from wavedask.simulate import displaced_pair

INSIDE = {"y": slice(30, -30), "x": slice(30, -30)}


def images(
    counts: float, seed: int, *, contrast: float = 0.25
) -> tuple[xr.DataArray, xr.DataArray]:
    pair = displaced_pair(
        (200, 200), displacement_y=0.4, counts=counts, contrast=contrast, seed=seed
    )
    sample, reference = (
        xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
    )
    return sample, reference


@pytest.mark.parametrize(("counts", "contrast"), [(8000.0, 0.25), (2000.0, 0.06), (50.0, 0.25)])
def test_the_errors_of_an_object_that_only_bends(counts: float, contrast: float) -> None:
    scores: list[list[xr.DataArray]] = [[], []]
    for seed in range(4):
        sample, reference = images(counts, seed, contrast=contrast)
        tracked = wd.track(sample, reference, window=21, search=4)
        errors = wd.visibility_uncertainty(tracked, sample)
        for score, name in zip(scores, ("transmission", "dark_field"), strict=True):
            score.append(((tracked[name] - 1) / errors[f"{name}_uncertainty"]).isel(INSIDE))
    for score in scores:
        assert np.sqrt(np.mean(np.square(score))) == pytest.approx(1, abs=0.25)


def test_pixels_without_a_match_and_laziness() -> None:
    sample, reference = images(2000.0, 1)
    sample[60:110, 80:130] = np.nan
    tracked = wd.track(sample, reference, window=15, search=4)
    errors = wd.visibility_uncertainty(tracked, sample)
    unknown = tracked.displacement_x.isnull()
    assert unknown.any()
    assert np.isinf(errors.dark_field_uncertainty.values[unknown]).all()
    assert np.isfinite(errors.transmission_uncertainty.values[~unknown]).all()
    with forbid_computing():
        lazy = wd.visibility_uncertainty(tracked.chunk({"y": 50}), sample.chunk({"x": 70}))
    xr.testing.assert_identical(lazy.compute(), errors)


def test_what_does_not_belong_together_is_refused() -> None:
    sample, reference = images(2000.0, 1)
    tracked = wd.track(sample, reference, window=15, search=4)
    with pytest.raises(InputError, match="tracking has no window"):
        wd.visibility_uncertainty(tracked.drop_vars("window"), sample)
    with pytest.raises(InputError, match="sample has the shape"):
        wd.visibility_uncertainty(tracked, sample[:-1])
