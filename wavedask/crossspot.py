"""The two-pass tracker of the M7.5 report (crossSpot) on plain arrays, tile by tile under Dask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeGuard

import cv2
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError
from wavedask.kernels.grids import anchored, interpolate
from wavedask.kernels.matching import (
    MaskedImage,
    Matches,
    match_points,
    windows_between,
    without_outliers,
)
from wavedask.kernels.rigid import rigid_shift, shifted
from wavedask.kernels.uncertainty import displacement_uncertainty

Array = NDArray[Any] | da.Array
Rigid = Literal["auto"] | tuple[int, int] | None

SECOND_SEARCH: Final = 3
"""Pixels searched around the first pass by the second."""
SUPPORT: Final = 3
"""Coarse steps on which the start of a point depends: interpolation, replacement, median test."""
GRID_SUPPORT: Final = 5
"""Fine steps on which a pixel depends: cubic interpolation, a gap filled in it, isolation."""


class CrossSpot(NamedTuple):
    """What `cross_spot` returns: arrays of float32 of the shape of the sample.

    Attributes
    ----------
    displacement_y, displacement_x : array
        ``u`` in pixels with ``sample(p) = reference(p - u)``; NaN where there is no match.
    uncertainty_y, uncertainty_x : array
        Standard error of the displacement in pixels; infinite where there is no match.
    correlation : array
        Zero-normalised cross-correlation at the match, -1 to 1; where there is none, the highest
        that was seen, or NaN.
    window : array
        Side in pixels of the template that gave the match; 0 where there is none.
    """

    displacement_y: Any
    displacement_x: Any
    uncertainty_y: Any
    uncertainty_x: Any
    correlation: Any
    window: Any


COMPONENTS: Final = len(CrossSpot._fields)
NO_MATCH: Final = CrossSpot(np.nan, np.nan, np.inf, np.inf, np.nan, 0)
"""What a pixel without a match holds."""


@dataclass(frozen=True, slots=True)
class CrossSpotSettings:
    """The settings of one tracking, checked and resolved.

    Attributes
    ----------
    windows : tuple of int
        Sides of the growing template in pixels, odd and increasing.
    search : int
        Pixels searched by the first pass on either side of the rigid shift.
    step : int
        Pixels between the points of the second pass.
    good : float
        Correlation at which the template stops growing.
    """

    windows: tuple[int, ...]
    search: int
    step: int
    good: float

    @classmethod
    def checked(
        cls, *, window: int | tuple[int, int], search: int, step: int, good: float
    ) -> "CrossSpotSettings":
        """Build settings from what a user gave, or say what is wrong with it."""
        smallest, largest = window if isinstance(window, Sequence) else (window, window)
        for side in (smallest, largest):
            if side != int(side) or side < 5 or side % 2 == 0:
                raise InputError(
                    f"window is {window!r}",
                    "Give an odd number of pixels from 5 up, or a pair (smallest, largest).",
                )
        if largest < smallest:
            raise InputError(
                f"window is {window!r}", "Give the smallest side first: (smallest, largest)."
            )
        if search != int(search) or search < 1:
            raise InputError(
                f"search is {search!r}",
                "Give the largest displacement to look for, beyond the rigid shift, in whole "
                "pixels from 1 up.",
            )
        if step != int(step) or not 1 <= step <= smallest:
            raise InputError(
                f"step is {step!r}",
                f"Give a whole number of pixels from 1 to the window ({smallest}): wider steps "
                "leave pixels unseen.",
            )
        if not 0 < good <= 1:
            raise InputError(f"good is {good!r}", "Give a correlation between 0 and 1.")
        return cls(tuple(windows_between(smallest, largest)), int(search), int(step), float(good))

    @property
    def coarse_step(self) -> int:
        """Pixels between the points of the first pass: about a window."""
        return self.windows[0]

    @property
    def reach(self) -> int:
        """Pixels between a point and the farthest pixel of the pair that its match looks at."""
        return max(self.windows) // 2 + self.search + SECOND_SEARCH

    @property
    def halo(self) -> int:
        """Pixels around a tile without which its result would depend on the tiling."""
        return SUPPORT * self.coarse_step + GRID_SUPPORT * self.step + self.reach


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a block with its halo lies in the frame.

    Attributes
    ----------
    top, left : int
        Frame coordinates of the block's first pixel, halo included.
    inner : tuple of slice
        The block without its halo, in coordinates of the block.
    """

    top: int
    left: int
    inner: tuple[slice, slice]


