"""Errors of the functions that an experiment calls, in the words of its file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from wavedask.conventions import SURE, WAVEFRONT
from wavedask.errors import WavedaskError

CONFIRM: Final = re.compile(rf"(?:add|with) {SURE}='(\w+)'")
"""How a function says that an argument can be confirmed."""
PREFER: Final = re.compile(rf"; or, if the given one is right, add {SURE}='\w+'")
"""How it says that an argument can count against what the data state."""
CONFIRMING: Final = WAVEFRONT.name
"""The section that has the key `sure`: it is named after its result."""


@contextmanager
def naming(section: str) -> Iterator[None]:
    """Let an error say which section of the experiment file it is about, and what to write there.

    Parameters
    ----------
    section : str
        Name of the section.

    Raises
    ------
    WavedaskError
        Of the class that the body raised.

    Examples
    --------
    >>> with naming("wavefront"):
    ...     raise WavedaskError("energy is 300 keV", "If it is right, add sure='energy'.")
    Traceback (most recent call last):
        ...
    wavedask.errors.WavedaskError: wavefront: energy is 300 keV. ... set wavefront.sure to [energy].
    """
    try:
        yield
    except WavedaskError as error:
        # Only the wavefront can prefer a value: the other sections must agree with it.
        remedy = error.remedy if section == CONFIRMING else PREFER.sub("", error.remedy)
        remedy = CONFIRM.sub(rf"set {CONFIRMING}.{SURE} to [\1]", remedy)
        raise type(error)(f"{section}: {error.problem}", remedy) from error
