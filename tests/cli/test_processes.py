"""Commands in processes of their own: a terminal, an interruption."""

import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from support.commands import THREADS, python_m, rows, succeeded, until
from support.experiments import FRAMES, assert_equal, load, tree, write

import wavedask as wd
from wavedask.experiment.pipeline import run as run_experiment


def test_a_real_process_is_clean(folder: Path) -> None:
    script = Path(sys.executable).with_name("wavedask")
    environment = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "40"}
    ended = subprocess.run(
        [script, "run", folder / "experiment.yaml", "--workers", "1"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    # Not on a terminal, so no line is broken.
    assert rows(ended.stdout)["result store"] == str(folder / "results.zarr")


def test_a_terminal_of_little_vocabulary(folder: Path) -> None:
    ended = subprocess.run(
        python_m("info", folder / "raw" / "sample_*.edf"),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=300,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert rows(ended.stdout)["lens_x"] == "0 ? 0.01 (3 values)"


@contextmanager
def terminal(command: Sequence[str]) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run a command whose standard error is a terminal; yield it and the terminal's other end."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.communicate()
        os.close(ours)


def read_all(terminal: int) -> str:
    """What was written to a terminal until its last writer closed it."""
    pieces = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO where others say nothing more
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces).decode()


@pytest.mark.parametrize("where", [THREADS, ["--workers", "1"]], ids=["threads", "cluster"])
def test_a_terminal_is_shown_how_far_it_is(where: list[str], folder: Path) -> None:
    write(folder, cluster={"address": None})
    with terminal(python_m("run", folder / "experiment.yaml", *where)) as (process, ours):
        shown = read_all(ours)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    assert "reading headers" in shown
    assert "writing results.zarr" in shown
    # The last state of the bar, not only some state of it.
    last = shown[shown.rindex("writing results.zarr") :]
    assert f"{FRAMES}/{FRAMES}" in last
    assert "Traceback" not in shown
    assert rows(output.decode())["result store"] == str(folder / "results.zarr")
    assert "writing" not in output.decode()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let processes that are started here take SIGINT: those of a job in the background do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def running(*arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in a process group of its own; kill it at the end."""
    process = subprocess.Popen(
        python_m(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("interruptible")
def test_control_c_keeps_what_was_written(folder: Path) -> None:
    first = folder / "raw" / "sample_0000.edf"
    for number in range(FRAMES, 8):
        shutil.copy2(first, folder / "raw" / f"sample_{number:04d}.edf")
    store = folder / "results.zarr"
    file = write(folder, track={"engine": "opencv", "step": 1}, dark=None)
    with running("run", file, "--address", "threads", "--workers", "1") as process:
        # The ledger: it is written once empty, and then when a frame is complete.
        until(lambda: store.exists() or process.poll() is not None)
        empty = tree(store / "complete")
        until(lambda: tree(store / "complete") != empty or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        output, message = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert (
        message
        == "Stopped. All frames written so far are kept; run the same command again to resume.\n"
    )
    begun = wd.open_store(store)
    kept = int(begun.complete.sum())
    assert 0 < kept < 8
    assert "not finished" in succeeded("info", store)["frames"]
    again = succeeded("run", file, *THREADS)
    assert again["frames"] == f"8 ({8 - kept} computed now, {kept} kept)"
    with dask.config.set(scheduler="threads", num_workers=2):
        undisturbed = run_experiment(
            load(folder, track={"engine": "opencv", "step": 1}, dark=None, output="other.zarr")
        )
    assert_equal(wd.open_store(store), wd.open_store(undisturbed.store.path))


@pytest.mark.usefixtures("interruptible")
def test_control_c_in_a_terminal_reaches_the_workers_and_makes_no_noise(folder: Path) -> None:
    file = write(
        folder, track={"engine": "opencv", "step": 1}, cluster={"address": None, "workers": 2}
    )
    store = folder / "results.zarr"
    with running("run", file) as process:
        until(lambda: store.exists() or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
        output, message = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert (
        message
        == "Stopped. All frames written so far are kept; run the same command again to resume.\n"
    )
    assert succeeded("run", file, *THREADS)["frames"].startswith(f"{FRAMES} (")
