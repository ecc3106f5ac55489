"""Scaling over processes, memory against the number of frames, and a pair that is large."""

import argparse
import shutil
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from distributed import Client
from numpy.typing import NDArray
from scale_rows import Row, Seconds, workers_peak, workers_seconds
from scipy import fft

import wavedask as wd
from wavedask.compute import compute_blocks, local_client

PERIODS: Final = (1024, 1000, 936)
"""Sides of the patterns that the synthetic frames are the sum of, px.

One pattern alone would repeat in a large frame: to find the rigid shift among many that are alike
takes three times as long as in an image.
"""
GRAIN: Final = 4.0
"""Full width of a grain, px."""
COUNTS: Final = 8000.0
CONTRAST: Final = 0.25
MOVED: Final = (0.37, -1.62)
"""Displacement (y, x) of the sample, px."""
OPTIONS: Final[dict[str, Any]] = {"window": 21, "search": 8}
SMALL: Final = 4
"""Small pairs, whose mean time counts: one with a pixel that has no match takes a sixth more."""
WARMING: Final = 4
"""Tiles along the side of the pair that is tracked before the large one, and not measured."""
WORKER_MEMORY: Final = 2000
"""Memory of a worker that tracks a part of a large pair, MB."""
LARGEST_BLOCK: Final = 3072
"""Side of the largest frame that such a worker tracks in one block, px."""
MANY_SIDE: Final = 384
"""Side of many frames, px: so large that none shares its task with others, of any number."""
EFFICIENT: Final = 92.0
"""Scaling that is wanted at least, %."""

Floats = NDArray[np.float32]


@lru_cache
def grains(moved: tuple[float, float], period: int) -> Floats:
    """Make a random pattern of unit deviation that repeats without a seam, displaced."""
    noise = fft.rfft2(np.random.default_rng(period).standard_normal((period, period)))
    fy, fx = fft.fftfreq(period)[:, None], fft.rfftfreq(period)
    width = GRAIN / np.sqrt(8 * np.log(2))
    noise *= np.exp(-2 * (np.pi * width) ** 2 * (fy**2 + fx**2))
    noise *= np.exp(-2j * np.pi * (fy * moved[0] + fx * moved[1]))
    image = fft.irfft2(noise, (period, period))
    return np.asarray(image / image.std(), np.float32)


def counts_of(pattern: Floats) -> Floats:
    """Convert a pattern of unit deviation to counts."""
    return np.asarray(COUNTS * np.clip(1 + CONTRAST * pattern, 0.05, None), np.float32)


def pattern(moved: tuple[float, float]) -> Floats:
    """Make a speckle pattern in counts that repeats without a seam, displaced by a fraction."""
    return counts_of(grains(moved, PERIODS[0]))


def tile(
    block_id: tuple[int, ...],
    *,
    chunks: Any,
    moved: tuple[float, float],
    seed: int,
    first: int,
) -> Floats:
    """Part of a frame that begins at a row of the pattern, with photon noise of its own."""
    rows, columns = (
        sum(sizes[:index]) + np.arange(sizes[index])
        for sizes, index in zip(chunks, block_id[-2:], strict=True)
    )
    rows += first
    random = np.random.default_rng((seed, first, *block_id))
    clean: Floats = np.zeros((rows.size, columns.size), np.float32)
    for period in PERIODS:
        clean += grains(moved, period)[np.ix_(rows % period, columns % period)]
    clean = counts_of(clean * np.float32(len(PERIODS) ** -0.5))
    # Of thousands of photons, the noise is Gaussian.
    noise = np.sqrt(clean) * random.standard_normal(clean.shape, np.float32)
    image: Floats = (clean + noise).astype(np.float32)
    return image.reshape((1,) * (len(block_id) - 2) + image.shape)


def pair(side: int, chunk: int, frames: int = 0, first: int = 0) -> tuple[da.Array, da.Array]:
    """Sample and reference, lazy; no pixel is in the graph."""
    sizes = tuple(min(chunk, side - start) for start in range(0, side, chunk))
    chunks: tuple[tuple[int, ...], ...] = (sizes, sizes)
    sample, reference = (
        da.map_blocks(
            partial(tile, chunks=chunks, moved=moved, seed=seed, first=first),
            chunks=(((1,) * number, *chunks) if number else chunks),
            dtype=np.float32,
            meta=np.empty((0,) * (3 if number else 2), np.float32),
        )
        for moved, seed, number in ((MOVED, 1, frames), ((0.0, 0.0), 2, min(frames, 1)))
    )
    return sample, reference


