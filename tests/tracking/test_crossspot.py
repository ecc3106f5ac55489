"""The report's two-pass tracker: truth, chunking, and what it refuses to guess."""

from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask.base import compute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wavedask as wd
from wavedask.errors import InputError
from wavedask.simulate import Pair, displaced_pair

INNER = np.s_[30:-30, 30:-30]

cross_spot = partial(wd.cross_spot, engine="opencv")


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.fixture(scope="module")
def rigid_pair() -> Pair:
    return displaced_pair((300, 300), displacement_y=0.37, displacement_x=-1.62, seed=2)


@pytest.fixture(scope="module")
def smooth_pair() -> Pair:
    """Distant by a rigid shift, and a lens and a wave on top of it."""
    y, x = np.mgrid[:560, :560]
    wave = 1.5 * np.sin(2 * np.pi * y / 280) * np.cos(2 * np.pi * x / 280)
    return displaced_pair(
        (560, 560), displacement_y=20 + wave, displacement_x=-35 + 0.02 * (x - 280), seed=3
    )


def test_a_rigid_shift_is_found_within_the_noise(rigid_pair: Pair) -> None:
    found = cross_spot(rigid_pair.sample, rigid_pair.reference, window=15, search=6, step=1)
    error_y = found.displacement_y[INNER] - 0.37
    error_x = found.displacement_x[INNER] + 1.62
    # 0.024 px is what a correlation peak and a parabola reach here; 0.0102 px is the photon limit.
    assert rms(error_y) < 0.035
    assert rms(error_x) < 0.035
    assert abs(error_y.mean()) < 0.003
    assert abs(error_x.mean()) < 0.003
    assert found.correlation[INNER].min() > 0.92
    assert (found.window[INNER] == 15).all()


def test_the_uncertainty_is_that_of_the_errors(rigid_pair: Pair) -> None:
    found = cross_spot(rigid_pair.sample, rigid_pair.reference, window=21, search=6, step=2)
    for error, sigma in (
        (found.displacement_y - 0.37, found.uncertainty_y),
        (found.displacement_x + 1.62, found.uncertainty_x),
    ):
        # Not calibrated to better: it does not know the error of the parabola.
        assert 0.7 < np.std((error / sigma)[INNER]) < 1.6


def test_a_smooth_field_on_a_large_rigid_shift(smooth_pair: Pair) -> None:
    found = cross_spot(smooth_pair.sample, smooth_pair.reference, window=21, search=16)
    inner = np.s_[60:-60, 60:-60]
    assert rms(found.displacement_y[inner] - smooth_pair.displacement_y[inner]) < 0.05
    assert rms(found.displacement_x[inner] - smooth_pair.displacement_x[inner]) < 0.06


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("rigid", ["auto", (20, -35)])
def test_tiles_give_what_one_block_gives(
    smooth_pair: Pair, step: int, rigid: str | tuple[int, int]
) -> None:
    side = {1: 230, 4: 560}[step]
    tile = {1: (110, 125), 4: (200, 256)}[step]
    sample, reference = smooth_pair.sample[:side, :side], smooth_pair.reference[:side, :side]
    whole = cross_spot(sample, reference, step=step, rigid=rigid)  # type: ignore[arg-type]
    tiles = cross_spot(
        da.from_array(sample, chunks=tile),
        da.from_array(reference, chunks=(130, side)),
        step=step,
        rigid=rigid,  # type: ignore[arg-type]
    )
    for name, one, many in zip(whole._fields, whole, compute(*tiles), strict=True):
        assert np.array_equal(np.isfinite(one), np.isfinite(many)), name
        known = np.isfinite(one)
        assert np.abs(one[known] - many[known]).max() < 1e-4, name


