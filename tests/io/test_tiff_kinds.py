"""Kinds of TIFF that users have: packed pixels, colour maps, OME series, declared codes."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wavedask.errors import FileError
from wavedask.io import open_scan
from wavedask.io.tiff import read_tiff

IMAGES = np.random.default_rng(5).integers(0, 1000, (3, 20, 31)).astype("uint16")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "camera.tif"


def packed(path: Path, image: np.ndarray, bits: int) -> None:
    """Write a TIFF as cameras do that pack pixels of 10 to 14 bits without a gap."""
    shifts = np.arange(bits - 1, -1, -1)
    rows = (image[..., np.newaxis].astype("u4") >> shifts & 1).reshape(len(image), -1)
    raw = np.packbits(np.pad(rows.astype("u1"), ((0, 0), (0, -rows.shape[1] % 8))), axis=1)
    content = raw.tobytes() + bytes(raw.size % 2)
    height, width = image.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(content))
    path.write_bytes(head + content + struct.pack("<H", len(tags)) + entries + bytes(4))


def said_without_codecs(path: Path) -> str:
    """Open a file in a process that has no package imagecodecs; return the error."""
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from pathlib import Path; from wavedask.errors import FileError\n"
        "from wavedask.io.tiff import read_tiff\n"
        "try: read_tiff(Path(sys.argv[1]))\n"
        "except FileError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("bits", [10, 12, 14, 24])
def test_packed_pixels_open_with_imagecodecs(path: Path, bits: int) -> None:
    packed(path, IMAGES[0], bits)
    (record,) = read_tiff(path)
    np.testing.assert_array_equal(record.frame.read(slice(0, 20), slice(0, 31)), IMAGES[0])


def test_what_needs_imagecodecs_is_told_at_open(path: Path, tmp_path: Path) -> None:
    packed(path, IMAGES[0], 12)
    said = said_without_codecs(path)
    assert re.search(r"camera\.tif: page 0 \(12 bits per pixel\) .*package imagecodecs", said)
    tifffile.imwrite(path, IMAGES[0], compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        # JPEG XR, which nothing but an optional package decodes.
        tif.pages.first.tags["Compression"].overwrite(22610)
    assert re.search(r"camera\.tif.*Install the package imagecodecs", said_without_codecs(path))


@pytest.mark.parametrize("kind", ["ramp", "stretched", "falling", "fire"])
def test_colour_maps_of_eight_bits(path: Path, kind: str) -> None:
    """ImageJ and cameras write a map that only sets how the counts are shown."""
    ramp = np.arange(256, dtype="u2") * 257
    stretched = np.clip(ramp.astype(int) * 3 - 5000, 0, 65535).astype("u2")
    grey = {"stretched": stretched, "falling": ramp[::-1]}.get(kind, ramp)
    colours = np.stack([grey] * 3)
    if kind == "fire":
        colours[1] //= 2
    image = (IMAGES[0] % 256).astype("u1")
    tifffile.imwrite(path, image, photometric="palette", colormap=colours)
    if kind in ("ramp", "stretched"):
        np.testing.assert_array_equal(open_scan(path).image[0], image)
    else:
        with pytest.raises(FileError, match="colour image"):
            open_scan(path)


def test_ome_series_of_one_file_a_plane(tmp_path: Path) -> None:
    """As Micro-Manager writes it: the text in each file counts the planes of all."""
    names = [f"img_{k}.ome.tif" for k in range(3)]
    planes = "".join(
        f'<TiffData FirstT="{k}" IFD="0" PlaneCount="1"><UUID FileName="{name}">'
        f"urn:uuid:{k:08d}-0000-0000-0000-000000000000</UUID></TiffData>"
        for k, name in enumerate(names)
    )
    for k, name in enumerate(names):
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="urn:uuid:{k:08d}-0000-0000-0000-000000000000"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="31" SizeY="20"'
            f' SizeZ="1" SizeC="1" SizeT="3">{planes}</Pixels></Image></OME>'
        )
        with tifffile.TiffWriter(tmp_path / name) as tif:
            tif.write(IMAGES[k], description=text, metadata=None)
    np.testing.assert_array_equal(open_scan(f"{tmp_path}/*.tif").image, IMAGES)
    np.testing.assert_array_equal(open_scan(tmp_path / names[1]).image, IMAGES[1:2])


def test_masked_values_that_are_declared(tmp_path: Path) -> None:
    tag = [(42113, "s", 0, "-9999", True)]
    tifffile.imwrite(tmp_path / "a.tif", IMAGES[0].astype("i4"), extratags=tag)
    tifffile.imwrite(tmp_path / "b.tif", IMAGES[1].astype("i4"))
    scan = open_scan(tmp_path)
    assert scan.image.attrs["bad_values"] == [-9999]
    np.testing.assert_array_equal(scan.image, IMAGES[:2])


def test_facts_of_a_pilatus(path: Path) -> None:
    text = (
        "# Detector: PILATUS 300K, S/N 3-0100\n# Pixel_size 172e-6 m x 172e-6 m\n"
        "# Exposure_time 0.9500000 s\n# Count_cutoff 1048574 counts\n"
        "# Wavelength 0.5000 A\n# Detector_distance 0.20000 m\n"
    )
    tifffile.imwrite(path, IMAGES[0].astype("i4"), description=text, metadata=None)
    scan = open_scan(path)
    assert scan.image.attrs["bad_values"] == [-1, -2]
    assert scan.image.attrs["saturation_value"] == 1048574
    assert scan.attrs["pixel_size_y"] == scan.attrs["pixel_size_x"] == 172e-6
    assert (float(scan.exposure_time), float(scan.detector_distance)) == (0.95, 0.2)
    np.testing.assert_allclose(float(scan.energy), 24.7968, rtol=1e-5)
