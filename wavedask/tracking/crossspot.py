"""The tracker of the report (crossSpot) on bare arrays: tile by tile under Dask."""

from dataclasses import replace
from functools import partial
from typing import Any, Final

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError
from wavedask.frames import masked_array
from wavedask.kernels.dense import Dense
from wavedask.kernels.fields import Fields
from wavedask.kernels.stacks import stacked
from wavedask.kernels.start import moved_part
from wavedask.kernels.tile import Tile
from wavedask.tracking.matching import (
    Array,
    Engine,
    Matching,
    Noise,
    Rigid,
    Splines,
    check_pair,
    checked_rigid,
    checked_settings,
)
from wavedask.tracking.moving import (
    REACH,
    check_reach,
    inner_part,
    is_large,
    middle,
)
from wavedask.tracking.speckle import measured_order

LEAST_TILE: Final = 1024
"""Pixels along the side of a tile of one frame, at least: smaller chunks are merged.

A tile of 512 px with its halo of 110 px (windows of 21 px, a search of 8 px) has twice the pixels.
Tiles of several frames have as many pixels in all.
"""


def cross_spot(
    sample: Array,
    reference: Array,
    *,
    engine: Engine = "dense",
    window: int | tuple[int, int] = 21,
    search: int = 16,
    good: float = 0.8,
    rigid: Rigid = "auto",
    joint: bool = False,
    step: int | None = None,
    order: Splines | None = None,
    detector_noise: Noise | None = None,
) -> Fields:
    """Track every pixel of a sample image, or of a stack of them, in its reference.

    Parameters
    ----------
    sample : ndarray or dask.array.Array, shape (y, x) or (frame, y, x)
        Images with the optic. NaN marks missing pixels, as does a `numpy.ma` mask, and, in
        integers, what detectors write into masked pixels.
    reference : ndarray or dask.array.Array, shape (y, x) or (frame, y, x)
        Images without: one for all samples, or one for each.
    engine : "dense" or "opencv", default "dense"
        ``dense``: Gauss-Newton in deforming windows around every pixel, with B-splines.
        ``opencv``: the two passes of the report, a loop of template matches.
    window : int or (int, int), default 21
        Side of the window in pixels, odd; a pair lets it grow from the smallest to the largest
        where the match is weaker than `good` (and, with ``dense``, less certain than 0.1 px).
    search : int, default 16
        Largest displacement looked for, beyond the rigid shift, in pixels.
    good : float, default 0.8
        Correlation at which the window stops growing.
    rigid : "auto", (int, int) or None, default "auto"
        Displacement (y, x) common to all pixels, in pixels: found from the whole frames, given, or
        none.
    joint : bool, default False
        Whether all frames share one displacement and are matched together (XSVT, UMPA), by the
        ``dense`` engine only: the result has no frame axis.
    step : int, optional
        ``opencv`` only: pixels between the points of the second pass, 4 by default; 1 matches every
        pixel.
    order : 3, 5 or "auto", optional
        ``dense`` only: order of the B-spline, 3 by default. The quintic is less biased where grains
        are finer than 3 px, and slower. ``"auto"`` chooses by the grain in the middle of the first
        reference, which is computed for it.
    detector_noise : DetectorNoise or dict, optional
        ``dense`` only: gain, readout and point spread function of the detector. The uncertainty of
        a displacement then follows from the noise that both images must have, rather than from the
        noise that the match leaves, which is uncertain where it is correlated over many pixels.
        Where the match leaves more at the frequencies of the pattern, that counts: speckle that is
        lost, or a wrong gain. An excess of 30 % counts in full, and a smaller one in part.

    Returns
    -------
    Fields
        A named tuple of arrays of the shape of `sample`, lazy if one of the two is lazy:
        ``displacement_y``, ``displacement_x``, ``uncertainty_y``, ``uncertainty_x`` (px),
        ``correlation``, ``window`` (px), ``transmission``, ``dark_field``, and ``reason`` (uint8),
        0 where there is a displacement.

    Raises
    ------
    InputError
        Shapes that do not fit each other, or settings that make no sense.

    Notes
    -----
    A pixel without a reliable match has a displacement of NaN and an infinite uncertainty, and
    ``reason`` says why: 1 the window or the match reaches beyond the border of the frame, 2 it is
    masked (less than a quarter of the window has data; ``opencv``: less than 19 twentieths), 3 no
    structure, 4 the best match lies at the limit of the search, 5 ambiguous (a second match is
    nearly as good), 6 not converged, 7 uncorrelated (nothing within the search resembles the
    window), 8 outlier (the match disagrees with its neighbours, or stands alone).

    The result is chunked as a lazy `sample` is (a joint one has all frames in one chunk): a chunk
    that spans the frame needs no halo, and pairs are independent; smaller tiles share a halo and
    give the same result. Chunks of less than 1024 px are tracked together with their neighbours.

    References
    ----------
    E.-R. Cojocaru et al., "Wavefront software tests at ESRF", EUCALL milestone M7.5 (2018),
    chapter 3. S. Berujon et al., Phys. Rev. Lett. 108, 158102 (2012). M.-C. Zdora et al., Phys.
    Rev. Lett. 118, 203903 (2017), for joint stacks.

    Examples
    --------
    >>> from wavedask.simulate import displaced_pair
    >>> pair = displaced_pair((96, 96), displacement_y=0.4, displacement_x=-1.6, seed=1)
    >>> found = cross_spot(pair.sample, pair.reference, window=15, search=4)
    >>> print(f"{found.displacement_x[48, 48]:.1f}")
    -1.6
    """
    tracker = checked_settings(
        engine=engine,
        window=window,
        search=search,
        good=good,
        step=step,
        order=order,
        detector_noise=detector_noise,
    )
    if isinstance(tracker, Dense) and order == "auto":
        tracker = replace(tracker, order=measured_order(masked_array(reference, "reference")))
    if joint and not isinstance(tracker, Dense):
        raise InputError(f"joint matching with engine {engine!r}", 'Use engine="dense" for stacks.')
    matching = Matching(tracker, checked_rigid(rigid), joint)
    check_pair(sample, reference, matching)
    sample, reference = masked_array(sample, "sample"), masked_array(reference, "reference")
    if isinstance(sample, da.Array) or isinstance(reference, da.Array):
        return _track_lazy(da.asarray(sample), da.asarray(reference), matching)
    return _track_arrays(np.asarray(sample), np.asarray(reference), matching)


