"""Labels of a tracking: names, units, coordinates, laziness."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from wavedask import cross_spot, track
from wavedask.conventions import QUANTITIES
from wavedask.errors import InputError, MotorError
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
    with pytest.raises(InputError, match=r"energy is 17\.5 keV in .* and 17 keV in"):
        track(steps, image[0].assign_coords(energy=17.0))
    track(steps.chunk(), steps.chunk(), window=15)


def cuts(a: slice, b: slice) -> tuple[xr.DataArray, xr.DataArray]:
    """Regions of one pair of images, with the labels of their pixels."""
    pair = displaced_pair((128, 128), displacement_x=2.3, seed=1)
    labels = {"y": np.arange(128), "x": np.arange(128)}
    sample, reference = (
        xr.DataArray(image, labels, ("y", "x")) for image in (pair.sample, pair.reference)
    )
    return sample.isel(x=a), reference.isel(x=b)


@pytest.mark.parametrize("chunked", [False, True])
def test_regions_are_matched_by_their_labels(chunked: bool) -> None:
    sample, reference = cuts(slice(10, 110), slice(20, 120))
    if chunked:
        sample, reference = sample.chunk(), reference.chunk()
    tracked = track(sample, reference, window=15, search=6).compute()
    assert tracked.x.values.tolist() == list(range(20, 110))
    assert float(tracked.displacement_x.median()) == pytest.approx(2.3, abs=0.02)


def test_frames_that_were_taken_in_another_order_are_sorted() -> None:
    pairs = [displaced_pair((64, 64), displacement_x=1.5, seed=seed) for seed in (1, 2, 3)]
    at = {"membrane": ("frame", [0.0, 1.0, 2.0], {"units": "um", "role": "motor"})}
    sample, reference = (
        xr.DataArray(np.stack([getattr(pair, name) for pair in pairs]), at, ("frame", "y", "x"))
        for name in ("sample", "reference")
    )
    settings: dict[str, Any] = {"window": 15, "search": 4}
    plain = track(sample, reference, **settings)
    xr.testing.assert_identical(track(sample, reference[[2, 0, 1]], **settings), plain)
    shifted = reference.assign_coords(membrane=reference.membrane + 1)
    with pytest.raises(
        MotorError, match=r"'membrane' of the sample goes from 0 to 2.*motors='memb"
    ):
        track(sample, shifted, **settings)


def test_a_reference_of_another_energy_or_pixel_is_refused() -> None:
    sample, reference = cuts(slice(0, 64), slice(0, 64))
    settings: dict[str, Any] = {"window": 15, "search": 4}
    for mine, others, message in (
        ({"energy": "8 keV"}, {"energy": "8 eV"}, "energy is 8 keV in .*0.008 keV in"),
        ({"pixel_size": 1e-6}, {"pixel_size": 2e-6}, "pixel_size is 1e-06 m in"),
    ):
        with pytest.raises(InputError, match=message):
            track(sample.assign_attrs(mine), reference.assign_attrs(others), **settings)
    tracked = track(sample, reference.assign_attrs(energy="8000 eV"), **settings)
    assert tracked.attrs["energy_keV"] == 8.0


def test_a_joint_tracking_has_the_one_energy_of_its_frames() -> None:
    sample, reference = cuts(slice(0, 64), slice(0, 64))
    stacks = [part.expand_dims(frame=2) for part in (sample, reference)]
    settings: dict[str, Any] = {"over": "frame", "window": 15, "search": 4}
    one = stacks[0].assign_coords(energy=("frame", [8000.0, 8000.0], {"units": "eV"}))
    tracked = track(one, stacks[1], **settings)
    assert float(tracked.energy) == 8.0
    assert tracked.energy.attrs["units"] == "keV"
    two = stacks[0].assign_coords(energy=("frame", [8.0, 12.0], {"units": "keV"}))
    with pytest.raises(InputError, match="energy changes from frame to frame"):
        track(two, stacks[1], **settings)
