"""Standard errors of transmission and dark field."""

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError
from wavedask.simulate import displaced_pair

FWHM = float(np.sqrt(8 * np.log(2)))
INSIDE = {"y": slice(30, -30), "x": slice(30, -30)}


def images(
    counts: float, seed: int, *, contrast: float = 0.25, blur: float = 0.0
) -> tuple[xr.DataArray, xr.DataArray]:
    pair = displaced_pair(
        (200, 200),
        displacement_y=0.4,
        counts=counts,
        contrast=contrast,
        grain=float(np.sqrt(16 - blur**2)),
        seed=seed,
    )
    sample, reference = (
        xr.DataArray(ndimage.gaussian_filter(image, blur / FWHM), dims=("y", "x"))
        for image in (pair.sample, pair.reference)
    )
    return sample, reference


@pytest.mark.parametrize(
    ("counts", "contrast", "blur"),
    [
        (8000.0, 0.25, 0.0),
        (2000.0, 0.06, 0.0),
        (50.0, 0.25, 0.0),
        (8000.0, 0.25, 1.5),
        (8000.0, 0.25, 3.0),
    ],
)
def test_the_errors_of_an_object_that_only_bends(
    counts: float, contrast: float, blur: float
) -> None:
    """With a blur they were 2 to 4 times too small."""
    scores: list[list[xr.DataArray]] = [[], []]
    for seed in range(4):
        sample, reference = images(counts, seed, contrast=contrast, blur=blur)
        tracked = wd.track(sample, reference, window=21, search=4)
        errors = wd.visibility_uncertainty(tracked, sample)
        for score, name in zip(scores, ("transmission", "dark_field"), strict=True):
            score.append(((tracked[name] - 1) / errors[f"{name}_uncertainty"]).isel(INSIDE))
    for score in scores:
        assert np.sqrt(np.mean(np.square(score))) == pytest.approx(1, abs=0.2)


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
