"""A commented experiment file from the files of a folder."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import xarray as xr
import yaml

from wavedask.conventions import (
    FRAME,
    MOTOR,
    PHOTON_ENERGY,
    ROLE,
    UNITS,
    UNKNOWN_UNIT,
    WAVEFRONT,
    X,
    Y,
)
from wavedask.errors import FileError, WavedaskError
from wavedask.experiment.guess import Group, calibration_in, groups_in, hdf5_without_camera
from wavedask.experiment.naming import naming
from wavedask.facts import agreed_energy, agreed_number, agreed_pixels
from wavedask.io import open_scan
from wavedask.tables import Rows
from wavedask.units import DISTANCE

SCHEMA: Final = Path(__file__).with_name("schema.json")
"""JSON schema of the experiment file, for editors."""
FILL_IN: Final = "FILL IN"
MEANINGS: Final = {
    "sample": "Frames with the optic.",
    "reference": "Frames without the optic, with the membrane.",
    "dark": "Frames without beam.",
    "flat": "Frames without optic and membrane.",
}
"""Meaning of each role, in the order of the file."""
OPTIONAL: Final = ("dark", "flat")
FITTED: Final = (
    "# What is fitted to each wavefront. Remove the # of what you need:",
    "# pupil: auto  # where the optic is; or {circle: [centre_y, centre_x, radius]} in m",
    "# lens: {material: Be, lenses: 1}  # radius, figure error",
    "# modes: {basis: zernike, order: 4}  # aberrations",
    "# mirror: {axis: x, theta: 3.0e-3, p: 40.0}  # rad, m: slope and height error",
    "# focus: {}  # place and size of the focus",
)
"""Sections of the optic, as comments."""
IMAGE_KEY: Final = "image_key"
"""Coordinate of NXtomo and Data Exchange files with the role of each frame."""
KEYS: Final = {"sample": 0, "flat": 1, "dark": 2}
"""Image key of each role."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted experiment file.

    Attributes
    ----------
    text : str
        Content of the file.
    rows : list of (str, str)
        The guesses, as rows of a table.
    missing : tuple of str
        Keys that the user must fill in.
    """

    text: str
    rows: Rows
    missing: tuple[str, ...]


def draft_experiment(
    folder: str | Path,
    *,
    beside: str | Path | None = None,
    distance: float | None = None,
    pixel_size: float | None = None,
    energy: float | None = None,
) -> Draft:
    """Draft an experiment file from the files of a folder; nothing is written.

    Parameters
    ----------
    folder : path
        Folder with raw frames. Roles are guessed from the names of files, folders and scans.
    beside : path, optional
        Folder of the experiment file, where its relative paths start; by default `folder`.
    distance : float, optional
        Distance from optic to detector, m.
    pixel_size : float, optional
        Pixel size, m.
    energy : float, optional
        Photon energy, keV; by default from the files, if they hold it.

    Returns
    -------
    Draft

    Raises
    ------
    FileError
        No such folder, or a folder without frames.
    InputError
        A distance, a pixel size or an energy that cannot be.

    Examples
    --------
    >>> import tempfile
    >>> from wavedask.simulate import Lens, write_campaign
    >>> with tempfile.TemporaryDirectory() as home:
    ...     _ = write_campaign(f"{home}/raw", lens=Lens(50e-6, 1.2e-6), shape=(32, 32))
    ...     draft = draft_experiment(home, distance=1.0)
    >>> draft.missing
    ('wavefront.pixel_size',)
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileError(f"{place} is not a folder", "Give the folder that holds the raw frames.")
    groups = groups_in(place)
    unknown = hdf5_without_camera(place) if not groups else []
    if unknown:
        raise FileError(
            f"{place} holds no frames at a place that is known; it has {unknown[0]}"
            + (f" and {len(unknown) - 1} more HDF5 files" if unknown[1:] else ""),
            f"'wavedask info {shlex.quote(str(place / unknown[0]))}' lists what could be frames. "
            "Write the experiment file yourself: sample: {files: ..., image: /path/of/frames}.",
        )
    if not groups:
        raise FileError(f"{place} holds no frames", "Give the folder that holds the raw frames.")
    start = place if beside is None else Path(beside)
    chosen = {role: _largest(groups, role) for role in MEANINGS}
    used = [chosen["sample"]]
    scan = _opened(place, chosen["sample"])
    parts, rows = [_head()], []
    missing = [role for role, group in chosen.items() if group is None and role not in OPTIONAL]
    keyed = _keyed(scan)
    if keyed and chosen["sample"] is not None:
        parts.append(_one_scan(chosen["sample"], keyed, place, start))
        rows += [(role, f"frames with {IMAGE_KEY} {key}") for role, key in keyed.items()]
        chosen = {role: group for role, group in chosen.items() if role not in keyed}
    for role, group in chosen.items():
        parts.append(_section(role, group, place, start, scan if role == "sample" else None))
        found = "not found" if group is None else f"{group.label}, {_files(group)}: {group.why}"
        rows.append((role, found))
        used.append(group)
    calibration = calibration_in(place)
    if calibration is not None:
        path = _relative(calibration, place, start)
        parts.append(f"# Calibration of the detector.\ndistortion: {_scalar(path)}\n")
        rows.append(("distortion", calibration))
    setup = {"distance": distance, "pixel_size": pixel_size, "energy": energy}
    with naming(WAVEFRONT.name):
        # What is only unusual is told by the run, whose file can confirm it.
        agreed_number(DISTANCE, distance, sure=(*setup,))
        agreed_pixels(pixel_size, sure=(*setup,))
        agreed_energy(energy, None, sure=(*setup,))
    if energy is None:
        setup["energy"] = _energy(scan)
    parts.append(_settings(setup))
    missing += [f"wavefront.{key}" for key in ("distance", "pixel_size") if setup[key] is None]
    left = [group for group in groups if group not in used]
    if left:
        lines = [f"#   {group.label}: {_reason(group)}" for group in left]
        parts.append("\n".join(["# Not used:", *lines]) + "\n")
        rows += [("not used", f"{group.label}: {_reason(group)}") for group in left]
    return Draft("\n".join(parts), rows, tuple(missing))


