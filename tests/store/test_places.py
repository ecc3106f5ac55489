"""A store in an object store is the store that it is in a folder."""

import errno
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import obstore
import pytest
import xarray as xr
from support.s3 import BUCKET, KEY, SECRET, options, server
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from wavedask.cli.stores import describe_store, is_store
from wavedask.compute.connection import connect
from wavedask.errors import InputError, StoreError, StoreExistsError
from wavedask.export.files import to_csv, to_tiff
from wavedask.export.nexus import to_nexus
from wavedask.paths import read_regular
from wavedask.store import lock, places
from wavedask.store.integrity import lost_frames
from wavedask.store.lock import Right, writing
from wavedask.store.places import Place, place_of
from wavedask.store.results import open_store, write_store


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').strip(']')}/r.zarr"


@pytest.mark.parametrize("place", ["s3://bucket/r.zarr", "memory://r.zarr", "file:///tmp/r.zarr"])
def test_a_url_that_became_a_path_makes_no_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="as text and not as Path"):
        write_store(Path(place), scan(), settings={})
    with pytest.raises(InputError, match="as text and not as Path"):
        open_store(Path(place))
    for export in (to_nexus, to_tiff, to_csv):
        for target in (place, Path(place)):
            with pytest.raises(InputError, match="Give a file or a folder"):
                export(scan(), target)
    assert not list(tmp_path.iterdir())


def test_the_home_of_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a user who is not known"):
        open_store("~no-such-user-here/r.zarr")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StoreError):
        write_store(tmp_path / "loop", scan(), settings={})


