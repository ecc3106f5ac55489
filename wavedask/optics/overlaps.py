"""Pistons and tilts of overlapping fields, and the surface that they join to, part by part."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import interpolate, ndimage
from scipy.sparse import csgraph, csr_array

from wavedask.errors import InputError
from wavedask.optics.surface import check_values

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Region = tuple[slice, slice]
Places = tuple[Floats, Floats]
"""Places of pixels along y and along x."""

TERMS: Final = 3
"""Unknowns of a field: piston, and tilt along y and x."""
SAME: Final = 1e-6
"""Part of a pixel that is no move."""
BLOCKS: Final = 64
"""Blocks into which an overlap is cut to see how its error is correlated."""
LEAST_BLOCKS: Final = 8
CUBIC: Final = 3
"""Degree of the interpolation between pixels."""
ROUNDED: Final = 1e-10
"""Part of the largest normal equation below which one is rounding."""


class Levels(NamedTuple):
    """Pistons and tilts of all fields.

    Attributes
    ----------
    terms : ndarray of float64, shape (fields, 3)
        Height at the origin, and change per pixel along y and x.
    covariance : ndarray of float64, shape (3 fields, 3 fields)
        That of white noise.
    """

    terms: Floats
    covariance: Floats


class Sums(NamedTuple):
    """Normal equations of the pistons and tilts, from one part of the joined map.

    Attributes
    ----------
    fields : list of int
        Numbers of the fields in the part.
    normal : ndarray of float64, shape (fields, 3, fields, 3)
    right : ndarray of float64, shape (fields, 3)
    """

    fields: list[int]
    normal: Floats
    right: Floats


class Part(NamedTuple):
    """A piece of a field in a part of the joined map, or the other way round.

    Attributes
    ----------
    number : int
        Number of the field (of the part).
    region : (slice, slice)
        Its pixels in the part (in the field).
    """

    number: int
    region: Region


def placed(
    heights: npt.NDArray[Any], sigma: npt.NDArray[Any] | None, rest: Floats, name: str
) -> npt.NDArray[Any]:
    """Put a field on pixels of the joined map.

    Parameters
    ----------
    heights : ndarray, shape (y, x)
        NaN where there are none.
    sigma : ndarray, shape (y, x), optional
        Their standard errors.
    rest : ndarray, shape (2,)
        Part of a pixel by which the field lies behind a pixel of the joined map.
    name : str
        What the field is, for an error.

    Returns
    -------
    ndarray, shape (2, y, x)
        Heights, and standard errors: infinite where there is no height, one where `sigma` is not
        given. A row or column more where the field lies between pixels.

    Raises
    ------
    InputError
        Values that are too large.

    Examples
    --------
    >>> field = np.array([[1.0, 2.0], [3.0, np.nan]])
    >>> placed(field, None, np.zeros(2), "field")[1]
    array([[ 1., 1.], [ 1., inf]])
    """
    check_values(np.asarray(heights, np.float64), name)
    known = np.isfinite(heights)
    if sigma is not None:
        known &= np.isfinite(sigma) & (sigma > 0)
    error = np.where(known, 1.0 if sigma is None else sigma, np.inf)
    values = np.where(known, heights, 0.0)
    if rest.any():
        values, weights = _moved(values.astype(np.float64), error**-2.0, known, rest)
        nothing = np.full_like(weights, np.inf)
        error = np.divide(1.0, np.sqrt(weights), out=nothing, where=weights > 0)
    return np.stack([values, error]).astype(heights.dtype)


def _moved(heights: Floats, weights: Floats, known: Mask, rest: Floats) -> tuple[Floats, Floats]:
    """Move a field by a part of a pixel toward larger numbers; it grows by a row or column."""
    grown = [(0, int(part > 0)) for part in rest]
    rows, columns = heights.shape
    if not known.all() and known.any():
        # Gaps hold the nearest height, so that they do not ring in the spline.
        nearest = ndimage.distance_transform_edt(
            ~known, return_distances=False, return_indices=True
        )
        heights = heights[tuple(nearest)]
    degrees = min(CUBIC, rows - 1), min(CUBIC, columns - 1)
    spline = interpolate.RectBivariateSpline(
        np.arange(rows), np.arange(columns), heights, kx=degrees[0], ky=degrees[1]
    )
    y, x = (
        np.arange(size + more) - part
        for size, (_, more), part in zip(heights.shape, grown, rest, strict=True)
    )
    moved = spline(y, x)
    # A pixel is known where all that it lies between is.
    there = ndimage.shift(np.pad(known.astype(np.float64), grown), rest, order=1, mode="constant")
    weight = ndimage.shift(np.pad(weights, grown), rest, order=1, mode="constant")
    return np.asarray(moved), np.where(there > 1 - SAME, weight, 0.0)


def sums_of(pieces: Sequence[npt.NDArray[Any]], parts: Sequence[Part], places: Places) -> Sums:
    """Sum up the normal equations of one part of the joined map.

    Parameters
    ----------
    pieces : sequence of ndarray, shape (2, y, x)
        What lies in the part of each field, as of `placed`.
    parts : sequence of Part
        Which field each is, and where it lies in the part.
    places : (ndarray, ndarray)
        Places of the pixels of the part, along y and x.
    """
    total, top = _weighted_sums(pieces, parts, places)
    mean = np.divide(top, total, out=np.zeros_like(top), where=total > 0)
    count = len(parts)
    normal, right = np.zeros((count, TERMS, count, TERMS)), np.zeros((count, TERMS))
    weights = [_weights(piece) for piece in pieces]
    for i, (piece, part) in enumerate(zip(pieces, parts, strict=True)):
        own = _powers(places, part.region)
        moments = _moments(weights[i], own)
        normal[i, :, i] += _products(moments)
        right[i] = _heights(_moments(weights[i] * (piece[0] - mean[part.region]), own))
        for j in range(i + 1):
            shared = shared_region(part.region, parts[j].region)
            if shared is None:
                continue
            mine, theirs, both = shared
            product = weights[i][mine] * weights[j][theirs]
            whole = total[both]
            product = np.divide(product, whole, out=np.zeros_like(product), where=whole > 0)
            block = _products(_moments(product, _powers(places, both)))
            normal[i, :, j] -= block
            if i != j:
                normal[j, :, i] -= block
    return Sums([part.number for part in parts], normal, right)


def _weights(piece: npt.NDArray[Any]) -> Floats:
    return np.asarray(piece[1], np.float64) ** -2


def _weighted_sums(
    pieces: Sequence[npt.NDArray[Any]],
    parts: Sequence[Part],
    places: Places,
    terms: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Sum up the weights of all fields, and the weights times the heights above `terms`."""
    shape = places[0].size, places[1].size
    total, top = np.zeros(shape), np.zeros(shape)
    for piece, part in zip(pieces, parts, strict=True):
        weights = _weights(piece)
        heights = np.asarray(piece[0], np.float64)
        if terms is not None:
            heights = heights - _plane(terms[part.number], places, part.region)
        total[part.region] += weights
        top[part.region] += weights * heights
    return total, top


