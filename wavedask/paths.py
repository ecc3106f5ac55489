"""Paths as users write them, with ``~`` for a home folder, and the errors that mean "not there"."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from wavedask.errors import InputError

NOT_THERE: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""Errors of reading a file or object that does not exist."""


def read_regular(path: Path, *, largest: int) -> bytes:
    """Read a file that somebody else may have put there.

    Parameters
    ----------
    path : Path
        The file.
    largest : int
        Bytes that it may have.

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        It cannot be read, has more bytes, or is a pipe, which would wait for ever, or a device,
        which has no end.

    Examples
    --------
    >>> read_regular(Path("/dev/null"), largest=8)
    Traceback (most recent call last):
        ...
    OSError: [Errno 22] it is a pipe or a device, not a file: '/dev/null'
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
        if status.st_size > largest:
            said = f"it has {status.st_size} bytes, more than {largest}"
            raise OSError(errno.EFBIG, said, str(path))
        return file.read()


def expanded(path: str | os.PathLike[str]) -> Path:
    """Put the home folder in the place of ``~``.

    Parameters
    ----------
    path : path
        A path as it was given.

    Returns
    -------
    pathlib.Path
        The same path, absolute only if it was or began with ``~``.

    Raises
    ------
    InputError
        The home folder of a user who is not known.

    Examples
    --------
    >>> expanded("raw/sample.edf").parts
    ('raw', 'sample.edf')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{path} is in the home folder of a user who is not known here",
            "Give the path in full.",
        ) from error
