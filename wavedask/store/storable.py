"""Check that a dataset can be stored, and convert it to the form that is written."""

import dask.array as da
import numpy as np
import xarray as xr

from wavedask.conventions import COMPLETE, FRAME
from wavedask.errors import InputError
from wavedask.store.places import METADATA


def storable(dataset: xr.Dataset) -> xr.Dataset:
    """Check `dataset`, and drop the encoding of the files that it came from."""
    if not dataset.sizes.get(FRAME):
        raise InputError(
            f"the dataset has no frames: its dimensions are {dict(dataset.sizes)}",
            f"Give it the dimension {FRAME!r}, for one result with expand_dims({FRAME!r}).",
        )
    # The ledger of another store, from which the data came, is not valid here.
    dataset = dataset.drop_vars(COMPLETE.name, errors="ignore").drop_encoding()
    for name, variable in dataset.variables.items():
        if not isinstance(name, str) or name in ("", ".", "..", METADATA) or "/" in name:
            raise InputError(
                f"variable {name!r} has a name that Zarr cannot hold",
                "Rename it to a text without '/'.",
            )
        if variable.dtype.kind in "mM":
            dataset[name] = _in_nanoseconds(dataset[name])
        if variable.dtype.kind == "U":
            # Zarr v3 has a type for text of variable length, and none for fixed length.
            dataset[name] = dataset[name].astype(object)
        elif variable.dtype.kind == "O" and not all(
            isinstance(i, str) for i in variable.values.flat
        ):
            raise InputError(f"variable {name!r} holds Python objects", "Give numbers or texts.")
    return dataset


def _in_nanoseconds(times: xr.DataArray) -> xr.DataArray:
    """Convert times to nanoseconds, in which they are stored.

    NumPy would wrap a time that does not fit: the year 1601 would read as 2185.
    """
    converted: xr.DataArray = times.astype(f"{times.dtype.kind}8[ns]")
    values, back = times.values, converted.values.astype(times.dtype)
    wrapped = ~np.isnat(values) & (back != values)
    if wrapped.any():
        shown = values[wrapped].flat[0]
        raise InputError(
            f"{times.name!r} holds {shown}, which a store cannot hold in nanoseconds",
            "Times lie between 1677-09-22 and 2262-04-11, durations below 292 years: replace a "
            "value that only stands for 'unknown' by NaT, or leave the coordinate out.",
        )
    return converted


def lazy_variables(dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """Select the variables that are written block by block, with the same frames in each block."""
    lazy = {
        str(name): array.variable
        for name, array in dataset.data_vars.items()
        if FRAME in array.dims and isinstance(array.data, da.Array)
    }
    for name, variable in lazy.items():
        if variable.dtype.kind not in "biufc":
            raise InputError(
                f"variable {name!r} is lazy and has data type {variable.dtype}",
                "Give numbers, or load it.",
            )
    if not lazy:
        return {}
    largest = max(lazy.values(), key=lambda variable: variable.nbytes)
    frames = max(largest.chunksizes[FRAME])
    return {
        name: variable.chunk(
            {dim: max(sizes) for dim, sizes in variable.chunksizes.items()} | {FRAME: frames}
        )
        for name, variable in lazy.items()
    }
