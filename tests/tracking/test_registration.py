"""Two cameras that see the same speckle: shift, turn and scale found from their images alone."""

from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.laziness import forbid_computing
from support.two_detectors import Beam, Camera, Floats, images

import wavedask as wd
from wavedask.errors import InputError
from wavedask.kernels.affine import robust_affine_fit
from wavedask.kernels.start.registration import onto_sample
from wavedask.tracking.registration import Registration, register, registration_of
from wavedask.tracking.resampling import registered

BEAM = Beam(1 / 39.5, 1 / 39.5)
NEAR, FAR = Camera(0.5, 1e-6), Camera(1.0, 1e-6)
untyped_register: Any = register
"""For arguments that a type checker would refuse, too."""


def labelled_images(
    beam: Beam, near: Camera, far: Camera, **options: Any
) -> tuple[xr.DataArray, xr.DataArray]:
    """Far and near image, sample first."""
    on_near, on_far = images(beam, near, far, **options)
    return xr.DataArray(on_far, dims=("y", "x")), xr.DataArray(on_near, dims=("y", "x"))


def true_places(beam: Beam, near: Camera, far: Camera) -> Floats:
    """Pixel of the near camera that lies on the ray to each pixel of the far one."""
    y, x = beam.origin(*far.places(), far.z)
    slope_y, slope_x = beam.slope(y, x)
    return np.stack(near.numbers(y + near.z * slope_y, x + near.z * slope_x))


def places(found: Registration, shape: tuple[int, int]) -> Floats:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack([row[0] * y + row[1] * x for row in found.matrix]) + found.offset[:, None, None]


@pytest.mark.parametrize(
    ("near", "far", "options"),
    [
        pytest.param(NEAR, FAR, {}, id="alike"),
        pytest.param(
            Camera(0.5, 0.8e-6, (400, 380), middle=(120e-6, -120e-6), turn=-0.034),
            Camera(1.0, 1e-6, (300, 280)),
            {},
            id="turned by 2 degrees, 150 px off",
        ),
        pytest.param(
            Camera(0.5, 1e-6, (300, 300), middle=(150e-6, 120e-6)),
            Camera(1.0, 1e-6, (300, 300)),
            {},
            id="a third in common",
        ),
        pytest.param(
            Camera(0.5, 0.33e-6, (512, 512)),
            Camera(1.0, 1e-6, (200, 200)),
            {"grain": 12.0, "known": False},
            id="far pixels three times as large, and nobody knows",
        ),
        pytest.param(
            Camera(0.5, 1e-6, (200, 200)),
            Camera(1.0, 0.35e-6, (540, 540), turn=0.02),
            {"known": False},
            id="near pixels three times as large, and nobody knows",
        ),
        pytest.param(NEAR, FAR, {"counts": 100.0}, id="few photons"),
    ],
)
def test_shift_turn_and_scale_are_found(near: Camera, far: Camera, options: dict[str, Any]) -> None:
    sizes = (far.pixel, near.pixel) if options.get("known", True) else None
    light = {name: value for name, value in options.items() if name != "known"}
    sample, reference = labelled_images(BEAM, near, far, **light)
    found = register(sample, reference, pixel_size=sizes)
    error = places(found, far.shape) - true_places(BEAM, near, far)
    # In pixels of the coarser camera.
    assert np.sqrt(np.square(error).sum(0).mean()) < 0.05 * max(1.0, far.pixel / near.pixel)
    scale = near.pixel / far.pixel * (1 + 1.0 / 39.5) / (1 + 0.5 / 39.5)
    assert found.magnification == pytest.approx(scale, rel=1e-3)
    assert found.rotation == pytest.approx(near.turn - far.turn, abs=2e-4)
    assert found.matches > 0.7 * found.points
    assert found.residual < 0.1 * max(1.0, far.pixel / near.pixel)
    assert found.correlation > 0.8
    assert (found.shape, found.reference_shape) == (far.shape, near.shape)
    assert f"rotation {np.rad2deg(found.rotation):.3f} deg" in str(found)


def test_a_lens_that_bends_beyond_an_affine_map_is_registered_in_the_mean() -> None:
    beam = Beam(-0.5, -0.5, bump=0.05)
    near, far = Camera(0.5, 0.8e-6, (400, 400)), Camera(1.0, 0.8e-6, (300, 300))
    found = register(*labelled_images(beam, near, far), pixel_size=(0.8e-6, 0.8e-6))
    error = places(found, far.shape) - true_places(beam, near, far)
    assert np.abs(error.mean((1, 2))).max() < 0.1
    # What is left is what the beam bends, not what the registration lacks.
    assert found.residual == pytest.approx(np.sqrt(np.square(error).sum(0).mean()), rel=0.4)


