"""The cache of compiled kernels is a help, and never a reason to fail."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from wavedask.kernels import jit
from wavedask.kernels.jit import NODE_CACHE, private_folder

FOLDER = Path(jit.__file__).parent
ALONE = f"""
import sys, types
for name, folder in (("wavedask", {str(FOLDER.parent)!r}), ("wavedask.kernels", {str(FOLDER)!r})):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
"""
"""Packages without what their `__init__` imports: it takes seconds, and nothing of it is tested."""

PROGRAM = """
from wavedask.kernels.jit import JIT, njit

@njit(**JIT)
def double(x):
    return 2 * x

print(double(21))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(ALONE + PROGRAM)
    return path


def run(script: Path, **variables: str) -> tuple[str, str]:
    environment = {**os.environ, **variables}
    environment.pop("NUMBA_CACHE_DIR", None)
    environment |= variables
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_without_a_place_for_the_cache_it_runs_and_says_so(script: Path) -> None:
    # Files where folders should be: nothing can be written below them, not even by root.
    sealed = script.parent / "sealed"
    for path in (sealed, script.parent / "__pycache__"):
        path.write_bytes(b"")
    nowhere = str(sealed / "cache")
    value, message = run(script, HOME=nowhere, XDG_CACHE_HOME=nowhere)
    assert value == "42"
    assert message.count("set NUMBA_CACHE_DIR to a folder that can be written") == 1


def test_files_that_were_cut_off_are_written_again(script: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(script, NUMBA_CACHE_DIR=str(cache)) == ("42", "")
    files = [path for path in cache.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert {path.suffix for path in files} == {".nbi", ".nbc"}
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if path.suffix == ".nbc" else b"")
        value, message = run(script, NUMBA_CACHE_DIR=str(cache))
        assert value == "42"
        assert "cannot be read" in message
    assert run(script, NUMBA_CACHE_DIR=str(cache)) == ("42", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file system that can be full")
def test_a_full_disk_costs_time_only(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    # Numba writes each file under another name first: every such write ends as on a full disk.
    full = """
import builtins, errno
opened = builtins.open
def full(path, mode="r", *args, **kwargs):
    if ".tmp." in str(path):
        return opened("/dev/full", mode, *args, **kwargs)
    return opened(path, mode, *args, **kwargs)
builtins.open = full
"""
    script.write_text(full + ALONE + PROGRAM)
    value, message = run(script, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert value == "42"
    assert "No space left on device" in message


def test_a_change_of_any_kernel_is_a_reason_to_compile_again(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel holds those that it calls, and their files are not its own."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(script.parent / "cache"))
    script.write_text(PROGRAM)

    def compiled() -> tuple[int, int]:
        found = runpy.run_path(str(script))["double"].stats
        return sum(found.cache_hits.values()), sum(found.cache_misses.values())

    assert compiled() == (0, 1)
    assert compiled() == (1, 0)
    monkeypatch.setattr(jit, "_sources", lambda folder: "of another version")
    assert compiled() == (0, 1)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users on this system")
def test_a_node_keeps_kernels_in_a_private_folder(script: Path, tmp_path: Path) -> None:
    environment = {**os.environ, NODE_CACHE: str(tmp_path / "node")}
    environment.pop("NUMBA_CACHE_DIR", None)

    def ended() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )

    assert (ended().stdout, ended().stderr) == ("42\n", "")
    (folder,) = (tmp_path / "node").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.suffix for path in folder.rglob("*.nb*")} == {".nbi", ".nbc"}
    # Another user may have made it, with code of theirs: it is not used.
    folder.chmod(0o755)
    for path in folder.rglob("*.nb*"):
        path.unlink()
    done = ended()
    assert done.stdout == "42\n"
    assert "must be a folder of this user alone" in done.stderr
    assert not list(folder.rglob("*.nb*"))


def test_a_folder_of_another_kind_is_not_private(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    private_folder(tmp_path).rmdir()
    (tmp_path / f"wavedask-kernels-{os.geteuid()}").symlink_to(elsewhere)
    with pytest.raises(PermissionError, match="folder of this user alone"):
        private_folder(tmp_path)
