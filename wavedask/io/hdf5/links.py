"""Links in HDF5 files: followed by our own code, so that a missing file is named and none blocks.

HDF5 itself opens the target of an external link with the locking of the first file. That fails if
the target is open otherwise in the same process, and it waits for ever if the target is a pipe.
"""

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

import h5py

from wavedask.errors import FileError
from wavedask.io.hdf5.locking import open_file

MOST_MEMBERS: Final = 2000
"""Members of one group that are looked at. Facility files have some hundreds."""
MOST_OBJECTS: Final = 10_000
"""Groups and datasets of a file that are looked at, one after the other."""
MOST_HOPS: Final = 16
"""Links that may lead from one to the next, as in HDF5; more are taken for a circle."""
PARENTS: Final = 3
"""Folders above a file in which a file that was moved together with it is looked for."""

Obstacles = dict[str, FileError]
"""What could not be looked at, by its path in the file."""

_LINKED: contextvars.ContextVar[dict[Path, h5py.File] | None] = contextvars.ContextVar(
    "linked files", default=None
)


@contextmanager
def linked_files() -> Iterator[None]:
    """Keep the files open that links lead to, until the block ends."""
    files: dict[Path, h5py.File] = {}
    token = _LINKED.set(files)
    try:
        yield
    finally:
        _LINKED.reset(token)
        for file in files.values():
            file.close()


def files_linked() -> set[Path]:
    """Return the files that external links have led to, in the block of `linked_files`."""
    return {path.resolve() for path in _LINKED.get() or ()}


def located(name: str, home: Path) -> Path | None:
    """Find a file that another one names.

    Parameters
    ----------
    name : str
        Path as it is written in the file.
    home : pathlib.Path
        The file that names it.

    Returns
    -------
    pathlib.Path or None
        The file at that path, or beside `home`. Where `home` was moved together with the files
        behind it, the end of the path is looked for in the folder of `home` and in those above.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     raw = Path(folder, "raw", "frames.h5")
    ...     raw.parent.mkdir()
    ...     raw.touch()
    ...     located("/old/place/raw/frames.h5", Path(folder, "master.h5")) == raw
    True
    """
    homes = dict.fromkeys([home.parent, home.resolve().parent])
    for folder in homes:
        # A path that is absolute stays as it is.
        if (folder / name).exists():
            return folder / name
    steps = [step for step in PurePosixPath(name).parts if step not in ("/", ".", "..")]
    for folder in homes:
        for start in range(len(steps)):
            end = Path(*steps[start:])
            # A bare name higher up would be the file of another measurement.
            above = list(folder.parents)[:PARENTS] if len(end.parts) > 1 else []
            for place in [folder, *above]:
                if (place / end).is_file():
                    return place / end
    return None


def follow(group: h5py.Group, name: str, *, hops: int = 0) -> Any:
    """Return a member of a group, or what a path from there leads to.

    Parameters
    ----------
    group : h5py.Group
        The group.
    name : str
        Name of a member, or a path; one that starts with a slash starts at the root.
    hops : int
        Links followed already.

    Returns
    -------
    h5py.Group, h5py.Dataset or None
        None where there is nothing, or a link within the file leads nowhere.

    Raises
    ------
    FileError
        If a link leads to another file that is missing or has no such object.
    """
    here: Any = group.file if name.startswith("/") else group
    for step in filter(None, name.split("/")):
        if step == ".":
            continue
        here = _step(here, step, hops) if isinstance(here, h5py.Group) else None
        if here is None:
            return None
    return here


def _step(group: h5py.Group, name: str, hops: int) -> Any:
    try:
        link = group.get(name, getlink=True)
        if link is None or hops > MOST_HOPS:
            return None
        if isinstance(link, h5py.ExternalLink):
            return _behind(link, group, name, hops)
        if isinstance(link, h5py.SoftLink):
            # A path that is no UTF-8 comes as bytes, and no object has it: see `members`.
            return follow(group, link.path, hops=hops + 1) if isinstance(link.path, str) else None
        return group[name]
    except (KeyError, OSError, RuntimeError) as error:
        if "Unable to" in str(error) and isinstance(error, RuntimeError):
            # The tables of the file are damaged.
            raise
        return None


def _behind(link: h5py.ExternalLink, group: h5py.Group, name: str, hops: int) -> Any:
    """Return what an external link leads to."""
    home = Path(group.file.filename)
    place = f"{home}: {(group.name or '').rstrip('/')}/{name}"
    remedy = "Copy that file along, keeping its place relative to this one."
    path = located(link.filename, home)
    if path is None:
        raise FileError(
            f"{place} is kept in {link.filename}, which cannot be opened: it is not there", remedy
        )
    files = _LINKED.get()
    files = {} if files is None else files
    path = path.absolute()
    if path not in files:
        try:
            files[path] = open_file(path)
        except FileError as error:
            raise FileError(
                f"{place} is kept in {link.filename}, which cannot be opened: {error.problem}",
                remedy,
            ) from error
    inside = link.path
    if isinstance(inside, str):
        found = follow(files[path], f"/{inside.strip('/')}", hops=hops + 1)
    else:
        found = None
    if found is None:
        raise FileError(
            f"{place} is kept in {link.filename}, which has no {inside}",
            "Copy that file again from its source: it may have been incomplete.",
        )
    return found


def members(
    group: Any, obstacles: Obstacles | None = None, *, most: int | None = MOST_MEMBERS
) -> Iterator[tuple[str, Any]]:
    """Yield the members of a group by their names, links followed; nothing, if it is no group.

    Parameters
    ----------
    group : h5py.Group, or anything else
        The group.
    obstacles : dict, optional
        Takes what cannot be looked at. Without it, that is left out.
    most : int or None
        Members that are looked at; None for all.
    """
    if not isinstance(group, h5py.Group):
        return
    for name in islice(group, most):
        if isinstance(name, bytes):
            if obstacles is not None:
                obstacles[f"{(group.name or '').rstrip('/')}/{name!r}"] = FileError(
                    f"{group.file.filename}: {group.name} has a member called {name!r}, which is"
                    " no UTF-8",
                    "If you need it, give it another name.",
                )
            continue
        try:
            item = follow(group, name)
        except FileError as error:
            if obstacles is not None:
                obstacles.setdefault(f"{(group.name or '').rstrip('/')}/{name}", error)
            continue
        if item is not None:
            yield name, item
    if most is not None and len(group) > most and obstacles is not None:
        obstacles[group.name] = FileError(
            f"{group.file.filename}: {group.name} has {len(group)} members, of which only the"
            f" first {most} are looked at",
            "Choose the frames with image='<path>', and positions with motors={name: '<path>'}.",
        )
