"""What the virtual beamline writes is what open_scan reads, in every format."""

from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest

import wavedask as wd
from wavedask.conventions import MOTOR
from wavedask.errors import FileError, InputError
from wavedask.simulate import (
    REFERENCE,
    SAMPLE,
    Crl,
    absolute_beamline,
    detector_mesh,
    differential_beamline,
    membrane_scan,
    pulse_train,
    write_beamline_campaign,
)
from wavedask.simulate.writers import Exposure, FileFormat, FrameWriter

SHAPE = (24, 32)
LENS = Crl(40.0, radius=200e-6, delta=1.2e-6)
FORMATS: tuple[FileFormat, ...] = ("edf", "tiff", "hdf5")


def exposures(count: int) -> list[Exposure]:
    random = np.random.default_rng(1)
    return [
        Exposure(
            random.integers(0, 65535, SHAPE, dtype=np.uint16),
            {"detx": -0.125 + 0.1 * number, "dety": 3.0, "energy": 17.25},
            {"monitor": 1.5 + number},
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_scan_reads_as_it_was_written(tmp_path: Path, file_format: FileFormat) -> None:
    taken = exposures(3)
    writer = FrameWriter(tmp_path, file_format=file_format)
    writer.write("dark", iter(exposures(1)))
    scan = writer.write("sample", iter(taken)).open()
    np.testing.assert_array_equal(scan.image, [exposure.image for exposure in taken])
    assert scan.image.chunks is not None
    np.testing.assert_allclose(scan.detx, [-0.125, -0.025, 0.075])
    assert scan.detx.role == MOTOR
    assert float(scan.dety) == 3.0
    assert float(scan.energy) == 17.25
    if file_format == "edf":
        assert scan.detx.units == "unknown"
    else:
        assert (scan.detx.units, scan.energy.units) == ("mm", "keV")
    if file_format != "tiff":
        np.testing.assert_allclose(scan.monitor, [1.5, 2.5, 3.5])
    with pytest.raises(FileError, match="already holds"):
        FrameWriter(tmp_path, file_format=file_format)


def test_an_edf_header_has_spec_motors(tmp_path: Path) -> None:
    FrameWriter(tmp_path, file_format="edf", prefix="far_").write("sample", exposures(2))
    header = fabio.open(str(tmp_path / "far_sample_0001.edf")).header
    assert header["motor_mne"].split() == ["detx", "dety", "energy"]
    assert [float(value) for value in header["motor_pos"].split()] == [-0.025, 3.0, 17.25]
    assert header["counter_pos"] == "2.5"


def test_an_hdf5_file_is_laid_out_as_of_bliss(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path, file_format="hdf5", detector="basler")
    writer.write("dark", exposures(1))
    scan = writer.write("sample", exposures(4))
    assert scan.scan == "2.1"
    with h5py.File(scan.source) as file:
        assert list(file) == ["1.1", "2.1"]
        entry = file["2.1"]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry["title"].asstr()[()] == "sample"
        frames = entry["instrument/basler/data"]
        assert frames.chunks == (1, *SHAPE)
        assert file["2.1/measurement/basler"] == frames
        assert entry["instrument/positioners/detx"].shape == (4,)
        assert entry["instrument/positioners/dety"].shape == ()
        assert entry["instrument/positioners_start/detx"][()] == pytest.approx(-0.125)
        moved = set(entry["instrument/positioners_start"]) & set(entry["measurement"])
        assert moved == {"detx"}
    with pytest.raises(InputError, match="several scans"):
        wd.open_scan(scan.source)


def test_a_tiff_scan_has_its_motors_beside_it(tmp_path: Path) -> None:
    scan = FrameWriter(tmp_path, file_format="tiff").write("sample", exposures(2))
    assert scan.motors is not None
    lines = scan.motors.read_text().splitlines()
    assert lines[0] == "detx [mm],dety [mm],energy [keV]"
    assert len(lines) == 3


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"file_format is 'png'.*edf, tiff, hdf5"):
        FrameWriter(tmp_path, file_format="png")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'sample' has no frames"):
        FrameWriter(tmp_path, file_format="edf").write("sample", [])


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_campaign_of_two_detectors(tmp_path: Path, file_format: FileFormat) -> None:
    line = absolute_beamline(optic=LENS, shape=SHAPE)
    campaign = write_beamline_campaign(
        tmp_path, line, {"sample": membrane_scan(1, 2, 5e-6)}, file_format=file_format
    )
    near, far = (campaign.open("sample", detector=number) for number in (0, 1))
    np.testing.assert_allclose(near.membrane_x, [-0.0025, 0.0025])
    np.testing.assert_allclose(far.membrane_x, near.membrane_x)
    assert float(far.detz) - float(near.detz) == pytest.approx(500)
    assert float(near.optic_y) == 0
    assert not np.array_equal(near.image, far.image)
    dark, flat = campaign.open("dark"), campaign.open("flat", detector=1)
    assert dark.sizes["frame"] == flat.sizes["frame"] == 5
    assert np.median(dark.image) == 100
    assert np.median(flat.image) == pytest.approx(8100, rel=0.03)
    assert float(flat.membrane_y) == float(flat.optic_x) == -20
    image = wd.correct(near, dark=dark, flat=campaign.open("flat"))
    expected = line.intensity(campaign.settings["sample"][0], detector=0)
    error = (image[0] - expected) / expected
    assert float(np.nanstd(error)) < 0.02
    truth = campaign.truth(1, reference=SAMPLE, detector=1, reference_detector=0)
    assert truth.slope_y.shape == SHAPE


def test_a_mesh_and_a_train(tmp_path: Path) -> None:
    line = differential_beamline(optic=LENS, shape=SHAPE, distance=0.3)
    train = pulse_train(3, distance=40.0, pointing_jitter=1e-6, intensity_jitter=0.2)
    campaign = write_beamline_campaign(
        tmp_path,
        line,
        {"mesh": detector_mesh(2, 3, 5e-6), "train": train, "reference": [REFERENCE]},
    )
    mesh = campaign.open("mesh")
    np.testing.assert_allclose(mesh.dety, [-0.0025] * 3 + [0.0025] * 3)
    np.testing.assert_allclose(mesh.detx, [-0.005, 0, 0.005] * 2)
    pulses = campaign.open("train")
    np.testing.assert_allclose(pulses.monitor, [pulse.intensity for pulse in train], rtol=1e-6)
    brightness = (pulses.image - 100).mean(["y", "x"]) / pulses.monitor
    np.testing.assert_allclose(brightness / brightness.mean(), 1, atol=0.05)
    later, first = (campaign.truth(number, scan="train", reference=SAMPLE) for number in (1, 0))
    moved = np.subtract(train[1].source, train[0].source) * -0.3 / 40.0 / 0.65e-6
    np.testing.assert_allclose(
        np.mean(later.displacement_y - first.displacement_y), moved[0], rtol=1e-3
    )
    with pytest.raises(InputError, match=r"no scan 'flats' of detector 0.*'mesh' of 0"):
        campaign.open("flats")
    with pytest.raises(InputError, match="no scan 'sample'"):
        campaign.truth()
