"""Real measurements: what the tracker finds in them against what is known of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import xarray as xr

import wavedask as wd

DataDir = Callable[[str], Path]
FIELD = {"y": slice(30, -30), "x": slice(120, -120)}


def test_a_membrane_moved_by_a_stage(fourrod: tuple[xr.DataArray, xr.DataArray]) -> None:
    reference, _ = fourrod

    def moved(first: int, second: int) -> xr.Dataset:
        pair = (reference.isel(frame=number) for number in (second, first))
        return wd.track(*pair, engine="opencv", search=40, step=8).isel(FIELD).compute()

    steps = {pair: moved(*pair) for pair in ((0, 1), (1, 2), (2, 3), (0, 2))}
    for pair, expected in {(0, 1): 31.94, (1, 2): 31.91, (2, 3): 31.93}.items():
        found = steps[pair]
        assert float(found.displacement_x.mean()) == pytest.approx(expected, abs=0.02)
        assert float(found.displacement_y.mean()) == pytest.approx(0, abs=0.05)
        assert float(found.displacement_x.std()) < 0.03  # the field of a rigid step is uniform
        assert float(found.correlation.median()) > 0.95
    for name in ("displacement_y", "displacement_x"):
        closure = steps[0, 1][name] + steps[1, 2][name] - steps[0, 2][name]
        assert abs(float(closure.mean())) < 0.01


def test_the_rods_refract_outward(fourrod: tuple[xr.DataArray, xr.DataArray]) -> None:
    reference, sample = (images.isel(frame=0) for images in fourrod)
    found = wd.track(sample, reference, engine="opencv", window=31, search=6)
    physical = wd.wavefront(found, distance=0.7, pixel_size=6.5e-6, energy=25.0).compute()
    rows = physical.isel(y=slice(200, 230))
    profile = rows.slope_x.median("y").values / (6.5e-6 / 0.7)  # px again
    # The solid rod, 500 px wide about column 804: X / sqrt(1 - X^2), outward on both sides.
    offset = (np.arange(profile.size) - 804) / 250
    law = 2 * offset / np.sqrt(1 - np.clip(offset**2, 0, 0.9))
    inside = (np.abs(offset) < 0.7) & np.isfinite(profile)
    amplitude, _ = np.polyfit(law[inside], profile[inside], 1)
    theory = 0.0455
    assert 0.5 * theory < amplitude < 1.2 * theory
    assert np.corrcoef(law[inside], profile[inside])[0, 1] > 0.9
    # Less path through air than through plastic: the wavefront is ahead inside the rod (delta > 0).
    surface = rows.wavefront.median("y")
    centre = float(surface.isel(x=slice(774, 834)).mean())
    edges = [float(surface.isel(x=slice(x, x + 20)).mean()) for x in (590, 1000)]
    assert centre < min(edges)


@pytest.mark.parametrize("level", ["L1", "L3", "L5"])
def test_an_imposed_displacement(data_dir: DataDir, level: str) -> None:
    folder = data_dir("dic_challenge") / "sample14"
    table = np.genfromtxt(folder / "dice_command.csv", delimiter=",", skip_header=1)
    truth = dict(
        zip(table[:, 0].astype(int), table[:, {"L1": 1, "L3": 3, "L5": 5}[level]], strict=True)
    )
    sample, reference = (
        tifffile.imread(folder / f"Sample14 {name}.tif").astype(np.float32)
        for name in (f"{level} Amp0.1b", "Reference")
    )
    found = wd.cross_spot(sample, reference, engine="opencv", window=21, search=4, step=6)
    columns = np.arange(40, 2008)
    error = np.nanmean(found.displacement_x[:, columns], axis=0) - [truth[x] for x in columns]
    assert np.sqrt(np.mean(error**2)) < 0.01
    assert np.mean(np.abs(error) < 0.02) > 0.98
    assert abs(np.nanmean(found.displacement_y)) < 0.002


def test_a_second_opinion_on_a_real_test_piece(data_dir: DataDir) -> None:
    folder = data_dir("dic_challenge") / "sample12"
    lines = (folder / "DICe_gold_04.txt").read_text().splitlines()
    rows = [line for line in lines if line and not line.startswith("***")]
    peer = np.genfromtxt(rows, delimiter=",", names=True)
    sample, reference = (
        tifffile.imread(folder / f"oht_cfrp_{number}.tiff").astype(np.float32)
        for number in ("04", "00")
    )
    found = wd.cross_spot(sample, reference, engine="opencv", window=27, search=8, step=3)
    # DICe gives the displacement at the place of the reference: u(p) there is ours at p + u.
    u_y, u_x = peer["DISPLACEMENT_Y"], peer["DISPLACEMENT_X"]
    y = np.rint(peer["COORDINATE_Y"] + u_y).astype(int)
    x = np.rint(peer["COORDINATE_X"] + u_x).astype(int)
    difference = np.array([found.displacement_y[y, x] - u_y, found.displacement_x[y, x] - u_x])
    matched = np.isfinite(difference).all(axis=0) & (peer["MATCH"] == 0)
    assert matched.mean() > 0.8
    assert np.abs(np.median(difference[:, matched], axis=1)).max() < 0.05
