"""The engine ``wavedask`` of xarray: a scan opened with xarray.open_dataset()."""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from wavedask.conventions import FRAME, IMAGE, X, Y
from wavedask.io.files import Format, Scans, format_of
from wavedask.io.frames import Pixels, Stack
from wavedask.io.motors import Motors
from wavedask.io.opening import AGAIN, open_source


class StackArray(BackendArray):
    """Frames on disk with the interface of an array that xarray expects of a source.

    Parameters
    ----------
    stack : Stack
        Where the pixels are; it holds no open file, so that reading is safe in many threads.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.shape = stack.shape
        self.dtype = stack.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Pixels:
        # Lists of indices are meant orthogonally there, too.
        pixels: Pixels = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self.stack.__getitem__
        )
        return pixels


class WavedaskBackendEntrypoint(BackendEntrypoint):
    """Opens EDF, TIFF and HDF5 frames with xarray: lazy without dask, chunked with it.

    It does the same as `wavedask.open_scan`; only the kind of array differs (dask, or a lazy array
    of xarray). Without ``engine=``, xarray uses it for EDF only, because other engines use the
    other suffixes, too.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile, xarray as xr
    >>> folder = tempfile.TemporaryDirectory()
    >>> tifffile.imwrite(f"{folder.name}/0.tif", np.zeros((4, 5), "uint16"))
    >>> scan = xr.open_dataset(folder.name, engine=WavedaskBackendEntrypoint)
    >>> dict(scan.sizes), scan.image.chunks
    ({'frame': 1, 'y': 4, 'x': 5}, None)
    >>> scan = xr.open_dataset(folder.name, engine=WavedaskBackendEntrypoint, chunks={})
    >>> scan.image.chunks
    ((1,), (4,), (5,))
    >>> folder.cleanup()
    """

    description: ClassVar[str] = (
        "Frames of beamlines: EDF, TIFF and HDF5 (BLISS, NeXus, DECTRIS, DXfile, EuXFEL)"
    )
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        # The first one is the source.
        *tuple(inspect.signature(open_source).parameters)[1:],
    )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        motors: Motors | None = None,
        units: Mapping[str, str] | None = None,
        scan: Scans | None = None,
        image: str | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Open a scan; the arguments are those of `wavedask.open_scan`."""
        opened = open_source(
            filename_or_obj, motors=motors, units=units, scan=scan, image=image, progress=progress
        )
        stack = opened.stack
        frames = xr.Variable(
            (FRAME, Y, X),
            indexing.LazilyIndexedArray(StackArray(stack)),
            opened.image_attrs | IMAGE.attrs,
            # Rows and columns may be cut anywhere: xarray is not to warn of it.
            {"preferred_chunks": {FRAME: stack.frames_per_block}},
        )
        dataset = xr.Dataset({IMAGE.name: frames}, coords=opened.coords, attrs=opened.attrs)
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        dataset = dataset.drop_vars(dropped, errors="ignore")
        dataset.encoding[AGAIN] = opened.again
        return dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether a file is certainly for this engine."""
        try:
            return format_of(Path(filename_or_obj)) is Format.EDF
        except TypeError:
            return False
