"""Errors of a file system or object store, as errors that name the store."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wavedask.compute import needs
from wavedask.errors import StoreError, WavedaskError


@contextmanager
def os_errors(problem: str) -> Iterator[None]:
    """Convert an error of memory, a disk or an object store into one that names the store."""
    try:
        yield
    except MemoryError as error:
        said = f": {error}" if str(error) else ""
        raise StoreError(
            f"{problem}: this process ran out of memory{said}",
            f"It needs {needs()}. Use fewer workers or smaller frames, then run the same command "
            "again: complete frames are kept.",
        ) from error
    except Exception as error:
        if isinstance(error, WavedaskError) or not (
            isinstance(error, OSError) or is_object_error(error)
        ):
            raise
        said = str(error).strip().split("\n", maxsplit=1)[0]
        raise StoreError(
            f"{problem}: {said}",
            "Check permissions or credentials, free space and quota, and that the files are still "
            "there; then run the same command again: complete frames are kept.",
        ) from error


def is_object_error(error: Exception) -> bool:
    """Whether obstore raised an error, if obstore is in use."""
    module = sys.modules.get("obstore.exceptions")
    return module is not None and isinstance(error, module.BaseError)
