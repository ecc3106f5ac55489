"""Detector distortion from a mesh scan: detectorDistortion of the report."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Literal

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask import conventions as cv
from wavedask.conventions import FRAME, PAIR, Quantity, X, Y, labelled
from wavedask.detector.mesh import (
    ACCEPTED,
    MISFITTING,
    STATUS,
    MeshPairs,
    MeshTracker,
    tracked_pairs,
)
from wavedask.errors import InputError
from wavedask.frames import (
    ScanGrid,
    image_of,
    masked_images,
    metres_per_unit,
    names_of,
    positions,
    scan_grid,
)
from wavedask.kernels.grids import interpolate
from wavedask.kernels.mesh import (
    ControlGrid,
    Lattice,
    MeshSolution,
    covered,
    fit_matrix,
    gradient_distortion,
    mean_map,
    motor_axes,
    motor_axes_errors,
    solve_mesh,
    without_affine,
)
from wavedask.kernels.spline import Order
from wavedask.store import as_json
from wavedask.tracking import checked_settings
from wavedask.units import number_of

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Method = Literal["global", "gradient"]

METHODS: Final = ("global", "gradient")
STRIDE: Final = 8
"""Pixels between the points at which the displacement of a pair is kept."""
AXES: Final = (
    Quantity(cv.PIXEL_AXIS, cv.DIMENSIONLESS, "axis of the detector"),
    Quantity(cv.MOTOR_AXIS, cv.DIMENSIONLESS, "motor that moves the detector"),
)
MISFIT: Final = 5.0
"""A pair is not used if its misfit is this many times the median."""


def detector_distortion(
    mesh: xr.DataArray | xr.Dataset,
    *,
    motor_y: str,
    motor_x: str,
    method: Method = "global",
    window: int = 21,
    search: int = 8,
    order: Order | None = None,
    least_correlation: float = 0.3,
    spacing: float = 16.0,
    smoothing: float = 1e-3,
    progress: bool | None = None,
) -> xr.Dataset:
    """Calibrate the distortion and the pixel size of a detector with a mesh scan.

    The detector moves over an equally spaced grid in front of a speckle pattern that stands still.
    All neighbours along both axes are tracked. Without distortion each displacement would be a
    rigid shift; the distortion is computed from the rest. The function computes everything when it
    is called, on Dask, with the pairs in parallel.

    Parameters
    ----------
    mesh : xarray.Dataset or DataArray, dims (frame, y, x)
        Frames of the scan, corrected for dark and flat: otherwise the fixed pattern of the
        detector, which moves with it, is matched instead of the speckle. Both motors are
        coordinates on ``frame``. Frames may be missing, repeated, or in any order: this is logged,
        and kept in the attributes. Masked pixels are NaN, as in `correct`.
    motor_y, motor_x : str
        Names of the motors that move the detector along y and along x, with a unit of length.
        Either may run backward.
    method : "global" or "gradient", default "global"
        ``global``: fits the displacements of the whole mesh at once, with the true position of
        every frame as an unknown. ``gradient``: equations 3.5 to 3.8 of the report, unchanged, with
        mean differences as derivatives.
    window : int, default 21
        Side of the window of the tracker in px, odd.
    search : int, default 8
        Largest displacement that is looked for, in px, beyond the shift expected from the motors.
    order : 3, 5 or "auto", optional
        Order of the B-spline of the tracker, as in `wavedask.track`.
    least_correlation : float, default 0.3
        A pair is used if its median correlation is at least this.
    spacing : float, default 16
        Pixels between the control points of the B-spline that models the distortion; ``global``
        only.
    smoothing : float, default 1e-3
        Weight of the bending of this spline, relative to the data; ``global`` only. It matters only
        for what the data do not determine, such as a ripple with the period of the mesh.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal and in a notebook.

    Returns
    -------
    xarray.Dataset
        In memory.

        ``distortion_y``, ``distortion_x`` (y, x), px
            ``f`` with ``true = distorted + f(distorted)``; NaN where no pair has a match. They have
            no affine part and no mean (least squares over the pixels with a value): pixel size,
            rotation and shear hold the affine part.
        ``distortion_y_error``, ``distortion_x_error`` (y, x), px
            Standard errors; ``global`` only.
        ``distortion_y_residual``, ``distortion_x_residual`` (y, x), px
            Mean misfit of the pairs; ``global`` only.
        ``pixel_size_y``, ``pixel_size_x``, m; ``rotation``, ``shear``, rad
            Effective pixel size; angle between the motor axes and the pixel axes (positive turns +x
            toward +y); departure of the two motor axes from a right angle. Each with its
            ``..._error`` (``global`` only). They rely on the readings of the motors: the errors
            include the scatter of the readings about the measured positions of the detector.
        ``motor_matrix`` (pixel_axis, motor_axis), px/m
            Undistorted pixels that the detector moves per metre of each motor.
        ``stage_error_y``, ``stage_error_x`` (frame), px
            Position of the detector relative to the readings of its motors; ``global`` only.
        ``pair_...`` (pair)
            The pairs: ``sample`` and ``reference`` (numbers of frames), ``step_y`` and ``step_x``
            (px, from the motors), ``correlation`` (median), ``matched`` (fraction of the overlap),
            ``residual`` (rms misfit, px; ``global`` only), and ``status`` (used, or why not).

    Raises
    ------
    MotorError
        A motor that is missing or has no unit, or positions that are not a grid of 2 x 2 or more.
    InputError
        No frames, a step below 2 px or beyond the overlap of the frames, frames without a match, an
        unknown method, or settings that make no sense.

    See Also
    --------
    wavedask.correct : resamples frames with the result (``distortion=``).

    References
    ----------
    E.-R. Cojocaru et al., "Wavefront software tests at ESRF", EUCALL milestone M7.5 (2018),
    equations 3.4 to 3.8.

    Examples
    --------
    >>> from wavedask.simulate import Distortion, mesh_scan
    >>> bent = Distortion((128, 128), barrel=0.2)
    >>> simulated = mesh_scan(bent, positions=(2, 3), step=12.0, pixel_size=1e-6)
    >>> cal = detector_distortion(simulated.scan, motor_y="dety", motor_x="detx", window=15)
    >>> print(f"{1e6 * float(cal.pixel_size_x):.2f} {cal.distortion_y.units}")
    1.00 px
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}", f"Choose one of: {', '.join(METHODS)}.")
    _check_numbers(spacing, smoothing, least_correlation)
    checked_settings(engine="dense", good=0.8, window=window, search=search, order=order)
    images = masked_images(image_of(mesh, "mesh"), "mesh")
    motors = _readings(images, (motor_y, motor_x))
    grid = scan_grid(motors, names=(motor_y, motor_x))
    _report_order(grid)
    frame = (int(images.sizes[Y]), int(images.sizes[X]))
    frames = images.data
    if not isinstance(frames, da.Array):
        frames = da.from_array(frames, chunks=(1, -1, -1))
    tracker = MeshTracker(frames, Lattice(frame, STRIDE), window, search, order, least_correlation)
    pairs = tracked_pairs(tracker, grid, motors, (motor_y, motor_x), progress)
    if method == "global":
        parts = _global(
            pairs,
            motors,
            frame,
            names=(motor_y, motor_x),
            spacing=spacing,
            smoothing=smoothing,
            window=window,
        )
    else:
        parts = _gradient(pairs, motors, frame)
    asked: dict[str, Any] = {
        cv.WINDOW.name: window,
        "search": search,
        "order": order,
        "method": method,
        "motor_y": motor_y,
        "motor_x": motor_x,
    }
    if method == "global":
        asked |= {"spacing": spacing, "smoothing": smoothing}
    return _dataset(parts, pairs, images, grid, (motor_y, motor_x), asked)


