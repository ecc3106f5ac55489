"""open_scan(): files, headers and motors become one labelled, lazy dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import IMAGE, SOURCE_FILE, labelled
from wavedask.errors import InputError
from wavedask.io.files import Scans, Source
from wavedask.io.frames import lazy
from wavedask.io.motors import Motors
from wavedask.io.opening import AGAIN, Opened, open_source

CHUNKS: Final = "wavedask_chunks"
"""Item of the encoding of a scan: the chunks that were asked for, which the engine is not told."""


def open_scan(
    source: Source,
    *,
    motors: Motors | None = None,
    units: Mapping[str, str] | None = None,
    scan: Scans | None = None,
    image: str | None = None,
    chunks: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Open the frames of a scan, with everything their headers say, without reading a pixel.

    Parameters
    ----------
    source : path, or sequence of paths
        A file, a glob, a folder, or a list of those. EDF (also ``.edf.gz``, ``.edf.bz2``; one or
        many frames per file), TIFF (one or many pages), HDF5 (BLISS, NeXus, NXtomo, masters of
        DECTRIS, Data Exchange, or any other with `image`), or the folder of a run of the European
        XFEL. The files of a glob or a folder are taken in natural order (``frame_2`` before
        ``frame_10``), a list in its own.
    motors : mapping of str to array_like or str, or path, optional
        Positions by name, one number or one per frame, that add to those of the header or replace
        them; what `mesh` returns; or a CSV file whose first row names the motors and which has
        one row per frame below. In an HDF5 file, also the path of a dataset, from `scan` or from
        the root. A name may carry a unit: ``"detx [mm]"``.
    units : mapping of str to str, optional
        Units by name of a coordinate, where the file names none or a wrong one.
    scan : str or sequence of str, optional
        HDF5 only: name of the scan, such as ``"1.1"``, or the path of one camera in it; several
        are one behind the other. By default the only one with images. Of several files, in each
        of them. Of one file it may stand in the source, too: ``"bliss.h5::1.1"``.
    image : str, optional
        HDF5 only: path of the dataset with the frames (from `scan`, if that is given), where no
        layout says it, or a pattern (``"/frames/*"``) where each is a dataset of its own;
        ``"SOURCE"`` or ``"SOURCE[key]"`` in a run of the European XFEL.
    chunks : mapping of str to int, optional
        Chunk size by dimension; by default one whole frame each, or as many as share a chunk of
        an HDF5 file, up to 32 MiB.
    progress : bool, optional
        Whether to show a bar while headers are read; by default in a terminal only.

    Returns
    -------
    xarray.Dataset
        ``image(frame, y, x)``, counts, lazy; ``y`` and ``x`` in px. Coordinates with the
        attributes ``units``, ``long_name`` and ``role``: every motor and counter, on ``frame`` if
        it changes, else a scalar; and header items that change (text that a frame lacks is
        empty). Header items that do not change are attributes, as written. ``source_file`` and
        ``source_index`` say where each frame comes from.

    Raises
    ------
    FileError
        If a file is missing or not what its suffix says; `CorruptFileError` if it is truncated or
        damaged.
    FrameMismatchError
        If frames differ in shape or data type, or files in their camera.
    MotorError
        If positions are missing, of the wrong number, or not numbers.
    InputError
        If an argument is wrong otherwise.

    See Also
    --------
    mesh : positions of a mesh scan.
    refresh : see the frames that have come since.
    input_files : files that a scan was opened from.

    Notes
    -----
    What the files state about the detector is there, too: the coordinate ``pixel_mask`` (y, x;
    True where a pixel is bad), ``energy`` in keV, ``exposure_time`` in s, ``detector_distance`` in
    m; the attributes ``bad_values`` (codes that are no counts), ``saturation_value``,
    ``underload_value`` and ``binning`` of ``image``, and ``pixel_size_y``, ``pixel_size_x`` in m
    of the scan and of ``image``. No pixel is changed. The attribute ``not_read`` names what could
    not be read, or was not taken.

    A motor called like a dimension or a variable of this package (``x``, ``image``), and a counter
    or header item called like a motor, is given its role as a prefix: ``motor_x``,
    ``counter_mono``, ``header_energy``; a slash or space in a name becomes an underscore.

    HDF5 files are opened without a lock. Of a scan that is still running, or was stopped, come the
    frames that are there with all their motors; the attribute ``unfinished`` says how many.

    In a run of the European XFEL every pulse of a train is a frame, with the coordinates
    ``trainId``, ``pulseIndex`` and what else the detector keeps of a pulse.

    ``image_key`` says what the frames of NXtomo and Data Exchange files are: 0 sample, 1 flat,
    2 dark, 3 invalid. An unknown position is NaN, and never guessed.

    A file is checked against its header when it is opened; if it changes afterwards, the
    computation raises a `FileError` that names it.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> folder = tempfile.TemporaryDirectory()
    >>> for i in range(3):
    ...     tifffile.imwrite(f"{folder.name}/frame_{i}.tif", np.full((4, 5), i, "uint16"))
    >>> scan = open_scan(folder.name, motors={"lens_x [mm]": [0.0, 0.5, 1.0]})
    >>> dict(scan.sizes), scan.image.dtype, scan.lens_x.units
    ({'frame': 3, 'y': 4, 'x': 5}, dtype('uint16'), 'mm')
    >>> float(scan.image.isel(frame=2).mean())
    2.0
    >>> folder.cleanup()
    """
    opened = open_source(
        source, motors=motors, units=units, scan=scan, image=image, progress=progress
    )
    return _lazy_dataset(opened, chunks)


