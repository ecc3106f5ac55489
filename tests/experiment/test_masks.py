"""Masks, codes and darks of their own in the experiment file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from support.experiments import SIDE, campaign, load

import wavedask as wd
from wavedask.errors import ExperimentError, FileError
from wavedask.experiment.stages import stages_of

MASK = np.zeros((SIDE, SIDE), bool)
MASK[40:44, 70:90] = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = campaign(tmp_path_factory.mktemp("masks"))
    tifffile.imwrite(made / "mask.tif", MASK)
    with h5py.File(made / "mask.h5", "w") as file:
        file["entry/mask"], file["entry/flat"] = MASK, np.ones(MASK.shape)
    return made


@pytest.mark.parametrize("mask", ["mask.tif", "mask.h5::/entry/mask"])
def test_a_mask_is_applied_to_all_images(folder: Path, mask: str) -> None:
    experiment = load(folder, correct={"mask": mask})
    prepared = stages_of(experiment, progress=False)
    assert not isinstance(prepared.reference, str)
    (blind,) = prepared.blind
    for images in (prepared.image, prepared.reference):
        assert np.array_equal(np.isnan(images.isel(frame=0).values), MASK | blind.values)
    assert folder / mask.partition("::")[0] in prepared.inputs
    assert experiment.settings["correct"]["mask"] == mask


def test_counts_that_are_none(folder: Path) -> None:
    plain = stages_of(load(folder), progress=False)
    first = counts_of_the_first(folder)
    limit = float(np.percentile(first, 99))
    settings: dict[str, Any] = {"saturation": limit, "bad": [-1, 4294967295, int(first[5, 5])]}
    masked = stages_of(load(folder, correct=settings), progress=False)
    before, after = (np.isnan(s.image.isel(frame=0).values) for s in (plain, masked))
    assert before.mean() < 0.01
    assert not before[5, 5]
    assert after[5, 5]
    assert after[first >= limit].all()
    none = stages_of(load(folder, correct={"bad": False}), progress=False)
    assert "masked_by" not in none.image.attrs


def counts_of_the_first(folder: Path) -> Any:
    """Raw counts of the first frame of the sample."""
    scan = wd.open_scan(folder / "raw" / "sample_*.edf", units={"lens_x": "mm"}, progress=False)
    return scan.image.isel(frame=0).values


def test_a_dark_of_the_flat(folder: Path) -> None:
    prepared = stages_of(load(folder, flat_dark="raw/dark_*.edf"), progress=False)
    same = stages_of(load(folder), progress=False)
    np.testing.assert_array_equal(
        prepared.image.isel(frame=0).values, same.image.isel(frame=0).values
    )
    assert set(prepared.shared) == {"dark", "flat", "flat_dark", "reference"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correct": {"saturation": 0}}, "correct.saturation is 0: give the count from which"),
        ({"correct": {"bad": 7}}, "correct.bad is 7: give a list of counts that mark"),
        ({"correct": {"bad": True}}, "correct.bad is True: give a list"),
        ({"correct": {"mask": 3}}, "correct.mask is 3: give the path of an image"),
        (
            {
                **dict.fromkeys(("sample", "reference", "dark", "flat")),
                "near": "raw/reference_*.edf",
                "far": "raw/sample_*.edf",
                "correct": {"mask": "mask.tif"},
                "wavefront": {"mode": "absolute", "distance": [1.0, 2.0], "pixel_size": 1e-6},
            },
            "correct.mask: not in absolute mode; give near.mask and far.mask",
        ),
    ],
)
def test_mistakes(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        load(folder, **changes)


def test_a_mask_that_is_not_there(folder: Path) -> None:
    experiment = load(folder, correct={"mask": "masks.tif"})
    with pytest.raises(FileError, match=r"masks\.tif does not exist"):
        stages_of(experiment, progress=False)