def _plane(terms: Floats, places: Places, region: Region) -> Floats:
    level, tilt_y, tilt_x = terms
    y, x = places[0][region[0]], places[1][region[1]]
    return np.asarray(level + tilt_y * y[:, None] + tilt_x * x)


def _powers(places: Places, region: Region) -> tuple[Floats, Floats]:
    """Powers 0 to 2 of the places of a region, along y and x, shapes (3, size)."""
    y, x = (place[side] for place, side in zip(places, region, strict=True))
    return np.stack([y**0, y, y**2]), np.stack([x**0, x, x**2])


def _moments(values: Floats, powers: tuple[Floats, Floats]) -> Floats:
    """Sum up values times powers of y (first axis) and of x."""
    return np.asarray(powers[0] @ values @ powers[1].T)


def _products(moments: Floats) -> Floats:
    """Select the sums of the products of (1, y, x), shape (3, 3)."""
    return np.array(
        [
            [moments[0, 0], moments[1, 0], moments[0, 1]],
            [moments[1, 0], moments[2, 0], moments[1, 1]],
            [moments[0, 1], moments[1, 1], moments[0, 2]],
        ]
    )


def _heights(moments: Floats) -> Floats:
    """Select the sums of (1, y, x)."""
    return np.array([moments[0, 0], moments[1, 0], moments[0, 1]])


