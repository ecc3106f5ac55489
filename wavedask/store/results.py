"""The result store: create, write frame by frame, resume after a crash, grow, open.

A store is one Zarr v3 group that holds one dataset along ``frame``. Each dask block is one Zarr
chunk, written by one task. The boolean variable ``complete`` is the ledger: only the process that
drives the run writes it, and only after all chunks of a frame have landed.
"""

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import COMPLETE, FRAME, SCAN
from wavedask.errors import InputError, StoreError, StoreExistsError
from wavedask.frames import behind_inputs, dataset_of
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
    array,
    attributes_of,
    create,
    is_draft,
    read_arrays,
    settled,
)
from wavedask.store.lock import writing
from wavedask.store.places import Place, place_of
from wavedask.store.provenance import as_json, fingerprints, versions
from wavedask.store.storable import lazy_variables, storable
from wavedask.store.writer import Ledger, os_errors, write_missing
from wavedask.tables import Rows, Tabular

OWN: Final = (FORMAT, SETTINGS, INPUTS, SHARED, RUNS, VERSION, VERSIONS, CREATED)
"""Attributes of a store that do not come from the dataset."""

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
        """Frames that an earlier run had written."""
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
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> StoreReport:
    """Compute a lazy dataset frame by frame into a store, or finish one that was begun.

    If nothing stands at `path`, a store is created there in one step. If a store with the same
    settings and inputs stands there, only the frames that it lacks are computed. With `grow`,
    frames that it does not know are added to it, as a further scan. Whatever else stands there is
    left alone. A run may be killed at any moment: the store opens, and running the same again
    completes it. One run at a time writes a store, see `wavedask.store.lock.writing`.

    The computation runs on the current Dask client or local scheduler. Memory is bounded by the
    blocks in flight, not by the number of frames.

    Parameters
    ----------
    path : str or Path
        The store, a folder that all workers see under this path; by habit its name ends in
        ``.zarr``. Or a URL, such as ``s3://bucket/results.zarr``.
    dataset : xarray.Dataset
        The result, with the dimension ``frame``. Lazy variables on ``frame`` are computed block
        by block; coordinates, and variables without ``frame``, are computed at once when the
        store is created. The frame blocks of the largest variable are used for all.
    settings : mapping
        The resolved settings, see :func:`wavedask.store.provenance.as_json`.
    inputs : str, Path or sequence of these, optional
        Input files. Of an HDF5 master, the files that its frames are in are found and kept, too.
    grow : str or sequence of str, optional
        Names of settings that only say which frames there are, such as ``["sample"]``; a dot leads
        into a section, as in ``"near.files"``. With it, and with the coordinates ``source_file``
        and ``source_index`` along ``frame``, frames are found again by file and number (and by
        ``source_dataset``, where they have it), and those that are new are appended; the coordinate
        ``scan`` tells which run added a frame. Only for results whose frames do not depend on each
        other.
    shared : mapping, optional
        Raw frames that every frame of the result depends on, such as the darks, by what they are
        for: as of `wavedask.frames.sources_of`. A store grows only by frames that share the
        same.
    joined : str, default ""
        Without `grow`: what makes the frames depend on each other, for the message that refuses.
    record : mapping, optional
        Facts about this run that are kept in the history, and compared with nothing.
    hashed : bool, default False
        Whether to keep the SHA-256 of every input, which reads them all.
    repair : bool, default False
        Whether to look for frames that a copy has lost, see
        `wavedask.store.integrity.lost_frames`, and to compute them again as well.
    storage_options : mapping, optional
        Options of a URL: credentials, endpoint. Environment variables serve as well.
    progress : bool, optional
        Whether to show a progress bar; by default only on a terminal.

    Returns
    -------
    StoreReport
        Frames in the store, and how many of them were computed now.

    Raises
    ------
    StoreExistsError
        Something else stands at `path`: a store of other settings, inputs, shape or coordinates,
        another folder, or a file.
    StoreError
        The store cannot be written or is being written by another run, or an operating-system
        error stopped the computation.
    InputError
        No dataset, one that has no frames or holds what Zarr cannot, or settings that are no
        mapping or that JSON cannot hold.
    FileError
        An input file that is not there.

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
    with os_errors(f"store {place} cannot be written"), writing(place) as right:
        if place.occupied() and not (place.remote and is_draft(place)):
            if repair and attributes_of(place) is not None:
                forget_lost(place)
            found = _continued(place, dataset, lazy, provenance, run, grow, joined)
        else:
            found = Match(np.arange(dataset.sizes[FRAME]), dataset.sizes[FRAME])
            _begun(place, dataset, lazy, provenance, run, grow)
        group = place.group()
        ledger = Ledger(array(group, COMPLETE.name), right)
        missing = int((~ledger.complete[found.positions]).sum())
        # Without anything to compute, frames were written as they were found.
        written = missing if lazy else found.gained
        if missing:
            arrays = {name: array(group, name) for name in lazy}
            write_missing(right, lazy, arrays, ledger, found.positions, progress)
    frames = ledger.complete.size
    # What an earlier scan has left behind is not this run's to count as done.
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
        The result. Variables are lazy, in blocks as they were written; coordinates are in memory.
        The coordinate ``complete`` tells which frames have been written; the others hold NaN (or
        zero, for integers). The attributes hold ``settings``, ``inputs``, ``created`` and
        ``versions``.

    Raises
    ------
    StoreError
        Nothing there, something that is not a result store, or one that a newer wavedask wrote.

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
    """Entry of this run in the history of a store."""
    package = versions()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        SETTINGS: provenance[SETTINGS],
        VERSION: package["wavedask"],
        VERSIONS: package,
        **record,
    }


def _begun(
    place: Place,
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
    create(place, eager, lazy, attributes, frames=frames)


def _continued(
    place: Place,
    dataset: xr.Dataset,
    lazy: Mapping[str, xr.Variable],
    provenance: Mapping[str, Any],
    run: Mapping[str, Any],
    grow: Sequence[str] | None,
    joined: str,
) -> Match:
    """Find the frames of a dataset in the store that stands there, and add those it lacks."""
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
        # It is all of the store that this run has opened: what was unfinished may be no longer.
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
        grow_store(place, stored, eager, found, changed, lazy=set(lazy))
    else:
        with os_errors(f"store {place} cannot be written"):
            place.commit(changed, [str(name) for name in stored.variables])
    return found


def _tell_of_others(place: Place, ledger: Ledger) -> None:
    """Log frames that are not complete and were not this run's to compute."""
    left = int((~ledger.complete).sum())
    if left:
        _logger.warning(
            "%s: %d frames of an earlier scan are not complete; run that again, too", place, left
        )