def _largest(groups: list[Group], role: str) -> Group | None:
    """Group of a role with the most files; the first of equals."""
    return max((g for g in groups if g.role == role), key=lambda g: g.count, default=None)


def _files(group: Group) -> str:
    return "1 file" if group.count == 1 else f"{group.count} files"


def _reason(group: Group) -> str:
    return f"there are other {group.role} frames" if group.role else group.why


def _opened(folder: Path, group: Group | None) -> xr.Dataset | None:
    """Open the sample to learn its motors; None if it cannot be opened."""
    if group is None:
        return None
    try:
        return open_scan(folder / group.files, scan=group.scan or None)
    except WavedaskError:
        # wavedask info and wavedask run give the reason in full.
        return None


def _head() -> str:
    return (
        f"# yaml-language-server: $schema={SCHEMA.as_uri()}\n"
        "# Experiment file, drafted by 'wavedask init'. Check every guess, and complete every\n"
        f"# line marked {FILL_IN}. Then: wavedask run --plan experiment.yaml\n"
        "# Lengths are in m, energies in keV, windows and displacements in px.\n"
    )


def _section(
    role: str, group: Group | None, folder: Path, start: Path, scan: xr.Dataset | None
) -> str:
    """Write the section of a role, with the guess as a comment."""
    if group is None:
        comment = "None were found." if role in OPTIONAL else f"{FILL_IN}: none were found."
        mark = "# " if role in OPTIONAL else ""
        return f"# {MEANINGS[role]} {comment}\n{mark}{role}:\n"
    lines = [f"# {MEANINGS[role]} Guess: {group.why}."]
    files = _scalar(_relative(group.files, folder, start))
    units = _unknown_units(scan)
    if not group.scan and not units:
        return "\n".join([*lines, f"{role}: {files}", ""])
    lines += [f"{role}:", f"  files: {files}"]
    if group.scan:
        title = f"  # {group.title}" if group.title else ""
        lines.append(f"  scan: {_scalar(group.scan)}{title}")
    if units:
        given = ", ".join(f"{_scalar(name)}: mm" for name in units)
        lines.append(f"  # units: {{{given}}}  # the files hold no unit of these motors")
    return "\n".join([*lines, ""])


