"""Runs of the European XFEL, through the package extra_data: only imported when one is opened."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from wavedask.conventions import HEADER, MOTOR, UNKNOWN_UNIT
from wavedask.errors import CorruptFileError, FileError, InputError
from wavedask.io.columns import Column
from wavedask.io.files import natural_key
from wavedask.io.frames import Pixels, Stack, reading
from wavedask.io.hdf5.access import is_numeric, opened, values_of
from wavedask.io.hdf5.stack import LARGEST_BLOCK, Hdf5Stack
from wavedask.io.joining import JoinedStack
from wavedask.io.motors import titled_column

PIXELS: Final = ("data.image.pixels", "image.data", "data.adc")
"""Keys under which detectors keep their frames: cameras; AGIPD, LPD and DSSC; JUNGFRAU."""
POSITION: Final = "actualPosition"
"""Key under which a motor keeps its position."""
TRAIN: Final = "trainId"
"""Header item: number of the pulse train."""
PULSE: Final = "pulseIndex"
"""Header item: number of the frame within its train, from zero."""
PULSE_IDS: Final = ("pulseId", "cellId", "memoryCell")
"""Header items of detectors with several frames per train, which stand beside the frames."""
PLANES: Final = ":xtdf"
"""How sources end that store raw frames in planes: the first is the intensity, others the gain."""
COLOURS: Final = frozenset({3, 4})
"""Sizes of a last axis that is colours, not columns."""
PLACE: Final = re.compile(r"(?P<source>[^\[\]]+)(?:\[(?P<key>[^\[\]]+)\])?")


Labels: TypeAlias = dict[str, npt.NDArray[Any]]
"""One number per frame by name."""


class TrainStack(Stack):
    """Frames that one file of a run has of some trains.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    dataset : h5py.Dataset
        Its frames, of the shape (entry, ..., rows, columns).
    entries : numpy.ndarray
        Entries of the dataset that belong to the trains, in order.
    planes : int, default 1
        Planes per frame, of which the first is read.
    """

    def __init__(
        self,
        path: Path,
        dataset: h5py.Dataset,
        entries: npt.NDArray[np.intp],
        *,
        planes: int = 1,
    ) -> None:
        self._path = path
        self._name = str(dataset.name)
        self._stored = Hdf5Stack(path, {dataset.name: dataset})
        per_entry = self._stored.shape[0] // dataset.shape[0]
        # A frame of several planes counts as several where it is stored.
        self._numbers = np.add.outer(entries * per_entry, np.arange(0, per_entry, planes)).ravel()
        self._planes = planes
        super().__init__((len(self._numbers), *self._stored.shape[1:]), self._stored.dtype)

    @property
    def origins(self) -> list[tuple[str, int]]:
        """Path of the file, and number among its frames of the camera, of each frame."""
        path = str(self._path)
        return [(path, number) for number in (self._numbers // self._planes).tolist()]

    @property
    def datasets(self) -> list[str] | None:
        """Path of the dataset of each frame in the file."""
        return [self._name] * self.shape[0]

    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""
        return self._stored.read(self._numbers[frames], rows, cols)


def is_run_file(path: Path) -> bool:
    """Whether a file is a part of a run of the European XFEL."""
    with opened(path) as file:
        return "METADATA" in file and f"INDEX/{TRAIN}" in file


def read_run(
    files: Sequence[Path], *, image: str | None, motors: Mapping[str, str]
) -> tuple[Stack, list[Column], dict[str, str]]:
    """Find the camera of a run, and the motors at its trains.

    Parameters
    ----------
    files : sequence of pathlib.Path
        Files of the run.
    image : str or None
        ``"SOURCE"``, or ``"SOURCE[key]"`` where the key is none of `PIXELS`. By default the only
        camera; a module of a detector counts as one.
    motors : mapping of str to str
        ``"SOURCE[key]"`` of a slow value by name; by default the ``actualPosition`` of every
        motor. A train without one has the position NaN.

    Returns
    -------
    stack : JoinedStack
        Frames of the trains that have some: all pulses of a train, then those of the next. Of raw
        frames that AGIPD, LPD and DSSC keep in planes, the intensity.
    columns : list of Column
        Motors at the train of each frame, and the number of the train. Where a train has several
        frames also the number of each within it, and the pulses and memory cells that the detector
        names.
    constants : dict of str to str
        The camera.

    Raises
    ------
    InputError
        If extra_data is not installed, or the camera or a motor is not there or not unique.
    FileError
        If a file cannot be read.
    """
    try:
        import extra_data
    except ImportError as error:
        raise InputError(
            f"{files[0]} belongs to a run of the European XFEL, which needs the package extra_data",
            "Install it: pip install 'wavedask[euxfel]'.",
        ) from error
    with reading(files[0]):
        run = extra_data.DataCollection.from_paths([str(path) for path in files])
    _check_complete(run, files)
    source, key = _camera(run, image, files[0])
    stack, labels = _frames(run, source, key, files[0])
    columns = [Column(name, HEADER, values.astype(np.float64)) for name, values in labels.items()]
    places = dict(motors) or {
        name: f"{name}[{POSITION}]"
        for name in sorted(run.control_sources)
        if POSITION in run[name].keys(inc_timestamps=False)
    }
    columns += [
        _motor(run, title, place, labels[TRAIN], files[0]) for title, place in places.items()
    ]
    return stack, columns, {"camera": f"{source}[{key}]"}


def _check_complete(run: Any, files: Sequence[Path]) -> None:
    """Refuse files that extra_data has left out of a run, with no more than a printed line."""
    taken = {Path(file.filename).resolve() for file in run.files}
    for path in files:
        if path.resolve() not in taken:
            # One that is damaged says so itself.
            with opened(path):
                raise FileError(
                    f"{path} cannot be read as a file of a run of the European XFEL",
                    "Leave it out, or copy it again from its source.",
                )


def _frames(run: Any, source: str, key: str, path: Path) -> tuple[Stack, Labels]:
    """Frames of a camera in all files of the run, and which trains and pulses they are."""
    data = run[source, key].drop_empty_trains()
    shape = data.entry_shape
    coloured = len(shape) > 2 and shape[-1] in COLOURS
    if len(shape) < 2 or not data.shape[0] or coloured:
        raise InputError(
            f"{path.parent}: image='{source}[{key}]' has {data.shape[0]} entries of shape {shape}",
            "Frames are entries of rows and columns, without colours.",
        )
    pieces = [piece for file in data.files if (piece := _piece(data, file)) is not None]
    pieces.sort(key=lambda piece: piece[1][TRAIN][0])
    tables = [labels for _, labels in pieces]
    names = [name for name in tables[0] if all(name in labels for labels in tables)]
    joined = {name: np.concatenate([labels[name] for labels in tables]) for name in names}
    return JoinedStack([stack for stack, _ in pieces]), joined


def _piece(data: Any, file: Any) -> tuple[TrainStack, Labels] | None:
    """Frames that one file has of the trains, and which trains and pulses they are."""
    index = file.get_index(data.source, data.index_group)
    wanted = np.isin(file.train_ids, data.train_ids)
    trains, firsts, counts = (
        values[wanted].astype(np.int64) for values in (file.train_ids, *index)
    )
    if not counts.sum():
        return None
    # Entries of a train stand one behind the other, from its first one.
    entries = np.repeat(firsts, counts) + _numbered(counts)
    path = Path(file.filename)
    with opened(path) as content:
        dataset = content[data.hdf5_data_path]
        if entries.max() >= dataset.shape[0]:
            raise CorruptFileError(
                f"{path}: its index names {entries.max() + 1} entries of {data.source}, but there"
                f" are {dataset.shape[0]}",
                "Copy it again from its source.",
            )
        raw = data.source.endswith(PLANES) and len(data.entry_shape) == 3
        stack = TrainStack(path, dataset, entries, planes=data.entry_shape[0] if raw else 1)
        per_entry = stack.shape[0] // len(entries)
        per_train = counts * per_entry
        labels = {TRAIN: np.repeat(trains, per_train)}
        # Of all trains of the run, so that all its files are labelled alike.
        if per_entry > 1 or data.data_counts(labelled=False).max() > 1:
            stack.frames_per_block = _train_blocks(per_train, stack)
            labels[PULSE] = _numbered(per_train)
            labels |= _identifiers(dataset.parent, entries, per_entry)
    return stack, labels


def _numbered(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count from zero within each of several groups, by how many each has."""
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return np.arange(counts.sum()) - starts


