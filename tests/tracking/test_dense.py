"""The dense engine: accuracy against exact truth, honest error bars, and what it refuses."""

from typing import Any, Literal

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import compute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import wavedask as wd
from wavedask.errors import InputError
from wavedask.kernels.fields import Fields
from wavedask.simulate import Pair, displaced_pair, speckle_field

Array = NDArray[Any]
Region = tuple[slice, slice]

SHAPE = (512, 512)
SHIFT = (0.37, -1.62)
GRAIN, CONTRAST, COUNTS = 4.0, 0.25, 8000.0


def inner(margin: int) -> Region:
    return np.s_[margin:-margin, margin:-margin]


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def errors(found: Fields, pair: Pair, margin: int = 30) -> Array:
    """Errors (component, row, column) away from the border; NaN is an error of the test."""
    region = inner(margin)
    return np.stack(
        [
            (found.displacement_y - pair.displacement_y)[region],
            (found.displacement_x - pair.displacement_x)[region],
        ]
    )


def rigid_pair(seed: int = 1, **kwargs: Any) -> Pair:
    shift: dict[str, Any] = {"displacement_y": SHIFT[0], "displacement_x": SHIFT[1]}
    return displaced_pair(kwargs.pop("shape", SHAPE), **shift, seed=seed, **kwargs)


def ramp(gradient: float) -> dict[str, Any]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - 256.0
    return {"displacement_y": gradient * y, "displacement_x": gradient * x}


def wave(period: float, shape: tuple[int, int] = SHAPE) -> Array:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(2 * np.sin(2 * np.pi * y / period) * np.cos(2 * np.pi * x / period))


def cramer_rao(*, window: int, grain: float, contrast: float, counts: float, seed: int) -> float:
    """Bound of the rms error per component: noise of two images over the pattern's gradient."""
    spectrum = speckle_field(SHAPE[0], grain=grain, contrast=contrast, seed=seed).spectrum
    power = np.abs(spectrum) ** 2
    power[:, 1:] *= 2  # the half plane that rfft2 leaves out
    frequency = 2 * np.pi * np.fft.fftfreq(len(power))[:, None]
    gradient = (counts * contrast) ** 2 * np.sum(frequency**2 * power) / power.sum()
    return float(np.sqrt(2 * counts / (window**2 * gradient)))


@pytest.fixture(scope="module")
def rigid() -> Pair:
    return rigid_pair()


@pytest.fixture(scope="module")
def tracked(rigid: Pair) -> Fields:
    return wd.cross_spot(rigid.sample, rigid.reference, window=15, search=4)


def test_a_rigid_shift_to_the_photon_limit(rigid: Pair, tracked: Fields) -> None:
    found = [errors(tracked, rigid)]
    for seed in (2, 3, 4):
        pair = rigid_pair(seed)
        found.append(errors(wd.cross_spot(pair.sample, pair.reference, window=15, search=4), pair))
    every = np.stack(found)
    assert rms(every) <= 0.0105
    assert np.abs(every.mean(axis=(0, 2, 3))).max() <= 0.001
    assert np.abs(every).max() < 0.08


def test_without_noise_only_interpolation_is_left() -> None:
    for fraction in np.linspace(0, 1, 9):
        pair = displaced_pair(
            (256, 256), displacement_y=fraction, displacement_x=-fraction / 2, noise=False, seed=5
        )
        error = errors(wd.cross_spot(pair.sample, pair.reference, window=15, search=4), pair)
        assert rms(error) <= 0.002, fraction
        assert np.abs(error.mean(axis=(1, 2))).max() <= 0.001, fraction


def test_fine_structure_is_not_smoothed_away() -> None:
    pair = displaced_pair(SHAPE, displacement_y=wave(96), displacement_x=-wave(96), seed=2)
    found = wd.cross_spot(pair.sample, pair.reference, window=15)
    assert rms(errors(found, pair)) <= 0.022


