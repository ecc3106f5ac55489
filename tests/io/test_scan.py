"""open_scan(): labels, laziness, and what is refused."""

import gc
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
from fabio.edfimage import EdfImage

from wavedask.errors import (
    CorruptFileError,
    FileError,
    FrameMismatchError,
    InputError,
    MotorError,
)
from wavedask.io import input_files, mesh, open_scan
from wavedask.io.frames import RawFrame

SHAPE = (12, 16)


def write_scan(folder: Path, n_frames: int, **header: Callable[[int], str]) -> np.ndarray:
    """Write one EDF file per frame and return the images."""
    images = np.random.default_rng(0).integers(0, 999, (n_frames, *SHAPE)).astype("uint16")
    for i, image in enumerate(images):
        items = {key: text(i) for key, text in header.items()}
        EdfImage(data=image, header=items).write(str(folder / f"frame_{i}.edf"))
    return images


def write_sparse(folder: Path, n_frames: int, side: int) -> None:
    """Write EDF files whose pixels take no space on the disk."""
    size = 2 * side * side
    for i in range(n_frames):
        header = (
            f"{{\nHeaderID = EH:000001:000000:000000 ;\nImage = 1 ;\nByteOrder = LowByteFirst ;\n"
            f"DataType = UnsignedShort ;\nDim_1 = {side} ;\nDim_2 = {side} ;\nSize = {size} ;\n"
            f"motor_mne = lens detx ;\nmotor_pos = {i} 7 ;\n"
        )
        with (folder / f"frame_{i}.edf").open("wb") as file:
            file.write(f"{header:<1022}}}\n".encode())
            file.truncate(1024 + size)


@pytest.fixture
def pixel_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, slice, slice]]:
    """Every read of pixels: file, rows and columns."""
    reads: list[tuple[str, slice, slice]] = []
    original = RawFrame.read

    def spy(self: RawFrame, rows: slice, cols: slice) -> Any:
        reads.append((self.path.name, rows, cols))
        return original(self, rows, cols)

    monkeypatch.setattr(RawFrame, "read", spy)
    return reads


def test_a_folder_of_frames_with_their_headers(tmp_path: Path) -> None:
    images = write_scan(
        tmp_path,
        11,
        motor_mne=lambda i: "lens detx x",
        motor_pos=lambda i: f"{0.5 * i} 7 {i}",
        counter_mne=lambda i: "diode lens",
        counter_pos=lambda i: f"{100 + i} 3",
        title=lambda i: "lens scan",
        clock=lambda i: f"12:{i:02}",
    )
    scan = open_scan(tmp_path, units={"lens": "mm", "x": "um"})
    assert scan.image.dims == ("frame", "y", "x")
    assert list(scan.sizes) == ["frame", "y", "x"]
    assert scan.image.attrs == {"units": "counts", "long_name": "intensity"}
    assert scan.image.chunks == ((1,) * 11, (12,), (16,))
    np.testing.assert_array_equal(scan.image, images)
    np.testing.assert_array_equal(scan.y, np.arange(12))
    assert scan.x.attrs["units"] == "px"
    np.testing.assert_array_equal(scan.lens, 0.5 * np.arange(11))
    assert scan.lens.attrs == {"units": "mm", "long_name": "motor lens", "role": "motor"}
    assert scan.detx.dims == ()
    assert scan.detx == 7
    assert scan.motor_x.attrs["units"] == "um"
    assert scan.diode.attrs["role"] == "counter"
    assert scan.counter_lens == 3
    assert scan.clock.attrs["role"] == "header"
    assert scan.clock.values.tolist() == [f"12:{i:02}" for i in range(11)]
    assert scan.attrs == {"title": "lens scan"}


def test_a_single_frame_is_a_scan_of_one(tmp_path: Path) -> None:
    images = write_scan(tmp_path, 1, motor_mne=lambda i: "lens", motor_pos=lambda i: "3")
    scan = open_scan(tmp_path / "frame_0.edf")
    assert scan.lens.dims == ()
    np.testing.assert_array_equal(scan.image, images)


