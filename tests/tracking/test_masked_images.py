"""Every tracker takes masks of NumPy and codes of detectors for what they are: gaps."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import wavedask as wd
from wavedask.simulate import Distortion, displaced_pair, mesh_scan, speckle_field

CODE = 2**32 - 1
SHAPE = (128, 128)
GAP = np.zeros(SHAPE, bool)
GAP[:, 60:63] = GAP[10:20, 90:100] = True
PAIR = displaced_pair(SHAPE, displacement_x=2.3, displacement_y=-1.4, seed=1)


def with_codes(image: NDArray[Any], gap: NDArray[np.bool_] = GAP) -> NDArray[np.uint32]:
    counts: NDArray[np.uint32] = (image / image.mean() * 5000).round().astype("u4")
    counts[gap] = CODE
    return counts


def with_nan(coded: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.where(coded == CODE, np.nan, coded).astype("f4")


SAMPLE, REFERENCE = with_codes(PAIR.sample), with_codes(PAIR.reference)


def masked(coded: NDArray[np.uint32]) -> Any:
    """The same with rubbish under a mask."""
    return np.ma.array(np.where(coded == CODE, 10**6, coded), mask=coded == CODE)


@pytest.mark.parametrize("engine", ["dense", "opencv"])
def test_cross_spot(engine: Any) -> None:
    options = {"window": 15, "search": 6, "engine": engine}
    expected = wd.cross_spot(with_nan(SAMPLE), with_nan(REFERENCE), **options)
    assert np.isfinite(expected.displacement_x).mean() > 0.4
    pairs: list[tuple[Any, Any]] = [
        (SAMPLE, REFERENCE),
        (masked(SAMPLE), masked(REFERENCE)),
        (da.from_array(masked(SAMPLE)), da.from_array(masked(REFERENCE))),
        (da.from_array(SAMPLE, chunks=128), masked(REFERENCE)),
    ]
    for sample, reference in pairs:
        found = wd.cross_spot(sample, reference, **options)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-4, atol=1e-4)


def labelled(data: Any, **attrs: Any) -> xr.DataArray:
    return xr.DataArray(data, dims=("frame", "y", "x")[-data.ndim :], attrs=attrs)


def test_track_takes_what_files_declare() -> None:
    sample = labelled(np.where(GAP, 7, SAMPLE).astype("u4"), bad_values=[7], camera="eiger")
    scan = xr.Dataset({"image": sample}, attrs={"beamline": "BM05"}).assign_coords(
        pixel_mask=(("y", "x"), np.roll(GAP, 30, axis=0))
    )
    found = wd.track(scan, labelled(REFERENCE), window=15, search=6)
    both = GAP | np.roll(GAP, 30, axis=0)
    expected = wd.track(
        labelled(np.where(both, np.nan, SAMPLE)), labelled(with_nan(REFERENCE)), window=15, search=6
    )
    xr.testing.assert_equal(found.drop_attrs(), expected.drop_attrs())
    assert found.attrs["beamline"] == "BM05"
    assert found.attrs["masked"] == pytest.approx(both.mean())
    assert "values 7" in found.attrs["masked_by"]
    assert "pixel_mask" not in found.coords
    alone = wd.track(sample, labelled(REFERENCE), window=15, search=6)
    assert alone.attrs["camera"] == "eiger"
    assert "bad_values" not in alone.attrs


def test_the_mean_of_a_train() -> None:
    train = np.stack([SAMPLE, REFERENCE])
    found = wd.track(labelled(train), "mean", window=15, search=6)
    expected = wd.track(labelled(with_nan(train)), "mean", window=15, search=6)
    xr.testing.assert_equal(found.drop_attrs(), expected.drop_attrs())
    # A sum of half precision would end at 65504.
    pulses = np.stack([PAIR.sample, PAIR.reference])
    half = labelled((60000 * pulses / pulses.max()).astype("f2"))
    small = wd.track(half, "mean", window=15, search=6).displacement_x.values
    single = wd.track(half.astype("f4"), "mean", window=15, search=6).displacement_x.values
    np.testing.assert_array_equal(small, single)


def test_register() -> None:
    speckle = speckle_field(300, seed=1)
    y, x = np.mgrid[:160.0, :160.0]
    gap = np.zeros(y.shape, bool)
    gap[80:84] = True
    near, far = speckle(y, x), speckle(y * 1.1 - 20, x * 1.1 + 10)
    found = wd.register(
        labelled(with_codes(far, gap)), labelled(with_codes(near, gap)), pixel_size=(1.1e-6, 1e-6)
    )
    assert np.allclose(found.offset, (-20, 10), atol=0.1)
    assert found.magnification == pytest.approx(1 / 1.1, rel=1e-3)


def test_track_scan() -> None:
    speckle = speckle_field(96, seed=1)
    y, x = np.mgrid[:24.0, :24.0]
    gap = np.zeros(y.shape, bool)
    gap[10:12] = True
    coords = {"diffuser_x": ("frame", 0.25 * np.arange(40), {"units": "um"})}

    def scan(foot: float) -> xr.DataArray:
        images = [speckle(y, x + foot - step) for step in coords["diffuser_x"][1]]
        return labelled(np.stack([with_codes(image, gap) for image in images])).assign_coords(
            coords
        )

    coded = [scan(0.3), scan(0.0)]
    nan = [stack.copy(data=with_nan(stack.values)) for stack in coded]
    found, expected = (wd.track_scan(*pair, motor="diffuser_x") for pair in (coded, nan))
    xr.testing.assert_equal(found.drop_attrs(), expected.drop_attrs())
    assert found.attrs["masked"] == pytest.approx(gap.mean())
    assert float(found.delay_x.median()) == pytest.approx(0.3e-6, abs=0.02e-6)
    curvature: dict[str, Any] = {"pixel_size": 1e-6, "distance": 1.0}
    for one, other in zip(coded, nan, strict=True):
        found, expected = (
            wd.track_scan(stack, motor="diffuser_x", **curvature) for stack in (one, other)
        )
        xr.testing.assert_equal(found.drop_attrs(), expected.drop_attrs())


def test_detector_distortion() -> None:
    bent = Distortion((128, 128), barrel=0.3)
    mesh = mesh_scan(bent, positions=(2, 2), step=12.0, pixel_size=1e-6).scan
    gap = np.zeros(mesh.image.shape[1:], bool)
    gap[50:60, 30:40] = True
    coded = mesh.assign(
        image=mesh.image.copy(data=np.stack([with_codes(f, gap) for f in mesh.image.values]))
    )
    nan = coded.assign(image=coded.image.copy(data=with_nan(coded.image.values)))
    options: dict[str, Any] = {
        "motor_y": "dety",
        "motor_x": "detx",
        "window": 15,
        "method": "gradient",
    }
    found, expected = (wd.detector_distortion(scan, **options) for scan in (coded, nan))
    xr.testing.assert_equal(found.drop_attrs(), expected.drop_attrs())
    assert float(found.pixel_size_x) == pytest.approx(1e-6, rel=0.01)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_combine(dtype: str) -> None:
    random = np.random.default_rng(0)
    names = ("displacement_y", "displacement_x", "uncertainty_y", "uncertainty_x", "correlation")
    hidden = random.random((4, 12, 14)) < 0.1

    def tracking(wrap: Any) -> xr.Dataset:
        values = np.random.default_rng(1).normal(0, 0.003, (2, *hidden.shape))
        parts = [*values, *(0.003 + 0 * values), np.full(hidden.shape, 0.9)]
        return xr.Dataset(
            {
                name: (("frame", "y", "x"), wrap(part.astype(dtype)))
                for name, part in zip(names, parts, strict=True)
            }
        )

    expected = wd.combine(tracking(lambda part: np.where(hidden, np.nan, part)))
    assert float(expected.uncertainty_x.min()) == pytest.approx(0.003 / 2, rel=1e-3)
    assert 0.5 < float(expected.chi2.mean()) < 1.5

    def lazy(part: Any) -> Any:
        if dtype == "f2":  # has no room for the value that NumPy fills masks with
            return da.from_array(np.where(hidden, np.nan, part))
        return da.from_array(np.ma.array(np.where(hidden, 60, part), mask=hidden))

    found = wd.combine(tracking(lazy))
    xr.testing.assert_allclose(found.compute(), expected, rtol=1e-4, atol=1e-6)