def scan(frames: int = 5, *, fails: int | None = None) -> xr.Dataset:
    def block(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        if block_id[0] == fails:
            raise OSError(5, "Input/output error", "frame.edf")
        return np.random.default_rng(block_id).standard_normal((1, 16, 16)).astype("f4")

    maps = da.map_blocks(
        lambda block_id: block(block_id),
        chunks=((1,) * frames, (16,), (16,)),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    files = np.array([f"/raw/{k}.edf" for k in range(frames)], dtype=object)
    return xr.Dataset(
        {"wavefront": (("frame", "y", "x"), maps, {"units": "m"})},
        {
            "source_file": ("frame", files),
            "source_index": ("frame", np.zeros(frames, int)),
            "lens_x": ("frame", np.arange(frames) / 10),
        },
    )


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_written_grown_and_read_on_s3(where: str, endpoint: str, url: str) -> None:
    given: Any = {
        "settings": {"window": 21},
        "grow": ["sample"],
        "storage_options": options(endpoint),
    }
    with connect(None if where == "cluster" else where, workers=2):
        report = write_store(url, scan(3), **given)
        assert (report.path, report.frames, report.written) == (url, 3, 3)
        assert write_store(url, scan(3), **given).written == 0
        assert write_store(url, scan(5), **given).written == 2
        with pytest.raises(StoreExistsError, match="window is 21 there and 15 here"):
            write_store(url, scan(3), **{**given, "settings": {"window": 15}})
    stored = open_store(url, storage_options=options(endpoint))
    np.testing.assert_array_equal(stored.wavefront, scan(5).wavefront)
    assert stored.wave.query("lens_x > 0.15 and complete and scan == 1").sizes["frame"] == 2
    place_of(url, options(endpoint)).delete("wavefront/c/4/0/0")
    assert lost_frames(url, storage_options=options(endpoint)) == {"wavefront": [4]}
    # The lock is given up: nothing but the store is left.
    lease = place_of(url, options(endpoint)).parent.read(".r.zarr.lock")
    assert lease is None


def test_no_thread_of_the_client_calls_python(
    endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would still do so when the interpreter ends, and take the process with it (SIGABRT).
    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("a thread of the client is to call Python")

    for name in dir(obstore):
        if name.endswith("_async"):
            monkeypatch.setattr(obstore, name, called)
    given: Any = {"storage_options": options(endpoint)}
    write_store(url, scan(), settings={}, **given)
    np.testing.assert_array_equal(open_store(url, **given).wavefront, scan().wavefront)
    place = place_of(url, options(endpoint))
    place.clear()
    assert not place.occupied()


def test_parts_and_folders_of_objects(endpoint: str, url: str) -> None:
    place = place_of(url, options(endpoint))
    store = place.open()
    for key in ("a/b/c", "a/b/d", "a/e", "ab"):
        place.write(key, b"0123456789")
    prototype = default_buffer_prototype()
    parts = [None, RangeByteRequest(2, 5), OffsetByteRequest(7), SuffixByteRequest(4)]
    found = sync(store.get_partial_values(prototype, [("a/e", part) for part in parts]))
    assert [one.to_bytes() for one in found] == [b"0123456789", b"234", b"789", b"6789"]
    assert sync(store.get("nothing", prototype, SuffixByteRequest(4))) is None
    assert sync(store.exists("a/e"))
    assert not sync(store.exists("a"))
    assert sync(store.getsize("a/e")) == 10

    async def names(prefix: str) -> list[str]:
        return sorted([name async for name in store.list_dir(prefix)])

    assert sync(names("")) == ["a", "ab"]
    assert sync(names("a")) == sync(names("a/")) == ["b", "e"]
    sync(store.delete_dir("a"))
    # SeaweedFS keeps folders that are empty.
    assert sync(store.is_empty("a"))
    assert not sync(store.is_empty(""))
    read_only = store.with_read_only(read_only=True)
    assert read_only != store
    assert read_only.client is store.client
    assert Place(place.text + "/a", place.options).open().client is not store.client
    assert pickle.loads(pickle.dumps(read_only)) == read_only
    with pytest.raises(ValueError, match="read-only"):
        sync(read_only.delete("ab"))


def test_credentials_may_come_from_the_environment(
    endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    write_store(url, scan(2), settings={})
    assert is_store(url)
    assert not is_store(url + "x")
    assert dict(describe_store(url))["frames"].startswith("2, 2 complete")


@pytest.mark.parametrize("wrong", ["key", "secret", "server"])
def test_wrong_credentials_are_an_error_that_says_so(wrong: str, endpoint: str, url: str) -> None:
    cases: dict[str, dict[str, Any]] = {
        "key": {"access_key_id": "nobody"},
        "secret": {"secret_access_key": "wrong"},
        "server": {"endpoint": "http://127.0.0.1:9", "retry_config": {"max_retries": 0}},
    }
    changes = cases[wrong]
    bad: dict[str, Any] = {**options(endpoint), **changes}
    with pytest.raises(StoreError, match=r"r\.zarr cannot be") as caught:
        write_store(url, scan(), settings={}, storage_options=bad)
    assert "credentials" in caught.value.remedy
    with pytest.raises(StoreError, match=r"r\.zarr"):
        open_store(url, storage_options=bad)
    with pytest.raises(StoreError, match="there is no store"):
        open_store(url, storage_options=options(endpoint))


def test_an_interrupted_write_is_resumed(endpoint: str, url: str) -> None:
    given: Any = {"settings": {}, "storage_options": options(endpoint)}
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(StoreError, match=r"frame\.edf"):
            write_store(url, scan(fails=3), **given)
        done = open_store(url, storage_options=options(endpoint)).complete.values
        assert not done[3]
        assert write_store(url, scan(), **given).written == (~done).sum()
    stored = open_store(url, storage_options=options(endpoint))
    np.testing.assert_array_equal(stored.wavefront, scan().wavefront)


def test_a_creation_that_was_killed_is_no_store_and_in_nobodys_way(
    endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: Any = {"settings": {}, "storage_options": options(endpoint)}
    with monkeypatch.context() as patch:
        # Killed, it does not clear away what it has begun.
        patch.setattr(Place, "commit", _killed)
        patch.setattr(Place, "clear", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            write_store(url, scan(), **given)
    with pytest.raises(StoreError, match=r"no store at .* a run was killed while"):
        open_store(url, storage_options=options(endpoint))
    assert write_store(url, scan(), **given).written == 5


def _killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


KILLED = """
import json, sys, time
import dask, dask.array as da, numpy as np, xarray as xr
from wavedask.store import lock
from wavedask.store.results import write_store
lock.BEAT_SECONDS = 0.2

def block(block_id):
    if block_id[0] >= 30 and "stall" in sys.argv:
        time.sleep(600)
    return np.random.default_rng(block_id).standard_normal((1, 16, 16)).astype("f4")

maps = da.map_blocks(block, chunks=((1,) * 60, (16,), (16,)), dtype="f4",
                     meta=np.empty((0, 0, 0), "f4"))
data = xr.Dataset({"wavefront": (("frame", "y", "x"), maps)})
with dask.config.set(scheduler="threads", num_workers=2):
    options = json.loads(sys.argv[2])
    print(write_store(sys.argv[1], data, settings={}, storage_options=options).written)
"""


def test_killed_on_s3_and_resumed_is_equal_to_the_bit(
    endpoint: str, url: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), url, json.dumps(options(endpoint))]
    with subprocess.Popen([*command, "stall"], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        complete = np.zeros(60, bool)
        try:
            while not complete.any() and time.monotonic() < deadline:
                if is_there(url, endpoint):
                    complete = open_store(url, storage_options=options(endpoint)).complete.values
                time.sleep(0.05)
        finally:
            process.kill()
    stored = open_store(url, storage_options=options(endpoint))
    done = stored.complete.values
    assert 0 < done.sum() < 60
    expected = np.concatenate(
        [
            np.random.default_rng((n, 0, 0)).standard_normal((1, 16, 16)).astype("f4")
            for n in range(60)
        ]
    )
    np.testing.assert_array_equal(stored.wavefront.values[done], expected[done])
    # The lease of the dead writer is watched for a while, and taken over.
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"{60 - done.sum()}\n"
    np.testing.assert_array_equal(
        open_store(url, storage_options=options(endpoint)).wavefront.values, expected
    )


def test_what_has_changed_is_not_replaced(endpoint: str, url: str) -> None:
    place = place_of(url, options(endpoint))
    assert place.conditional
    assert not place.replace("lock", b"new", seen=b"never there")
    assert place.read("lock") is None
    place.write("lock", b"first")
    assert place.replace("lock", b"second", seen=b"first")
    assert not place.replace("lock", b"third", seen=b"first")
    assert place.read("lock") == b"second"


def test_an_answer_that_was_lost_is_not_taken_for_a_defeat(
    endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(url, options(endpoint))
    place.write("lock", b"dead")
    put = obstore.put

    def twice(*args: Any, **given: Any) -> Any:
        # As after a time-out: the first attempt had arrived.
        put(*args, **given)
        return put(*args, **given)

    monkeypatch.setattr(obstore, "put", twice)
    assert place.replace("lock", b"mine", seen=b"dead")
    assert place.read("lock") == b"mine"


def test_who_is_late_to_take_over_is_refused_by_the_server(
    endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    place = place_of(url, options(endpoint))
    place.parent.write(".r.zarr.lock", b'{"token": "of a dead one"}')
    put = obstore.put
    rights: list[Right] = []
    with ExitStack() as other:

        def held_up(*args: Any, **given: Any) -> Any:
            # It has found the dead one still there; meanwhile another takes it over entirely.
            monkeypatch.setattr(obstore, "put", put)
            rights.append(other.enter_context(writing(place)))
            return put(*args, **given)

        monkeypatch.setattr(obstore, "put", held_up)
        with pytest.raises(StoreError, match="another run"), writing(place):
            pass
        (right,) = rights
        right.check()
    assert place.parent.read(".r.zarr.lock") is None


def is_there(url: str, endpoint: str) -> bool:
    document = place_of(url, options(endpoint)).document() or {}
    return "wavedask_store" in document.get("attributes", {})


def test_something_else_under_the_url_is_left_alone(endpoint: str, url: str) -> None:
    place = place_of(url, options(endpoint))
    place.write("notes.txt", b"years of work")
    with pytest.raises(StoreExistsError, match="is not a wavedask result store"):
        write_store(url, scan(), settings={}, storage_options=options(endpoint))
    assert place.read("notes.txt") == b"years of work"


def test_any_other_url_goes_through_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    write_store("memory://a/r.zarr", scan(3), settings={})
    np.testing.assert_array_equal(open_store("memory://a/r.zarr").wavefront, scan(3).wavefront)
    with pytest.raises(StoreError, match="nothing-such://"):
        open_store("nothing-such://a/r.zarr")


def test_a_file_that_was_replaced_on_nfs_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(str(tmp_path))
    place.write("lock", b"new")
    left = [errno.ESTALE]

    def stale(path: Path, *, largest: int) -> bytes:
        if left:
            raise OSError(left.pop(), "as a server of NFS says", str(path))
        return read_regular(path, largest=largest)

    monkeypatch.setattr(places, "read_regular", stale)
    assert place.read("lock") == b"new"
    for lasting in ([errno.ESTALE] * 2, [errno.EIO]):
        left += lasting
        with pytest.raises(OSError, match="server of NFS"):
            place.read("lock")


def test_options_belong_to_urls(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belong to a URL"):
        write_store(tmp_path / "r.zarr", scan(), settings={}, storage_options={"key": "x"})


def test_credentials_are_not_shown() -> None:
    assert "hidden" not in repr(place_of("s3://b/r.zarr", {"secret_access_key": "hidden"}))


class Line:
    """A TCP port that leads to a server, and can be closed for a while."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._open()

    def _open(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._connections += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(65536):
                other.sendall(content)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Refuse connections, and drop those there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def open_again(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open()


def test_a_server_that_is_gone_for_seconds_is_waited_for(endpoint: str, url: str) -> None:
    line = Line(endpoint)
    away: list[threading.Timer] = []

    def block(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        if block_id[0] == 2 and not away:
            away.append(threading.Timer(3.0, line.open_again))
            line.close()
            away[0].start()
        return np.full((1, 8, 8), float(block_id[0]))

    maps = da.map_blocks(
        lambda block_id: block(block_id),
        chunks=((1,) * 5, (8,), (8,)),
        dtype="f8",
        meta=np.empty((0, 0, 0)),
    )
    result = xr.Dataset({"slope_y": (("frame", "y", "x"), maps)})
    given = options(f"http://127.0.0.1:{line.port}")
    try:
        begin = time.monotonic()
        with dask.config.set(scheduler="threads", num_workers=2):
            report = write_store(url, result, settings={}, storage_options=given, progress=False)
        assert away
        assert time.monotonic() - begin > 3
        assert report.written == 5
    finally:
        if away:
            away[0].join()
        line.close()
    stored = open_store(url, storage_options=options(endpoint))
    np.testing.assert_array_equal(stored.slope_y[:, 0, 0], np.arange(5.0))


def test_no_secret_is_written_or_said(
    endpoint: str, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the store, nor in logs, errors, descriptions, exports and tasks' names."""
    said = []
    with caplog.at_level(logging.DEBUG):
        write_store(url, scan(), settings={"output": url}, storage_options=options(endpoint))
        stored = open_store(url, storage_options=options(endpoint))
        said += [
            repr(stored),
            str(stored.attrs),
            *(str(array.data.dask.keys()) for array in stored.data_vars.values()),
        ]
        said += map(str, [to_csv(stored, tmp_path / "a.csv"), to_nexus(stored, tmp_path / "a.h5")])
        for wrong in ({"settings": {"a": 1}}, {"settings": {"output": url}, "joined": "they are"}):
            with suppress(StoreError):
                write_store(url, scan(4), storage_options=options(endpoint), **wrong)
        for bad in ({"secret_access_key": SECRET + "x"}, {"region": 5}, {"nonsense": SECRET}):
            try:
                open_store(url, storage_options=options(endpoint, **bad))
            except Exception as error:
                said += [str(error), repr(error)]
    said += [record.getMessage() for record in caplog.records]
    place = place_of(url, options(endpoint))
    content = [place.read(key) or b"" for key in place.objects()]
    content += [(tmp_path / name).read_bytes() for name in ("a.csv", "a.h5")]
    assert not any(SECRET.encode() in one for one in content)
    assert not [text for text in said if SECRET in text]


@pytest.mark.parametrize("url", ["s3://me:hidden@bucket/r.zarr", "https://me:hidden@host/r.zarr"])
def test_a_url_with_a_password_is_refused_without_saying_it(url: str) -> None:
    with pytest.raises(InputError, match="holds a password") as caught:
        place_of(url)
    assert "hidden" not in str(caught.value)


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    """Another user could lay one there, to have a file of the owner overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".r.zarr.lock").symlink_to(victim)
    with pytest.raises(StoreError, match=r"r\.zarr cannot be written"):
        write_store(tmp_path / "r.zarr", scan(), settings={})
    assert victim.read_text() == "precious"


def test_drafts_of_killed_runs_are_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / f".r.zarr.{'a' * 32}.draft"
    (left / "slope_y").mkdir(parents=True)
    other = tmp_path / f".other.zarr.{'a' * 32}.draft"
    other.mkdir()
    write_store(tmp_path / "r.zarr", scan(), settings={})
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "r.zarr"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_store(tmp_path / "r.zarr", scan(), settings={})
    finally:
        os.umask(before)
    for path in [tmp_path / "r.zarr", *(tmp_path / "r.zarr").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