class Batch(NamedTuple):
    """Work that has one block for each frame: one task each, as in a run."""

    frames: da.Array


def batch(side: int, frames: int) -> xr.Dataset:
    """Track a batch of whole frames, lazy."""
    sample, reference = pair(side, side, frames)
    dims = ("frame", "y", "x")
    return wd.track(xr.DataArray(sample, dims=dims), xr.DataArray(reference, dims=dims), **OPTIONS)


def numbers(side: int, chunk: int, first: int = 0) -> da.Array:
    """Track a pair; reduce it to the share of tracked pixels and their mean square error."""
    found = wd.cross_spot(*pair(side, chunk, first=first), **OPTIONS)
    inner = (slice(64, -64),) * 2
    known = da.isfinite(found.displacement_x[inner])
    wrong = (found.displacement_x[inner] - MOVED[1]) ** 2
    reduced: da.Array = da.stack([known.mean(), da.nanmean(wrong)])
    return reduced


def small_pairs(side: int) -> da.Array:
    """Track some pairs of one block each; the means of their numbers."""
    reduced: da.Array = da.stack(
        [numbers(side, side, first=number * side) for number in range(SMALL)]
    ).mean(axis=0)
    return reduced


def only_images(side: int, chunk: int) -> da.Array:
    """Make the images of a pair, and do not track them."""
    means: da.Array = da.stack([image.mean() for image in pair(side, chunk)])
    return means


def timed(client: Client, work: da.Array | Batch) -> tuple[Seconds, Any]:
    """Measure the times of a computation, and return its result, too."""
    before = workers_seconds(client)
    if isinstance(work, Batch):
        with client.as_current():
            (found,) = compute_blocks([work.frames], [0], label="tracking", show=False)
    else:
        found = client.compute(work).result()
    after = workers_seconds(client)
    return Seconds(*(end - begin for begin, end in zip(before, after, strict=True))), found


def compared(clients: Sequence[Client], works: Sequence[Any], repeat: int) -> list[Seconds]:
    """Median times of works on their clients, in turns, after a turn that compiles."""
    times: list[list[Seconds]] = [[] for _ in clients]
    for turn in range(repeat + 1):
        for client, work, own in zip(clients, works, times, strict=True):
            seconds, _ = timed(client, work)
            if turn:
                own.append(seconds)
    return [Seconds(*map(statistics.median, zip(*own, strict=True))) for own in times]


