"""A file for HDF5 that reports a full disk in Python, and does not fail inside the library."""

import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py


class HDF5Sink(io.RawIOBase):
    """An HDF5 file for writing whose disk errors are raised by Python and not by HDF5.

    HDF5 cannot close a file whose last bytes do not fit on the disk: it keeps the file half open,
    and the process crashes later. Here a failed write is recorded, later writes are dropped, and
    HDF5 closes normally. `check` and the end of the context raise the error.

    Parameters
    ----------
    path : Path
        The file; it must not exist.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with HDF5Sink(Path(folder, "a.h5")) as sink:
    ...         sink.file["a"] = [1, 2, 3]
    ...     with h5py.File(Path(folder, "a.h5")) as file:
    ...         file["a"][:].tolist()
    [1, 2, 3]
    """

    def __init__(self, path: Path) -> None:
        # New, and not through a link: others may write the folder, too.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o666)
        self._position = 0
        self._size = 0
        self.failure: OSError | None = None
        self.file: Any = h5py.File(self, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()
        os.close(self._descriptor)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self.failure is not None:
            raise self.failure

    def write(self, data: Any) -> int:
        """Write all of `data`, or note why not."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and self.failure is None:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
        except OSError as error:
            self.failure = error
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read what was written; zeros where the disk has not taken it."""
        view = memoryview(buffer).cast("B")
        found = os.pread(self._descriptor, len(view), self._position)
        view[:] = found.ljust(len(view), b"\0")
        self._position += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, as of any file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Tell the place."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self._size = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            self.failure = self.failure or error
        return self._size