def cross_spot_block(
    sample: NDArray[Any],
    reference: NDArray[Any],
    *,
    settings: CrossSpotSettings,
    tile: Tile | None = None,
) -> NDArray[np.float32]:
    """Track one tile of one pair: both passes of the report's crossSpot. A pure function.

    Parameters
    ----------
    sample, reference : ndarray, shape (rows, columns)
        The pair, reference already shifted rigidly onto the sample; NaN is missing data.
    settings : CrossSpotSettings
        Windows, search and step.
    tile : Tile, optional
        Where the block lies in the frame; by default it is the frame.

    Returns
    -------
    ndarray of float32, shape (6, rows, columns)
        The fields of `CrossSpot` in their order, for the inner part of the tile.
    """
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)  # the cores belong to Dask
    rows, columns = sample.shape
    if tile is None:
        tile = Tile(0, 0, (slice(0, rows), slice(0, columns)))
    largest = max(settings.windows)
    image = MaskedImage(sample, margin=largest // 2, window=settings.windows[0])
    target = MaskedImage(reference, margin=2 * settings.reach + largest, window=settings.windows[0])

    def points(step: int, offset: int, margin: int | None) -> list[NDArray[np.intp]]:
        grids = []
        for origin, length, inner in zip(
            (tile.top, tile.left), sample.shape, tile.inner, strict=True
        ):
            first, last = (0, length)
            if margin is not None:
                first, last = max(0, inner.start - margin), min(length, inner.stop + margin)
            grids.append(anchored(first + origin, last + origin, step=step, offset=offset) - origin)
        return grids

    def matched(
        grid: list[NDArray[np.intp]], start: NDArray[Any], search: int, *, first_pass: bool
    ) -> Matches:
        return match_points(
            [(image, target)],
            rows=grid[0],
            columns=grid[1],
            start_y=start[0],
            start_x=start[1],
            windows=list(settings.windows),
            search=search,
            good=settings.good,
            demand_unique=first_pass,
        )

    coarse = points(settings.coarse_step, settings.coarse_step // 2, None)
    fine = points(settings.step, 0, GRID_SUPPORT * settings.step)
    nowhere = np.zeros((2, coarse[0].size, coarse[1].size), np.float32)
    first = without_outliers(
        matched(coarse, nowhere, settings.search, first_pass=True), spacing=settings.coarse_step
    )
    start = np.stack(
        [
            interpolate(
                field,
                rows=coarse[0],
                columns=coarse[1],
                pixel_rows=fine[0],
                pixel_columns=fine[1],
                cubic=False,
                bridge=True,
            )
            for field in first
        ]
    )
    second = matched(fine, start, SECOND_SEARCH, first_pass=False).without_isolated()
    return _to_pixels(second, image, fine, tile, settings.step)


def _to_pixels(
    matches: Matches,
    image: MaskedImage,
    grid: list[NDArray[np.intp]],
    tile: Tile,
    step: int,
) -> NDArray[np.float32]:
    """Interpolate the second pass to the inner pixels of the tile and attach the uncertainty."""
    errors = np.full((2, *matches.valid.shape), np.inf, np.float32)
    for window in np.unique(matches.window[matches.valid]).tolist():
        matched = matches.valid & (matches.window == window)
        rows, columns = np.nonzero(matched)
        errors[:, matched] = displacement_uncertainty(
            image.pixels,
            matches.correlation[matched],
            window=window,
            rows=grid[0][rows] + image.margin,
            columns=grid[1][columns] + image.margin,
        )
    fields = [
        matches.displacement_y,
        matches.displacement_x,
        np.where(np.isfinite(errors[0]), errors[0], np.nan),
        np.where(np.isfinite(errors[1]), errors[1], np.nan),
        matches.correlation,
        np.where(matches.valid, matches.window, np.nan).astype(np.float32),
    ]
    pixels = [np.arange(inner.start, inner.stop) for inner in tile.inner]
    out = np.empty((COMPONENTS, pixels[0].size, pixels[1].size), np.float32)
    for index, field in enumerate(fields):
        if step == 1:
            values = field[np.ix_(pixels[0] - grid[0][0], pixels[1] - grid[1][0])]
        else:
            values = interpolate(
                field,
                rows=grid[0],
                columns=grid[1],
                pixel_rows=pixels[0],
                pixel_columns=pixels[1],
                # Errors and windows must not overshoot, as a cubic does beside a jump.
                cubic=index < 2,
            )
        out[index] = np.where(np.isnan(values), NO_MATCH[index], values)
    return out


def cross_spot(
    sample: Array,
    reference: Array,
    *,
    window: int | tuple[int, int] = 21,
    search: int = 16,
    step: int = 4,
    good: float = 0.8,
    rigid: Rigid = "auto",
) -> CrossSpot:
    """Track every pixel of a sample image, or of a stack of them, in its reference.

    The report's crossSpot: a first pass on a coarse grid (a template about every window, searched
    for around the rigid shift), outliers replaced, interpolated to all pixels; a second pass on a
    fine grid centred on the first, with a template that grows where the peak is weak; a 2-D
    quadratic through the peak; and interpolation to all pixels. The correlation is OpenCV's
    ``TM_CCOEFF_NORMED`` (equations 3.1, 3.2).

    Parameters
    ----------
    sample : ndarray or dask.array.Array, shape (y, x) or (frame, y, x)
        Images with the optic. NaN marks missing pixels.
    reference : ndarray or dask.array.Array, shape (y, x) or (frame, y, x)
        Images without: one for all samples, or one for each.
    window : int or (int, int), default 21
        Side of the template in pixels, odd; a pair lets it grow from the smallest to the largest
        where the peak is weaker than `good`.
    search : int, default 16
        Largest displacement looked for, beyond the rigid shift, in pixels.
    step : int, default 4
        Pixels between the points of the second pass; 1 matches every pixel.
    good : float, default 0.8
        Correlation at which the template stops growing.
    rigid : "auto", (int, int) or None, default "auto"
        Displacement (y, x) common to all pixels, in pixels: found from the whole frames, given, or
        none.

    Returns
    -------
    CrossSpot
        Arrays of the shape of `sample`, lazy if one of the two is lazy.

    Raises
    ------
    InputError
        Shapes that do not fit each other, or settings that make no sense.

    Notes
    -----
    A match is refused, and the pixel left NaN with infinite uncertainty, where the peak lies on the
    edge of the search range, where more than a twentieth of the window is missing (so within about
    half a window of the border), where the window is flat, where another peak is nearly as high,
    and where the match stands alone.

    The result is chunked as a lazy `sample` is: a chunk that spans the frame needs no halo, and
    pairs are independent; smaller tiles share a halo and give the same result.

    References
    ----------
    E.-R. Cojocaru et al., "Wavefront software tests at ESRF", EUCALL milestone M7.5 (2018),
    chapter 3. S. Berujon et al., Phys. Rev. Lett. 108, 158102 (2012).

    Examples
    --------
    >>> from wavedask.simulate import displaced_pair
    >>> pair = displaced_pair((96, 96), displacement_y=0.4, displacement_x=-1.6, seed=1)
    >>> found = cross_spot(pair.sample, pair.reference, window=15, search=4)
    >>> print(f"{found.displacement_x[48, 48]:.1f}")
    -1.6
    """
    settings = CrossSpotSettings.checked(window=window, search=search, step=step, good=good)
    _check_rigid(rigid)
    _check_pair(sample, reference, settings)
    if not (isinstance(sample, da.Array) or isinstance(reference, da.Array)):
        return _track_arrays(np.asarray(sample), np.asarray(reference), settings, rigid)
    return _track_lazy(da.asarray(sample), da.asarray(reference), settings, rigid)


def _is_pair_of_numbers(value: object) -> TypeGuard[tuple[float, float]]:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 2
        and all(isinstance(number, int | float | np.number) for number in value)
        and bool(np.isfinite(value).all())
    )


def _check_rigid(rigid: object) -> None:
    if rigid is None or rigid == "auto" or _is_pair_of_numbers(rigid):
        return
    raise InputError(
        f"rigid is {rigid!r}", 'Give "auto", a pair (y, x) of pixels, or None for no shift.'
    )


def _check_pair(sample: Array, reference: Array, settings: CrossSpotSettings) -> None:
    for name, array in (("sample", sample), ("reference", reference)):
        if array.ndim not in (2, 3):
            raise InputError(
                f"{name} has {array.ndim} dimensions, shape {array.shape}",
                "Give (y, x) or (frame, y, x).",
            )
        if array.dtype.kind not in "uif":
            raise InputError(f"{name} has data type {array.dtype}", "Give real numbers.")
    if sample.shape[-2:] != reference.shape[-2:]:
        raise InputError(
            f"sample frames are {sample.shape[-2:]}, reference frames {reference.shape[-2:]} "
            "(y, x)",
            "Crop both to the same region of the detector.",
        )
    frames, references = _frames(sample), _frames(reference)
    if references not in (1, frames):
        raise InputError(
            f"{frames} sample frames but {references} reference frames",
            "Give one reference for all samples or one for each.",
        )
    if min(sample.shape[-2:]) < max(settings.windows):
        raise InputError(
            f"frames of {sample.shape[-2:]} pixels are smaller than the window "
            f"({max(settings.windows)})",
            "Give a smaller window.",
        )


def _frames(array: Array) -> int:
    return int(array.shape[0]) if array.ndim == 3 else 1


def _rigid_of(
    sample: NDArray[Any], reference: NDArray[Any], settings: CrossSpotSettings, rigid: Rigid
) -> tuple[int, int]:
    if rigid is None:
        return 0, 0
    if rigid == "auto":
        return rigid_shift(sample, reference, window=max(settings.windows), search=settings.search)
    return round(rigid[0]), round(rigid[1])


def _track_arrays(
    sample: NDArray[Any],
    reference: NDArray[Any],
    settings: CrossSpotSettings,
    rigid: Rigid,
) -> CrossSpot:
    """Track arrays that are in memory, pair by pair."""
    shape = sample.shape
    samples = sample.reshape(-1, *shape[-2:])
    references = np.broadcast_to(reference, (len(samples), *shape[-2:]))
    out = np.empty((COMPONENTS, *samples.shape), np.float32)
    for index, (image, target) in enumerate(zip(samples, references, strict=True)):
        shift = _rigid_of(image, target, settings, rigid)
        out[:, index] = cross_spot_block(image, shifted(target, shift), settings=settings)
        out[:2, index] += np.array(shift, np.float32)[:, None, None]
    return CrossSpot(*out.reshape(COMPONENTS, *shape))


def _track_lazy(
    sample: da.Array, reference: da.Array, settings: CrossSpotSettings, rigid: Rigid
) -> CrossSpot:
    """Express the tracking of a chunked stack as one `map_overlap`."""
    single = sample.ndim == 2
    samples = sample[None] if single else sample
    chunks = (samples.chunks[0], *(_tiles(axis, settings.halo) for axis in samples.chunks[1:]))
    tiled = samples.rechunk(chunks)
    references = reference if reference.ndim == 3 else reference[None]
    if references.shape[0] == 1:
        references = da.broadcast_to(
            references, samples.shape, chunks=(chunks[0], *references.chunks[1:])
        )
    shift = da.zeros((samples.shape[0], 2, 1), dtype=np.int64, chunks=(chunks[0], 2, 1))
    if rigid is not None:
        # The shift is that of whole frames, whatever the tiles, and the reference is moved before
        # it is tiled: so the halo does not depend on a shift that nobody knows yet.
        whole = references.rechunk({0: chunks[0], 1: -1, 2: -1})
        shift = da.map_blocks(
            partial(_shift_block, settings=settings, rigid=rigid),
            samples.rechunk({1: -1, 2: -1}),
            whole,
            dtype=np.int64,
            chunks=(chunks[0], (2,), (1,)),
            meta=np.empty((0, 0, 0), np.int64),
        )
        references = da.map_blocks(
            _move_block,
            whole,
            shift,
            dtype=np.float32,
            meta=np.empty((0, 0, 0), np.float32),
            chunks=whole.chunks,
        )
    depth = {0: 0} | {axis: settings.halo * (len(chunks[axis]) > 1) for axis in (1, 2)}
    tracked = da.map_overlap(
        partial(_overlap_block, settings=settings, chunks=chunks, depth=(depth[1], depth[2])),
        tiled,
        references.rechunk(chunks),
        depth=[depth, depth],
        boundary="none",
        allow_rechunk=False,
        trim=False,  # a block gives back its inner part only
        new_axis=0,
        chunks=((COMPONENTS,), *chunks),
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    fields = [tracked[index] for index in range(COMPONENTS)]
    for index in (0, 1):
        fields[index] = fields[index] + shift[:, index : index + 1].astype(np.float32)
    fields = [field.rechunk(samples.chunks) for field in fields]
    return CrossSpot(*(field[0] if single else field for field in fields))


def _tiles(sizes: tuple[int, ...], halo: int) -> tuple[int, ...]:
    """Merge neighbouring chunks until each is at least as large as the halo."""
    tiles = [0]
    for size in sizes:
        if tiles[-1] >= halo:
            tiles.append(0)
        tiles[-1] += size
    if len(tiles) > 1 and tiles[-1] < halo:
        last = tiles.pop()
        tiles[-1] += last
    return tuple(tiles)


def _shift_block(
    sample: NDArray[Any],
    reference: NDArray[Any],
    *,
    settings: CrossSpotSettings,
    rigid: Rigid,
) -> NDArray[np.int64]:
    shifts = [
        _rigid_of(image, target, settings, rigid)
        for image, target in zip(sample, reference, strict=True)
    ]
    return np.array(shifts, np.int64)[:, :, None]


def _move_block(reference: NDArray[Any], shift: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.stack(
        [shifted(image, (y, x)) for image, (y, x) in zip(reference, shift[:, :, 0], strict=True)]
    )


def _overlap_block(
    sample: NDArray[Any],
    reference: NDArray[Any],
    *,
    settings: CrossSpotSettings,
    chunks: tuple[tuple[int, ...], ...],
    depth: tuple[int, int],
    block_info: Any = None,
) -> NDArray[np.float32]:
    """Track the frames of one block with its halo."""
    location = block_info[0]["chunk-location"]
    origins, inner = [], []
    for axis in (1, 2):
        sizes, index, halo = chunks[axis], location[axis], depth[axis - 1]
        before = halo if index > 0 else 0
        origins.append(sum(sizes[:index]) - before)
        inner.append(slice(before, before + sizes[index]))
    tile = Tile(origins[0], origins[1], (inner[0], inner[1]))
    return np.stack(
        [
            cross_spot_block(image, target, settings=settings, tile=tile)
            for image, target in zip(sample, reference, strict=True)
        ],
        axis=1,
    )
