"""Paths as users write them, with ``~`` for a home folder."""

import os
from pathlib import Path

from wavedask.errors import InputError


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
