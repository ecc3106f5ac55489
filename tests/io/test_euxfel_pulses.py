"""Detectors of the European XFEL with several frames per train, in the files that extra_data makes.

Its mock devices lay files out as the data acquisition does, and leave the pixels to be filled in.
"""

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from wavedask.errors import CorruptFileError, InputError
from wavedask.io import open_scan
from wavedask.io.backend import WavedaskBackendEntrypoint

with warnings.catch_warnings():
    # What it imports is its own affair.
    warnings.simplefilter("ignore")
    from extra_data.tests.mockdata import write_file
    from extra_data.tests.mockdata.detectors import AGIPDModule
    from extra_data.tests.mockdata.jungfrau import JUNGFRAUModule
    from extra_data.tests.mockdata.motor import Motor

PULSES = np.array([3, 0, 2, 4], "u8")
"""Pulses of the trains of a file: one train has none."""
MOTOR = "SPB_LENS/MOTOR/X"
RNG = np.random.default_rng(4)


class SmallModule(AGIPDModule):  # type: ignore[misc]  # extra_data is not typed
    """A module of AGIPD with few pixels."""

    image_dims = (2, 5, 6)


class SmallJungfrau(JUNGFRAUModule):  # type: ignore[misc]  # extra_data is not typed
    """A module of JUNGFRAU with few pixels and four memory cells."""

    instrument_keys = (("adc", "u2", (4, 5, 6)), ("memoryCell", "u1", (4,)))
    output_channels = ("daqOutput/data",)


def agipd(module: int) -> str:
    return f"SPB_DET_AGIPD1M-1/DET/{module}CH0"


def write_agipd(
    folder: Path, module: int, *, raw: bool, first: int = 10_000, sequence: int = 0
) -> NDArray[Any]:
    """Write four trains of a module, and return its frames."""
    path = folder / f"RAW-R0001-AGIPD{module:02}-S{sequence:05}.h5"
    device = SmallModule(agipd(module), frames_per_train=PULSES, raw=raw)
    # With a chunk of 32, the datasets of the header are longer than there are trains.
    write_file(path, [device], ntrains=4, firsttrain=first, chunksize=32, format_version="1.0")
    with h5py.File(path, "a") as file:
        image = file[f"INSTRUMENT/{agipd(module)}:xtdf/image"]
        frames: NDArray[Any] = RNG.integers(0, 60_000, image["data"].shape)
        image["data"][...] = frames
        image["cellId"][...] = image["pulseId"][...] * 4
        stored: NDArray[Any] = image["data"][...]
    return stored[:, 0] if raw else stored


