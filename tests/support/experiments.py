"""A small campaign on disk and experiment files for it."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from wavedask.experiment.model import Experiment, load_experiment
from wavedask.simulate import Lens, write_campaign

SIDE = 128
FRAMES = 3


def campaign(folder: Path) -> Path:
    """Write raw frames into ``raw``; return `folder`."""
    write_campaign(
        folder / "raw",
        lens=Lens(radius=50e-6, delta=1.2e-6),
        centers=[(0.0, 5e-6 * frame) for frame in range(FRAMES)],
        shape=(SIDE, SIDE),
    )
    return folder


def content(**changes: Any) -> dict[str, Any]:
    """Content of an experiment file; a change of a section adds to it, None removes a key."""
    whole: dict[str, Any] = {
        "sample": {"files": "raw/sample_*.edf", "units": {"lens_x": "mm"}},
        "reference": "raw/reference_*.edf",
        "dark": "raw/dark_*.edf",
        "flat": "raw/flat_*.edf",
        "track": {"window": 15, "search": 8},
        "wavefront": {"distance": 1.0, "pixel_size": 0.65e-6, "energy": 17.0},
        "output": "results.zarr",
        "cluster": {"address": "threads"},
    }
    for key, change in changes.items():
        both = isinstance(change, dict) and isinstance(whole.get(key), dict)
        whole[key] = {**whole[key], **change} if both else change
    return {key: value for key, value in whole.items() if value is not None}


def write(folder: Path, **changes: Any) -> Path:
    """Write an experiment file; return its path."""
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(content(**changes), sort_keys=False))
    return file


def load(folder: Path, **changes: Any) -> Experiment:
    """Write an experiment file and read it."""
    return load_experiment(write(folder, **changes))


def copied(source: Path, target: Path) -> Path:
    """Copy a campaign, times of modification included."""
    shutil.copytree(source / "raw", target / "raw")
    return target


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def assert_equal(found: xr.Dataset, expected: xr.Dataset, *, rtol: float = 0.0) -> None:
    """Compare all variables: to the bit, or relative to the largest value of each."""
    assert set(found.data_vars) == set(expected.data_vars)
    compare: Callable[..., None] = np.testing.assert_array_equal
    for name, variable in expected.data_vars.items():
        values = variable.values
        if rtol:
            finite = values[np.isfinite(values)]
            compare = functools.partial(
                np.testing.assert_allclose, rtol=0, atol=rtol * np.abs(finite).max()
            )
        compare(found[name].values, values, err_msg=str(name))