def test_input_files_come_once_and_in_order(tmp_path: Path) -> None:
    stack = np.zeros((3, *SHAPE), "uint16")
    for name in "ba":
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack")
    scan = open_scan([tmp_path / "b.tif", tmp_path / "a.tif"])
    assert input_files(scan) == [tmp_path / "b.tif", tmp_path / "a.tif"]
    assert scan.source_index.values.tolist() == [0, 1, 2, 0, 1, 2]
    assert input_files(scan.image.isel(frame=4)) == [tmp_path / "a.tif"]
    with pytest.raises(InputError, match="source_file"):
        input_files(scan.mean("frame"))


def test_opening_reads_no_pixels_and_one_frame_reads_one_file(
    tmp_path: Path, pixel_reads: list[tuple[str, slice, slice]]
) -> None:
    write_sparse(tmp_path, 250, 64)
    scan = open_scan(tmp_path)
    assert pixel_reads == []
    with dask.config.set(scheduler="sync"):
        scan.image.isel(frame=123).compute()
    assert pixel_reads == [("frame_123.edf", slice(0, 64), slice(0, 64))]


def test_a_region_reads_only_its_rows_and_columns(
    tmp_path: Path, pixel_reads: list[tuple[str, slice, slice]]
) -> None:
    write_sparse(tmp_path, 4, 64)
    image = open_scan(tmp_path).image
    with dask.config.set(scheduler="sync"):
        image.isel(frame=[2, 1], y=slice(10, 20), x=slice(5, 9)).compute()
    assert sorted(pixel_reads) == [
        ("frame_1.edf", slice(10, 20), slice(5, 9)),
        ("frame_2.edf", slice(10, 20), slice(5, 9)),
    ]


