"""Join overlapping fields of a scan into one map of the optic."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import interpolate, ndimage
from scipy.sparse import csgraph, csr_array

from wavedask.conventions import (
    COVERAGE,
    FRAME,
    METRE,
    STITCHING_MISFIT,
    STITCHING_PISTON,
    STITCHING_TILT_X,
    STITCHING_TILT_Y,
    UNITS,
    UNKNOWN_UNIT,
    WAVEFRONT,
    WAVEFRONT_UNCERTAINTY,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.optics.surface import check_values, equal_steps, surface_of, without_plane
from wavedask.units import conversion

Floats = npt.NDArray[np.float64]

TERMS: Final = 3
"""Unknowns of a field: piston, and tilt along y and x."""
SAME: Final = 1e-6
"""Part of a pixel that is no move."""
BLOCKS: Final = 64
"""Blocks into which an overlap is cut to see how its error is correlated."""
LEAST_BLOCKS: Final = 8
CUBIC: Final = 3
"""Degree of the interpolation between pixels."""
LARGEST: Final = 2**28
"""Pixels of a joined map, at most."""
Moving = Literal["optic", "detector"]


def stitch(
    wf: xr.Dataset,
    *,
    motor_y: str | None = None,
    motor_x: str | None = None,
    moving: Moving = "optic",
    signs: tuple[int, int] = (1, 1),
) -> xr.Dataset:
    r"""Join the wavefronts of overlapping fields into one.

    Every field has a piston and a tilt of its own, which a wavefront sensor does not tell from
    those of the stage. They are found from the overlaps: the sum over all fields i and positions p
    of

    .. math:: w_i(p) \, (W_i(p) - S(p) - a_i - b_i y - c_i x)^2

    is smallest, with the joined surface S as the weighted mean of the fields (as of Wyant and
    Schmit, J. Vac. Sci. Technol. A 16, 1998). The weights are inverse variances where the
    uncertainties are known. This function computes the wavefronts,
    and holds all of them in memory.

    Parameters
    ----------
    wf : xarray.Dataset, dims (frame, y, x)
        Result of `wavefront` with the motors as coordinates along ``frame``.
    motor_y, motor_x : str, optional
        Motors that move along y and along x. At least one.
    moving : "optic" or "detector", default "optic"
        What the motors move. A point of the optic at q is seen at y = q + motor if the optic moves,
        at y = q - motor if the detector moves.
    signs : (int, int), default (1, 1)
        Directions of the motors along y and x: -1 where a positive motion is toward smaller y or x.

    Returns
    -------
    xarray.Dataset
        On positions of the optic, in m:

        * ``wavefront``: the joined surface in m, of zero mean and without tilt,
        * ``wavefront_uncertainty``: its standard error in m, where `wf` has one: noise of the
          fields, and of the pistons and tilts that were found from them,
        * ``coverage``: fields at each position,

        and along ``frame``: ``stitching_piston`` in m, ``stitching_tilt_y`` and
        ``stitching_tilt_x`` in rad, that were taken out of each field, and ``stitching_misfit``,
        the rms of what the fields differ by, in m.

    Raises
    ------
    InputError
        No motor, a motor without unit of length, fewer than two fields, or fields that do not
        overlap in one piece.

    Notes
    -----
    The joint tilt of all fields is lost, and with it nothing else; errors of the single tilts
    add up along a chain of fields to a curvature: long chains want wide overlaps.

    Examples
    --------
    >>> q = np.arange(0, 60) * 1e-6
    >>> shape = 1e-9 * np.sin(q / 8e-6)[:, None] * np.ones(20)
    >>> fields = np.stack([shape[0:40], shape[20:60] + 5e-9])
    >>> motor = ("frame", [0.0, -20.0], {"units": "um"})
    >>> wf = xr.Dataset(
    ...     {"wavefront": (("frame", "y", "x"), fields)},
    ...     {"y": q[:40], "x": q[:20], "lens_y": motor},
    ... )
    >>> joined = stitch(wf, motor_y="lens_y")
    >>> joined.sizes["y"], bool(joined.stitching_misfit.max() < 1e-15)
    (60, True)
    """
    surface = surface_of(wf)
    if FRAME not in surface.dims or surface.sizes[FRAME] < 2:
        raise InputError(
            f"{WAVEFRONT.name} has the dimensions {surface.dims}",
            f"Give at least two fields along {FRAME!r}.",
        )
    steps = equal_steps(surface)
    moves = _moves(wf, (motor_y, motor_x), moving, signs)
    places = moves / np.array(steps)
    origin = places.min(axis=0)
    places = places - origin
    shape = tuple(
        int(_corners(places[:, axis]).max() + _between(places[:, axis]).any()) + surface.sizes[dim]
        for axis, dim in enumerate((Y, X))
    )
    if shape[0] * shape[1] > LARGEST:
        raise InputError(
            f"the joined map would have {shape[0]} x {shape[1]} pixels",
            "Check the units of the motors, or interpolate the fields to fewer pixels.",
        )
    fields = _Fields(wf, surface, places, shape)
    terms, covariance = fields.levels()
    joined, error, coverage, misfit = fields.joined(terms, covariance)
    coords = {
        dim: (
            dim,
            (np.arange(shape[axis]) + origin[axis]) * steps[axis] + start,
            surface[dim].attrs,
        )
        for axis, (dim, start) in enumerate((str(dim), float(surface[dim][0])) for dim in (Y, X))
    }
    piston, tilt_y, tilt_x = terms.T
    along: dict[str, Any] = {
        str(name): coord for name, coord in wf.coords.items() if coord.dims == (FRAME,)
    }
    parts = [
        labelled(joined, WAVEFRONT, dims=(Y, X), coords=coords),
        labelled(coverage, COVERAGE, dims=(Y, X), coords=coords),
        labelled(piston, STITCHING_PISTON, dims=(FRAME,), coords=along),
        labelled(tilt_y / steps[0], STITCHING_TILT_Y, dims=(FRAME,), coords=along),
        labelled(tilt_x / steps[1], STITCHING_TILT_X, dims=(FRAME,), coords=along),
        labelled(misfit, STITCHING_MISFIT, dims=(FRAME,), coords=along),
    ]
    if error is not None:
        parts.append(labelled(error, WAVEFRONT_UNCERTAINTY, dims=(Y, X), coords=coords))
    return xr.Dataset({str(part.name): part for part in parts}, attrs=wf.attrs)


def _moves(
    wf: xr.Dataset, motors: Sequence[str | None], moving: str, signs: Sequence[int]
) -> Floats:
    """Positions of the first pixel of each field on the optic, along (y, x), m."""
    if moving not in ("optic", "detector"):
        raise InputError(f"moving is {moving!r}", "Choose 'optic' or 'detector'.")
    if not {*signs} <= {1, -1} or len(signs) != 2:
        raise InputError(f"signs is {signs!r}", "Give two of 1 and -1, along y and along x.")
    if not any(motors):
        raise InputError("no motor is given", "Name motor_y, motor_x, or both.")
    moves = np.zeros((wf.sizes[FRAME], 2))
    for axis, name in enumerate(motors):
        if name is None:
            continue
        if name not in wf.coords or wf[name].dims != (FRAME,):
            there = [str(key) for key, coord in wf.coords.items() if coord.dims == (FRAME,)]
            raise InputError(
                f"there is no motor {name!r} along {FRAME}", f"There are: {', '.join(there)}."
            )
        unit = str(wf[name].attrs.get(UNITS, UNKNOWN_UNIT))
        factor = conversion(unit, METRE)
        if factor is None:
            raise InputError(
                f"the motor {name!r} is in {unit!r}",
                f"Set its unit of length: wf[{name!r}].attrs['units'] = 'mm'.",
            )
        direction = -signs[axis] if moving == "optic" else signs[axis]
        moves[:, axis] = direction * factor * np.asarray(wf[name].values, np.float64)
    if not np.isfinite(moves).all():
        raise InputError("a motor has no position in some frames", "Leave these frames out.")
    return moves


class _Fields:
    """The fields on the pixels of the joined map."""

    def __init__(
        self, wf: xr.Dataset, surface: xr.DataArray, places: Floats, shape: tuple[int, ...]
    ) -> None:
        self._surface = surface
        self._errors = (
            surface_of(wf, WAVEFRONT_UNCERTAINTY.name) if WAVEFRONT_UNCERTAINTY.name in wf else None
        )
        self._places = places
        self._shape = shape
        self.count = surface.sizes[FRAME]

    def field(self, number: int) -> tuple[tuple[slice, slice], Floats, Floats, list[Floats]]:
        """Region, heights, weights and terms of a field; weight zero where there is no data."""
        corner = _corners(self._places[number])
        between = _between(self._places[number])
        rest = np.where(between, self._places[number] - corner, 0.0)
        heights = np.asarray(self._surface.isel({FRAME: number}).values, np.float64)
        check_values(heights, f"{WAVEFRONT.name} of frame {number}")
        known = np.isfinite(heights)
        weights = known.astype(np.float64)
        if self._errors is not None:
            sigma = np.asarray(self._errors.isel({FRAME: number}).values, np.float64)
            known &= np.isfinite(sigma) & (sigma > 0)
            weights = np.divide(1.0, sigma**2, out=np.zeros_like(sigma), where=known)
        heights = np.where(known, heights, 0.0)
        if between.any():
            heights, weights = _moved(heights, weights, known, rest)
        rows, columns = heights.shape
        region = (slice(corner[0], corner[0] + rows), slice(corner[1], corner[1] + columns))
        y = np.arange(region[0].start, region[0].stop) - self._shape[0] / 2
        x = np.arange(region[1].start, region[1].stop) - self._shape[1] / 2
        terms = [
            np.ones(heights.shape),
            np.broadcast_to(y[:, None], heights.shape),
            np.broadcast_to(x, heights.shape),
        ]
        return region, heights, weights, terms

    def levels(self) -> tuple[Floats, Floats]:
        """Piston and tilts of each field, per pixel, and their covariance."""
        total = np.zeros(self._shape)
        for number in range(self.count):
            region, _, weights, _ = self.field(number)
            total[region] += weights
        size = TERMS * self.count
        normal, right = np.zeros((size, size)), np.zeros(size)
        whole = [self.field(number) for number in range(self.count)]
        for i, (region, heights, weights, terms) in enumerate(whole):
            own = slice(TERMS * i, TERMS * (i + 1))
            stacked = np.stack([term.ravel() for term in terms])
            weighted = stacked * weights.ravel()
            normal[own, own] += weighted @ stacked.T
            right[own] += weighted @ heights.ravel()
            for j, other in enumerate(whole):
                shared = _shared(region, other[0])
                if shared is None:
                    continue
                mine, theirs = shared
                both = weights[mine] * other[2][theirs]
                all_of_them = total[region][mine]
                both = np.divide(both, all_of_them, out=np.zeros_like(both), where=all_of_them > 0)
                left = np.stack([term[mine].ravel() for term in terms]) * both.ravel()
                normal[own, TERMS * j : TERMS * (j + 1)] -= (
                    left @ np.stack([term[theirs].ravel() for term in other[3]]).T
                )
                right[own] -= left @ other[1][theirs].ravel()
        self._check_joined(normal)
        # The joint piston and tilt of all fields are free: the smallest solution has none.
        scale = 1 / np.sqrt(np.maximum(np.diag(normal), np.finfo(float).tiny))
        inverse = np.linalg.pinv(normal * np.outer(scale, scale), rcond=1e-10, hermitian=True)
        covariance = inverse * np.outer(scale, scale)
        return (covariance @ right).reshape(self.count, TERMS), covariance

    def _check_joined(self, normal: Floats) -> None:
        """Refuse fields that are not all connected by overlaps."""
        links = np.abs(normal[::TERMS, ::TERMS]) > 0
        pieces, labels = _connected(links)
        if pieces > 1:
            apart = [int(np.flatnonzero(labels == piece)[0]) for piece in range(pieces)]
            raise InputError(
                f"the fields lie in {pieces} pieces that do not overlap, the first fields of which "
                f"are {', '.join(map(str, apart))}",
                "Check the motors, their units and signs, or join each piece by itself.",
            )

    def joined(
        self, terms: Floats, covariance: Floats
    ) -> tuple[Floats, Floats | None, npt.NDArray[np.int32], Floats]:
        """Return the joined map without plane, its error, fields per pixel, misfit per field."""
        total, top = np.zeros(self._shape), np.zeros(self._shape)
        coverage = np.zeros(self._shape, np.int32)
        for number in range(self.count):
            region, heights, weights, basis = self.field(number)
            level = sum(c * term for c, term in zip(terms[number], basis, strict=True))
            total[region] += weights
            top[region] += weights * (heights - level)
            coverage[region] += weights > 0
        surface = np.divide(top, total, out=np.full(self._shape, np.nan), where=total > 0)
        misfit, areas = np.full(self.count, np.nan), [1.0]
        variance = np.divide(1.0, total, out=np.full(self._shape, np.nan), where=total > 0)
        spread = np.zeros(self._shape)
        for number in range(self.count):
            region, heights, weights, basis = self.field(number)
            level = sum(c * term for c, term in zip(terms[number], basis, strict=True))
            left = heights - level - surface[region]
            over = (weights > 0) & (coverage[region] > 1)
            if over.any():
                misfit[number] = np.sqrt(np.mean(left[over] ** 2))
                areas.append(_correlated_pixels(left, over))
            own = slice(TERMS * number, TERMS * (number + 1))
            share = np.divide(weights, total[region], out=np.zeros_like(weights), where=weights > 0)
            stacked = np.stack(basis)
            spread[region] += share * np.einsum(
                "iyx,ij,jyx->yx", stacked, covariance[own, own], stacked
            )
        # Noise of an integrated wavefront is correlated over many pixels, and does not average out
        # in a piston as white noise would.
        variance += np.max(areas) * spread
        flat = _flat(surface)
        error = np.sqrt(variance) if self._errors is not None else None
        return flat, error, coverage, misfit


def _corners(places: Floats) -> npt.NDArray[np.int_]:
    """Return the pixels of the joined map on or before which fields begin."""
    return np.asarray(np.floor(places + SAME), np.int_)


def _between(places: Floats) -> npt.NDArray[np.bool_]:
    """Whether fields lie between the pixels of the joined map."""
    return np.asarray(np.abs(places - np.round(places)) > SAME, np.bool_)


def _moved(
    heights: Floats, weights: Floats, known: npt.NDArray[np.bool_], rest: Floats
) -> tuple[Floats, Floats]:
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


def _shared(
    one: tuple[slice, slice], other: tuple[slice, slice]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Region that two fields share, in pixels of each."""
    mine, theirs = [], []
    for a, b in zip(one, other, strict=True):
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        if start >= stop:
            return None
        mine.append(slice(start - a.start, stop - a.start))
        theirs.append(slice(start - b.start, stop - b.start))
    return (mine[0], mine[1]), (theirs[0], theirs[1])


def _connected(links: npt.NDArray[np.bool_]) -> tuple[int, npt.NDArray[np.int32]]:
    """Count the pieces of a graph, and label its nodes."""
    count, labels = csgraph.connected_components(
        csr_array(links.astype(np.float64)), directed=False
    )
    return int(count), labels


def _correlated_pixels(left: Floats, over: npt.NDArray[np.bool_]) -> float:
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


def _flat(surface: Floats) -> Floats:
    rows, columns = surface.shape
    return without_plane(surface, np.arange(float(rows)), np.arange(float(columns)))