def test_a_stack_is_its_pairs(rigid_pair: Pair) -> None:
    other = displaced_pair((300, 300), displacement_y=-2.2, seed=5)
    samples = np.stack([rigid_pair.sample, other.sample])
    references = np.stack([rigid_pair.reference, other.reference])
    kwargs = {"window": 21, "search": 6, "step": 8}
    stack = cross_spot(samples, references, **kwargs)  # type: ignore[arg-type]
    lazy = cross_spot(
        da.from_array(samples, chunks=(1, -1, -1)),
        references,
        **kwargs,  # type: ignore[arg-type]
    )
    assert all(isinstance(field, da.Array) for field in lazy)
    computed = compute(*lazy)
    for index, pair in enumerate((rigid_pair, other)):
        alone = cross_spot(pair.sample, pair.reference, **kwargs)  # type: ignore[arg-type]
        for one, two, three in zip(alone, stack, computed, strict=True):
            assert np.array_equal(one, two[index], equal_nan=True)
            assert np.array_equal(one, three[index], equal_nan=True)


def test_one_reference_serves_many_samples(rigid_pair: Pair) -> None:
    samples = da.from_array(np.stack([rigid_pair.sample] * 3), chunks=(2, -1, -1))
    found = cross_spot(samples, rigid_pair.reference, window=21, search=6, step=8)
    alone = cross_spot(rigid_pair.sample, rigid_pair.reference, window=21, search=6, step=8)
    assert found.displacement_x.shape == samples.shape
    for field in found.displacement_x.compute():
        assert np.array_equal(field, alone.displacement_x, equal_nan=True)


def test_nothing_is_computed_until_asked() -> None:
    def never(block: np.ndarray) -> np.ndarray:
        raise AssertionError("computed")

    frames = da.map_blocks(
        never, da.zeros((2, 256, 256), chunks=(1, 256, 256)), meta=np.empty((0, 0, 0))
    )
    found = cross_spot(frames, frames[0])
    assert found.displacement_y.shape == (2, 256, 256)
    assert found.displacement_y.dtype == np.float32


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    gain=st.floats(0.01, 60),
    pedestal=st.floats(-500, 5000),
)
def test_the_scale_of_the_counts_does_not_matter(gain: float, pedestal: float) -> None:
    pair = displaced_pair((90, 90), displacement_y=1.3, displacement_x=-0.6, counts=1000, seed=4)
    found = cross_spot(pair.sample, pair.reference, window=21, search=4, step=8)
    scaled = cross_spot(
        gain * pair.sample + pedestal, gain * pair.reference + pedestal, window=21, search=4, step=8
    )
    known = np.isfinite(found.displacement_y)
    assert np.array_equal(known, np.isfinite(scaled.displacement_y))
    assert np.abs(found.displacement_y - scaled.displacement_y)[known].max() < 5e-3


@settings(max_examples=6, deadline=None)
@given(shift=st.tuples(st.integers(-20, 20), st.integers(-20, 20)))
def test_a_shift_of_the_reference_is_a_shift_of_the_result(shift: tuple[int, int]) -> None:
    pair = displaced_pair((128, 128), displacement_y=0.4, displacement_x=0.2, seed=6)
    rolled = np.roll(pair.reference, shift, (0, 1))
    found = cross_spot(pair.sample, rolled, window=21, search=4, step=8)
    middle = np.s_[50:-50, 50:-50]
    assert np.abs(found.displacement_y[middle] - (0.4 - shift[0])).max() < 0.15
    assert np.abs(found.displacement_x[middle] - (0.2 - shift[1])).max() < 0.15


def test_swapping_the_pair_flips_the_sign(rigid_pair: Pair) -> None:
    there = cross_spot(rigid_pair.sample, rigid_pair.reference, step=8, search=6)
    back = cross_spot(rigid_pair.reference, rigid_pair.sample, step=8, search=6)
    assert rms((there.displacement_x + back.displacement_x)[INNER]) < 0.03


def refused(found: object, region: tuple[slice, slice]) -> bool:
    """Whether every pixel of a region is marked and not guessed."""
    return bool(
        np.isnan(found.displacement_y[region]).all()  # type: ignore[attr-defined]
        and np.isnan(found.displacement_x[region]).all()  # type: ignore[attr-defined]
        and np.isinf(found.uncertainty_y[region]).all()  # type: ignore[attr-defined]
        and np.isinf(found.uncertainty_x[region]).all()  # type: ignore[attr-defined]
        and (found.window[region] == 0).all()  # type: ignore[attr-defined]
    )


