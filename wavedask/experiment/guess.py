"""Guesses of what lies in a folder: groups of frames, and the role of each by its name."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final

from wavedask.conventions import DISTORTION_X, DISTORTION_Y
from wavedask.errors import WavedaskError
from wavedask.io import Format, ScanSummary, format_of, is_run_file, list_scans
from wavedask.store import METADATA, open_store

ROLE_WORDS: Final = {
    "dark": ("dark", "background", "bias", "closed"),
    "flat": ("flat", "white", "empty"),
    "reference": ("ref", "diffuser", "membrane", "sandpaper", "blank"),
    "sample": ("sample", "lens", "obj", "optic", "mirror", "crl", "specimen"),
}
"""Starts of words in names and titles, by role, in the order in which they are looked for."""
DEPTH: Final = 2
"""Levels of folders below the given one."""
MOST_FILES: Final = 100_000
"""Files that are looked at; a folder with more is not a folder of one experiment."""


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that belong together: numbered files of one name, or a scan of an HDF5 file.

    Attributes
    ----------
    files : str
        Path or glob, relative to the folder.
    count : int
        Number of files.
    scan : str
        Name of the scan of an HDF5 file; else empty.
    title : str
        Title of the scan; else empty.
    role : str
        Guessed role: dark, flat, reference or sample; empty if unknown.
    why : str
        Reason for the guess, or for the lack of one.
    """

    files: str
    count: int
    scan: str = ""
    title: str = ""
    role: str = ""
    why: str = "no word in the name tells the role"

    @property
    def label(self) -> str:
        """The group in one line."""
        scan = f", scan {self.scan}" if self.scan else ""
        title = f" ({self.title})" if self.title else ""
        return f"{self.files}{scan}{title}"


def groups_in(folder: Path) -> list[Group]:
    """Find the groups of frames in a folder and below it, and guess their roles.

    Parameters
    ----------
    folder : Path
        A folder. Hidden files and result stores are left out.

    Returns
    -------
    list of Group
        In the order of their names. A single group without a role is the sample.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("dark_0.edf", "dark_1.edf", "lens_07.edf"):
    ...         Path(folder, name).touch()
    ...     [(group.role, group.files) for group in groups_in(Path(folder))]
    [('dark', 'dark_*.edf'), ('sample', 'lens_07.edf')]
    """
    found: list[Group] = []
    files = sorted(_files(folder, DEPTH))[:MOST_FILES]
    for (parent, stem, suffix), members in groupby(files, key=_series):
        paths = list(members)
        pattern = _pattern(parent, stem, suffix, paths)
        relative = os.path.relpath(parent / pattern, folder)
        if format_of(paths[0]) is Format.HDF5 and not is_run_file(paths[0]):
            found += _scans(relative, paths)
        else:
            found.append(Group(relative, len(paths)))
    guessed = [_with_role(group) for group in found]
    unknown = [group for group in guessed if not group.role]
    if len(unknown) == 1 and not any(group.role == "sample" for group in guessed):
        number = guessed.index(unknown[0])
        guessed[number] = replace(unknown[0], role="sample", why="no other frames are left")
    return guessed


def hdf5_without_camera(folder: Path) -> list[str]:
    """List the HDF5 files of a folder, in which `groups_in` has found no frames."""
    files = sorted(_files(folder, DEPTH))[:MOST_FILES]
    return [os.path.relpath(file, folder) for file in files if format_of(file) is Format.HDF5]


def calibration_in(folder: Path) -> str | None:
    """Find the result store of a detector calibration; None unless there is exactly one."""
    found = []
    for place in sorted(folder.glob(f"*/{METADATA}")):
        try:
            stored = open_store(place.parent)
        except WavedaskError:
            continue
        if {DISTORTION_Y.name, DISTORTION_X.name} <= set(map(str, stored.data_vars)):
            found.append(place.parent.name)
    return found[0] if len(found) == 1 else None


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Files of a known format, without hidden ones and the content of stores."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_file() and format_of(entry) is not None:
            yield entry
        elif depth and entry.is_dir() and not (entry / METADATA).exists():
            yield from _files(entry, depth - 1)


def _series(path: Path) -> tuple[Path, str, str]:
    """Folder, name without its number, and suffix: equal for the files of one series."""
    match = re.fullmatch(r"(.*?)\d*(\.[a-z][a-z0-9]*(?:\.gz|\.bz2)?)", path.name, re.IGNORECASE)
    if match is None:
        return path.parent, path.name, ""
    return path.parent, match[1], match[2]


def _pattern(parent: Path, stem: str, suffix: str, paths: list[Path]) -> str:
    """Glob that matches the files of a series, and no others."""
    if len(paths) == 1:
        return paths[0].name
    wide = f"{stem}*{suffix}"
    same = sum(1 for _ in parent.glob(wide)) == len(paths)
    return wide if same else f"{stem}[0-9]*{suffix}"


def _scans(files: str, paths: list[Path]) -> list[Group]:
    """List the scans with a camera of a file; of a numbered series those of the first file."""
    try:
        scans = list_scans(paths[0])
    except WavedaskError as error:
        return [Group(files, len(paths), why=f"cannot be read: {error.problem}")]
    return [_scan(files, len(paths), scan) for scan in scans if scan.cameras]


def _scan(files: str, count: int, scan: ScanSummary) -> Group:
    # With several cameras only the path of one of them is unique.
    name = scan.name if len(scan.cameras) == 1 else next(iter(scan.cameras))
    return Group(files, count, name, scan.title)


def _with_role(group: Group) -> Group:
    """Guess the role from the title of a scan, the name of the file, then of its folders."""
    parts = Path(group.files).parts
    for place, text in (("title", group.title), *(("name", part) for part in reversed(parts))):
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)]
        for role, starts in ROLE_WORDS.items():
            hit = next((word for word in words if word.startswith(starts)), None)
            if hit is not None:
                return replace(group, role=role, why=f"the {place} contains {hit!r}")
    return group
