"""Noise that is stated: what a detector of known noise does to a match."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.dense.cells import Cells
from wavedask.kernels.dense.detectornoise import DetectorNoise
from wavedask.kernels.dense.fixed import tapered_pixels
from wavedask.kernels.dense.nodes import NodeGrid
from wavedask.kernels.dense.noise import MOST_TAKEN, WHITE, Noise
from wavedask.kernels.dense.spectra import (
    LEAST_DATA,
    LEAST_GAIN,
    at_nodes,
    effects_of,
    filters_of,
    in_cells,
    mean_of,
    power_of,
    taken_by_fit,
    without_blur,
)
from wavedask.kernels.spline import Order

Floats = NDArray[np.float32]
Spectra = NDArray[np.complex64]

SIGNIFICANT: Final = 0.3
"""Part by which the residual must exceed stated noise before all of the excess counts."""


def stated_noise(
    left: Spectra,
    seen: Spectra,
    weights: Floats,
    u: tuple[Floats, Floats],
    stated: DetectorNoise,
    counts: tuple[Floats, Floats],
    scales: tuple[Floats, Floats],
    grid: NodeGrid,
    cells: tuple[Cells, Cells],
    *,
    order: Order,
    window: int,
) -> Noise:
    """Compute what noise that is known does to a match; the residual must not say more.

    Where the residual has more power than the noise explains, at the frequencies of the gradient,
    part of it is no noise of the detector, such as speckle that is lost, and counts, too.

    Parameters
    ----------
    left, seen, weights, u, grid, cells, order, window
        As in `measured_noise`.
    stated : DetectorNoise
        Noise of the detector.
    counts : (ndarray, ndarray)
        Mean of samples and displaced references at the nodes, in counts.
    scales : (ndarray, ndarray)
        At the nodes, what the noise of samples and displaced references is divided by: to make it
        that of the normalised sample.

    Returns
    -------
    Noise
        With the variance of the noise of the sample, `Noise.power`.
    """
    passed, steep, share = filters_of(u, grid, cells, order)
    size = cells[0].size, cells[1].size
    norm = np.maximum(tapered_pixels(weights), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise, other = (
            np.float32(1)
            / in_cells(scale, grid, cells)[..., None, None] ** 2
            * stated.spectrum(in_cells(level, grid, cells), size)
            for level, scale in zip(counts, scales, strict=True)
        )
        pattern = np.asarray(power_of(seen) / norm, np.float32)
        # The gain of the match is too small by the noise of the reference: see _with_full_gain.
        own, total = mean_of(noise, share), mean_of(pattern, share)
        signal = np.maximum(total - own, (1 - MOST_TAKEN) * total)
        gain = np.ones_like(signal)
        for _ in range(2):
            gain = signal / (signal + mean_of(other * passed, share) / gain**2)
            gain = np.maximum(gain, np.float32(LEAST_GAIN))
        ratio = passed * other / (noise * gain**2)
        residual = (left - (1 - gain) * seen) / gain
        power, _ = without_blur(residual, seen, ratio, cells[1].share)
        taken = taken_by_fit(noise, pattern, steep, share, window, len(weights))
        effects = effects_of(noise, noise, pattern, ratio, steep, share, window, 1.0)
        measured = np.asarray(power / norm / (1 + ratio) / (1 - taken), np.float32)
        found = effects_of(measured, noise, pattern, ratio, steep, share, window, 1.0)
        # Variances of noise times gradient, along y and x: of the residual, over the stated.
        more = found[3:5] / effects[3:5] * (mean_of(measured, share) / own)[..., 0, 0]
        maps = np.concatenate([np.zeros_like(effects[:1]), effects, more])
    usable = (weights.mean(axis=(0, 3, 4)) >= LEAST_DATA) & np.isfinite(maps).all(axis=0)
    default = np.array([*WHITE, 1.0, 1.0])
    *fields, more_y, more_x = at_nodes(maps, usable, default, grid, cells)
    for k, ratio in ((4, more_y), (5, more_x)):
        excess = np.maximum(ratio - 1, 0)
        counted = 1 + excess * np.minimum(excess / SIGNIFICANT, 1)
        fields[k], fields[k + 2] = fields[k] * counted, fields[k + 2] * counted
    return replace(Noise(*fields), power=stated.variance(counts[0]) / scales[0] ** 2)
