"""One writer at a time: a lock on a store that ends with its process."""

import errno
import json
import logging
import os
import platform
import re
import stat
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wavedask.compute import software
from wavedask.errors import StoreError
from wavedask.store.durable import machine
from wavedask.store.places import Place

try:
    import fcntl
except ImportError:
    # Without flock, as on other systems and in some tests, there is the lease.
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS: Final = 5.0
"""Interval between two renewals of a lease."""
LEASE_BEATS: Final = 6
"""Number of missed renewals after which a lease counts as abandoned."""
NO_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}
"""Error numbers of a file system without locks."""

HOST: Final = re.compile(r"[\w.:-]{1,253}", re.ASCII)
"""Name of a machine."""

_logger = logging.getLogger("wavedask")


@dataclass(frozen=True)
class Right:
    """The right of one run to write a store; each of its tasks carries and checks it.

    A worker may live longer than its run: the driver is killed while the worker computes a block or
    waits for a file server. When the block ends, another run may have finished the store,
    lengthened it, or begun a new one there.

    Attributes
    ----------
    place : Place
        The store.
    token : str
        Content of the lock while the run holds it.
    software : mapping of str to str
        Versions of the driver, which all workers must have.
    machine : str
        The machine of the driver: workers on another one flush what they write by themselves.
    durable : bool, default True
        Whether frames must be on the disk before they are complete.
    """

    place: Place
    token: str
    software: Mapping[str, str] = field(default_factory=software, repr=False)
    machine: str = field(default_factory=machine, repr=False)
    durable: bool = True

    def check(self) -> None:
        """Raise an error unless the lock beside the store still belongs to the run.

        Raises
        ------
        StoreError
            Another run holds the lock, or the lock is gone.
        """
        folder, key = _beside(self.place)
        content = folder.read(key)
        if _token_of(content) != self.token:
            gone = f"its lock {folder}/{key} is gone"
            raise StoreError(
                f"store {self.place} is not written by this run any more: "
                f"{gone if content is None else 'it was taken over by another run'}",
                "Let the other run finish, or run the same command again: complete frames are "
                "kept.",
            )


@contextmanager
def writing(place: Place, *, durable: bool = True) -> Iterator[Right]:
    """Hold the right to write a store while the body runs.

    In a folder this is a lock of the operating system (``flock``) on a file beside the store,
    ``.results.zarr.lock``. The system releases it when the process ends, for any reason. On NFS the
    server releases the locks of a machine that is gone.

    If the file system has no locks (Lustre mounted without ``flock``), and in an object store,
    there is a lease instead: an object that the writer renews every 5 s. A new run watches it for
    30 s and takes it over if it is not renewed. No clocks are compared. If several runs take it
    over at once, one succeeds: S3, Google and Azure write only if the object is unchanged
    (``If-Match``). Elsewhere a run compares and writes in two steps, looks again after a second,
    and the last writer has the lease. Two runs could both succeed only if the server does not
    compare, and one run is delayed for longer than that second between comparing and writing.

    Parameters
    ----------
    place : Place
        The store. It need not exist yet.
    durable : bool, default True
        Passed on to the right.

    Yields
    ------
    Right
        Its ``check()`` raises a `StoreError` if the right has been lost. This happens to a process
        that was suspended for longer than a lease, and to a worker whose driver was killed.

    Raises
    ------
    StoreError
        Another process writes the store: the message names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     place = Place(f"{folder}/results.zarr")
    ...     with writing(place) as right:
    ...         right.check()
    ...         sorted(os.listdir(folder))
    ...     os.listdir(folder)
    ['.results.zarr.lock']
    []
    """
    right = Right(place, uuid.uuid4().hex, durable=durable)
    folder, key = _beside(place)
    if not folder.remote and fcntl is not None:
        folder.path.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(folder.path / key, right)
        if descriptor is not None:
            try:
                yield right
            finally:
                # Remove it while it is locked: a run that waits must not lock a removed file.
                (folder.path / key).unlink(missing_ok=True)
                os.close(descriptor)
            return
    lease = _Lease(folder, key, right)
    lease.acquire()
    try:
        yield right
    finally:
        lease.release()


