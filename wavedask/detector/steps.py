"""What was done to images already, read from their attributes, and what may be done next."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    DARK_SUBTRACTED,
    DIMENSIONLESS,
    EXPOSURE_TIME,
    FLAT_DIVIDED,
    FRAME,
    UNDISTORTED,
    UNITS,
)
from wavedask.errors import InputError
from wavedask.facts import agreed
from wavedask.statements import FACTS


def is_relative(images: xr.DataArray) -> bool:
    """Whether images are intensities relative to a flat field.

    Examples
    --------
    >>> is_relative(xr.DataArray(0.5, attrs={"units": "1"}))
    True
    """
    return FLAT_DIVIDED in images.attrs or images.attrs.get(UNITS) == DIMENSIONLESS


def is_subtracted(images: xr.DataArray) -> bool:
    """Whether a dark was subtracted from images."""
    return DARK_SUBTRACTED in images.attrs


def check_steps(
    raw: xr.DataArray,
    *,
    dark: xr.DataArray | None,
    flat: xr.DataArray | None,
    flat_dark: xr.DataArray | None,
    undistorts: bool,
    counts: Mapping[str, object],
) -> None:
    """Refuse to correct images that are corrected, or with frames that are corrected themselves.

    Parameters
    ----------
    raw : xarray.DataArray
        The images to correct.
    dark, flat, flat_dark : xarray.DataArray or None
        The frames to correct them with.
    undistorts : bool
        Whether they will be resampled to undistorted pixels.
    counts : mapping
        Arguments that refer to raw counts or pixels, by name; None where not given.

    Raises
    ------
    InputError
        The message names what was done before, and what was given now.
    """
    given = {"dark": dark, "flat": flat, "flat_dark": flat_dark}
    frames = {name: images for name, images in given.items() if images is not None}
    if "flat_dark" in frames and "flat" not in frames:
        raise InputError("flat_dark is given without flat", "Give the flat frames it belongs to.")
    done = _done(raw)
    if frames and is_relative(raw):
        raise InputError(
            f"the images are relative to a flat field already ({done}), and"
            f" {' and '.join(frames)} {'is' if len(frames) == 1 else 'are'} given",
            "Correct raw frames, once.",
        )
    if dark is not None and is_subtracted(raw):
        raise InputError(
            f"a dark was subtracted from the images already ({done}), and dark is given",
            "Give raw frames; or leave the dark out, and give that of the flat as flat_dark.",
        )
    for name, images in frames.items():
        _check_raw(name, images, _done(images))
    _check_flat(raw, dark, flat, flat_dark)
    _check_pixels(raw, frames, undistorts, done)
    if is_relative(raw) or is_subtracted(raw):
        for name, value in counts.items():
            if value is not None and value is not False:
                raise InputError(
                    f"{name} is {value!r}, in raw counts, and the images are corrected ({done})",
                    "Give it with the raw frames.",
                )


def _done(images: xr.DataArray) -> str:
    """Say in words what the attributes tell of the steps before."""
    steps = [
        f"{name}: {images.attrs[name]}"
        for name in (DARK_SUBTRACTED, FLAT_DIVIDED, UNDISTORTED)
        if name in images.attrs
    ]
    return "; ".join(steps) or f"{UNITS}: {images.attrs.get(UNITS)}"


def _check_raw(name: str, images: xr.DataArray, done: str) -> None:
    """Refuse dark or flat frames that are no frames, or relative."""
    if images.sizes.get(FRAME, 1) == 0:
        raise InputError(f"{name} has no frames", "Give one or more: did a selection find none?")
    if is_relative(images):
        raise InputError(
            f"the {name} frames are relative to a flat field themselves ({done})",
            "Give raw frames.",
        )
    if name != "flat" and is_subtracted(images):
        raise InputError(
            f"from the {name} frames a dark was subtracted already ({done})", "Give raw frames."
        )


def _check_flat(
    raw: xr.DataArray,
    dark: xr.DataArray | None,
    flat: xr.DataArray | None,
    flat_dark: xr.DataArray | None,
) -> None:
    """See that images and flat are both above their dark, or both not."""
    if flat is None:
        return
    own = "dark" if flat_dark is None else "flat_dark"
    if is_subtracted(flat) and not (dark is None and flat_dark is None):
        raise InputError(
            f"a dark was subtracted from the flat frames already ({_done(flat)}), and {own} is"
            " given, which would be subtracted again",
            "Give raw flat frames; or subtract the dark from the images first, by correct(scan,"
            " dark=...), and give the flat frames alone then.",
        )
    above = is_subtracted(raw) or dark is not None
    flat_above = is_subtracted(flat) or dark is not None or flat_dark is not None
    if above != flat_above:
        with_dark, without = ("images", "flat") if above else ("flat", "images")
        raise InputError(
            f"a dark is subtracted from the {with_dark}, and none from the {without}",
            "Give raw frames, and dark; or flat_dark, for raw flat frames alone.",
        )


def _check_pixels(
    raw: xr.DataArray, frames: Mapping[str, xr.DataArray], undistorts: bool, done: str
) -> None:
    """Refuse to mix raw and undistorted pixels."""
    if UNDISTORTED in raw.attrs:
        now = ["distortion"] if undistorts else list(frames)
        if now:
            raise InputError(
                f"the images are on undistorted pixels already ({done}), and"
                f" {' and '.join(now)} {'is' if len(now) == 1 else 'are'} given",
                "Undistort once, and correct for dark and flat on the raw pixels before.",
            )
    for name, images in frames.items():
        if UNDISTORTED in images.attrs:
            raise InputError(
                f"the {name} frames are on undistorted pixels ({_done(images)}), the scan is not",
                "Give raw frames: dark and flat belong to raw pixels.",
            )


def flat_scale(
    raw: xr.DataArray,
    *,
    dark: xr.DataArray | None,
    flat: xr.DataArray | None,
    flat_dark: xr.DataArray | None,
) -> NDArray[np.float64] | None:
    """Compare the exposure times, and find what a longer or shorter flat does to the intensity.

    The dark level of a camera is an offset and a part that grows with the time: from a dark of one
    exposure that of another does not follow. So a dark must have the exposure of the frames that it
    is subtracted from. What is left, the signal of the beam, is proportional to the time: a flat of
    another exposure, with a dark of its own, is scaled.

    Parameters
    ----------
    raw, dark, flat, flat_dark
        As of `check_steps`. Where a time is not known, nothing is compared.

    Returns
    -------
    ndarray of float64, shape (1,) or (frame,), or None
        Exposure of the flat over that of the images; None if they are equal or not known.

    Raises
    ------
    InputError
        Times that differ; the message names both.
    """
    images = {"scan": raw, "dark": dark, "flat": flat, "flat_dark": flat_dark}
    times = {name: _exposures(part, name) for name, part in images.items()}
    for name in ("dark", "flat", "flat_dark"):
        exposures = times[name]
        if exposures is not None and not _same(exposures, exposures[:1]):
            raise InputError(
                f"the {name} frames have exposures of {_range(exposures)}: their average belongs to"
                " none",
                "Select those of one exposure.",
            )
    _compare("dark", times["dark"], "scan", times["scan"], "Give dark frames of that exposure.")
    if flat_dark is not None:
        _compare(
            "flat_dark",
            times["flat_dark"],
            "flat",
            times["flat"],
            "Give dark frames of the exposure of the flat.",
        )
    elif dark is not None:
        _compare(
            "dark",
            times["dark"],
            "flat",
            times["flat"],
            "Give dark frames of the exposure of the flat as flat_dark: a dark cannot be scaled,"
            " for a part of it does not grow with the time.",
        )
    mine, others = times["scan"], times["flat"]
    if mine is None or others is None or _same(others[:1], mine):
        return None
    return np.asarray(others[0] / mine)


def _exposures(images: xr.DataArray | None, name: str) -> NDArray[np.float64] | None:
    """Return the exposure times of images in s, one or one for each frame; None if not known."""
    if images is None:
        return None
    times = agreed(EXPOSURE_TIME, None, {f"the {name}": images})
    if times is None or not bool(np.all(times > 0)):
        return None
    return np.atleast_1d(times)


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(
        np.all(np.abs(one - other) <= FACTS[EXPOSURE_TIME].tolerance * np.maximum(one, other))
    )


def _compare(
    name: str,
    times: NDArray[np.float64] | None,
    other: str,
    others: NDArray[np.float64] | None,
    remedy: str,
) -> None:
    if times is None or others is None or _same(times[:1], others):
        return
    raise InputError(
        f"the exposure of the {name} is {_range(times)}, that of the {other} {_range(others)}",
        remedy,
    )


def _range(times: NDArray[np.float64]) -> str:
    low, high = times.min(), times.max()
    return f"{low:.6g} s" if _same(times, times[:1]) else f"{low:.6g} to {high:.6g} s"
