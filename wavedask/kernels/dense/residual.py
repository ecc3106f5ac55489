"""What a match leaves unexplained, taken apart: photons, blur, lost speckle, a fixed pattern."""

from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from wavedask.kernels.dense.cells import Cells, cut, spectra_of
from wavedask.kernels.dense.detectornoise import DetectorNoise
from wavedask.kernels.dense.fixed import fixed_pattern, responses, tapered_pixels
from wavedask.kernels.dense.nodes import NodeGrid
from wavedask.kernels.dense.noise import MOST_TAKEN
from wavedask.kernels.dense.spectra import TAKEN
from wavedask.kernels.spline import Order

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

STEP: Final = 4
"""Pixels between the nodes at which the displacement is taken."""
SMOOTH: Final = 21
"""Pixels along each axis over which a background is averaged."""
LOWEST: Final = 0.05
"""Cycles per pixel below which the window of a match has taken the noise out."""
HIGHEST: Final = 0.64
RINGS: Final = 24
"""Rings of frequencies between the two."""
LEAST_SEEN: Final = 1e-6
"""Power of a residual, over the largest of the pattern, in which noise can be seen."""
ROUNDS: Final = 3
"""Times that pattern and weights follow from the fit before."""
NEEDED: Final = 0.85
"""Misfit with lost speckle, over that without, from which some is lost."""
WIDEST: Final = 6.0
"""Largest blur in pixels that is looked for..."""
FINENESS: Final = 0.2
"""... and from one blur to the next."""
LEAST_DATA: Final = 0.5
"""Part of the pixels that must have a match."""
FWHM: Final = float(np.sqrt(8 * np.log(2)))


class ResidualParts(NamedTuple):
    """What the residual of a match is made of.

    Attributes
    ----------
    counts : float
        Photons per pixel of the sample that would make the noise.
    blur : float
        Full width at half maximum, in pixels, of the light of one photon: of a Gaussian.
    lost : float
        Part of the speckle that is not the same in both images: one minus the correlation of the
        two patterns without their noise.
    fixed : float
        Relative standard deviation of a pattern that both images share at the same pixels; 0 where
        none stands out.
    excess: float
        Variance of the residual over that of the noise that the detector is said to have; NaN where
        nothing is said.
    """

    counts: float
    blur: float
    lost: float
    fixed: float
    excess: float = np.nan


