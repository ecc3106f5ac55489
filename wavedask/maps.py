"""Work on the maps of a stack one by one, lazily where the stack is lazy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import X, Y

MAP: Final = (Y, X)
"""Dimensions of a map."""


class Output(NamedTuple):
    """What a function of one map returns in one place.

    Attributes
    ----------
    dims : sequence of str
        Dimensions; none of a number.
    dtype : data type, default float64
    """

    dims: Sequence[str] = ()
    dtype: npt.DTypeLike = np.float64


def map_by_map(
    function: Callable[..., Any],
    *arrays: xr.DataArray,
    settings: Mapping[str, Any],
    outputs: Sequence[Output],
    sizes: Mapping[str, int],
    dims: Sequence[str] = MAP,
) -> list[xr.DataArray]:
    """Call a function for each map of a stack, in one task per map.

    Parameters
    ----------
    function : callable
        Takes a NumPy array for each of `arrays`, and `settings` by keyword. It returns an array for
        each of `outputs`: a tuple, or the array itself if there is one.
    *arrays : xarray.DataArray, dims (..., y, x)
        The maps, and numbers of each. A lazy one is divided into one chunk per map.
    settings : mapping
        What is the same for all maps.
    outputs : sequence of Output
        What the function returns.
    sizes : mapping of str to int
        Sizes of the dimensions of the outputs that the arrays do not have.
    dims : sequence of str, default ("y", "x")
        Dimensions that the function gets whole, in the order that they have in each array.

    Returns
    -------
    list of xarray.DataArray
        One for each output: the other dimensions of the arrays first, then its own. With the
        attributes of the first array. Lazy if one of the arrays is.

    Examples
    --------
    >>> maps = xr.DataArray(np.arange(8.0).reshape(2, 2, 2), dims=("frame", "y", "x"))
    >>> def ends(field: Any, *, scale: float) -> Any:
    ...     return scale * np.array([field.min(), field.max()])
    >>> outputs = [Output(("end",))]
    >>> (found,) = map_by_map(
    ...     ends, maps.chunk(2), settings={"scale": 10.0}, outputs=outputs, sizes={"end": 2}
    ... )
    >>> found.dims, found.chunks, found.values.tolist()
    (('frame', 'end'), ((1, 1), (2,)), [[0.0, 30.0], [40.0, 70.0]])
    """
    found = xr.apply_ufunc(
        function,
        *(one_chunk_per_map(array, dims) for array in arrays),
        kwargs=dict(settings),
        input_core_dims=[[dim for dim in array.dims if dim in dims] for array in arrays],
        output_core_dims=[list(output.dims) for output in outputs],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[output.dtype for output in outputs],
        dask_gufunc_kwargs={"output_sizes": dict(sizes)},
        keep_attrs="override",
    )
    return list(found) if len(outputs) > 1 else [found]


def one_chunk_per_map(array: xr.DataArray, dims: Sequence[str] = MAP) -> xr.DataArray:
    """Rechunk a lazy array to one map per chunk: integration and fits need whole maps.

    Examples
    --------
    >>> maps = xr.DataArray(np.zeros((2, 4, 4)), dims=("frame", "y", "x")).chunk(2)
    >>> one_chunk_per_map(maps).chunks
    ((1, 1), (4,), (4,))
    """
    if array.chunks is None:
        return array
    sizes = {dim: -1 if dim in dims else 1 for dim in array.dims}
    # Of the variable: DataArray.chunk() would make the coordinates lazy, too.
    return array.copy(deep=False, data=array.variable.chunk(sizes).data)
