"""What an HDF5 file states about the detector and the photons of a scan."""

from collections.abc import Iterator
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import UNITS
from wavedask.errors import FileError
from wavedask.io.columns import Column
from wavedask.io.facts import (
    DECTRIS,
    METRES,
    Facts,
    dectris_codes,
    distance_column,
    energy_column,
    time_column,
)
from wavedask.io.hdf5.access import check_sources, class_of, is_numeric, text_of
from wavedask.io.hdf5.layout import Camera, Entry, per_frame
from wavedask.io.hdf5.links import members

MASKS: Final = ("pixel_mask", "bad_pixel", "bad_pixels")
"""Names of a map that is not zero where a pixel is bad."""
SPECIFIC: Final = "detectorSpecific"
"""Group of DECTRIS with the settings of the detector."""
EXPOSURES: Final = ("count_time", "exposure_time", "acq_parameters/acq_expo_time")
"""Where a detector keeps its exposure time; in s, if no unit is given."""
ENERGIES: Final = (
    ("NXmonochromator", "energy", "eV"),
    ("NXbeam", "incident_energy", "eV"),
    ("NXmonochromator", "wavelength", "angstrom"),
    ("NXbeam", "incident_wavelength", "angstrom"),
    ("NXinstrument", "beam/incident_energy", "eV"),
    ("NXinstrument", "beam/incident_wavelength", "angstrom"),
)
"""Class, name and unit that is usual: where the photon energy of a beamline is found."""


def facts_of(entry: Entry, camera: Camera) -> tuple[Facts, list[Column]]:
    """Find what a file states about the frames of a camera.

    Parameters
    ----------
    entry : Entry
        The scan.
    camera : Camera
        Its camera.

    Returns
    -------
    facts : Facts
        Mask, codes, range of counts, pixel size.
    columns : list of Column
        Photon energy (keV), exposure time (s) and distance of the detector (m), as far as the
        file states them with a unit, or at a place where the format sets one.
    """
    groups = list(_detector_groups(entry, camera))
    mask, codes = _mask(entry, camera, groups)
    codes += _codes(entry, camera, groups)
    facts = Facts(
        tuple(dict.fromkeys(codes)),
        _number(entry, groups, "saturation_value"),
        _number(entry, groups, "underload_value"),
        _pixel_size(entry, groups),
        None,
        mask,
    )
    columns = [
        _fact(entry, camera, groups, EXPOSURES, "s", time_column),
        _fact(entry, camera, groups, ("distance", "detector_distance"), "m", distance_column),
        _energy(entry, camera, groups),
    ]
    return facts, [column for column in columns if column is not None]


def _detector_groups(entry: Entry, camera: Camera) -> Iterator[h5py.Group]:
    """Yield what describes the detector: the group of the frames, or the only NXdetector."""
    first = next(iter(camera.datasets.values()))
    seen = []
    beside = first.parent
    if class_of(beside) != "NXdata":
        seen.append(beside)
    detectors = [
        group
        for _, group in members(entry.get("instrument"))
        if class_of(group) == "NXdetector" or SPECIFIC in (group if _is_group(group) else ())
    ]
    if len(detectors) == 1:
        seen.append(detectors[0])
    measured = entry.group.file.get("measurement/instrument/detector")
    if camera.name == "exchange" and _is_group(measured):
        seen.append(measured)
    for group in list(seen):
        inside = entry.get(SPECIFIC, group)
        if _is_group(inside):
            seen.append(inside)
    yield from seen


def _is_group(item: Any) -> bool:
    return isinstance(item, h5py.Group)


