"""Cost of frames on client and scheduler, without their pixels.

The program runs itself as ``python scale_graph.py FRAMES FOLDER FORMAT``: the peak of the memory
belongs to one number of frames.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import dask.array as da
import h5py
import numpy as np
import xarray as xr
import yaml
from dask._task_spec import DataNode, Task, TaskRef
from dask.delayed import Delayed
from distributed import default_client
from distributed.protocol.pickle import dumps
from numpy.typing import NDArray
from scale_rows import Row, peak_memory, processor_seconds, resident_memory

import wavedask as wd
from wavedask.compute import blocks, compute_blocks, connect, run_each
from wavedask.experiment import load_experiment, pipeline, run
from wavedask.report import numbers_of_frames, summary
from wavedask.store import StoreReport, write_store, writer
from wavedask.tracking import missing

SIDE: Final = 2048
CALIBRATION: Final = {"dark": 1, "flat": 1, "reference": 1}
"""Number of frames of each other role: few, for their average is computed before the graph, and its
memory must not hide that of the graph."""
SMALL_SIDE: Final = 416
"""Side of the frames that are run: so large that none shares its task with others."""
THREADS: Final = 4
"""Threads of the worker of small tasks: enough of them are under way that none waits."""
LOOK: Final = 500
"""Tasks after which the tasks of the scheduler are counted."""
READY_SECONDS: Final = 60.0
INTERNED: Final = 400_000
"""Texts that make the table of interned texts so large that a run does not fill it."""
EDF_HEADER: Final = 512
"""Bytes of the header of an EDF file."""


def experiment_without_pixels(folder: Path, frames: int) -> Path:
    """Write an experiment whose HDF5 files declare frames, and hold none."""
    content: dict[str, Any] = {
        "track": {"window": 21, "search": 16},
        "wavefront": {"distance": 1.0, "pixel_size": 0.65e-6, "energy": 17.0},
        # What is counted has no files that could be flushed.
        "durable": False,
        "output": "results.zarr",
    }
    for role, count in {**CALIBRATION, "sample": frames}.items():
        content[role] = str(folder / f"{role}.h5")
        with h5py.File(content[role], "w") as file:
            file.create_dataset("exchange/data", (count, SIDE, SIDE), "u2", chunks=(1, SIDE, SIDE))
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def edf_without_pixels(folder: Path, frames: int) -> Path:
    """Write the same experiment with an EDF file for each frame: headers with holes behind them."""
    samples = folder / "samples"
    samples.mkdir()
    pixels = 2 * SIDE**2
    for frame in range(frames):
        items = {
            "HeaderID": "EH:000001:000000:000000",
            "ByteOrder": "LowByteFirst",
            "DataType": "UnsignedShort",
            "Dim_1": SIDE,
            "Dim_2": SIDE,
            "Size": pixels,
            "motor_mne": "lens_x lens_y energy",
            "motor_pos": f"{0.1 * frame:.1f} 2.0 17.0",
            "time_of_day": f"{1.7e9 + frame:.1f}",
        }
        text = "{\n" + "".join(f"{name} = {item} ;\n" for name, item in items.items())
        with (samples / f"sample_{frame:06d}.edf").open("wb") as file:
            file.write(text.ljust(EDF_HEADER - 2).encode() + b"}\n")
            file.truncate(EDF_HEADER + pixels)
    path = experiment_without_pixels(folder, 1)
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "sample": str(samples)}))
    return path


WRITERS: Final = {"hdf5": experiment_without_pixels, "edf": edf_without_pixels}


class NotRunError(Exception):
    """Tasks have been counted, and are not run."""


@contextmanager
def tasks_not_run(costs: dict[str, float] | None = None) -> Iterator[None]:
    """Make the tasks of a run, and report them as done, as zeros; count them, and what is sent."""

    def count(tasks: Sequence[Any]) -> None:
        if costs is None:
            return
        begin = time.process_time()
        graph = dict(tasks[0].__dask_graph__())
        costs["tasks"] += len(graph)
        costs["sent"] += len(dumps(graph))
        costs["counting"] += time.process_time() - begin

    def writing(tasks: Sequence[Any], *, on_done: Any, **_: Any) -> None:
        count(tasks)
        for index in range(len(tasks)):
            on_done(index, (0, {}))

    def reading(tasks: Sequence[Any], **_: Any) -> None:
        count(tasks)
        raise NotRunError

    def read(arrays: Sequence[da.Array], axes: Sequence[int], **options: Any) -> list[Any]:
        if arrays[0].numblocks[axes[0]] > 1:
            with suppress(NotRunError):
                compute_blocks(arrays, axes, **options)
        return [np.zeros(array.shape, array.dtype) for array in arrays]

    with (
        patch.object(writer, "run_each", writing),
        patch.object(blocks, "run_each", reading),
        patch.object(summary, "compute_blocks", read),
        patch.object(missing, "compute_blocks", read),
    ):
        yield


def client_costs(frames: int, folder: Path, form: str) -> dict[str, float]:
    """Cost of a run on the client: everything but the tasks, which are not run."""
    path = WRITERS[form](folder, frames)
    costs: dict[str, float] = {}
    # The first of two runs loads code, and compiles the kernels if that has not been done.
    for _ in range(2):
        shutil.rmtree(folder / "results.zarr", ignore_errors=True)
        costs = {"tasks": 0.0, "sent": 0.0, "counting": 0.0}
        before = time.process_time()
        with tasks_not_run(costs):
            run(load_experiment(path), progress=False)
        costs["seconds"] = time.process_time() - before - costs["counting"]
    costs["resident"] = peak_memory()
    shutil.rmtree(folder / "results.zarr")
    return {**costs, "memory": traced_memory(path)}


def traced_memory(path: Path) -> float:
    """Peak of the bytes that the client of a run holds, from the first write of the store on.

    Bytes that Python and NumPy allocate: the memory of the process also depends on what the
    system has not yet been given back.
    """

    def written(*arguments: Any, **options: Any) -> StoreReport:
        # The frames of the flat field have been averaged, in more memory than the graph needs.
        tracemalloc.reset_peak()
        return write_store(*arguments, **options)

    _widen_interned()
    tracemalloc.start()
    try:
        with tasks_not_run(), patch.object(pipeline, "write_store", written):
            run(load_experiment(path), progress=False)
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def _widen_interned() -> None:
    """Make room in Python's table of interned texts, which `pathlib` fills with names of files.

    When the table is full it is copied to one of several megabytes, at any number of frames. The
    old one is not known to `tracemalloc`: the whole table would count as that of the last frame.
    """
    known = [sys.intern(f"{number} is no name of a file") for number in range(INTERNED)]
    known.clear()


@contextmanager
def scheduler_in(folder: Path) -> Iterator[tuple[str, int]]:
    """Start a scheduler and one worker; yield the address, and the process of the scheduler."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    # Both import the package before they are ready.
    host = ["--host", "127.0.0.1", "--no-dashboard", "--preload", "wavedask.compute.cluster"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler_command = [*dask, "scheduler", *host, "--port", "0", "--scheduler-file", str(file)]
    with subprocess.Popen(scheduler_command, **quiet) as scheduler:
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not (file.exists() and file.read_text().strip()):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no scheduler within {READY_SECONDS:g} s")
                time.sleep(0.05)
            address = str(json.loads(file.read_text())["address"])
            options = ["--nthreads", str(THREADS), "--no-nanny", "--local-directory", str(folder)]
            with subprocess.Popen([*dask, "worker", address, *host, *options], **quiet) as worker:
                try:
                    yield address, scheduler.pid
                finally:
                    worker.terminate()
        finally:
            scheduler.terminate()


def small_frames(frames: int) -> xr.Dataset:
    """Express frames that cost little: a map, its reasons, and a number."""
    sides = (SMALL_SIDE, SMALL_SIDE)
    found: dict[str, Any] = {}
    for name, dtype, shape in (
        ("slope_y", np.float32, sides),
        ("reason", np.uint8, sides),
        ("wavefront_rms", np.float64, ()),
    ):
        values = da.map_blocks(
            lambda block_id, dtype=dtype, shape=shape: np.full((1, *shape), block_id[0] % 2, dtype),
            chunks=((1,) * frames, *((side,) for side in shape)),
            dtype=dtype,
            meta=np.empty((0,) * (1 + len(shape)), dtype),
        )
        found[name] = (("frame", "y", "x")[: values.ndim], values)
    return xr.Dataset(found)


def running_section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Run small frames, a task for each, on a scheduler in a process of its own."""
    frames = arguments.scheduled
    with scheduler_in(folder) as (address, process), connect(address):
        wd.write_store(folder / "warm.zarr", small_frames(10), settings={}, progress=False)
        path = folder / "small.zarr"
        times = [(processor_seconds(process), time.process_time())]
        wd.write_store(path, small_frames(frames), settings={}, progress=False, durable=False)
        times.append((processor_seconds(process), time.process_time()))
        stored = wd.open_store(path)
        numbers_of_frames(stored.drop_vars(["slope_y", "reason"]), progress=False)
        wd.why_missing(stored, progress=False)
        times.append((processor_seconds(process), time.process_time()))
    (scheduler, client), (scheduler_end, client_end) = (
        [1e3 * (after - before) / frames for before, after in zip(*pair, strict=True)]
        for pair in pairwise(times)
    )
    return [
        Row("scheduler, processor time of a frame", scheduler, "ms"),
        Row("client, processor time of a frame that is run", client, "ms"),
        Row("scheduler, the same of the numbers at the end", scheduler_end, "ms"),
        Row("client, the same of the numbers at the end", client_end, "ms"),
    ]


def scheduler_rows(counts: Sequence[int], folder: Path) -> list[Row]:
    """Measure the memory of a scheduler in a process of its own, against the number of frames."""
    most = 0
    with scheduler_in(folder) as (address, process), connect(address):
        run_frames(10)
        rows = [Row("scheduler, memory before the frames", resident_memory(process), "MB")]
        done = 0
        for count in counts:
            most = max(most, run_frames(count - done))
            done = count
            label = f"scheduler, peak memory of {count:,} frames"
            rows.append(Row(label, peak_memory(process), "MB", below=1000))
    growth = 1e3 * (rows[-1].value - rows[0].value) / done
    return [
        *rows,
        Row("each frame of these", growth, "kB"),
        Row("tasks that the scheduler holds at the most", most),
    ]


def run_frames(frames: int) -> int:
    """Run the tasks of frames as a run does, without pixels; count the tasks of the scheduler."""
    most = 0

    def look(index: int, digest: NDArray[Any]) -> None:
        nonlocal most
        if index % LOOK == 0:
            # A lambda is sent as it is: the scheduler does not have this module.
            held = default_client().run_on_scheduler(
                lambda dask_scheduler: len(dask_scheduler.tasks)
            )
            most = max(most, held)

    for begin in range(0, frames, writer.BATCH_FRAMES):
        name = f"frames-{time.time_ns()}"
        # What the frames share, in place of an averaged flat field.
        graph: dict[Any, Any] = {name: DataNode(name, np.uint32)}
        keys = [
            (f"write-{name}", number)
            for number in range(begin, min(begin + writer.BATCH_FRAMES, frames))
        ]
        graph |= {key: Task(key, np.zeros, 1, TaskRef(name)) for key in keys}
        run_each([Delayed(key, graph) for key in keys], label="", on_done=look, show=False)
    return most


def costs_of(counts: Sequence[int], folder: Path, form: str) -> list[dict[str, float]]:
    """Measure the client for some numbers of frames, each in a process of its own."""
    costs = []
    for count in counts:
        own = folder / f"{form}{count}"
        own.mkdir()
        done = subprocess.run(
            [sys.executable, __file__, str(count), str(own), form],
            capture_output=True,
            text=True,
            check=True,
        )
        costs.append(json.loads(done.stdout))
        shutil.rmtree(own)
    return costs


def rows_of_more(
    counts: Sequence[int], costs: Sequence[dict[str, float]], kind: str = ""
) -> list[Row]:
    """Compare runs with the smallest one: time and memory of each frame more."""
    rows = []
    for count, cost in zip(counts[1:], costs[1:], strict=True):
        seconds, memory = (
            (cost[what] - costs[0][what]) / (count - counts[0]) for what in ("seconds", "memory")
        )
        rows += [
            Row(f"each frame more, of {count:,}{kind}", 1e3 * seconds, "ms", below=1),
            Row(f"its memory, of {count:,}{kind}", memory / 1e3, "kB", below=2),
        ]
    return rows


def section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Measure the client against the number of frames, then the scheduler."""
    counts = arguments.counts
    costs = costs_of(counts, folder, "hdf5")
    rows = [
        Row(f"client, {counts[0]:,} frames, all together", costs[0]["seconds"], "s"),
        Row("its memory", costs[0]["memory"] / 1e6, "MB"),
        *rows_of_more(counts, costs),
        Row(f"peak memory of the process, {counts[-1]:,} frames", costs[-1]["resident"], "MB"),
        Row("sent to the scheduler", costs[-1]["sent"] / counts[-1], "B / frame"),
        Row("tasks of the scheduler", costs[-1]["tasks"] / counts[-1], "/ frame"),
        *rows_of_more(arguments.files, costs_of(arguments.files, folder, "edf"), " EDF files"),
    ]
    for name in ("running", "held"):
        (folder / name).mkdir()
    return [
        *rows,
        *running_section(arguments, folder / "running"),
        *scheduler_rows(arguments.tasks, folder / "held"),
    ]


if __name__ == "__main__":
    print(json.dumps(client_costs(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
