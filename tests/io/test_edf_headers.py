"""Headers of EDF files as real programs write them: what can be read of them is read."""

import gzip
import subprocess
import sys
from pathlib import Path

import fabio
import numpy as np
import pytest
from fabio.edfimage import EdfImage

from wavedask.io import open_scan
from wavedask.io.edf import read_edf

IMAGES = np.random.default_rng(3).integers(0, 60000, (3, 20, 31)).astype("uint16")
ALL = (slice(0, 20), slice(0, 31))


def write_edf(path: Path, *images: np.ndarray, header: dict[str, str]) -> bytes:
    """Write images with fabio and return the bytes of the file."""
    edf = EdfImage(data=images[0], header=header)
    for image in images[1:]:
        edf.append_frame(data=image, header=header)
    edf.write(str(path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frame.edf"


@pytest.mark.parametrize("kind", ["motor", "counter"])
@pytest.mark.parametrize(
    ("names", "values", "read", "said"),
    [
        ("a b c", "1 2", {"a": 1, "b": 2}, r"c \(3 names in {}_mne, but 2 values\)"),
        ("a b", "1 2 3", {"a": 1, "b": 2}, r"list \(2 names in {}_mne, but 3 values\)"),
        ("a b a", "1 2 3", {"b": 2}, r"a \({}_mne names it twice"),
        ("a b", "1 *DIS*", {"a": 1}, r"b \(its value is '\*DIS\*', which is no number\)"),
        ("a", "", {}, r"a \(1 names in {}_mne, but 0 values\)"),
    ],
)
def test_spec_lists_that_do_not_fit_are_read_as_far_as_they_do(
    path: Path, kind: str, names: str, values: str, read: dict[str, float], said: str
) -> None:
    write_edf(path, IMAGES[0], header={f"{kind}_mne": names, f"{kind}_pos": values})
    with pytest.warns(UserWarning, match=rf"frame\.edf: .*{kind} {said.format(kind)}"):
        scan = open_scan(path)
    found = {name: float(scan[name]) for name in scan.coords if scan[name].attrs.get("role")}
    assert found == read
    assert kind in scan.attrs["not_read"]


def test_a_name_that_comes_twice_with_one_position_is_read(path: Path) -> None:
    write_edf(path, IMAGES[0], header={"motor_mne": "a b a", "motor_pos": "1 2 1"})
    assert open_scan(path).a == 1


def test_given_motors_go_before_a_list_that_cannot_be_read(path: Path) -> None:
    write_edf(path, IMAGES[0], header={"motor_mne": "a b c", "motor_pos": "1 *DIS*"})
    # Warnings are errors here: none is expected.
    scan = open_scan(path, motors={"b": 5.0, "c": 6.0})
    assert [float(scan[name]) for name in "abc"] == [1, 5, 6]
    assert "not_read" not in scan.attrs


def test_a_position_that_one_frame_cannot_tell_is_unknown_there(tmp_path: Path) -> None:
    for number, text in enumerate(("1", "*DIS*", "3")):
        header = {"motor_mne": "a", "motor_pos": text}
        write_edf(tmp_path / f"{number}.edf", IMAGES[number], header=header)
    with pytest.warns(UserWarning, match=r"motor a \(its value is"):
        scan = open_scan(tmp_path)
    np.testing.assert_array_equal(scan.a, [1, np.nan, 3])


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("suffix", [".edf", ".edf.gz"])
def test_header_text_that_is_no_ascii(tmp_path: Path, encoding: str, suffix: str) -> None:
    content = write_edf(tmp_path / "plain.edf", *IMAGES[:2], header={"sample": "x" * 20})
    content = content.replace(b"x" * 20, "Prüfling 5 µm".encode(encoding).ljust(20))
    path = tmp_path / f"text{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert [record.header["sample"] for record in read_edf(path)] == ["Prüfling 5 µm"] * 2


def test_names_of_motors_that_are_no_ascii(path: Path) -> None:
    content = write_edf(path, IMAGES[0], header={"motor_mne": "sx ff", "motor_pos": "1 2"})
    path.write_bytes(content.replace(b"sx ff", "sx φ".encode()))
    assert read_edf(path)[0].motors == {"sx": 1, "φ": 2}


def test_byte_order_in_small_letters(path: Path) -> None:
    content = write_edf(path, IMAGES[0], header={})
    path.write_bytes(content.replace(b"LowByteFirst", b"lowbytefirst"))
    np.testing.assert_array_equal(read_edf(path)[0].frame.read(*ALL), IMAGES[0])


def test_a_size_that_counts_the_padding_to_a_block(path: Path) -> None:
    """Programs of SAXS beamlines pad each image to 512 bytes, and say so in Size."""
    with path.open("wb") as file:
        for image in IMAGES:
            padding = -image.nbytes % 512
            header = (
                "{\nHeaderID = EH:000001:000000:000000 ;\nByteOrder = LowByteFirst ;\n"
                "DataType = UnsignedShort ;\nDim_1 = 31 ;\nDim_2 = 20 ;\n"
                f"Size = {image.nbytes + padding} ;\n"
            )
            file.write(header.ljust(510).encode() + b"}\n" + image.tobytes() + bytes(padding))
    with fabio.open(str(path)) as truth:
        assert truth.nframes == 3
    found = [record.frame.read(*ALL) for record in read_edf(path)]
    np.testing.assert_array_equal(found, IMAGES)


def test_importing_leaves_the_logging_of_an_interactive_session_alone() -> None:
    code = (
        "import sys, logging; sys.ps1 = '>>> '; import wavedask.io.edf\n"
        "assert logging.root.handlers == [], logging.root.handlers\n"
        "assert logging.root.level == logging.WARNING"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_facts_in_headers_of_saxs_programs(path: Path) -> None:
    header = {
        **{"Dummy": "-10", "PSize_1": "1e-5", "PSize_2": "2e-5", "BSize_1": "2", "BSize_2": "4"},
        **{"SampleDistance": "1.5", "ExposureTime": "0.2", "WaveLength": "1e-10"},
    }
    write_edf(path, IMAGES[0].astype("int32"), header=header)
    scan = open_scan(path)
    assert scan.image.attrs["bad_values"] == [-10]
    assert scan.image.attrs["binning"] == [4, 2]
    assert (scan.attrs["pixel_size_y"], scan.attrs["pixel_size_x"]) == (2e-5, 1e-5)
    assert (float(scan.detector_distance), scan.detector_distance.units) == (1.5, "m")
    assert (float(scan.exposure_time), scan.exposure_time.units) == (0.2, "s")
    assert scan.energy.units == "keV"
    np.testing.assert_allclose(float(scan.energy), 12.39842, rtol=1e-6)
