"""One writer at a time; a dead one is in nobody's way."""

import errno
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import pytest
import xarray as xr

from wavedask.errors import StoreError
from wavedask.store import lock
from wavedask.store.lock import Right, writing
from wavedask.store.places import Place
from wavedask.store.results import write_store

HOLDER = """
import sys, time
from wavedask.store import lock
from wavedask.store.places import Place
if sys.argv[2] == "lease":
    lock.fcntl, lock.BEAT_SECONDS = None, 0.25
with lock.writing(Place(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["flock", "lease"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lock of the system, and what is used where there is none."""
    if request.param == "lease":
        monkeypatch.setattr(lock, "fcntl", None)
        monkeypatch.setattr(lock, "BEAT_SECONDS", 0.25)
    return str(request.param)


def held_by_another(place: Place, kind: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place), kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_writes_until_that_one_is_dead(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(str(tmp_path / "r.zarr"))
    with held_by_another(place, kind) as process:
        with (
            pytest.raises(StoreError, match=f"another run .process {process.pid} on"),
            writing(place),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        caplog.clear()
        waits: list[float] = []
        clock = SimpleNamespace(sleep=waits.append, strftime=time.strftime)
        monkeypatch.setattr(lock, "time", clock)
        with writing(place) as right:
            right.check()
        # A dead process loses the lock of the system at once; a lease has to be waited for.
        beats = lock.LEASE_BEATS + 1 if kind == "lease" else 0
        assert sum(waits) <= beats * lock.BEAT_SECONDS
        # Who has to wait is told why.
        waiting = f"another run (process {process.pid} on"
        assert [waiting in message for message in caplog.messages] == [True] * (kind == "lease")
    # What a dead writer left is gone with the next one that ends well.
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_store_has_its_lock(kind: str, tmp_path: Path) -> None:
    store, link = tmp_path / "stores" / "r.zarr", tmp_path / "latest.zarr"
    store.mkdir(parents=True)
    link.symlink_to(store)
    for first, second in ((store, link), (link, store)):
        with (
            writing(Place(str(first))),
            pytest.raises(StoreError, match=rf"{second.name} is being written"),
            writing(Place(str(second))),
        ):
            pass
    assert {*tmp_path.iterdir()} == {store.parent, link}


def test_the_right_is_given_up_when_the_body_ends(kind: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "r.zarr"))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), writing(place):
            raise ZeroDivisionError
    with writing(place), pytest.raises(StoreError, match="another run"), writing(place):
        pass
    with writing(place), writing(Place(str(tmp_path / "other.zarr"))):
        pass
    assert not list(tmp_path.iterdir())


def test_who_was_taken_over_stops(kind: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "r.zarr"))
    with writing(place) as right:
        of_a_worker = pickle.loads(pickle.dumps(right))
        of_a_worker.check()
        # Between two signs of life: one that is under way when another takes it over is the last.
        after_a_beat(place, kind)
        place.parent.write(".r.zarr.lock", b'{"token": "another"}')
        for one in (right, of_a_worker):
            with pytest.raises(StoreError, match="taken over"):
                one.check()
        # The sign of life that would be due.
        time.sleep(2 * lock.BEAT_SECONDS if kind == "lease" else 0)
        with pytest.raises(StoreError, match="taken over"):
            right.check()
    # Without locks of the system it is the other's now, and left alone.
    assert (tmp_path / ".r.zarr.lock").exists() == (kind == "lease")
    with pytest.raises(StoreError, match=r"its lock .*\.r\.zarr\.lock is gone|taken over"):
        of_a_worker.check()


def after_a_beat(place: Place, kind: str) -> None:
    """Return when a lease has just been renewed."""
    before = place.parent.read(".r.zarr.lock")
    deadline = time.monotonic() + 30
    while kind == "lease" and place.parent.read(".r.zarr.lock") == before:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_server_that_does_not_answer_for_a_while_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    replace = Place.replace
    fails = iter(range(2 * lock.LEASE_BEATS))
    beats: list[bytes] = []

    def rarely(self: Place, key: str, content: bytes, *, seen: bytes) -> bool:
        if next(fails, None) is not None:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        beats.append(content)
        return replace(self, key, content, seen=seen)

    monkeypatch.setattr(Place, "replace", rarely)
    with writing(Place(str(tmp_path / "r.zarr"))) as right:
        deadline = time.monotonic() + 30
        while len(beats) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(beats) >= 2
        right.check()


def test_a_store_that_is_being_written_is_refused(kind: str, tmp_path: Path) -> None:
    maps = da.ones((2, 4, 4), chunks=(1, 4, 4))
    data = xr.Dataset({"w": (("frame", "y", "x"), maps)})
    path = tmp_path / "r.zarr"
    with writing(Place(str(path))), pytest.raises(StoreError, match=r"r\.zarr is being written"):
        write_store(path, data, settings={})
    assert write_store(path, data, settings={}).written == 2


def test_a_file_system_without_locks_has_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none_here)
    with writing(Place(str(tmp_path / "r.zarr"))):
        assert b'"token": "' in (tmp_path / ".r.zarr.lock").read_bytes()
    assert not list(tmp_path.iterdir())


def test_who_is_late_to_take_over_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    place = Place(str(tmp_path / "r.zarr"))
    place.parent.write(".r.zarr.lock", b'{"token": "of a dead one"}')
    replace = Place.replace
    with ExitStack() as other:

        def held_up(self: Place, key: str, content: bytes, *, seen: bytes) -> bool:
            # Meanwhile another one has seen the same, and takes it over entirely.
            monkeypatch.setattr(Place, "replace", replace)
            rights.append(other.enter_context(writing(place)))
            return replace(self, key, content, seen=seen)

        rights: list[Right] = []
        monkeypatch.setattr(Place, "replace", held_up)
        with pytest.raises(StoreError, match=f"another run .process {os.getpid()}"), writing(place):
            pass
        (right,) = rights
        right.check()
    assert not list(tmp_path.iterdir())
