"""What a fitted lens leaves of a wavefront: its level, rms and range, and the noise in them."""

import math

import numpy as np
import numpy.typing as npt

from wavedask.kernels.surface import SurfaceNoise, surface_noise
from wavedask.optics.correlated import Grid, Noise, residual_noise

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def levelled(heights: Floats, changes: Floats, pieces: npt.NDArray[np.intp], used: Mask) -> Floats:
    """Take the level of each piece, and what the lens can still fit, out of heights.

    The lens that was fitted to the slopes is that of the heights, but for noise that integration
    spreads otherwise, and for the rounding of derivatives.

    Parameters
    ----------
    heights : ndarray of float64, shape (points,)
    changes : ndarray of float64, shape (count, points)
        Of the heights, with the parameters of the lens.
    pieces : ndarray of int, shape (points,)
        Number of the piece of each point.
    used : ndarray of bool, shape (points,)
        Points over which the rest is smallest.
    """
    count = np.maximum(np.bincount(pieces[used], minlength=int(pieces.max()) + 1), 1)

    def centred(values: Floats) -> Floats:
        return values - (np.bincount(pieces[used], values[used], count.size) / count)[pieces]

    changes = np.stack([centred(part) for part in changes])
    heights = centred(heights)
    scale = np.sqrt(np.maximum(np.square(changes[:, used]).mean(axis=1), np.finfo(float).tiny))
    changes /= scale[:, None]
    normal = changes[:, used] @ changes[:, used].T
    right = changes[:, used] @ heights[used]
    return np.asarray(
        heights - np.linalg.pinv(normal, rcond=1e-9, hermitian=True) @ right @ changes
    )


def noise_of(
    residual: Floats,
    valid: Mask,
    sigma: tuple[Floats, Floats] | None,
    window: float,
    step: tuple[float, float],
) -> Noise:
    """Estimate the noise of the wavefront from the errors of its slopes, or from the residual."""
    if sigma is not None:
        inside = [np.where(valid, part, np.inf) for part in sigma]
        surface = surface_noise(inside[0], inside[1], window=window, spacing=step)
        # Pixels without neighbours have no heights, and no noise of these is known.
        return Noise(math.nan if surface is None else 0.0, surface)
    scale = max(size * one for size, one in zip(valid.shape, step, strict=True)) / 2
    grid = Grid(step[0] / scale, step[1] / scale)
    freedom = int(np.count_nonzero(valid)) - 4
    left = np.where(valid, residual, np.nan)
    return residual_noise(left, valid, grid, degree=2, freedom=freedom)


def range_of(
    residual: Floats, valid: Mask, noise: SurfaceNoise | None, white: float
) -> tuple[float, float]:
    """Return the range of the residual, highest minus lowest pixel, and its standard error."""
    values = np.where(valid, residual, np.nan)
    ends = int(np.nanargmax(values)), int(np.nanargmin(values))
    difference = float(values.flat[ends[0]] - values.flat[ends[1]])
    if noise is None:
        return difference, math.sqrt(2) * white
    nodes = [int(noise.node.flat[end]) for end in ends]
    if min(nodes) < 0:
        return difference, math.nan
    return difference, math.sqrt(float(sum(noise.variance[node] for node in nodes)))


def rms_of(
    residual: Floats,
    valid: Mask,
    noise: SurfaceNoise | None,
    step: tuple[float, float],
    *,
    white: float = 0.0,
) -> tuple[float, float, float]:
    """Return the rms of the residual, its standard error, and the rms of the noise in it.

    With the residual r = f + n of figure and noise, ``mean(r^2) = mean(f^2) + 2 mean(f n) +
    mean(n^2)``: the error has the scatter of the last two, and the mean of the last.
    """
    values = residual[valid]
    rms = float(np.sqrt(np.mean(np.square(values))))
    if noise is None:
        added = white**2
        spread = math.sqrt((4 * rms**2 + 2 * white**2) * white**2 / max(values.size, 1))
    else:
        basis = np.stack(
            [
                np.ones_like(noise.y),
                noise.y,
                noise.x,
                (noise.y * step[0]) ** 2 + (noise.x * step[1]) ** 2,
            ],
            axis=1,
        )
        noise = noise.without(basis / np.abs(basis).max(axis=0))
        share = noise.pixels / noise.pixels.sum()
        # A pixel without neighbours is in no cell; its height is a level of its own, and is left
        # out.
        node = noise.node[valid]
        means = np.bincount(node[node >= 0], values[node >= 0], noise.pixels.size) / noise.pixels
        crossed = (share * means) @ noise.factor
        products = noise.factor.T @ (share[:, None] * noise.factor)
        added = noise.rms**2
        spread = math.sqrt(4 * float(crossed @ crossed) + 2 * float(np.square(products).sum()))
    noise_rms = math.sqrt(added)
    error = math.hypot(spread, added) / (2 * rms) if rms else noise_rms
    return rms, error, noise_rms
