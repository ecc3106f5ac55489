"""What files state about the detector and the photons, in SI units."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    BAD_VALUES,
    BINNING,
    DETECTOR_DISTANCE,
    DIMENSIONLESS,
    EXPOSURE_TIME,
    HEADER,
    LONG_NAME,
    METRE,
    PHOTON_ENERGY,
    PIXEL_MASK,
    PIXEL_SIZE_X,
    PIXEL_SIZE_Y,
    SATURATION_VALUE,
    UNDERLOAD_VALUE,
    UNITS,
    X,
    Y,
)
from wavedask.errors import FrameMismatchError
from wavedask.io.columns import Column
from wavedask.units import HC_KEV_M

SECOND: Final = "s"
KEV: Final = "keV"
METRES: Final = {
    "m": 1.0,
    "metre": 1.0,
    "meter": 1.0,
    "cm": 1e-2,
    "mm": 1e-3,
    "um": 1e-6,
    "µm": 1e-6,  # the micro sign
    "μm": 1e-6,  # the Greek letter
    "micron": 1e-6,
    "microns": 1e-6,
    "micrometer": 1e-6,
    "nm": 1e-9,
    "angstrom": 1e-10,
    "å": 1e-10,
    "a": 1e-10,
}
SECONDS: Final = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}
KEVS: Final = {"kev": 1.0, "ev": 1e-3, "mev": 1e3}

DECTRIS: Final = ("eiger", "pilatus", "dectris")
"""Words that name a detector which writes codes for pixels without a count."""

FACT_ITEMS: Final = (
    *("GDAL_NODATA", "Dummy", "PSize_1", "PSize_2", "BSize_1", "BSize_2"),
    *("Model", "ImageDescription"),
)
"""Items of the headers of EDF and TIFF files that state facts about the pixels."""

Codes = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file states about the pixels of its frames.

    Attributes
    ----------
    bad_values : tuple of float
        Values that are no counts, but codes of pixels without one.
    saturation, underload : float or None
        Largest and smallest valid count.
    pixel_size : (float, float) or None
        Along y and x, m.
    binning : (int, int) or None
        Pixels of the sensor along y and x that were summed to one.
    mask : numpy.ndarray or None
        True where a pixel is bad; of shape (y, x).
    """

    bad_values: Codes = ()
    saturation: float | None = None
    underload: float | None = None
    pixel_size: tuple[float, float] | None = None
    binning: tuple[int, int] | None = None
    mask: npt.NDArray[np.bool_] | None = None

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the frames: numbers and lists, sizes in m."""
        found: dict[str, Any] = {}
        if self.bad_values:
            found[BAD_VALUES] = [int(v) if v == int(v) else v for v in self.bad_values]
        for name, value in (
            (SATURATION_VALUE, self.saturation),
            (UNDERLOAD_VALUE, self.underload),
        ):
            if value is not None:
                found[name] = value
        if self.pixel_size is not None:
            found |= {PIXEL_SIZE_Y.name: self.pixel_size[0], PIXEL_SIZE_X.name: self.pixel_size[1]}
        if self.binning is not None:
            found[BINNING] = list(self.binning)
        return found

    @property
    def coords(self) -> dict[str, xr.Variable]:
        """The mask as a coordinate, where there is one."""
        if self.mask is None:
            return {}
        attrs = {UNITS: DIMENSIONLESS, LONG_NAME: "pixel is declared bad by its file"}
        return {PIXEL_MASK: xr.Variable((Y, X), self.mask, attrs)}


NO_FACTS: Final = Facts()


def joined_facts(stated: Iterable[tuple[Path, Facts]]) -> Facts:
    """Put together what several files state about the frames of one scan.

    Parameters
    ----------
    stated : iterable of (pathlib.Path, Facts)
        What each file states; at least one.

    Returns
    -------
    Facts
        A pixel is bad, and a value is a code, where any of the files says so. The range of valid
        counts is the one that all of them allow.

    Raises
    ------
    FrameMismatchError
        If two files state different pixel sizes or binnings.
    """
    (first_path, joined), *others = stated
    for path, facts in others:
        for name in ("pixel_size", "binning"):
            one, other = getattr(joined, name), getattr(facts, name)
            if one and other and not np.allclose(one, other, rtol=1e-6, atol=0):
                raise FrameMismatchError(
                    f"the {name.replace('_', ' ')} is {one} in {first_path}, but {other} in {path}",
                    "Open frames of one camera and one binning as a scan of their own.",
                )
        masks = [mask for mask in (joined.mask, facts.mask) if mask is not None]
        joined = Facts(
            tuple(dict.fromkeys((*joined.bad_values, *facts.bad_values))),
            _extreme(min, joined.saturation, facts.saturation),
            _extreme(max, joined.underload, facts.underload),
            joined.pixel_size or facts.pixel_size,
            joined.binning or facts.binning,
            np.logical_or.reduce(masks) if masks else None,
        )
    return joined


def energy_column(values: npt.NDArray[np.float64], unit: str) -> Column | None:
    """Photon energy in keV, from an energy or a wavelength; None where the unit is neither."""
    kind = unit.strip().lower()
    if kind in KEVS:
        energy = values * KEVS[kind]
    elif kind in METRES:
        with np.errstate(divide="ignore"):
            energy = HC_KEV_M / (values * METRES[kind])
    else:
        return None
    return _positive(PHOTON_ENERGY, energy, KEV)


def time_column(values: npt.NDArray[np.float64], unit: str) -> Column | None:
    """Exposure time in s; None where the unit is none of a time."""
    scale = SECONDS.get(unit.strip().lower())
    return None if scale is None else _positive(EXPOSURE_TIME, values * scale, SECOND)


def distance_column(values: npt.NDArray[np.float64], unit: str) -> Column | None:
    """Distance from sample to detector in m; None where the unit is none of a length."""
    scale = METRES.get(unit.strip().lower())
    return None if scale is None else _positive(DETECTOR_DISTANCE, values * scale, METRE)


def _positive(name: str, values: npt.NDArray[np.float64], unit: str) -> Column | None:
    """Make a column of a fact; zero or no number is none, because writers fill in a zero."""
    valid = np.isfinite(values) & (values > 0)
    return Column(name, HEADER, values, unit) if valid.all() else None


def _extreme(choose: Any, *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None


def header_facts(header: Mapping[str, str], dtype: np.dtype[Any]) -> Facts:
    """Read facts from the header of an EDF or TIFF file.

    Parameters
    ----------
    header : mapping of str to str
        Items of the header of one frame.
    dtype : numpy.dtype
        Type of its pixels.

    Returns
    -------
    Facts
        Of the items ``Dummy``, ``PSize_1``, ``PSize_2``, ``BSize_1``, ``BSize_2`` (EDF of SAXS
        beamlines, sizes in m), ``GDAL_NODATA`` (TIFF), and of the text that a DECTRIS detector
        puts into a TIFF.

    Examples
    --------
    >>> header_facts({"GDAL_NODATA": "-9999"}, np.dtype("int16")).bad_values
    (-9999.0,)
    """
    text = f"{header.get('Model', '')} {header.get('ImageDescription', '')}"
    codes = [_number(header.get(name)) for name in ("GDAL_NODATA", "Dummy")]
    # Programs write a dummy of zero where none was set.
    stated = [code for code, unset in zip(codes, (None, 0.0), strict=True) if code != unset]
    cutoff = None
    if any(maker in text.lower() for maker in DECTRIS):
        stated += dectris_codes(dtype)
        cutoff = _number(_described(text, "Count_cutoff"))
    sizes = tuple(_number(header.get(name)) or 0.0 for name in ("PSize_2", "PSize_1"))
    pixel = re.search(r"Pixel_size\s+(\S+)\s*m\s*x\s*(\S+)\s*m", text)
    if pixel:
        sizes = _number(pixel[2]) or 0.0, _number(pixel[1]) or 0.0
    bins = tuple(_number(header.get(name)) or 0.0 for name in ("BSize_2", "BSize_1"))
    return Facts(
        tuple(dict.fromkeys(code for code in stated if code is not None)),
        saturation=cutoff,
        # Where none was set, programs write a size of one pixel.
        pixel_size=(sizes[0], sizes[1]) if all(1e-9 < size < 1e-3 for size in sizes) else None,
        binning=(int(bins[0]), int(bins[1])) if all(size >= 1 for size in bins) else None,
    )


def header_columns(columns: Iterable[Column], constants: Mapping[str, str]) -> list[Column]:
    """Read exposure time, distance and photon energy from the headers of EDF and TIFF files.

    Parameters
    ----------
    columns : iterable of Column
        Header items that differ from frame to frame, among others.
    constants : mapping of str to str
        Those that do not.

    Returns
    -------
    list of Column
        In s, m and keV, where the program that wrote the header is known to set the unit.
    """
    text = constants.get("ImageDescription", "")
    found: dict[str, Column] = {}
    varying = {column.name: column for column in columns if column.role == HEADER}
    for name, usual, convert in HEADER_FACTS:
        written = constants.get(name) or _described(text, name)
        column = None
        if written:
            number, unit = (*written.split(), "")[:2]
            if (value := _number(number)) is not None:
                column = convert(np.array(value), unit or usual)
        elif name in varying and varying[name].values.dtype.kind == "f":
            column = convert(varying[name].values, usual)
        if column is not None:
            found.setdefault(column.name, column)
    return list(found.values())


def dectris_codes(dtype: np.dtype[Any]) -> list[float]:
    """Values that a DECTRIS detector writes where a pixel has no count.

    Examples
    --------
    >>> dectris_codes(np.dtype("uint16")), dectris_codes(np.dtype("int32"))
    ([65535.0], [-1.0, -2.0])
    """
    if dtype.kind == "u":
        return [float(np.iinfo(dtype).max)]
    return [-1.0, -2.0] if dtype.kind == "i" else []


def _described(text: str, name: str) -> str:
    """Value and unit of a line such as ``# Exposure_time 0.95 s`` of a detector of DECTRIS."""
    line = re.search(rf"^#?\s*{name}[ =:]+(.+)$", text, re.MULTILINE)
    return line[1].strip() if line else ""


def _number(text: str | None) -> float | None:
    """First word of a text as a finite number; None, if it is none."""
    try:
        value = float((text or "").split()[0])
    except (ValueError, IndexError):
        return None
    return value if np.isfinite(value) else None


HEADER_FACTS: Final = (
    ("ExposureTime", "s", time_column),  # EDF of SAXS beamlines
    ("acq_expo_time", "s", time_column),  # EDF of Lima
    ("Exposure_time", "s", time_column),  # TIFF of DECTRIS
    ("SampleDistance", "m", distance_column),
    ("Detector_distance", "m", distance_column),
    ("WaveLength", "m", energy_column),
    ("Wavelength", "a", energy_column),
)
"""Item of a header, its usual unit, and what makes a column of it."""
