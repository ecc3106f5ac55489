"""Which files a source means: a path, a glob, a folder, or a list of those."""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias

from wavedask.errors import FileError, InputError
from wavedask.paths import expanded

PathLike: TypeAlias = str | os.PathLike[str]
Source: TypeAlias = PathLike | Sequence[PathLike]
Scans: TypeAlias = str | Sequence[str]
"""Names of scans of an HDF5 file: one, or several that follow each other."""

WITHIN: Final = "::"
"""What stands between a file and a scan in it."""


class Format(Enum):
    """A file format, with the suffixes that it goes by."""

    EDF = (".edf", ".edf.gz", ".edf.bz2")
    TIFF = (".tif", ".tiff")
    HDF5 = (".h5", ".hdf5", ".hdf", ".nx", ".nxs", ".nexus")


KNOWN_SUFFIXES = ", ".join(suffix for format_ in Format for suffix in format_.value)


def format_of(path: Path) -> Format | None:
    """Format that the suffix of a path stands for, or None."""
    name = path.name.lower()
    return next((format_ for format_ in Format if name.endswith(format_.value)), None)


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Key that sorts ``frame_2`` before ``frame_10``."""
    text = str(path)
    pieces = re.split(r"(\d+)", text.casefold())
    # Text and digits alternate, so that a number is never compared with a word.
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], text


def find_files(source: Source) -> tuple[list[Path], Format]:
    """Find the files that a source means.

    Parameters
    ----------
    source : path, or sequence of paths
        A file, a glob or a folder, or several of them. A path that exists is never read as a
        glob, whatever its characters.

    Returns
    -------
    files : list of pathlib.Path
        Absolute paths. Those of one glob or folder are in natural order; a list keeps its own.
    format : Format
        The one format of them all.

    Raises
    ------
    FileError
        If nothing is there, or something of no known format or of several formats.
    InputError
        If `source` is an empty list, names a file twice, or something in it is no path.
    """
    checked = checked_source(source)
    sources = [checked] if isinstance(checked, str | os.PathLike) else checked
    files = [path for item in sources for path in _expand(expanded(item))]
    for path in files:
        check_regular(path)
    (often, count), *_ = Counter(files).most_common(1)
    if count > 1:
        raise InputError(f"{often} is given {count} times", "Name every file once.")
    return files, _common_format(files)


def checked_source(source: Any) -> Source:
    """Check a source, and make a list of an iterator.

    Parameters
    ----------
    source : path, or iterable of paths
        As of `find_files`, or whatever else a user gives.

    Returns
    -------
    path, or list of paths

    Raises
    ------
    InputError
        If `source` is an empty list, or something in it is no path.

    Examples
    --------
    >>> checked_source(f"{number}.edf" for number in range(2))
    ['0.edf', '1.edf']
    """
    single = isinstance(source, str | os.PathLike)
    if isinstance(source, bytes | Set) or not (single or isinstance(source, Iterable)):
        raise InputError(
            f"source is {source!r}", "Give a path, or a list of paths in the order of the frames."
        )
    sources: list[Any] = [source] if single else list(source)
    if not sources:
        raise InputError("source is an empty list", "Give at least one file, folder or glob.")
    for item in sources:
        # An empty text would be the folder that one happens to be in.
        if not isinstance(item, str | os.PathLike) or not os.fspath(item):
            raise InputError(
                f"source {'is' if single else 'holds'} {item!r}",
                "Give the path of a file or folder, or a glob.",
            )
    return sources[0] if single else sources


def split_scan(source: Source, scan: Scans | None) -> tuple[Source, Scans | None]:
    """Take the scan out of ``file.h5::scan``, as silx writes it.

    Parameters
    ----------
    source : path, or sequence of paths
        As of `find_files`; only a single path may name a scan.
    scan : str or sequence of str, optional
        The scan, or several, where given by themselves.

    Returns
    -------
    source : path, or sequence of paths
        The source without the scan.
    scan : str, sequence of str or None
        The scan, or several.

    Raises
    ------
    InputError
        If the scan is given twice.

    Examples
    --------
    >>> split_scan("bliss.h5::/1.1", None)
    ('bliss.h5', '/1.1')
    """
    if not isinstance(source, str | os.PathLike) or Path(source).exists():
        return source, scan
    file, separator, name = os.fspath(source).partition(WITHIN)
    if not separator or not name:
        return source, scan
    if scan is not None:
        raise InputError(
            f"scan={scan!r} with the source {str(source)!r}, which names a scan, too",
            "Give one of them.",
        )
    return file, name


def check_regular(path: Path) -> None:
    """Refuse what is there and is no file: opening a pipe waits for ever, a device has no end.

    Parameters
    ----------
    path : pathlib.Path
        The path; one that does not exist passes.

    Raises
    ------
    FileError
        If it is a folder, a pipe (FIFO), a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        # The error is raised where the file is opened.
        return
    if not stat.S_ISREG(mode):
        kinds = {"d": "folder", "p": "pipe (FIFO)", "s": "socket"}
        kind = kinds.get(stat.filemode(mode)[0], "device")
        raise FileError(
            f"{path} is a {kind}, not a file", "Give the path of a file that holds the frames."
        )


def _expand(path: Path) -> list[Path]:
    try:
        return _files_at(path)
    except PermissionError as error:
        raise FileError(
            f"{path} cannot be looked at: {error}", "Ask for the permission to read it."
        ) from error


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        return _folder_files(path)
    if path.exists():
        return [path.absolute()]
    if WITHIN in str(path):
        raise FileError(
            f"{path} does not exist",
            f"In a list no path names a scan with {WITHIN!r}: give scan='<name>' for all files.",
        )
    if not glob.has_magic(str(path)):
        raise FileError(f"{path} does not exist", "Check the path, and that its disk is mounted.")
    # Of the folders, too, those that exist are no globs, whatever their characters.
    folder = next(parent for parent in path.parents if parent.exists())
    pattern = os.path.join(glob.escape(str(folder)), path.relative_to(folder))  # noqa: PTH118
    # Path.glob() takes no absolute patterns, and would find hidden files.
    hits = [Path(hit).absolute() for hit in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    # A broken link counts, so that a missing frame is noticed.
    files = sorted((hit for hit in hits if not hit.is_dir()), key=natural_key)
    if not files:
        raise FileError(
            f"no file matches {str(path)!r}", "Check the pattern against the names in the folder."
        )
    return files


def _folder_files(folder: Path) -> list[Path]:
    # Hidden files are a desktop's own (such as "._frame.tif"), never frames.
    files = [
        entry.absolute()
        for entry in folder.iterdir()
        if not entry.is_dir() and not entry.name.startswith(".") and format_of(entry) is not None
    ]
    if not files:
        raise FileError(
            f"{folder} holds no frames", f"Files of these names are looked for: {KNOWN_SUFFIXES}."
        )
    return sorted(files, key=natural_key)


def _common_format(files: Sequence[Path]) -> Format:
    examples: dict[Format, Path] = {}
    for path in files:
        format_ = format_of(path)
        if format_ is None:
            raise FileError(
                f"{path} has no known suffix", f"Known are: {KNOWN_SUFFIXES}. Rename or convert it."
            )
        examples.setdefault(format_, path)
    if len(examples) > 1:
        found = ", ".join(f"{format_.name} ({path.name})" for format_, path in examples.items())
        raise FileError(
            f"{files[0].parent}: files of several formats: {found}",
            "Choose those of one format with a glob, such as 'folder/*.edf'.",
        )
    return next(iter(examples))
