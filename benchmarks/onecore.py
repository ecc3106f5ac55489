"""Measurements of the trackers on one core; each runs in a process of its own, on a given core."""

import importlib.util
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
from wavedask.compute import keep_freed_memory
from wavedask.kernels.dense import refine
from wavedask.simulate import displaced_pair

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
    """Work of the refinement per pixel and iteration, and the limits of the machine."""

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
    """Keep this process on one core, and prepare it as a worker is."""
    os.sched_setaffinity(0, {core})
    cv2.setNumThreads(1)
    keep_freed_memory()


@contextmanager
def process_on(core: int) -> Iterator[Callable[..., Any]]:
    """Start a process on one core; yield a callable that runs a function in it."""
    with (
        one_thread(),
        ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=pin, initargs=(core,)
        ) as pool,
    ):
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def waves(size: int) -> FloatArray:
    """Displacement (y, x) of the pair, in pixels."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / WAVE)
    return 1.5 * np.stack([np.sin(y) * np.cos(x), np.cos(y) * np.sin(x)]).astype(np.float32)


def simulated_pair(size: int) -> FloatArray:
    """Sample and reference that all trackers get."""
    u_y, u_x = waves(size)
    pair = displaced_pair((size, size), displacement_y=u_y, displacement_x=u_x, seed=1)
    return np.stack([pair.sample, pair.reference])


def pair_of(file: str, size: int) -> FloatArray:
    """Upper left part of the pair in a file, in memory of its own."""
    return np.ascontiguousarray(np.load(file, mmap_mode="r")[:, :size, :size])


def _fastest(function: Callable[[], Any], calls: int) -> tuple[float, Any]:
    """Seconds of the fastest call after a first one that does not count, and what it gave."""
    result = function()
    seconds = []
    for _ in range(calls):
        begin = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), result


def _rms(u: Any, size: int, step: int = 1) -> float:
    inside = np.s_[:, BORDER : size - BORDER : step, BORDER : size - BORDER : step]
    error = np.stack(u)[inside] - waves(size)[inside]
    return float(np.sqrt(np.nanmean(error**2)))


def dense_speed(file: str, size: int, window: int, search: int, calls: int) -> Speed:
    """Time the dense tracker on every pixel."""
    sample, reference = pair_of(file, size)
    seconds, found = _fastest(
        lambda: wd.cross_spot(sample, reference, window=window, search=search), calls
    )
    return Speed(f"dense, window {window}", size**2, seconds, _rms(found[:2], size))


def opencv_speed(file: str, size: int, window: int, search: int) -> Speed:
    """Time the loop of template matches at every pixel of a part of the pair."""
    size = min(size, CROP)
    sample, reference = pair_of(file, size)
    begin = time.perf_counter()
    found = wd.cross_spot(sample, reference, engine="opencv", window=window, search=search, step=1)
    seconds = time.perf_counter() - begin
    return Speed(f"opencv, {size} x {size} px of it", size**2, seconds, _rms(found[:2], size))


def ilk_speed(file: str, size: int, window: int) -> Speed | None:
    """Time scikit-image's iterative Lucas-Kanade with the same window, if it is installed."""
    if importlib.util.find_spec("skimage") is None:
        return None
    registration: Any = importlib.import_module("skimage.registration")
    sample, reference = pair_of(file, size)
    begin = time.perf_counter()
    flow = registration.optical_flow_ilk(sample, reference, radius=window // 2)
    seconds = time.perf_counter() - begin
    return Speed("skimage optical_flow_ilk", size**2, seconds, _rms(-flow, size))


def stack_speed(file: str, size: int, images: int, window: int, search: int, calls: int) -> Speed:
    """Time a joint stack; its images are one pair over and over, which costs the same."""
    sample, reference = (np.repeat(image[None], images, axis=0) for image in pair_of(file, size))
    seconds, found = _fastest(
        lambda: wd.cross_spot(sample, reference, joint=True, window=window, search=search), calls
    )
    return Speed(f"{images} images", size**2, seconds, _rms(found[:2], size))


def _high_water() -> int:
    """Most memory that this process has had, in bytes, since the mark was last reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def memory(file: str, size: int, window: int, search: int) -> float:
    """Peak memory of a call beyond its input and output, in bytes per pixel.

    From the high-water mark of the operating system, which includes NumPy, OpenCV and Numba.
    """
    small = pair_of(file, 128)
    wd.cross_spot(*small, window=window, search=search)
    sample, reference = pair_of(file, size)
    Path("/proc/self/clear_refs").write_text("5")  # the mark begins anew
    before = _high_water()
    found = wd.cross_spot(sample, reference, window=window, search=search)
    output = sum(field.nbytes for field in found)
    return float((_high_water() - before - output) / size**2)


def together(file: str, size: int, window: int, search: int, calls: int, cores: list[int]) -> float:
    """Pixels per second of a process on each of the cores, all at work at a time."""
    context = multiprocessing.get_context("spawn")
    with one_thread(), context.Manager() as manager:
        barrier = manager.Barrier(len(cores))
        pools = [
            ProcessPoolExecutor(1, context, initializer=pin, initargs=(core,)) for core in cores
        ]
        futures = [
            pool.submit(_steady, file, size, window, search, calls, barrier) for pool in pools
        ]
        seconds = [future.result() for future in futures]
        for pool in pools:
            pool.shutdown()
    return len(cores) * calls * size**2 / max(seconds)


def _steady(file: str, size: int, window: int, search: int, calls: int, barrier: Any) -> float:
    sample, reference = pair_of(file, size)
    wd.cross_spot(sample, reference, window=window, search=search)
    barrier.wait()
    begin = time.perf_counter()
    for _ in range(calls):
        wd.cross_spot(sample, reference, window=window, search=search)
    return time.perf_counter() - begin


def first_calls() -> tuple[Start, Start]:
    """Start the package with nothing compiled, as after its installation, and once more."""
    with tempfile.TemporaryDirectory() as cache, one_thread():
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        starts = []
        for _ in range(2):
            process = subprocess.run(
                [sys.executable, "-c", PASS],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            starts.append(Start(*map(float, process.stdout.split())))
    return starts[0], starts[1]


@njit(nogil=True, fastmath=True)
def _multiply_add(values: FloatArray, factor: np.float32, turns: int) -> None:
    for _ in range(turns):
        for i in range(values.size):
            v = values[i]
            # Eight operations in a row, so that load and store do not dominate.
            for _ in range(8):
                v = v * factor + factor
            values[i] = v


def roofline(file: str, size: int, window: int, search: int) -> Roofline:
    """Time the iterations of the refinement, and what the core can move and multiply at most."""
    sample, reference = pair_of(file, size)
    original = refine.match_tile
    spent = 0.0
    pixels = 0

    def timed(*arguments: Any) -> None:
        nonlocal spent, pixels
        begin = time.perf_counter()
        original(*arguments)
        spent += time.perf_counter() - begin
        step, (top, bottom, start, stop) = arguments[9], arguments[13:17]
        pixels += (bottom - top) * (stop - start) * step**2

    wd.cross_spot(sample, reference, window=window, search=search)
    refine.match_tile = timed
    try:
        wd.cross_spot(sample, reference, window=window, search=search)
    finally:
        refine.match_tile = original
    large = np.ones(2**24, np.float32)
    target = np.empty_like(large)
    copied, _ = _fastest(lambda: np.copyto(target, large), 5)
    little, turns = np.ones(2**11, np.float32), 2000
    multiplied, _ = _fastest(lambda: _multiply_add(little, np.float32(0.5), turns), 5)
    return Roofline(
        1e9 * spent / pixels,
        pixels / size**2,
        2 * large.nbytes / copied,
        16 * little.size * turns / multiplied,
    )
