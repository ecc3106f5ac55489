"""Files that a worker process keeps open between its tasks.

A process that opens a compressed file anew for every frame gives its buffers back in between, and
to get them again may take as long as to decompress the frame.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py

from wavedask.io.frames import reading
from wavedask.io.hdf5.access import reading_hdf5
from wavedask.io.hdf5.locking import open_file, opens_as

IDLE: Final = 1.0
"""Seconds after its last use at which a file is closed."""
SETTLED: Final = 2.0
"""Seconds for which a file must not have changed to be kept open."""

Stamp = tuple[int, int, int]
"""Inode, size and time of change of a file."""


@contextmanager
def held(path: Path, *, beside: Sequence[Path] = ()) -> Iterator[h5py.File]:
    """Open a file for reading, or use it again if it is still open and has not changed.

    Only a process that others have started for the work (a worker of Dask) keeps files open. In a
    user's own process, an open file would keep the user from opening it in another way.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    beside : sequence of pathlib.Path
        Files that HDF5 reads through this one: the sources of a virtual dataset.

    Yields
    ------
    h5py.File
        The caller never closes it.

    Raises
    ------
    FileError
        As of `opened`.
    """
    with reading(path):
        status = path.stat()
    settled = time.time() - status.st_mtime > SETTLED
    if multiprocessing.parent_process() is None or not settled:
        with reading_hdf5(path), open_file(path, through=beside) as file:
            yield file
        return
    kept = _HANDLES.take(path, (status.st_ino, status.st_size, status.st_mtime_ns))
    try:
        with reading_hdf5(path):
            if _opens_through(kept.file, beside):
                yield kept.file
            else:
                with open_file(path, through=beside) as file:
                    yield file
    finally:
        _HANDLES.give_back(path, kept)


def _opens_through(file: h5py.File, beside: Sequence[Path]) -> bool:
    """Whether files open as another one is open: this process may have them open otherwise."""
    try:
        for path in beside:
            opens_as(path, file)
    except OSError:
        return False
    return True


@dataclass(slots=True)
class _Kept:
    """An open file, how many threads use it, and since when none does."""

    file: h5py.File
    stamp: Stamp
    users: int = 0
    idle_since: float = 0.0


class _Handles:
    """Open files of this process by path; safe in many threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: dict[Path, _Kept] = {}
        self.waiting = False

    def take(self, path: Path, stamp: Stamp) -> _Kept:
        with self.lock:
            kept = self.files.get(path)
            if kept is None or kept.stamp != stamp:
                fresh = _Kept(open_file(path), stamp)
                if kept is not None and not kept.users:
                    kept.file.close()
                kept = self.files[path] = fresh
            kept.users += 1
            return kept

    def give_back(self, path: Path, kept: _Kept) -> None:
        with self.lock:
            kept.users -= 1
            kept.idle_since = time.monotonic()
            if self.files.get(path) is not kept and not kept.users:
                # The file has changed in the meantime: the next user opens it again.
                kept.file.close()
            elif not self.waiting:
                self._wait()

    def _wait(self) -> None:
        self.waiting = True
        timer = threading.Timer(IDLE, self._close_idle)
        timer.daemon = True
        timer.start()

    def _close_idle(self) -> None:
        with self.lock:
            now = time.monotonic()
            for path, kept in list(self.files.items()):
                if not kept.users and now - kept.idle_since >= IDLE:
                    kept.file.close()
                    del self.files[path]
            self.waiting = False
            if self.files:
                self._wait()


_HANDLES: Final = _Handles()
# A process that is forked off has none of the threads that would use, or close, these files.
os.register_at_fork(after_in_child=_HANDLES.__init__)  # type: ignore[misc]  # begins anew