def shared_region(one: Region, other: Region) -> tuple[Region, Region, Region] | None:
    """Return the region that two regions share, in pixels of each, and of the map; or None.

    Examples
    --------
    >>> shared_region((slice(0, 4), slice(0, 4)), (slice(2, 6), slice(0, 4)))[0]
    (slice(2, 4, None), slice(0, 4, None))
    """
    mine, theirs, both = [], [], []
    for a, b in zip(one, other, strict=True):
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        if start >= stop:
            return None
        mine.append(slice(start - a.start, stop - a.start))
        theirs.append(slice(start - b.start, stop - b.start))
        both.append(slice(start, stop))
    return (mine[0], mine[1]), (theirs[0], theirs[1]), (both[0], both[1])


def solved_levels(sums: Sequence[Sums], count: int) -> Levels:
    """Solve the normal equations of all parts.

    Parameters
    ----------
    sums : sequence of Sums
        As of `sums_of`.
    count : int
        Number of fields.

    Raises
    ------
    InputError
        Fields that do not overlap in one piece where they have data.
    """
    normal, right = np.zeros((count, TERMS, count, TERMS)), np.zeros((count, TERMS))
    for one in sums:
        own = np.array(one.fields)
        normal[own[:, None], :, own[None, :], :] += one.normal.transpose(0, 2, 1, 3)
        right[own] += one.right
    levels = normal[:, 0, :, 0]
    largest = np.sqrt(np.maximum(np.diag(levels), 0))
    check_joined(np.abs(levels) > ROUNDED * np.outer(largest, largest))
    size = TERMS * count
    equations = normal.reshape(size, size)
    # The joint piston and tilt of all fields are free: the smallest solution has none.
    scale = 1 / np.sqrt(np.maximum(np.diag(equations), np.finfo(float).tiny))
    inverse = np.linalg.pinv(equations * np.outer(scale, scale), rcond=1e-10, hermitian=True)
    covariance = inverse * np.outer(scale, scale)
    return Levels((covariance @ right.ravel()).reshape(count, TERMS), covariance)


def check_joined(links: Mask) -> None:
    """Refuse fields that are not all connected by overlaps.

    Parameters
    ----------
    links : ndarray of bool, shape (fields, fields)
        Which fields overlap.

    Examples
    --------
    >>> check_joined(np.array([[True, True], [True, True]]))
    """
    pieces, labels = csgraph.connected_components(
        csr_array(links.astype(np.float64)), directed=False
    )
    if pieces > 1:
        apart = [int(np.flatnonzero(labels == piece)[0]) for piece in range(pieces)]
        raise InputError(
            f"the fields lie in {pieces} pieces that do not overlap, the first fields of which "
            f"are {', '.join(map(str, apart))}",
            "Check the motors, their units and signs, or join each piece by itself.",
        )


def joined_part(
    pieces: Sequence[npt.NDArray[Any]],
    parts: Sequence[Part],
    places: Places,
    levels: Levels,
) -> Floats:
    """Join the fields in one part of the map.

    Returns
    -------
    ndarray of float64, shape (4, y, x)
        Surface; variance of its noise, and variance that the pistons and tilts add to it; number of
        fields.
    """
    total, top = _weighted_sums(pieces, parts, places, levels.terms)
    found = np.full((4, *total.shape), np.nan)
    surface, variance, spread, coverage = found
    np.divide(top, total, out=surface, where=total > 0)
    np.divide(1.0, total, out=variance, where=total > 0)
    spread[:] = coverage[:] = 0.0
    for piece, part in zip(pieces, parts, strict=True):
        weights = _weights(piece)
        own = slice(TERMS * part.number, TERMS * (part.number + 1))
        matrix = levels.covariance[own, own]
        y, x = places[0][part.region[0]][:, None], places[1][part.region[1]]
        level = (
            (matrix[0, 0] + 2 * matrix[0, 1] * y + matrix[1, 1] * y**2)
            + (2 * matrix[0, 2] * x + matrix[2, 2] * x**2)
            + 2 * matrix[1, 2] * y * x
        )
        whole = total[part.region]
        spread[part.region] += level * np.divide(
            weights, whole, out=np.zeros_like(weights), where=weights > 0
        )
        coverage[part.region] += weights > 0
    return found