def _check_numbers(spacing: float, smoothing: float, least_correlation: float) -> None:
    number_of("spacing", spacing, unit=cv.PIXEL)
    number_of("smoothing", smoothing, unit=cv.DIMENSIONLESS)
    number_of("least_correlation", least_correlation, unit=cv.DIMENSIONLESS)
    if not 4 <= spacing < np.inf:
        raise InputError(f"spacing is {spacing!r}", "Give at least 4 px.")
    if not 0 < smoothing < np.inf:
        raise InputError(f"smoothing is {smoothing!r}", "Give a positive number, such as 1e-3.")
    if not 0 <= least_correlation < 1:
        raise InputError(
            f"least_correlation is {least_correlation!r}", "Give a correlation from 0 to below 1."
        )


def _readings(images: xr.DataArray, names: tuple[str, str]) -> Floats:
    """Read the motor positions in metres, (frame, 2)."""
    if FRAME not in images.dims:
        raise InputError(f"mesh has dimensions {images.dims}", f"Give a scan along {FRAME!r}.")
    if not images.sizes[FRAME]:
        raise InputError("mesh has no frames", "Did a selection find none?")
    readings = positions(images, names_of(names, argument="motor_y, motor_x"), name="mesh")
    factors = [metres_per_unit(images, name, name="mesh") for name in names]
    return np.asarray(readings * np.array(factors), np.float64)


