"""The scans of an HDF5 file: its groups, each seen as the layout that recognises it."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import h5py

from wavedask.errors import FileError, InputError
from wavedask.io.hdf5.bliss import BlissEntry
from wavedask.io.hdf5.dxfile import DxEntry
from wavedask.io.hdf5.eiger import EigerEntry
from wavedask.io.hdf5.given import LISTED
from wavedask.io.hdf5.layout import Entry
from wavedask.io.hdf5.links import Obstacles, follow, members
from wavedask.io.hdf5.nexus import NexusEntry, is_bare

LAYOUTS: Final[tuple[Callable[[h5py.Group, Path, str], Entry | None], ...]] = (
    DxEntry.recognise,
    BlissEntry.recognise,
    EigerEntry.recognise,
    NexusEntry.recognise,
)
"""Layouts in the order in which they are tried; the last one takes every group."""

MOST_SCANS: Final = 2000
"""Scans of a file that are looked at, where none is named."""


def entries_of(
    file: h5py.File, path: Path, place: str | None = None
) -> tuple[list[Entry], Obstacles]:
    """Top-level groups as the first layout sees them that recognises them, or the root.

    Of a file with very many, only the one that a place is in. Also the links to other files that
    cannot be opened.
    """
    broken: Obstacles = {}
    wanted = (place or "").strip("/").partition("/")[0]
    many = len(file) > MOST_SCANS
    if many and wanted and isinstance(follow_or_none(file, wanted), h5py.Group):
        named: Iterable[tuple[str, Any]] = [(wanted, follow(file, wanted))]
    else:
        named = members(file, broken)
    groups = [
        (name, item) for name, item in islice(named, MOST_SCANS) if isinstance(item, h5py.Group)
    ]
    if many and not wanted:
        names = ", ".join(name for name, _ in groups[:LISTED])
        raise InputError(
            f"{path} has {len(file)} groups at its root, too many to look at them all",
            f"Choose a scan: scan='<name>' or 'FILE::<name>'; it has {names} and others.",
        )
    found: list[Entry] = []
    for name, group in groups:
        entries = (recognise(group, path, name) for recognise in LAYOUTS)
        found.append(next(entry for entry in entries if entry is not None))
    if not many and is_bare(file) and all(type(entry) is NexusEntry for entry in found):
        return [NexusEntry(file, path, "")], broken
    return found, broken


def follow_or_none(file: h5py.File, name: str) -> Any:
    """Return what is at a path; None also where it is in a file that is missing."""
    try:
        return follow(file, name)
    except FileError:
        return None
