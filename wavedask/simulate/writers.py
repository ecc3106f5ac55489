"""Frames with motors on disk, as beamlines write them: EDF, TIFF with a CSV file, BLISS HDF5."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import fabio.edfimage
import h5py
import hdf5plugin
import numpy as np
import tifffile
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import UNITS
from wavedask.errors import FileError, InputError
from wavedask.io import open_scan

FileFormat = Literal["edf", "tiff", "hdf5"]
SUFFIXES: Final = {"edf": "edf", "tiff": "tiff", "hdf5": "h5"}
CAMERA_DATASET: Final = "data"
"""Name of the dataset that holds the frames of a camera in a BLISS file."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """A frame with its motor positions and counter readings.

    Attributes
    ----------
    image : ndarray of uint16, shape (y, x)
        Counts.
    motors : mapping of str to float
        Positions; lengths in mm, energies in keV.
    counters : mapping of str to float
        Readings of the counters.
    """

    image: NDArray[np.uint16]
    motors: Mapping[str, float]
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recording:
    """A scan on disk, with the arguments that `open_scan` needs to open it.

    Attributes
    ----------
    source : str
        A file, or a glob of files.
    motors : pathlib.Path or None
        CSV file with the motors, if the format has no header.
    scan : str or None
        Name of the scan, if a file holds several.
    """

    source: str
    motors: Path | None = None
    scan: str | None = None

    def open(self, **options: Any) -> xr.Dataset:
        """Open the scan; the options are those of `open_scan`."""
        return open_scan(self.source, motors=self.motors, scan=self.scan, **options)


class FrameWriter:
    """Write scans of one detector to a folder.

    EDF: one file per frame, with SPEC motors in its header. TIFF: one multi-page file per scan and
    a CSV file with its motors. HDF5: one file in the layout of BLISS (ESRF), with the scans
    ``1.1``, ``2.1`` and so on.

    Parameters
    ----------
    folder : path
        Folder to write to; it is created.
    file_format : "edf", "tiff" or "hdf5"
        Format of the files.
    prefix : str, default ""
        Start of all file names.
    detector : str, default "pco"
        Name of the camera in HDF5 files.

    Raises
    ------
    InputError
        An unknown format.
    FileError
        The folder already holds files with this format and prefix.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        file_format: FileFormat,
        prefix: str = "",
        detector: str = "pco",
    ) -> None:
        if file_format not in SUFFIXES:
            raise InputError(
                f"file_format is {file_format!r}", f"Choose one of: {', '.join(SUFFIXES)}."
            )
        self._folder = Path(folder).resolve()
        self._format = file_format
        self._prefix = prefix
        self._detector = detector
        self._scans = 0
        self._folder.mkdir(parents=True, exist_ok=True)
        pattern = f"{prefix}*.{SUFFIXES[file_format]}"
        present = sorted(path.name for path in self._folder.glob(pattern))
        if present:
            raise FileError(
                f"{self._folder} already holds {len(present)} such files: {present[0]}, ...",
                "Choose an empty folder.",
            )

    def write(self, name: str, exposures: Iterable[Exposure]) -> Recording:
        """Write a scan frame by frame, with one frame in memory at a time.

        Parameters
        ----------
        name : str
            Name of the scan; the file names contain it.
        exposures : iterable of Exposure
            One or more, all with the same motors and counters.

        Returns
        -------
        Recording

        Raises
        ------
        InputError
            No exposures.
        """
        frames = iter(exposures)
        first = next(frames, None)
        if first is None:
            raise InputError(f"the scan {name!r} has no frames", "Give one or more.")
        self._scans += 1
        whole = chain([first], frames)
        if self._format == "edf":
            return self._write_edf(name, whole)
        if self._format == "tiff":
            return self._write_tiff(name, whole)
        return self._write_hdf5(name, whole)

    def _write_edf(self, name: str, exposures: Iterable[Exposure]) -> Recording:
        stem = f"{self._prefix}{name}"
        for number, exposure in enumerate(exposures):
            header = {
                "title": "wavedask simulated campaign",
                "prefix": f"{stem}_",
                "suffix": ".edf",
                "run": "0",
                "point_no": str(number),
                "count_time": "1",
            }
            for kind, table in (("motor", exposure.motors), ("counter", exposure.counters)):
                if table:
                    header[f"{kind}_mne"] = " ".join(table)
                    header[f"{kind}_pos"] = " ".join(f"{value:.9g}" for value in table.values())
            edf = fabio.edfimage.EdfImage(data=exposure.image, header=header)
            edf.write(str(self._folder / f"{stem}_{number:04d}.edf"))
        return Recording(str(self._folder / f"{stem}_*.edf"))

    def _write_tiff(self, name: str, exposures: Iterable[Exposure]) -> Recording:
        stem = f"{self._prefix}{name}"
        path, sidecar = self._folder / f"{stem}_0000.tiff", self._folder / f"{stem}_motors.csv"
        with tifffile.TiffWriter(path) as tiff, sidecar.open("w", newline="") as file:
            table = csv.writer(file)
            for number, exposure in enumerate(exposures):
                tiff.write(exposure.image, photometric="minisblack", contiguous=True)
                if not number:
                    table.writerow(f"{motor} [{unit_of(motor)}]" for motor in exposure.motors)
                table.writerow(exposure.motors.values())
        return Recording(str(path), motors=sidecar)

    def _write_hdf5(self, name: str, exposures: Iterable[Exposure]) -> Recording:
        path = self._folder / f"{self._prefix or 'campaign'}.h5".replace("_.", ".")
        scan = f"{self._scans}.1"
        with h5py.File(path, "a") as file:
            entry = _group(file, scan, "NXentry")
            entry["title"] = name
            detector = _group(entry, f"instrument/{self._detector}", "NXdetector")
            motors: dict[str, list[float]] = {}
            counters: dict[str, list[float]] = {}
            frames: Any = None
            for exposure in exposures:
                if frames is None:
                    frames = detector.create_dataset(
                        CAMERA_DATASET,
                        shape=(0, *exposure.image.shape),
                        maxshape=(None, *exposure.image.shape),
                        chunks=(1, *exposure.image.shape),
                        dtype=exposure.image.dtype,
                        **hdf5plugin.Bitshuffle(),
                    )
                frames.resize(frames.shape[0] + 1, axis=0)
                frames[-1] = exposure.image
                for columns, table in ((motors, exposure.motors), (counters, exposure.counters)):
                    for key, value in table.items():
                        columns.setdefault(key, []).append(value)
            self._write_columns(entry, motors, counters)
        return Recording(str(path), scan=scan)

    def _write_columns(
        self,
        entry: h5py.Group,
        motors: Mapping[str, list[float]],
        counters: Mapping[str, list[float]],
    ) -> None:
        """Write motors as BLISS does: one that moved is an array, also in ``measurement``."""
        positioners = _group(entry, "instrument/positioners", "NXcollection")
        start = _group(entry, "instrument/positioners_start", "NXcollection")
        measurement = _group(entry, "measurement", "NXcollection")
        measurement[self._detector] = h5py.SoftLink(
            f"{entry.name}/instrument/{self._detector}/{CAMERA_DATASET}"
        )
        for name, values in motors.items():
            moved = len(set(values)) > 1
            start[name] = values[0]
            positioners[name] = values if moved else values[0]
            groups = (positioners, start, measurement) if moved else (positioners, start)
            if moved:
                measurement[name] = values
            for group in groups:
                group[name].attrs[UNITS] = unit_of(name)
        for name, values in counters.items():
            measurement[name] = values


def unit_of(motor: str) -> str:
    """Return the unit of the position of a motor in the files."""
    return "keV" if motor == "energy" else "mm"


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.require_group(name)
    group.attrs["NX_class"] = kind
    return group
