"""Before a run starts: check that the workers have the memory that it needs, and see its files."""

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from dask.utils import format_bytes

from wavedask.compute.environment import SHOWN
from wavedask.compute.lost import asking
from wavedask.compute.memory import LIBRARIES
from wavedask.errors import ClusterError, FileError, WavedaskError

if TYPE_CHECKING:
    from distributed import Client

ANSWER_SECONDS: Final = 60.0
"""How long the workers may take to look at the files."""
DOING: Final = "its workers were checked"
"""What the scheduler is asked for; a message says it if the scheduler is lost."""
ASKED: Final = 64
"""Workers that are asked, at most; they are spread over all machines."""
MARK: Final = ".wavedask-visible-"
"""Beginning of the name of what the workers look for beside the output."""
HASTY: Final = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
"""How often a request to an object store is repeated; a run does so for a minute."""


class Remote(Protocol):
    """A URL with what is needed to access it, such as `wavedask.store.Place`."""

    @property
    def conditional(self) -> bool:
        """Whether ``retry_config`` is among its options."""

    @property
    def parent(self) -> "Remote":
        """The URL that contains it."""

    def read(self, key: str) -> bytes | None:
        """Read an object below it; None if it is not there."""

    def write(self, key: str, content: bytes) -> None:
        """Write an object below it."""

    def delete(self, key: str) -> None:
        """Remove an object below it."""


def check_memory_of_workers(client: "Client", per_task: int) -> None:
    """Check that every worker has the memory for one task on each of its threads.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    per_task : int
        Bytes that one task needs, as of `wavedask.experiment.plan`.

    Raises
    ------
    ClusterError
        A worker has less, and would be killed again and again.

    Examples
    --------
    >>> from wavedask.compute import local_client
    >>> with local_client(1) as client:
    ...     check_memory_of_workers(client, 2**20)
    """
    workers = _workers(client)
    small = {
        address: (worker["memory_limit"], worker["nthreads"])
        for address, worker in workers.items()
        if 0 < worker["memory_limit"] < needed(per_task, worker["nthreads"])
    }
    if not small:
        return
    address, (limit, threads) = next(iter(small.items()))
    raise ClusterError(
        f"{len(small)} of {len(workers)} workers are too small: {address} has "
        f"{format_bytes(limit)} for {threads} thread{'' if threads == 1 else 's'}, and needs "
        f"{format_bytes(needed(per_task, threads))} ({format_bytes(per_task)} for a block on each "
        f"thread, {format_bytes(LIBRARIES)} for the libraries)",
        "Give workers more memory (memory, in the profile) or fewer threads (cores), start fewer "
        "on this machine (workers), or cut the frames into smaller blocks.",
    )


def needed(per_task: int, threads: int = 1) -> int:
    """Return the memory that a worker needs.

    Parameters
    ----------
    per_task : int
        Bytes that one task needs.
    threads : int, default 1
        Its threads.

    Returns
    -------
    int
        Bytes.

    Examples
    --------
    >>> needed(100, 2) - LIBRARIES
    200
    """
    return LIBRARIES + threads * per_task


def check_paths(
    client: "Client", *, inputs: Iterable[Path] = (), outputs: Iterable[Path] = ()
) -> None:
    """Check that the workers see the same files as this process, and can write the output.

    Workers open files by the path that this process uses: pixels are not sent over the network. The
    check takes the first and the last input of each folder. In the folder of an output it makes a
    file for a moment, which the workers must find.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    inputs : iterable of Path
        Files and folders that tasks read.
    outputs : iterable of Path
        Files and folders that tasks write; they may not exist yet.

    Raises
    ------
    ClusterError
        A path that a worker does not see, sees with another content, or cannot write.
    FileError
        A folder of the output that this process cannot write.

    Examples
    --------
    >>> import tempfile
    >>> from wavedask.compute import local_client
    >>> with tempfile.TemporaryDirectory() as folder, local_client(1) as client:
    ...     check_paths(client, outputs=[Path(folder, "results.zarr")])
    """
    problems = invisible(client, inputs=inputs, outputs=outputs)
    if problems:
        raise ClusterError(
            "workers do not see the data: " + _first(problems),
            "Use a folder that all nodes mount under the same path, and in a container image mount "
            "it there, too ('wavedask cluster check NAME --path FOLDER' tries it).",
        )


