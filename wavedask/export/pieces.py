"""Results taken apart, piece by piece, to be written elsewhere: in full or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from wavedask.conventions import X, Y
from wavedask.errors import StoreError


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `target` if the body ends well."""
    if os.path.lexists(target):
        raise StoreError(f"{target} exists", "It was left as it is: give another path.")
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.draft")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.rename(target)
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error}",
            "Check permissions, free space, and that the input is still there.",
        ) from error
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            # Where there is no folder there is no draft: the error above says why.
            with suppress(FileNotFoundError, NotADirectoryError):
                draft.unlink()


def pieces(dataset: xr.Dataset) -> Iterator[dict[str, slice]]:
    """Divide a dataset into regions to be computed one by one: a block along all but y and x."""
    dims = [str(dim) for dim in dataset.dims if dim not in (Y, X)]
    sizes = {}
    for dim in dims:
        # Of the variables: DataArray.chunksizes refuses coordinates in other blocks.
        lazy = [a.variable for a in dataset.data_vars.values() if dim in a.dims and a.chunks]
        step = min((max(one.chunksizes[dim]) for one in lazy), default=dataset.sizes[dim])
        sizes[dim] = [
            slice(start, min(start + step, dataset.sizes[dim]))
            for start in range(0, dataset.sizes[dim], step)
        ]
    for where in product(*sizes.values()):
        yield dict(zip(sizes, where, strict=True))


def part(dataset: xr.Dataset, piece: dict[str, slice]) -> xr.Dataset:
    """Take the variables that have the dimensions of a piece, there; in the first piece all."""
    first = all(not where.start for where in piece.values())
    picked = [
        name for name, array in dataset.data_vars.items() if set(piece) & {*array.dims} or first
    ]
    return dataset[picked].isel(piece)


def computed(dataset: xr.Dataset, piece: dict[str, slice]) -> xr.Dataset:
    """Compute a piece: what `part` takes.

    Raises
    ------
    StoreError
        A block of a store that is damaged.
    """
    try:
        return part(dataset, piece).compute()
    except RuntimeError as error:
        # What the codecs of Zarr raise of a block that was cut off; others are not ours to explain.
        if "decompress" not in str(error):
            raise
        where = ", ".join(f"{dim} {at.start} to {at.stop - 1}" for dim, at in piece.items())
        raise StoreError(
            f"a block of the result is damaged, within {where or 'it'}: {error}",
            "Copy the store again, or make it anew: wavedask run --from STORE --output NEW.",
        ) from error


def plain(values: Any) -> Any:
    """Express values in what files have: times as text (ISO 8601), truth as small whole numbers."""
    array = np.asarray(values)
    if array.dtype.kind == "M":
        array = np.asarray(np.datetime_as_string(array), dtype=object)
    elif array.dtype.kind == "m":
        texts = [pd.Timedelta(one).isoformat() for one in array.ravel()]
        array = np.asarray(texts, dtype=object).reshape(array.shape)
    elif array.dtype.kind == "b":
        array = array.astype(np.int8)
    elif array.dtype.kind in "TU":
        array = array.astype(object)
    return array
