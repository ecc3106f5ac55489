"""Rows of `benchmarks/trust.py` behind the tracker: wavefront, modes, lens, means, dark field."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scenes as sc
import xarray as xr
from scipy import linalg

import wavedask as wd
from wavedask.optics import fit_lens, fit_modes, fit_wavefront

Floats = npt.NDArray[np.float64]

GRADIENT: Final = 0.03
"""Of the displacement of the lens, px/px."""
PIXEL: Final = 1e-6
DISTANCE: Final = 1.0
COUNT: Final = 15
"""Zernike modes that are fitted."""
EXPOSURES: Final = 12
GAP: Final = 9
"""Columns without data that divide the frame in two."""

Result = tuple[str, float, float, float]
"""Label, error over stated, and its target."""


def lens(y: Floats, x: Floats, size: int) -> tuple[Any, Any]:
    """Magnify about the middle of the frame."""
    return GRADIENT * (y - size / 2), GRADIENT * (x - size / 2)


def image(values: npt.NDArray[np.float32]) -> xr.DataArray:
    """Label an image or a stack."""
    return xr.DataArray(values, dims=("frame", "y", "x")[-values.ndim :])


def rms(values: Any) -> float:
    """Root mean square of what is a number."""
    finite = np.asarray(values, np.float64)
    return float(np.sqrt(np.mean(np.square(finite[np.isfinite(finite)]))))


def measured(scene: sc.Scene, *, divided: bool = False) -> tuple[xr.Dataset, xr.Dataset]:
    """Wavefront of a scene without its border, and the true one on the same pixels."""
    size = scene.sample.shape[0]
    tracking = wd.track(image(scene.sample), image(scene.reference), window=sc.WINDOW, search=12)
    true = tracking.assign(
        displacement_y=(("y", "x"), scene.true_y), displacement_x=(("y", "x"), scene.true_x)
    )
    inside = slice(sc.BORDER, size - sc.BORDER)
    mask = np.ones((size, size), np.bool_)
    if divided:
        mask[:, size // 2 + 10 : size // 2 + 10 + GAP] = False
    found, exact = (
        wd.wavefront(
            one,
            distance=DISTANCE,
            pixel_size=PIXEL,
            roi=(inside, inside),
            pupil=xr.DataArray(mask, dims=("y", "x")),
        )
        for one in (tracking, true)
    )
    return found, exact


def wavefronts(size: int, seeds: range) -> Iterator[Result]:
    """Compare wavefront, budget, modes and lens with the truth, over several patterns."""
    for label, blur, grain in (("white noise", 0.0, sc.GRAIN), ("blur 3 px", 3.0, 2.65)):
        scores: list[Floats] = []
        heights, stated = [], []
        slopes, surfaces, focus = [], [], []
        for seed in seeds:
            found, exact = measured(sc.drawn(seed, size, field=lens, blur=blur, grain=grain))
            error = (found.wavefront - exact.wavefront).values
            scores.append(error / found.wavefront_uncertainty.values)
            heights.append(error)
            stated.append(wd.budget(found).contributions[0].wavefront)
            slopes.append(pulls_of_slopes(found, exact))
            surfaces.append(pulls_of_surface(found, exact))
            focus.append(pull_of_lens(found, exact))
        yield f"wavefront, {label}", rms(scores), 0.8, 1.25
        yield f"wavefront in the budget, {label}", rms(heights) / rms(stated), 0.8, 1.25
        yield f"Zernike modes of the slopes, {label}", rms(slopes), 0.8, 1.25
        yield f"Zernike modes of the wavefront, {label}", rms(surfaces), 0.8, 1.25
        yield f"focal length, {label}", rms(focus), 0.8, 1.25
    logger = logging.getLogger("wavedask")
    level = logger.level
    # That a wavefront is in two pieces is what is measured.
    logger.setLevel(logging.ERROR)
    try:
        focus = [
            pull_of_lens(*measured(sc.drawn(seed, size, field=lens), divided=True))
            for seed in seeds
        ]
    finally:
        logger.setLevel(level)
    yield "focal length, wavefront in two pieces", rms(focus), 0.8, 1.25


def pulls_of_slopes(found: xr.Dataset, exact: xr.Dataset) -> Floats:
    """Errors of modes fitted to the slopes, over those stated."""
    one, true = (fit_wavefront(wf, count=COUNT) for wf in (found, exact))
    return np.asarray((one.coefficient - true.coefficient) / one.coefficient_uncertainty)


def pulls_of_surface(found: xr.Dataset, exact: xr.Dataset) -> Floats:
    """Errors of modes fitted to the wavefront, over those stated."""
    side = found.wavefront.shape[0]
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    one, true = (
        fit_modes(wf.wavefront.values, y, x, basis="zernike", count=COUNT) for wf in (found, exact)
    )
    return np.asarray((one.coefficients - true.coefficients)[1:] / one.errors[1:])


def pull_of_lens(found: xr.Dataset, exact: xr.Dataset) -> Floats:
    """Errors of focal length and axis, over those stated."""
    one, true = (fit_lens(wf, aperture=None) for wf in (found, exact))
    names = {
        "focal_length": "focal_length_uncertainty",
        "center_y": "center_uncertainty_y",
        "center_x": "center_uncertainty_x",
    }
    return np.array([float((one[name] - true[name]) / one[error]) for name, error in names.items()])


def train(size: int, seeds: range) -> Iterator[Result]:
    """Mean of exposures that share their reference."""
    scores = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        clean = sc.drawn(seed, size, counts=1e9)
        sample, reference = (part / 1e9 * sc.COUNTS for part in (clean.sample, clean.reference))
        samples = rng.poisson(np.broadcast_to(sample, (EXPOSURES, *sample.shape)))
        tracked = wd.track(
            image(samples.astype(np.float32)),
            image(rng.poisson(reference).astype(np.float32)),
            window=sc.WINDOW,
            search=8,
        )
        mean = wd.combine(tracked, remove_drift=False)
        for axis, true in (("y", clean.true_y), ("x", clean.true_x)):
            score = (mean[f"displacement_{axis}"] - true) / mean[f"uncertainty_{axis}"]
            scores.append(score.values[clean.counted])
    yield f"mean of {EXPOSURES} exposures, common reference", rms(scores), 0.8, 1.25


def dark_fields(size: int, seeds: range) -> Iterator[Result]:
    """Transmission and dark field of nothing, which are one, and their errors."""
    scenes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("2000 counts, contrast 0.06", {"counts": 2000.0, "contrast": 0.06}),
        ("200 counts, contrast 0.25", {"counts": 200.0}),
        ("50 counts, contrast 0.25", {"counts": 50.0}),
        ("blur 1.5 px", {"blur": 1.5, "grain": 3.7}),
        ("blur 3 px", {"blur": 3.0, "grain": 2.65}),
    )
    for label, options in scenes:
        found = []
        scores: dict[str, list[Floats]] = {"dark_field": [], "transmission": []}
        for seed in seeds:
            scene = sc.drawn(seed, size, **options)
            sample = image(scene.sample)
            fields = wd.track(sample, image(scene.reference), window=sc.WINDOW, search=8)
            errors = wd.visibility_uncertainty(fields, sample)
            found.append(np.nanmean(fields.dark_field.values[scene.counted]))
            for name, values in scores.items():
                score = (fields[name] - 1) / errors[f"{name}_uncertainty"]
                values.append(score.values[scene.counted])
        if "counts" in options:
            yield f"dark field (true 1), {label}", float(np.mean(found)), 0.98, 1.02
        yield f"dark field, error over stated, {label}", rms(scores["dark_field"]), 0.8, 1.25
        yield f"transmission, error over stated, {label}", rms(scores["transmission"]), 0.8, 1.25


def pair_means(slopes: Floats, axis: int) -> Floats:
    """Mean slope between neighbours to the fourth order, as `wavedask.integrate` takes it."""
    line = np.moveaxis(slopes, axis, 0)
    bend = np.diff(line, 2, axis=0)
    bend = np.concatenate([2 * bend[:1] - bend[1:2], bend, 2 * bend[-1:] - bend[-2:-1]])
    mean = (line[1:] + line[:-1]) / 2 - (bend[1:] + bend[:-1]) / 24
    return np.moveaxis(mean, 0, axis)


def integrations() -> Iterator[Result]:
    """Compare the noise of weighted integration with the least that is possible.

    Slopes with independent errors that vary from pixel to pixel or across the map: the rms error of
    the surface over that of generalised least squares with the covariance of the mean slopes of
    neighbours. Both are linear, and their errors are computed from their matrices.
    """
    side = 20
    count = side**2
    unit, nothing = np.eye(count).reshape(count, side, side), np.zeros((count, side, side))
    steps = [np.diff(unit, axis=1 + axis).reshape(count, -1).T for axis in (0, 1)]
    means = [pair_means(unit, 1 + axis).reshape(count, -1).T for axis in (0, 1)]
    difference, mean = np.vstack(steps), linalg.block_diag(*means)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    rough = np.exp(0.5 * np.random.default_rng(0).standard_normal((side, side)))
    for label, sigma in (
        ("across the map", 10 ** np.clip(x + 0.5 * y, -0.5, 0.5)),
        ("from pixel to pixel", rough),
    ):
        parts = [
            wd.integrate(*pair, weights=1 / sigma**2).reshape(count, count).T
            for pair in ((unit, nothing), (nothing, unit))
        ]
        both = np.tile(sigma.ravel(), 2)
        weighted = linalg.pinvh(mean * both**2 @ mean.T) @ difference
        best = linalg.pinvh(difference.T @ weighted) @ weighted.T @ mean
        error, least = (
            rms((matrix - matrix.mean(axis=0)) * both) for matrix in (np.hstack(parts), best)
        )
        yield (
            f"weighted integration over the optimum, errors vary {label}",
            error / least,
            0.98,
            1.02,
        )


def uncertainty_time(size: int) -> Iterator[Result]:
    """Compare the time of a wavefront's uncertainty with that of its integration."""
    slopes = np.random.default_rng(0).standard_normal((2, size, size))
    sigma = np.ones_like(slopes)
    seconds = []
    calls: tuple[Callable[[], Any], ...] = (
        lambda: wd.integrate(*slopes),
        lambda: wd.surface_uncertainty(*sigma, window=sc.WINDOW),
    )
    for call in calls:
        times = []
        for _ in range(5):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        seconds.append(min(times))
    label = f"time of the uncertainty over that of the integration, {size} x {size} px"
    yield label, seconds[1] / seconds[0], 0.0, 3.0


def results(size: int, seeds: range) -> Iterator[Result]:
    """Give all rows."""
    yield from wavefronts(size, seeds)
    yield from train(size, seeds)
    yield from dark_fields(size, seeds)
    yield from integrations()
    yield from uncertainty_time(4 * size)