def residual_parts(
    sample: Floats,
    reference: Floats,
    u: tuple[Floats, Floats],
    gain: Floats,
    *,
    window: int,
    order: Order,
    noise: DetectorNoise | None = None,
) -> ResidualParts | None:
    """Take apart what a match leaves of a sample.

    Parameters
    ----------
    sample, reference : ndarray of float64, shape (rows, columns)
        In counts; NaN is missing.
    u : (ndarray, ndarray)
        Displacement (y, x) at the pixels; NaN where there is none.
    gain : ndarray of float64, shape (rows, columns)
        By which the match multiplies the pattern of the reference: transmission times dark field.
    window : int
        Side of the windows of the match in pixels.
    order : 3 or 5
        Of the splines of the match.
    noise : DetectorNoise, optional
        Noise that the detector is said to have.

    Returns
    -------
    ResidualParts or None
        None where too few pixels have a match.
    """
    y, x = np.mgrid[: sample.shape[0], : sample.shape[1]].astype(np.float64)
    held = np.isfinite(reference)
    filled = np.where(held, reference, reference[held].mean() if held.any() else 0.0)
    matched = np.isfinite(u[0]) & np.isfinite(u[1]) & np.isfinite(gain)
    u = np.where(matched, u[0], 0.0), np.where(matched, u[1], 0.0)
    places = np.stack([y - u[0], x - u[1]])
    displaced = ndimage.map_coordinates(filled, places, order=order, mode="mirror")
    there = np.all([(p >= 0) & (p <= n - 1) for p, n in zip(places, y.shape, strict=True)], axis=0)
    if not held.all():
        there &= ndimage.map_coordinates(held.astype(np.float64), places, order=1) > 0.99
    known = np.isfinite(sample) & matched & there
    if known.mean() < LEAST_DATA or not (mean := float(sample[known].mean())) > 0:
        return None
    factor = np.where(known, gain, 0.0)
    centred = [_centred(np.where(known, image, 0.0), known) for image in (sample, displaced)]
    grid = NodeGrid((sample.shape[0], sample.shape[1]), STEP, (0, 0))
    cells = Cells.along(grid.shape[0], 0), Cells.along(grid.shape[1], 0)
    weights = _cells(known.astype(np.float64), cells)
    left, seen = (
        spectra_of(_cells(values, cells), weights)
        for values in (centred[0] - factor * centred[1], centred[0])
    )
    other = spectra_of(
        _cells(_centred(np.where(held, reference, 0.0), held), cells),
        _cells(held.astype(np.float64), cells),
    )
    nodes = np.ix_(grid.coordinates(0), grid.coordinates(1))
    where = u[0][nodes].astype(np.float32), u[1][nodes].astype(np.float32)
    usual = float(np.median(gain[known]))
    gains = np.where(known, gain, usual)[nodes].astype(np.float32)
    pattern = fixed_pattern(
        left, other, weights, where, gains, grid, cells, order=order, shift=(0, 0)
    )
    moved = responses(where, grid, cells, order)
    norm = np.maximum(tapered_pixels(weights), 1)
    power, total = (np.square(np.abs(part)).sum(axis=0) / norm for part in (left, seen))
    passed = np.square(np.abs(moved))
    shared = 0.0
    if pattern is not None and pattern.found:
        spectrum = pattern.share[..., None, None] * pattern.power
        power = power - spectrum * (1 + passed - 2 * moved.real)
        shared = float(np.einsum("ijkl,l->", spectrum, cells[1].share)) / (
            spectrum.shape[2] * pattern.share.size
        )
    counts, blur, lost = _fitted(
        power, total, 1 + usual * passed, cells[1].share.astype(np.float64), window
    )
    fixed = float(np.sqrt(shared)) / mean
    excess = np.nan
    if noise is not None:
        size = cells[0].size, cells[1].size
        levels = mean, float(reference[held].mean())
        noise_s, noise_r = (noise.spectrum(np.array(level, np.float32), size) for level in levels)
        expected = (noise_s + usual**2 * passed * noise_r).mean(axis=(0, 1))
        middle = power.mean(axis=(0, 1)), total.mean(axis=(0, 1)) - noise_s, expected
        excess = _over_stated(*middle, cells[1].share, window)
    return ResidualParts(mean**2 / counts if counts > 0 else np.nan, blur, lost, fixed, excess)


def _over_stated(
    power: NDArray[Any],
    pattern: NDArray[Any],
    stated: NDArray[Any],
    share: NDArray[np.float32],
    window: int,
) -> float:
    """Variance of a residual over that of stated noise, of which the match has taken a part.

    Parameters
    ----------
    power, pattern, stated : ndarray, shape (rows, columns // 2 + 1)
        Power spectra of the residual, of the pattern, and of what the noise makes of the residual.
    share : ndarray of float32
        Weights of the frequencies along x.
    window : int
        Side of the windows of the match in pixels.
    """
    y, x = np.fft.fftfreq(power.shape[0])[:, None], np.linspace(0, 0.5, power.shape[1])
    weight = share * (np.hypot(y, x) >= LOWEST)
    alike = np.zeros_like(power)
    for slope in (np.ones_like(y), np.sin(2 * np.pi * y) ** 2, np.sin(2 * np.pi * x) ** 2):
        alike += pattern * slope / max(float((pattern * slope * share).sum()), 1e-30)
    kept = 1 - np.clip(TAKEN * power.shape[0] / window**2 * alike, 0, MOST_TAKEN)
    return float((power * weight).sum() / (stated * kept * weight).sum())


