"""Whether a result store holds what its ledger says: a copy that was interrupted does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

from wavedask.conventions import COMPLETE, FRAME
from wavedask.errors import StoreError
from wavedask.store.layout import INPUTS, array, attributes_of, read_arrays
from wavedask.store.places import Place, place_of
from wavedask.store.provenance import changes
from wavedask.store.writer import chunk_keys, os_errors, unit_of


@dataclass(frozen=True, slots=True)
class Soundness:
    """The differences that `verify` found in the inputs and the frames of a store.

    Attributes
    ----------
    changed : list of str
        A line for each input that is missing or has changed.
    lost : dict of str to list of int
        As `lost_frames` returns it. sound : bool
        Whether nothing is wrong.
    """

    changed: list[str]
    lost: dict[str, list[int]]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.changed or self.lost)


def verify(path: str | Path, *, storage_options: Mapping[str, Any] | None = None) -> Soundness:
    """Check that the inputs of a result store are unchanged, and that its frames are intact.

    Parameters
    ----------
    path : str or Path
        A result store, a folder or a URL.
    storage_options : mapping, optional
        Options of a URL: credentials, endpoint.

    Returns
    -------
    Soundness
        If the store holds hashes of the inputs, the inputs are read and compared with them.

    Raises
    ------
    StoreError
        Not a result store, or one that cannot be read.

    Examples
    --------
    >>> import dask.array as da, tempfile, wavedask as wd, xarray as xr
    >>> slope = xr.DataArray(da.ones((3, 8, 8), chunks=(1, 8, 8)), dims=("frame", "y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = wd.write_store(f"{folder}/r.zarr", slope.to_dataset(name="slope"), settings={})
    ...     verify(report.path).sound
    True
    """
    lost = lost_frames(path, storage_options=storage_options)
    attributes = attributes_of(place_of(path, storage_options)) or {}
    return Soundness(changes(attributes.get(INPUTS, ())), lost)


def lost_frames(
    path: str | Path, *, storage_options: Mapping[str, Any] | None = None
) -> dict[str, list[int]]:
    """Find frames that are marked as complete, and of which something is missing.

    Zarr reads what is missing as NaN, as it reads what no run has computed yet. A run leaves
    nothing out; a copy that was interrupted, or a file that was deleted, does. The chunks are
    listed, and not read.

    Parameters
    ----------
    path : str or Path
        A result store, a folder or a URL.
    storage_options : mapping, optional
        Options of a URL: credentials, endpoint.

    Returns
    -------
    dict of str to list of int
        Numbers of the frames by variable; empty for a store that is whole.

    Raises
    ------
    StoreError
        Not a result store, or one that cannot be read.

    Examples
    --------
    >>> import dask.array as da, tempfile, wavedask as wd, xarray as xr
    >>> slope = xr.DataArray(da.ones((3, 8, 8), chunks=(1, 8, 8)), dims=("frame", "y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = wd.write_store(f"{folder}/r.zarr", slope.to_dataset(name="slope"), settings={})
    ...     (report.path / "slope/c/1/0/0").unlink()
    ...     lost_frames(report.path)
    {'slope': [1]}
    """
    place = place_of(path, storage_options)
    if attributes_of(place) is None:
        raise StoreError(f"{place} is not a wavedask result store", "Check the path.")
    with os_errors(f"store {place} cannot be read"):
        store = place.open(read_only=True)
        stored = read_arrays(place)
        complete = stored[COMPLETE.name].to_numpy()
        lost = {}
        for name, data in stored.data_vars.items():
            # Maps only: of what is written at once Zarr leaves out chunks of nothing but NaN.
            if FRAME in data.dims and data.ndim > 1:
                array = zarr.open_array(store, path=str(name), mode="r")
                present = sync(_keys(store, f"{name}/"))
                frames = _lost_of(array, complete, present, axis=data.dims.index(FRAME))
                if frames.size:
                    lost[str(name)] = frames.tolist()
    return lost


def forget_lost(place: Place) -> dict[str, list[int]]:
    """Mark lost frames as incomplete, so that the next run computes them.

    Parameters
    ----------
    place : Place
        A result store that no other run is writing.

    Returns
    -------
    dict of str to list of int As `lost_frames` returns it.
    """
    lost = lost_frames(place.text, storage_options=place.options)
    if lost:
        ledger = array(place.group(), COMPLETE.name)
        complete = np.asarray(ledger[:])
        complete[np.unique(np.concatenate(list(lost.values())))] = False
        ledger[:] = complete
    return lost


async def _keys(store: Any, prefix: str) -> set[str]:
    """List the keys below a prefix, without the prefix."""
    return {key.removeprefix(prefix) async for key in store.list_prefix(prefix)}


def _lost_of(
    array: zarr.Array[Any], complete: NDArray[np.bool_], present: set[str], *, axis: int
) -> NDArray[np.intp]:
    """Find complete frames of one array whose chunks are missing."""
    size = unit_of(array)[axis]
    lost = np.zeros(complete.size, dtype=bool)
    for block in range(-(-complete.size // size)):
        frames = slice(block * size, (block + 1) * size)
        if complete[frames].any():
            lost[frames] = not present.issuperset(chunk_keys(array, axis, block))
    return np.flatnonzero(lost & complete)
