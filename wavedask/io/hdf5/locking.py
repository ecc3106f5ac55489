"""HDF5 files opened so that no writer is disturbed, and as this process has them open already."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import h5py

from wavedask.errors import CorruptFileError, FileError
from wavedask.io.files import check_regular

LOCKING: Final = (False, None, True)
"""Ways of locking a file, the one that disturbs no writer first."""
OPEN_OTHERWISE: Final = "flag values don't match"
"""What HDF5 says of a file that this process has open with another way of locking."""
BEING_WRITTEN: Final = "already open for write"
"""What HDF5 says of a file that is being written, perhaps in SWMR mode."""


def open_file(path: Path) -> h5py.File:
    """Open a file as `opened` does; the caller closes it.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    h5py.File

    Raises
    ------
    CorruptFileError, FileError
        As of `opened`.
    """
    return open_files([path])[0]


def open_files(paths: Sequence[Path]) -> list[h5py.File]:
    """Open files in one way, so that HDF5 reads through the first one from the others.

    HDF5 allows a process one way of locking per file, so the user's own open file decides; and a
    file that is written in SWMR mode opens only in that mode. A virtual dataset opens its sources
    as its own file is opened. If they are open otherwise, HDF5 fails, or before version 2 reads
    zeros.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        The files.

    Returns
    -------
    list of h5py.File
        In the order of `paths`; the caller closes them.

    Raises
    ------
    CorruptFileError, FileError
        As of `opened`.
    """
    for path in paths:
        check_regular(path)
    for locking in LOCKING:
        files, failed = _opened_so(paths, locking, swmr=False)
        if failed and BEING_WRITTEN in str(failed[1]):
            in_swmr_mode, _ = _opened_so(paths, locking, swmr=True)
            files = in_swmr_mode
        if files or failed is None:
            return files
        if OPEN_OTHERWISE not in str(failed[1]):
            break
    assert failed is not None
    raise _refused(*failed, together=len(paths) > 1) from failed[1]


def _opened_so(
    paths: Sequence[Path], locking: bool | None, *, swmr: bool
) -> tuple[list[h5py.File], tuple[Path, OSError] | None]:
    """Open all files in one way; or none, and say of the first one that cannot be, why."""
    files: list[h5py.File] = []
    for path in paths:
        try:
            files.append(h5py.File(path, "r", swmr=swmr, locking=locking))
        except OSError as error:
            for file in files:
                file.close()
            return [], (path, error)
    return files, None


def _refused(path: Path, error: OSError, *, together: bool) -> FileError:
    """Say why a file cannot be opened."""
    if "truncated file" in str(error):
        return CorruptFileError(f"{path} is truncated: {error}", "Copy it again from its source.")
    if "already open for" in str(error):
        return FileError(
            f"{path} is being written by a program that lets nobody read: {error}",
            "Wait until it has closed the file, or make it write in SWMR mode. If it has"
            " crashed, 'h5clear -s' on a copy of the file lets it open again.",
        )
    if "flag values don't match" in str(error) and together:
        return FileError(
            f"{path} is open in this process with another file locking than the files that are"
            f" read together with it: {error}",
            "Close it, or open all of them with the same locking=.",
        )
    if path.is_file() and h5py.is_hdf5(path):
        return CorruptFileError(f"{path} is damaged: {error}", "Copy it again from its source.")
    if isinstance(error, FileNotFoundError):
        return FileError(f"{path} does not exist", "Was it moved or deleted?")
    return FileError(
        f"{path} cannot be read: {error}",
        "Check that it is whole and what its suffix says, and that you may read it.",
    )