def test_a_lens() -> None:
    every = []
    for seed, gradient in ((1, -0.03), (2, 0.03), (3, -0.03), (1, 0.03)):
        pair = displaced_pair(SHAPE, **ramp(gradient), seed=seed)
        # The edge of a converging lens comes from the very edge of the reference: no start there.
        every.append(errors(wd.cross_spot(pair.sample, pair.reference, window=15), pair, 40))
    assert rms(np.stack(every)) <= 0.0105


@pytest.mark.parametrize("gradient", [0.1, -0.1])
def test_a_strong_lens_of_which_nothing_is_known(gradient: float) -> None:
    pair = displaced_pair(SHAPE, **ramp(gradient), seed=1)
    found = wd.cross_spot(pair.sample, pair.reference, window=15, search=32)
    error = errors(found, pair, 60)
    assert rms(error) <= 0.015
    assert np.abs(error).max() <= 0.2


def test_a_search_as_far_as_64_pixels() -> None:
    y, _ = np.mgrid[: SHAPE[0], : SHAPE[1]] - 256.0
    pair = displaced_pair(SHAPE, displacement_y=0.08 * y, displacement_x=60.3, seed=4)
    found = wd.cross_spot(pair.sample, pair.reference, window=21, search=64, rigid=None)
    assert rms(errors(found, pair, 110)) < 0.0105
    assert well_marked(found)


@pytest.fixture(scope="module")
def patterns() -> list[Pair]:
    """Sixteen speckle patterns at one displacement, without noise."""
    return [rigid_pair(20 + k, shape=(256, 256), noise=False) for k in range(16)]


def exposed(
    patterns: list[Pair], *, contrast: float, counts: float, seed: int
) -> tuple[Array, Array]:
    """Samples and references of a contrast, with the photon noise of so many counts."""
    random = np.random.default_rng(seed)
    stacks = np.array([[pair.sample for pair in patterns], [pair.reference for pair in patterns]])
    mean = counts * (1 + contrast / CONTRAST * (stacks / COUNTS - 1))
    samples, references = random.poisson(mean).astype(np.float32)
    return samples, references


def shift_errors(found: Fields, margin: int = 30) -> Array:
    region = inner(margin)
    return np.stack(
        [found.displacement_y[region] - SHIFT[0], found.displacement_x[region] - SHIFT[1]]
    )


def test_a_stack_at_five_pixels(patterns: list[Pair]) -> None:
    samples, references = exposed(patterns, contrast=CONTRAST, counts=COUNTS, seed=1)
    found = wd.cross_spot(samples, references, window=5, search=4, joint=True)
    assert found.displacement_y.shape == (256, 256)
    assert rms(shift_errors(found)) <= 0.0085


@pytest.mark.parametrize(
    ("grain", "contrast", "counts"),
    [(4.0, 0.25, 8000.0), (2.5, 0.25, 8000.0), (4.0, 0.06, 8000.0), (4.0, 0.25, 500.0)],
)
def test_within_reach_of_the_cramer_rao_bound(grain: float, contrast: float, counts: float) -> None:
    pair = rigid_pair(6, grain=grain, contrast=contrast, counts=counts)
    found = wd.cross_spot(pair.sample, pair.reference, window=15, search=4)
    bound = cramer_rao(window=15, grain=grain, contrast=contrast, counts=counts, seed=6)
    assert 0.8 < rms(errors(found, pair)) / bound < 1.3


@pytest.mark.parametrize("images", [1, 16])
@pytest.mark.parametrize(
    ("contrast", "counts"), [(0.25, 8000.0), (0.25, 500.0), (0.06, 8000.0), (0.1, 1000.0)]
)
@pytest.mark.parametrize("window", [11, 15, 31])
def test_the_error_bar_is_that_of_the_errors(
    patterns: list[Pair], contrast: float, counts: float, window: int, images: int
) -> None:
    region = inner(40)
    scores = []
    # Windows of 31 fit into the frame a few times only: several exposures are pooled.
    for seed in range(3):
        samples, references = exposed(
            patterns if images == 16 else patterns[5 * seed : 5 * seed + 1],
            contrast=contrast,
            counts=counts,
            seed=seed,
        )
        found = wd.cross_spot(samples, references, window=window, search=4, joint=True)
        sigma = np.stack([found.uncertainty_y[region], found.uncertainty_x[region]])
        scores.append(shift_errors(found, 40) / sigma)
    assert 0.8 < rms(np.stack(scores)) < 1.25


