"""What is written is flushed: by the driver at once, and by a worker on another machine itself."""

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import pytest
import xarray as xr

from wavedask.errors import StoreError
from wavedask.store import durable, ledger, writer
from wavedask.store.durable import barrier, machine, write_durably
from wavedask.store.results import open_store, write_store


def scan(frames: int = 3) -> xr.Dataset:
    maps = da.ones((frames, 8, 8), chunks=(1, 4, 8), dtype="f4")
    return xr.Dataset({"slope_y": (("frame", "y", "x"), maps)})


def test_a_worker_on_another_machine_flushes_its_own_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def noted(files: Any) -> None:
        flushed.extend(str(file.relative_to(tmp_path / "r.zarr")) for file in files)

    monkeypatch.setattr(writer, "sync_files", noted)
    with dask.config.set(scheduler="synchronous"):
        write_store(tmp_path / "a.zarr", scan(), settings={})
        assert not flushed
        monkeypatch.setattr(writer, "machine", lambda: "another one")
        write_store(tmp_path / "r.zarr", scan(), settings={})
    assert sorted(flushed) == [f"slope_y/c/{n}/{k}/0" for n in range(3) for k in range(2)]


def test_the_disk_is_flushed_before_the_ledger_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete: list[int] = []

    def noted(folder: Path, files: Any) -> None:
        if folder.name == "r.zarr":
            complete.append(int(open_store(folder).complete.sum()))
            assert all(file.is_file() for file in files())

    monkeypatch.setattr(ledger, "barrier", noted)
    with dask.config.set(scheduler="synchronous"):
        write_store(tmp_path / "r.zarr", scan(), settings={})
        assert complete
        assert complete[0] == 0
        complete.clear()
        write_store(tmp_path / "off.zarr", scan(), settings={}, durable=False)
        assert not complete


def test_a_disk_that_reports_an_error_is_an_error_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ledger, "barrier", failed)
    with pytest.raises(StoreError, match=r"the ledger of store .* Input/output error"):
        write_store(tmp_path / "r.zarr", scan(), settings={}, progress=False)
    # No frame is promised.
    assert not open_store(tmp_path / "r.zarr").complete.any()


def test_systems_without_syncfs_flush_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_syncfs", lambda: None)
    flushed: list[Path] = []
    real = durable._synced

    def noted(path: Path, flush: Any) -> None:
        flushed.append(path)
        real(path, flush)

    monkeypatch.setattr(durable, "_synced", noted)
    (tmp_path / "a").write_text("a")
    barrier(tmp_path, lambda: [tmp_path / "a", tmp_path / "gone"])
    assert {tmp_path / "a", tmp_path} <= set(flushed)
    flushed.clear()
    write_store(tmp_path / "r.zarr", scan(), settings={}, progress=False)
    assert tmp_path / "r.zarr/slope_y/c/2/1/0" in flushed


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "zarr.json"
    write_durably(file, b"before")
    with pytest.raises(TypeError):
        write_durably(file, 5)
    assert file.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]


def test_a_machine_has_a_name() -> None:
    assert machine()
    assert machine() == machine()
