"""One writer at a time: a lock on a store that a dead process does not hold."""

import errno
import json
import logging
import os
import platform
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
from wavedask.store.places import Place

try:
    import fcntl
except ImportError:
    # A system without flock has the lease, as the tests do that take it away.
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS: Final = 5.0
"""Time between two signs of life of a lease."""
LEASE_BEATS: Final = 6
"""Signs of life that must be missed in a row before a lease counts as left behind."""
NO_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}
"""What a file system without locks says."""

_logger = logging.getLogger("wavedask")


@dataclass(frozen=True)
class Right:
    """The right of one run to write a store; its workers take it along.

    A worker may outlive the run that it works for: its driver is killed, and a block that it has
    begun is still being computed, or held up by a file server. When it ends, another run may have
    finished the store and lengthened it, or begun a new one there.

    Attributes
    ----------
    place : Place
        The store.
    token : str
        What the lock holds while the run has it.
    software : mapping of str to str
        Versions of the driver, which all workers must have.
    """

    place: Place
    token: str
    software: Mapping[str, str] = field(default_factory=software, repr=False)

    def check(self) -> None:
        """Raise unless the run still has the right, as the lock says that lies beside the store.

        Raises
        ------
        StoreError
            Another run has it, or the lock is gone.
        """
        folder, key = _beside(self.place)
        content = folder.read(key)
        if _token_of(content) != self.token:
            gone = f"its lock {folder}/{key} is gone"
            raise StoreError(
                f"store {self.place} is not written by this run any more: "
                f"{gone if content is None else 'it was taken over by another run'}",
                "Let the other run finish, or run the same again; complete frames are kept.",
            )


@contextmanager
def writing(place: Place) -> Iterator[Right]:
    """Hold the right to write a store while the body runs.

    In a folder this is a lock of the operating system on a file beside the store,
    ``.results.zarr.lock``. The system gives it up when the process ends, however it ends; on NFS
    the server does so for a machine that is gone. Where the file system has no locks (Lustre
    mounted without ``flock``), and in an object store, it is a lease instead: an object that the
    writer renews every 5 s, and that who comes next takes over when it has watched it for 30 s
    without a renewal. No clocks are compared. Of several that take it over at once one succeeds:
    S3, Google and Azure write only if the object is what it was. Elsewhere each compares and writes
    in two steps. Either way it looks again after a second, and the last to write has it: two could
    both succeed only if the store does not compare by itself, and one of them was held up for
    longer than that second between comparing and writing.

    Parameters
    ----------
    place : Place
        The store. It need not be there yet.

    Yields
    ------
    Right
        Its ``check()`` raises a `StoreError` if the right has been lost: a process that was
        suspended for longer than a lease finds another writer when it goes on, and so does a
        worker that goes on after its driver was killed.

    Raises
    ------
    StoreError
        Another process writes the store: the message says which.

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
    right = Right(place, uuid.uuid4().hex)
    folder, key = _beside(place)
    if not folder.remote and fcntl is not None:
        folder.path.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(folder.path / key, right)
        if descriptor is not None:
            try:
                yield right
            finally:
                # While it is still locked: who waits for it must not get a file that is gone.
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
    """Folder and name of the lock of a store.

    Beside the store itself: who comes by a link to it writes the same store.
    """
    real = place if place.remote else Place(os.path.realpath(place.path))
    return real.parent, f".{real.name}.lock"


def _locked(file: Path, right: Right) -> int | None:
    """Lock a file; None if the file system has no locks."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
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
        # The writer before removed the file between our opening and our locking it.
        os.close(descriptor)


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _own(token: str, beat: int = 0) -> bytes:
    """Who writes: for workers, and for the message to who may not."""
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
        "Wait for it to end, or stop it; a run that was killed is not waited for.",
    )


def _named(holder: bytes) -> str:
    """Which process holds a lock, in brackets; nothing if it does not say."""
    who = _parsed(holder)
    return f" (process {who['pid']} on {who['host']})" if {"pid", "host"} <= set(who) else ""


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _token_of(content: bytes | None) -> Any:
    return _parsed(content).get("token")


class _Lease:
    """A lock by signs of life, for where the system has none."""

    def __init__(self, folder: Place, key: str, right: Right) -> None:
        self._folder = folder
        self._key = key
        self._place = right.place
        self._token = right.token
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self) -> None:
        """Take it, or take it over from who has shown no life."""
        own = _own(self._token)
        self._folder.write(self._key, own, new=True)
        seen = self._folder.read(self._key)
        first = seen == own
        if not first and seen is not None:
            self._watch(seen)
            if not self._folder.replace(self._key, own, seen=seen):
                # Given up meanwhile, or taken by another.
                self._folder.write(self._key, own, new=True)
            seen = self._folder.read(self._key)
        if seen == own and not (first and self._folder.conditional):
            # Of several that wrote at once the last one has it: not every store compares and
            # writes in one step, nor does every server that says so.
            time.sleep(BEAT_SECONDS / 5)
            seen = self._folder.read(self._key)
        if seen != own:
            raise _refused(self._place, seen or b"")
        self._thread.start()

    def _watch(self, seen: bytes) -> None:
        """Wait for a sign of life of the writer; return if there is none, or if it has gone."""
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
        """Give it up."""
        self._stop.set()
        self._thread.join()
        if _token_of(self._folder.read(self._key)) == self._token:
            self._folder.delete(self._key)

    def _renew(self) -> None:
        beat = 0
        while not self._stop.wait(BEAT_SECONDS):
            beat += 1
            try:
                # What is there, and not what was written last: of a write that seemed to fail
                # nobody knows whether it did.
                now = self._folder.read(self._key) or b""
                if _token_of(now) != self._token or not self._folder.replace(
                    self._key, _own(self._token, beat), seen=now
                ):
                    # Another has it; whoever writes for this run finds that out by looking.
                    return
            except Exception:
                # A server that does not answer for a while. Who has taken it over when it does
                # again is seen then.
                continue
