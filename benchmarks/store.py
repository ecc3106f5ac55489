"""The result store: layouts and compression, its share of a run, queries, memory of long runs.

Run ``python benchmarks/store.py``. A tracked and integrated result of noisy speckle is written and
read again in several layouts: whole frames, tiles, tiles in shards; without compression and with.
Then one run is timed with its store and without, a large store is queried, and long runs are
compared with short ones.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import compute
from figures import add_write_option, show
from numpy.typing import NDArray
from reading import last_pixels
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import wavedask as wd
from wavedask.compute import connect
from wavedask.simulate import displaced_pair
from wavedask.store import COMPRESSOR, FORMAT, FORMAT_VERSION, create, layout, place_of

PARTS: Final = ("layout", "overhead", "numbers", "query", "memory")
NUMBERS: Final = 40
"""Numbers of each frame, as a run with a lens and modes has."""
MIB: Final = 2**20


class Row(NamedTuple):
    """One line of the table; NaN where a value does not apply."""

    label: str
    size: float = np.nan
    files: float = np.nan
    write: float = np.nan
    read: float = np.nan
    frame: float = np.nan
    pixel: float = np.nan
    value: float = np.nan


def result(side: int, frames: int) -> NDArray[np.float32]:
    """Slopes of a lens as the tracker finds them in photon noise, a frame for each position."""
    maps = []
    for number in range(frames):
        pair = displaced_pair((side, side), displacement_x=0.3 + 0.1 * number, seed=number)
        tracked = wd.cross_spot(pair.sample, pair.reference, window=21, search=4)
        maps.append(np.asarray(tracked.displacement_x, np.float32))
    return np.stack(maps)


def seconds_of(call: Callable[[], Any], repeat: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def layout_row(
    label: str,
    data: NDArray[np.float32],
    folder: Path,
    repeat: int,
    **layout: Any,
) -> Row:
    """Write and read one layout, by frame and by the time of a pixel."""
    path = folder / label.replace(" ", "_").replace(",", "")
    array = zarr.create_array(
        path, shape=data.shape, dtype=data.dtype, fill_value=np.nan, overwrite=True, **layout
    )

    def write() -> None:
        for number, frame in enumerate(data):
            array[number] = frame

    frames, side = len(data), data.shape[1]
    write()  # the first creates files and wakes threads
    writing = seconds_of(write, repeat)
    reading = seconds_of(lambda: [array[number] for number in range(frames)], repeat)
    frame = seconds_of(lambda: array[frames // 2], 3 * repeat)
    pixel = seconds_of(lambda: array[:, side // 2, side // 2], 3 * repeat)
    assert np.array_equal(array[frames // 2], data[frames // 2], equal_nan=True)
    files = [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    mib = data.nbytes / MIB
    return Row(
        label,
        size / data.nbytes,
        len(files) / frames,
        mib / writing,
        mib / reading,
        1e3 * frame,
        1e3 * pixel,
    )


def layouts(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Compare layouts, and then ways to compress the first."""
    side, tile = arguments.size, arguments.size // 4
    data = result(side, arguments.frames)
    whole, tiles = (1, side, side), (1, tile, tile)
    lz4 = {"compressors": COMPRESSOR}
    rows: list[tuple[str, dict[str, Any]]] = [
        ("whole frames, lz4 (the store)", {"chunks": whole, **lz4}),
        ("tiles of a quarter side, lz4", {"chunks": tiles, **lz4}),
        ("the same tiles in a shard per frame, lz4", {"chunks": tiles, "shards": whole, **lz4}),
        ("whole frames, no compression", {"chunks": whole, "compressors": None}),
        (
            "whole frames, lz4 at level 5",
            {"chunks": whole, "compressors": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")},
        ),
        ("whole frames, zstd 1", {"chunks": whole, "compressors": ZstdCodec(level=1)}),
        (
            "whole frames, zstd 5 with shuffle",
            {"chunks": whole, "compressors": BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")},
        ),
        (
            "whole frames, lz4 with bitshuffle",
            {
                "chunks": whole,
                "compressors": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
            },
        ),
        ("whole frames, gzip 1", {"chunks": whole, "compressors": GzipCodec(level=1)}),
    ]
    return [layout_row(label, data, folder, arguments.repeat, **layout) for label, layout in rows]


def tracking(side: int, frames: int) -> xr.Dataset:
    """Express the tracking of many frames; each task makes its own from a few that are shared."""
    pair = displaced_pair((side, side), displacement_x=0.7, seed=1)
    sample, reference = (
        xr.DataArray(
            da.broadcast_to(
                da.from_array(image.astype("f4")[None]), (count, side, side), chunks=(1, side, side)
            ),
            dims=("frame", "y", "x"),
        )
        for image, count in ((pair.sample, frames), (pair.reference, 1))
    )
    return wd.track(sample, reference, window=21, search=8)


def overhead(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Compare runs with their stores and without, in turns, by the work of the processor."""
    side, frames = arguments.size, arguments.frames
    work, path = tracking(side, frames), folder / "run.zarr"
    ends: Any = [last_pixels(array.data) for array in work.data_vars.values()]
    # Tiny frames show the cost of files, tasks and ledger alone.
    empty = work.isel(y=slice(0, 1), x=slice(0, 1)).copy(
        data={name: da.zeros((frames, 1, 1), chunks=1, dtype="f4") for name in work.data_vars}
    )
    maps = [np.asarray(array[0]) for array in work.isel(frame=slice(0, 1)).compute().values()]

    def plainly() -> None:
        path.mkdir()
        for number in range(frames):
            for index, values in enumerate(maps):
                values.tofile(path / f"{number}_{index}")

    def stored(what: xr.Dataset) -> None:
        wd.write_store(path, what, settings={}, progress=False)

    two = work[["displacement_y", "displacement_x"]]
    contenders: dict[str, Callable[[], Any]] = {
        "tracking": lambda: compute(*ends),
        "all maps": lambda: stored(work),
        "two maps": lambda: stored(two),
        "no pixels": lambda: stored(empty),
        "plain files": plainly,
    }
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(arguments.repeat + 1):
        for name, contender in contenders.items():
            begin = time.process_time()
            contender()
            if turn:  # the first compiles, and wakes the memory of the page cache
                spent[name].append(time.process_time() - begin)
            shutil.rmtree(path, ignore_errors=True)
    # The fastest turn of each counts.
    best = {name: min(times) for name, times in spent.items()}
    tracked = best["tracking"]
    shares = {
        f"a store of all {len(maps)} maps of the tracker": best["all maps"] - tracked,
        "a store of the displacement alone": best["two maps"] - tracked,
        f"files, tasks and ledger of all {len(maps)} maps, without their pixels": best["no pixels"],
        f"all {len(maps)} maps in plain files, by ndarray.tofile": best["plain files"],
    }
    return [
        Row(f"{label}, processor time on top of tracking / %", value=100 * share / tracked)
        for label, share in shares.items()
    ]


def numbers(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Write the numbers of each frame beside a small map: in chunks of many frames, or of one."""
    frames, side = 10 * arguments.run, 64
    position = da.arange(frames, chunks=1)
    maps = da.zeros((frames, side, side), chunks=(1, side, side), dtype="f4")
    alone = xr.Dataset({"slope_y": (("frame", "y", "x"), maps)})
    data = alone.assign({f"number{k}": ("frame", position * float(k)) for k in range(NUMBERS)})
    rows = []
    for label, result, shared in (
        ("no numbers", alone, True),
        (f"{NUMBERS} numbers in chunks of many frames (the store)", data, True),
        (f"{NUMBERS} numbers in chunks of one frame", data, False),
    ):
        path = folder / label.replace(" ", "_")
        with patch.object(
            layout, "chunks_of_numbers", layout.chunks_of_numbers if shared else _none
        ):
            write = partial(wd.write_store, path, result, settings={}, progress=False)
            seconds = seconds_of(write, 1)
        files = sum(file.is_file() for file in path.rglob("c/**/*")) / frames
        rows.append(
            Row(
                f"{frames} small maps, {label}: write / ms per frame",
                files=files,
                value=1e3 * seconds / frames,
            )
        )
        if result is data:
            read = seconds_of(wd.open_store(path).number1.load, 1)
            rows.append(Row("the same: read one number of all frames / s", value=read))
    return rows


def _none(variable: xr.Variable) -> None:
    """Choose no chunks for numbers: then each frame has its own."""


def query(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Open a store of very many frames, and find some of them by their motors."""
    frames, side = arguments.stored, 2048
    maps = da.zeros((frames, side, side), chunks=(1, side, side), dtype="f4")
    names = list(wd.conventions.QUANTITIES)[:16]
    lazy = {name: xr.Variable(("frame", "y", "x"), maps) for name in names}
    position = np.random.default_rng(0).uniform(-1, 1, frames)
    motors = xr.Dataset(coords={"lens_x": ("frame", position, {"units": "mm", "role": "motor"})})
    path = folder / "large.zarr"
    # Like a run that is killed before its first frame: complete except for the pixels.
    create(place_of(path), motors, lazy, {FORMAT: FORMAT_VERSION}, frames=frames)
    stored = wd.open_store(path)
    contenders: dict[str, Callable[[], Any]] = {
        "open": lambda: wd.open_store(path),
        "query, half of the frames,": lambda: stored.wave.query("lens_x > 0"),
        "nearest frame": lambda: stored.wave.nearest(lens_x=0.5),
    }
    return [
        Row(
            f"{label} of a store of {frames:,} frames of 16 maps / s",
            value=seconds_of(contender, arguments.repeat),
        )
        for label, contender in contenders.items()
    ]


def peak(side: int, frames: int, folder: Path) -> float:
    """Write a store, and return the peak memory of this process in MiB."""
    with connect("threads", workers=2):
        maps = da.map_blocks(
            lambda block_id: np.random.default_rng(block_id).random((1, side, side), np.float32),
            chunks=((1,) * frames, (side,), (side,)),
            dtype="f4",
            meta=np.empty((0, 0, 0), "f4"),
        )
        data = xr.Dataset({name: (("frame", "y", "x"), maps + k) for k, name in enumerate("abcd")})
        wd.write_store(folder / "peak.zarr", data, settings={}, progress=False)
    # Not ru_maxrss, which includes the memory of the parent.
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Peak memory of runs over a number of frames, and over ten times as many."""
    rows = []
    for frames in (arguments.run, 10 * arguments.run):
        # Each in a separate process, and as small as possible.
        words = ["--parts", "peak", "--run", str(frames), "--size", str(min(arguments.size, 512))]
        command = [sys.executable, __file__, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        value = float(done.stdout.split()[-1])
        rows.append(Row(f"peak memory of {frames} frames / MiB", value=value))
    return rows


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels a side")
    parser.add_argument("--frames", type=int, default=16, help="frames that are written")
    parser.add_argument("--run", type=int, default=50, help="frames of the shorter run")
    parser.add_argument("--stored", type=int, default=10_000, help="frames that are queried")
    parser.add_argument("--repeat", type=int, default=3, help="turns, whose median counts")
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "peak"), default=PARTS)
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, connect("threads"):
        if arguments.parts == ["peak"]:
            print(peak(arguments.size, arguments.run, Path(folder)))
            return rows
        for name, part in zip(PARTS, (layouts, overhead, numbers, query, memory), strict=True):
            if name in arguments.parts:
                rows += part(arguments, Path(folder))
    show(
        f"Result store: {arguments.frames} maps of {arguments.size} x {arguments.size} px, float32",
        (
            "",
            "size / raw",
            "files / frame",
            "write MiB/s",
            "read MiB/s",
            "a frame / ms",
            "a pixel over time / ms",
            "value",
        ),
        [(row.label, *(_number(value) for value in row[1:])) for row in rows],
        write=arguments.write,
    )
    return rows


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
