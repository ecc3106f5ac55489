"""The command line as its user meets it: tables on stdout, all else on stderr, exit codes."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from click.shell_completion import BashComplete
from support.commands import THREADS, invoke, refused, rows, succeeded
from support.experiments import FRAMES, SIDE, copied, tree, write

import wavedask as wd
from wavedask.cli import main

# Help.


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["wavedask demo", "wavedask info", "--plan", "again to resume", "keV", "Exit code 0"]),
        (["demo"], ["--output", "--side", "--positions", "resumes", "overwrites nothing"]),
        (
            ["info"],
            ["PATH...", "--scan", "--image", "--motors", "--motor", "--all", "quote a glob"],
        ),
        (["run"], ["--plan", "sample: raw/sample_*.edf", "pixel_size: 0.65e-6", "--cluster"]),
        (["track"], ["--output", "--search", "--largest-window", "SAMPLE", "one reference frame"]),
    ],
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_teaches(command: list[str], words: list[str], option: str) -> None:
    result = invoke(*command, option)
    assert result.exit_code == 0
    assert result.stderr == ""
    unwrapped = " ".join(result.stdout.split())
    for word in words:
        assert word in unwrapped


def test_the_experiment_in_the_help_can_be_run(tmp_path: Path) -> None:
    lines = invoke("run", "--help").stdout.splitlines()
    first = next(n for n, line in enumerate(lines) if "sample:" in line)
    last = next(n for n, line in enumerate(lines) if "output:" in line)
    text = "\n".join(line[4:] for line in lines[first : last + 1])
    (tmp_path / "experiment.yaml").write_text(text)
    assert wd.__version__ in invoke("--version").stdout
    assert "does not exist" not in refused("run", tmp_path / "experiment.yaml")
    assert "raw/sample_*.edf" in refused("run", tmp_path / "experiment.yaml")


def test_a_shell_completes_commands_and_options() -> None:
    complete = BashComplete(main, {}, "wavedask", "_WAVEDASK_COMPLETE")
    assert {item.value for item in complete.get_completions([], "in")} == {"info", "init"}
    options = {item.value for item in complete.get_completions(["init"], "--p")}
    assert options == {"--pixel-size"}
    assert "_WAVEDASK_COMPLETE=bash_complete" in complete.source()


# A run.


def test_plan_and_run_and_run_again(folder: Path) -> None:
    experiment = folder / "experiment.yaml"
    plan = succeeded("run", "--plan", experiment)
    assert plan["frames"] == f"{FRAMES} of {SIDE} x {SIDE} px"
    assert plan["tasks"].startswith("about ")
    assert not (folder / "results.zarr").exists()
    first = succeeded("run", experiment)
    assert first["frames"] == f"{FRAMES} ({FRAMES} computed now, 0 kept)"
    assert first["result store"] == str(folder / "results.zarr")
    again = succeeded("run", experiment, *THREADS)
    assert again["frames"] == f"{FRAMES} (0 computed now, {FRAMES} kept)"
    assert again["flat pixels without beam"] == first["flat pixels without beam"]
    before = tree(folder / "results.zarr")
    write(folder, track={"search": 9})
    assert "settings.track.search is 8 there and 9 here" in refused("run", experiment)
    assert tree(folder / "results.zarr") == before


def test_an_address_replaces_that_of_the_file(folder: Path) -> None:
    write(folder, cluster={"address": "tcp://127.0.0.1:1", "workers": None})
    experiment = folder / "experiment.yaml"
    assert succeeded("run", experiment, "--address", "threads")["frames"].startswith("3 (3")
    # The number of workers in the file does not go with another address.
    write(folder, cluster={"address": None, "workers": 1})
    assert "no Dask scheduler answers" in refused("run", experiment, "--address", closed_port())


def closed_port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    import wavedask.compute

    patient = wavedask.compute.connect
    monkeypatch.setattr(
        "wavedask.compute.connect",
        lambda *where, **given: patient(*where, **{**given, "timeout": 0.3}),
    )


pytestmark = pytest.mark.usefixtures("_impatient")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"smaple": "a"}, ["experiment.yaml", "smaple", "did you mean 'sample'?"]),
        ({"track": {"window": 20}}, ["experiment.yaml", "window is 20", "odd number"]),
        ({"sample": "raw/none_*.edf"}, ["none_*.edf", "pattern"]),
        ({"wavefront": {"energy": 17000}}, ["energy is 17000 keV", "another unit"]),
        ({"wavefront": {"pixel_size": 0.65}}, ["pixel_size is 0.65 m", "another unit"]),
        ({"cluster": {"address": "localhost"}}, ["'localhost'", "tcp://host:8786"]),
        ({"cluster": {"workers": 0}}, ["cluster.workers is 0", "at least 1"]),
        ({"output": "raw"}, ["raw", "not a wavedask result store", "another path"]),
    ],
)
def test_a_wrong_experiment(changes: dict[str, Any], words: list[str], folder: Path) -> None:
    write(folder, **changes)
    before = tree(folder)
    message = refused("run", folder / "experiment.yaml")
    for word in words:
        assert word in message
    assert tree(folder) == before


def test_options_that_cannot_be(folder: Path) -> None:
    experiment = folder / "experiment.yaml"
    assert "--workers" in refused("run", experiment, "--workers", "0")
    assert "'localhost'" in refused("run", experiment, "--address", "localhost")
    address = closed_port()
    assert address in refused("run", experiment, "--address", address)
    assert "has its own" in refused("run", experiment, "--address", address, "--workers", "2")
    assert "No such command" in refused("frobnicate")
    assert "none.yaml" in refused("run", folder / "none.yaml")
    assert "is a directory" in refused("run", folder)
    assert "--side" in refused("demo", "--side", "10")
    assert "is a file" in refused("demo", "--output", experiment)
    assert "holds no demonstration" in refused(
        "demo", "--output", folder, "--side", "256", *THREADS
    )


def test_paths_that_look_like_markup(tmp_path: Path, raw: Path) -> None:
    odd = tmp_path / "run[bold]"
    odd.mkdir()
    write(copied(raw, odd), sample="raw/none.edf")
    assert str(odd / "raw/none.edf") in refused("run", odd / "experiment.yaml")
    write(odd, sample="raw/sample_0000.edf")
    assert succeeded("run", odd / "experiment.yaml")["result store"] == str(odd / "results.zarr")
    shown = invoke("info", odd / "results.zarr").stdout
    assert shown.startswith(str(odd / "results.zarr"))
    assert rows(shown)["slope_y"] == "vertical wavefront slope [rad]"


# What goes wrong.


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("a [bug]"), 1, ["Failed: RuntimeError: a [bug]", "wavedask --debug"]),
        (OSError(28, "No space left on device", "/d"), 1, ["No space left on device: '/d'"]),
        (KeyboardInterrupt(), 1, ["Stopped.", "run the same command again to resume"]),
    ],
)
def test_failures_are_told_apart(
    error: BaseException,
    code: int,
    words: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("wavedask.experiment.stages_of", fail)
    message = refused("run", folder / "experiment.yaml", code=code)
    for word in words:
        assert word in message


def test_debug_shows_where(folder: Path) -> None:
    write(folder, sample="raw/none.edf")
    result = invoke("--debug", "run", folder / "experiment.yaml")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "find_files" in result.stderr
    assert result.stderr.rstrip().endswith("its disk is mounted.")


def test_logging_is_left_as_it_was(folder: Path) -> None:
    import logging

    logger = logging.getLogger("wavedask")
    before = (logger.level, list(logger.handlers))
    invoke("--debug", "info", folder / "raw")
    invoke("info", folder / "none")
    assert (logger.level, list(logger.handlers)) == before


# info.


def test_info_of_a_folder_a_glob_and_files(folder: Path) -> None:
    assert succeeded("info", folder / "raw")["frames"] == "14"
    of_glob = succeeded("info", folder / "raw" / "sample_*.edf")
    assert of_glob["frames"] == str(FRAMES)
    assert of_glob["lens_x"] == "0 … 0.01 (3 values)"
    assert "detz" not in of_glob
    files = sorted((folder / "raw").glob("sample_*.edf"))
    assert succeeded("info", *files) == of_glob
    everything = succeeded("info", "--all", *files)
    assert everything["detz"] == "1000"
    assert everything.items() >= of_glob.items()
    assert "files of several formats" in refused("info", *files, tiff(folder))


def tiff(folder: Path) -> Path:
    path = folder / "plain.tif"
    tifffile.imwrite(path, np.zeros((4, 5), "u2"))
    return path


def test_info_of_a_tiff_with_nothing(tmp_path: Path) -> None:
    told = succeeded("info", tiff(tmp_path))
    assert told["frame size"] == "4 x 5 px, uint16"
    assert told["motors that moved"] == told["motors that stood still"] == "0"


def test_info_of_a_file_with_several_scans(tmp_path: Path) -> None:
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as file:
        for scan in ("1.1", "2.1"):
            file[f"{scan}/title"] = f"loopscan {scan[0]}"
            file[f"{scan}/instrument/pco/image"] = np.zeros((int(scan[0]), 8, 9), "u2")
        file["2.1/instrument/positioners/lens"] = [0.0, 1.0]
        file["2.2/measurement/diode"] = np.zeros(30)
        file["2.2/start_time"] = "2026-05-01T10:00:00"
    told = succeeded("info", path)
    assert told["1.1"] == "loopscan 1"
    assert told["2.1/instrument/pco/image"] == "2 frames of 8 x 9 px, uint16"
    assert told["2.2"] == "no title (still running)"
    assert told["cameras"] == "none"
    assert "frame size" not in told
    assert "lens" in invoke("info", path).stdout
    told = succeeded("info", path, "--scan", "2.1")
    assert told["frames"] == "2"
    assert "unfinished" not in told
    assert "3.1" in refused("info", path, "--scan", "3.1")
    with h5py.File(path, "a") as file:
        file["3.1"] = h5py.ExternalLink("gone.h5", "/1.1")
    assert succeeded("info", path)["3.1"] == "in another file, which is missing"
    assert "gone.h5" in refused("info", path, "--scan", "3.1")


def test_info_of_a_file_with_one_scan_goes_on_to_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as file:
        file["1.1/instrument/pco/image"] = np.zeros((3, 8, 9), "u2")
        file["1.1/instrument/positioners/lens"] = [0.0, np.nan, 1.0]
    told = succeeded("info", path)
    assert told["1.1/instrument/pco/image"] == "3 frames of 8 x 9 px, uint16"
    assert told["frame size"] == "8 x 9 px, uint16"
    assert told["lens"] == "0 … 1 (2 values, unknown in 1 frames)"


def test_info_of_a_scan_that_is_running(tmp_path: Path) -> None:
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as file:
        file["1.1/start_time"] = "2026-05-01T10:00:00"
        file["1.1/instrument/pco/image"] = np.zeros((3, 8, 9), "u2")
        file["1.1/instrument/positioners/lens"] = 0.0
        file["1.1/measurement/lens"] = [0.0, 1.0]
    told = succeeded("info", path)
    assert told["unfinished"] == "2 of 3 frames with all their motors"


def test_info_of_a_file_whose_other_scans_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as file:
        file["1.1/instrument/pco/image"] = np.zeros((3, 8, 9), "u2")
        file["2.1"] = h5py.ExternalLink("gone.h5", "/2.1")
        file["3.1/instrument/pco/image"] = h5py.ExternalLink("purged.h5", "/image")
    told = succeeded("info", path)
    assert told["2.1"] == "in another file, which is missing"
    assert "purged.h5" in told["cameras"]
    assert told["frame size"] == "8 x 9 px, uint16"


def test_info_of_a_file_with_nothing_in_it(tmp_path: Path) -> None:
    h5py.File(tmp_path / "empty.h5", "w").close()
    output = invoke("info", tmp_path / "empty.h5").stdout
    assert rows(output) == {"scans": "none"}
    assert max(map(len, output.splitlines())) < 200


def test_info_of_several_hdf5_files(tmp_path: Path) -> None:
    for number in range(3):
        with h5py.File(tmp_path / f"lens_{number}.h5", "w") as file:
            file["1.1/instrument/pco/image"] = np.zeros((2, 8, 9), "u2")
            file["1.1/instrument/positioners/lens"] = 0.5 * number
    told = succeeded("info", tmp_path / "lens_*.h5")
    assert (told["frames"], told["lens"]) == ("6", "0 … 1 (3 values)")
    assert succeeded("info", *sorted(tmp_path.iterdir())) == told
    assert succeeded("info", tmp_path, "--scan", "1.1") == told
    table = tmp_path / "motors.csv"
    table.write_text("rot [deg]\n" + "\n".join(map(str, range(6))))
    assert succeeded("info", tmp_path, "--motors", table)["rot"] == "0 … 5 deg (6 values)"


def test_info_of_a_file_of_no_known_layout(tmp_path: Path) -> None:
    path = tmp_path / "home_made.h5"
    with h5py.File(path, "w") as file:
        file["run/frames"] = np.zeros((2, 8, 9), "u2")
        file["run/stage/x"] = [0.0, 0.5]
        file["run/energy"] = 17.0
    assert "frame size" not in succeeded("info", path)
    places = ("--motor", "lens_x [mm]=/run/stage/x", "--motor", "energy=run/energy")
    told = succeeded("info", path, "--image", "/run/frames", "--all", *places)
    assert (told["frames"], told["lens_x"]) == ("2", "0 … 0.5 mm (2 values)")
    assert told["energy"] == "17"
    near = refused("info", path, "--image", "/run/frame")
    assert "Did you mean /run/frames" in near
    assert "--motor is NAME=PLACE" in refused("info", path, "--motor", "lens_x")
    both = refused("info", path, "--motor", "a=/b", "--motors", tmp_path / "a.csv")
    assert "exclude each other" in both


def test_info_of_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    with h5py.File(path, "w") as file:
        file["1.1/instrument/pco/image"] = np.zeros((3, 64, 64), "u2")
    path.write_bytes(path.read_bytes()[:-9000])
    assert f"{path} is truncated" in refused("info", path)


def test_info_of_a_store(folder: Path) -> None:
    succeeded("run", folder / "experiment.yaml")
    told = succeeded("info", folder / "results.zarr")
    assert told["frames"] == f"{FRAMES}, {FRAMES} complete (finished)"
    assert told["axis x"] == "0 … 82.55 µm, 128 px"
    # Raw frames and a store are not one scan.
    assert "results.zarr" in refused("info", folder / "results.zarr", folder / "results.zarr")


def test_info_of_what_is_not_there_or_damaged(folder: Path) -> None:
    (folder / "empty").mkdir()
    whole = (folder / "raw" / "sample_0000.edf").read_bytes()
    (folder / "short.edf").write_bytes(whole[:-100])
    (folder / "none.edf").write_bytes(b"")
    for path, words in (
        ("nothing", ["nothing", "does not exist", "Check the path"]),
        ("nothing_*.edf", ["nothing_*.edf", "no file matches", "pattern"]),
        ("empty", ["holds no frames", ".edf"]),
        ("short.edf", ["short.edf", "truncated", str(len(whole)), "Copy it again"]),
        ("none.edf", ["none.edf", "empty"]),
        ("experiment.yaml", ["no known suffix", ".tif"]),
    ):
        message = refused("info", folder / path)
        for word in words:
            assert word in message
    assert "PATH" in refused("info")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Do without the powers of the superuser, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_may_not_be_read(folder: Path) -> None:
    closed = folder / "raw"
    closed.chmod(0)
    try:
        with as_nobody():
            messages = [refused("info", path) for path in (closed, closed / "sample_0000.edf")]
            messages.append(refused("track", closed, closed, "--output", folder / "t.zarr"))
    finally:
        closed.chmod(0o755)
    for message in messages:
        assert str(closed) in message
        assert "Permission denied" in message


# track.


def test_track_stops_at_the_displacement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    raw_frames = ["raw/sample_*.edf", "raw/reference_0000.edf"]
    options = ["--window", "15", "--search", "8", "--dark", "raw/dark_*.edf", *THREADS]
    told = succeeded("track", *raw_frames, *options, "--output", "t.zarr")
    assert told["frames"] == f"{FRAMES} ({FRAMES} computed now, 0 kept)"
    stored = wd.open_store("t.zarr")
    assert "slope_y" not in stored
    assert stored.displacement_x.attrs["units"] == "px"
    assert stored.attrs["settings"]["track"]["good"] == 0.8
    assert set(stored.attrs["shared"]) == {"dark", "reference"}
    again = succeeded("track", *raw_frames, *options, "--output", folder / "t.zarr")
    assert again["frames"] == f"{FRAMES} (0 computed now, {FRAMES} kept)"
    # The same files in other roles are another result.
    options[options.index("--dark")] = "--flat"
    url = f"memory://{folder.name}.zarr"
    succeeded("track", *raw_frames, *options, "--output", url)
    assert "(finished)" in succeeded("info", url)["frames"]
    assert "there is no store" in refused("info", f"{url}.none")
    message = refused("track", *raw_frames, *options, "--output", "t.zarr")
    assert "settings.files.dark" in message
    # With a reference for each frame, they share the flat alone.
    options += ["--gain", "0.1", "--psf", "1.5"]
    result = invoke("track", raw_frames[0], raw_frames[0], *options, "--output", "self.zarr")
    assert result.exit_code == 0
    assert "variance of the stated detector_noise" in " ".join(result.stderr.split())
    told = succeeded("info", "self.zarr")
    assert told["first frame, residual variance"].endswith(
        "of the stated detector noise (inconsistent)"
    )
    stored = wd.open_store("self.zarr")
    assert set(stored.attrs["shared"]) == {"flat"}
    assert "reference_file" in stored.coords
    noise = {"gain": 0.1, "readout": 0.0, "psf": 1.5}
    assert stored.attrs["settings"]["track"]["detector_noise"] == noise


def test_track_with_settings_that_make_no_sense(folder: Path) -> None:
    pair = [folder / "raw" / "sample_0000.edf", folder / "raw" / "reference_0000.edf"]
    output = ["--output", str(folder / "t.zarr"), *THREADS]
    assert "window is 20" in refused("track", *pair, *output, "--window", "20")
    message = refused("track", *pair, *output, "--window", "21", "--largest-window", "11")
    assert "smallest side first" in message
    assert "search is 0" in refused("track", *pair, *output, "--search", "0")
    assert "--psf need --gain" in refused("track", *pair, *output, "--psf", "2")
    assert "gain is -1" in refused("track", *pair, *output, "--gain", "-1")
    assert "--output" in refused("track", *pair)
    assert "none.edf" in refused("track", folder / "none.edf", pair[1], *output)
    assert not (folder / "t.zarr").exists()


# demo.


def test_demo(tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "demo"), "--side", "256", "--positions", "1", *THREADS]
    told = succeeded("demo", *options)
    assert told["frames"] == "1 (1 computed now, 0 kept)"
    assert told["pixels per frame"] == "256 x 256 px"
    assert float(told["points per second"].replace(",", "")) > 0
    assert told["lens radius, true"].startswith("50.000 µm (with its figure error")
    assert float(told["lens radius, recovered"].split()[0]) == pytest.approx(50, rel=0.01)
    # Below a picometre, and with the digits that one reads: "0.0784 pm of 1.2 nm".
    error, unit, _, whole, of = told["rms wavefront error"].split()
    assert (unit, of) in {("pm", "nm"), ("pm", "pm")}
    assert 0 < float(error) < float(whole) * (1000 if unit != of else 1)
    for name in ("experiment file", "result store", "picture"):
        assert Path(told[name]).exists()
    again = succeeded("demo", *options)
    assert again["frames"] == "1 (0 computed now, 1 kept)"
    for name in ("lens radius, recovered", "rms wavefront error", "pixels without a match"):
        assert again[name] == told[name]
    assert "positions" not in refused("demo", *options[:4], *THREADS)


def test_a_result_without_a_displacement_ends_with_exit_code_1(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("sample", "reference"):
        image = random.poisson(1000, (96, 96)).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="minisblack", metadata=None)
    result = invoke(
        "track",
        tmp_path / "sample.tif",
        tmp_path / "reference.tif",
        "--output",
        tmp_path / "nothing.zarr",
        *("--search", "4", *THREADS),
    )

    assert result.exit_code == 1
    table = rows(result.stdout)
    assert table["pixels with a displacement"] == "0 (0.0 %)"
    assert "uncorrelated" in table["pixels without one"]
    assert "no pixel has a displacement" in result.stderr


def test_info_names_what_is_in_the_way_and_what_opens_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    steps = np.arange(3.0)
    with h5py.File(path, "w") as file:
        file["entry/instrument/pco/data"] = np.zeros((3, 8, 9), "u2")
        file["entry/instrument/pco"].attrs["NX_class"] = "NXdetector"
        file["entry/instrument/pco/pixel_mask"] = np.eye(8, 9, dtype="u4")
        file["entry/basler"] = h5py.ExternalLink("gone.h5", "/data")
        file["entry/somewhere/th"] = steps
        file["other/pictures/frame_1"] = np.zeros((8, 9), "u2")
        file["other/pictures/frame_2"] = np.zeros((8, 9), "u2")
    output = invoke("info", path).stdout
    told = rows(output)
    assert told["entry/instrument/pco/data"] == "3 frames of 8 x 9 px, uint16"
    assert "gone.h5" in told["in the way"]
    assert "--motor NAME=/entry/somewhere/th" in told["not taken"]
    assert "--image '/other/pictures/*'" in told["could be frames"]
    assert told["pixel mask"] == "8 bad pixels"
    taken = succeeded("info", path, "--motor", "th=/entry/somewhere/th")
    assert taken["th"].startswith("0 … 2")
    assert succeeded("info", path, "--image", "/other/pictures/*")["frames"] == "2"
