"""Several HDF5 files, or scans of a file, that are one scan: files behind another one left out."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path

from wavedask.compute import progress_bar
from wavedask.errors import FrameMismatchError, InputError, WavedaskError
from wavedask.io.columns import Column
from wavedask.io.hdf5.reader import UNFINISHED, Hdf5Scan, read_hdf5
from wavedask.io.joining import Part, joined_columns


def read_files(
    files: Sequence[Path],
    *,
    scans: Sequence[str | None] = (None,),
    image: str | None = None,
    motors: Mapping[str, str] | None = None,
    progress: bool | None = None,
) -> list[tuple[Path, Hdf5Scan]]:
    """Find the same camera in each of several files, or in several scans of them.

    Parameters
    ----------
    files : sequence of pathlib.Path
        The files in order. One whose frames another one of them shows, through a link or a virtual
        dataset, is left out: its frames are there already.
    scans : sequence of (str or None)
        Scans as of `read_hdf5`, of every file: first the first one of all files, and so on.
    image, motors
        As of `read_hdf5`, for every file.
    progress : bool, optional
        Whether to show a bar; by default in a terminal only.

    Returns
    -------
    list of (pathlib.Path, Hdf5Scan)
        At least one, in order.

    Raises
    ------
    FrameMismatchError
        If the files have different cameras, or frames of different shape or type.
    InputError
        If a scan is given twice, and as of `read_hdf5`.
    FileError
        As of `read_hdf5`.
    """
    names = [scan and scan.strip("/") for scan in scans]
    (often, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise InputError(f"{often} is given {count} times", "Name every scan once.")
    found: list[tuple[Path, Hdf5Scan]] = []
    errors: list[tuple[Path, WavedaskError]] = []
    with progress_bar("reading headers", len(scans) * len(files), show=progress) as advance:
        for scan, path in product(scans, files):
            try:
                found.append((path, read_hdf5(path, scan=scan, image=image, motors=motors)))
            except WavedaskError as problem:
                # The files of a master cannot be opened by themselves, and need not be.
                errors.append((path, problem))
            advance(1)
    behind = {file for _, one in found for file in one.behind}
    for path, error in errors:
        if path.resolve() not in behind:
            raise error
    kept = [(path, one) for path, one in found if path.resolve() not in behind]
    _check_cameras(kept)
    return kept


def join_files(
    scans: Sequence[tuple[Path, Hdf5Scan]], *, replaced: Collection[str] = ()
) -> tuple[list[Column], dict[str, str]]:
    """Join what is known of the frames of several files.

    Parameters
    ----------
    scans : sequence of (pathlib.Path, Hdf5Scan)
        As of `read_files`.
    replaced : collection of str
        Motors whose positions are given otherwise.

    Returns
    -------
    columns : list of Column
        One value per frame of all files.
    constants : dict of str to str
        Texts that are the same in all files, and which files are not finished.

    Raises
    ------
    MotorError
        As of `joined_columns`.
    """
    parts = []
    unfinished = []
    for path, found in scans:
        constants = dict(found.constants)
        if UNFINISHED in constants:
            unfinished.append(f"{path.name}: {constants.pop(UNFINISHED)}")
        parts.append(Part(path, found.stack.shape[0], found.columns, constants))
    columns, common = joined_columns(parts, replaced=replaced)
    return columns, common | ({UNFINISHED: "; ".join(unfinished)} if unfinished else {})


def _check_cameras(scans: Sequence[tuple[Path, Hdf5Scan]]) -> None:
    (first_path, first), *others = scans
    for path, other in others:
        if other.camera != first.camera:
            raise FrameMismatchError(
                f"frames are of different cameras: {first.camera} in {first_path}, but"
                f" {other.camera} in {path}",
                "Open the files of one camera, or choose its frames in all with image='<path>'.",
            )
