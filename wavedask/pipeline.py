"""An experiment from raw frames to a result store: open, correct, track, integrate, write."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

from wavedask.conventions import FRAME, X, Y
from wavedask.correct import blind_pixels, correct
from wavedask.errors import InputError
from wavedask.experiment import Experiment, Frames
from wavedask.io import input_files, open_scan
from wavedask.store import StoreReport, write_store
from wavedask.track import track
from wavedask.wavefront import wavefront

logger = logging.getLogger(__name__)

BLIND_PIXELS = "blind_pixels"
"""Attribute of a result: pixels whose flat field is not above their dark."""


@dataclass(frozen=True)
class Stages:
    """The stages of an experiment, all lazy.

    Attributes
    ----------
    image, reference : xarray.DataArray
        Corrected frames.
    result : xarray.Dataset
        Everything the store will hold.
    inputs : tuple of Path
        Files that went in.
    blind : xarray.DataArray or None
        Pixels whose flat field is not above their dark, where there is a flat.
    """

    image: xr.DataArray
    reference: xr.DataArray
    result: xr.Dataset
    inputs: tuple[Path, ...]
    blind: xr.DataArray | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, known before it starts.

    Attributes
    ----------
    frames : int
        Frames of the sample.
    shape : (int, int)
        Rows and columns.
    blocks : int
        Blocks that are computed and written, one at a time per worker.
    block_shape : tuple of int
        Frames, rows and columns of the largest block.
    tasks : int
        Dask tasks, estimated from the first frame.
    bytes_input : int
        Raw bytes of the sample.
    bytes_output : int
        Bytes of the result before compression.
    bytes_per_task : int
        Memory of one block at work: its variables, and as much again for intermediates.
    """

    frames: int
    shape: tuple[int, int]
    blocks: int
    block_shape: tuple[int, ...]
    tasks: int
    bytes_input: int
    bytes_output: int
    bytes_per_task: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did.

    Attributes
    ----------
    store : StoreReport
        The store, its frames, and how many were computed now.
    blind_pixels : int
        Pixels of a frame whose flat field is not above their dark.
    seconds : float
        Time of the run, from open to the last byte.
    """

    store: StoreReport
    blind_pixels: int
    seconds: float


def stages(experiment: Experiment, *, progress: bool | None = None) -> Stages:
    """Open the files of an experiment and express its stages; nothing is computed.

    Parameters
    ----------
    experiment : Experiment
        What to do.
    progress : bool, optional
        Whether to show a bar while headers are read; by default on a terminal only.

    Returns
    -------
    Stages

    Raises
    ------
    WavedaskError
        Files or settings that cannot be used.
    """
    scans = {
        role: _open(experiment, getattr(experiment, role), progress)
        for role in ("sample", "reference", "dark", "flat")
        if getattr(experiment, role) is not None
    }
    dark, flat = scans.get("dark"), scans.get("flat")
    settings = experiment.correct
    image, reference = (
        correct(
            scans[role],
            dark=dark,
            flat=flat,
            average=settings.average,
            hot_pixels=settings.hot_pixels,
        )
        for role in ("sample", "reference")
    )
    tracking = track(image, reference, **dict(experiment.track))
    physical = wavefront(tracking, **dict(experiment.wavefront))
    # Displacements take the coordinates in metres, so that the store has one pair of axes.
    maps = tracking.assign_coords({dim: physical[dim] for dim in (Y, X)})
    result = maps.assign(physical.data_vars)
    result.attrs = {**scans["sample"].attrs, **physical.attrs}
    inputs = tuple(path for scan in scans.values() for path in input_files(scan))
    blind = None
    if flat is not None:
        blind = blind_pixels(flat, dark=dark, average=settings.average)
    return Stages(image, reference, result, inputs, blind)


def _open(experiment: Experiment, frames: Frames, progress: bool | None) -> xr.Dataset:
    names = [frames.files] if isinstance(frames.files, str) else frames.files
    motors: Any = frames.motors
    if isinstance(motors, str):
        motors = experiment.path(motors)
    elif frames.mesh is not None:
        motors = frames.mesh.positions()
    return open_scan(
        [experiment.path(name) for name in names],
        motors=motors,
        units=frames.units,
        scan=frames.scan,
        progress=progress,
    )


def plan(result: xr.Dataset, image: xr.DataArray) -> Plan:
    """Tell what computing a result will take; only its graph is looked at.

    Parameters
    ----------
    result : xarray.Dataset
        Lazy result of `stages`.
    image : xarray.DataArray
        Corrected frames it is computed from.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        A result that is not lazy: there is nothing left to plan.
    """
    maps = [array for array in result.data_vars.values() if FRAME in array.dims and array.chunks]
    if not maps:
        raise InputError("the result is not lazy", "Plan before it is computed.")
    frames = result.sizes[FRAME]
    blocks = max(int(np.prod(array.data.numblocks)) for array in maps)
    block_shape = tuple(max(sizes) for sizes in maps[0].chunks or ())
    (first,) = dask.base.optimize(result.isel({FRAME: slice(0, block_shape[0])}))
    tasks = len(dict(first.__dask_graph__())) * -(-frames // block_shape[0])
    per_block = sum(int(np.prod(array.data.chunksize)) * array.dtype.itemsize for array in maps)
    return Plan(
        frames=frames,
        shape=(image.sizes[Y], image.sizes[X]),
        blocks=blocks,
        block_shape=block_shape,
        tasks=tasks,
        bytes_input=image.nbytes,
        bytes_output=sum(array.nbytes for array in maps),
        bytes_per_task=2 * per_block,
    )


def run(
    experiment: Experiment,
    *,
    prepared: Stages | None = None,
    progress: bool | None = None,
) -> RunReport:
    """Run an experiment on the current Dask client or local scheduler, or finish a run.

    Parameters
    ----------
    experiment : Experiment
        What to do. If its store was begun with the same settings and inputs, only the missing
        frames are computed.
    prepared : Stages, optional
        Its stages, if they have been expressed already.
    progress : bool, optional
        Whether to show progress bars; by default on a terminal only.

    Returns
    -------
    RunReport

    Raises
    ------
    WavedaskError
        Files, settings or a store that cannot be used.
    """
    begin = time.perf_counter()
    ready = stages(experiment, progress=progress) if prepared is None else prepared
    blind = 0 if ready.blind is None else int(ready.blind.sum())
    if blind:
        logger.info("%d pixels have a flat field not above their dark", blind)
    result = ready.result.assign_attrs({BLIND_PIXELS: blind})
    report = write_store(
        experiment.path(experiment.output),
        result,
        settings=experiment.settings,
        inputs=ready.inputs,
        progress=progress,
    )
    return RunReport(report, blind, time.perf_counter() - begin)
