"""Paths as users write them, with ``~`` for a home folder, and the errors that mean "not there"."""

import os
from pathlib import Path
from typing import Final

from wavedask.errors import InputError

NOT_THERE: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""Errors of reading a file or object that does not exist."""


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
