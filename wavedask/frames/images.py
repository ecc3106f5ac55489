"""Images as arguments of a function: a DataArray or a dataset, and checks that images fit."""

import logging
from collections.abc import Mapping
from typing import Final, TypeVar

import numpy as np
import xarray as xr

from wavedask.conventions import (
    BINNING,
    COUNTS,
    DARK_SUBTRACTED,
    DIMENSIONLESS,
    EXPOSURE_TIME,
    FLAT_DIVIDED,
    FRAME,
    IMAGE,
    LONG_NAME,
    PHOTON_ENERGY,
    PIXEL_SIZE_X,
    PIXEL_SIZE_Y,
    UNDISTORTED,
    UNITS,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.facts import (
    agreed,
    agreed_number,
    agreed_pixels,
    with_energy,
)
from wavedask.frames.labels import aligned, covering
from wavedask.frames.order import in_the_same_order
from wavedask.statements import FACTS, STATING
from wavedask.units import DISTANCE, MEMBRANE_DISTANCE, PIXEL_SIZE, SOURCE_DISTANCE

NOMINAL: Final = 0.05
"""Relative difference up to which a calibrated pixel size replaces the nominal one of a file."""

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)

NONE: Final = xr.DataArray()
"""A coordinate that is not there."""

_logger = logging.getLogger("wavedask")


def image_of(images: xr.DataArray | xr.Dataset, name: str) -> xr.DataArray:
    """Return the frames of a scan or the images themselves, with dims ([frame], y, x).

    What the attributes of a scan state about the set-up goes with its frames.

    Raises
    ------
    InputError
        An argument that is neither a DataArray nor a dataset with images.

    Examples
    --------
    >>> import numpy as np
    >>> image_of(xr.DataArray(np.ones((2, 3)), dims=("x", "y")), "flat").dims
    ('y', 'x')
    """
    if isinstance(images, xr.Dataset):
        if IMAGE.name not in images:
            raise InputError(
                f"{name} is a dataset without {IMAGE.name!r}; it has {sorted(map(str, images))}",
                "Give a scan from open_scan(), or a DataArray.",
            )
        stated = {name: value for name, value in images.attrs.items() if name in STATING}
        frames = images[IMAGE.name]
        images = frames.assign_attrs({**stated, **frames.attrs})
    if not isinstance(images, xr.DataArray):
        raise InputError(
            f"{name} is a {type(images).__name__}",
            "Give a scan or a DataArray; for bare arrays there is wavedask.cross_spot().",
        )
    if set(images.dims) not in ({Y, X}, {FRAME, Y, X}):
        raise InputError(
            f"{name} has dimensions {images.dims}",
            f"Rename them to ({Y}, {X}) or ({FRAME}, {Y}, {X}).",
        )
    return images.transpose(..., Y, X)


def dataset_of(data: object) -> xr.Dataset:
    """Return the dataset, or refuse the argument: a bare array lacks the other variables.

    Raises
    ------
    InputError
        An argument of another type.

    Examples
    --------
    >>> dataset_of(xr.DataArray([1.0], dims="frame", name="radius"))
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: the data is a DataArray. Give a dataset: data.to_dataset(...) ...
    """
    if isinstance(data, xr.Dataset):
        return data
    raise InputError(
        f"the data is a {type(data).__name__}",
        "Give a dataset: data.to_dataset(name=...) makes one of a DataArray.",
    )


