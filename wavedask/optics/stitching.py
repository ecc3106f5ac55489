"""Join overlapping fields of a scan into one map of the optic."""

from collections.abc import Sequence
from itertools import product
from operator import getitem
from typing import Any, Final, Literal, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import Delayed, delayed

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
from wavedask.optics.overlaps import (
    SAME,
    TERMS,
    Part,
    Places,
    Region,
    check_joined,
    finished_part,
    joined_part,
    misfit_of,
    placed,
    plane_of,
    plane_sums,
    shared_region,
    solved_levels,
    sums_of,
)
from wavedask.optics.surface import equal_steps, surface_of
from wavedask.units import conversion

Floats = npt.NDArray[np.float64]

TILE: Final = 1024
"""Side of the parts of the joined map that are computed at a time, px."""
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
    uncertainties are known.

    A lazy `wf` gives a lazy result. The pistons and tilts depend on all fields, so that any part of
    the result computes each field, once, and keeps them all until it is done: twice the memory of
    their wavefronts. All else is computed in parts of 1024 x 1024 pixels.

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
        overlap in one piece. Gaps of a lazy `wf` are only known when the result is computed.

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
    rows, columns = (
        int(_corners(places[:, axis]).max() + _between(places[:, axis]).any()) + surface.sizes[dim]
        for axis, dim in enumerate((Y, X))
    )
    shape = rows, columns
    if shape[0] * shape[1] > LARGEST:
        raise InputError(
            f"the joined map would have {shape[0]} x {shape[1]} pixels",
            "Check the units of the motors, or interpolate the fields to fewer pixels.",
        )
    joined = _joined(wf, surface, places, shape)
    coords = {
        dim: (
            dim,
            (np.arange(shape[axis]) + origin[axis]) * steps[axis] + start,
            surface[dim].attrs,
        )
        for axis, (dim, start) in enumerate((str(dim), float(surface[dim][0])) for dim in (Y, X))
    }
    along: dict[str, Any] = {
        str(name): coord for name, coord in wf.coords.items() if coord.dims == (FRAME,)
    }
    parts = [
        labelled(joined.surface, WAVEFRONT, dims=(Y, X), coords=coords),
        labelled(joined.coverage, COVERAGE, dims=(Y, X), coords=coords),
        labelled(joined.terms[:, 0], STITCHING_PISTON, dims=(FRAME,), coords=along),
        labelled(joined.terms[:, 1] / steps[0], STITCHING_TILT_Y, dims=(FRAME,), coords=along),
        labelled(joined.terms[:, 2] / steps[1], STITCHING_TILT_X, dims=(FRAME,), coords=along),
        labelled(joined.misfit, STITCHING_MISFIT, dims=(FRAME,), coords=along),
    ]
    if WAVEFRONT_UNCERTAINTY.name in wf:
        parts.append(labelled(joined.error, WAVEFRONT_UNCERTAINTY, dims=(Y, X), coords=coords))
    result = xr.Dataset({str(part.name): part for part in parts}, attrs=wf.attrs)
    return result if surface.chunks is not None else result.compute(scheduler="threads")


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


class _Joined(NamedTuple):
    """What the fields join to, lazy: maps, and terms (per pixel) and misfits of the fields."""

    surface: da.Array
    error: da.Array
    coverage: da.Array
    terms: da.Array
    misfit: da.Array


class _Tile(NamedTuple):
    """A part of the joined map: the pieces of fields in it, which they are, and its places."""

    pieces: list[Delayed]
    parts: list[Part]
    places: Places


