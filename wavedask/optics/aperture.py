"""The part of a map where the optic is: where the slopes have the curvature of a lens."""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wavedask.errors import InputError
from wavedask.optics.disc import found_disc

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_CELLS: Final = 64
"""Cells along the longer side of the map on which the curvature is looked at."""
LEAST_CELLS: Final = 8
"""Cells along the shorter side that an outline needs to be seen."""
SCALES: Final = (0.0, 0.35, 0.7)
"""Widths of the means of the curvature, in windows of the tracker, the finest first."""
APART: Final = 2.2
"""Difference of the curvatures inside and outside, in standard deviations, from which they count as
different parts."""
SAME: Final = 1e-3
"""Relative difference of curvatures that is none."""
FLAT: Final = 0.5
"""Curvature outside over that inside, at most."""
MOST_CLASSES: Final = 4
"""Classes of curvature that are looked at, the strongest first."""
OUTLINE: Final = 1 / 3
"""Part of the map that an outline fills at most."""
LEAST_SHARE: Final = 0.02
"""Part of the map that an optic fills at least."""
RIVAL: Final = 0.5
"""Area of a second region over that of the largest from which the choice is ambiguous."""
MARGIN: Final = 0.75
"""Width of the rim that is left out, in windows of the tracker: they see both sides of it."""
FEW_WINDOWS: Final = 16
"""Windows along the shorter side of a map below which a round optic is looked for by its slopes."""
BETTER: Final = 0.5
"""Scatter about a fit inside the optic over that about a fit to the whole map, at most."""


class Aperture(NamedTuple):
    """Where the optic is.

    Attributes
    ----------
    inside : ndarray of bool, shape (y, x)
        Pixels in it, without its rim.
    whole : bool
        Whether it fills the map.
    """

    inside: Mask
    whole: bool


def found_aperture(
    slope_y: Floats, slope_x: Floats, *, y: Floats, x: Floats, window: float = 1.0
) -> Aperture:
    """Find the region where an optic bends the beam.

    The map is divided into two classes by its curvature, smoothed over cells (Otsu, IEEE Trans.
    Syst. Man Cybern. 9, 62, 1979). They are an optic and what surrounds it, if their curvatures
    differ by far more than they scatter, if the weaker one is less than half of the stronger one,
    and if a lens fits the region much better than the whole map. Otherwise the optic fills the map.

    Parameters
    ----------
    slope_y, slope_x : ndarray of float64, shape (y, x)
        Slopes in rad; NaN where there are none.
    y, x : ndarray of float64
        Coordinates in m.
    window : float
        Side in pixels of the windows of the tracker.

    Returns
    -------
    Aperture

    Raises
    ------
    InputError
        If there are two regions or more of similar size.

    Notes
    -----
    In maps of less than 16 windows a round optic is also looked for by its slopes alone, if its
    radius is at least about two windows: of smaller ones all windows see the edge. Of simulated
    lenses with a sharp edge, of 0.2 to 0.4 sides radius and windows of 9 and 15 px, most are found
    in maps of 96 px and more, and few in maps of 64 px.
    """
    valid = np.isfinite(slope_y) & np.isfinite(slope_x)
    everything = Aperture(valid, whole=True)
    side = max(1, round(max(valid.shape) / MOST_CELLS))
    if min(valid.shape) // side < LEAST_CELLS or not valid.any():
        return everything
    cells = _Cells.of(slope_y, slope_x, valid, y, x, side)
    # Noise of slopes hides a weak lens, and a wide mean hides a small one: the finest that shows a
    # region counts.
    for scale in SCALES:
        region = _region(cells, cells.curvature(scale * window / side))
        if region is not None:
            break
    else:
        region = None
        if min(valid.shape) < FEW_WINDOWS * window:
            region = found_disc(cells.slope_y, cells.slope_x, window=window / side)
        if region is None:
            return everything
    # Gaps in the optic belong to it.
    region = ndimage.binary_fill_holes(region)
    rows, columns = (
        np.minimum(np.arange(size) // side, count - 1)
        for size, count in zip(valid.shape, region.shape, strict=True)
    )
    full = region[np.ix_(rows, columns)]
    rim = MARGIN * window + side
    away = ndimage.distance_transform_edt(np.pad(full, 1, mode="edge"))[1:-1, 1:-1]
    inside = valid & full & (away > rim)
    # Less than a window holds one independent slope.
    return everything if inside.sum() < window**2 else Aperture(inside, whole=False)


def _region(cells: "_Cells", curvature: Floats) -> Mask | None:
    """Find the cells of an optic by their curvature; None where there are none."""
    known = np.isfinite(curvature)
    for _ in range(MOST_CLASSES):
        upper = _upper_class(curvature, known)
        if upper is None:
            return None
        strong = _stronger_class(curvature, known, upper)
        if strong is not None:
            region = _largest(strong, cells, LEAST_SHARE * curvature.size)
            if region is not None:
                return region
            # An outline has a strong curvature, too, and is no lens.
            known = known & ~strong
            continue
        # The curvatures of an outline scatter so much that they hide the lens beside them.
        outline = upper if 2 * upper.sum() < known.sum() else known & ~upper
        if outline.sum() > OUTLINE * known.sum():
            return None
        known = known & ~outline
    return None


def _largest(strong: Mask, cells: "_Cells", least: float) -> Mask | None:
    """Largest region of a class, if a lens fits it; refuse one that has a rival."""
    label, count = ndimage.label(ndimage.binary_opening(strong))
    sizes = np.bincount(label.ravel(), minlength=count + 1)[1:]
    if not sizes.size or sizes.max() < least:
        return None
    region = np.asarray(label == int(np.argmax(sizes)) + 1, np.bool_)
    if not cells.fits_better(region):
        return None
    rivals = int(np.count_nonzero(sizes > RIVAL * sizes.max()))
    if rivals > 1:
        raise InputError(
            f"{rivals} regions of similar size have the curvature of a lens",
            "Say which one: give aperture=(y, x, radius) in m, or a mask.",
        )
    return region


def _upper_class(curvature: Floats, known: Mask) -> Mask | None:
    """Cells of the class with the larger curvature; None where there is one class only."""
    values = curvature[known]
    if values.size < LEAST_CELLS**2:
        return None
    low, high = np.percentile(values, [2, 98])
    if not high - low > SAME * max(abs(high), abs(low)):
        return None
    counts, edges = np.histogram(np.clip(values, low, high), 64)
    middle = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middle)
    above, rest = below[-1] - below, sums[-1] - sums
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - rest / above) ** 2
    threshold = edges[1 + int(np.nanargmax(between[:-1]))]
    return np.asarray(known & (curvature >= threshold), np.bool_)


