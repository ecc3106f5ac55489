"""What another user may have put into the folder of a store, or into a store."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.mutation import REFUSED, SECONDS, Reader
from support.second_user import write

import wavedask as wd
from wavedask.errors import ExperimentError, StoreError
from wavedask.experiment import load_experiment
from wavedask.store.integrity import lost_frames

NOBODY = 65534


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as found:
        yield found


def hard_link(lock: Path, victim: Path) -> None:
    os.link(victim, lock)


LOCKS: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "another name of a file": (hard_link, "its lock, has another name, too"),
    "a link to a file": (lambda lock, victim: lock.symlink_to(victim), "symbolic links"),
    "a pipe": (lambda lock, _: os.mkfifo(lock), "its lock, is not a file"),
    "a folder": (lambda lock, _: lock.mkdir(), "Is a directory"),
}


@pytest.mark.parametrize("case", LOCKS)
def test_a_lock_that_somebody_has_planted(case: str, tmp_path: Path) -> None:
    plant, message = LOCKS[case]
    victim = tmp_path / "victim"
    victim.write_text("precious")
    plant(tmp_path / ".r.zarr.lock", victim)
    with pytest.raises(StoreError, match=message) as caught:
        write(tmp_path / "r.zarr")
    assert ".r.zarr.lock" in str(caught.value)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "r.zarr").exists()


@pytest.mark.parametrize(
    "holder",
    [
        {"pid": 1, "host": "\x1b[2Jevil"},
        {"pid": 1, "host": "x" * 3000},
        {"pid": "\x07", "host": "a"},
        {"pid": [1], "host": {}},
        "text",
    ],
)
def test_a_lock_says_nothing_to_the_terminal(holder: Any, tmp_path: Path) -> None:
    with (tmp_path / ".r.zarr.lock").open("w") as file:
        json.dump(holder, file)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="is being written by another run") as caught:
            write(tmp_path / "r.zarr")
    assert str(caught.value).isprintable()
    assert "process" not in caught.value.problem


def test_a_draft_that_leads_elsewhere(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / f".r.zarr.{'a' * 32}.draft").symlink_to(precious)
    assert write(tmp_path / "r.zarr") == 4
    assert (precious / "file").exists()


def replaced(file: Path, by: str) -> None:
    file.unlink()
    if by == "pipe":
        os.mkfifo(file)
    elif by == "device":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as opened:
            opened.truncate(10**12)


@pytest.mark.parametrize("by", ["pipe", "device", "very large file"])
@pytest.mark.parametrize("place", ["zarr.json", "complete/c/0", "slope/c/2/0/0"])
def test_what_does_not_end_is_not_read(place: str, by: str, reader: Reader, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.zarr", tmp_path / "r.zarr"
    write(whole)
    shutil.copytree(whole, path)
    replaced(path / place, by)
    seconds, said = reader.read("store", path, whole)
    assert said == REFUSED
    assert seconds < SECONDS
    if place.startswith("slope"):
        assert lost_frames(path) == {"slope": [2]}
        assert write(path, repair=True) == 1
        wd.open_store(path).load()


@pytest.mark.parametrize("file", ["pipe", "/dev/zero"])
def test_an_experiment_that_does_not_end(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    if file == "pipe":
        os.mkfifo(path)
    with pytest.raises(ExperimentError, match="it is a pipe or a device"):
        load_experiment(path)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root becomes another user")
def test_another_user_reads_and_does_not_write(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    # As in /tmp: everybody may add files, and remove only their own.
    shared.chmod(0o1777)
    path = shared / "r.zarr"
    write(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    (shared / ".locked.zarr.lock").touch(mode=0o600)
    done = subprocess.run(
        [sys.executable, "-m", "support.second_user", str(NOBODY), str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: found[name] for name in ("read", "verify", "write", "beside")} == {
        "read": 4,
        "verify": True,
        # Nothing is missing.
        "write": 0,
        "beside": 4,
    }
    assert found["repair"] == 0
    assert "Permission denied" in found["locked"]
    assert ".locked.zarr.lock" in found["locked"]
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert (shared / "beside.zarr").stat().st_uid == NOBODY
