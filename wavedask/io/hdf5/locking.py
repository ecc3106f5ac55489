"""HDF5 files opened so that no writer is disturbed, and as this process has them open already."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

import h5py

from wavedask.errors import CorruptFileError, FileError
from wavedask.io.files import check_regular

WAYS: Final = tuple(product((False, True), (False, None, True)))
"""Ways to open a file: in SWMR mode or not, and with which locking."""
OTHERWISE: Final = ("flag values don't match", "already open for write")
"""What HDF5 says of a file that can only be opened in another way."""


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
    failed: tuple[Path, OSError] | None = None
    for swmr, locking in WAYS:
        files: list[h5py.File] = []
        for path in paths:
            try:
                files.append(h5py.File(path, "r", swmr=swmr, locking=locking))
            except (OSError, ValueError) as error:
                problem = error if isinstance(error, OSError) else OSError(str(error))
                # In SWMR mode an ordinary file fails for that reason alone.
                failed = failed if swmr and failed else (path, problem)
                break
        else:
            return files
        for file in files:
            file.close()
        if not any(words in str(failed[1]) for words in OTHERWISE):
            break
    assert failed is not None
    raise _refused(*failed, together=len(paths) > 1) from failed[1]


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