def test_dead_pixels_carry_no_weight(rigid: Pair, tracked: Fields) -> None:
    random = np.random.default_rng(7)
    sample, reference = rigid.sample.copy(), rigid.reference.copy()
    for image in (sample, reference):
        image[random.random(SHAPE) < 0.03] = np.nan
    found = wd.cross_spot(sample, reference, window=15, search=4)
    assert rms(errors(found, rigid)) < 1.1 * rms(errors(tracked, rigid))


def refused(found: Fields, region: Region) -> bool:
    """Whether every pixel of a region is marked and not guessed."""
    return bool(
        np.isnan(found.displacement_y[region]).all()
        and np.isnan(found.displacement_x[region]).all()
        and np.isinf(found.uncertainty_y[region]).all()
        and np.isinf(found.uncertainty_x[region]).all()
        and (found.window[region] == 0).all()
        and np.isnan(found.transmission[region]).all()
        and np.isnan(found.dark_field[region]).all()
    )


def well_marked(found: Fields) -> bool:
    """Whether a number stands where there is a match, and only there."""
    known = np.isfinite(found.displacement_y)
    return all(
        np.array_equal(known, there)
        for there in (
            np.isfinite(found.displacement_x),
            np.isfinite(found.uncertainty_y),
            np.isfinite(found.uncertainty_x),
            np.isfinite(found.transmission),
            found.window > 0,
        )
    )


def test_a_beam_stop_is_marked_and_right_beside_it_tracked(rigid: Pair, tracked: Fields) -> None:
    sample = rigid.sample.copy()
    sample[200:280, 180:300] = np.nan
    found = wd.cross_spot(sample, rigid.reference, window=15, search=4)
    assert refused(found, np.s_[208:272, 188:292])
    assert well_marked(found)
    elsewhere = rms(errors(tracked, rigid))
    half = 8
    ring = np.zeros(SHAPE, bool)
    ring[200 - half - 3 : 280 + half + 3, 180 - half - 3 : 300 + half + 3] = True
    ring[200 - half : 280 + half, 180 - half : 300 + half] = False
    error = np.stack([found.displacement_y - SHIFT[0], found.displacement_x - SHIFT[1]])[:, ring]
    assert np.isfinite(error).all()
    assert rms(error) < 2 * elsewhere
    # What is far from the stop does not know of it.
    assert np.abs(found.displacement_y - tracked.displacement_y)[30:100, 30:-30].max() < 2e-3


def test_what_came_from_outside_the_reference_is_marked() -> None:
    pair = displaced_pair((256, 256), displacement_x=40.0, seed=8)
    found = wd.cross_spot(pair.sample, pair.reference, window=15, search=4)
    assert refused(found, np.s_[:, :30])
    assert well_marked(found)
    assert rms((found.displacement_x - 40)[30:-30, 60:-30]) < 0.015


def test_what_is_outside_the_beam_is_marked(rigid: Pair) -> None:
    y, x = np.mgrid[:512, :512] - 256.0
    radius = np.hypot(y, x)
    sample = np.where(radius < 200, rigid.sample, np.nan)
    found = wd.cross_spot(sample, rigid.reference, window=15, search=4)
    known = np.isfinite(found.displacement_y)
    assert not known[radius > 208].any()
    assert known[radius < 190].all()
    assert rms(found.displacement_x[radius < 190] + 1.62) < 0.0115


