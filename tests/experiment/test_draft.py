"""`wavedask init` drafts an experiment file that runs once its gaps are filled."""

import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
from support.commands import refused, succeeded
from support.experiments import content, copied, write

import wavedask as wd
from wavedask.errors import FileError, InputError
from wavedask.experiment.draft import SCHEMA, draft_experiment
from wavedask.experiment.guess import groups_in
from wavedask.experiment.model import load_experiment
from wavedask.experiment.optic_sections import OPTICS
from wavedask.experiment.stages import stages_of
from wavedask.simulate.writers import Exposure, FrameWriter

pytestmark = pytest.mark.usefixtures("threads")

SETUP = ["--distance", "1.0", "--pixel-size", "0.65e-6"]


def test_the_draft_of_a_campaign_is_the_experiment_written_by_hand(
    raw: Path, tmp_path: Path
) -> None:
    folder = copied(raw, tmp_path)
    rows = succeeded("init", folder, *SETUP)
    assert rows["sample"] == "raw/sample_*.edf, 3 files: the name contains 'sample'"
    assert "to fill in" not in rows
    drafted = stages_of(load_experiment(folder / "experiment.yaml"))
    text = (folder / "experiment.yaml").read_text()
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA.as_uri()}\n")
    assert "energy: 17.0  # keV" in text
    assert "# units: {lens_x: mm}" in text
    whole = content(sample="raw/sample_*.edf", track={"window": 21, "search": 16})
    by_hand = stages_of(load_experiment(write(folder, **whole)))
    assert set(drafted.inputs) == set(by_hand.inputs)
    xr.testing.assert_identical(drafted.image.compute(), by_hand.image.compute())
    assert drafted.result.attrs["energy_keV"] == 17.0


