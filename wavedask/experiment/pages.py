"""The report of a result store, with the corrected image of the frame that it shows large."""

from pathlib import Path

import xarray as xr

from wavedask.experiment.images import corrected_frame
from wavedask.report import write_report


def write_page(
    store: str | Path,
    output: str | Path,
    *,
    frame: int | None = None,
    title: str | None = None,
    images: xr.DataArray | None = None,
) -> Path:
    """Write the page of a store; where the image of the frame cannot be shown, it says why.

    Parameters
    ----------
    store : path or URL
        A result store.
    output : path
        The HTML file, as of `wavedask.report.write_report`.
    frame : int, optional
        Frame that is shown large; negative numbers count from the end. By default the first
        complete one.
    title : str, optional
        Title of the page; by default the path of the store.
    images : xarray.DataArray, dims (frame, y, x), optional
        Corrected images that are open already, as of `corrected_frame`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        A store without complete frames or without the given one.
    FileError
        The file exists and is no report, or it cannot be written.
    StoreError
        The path is no result store.
    """
    image, reason = corrected_frame(store, frame, images=images)
    remark = f"The corrected image is not shown: {reason}" if reason else ""
    return write_report(store, output, frame=frame, image=image, remark=remark, title=title)