def test_frames_without_speckle_are_refused() -> None:
    random = np.random.default_rng(1)
    y, x = np.mgrid[:200, :200]
    spots = 1000 + 100 * np.cos(2 * np.pi * x / 5) * np.cos(2 * np.pi * y / 5)
    stripes = 1000 + 100 * np.cos(2 * np.pi * x / 5) + 0 * y
    everywhere = np.s_[:, :]
    pair = random.poisson(spots), random.poisson(np.roll(spots, 1, 1))
    assert refused(wd.cross_spot(*pair, search=8), everywhere)
    # Noise crosses the stripes, and by chance it may look like a pattern.
    pair = random.poisson(stripes), random.poisson(np.roll(stripes, 1, 1))
    found = wd.cross_spot(*pair, search=8)
    assert np.isnan(found.displacement_y).mean() > 0.99
    assert well_marked(found)
    assert refused(wd.cross_spot(np.ones((200, 200)), np.ones((200, 200))), everywhere)
    assert refused(wd.cross_spot(np.full((200, 200), np.nan), spots), everywhere)


def test_two_noises_have_nothing_in_common() -> None:
    noise = np.random.default_rng(1).normal(size=(2, 256, 256))
    found = wd.cross_spot(noise[0], noise[1], search=8)
    assert np.isnan(found.displacement_y).mean() > 0.98
    assert well_marked(found)


def test_a_saturated_region_is_refused(rigid: Pair) -> None:
    sample = rigid.sample.copy()
    sample[100:200, 100:200] = 65535
    found = wd.cross_spot(sample, rigid.reference, search=4)
    assert refused(found, np.s_[112:188, 112:188])
    assert well_marked(found)


def test_a_displacement_beyond_the_search_is_refused(rigid: Pair) -> None:
    far = np.roll(rigid.reference, 25, 0)
    found = wd.cross_spot(rigid.sample, far, search=8, rigid=None)
    assert np.isnan(found.displacement_y).mean() > 0.98
    found = wd.cross_spot(rigid.sample, far, search=8)
    assert rms((found.displacement_y - (0.37 - 25))[inner(60)]) < 0.0105


def modulated(pair: Pair, transmission: Array, visibility: Array) -> Array:
    """Sample image behind something that absorbs, and scatters what it leaves of the pattern."""
    mean = transmission * COUNTS * (1 + visibility * (pair.sample / COUNTS - 1))
    return np.asarray(np.random.default_rng(9).poisson(mean))


def test_transmission_and_dark_field() -> None:
    shape = (384, 384)
    y, x = np.mgrid[: shape[0], : shape[1]]
    transmission = 0.7 + 0.2 * np.sin(2 * np.pi * y / 400)
    pair = displaced_pair(shape, displacement_y=0.4, displacement_x=2.2, noise=False, seed=9)
    reference = np.random.default_rng(10).poisson(pair.reference)
    region = inner(40)
    clear = wd.cross_spot(
        modulated(pair, transmission, np.ones(shape)), reference, window=21, search=4
    )
    assert np.abs(clear.transmission / transmission - 1)[region].max() < 0.01
    assert rms((clear.dark_field - 1)[region]) < 0.03
    assert abs(clear.dark_field[region].mean() - 1) < 0.005
    # With a weaker pattern the ratio of the local means is not that of the whole.
    visibility = 0.75 + 0.2 * np.cos(2 * np.pi * x / 400)
    dim = wd.cross_spot(modulated(pair, transmission, visibility), reference, window=21, search=4)
    exact = transmission * COUNTS * (1 + visibility * (pair.sample / COUNTS - 1))
    ratio = ndimage.uniform_filter(exact, 21) / ndimage.uniform_filter(pair.sample, 21)
    gain = dim.transmission * dim.dark_field / (transmission * visibility)
    assert rms((dim.transmission / ratio - 1)[region]) < 0.01
    assert rms((gain - 1)[region]) < 0.03
    assert abs(gain[region].mean() - 1) < 0.005


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(gain=st.floats(0.01, 7.5), pedestal=st.floats(-500, 5000))
def test_the_scale_of_the_counts_does_not_matter(gain: float, pedestal: float) -> None:
    pair = rigid_pair(10, shape=(128, 128))
    found = wd.cross_spot(pair.sample, pair.reference, window=15, search=4)
    scaled = wd.cross_spot(
        gain * pair.sample + pedestal, pair.reference + 2 * pedestal, window=15, search=4
    )
    known = np.isfinite(found.displacement_y) & np.isfinite(scaled.displacement_y)
    assert known[25:-25, 25:-25].all()
    assert np.abs(found.displacement_y - scaled.displacement_y)[known].max() < 2e-3


