"""The stated errors hold where the noise is not white, and where the field is not smooth."""

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import wavedask as wd
from wavedask.simulate import displaced_pair, speckle_field

Array = NDArray[Any]
SIZE = 224
SHIFT = (0.37, -1.62)
WINDOW = 21
FWHM = float(np.sqrt(8 * np.log(2)))
Scene = tuple[Array, Array, tuple[Any, Any]]


def inside() -> Array:
    counted = np.zeros((SIZE, SIZE), np.bool_)
    counted[2 * WINDOW : -2 * WINDOW, 2 * WINDOW : -2 * WINDOW] = True
    return counted


def ratio(scene: Callable[[int], Scene], counted: Array, seeds: int = 2) -> tuple[float, float]:
    """Rms of error over stated error, and the part of the pixels that has no displacement."""
    scores = []
    for seed in range(seeds):
        sample, reference, truth = scene(seed)
        found = wd.cross_spot(sample, reference, window=WINDOW, search=6)
        for u, true, error in zip(found[:2], truth, found[2:4], strict=True):
            scores.append(np.where(np.isfinite(u), (u - true) / error, np.nan)[counted])
    every = np.array(scores)
    return float(np.sqrt(np.nanmean(every**2))), float(np.isnan(every).mean())


def blurred(seed: int, blur: float) -> Scene:
    """Noise and speckle blurred alike, as a scintillator does."""
    grain = float(np.sqrt(max(16 - blur**2, 4)))
    pair = displaced_pair(
        (SIZE, SIZE), displacement_y=SHIFT[0], displacement_x=SHIFT[1], grain=grain, seed=seed
    )
    sigma = blur / FWHM
    images = [ndimage.gaussian_filter(i, sigma) for i in (pair.sample, pair.reference)]
    return images[0], images[1], SHIFT


def magnified_then_blurred(seed: int) -> Scene:
    """A lens magnifies the speckle before the scintillator blurs it: the blur is not magnified."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    u_y, u_x = 0.03 * (y - SIZE / 2), 0.03 * (x - SIZE / 2)
    pattern = speckle_field(SIZE + 16, grain=2.65, seed=seed)
    random = np.random.default_rng(seed)
    images = [
        ndimage.gaussian_filter(random.poisson(8000 * image).astype(np.float32), 3 / FWHM)
        for image in (pattern(y - u_y, x - u_x), pattern(y, x))
    ]
    return images[0], images[1], (u_y, u_x)


def decorrelated(seed: int, lost: float, grain: float) -> Scene:
    """Part of the speckle of the sample is that of another pattern."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    first, other = (speckle_field(SIZE + 8, grain=grain, seed=seed + k) for k in (0, 1000))
    kept = 1 - lost
    moved = first(y - SHIFT[0], x - SHIFT[1])
    mixed = 1 + kept * (moved - 1) + np.sqrt(1 - kept**2) * (other(y, x) - 1)
    random = np.random.default_rng(seed)
    images = [random.poisson(8000 * image).astype(np.float32) for image in (mixed, first(y, x))]
    return images[0], images[1], SHIFT


@pytest.mark.parametrize("blur", [1.5, 2.0, 3.0, 4.0])
def test_a_scintillator(blur: float) -> None:
    score, marked = ratio(lambda seed: blurred(seed, blur), inside())
    assert 0.85 < score < 1.2
    assert marked == 0


# Grains of half a window: few are independent, and the stated error is on the safe side.
@pytest.mark.parametrize(
    ("lost", "grain", "least"), [(0.05, 4.0, 0.75), (0.1, 4.0, 0.75), (0.1, 10.0, 0.5)]
)
def test_speckle_that_partly_decorrelates(lost: float, grain: float, least: float) -> None:
    score, marked = ratio(lambda seed: decorrelated(seed, lost, grain), inside(), seeds=3)
    assert least < score < 1.25
    assert marked < 0.05


def test_a_scintillator_behind_a_lens() -> None:
    """What the blur leaves of a magnified pattern is no noise."""
    found, _ = ratio(magnified_then_blurred, inside(), seeds=4)
    assert 0.88 < found < 1.15


def test_hot_pixels_in_the_same_places() -> None:
    def hot(seed: int) -> Scene:
        pair = displaced_pair(
            (SIZE, SIZE), displacement_y=SHIFT[0], displacement_x=SHIFT[1], seed=seed
        )
        where = np.random.default_rng(seed).random((SIZE, SIZE)) < 0.01
        images = [np.where(where, 20_000, i).astype("f4") for i in (pair.sample, pair.reference)]
        return images[0], images[1], SHIFT

    score, marked = ratio(hot, inside())
    assert 0.8 < score < 1.15
    assert marked == 0