def check_url(
    client: "Client",
    url: str,
    *,
    opener: Callable[[str, Mapping[str, Any]], Remote],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Check that the workers can read and write beside a URL, as this process can.

    This process writes a small object, which the workers must read; each of them writes and removes
    one. All are removed. If this process cannot write there, nothing is checked: the store says it.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    url : str
        Where tasks write, such as ``s3://bucket/results.zarr``; it may not exist yet.
    opener : callable
        What opens a URL with options, such as `wavedask.store.place_of`.
    options : mapping, optional
        Options of the URL, such as credentials.

    Raises
    ------
    ClusterError
        A worker cannot read or write there, or sees other objects.

    Examples
    --------
    >>> import tempfile
    >>> from wavedask.compute import local_client
    >>> from wavedask.store import place_of
    >>> with tempfile.TemporaryDirectory() as folder, local_client(1) as client:
    ...     check_url(client, f"file://{folder}/results.zarr", opener=place_of)
    """
    given = dict(options or {})
    if opener(url, given).conditional:
        given = {"retry_config": HASTY, **given}
    place = opener(url, given).parent
    name = f"{MARK}{uuid.uuid4().hex}"
    asked = _one_of_each_machine(client)
    try:
        place.write(name, name.encode())
    except WavedaskError:
        raise
    except Exception:
        return
    try:
        answers = _answers(client, asked, _reach, place, name) if asked else {}
    finally:
        with suppress(Exception):
            place.delete(name)
    problems = _listed(answers)
    if problems:
        raise ClusterError(
            f"workers do not reach {url}: " + _first(problems),
            "This process does. Give the workers the network and the credentials for it: "
            "environment variables of this process (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...) are "
            "not sent to them, set them where the workers start.",
        )


def invisible(
    client: "Client", *, inputs: Iterable[Path] = (), outputs: Iterable[Path] = ()
) -> list[str]:
    """List what `check_paths` refuses.

    Parameters
    ----------
    client, inputs, outputs
        As of `check_paths`.

    Returns
    -------
    list of str
        One line per worker and path.

    Examples
    --------
    >>> from wavedask.compute import local_client
    >>> with local_client(1) as client:
    ...     invisible(client, inputs=[Path(__file__)])
    []
    """
    expected = {str(path): _size(path) for path in _ends(inputs)}
    marks: dict[str, str] = {}
    asked = _one_of_each_machine(client)
    if not asked:
        return []
    try:
        for folder in {_existing(path) for path in outputs}:
            mark = folder / f"{MARK}{uuid.uuid4().hex}"
            try:
                mark.write_text(mark.name)
            except OSError as error:
                raise FileError(
                    f"folder {folder} cannot be written: {error.strerror}",
                    "Check permissions, free space and quota, or give another output.",
                ) from error
            marks[str(mark)] = mark.name
        answers = _answers(client, asked, _look, expected, marks)
    finally:
        for name in marks:
            Path(name).unlink(missing_ok=True)
    return _listed(answers)


def _listed(answers: Mapping[str, Any]) -> list[str]:
    """Make a line of each problem of each worker."""
    return [
        f"{worker}: {problem}"
        for worker, found in answers.items()
        for problem in (found if isinstance(found, list) else [f"cannot look ({found!r})"])
    ]


def _first(problems: list[str]) -> str:
    """Show a few problems, and count the others."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return "; ".join(problems[:SHOWN]) + more


def _answers(
    client: "Client", workers: list[str], look: Callable[..., list[str]], *what: Any
) -> Mapping[str, Any]:
    """Ask workers to look; an exception where there is no answer."""
    with asking(client, DOING):
        try:
            found: Mapping[str, Any] = client.run(
                look,
                *what,
                workers=workers,
                on_error="return",
                callback_timeout=ANSWER_SECONDS,
            )
        except TimeoutError as error:
            raise ClusterError(
                f"a worker has not looked at the files within {ANSWER_SECONDS:g} s",
                "Look for a file system or a network that hangs on a node, or for a suspended "
                "worker.",
            ) from error
    return found


def _workers(client: "Client") -> Mapping[str, Any]:
    """Ask the scheduler what it knows of its workers, by their addresses."""
    with asking(client, DOING):
        found: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def _look(expected: Mapping[str, int | None], marks: Mapping[str, str]) -> list[str]:
    """On a worker, compare files with what the driver sees."""
    problems = []
    for name, size in expected.items():
        path = Path(name)
        if not path.exists():
            problems.append(f"there is no {name}")
        elif not os.access(path, os.R_OK):
            problems.append(f"{name} cannot be read")
        elif _size(path) != size:
            problems.append(f"{name} is another file, of {_size(path)} bytes and not {size}")
    for name, content in marks.items():
        mark = Path(name)
        if not mark.parent.is_dir():
            problems.append(f"there is no folder {mark.parent}")
        elif not mark.exists() or mark.read_text() != content:
            problems.append(f"{mark.parent} is another folder than that of this machine")
        elif not os.access(mark.parent, os.W_OK | os.X_OK):
            problems.append(f"{mark.parent} cannot be written")
    return problems


def _reach(place: Remote, name: str) -> list[str]:
    """On a worker, read what the driver has written, and write beside it."""
    try:
        content = place.read(name)
    except Exception as error:
        return [f"{place} cannot be read: {_said(error)}"]
    if content != name.encode():
        return [f"{place} is another place than that of this machine"]
    own = f"{name}-{uuid.uuid4().hex}"
    try:
        place.write(own, b"")
        place.delete(own)
    except Exception as error:
        return [f"{place} cannot be written: {_said(error)}"]
    return []


def _said(error: Exception) -> str:
    """Return the message of an object store without its debugging output."""
    return str(error).strip().split("\n", maxsplit=1)[0][:300]


def _size(path: Path) -> int | None:
    """Bytes of a file; None of a folder, whose size says nothing."""
    return path.stat().st_size if path.is_file() else None


def _ends(paths: Iterable[Path]) -> set[Path]:
    """Take the first and the last path of each folder: a scan has thousands."""
    of_folder: dict[Path, list[Path]] = {}
    for path in paths:
        of_folder.setdefault(path.parent, []).append(path)
    return {end for inside in of_folder.values() for end in (min(inside), max(inside))}


def _existing(path: Path) -> Path:
    """Find the folder in which an output is made: the nearest parent that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _one_of_each_machine(client: "Client") -> list[str]:
    """Take workers so that every machine has one, up to `ASKED`."""
    workers = _workers(client)
    of_machine: dict[str, list[str]] = {}
    for address, worker in workers.items():
        of_machine.setdefault(worker["host"], []).append(address)
    first = [addresses[0] for addresses in of_machine.values()]
    rest = [address for addresses in of_machine.values() for address in addresses[1:]]
    return [*first, *rest][:ASKED]