def test_gaps_do_not_matter() -> None:
    sample, reference = labelled_images(BEAM, NEAR, FAR)
    holes = np.random.default_rng(0).random(sample.shape) < 0.02
    holes[100:140, 90:180] = True
    found = register(sample.where(~holes), reference, pixel_size=(1e-6, 1e-6))
    error = places(found, FAR.shape) - true_places(BEAM, NEAR, FAR)
    assert np.sqrt(np.square(error).sum(0).mean()) < 0.05


def test_pixel_numbers_count_and_stacks_give_their_first_frame() -> None:
    sample, reference = labelled_images(BEAM, NEAR, FAR)
    whole = register(sample, reference, pixel_size=(1e-6, 1e-6))
    rows, columns = np.arange(256), np.arange(256)
    numbered = sample.assign_coords(y=rows, x=columns)[20:, 30:]
    stack = xr.concat([numbered, numbered * 0], dim="frame").chunk({"frame": 1})
    cut = register(stack, reference.assign_coords(y=rows + 7, x=columns), pixel_size=(1e-6, 1e-6))
    middle = np.array([128.0, 128.0])
    np.testing.assert_allclose(
        cut.matrix @ middle + cut.offset,
        whole.matrix @ middle + whole.offset + np.array([7, 0]),
        atol=0.05,
    )


@pytest.mark.parametrize(
    ("turned", "words"),
    [
        (lambda image: image[::-1], "flipped along y"),
        (lambda image: image[:, ::-1], "flipped along x"),
        (lambda image: image.transpose("x", "y").rename(y="x", x="y"), "transposed"),
    ],
)
def test_a_mirror_image_is_refused_and_named(turned: Any, words: str) -> None:
    sample, reference = (image[:200, :200] for image in labelled_images(BEAM, NEAR, FAR))
    with pytest.raises(InputError, match=f"only when that is {words}"):
        register(sample, turned(reference), pixel_size=(1e-6, 1e-6))


@pytest.mark.parametrize("kind", ["other speckle", "no pattern", "a grid"])
def test_images_with_nothing_in_common_are_refused(kind: str) -> None:
    sample, reference = (image[:200, :200] for image in labelled_images(BEAM, NEAR, FAR))
    if kind == "other speckle":
        reference = labelled_images(BEAM, NEAR, FAR, seed=3)[1][:200, :200]
    elif kind == "no pattern":
        reference = xr.full_like(reference, 300.0)
    else:
        y, x = np.mgrid[:200, :200]
        sample = reference = xr.DataArray(1 + np.cos(y / 2) * np.cos(x / 2), dims=("y", "x"))
    with pytest.raises(InputError, match=r"no speckle in common.*order \(sample, reference\)"):
        register(sample, reference, pixel_size=(1e-6, 1e-6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_size": 1e-6}, "pixel_size is 1e-06.*of the sample and of the reference"),
        ({"pixel_size": (1.0, 1e-6)}, "pixel_size of the sample is 1 m.*another unit"),
        ({"sample": xr.DataArray(np.ones((40, 300)), dims=("y", "x"))}, "sample is .40, 300."),
        ({"reference": xr.DataArray(np.full((99, 99), np.nan), dims=("y", "x"))}, "no pixel with"),
        ({"sample": np.ones((99, 99))}, "sample is a ndarray"),
    ],
)
def test_what_cannot_be_registered_is_refused(change: dict[str, Any], message: str) -> None:
    sample, reference = labelled_images(BEAM, NEAR, FAR)
    arguments = {"sample": sample, "reference": reference, "pixel_size": (1e-6, 1e-6)} | change
    with pytest.raises(InputError, match=message):
        untyped_register(**arguments)


@pytest.mark.parametrize(
    ("matrix", "offset"),
    [(np.eye(3), np.zeros(2)), (np.diag([1.0, -1.0]), np.zeros(2)), (np.eye(2), np.zeros(3))],
)
def test_a_map_that_is_none_is_refused(matrix: Floats, offset: Floats) -> None:
    with pytest.raises(InputError, match="does not mirror"):
        Registration(matrix, offset)


