"""Speed of opening and reading: headers of many EDF files, raw frames, compressed HDF5.

Run ``python benchmarks/reading.py``. ``open_scan`` is compared with ``numpy.fromfile`` on the same
files, and with ``h5py`` in the same number of processes, both as plain programs and in Dask tasks.
They take turns, and the fastest turn of each counts.
Raw frames are read once with an empty page cache, and once from the cache.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import dask.array as da
import h5py
import hdf5plugin
import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from distributed import Client
from figures import add_write_option, show

import wavedask as wd
from wavedask.compute import connect, local_client
from wavedask.io import open_scan
from wavedask.simulate.writers import Exposure, FrameWriter

MOTORS: Final = 80
"""Motors in the header of a frame, as at a beamline of the ESRF."""
SMALL: Final = (16, 16)
"""Shape of the frames whose headers are read: their pixels are not."""
BATCH: Final = 8
"""Frames of a task, where tasks shall be fewer."""
MIB: Final = 2**20


class Row(NamedTuple):
    """One line of the table."""

    label: str
    seconds: float
    value: str
    ratio: float


def exposures(count: int, shape: tuple[int, int]) -> list[Exposure]:
    """Make frames of a camera: photon noise, that compresses as real frames do."""
    random = np.random.default_rng(0)
    frame = random.poisson(2000, shape).astype(np.uint16)
    names = [f"motor{number}" for number in range(MOTORS)]
    return [
        Exposure(np.roll(frame, 7 * n), {name: 0.001 * n + k for k, name in enumerate(names)})
        for n in range(count)
    ]


def last_pixels(image: da.Array) -> da.Array:
    """Read every block, and keep one pixel of it: the result is no work of its own."""
    ones = tuple((1,) * count for count in image.numblocks)
    last: da.Array = da.map_blocks(
        lambda block: block[-1:, -1:, -1:].copy(),
        image,
        chunks=ones,
        dtype=image.dtype,
        meta=np.empty((0, 0, 0), image.dtype),
    )
    return last


def compared(
    kind: str,
    contenders: Mapping[str, Callable[[], object]],
    nbytes: int,
    repeat: int,
    before: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Time contenders in turns, all against the first.

    The first turn, which imports and compiles, does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeat + 1):
        for name, contender in contenders.items():
            before()
            begin = time.perf_counter()
            contender()
            if turn:
                times[name].append(time.perf_counter() - begin)
    best = {name: min(series) for name, series in times.items()}
    base = next(iter(best.values()))
    return [
        Row(f"{kind}, {name}", seconds, f"{nbytes / MIB / seconds:,.0f} MiB/s", base / seconds)
        for name, seconds in best.items()
    ]


def headers(folder: str, files: int) -> Row:
    """Open very many EDF files."""
    recording = FrameWriter(folder, file_format="edf").write("scan", exposures(files, SMALL))
    begin = time.perf_counter()
    scan = open_scan(recording.source, progress=False)
    seconds = time.perf_counter() - begin
    assert scan.sizes["frame"] == files
    label = f"open {files:,} EDF files, {MOTORS} motors each"
    return Row(label, seconds, f"{files / seconds:,.0f} files/s", float("nan"))


def raw(folder: str, arguments: argparse.Namespace) -> list[Row]:
    """Read raw frames in as many threads as numpy.fromfile does."""
    shape = (arguments.size, arguments.size)
    recording = FrameWriter(folder, file_format="edf").write(
        "raw", exposures(arguments.frames, shape)
    )
    files = sorted(Path(folder).glob("*.edf"))
    nbytes = shape[0] * shape[1] * 2
    work = last_pixels(open_scan(recording.source).image.data)
    batches = last_pixels(open_scan(recording.source, chunks={"frame": BATCH}).image.data)
    engine = xr.open_dataset(folder, engine="wavedask", progress=False)
    # Without motors: selecting them per frame takes longer than reading the pixels.
    image = engine.image.reset_coords(drop=True)

    def read(path: Path) -> int:
        offset = path.stat().st_size - nbytes
        return int(np.fromfile(path, np.uint16, offset=offset)[-1])

    def in_threads(reader: Callable[[Any], int], items: Iterable[Any]) -> None:
        with ThreadPoolExecutor(arguments.workers) as pool:
            list(pool.map(reader, items))

    contenders: dict[str, Callable[[], object]] = {
        "numpy.fromfile": lambda: in_threads(read, files),
        "engine": lambda: in_threads(
            lambda frame: int(image[frame].values[-1, -1]), range(arguments.frames)
        ),
        "numpy.fromfile in tasks of dask": lambda: compute(*map(delayed(read), files)),
        "open_scan": work.compute,
        f"open_scan, {BATCH} frames a task": batches.compute,
    }

    def forget() -> None:
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    total = arguments.frames * nbytes
    rows = compared("EDF from disk", contenders, total, arguments.repeat, forget)
    rows += compared("EDF from the page cache", contenders, total, arguments.repeat)
    engine.close()
    return rows


def read_share(path: str, first: int, end: int, dataset: str) -> int:
    """Read as a plain program would: frames that share a chunk together."""
    with h5py.File(path, "r", locking=False) as file:
        deep = file[dataset].chunks[0]
        return sum(
            int(file[dataset][start : start + deep][-1, -1, -1])
            for start in range(first, min(end, len(file[dataset])), deep)
        )


def engine_share(path: str, first: int, end: int, deep: int) -> int:
    """Read through the engine of xarray, without tasks of Dask."""
    with xr.open_dataset(path, engine="wavedask", progress=False) as scan:
        return sum(
            int(scan.image[start : start + deep].values[-1, -1, -1])
            for start in range(first, min(end, scan.sizes["frame"]), deep)
        )


def compressed(folder: str, arguments: argparse.Namespace, client: Client, deep: int) -> list[Row]:
    """Read bitshuffle-LZ4 frames in as many processes as h5py does."""
    shape = (arguments.size, arguments.size)
    path = Path(folder) / f"run_{deep}.h5"
    dataset = "1.1/instrument/pco/data"
    with h5py.File(path, "w") as file:
        frames = np.stack([one.image for one in exposures(arguments.frames, shape)])
        chunks = (deep, *(shape if deep == 1 else (shape[0] // 8, shape[1] // 8)))
        file.create_dataset(dataset, data=frames, chunks=chunks, **hdf5plugin.Bitshuffle())
    work = last_pixels(wd.open_scan(path).image.data)
    starts = np.arange(0, arguments.frames, deep)
    shares = np.array_split(starts, arguments.workers)
    bounds = [(int(share[0]), int(share[-1]) + deep) for share in shares]

    def shared(read: Callable[..., int], *others: Any) -> None:
        workers = client.scheduler_info()["workers"]
        client.gather(
            [
                client.submit(read, str(path), *where, *others, pure=False, workers=[worker])
                for where, worker in zip(bounds, workers, strict=True)
            ]
        )

    def tasks() -> None:
        parts = [(str(path), int(start), int(start) + deep, dataset) for start in starts]
        client.gather(client.map(read_share, *zip(*parts, strict=True), pure=False))

    contenders: dict[str, Callable[[], object]] = {
        "h5py": lambda: shared(read_share, dataset),
        "engine": lambda: shared(engine_share, deep),
        "h5py in tasks of dask": tasks,
        "open_scan": lambda: client.compute(work).result(),
    }
    if deep == 1:
        batches = last_pixels(wd.open_scan(path, chunks={"frame": BATCH}).image.data)
        contenders[f"open_scan, {BATCH} frames a task"] = lambda: client.compute(batches).result()
    total = arguments.frames * shape[0] * shape[1] * 2
    kind = f"HDF5 bitshuffle-LZ4, chunks of {deep} frame{'s' if deep > 1 else ''}"
    return compared(kind, contenders, total, arguments.repeat)


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Time all parts that are asked for."""
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        parts = {name: Path(folder, name) for name in ("headers", "raw", "hdf5")}
        for path in parts.values():
            path.mkdir()
        rows.append(headers(str(parts["headers"]), arguments.files))
        with connect("threads", workers=arguments.workers):
            rows += raw(str(parts["raw"]), arguments)
        with local_client(arguments.workers) as client:
            for deep in (1, 4):
                rows += compressed(str(parts["hdf5"]), arguments, client, deep)
    return rows


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="EDF files that are opened")
    parser.add_argument("--size", type=int, default=2048, help="pixels a side of a frame")
    parser.add_argument("--frames", type=int, default=128, help="frames that are read")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes that read")
    parser.add_argument("--repeat", type=int, default=7, help="number of turns; the fastest counts")
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows = measure(arguments)
    show(
        f"Opening and reading {arguments.frames} frames of {arguments.size} x {arguments.size} px "
        f"(uint16) by {arguments.workers} workers",
        ("what", "time / s", "rate", "of the plain reader"),
        [
            (
                row.label,
                f"{row.seconds:.2f}",
                row.value,
                "" if np.isnan(row.ratio) else f"{100 * row.ratio:.0f} %",
            )
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