def _mask(entry: Entry, camera: Camera, groups: list[h5py.Group]) -> tuple[Any, list[float]]:
    """Bad pixels of all masks that fit the frames, and codes that stand under such a name."""
    found = None
    codes = []
    for group in groups:
        for name in MASKS:
            item = entry.get(name, group)
            if not is_numeric(item):
                continue
            if item.size == 1:
                codes.append(float(np.ravel(item[()])[0]))
                continue
            shape = tuple(size for size in item.shape if size != 1) or item.shape
            if shape != camera.image_shape and item.shape != camera.image_shape:
                entry.obstacles[str(item.name)] = FileError(
                    f"{entry.path}: the mask {item.name} is of shape {item.shape}, but frames of"
                    f" {camera.image_shape}",
                    "Give a mask of that shape to correct().",
                )
                continue
            try:
                check_sources(item, entry.path)
            except FileError as error:
                entry.obstacles[str(item.name)] = error
                continue
            bad = (item[()] != 0).reshape(camera.image_shape)
            found = bad if found is None else found | bad
    return found, codes


def _codes(entry: Entry, camera: Camera, groups: list[h5py.Group]) -> list[float]:
    """Values that a DECTRIS detector writes where a pixel has no count."""
    words = [
        text_of(item).lower()
        for group in groups
        for name in ("description", "model", "type", "local_name")
        if isinstance(item := entry.get(name, group), h5py.Dataset) and item.dtype.kind in "OS"
    ]
    is_dectris = any(SPECIFIC in group for group in groups) or any(
        maker in word for word in words for maker in DECTRIS
    )
    kind = next(iter(camera.datasets.values())).dtype
    return dectris_codes(kind) if is_dectris else []


def _number(entry: Entry, groups: list[h5py.Group], name: str) -> float | None:
    for group in groups:
        item = entry.get(name, group)
        if is_numeric(item) and item.size == 1 and np.isfinite(np.ravel(item[()])[0]):
            return float(np.ravel(item[()])[0])
    return None


def _pixel_size(entry: Entry, groups: list[h5py.Group]) -> tuple[float, float] | None:
    """Size of a pixel along y and x in m, where both are stated."""
    if _number(entry, groups, "magnification") not in (None, 1.0):
        # The size on the sensor says nothing of that in the beam.
        return None
    for names in (("y_pixel_size", "x_pixel_size"), ("pixel_size_y", "pixel_size_x")):
        sizes = []
        for name in names:
            for group in groups:
                item = entry.get(name, group)
                if is_numeric(item) and item.size == 1:
                    unit = text_of(item.attrs.get(UNITS)).strip().lower() or "m"
                    size = float(np.ravel(item[()])[0]) * METRES.get(unit, np.nan)
                    if np.isfinite(size) and size > 0:
                        sizes.append(size)
                        break
        # In BLISS, a size in micrometres often comes without its unit.
        if len(sizes) == 2 and all(1e-9 < size < 1e-3 for size in sizes):
            return sizes[0], sizes[1]
    return None


def _fact(
    entry: Entry,
    camera: Camera,
    groups: list[h5py.Group],
    names: tuple[str, ...],
    usual: str,
    convert: Any,
) -> Column | None:
    """Read one fact under one of several names, as a number or one per frame."""
    for group in groups:
        for name in names:
            item = entry.get(name, group)
            if is_numeric(item) and item.size in (1, camera.frames):
                values = per_frame(np.asarray(item[()], np.float64), camera.lead)
                unit = text_of(item.attrs.get(UNITS)) or usual
                if values is not None:
                    values = values.reshape(()) if values.size == 1 else values
                    column: Column | None = convert(values, unit)
                    if column is not None:
                        return column
    return None


def _energy(entry: Entry, camera: Camera, groups: list[h5py.Group]) -> Column | None:
    """Photon energy of the beamline, else the one that the detector was set to."""
    for kind, name, usual in ENERGIES:
        for _, group in entry.groups:
            if class_of(group) == kind:
                found = _fact(entry, camera, [group], (name,), usual, energy_column)
                if found is not None:
                    return found
    measured = entry.group.file.get("measurement/instrument/monochromator")
    if camera.name == "exchange" and _is_group(measured):
        found = _fact(entry, camera, [measured], ("energy",), "keV", energy_column)
        if found is not None:
            return found
    return _fact(entry, camera, groups, ("photon_energy",), "eV", energy_column)
