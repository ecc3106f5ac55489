"""What a file declares about its frames: axes, colours, masks, codes, photons, filters."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from support.nexus import FRAMES, group, nexus

from wavedask.errors import FileError
from wavedask.io import list_scans, open_scan

MASK = np.zeros((8, 9), "u4")
MASK[2, 3] = 1
MASK[5, 1] = 8


@pytest.mark.parametrize("names", ["y:theta:x", "[y, theta, x]"])
@pytest.mark.parametrize("chunks", [None, (8, 1, 9), (2, 2, 3)])
def test_data_exchange_says_which_axis_turns(
    tmp_path: Path, names: str, chunks: tuple[int, ...] | None
) -> None:
    with h5py.File(tmp_path / "dx.h5", "w") as file:
        file.create_dataset("exchange/data", data=np.moveaxis(FRAMES, 1, 0), chunks=chunks)
        file["exchange/data"].attrs["axes"] = names
        file["exchange/data_white"] = np.moveaxis(FRAMES[:2] + 1, 1, 0)
        file["exchange/theta"] = np.arange(4.0)
    scan = open_scan(tmp_path / "dx.h5")
    np.testing.assert_array_equal(scan.image, [*FRAMES, *(FRAMES[:2] + 1)])
    np.testing.assert_array_equal(scan.image[[3, 0], 2:5, ::-2], FRAMES[[3, 0], 2:5, ::-2])
    np.testing.assert_array_equal(scan.theta, [0, 1, 2, 3, np.nan, np.nan])


@pytest.mark.parametrize("of_group", [True, False])
def test_a_plot_says_which_axes_are_pixels(tmp_path: Path, of_group: bool) -> None:
    with h5py.File(tmp_path / "nx.h5", "w") as file:
        group(file, "entry", "NXentry")
        plot = group(file, "entry/data", "NXdata", signal="counts")
        plot["counts"] = np.moveaxis(FRAMES, 0, -1)
        if of_group:
            plot.attrs["axes"] = ["y", "x", "lens_x"]
        else:
            plot["counts"].attrs["axes"] = "y:x:lens_x"
        plot["y"], plot["x"], plot["lens_x"] = np.arange(8.0), np.arange(9.0), np.linspace(0, 1, 4)
    scan = open_scan(tmp_path / "nx.h5")
    np.testing.assert_array_equal(scan.image, FRAMES)
    np.testing.assert_allclose(scan.lens_x, np.linspace(0, 1, 4))


def test_motors_of_a_mesh_may_be_called_y_and_x(tmp_path: Path) -> None:
    mesh = FRAMES.reshape(2, 2, 8, 9)
    with h5py.File(tmp_path / "nx.h5", "w") as file:
        group(file, "entry", "NXentry")
        plot = group(file, "entry/data", "NXdata", signal="counts", axes=["y", "x", ".", "."])
        plot["counts"], plot["y"], plot["x"] = mesh, [0.0, 1.0], [5.0, 6.0]
    scan = open_scan(tmp_path / "nx.h5")
    np.testing.assert_array_equal(scan.image, FRAMES)
    np.testing.assert_array_equal(scan.motor_y, [0, 0, 1, 1])
    np.testing.assert_array_equal(scan.motor_x, [5, 6, 5, 6])


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"interpretation": "rgba-image"}, "colour images"),
        ({"CLASS": "IMAGE", "IMAGE_SUBCLASS": "IMAGE_TRUECOLOR"}, "colour images"),
        ({"interpretation": "spectrum"}, "holds no images: its interpretation is 'spectrum'"),
    ],
)
def test_what_is_no_grey_image_is_refused(
    tmp_path: Path, attributes: dict[str, str], said: str
) -> None:
    path = tmp_path / "nx.h5"
    with h5py.File(path, "w") as file:
        group(file, "entry", "NXentry")
        plot = group(file, "entry/data", "NXdata", signal="data")
        plot["data"] = np.repeat(FRAMES[..., np.newaxis], 3, axis=-1)
        plot["data"].attrs.update(attributes)
    for scan, image in ((None, None), ("entry", None), (None, "entry/data/data")):
        with pytest.raises(FileError, match=said):
            open_scan(path, scan=scan, image=image)
    (listed,) = list_scans(path)
    assert not listed.cameras
    assert said.split(":")[0] in listed.broken


@pytest.mark.parametrize(("mode", "opens"), [(0, True), (2, False), (1, False)])
@pytest.mark.parametrize("place", ["entry/instrument/pco", "entry/instrument"])
def test_colour_mode_of_areadetector(tmp_path: Path, mode: int, opens: bool, place: str) -> None:
    path = tmp_path / "ad.h5"
    with nexus(path) as file:
        file[f"{place}/NDAttributes/ColorMode"] = np.full(4, mode)
    if opens:
        np.testing.assert_array_equal(open_scan(path).image, FRAMES)
    else:
        with pytest.raises(FileError, match=rf"colour images \(areaDetector, ColorMode {mode}\)"):
            open_scan(path)


@pytest.mark.parametrize("specific", [True, False])
def test_masks_and_codes_of_dectris(tmp_path: Path, specific: bool) -> None:
    path = tmp_path / "e_master.h5"
    with h5py.File(path, "w") as file:
        group(file, "entry", "NXentry")
        group(file, "entry/data", "NXdata")["data_000001"] = FRAMES
        detector = group(file, "entry/instrument/detector", "NXdetector")
        place = group(file, "entry/instrument/detector/detectorSpecific")
        (place if specific else detector)["pixel_mask"] = MASK
        detector["saturation_value"] = 60000
        detector["underload_value"] = 0
        detector["x_pixel_size"] = detector["y_pixel_size"] = 75.0
        detector["x_pixel_size"].attrs["units"] = detector["y_pixel_size"].attrs["units"] = "um"
        detector["count_time"] = 0.5
        detector["distance"] = 250.0
        detector["distance"].attrs["units"] = "mm"
        beam = group(file, "entry/instrument/beam", "NXbeam")
        beam["incident_wavelength"] = 1.0
        beam["incident_wavelength"].attrs["units"] = "angstrom"
    scan = open_scan(path)
    assert scan.pixel_mask.dims == ("y", "x")
    assert scan.pixel_mask.dtype == bool
    np.testing.assert_array_equal(scan.pixel_mask, MASK != 0)
    np.testing.assert_array_equal(scan.image, FRAMES)
    attrs = scan.image.attrs
    assert attrs["bad_values"] == [65535]
    assert (attrs["saturation_value"], attrs["underload_value"]) == (60000, 0)
    assert attrs["pixel_size_y"] == pytest.approx(75e-6)
    assert scan.attrs["pixel_size_x"] == pytest.approx(75e-6)
    assert (float(scan.exposure_time), scan.exposure_time.units) == (0.5, "s")
    assert float(scan.detector_distance) == pytest.approx(0.25)
    assert float(scan.energy) == pytest.approx(12.39842, rel=1e-6)
    assert scan.energy.units == "keV"


def test_codes_of_a_signed_detector(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        del file["entry/instrument/pco/data"]
        file["entry/instrument/pco/data"] = FRAMES.astype("i4")
        file["entry/instrument/pco/description"] = "Pilatus 300K"
    assert open_scan(path).image.attrs["bad_values"] == [-1, -2]


def test_a_mask_of_another_shape_is_told(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        file["entry/instrument/pco/pixel_mask"] = MASK[1:]
    scan = open_scan(path)
    assert "pixel_mask" not in scan.coords
    assert "mask" in scan.attrs["not_read"]
    assert "(7, 9)" in scan.attrs["not_read"]


def test_masks_of_several_files_are_put_together(tmp_path: Path) -> None:
    for number in range(2):
        with nexus(tmp_path / f"{number}.nxs") as file:
            mask = np.zeros_like(MASK)
            mask[number, number] = 1
            file["entry/instrument/pco/pixel_mask"] = mask
            file["entry/instrument/pco/count_time"] = 0.1 * (1 + number)
    scan = open_scan(tmp_path)
    assert np.argwhere(scan.pixel_mask.values).tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(scan.exposure_time, [0.1] * 4 + [0.2] * 4)


def test_a_detector_that_declares_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path):
        pass
    scan = open_scan(path)
    assert set(scan.image.attrs) == {"units", "long_name"}
    assert not {"pixel_mask", "energy", "exposure_time", "detector_distance"} & set(scan.coords)


@pytest.mark.parametrize("behind", [False, True])
def test_a_filter_that_is_not_installed_is_told_at_open(tmp_path: Path, behind: bool) -> None:
    raw = tmp_path / ("raw.h5" if behind else "scan.h5")
    with h5py.File(raw, "w") as file:
        data = file.create_dataset(
            "1.1/instrument/pco/image",
            FRAMES.shape,
            "u2",
            chunks=(1, 8, 9),
            compression=37026,
            allow_unknown_filter=True,
        )
        file.create_group("1.1/measurement")
        for number, frame in enumerate(FRAMES):
            data.id.write_direct_chunk((number, 0, 0), frame.tobytes())
    if behind:
        layout = h5py.VirtualLayout(FRAMES.shape, "u2")
        layout[:] = h5py.VirtualSource("raw.h5", "1.1/instrument/pco/image", FRAMES.shape)
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            file.create_group("1.1/measurement")
            file.create_virtual_dataset("1.1/instrument/pco/image", layout)
    with pytest.raises(FileError, match=r"filter 37026.*hdf5plugin"):
        open_scan(tmp_path / "scan.h5")
    (listed,) = list_scans(tmp_path / "scan.h5")
    assert "37026" in listed.broken