def _beside(place: Place) -> tuple[Place, str]:
    """Return the folder and the name of the lock of a store.

    The lock is beside the real folder: a link leads to the same store.
    """
    real = place if place.remote else Place(os.path.realpath(place.path))
    return real.parent, f".{real.name}.lock"


def _locked(file: Path, right: Right) -> int | None:
    """Lock a file; None if the file system has no locks."""
    while True:
        # Not through a link: in a folder that others may write, it could lead to any file.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            # The other name of the file may be anything, and it would be overwritten.
            what = "has another name, too" if stat.S_ISREG(status.st_mode) else "is not a file"
            raise StoreError(
                f"store {right.place} cannot be written: {file}, its lock, {what}",
                "Look who has put it there, and remove it.",
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            raise _refused(right.place, holder) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in NO_LOCKS:
                raise
            file.unlink(missing_ok=True)
            return None
        if _is_same(descriptor, file):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _own(right.token), 0)
            return descriptor
        # The previous writer removed the file after we opened it.
        os.close(descriptor)


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _own(token: str, beat: int = 0) -> bytes:
    """Describe this writer, for its workers and for the message of a run that is refused."""
    found = {
        "host": platform.node(),
        "pid": os.getpid(),
        "token": token,
        "beat": beat,
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    return json.dumps(found).encode()


def _refused(place: Place, holder: bytes) -> StoreError:
    return StoreError(
        f"store {place} is being written by another run{_named(holder)}",
        "Wait for it to end, or stop it. A run that was killed does not hold the store.",
    )


def _named(holder: bytes) -> str:
    """Name the process that holds a lock, in brackets; nothing if it is not known."""
    who = _parsed(holder)
    pid, host = who.get("pid"), who.get("host")
    # Another user may have written it: no control characters, and nothing long.
    known = isinstance(pid, int) and isinstance(host, str) and HOST.fullmatch(host)
    return f" (process {pid} on {host})" if known else ""


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _token_of(content: bytes | None) -> Any:
    return _parsed(content).get("token")


class _Lease:
    """A lock by regular renewals, for file systems and object stores without locks."""

    def __init__(self, folder: Place, key: str, right: Right) -> None:
        self._folder = folder
        self._key = key
        self._place = right.place
        self._token = right.token
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self) -> None:
        """Take the lease, or take it over if nobody renews it."""
        own = _own(self._token)
        self._folder.write(self._key, own, new=True)
        seen = self._folder.read(self._key)
        first = seen == own
        if not first and seen is not None:
            self._watch(seen)
            if not self._folder.replace(self._key, own, seen=seen):
                # It was released meanwhile, or another run took it.
                self._folder.write(self._key, own, new=True)
            seen = self._folder.read(self._key)
        if seen == own and not (first and self._folder.conditional):
            # If several wrote at once, the last one has it: not every store compares and writes in
            # one step, and not every server that claims to.
            time.sleep(BEAT_SECONDS / 5)
            seen = self._folder.read(self._key)
        if seen != own:
            raise _refused(self._place, seen or b"")
        self._thread.start()

    def _watch(self, seen: bytes) -> None:
        """Watch for a renewal by the writer; return if there is none or the lease is gone."""
        _logger.warning(
            "%s: another run%s has begun to write it; waiting %.0f s for a sign that it still does",
            self._place,
            _named(seen),
            LEASE_BEATS * BEAT_SECONDS,
        )
        for _ in range(LEASE_BEATS):
            time.sleep(BEAT_SECONDS)
            now = self._folder.read(self._key)
            if now is None:
                return
            if now != seen:
                raise _refused(self._place, now)

    def release(self) -> None:
        """Release the lease."""
        self._stop.set()
        self._thread.join()
        if _token_of(self._folder.read(self._key)) == self._token:
            self._folder.delete(self._key)

    def _renew(self) -> None:
        beat = 0
        while not self._stop.wait(BEAT_SECONDS):
            beat += 1
            try:
                # Read the content again: a write that seemed to fail may have succeeded.
                now = self._folder.read(self._key) or b""
                if _token_of(now) != self._token or not self._folder.replace(
                    self._key, _own(self._token, beat), seen=now
                ):
                    # Another run has it. The tasks of this run find that out by `Right.check`.
                    return
            except Exception:
                # The server does not answer for a while. The next round shows who has the lease.
                continue
