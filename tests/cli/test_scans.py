"""What `info` says of raw frames, in words."""

from pathlib import Path

import dask.array as da
import numpy as np
import tifffile
import xarray as xr
from support.experiments import FRAMES, SIDE
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.cli.scans import describe_scan


def test_many_counters_are_a_row_of_some() -> None:
    names = [f"diode{number}" for number in range(11)]
    counters = {name: ("frame", [0.0, 1.0], {"role": "counter"}) for name in names}
    frames = da.zeros((2, 4, 4), chunks=(1, 4, 4), dtype="u2")
    scan = xr.Dataset({"image": (("frame", "y", "x"), frames)}, counters)
    said, whole = (
        dict(describe_scan(scan, everything=everything))["counters that changed"]
        for everything in (False, True)
    )
    assert said == f"{', '.join(names[:8])} and 3 more"
    assert whole == ", ".join(names)


def test_a_scan_in_words(raw: Path) -> None:
    with forbid_computing():
        scan = wd.open_scan(raw / "raw/sample_*.edf", units={"lens_x": "mm"})
        rows = dict(describe_scan(scan))
    assert rows["frames"] == str(FRAMES)
    assert rows["frame size"] == f"{SIDE} x {SIDE} px, uint16"
    assert rows["size"] == f"{FRAMES * SIDE * SIDE * 2 / 1024:.1f} KiB"
    assert rows["chunks"] == f"{FRAMES} of 1 x {SIDE} x {SIDE} (frame, y, x), 32.0 KiB each"
    assert rows["motors that moved"] == "1"
    assert rows["lens_x"] == "0 … 0.01 mm (3 values)"
    assert rows["counters that changed"] == "srcur"
    assert rows["motors that stood still"] == "4"
    assert "detz" not in rows
    assert dict(describe_scan(scan, everything=True))["detz"] == "1000"


def test_a_scan_with_nothing_but_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), "u2"))
    assert describe_scan(wd.open_scan(tmp_path / "a.tif")) == [
        ("frames", "1"),
        ("frame size", "4 x 5 px, uint16"),
        ("size", "40 B"),
        ("chunks", "1 of 1 x 4 x 5 (frame, y, x), 40 B each"),
        ("motors that moved", "0"),
        ("motors that stood still", "0"),
    ]


def test_motors_without_a_number(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 4, 5), "u2"))
    scan = wd.open_scan(tmp_path / "a.tif", motors={"a [mm]": [0.0, 1.0]})
    scan["a"] = scan["a"].copy(data=[np.nan, np.nan])
    assert dict(describe_scan(scan))["a"] == "no number"
