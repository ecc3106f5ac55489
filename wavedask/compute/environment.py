"""The software of a process: the driver and all workers of a cluster must have the same."""

import hashlib
import importlib.metadata
import os
import platform
import re
import stat
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wavedask.compute.lost import asking
from wavedask.errors import ClusterError, InputError

if TYPE_CHECKING:
    from distributed import Client

LIBRARIES: Final = ("wavedask", "numpy", "numba", "dask", "zarr")
"""Libraries whose version must be the same everywhere."""
SOURCE: Final = "source code of wavedask"
"""Entry of the hash of the source files."""
ANSWER_SECONDS: Final = 30.0
"""How long a worker may take to say what it has."""
MISSING: Final = re.compile(r"No module named '([\w.]+)'")
CACHE_DIR: Final = "NUMBA_CACHE_DIR"
"""Environment variable: the folder of the compiled kernels."""
SHOWN: Final = 3
"""Workers that a message names; of the others it gives the number."""
REMEDY: Final = (
    "Use one environment or one container image for the workers, the scheduler and this process: "
    "install the same versions there (pip install wavedask=={version}), and start the workers again"
)


@lru_cache(maxsize=1)
def software() -> Mapping[str, str]:
    """List the versions that decide what a task computes.

    Returns
    -------
    mapping of str to str
        Versions of Python (major and minor) and of `LIBRARIES`, and a hash of the source files of
        wavedask: two copies with the same version may differ, for example on two branches.

    Examples
    --------
    >>> sorted(software())
    ['dask', 'numba', 'numpy', 'python', 'source code of wavedask', 'wavedask', 'zarr']
    """
    # The patch release of Python changes no result and no pickle.
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    found |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {**found, SOURCE: _source_hash()}


def _source_hash() -> str:
    """Hash the source files of this package, with their names."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(file.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def check_software(client: "Client", workers: Iterable[str] | None = None) -> None:
    """Check that the workers of a cluster, and its scheduler, have the software of this process.

    A worker with another version of this package, or of a library that computes, gives other
    results, and the history of the store would not say so.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    workers : iterable of str, optional
        Addresses of the workers to check; by default the scheduler and all workers.

    Raises
    ------
    ClusterError
        Software that is missing or has another version: the message says where and which. Or a
        cluster that does not answer, or whose scheduler is lost.

    Examples
    --------
    >>> from wavedask.compute.cluster import local_client
    >>> with local_client(1) as client:
    ...     check_software(client)
    """
    chosen = None if workers is None else list(workers)
    with asking(client, "its software was checked"):
        found = _answers(client, chosen)
        if chosen is None:
            found["the scheduler"] = _answer_of_scheduler(client)
    other = [line for where, answer in found.items() if (line := _difference(where, answer))]
    if other:
        more = f"; and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        raise ClusterError(
            "the cluster has other software than this process: " + "; ".join(other[:SHOWN]) + more,
            REMEDY.format(version=software()["wavedask"]) + ".",
        )


def check_cache() -> None:
    """Check that only this user can write the folder of compiled kernels, if one is set.

    Numba loads what lies there as code.

    Raises
    ------
    InputError
        The folder of ``NUMBA_CACHE_DIR`` belongs to another user, or others may write it.

    Examples
    --------
    >>> check_cache()
    """
    given = os.environ.get(CACHE_DIR)
    folder = Path(given) if given else None
    if folder is None or not hasattr(os, "geteuid") or not folder.exists():
        return
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0):
        problem = f"belongs to user {status.st_uid}"
    elif status.st_mode & stat.S_IWOTH or (
        status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid)
    ):
        problem = f"may be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    else:
        return
    raise InputError(
        f"{CACHE_DIR} is {folder}, which {problem}: they could run code as you",
        f"Take the rights from others (chmod go-w {folder}), or give another folder.",
    )


def _is_private(group: int) -> bool:
    """Whether a group is the own one of this user, without other members."""
    import grp
    import pwd

    try:
        members = set(grp.getgrgid(group).gr_mem)
        return group == os.getegid() and members <= {pwd.getpwuid(os.geteuid()).pw_name}
    except KeyError:
        return False


def check_here(expected: Mapping[str, str]) -> None:
    """Check, inside a task, that this worker has the software of the driver.

    Parameters
    ----------
    expected : mapping of str to str
        What `software` gave in the driver.

    Raises
    ------
    ClusterError
        Something is different: the worker joined after the driver had checked the others.

    Examples
    --------
    >>> check_here(software())
    """
    difference = _compared(expected, software())
    if difference:
        raise ClusterError(
            f"a worker on {platform.node()} has other software than the driver: {difference}",
            REMEDY.format(version=expected["wavedask"]) + ".",
        )


def _answers(client: "Client", workers: list[str] | None) -> dict[str, Any]:
    """Ask workers for their software; an exception where there is no answer."""
    try:
        found: dict[str, Any] = client.run(
            software,
            workers=workers,
            on_error="return",
            # Goes to Client.sync: by itself it would wait for a suspended worker for ever.
            callback_timeout=ANSWER_SECONDS,
        )
    except TimeoutError as error:
        raise ClusterError(
            f"a worker of the cluster does not answer within {ANSWER_SECONDS:g} s",
            "Look for workers that are suspended or on a machine that is gone, and restart them.",
        ) from error
    return dict(found)


def _answer_of_scheduler(client: "Client") -> Any:
    """Ask the scheduler for its software; an exception if it has none."""
    try:
        return client.run_on_scheduler(software, callback_timeout=ANSWER_SECONDS)
    except TimeoutError as error:
        raise ClusterError(
            f"the scheduler does not answer within {ANSWER_SECONDS:g} s",
            "It is suspended, or its machine is gone: resume or restart it.",
        ) from error
    except OSError:
        raise
    except Exception as error:
        return error


def _difference(where: str, answer: Any) -> str:
    """Say what is different in an answer; nothing if it agrees, or if the worker has gone."""
    if isinstance(answer, Mapping):
        difference = _compared(software(), answer)
        return f"{where} has {difference}" if difference else ""
    # Dask hands on an error of unpickling as text.
    missing = MISSING.search(str(answer))
    if missing and missing[1].startswith("wavedask."):
        return f"{where} has another wavedask, without the module {missing[1]}"
    if missing:
        return f"{where} has no {missing[1]}"
    if isinstance(answer, OSError):
        return ""
    return f"{where} cannot say what it has ({type(answer).__name__}: {answer})"


def _compared(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Say how software differs from the expected."""
    different = [name for name in expected if found.get(name) != expected[name]]
    if different == [SOURCE]:
        return f"the same version of wavedask with other {SOURCE}"
    return ", ".join(
        f"{name} {found.get(name, 'missing')} instead of {expected[name]}"
        for name in different
        if name != SOURCE
    )
