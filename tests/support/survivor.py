"""Processes to kill: one process imports everything, then forks runs and clusters.

It says 0 when it is ready. Asked by a line of JSON on standard input, it forks a child and answers
with its number; asked to wait for a child, it answers with how the child ended. All children end
with it.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from distributed.cli import dask_scheduler, dask_worker

from wavedask.compute import outage
from wavedask.compute.connection import connect
from wavedask.errors import WavedaskError
from wavedask.kernels.warm import warm
from wavedask.store.results import write_store

SIDE = 48
PR_SET_PDEATHSIG = 1
CAPABILITY_VERSION = 0x20080522
TOLD = 2
"""Exit code of a run that ended in an error of wavedask; the message is in the given file."""


def frame(number: int) -> np.ndarray[Any, Any]:
    """Content of a frame: random, determined by its number."""
    rng = np.random.default_rng(number)
    found: np.ndarray[Any, Any] = rng.standard_normal((SIDE, SIDE)).astype("f4")
    return found


def block(
    numbers: np.ndarray[Any, Any], *, seconds: float, last: int, gate: str
) -> np.ndarray[Any, Any]:
    """Some frames, each after a delay; the last one waits for the gate to open."""
    time.sleep(seconds)
    if gate and last in numbers:
        Path(f"{gate}.reached").touch()
        while not Path(gate).exists():
            time.sleep(0.01)
    return np.stack([frame(number) for number in numbers.ravel().tolist()])


def result(frames: int, seconds: float, together: int = 1, gate: str = "") -> xr.Dataset:
    """Two maps and numbers that are computed together, with a number of frames per block."""
    numbers = da.arange(frames, chunks=together)[:, None, None]
    maps = da.map_blocks(
        partial(block, seconds=seconds, last=frames - 1, gate=gate),
        numbers,
        chunks=(numbers.chunks[0], (SIDE,), (SIDE,)),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    sums = maps.astype("f8").sum((1, 2))
    return xr.Dataset(
        {
            "slope_y": (("frame", "y", "x"), maps),
            "slope_x": (("frame", "y", "x"), maps * 2),
            "sum": ("frame", sums),
            "corner": (("frame", "corner_x"), maps[:, 0, :3]),
        },
        {
            "source_file": ("frame", np.array(["/raw/a.h5"] * frames, dtype=object)),
            "source_index": ("frame", np.arange(frames)),
            "lens_x": ("frame", np.arange(frames) / 8, {"units": "mm"}),
        },
    )


def write(
    path: str,
    where: str,
    patience: float,
    error_file: str,
    durable: bool = True,
    **of_result: Any,
) -> int:
    """Write or continue a store; return what a command would."""
    # How long nothing happens before it is looked into, so that a test need not wait as long.
    outage.CHECK_SECONDS = outage.PATIENCE_SECONDS = patience  # type: ignore[misc]
    try:
        with connect(where, workers=2 if where == "threads" else None, timeout=5):
            write_store(
                path,
                result(**of_result),
                settings={},
                grow=["sample"],
                durable=durable,
                progress=False,
            )
    except WavedaskError as error:
        return _end(error_file, str(error), TOLD)
    except BaseException:
        return _end(error_file, traceback.format_exc(), 1)
    return 0


def _end(error_file: str, message: str, code: int) -> int:
    """Write the last message, on a disk that a test may have filled."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    Path(error_file).write_text(message)
    return code


ROLES: dict[str, Callable[..., int]] = {
    "run": write,
    "scheduler": lambda arguments: dask_scheduler.main(arguments),
    "worker": lambda arguments: dask_worker.main(arguments),
}


def play(role: str, log: str, arguments: dict[str, Any], parent: int) -> int:
    """Run as the child: log to a file, drop root rights, end with the parent."""
    system = ctypes.CDLL(None)
    system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # To the superuser no folder would be read-only.
    system.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION), (ctypes.c_uint32 * 6)())
    if os.getppid() != parent:
        return 1
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        return ROLES[role](**arguments)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0


def main() -> None:
    """Answer requests until standard input ends."""
    warm()  # so that no worker has to
    print(0, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
            continue
        parent = os.getpid()
        child = os.fork()
        if not child:
            os._exit(play(**asked, parent=parent))
        print(child, flush=True)


if __name__ == "__main__":
    main()