def test_missing_data_is_marked_and_what_is_around_it_tracked(rigid_pair: Pair) -> None:
    sample, reference = rigid_pair.sample.copy(), rigid_pair.reference.copy()
    sample[100:150, 100:150] = np.nan
    dead = np.random.default_rng(0).random(reference.shape) < 0.01
    reference[dead] = np.nan
    found = cross_spot(sample, reference, search=6)
    assert refused(found, np.s_[100:150, 100:150])
    error = (found.displacement_x + 1.62)[INNER]
    assert np.isfinite(error).mean() > 0.9
    assert rms(error[np.isfinite(error)]) < 0.05


def test_a_saturated_region_is_marked(rigid_pair: Pair) -> None:
    sample = rigid_pair.sample.copy()
    sample[100:200, 100:200] = 65535
    assert refused(cross_spot(sample, rigid_pair.reference, search=6), np.s_[112:188, 112:188])


def test_frames_without_speckle_are_marked() -> None:
    random = np.random.default_rng(1)
    y, x = np.mgrid[:200, :200]
    spots = 1000 + 100 * np.cos(2 * np.pi * x / 5) * np.cos(2 * np.pi * y / 5)
    stripes = 1000 + 100 * np.cos(2 * np.pi * x / 5) + 0 * y
    everywhere = np.s_[:, :]
    for pattern in (spots, stripes):
        pair = random.poisson(pattern), random.poisson(np.roll(pattern, 1, 1))
        assert refused(cross_spot(*pair, search=8), everywhere)
    assert refused(cross_spot(np.ones((200, 200)), np.ones((200, 200))), everywhere)
    noise = random.normal(size=(2, 200, 200))
    assert np.isnan(cross_spot(noise[0], noise[1], search=8).displacement_y).mean() > 0.98


def test_a_displacement_beyond_the_search_is_marked(rigid_pair: Pair) -> None:
    far = np.roll(rigid_pair.reference, 15, 0)
    found = cross_spot(rigid_pair.sample, far, search=8, rigid=None)
    assert np.isnan(found.displacement_y).mean() > 0.95
    found = cross_spot(rigid_pair.sample, far, search=8)
    assert rms((found.displacement_y - (0.37 - 15))[INNER]) < 0.03


def test_the_template_grows_where_the_peak_is_weak() -> None:
    pair = displaced_pair((256, 256), displacement_y=1.3, counts=300, contrast=0.1, seed=3)
    small = cross_spot(pair.sample, pair.reference, window=11, search=4)
    grown = cross_spot(pair.sample, pair.reference, window=(11, 31), search=4)
    errors = [found.displacement_y[INNER] - 1.3 for found in (small, grown)]
    assert np.nanstd(errors[1]) < 0.5 * np.nanstd(errors[0])
    assert set(np.unique(grown.window[np.s_[40:-40:4, 40:-40:4]])) <= {11, 15, 21, 29, 31}
    assert grown.window[INNER].max() == 31


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"window": 20}, "window"),
        ({"window": 3}, "window"),
        ({"window": (41, 11)}, "window"),
        ({"search": 0}, "search"),
        ({"search": -3}, "search"),
        ({"search": 2.5}, "search"),
        ({"step": 0}, "step"),
        ({"step": 22}, "step"),
        ({"good": 1.2}, "good"),
        ({"rigid": "guess"}, "rigid"),
        ({"rigid": (1, 2, 3)}, "rigid"),
        ({"window": 201}, "window"),
    ],
)
def test_settings_that_make_no_sense(kwargs: dict[str, object], name: str) -> None:
    image = np.zeros((100, 100))
    with pytest.raises(InputError, match=name) as caught:
        cross_spot(image, image, **kwargs)  # type: ignore[arg-type]
    assert caught.value.remedy


