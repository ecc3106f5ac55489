"""The result store: create, write frame by frame, resume after a crash, grow, open.

A store is one Zarr v3 group with one dataset along ``frame``. Each dask block of a map is one Zarr
chunk, and one task writes it. The numbers of frames are in chunks of many frames, which the process
that drives the run writes. The boolean variable ``complete`` is the ledger. Only the process that
drives the run writes it, after all chunks of a frame have been written.
"""

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.compute import check_software, current_client
from wavedask.conventions import COMPLETE, FRAME, SCAN
from wavedask.errors import InputError, StoreError, StoreExistsError
from wavedask.frames import behind_inputs, dataset_of
from wavedask.store.arrays import files_of, open_array
from wavedask.store.faults import os_errors
from wavedask.store.growth import SCAN_ATTRS, Match, can_grow, grow_store, match, merged_inputs
from wavedask.store.integrity import forget_lost
from wavedask.store.layout import (
    CREATED,
    FORMAT,
    FORMAT_VERSION,
    INPUTS,
    RUNS,
    SETTINGS,
    SHARED,
    VERSION,
    VERSIONS,
    along_frames,
    attributes_of,
    create,
    is_draft,
    read_arrays,
    settled,
)
from wavedask.store.ledger import Ledger
from wavedask.store.lock import Right, writing
from wavedask.store.numbers import Numbers, numbers_of
from wavedask.store.places import Place, place_of
from wavedask.store.provenance import as_json, fingerprints, versions
from wavedask.store.storable import lazy_variables, storable
from wavedask.store.writer import write_missing
from wavedask.tables import Rows, Tabular

OWN: Final = (FORMAT, SETTINGS, INPUTS, SHARED, RUNS, VERSION, VERSIONS, CREATED)
"""Attributes that the store adds to those of the dataset."""

_logger = logging.getLogger("wavedask")


@dataclass(frozen=True, slots=True, repr=False)
class StoreReport(Tabular):
    """What :func:`write_store` did.

    Attributes
    ----------
    path : Path or str
        The store: an absolute path, or its URL.
    frames : int
        Frames in the store, all complete.
    written : int
        Frames computed and written by this call.
    """

    path: Path | str
    frames: int
    written: int

    @property
    def kept(self) -> int:
        """Frames that an earlier run wrote."""
        return self.frames - self.written

    @property
    def rows(self) -> Rows:
        """Rows of the table that a notebook shows."""
        return [
            ("frames", f"{self.frames} ({self.written} computed now, {self.kept} kept)"),
            ("result store", str(self.path)),
        ]


