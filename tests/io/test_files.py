"""Which files a source means, and in which order."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from wavedask.errors import FileError, InputError
from wavedask.io import open_scan
from wavedask.io.files import Format, find_files, format_of


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return [folder / name for name in names]


def test_numbers_in_names_are_sorted_as_numbers(tmp_path: Path) -> None:
    ordered = touch(tmp_path, "a_2.edf", "a_10.edf", "a_100.edf", "b_1.edf")
    assert find_files(tmp_path) == (ordered, Format.EDF)
    assert find_files(f"{tmp_path}/*.edf") == (ordered, Format.EDF)


def test_a_list_keeps_its_order_and_may_mix_files_folders_and_globs(tmp_path: Path) -> None:
    inner = touch(tmp_path / "inner", "f_1.tif", "f_2.tiff")
    late, early = touch(tmp_path, "z.tif", "a.tif")
    files, _ = find_files([late, tmp_path / "inner", f"{tmp_path}/a*.tif"])
    assert files == [late, *inner, early]


def test_an_existing_path_with_glob_characters_is_a_path(tmp_path: Path) -> None:
    touch(tmp_path, "f1.edf")
    (path,) = touch(tmp_path, "f[1].edf")
    assert find_files(path)[0] == [path]


def test_a_folder_ignores_hidden_and_foreign_files(tmp_path: Path) -> None:
    touch(tmp_path, "._frame.tif", "notes.txt")
    wanted = touch(tmp_path, "frame.tif")
    assert find_files(tmp_path)[0] == wanted


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = touch(tmp_path, "f.edf")
    monkeypatch.chdir(tmp_path)
    assert find_files("f.edf")[0] == [path]
    assert find_files("*.edf")[0] == [path]


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.EDF", Format.EDF),
        ("a.edf.gz", Format.EDF),
        ("a.edf.bz2", Format.EDF),
        ("a.tiff", Format.TIFF),
        ("a.nxs", Format.HDF5),
        ("a.gz", None),
        ("a.npy", None),
    ],
)
def test_suffix_tells_the_format(name: str, format_: Format | None) -> None:
    assert format_of(Path(name)) is format_


def test_nothing_found_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.edf does not exist"):
        find_files(tmp_path / "gone.edf")
    with pytest.raises(FileError, match=r"no file matches '.*run_\*\.edf'"):
        find_files(tmp_path / "run_*.edf")
    with pytest.raises(FileError, match=r"holds no frames.*\.edf\.gz"):
        find_files(tmp_path)
    with pytest.raises(FileError, match=r"a\.h5::1\.1 does not exist.* give scan="):
        find_files([tmp_path / "a.h5::1.1"])
    with pytest.raises(InputError, match="empty list"):
        find_files([])


@pytest.mark.parametrize("source", [None, 5, b"a.edf", {"a.edf"}, "", ["a.edf", ""], ["a.edf", 5]])
def test_what_is_no_path_is_refused(source: Any) -> None:
    with pytest.raises(InputError, match=r"source (is|holds) .*Give (a|the) path"):
        find_files(source)


def test_folders_that_exist_are_no_globs(tmp_path: Path) -> None:
    folder = tmp_path / "lens [2] *"
    folder.mkdir()
    files = touch(folder, "a_1.edf", "a_2.edf")
    assert find_files(folder / "a_*.edf")[0] == files
    assert find_files(tmp_path / "lens*" / "a_[1].edf")[0] == files[:1]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    first, _ = touch(tmp_path, "1.edf", "3.edf")
    gone = tmp_path / "2.edf"
    gone.symlink_to("archived.edf")
    for source in (tmp_path, tmp_path / "*.edf"):
        assert find_files(source)[0][:2] == [first, gone]


def test_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    (path,) = touch(tmp_path, "frame.npy")
    with pytest.raises(FileError, match=r"frame\.npy has no known suffix.*\.tiff.*\.nxs"):
        find_files(path)


def test_mixed_formats_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.edf", "b.tif")
    with pytest.raises(FileError, match=r"EDF \(a\.edf\), TIFF \(b\.tif\)"):
        find_files(tmp_path)


@pytest.mark.parametrize("motors", [None, "~nobody_at_all/m.csv"])
def test_the_home_of_nobody(motors: str | None) -> None:
    source = "a.edf" if motors else "~nobody_at_all/a.edf"
    with pytest.raises(InputError, match=r"~nobody_at_all/.* a user who is not known here"):
        open_scan(source, motors=motors)


@pytest.mark.parametrize("suffix", [".edf", ".tif", ".h5"])
def test_pipes_and_devices_are_refused_and_do_not_block(tmp_path: Path, suffix: str) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    device = tmp_path / f"device{suffix}"
    device.symlink_to("/dev/zero")
    for source, kind in ((pipe, r"pipe \(FIFO\)"), (device, "device"), ("/dev/null", "device")):
        with pytest.raises(FileError, match=rf"is a {kind}, not a file"):
            open_scan(source)


def test_a_pipe_as_a_table_of_motors(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", np.zeros((4, 5), "u2"))
    os.mkfifo(tmp_path / "motors.csv")
    with pytest.raises(FileError, match="pipe"):
        open_scan(tmp_path / "0.tif", motors=tmp_path / "motors.csv")


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a_1.edf", "a_2.edf"):
        (tmp_path / name).write_bytes(b"{}")
    for twice in ([tmp_path / "a_1.edf"] * 2, [tmp_path / "a_*.edf", tmp_path / "a_1.edf"]):
        with pytest.raises(InputError, match=r"a_1\.edf is given 2 times"):
            find_files(twice)