def matched_pair(
    sample: xr.DataArray,
    reference: xr.DataArray,
    *,
    one_detector: bool = True,
    in_order: bool = True,
    joint: bool = False,
) -> tuple[xr.DataArray, xr.DataArray]:
    """Check that a sample and a reference belong together, and bring them to the same pixels.

    Parameters
    ----------
    sample, reference : xarray.DataArray, dims ([frame], y, x)
        A pair of stacks, or a stack and one reference for all its frames.
    one_detector : bool, default True
        Whether both are of one detector, whose pixels and place are then the same.
    in_order : bool, default True
        Whether the frames of two stacks are paired in their order.
    joint : bool, default False
        Whether the frames become one result: then all must have one photon energy and one distance.

    Returns
    -------
    sample, reference : xarray.DataArray
        On the pixels that both have, by their labels. What only the reference states about the
        set-up, the sample states now, too. Lazy where they were.

    Raises
    ------
    InputError
        One is corrected for the flat field and the other is not, or the two state different facts
        (photon energy, pixel size, distance, binning).
    FrameMismatchError
        Pixel labels of other grids.
    MotorError
        Frames that were taken in another order.

    Examples
    --------
    >>> raw = xr.DataArray([[1.0]], dims=("y", "x"), attrs={"units": "counts"})
    >>> matched_pair(raw, raw.assign_attrs(units="1"))
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: sample is in 'counts', reference in '1'. Correct both alike ...
    """
    units = [images.attrs.get(UNITS) for images in (sample, reference)]
    if None not in units and units[0] != units[1]:
        raise InputError(
            f"sample is in {units[0]!r}, reference in {units[1]!r}",
            "Correct both alike for dark and flat field.",
        )
    _check_corrections(sample, reference, ("sample", "reference"))
    _check_corrections(reference, sample, ("reference", "sample"))
    if in_order:
        reference = in_the_same_order(sample, reference)
    sample = _stating_all(sample, reference, one_detector=one_detector)
    if joint:
        sample = of_one_set_up(sample, "the sample")
    if one_detector:
        sample, reference = aligned({"sample": sample, "reference": reference})
    return sample, reference


def of_one_set_up(frames: Labelled, words: str) -> Labelled:
    """Refuse frames of different energies or distances, which become one; and state them for all.

    Parameters
    ----------
    frames : xarray.Dataset or xarray.DataArray
        Frames that are matched together or averaged.
    words : str
        What they are, for the message.

    Returns
    -------
    same type as `frames`
        Where these stand along ``frame``, they are one number now: ``energy`` in keV, ``distance``
        in m.

    Raises
    ------
    InputError
        A photon energy or a distance that changes from frame to frame.

    Examples
    --------
    >>> frames = xr.Dataset(coords={"energy": ("frame", [8.0, 12.0])})
    >>> of_one_set_up(frames, "the sample")
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: energy changes from frame to frame, from 8 keV to 12 keV. Select ...
    """
    for name, long_name in ((PHOTON_ENERGY, "photon energy"), (DISTANCE, "distance")):
        value = agreed_number(name, None, {words: frames})
        each = [key for key in FACTS[name].stated_as if FRAME in frames.coords.get(key, NONE).dims]
        if value is not None and each:
            attrs = {UNITS: FACTS[name].units, LONG_NAME: long_name}
            frames = frames.drop_vars(each).assign_coords({name: ((), value, attrs)})
    return frames


def _check_corrections(one: xr.DataArray, other: xr.DataArray, names: tuple[str, str]) -> None:
    """Compare what was done to one image of a pair with what was done to the other."""
    if UNITS not in one.attrs or UNITS not in other.attrs:
        return  # bare numbers, of which nothing is known
    known = FLAT_DIVIDED in other.attrs or other.attrs[UNITS] != DIMENSIONLESS
    if DARK_SUBTRACTED in one.attrs and DARK_SUBTRACTED not in other.attrs and known:
        raise InputError(
            f"a dark was subtracted from the {names[0]} ({DARK_SUBTRACTED}:"
            f" {one.attrs[DARK_SUBTRACTED]}), and none from the {names[1]}",
            "Correct both alike: the transmission is the ratio of their intensities.",
        )
    if UNDISTORTED in one.attrs and UNDISTORTED not in other.attrs:
        _logger.warning(
            "the %s is on undistorted pixels (%s: %s), the %s is not said to be: if it is not, the"
            " displacement contains the distortion of the detector",
            *(names[0], UNDISTORTED, one.attrs[UNDISTORTED], names[1]),
        )


def _stating_all(
    sample: xr.DataArray, reference: xr.DataArray, *, one_detector: bool
) -> xr.DataArray:
    """Compare what two stacks state, and let the sample state it all."""
    data = {"the sample": sample, "the reference": reference}
    if reference.sizes.get(FRAME, 1) not in (1, sample.sizes.get(FRAME, 1)):
        return sample  # refused by what pairs their frames
    energy = agreed(PHOTON_ENERGY, None, data)
    if energy is not None and agreed(PHOTON_ENERGY, None, {"the sample": sample}) is None:
        sample = with_energy(sample, energy.reshape(()) if energy.size == 1 else energy)
    facts: dict[str, float | list[float]] = {}
    names = (DISTANCE, SOURCE_DISTANCE, MEMBRANE_DISTANCE) if one_detector else (SOURCE_DISTANCE,)
    for name in names:
        if (value := agreed(name, None, data)) is not None and not value.ndim:
            facts[name] = float(value)
    if one_detector:
        if (pixels := agreed_pixels(None, data)) is not None:
            facts[PIXEL_SIZE] = list(pixels)
        _check_binning(data)
        _compare_exposures(data)
    return sample.assign_attrs({k: v for k, v in facts.items() if k not in sample.attrs})


