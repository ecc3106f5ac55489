"""One thread of OpenCV at a time: the cores belong to Dask."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2


class _Threads:
    """The number of OpenCV's threads in this process, and how many bodies hold it at one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bodies = 0
        self.before = 1


_THREADS = _Threads()


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread while the body runs, and restore the number afterwards.

    The number belongs to the whole process. Bodies that run at the same time in several threads
    share it: the first one sets it, and the last one restores it.

    Examples
    --------
    >>> before = cv2.getNumThreads()
    >>> with one_opencv_thread():
    ...     cv2.getNumThreads()
    1
    >>> cv2.getNumThreads() == before
    True
    """
    with _THREADS.lock:
        if _THREADS.bodies == 0:
            _THREADS.before = cv2.getNumThreads()
            if _THREADS.before != 1:
                cv2.setNumThreads(1)
        _THREADS.bodies += 1
    try:
        yield
    finally:
        with _THREADS.lock:
            _THREADS.bodies -= 1
            if _THREADS.bodies == 0 and _THREADS.before != 1:
                cv2.setNumThreads(_THREADS.before)
