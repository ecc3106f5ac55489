"""The ledger of a store: which frames are complete, and a digest of each."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from wavedask.conventions import COMPLETE, DIGEST
from wavedask.errors import WavedaskError
from wavedask.store.arrays import open_array
from wavedask.store.durable import barrier
from wavedask.store.faults import os_errors
from wavedask.store.lock import Right
from wavedask.store.numbers import Numbers

FLUSH_SECONDS: Final = 0.5
"""Interval between two writes of the ledger; a killed run repeats this much work."""
FLUSH_SHARE: Final = 0.1
"""Share of the time that these writes may take: on a slow disk they are further apart."""


class Ledger:
    """The ledger of a store, its variables ``complete`` and ``digest``, while frames are written.

    A thread writes it every half second, and the numbers of the frames before it. So the cost does
    not grow with the number of frames, and a mark does not wait for the next frame.
    """

    def __init__(
        self,
        right: Right,
        files_of: Callable[[NDArray[np.intp]], list[Path]],
        numbers: Numbers,
    ) -> None:
        group = right.place.group(durable=right.durable)
        self.array = open_array(group, COMPLETE.name)
        # Stores of older versions have no digests.
        self._digest_array = open_array(group, DIGEST.name) if DIGEST.name in group else None
        self._right = right
        self._files_of = files_of
        self._numbers = numbers
        self.complete: NDArray[np.bool_] = np.asarray(self.array[:], dtype=bool)
        digests = np.zeros(self.complete.size) if self._digest_array is None else self._digest_array
        self._digests: NDArray[np.uint32] = np.array(digests[:], dtype=np.uint32)
        self._written: list[NDArray[np.intp]] = []
        self._changed = False
        self._failure: WavedaskError | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flush_regularly, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self._flush()
        except WavedaskError:
            if error is None:
                raise
            # The first error says more.

    def mark(self, frames: NDArray[np.intp], digest: int, together: int) -> None:
        """Mark frames as complete; raise an error of the thread that writes the ledger.

        Parameters
        ----------
        frames : ndarray of int
            Frames that share their chunks.
        digest : int
            Digest of what was written for them.
        together : int
            Number of frames that share chunks, and have one digest.
        """
        if self._failure is not None:
            raise self._failure
        of_numbers = self._numbers.digests(frames) if self._numbers else np.uint32(0)
        groups = frames // together
        with self._lock:
            self.complete[frames] = True
            self._digests[frames] = np.uint32(digest) ^ of_numbers
            for group in np.unique(groups).tolist():
                part = slice(group * together, min((group + 1) * together, self.complete.size))
                if (groups == group).sum() < part.stop - part.start:
                    # Of chunks that were not written whole, the digest is not known.
                    self._digests[part] = 0
            self._written.append(frames)
            self._changed = True

    def _flush_regularly(self) -> None:
        took = 0.0
        while not self._stop.wait(max(FLUSH_SECONDS, took / FLUSH_SHARE)):
            begin = time.perf_counter()
            try:
                self._flush()
            except WavedaskError as error:
                self._failure = error
                return
            took = time.perf_counter() - begin

    def _flush(self) -> None:
        with self._lock:
            if not self._changed:
                return
            marks, digests = self.complete.copy(), self._digests.copy()
            written, self._written = self._written, []
            self._changed = False
        try:
            self._write(marks, digests, written)
        except BaseException:
            # Of these frames, something may not be there: they are written again, or not marked.
            with self._lock:
                self._written = written + self._written
                self._changed = True
            raise

    def _write(
        self,
        marks: NDArray[np.bool_],
        digests: NDArray[np.uint32],
        written: list[NDArray[np.intp]],
    ) -> None:
        with os_errors(f"the ledger of store {self._right.place} cannot be written"):
            self._right.check()
            place = self._right.place
            if self._numbers:
                self._numbers.write(np.concatenate(written))
            if self._right.durable and not place.remote:
                # Before the marks: of a frame that is complete, a power cut must lose nothing.
                barrier(
                    place.path,
                    lambda: [
                        *self._numbers.drafts(),
                        *(file for frames in written for file in self._files_of(frames)),
                    ],
                )
            self._numbers.publish(marks)
            if self._digest_array is not None:
                self._digest_array[:] = digests
            # Zarr writes the chunk under another name and renames it: a reader never sees a part.
            self.array[:] = marks