def absorbing_edge(seed: int) -> Scene:
    """A transmission that rises from 0.3 to 1 within 3 px, a little off the axes."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    away = (x - SIZE / 2) * np.cos(0.2) + (y - SIZE / 2) * np.sin(0.2)
    transmission = 0.3 + 0.7 / (1 + np.exp(-1.5 * away))
    speckle = speckle_field(SIZE + 8, grain=4.0, seed=seed)
    random = np.random.default_rng(seed)
    sample = random.poisson(8000 * transmission * speckle(y - SHIFT[0], x - SHIFT[1]))
    reference = random.poisson(8000 * speckle(y, x))
    return sample.astype(np.float32), reference.astype(np.float32), SHIFT


def test_an_absorbing_edge_is_no_displacement() -> None:
    """Unless it is divided out, errors are 0.2 px and a seventh of the pixels is marked."""
    score, marked = ratio(absorbing_edge, inside())
    assert 0.75 < score < 1.25
    assert marked < 0.01
    sample, reference, _ = absorbing_edge(5)
    found = wd.cross_spot(sample, reference, window=WINDOW, search=6)
    wrong = np.stack([u - true for u, true in zip(found[:2], SHIFT, strict=True)])[:, inside()]
    assert np.sqrt(np.nanmean(wrong**2)) < 0.05
    # The ratio of the means stays that of the images as they are.
    assert np.abs(found.transmission[60:-60, 45:70] - 0.3).max() < 0.02
    lazy = da.from_array(sample, chunks=(SIZE, 112))
    tiles = da.compute(*wd.cross_spot(lazy, reference, window=WINDOW, search=6)[:4])
    apart = np.abs(np.stack(tiles[:2]) - np.stack(found[:2])) / np.stack(found[2:4])
    assert np.nanmax(apart[:, inside()]) < 0.2


def flat_field_noise(seed: int) -> Scene:
    """A gain of the pixels that varies by 3 %, the same in both images, and 0.3 px displacement."""
    truth = 0.3, -0.2
    pair = displaced_pair((SIZE, SIZE), displacement_y=truth[0], displacement_x=truth[1], seed=seed)
    gain = 1 + 0.03 * np.random.default_rng(seed).standard_normal((SIZE, SIZE))
    images = [(image * gain).astype(np.float32) for image in (pair.sample, pair.reference)]
    return images[0], images[1], truth


@pytest.mark.parametrize("rigid", [None, (1, -2)])
def test_what_stays_with_the_detector_does_not_pull(rigid: tuple[int, int] | None) -> None:
    """Unless it is found, it pulls the displacement by a tenth of its size toward zero."""
    misses, scores = [], []
    for seed in (0, 1):
        sample, reference, truth = flat_field_noise(seed)
        found = wd.cross_spot(sample, reference, window=WINDOW, search=6, rigid=rigid)
        error = np.stack([u[inside()] - true for u, true in zip(found[:2], truth, strict=True)])
        misses.append(error.mean(axis=1))
        scores.append(error / np.stack([sigma[inside()] for sigma in found[2:4]]))
    assert np.abs(np.mean(misses, axis=0)).max() < 0.008
    assert 0.8 < np.sqrt(np.mean(np.square(scores))) < 1.35


def test_a_fixed_pattern_is_found_tile_by_tile() -> None:
    sample, reference, _ = flat_field_noise(2)
    whole = wd.cross_spot(sample, reference, window=WINDOW, search=6, rigid=(1, -2))
    lazy = da.from_array(sample, chunks=(112, 224))
    tiles = wd.cross_spot(lazy, reference, window=WINDOW, search=6, rigid=(1, -2))
    for one, other in zip(whole[:2], da.compute(*tiles[:2]), strict=True):
        assert np.abs(one - other)[inside()].max() < 2e-3


def test_waves_of_three_windows_and_curved_borders() -> None:
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    k = 2 * np.pi / 60
    wave = 0.2 * np.sin(k * y) * np.cos(k * x), 0.2 * np.cos(k * y) * np.sin(k * x)
    down, across = 2 * y / SIZE - 1, 2 * x / SIZE - 1
    cubic = 4 * (down**2 + across**2) * down, 4 * (down**2 + across**2) * across

    def scene(seed: int, field: tuple[Array, Array]) -> Scene:
        pair = displaced_pair(
            (SIZE, SIZE), displacement_y=field[0], displacement_x=field[1], seed=seed
        )
        return pair.sample, pair.reference, field

    assert 0.7 < ratio(lambda seed: scene(seed, wave), inside())[0] < 1.25
    score, marked = ratio(lambda seed: scene(seed, cubic), ~inside())
    assert 0.7 < score < 1.5
    assert marked < 0.1


def test_the_error_bar_holds_to_the_last_row() -> None:
    edge = np.zeros((SIZE, SIZE), np.bool_)
    edge[[0, 1, 2, 3, -4, -3, -2, -1]] = True

    def rigid(seed: int) -> Scene:
        pair = displaced_pair(
            (SIZE, SIZE), displacement_y=SHIFT[0], displacement_x=SHIFT[1], seed=seed
        )
        return pair.sample, pair.reference, SHIFT

    assert 0.75 < ratio(rigid, edge, seeds=4)[0] < 1.35
