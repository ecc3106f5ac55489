"""The paraboloid that fits one wavefront map best, and its errors."""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wavedask.errors import InputError
from wavedask.kernels.surface import SurfaceNoise, surface_noise
from wavedask.optics.correlated import Grid, Noise, residual_noise
from wavedask.optics.pieces import levels_left, numbered_pieces, solved

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MIN_PIXELS: Final = 6
"""Pixels with data that a fit of five parameters and its residual need."""


class Paraboloid(NamedTuple):
    """A fitted paraboloid; lengths in m, curvatures in 1/m, and standard errors of all.

    ``W = curvature ((y - center_y)^2 + (x - center_x)^2) / 2``; `curvature_y` and `curvature_x` are
    those of a fit with one for each axis. `residual_noise` is the rms of the noise in the residual.
    """

    curvature: float
    curvature_y: float
    curvature_x: float
    center_y: float
    center_x: float
    residual_rms: float
    curvature_error: float
    curvature_y_error: float
    curvature_x_error: float
    center_uncertainty_y: float
    center_uncertainty_x: float
    residual_rms_uncertainty: float
    residual_noise: float
    spread_y: float
    spread_x: float


def nothing() -> Paraboloid:
    """Return the paraboloid of a map without data: NaN."""
    return Paraboloid(*(math.nan,) * len(Paraboloid._fields))


def fitted_paraboloid(
    surface: Floats,
    *,
    y: Floats,
    x: Floats,
    sigma: tuple[Floats, Floats] | None = None,
    window: float = math.nan,
) -> tuple[Paraboloid, Floats] | None:
    """Fit the heights of a map, with a level for each separate piece.

    Parameters
    ----------
    surface : ndarray of float64, shape (y, x)
        Wavefront in m; NaN where there is none.
    y, x : ndarray of float64
        Coordinates in m.
    sigma : (ndarray, ndarray), optional
        Standard errors of the slopes (y, x) that were integrated to the wavefront, in rad. Without
        them the noise is estimated from what the fit leaves.
    window : float
        Side in pixels of the windows within which these errors are one.

    Returns
    -------
    Paraboloid
    residual : ndarray of float64, shape (y, x)
        Wavefront without it; of zero mean on each separate piece.

    None where the pixels with data do not span a plane.
    """
    valid = np.isfinite(surface)
    rows, columns = np.nonzero(valid)
    if rows.size < MIN_PIXELS:
        return None
    scale = max(np.ptp(y), np.ptp(x)) / 2
    middle = (y.max() + y.min()) / 2, (x.max() + x.min()) / 2
    down, across = (y - middle[0]) / scale, (x - middle[1]) / scale
    v, u = down[rows], across[columns]
    terms = np.stack([np.ones_like(v), v, u, v**2, u**2])
    heights = surface[valid]
    pieces = numbered_pieces(valid)
    piece = pieces[valid]
    columns_of = (*terms, heights, np.ones_like(v))
    sums = np.stack([np.bincount(piece, values) for values in columns_of], axis=1).astype(
        np.float64
    )
    normal, right = terms @ terms.T, terms @ heights
    alike = np.eye(5, 4)
    alike[4, 3] = 1.0
    merged = np.column_stack([sums[:, :5] @ alike, sums[:, 5:]])
    try:
        astigmatic = solved(normal, right, sums)
        inverse, c = solved(alike.T @ normal @ alike, alike.T @ right, merged)
    except InputError:
        return None
    paraboloid_y, paraboloid_x = (
        c[0] + c[1] * down + c[3] * down**2,
        c[2] * across + c[3] * across**2,
    )
    residual = surface - paraboloid_y[:, None] - paraboloid_x
    if len(sums) > 1:
        residual[valid] -= levels_left(merged, c)[piece]
    step = abs(float(y[1] - y[0])), abs(float(x[1] - x[0]))
    if sigma is None:
        grid = Grid(step[0] / scale, step[1] / scale)
        noise = residual_noise(residual, valid, grid, degree=2, freedom=rows.size - 3 - len(sums))
    else:
        inside = [np.where(valid, part, np.inf) for part in sigma]
        noise = Noise(0.0, surface_noise(inside[0], inside[1], window=window, spacing=step))
    covariances = []
    for spread, functions in ((inverse, alike.T @ terms), (astigmatic[0], terms)):
        if noise.surface is None:
            covariances.append(spread * noise.scatter)
            continue
        node = noise.surface.node[valid]
        cells = np.stack(
            [np.bincount(node, values, noise.surface.pixels.size) for values in functions]
        )
        moved = spread @ cells @ noise.surface.factor
        covariances.append(moved @ moved.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        centers = np.divide(c[1:3], -2 * c[3])
        # Of -b / 2a.
        gradient = np.stack([-1 / (2 * c[[3, 3]]), -centers / c[3]])
    errors = np.sqrt(np.diag(covariances[1]))
    center_errors = [
        math.sqrt(max(float(g @ covariances[0][np.ix_([k, 3], [k, 3])] @ g), 0.0))
        if np.isfinite(g).all()
        else math.nan
        for k, g in zip((1, 2), gradient.T, strict=True)
    ]
    white = math.sqrt(noise.scatter) if noise.surface is None else 0.0
    rms, rms_error, noise_rms = _rms(residual, valid, noise.surface, step, white=white)
    twice = 2 / scale**2
    numbers = (
        twice * float(c[3]),
        *(twice * float(value) for value in astigmatic[1][3:]),
        *(m + scale * float(value) for m, value in zip(middle, centers, strict=True)),
        rms,
        twice * math.sqrt(covariances[0][3, 3]),
        *(twice * float(value) for value in errors[3:]),
        *(scale * value for value in center_errors),
        rms_error,
        noise_rms,
        float(np.std(y[rows])),
        float(np.std(x[columns])),
    )
    return Paraboloid._make(numbers), residual


def _rms(
    residual: Floats,
    valid: Mask,
    noise: SurfaceNoise | None,
    step: tuple[float, float],
    *,
    white: float = 0.0,
) -> tuple[float, float, float]:
    """Root mean square of the residual, its standard error, and the rms of the noise in it.

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
        node = noise.node[valid]
        means = np.bincount(node, values, noise.pixels.size) / noise.pixels
        crossed = (share * means) @ noise.factor
        products = noise.factor.T @ (share[:, None] * noise.factor)
        added = noise.rms**2
        spread = math.sqrt(4 * float(crossed @ crossed) + 2 * float(np.square(products).sum()))
    error = math.hypot(spread, added) / (2 * rms) if rms else 0.0
    return rms, error, math.sqrt(added)