def test_a_registration_travels_with_the_tracking() -> None:
    given = Registration(np.array([[1.1, 0.02], [-0.02, 1.1]]), np.array([-30.5, 17.25]))
    again = registration_of(xr.Dataset(attrs=given.attrs))
    np.testing.assert_array_equal(again.matrix, given.matrix)
    np.testing.assert_array_equal(again.offset, given.offset)
    assert again.rotation == given.rotation == pytest.approx(np.arctan2(0.02, 1.1))
    with pytest.raises(InputError, match=r"no registration.*register\(far, near\)"):
        registration_of(xr.Dataset())


def test_a_registered_tracking_is_lazy_and_holds_its_promise() -> None:
    """sample(p) = reference(matrix @ (p - u) + offset), whatever registration is given."""
    near, far = Camera(0.5, 0.8e-6, (330, 340), turn=0.01), Camera(1.0, 1e-6, (200, 200))
    sample, reference = labelled_images(BEAM, near, far)
    # Off by a pixel and a half: the displacement makes up for it.
    exact = register(sample, reference, pixel_size=(1e-6, 0.8e-6))
    given = replace(exact, offset=exact.offset + np.array([1.5, -1.0]))
    lazy = [
        image.expand_dims(frame=2).chunk({"frame": 1, "y": 128, "x": 128})
        for image in (sample, reference)
    ]
    with forbid_computing():
        tracked = wd.track(*lazy, window=21, search=6, registration=given)
    assert isinstance(tracked.displacement_y.data, da.Array)
    assert tracked.y.attrs["units"] == "px"
    one = tracked.isel(frame=1).compute()
    u = np.stack([one.displacement_y, one.displacement_x])
    moved = np.mgrid[:200, :200] - u
    seen = np.einsum("ij,jyx->iyx", given.matrix, moved) + given.offset[:, None, None]
    error = (seen - true_places(BEAM, near, far))[:, 21:-21, 21:-21]
    assert np.sqrt(np.nanmean(np.square(error))) < 0.02
    assert np.isfinite(error).all()
    whole = wd.track(sample, reference, window=21, search=6, registration=given)
    np.testing.assert_allclose(whole.displacement_x, one.displacement_x, atol=0.02)


def test_images_of_another_shape_than_the_registered_are_refused() -> None:
    sample, reference = labelled_images(BEAM, NEAR, FAR)
    found = replace(
        Registration(np.eye(2), np.zeros(2)), shape=(256, 256), reference_shape=(128, 128)
    )
    with pytest.raises(InputError, match=r"reference frames are \(256, 256\).*\(128, 128\)"):
        registered(reference, sample, found)
    with pytest.raises(InputError, match=r"sample frames are \(256, 200\).*\(256, 256\)"):
        registered(reference[:128, :128], sample[:, :200], found)


def test_a_train_of_one_detector_takes_no_registration() -> None:
    sample, _ = labelled_images(BEAM, NEAR, FAR)
    train = sample.expand_dims(frame=2)
    with pytest.raises(InputError, match="reference is 'first', of one detector"):
        wd.track(train, "first", registration=Registration(np.eye(2), np.zeros(2)))


def test_large_pixels_see_what_small_ones_see_in_the_mean() -> None:
    """A pixel three times as large: smoothing first leaves no alias of what it cannot show."""
    y, x = np.mgrid[:240.0, :240.0]
    slow, fast = np.cos(2 * np.pi * y / 40), np.cos(2 * np.pi * x / 3.1)
    numbers = np.arange(70)
    matrix, offset = 3 * np.eye(2), np.array([15.0, 15.0])
    seen = onto_sample(slow, matrix, offset, numbers, numbers)
    expected = np.cos(2 * np.pi * (3 * numbers + 15) / 40)
    # A box of three pixels leaves 0.991 of this wave.
    gain = np.polyfit(expected[5:-5], seen[5:-5, 30], 1)[0]
    assert gain == pytest.approx(np.sinc(3 / 40) / np.sinc(1 / 40), abs=2e-3)
    assert np.corrcoef(seen[5:-5, 30], expected[5:-5])[0, 1] > 0.9999
    assert onto_sample(fast, matrix, offset, numbers, numbers).std() < 0.3 * fast.std()


