"""Pick frames of lazy data by number, without hashing every block."""

from typing import Any, TypeVar

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from wavedask.conventions import FRAME

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


def pick_frames(data: Labelled, frames: NDArray[np.intp]) -> Labelled:
    """Pick frames by number; the same as ``data.isel(frame=frames)``, in less time.

    Dask hashes each block that it selects, which takes seconds for thousands of frames of a dozen
    maps. Where each block is one frame, a new key for the block is enough.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataArray
        Data with the dimension ``frame``.
    frames : ndarray of int, shape (picked,)
        Numbers of frames, from zero, in any order.

    Returns
    -------
    same type as `data`
        Lazy if `data` is.

    Examples
    --------
    >>> stack = xr.DataArray(da.arange(4, chunks=1), dims="frame")
    >>> pick_frames(stack, np.array([3, 1])).values
    array([3, 1])
    """
    first = int(frames[0]) if frames.size else 0
    if np.array_equal(frames, np.arange(first, first + frames.size)):
        # Consecutive frames are a slice, which Dask handles fast.
        return data.isel({FRAME: slice(first, first + frames.size)})
    if isinstance(data, xr.DataArray):
        if not _in_single_frames(data.variable):
            return data.isel({FRAME: frames})
        coords = pick_frames(data.coords.to_dataset(), frames).coords
        return xr.DataArray(_renamed(data.variable, frames), coords=coords, name=data.name)
    lazy = [name for name, array in data.data_vars.items() if _in_single_frames(array.variable)]
    others = data.drop_vars(lazy)
    others = others.isel({FRAME: frames}) if FRAME in others.dims else others
    picked = {
        name: _renamed(array.variable, frames) if name in lazy else others[name].variable
        for name, array in data.data_vars.items()
    }
    return xr.Dataset(picked, others.coords, data.attrs)


def _in_single_frames(variable: xr.Variable) -> bool:
    return (
        FRAME in variable.dims
        and isinstance(variable.data, da.Array)
        and max(variable.chunksizes[FRAME], default=0) == 1
    )


def _renamed(variable: xr.Variable, frames: NDArray[np.intp]) -> xr.Variable:
    """Select blocks by giving them new keys."""
    array: da.Array = variable.data
    axis = variable.dims.index(FRAME)
    name = f"frames-{tokenize(array.name, frames)}"
    grids = [np.arange(count) for count in array.numblocks]
    grids[axis] = np.arange(frames.size)
    new = np.stack([grid.ravel() for grid in np.meshgrid(*grids, indexing="ij")], axis=1)
    old = new.copy()
    old[:, axis] = frames[new[:, axis]]
    layer: Any = {
        (name, *there): (array.name, *here)
        for there, here in zip(new.tolist(), old.tolist(), strict=True)
    }
    sources: Any = [array]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=sources)
    chunks = list(array.chunks)
    chunks[axis] = (1,) * frames.size
    return xr.Variable(
        variable.dims, da.Array(graph, name, tuple(chunks), meta=array._meta), variable.attrs
    )
