"""The report of a result: one HTML page that needs nothing else, for the logbook."""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from jinja2 import Environment, StrictUndefined

from wavedask.conventions import (
    COMPLETE,
    FRAME,
    IMAGE,
    REASON,
    WAVEFRONT,
    uncertainty_name,
)
from wavedask.errors import InputError
from wavedask.paths import expanded
from wavedask.plot import plot_dataset, plot_frames, setup_sketch
from wavedask.report.contents import (
    budget_of,
    frame_table,
    input_rows,
    narrow_tables,
    provenance_rows,
    result_rows,
    settings_rows,
    setup_rows,
)
from wavedask.report.files import check_page, check_replaceable, png, replace
from wavedask.report.pictures import Shown, embedded, frame_pictures, thinned
from wavedask.report.summary import (
    chosen_frames,
    headlines,
    matched_rows,
    numbers_of_frames,
)
from wavedask.store import INPUTS, SETTINGS, VERSION, open_store
from wavedask.tracking import why_missing
from wavedask.units import MODE

TEMPLATE: Final = "page.html.jinja"
TRENDS: Final = 6
"""Numbers of the frames in one picture: it fits on a printed page."""
MOST_MAPS: Final = 24
"""Small maps of a page."""


def write_report(
    result: xr.Dataset | str | Path,
    output: str | Path,
    *,
    frame: int | None = None,
    image: xr.DataArray | None = None,
    remark: str = "",
    title: str | None = None,
) -> Path:
    """Write a page about a result: pictures, numbers with errors, set-up, settings, provenance.

    The page is one HTML file without links to other files or servers. A browser prints it, or saves
    it as PDF.

    Parameters
    ----------
    result : xarray.Dataset, path or URL
        A result store, or a result of `track` or `wavefront`. The maps of one frame, and small maps
        of up to 24 frames, are computed; numbers of all frames are read where the store has them.
    output : path
        The HTML file, ``.html`` or ``.htm``. A page of an earlier report is replaced; any other
        file is not.
    frame : int, optional
        Frame that is shown large; negative numbers count from the end. By default the first
        complete one.
    image : xarray.DataArray, dims ([frame], y, x), optional
        Corrected images, to show that of the frame; or its image alone.
    remark : str, optional
        A sentence above the pictures of the frame.
    title : str, optional
        Title of the page; by default the path of the store.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        A result without complete frames or without the given one.
    FileError
        The file has another ending, exists and is no report, or cannot be written.
    StoreError
        The path is no result store.

    Examples
    --------
    >>> import tempfile
    >>> maps = {"wavefront": (("frame", "y", "x"), np.eye(4)[None] * 1e-9, {"units": "m"})}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(xr.Dataset(maps), Path(folder) / "report.html", title="a test")
    ...     "<h1>a test</h1>" in page.read_text()
    True
    """
    file = expanded(output)
    check_page(file)
    check_replaceable(file)
    named = title or (str(result) if isinstance(result, str | Path) else "wavedask result")
    opened = open_store(result) if isinstance(result, str | Path) else result
    text = _page(opened, named, frame, image, remark)
    replace(file, text.encode())
    return file


def first_complete(result: xr.Dataset) -> int:
    """Return the number of the first complete frame of a result; 0 if there is none.

    Examples
    --------
    >>> first_complete(xr.Dataset({"complete": ("frame", [False, True])}))
    1
    """
    return int(np.argmax(result[COMPLETE.name].values)) if COMPLETE.name in result else 0