def _report_order(grid: ScanGrid) -> None:
    for words, found in (
        ("no frame at positions (y, x)", grid.missing),
        ("positions taken before in frames", grid.repeated),
        ("out of order from frames", grid.disordered),
    ):
        if found:
            logger.warning(
                "mesh of %d x %d positions: %s %s", *grid.shape, words, ", ".join(map(str, found))
            )


@dataclass(slots=True)
class _Parts:
    """Parts of a calibration: maps (y, x), matrix in pixels per metre, and their errors."""

    distortion: Floats
    valid: Mask
    matrix: Floats
    covariance: Floats | None = None
    errors: Floats | None = None
    residual: Floats | None = None
    stage: Floats | None = None


def _global(
    pairs: MeshPairs,
    motors: Floats,
    frame: tuple[int, int],
    *,
    names: tuple[str, str],
    spacing: float,
    smoothing: float,
    window: int,
) -> _Parts:
    """Solve for all unknowns at once, and once more without the pairs that do not fit."""
    lattice = Lattice(frame, STRIDE)

    def solved() -> tuple[list[int], MeshSolution]:
        used = pairs.accepted()
        solution = solve_mesh(
            [pairs.tracked[index] for index in used],
            frames=len(motors),
            lattice=lattice,
            spacing=spacing,
            smoothing=smoothing,
            block=2 * window,
        )
        pairs.residual[used] = solution.rms
        return used, solution

    used, solution = solved()
    outlying = pairs.residual > MISFIT * np.nanmedian(pairs.residual)
    if outlying.any():
        pairs.status[outlying & (pairs.status == ACCEPTED)] = MISFITTING
        pairs.check(names)
        used, solution = solved()
    seen = lattice.cells(covered([pairs.tracked[index] for index in used], lattice))
    grid = ControlGrid(frame, spacing)
    rows, columns = np.arange(frame[0]), np.arange(frame[1])
    bent_y, bent_x = (
        grid.on_lattice(solution.coefficients[:, axis], rows, columns) for axis in (0, 1)
    )
    f_y, f_x, change = without_affine(bent_y, bent_x, seen)
    matrix, covariance, left = fit_matrix(
        solution.positions @ change.T, motors, solution.components
    )
    # The scatter about the motor readings does not show errors that all positions share.
    known = np.isfinite(solution.positions)
    drawn = [
        fit_matrix(np.where(known, draw, np.nan), motors, solution.components)[0].ravel()
        for draw in solution.position_draws
    ]
    covariance = covariance + np.cov(np.stack(drawn), rowvar=False)
    residual = [mean_map([misfit[axis] for misfit in solution.residual]) for axis in (0, 1)]
    return _Parts(
        np.stack([f_y, f_x]),
        seen,
        matrix,
        covariance,
        np.stack([_to_pixels(error, lattice) for error in solution.errors]),
        np.stack([_to_pixels(part, lattice) for part in residual]),
        left,
    )


def _gradient(pairs: MeshPairs, motors: Floats, frame: tuple[int, int]) -> _Parts:
    """Integrate mean differences, as the report does, and remove the affine part."""
    lattice = Lattice(frame, STRIDE)
    chosen = [[pairs.tracked[index] for index in pairs.accepted(axis)] for axis in (0, 1)]
    solution = gradient_distortion(chosen[0], chosen[1], lattice)
    maps = [_to_pixels(part, lattice) for part in solution.distortion]
    valid = np.isfinite(maps[0]) & np.isfinite(maps[1])
    f_y, f_x, change = without_affine(maps[0], maps[1], valid)
    steps = [
        np.mean([motors[pair.sample, axis] - motors[pair.reference, axis] for pair in chosen[axis]])
        for axis in (0, 1)
    ]
    matrix = np.diag([solution.step_y / steps[0], solution.step_x / steps[1]])
    return _Parts(np.stack([f_y, f_x]), valid, change @ matrix)