def test_headers_of_many_large_frames_take_no_pixel_memory(tmp_path: Path) -> None:
    write_sparse(tmp_path, 200, 2048)
    tracemalloc.start()
    try:
        scan = open_scan(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scan.image.nbytes == 200 * 2048 * 2048 * 2
    assert peak < scan.image.isel(frame=0).nbytes


def test_the_graph_carries_descriptors_and_is_reproducible(tmp_path: Path) -> None:
    write_sparse(tmp_path, 50, 2048)
    scan = open_scan(tmp_path)
    assert len(pickle.dumps(scan)) < 1000 * 50
    assert open_scan(tmp_path).image.data.name == scan.image.data.name
    with (tmp_path / "frame_7.edf").open("r+b") as file:
        file.seek(5000)
        file.write(b"changed")
    assert open_scan(tmp_path).image.data.name != scan.image.data.name


def test_a_pickled_scan_and_several_threads_read_the_same(tmp_path: Path) -> None:
    images = write_scan(tmp_path, 20)
    scan = pickle.loads(pickle.dumps(open_scan(tmp_path)))
    np.testing.assert_array_equal(
        scan.image.data.compute(scheduler="threads", num_workers=8), images
    )


def test_chunks_can_be_chosen(tmp_path: Path) -> None:
    images = write_scan(tmp_path, 5)
    scan = open_scan(tmp_path, chunks={"frame": -1, "y": 5})
    assert scan.image.chunks == ((5,), (5, 5, 2), (16,))
    np.testing.assert_array_equal(scan.image, images)


@pytest.mark.filterwarnings("error")
def test_coordinates_and_attributes_can_be_stored(tmp_path: Path) -> None:
    write_scan(
        tmp_path,
        3,
        motor_mne=lambda i: "lens x",
        motor_pos=lambda i: f"{i} {2 * i}",
        clock=lambda i: f"12:{i}",
        title=lambda i: "t",
    )
    scan = open_scan(tmp_path)
    store = tmp_path / "scan.zarr"
    scan.to_zarr(store, consolidated=False, zarr_format=3)
    with xr.open_zarr(store, consolidated=False) as stored:
        xr.testing.assert_identical(stored.load(), scan.load())
        assert input_files(stored) == input_files(scan)


def test_motors_of_a_mesh_and_of_a_sidecar(tmp_path: Path) -> None:
    write_scan(tmp_path, 6)
    scan = open_scan(tmp_path, motors=mesh("detx", "dety", 3, 2, 0.1, 0.2), units={"detx": "mm"})
    np.testing.assert_allclose(scan.detx, [0, 0.1, 0.2, 0, 0.1, 0.2])
    assert scan.detx.attrs["units"] == "mm"
    sidecar = tmp_path / "positions.csv"
    sidecar.write_text("detx [um],energy [keV]\n" + "".join(f"{i},17.5\n" for i in range(6)))
    scan = open_scan(tmp_path, motors=sidecar)
    assert scan.detx.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert (scan.energy.item(), scan.energy.attrs["units"]) == (17.5, "keV")


def test_given_motors_replace_those_of_the_header(tmp_path: Path) -> None:
    write_scan(tmp_path, 2, motor_mne=lambda i: "lens detx", motor_pos=lambda i: "0 7")
    scan = open_scan(tmp_path, motors={"lens": [1, 2]})
    assert scan.lens.values.tolist() == [1, 2]
    assert scan.detx == 7


def test_a_motor_that_some_headers_lack_can_be_given(tmp_path: Path) -> None:
    for number, names in enumerate(("lens_x lens_y", "lens_x")):
        header = {"motor_mne": names, "motor_pos": " ".join("0.5" for _ in names.split())}
        image = np.zeros((4, 5), "uint16")
        EdfImage(data=image, header=header).write(str(tmp_path / f"{number}.edf"))
    with pytest.raises(MotorError, match=r"'lens_y' is in .*0\.edf .*give motors=\{'lens_y'"):
        open_scan(tmp_path)
    scan = open_scan(tmp_path, motors={"lens_y [mm]": [1.0, 2.0]})
    assert (scan.lens_y.values.tolist(), scan.lens_y.units) == ([1.0, 2.0], "mm")
    assert float(scan.lens_x) == 0.5


def test_hdf5_scan(tmp_path: Path) -> None:
    images = np.arange(24, dtype="uint16").reshape(2, 3, 4)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["1.1/instrument/pco/image"] = images
        file["1.1/instrument/positioners/lens"] = [1.0, 2.0]
        file["1.1/title"] = "ascan"
    scan = open_scan(tmp_path / "run.h5", scan="1.1", motors={"energy": 17.0})
    np.testing.assert_array_equal(scan.image, images)
    assert scan.lens.dims == ("frame",)
    assert scan.energy == 17
    assert scan.attrs == {"title": "ascan"}
    assert input_files(scan) == [tmp_path / "run.h5"]


def test_scans_of_one_file_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        for number in (1, 2):
            file[f"{number}.1/instrument/pco/image"] = np.full((2, 3, 4), 10 * number, "uint16")
    dark, flat = (open_scan(tmp_path / "run.h5", scan=f"{number}.1") for number in (1, 2))
    # In one graph: dask knows arrays by their names.
    assert (flat.image - dark.image).mean() == 10


def test_progress_is_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path, 3)
    open_scan(tmp_path, progress=True)
    assert "reading headers" in capsys.readouterr().err
    open_scan(tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["empty.edf", "empty.tif", "empty.h5"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(CorruptFileError, match=rf"{name} is empty \(0 bytes\)"):
        open_scan(tmp_path / name)


def test_frames_that_differ(tmp_path: Path) -> None:
    write_scan(tmp_path, 2)
    EdfImage(data=np.zeros((3, 4), "uint16")).write(str(tmp_path / "frame_2.edf"))
    with pytest.raises(FrameMismatchError, match=r"frame_0\.edf.*12 x 16.*frame_2\.edf.*3 x 4"):
        open_scan(tmp_path)


def test_the_first_bad_file_is_the_one_that_is_named(tmp_path: Path) -> None:
    write_scan(tmp_path, 30)
    for number in (7, 21):
        (tmp_path / f"frame_{number}.edf").write_text("no image")
    with pytest.raises(FileError, match=r"frame_7\.edf"):
        open_scan(tmp_path)


def test_motors_that_do_not_fit(tmp_path: Path) -> None:
    write_scan(tmp_path, 5)
    with pytest.raises(MotorError, match=r"'detx'.* 6 values, but the scan has 5 frames"):
        open_scan(tmp_path, motors=mesh("detx", "dety", 3, 2, 0.1, 0.1))


def test_arguments_of_another_format(tmp_path: Path) -> None:
    write_scan(tmp_path, 1)
    with pytest.raises(InputError, match=r"scan='1\.1' with EDF files"):
        open_scan(tmp_path, scan="1.1")
    number: Any = 1.1
    with pytest.raises(InputError, match=r"scan=1\.1 is no text\. Write it in quotes: scan='1\.1'"):
        open_scan(tmp_path, scan=number)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), r"frame_1\.edf does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), r"frame_1\.edf is truncated"),
    ],
)
def test_a_file_that_changes_before_it_is_computed(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    write_scan(tmp_path, 3)
    scan = open_scan(tmp_path)
    change(tmp_path / "frame_1.edf")
    scan.image.isel(frame=0).compute()
    with pytest.raises(FileError, match=said):
        scan.image.compute()


def test_real_scans(data_dir: Callable[[str], Path]) -> None:
    root = data_dir("esrf_loaders")
    id06 = open_scan(root / "edf_id06" / "strain_0000.edf.gz")
    motors = [c for c in id06.coords.values() if c.attrs.get("role") == "motor"]
    assert len(motors) == 83
    assert id06.attrs["scan"] == "ascan  diffry -23.176 -23.146  30 5"
    assert id06.mono == 5.67781

    id16b = open_scan(root / "edf_silx_training" / "ID16B_diatomee.edf")
    motors = [c for c in id16b.coords.values() if c.attrs.get("role") == "motor"]
    assert len(motors) == 138
    assert [c.name for c in motors if c.dims == ("frame",)] == ["srot"]
    assert id16b.attrs["energy"] == "29.6"
    assert id16b.time_of_day.dtype == float

    bliss = open_scan(root / "bliss_id03" / "motor_drift.h5")
    assert dict(bliss.sizes) == {"frame": 962, "y": 100, "x": 100}
    assert bliss.chi.dims == bliss.diffry.dims == ("frame",)
    assert bliss.energy.dims == ()

    training = sorted((root / "edf_silx_training").glob("ID16_*.edf"))
    assert open_scan(training).image.shape == (3, 540, 640)
    with pytest.raises(FrameMismatchError, match=r"540 x 640 .* medipix|medipix.*256 x 256"):
        open_scan(root / "edf_silx_training")
    with pytest.raises(CorruptFileError, match=r"strain_0001\.edf\.gz is damaged"):
        open_scan(root / "edf_id06")


@pytest.mark.parametrize("suffix", ["edf", "tif"])
def test_a_file_more_takes_few_bytes(suffix: str, tmp_path: Path) -> None:
    held = []
    # The first folder loads code: it does not count.
    for turn, count in enumerate((2, 2, 402)):
        folder = tmp_path / str(turn)
        folder.mkdir()
        for number in range(count):
            path, pixels = folder / f"sample_{number:06d}.{suffix}", np.zeros((4, 5), "uint16")
            if suffix == "tif":
                tifffile.imwrite(path, pixels)
                continue
            header = {"motor_mne": "lens_x energy", "motor_pos": f"{0.1 * number} 17.0"}
            EdfImage(data=pixels, header=header).write(str(path))
        tracemalloc.start()
        try:
            scan = open_scan(folder)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        assert scan.sizes["frame"] == count
    # Path, size and time of each are kept, and the graph of dask has some bytes for each frame.
    assert (held[2] - held[1]) / 400 < 400
