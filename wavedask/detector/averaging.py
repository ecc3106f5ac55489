"""The average of dark or flat frames, with one frame in memory at a time."""

import math
import sys
from collections.abc import Iterator
from typing import Any, Final, Literal

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import delayed
from dask.optimization import cull
from numpy.typing import NDArray

Array = NDArray[Any] | da.Array
Average = Literal["mean", "median"]

AVERAGES: Final = ("mean", "median")
LEAST_KNOWN: Final = 0.5
"""Fraction of the frames in which a pixel must have a value."""
PASSES: Final = 16
"""Times that a median reads all frames, at most: each time it takes a band of their rows."""
FEW: Final = 4
"""Frames that a median may hold in any case."""


def averaged(frames: Array, average: Average) -> da.Array:
    """Average frames, whatever their number, in the memory of a few.

    The frames of a lazy array are computed inside of one task, one block after the other: a mean
    adds them up, a median takes a band of rows of all frames at a time. So the memory does not grow
    with their number for a mean, and by a sixteenth of it for a median.

    Parameters
    ----------
    frames : ndarray or dask.array.Array, shape (frame, y, x)
        Frames; NaN where a pixel has no value.
    average : "mean" or "median"
        How they are combined.

    Returns
    -------
    dask.array.Array of float, shape (y, x)
        In one block. NaN where a pixel has no value in more than half of the frames.

    Examples
    --------
    >>> averaged(np.array([[[1.0]], [[2.0]], [[9.0]]]), "median").compute()
    array([[2.]])
    """
    dtype = np.result_type(frames.dtype, np.float32)
    shape = frames.shape[-2:]
    if not isinstance(frames, da.Array):
        known: da.Array = da.from_array(_average(_Frames(frames), average, dtype), chunks=-1)
        return known
    if _is_persisted(frames):
        # The frames are in the memory of a cluster, where a task cannot compute them by itself.
        whole = frames.rechunk(-1)
        combined: da.Array = da.map_blocks(
            _average_block,
            whole,
            average=average,
            drop_axis=0,
            dtype=dtype,
            meta=np.empty((0, 0), dtype),
        )
        return combined
    name = f"averaged-{tokenize(frames, average)}"
    task = delayed(_average, pure=True)(_Frames(frames), average, dtype, dask_key_name=name)
    result: da.Array = da.from_delayed(task, shape, dtype, meta=np.empty((0, 0), dtype))
    return result


class _Frames:
    """Frames that are computed one block after the other; Dask takes it as one object."""

    def __init__(self, frames: Array) -> None:
        self._frames = frames

    def __dask_tokenize__(self) -> Any:
        return tokenize(self._frames)

    def __len__(self) -> int:
        return int(self._frames.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self._frames.shape[-2:]
        return int(rows), int(columns)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        if not isinstance(self._frames, da.Array):
            yield from self._frames
            return
        keys = self._frames.__dask_keys__()
        graph = dict(self._frames.__dask_optimize__(self._frames.__dask_graph__(), keys))
        blocks = [(block, cull(graph, list(flatten(block)))[0]) for block in keys]
        for block, needed in blocks:
            # In this thread, apart from the scheduler and from what watches it.
            yield from da.core.concatenate3(dask.core.get(needed, [block]))


def _is_persisted(frames: da.Array) -> bool:
    if "distributed" not in sys.modules:
        return False
    from distributed import futures_of

    return bool(futures_of(frames))


def _average_block(frames: NDArray[Any], *, average: Average) -> NDArray[Any]:
    return _average(_Frames(frames), average, frames.dtype)


def _average(frames: _Frames, average: Average, dtype: np.dtype[Any]) -> NDArray[Any]:
    combine = _mean if average == "mean" else _median
    return combine(frames, dtype).astype(dtype)


def _mean(frames: _Frames, _: np.dtype[Any]) -> NDArray[np.float64]:
    """Add frames up in double precision, and count those in which a pixel is missing."""
    total = np.zeros(frames.shape)
    missing: NDArray[np.uint32] | None = None
    for frame in frames:
        gone = np.isnan(frame)
        if gone.any():
            missing = np.zeros(frames.shape, np.uint32) if missing is None else missing
            missing += gone
            np.add(total, frame, out=total, where=~gone)
        else:
            total += frame
    if missing is None:
        return total / len(frames)
    known = len(frames) - missing
    total /= np.maximum(known, 1)
    total[known < LEAST_KNOWN * len(frames)] = np.nan
    return total


def _median(frames: _Frames, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Take the median of bands of rows, each from all frames."""
    rows, columns = frames.shape
    number = len(frames)
    height = math.ceil(rows * max(FEW, number / PASSES) / number)
    out = np.empty((rows, columns), dtype)
    held = np.empty((number, height, columns), dtype)
    for top in range(0, rows, height):
        band = np.s_[top : top + height]
        stack = held[:, : len(out[band])]
        for index, frame in enumerate(frames):
            stack[index] = frame[band]
        out[band] = _median_in_place(stack)
    return out


def _median_in_place(stack: NDArray[Any]) -> NDArray[Any]:
    number = len(stack)
    known = number - np.isnan(stack).sum(axis=0)
    if known.min(initial=number) == number:
        return np.asarray(np.median(stack, axis=0, overwrite_input=True))
    stack.sort(axis=0)  # NaN comes last
    middle = [
        np.take_along_axis(stack, np.maximum(place, 0)[None], axis=0)[0]
        for place in ((known - 1) // 2, known // 2)
    ]
    median = middle[0] + (middle[1] - middle[0]) / 2
    return np.where(known >= LEAST_KNOWN * number, median, np.nan)