def input_files(scan: xr.Dataset | xr.DataArray) -> list[Path]:
    """Files that the frames of a scan come from, each once, in order of their first frame.

    Parameters
    ----------
    scan : xarray.Dataset or xarray.DataArray
        A scan, or a part of it, or what was computed frame by frame from it.

    Returns
    -------
    list of pathlib.Path
        Absolute paths.

    Raises
    ------
    InputError
        If `scan` does not say (``source_file`` is lost when frames are averaged).

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tifffile.imwrite(f"{folder}/stack.tif", np.zeros((2, 4, 5), "uint16"))
    ...     [path.name for path in input_files(open_scan(folder))]
    ['stack.tif']
    """
    if SOURCE_FILE not in scan.coords:
        raise InputError(
            f"the scan has no coordinate {SOURCE_FILE!r}",
            "Ask before its frames are averaged, or open it with open_scan().",
        )
    return [Path(name) for name in dict.fromkeys(np.atleast_1d(scan[SOURCE_FILE].values).tolist())]


def refresh(scan: xr.Dataset, *, progress: bool | None = None) -> xr.Dataset:
    """Open the source of a scan again, and see the frames that have come since.

    Of EDF and TIFF files only those are read whose path, size or time of change is new.

    Parameters
    ----------
    scan : xarray.Dataset
        As of `open_scan`, or as xarray's engine ``wavedask`` opened it.
    progress : bool, optional
        Whether to show a bar while headers are read; by default in a terminal only.

    Returns
    -------
    xarray.Dataset
        The whole scan as the files have it now, opened with the same arguments, as dask
        arrays; `scan` itself does not change.

    Raises
    ------
    InputError
        If `scan` does not say how it was opened: what is computed from a scan does not.
    FileError, FrameMismatchError, MotorError
        As `open_scan`.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> folder = tempfile.TemporaryDirectory()
    >>> tifffile.imwrite(f"{folder.name}/0.tif", np.zeros((4, 5), "uint16"))
    >>> scan = open_scan(folder.name)
    >>> tifffile.imwrite(f"{folder.name}/1.tif", np.ones((4, 5), "uint16"))
    >>> scan.sizes["frame"], refresh(scan).sizes["frame"]
    (1, 2)
    >>> folder.cleanup()
    """
    again = scan.encoding.get(AGAIN)
    if again is None:
        raise InputError(
            "the dataset does not say how it was opened",
            "Refresh what open_scan() returned, and then select or compute again.",
        )
    return _lazy_dataset(again(progress=progress), scan.encoding.get(CHUNKS))


def _lazy_dataset(opened: Opened, chunks: Mapping[str, Any] | None) -> xr.Dataset:
    """Hold the pixels of a scan as a dask array."""
    frames = lazy(opened.stack, stamp=opened.stamp, chunks=chunks)
    image = labelled(frames, IMAGE, coords=opened.coords, attrs=opened.image_attrs)
    dataset = xr.Dataset({IMAGE.name: image}, attrs=opened.attrs)
    dataset.encoding |= {AGAIN: opened.again, CHUNKS: chunks}
    return dataset
