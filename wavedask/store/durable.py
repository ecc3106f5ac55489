"""Make sure that data are on the disk: a power cut must not lose what the ledger promises."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore


def barrier(folder: Path, files: Callable[[], Iterable[Path]]) -> None:
    """Wait until everything that was written below a folder is on the disk.

    A file system may write the pages of a file long after the file was closed and renamed. On Linux
    one call (``syncfs``) flushes the file system of the folder: files, sizes and names. It costs
    one flush of the disk, whatever the number of files. Elsewhere `files` and their folders are
    flushed one by one.

    Parameters
    ----------
    folder : Path
        A folder that exists.
    files : callable
        Lists what was written; called only on systems without ``syncfs``.

    Raises
    ------
    OSError
        The disk has reported an error: what was written may be lost.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     file = Path(name, "a")
    ...     _ = file.write_text("b")
    ...     barrier(Path(name), lambda: [file])
    """
    call = _syncfs()
    if call is None:
        sync_files(files())
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if call(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def sync_files(files: Iterable[Path]) -> None:
    """Flush files one by one, and the folders that hold their names.

    For a worker on another machine than the driver, whose barrier does not reach its memory.

    Parameters
    ----------
    files : iterable of Path
        What was written; a file that has been removed meanwhile is skipped.
    """
    folders = set()
    for file in files:
        folders.add(file.parent)
        with contextlib.suppress(FileNotFoundError):
            _synced(file, getattr(os, "fdatasync", os.fsync))
    for folder in folders:
        sync_folder(folder)


def _draft_of(file: Path) -> Path:
    # The ending that Zarr uses: the next run removes what a killed one has left.
    return file.with_name(f"{file.name}.{os.urandom(16).hex()}.partial")


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder, where the system can."""
    # Some file systems have no such flush for folders, and need none.
    with contextlib.suppress(PermissionError, IsADirectoryError):
        _synced(folder, os.fsync)


def write_durably(file: Path, content: Any) -> None:
    """Replace a file in one step; the new content is on the disk before it gets the name.

    Parameters
    ----------
    file : Path
        The file.
    content : bytes-like
        All of it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(file)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


class DurableStore(LocalStore):
    """A Zarr store in a folder whose every object is on the disk when it is written.

    For the ledger and the metadata, which are written rarely; chunks are flushed together, by
    `barrier`.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        self._check_writable()
        write_durably(self.root / key, value.as_buffer_like())


class DeferredStore(LocalStore):
    """A Zarr store in a folder whose objects get their names together, by `publish`.

    An object that is replaced before it is on the disk may be lost by a power cut, with what was
    there before. To flush each one by itself takes milliseconds.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._drafts: dict[Path, Path] = {}

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object beside its name."""
        self._check_writable()
        file = self.root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft_of(file)
        draft.write_bytes(value.as_buffer_like())
        replaced = self._drafts.pop(file, None)
        self._drafts[file] = draft
        if replaced is not None:
            replaced.unlink()

    def publish(self) -> None:
        """Give all objects their names; their contents must be on the disk, see `barrier`."""
        for file, draft in self._drafts.items():
            draft.replace(file)
        for folder in {file.parent for file in self._drafts}:
            sync_folder(folder)
        self._drafts.clear()

    def drafts(self) -> list[Path]:
        """List the files of the objects that have no names yet."""
        return list(self._drafts.values())


def machine() -> str:
    """Name the machine whose memory holds what this process has written and not flushed yet.

    Returns
    -------
    str
        The identity of this start of the system; its host name where there is none.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


@lru_cache(maxsize=1)
def _syncfs() -> Any:
    """Find ``syncfs(2)`` in the C library."""
    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = (ctypes.c_int,)
    return call


def _synced(path: Path, flush: Any) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)