def write_picture(
    result: xr.Dataset | str | Path, output: str | Path, *, frame: int | None = None
) -> Path:
    """Write the picture that suits a result as a PNG file, for a logbook without HTML.

    Parameters
    ----------
    result : xarray.Dataset, path or URL
        A result, as of `write_report`.
    output : path
        The PNG file. A picture of an earlier call is replaced; any other file is not.
    frame : int, optional
        Frame that is drawn; by default the first complete one.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        A result with nothing to draw, or without the frame.
    FileError
        The file exists and is no such picture, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> maps = {"wavefront": (("frame", "y", "x"), np.eye(4)[None] * 1e-9, {"units": "m"})}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_picture(xr.Dataset(maps), Path(folder) / "picture.png").name
    'picture.png'
    """
    file = expanded(output)
    check_replaceable(file)
    opened = open_store(result) if isinstance(result, str | Path) else result
    number = first_complete(opened) if frame is None else frame
    replace(file, png(plot_dataset(opened, frame=number)))
    return file


def _page(
    result: xr.Dataset, title: str, frame: int | None, image: xr.DataArray | None, remark: str
) -> str:
    stack = result if FRAME in result.dims else result.expand_dims(FRAME)
    total = stack.sizes[FRAME]
    known = np.arange(total)
    if COMPLETE.name in stack:
        known = np.flatnonzero(stack[COMPLETE.name].values)
    if not known.size:
        raise InputError("the result has no complete frame", "Run the experiment first.")
    if frame is None:
        frame = int(known[0])
    if not -total <= frame < total or frame % total not in known:
        raise InputError(
            f"frame is {frame}",
            f"The result has {known.size} complete frames of {total}, the first is {known[0]}.",
        )
    number = frame % total
    done = stack
    if known.size < total:
        done = stack.isel({FRAME: known}).assign_coords({FRAME: known})
    numbers = numbers_of_frames(done)
    single = stack.isel({FRAME: number})
    shown = single if image is None else single.assign({IMAGE.name: _of_frame(image, number)})
    missing = why_missing(done) if REASON.name in done else None
    matched = [] if missing is None else matched_rows(done, numbers, missing)
    head, rows = frame_table(numbers, known.tolist())
    text: str = _template().render(
        title=title,
        version=result.attrs.get(VERSION, ""),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        result=result_rows(numbers, matched, complete=known.size, total=total),
        warnings=[] if missing is None else missing.warnings,
        sketch=setup_sketch(result.attrs) if MODE in result.attrs else "",
        setup=setup_rows(result),
        frame=number,
        frames=total,
        remark=remark,
        pictures=list(frame_pictures(shown)),
        budget=budget_of(single),
        head=head,
        rows=rows,
        printed=narrow_tables(head, rows),
        campaign=list(_campaign(done, numbers, known)),
        settings=settings_rows(result.attrs.get(SETTINGS, {})),
        provenance=provenance_rows(result, title),
        inputs=input_rows(result.attrs.get(INPUTS, [])),
    )
    return text


def _template() -> Any:
    text = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        text
    )


def _of_frame(image: xr.DataArray, number: int) -> xr.DataArray:
    """Select the image of a frame; its pixels have numbers where the result has metres."""
    chosen = image.isel({FRAME: number}) if FRAME in image.dims else image
    return chosen.drop_vars(list(chosen.coords))


def _campaign(done: xr.Dataset, numbers: xr.Dataset, known: Any) -> Iterator[Shown]:
    """Draw small maps of the frames, and the numbers against the motor that moved."""
    if done.sizes[FRAME] < 2:
        return
    if WAVEFRONT.name in done:
        places = chosen_frames(done.sizes[FRAME], MOST_MAPS)
        maps = thinned(done[WAVEFRONT.name], most=200).isel({FRAME: places})
        maps = maps.assign_coords({FRAME: known[places]})
        yield embedded(plot_frames(maps, range(len(places))), "wavefront of the frames")
    names = [line.variable for line in headlines(numbers)]
    for start in range(0, len(names), TRENDS):
        some = names[start : start + TRENDS]
        errors = [own for name in some if (own := uncertainty_name(name)) in numbers]
        drawn = numbers[[*some, *errors]]
        yield embedded(
            plot_dataset(drawn, kind="series"), f"numbers of the frames: {', '.join(some)}"
        )
