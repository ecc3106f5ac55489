"""The lazy stages of an experiment, from its files to the result that a store will hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    APERTURE,
    FRAME,
    LONG_NAME,
    POSITION_X,
    POSITION_Y,
    REFERENCE_FILE,
    UNITS,
    WAVEFRONT,
    X,
    Y,
)
from wavedask.detector import blind_pixels, correct
from wavedask.errors import FrameMismatchError, InputError
from wavedask.experiment.evaluation import evaluated
from wavedask.experiment.exposures import combined
from wavedask.experiment.model import PARTS, Experiment
from wavedask.experiment.naming import naming
from wavedask.experiment.pupils import pupil_mask
from wavedask.experiment.sections import Detector, Frames
from wavedask.frames import Sources, select_roles, sources_of, stack_coordinates
from wavedask.io import input_files, open_scan, packed, read_mask, split_mask
from wavedask.store import METADATA, open_store
from wavedask.tracking import register, self_reference, track, track_scan
from wavedask.units import pixel_numbers
from wavedask.wavefront import frame_numbers, wavefront

CORRECTIONS = ("dark", "flat", "flat_dark")
"""Roles of the frames by which others are corrected."""
REGISTRATION = "registration"
"""Attribute of a result of absolute mode: the registration of its two detectors, as text."""
MEAN_OF_ALL = "each pulse is tracked in the mean of all pulses, which a new pulse would change"
"""Reason why a result cannot grow."""


@dataclass(frozen=True)
class Stages:
    """The stages of an experiment, all lazy.

    Attributes
    ----------
    image, reference : xarray.DataArray
        Corrected frames; in absolute mode those of the far and the near detector. The reference
        of a train is a string, such as ``"first"``.
    result : xarray.Dataset
        The complete content of the store.
    inputs : sequence of Path
        Input files.
    blind : tuple of xarray.DataArray
        Masks of the pixels whose flat is not above their dark; empty without a flat.
    grow : tuple of str or None
        Settings that only select frames; None if frames depend on each other.
    shared : dict
        Raw frames that every frame of the result depends on, by role.
    joined : str
        Reason why frames depend on each other; empty if they do not.
    """

    image: xr.DataArray
    reference: xr.DataArray | str
    result: xr.Dataset
    inputs: Sequence[Path]
    blind: tuple[xr.DataArray, ...]
    grow: tuple[str, ...] | None
    shared: Sources
    joined: str


def stages_of(experiment: Experiment, *, progress: bool | None = None) -> Stages:
    """Open the files of an experiment and build its lazy stages.

    Nothing is computed, except in absolute mode the first frames of both detectors, for their
    registration.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    progress : bool, optional
        Whether to show a bar while headers are read; by default on a terminal and in a notebook.

    Returns
    -------
    Stages

    Raises
    ------
    WavedaskError
        Files or settings that cannot be used.
    """
    absolute = experiment.mode == "absolute"
    recorded = _both_detectors(experiment, progress) if absolute else _one(experiment, progress)
    result = _physical(_tracked(recorded, experiment), experiment)
    pupil, mask_files = _pupil(experiment, result)
    result = evaluated(result, experiment, pupil)
    result.attrs = {**recorded.scan.attrs, **result.attrs}
    if FRAME not in result.dims:
        result = result.expand_dims(FRAME).assign_coords(stack_coordinates(recorded.scan))
    if experiment.pupil is not None and experiment.pupil.auto:
        pupil = result[APERTURE.name]
    result = _kept(result, experiment.keep)
    # From what is kept: else a map that nobody wants would be computed for its numbers.
    result = result.assign(frame_numbers(result, pupil=pupil))
    own = REFERENCE_FILE in result.coords
    mean = experiment.train == "mean"
    return Stages(
        recorded.image,
        recorded.target,
        result,
        # A path of Python takes as much memory as all else that is known of a file.
        packed([*recorded.inputs, *mask_files]),
        recorded.blind,
        None if mean else _choosing(experiment, own_references=own),
        {**recorded.shared, **({} if own else recorded.references)},
        MEAN_OF_ALL if mean else "",
    )


def _tracked(recorded: "_Recorded", experiment: Experiment) -> xr.Dataset:
    """Track the images of an experiment by its method."""
    scanned, exposures = experiment.track_scan, experiment.combine
    if scanned is not None:
        options = dict(scanned)
        if experiment.wavefront is not None:
            options["pixel_size"] = experiment.wavefront.pixel_size
        tracking = track_scan(recorded.image, recorded.target, **options)
        # It hands on the attributes of the images; their unit is not that of the result.
        own = {key: v for key, v in tracking.attrs.items() if key not in (UNITS, LONG_NAME)}
        return tracking.drop_attrs(deep=False).assign_attrs(own)
    tracking = track(recorded.image, recorded.target, **recorded.options)
    return tracking if exposures is None else combined(tracking, exposures)


def _physical(tracking: xr.Dataset, experiment: Experiment) -> xr.Dataset:
    """Add the wavefront to a tracking, or compute the curvature of a self-reference."""
    if experiment.self_reference is not None:
        return self_reference(tracking, **dict(experiment.self_reference))
    if experiment.wavefront is None:
        # track_scan() has compared the scan with itself.
        return tracking
    tracking = _region(tracking, experiment.wavefront.roi)
    with naming(WAVEFRONT.name):
        physical = wavefront(tracking, **experiment.wavefront.options)
    # Give displacements the coordinates in metres too: the store has one pair of axes.
    maps = tracking.assign_coords({dim: physical[dim] for dim in (Y, X)})
    return maps.assign(physical.data_vars).assign_attrs(physical.attrs)


def _choosing(experiment: Experiment, *, own_references: bool) -> tuple[str, ...]:
    """Name the settings that only select frames; those that correct frames must not change."""
    if experiment.mode == "absolute":
        which = (*Frames.model_fields, "roles")
        return tuple(f"{name}.{key}" for name in ("near", "far") for key in which)
    chosen = ("scan", "roles") if experiment.sample is None else ("sample",)
    return (*chosen, "reference") if own_references else chosen


@dataclass(frozen=True)
class _Recorded:
    """Corrected images of an experiment, options of their tracking, and shared frames."""

    scan: xr.Dataset
    image: xr.DataArray
    target: Any
    options: dict[str, Any]
    inputs: tuple[Path, ...]
    blind: tuple[xr.DataArray, ...]
    shared: Sources
    references: Sources = field(default_factory=dict)


def _one(experiment: Experiment, progress: bool | None) -> _Recorded:
    """Open and correct the frames of one detector, with and without the optic."""
    scans = _scans(experiment, experiment, PARTS, progress)
    if experiment.roles is not None and experiment.scan is not None:
        common = _open(experiment, experiment.scan, progress)
        scans |= select_roles(common, experiment.roles.given)
    _check_shapes(scans)
    calibration, files = _calibration(experiment, experiment.distortion)
    mask, mask_files = _mask(experiment, experiment.correct.mask)
    images = {
        role: _corrected(experiment, scans[role], scans, calibration, mask)
        for role in ("sample", "reference")
        if role in scans
    }
    return _Recorded(
        scans["sample"],
        images["sample"],
        images.get("reference", experiment.train),
        experiment.track.options,
        (*_files(scans), *files, *mask_files),
        _blind(experiment, scans),
        _corrections(scans),
        # The reference of a train is its first pulse, or the previous pulse of each.
        {"reference": sources_of(scans.get("reference", scans["sample"].isel({FRAME: [0]})))},
    )


def _both_detectors(experiment: Experiment, progress: bool | None) -> _Recorded:
    """Open, correct and register the frames of a near and a far detector."""
    images: list[xr.DataArray] = []
    scans: list[xr.Dataset] = []
    inputs: list[Path] = []
    blind: list[xr.DataArray] = []
    shared: Sources = {}
    assert experiment.wavefront is not None  # checked by the experiment
    for name in ("far", "near"):
        opened, image, files = _detector(experiment, name, progress)
        images.append(image)
        scans.append(opened[name])
        inputs += files
        blind += _blind(experiment, opened)
        first = sources_of(opened[name].isel({FRAME: [0]}))
        shared[name] = {**_corrections(opened), REGISTRATION: first}
    far, near = images
    settings = experiment.wavefront
    found = register(far, near, pixel_size=_far_first(settings.pixel_size), sure=settings.sure)
    options = {**experiment.track.options, "registration": found}
    scan = scans[0].assign_attrs({REGISTRATION: str(found)})
    references = {"reference": sources_of(scans[1])}
    return _Recorded(scan, far, near, options, tuple(inputs), tuple(blind), shared, references)


def _detector(
    experiment: Experiment, name: str, progress: bool | None
) -> tuple[dict[str, xr.Dataset], xr.DataArray, list[Path]]:
    """Open and correct the frames of one of two detectors; return scans, images and files."""
    detector: Detector | None = getattr(experiment, name)
    assert detector is not None  # checked by the experiment
    opened = {name: _open(experiment, detector, progress)}
    if detector.roles is not None:
        opened = select_roles(opened[name], detector.roles.given)
        opened = {name: opened.pop("sample"), **opened}
    opened |= _scans(experiment, detector, CORRECTIONS, progress)
    _check_shapes(opened)
    calibration, files = _calibration(experiment, detector.distortion)
    mask, mask_files = _mask(experiment, detector.mask)
    image = _corrected(experiment, opened[name], opened, calibration, mask)
    return opened, image, [*_files(opened), *files, *mask_files]


def corrected_images(experiment: Experiment, *, progress: bool | None = None) -> xr.DataArray:
    """Open and correct the images that an experiment tracks, lazily, and nothing else.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    progress : bool, optional
        As of `stages_of`.

    Returns
    -------
    xarray.DataArray, dims (frame, y, x)
        In absolute mode those of the far detector.

    Raises
    ------
    WavedaskError
        Files or settings that cannot be used.
    """
    if experiment.mode == "absolute":
        return _detector(experiment, "far", progress)[1]
    return _one(experiment, progress).image


def _corrections(scans: Mapping[str, xr.Dataset]) -> Sources:
    """Frames that correct all others, by role."""
    return {role: sources_of(scans[role]) for role in CORRECTIONS if role in scans}


def _far_first(sizes: Any) -> tuple[Any, Any] | None:
    """Pixel sizes in the order far, near; None unless there are two."""
    return (sizes[1], sizes[0]) if isinstance(sizes, tuple) else None


def _scans(
    experiment: Experiment, section: Any, roles: tuple[str, ...], progress: bool | None
) -> dict[str, xr.Dataset]:
    return {
        role: _open(experiment, frames, progress)
        for role in roles
        if (frames := getattr(section, role)) is not None
    }


def _files(scans: Mapping[str, xr.Dataset]) -> tuple[Path, ...]:
    # One file may hold frames of several roles.
    return tuple(dict.fromkeys(path for scan in scans.values() for path in input_files(scan)))


def _calibration(
    experiment: Experiment, name: str | None
) -> tuple[xr.Dataset | None, tuple[Path, ...]]:
    """Open a calibration, and name the file that identifies it."""
    if name is None:
        return None, ()
    path = experiment.path(name)
    return open_store(path), (path / METADATA,)


def _mask(
    experiment: Experiment, name: str | None
) -> tuple[NDArray[np.bool_] | None, tuple[Path, ...]]:
    """Read a mask, and name its file."""
    if name is None:
        return None, ()
    path = experiment.path(name)
    return read_mask(path), (split_mask(path)[0],)


def _pupil(
    experiment: Experiment, result: xr.Dataset
) -> tuple[xr.DataArray | None, tuple[Path, ...]]:
    """Return the mask of the pupil, and the file that it comes from."""
    if experiment.pupil is None:
        return None, ()
    image, files = _mask(experiment, experiment.pupil.mask)
    roi = None if experiment.wavefront is None else experiment.wavefront.roi
    return pupil_mask(experiment.pupil, result, image=image, roi=roi), files


def _corrected(
    experiment: Experiment,
    scan: xr.Dataset,
    scans: Mapping[str, xr.Dataset],
    calibration: xr.Dataset | None,
    mask: NDArray[np.bool_] | None,
) -> xr.DataArray:
    settings = experiment.correct
    return correct(
        scan,
        dark=scans.get("dark"),
        flat=scans.get("flat"),
        flat_dark=scans.get("flat_dark"),
        average=settings.average,
        mask=mask,
        saturation=settings.saturation,
        bad=settings.bad,
        hot_pixels=settings.hot_pixels,
        distortion=calibration,
    )


def _blind(experiment: Experiment, scans: Mapping[str, xr.Dataset]) -> tuple[xr.DataArray, ...]:
    if "flat" not in scans:
        return ()
    dark = scans.get("flat_dark", scans.get("dark"))
    return (blind_pixels(scans["flat"], dark=dark, average=experiment.correct.average),)


def _kept(result: xr.Dataset, names: list[str] | None) -> xr.Dataset:
    """Drop the maps that `keep` does not name: they are then not computed."""
    if names is None:
        return result
    maps = [str(name) for name, array in result.data_vars.items() if {Y, X} <= {*array.dims}]
    unknown = sorted(set(names) - set(maps))
    if unknown:
        raise InputError(
            f"keep names {', '.join(unknown)}", f"The maps of this result are {', '.join(maps)}."
        )
    return result.drop_vars(set(maps) - set(names))


def _region(
    tracking: xr.Dataset, roi: tuple[tuple[int, int], tuple[int, int]] | None
) -> xr.Dataset:
    """Crop a tracking to a region, and label its pixels with their numbers."""
    numbered = tracking.assign_coords(
        {
            quantity.name: (quantity.name, pixel_numbers(tracking, quantity.name), quantity.attrs)
            for quantity in (POSITION_Y, POSITION_X)
        }
    )
    if roi is None:
        return numbered
    for dim, (first, end) in zip((Y, X), roi, strict=True):
        numbers = numbered[dim].values
        if not numbers[0] <= first < end <= numbers[-1] + 1:
            raise InputError(
                f"wavefront.roi is {[[*part] for part in roi]}, and the frames have the pixels "
                f"{numbers[0]:g} to {numbers[-1]:g} along {dim}",
                "Give [[first_y, end_y], [first_x, end_x]] within the frame; the end does not "
                "count.",
            )
    return numbered.sel({dim: slice(a, b - 1) for dim, (a, b) in zip((Y, X), roi, strict=True)})


def _check_shapes(scans: Mapping[str, xr.Dataset]) -> None:
    shapes = {role: (scan.sizes[Y], scan.sizes[X]) for role, scan in scans.items()}
    first = next(iter(shapes))
    for role, shape in shapes.items():
        if shape != shapes[first]:
            raise FrameMismatchError(
                f"{role} frames ({input_files(scans[role])[0]}, ...) are {shape} pixels (y, x), "
                f"{first} frames ({input_files(scans[first])[0]}, ...) {shapes[first]}",
                "Use frames of the same detector region and binning.",
            )


def _open(experiment: Experiment, frames: Frames, progress: bool | None) -> xr.Dataset:
    named = frames.files
    source: Any = (
        experiment.source(named)
        if isinstance(named, str)
        else [experiment.source(name) for name in named]
    )
    motors: Any = frames.motors
    if isinstance(motors, str):
        motors = experiment.path(motors)
    elif frames.mesh is not None:
        motors = frames.mesh.positions()
    return open_scan(
        source,
        motors=motors,
        units=frames.units,
        scan=frames.scan,
        image=frames.image,
        progress=progress,
    )