def _check_binning(data: dict[str, xr.DataArray]) -> None:
    for axis in (0, 1):
        agreed_number(f"{BINNING}_{axis}", None, data)


def _compare_exposures(data: dict[str, xr.DataArray]) -> None:
    """Warn where counts of different exposure times are compared."""
    if any(images.attrs.get(UNITS, COUNTS) != COUNTS for images in data.values()):
        return  # relative to a flat field: what corrected them compared the exposures
    times = [agreed(EXPOSURE_TIME, None, {name: images}) for name, images in data.items()]
    if times[0] is None or times[1] is None:
        return
    one, other = (float(np.nanmean(values)) for values in times if values is not None)
    if abs(one - other) > FACTS[EXPOSURE_TIME].tolerance * max(one, other):
        _logger.warning(
            "the exposure time is %g s in the sample and %g s in the reference: the transmission"
            " is too large by their ratio, %.4g; displacements do not change",
            *(one, other, one / other),
        )


def for_correction(
    scan: xr.DataArray,
    corrections: Mapping[str, xr.DataArray | None],
    *,
    distortion: xr.Dataset | None = None,
) -> tuple[xr.DataArray, list[xr.DataArray | None], xr.Dataset | None]:
    """Check that frames and what corrects them belong together, and bring all to the same pixels.

    Parameters
    ----------
    scan : xarray.DataArray, dims ([frame], y, x)
        Frames that are to be corrected.
    corrections : mapping of str to (xarray.DataArray or None), dims ([frame], y, x)
        Dark frames, flat frames and the like, by their names in a message.
    distortion : xarray.Dataset, optional
        Calibration of the detector.

    Returns
    -------
    scan : xarray.DataArray
        With a calibration, it states the pixel size of that: it was measured, and replaces a
        nominal one.
    corrections : list of (xarray.DataArray or None)
        In the same order, cut to the pixels of the scan by their labels.
    distortion : xarray.Dataset or None
        Cut likewise.

    Raises
    ------
    InputError
        A part that states another pixel size or binning; one photon energy of the scan, and another
        of a part.
    FrameMismatchError
        One that lacks pixels of the scan.

    Examples
    --------
    >>> image = xr.DataArray(np.ones((2, 6)), {"x": np.arange(6)}, ("y", "x"))
    >>> scan, (dark, flat), _ = for_correction(image[:, 2:4], {"dark": None, "flat": image})
    >>> flat.x.values.tolist()
    [2, 3]
    """
    parts: list[xr.DataArray | None] = []
    for name, part in corrections.items():
        if part is None:
            parts.append(None)
            continue
        data = {"the scan": scan, f"the {name}": part}
        agreed_pixels(None, data)
        _check_binning(data)
        energies = [agreed(PHOTON_ENERGY, None, {words: image}) for words, image in data.items()]
        # A scan over the energy may share one flat: its structure hardly changes.
        if all(energy is not None and energy.size == 1 for energy in energies):
            agreed(PHOTON_ENERGY, None, data)
        parts.append(covering(scan, part, names=("scan", name)))
    if distortion is not None:
        distortion = covering(scan, distortion, names=("scan", "calibration"))
        scan = _of_calibrated_pixels(scan, distortion)
    return scan, parts, distortion


def _of_calibrated_pixels(scan: xr.DataArray, calibration: xr.Dataset) -> xr.DataArray:
    measured, nominal = (
        agreed_pixels(None, {name: part})
        for name, part in (("the calibration", calibration), ("the scan", scan))
    )
    if measured is None:
        return scan
    if nominal is not None and not np.allclose(measured, nominal, rtol=NOMINAL, atol=0):
        raise InputError(
            f"pixel_size is {nominal} m (y, x) in the scan and {measured} m in the calibration",
            "Give the calibration of this detector and binning.",
        )
    stale = (PIXEL_SIZE, PIXEL_SIZE_Y.name, PIXEL_SIZE_X.name)
    kept = scan.drop_vars(stale, errors="ignore")
    kept.attrs = {name: value for name, value in scan.attrs.items() if name not in stale}
    return kept.assign_attrs({PIXEL_SIZE: list(measured)})
