"""Run an experiment from raw frames to a result store, or estimate its cost first."""

import time
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr
from dask.highlevelgraph import HighLevelGraph

from wavedask.compute import (
    LIBRARIES,
    check_memory_of_workers,
    check_paths,
    check_url,
    current_client,
    task_needs,
)
from wavedask.conventions import FRAME, MATCHED, REASON, STACK_FRAMES, X, Y
from wavedask.errors import InputError, StoreError
from wavedask.experiment.model import Experiment
from wavedask.experiment.pages import write_page
from wavedask.experiment.stages import Stages, stages_of
from wavedask.frames import behind_inputs
from wavedask.plot import kinds_of
from wavedask.report import (
    check_replaceable,
    matched_rows,
    numbers_of_frames,
    summary_rows,
    write_picture,
)
from wavedask.store import StoreReport, open_store, place_of, write_store
from wavedask.tables import Rows, Tabular
from wavedask.tracking import MissingReport, ResidualReport, first_residual, why_missing

KERNELS: Final = 80 * 2**20
"""Bytes of the compiled kernels, with what loads them."""
WORK_ARRAYS: Final = 40
"""Arrays of float32 of the size of a block that are alive at the peak of tracking a pair."""
ARRAYS_PER_IMAGE: Final = 4.65
"""The same per image of a stack: the image, its corrected copy, splines and gradients."""
COPIES_OF_MAPS: Final = 2
"""Each map of a result, and its encoded copy or the array that it is made of."""
BLIND_PIXELS = "blind_pixels"
"""Attribute of a result: number of pixels whose flat is not above their dark."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a run, known before it starts.

    Attributes
    ----------
    frames : int
        Frames of the sample.
    shape : (int, int)
        Rows and columns.
    blocks : int
        Blocks that are computed and written; each worker has one at a time.
    block_shape : tuple of int
        Frames, rows and columns of the largest block.
    tasks : int
        Steps of the computation, estimated from the first frames. Those of a whole frame are one
        task of Dask's scheduler.
    files : int
        Input files, including those that an HDF5 master file links to.
    bytes_input : int
        Total size of the input files.
    bytes_output : int
        Size of the result before compression.
    bytes_per_task : int
        Memory that one worker needs for a block at work: maps, intermediate arrays, the images of
        a stack, and the compiled kernels; the libraries come on top.
    bytes_libraries : int
        Memory of the imported libraries in each process.
    """

    frames: int
    shape: tuple[int, int]
    blocks: int
    block_shape: tuple[int, ...]
    tasks: int
    files: int
    bytes_input: int
    bytes_output: int
    bytes_per_task: int
    bytes_libraries: int


@dataclass(frozen=True, slots=True, repr=False)
class RunReport(Tabular):
    """The result of a run.

    Attributes
    ----------
    store : StoreReport
        The store, its frames, and how many of them were computed now.
    blind_pixels : int
        Number of pixels whose flat is not above their dark.
    seconds : float
        Duration of the run, from opening the files to the last write.
    missing : MissingReport or None
        How many pixels of all frames have a displacement, and why the others have none; None where
        the result does not say.
    summary : list of (str, str)
        The numbers of the frames in a few lines: pixels matched and why not the others, wavefront,
        lens, modes, mirror, focus.
    page, picture : Path or None
        The report and its picture, if they were written.
    """

    store: StoreReport
    blind_pixels: int
    seconds: float
    missing: MissingReport | None = None
    summary: Rows = field(default_factory=list)
    page: Path | None = None
    picture: Path | None = None

    @property
    def rows(self) -> Rows:
        """Rows of the last table of a run."""
        frames, path = self.store.rows
        return [
            frames,
            *self.summary,
            ("flat pixels without beam", f"{self.blind_pixels}"),
            ("time", f"{self.seconds:.1f} s"),
            path,
            *(() if self.page is None else (("report", str(self.page)),)),
            *(() if self.picture is None else (("picture", str(self.picture)),)),
        ]


