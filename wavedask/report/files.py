"""The files of a report: where they are, how ours are recognised, and how they are replaced."""

import io
import os
import tempfile
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from wavedask.errors import FileError
from wavedask.store import URL

PAGE: Final = b'<meta name="generator" content="wavedask report'
SOFTWARE: Final = "wavedask report"
PICTURE: Final = f"Software\x00{SOFTWARE}".encode()
"""How a page and a picture of ours are recognised: other files are not replaced."""
ENDINGS: Final = (".html", ".htm")
"""How the name of a page ends."""
BEGIN: Final = 2000
"""Bytes at the begin of a file that hold one of these marks."""
DPI: Final = 120


def report_path(store: str | Path, *, folder: str | Path | None = None) -> Path:
    """Return where the report of a store is written by default.

    Parameters
    ----------
    store : path or URL
        The result store.
    folder : path, optional
        Folder for a store on a server, which has none that a page could be written to; by default
        the current one.

    Returns
    -------
    Path
        The name of the store with the ending ``.html``, beside a store on a disk.

    Examples
    --------
    >>> report_path("data/results.zarr").as_posix()
    'data/results.html'
    >>> report_path("s3://bucket/results.zarr", folder="logbook").as_posix()
    'logbook/results.html'
    """
    text = str(store).rstrip("/")
    if URL.match(text):
        return Path(folder or "", text.rpartition("/")[2]).with_suffix(".html")
    return Path(text).with_suffix(".html")


def check_page(file: Path) -> None:
    """Refuse a name for a page that says it is something else.

    Parameters
    ----------
    file : Path
        Where a page is to be written.

    Raises
    ------
    FileError
        Its ending is not that of HTML.

    Examples
    --------
    >>> check_page(Path("page.pdf"))
    Traceback (most recent call last):
        ...
    wavedask.errors.FileError: page.pdf does not end with .html or .htm. A report is ...
    """
    if file.suffix.lower() not in ENDINGS:
        raise FileError(
            f"{file} does not end with {' or '.join(ENDINGS)}",
            "A report is an HTML page: give such a name, and print the page to PDF in a browser.",
        )


def check_replaceable(file: Path) -> None:
    """Refuse to replace a file that no report has written.

    Parameters
    ----------
    file : Path
        A page or a picture; it need not exist.

    Raises
    ------
    FileError
        Another file is there, or it cannot be read.

    Examples
    --------
    >>> check_replaceable(Path("/nowhere/results.html"))
    """
    if not file.exists():
        return
    try:
        with file.open("rb") as opened:
            begin = opened.read(BEGIN)
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror}", "Give another path.") from error
    if PAGE not in begin and PICTURE not in begin:
        raise FileError(
            f"{file} exists and is no report", "Nothing was changed. Move it, or give another path."
        )


def png(figure: Figure) -> bytes:
    """Draw a figure as PNG, with the mark of a report.

    Examples
    --------
    >>> PICTURE in png(Figure(figsize=(1, 1)))[:BEGIN]
    True
    """
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": SOFTWARE}
    )
    return buffer.getvalue()


def replace(file: Path, content: bytes) -> None:
    """Write a file whole, or not at all.

    Parameters
    ----------
    file : Path
        The file; if it exists, it is replaced.
    content : bytes
        Its content.

    Raises
    ------
    FileError
        It cannot be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace(Path(folder, "page.html"), b"text")
    ...     Path(folder, "page.html").read_bytes()
    b'text'
    """
    draft = ""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".draft", delete=False) as opened:
            draft = opened.name
            opened.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(draft).chmod(0o666 & ~umask)  # a temporary file is private
        Path(draft).replace(file)
    except OSError as error:
        if draft:
            Path(draft).unlink(missing_ok=True)
        raise FileError(
            f"{file} cannot be written: {error.strerror}", "Check the folder and its permissions."
        ) from error