def _stronger_class(curvature: Floats, known: Mask, upper: Mask) -> Mask | None:
    """Choose the class with the stronger curvature; None where they are not clearly apart."""
    classes = (known & ~upper, upper)
    centers = [float(np.median(curvature[part])) for part in classes]
    spreads = [
        1.4826 * float(np.median(np.abs(curvature[part] - center)))
        for part, center in zip(classes, centers, strict=True)
    ]
    strong = int(abs(centers[1]) > abs(centers[0]))
    if abs(centers[1] - centers[0]) < APART * math.hypot(*spreads):
        return None
    if abs(centers[1 - strong]) > FLAT * abs(centers[strong]):
        return None
    return classes[strong]


class _Cells(NamedTuple):
    """Means of slopes over cells, shape (rows, columns); NaN where there are few data."""

    slope_y: Floats
    slope_x: Floats
    y: Floats
    x: Floats

    @classmethod
    def of(
        cls, slope_y: Floats, slope_x: Floats, valid: Mask, y: Floats, x: Floats, side: int
    ) -> "_Cells":
        shape = tuple(size // side for size in valid.shape)

        def summed(values: Floats) -> Floats:
            cut = values[: shape[0] * side, : shape[1] * side]
            return np.asarray(cut.reshape(shape[0], side, shape[1], side).sum(axis=(1, 3)))

        count = summed(valid.astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [
                np.where(count > side**2 / 2, summed(np.where(valid, part, 0.0)) / count, np.nan)
                for part in (slope_y, slope_x)
            ]
        middles = [
            line[: size * side].reshape(size, side).mean(axis=1)
            for line, size in zip((y, x), shape, strict=True)
        ]
        return cls(means[0], means[1], *np.meshgrid(*middles, indexing="ij"))

    def curvature(self, scale: float) -> Floats:
        """Compute the stronger principal curvature, a mean over about twice `scale` cells."""
        forms = []
        for slope in (self.slope_y, self.slope_x):
            for axis, place in ((0, self.y), (1, self.x)):
                step = np.gradient(place, axis=axis)
                forms.append(np.gradient(slope, axis=axis) / step)
        yy, one, other, xx = (_smoothed(form, scale) for form in forms)
        mean, half = (yy + xx) / 2, np.hypot((xx - yy) / 2, (one + other) / 2)
        # The mean curvature of a cylinder is half of its own: the stronger one is used.
        return np.where(mean >= 0, mean + half, mean - half)

    def fits_better(self, region: Mask) -> bool:
        """Whether a lens fits the slopes of a region much better than those of all cells."""
        left = []
        for part in (region, np.ones_like(region)):
            used = part & np.isfinite(self.slope_y) & np.isfinite(self.slope_x)
            basis = np.stack([np.ones_like(self.y), self.y, self.x], axis=-1)
            scale = np.abs(basis).max(axis=(0, 1))
            square = 0.0
            for slope in (self.slope_y, self.slope_x):
                fit = np.linalg.lstsq(basis[used] / scale, slope[used], rcond=None)[0]
                error = (slope - (basis / scale) @ fit)[region & np.isfinite(slope)]
                square += float(np.mean(error**2))
            left.append(square)
        return left[0] < BETTER**2 * left[1]


def _smoothed(values: Floats, scale: float) -> Floats:
    """Gaussian mean, and median over three by three cells; NaN where the middle one is."""
    known = np.isfinite(values)
    if scale > 0:
        weight = ndimage.gaussian_filter(known.astype(np.float64), scale, mode="nearest")
        total = ndimage.gaussian_filter(np.where(known, values, 0.0), scale, mode="nearest")
        values = np.divide(total, weight, out=np.full(values.shape, np.nan), where=known)
    filled = np.where(known, values, np.nanmedian(values) if known.any() else 0.0)
    return np.where(known, ndimage.median_filter(filled, size=3, mode="nearest"), np.nan)
