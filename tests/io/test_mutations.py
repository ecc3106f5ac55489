"""A file of any format that is changed at random is read, or refused: fast, in little memory."""

import gzip
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import tifffile
import yaml
from fabio.edfimage import EdfImage
from support.experiments import content
from support.mutation import MUTATIONS, Reader, falls
from support.nexus import FRAMES, group, nexus

MASK = (FRAMES[0] > 500).astype("u1")


def edf(folder: Path) -> Path:
    path = folder / "frames.edf"
    header = {"motor_mne": "sx sy", "motor_pos": "0.5 -1", "counter_mne": "mon", "counter_pos": "7"}
    image = EdfImage(data=FRAMES[0], header=header)
    for frame in FRAMES[1:]:
        image.append_frame(data=frame, header=header)
    image.write(str(path))
    return path


def edf_gz(folder: Path) -> Path:
    path = folder / "frames.edf.gz"
    path.write_bytes(gzip.compress(edf(folder).read_bytes(), mtime=0))
    (folder / "frames.edf").unlink()
    return path


def tiff(folder: Path) -> Path:
    path = folder / "frames.tif"
    with tifffile.TiffWriter(path) as file:
        for frame in FRAMES:
            file.write(frame, photometric="minisblack", metadata=None)
    return path


def tiff_tiled(folder: Path) -> Path:
    path = folder / "frames.tif"
    with tifffile.TiffWriter(path) as file:
        for frame in FRAMES:
            file.write(np.tile(frame, (4, 4)), tile=(16, 16), compression="zlib", metadata=None)
    return path


def tiff_imagej(folder: Path) -> Path:
    path = folder / "frames.tif"
    tifffile.imwrite(path, FRAMES, imagej=True)
    return path


def hdf5_bliss(folder: Path) -> Path:
    path = folder / "frames.h5"
    with h5py.File(path, "w", libver="latest") as file:
        entry = group(file, "1.1", "NXentry")
        entry["title"] = "ascan sx 0 1 3"
        detector = group(entry, "instrument/pco", "NXdetector")
        detector.create_dataset("image", data=FRAMES, chunks=(1, 8, 9), **hdf5plugin.Bitshuffle())
        group(entry, "measurement")["pco"] = h5py.SoftLink("/1.1/instrument/pco/image")
        for place in ("measurement", "instrument/positioners"):
            group(entry, place)["sx"] = np.linspace(0, 1, 4)
        group(entry, "instrument/positioners_start")["sx"] = 0.0
    return path


def hdf5_nexus(folder: Path) -> Path:
    path = folder / "frames.nxs"
    with nexus(path) as file:
        file["entry/title"] = "a scan"
        file["entry/data"] = h5py.SoftLink("/entry/instrument/pco")
    return path


def mask_tiff(folder: Path) -> Path:
    path = folder / "mask.tif"
    tifffile.imwrite(path, MASK)
    return path


def mask_npy(folder: Path) -> Path:
    path = folder / "mask.npy"
    np.save(path, MASK)
    return path


def mask_hdf5(folder: Path) -> Path:
    path = folder / "mask.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/mask", data=MASK, compression="gzip")
    return path


def experiment(folder: Path) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content(), sort_keys=False))
    return path


def positions(folder: Path) -> Path:
    tiff(folder)
    path = folder / "motors.csv"
    path.write_text("sx [mm],sy [mm]\n" + "".join(f"{n / 8},-{n}e-3\n" for n in range(len(FRAMES))))
    return path


FORMATS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "EDF": ("scan", edf),
    "compressed EDF": ("scan", edf_gz),
    "TIFF": ("scan", tiff),
    "tiled TIFF": ("scan", tiff_tiled),
    "ImageJ": ("scan", tiff_imagej),
    "HDF5 of BLISS": ("hdf5", hdf5_bliss),
    "NeXus": ("hdf5", hdf5_nexus),
    "mask in TIFF": ("mask", mask_tiff),
    "mask in NumPy": ("mask", mask_npy),
    "mask in HDF5": ("mask", mask_hdf5),
    "experiment": ("experiment", experiment),
    "CSV": ("positions", positions),
}


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as found:
        yield found


@pytest.mark.parametrize("name", FORMATS)
def test_every_mutation_is_read_or_refused(name: str, reader: Reader, tmp_path: Path) -> None:
    seed = int(os.environ.get("WAVEDASK_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"to repeat: WAVEDASK_TEST_SEED={seed}")
    kind, make = FORMATS[name]
    fallen, refused = falls(reader, kind, make, tmp_path, seed=seed)
    assert not fallen, "\n".join(fallen)
    # What changes only pixels is read: without checksums, nobody can tell.
    assert refused > MUTATIONS / 10
