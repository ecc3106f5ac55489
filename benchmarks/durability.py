"""What safety costs: a flush per write of the ledger, checksums, TLS, and checking a store.

Run ``python benchmarks/durability.py``. Each cost is measured with and without, in turns of one run
of the program, and the median of the ratios counts: the machine may be busy with other work.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr
from distributed import Client, LocalCluster, Security
from figures import add_write_option, show
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

import wavedask as wd
from wavedask.compute import connect
from wavedask.conventions import FRAME
from wavedask.simulate import displaced_pair
from wavedask.store import COMPRESSOR, verify

MIB = 2**20


class Row(NamedTuple):
    """One line of the table; `ratio` is with safety over without."""

    label: str
    without: float
    given: float
    ratio: float
    unit: str


def compared(label: str, run: Callable[[bool], float], repeat: int, *, unit: str = "s") -> Row:
    """Measure with and without in turns, after one turn that warms up."""
    pairs = []
    for turn in range(repeat + 1):
        pair = [run(safe) for safe in ((False, True) if turn % 2 else (True, False))]
        if turn:
            pairs.append(pair if turn % 2 else pair[::-1])
    without, given = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Row(label, without, given, statistics.median(b / a for a, b in pairs), unit)


def tracked(side: int, frames: int) -> xr.Dataset:
    """Express the tracking of pairs of noisy speckle, chunked by frame; lazy."""
    pair = displaced_pair((side, side), displacement_x=0.3, seed=1)
    sample = xr.DataArray(
        da.from_array(np.stack([pair.sample] * frames), chunks=(1, side, side)),
        dims=("frame", "y", "x"),
    )
    reference = xr.DataArray(da.from_array(pair.reference, chunks=-1), dims=("y", "x"))
    return wd.track(sample, reference, window=21, search=8)


def seconds_of_a_run(result: xr.Dataset, folder: Path, **options: Any) -> float:
    """Time of a run into a store, from begin to end."""
    path = folder / "r.zarr"
    shutil.rmtree(path, ignore_errors=True)
    begin = time.perf_counter()
    wd.write_store(path, result, settings={}, progress=False, **options)
    return time.perf_counter() - begin


def processor_seconds(result: xr.Dataset, folder: Path) -> float:
    """Processor time of a frame of a run, in one thread."""
    with dask.config.set(scheduler="synchronous"):
        begin = time.process_time()
        seconds_of_a_run(result, folder)
        return (time.process_time() - begin) / result.sizes[FRAME]


def encoding_seconds(maps: Sequence[np.ndarray[Any, Any]], checksums: bool) -> float:
    """Processor time of a frame to encode the maps of a run into memory."""
    arrays = [
        zarr.create_array(
            MemoryStore(),
            shape=values.shape,
            chunks=(1, *values.shape[1:]),
            dtype=values.dtype,
            compressors=(COMPRESSOR, Crc32cCodec()) if checksums else COMPRESSOR,
        )
        for values in maps
    ]
    frames = len(maps[0])
    begin = time.process_time()
    for values, array in zip(maps, arrays, strict=True):
        for number in range(frames):
            array[number] = values[number]
    return (time.process_time() - begin) / frames


def checksums(result: xr.Dataset, folder: Path, repeat: int) -> list[Row]:
    """Measure what checksums cost to encode the maps of a run, and of the time of that run.

    Two whole runs differ by more than the checksums cost; the time to encode does not.
    """
    seconds = min(processor_seconds(result, folder) for _ in range(2))
    stored = wd.open_store(folder / "r.zarr").load()
    maps = [array.to_numpy() for array in stored.data_vars.values() if FRAME in array.dims]
    encoded = compared(
        "processor time to encode a frame, with checksums",
        lambda safe: encoding_seconds(maps, safe),
        repeat,
    )
    cost = encoded.without * (encoded.ratio - 1)
    whole = Row(
        "processor time of a frame, with checksums",
        seconds - cost,
        seconds,
        seconds / (seconds - cost),
        "s",
    )
    return [encoded, whole]


def start_seconds(encrypted: bool) -> float:
    """Time to start a scheduler and one worker in this process, and to connect to them."""
    begin = time.perf_counter()
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tls://" if encrypted else "tcp://",
            host="127.0.0.1",
            security=Security.temporary() if encrypted else None,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster),
    ):
        return time.perf_counter() - begin


def seconds_per_small_frame(frames: int, folder: Path) -> float:
    """Overhead of a store for frames that cost nothing."""
    maps = da.map_blocks(
        lambda block_id: np.zeros((1, 16, 16), np.float32),
        chunks=((1,) * frames, (16,), (16,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    result = xr.Dataset({"slope_y": (("frame", "y", "x"), maps)})
    return seconds_of_a_run(result, folder) / frames


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure all costs."""
    rows = []
    # In the current folder: what is temporary may be in memory.
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as name,
        connect("threads"),
    ):
        folder = Path(name)
        result = tracked(arguments.size, arguments.frames)
        rows.append(
            compared(
                f"run of {arguments.frames} frames, flushed before complete",
                lambda safe: seconds_of_a_run(result, folder, durable=safe),
                arguments.repeat,
            )
        )
        begin = time.perf_counter()
        assert verify(folder / "r.zarr", progress=False).sound
        seconds = time.perf_counter() - begin
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        rows.append(Row("history --verify", np.nan, size / seconds / MIB, np.nan, "MiB/s"))
        rows += checksums(tracked(arguments.size, 4), folder, arguments.repeat)
        with dask.config.set(num_workers=2):
            each = seconds_per_small_frame(arguments.small, folder)
        rows.append(
            Row(f"frame of 16 x 16 px, of {arguments.small}", np.nan, 1e3 * each, np.nan, "ms")
        )
    rows.append(compared("start of a cluster, with TLS", start_seconds, arguments.repeat))
    return rows


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels a side")
    parser.add_argument("--frames", type=int, default=16, help="frames of a run")
    parser.add_argument("--small", type=int, default=20000, help="small frames")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure")
    parser.add_argument("--repeat", type=int, default=5, help="turns, whose median counts")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows = measure(arguments)
    show(
        f"Costs of safety, frames of {arguments.size} x {arguments.size} px",
        ("what", "without", "with", "difference"),
        [
            (
                row.label,
                "-" if np.isnan(row.without) else f"{row.without:.3g} {row.unit}",
                f"{row.given:.3g} {row.unit}",
                "-" if np.isnan(row.ratio) else f"{100 * (row.ratio - 1):+.1f} %",
            )
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