def _joined(
    wf: xr.Dataset, surface: xr.DataArray, places: Floats, shape: tuple[int, int]
) -> _Joined:
    """Build the graph: fields, sums over parts of the map, levels, parts, and their plane."""
    fields, regions = _placed_fields(wf, surface, places)
    check_joined(
        np.array([[shared_region(a, b) is not None for a in regions] for b in regions], np.bool_)
    )
    count = len(fields)
    # Numbers about 1 keep the equations well conditioned.
    half = max(shape) / 2
    axes = [np.asarray((np.arange(size) - size / 2) / half) for size in shape]
    grid = [_cuts(size) for size in shape]
    cuts: list[Region] = [(rows, columns) for rows, columns in product(*grid)]
    tiles = [_tile(fields, regions, axes, cut) for cut in cuts]
    levels = delayed(solved_levels)([delayed(sums_of)(*tile) for tile in tiles], count)
    joined = [delayed(joined_part)(*tile, levels) for tile in tiles]
    misfits = [
        delayed(misfit_of)(field, levels, number, *_tile(joined, cuts, axes, region))
        for number, (field, region) in enumerate(zip(fields, regions, strict=True))
    ]
    plane = delayed(plane_of)(
        [delayed(plane_sums)(part, tile.places) for part, tile in zip(joined, tiles, strict=True)]
    )
    finished = [
        delayed(finished_part)(part, tile.places, plane, misfits)
        for part, tile in zip(joined, tiles, strict=True)
    ]
    flat, whole = (_map_of(parts, layers, grid) for parts, layers in ((finished, 2), (joined, 4)))
    terms = da.from_delayed(levels.terms, (count, TERMS), np.float64)
    rows = [da.from_delayed(misfit, (2,), np.float64) for misfit in misfits]
    return _Joined(
        flat[0],
        flat[1],
        whole[3].astype(np.int32),
        terms / np.array([1.0, half, half]),
        da.stack(rows)[:, 0],
    )


def _placed_fields(
    wf: xr.Dataset, surface: xr.DataArray, places: Floats
) -> tuple[list[Delayed], list[Region]]:
    """Put each field on pixels of the joined map; return the fields, and where they lie."""
    heights = _by_frame(surface)
    sigma: list[Any] = [None] * len(heights)
    if WAVEFRONT_UNCERTAINTY.name in wf:
        sigma = _by_frame(surface_of(wf, WAVEFRONT_UNCERTAINTY.name))
    fields, regions = [], []
    for number, place in enumerate(places):
        corner = _corners(place)
        rest = np.where(_between(place), place - corner, 0.0)
        name = f"{WAVEFRONT.name} of frame {number}"
        fields.append(delayed(placed)(heights[number], sigma[number], rest, name))
        sides = [
            slice(int(first), int(first) + size + int(part > 0))
            for first, size, part in zip(corner, surface.shape[-2:], rest, strict=True)
        ]
        regions.append((sides[0], sides[1]))
    return fields, regions


def _by_frame(maps: xr.DataArray) -> list[Any]:
    """Take maps apart into one for each frame, of which Dask makes one task each."""
    data = maps.transpose(FRAME, Y, X).data
    if maps.chunks is None:
        return list(data)
    # Optimised one by one, maps that come from the same task would make it twice.
    return [delayed(getitem)(one, 0) for one in data.to_delayed(optimize_graph=False)[:, 0, 0]]


def _cuts(size: int) -> list[slice]:
    """Cut an axis of the joined map into parts."""
    return [slice(start, min(start + TILE, size)) for start in range(0, size, TILE)]


def _tile(
    maps: Sequence[Delayed], regions: Sequence[Region], axes: Sequence[Floats], tile: Region
) -> _Tile:
    """Collect the pieces of maps that lie in a part of the joined map."""
    pieces, parts = [], []
    for number, (one, region) in enumerate(zip(maps, regions, strict=True)):
        found = shared_region(region, tile)
        if found is not None:
            mine, inside, _ = found
            pieces.append(delayed(getitem)(one, (slice(None), *mine)))
            parts.append(Part(number, inside))
    return _Tile(pieces, parts, (axes[0][tile[0]], axes[1][tile[1]]))


def _map_of(parts: Sequence[Delayed], layers: int, grid: Sequence[Sequence[slice]]) -> da.Array:
    """Join parts of the map, row by row, to an array of several layers."""
    each = iter(parts)
    heights, widths = ([cut.stop - cut.start for cut in cuts] for cuts in grid)
    array: da.Array = da.block(
        [
            [da.from_delayed(next(each), (layers, height, width), np.float64) for width in widths]
            for height in heights
        ]
    )
    return array


def _corners(places: Floats) -> npt.NDArray[np.int_]:
    """Return the pixels of the joined map on or before which fields begin."""
    return np.asarray(np.floor(places + SAME), np.int_)


def _between(places: Floats) -> npt.NDArray[np.bool_]:
    """Whether fields lie between the pixels of the joined map."""
    return np.asarray(np.abs(places - np.round(places)) > SAME, np.bool_)