def _keyed(scan: xr.Dataset | None) -> dict[str, int]:
    """Roles that a scan tells apart by its image key; empty unless there are several."""
    if scan is None or IMAGE_KEY not in scan.coords or scan[IMAGE_KEY].dims != (FRAME,):
        return {}
    present = set(scan[IMAGE_KEY].values.tolist())
    found = {role: key for role, key in KEYS.items() if key in present}
    return found if "sample" in found and len(found) > 1 else {}


def _one_scan(group: Group, keyed: dict[str, int], folder: Path, start: Path) -> str:
    """Write the sections of a scan that holds frames of several roles."""
    lines = [
        f"# Frames of several roles, told apart by {IMAGE_KEY}.",
        "scan:",
        f"  files: {_scalar(_relative(group.files, folder, start))}",
        *([f"  scan: {_scalar(group.scan)}"] if group.scan else []),
        "roles:",
        *(f"  {role}: {{{IMAGE_KEY}: {key}}}" for role, key in keyed.items()),
        "",
    ]
    return "\n".join(lines)


def _unknown_units(scan: xr.Dataset | None) -> list[str]:
    """Motors that moved and have no unit."""
    if scan is None:
        return []
    return [
        str(name)
        for name, coord in scan.coords.items()
        if coord.attrs.get(ROLE) == MOTOR
        and coord.dims == (FRAME,)
        and coord.attrs.get(UNITS, UNKNOWN_UNIT) == UNKNOWN_UNIT
    ]


def _energy(scan: xr.Dataset | None) -> float | None:
    """Photon energy in keV, if the files hold one for all frames."""
    if scan is None or PHOTON_ENERGY not in scan.coords or scan[PHOTON_ENERGY].ndim:
        return None
    energy = scan[PHOTON_ENERGY]
    factor = {"keV": 1.0, "eV": 1e-3, UNKNOWN_UNIT: 1.0}.get(str(energy.attrs.get(UNITS)))
    # A number without a unit is an energy in keV only within the range of hard X-rays.
    value = None if factor is None else float(energy) * factor
    return value if value is not None and 1 <= value <= 200 else None


def _settings(setup: dict[str, float | None]) -> str:
    """Write the sections of the method and the set-up."""
    meanings = {
        "distance": "optic to detector, m",
        "pixel_size": f"m; [{Y}, {X}] if they differ",
        "energy": "keV; without it there is no phase",
    }
    lines = ["track:", "  window: 21  # px", "  search: 16  # px, largest displacement", ""]
    lines.append("wavefront:")
    for key, meaning in meanings.items():
        value = setup[key]
        if value is not None:
            lines.append(f"  {key}: {_scalar(value)}  # {meaning}")
        elif key == "energy":
            lines.append(f"  # {key}:  # {meaning}")
        else:
            lines.append(f"  {key}:  # {FILL_IN}: {meaning}")
    lines += ["  # source_distance:  # m, source to optic, if the beam diverges", ""]
    output = ["output: results.zarr", "report: true  # a page for the logbook beside the store", ""]
    return "\n".join([*lines, *FITTED, "", *output])


def _relative(path: str, folder: Path, start: Path) -> str:
    return os.path.relpath(folder / path, start)


def _scalar(value: Any) -> str:
    """Write a value as YAML does, with quotes where they are needed."""
    if isinstance(value, float):
        return f"{value!r}" if "." in repr(value) else f"{value!r}".replace("e", ".0e")
    text: str = yaml.safe_dump(value, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