def _track_arrays(sample: NDArray[Any], reference: NDArray[Any], matching: Matching) -> Fields:
    """Track arrays that are in memory."""
    if not sample.size:
        return Fields(*np.empty((len(Fields._fields), *sample.shape), np.float32))
    samples = sample.reshape(-1, *sample.shape[-2:])
    references = np.broadcast_to(reference, samples.shape)
    tile = Tile.whole(samples.shape)
    results = []
    for frames in matching.stacks(len(samples)):
        shift = matching.shift(samples[frames][0], references[frames][0])
        check_reach(shift, samples.shape)
        moved = _moved(references[frames], (0, 0), samples.shape[1:], shift)
        fields = matching.tracker.track(samples[frames], moved, replace(tile, shift=shift))
        fields[:2] += np.array(shift, np.float32)[:, None, None]
        results.append(fields)
    whole = results[0] if matching.joint or sample.ndim == 2 else np.stack(results, axis=1)
    return Fields(*[*whole[:-1], whole[-1].astype(np.uint8)])


def _track_lazy(sample: da.Array, reference: da.Array, matching: Matching) -> Fields:
    """Express the tracking of a chunked stack as one `map_overlap`."""
    single, joint, halo = sample.ndim == 2, matching.joint, matching.tracker.halo
    samples = sample[None] if single else sample
    large = is_large(samples.shape) and max(samples.numblocks[1:]) > 1
    moves = matching.rigid is not None
    # A tile takes its part of the reference itself, as soon as the shift is known: what is around
    # the tile as far as a shift may reach, or the frame, if it is no larger than a task may hold.
    whole = moves and not large
    reach = halo + REACH if moves and large else halo
    frames = ((samples.shape[0],),) if joint else samples.chunks[:1]
    side = round(LEAST_TILE / max((1, *frames[0])) ** 0.5)
    tiles = tuple(_tiles(axis, max(reach, side)) for axis in samples.chunks[1:])
    chunks = (*frames, *tiles)
    tiled = samples.rechunk(chunks)
    # A single reference stays one frame: each block repeats it. Nothing here but rechunking makes a
    # dictionary with an entry for each frame: of many frames, the graph must stay small.
    references = reference if reference.ndim == 3 else reference[None]
    shared = references.shape[0] == 1
    shift = None
    if moves:
        # The shift is that of whole frames, whatever the tiles.
        kept = slice(0, 1) if joint else slice(None)
        first = middle(samples[kept])
        by_frame = {0: -1 if shared else samples.chunks[0]}
        target = middle(references.rechunk(by_frame))[kept]
        shift = da.map_blocks(
            partial(_shift_block, matching=matching, shape=samples.shape[1:]),
            first.rechunk({1: -1, 2: -1}),
            target.rechunk({1: -1, 2: -1}),
            dtype=np.int64,
            chunks=(first.chunks[0], (2,), (1,)),
            meta=np.empty((0, 0, 0), np.int64),
        )
    pieces = (-1, -1) if whole else tiles
    depths = tuple(
        {0: 0} | {axis: far * (len(cut[axis - 1]) > 1) for axis in (1, 2)}
        for far, cut in ((halo, tiles), (reach, ((-1,), (-1,)) if whole else tiles))
    )
    outer = (1,) if joint else chunks[0]
    along = [] if shift is None else [_shift_along(shift, axis) for axis in (0, 1)]
    tracked = da.map_overlap(
        partial(
            _overlap_block,
            matching=matching,
            tiles=tiles,
            depth=(depths[0][1], depths[0][2]),
            reach=(depths[1][1], depths[1][2]),
            whole=whole,
        ),
        tiled,
        references.rechunk(((1,) if shared else frames[0], *pieces)),
        *along,
        depth=[*depths, *({0: 0, 1: 0, 2: 0} for _ in along)],
        boundary="none",
        allow_rechunk=False,
        align_arrays=False,
        trim=False,  # a block gives back its inner part only
        new_axis=0,
        chunks=((len(Fields._fields),), outer, *tiles),
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    fields = [
        _field_of(tracked, index, shift).rechunk((outer, *samples.chunks[1:]))
        for index in range(len(Fields._fields))
    ]
    return Fields(*(field[0] if single or joint else field for field in fields))


def _shift_along(shift: da.Array, axis: int) -> da.Array:
    """Select the rigid shifts along y or x, shape (frame, 1, 1), by one layer of the graph."""
    selected: da.Array = da.blockwise(
        _shift_part,
        (0, 1, 2),
        *(shift, (0, 3, 2)),
        axis=axis,
        new_axes={1: 1},
        dtype=shift.dtype,
        meta=np.empty((0, 0, 0), shift.dtype),
        concatenate=True,
        align_arrays=False,
    )
    return selected


def _shift_part(shift: NDArray[np.int64], *, axis: int) -> NDArray[np.int64]:
    return shift[:, axis : axis + 1]


def _field_of(tracked: da.Array, index: int, shift: da.Array | None) -> da.Array:
    """Select one field of the tracked blocks; the displacements gain the rigid shift."""
    dtype = np.dtype(np.uint8 if index == len(Fields._fields) - 1 else np.float32)
    added = (shift, (0, 4, 5)) if shift is not None and index < 2 else ()
    selected: da.Array = da.blockwise(
        _field_block,
        (0, 1, 2),
        *(tracked, (3, 0, 1, 2)),
        *added,
        index=index,
        dtype=dtype,
        meta=np.empty((0, 0, 0), dtype),
        concatenate=True,
        align_arrays=False,
    )
    return selected


def _field_block(
    fields: NDArray[np.float32], shift: NDArray[np.int64] | None = None, *, index: int
) -> NDArray[Any]:
    if index == len(Fields._fields) - 1:
        return np.asarray(fields[index], np.uint8)
    field = fields[index]
    return np.asarray(field if shift is None else field + shift[:, index, None].astype("f4"))


def _tiles(sizes: tuple[int, ...], least: int) -> tuple[int, ...]:
    """Merge neighbouring chunks until each has at least so many pixels.

    What is left at the end is shared with the chunk before, lest one tile needs more memory.
    """
    tiles = [0]
    for size in sizes:
        if tiles[-1] >= least:
            tiles.append(0)
        tiles[-1] += size
    if len(tiles) > 1 and tiles[-1] < least:
        both = tiles.pop() + tiles.pop()
        tiles += [both // 2, both - both // 2] if both // 2 >= least else [both]
    return tuple(tiles)


def _shift_block(
    sample: NDArray[Any], reference: NDArray[Any], *, matching: Matching, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    targets = np.broadcast_to(reference, sample.shape)
    shifts = [matching.shift(image, target) for image, target in zip(sample, targets, strict=True)]
    for shift in shifts:
        check_reach(shift, shape)
    return np.array(shifts, np.int64)[:, :, None]


def _moved(
    references: NDArray[Any],
    corner: tuple[int, int],
    shape: tuple[int, ...],
    shift: tuple[int, int],
) -> NDArray[np.float32]:
    """Cut the part that begins at a corner out of references that are moved by a shift."""
    first = corner[0] - shift[0], corner[1] - shift[1]
    return stacked([moved_part(image, first, (shape[0], shape[1])) for image in references])


def _overlap_block(
    sample: NDArray[Any],
    reference: NDArray[Any],
    *shift: NDArray[np.int64],
    matching: Matching,
    tiles: tuple[tuple[int, ...], ...],
    depth: tuple[int, int],
    reach: tuple[int, int],
    whole: bool,
    block_id: tuple[int, ...],
) -> NDArray[np.float32]:
    """Track the frames of one block with its halo; `block_id` is its place in the result.

    The reference is the frame, if it is `whole`, or reaches further than the block.
    """
    origin, inner = inner_part(block_id, tiles, depth)
    begin = (0, 0) if whole else inner_part(block_id, tiles, reach)[0]
    corner = origin[0] - begin[0], origin[1] - begin[1]
    reference = np.broadcast_to(reference, (len(sample), *reference.shape[1:]))
    results = []
    for frames in matching.stacks(len(sample)):
        y, x = [int(part[frames.start, 0, 0]) for part in shift] or [0, 0]
        targets = _moved(reference[frames], corner, sample.shape[1:], (y, x))
        tile = Tile(*origin, inner, (y, x))
        results.append(matching.tracker.track(sample[frames], targets, tile))
    return results[0][:, None] if len(results) == 1 else np.stack(results, axis=1)