def _centred(image: Floats, known: Mask) -> Floats:
    """Take the mean over a window out."""
    box = (SMOOTH, SMOOTH)
    share = np.maximum(cv2.blur(known.astype(np.float64), box), 1e-6)
    return np.where(known, image - cv2.blur(image, box) / share, 0.0)


def _cells(values: Floats, cells: tuple[Cells, Cells]) -> NDArray[np.float32]:
    return cut(np.asarray(values, np.float32)[None], cells[0].pixels, cells)


def _fitted(
    power: Floats, total: Floats, passed: Floats, share: Floats, window: int
) -> tuple[float, float, float]:
    """Fit noise with a blur, and lost speckle, to the spectrum of a residual.

    The match of each window has taken the noise that looks like the pattern and its gradients.

    Returns
    -------
    level, blur, lost : float
        Spectral density of the noise at frequency zero, its blur, and the part of the speckle.
    """
    shape = power.shape[-2:]
    y = np.fft.fftfreq(shape[0])[:, None]
    frequency = np.hypot(y, np.linspace(0, 0.5, shape[1])).ravel()
    edges = np.linspace(LOWEST, HIGHEST, RINGS + 1)
    ring = np.digitize(frequency, edges) - 1
    inside = (ring >= 0) & (ring < RINGS)

    def rings(values: Floats) -> Floats:
        flat = values.reshape(-1, frequency.size).mean(axis=0)
        number = np.maximum(np.bincount(ring[inside], minlength=RINGS), 1)
        return np.asarray(np.bincount(ring[inside], flat[inside], RINGS) / number)

    seen, whole, response = rings(power), rings(total), rings(passed)
    middle = (edges[1:] + edges[:-1]) / 2
    slopes = np.sin(2 * np.pi * np.minimum(frequency, 0.25)) ** 2

    def mean(values: Floats) -> float:
        return float(np.einsum("kl,l->", values.reshape(shape), share) / shape[0])

    blurs = np.arange(0, WIDEST, FINENESS)
    falls = np.exp(-np.outer((2 * np.pi * blurs / FWHM) ** 2, middle**2))
    pattern, kept = whole, np.ones(RINGS)
    level, blur, lost = np.nan, np.nan, 0.0
    # Below that part of the pattern, splines and rounding leave more than the noise.
    weight = np.where(seen > LEAST_SEEN * whole.max(), 1 / np.maximum(seen, 1e-30), 0)
    if np.count_nonzero(weight) < RINGS // 4:
        return level, blur, lost
    for _ in range(ROUNDS):
        found, misfits = np.zeros((2, len(blurs), 2)), np.empty((2, len(blurs)))
        for k, fall in enumerate(falls):
            terms = np.stack([kept * fall * response, pattern], axis=1) * weight[:, None]
            for n in (1, 2):
                found[n - 1, k, :n], misfits[n - 1, k] = optimize.nnls(terms[:, :n], seen * weight)
        # Noise with a blur and speckle have much the same spectrum: lost speckle must be needed.
        both = int(misfits[1].min() < NEEDED * misfits[0].min())
        best = int(misfits[both].argmin())
        (level, lost), blur, fall = found[both, best], float(blurs[best]), falls[best]
        # By what is expected, not by what is there: a ring that is low by chance counts no more.
        model = level * kept * fall * response + lost * pattern
        weight = np.where(weight > 0, 1 / np.maximum(model, 1e-30), 0)
        # What of the sample is noise is no pattern.
        pattern = np.maximum(whole - level * fall, 0)
        spectrum = np.interp(frequency, middle, pattern)
        alike = spectrum / mean(spectrum) + 2 * spectrum * slopes / mean(spectrum * slopes)
        kept = 1 - np.minimum(TAKEN / window**2 * rings(alike), MOST_TAKEN)
    # A sample that keeps the part k of the pattern leaves 1 - k^2 of its variance.
    return float(level), blur, 1 - float(np.sqrt(max(1 - lost, 0)))
