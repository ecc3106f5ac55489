"""Measurements of the trackers on one core; each runs in a process of its own, on a given core."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

import wavedask as wd
from wavedask.kernels import refine
from wavedask.simulate import displaced_pair

try:
    from skimage.registration import optical_flow_ilk
except ImportError:
    optical_flow_ilk = None

FloatArray = npt.NDArray[np.float32]

THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
WAVE: Final = 256
"""Period of the displacement in pixels; its amplitude is 1.5 px."""
BORDER: Final = 40
"""Pixels at the border that are left out of the accuracy."""
CROP: Final = 256
"""Side in pixels of the part that engine opencv is measured on."""
FIELDS: Final = 8
"""Maps that the tracker returns, float32."""
PASS: Final = """
import time
begin = time.perf_counter()
import numpy as np
import wavedask as wd
rng = np.random.default_rng(0)
image = rng.random((96, 96)).astype(np.float32)
imported = time.perf_counter()
wd.cross_spot(image, image, window=15, search=8)
first = time.perf_counter()
wd.cross_spot(image, image, window=15, search=8)
print(imported - begin, first - imported, time.perf_counter() - first)
"""
"""A first and a second call of the tracker, in a process that has imported nothing."""


class Speed(NamedTuple):
    """Speed of a tracker, and its error where it was measured."""

    label: str
    pixels: int
    seconds: float
    rms: float

    @property
    def rate(self) -> float:
        """Points per second."""
        return self.pixels / self.seconds


class Start(NamedTuple):
    """Seconds of the first and second call of a process."""

    imports: float
    first: float
    second: float


class Roofline(NamedTuple):
    """What the refinement does for a pixel in an iteration, and what the machine could do."""

    nanoseconds: float
    passes: float
    bytes_per_second: float
    operations_per_second: float


@contextmanager
def one_thread() -> Iterator[None]:
    """Let processes that start in the body have libraries of one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def pin(core: int) -> None:
    """Keep this process on one core."""
    os.sched_setaffinity(0, {core})
    cv2.setNumThreads(1)


def on_core(core: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process on one core."""
    with (
        one_thread(),
        ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=pin, initargs=(core,)
        ) as pool,
    ):
        return pool.submit(function, *arguments).result()


def write_pair(folder: Path, size: int) -> None:
    """Simulate the pair that all trackers get."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / WAVE)
    pair = displaced_pair(
        (size, size),
        displacement_y=1.5 * np.sin(y) * np.cos(x),
        displacement_x=1.5 * np.cos(y) * np.sin(x),
        seed=1,
    )
    for name, values in pair._asdict().items() if hasattr(pair, "_asdict") else ():
        np.save(folder / name, values)