def test_images_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"\(100, 100\).*\(100, 90\)"):
        cross_spot(np.zeros((100, 100)), np.zeros((100, 90)))
    with pytest.raises(InputError, match="3 sample frames but 2 reference"):
        cross_spot(np.zeros((3, 100, 100)), np.zeros((2, 100, 100)))
    with pytest.raises(InputError, match="4 dimensions"):
        cross_spot(np.zeros((1, 1, 100, 100)), np.zeros((100, 100)))
    with pytest.raises(InputError, match="complex"):
        cross_spot(np.zeros((100, 100), complex), np.zeros((100, 100)))
    with pytest.raises(InputError, match="object"):
        cross_spot(np.zeros((100, 100)), np.zeros((100, 100), object))


def test_tiles_smaller_than_the_halo_are_merged_and_given_back(rigid_pair: Pair) -> None:
    whole = cross_spot(rigid_pair.sample, rigid_pair.reference, search=6)
    small = da.from_array(rigid_pair.sample, chunks=40)
    tiles = cross_spot(small, rigid_pair.reference, search=6)
    assert tiles.displacement_y.chunks == small.chunks
    found = tiles.displacement_y.compute()
    known = np.isfinite(whole.displacement_y)
    assert np.array_equal(known, np.isfinite(found))
    assert np.abs(found - whole.displacement_y)[known].max() < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"window": 15.0},
        {"window": np.array([11, 21])},
        {"window": [11, 21]},
        {"window": np.int16(15), "search": np.float32(6)},
        {"window": 15, "rigid": np.array([0, 2])},
        {"window": 15, "rigid": [0.0, 2.0], "good": np.float32(0.5)},
    ],
)
def test_settings_come_in_many_types(settings: dict[str, Any]) -> None:
    pair = displaced_pair((96, 96), displacement_x=2.3, seed=1)
    found = wd.cross_spot(pair.sample, pair.reference, **{"search": 6, **settings})
    assert np.nanmedian(found.displacement_x) == pytest.approx(2.3, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": np.nan}, "window is nan"),
        ({"window": "15"}, "window is '15'"),
        ({"window": (5, 11, 21)}, r"window is \(5, 11, 21\)"),
        ({"search": (4, 8)}, r"search is \(4, 8\)"),
        ({"search": "8"}, "search is '8'"),
        ({"search": None}, "search is None"),
        ({"good": "0.8"}, "good is '0.8'"),
        ({"rigid": (1, np.nan)}, r"rigid is \(1, nan\)"),
        ({"rigid": "none"}, "rigid is 'none'"),
        ({"rigid": [1, 2, 3]}, r"rigid is \[1, 2, 3\]"),
        ({"engine": "opencv", "step": "4"}, "step is '4'"),
    ],
)
def test_settings_of_other_types_are_refused(settings: dict[str, Any], message: str) -> None:
    image = np.zeros((64, 64))
    with pytest.raises(InputError, match=message):
        wd.cross_spot(image, image, **settings)


def test_stacks_without_frames_and_of_unknown_length() -> None:
    none, image = np.zeros((0, 64, 64), np.float32), np.zeros((64, 64), np.float32)
    for sample in (none, da.from_array(none)):
        assert all(field.shape == (0, 64, 64) for field in wd.cross_spot(sample, image))
        with pytest.raises(InputError, match=r"joint sample has shape \(0, 64, 64\)"):
            wd.cross_spot(sample, image, joint=True)
    lazy = da.zeros((3, 64, 64), chunks=(1, 64, 64))
    unknown = lazy[da.from_array(np.array([True, False, True]), chunks=1)]
    for pair in ((unknown, image), (lazy, unknown)):
        with pytest.raises(InputError, match=r"unknown size.*compute_chunk_sizes"):
            wd.cross_spot(*pair)


@pytest.mark.parametrize("references", [1, 500])
def test_the_graph_of_many_frames_is_small(references: int) -> None:
    frames = 500
    samples, targets = (
        da.zeros((count, 32, 32), chunks=(1, 32, 32), dtype=np.float32)
        for count in (frames, references)
    )
    found = wd.cross_spot(samples, targets, window=9, search=3)
    for field in found:
        for name, layer in field.dask.layers.items():
            # A layer that is a dictionary takes kilobytes for each frame on the client.
            assert not layer.is_materialized() or len(layer) == 1, name
