"""The affine map between the images of two detectors that see the same speckle.

Numbers only: `A` maps a pixel p of the sample to the pixel ``q = A p + b`` of the reference, both
counted from the first pixel of the array. First some patches of the sample, scaled and turned in
steps, are searched for in the whole reference, on reduced and smoothed images; then a grid of
patches is matched again and again around the map so far, at last on the full images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels.affine import robust_affine_fit
from wavedask.kernels.grids import median_of, neighbours
from wavedask.kernels.resample import resampled
from wavedask.kernels.start.images import MaskedImage
from wavedask.kernels.start.matching import Matches, match_points

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

REDUCED: Final = 512
"""Images of more than the square of so many pixels are reduced for the search."""
SIGMA: Final = 1.3
"""Width in reduced pixels of the smoothing before the search: grains of three pixels and more."""
WIDE: Final = 24
"""Side in widths of the smoothing beyond which intensity is no speckle, but the beam."""
EVEN: Final = 0.05
"""Part of the mean square contrast below which there is no speckle to be raised."""
PATCH: Final = 64
"""Side of the searched patches in pixels of the coarser image."""
SCALES: Final = 0.06
"""Relative step of the scales that are tried: at its middle the corners of a patch are off by less
than half a grain."""
TURNS: Final = (0.0, -0.038, 0.038)
"""Rotations that are tried, rad; each reaches 2 degrees on either side."""
PROMISING: Final = 0.3
"""Correlation of a patch with the reference below which its place is not looked at."""
SURE: Final = 0.55
"""Correlation of a patch from which no other patch is tried first."""
CENTRES: Final = ((0.5, 0.5), (0.3, 0.3), (0.3, 0.7), (0.7, 0.3), (0.7, 0.7))
"""Where patches are cut, in parts of the sample."""

WINDOW: Final = 31
"""Side of the patches of the grid."""
POINTS: Final = 20
"""Points of the grid along an axis."""
SEARCHES: Final = (24, 10, 6)
"""Pixels searched around the map so far, round by round, on the reduced images."""
PROOF: Final = 12
"""Pixels searched in the last round of the reduced images, to see whether neighbours agree."""
AGREEMENT: Final = 1.5
"""Pixels within which neighbours agree: of chance matches, hardly any do."""
FINE_SEARCHES: Final = (8, 4)
"""The same on the full images."""
LEAST_POINTS: Final = 12
"""Matches that a map needs."""
LEAST_SHARE: Final = 0.4
"""Part of the points in the common field that have to agree with their neighbours."""
HOPELESS: Final = 0.1
"""The same part, below which a map is not looked at any further."""


@dataclass(frozen=True, slots=True)
class AffineMap:
    """An affine map from sample to reference, and how well it is known.

    Attributes
    ----------
    matrix : ndarray, shape (2, 2)
        A, acting on (y, x).
    offset : ndarray, shape (2,)
        b in pixels of the reference.
    residual : float
        Rms distance of the matches from the map, px of the reference, outliers left out.
    correlation : float
        Median correlation of the matches.
    matches, points : int
        Matches that are no outliers, and points of the grid in the common field.
    share : float
        Part of these points whose match agrees with those of its neighbours.
    """

    matrix: Floats
    offset: Floats
    residual: float = math.nan
    correlation: float = math.nan
    matches: int = 0
    points: int = 0
    share: float = 0.0


def find_affine(
    sample: Images,
    reference: Images,
    scales: Floats,
    *,
    centres: Sequence[tuple[float, float]] = CENTRES,
) -> AffineMap | None:
    """Find the map between two images of the same speckle, whatever their offset.

    Parameters
    ----------
    sample, reference : ndarray of float32, shapes (rows, columns)
        The images; NaN is missing.
    scales : ndarray, shape (n,)
        Scales to try, in pixels of the reference per pixel of the sample.
    centres : sequence of (float, float)
        Where patches of the sample are cut to be searched for, in parts of its size.

    Returns
    -------
    AffineMap or None
        None where the images have nothing in common.
    """
    small, by = _reduced(sample)
    target, target_by = _reduced(reference)
    found = _search(small, target, scales * by / target_by, centres)
    if found is None:
        return None
    # A cell of f pixels has its centre at (f - 1) / 2 of them.
    matrix = found.matrix * target_by / by
    offset = target_by * found.offset + (target_by - 1) / 2 - matrix @ np.full(2, (by - 1) / 2)
    best = AffineMap(matrix, offset)
    for search in FINE_SEARCHES:
        refined = _refined(sample, reference, best, search=search)
        if refined is None:
            return None
        best = refined
    return best


def scale_steps(low: float, high: float) -> Floats:
    """Scales from `low` to `high` in equal steps of their logarithm, those near the middle first.

    Examples
    --------
    >>> scale_steps(0.9, 1.1).round(3).tolist()
    [0.995, 0.946, 1.046, 0.9, 1.1]
    """
    steps = max(int(np.ceil(np.log(high / low) / SCALES)), 1)
    scales = np.geomspace(low, high, steps + 1)
    middle = np.sqrt(low * high)
    order = np.argsort(np.abs(np.log(scales / middle)), kind="stable")
    return np.asarray(scales[order])


def coordinates(
    matrix: Floats, offset: Floats, rows: NDArray[Any], columns: NDArray[Any]
) -> tuple[Floats, Floats]:
    """Pixels (y, x) of the reference that belong to a grid of pixels of the sample.

    Examples
    --------
    >>> y, x = coordinates(2 * np.eye(2), np.array([1.0, 0.0]), np.arange(2), np.arange(3))
    >>> y[:, 0].tolist(), x[0].tolist()
    ([1.0, 3.0], [0.0, 2.0, 4.0])
    """
    y = matrix[0, 0] * rows[:, None] + matrix[0, 1] * columns + offset[0]
    x = matrix[1, 0] * rows[:, None] + matrix[1, 1] * columns + offset[1]
    return y, x


def onto_sample(
    reference: NDArray[Any],
    matrix: Floats,
    offset: Floats,
    rows: NDArray[Any],
    columns: NDArray[Any],
) -> Images:
    """Resample a reference onto the pixels of the sample, as large pixels would see it.

    Where a pixel of the sample covers several of the reference, the reference is smoothed first, by
    the Gaussian whose variance is that of the larger pixel less that of the smaller one,
    ``(m^2 - 1) / 12`` for m pixels: what the sample cannot show would otherwise be aliased.

    Parameters
    ----------
    reference : ndarray, shape (n, m)
        NaN is missing.
    matrix, offset : ndarray
        The map from pixels of the sample to those of the reference.
    rows, columns : ndarray, shapes (p,) and (q,)
        Pixels of the sample.

    Returns
    -------
    ndarray of float32, shape (p, q)
        NaN outside the reference, and beside missing pixels.
    """
    y, x = coordinates(matrix, offset, rows, columns)
    image = np.asarray(reference, np.float32)
    lengths = np.sqrt(np.square(matrix).sum(1))
    sigma = np.sqrt(np.maximum(np.square(lengths) - 1, 0) / 12)
    # Below a tenth of a pixel a sampled Gaussian is a single point.
    if sigma.max() > 0.1:
        missing = ~np.isfinite(image)
        image = _smoothed(image, missing, sigma)
        image[missing] = np.nan
    return resampled(image, y, x)


def _smoothed(image: Images, missing: NDArray[np.bool_], sigma: Floats) -> Images:
    """Smooth by a Gaussian, as if pixels without data were not there."""
    filled = np.where(missing, np.float32(0), image)
    out = ndimage.gaussian_filter(filled, sigma, mode="nearest")
    if missing.any():
        weight = ndimage.gaussian_filter((~missing).astype(np.float32), sigma, mode="nearest")
        out = out / np.maximum(weight, np.float32(1e-6))
    return np.asarray(out, np.float32)


def _reduced(image: Images) -> tuple[Images, int]:
    """Average cells of pixels until the image is small; a cell with few missing ones counts."""
    factor = math.ceil(math.sqrt(image.size) / REDUCED)
    missing = ~np.isfinite(image)
    level = np.float32(np.mean(image, where=~missing, dtype=np.float64)) if not missing.all() else 0
    values = np.where(missing, np.float32(0), image - level)
    rows, columns = (length // factor for length in image.shape)
    size = (columns, rows)
    cut = (slice(0, rows * factor), slice(0, columns * factor))
    weight = cv2.resize((~missing)[cut].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(values[cut], size, interpolation=cv2.INTER_AREA)
    with np.errstate(divide="ignore", invalid="ignore"):
        small = np.where(weight > 0.5, mean / weight, np.float32(np.nan))
    return np.asarray(small, np.float32), factor


class _Patterns:
    """The speckle of an image alone, at any smoothing; none is computed twice."""

    def __init__(self, image: Images) -> None:
        self.missing = ~np.isfinite(image)
        self.values = np.where(self.missing, np.float32(0), image)
        self.weight = (~self.missing).astype(np.float32)
        self.known: dict[float, Images] = {}

    def at(self, sigma: float) -> Images:
        """Smoothed, without the shape of the beam, of even contrast; NaN where data miss."""
        if sigma not in self.known:
            side = (2 * round(WIDE * sigma / 2) + 1,) * 2
            both = (self.values, self.weight)
            fine = _quotient(*(cv2.GaussianBlur(values, (0, 0), sigma) for values in both))
            wide = _quotient(*(cv2.blur(values, side) for values in both))
            speckle = np.where(self.missing, np.float32(0), fine - wide)
            # An edge of the object or the beam would outweigh all grains around it.
            power = _quotient(cv2.blur(speckle**2, side), cv2.blur(self.weight, side))
            floor = np.float32(EVEN * float(power.mean()) + 1e-30)
            self.known[sigma] = np.where(
                self.missing, np.float32(np.nan), speckle / np.sqrt(power + floor)
            )
        return self.known[sigma]


def _quotient(values: NDArray[Any], weight: NDArray[Any]) -> Images:
    return np.asarray(values / np.maximum(weight, np.float32(1e-6)), np.float32)


def _search(
    sample: Images, reference: Images, scales: Floats, centres: Sequence[tuple[float, float]]
) -> AffineMap | None:
    """Find the map between two reduced images."""
    images, targets = _Patterns(sample), _Patterns(reference)
    proposals: list[tuple[float, AffineMap]] = []
    for centre in centres:
        proposal = _proposal(images, targets, scales, centre)
        if proposal is None:
            continue
        proposals.append(proposal)
        if proposal[0] >= SURE:
            # Most often the first patch is right, and the others need not be searched for.
            found = _proved(images, targets, proposals.pop()[1])
            if found is not None:
                return found
    for _, candidate in sorted(proposals, key=lambda item: -item[0]):
        found = _proved(images, targets, candidate)
        if found is not None:
            return found
    return None


def _proposal(
    images: _Patterns, targets: _Patterns, scales: Floats, centre: tuple[float, float]
) -> tuple[float, AffineMap] | None:
    """Search one patch of the sample, at all scales and turns, in the whole reference."""
    middle = np.array(centre) * (np.array(images.missing.shape) - 1)
    best, proposal = PROMISING, None
    for scale in scales.tolist():
        # Both as coarse as the coarser one.
        image = images.at(SIGMA * max(1.0, 1 / scale))
        target = np.nan_to_num(targets.at(SIGMA * max(1.0, scale)))
        side = min(int(PATCH * max(1.0, scale)), *target.shape)
        for turn in TURNS:
            matrix = scale * _rotation(turn)
            template = _patch(image, matrix, middle, side)
            if template is None:
                continue
            scores = cv2.matchTemplate(target, template, cv2.TM_CCOEFF_NORMED)
            _, score, _, (column, row) = cv2.minMaxLoc(scores)
            # OpenCV gives a flat target a correlation of one, and more.
            if best < score <= 1.001:
                place = np.array([row, column]) + (side - 1) / 2
                best, proposal = score, AffineMap(matrix, place - matrix @ middle)
    return None if proposal is None else (best, proposal)


def _rotation(angle: float) -> Floats:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def _patch(image: Images, matrix: Floats, middle: Floats, side: int) -> Images | None:
    """Part of the sample as the reference would show it; None where it is not all there."""
    back = np.linalg.inv(matrix)
    template = ndimage.affine_transform(
        image,
        back,
        offset=middle - back @ np.full(2, (side - 1) / 2),
        output_shape=(side, side),
        order=1,
        cval=np.nan,
    )
    missing = ~np.isfinite(template)
    if missing.mean() > 0.2:
        return None
    template[missing] = 0
    flat = template.std() <= 1e-6 * max(float(np.nanmax(np.abs(image))), 1e-30)
    return None if flat else np.asarray(template, np.float32)


def _proved(images: _Patterns, targets: _Patterns, candidate: AffineMap) -> AffineMap | None:
    """Refine a map on the reduced images; None where it does not hold over the common field."""
    scale = float(np.sqrt(np.linalg.det(candidate.matrix)))
    image = images.at(SIGMA * max(1.0, 1 / scale))
    target = targets.at(SIGMA * max(1.0, scale))
    for search in (*SEARCHES, PROOF):
        refined = _refined(image, target, candidate, search=search)
        if refined is None or refined.share < HOPELESS:
            return None
        candidate = refined
    return candidate if candidate.share >= LEAST_SHARE else None


def _refined(
    sample: Images, reference: Images, start: AffineMap, *, search: int
) -> AffineMap | None:
    """Match a grid of points around a map, and fit the map again."""
    rows, columns = (np.arange(length) for length in sample.shape)
    moved = onto_sample(reference, start.matrix, start.offset, rows, columns)
    known = np.isfinite(moved)
    grid = [_grid_line(np.asarray(known.any(axis))) for axis in (1, 0)]
    if min(line.size for line in grid) < 3:
        return None
    nowhere = np.zeros((2, grid[0].size, grid[1].size), np.float32)
    matches = match_points(
        [
            (
                MaskedImage(sample, margin=WINDOW // 2, window=WINDOW),
                MaskedImage(moved, margin=WINDOW + search, window=WINDOW),
            )
        ],
        rows=grid[0],
        columns=grid[1],
        start_y=nowhere[0],
        start_x=nowhere[1],
        windows=[WINDOW],
        search=search,
        good=1.0,
        demand_unique=False,
    )
    valid = matches.valid
    if np.count_nonzero(valid) < LEAST_POINTS:
        return None
    lines = (line.astype(np.float64) for line in grid)
    y, x = (axis[valid] for axis in np.meshgrid(*lines, indexing="ij"))
    origins = np.stack([y - matches.displacement_y[valid], x - matches.displacement_x[valid]])
    places = start.matrix @ origins + start.offset[:, None]
    fit, weights = robust_affine_fit(places, y, x)
    kept = weights > 0
    if fit is None or not np.linalg.det(fit.matrix) > 0 or np.count_nonzero(kept) < LEAST_POINTS:
        return None
    residual = np.square(places - fit.at(y, x)).sum(0)[kept]
    common = int(np.count_nonzero((known & np.isfinite(sample))[np.ix_(*grid)]))
    return AffineMap(
        fit.matrix,
        fit.origin,
        float(np.sqrt(residual.mean())),
        float(np.median(matches.correlation[valid][kept])),
        int(np.count_nonzero(kept)),
        common,
        np.count_nonzero(_agreeing(matches)) / max(common, 1),
    )


def _agreeing(matches: Matches) -> NDArray[np.bool_]:
    """Which points of a grid match as their neighbours do, whatever the beam bends."""
    agreeing = matches.valid
    for field in (matches.displacement_y, matches.displacement_x):
        agreeing = agreeing & (np.abs(field - median_of(neighbours(field))) < AGREEMENT)
    return agreeing


def _grid_line(there: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Points of the grid along one axis of the common field."""
    inside = np.flatnonzero(there)
    if inside.size < WINDOW:
        return np.empty(0, np.intp)
    first, last = inside[0] + WINDOW // 2, inside[-1] - WINDOW // 2
    points = int(np.clip((last - first) // (WINDOW // 2) + 1, 1, POINTS))
    return np.unique(np.linspace(first, last, points).astype(np.intp))
