"""Memory of a process: let the C library keep freed memory for the next task."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from dask.utils import format_bytes

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Parameters of ``mallopt(3)``, as in ``malloc.h`` of the GNU C library."""

LIBRARIES: Final = 300 * 2**20
"""Bytes of a process that has imported the package and runs nothing."""

_bytes_per_task: ContextVar[int] = ContextVar("bytes_per_task", default=0)
"""What `task_needs` was told."""

KEPT: Final = 2**31 - 1
"""Bytes at the top of the heap that are not given back to the system: all that the call can take.

Tracking a frame of 2048 x 2048 px allocates 0.5 GB. With a limit below, the system clears the pages
of each frame again, which takes a quarter of the time of tracking.
"""
LARGEST: Final = (2**30, 2**25)
"""Bytes of the largest array that comes from the heap; larger ones are mapped each time.

Older GNU C libraries accept no more than the second value, half of the heap of a thread.
"""


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the system.

    The tracker allocates and frees about sixty arrays of the size of a frame. The system must clear
    each new page, and Dask tells its workers to return memory at once
    (``MALLOC_TRIM_THRESHOLD_=65536``). Together this takes about as long as the tracking itself.
    With one heap for all threads, the peak grows by a seventh at most. The process keeps the memory
    until `give_back_freed_memory` is called.

    The setting holds for the whole process until it ends.

    Returns
    -------
    bool
        Whether the C library accepted it: only the GNU C library has this setting.

    Examples
    --------
    >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    True
    """
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # The first value that is accepted.
    settings = {M_ARENA_MAX: (1,), M_MMAP_THRESHOLD: LARGEST, M_TRIM_THRESHOLD: (KEPT,)}
    taken = [any(mallopt(name, value) for value in values) for name, values in settings.items()]
    return all(taken)


def give_back_freed_memory() -> bool:
    """Return all freed memory to the system, once.

    Returns
    -------
    bool
        Whether there was any.

    Examples
    --------
    >>> before = keep_freed_memory(), bytearray(b"1") * 10_000_000
    >>> del before
    >>> there_was_some = give_back_freed_memory()
    """
    return _is_glibc() and bool(ctypes.CDLL(None).malloc_trim(0))


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


@contextmanager
def task_needs(size: int) -> Iterator[None]:
    """State what a task of the body needs, for the error if a worker has less.

    Parameters
    ----------
    size : int
        Memory of a task, bytes, without that of the libraries.

    Examples
    --------
    >>> with task_needs(2**30):
    ...     print(needs(threads=2))
    2.29 GiB: 300.00 MiB for its libraries, and 1.00 GiB for each of 2 blocks at a time
    """
    token = _bytes_per_task.set(size)
    try:
        yield
    finally:
        _bytes_per_task.reset(token)


def needs(*, threads: int = 1) -> str:
    """Say what a worker needs, as far as it is known.

    Parameters
    ----------
    threads : int, default 1
        Tasks that it runs at a time.

    Examples
    --------
    >>> needs()
    "300.00 MiB for its libraries, and what 'wavedask run --plan' says for a block"
    """
    libraries = f"{format_bytes(LIBRARIES)} for its libraries"
    size = _bytes_per_task.get()
    if not size:
        return f"{libraries}, and what 'wavedask run --plan' says for a block"
    blocks = "the block" if threads < 2 else f"each of {threads} blocks at a time"
    whole = format_bytes(LIBRARIES + max(1, threads) * size)
    return f"{whole}: {libraries}, and {format_bytes(size)} for {blocks}"