def test_sixty_thousand_counts_on_a_pedestal(rigid: Pair, tracked: Fields) -> None:
    scale = 60000 / rigid.sample.max()
    found = wd.cross_spot(
        (scale * rigid.sample + 1000).astype(np.float32),
        (scale * rigid.reference + 1000).astype(np.float32),
        window=15,
        search=4,
    )
    for name in ("displacement_y", "displacement_x"):
        difference = getattr(found, name) - getattr(tracked, name)
        assert np.abs(difference[inner(25)]).max() < 2e-3


def test_swapping_the_pair_flips_the_sign(rigid: Pair, tracked: Fields) -> None:
    back = wd.cross_spot(rigid.reference, rigid.sample, window=15, search=4)
    both = errors(tracked, rigid)[0] + (back.displacement_y[inner(30)] + SHIFT[0])
    assert rms(both) < 0.01


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shift=st.tuples(st.integers(-30, 30), st.integers(-30, 30)))
def test_rolling_the_pair_rolls_the_result(shift: tuple[int, int]) -> None:
    pair = displaced_pair((272, 272), displacement_y=0.8, displacement_x=wave(96, (272, 272)))
    here = wd.cross_spot(pair.sample, pair.reference, window=15, search=6)
    rolled = wd.cross_spot(
        np.roll(pair.sample, shift, (0, 1)),
        np.roll(pair.reference, shift, (0, 1)),
        window=15,
        search=6,
    )
    back = np.roll(rolled.displacement_x, (-shift[0], -shift[1]), (0, 1))
    # Far from the seam, which the low-pass feels for some windows. Nodes lie elsewhere on the
    # pattern: the same field within a fraction of the noise (0.010 px).
    region = inner(100)
    assert rms((back - here.displacement_x)[region]) < 0.006


def test_a_quintic_spline_is_less_biased_where_grains_are_fine() -> None:
    pair = displaced_pair(
        (256, 256), displacement_y=0.25, displacement_x=-0.25, grain=2.2, noise=False, seed=11
    )
    cubic, quintic = (
        rms(
            errors(
                wd.cross_spot(pair.sample, pair.reference, window=15, search=4, order=order), pair
            )
        )
        for order in (3, 5)
    )
    assert quintic < 0.6 * cubic
    assert quintic < 0.004


def test_the_order_follows_from_the_grain() -> None:
    sides: tuple[tuple[float, Literal[3, 5]], ...] = ((2.0, 5), (5.0, 3))
    for grain, order in sides:
        pair = displaced_pair((128, 128), displacement_x=0.5, grain=grain, seed=8)
        sample, reference = (
            xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
        )
        options: Any = {"window": 15, "search": 4}
        chosen = wd.track(sample.chunk(), reference.chunk(), order="auto", **options)
        assert chosen.attrs["spline_order"] == order
        known = wd.track(sample, reference, order=order, **options)
        assert np.array_equal(known.displacement_x, chosen.displacement_x, equal_nan=True)
    with pytest.raises(InputError, match="order is 4"):
        wd.track(sample, reference, order=4)  # type: ignore[arg-type] # what is refused


def tiles_differ(whole: Fields, tiles: Fields, margin: int = 40) -> tuple[float, float]:
    """Largest rms and largest absolute difference of the displacements away from the border."""
    region = inner(margin)
    differences = np.stack([(a - b)[region] for a, b in zip(whole[:2], tiles[:2], strict=True)])
    assert np.array_equal(
        np.isfinite(whole.displacement_y[region]), np.isfinite(tiles.displacement_y[region])
    )
    known = differences[np.isfinite(differences)]
    assert known.size > 0.9 * differences.size
    return rms(known), float(np.abs(known).max())