def plan(prepared: Stages) -> Plan:
    """Estimate a run from its graph and the sizes of its files, without computing.

    Parameters
    ----------
    prepared : Stages
        As from `stages_of`.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        The result is not lazy, so that there is nothing to plan.
    """
    result = prepared.result
    lazy = _lazy(result)
    maps = _maps(result)
    if not maps:
        raise InputError("the result is not lazy", "Plan before it is computed.")
    behind = behind_inputs(prepared.inputs, result, prepared.shared)
    files = {*prepared.inputs, *chain.from_iterable(behind.values())}
    frames = result.sizes[FRAME]
    blocks = max(int(np.prod(array.data.numblocks)) for array in maps)
    block_shape = tuple(max(sizes) for sizes in maps[0].chunks or ())
    one, two = (_count_tasks(lazy, blocks) for blocks in (1, 2))
    # Tasks that all frames share (flat, dark, reference) are in both, and count once.
    tasks = one + (two - one) * (-(-frames // block_shape[0]) - 1)
    return Plan(
        frames=frames,
        shape=(result.sizes[Y], result.sizes[X]),
        blocks=blocks,
        block_shape=block_shape,
        tasks=tasks,
        files=len(files),
        bytes_input=sum(path.stat().st_size for path in files),
        bytes_output=sum(array.nbytes for array in maps),
        bytes_per_task=bytes_at_work(prepared),
        bytes_libraries=LIBRARIES,
    )


def _lazy(result: xr.Dataset) -> list[xr.DataArray]:
    """List what is computed frame by frame: maps, and numbers of them."""
    return [array for array in result.data_vars.values() if FRAME in array.dims and array.chunks]


def _maps(result: xr.Dataset) -> list[xr.DataArray]:
    """List the lazy maps of a result."""
    return [array for array in _lazy(result) if {Y, X} <= {*array.dims}]


def bytes_at_work(prepared: Stages) -> int:
    """Estimate the memory of a block at work, from what such blocks were measured to need.

    Parameters
    ----------
    prepared : Stages
        As from `stages_of`.

    Returns
    -------
    int
        Bytes, without the libraries of the process.
    """
    maps = _maps(prepared.result)
    bytes_of_maps = sum(int(np.prod(array.data.chunksize)) * array.dtype.itemsize for array in maps)
    block_shape = tuple(max(sizes) for sizes in maps[0].chunks or ()) if maps else (0,)
    pixels = int(np.prod(block_shape[-2:])) * block_shape[0]
    images = 2
    if STACK_FRAMES in prepared.result.coords:
        # All images of a stack are matched together.
        reference = prepared.reference
        images = prepared.image.sizes[FRAME]
        images += reference.sizes.get(FRAME, 1) if isinstance(reference, xr.DataArray) else images
    work = max(WORK_ARRAYS, ARRAYS_PER_IMAGE * images) * pixels * np.dtype(np.float32).itemsize
    return KERNELS + COPIES_OF_MAPS * bytes_of_maps + int(work)


def _count_tasks(maps: list[xr.DataArray], blocks: int) -> int:
    """Count the tasks of the first blocks of frames, after Dask has fused them."""
    whole = HighLevelGraph.merge(*(array.data.__dask_graph__() for array in maps))
    keys = []
    for array in maps:
        grid = [range(count) for count in array.data.numblocks]
        axis = array.dims.index(FRAME)
        grid[axis] = grid[axis][:blocks]
        keys += [(array.data.name, *index) for index in product(*grid)]
    return len(dict(maps[0].data.__dask_optimize__(whole, keys)))


def run(
    experiment: Experiment,
    *,
    prepared: Stages | None = None,
    hashed: bool = False,
    repair: bool = False,
    progress: bool | None = None,
) -> RunReport:
    """Run an experiment on the current Dask client or local scheduler, or resume it.

    Parameters
    ----------
    experiment : Experiment
        The experiment. If its store already exists with the same settings and inputs, only missing
        frames are computed. New frames are appended to the store if frames do not depend on each
        other (pulses that are tracked in the mean of all pulses do), and if the new frames have
        the same darks, flats, calibration and reference (or first pulse, or frames for the
        registration of two detectors).
    prepared : Stages, optional
        Its stages, if they exist already.
    hashed : bool, default False
        Whether to save the SHA-256 of every input file in the store.
    repair : bool, default False
        Whether to compute frames again that the store has lost, for example in a copy.
    progress : bool, optional
        Whether to show progress bars; by default on a terminal and in a notebook.

    Returns
    -------
    RunReport

    Raises
    ------
    WavedaskError
        Files, settings or a store that cannot be used; workers of a cluster that have too little
        memory, or do not see the files.
    """
    begin = time.perf_counter()
    ready = stages_of(experiment, progress=progress) if prepared is None else prepared
    output = experiment.store
    _check_workers(ready, output)
    if experiment.report:
        # Before the frames are computed, and not after.
        check_replaceable(experiment.page)
        check_replaceable(experiment.page.with_suffix(".png"))
    blind = _count_blind(ready, output)
    with task_needs(bytes_at_work(ready)):
        report = write_store(
            output,
            ready.result.assign_attrs({BLIND_PIXELS: blind, **_residual(experiment, ready)}),
            settings=experiment.settings,
            inputs=ready.inputs,
            grow=ready.grow,
            shared=ready.shared,
            joined=ready.joined,
            record={"command": "run", "folder": experiment.folder},
            hashed=hashed,
            repair=repair,
            durable=experiment.durable,
            progress=progress,
        )
    stored = open_store(output)
    maps = [name for name, array in stored.items() if {Y, X} <= {*array.dims}]
    numbers = numbers_of_frames(stored.drop_vars(maps), progress=progress)
    missing, matched = None, []
    if REASON.name in stored:
        missing = why_missing(stored, progress=progress)
        missing.log(str(report.path))
        matched = matched_rows(stored, numbers, missing)
        numbers = numbers.drop_vars(MATCHED.name, errors="ignore")
    residual = ResidualReport.of_attrs(stored.attrs)
    left = [] if residual is None else residual.rows
    summary = [*matched, *((f"first frame, {name}", value) for name, value in left)]
    summary += summary_rows(numbers)
    seconds = time.perf_counter() - begin
    page, picture = None, None
    if experiment.report:
        page = write_page(output, experiment.page, images=ready.image)
        if kinds_of(stored):
            picture = write_picture(stored, experiment.page.with_suffix(".png"))
    return RunReport(report, blind, seconds, missing, summary, page, picture)


def _residual(experiment: Experiment, ready: Stages) -> dict[str, float]:
    """State what the match of the first frame leaves, as attributes; an earlier run told it."""
    if experiment.track_scan is not None or experiment.self_reference is not None:
        return {}
    try:
        stored = open_store(experiment.store).attrs
    except StoreError:
        # No store yet. If the path holds something else, writing raises the error.
        found = first_residual(ready.image, ready.reference, experiment.track.options)
        if found is not None:
            found.log("run")
    else:
        found = ResidualReport.of_attrs(stored)
    return {} if found is None else found.attrs


def _check_workers(ready: Stages, output: Path | str) -> None:
    """Check that the workers of a cluster have the memory and see the files, before it starts."""
    client = current_client()
    if client is not None:
        check_memory_of_workers(client, bytes_at_work(ready))
        outputs = [output] if isinstance(output, Path) else []
        check_paths(client, inputs=ready.inputs, outputs=outputs)
        if not isinstance(output, Path):
            check_url(client, output, opener=place_of)


def _count_blind(ready: Stages, output: Path | str) -> int:
    """Count the blind pixels, or read their number from an earlier run."""
    if not ready.blind:
        return 0
    try:
        stored = open_store(output).attrs
    except StoreError:
        # No store yet. If the path holds something else, writing raises the error.
        stored = {}
    return int(
        stored[BLIND_PIXELS]
        if BLIND_PIXELS in stored
        else sum(int(blind.sum()) for blind in ready.blind)
    )
