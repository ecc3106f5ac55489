"""HDF5 files opened so that no writer is disturbed, and as this process has them open already."""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import h5py

from wavedask.errors import CorruptFileError, FileError
from wavedask.io.files import check_regular
from wavedask.io.hdf5.heaps import check_heaps

LOCKING: Final = (False, None, True)
"""Ways of locking a file, the one that disturbs no writer first."""
OPEN_OTHERWISE: Final = "flag values don't match"
"""What HDF5 says of a file that this process has open with another way of locking."""
BEING_WRITTEN: Final = "already open for write"
"""What HDF5 says of a file that is being written, perhaps in SWMR mode."""

_trial: Final = threading.Lock()
"""Held while a way of opening is tried: another thread would take the attempt for the user's."""


def open_file(path: Path, *, through: Sequence[Path] = ()) -> h5py.File:
    """Open a file for reading in a way that disturbs no writer; the caller closes it.

    HDF5 allows a process one way of locking per file, so the user's own open file decides; and a
    file that is written in SWMR mode opens only in that mode. A virtual dataset opens its sources
    as its own file is opened. If they are open otherwise, HDF5 fails, or before version 2 reads
    zeros.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    through : sequence of pathlib.Path
        Files that HDF5 will open through this one: the sources of a virtual dataset.

    Returns
    -------
    h5py.File
        Opened so that all of `through` open in the same way.

    Raises
    ------
    CorruptFileError
        If the file ends before what it announces.
    FileError
        If one of them is no HDF5 file, or is locked by a writer against reading, or is open in
        this process in another way than the others.
    """
    for one in (path, *through):
        check_regular(one)
        with suppress(OSError):  # said when it is opened
            check_heaps(one)
    with _trial:
        for locking in LOCKING:
            try:
                return _opened_so(path, through, locking, swmr=False)
            except OSError as error:
                failed = error
            if BEING_WRITTEN in str(failed):
                with suppress(OSError):
                    return _opened_so(path, through, locking, swmr=True)
            if OPEN_OTHERWISE not in str(failed):
                break
    raise _refused(path, failed, through) from failed


def opens_as(path: Path, file: h5py.File) -> None:
    """Open a file as another one is open, and close it: HDF5 does so for a virtual dataset.

    Raises
    ------
    OSError
        If it does not open in that way.
    """
    flags = h5py.h5f.ACC_RDONLY | (h5py.h5f.ACC_SWMR_READ if file.swmr_mode else 0)
    h5py.h5f.open(os.fsencode(path), flags, fapl=file.id.get_access_plist()).close()


def _opened_so(
    path: Path, through: Sequence[Path], locking: bool | None, *, swmr: bool
) -> h5py.File:
    file = h5py.File(path, "r", swmr=swmr, locking=locking)
    try:
        for source in through:
            opens_as(source, file)
    except BaseException:
        file.close()
        raise
    return file


def _refused(path: Path, error: OSError, through: Sequence[Path]) -> FileError:
    """Say why a file cannot be opened, or not together with those behind it."""
    if OPEN_OTHERWISE in str(error) and through:
        return FileError(
            f"{path} cannot be read together with {', '.join(map(str, through[:3]))}: this process"
            f" has them open with another file locking ({error})",
            "Close them, or open all of them with the same locking=.",
        )
    if "truncated file" in str(error):
        return CorruptFileError(f"{path} is truncated: {error}", "Copy it again from its source.")
    if "already open for" in str(error):
        return FileError(
            f"{path} is being written by a program that locks it against reading: {error}",
            "Wait until it has closed the file, or make it write in SWMR mode. If it has"
            " crashed, 'h5clear -s' on a copy of the file lets it open again.",
        )
    if path.is_file() and h5py.is_hdf5(path):
        return CorruptFileError(f"{path} is damaged: {error}", "Copy it again from its source.")
    if isinstance(error, FileNotFoundError):
        return FileError(f"{path} does not exist", "Was it moved or deleted?")
    return FileError(
        f"{path} cannot be read: {error}",
        "Check that it is whole and what its suffix says, and that you may read it.",
    )
