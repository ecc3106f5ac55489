"""Runs of the European XFEL, through the package extra_data: only imported when one is opened."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wavedask.conventions import HEADER, MOTOR, UNKNOWN_UNIT
from wavedask.errors import InputError
from wavedask.io.columns import Column
from wavedask.io.frames import Pixels, Stack, reading
from wavedask.io.hdf5.access import opened
from wavedask.io.motors import titled_column

PIXELS: Final = "data.image.pixels"
"""Key under which a camera keeps its frames."""
POSITION: Final = "actualPosition"
"""Key under which a motor keeps its position."""
TRAIN: Final = "trainId"
"""Header item: number of the pulse train."""
PLACE: Final = re.compile(r"(?P<source>[^\[\]]+)(?:\[(?P<key>[^\[\]]+)\])?")


class EuxfelStack(Stack):
    """Frames of a camera, one per train.

    Parameters
    ----------
    data : extra_data.KeyData
        The trains that have a frame.
    """

    def __init__(self, data: Any) -> None:
        super().__init__(data.shape, np.dtype(data.dtype))
        self._data = data

    @property
    def origins(self) -> list[tuple[Path, int]]:
        """File, and number among its frames of the camera, of each frame."""
        files = [(Path(file.filename), set(file.train_ids.tolist())) for file in self._data.files]
        counts = dict.fromkeys((path for path, _ in files), 0)
        found = []
        for train in self._data.train_id_coordinates().tolist():
            path = next(path for path, trains in files if train in trains)
            found.append((path, counts[path]))
            counts[path] += 1
        return found

    @property
    def datasets(self) -> list[str] | None:
        """Source and key of the camera, for each frame."""
        return [f"{self._data.source}[{self._data.key}]"] * self.shape[0]

    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""
        pixels = np.empty((len(frames), rows.stop - rows.start, cols.stop - cols.start), self.dtype)
        runs = np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) != 1) + 1)
        for run in runs:
            if run.size:
                trains = slice(int(frames[run[0]]), int(frames[run[-1]]) + 1)
                with reading(self._data.files[0].filename):
                    pixels[run] = self._data[trains].ndarray(roi=(rows, cols))
        return pixels


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
        ``"SOURCE"``, or ``"SOURCE[key]"`` where the key is not ``data.image.pixels``. By default
        the only camera.
    motors : mapping of str to str
        ``"SOURCE[key]"`` of a slow value by name; by default the ``actualPosition`` of every
        motor. A train without one has the position NaN.

    Returns
    -------
    stack : EuxfelStack
        Frames of the trains that have one.
    columns : list of Column
        Motors, and the number of the train.
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
    source, key = _camera(run, image, files[0])
    data = run[source, key].drop_empty_trains()
    if data.ndim != 3 or not data.shape[0] or (data.data_counts(labelled=False) != 1).any():
        raise InputError(
            f"{files[0].parent}: image='{source}[{key}]' is of shape {data.shape}",
            "A camera has one frame of rows and columns per train; of a detector of modules or"
            " pulses make frames with extra_data first.",
        )
    trains = data.train_id_coordinates()
    columns = [Column(TRAIN, HEADER, trains.astype(np.float64))]
    places = dict(motors) or {
        name: f"{name}[{POSITION}]"
        for name in sorted(run.control_sources)
        if POSITION in run[name].keys(inc_timestamps=False)
    }
    columns += [_motor(run, title, place, trains, files[0]) for title, place in places.items()]
    return EuxfelStack(data), columns, {"camera": f"{source}[{key}]"}


def _camera(run: Any, image: str | None, path: Path) -> tuple[str, str]:
    if image is not None:
        return _place(run, image, PIXELS, path, "image")
    sources = sorted(run.instrument_sources)
    found = [name for name in sources if PIXELS in run[name]]
    if len(found) != 1:
        raise InputError(
            f"{path.parent} has {len(found)} cameras",
            f"Choose with image='SOURCE[key]', among: {', '.join(found or sources)}.",
        )
    return found[0], PIXELS


def _place(run: Any, place: str, key: str, path: Path, argument: str) -> tuple[str, str]:
    """Source and key that a text means."""
    match = PLACE.fullmatch(place)
    source = match["source"] if match else place
    if source not in run.all_sources:
        raise InputError(
            f"{path.parent}: {argument}={place!r} names no source of the run",
            f"Write 'SOURCE[key]'; it has {', '.join(sorted(run.all_sources))}.",
        )
    key = (match["key"] if match else None) or key
    keys = run[source].keys(inc_timestamps=False)
    if key not in keys and f"{key}.value" not in keys:
        raise InputError(
            f"{path.parent}: {argument}={place!r}: the source has no key {key!r}",
            f"It has {', '.join(sorted(keys))}.",
        )
    return source, key


def _motor(run: Any, title: str, place: str, trains: npt.NDArray[Any], path: Path) -> Column:
    """Positions of a motor at some trains."""
    source, key = _place(run, place, POSITION, path, f"motors[{title!r}]")
    data = run[source, key]
    if len(data.entry_shape):
        raise InputError(
            f"{path.parent}: motors[{title!r}]={place!r} has {data.entry_shape} values per train",
            "A position is one number.",
        )
    values = data.series().reindex(trains).to_numpy(np.float64)
    column = titled_column(title, values)
    if column.units == UNKNOWN_UNIT and data.units:
        column = Column(column.name, MOTOR, values, data.units)
    return column