def write_motor(folder: Path, *, trains: int) -> None:
    path = folder / "RAW-R0001-DA01-S00000.h5"
    write_file(path, [Motor(MOTOR)], ntrains=trains, chunksize=1, format_version="1.0")
    with h5py.File(path, "a") as file:
        file[f"CONTROL/{MOTOR}/actualPosition/value"][...] = 0.5 * np.arange(trains)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the index of everything that is read from a dataset from now on."""
    read: list[Any] = []
    original = h5py.Dataset.__getitem__

    def note(self: h5py.Dataset, index: Any, **options: Any) -> Any:
        read.append(index)
        return original(self, index, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", note)
    return read


def expected_labels(firsts: Sequence[int]) -> dict[str, list[float]]:
    """Labels of the frames of files of four trains that begin at some trains."""
    trains = np.concatenate([first + np.arange(4) for first in firsts])
    pulses = np.tile(PULSES, len(firsts)).astype(int)
    index = [float(pulse) for count in pulses for pulse in range(count)]
    return {
        "trainId": np.repeat(trains, pulses).astype(float).tolist(),
        "pulseIndex": index,
        "pulseId": index,
        "cellId": [4 * pulse for pulse in index],
    }


@pytest.mark.parametrize("raw", [True, False])
def test_each_pulse_of_a_train_is_a_frame(tmp_path: Path, raw: bool) -> None:
    # Of raw frames the intensities come, and not the gains in the other plane.
    parts = [
        write_agipd(tmp_path, 0, raw=raw),
        write_agipd(tmp_path, 0, raw=raw, first=10_004, sequence=1),
    ]
    write_motor(tmp_path, trains=7)
    scan = open_scan(tmp_path)
    np.testing.assert_array_equal(scan.image, np.concatenate(parts))
    for name, values in expected_labels([10_000, 10_004]).items():
        assert scan[name].values.tolist() == values, name
    lens = 0.5 * (scan.trainId.values - 10_000)
    # The motor was not recorded at the last train.
    lens[scan.trainId == 10_007] = np.nan
    np.testing.assert_array_equal(scan.SPB_LENS_MOTOR_X, lens)
    assert scan.source_index.values.tolist() == [*range(9), *range(9)]
    assert scan.attrs["camera"] == f"{agipd(0)}:xtdf[image.data]"


def test_a_train_is_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_agipd(tmp_path, 0, raw=False)
    assert open_scan(tmp_path).image.chunks == ((3, 2, 4), (5,), (6,))
    options: dict[str, Any] = {"engine": WavedaskBackendEntrypoint, "chunks": {}}
    assert xr.open_dataset(tmp_path, **options).image.chunks == ((3, 2, 4), (5,), (6,))
    # A train of large frames is read in parts.
    monkeypatch.setattr("wavedask.io.euxfel.LARGEST_BLOCK", 2 * 5 * 6 * 4)
    assert open_scan(tmp_path).image.chunks[0] == (2, 1, 2, 2, 2)


def test_only_the_pulses_asked_for_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = write_agipd(tmp_path, 0, raw=True)
    scan = xr.open_dataset(tmp_path, engine=WavedaskBackendEntrypoint)
    second = scan.isel(frame=scan.pulseIndex == 1)
    read = noted(monkeypatch)
    np.testing.assert_array_equal(second.image[:, 1:3, ::2], frames[[1, 4, 6], 1:3, ::2])
    assert read == [(entry, slice(0, 1), slice(1, 3), slice(0, 5)) for entry in (1, 4, 6)]


def test_memory_cells_of_a_train_are_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SmallJungfrau("SPB_IRDA_JF4M/DET/JNGFR01")
    path = tmp_path / "RAW-R0012-JNGFR01-S00000.h5"
    # The datasets are padded with two entries that are of no train.
    write_file(path, [device], ntrains=3, chunksize=5, format_version="1.0")
    frames = RNG.integers(0, 60_000, (5, 4, 5, 6)).astype("u2")
    with h5py.File(path, "a") as file:
        data = file["INSTRUMENT/SPB_IRDA_JF4M/DET/JNGFR01:daqOutput/data"]
        data["adc"][...] = frames
        data["memoryCell"][...] = [[15, 0, 1, 2]] * 5
    scan = open_scan(path)
    np.testing.assert_array_equal(scan.image, frames[:3].reshape(-1, 5, 6))
    assert scan.memoryCell.values.tolist() == [15, 0, 1, 2] * 3
    assert scan.pulseIndex.values.tolist() == [0, 1, 2, 3] * 3
    assert scan.trainId.values.tolist() == np.repeat([10_000, 10_001, 10_002], 4).tolist()
    # A train is read at once, as it may be compressed at once.
    read = noted(monkeypatch)
    np.testing.assert_array_equal(scan.image[4:8].compute(scheduler="sync"), frames[1])
    assert read == [(1, slice(0, 4), slice(0, 5), slice(0, 6))]
    travelled = pickle.loads(pickle.dumps(scan.image[5]))
    np.testing.assert_array_equal(travelled, frames[1, 1])


def test_modules_are_a_choice(tmp_path: Path) -> None:
    frames = [write_agipd(tmp_path, module, raw=False) for module in (0, 2, 10)]
    with pytest.raises(
        InputError,
        match=r"3 cameras\. Choose with image='SOURCE\[key\]', among: "
        r"\S+/0CH0:xtdf, \S+/2CH0:xtdf, \S+/10CH0:xtdf\..*several modules choose one",
    ):
        open_scan(tmp_path)
    for source in (f"{agipd(2)}:xtdf", f"{agipd(2)}:xtdf[image.data]"):
        np.testing.assert_array_equal(open_scan(tmp_path, image=source).image, frames[1])


def test_colours_are_no_frames(tmp_path: Path) -> None:
    class Colour(JUNGFRAUModule):  # type: ignore[misc]  # extra_data is not typed
        instrument_keys = (("adc", "u1", (5, 6, 3)),)

    path = tmp_path / "RAW-R0001-DA01-S00000.h5"
    write_file(path, [Colour("A/B/C")], ntrains=3, chunksize=1, format_version="1.0")
    with pytest.raises(InputError, match=r"3 entries of shape \(5, 6, 3\).*without colours"):
        open_scan(path)


def test_an_index_beyond_the_frames_is_damage(tmp_path: Path) -> None:
    write_agipd(tmp_path, 0, raw=False)
    (path,) = tmp_path.iterdir()
    with h5py.File(path, "a") as file:
        file[f"INDEX/{agipd(0)}:xtdf/image/count"][3] = 5
    with pytest.raises(CorruptFileError, match=r"S00000\.h5: its index names 10 entries.*are 9"):
        open_scan(tmp_path)


def test_a_value_of_each_pulse_is_no_motor(tmp_path: Path) -> None:
    write_agipd(tmp_path, 0, raw=False)
    with pytest.raises(InputError, match=r"motors\['a'\]='\S+' has several values per train"):
        open_scan(tmp_path, motors={"a": f"{agipd(0)}:xtdf[image.cellId]"})


def test_a_number_that_one_file_lacks_is_left_out(tmp_path: Path) -> None:
    for sequence in (0, 1):
        write_agipd(tmp_path, 0, raw=False, first=10_000 + 4 * sequence, sequence=sequence)
    with h5py.File(tmp_path / "RAW-R0001-AGIPD00-S00001.h5", "a") as file:
        del file[f"INSTRUMENT/{agipd(0)}:xtdf/image/cellId"]
    scan = open_scan(tmp_path)
    assert "cellId" not in scan.coords
    assert scan.pulseId.values.tolist() == expected_labels([10_000, 10_004])["pulseId"]
