"""How the kernels are compiled, and where the compiled code is kept."""

import hashlib
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

JIT: Final[dict[str, Any]] = {
    "nogil": True,
    "fastmath": True,
    "error_model": "numpy",
}
"""Options of a kernel that Python calls: one thread, without the GIL."""

INLINED: Final[dict[str, Any]] = {**JIT, "forceinline": True}
"""Options of a kernel that other kernels call.

If such a kernel were linked, and not inlined, the process that compiles would run the code of the
kernel alone. Processes that load it from the disk would run the copy in its caller, which the
optimiser has treated once more. Their sums would have another order, and the last bits of a result
would depend on which process compiled it.
"""

WITH_NAN: Final[dict[str, Any]] = {**JIT, "fastmath": False}
"""Options of a kernel that meets NaN or infinities: ``fastmath`` assumes that there are none."""

INLINED_WITH_NAN: Final[dict[str, Any]] = {**WITH_NAN, "forceinline": True}
"""The same for a kernel that other kernels call."""

CACHE_DIR: Final = "NUMBA_CACHE_DIR"
"""Environment variable of Numba: the folder of the compiled kernels."""
NODE_CACHE: Final = "WAVEDASK_NODE_CACHE"
"""Environment variable: a folder on a local disk of the node, for the cache of compiled kernels.

Workers of a cluster set it. Their home folder and the package often are on a shared file system,
where the processes of many nodes, with different processors, would write to the same index.
"""

_logger = logging.getLogger("wavedask")
_told: Final = threading.Event()


def njit(**options: Any) -> Any:  # numba has no types, and so has none what it decorates
    """Compile a function with Numba, and keep the compiled code on the disk where that is possible.

    Numba's own ``cache=True`` raises where it finds no folder to write to, where a file of the
    cache is cut off, and where the disk is full. Here the function is then compiled anew, and one
    warning of the logger ``wavedask`` names the cause and ``NUMBA_CACHE_DIR``.

    Parameters
    ----------
    **options
        Options of `numba.njit`, without ``cache``.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> @njit(**JIT)
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        try:
            # What `cache=True` does, with a cache that never stops a computation.
            dispatcher._cache = _KernelCache(function)
        except (OSError, RuntimeError) as error:
            _tell_once("there is no folder to keep them in", str(error))
        return dispatcher

    return compiled


@cache
def _sources(folder: Path) -> str:
    """Digest of all modules under a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class _KernelCache(FunctionCache):
    """Numba's cache of one function on the disk; a cache that fails costs time only.

    Numba compiles a function again where its own file has changed. But a kernel holds those that it
    calls, of whatever file: here a change of any kernel counts.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call] # of Numba
        stamp = (self._impl.locator.get_source_stamp(), _sources(Path(__file__).parent))
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=stamp,
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call] # of Numba
        except Exception as error:  # whatever bytes stand in the file
            _tell_once(f"files in {self.cache_path} cannot be read", repr(error))
            self._repair()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call] # of Numba
        except Exception as error:
            _tell_once(f"files in {self.cache_path} cannot be written", repr(error))

    def _repair(self) -> None:
        """Write an empty index over one that cannot be read."""
        try:
            self.flush()  # type: ignore[no-untyped-call] # of Numba
        except OSError as error:
            _tell_once(f"files in {self.cache_path} cannot be written", repr(error))


def _tell_once(problem: str, cause: str) -> None:
    """Say once in a process why kernels are compiled again."""
    if _told.is_set():
        return
    _told.set()
    _logger.warning(
        "compiled kernels: %s (%s). They are compiled again, which takes up to a minute. If this "
        "repeats, set NUMBA_CACHE_DIR to a folder that can be written.",
        problem,
        cause,
    )


def private_folder(root: Path) -> Path:
    """Make, or find, the folder of this user for compiled kernels.

    Numba loads what lies there as code: it must belong to this user, and no other user may write
    or read it.

    Parameters
    ----------
    root : Path
        A folder that several users may share, such as ``/tmp``.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        The folder cannot be made, or it belongs to another user or is open to others.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as root:
    ...     stat.filemode(private_folder(Path(root)).stat().st_mode)
    'drwx------'
    """
    folder = root / f"wavedask-kernels-{os.geteuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{folder} belongs to user {found.st_uid} with mode {stat.filemode(found.st_mode)}; it "
            "must be a folder of this user alone (drwx------)"
        )
    return folder


def _choose_cache() -> None:
    """Keep compiled kernels on the node if it is asked for, or if the package is read-only."""
    root = os.environ.get(NODE_CACHE)
    if CACHE_DIR in os.environ or not hasattr(os, "geteuid"):
        return
    if root is None and os.access(Path(__file__).parent, os.W_OK):
        return
    try:
        folder = private_folder(Path(root or tempfile.gettempdir()))
    except OSError as error:
        _tell_once("there is no private folder for them", str(error))
        return
    # Numba reads the variable again when another one of its variables has changed.
    os.environ[CACHE_DIR] = str(folder)
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # numba has no types


# Before the first kernel is decorated: Numba then decides where its compiled code lies.
_choose_cache()
