"""The engine of xarray: what open_scan() gives, lazy without dask, chunked with it."""

import pickle
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from wavedask.errors import InputError
from wavedask.io import open_scan
from wavedask.io.backend import WavedaskBackendEntrypoint
from wavedask.io.frames import Stack
from wavedask.simulate.writers import Exposure, FileFormat, FrameWriter, Recording

FRAMES = np.random.default_rng(8).integers(0, 60000, (5, 6, 7)).astype("uint16")
ENGINE = WavedaskBackendEntrypoint


def record(folder: Path, file_format: FileFormat) -> Recording:
    exposures = [Exposure(frame, {"lens_x": 0.5 * n, "rot": 3.0}) for n, frame in enumerate(FRAMES)]
    return FrameWriter(folder, file_format=file_format).write("sample", exposures)


def opened(recording: Recording, **options: Any) -> xr.Dataset:
    if recording.motors is not None:
        options["motors"] = recording.motors
    if recording.scan is not None:
        options["scan"] = recording.scan
    return xr.open_dataset(recording.source, engine=ENGINE, **options)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Collect the shape of everything that is read from a stack."""
    shapes: list[tuple[int, ...]] = []
    original = Stack.__getitem__

    def note(self: Stack, index: Any) -> Any:
        pixels = original(self, index)
        shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(Stack, "__getitem__", note)
    return shapes


@pytest.mark.parametrize("file_format", ["edf", "tiff", "hdf5"])
def test_it_gives_what_open_scan_gives(tmp_path: Path, file_format: FileFormat) -> None:
    recording = record(tmp_path, file_format)
    for chunks in (None, {}, {"frame": 2, "y": 3}):
        scan = opened(recording, chunks=chunks)
        expected = recording.open()
        xr.testing.assert_identical(scan.load(), expected.load())


@pytest.mark.parametrize("file_format", ["edf", "tiff", "hdf5"])
def test_without_dask_only_what_is_asked_for_is_read(
    tmp_path: Path, file_format: FileFormat, reads: list[tuple[int, ...]]
) -> None:
    scan = opened(record(tmp_path, file_format))
    part = scan.sel(frame=scan.lens_x > 0.9).isel(frame=0, y=slice(1, 3))
    assert not reads
    assert scan.image.chunks is None
    assert not part.image.variable._in_memory
    np.testing.assert_array_equal(part.image, FRAMES[2, 1:3])
    assert reads == [(2, 7)]


def test_chunks_follow_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    many = np.arange(10 * 6 * 7, dtype="u2").reshape(10, 6, 7)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "1.1/instrument/pco/data", data=many, chunks=(4, 3, 7), **hdf5plugin.Bitshuffle()
        )
    assert opened(Recording(str(path)), chunks={}).image.chunks == ((4, 4, 2), (6,), (7,))
    assert open_scan(path).image.chunks == ((4, 4, 2), (6,), (7,))
    np.testing.assert_array_equal(open_scan(path).image, many)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_it_indexes_as_numpy_does(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "indexed"
    source = folder / "sample_0000.tiff"
    if not source.exists():
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(source, FRAMES, photometric="minisblack")
    scan = xr.open_dataset(source, engine=ENGINE)
    index = {}
    for dim, size in scan.sizes.items():
        number = st.integers(-size, size - 1)
        steps = data.draw(st.slices(size))
        # xarray itself fails at an empty slice that runs backward.
        assume(range(size)[steps])
        index[dim] = data.draw(
            st.one_of(number, st.just(steps), st.lists(number, min_size=1, max_size=4))
        )
    expected = xr.DataArray(FRAMES, dims=("frame", "y", "x")).isel(index)
    np.testing.assert_array_equal(scan.image.isel(index), expected)


def test_many_threads_read_the_same_array(tmp_path: Path) -> None:
    scan = opened(record(tmp_path, "hdf5"), cache=False)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: int(scan.image[n % 5].sum()), range(40)))
    assert found == [int(FRAMES[n % 5].sum()) for n in range(40)]


@pytest.mark.parametrize("chunks", [None, {}])
@pytest.mark.parametrize("file_format", ["edf", "tiff", "hdf5"])
def test_it_travels_to_another_process(
    tmp_path: Path, file_format: FileFormat, chunks: dict[str, int] | None
) -> None:
    scan = opened(record(tmp_path, file_format), chunks=chunks)
    content = pickle.dumps(scan)
    # What travels is where the pixels are, not the pixels.
    assert FRAMES[0].tobytes() not in content
    found = pickle.loads(content)
    assert (found.image.chunks is None) == (chunks is None)
    np.testing.assert_array_equal(found.image, FRAMES)


@pytest.mark.parametrize("file_format", ["edf", "tiff", "hdf5"])
def test_with_dask_only_the_chunks_asked_for_are_read(
    tmp_path: Path, file_format: FileFormat, reads: list[tuple[int, ...]]
) -> None:
    scan = opened(record(tmp_path, file_format), chunks={})
    np.testing.assert_array_equal(scan.image.isel(frame=[3, 1]), FRAMES[[3, 1]])
    assert sorted(reads) == [(1, 6, 7), (1, 6, 7)]


def test_variables_are_dropped(tmp_path: Path) -> None:
    scan = opened(record(tmp_path, "edf"), drop_variables=["rot", "nothing"])
    assert "rot" not in scan.coords
    assert "lens_x" in scan.coords


def test_errors_are_those_of_open_scan(tmp_path: Path) -> None:
    record(tmp_path, "edf")
    with pytest.raises(InputError, match=r"scan='1\.1' with EDF files"):
        xr.open_dataset(str(tmp_path / "*.edf"), engine=ENGINE, scan="1.1")


@pytest.mark.parametrize(
    ("source", "certain"),
    [("a.edf", True), ("a.EDF.gz", True), ("a.h5", False), ("a.tif", False), (b"", False)],
)
def test_only_edf_is_claimed_unasked(source: Any, certain: bool) -> None:
    assert ENGINE().guess_can_open(source) is certain


def test_it_is_registered(tmp_path: Path) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    declared = project["project"]["entry-points"]["xarray.backends"]["wavedask"]
    assert declared == f"{ENGINE.__module__}:{ENGINE.__name__}"
    if "wavedask" not in {point.name for point in entry_points(group="xarray.backends")}:
        pytest.skip("wavedask was installed before it had an engine: install it again")
    recording = record(tmp_path, "edf")
    for engine in ("wavedask", None):
        one = recording.source.replace("*", "0000")
        np.testing.assert_array_equal(xr.open_dataset(one, engine=engine).image, FRAMES[:1])