def _to_pixels(values: Floats, lattice: Lattice) -> Floats:
    """Interpolate a map from the lattice to the pixels."""
    return np.asarray(
        interpolate(
            values,
            rows=lattice.coordinates(0),
            columns=lattice.coordinates(1),
            pixel_rows=np.arange(lattice.frame[0]),
            pixel_columns=np.arange(lattice.frame[1]),
            bridge=True,
        )
    )


def _dataset(
    parts: _Parts,
    pairs: MeshPairs,
    images: xr.DataArray,
    grid: ScanGrid,
    names: tuple[str, str],
    settings: Mapping[str, Any],
) -> xr.Dataset:
    """Label the result."""
    variables = [*_maps(parts), *_scalars(parts), *_pair_table(pairs)]
    coords = {name: images.coords[name] for name in (Y, X, *names) if name in images.coords}
    if parts.stage is not None:
        variables += [
            labelled(values, quantity, dims=(FRAME,))
            for quantity, values in zip(
                (cv.STAGE_ERROR_Y, cv.STAGE_ERROR_X), parts.stage.T, strict=True
            )
        ]
    for axis, entries in zip(AXES, ((Y, X), names), strict=True):
        coords[axis.name] = labelled(list(entries), axis, dims=(axis.name,))
    found = xr.Dataset({variable.name: variable for variable in variables}).assign_coords(coords)
    return found.assign_attrs(
        settings=as_json(settings),
        grid=list(grid.shape),
        missing_positions=[list(place) for place in grid.missing],
        repeated_frames=list(grid.repeated),
        disordered_frames=list(grid.disordered),
        rejected_pairs=pairs.rejections(),
        version=version("wavedask"),
    )


def _maps(parts: _Parts) -> Iterator[xr.DataArray]:
    for quantities, maps in (
        ((cv.DISTORTION_Y, cv.DISTORTION_X), parts.distortion),
        ((cv.DISTORTION_Y_ERROR, cv.DISTORTION_X_ERROR), parts.errors),
        ((cv.DISTORTION_Y_RESIDUAL, cv.DISTORTION_X_RESIDUAL), parts.residual),
    ):
        if maps is not None:
            for quantity, values in zip(quantities, maps, strict=True):
                known = np.where(parts.valid, values, np.nan).astype(np.float32)
                yield labelled(known, quantity, dims=(Y, X))


def _scalars(parts: _Parts) -> Iterator[xr.DataArray]:
    axes = (cv.PIXEL_SIZE_Y, cv.PIXEL_SIZE_X, cv.ROTATION, cv.SHEAR)
    for quantity, value in zip(axes, motor_axes(parts.matrix), strict=True):
        yield labelled(value, quantity, dims=())
    if parts.covariance is not None:
        errors = (
            cv.PIXEL_SIZE_Y_ERROR,
            cv.PIXEL_SIZE_X_ERROR,
            cv.ROTATION_ERROR,
            cv.SHEAR_ERROR,
        )
        found = motor_axes_errors(parts.matrix, parts.covariance)
        for quantity, value in zip(errors, found, strict=True):
            yield labelled(value, quantity, dims=())
    yield labelled(parts.matrix, cv.MOTOR_MATRIX, dims=(cv.PIXEL_AXIS, cv.MOTOR_AXIS))


def _pair_table(pairs: MeshPairs) -> Iterator[xr.DataArray]:
    for quantity, values in (
        (cv.PAIR_SAMPLE, [pair.sample for pair in pairs.tracked]),
        (cv.PAIR_REFERENCE, [pair.reference for pair in pairs.tracked]),
        (cv.PAIR_STEP_Y, pairs.moves[:, 0]),
        (cv.PAIR_STEP_X, pairs.moves[:, 1]),
        (cv.PAIR_CORRELATION, [quality.correlation for quality in pairs.quality]),
        (cv.PAIR_MATCHED, [quality.matched for quality in pairs.quality]),
        (cv.PAIR_RESIDUAL, pairs.residual),
    ):
        yield labelled(np.asarray(values), quantity, dims=(PAIR,))
    # Codes and their meanings as in the CF conventions.
    flags = {"flag_values": list(range(len(STATUS))), "flag_meanings": " ".join(STATUS)}
    yield labelled(pairs.status, cv.PAIR_STATUS, dims=(PAIR,), attrs=flags)