def test_the_commented_sections_of_a_draft_can_be_used(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    succeeded("init", folder, *SETUP)
    file = folder / "experiment.yaml"
    text, changed = re.subn(
        "^# (pupil|lens|modes|mirror|focus):", r"\1:", file.read_text(), flags=re.MULTILINE
    )
    assert changed == 5
    file.write_text(text)
    experiment = load_experiment(file)
    assert experiment.report
    assert {*OPTICS} <= experiment.settings.keys()
    assert stages_of(experiment).result.coefficient.dims == ("frame", "mode_number")


def test_nothing_is_overwritten(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    assert "exists. Nothing was changed" in refused("init", raw, "-o", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert "cannot be written" in refused("init", raw, "-o", tmp_path / "lost" / "mine.yaml")
    for nothing in (tmp_path, tmp_path / "mine.yaml"):
        with pytest.raises(FileError, match="raw frames"):
            draft_experiment(nothing)


def test_paths_start_at_the_experiment_file(raw: Path, tmp_path: Path) -> None:
    file = tmp_path / "work" / "lens.yaml"
    file.parent.mkdir()
    succeeded("init", copied(raw, tmp_path), "-o", file, *SETUP)
    assert "files: ../raw/sample_*.edf" in file.read_text()
    assert stages_of(load_experiment(file)).result.sizes["frame"] == 3


def test_gaps_are_named_and_must_be_filled(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    for dark in (folder / "raw").glob("dark*"):
        dark.unlink()
    rows = succeeded("init", folder)
    assert rows["dark"] == "not found"
    assert rows["to fill in"] == "wavefront.distance, wavefront.pixel_size"
    with pytest.raises(InputError, match="wavefront: distance and pixel_size are not given"):
        stages_of(load_experiment(folder / "experiment.yaml"))


def test_scans_of_an_hdf5_file_have_the_roles_of_their_titles(tmp_path: Path) -> None:
    frame = np.full((24, 24), 7, np.uint16)
    writer = FrameWriter(tmp_path, file_format="hdf5")
    for title in ("dark current", "empty beam", "ref speckle", "CRL scan", "CRL scan again"):
        writer.write(title, [Exposure(frame, {"lens_x": float(n)}) for n in range(2)])
    rows = succeeded("init", tmp_path, *SETUP)
    assert rows["sample"].startswith("campaign.h5, scan 4.1 (CRL scan), 1 file")
    assert rows["not used"].startswith("campaign.h5, scan 5.1")
    experiment = load_experiment(tmp_path / "experiment.yaml")
    given = {role: getattr(experiment, role) for role in ("dark", "flat", "reference", "sample")}
    assert [frames.scan for frames in given.values()] == ["1.1", "2.1", "3.1", "4.1"]
    assert stages_of(experiment).result.sizes["frame"] == 2


def test_a_tomography_file_tells_its_roles_by_a_key(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "tomo.nx", "w") as file:
        detector = file.create_group("entry/instrument/detector")
        file["entry"].attrs["NX_class"] = "NXentry"
        file["entry/definition"] = "NXtomo"
        file["entry/instrument"].attrs["NX_class"] = "NXinstrument"
        detector.attrs["NX_class"] = "NXdetector"
        detector["data"] = np.full((5, 24, 24), 9, np.uint16)
        detector["image_key"] = [2, 1, 0, 0, 0]
    tifffile.imwrite(tmp_path / "reference.tif", np.full((24, 24), 9, "u2"))
    rows = succeeded("init", tmp_path, *SETUP)
    assert rows["flat"] == "frames with image_key 1"
    result = stages_of(load_experiment(tmp_path / "experiment.yaml")).result
    assert result.sizes["frame"] == 3


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        ({"distance": -1.0}, "wavefront: distance is -1 m"),
        ({"distance": math.nan}, "wavefront: distance is nan"),
        ({"pixel_size": 0.65}, "wavefront: pixel_size is 0.65 m.*another unit"),
        ({"energy": 17000.0}, "wavefront: energy is 17000 keV.*another unit"),
    ],
)
def test_a_set_up_that_cannot_be_is_not_drafted(
    setup: dict[str, Any], words: str, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "sample_1.tif", np.zeros((24, 24), "u2"))
    with pytest.raises(InputError, match=words):
        draft_experiment(tmp_path, **setup)


def test_frames_at_an_unknown_place_are_told(tmp_path: Path) -> None:
    for name in ("blob.h5", "more.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["run/frames"] = np.zeros((3, 24, 24), np.uint16)
    with pytest.raises(
        FileError, match=r"it has blob.h5 and 1 more HDF5 files\. 'wavedask info .*"
    ):
        draft_experiment(tmp_path)
    (tmp_path / "blob.h5").unlink()
    (tmp_path / "more.h5").unlink()
    with pytest.raises(FileError, match=r"holds no frames\. Give the folder"):
        draft_experiment(tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        # Words are found in camel case, in capitals, and in names of folders.
        (["ReferenceSpeckle_1.tif", "SamplePlusSpeckle_1.tif"], ["reference", "sample"]),
        (["DARK_1.tif", "FLATFIELD_1.tif"], ["dark", "flat"]),
        (["darks/0001.tif", "frames/0001.tif"], ["dark", "sample"]),
        # A name goes before its folder, and a word is no part of another.
        (["sample_run/dark_1.tif", "pref_1.tif"], ["sample", "dark"]),
        # Two groups that say nothing stay unknown.
        (["a_1.tif", "b_1.tif"], ["", ""]),
    ],
)
def test_roles_are_guessed_from_words(names: list[str], found: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, np.zeros((4, 4), "u2"))
    assert [group.role for group in groups_in(tmp_path)] == found


def test_a_pattern_matches_its_group_only(tmp_path: Path) -> None:
    for name in ("ref_1.tif", "ref_2.tif", "ref_dark_1.tif", "ref_dark_2.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((4, 4), "u2"))
    assert {group.files: group.role for group in groups_in(tmp_path)} == {
        "ref_[0-9]*.tif": "reference",
        "ref_dark_*.tif": "dark",
    }


def test_stores_and_hidden_files_are_no_frames(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / ".lens.tif", np.zeros((4, 4), "u2"))
    tifffile.imwrite(tmp_path / "lens.tif", np.zeros((4, 4), "u2"))
    field = (("frame", "y", "x"), np.zeros((1, 4, 4)), {"units": "px"})
    maps = xr.Dataset({"distortion_y": field, "distortion_x": field})
    wd.write_store(tmp_path / "camera.zarr", maps, settings={})
    tifffile.imwrite(tmp_path / "camera.zarr" / "preview.tif", np.zeros((4, 4), "u2"))
    assert [group.files for group in groups_in(tmp_path)] == ["lens.tif"]
    draft = draft_experiment(tmp_path)
    assert "distortion: camera.zarr\n" in draft.text
    assert draft.missing == ("reference", "wavefront.distance", "wavefront.pixel_size")
