"""The scans of an HDF5 file in words, and what of it no layout takes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py

from wavedask.errors import FileError
from wavedask.io.hdf5.access import check_sources, is_numeric, opened
from wavedask.io.hdf5.bliss import BlissEntry
from wavedask.io.hdf5.entries import entries_of
from wavedask.io.hdf5.given import all_datasets
from wavedask.io.hdf5.layout import Camera, Entry, address
from wavedask.io.hdf5.nexus import POSITION_NAMES


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """A scan of a file in words.

    Attributes
    ----------
    name : str
        What chooses it.
    title : str
        As the file has it; may be empty.
    cameras : dict of str to str
        Shape and type of the frames by the path that chooses them.
    moving : tuple of str
        Motors that were scanned.
    running : bool
        Whether it is still being written.
    missing : bool
        Whether it is kept in another file, which cannot be opened.
    obstacles : tuple of str
        What cannot be looked at, and why.
    images : dict of str to str
        Datasets that could be frames, where no layout says so: shape by the path for ``image=``.
    others : dict of str to str
        Datasets that could be positions, and that no layout takes, likewise.
    """

    name: str
    title: str
    cameras: dict[str, str]
    moving: tuple[str, ...]
    running: bool = False
    missing: bool = False
    obstacles: tuple[str, ...] = ()
    images: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def broken(self) -> str:
        """Why no camera can be opened, where something is in the way; else empty."""
        return "" if self.cameras or not self.obstacles else self.obstacles[0]


def list_scans(path: Path) -> list[ScanSummary]:
    """List the scans of a file, also those without images.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    list of ScanSummary
        In the order of the file.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    with opened(path) as file:
        entries, broken = entries_of(file, path)
        listed = [_summary(file, entry) for entry in entries]
        absent = [
            ScanSummary(name.strip("/"), "", {}, (), missing=True, obstacles=(str(error),))
            for name, error in broken.items()
        ]
        if not any(scan.cameras for scan in listed):
            rest = suggested(file, {})
            if not listed:
                listed = [ScanSummary("/", "", {}, (), images=rest)]
            elif not any(scan.images for scan in listed):
                listed[0] = replace(listed[0], images=rest)
        return listed + absent


def _summary(file: h5py.File, entry: Entry) -> ScanSummary:
    name = entry.name or "/"
    cameras = [camera for camera in entry.cameras() if _is_whole(entry, camera)]
    shapes = {camera.name: _shape(camera) for camera in cameras}
    others = {}
    moving: Sequence[str] = ()
    if cameras:
        # The positions of BLISS are known without reading all that was measured.
        columns = [] if isinstance(entry, BlissEntry) else entry.columns(cameras[0])[0]
        moving = entry.moving(columns)
        others = untaken(entry, cameras[0], {column.name for column in columns})
    obstacles = tuple(dict.fromkeys(map(str, entry.obstacles.values())))
    images = {} if cameras else suggested(file, shapes, entry)
    return ScanSummary(
        name,
        entry.title,
        shapes,
        tuple(moving),
        entry.running,
        obstacles=obstacles,
        images=images,
        others=others,
    )


def _is_whole(entry: Entry, camera: Camera) -> bool:
    """Whether all files and filters of a camera are there; the entry keeps what is not."""
    for name, dataset in camera.datasets.items():
        try:
            check_sources(dataset, entry.path)
        except FileError as error:
            entry.obstacles[f"/{name}"] = FileError(error.problem, error.remedy)
            return False
    return True


def untaken(entry: Entry, camera: Camera, names: Collection[str]) -> dict[str, str]:
    """Datasets with one number per frame that became no column, and their sizes."""
    frames = camera.frames
    if frames < 2 or isinstance(entry, BlissEntry):
        # BLISS keeps positions and counters at places that are known.
        return {}
    found = {}
    for full, item in all_datasets(entry.group, entry.inside).items():
        *_, group, name = ("", *full.strip("/").split("/"))
        known = name in names or (name in POSITION_NAMES and group in names)
        fits = is_numeric(item) and item.shape == (frames,)
        if fits and not known and address(item) not in entry.taken:
            found[f"/{entry.name}{full}" if entry.name else full] = f"{frames} values"
    return found


def suggested(
    file: h5py.File, known: Collection[str], entry: Entry | None = None
) -> dict[str, str]:
    """Datasets that could be frames by the path that opens them, and their shapes.

    Where a group holds many images of one shape, the path is one for all of them.
    """
    group = file if entry is None else entry.group
    start = "" if entry is None or not entry.name else f"/{entry.name}"
    found: dict[str, str] = {}
    single: dict[str, list[tuple[str, h5py.Dataset]]] = {}
    for full, item in all_datasets(group).items():
        place = f"{start}{full}"
        if not is_numeric(item) or item.ndim < 2 or 0 in item.shape or place.strip("/") in known:
            continue
        if item.ndim >= 3:
            found[place] = f"{' x '.join(map(str, item.shape))}, {item.dtype}"
        else:
            single.setdefault(place.rpartition("/")[0], []).append((place, item))
    for folder, images in single.items():
        (_, item), *others = images
        shape = " x ".join(map(str, item.shape))
        alike = [place for place, other in images if other.shape == item.shape]
        if others and len(alike) == len(images):
            found[f"{folder}/*"] = f"{len(images)} images of {shape}, {item.dtype}"
        else:
            found |= {
                place: f"one image of {' x '.join(map(str, other.shape))}, {other.dtype}"
                for place, other in images
            }
    return found


def _shape(camera: Camera) -> str:
    first = next(iter(camera.datasets.values()))
    rows, columns = camera.image_shape
    words = [f"{camera.frames} frames of {rows} x {columns} px", first.dtype.name]
    return ", ".join([*words, *filter(None, [_compression(first)])])


def _compression(dataset: h5py.Dataset) -> str:
    """Name the compression of a dataset; empty, if it has none or it is that of other files."""
    settings = dataset.id.get_create_plist()
    names = [settings.get_filter(place)[3].decode() for place in range(settings.get_nfilters())]
    # The filters of a facility describe themselves at length: "bitshuffle; see ...".
    return {"deflate": "gzip"}.get(names[-1], names[-1].split(";")[0]) if names else ""
