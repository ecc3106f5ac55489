"""A detector calibration from files to files, as the command ``wavedask distortion`` runs it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from wavedask.conventions import (
    DISTORTION_X,
    DISTORTION_Y,
    PIXEL_SIZE_X,
    PIXEL_SIZE_Y,
    ROTATION,
    SHEAR,
    UNITS,
    UNKNOWN_UNIT,
    WINDOW,
)
from wavedask.detector import Method, correct, detector_distortion
from wavedask.errors import MotorError
from wavedask.frames import sources_of
from wavedask.io import input_files, open_scan
from wavedask.plot import plot_calibration
from wavedask.statements import FACTS
from wavedask.store import StoreReport, write_store
from wavedask.tables import Rows, Tabular
from wavedask.units import PIXEL_SIZE


@dataclass(frozen=True, slots=True, repr=False)
class CalibrationReport(Tabular):
    """The result of a calibration.

    Attributes
    ----------
    calibration : xarray.Dataset
        As in `detector_distortion`.
    store : StoreReport
        Report of the result store.
    picture : pathlib.Path
        Picture of the distortion and its residual.
    seconds : float
        Duration of the calibration.
    """

    calibration: xr.Dataset
    store: StoreReport
    picture: Path
    seconds: float

    @property
    def rows(self) -> Rows:
        """Rows of the table of the command."""
        return [
            *describe_calibration(self.calibration),
            ("time", f"{self.seconds:.1f} s"),
            ("result store", str(self.store.path)),
            ("picture", str(self.picture)),
        ]


def calibrate(
    scan: str,
    output: Path,
    *,
    motor_y: str,
    motor_x: str,
    dark: str | None = None,
    flat: str | None = None,
    motors: Path | None = None,
    unit: str | None = None,
    method: Method = "global",
    window: int = 21,
    search: int = 8,
    spacing: float = 16.0,
) -> CalibrationReport:
    """Calibrate a detector from the files of a mesh scan, and store the result with a picture.

    Parameters
    ----------
    scan : str
        File, folder or glob of the mesh scan.
    output : pathlib.Path
        Result store to write. The picture has the same name with the ending ``.png``.
    motor_y, motor_x, method, window, search, spacing
        As in `detector_distortion`.
    dark, flat : str, optional
        Files without beam, and without membrane.
    motors : pathlib.Path, optional
        CSV file with the motor positions, if the files hold none.
    unit : str, optional
        Unit of both motors, if the files hold none.

    Returns
    -------
    CalibrationReport

    Raises
    ------
    WavedaskError
        As in `open_scan`, `correct`, `detector_distortion` and `write_store`; or a pixel size that
        no detector has, because the unit of the motors is wrong.
    """
    started = time.perf_counter()
    given = {"scan": scan, "dark": dark, "flat": flat}
    sources = {role: str(Path(path).absolute()) for role, path in given.items() if path is not None}
    units = None if unit is None else dict.fromkeys((motor_y, motor_x), unit)
    opened = {role: open_scan(path) for role, path in sources.items() if role != "scan"}
    raw = open_scan(sources["scan"], motors=motors, units=units)
    for motor in (motor_y, motor_x):
        if motor in raw.coords and raw[motor].attrs.get(UNITS, UNKNOWN_UNIT) == UNKNOWN_UNIT:
            raise MotorError(
                f"motor {motor!r} of {scan} has no unit in its files",
                "Give one for both motors: --unit mm, or unit='mm' in Python.",
            )
    frames = correct(raw, dark=opened.get("dark"), flat=opened.get("flat"))
    asked: Mapping[str, Any] = {
        "motor_y": motor_y,
        "motor_x": motor_x,
        "method": method,
        WINDOW.name: window,
        "search": search,
        "spacing": spacing,
    }
    calibration = detector_distortion(frames, **asked)
    _check_pixels(calibration, raw, asked)
    store = write_store(
        output,
        calibration,
        settings={"distortion": asked, "files": sources},
        inputs=[path for part in (raw, *opened.values()) for path in input_files(part)],
        shared={role: sources_of(part) for role, part in {"scan": raw, **opened}.items()},
    )
    picture = Path(store.path).with_suffix(".png")
    plot_calibration(calibration).savefig(picture)
    return CalibrationReport(calibration, store, picture, time.perf_counter() - started)


def _check_pixels(calibration: xr.Dataset, raw: xr.Dataset, asked: Mapping[str, Any]) -> None:
    """Refuse pixels that no detector has: the unit of the motors is then wrong."""
    for axis, (quantity, motor) in enumerate(
        ((PIXEL_SIZE_Y, asked["motor_y"]), (PIXEL_SIZE_X, asked["motor_x"]))
    ):
        low, high = FACTS[f"{PIXEL_SIZE}_{axis}"].usual
        size = float(calibration[quantity.name])
        if not low <= size <= high:
            raise MotorError(
                f"the {quantity.long_name} would be {size:.3g} m, with the motor {motor!r} in "
                f"{raw[motor].attrs.get(UNITS)!r}; pixels have {low:g} to {high:g} m",
                "Give the unit of both motors: --unit mm, or unit='mm' in Python.",
            )


def describe_calibration(calibration: xr.Dataset) -> Rows:
    """Describe a calibration as rows of a name and a value.

    Examples
    --------
    >>> from wavedask.simulate import Distortion, mesh_scan
    >>> mesh = mesh_scan(Distortion((96, 96)), positions=(2, 2), step=10.0)
    >>> cal = detector_distortion(mesh.scan, motor_y="dety", motor_x="detx", window=15)
    >>> dict(describe_calibration(cal))["pairs"]
    '4, 0 rejected'
    """
    rows = [
        ("mesh", " x ".join(map(str, calibration.attrs["grid"])) + " positions"),
        (
            "pairs",
            f"{calibration.pair_status.size}, {len(calibration.attrs['rejected_pairs'])} rejected",
        ),
    ]
    rows += [("rejected", reason) for reason in calibration.attrs["rejected_pairs"]]
    for quantity, scale, unit in (
        (PIXEL_SIZE_Y, 1e6, "µm"),
        (PIXEL_SIZE_X, 1e6, "µm"),
        (ROTATION, 1e3, "mrad"),
        (SHEAR, 1e3, "mrad"),
    ):
        found, error = (
            scale * float(calibration[quantity.name]),
            calibration.get(f"{quantity.name}_error"),
        )
        value = f"{found:.6g}"
        if error is not None and (spread := scale * float(error)) > 0:
            # Show the error with two digits, and the value with the same decimals.
            digits = max(0, 1 - math.floor(math.log10(spread)))
            value = f"{found:.{digits}f} ± {spread:.{digits}f}"
        rows.append((quantity.long_name, f"{value} {unit}"))
    for quantity in (DISTORTION_Y, DISTORTION_X):
        field = calibration[quantity.name]
        rows.append(
            (
                quantity.long_name,
                f"{float(field.min()):+.3f} to {float(field.max()):+.3f} px",
            )
        )
    return rows