@pytest.mark.parametrize("tile", [256, ((151, 203, 158), (173, 150, 189))])
@pytest.mark.parametrize("window", [15, (11, 31)])
def test_tiles_give_what_one_block_gives(tile: Any, window: Any) -> None:
    pair = displaced_pair(
        SHAPE, displacement_y=wave(150), displacement_x=3 + 0.5 * wave(200), counts=2000, seed=12
    )
    whole = wd.cross_spot(pair.sample, pair.reference, window=window, search=8)
    tiles = wd.cross_spot(
        da.from_array(pair.sample, chunks=tile), pair.reference, window=window, search=8
    )
    average, largest = tiles_differ(whole, Fields(*compute(*tiles)))
    assert average < 1e-3
    assert largest < 5e-3


def test_tiles_of_a_stack(patterns: list[Pair]) -> None:
    samples, references = exposed(patterns[:3], contrast=CONTRAST, counts=500.0, seed=2)
    whole = wd.cross_spot(samples, references, window=9, search=4, joint=True)
    tiles = wd.cross_spot(
        da.from_array(samples, chunks=(1, 101, 155)), references, window=9, search=4, joint=True
    )
    average, largest = tiles_differ(whole, Fields(*compute(*tiles)))
    assert average < 1e-3
    assert largest < 5e-3


@pytest.fixture(scope="module")
def fading() -> Pair:
    """Speckle of which little is left in the right half."""
    pair = displaced_pair(
        SHAPE, displacement_y=0.3 * wave(200), displacement_x=0.7, noise=False, seed=13
    )
    random = np.random.default_rng(13)
    left = 1 / (1 + np.exp((np.arange(SHAPE[1]) - 256) / 12))
    visibility = 0.08 + 0.92 * left

    def exposed(image: Array) -> Array:
        return np.asarray(random.poisson(2000 + visibility * (image / 4 - 2000)), np.float32)

    return Pair(
        exposed(pair.sample), exposed(pair.reference), pair.displacement_y, pair.displacement_x
    )


def test_windows_grow_where_they_must(fading: Pair) -> None:
    small = wd.cross_spot(fading.sample, fading.reference, window=11, search=4)
    grown = wd.cross_spot(fading.sample, fading.reference, window=(11, 41), search=4)
    strong, weak = np.s_[60:-60, 60:200], np.s_[60:-60, 312:-60]
    fields = [found.displacement_y - fading.displacement_y for found in (small, grown)]
    assert np.nanstd(fields[1][weak]) < 0.5 * np.nanstd(fields[0][weak])
    assert rms(fields[1][strong]) < 1.05 * rms(fields[0][strong])
    assert (grown.window[strong] == 11).mean() > 0.95
    assert np.median(grown.window[weak]) > 20
    assert 11 <= grown.window[grown.window > 0].min() <= grown.window.max() <= 41


def test_growing_leaves_no_seams(fading: Pair) -> None:
    small = wd.cross_spot(fading.sample, fading.reference, window=11, search=4)
    grown = wd.cross_spot(fading.sample, fading.reference, window=(11, 41), search=4)
    region = np.s_[60:-60, 180:330]
    steps = [np.abs(np.diff(found.displacement_y[region], axis=1)) for found in (small, grown)]
    # A seam would be a step that the smallest window, which has the most noise, does not make.
    assert np.nanmax(steps[1]) < np.nanmax(steps[0])
    assert np.nanmax(np.abs(np.diff(grown.window[region], axis=1))) < 11


@pytest.mark.parametrize("period", [None, 256])
def test_both_engines_agree_within_the_noise(period: int | None) -> None:
    shape = (256, 256)
    field = 0.37 if period is None else 0.5 * wave(period, shape)
    pair = displaced_pair(shape, displacement_y=field, displacement_x=-1.62, seed=14)
    dense, loop = (
        wd.cross_spot(pair.sample, pair.reference, window=21, search=6, engine=engine)
        for engine in ("dense", "opencv")
    )
    region = inner(40)
    for name in ("displacement_y", "displacement_x"):
        difference = (getattr(dense, name) - getattr(loop, name))[region]
        assert rms(difference) < 0.04
        assert abs(difference.mean()) < 0.004