def cores_section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Strong and weak scaling of a batch, and of one pair in tiles."""
    workers, frames, side = arguments.workers, arguments.frames, arguments.size
    whole, part = (
        Batch(batch(side, count).displacement_x.mean(("y", "x")).data)
        for count in (frames, max(1, frames // workers))
    )
    large = numbers(2 * side, side // 2)
    with ExitStack() as stack:
        one = stack.enter_context(local_client(1, memory_limit=0))
        all_ = stack.enter_context(local_client(workers, memory_limit=0))
        single, several, half, pair_one, pair_all = compared(
            [one, all_, one, one, all_], [whole, whole, part, large, large], arguments.repeat
        )
    pixels = frames * side**2
    many = f"{workers} processes"
    rows = [
        Row(f"batch of {frames} frames of {side} px, 1 process", pixels / single.clock, "px/s"),
        Row(f"the same, {many}", pixels / several.clock, "px/s"),
        Row(f"weak scaling, {many}", 100 * half.clock / several.clock, "%", at_least=EFFICIENT),
        *_strong_scaling(single, several, workers, of="the batch"),
        Row(
            f"one pair of {2 * side} px in tiles, 1 process",
            (2 * side) ** 2 / pair_one.clock,
            "px/s",
        ),
        *_strong_scaling(pair_one, pair_all, workers, of="the pair"),
        Row("processor time of a frame", single.tasks / frames, "s"),
    ]
    return rows + [
        Row(f"time of a frame, {label}", seconds.clock / frames, "s")
        for label, seconds in (("1 process", single), (many, several))
    ]


def _strong_scaling(one: Seconds, several: Seconds, workers: int, *, of: str) -> list[Row]:
    """Compare one process with several, by each of the times."""
    return [
        Row(f"{label} of {of}, 1 process over {workers}", 100 * share, "%", at_least=wanted)
        for label, share, wanted in (
            ("strong scaling", one.clock / several.clock / workers, EFFICIENT),
            ("processor time", one.processes / several.processes, None),
            ("processor time of the tasks", one.tasks / several.tasks, EFFICIENT),
        )
    ]


def memory_section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Peak memory of the workers of runs into a store, against the number of frames."""
    rows = []
    for frames in arguments.many:
        # Workers of their own: a peak belongs to one number of frames.
        with local_client(arguments.workers, memory_limit=0) as client:
            path = folder / f"memory{frames}.zarr"
            # One map of each frame: all maps of 8000 frames would fill 40 GB of the disk.
            kept = batch(MANY_SIDE, frames)[["displacement_x"]]
            wd.write_store(path, kept, settings={}, progress=False, durable=False)
            label = f"worker, peak of {frames:,} frames of {MANY_SIDE} px"
            rows.append(Row(label, workers_peak(client), "MB"))
        shutil.rmtree(path)
    growth = 100 * (max(row.value for row in rows[1:]) / rows[0].value - 1)
    return [*rows, Row("growth from the first to the largest", growth, "%", below=10)]


def large_section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """One large pair in tiles against pairs of one tile, on workers with little memory."""
    side, chunk = arguments.large, arguments.tile
    middle = min(side, LARGEST_BLOCK, 2 * chunk)
    with local_client(arguments.workers, memory_limit=f"{WORKER_MEMORY} MB") as client:
        works = only_images(chunk, chunk), small_pairs(chunk)
        making, small = compared([client, client], works, arguments.repeat)
        small_error = timed(client, works[1])[1][1]
        # The system gives pages to a worker that grows, once: this is no part of a pixel, either.
        timed(client, numbers(min(side, WARMING * chunk), chunk))
        large, (known, error) = timed(client, numbers(side, chunk))
        peak = workers_peak(client)
        differences = client.compute(between_tiles_and_one_block(middle, chunk)).result()
    # What makes the images is not part of tracking them.
    made = making.tasks / chunk**2
    per_pixel = large.tasks / side**2 - made
    ratio = per_pixel / (small.tasks / SMALL / chunk**2 - made)
    return [
        Row(f"{side} x {side} px in tiles of {chunk} px", large.clock, "s"),
        Row("processor time of tracking per pixel", 1e9 * per_pixel, "ns"),
        Row(f"the same over that of pairs of {chunk} px", ratio, below=1.2),
        Row("peak memory of a worker", peak, "MB", below=WORKER_MEMORY),
        Row("pixels tracked", 100 * known, "%"),
        Row(
            "rms error over that of the small pairs", float(np.sqrt(error / small_error)), ideal="1"
        ),
        Row(
            f"tiles against one block, {middle} px: rms difference over the stated error",
            float(differences[0]),
            below=0.1,
        ),
        Row("pixels tracked in one of the two only", 1e6 * float(differences[1]), "ppm"),
    ]


def between_tiles_and_one_block(side: int, chunk: int) -> da.Array:
    """Compare a pair in tiles with the same pixels in one block."""
    images = pair(side, chunk)
    tiles = wd.cross_spot(*images, **OPTIONS)
    block = wd.cross_spot(*(image.rechunk(-1) for image in images), **OPTIONS)
    both = da.isfinite(tiles.displacement_x) & da.isfinite(block.displacement_x)
    one = da.isfinite(tiles.displacement_x) ^ da.isfinite(block.displacement_x)
    difference = (tiles.displacement_x - block.displacement_x) / block.uncertainty_x
    rms = da.sqrt(da.nanmean(da.where(both, difference, np.nan) ** 2))
    found: da.Array = da.stack([rms, one.mean()])
    return found