def _train_blocks(per_train: npt.NDArray[np.int64], stack: Stack) -> tuple[int, ...]:
    """Frames of each block: a train, or as much of it as fits into a block of sensible size."""
    frame = math.prod(stack.shape[1:]) * stack.dtype.itemsize
    most = max(1, LARGEST_BLOCK // frame)
    blocks = []
    for frames in per_train[per_train > 0].tolist():
        full, rest = divmod(frames, most)
        blocks += [most] * full + [rest] * (rest > 0)
    return tuple(blocks)


def _identifiers(group: h5py.Group, entries: npt.NDArray[np.int64], per_entry: int) -> Labels:
    """Numbers of the pulses and memory cells, as far as they stand beside the frames."""
    found = {}
    for name in PULSE_IDS:
        item = group.get(name)
        if is_numeric(item) and item.shape[0] > entries.max():
            values = values_of(item).reshape(item.shape[0], -1)[entries]
            if values.shape[1] in (1, per_entry):
                found[name] = np.broadcast_to(values, (len(entries), per_entry)).ravel()
    return found


def _camera(run: Any, image: str | None, path: Path) -> tuple[str, str]:
    if image is not None:
        return _place(run, image, PIXELS, path, "image")
    sources = sorted(run.instrument_sources, key=lambda name: natural_key(Path(name)))
    found = {name: key for name in sources for key in reversed(PIXELS) if key in run[name]}
    if len(found) != 1:
        modules = " Of a detector of several modules choose one: each is a scan of its own."
        raise InputError(
            f"{path.parent} has {len(found)} cameras",
            f"Choose with image='SOURCE[key]', among: {', '.join(found or sources)}."
            + (modules if found else ""),
        )
    return next(iter(found.items()))


def _place(
    run: Any, place: str, usual: Sequence[str], path: Path, argument: str
) -> tuple[str, str]:
    """Source and key that a text means; without a key the first of the usual ones."""
    match = PLACE.fullmatch(place)
    source = match["source"] if match else place
    if source not in run.all_sources:
        raise InputError(
            f"{path.parent}: {argument}={place!r} names no source of the run",
            f"Write 'SOURCE[key]'; it has {', '.join(sorted(run.all_sources))}.",
        )
    keys = run[source].keys(inc_timestamps=False)
    known = [key for key in usual if key in keys or f"{key}.value" in keys]
    key = (match["key"] if match else None) or (known or usual)[0]
    if key not in keys and f"{key}.value" not in keys:
        raise InputError(
            f"{path.parent}: {argument}={place!r}: the source has no key {key!r}",
            f"It has {', '.join(sorted(keys))}.",
        )
    return source, key


def _motor(run: Any, title: str, place: str, trains: npt.NDArray[Any], path: Path) -> Column:
    """Positions of a motor at some trains."""
    source, key = _place(run, place, (POSITION,), path, f"motors[{title!r}]")
    data = run[source, key]
    if len(data.entry_shape):
        raise InputError(
            f"{path.parent}: motors[{title!r}]={place!r} has {data.entry_shape} values per train",
            "A position is one number.",
        )
    if (data.data_counts(labelled=False) > 1).any():
        raise InputError(
            f"{path.parent}: motors[{title!r}]={place!r} has several values per train",
            "Give a slow value, which has one.",
        )
    values = data.series().reindex(trains).to_numpy(np.float64)
    column = titled_column(title, values)
    if column.units == UNKNOWN_UNIT and data.units:
        column = Column(column.name, MOTOR, values, data.units)
    return column