def misfit_of(
    field: npt.NDArray[Any],
    levels: Levels,
    number: int,
    pieces: Sequence[Floats],
    parts: Sequence[Part],
    places: Places,
) -> Floats:
    """Compare a field with the joined map, where it overlaps with others.

    Parameters
    ----------
    field : ndarray, shape (2, y, x)
        As of `placed`.
    levels : Levels
        As of `solved_levels`.
    number : int
        Number of the field.
    pieces : sequence of ndarray, shape (4, y, x)
        What lies in the field of each part of the map, as of `joined_part`.
    parts : sequence of Part
        Where each lies in the field.
    places : (ndarray, ndarray)
        Places of the pixels of the field.

    Returns
    -------
    ndarray of float64, shape (2,)
        Rms of the difference (NaN without an overlap), and number of pixels that share one error.
    """
    whole = slice(0, None), slice(0, None)
    left = field[0] - _plane(levels.terms[number], places, whole)
    over = np.isfinite(field[1])
    for piece, part in zip(pieces, parts, strict=True):
        left[part.region] -= piece[0]
        over[part.region] &= piece[3] > 1
    if not over.any():
        return np.array([np.nan, 1.0])
    return np.array([np.sqrt(np.mean(left[over] ** 2)), _correlated_pixels(left, over)])


def _correlated_pixels(left: Floats, over: Mask) -> float:
    """Estimate how many pixels of a residual share one error, by the scatter of block means."""
    rows, columns = np.nonzero(over)
    side = int(np.sqrt(rows.size / BLOCKS))
    if side < 2:
        return 1.0
    block = (rows // side) * (columns.max() // side + 1) + columns // side
    count = np.bincount(block)
    sums = np.bincount(block, weights=left[over])
    full = count > side * side / 2
    scatter = float(np.var(left[over]))
    if full.sum() < LEAST_BLOCKS or not scatter:
        return 1.0
    means = sums[full] / count[full]
    return max(1.0, float(np.var(means)) / scatter * float(np.mean(count[full])))


def plane_sums(joined: Floats, places: Places) -> tuple[Floats, Floats]:
    """Sum up the normal equations of a plane through one part of the joined map."""
    known = np.isfinite(joined[0])
    powers = _powers(places, (slice(0, None), slice(0, None)))
    heights = np.where(known, joined[0], 0.0)
    return _products(_moments(known.astype(np.float64), powers)), _heights(
        _moments(heights, powers)
    )


def plane_of(sums: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Fit a plane to all parts: height at the origin, and change per pixel along y and x."""
    normal, right = (np.sum(part, axis=0) for part in zip(*sums, strict=True))
    return np.asarray(np.linalg.lstsq(normal, right)[0])


def finished_part(
    joined: Floats, places: Places, plane: Floats, misfits: Sequence[Floats]
) -> Floats:
    """Take the plane of all parts out of one part, and state its error.

    Parameters
    ----------
    joined : ndarray, shape (4, y, x)
        As of `joined_part`.
    places : (ndarray, ndarray)
        Places of its pixels.
    plane : ndarray, shape (3,)
        As of `plane_of`.
    misfits : sequence of ndarray, shape (2,)
        As of `misfit_of`, of all fields.

    Returns
    -------
    ndarray, shape (2, y, x)
        Surface and standard error.
    """
    surface = joined[0] - _plane(plane, places, (slice(0, None), slice(0, None)))
    # Noise of an integrated wavefront is correlated over many pixels, and does not average out in a
    # piston as white noise would.
    pixels = max(float(misfit[1]) for misfit in misfits)
    return np.stack([surface, np.sqrt(joined[1] + pixels * joined[2])])
