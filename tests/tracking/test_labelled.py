"""Labels of a tracking: names, units, coordinates, laziness."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from wavedask import cross_spot, track
from wavedask.conventions import QUANTITIES
from wavedask.errors import InputError
from wavedask.simulate import displaced_pair

NAMES = (
    "displacement_y",
    "displacement_x",
    "uncertainty_y",
    "uncertainty_x",
    "correlation",
    "window",
    "transmission",
    "dark_field",
    "reason",
)


@pytest.fixture(scope="module")
def scan() -> tuple[xr.Dataset, xr.Dataset]:
    pairs = [
        displaced_pair((128, 140), displacement_y=shift, displacement_x=-shift, seed=seed)
        for seed, shift in ((1, 0.5), (2, 2.25))
    ]
    coords = {
        "lens_x": ("frame", [0.0, 0.1], {"units": "mm"}),
        "energy": ((), 17.0, {"units": "keV"}),
        "y": ("y", np.arange(128), {"units": "px"}),
    }

    def dataset(images: list[np.ndarray]) -> xr.Dataset:
        data = da.from_array(np.stack(images), chunks=(1, -1, -1))
        return xr.Dataset(
            {"image": (("frame", "y", "x"), data, {"units": "counts"})},
            coords=coords,
            attrs={"title": "lens"},
        )

    return dataset([pair.sample for pair in pairs]), dataset([pair.reference for pair in pairs])


def test_a_tracking_is_labelled_and_lazy(scan: tuple[xr.Dataset, xr.Dataset]) -> None:
    tracked = track(*scan, engine="opencv", search=4, step=8)
    assert set(tracked.data_vars) == set(NAMES)
    for name in NAMES:
        variable = tracked[name]
        assert variable.dims == ("frame", "y", "x")
        assert variable.chunks == scan[0].image.chunks
        assert variable.attrs["units"] == QUANTITIES[name].units
        assert variable.attrs["long_name"] == QUANTITIES[name].long_name
    assert tracked.lens_x.attrs["units"] == "mm"
    assert float(tracked.energy) == 17.0
    assert tracked.attrs["title"] == "lens"
    middle = tracked.sel(y=64).isel(x=70).compute()
    np.testing.assert_allclose(middle.displacement_y, [0.5, 2.25], atol=0.1)
    np.testing.assert_allclose(middle.displacement_x, [-0.5, -2.25], atol=0.1)


def test_labels_change_no_number(scan: tuple[xr.Dataset, xr.Dataset]) -> None:
    sample, reference = (part.image.isel(frame=1).compute() for part in scan)
    tracked = track(sample, reference, engine="opencv", search=4, step=8)
    bare = cross_spot(sample.values, reference.values, engine="opencv", search=4, step=8)
    assert tracked.displacement_y.dims == ("y", "x")
    for name in NAMES:
        assert np.array_equal(tracked[name].values, getattr(bare, name), equal_nan=True)


def test_dimensions_are_found_by_name(scan: tuple[xr.Dataset, xr.Dataset]) -> None:
    sample, reference = (part.image.isel(frame=0).compute() for part in scan)
    turned = track(sample.transpose("x", "y"), reference, engine="opencv", search=4, step=8)
    assert turned.displacement_y.dims == ("y", "x")
    straight = track(sample, reference, engine="opencv", search=4, step=8)
    xr.testing.assert_identical(turned, straight)


def test_bad_input(scan: tuple[xr.Dataset, xr.Dataset]) -> None:
    with pytest.raises(InputError, match=r"engine is 'fft'.*opencv"):
        track(*scan, engine="fft")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reference is a ndarray"):
        track(scan[0], np.zeros((128, 140)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="window is 20"):
        track(*scan, window=20)


def test_a_pair_that_was_not_taken_alike_is_refused() -> None:
    image = xr.DataArray(np.zeros((2, 64, 64)), dims=("frame", "y", "x"), attrs={"units": "1"})
    with pytest.raises(InputError, match="sample is in '1', reference in 'counts'"):
        track(image, image.assign_attrs(units="counts"))
    steps = image.assign_coords(energy=("frame", [17.0, 17.5]))
    with pytest.raises(InputError, match=r"energy is 17\.5 in the sample and 17 in the reference"):
        track(steps, image[0].assign_coords(energy=17.0))
    track(steps.chunk(), steps.chunk(), window=15)