def test_the_same_pixels_are_not_touched() -> None:
    image = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    rows, columns = np.arange(28), np.arange(40)
    seen = onto_sample(image, np.eye(2), np.array([2.0, 0.0]), rows, columns)
    np.testing.assert_allclose(seen, image[2:], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.floats(-300, 300),
    st.integers(0, 40),
    st.integers(0, 1000),
)
def test_outliers_do_not_pull_an_affine_fit(
    entries: list[float], offset: float, outliers: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0, 500, (2, 100))
    matrix = np.array(entries).reshape(2, 2)
    values = matrix @ np.stack([y, x]) + offset + rng.normal(0, 0.02, (2, 100))
    wrong = rng.choice(100, outliers, replace=False)
    values[:, wrong] += rng.uniform(20, 60, (2, outliers))
    fit, weights = robust_affine_fit(values, y, x)
    assert fit is not None
    np.testing.assert_allclose(fit.matrix, matrix, atol=2e-4)
    assert not weights[wrong].any()
    np.testing.assert_allclose(fit.at(y, x)[:, 0], matrix @ [y[0], x[0]] + offset, atol=0.05)


def test_points_on_a_line_have_no_affine_map() -> None:
    line = np.arange(20.0)
    fit, weights = robust_affine_fit(np.stack([line, line]), line, 2 * line)
    assert fit is None
    assert not weights.any()


def test_pixel_sizes_are_those_of_the_registration_or_refused() -> None:
    near, far = Camera(0.5, 0.8e-6, (260, 270)), Camera(1.0, 1e-6, (200, 200))
    sample, reference = labelled_images(BEAM, near, far)
    setup: dict[str, Any] = {"mode": "absolute", "distance": (near.z, far.z)}
    found = register(sample, reference, pixel_size=(1e-6, 0.8e-6))
    assert (found.pixel_size, found.reference_pixel_size) == ((1e-6, 1e-6), (0.8e-6, 0.8e-6))
    tracking = wd.track(sample, reference, registration=found, window=21, search=6)
    assert tracking.attrs["pixel_size"] == [1e-6, 1e-6]
    assert tracking.attrs["near_pixel_size"] == [0.8e-6, 0.8e-6]
    right = wd.wavefront(tracking, **setup)
    xr.testing.assert_identical(right, wd.wavefront(tracking, pixel_size=(0.8e-6, 1e-6), **setup))
    with pytest.raises(InputError, match="near detector is 1e-06 m as given and 8e-07 m in"):
        wd.wavefront(tracking, pixel_size=(1e-6, 0.8e-6), **setup)
    # Without pixel sizes the scale of the registration tells two that were swapped.
    half = xr.DataArray(np.ones((200, 200)), dims=("y", "x"))
    silent = Registration(2.0 * np.eye(2), np.zeros(2))
    blank = wd.track(half, half, registration=silent, window=21, search=6)
    with pytest.raises(InputError, match=r"pattern on the far one is 0.25 times.*two swapped\?"):
        wd.wavefront(blank, pixel_size=(1e-6, 0.5e-6), **setup)


def test_images_state_their_pixel_sizes_and_distances() -> None:
    near, far = Camera(0.5, 0.8e-6, (260, 270)), Camera(1.0, 1e-6, (200, 200))
    sample, reference = labelled_images(BEAM, near, far)
    sample = sample.assign_attrs(pixel_size=1e-6, detector_distance=1.0, energy=17.0)
    reference = reference.assign_attrs(pixel_size=0.8e-6, detector_distance=0.5, energy=17.0)
    found = register(sample, reference)
    assert (found.pixel_size, found.reference_pixel_size) == ((1e-6, 1e-6), (0.8e-6, 0.8e-6))
    result = wd.wavefront(
        wd.track(sample, reference, registration=found, window=21, search=6), mode="absolute"
    )
    assert (result.attrs["near_distance"], result.attrs["distance"]) == (0.5, 1.0)
    assert result.attrs["energy_keV"] == 17.0
    with pytest.raises(InputError, match="pixel_size of the sample is 8e-07 m as given and 1e-06"):
        register(sample, reference, pixel_size=(0.8e-6, 1e-6))
    sure = register(sample, reference, pixel_size=(1.01e-6, 0.8e-6), sure="pixel_size")
    tracking = wd.track(sample, reference, registration=sure, window=21, search=6)
    assert tracking.attrs["pixel_size"] == [1.01e-6, 1.01e-6]
    assert tracking.attrs["sure"] == ["pixel_size"]
    other = sample.assign_attrs(pixel_size=2e-6)
    with pytest.raises(InputError, match="in attribute 'pixel_size' of the registration and 2e-06"):
        wd.track(other, reference, registration=found, window=21, search=6)
