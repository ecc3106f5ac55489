"""Runs that are killed: a process that has imported everything and forks one run after the other.

Asked by a line of JSON on standard input, it answers with the number of the child; asked to
``wait``, with how the child ended.
"""

import json
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from wavedask.cluster import connect
from wavedask.errors import WavedaskError
from wavedask.store import write_store

SIDE = 48
BLOCK_SECONDS = 0.01


def frame(number: int) -> np.ndarray[Any, Any]:
    """What a frame holds; random, and all of it decided by its number."""
    rng = np.random.default_rng(number)
    found: np.ndarray[Any, Any] = rng.standard_normal((SIDE, SIDE)).astype("f4")
    return found


def block(seconds: float, block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A frame, after as long as a frame takes."""
    time.sleep(seconds)
    return frame(block_id[0])[None]


def result(frames: int, seconds: float) -> xr.Dataset:
    """Two maps that are computed together."""
    maps = da.map_blocks(
        partial(block, seconds),
        chunks=((1,) * frames, (SIDE,), (SIDE,)),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    return xr.Dataset(
        {"slope_y": (("frame", "y", "x"), maps), "slope_x": (("frame", "y", "x"), maps * 2)},
        {
            "source_file": ("frame", np.array(["/raw/a.h5"] * frames, dtype=object)),
            "source_index": ("frame", np.arange(frames)),
            "lens_x": ("frame", np.arange(frames) / 8, {"units": "mm"}),
        },
    )


def write(path: str, frames: int, where: str, seconds: float) -> int:
    """Write or continue a store; return what a command would."""
    try:
        with connect(where, workers=2 if where == "threads" else None):
            write_store(path, result(frames, seconds), settings={}, grow=["sample"], progress=False)
    except WavedaskError as error:
        Path(path + ".error").write_text(str(error))
        return 2
    except BaseException:
        Path(path + ".error").write_text(traceback.format_exc())
        return 1
    return 0


def main() -> None:
    """Answer requests until standard input ends."""
    child = 0
    for line in sys.stdin:
        if line == "wait\n":
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        child = os.fork()
        if not child:
            os._exit(write(**json.loads(line)))
        print(child, flush=True)


if __name__ == "__main__":
    main()
