"""Cost of frames on client and scheduler, without their pixels.

The program runs itself as ``python scale_graph.py FRAMES FOLDER``: the peak of the memory belongs
to one number of frames.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dask.array as da
import h5py
import numpy as np
import xarray as xr
import yaml
from distributed.protocol.pickle import dumps
from scale_rows import Row, peak_memory, processor_seconds, resident_memory

import wavedask as wd
from wavedask.compute import connect
from wavedask.experiment import load_experiment, pipeline, run
from wavedask.store import StoreReport, write_store, writer

SIDE: Final = 2048
CALIBRATION: Final = {"dark": 1, "flat": 1, "reference": 1}
"""Number of frames of each other role: few, for their average is computed before the graph, and its
memory must not hide that of the graph."""
SMALL_SIDE: Final = 416
"""Side of the frames that are run: so large that none shares its task with others."""
READY_SECONDS: Final = 60.0
MIB: Final = 2**20


def experiment_without_pixels(folder: Path, frames: int) -> Path:
    """Write an experiment whose HDF5 files declare frames, and hold none."""
    content: dict[str, Any] = {
        "track": {"window": 21, "search": 16},
        "wavefront": {"distance": 1.0, "pixel_size": 0.65e-6, "energy": 17.0},
        "output": "results.zarr",
    }
    for role, count in {**CALIBRATION, "sample": frames}.items():
        content[role] = str(folder / f"{role}.h5")
        with h5py.File(content[role], "w") as file:
            file.create_dataset("exchange/data", (count, SIDE, SIDE), "u2", chunks=(1, SIDE, SIDE))
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def client_costs(frames: int, folder: Path) -> dict[str, float]:
    """Cost of a run on the client: everything but the tasks, which are not run."""
    path = experiment_without_pixels(folder, frames)
    costs = {"tasks": 0.0, "sent": 0.0, "counting": 0.0}

    def counted(tasks: Sequence[Any], **_: Any) -> None:
        begin = time.process_time()
        graph = dict(tasks[0].__dask_graph__())
        costs["tasks"] += len(graph)
        costs["sent"] += len(dumps(graph))
        costs["counting"] += time.process_time() - begin

    def written(*arguments: Any, **options: Any) -> StoreReport:
        # The frames of the flat field have been averaged, in more memory than the graph needs.
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
        return write_store(*arguments, **options)

    setattr(writer, "run_each", counted)  # noqa: B010 # it counts what it does not run
    setattr(pipeline, "write_store", written)  # noqa: B010
    before, begin = resident_memory(), time.process_time()
    run(load_experiment(path), progress=False)
    seconds = time.process_time() - begin - costs["counting"]
    return {**costs, "seconds": seconds, "memory": (peak_memory() - before) * MIB}


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
            options = ["--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
            with subprocess.Popen([*dask, "worker", address, *host, *options], **quiet) as worker:
                try:
                    yield address, scheduler.pid
                finally:
                    worker.terminate()
        finally:
            scheduler.terminate()


def small_frames(frames: int) -> xr.Dataset:
    """Express frames that cost little."""
    maps = da.map_blocks(
        lambda block_id: np.full((1, SMALL_SIDE, SMALL_SIDE), block_id[0], np.float32),
        chunks=((1,) * frames, (SMALL_SIDE,), (SMALL_SIDE,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return xr.Dataset({"slope_y": (("frame", "y", "x"), maps)})


def scheduler_rows(frames: int, folder: Path) -> list[Row]:
    """Run small frames, a task for each, on a scheduler in a process of its own."""
    with scheduler_in(folder) as (address, process), connect(address):
        wd.write_store(folder / "warm.zarr", small_frames(10), settings={}, progress=False)
        before = processor_seconds(process), time.process_time()
        path = folder / "small.zarr"
        wd.write_store(path, small_frames(frames), settings={}, progress=False, durable=False)
        scheduler = processor_seconds(process) - before[0]
        client = time.process_time() - before[1]
        memory = peak_memory(process)
    return [
        Row("scheduler, processor time of a frame", 1e3 * scheduler / frames, "ms"),
        Row("client, processor time of a frame that is run", 1e3 * client / frames, "ms"),
        Row(f"scheduler, peak memory of {frames:,} frames", memory, "MiB", "below 1 GB"),
    ]


def section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Measure the client against the number of frames, then the scheduler."""
    costs = []
    for count in arguments.counts:
        own = folder / f"graph{count}"
        own.mkdir()
        done = subprocess.run(
            [sys.executable, __file__, str(count), str(own)],
            capture_output=True,
            text=True,
            check=True,
        )
        costs.append(json.loads(done.stdout))
    (least, *more), (first, *others) = arguments.counts, costs
    rows = [
        Row(f"client, {least:,} frames, all together", first["seconds"], "s"),
        Row("its memory", first["memory"] / MIB, "MiB"),
    ]
    for count, cost in zip(more, others, strict=True):
        seconds, memory = (
            (cost[what] - first[what]) / (count - least) for what in ("seconds", "memory")
        )
        rows += [
            Row(f"each frame more, of {count:,}", 1e3 * seconds, "ms", "below 1 ms"),
            Row(f"its memory, of {count:,}", memory / 1e3, "kB", "below 2 kB"),
        ]
    rows += [
        Row("sent to the scheduler", costs[-1]["sent"] / count, "B / frame"),
        Row("tasks of the scheduler", costs[-1]["tasks"] / count, "/ frame"),
    ]
    return rows + scheduler_rows(arguments.scheduled, folder)


if __name__ == "__main__":
    print(json.dumps(client_costs(int(sys.argv[1]), Path(sys.argv[2]))))