def write_store(
    path: str | Path,
    dataset: xr.Dataset,
    *,
    settings: Mapping[str, Any],
    inputs: str | Path | Sequence[str | Path] = (),
    grow: str | Sequence[str] | None = None,
    shared: Mapping[str, Any] | None = None,
    joined: str = "",
    record: Mapping[str, Any] | None = None,
    hashed: bool = False,
    repair: bool = False,
    durable: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> StoreReport:
    """Compute a lazy dataset frame by frame into a store, or finish a store that was begun.

    If nothing exists at `path`, the store is created there in one step. If a store with the same
    settings and inputs exists, only its missing frames are computed. With `grow`, new frames are
    added to it as a further scan. Anything else at `path` is left as it is. A run may be killed at
    any time: the store opens, and the same call completes it. Only one run at a time can write a
    store, see `wavedask.store.lock.writing`.

    The computation runs on the current Dask client or local scheduler. Memory is bounded by the
    blocks in flight, not by the number of frames.

    Parameters
    ----------
    path : str or Path
        The store: a folder that all workers see under this path, usually with the ending ``.zarr``,
        or a URL such as ``s3://bucket/results.zarr``.
    dataset : xarray.Dataset
        The result, with the dimension ``frame``. Lazy variables on ``frame`` are computed block
        by block; coordinates, and variables without ``frame``, are computed at once when the
        store is created. The frame blocks of the largest variable are used for all.
    settings : mapping
        The resolved settings, see :func:`wavedask.store.provenance.as_json`.
    inputs : str, Path or sequence of these, optional
        Input files. The files that hold the frames of an HDF5 master are found and recorded, too.
    grow : str or sequence of str, optional
        Names of settings that only select the frames, such as ``["sample"]``; a dot names a key of
        a section, as in ``"near.files"``. The dataset needs the coordinates ``source_file`` and
        ``source_index`` along ``frame`` (and may have ``source_dataset``): they identify a frame.
        New frames are appended, and the coordinate ``scan`` is the number of the run that added a
        frame. Only for results whose frames do not depend on each other.
    shared : mapping, optional
        Raw frames that every frame of the result depends on, such as the darks, by their role, as
        `wavedask.frames.sources_of` returns them. Only frames with the same shared frames can be
        added to a store.
    joined : str, default ""
        Without `grow`: why the frames depend on each other, for the error message.
    record : mapping, optional
        Facts about this run for the history. They are not compared with anything.
    hashed : bool, default False
        Whether to store the SHA-256 of every input, for which all inputs are read.
    repair : bool, default False
        Whether to look for lost or damaged frames, see `wavedask.store.integrity.lost_frames`, and
        to compute them again.
    durable : bool, default True
        Whether frames must be on the disk before they are marked as complete, so that a power cut
        loses none of them. It costs a flush of the disk every half second. Only for folders: an
        object store is durable by itself.
    storage_options : mapping, optional
        Options of a URL: credentials, endpoint. Environment variables serve as well.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal and in a notebook.

    Returns
    -------
    StoreReport
        Number of frames in the store, and how many of them this call has computed.

    Raises
    ------
    StoreExistsError
        Something else exists at `path`: a store with other settings, inputs, shape or coordinates,
        another folder, or a file.
    StoreError
        The store cannot be written or is being written by another run, or an operating-system
        error stopped the computation.
    InputError
        Not a dataset, a dataset without frames or with values that Zarr cannot store, or settings
        that are not a mapping or that JSON cannot express.
    FileError
        An input file that is not there.
    ClusterError
        Workers with other software than this process, or a cluster that is lost.

    Examples
    --------
    >>> import dask.array as da, tempfile, xarray as xr
    >>> slope = da.ones((4, 8, 8), chunks=(1, 8, 8))
    >>> result = xr.Dataset({"slope_y": (("frame", "y", "x"), slope)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = write_store(f"{folder}/r.zarr", result, settings={"window": 21})
    ...     again = write_store(f"{folder}/r.zarr", result, settings={"window": 21})
    >>> first.written, again.written, again.kept
    (4, 0, 4)
    """
    client = current_client()
    if client is not None:
        check_software(client)
    place = place_of(path, storage_options)
    dataset = storable(dataset_of(dataset))
    lazy = lazy_variables(dataset)
    if not isinstance(settings, Mapping):
        raise InputError(
            f"settings is a {type(settings).__name__}", "Give a dictionary; {} if there are none."
        )
    inputs = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    grow = [grow] if isinstance(grow, str) else grow
    behind = behind_inputs(inputs, dataset, shared or {})
    provenance = {
        FORMAT: FORMAT_VERSION,
        SETTINGS: as_json(settings, where=SETTINGS),
        INPUTS: fingerprints(inputs, behind=behind, hashed=hashed),
        SHARED: as_json(shared or {}, where=SHARED),
    }
    run = _run(provenance, as_json(record or {}, where="record"))
    with os_errors(f"store {place} cannot be written"), writing(place, durable=durable) as right:
        place.remove_drafts()
        if place.occupied() and not (place.remote and is_draft(place)):
            if repair and attributes_of(place) is not None:
                forget_lost(place, progress)
            found = _continued(right, dataset, lazy, provenance, run, grow, joined)
        else:
            found = Match(np.arange(dataset.sizes[FRAME]), dataset.sizes[FRAME])
            _begun(right, dataset, lazy, provenance, run, grow)
        group = place.group()
        arrays = {name: open_array(group, name) for name in lazy}
        axes = {name: variable.dims.index(FRAME) for name, variable in lazy.items()}
        numbers = Numbers(place, numbers_of(place, axes), durable=durable)
        maps = {name: array for name, array in arrays.items() if name not in numbers}
        ledger = Ledger(right, files_of(place, maps, axes), numbers)
        missing = int((~ledger.complete[found.positions]).sum())
        # If nothing is lazy, the frames were written when they were added.
        written = missing if lazy else found.gained
        if missing:
            write_missing(right, lazy, maps, numbers, ledger, found.positions, progress)
    frames = ledger.complete.size
    # Frames that an earlier scan left incomplete are not part of this run.
    _tell_of_others(place, ledger)
    return StoreReport(place.text if place.remote else place.path, frames, written)


def open_store(path: str | Path, *, storage_options: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Open a result store.

    Parameters
    ----------
    path : str or Path
        The store, a folder or a URL.
    storage_options : mapping, optional
        Options of a URL: credentials, endpoint. Environment variables serve as well.

    Returns
    -------
    xarray.Dataset
        The result. Maps are lazy, in the blocks in which they were written; numbers of frames are
        lazy, in blocks of many frames; coordinates are in memory. The coordinate ``complete`` is
        true for frames that have been written; the others hold NaN (or zero, for integers). The
        attributes hold ``settings``, ``inputs``, ``created`` and ``versions``.

    Raises
    ------
    StoreError
        Nothing exists there, or it is not a result store, or a newer wavedask wrote it.

    Examples
    --------
    >>> import dask.array as da, tempfile, xarray as xr
    >>> slope = da.ones((4, 8, 8), chunks=(1, 8, 8))
    >>> result = xr.Dataset({"slope_y": (("frame", "y", "x"), slope)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_store(f"{folder}/r.zarr", result, settings={"window": 21})
    ...     stored = open_store(f"{folder}/r.zarr")
    ...     stored.attrs["settings"], bool(stored.complete.all())
    ({'window': 21}, True)
    """
    place = place_of(path, storage_options)
    with os_errors(f"store {place} cannot be read"):
        if not place.occupied():
            raise StoreError(f"there is no store at {place}", "Check the path.")
    if attributes_of(place) is None:
        if place.remote and is_draft(place):
            raise StoreError(
                f"there is no store at {place}: a run was killed while it created it",
                "Run the same command again.",
            )
        raise StoreError(
            f"{place} is not a wavedask result store",
            "Give the folder that was written as a result; open other Zarr data with xarray.",
        )
    dataset = settled(read_arrays(place))
    complete = dataset[COMPLETE.name]
    if not complete.all():
        missing = int((~complete).sum())
        _logger.info("%s: %d of %d frames are not complete", place, missing, complete.size)
    return dataset


def _run(provenance: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the entry of this run in the history of a store."""
    package = versions()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        SETTINGS: provenance[SETTINGS],
        VERSION: package["wavedask"],
        VERSIONS: package,
        **record,
    }


def _begun(
    right: Right,
    dataset: xr.Dataset,
    lazy: Mapping[str, xr.Variable],
    provenance: Mapping[str, Any],
    run: Mapping[str, Any],
    grow: Sequence[str] | None,
) -> None:
    """Create a store for a dataset."""
    frames = dataset.sizes[FRAME]
    eager = dataset.drop_vars(list(lazy)).compute()
    if grow is not None and can_grow(eager):
        eager = along_frames(eager)
        if SCAN not in eager.coords:
            eager = eager.assign_coords({SCAN: (FRAME, np.zeros(frames, np.int64), SCAN_ATTRS)})
    attributes = {
        **as_json(dict(dataset.attrs), where="attributes"),
        **provenance,
        VERSION: run[VERSION],
        VERSIONS: run[VERSIONS],
        CREATED: run["started"],
        RUNS: [{**run, "frames": frames, SCAN: 0}],
    }
    create(right.place, eager, lazy, attributes, frames=frames, durable=right.durable)


def _continued(
    right: Right,
    dataset: xr.Dataset,
    lazy: Mapping[str, xr.Variable],
    provenance: Mapping[str, Any],
    run: Mapping[str, Any],
    grow: Sequence[str] | None,
    joined: str,
) -> Match:
    """Find the frames of a dataset in an existing store, and add the missing ones."""
    place = right.place
    attributes = attributes_of(place)
    if attributes is None:
        raise StoreExistsError(
            f"{place} exists and is not a wavedask result store",
            "It was left as it is: give another path, or move it away.",
        )
    stored = read_arrays(place)
    eager = dataset.drop_vars(list(lazy)).compute()
    found = match(place, stored, attributes, eager, lazy, provenance, grow=grow, joined=joined)
    place.roll_back()
    complete = stored[COMPLETE.name].values
    known = found.positions[found.positions < complete.size]
    inputs = merged_inputs(attributes[INPUTS], provenance[INPUTS])
    if complete[known].all() and not found.gained and inputs == attributes[INPUTS]:
        return found
    if np.unique(known).size == complete.size:
        # This run has opened all frames of the store: attributes such as `unfinished` may be
        # outdated.
        attributes = {
            **as_json(dict(dataset.attrs), where="attributes"),
            **{name: attributes[name] for name in OWN if name in attributes},
        }
    runs = attributes.get(RUNS, [])
    entry = {**run, "frames": complete.size + found.gained}
    if found.gained:
        entry[SCAN] = 1 + max((past[SCAN] for past in runs if SCAN in past), default=0)
    changed = {
        **attributes,
        INPUTS: inputs,
        RUNS: [*runs, entry],
    }
    if found.gained:
        grow_store(place, stored, eager, found, changed, lazy=set(lazy), durable=right.durable)
    else:
        with os_errors(f"store {place} cannot be written"):
            place.commit(changed, place.array_names())
    return found


def _tell_of_others(place: Place, ledger: Ledger) -> None:
    """Log frames that are not complete and were not this run's to compute."""
    left = int((~ledger.complete).sum())
    if left:
        _logger.warning(
            "%s: %d frames of an earlier scan are not complete; run that again, too", place, left
        )
