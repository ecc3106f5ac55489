"""Frames on undistorted pixels: straight lines, laziness, and calibrations that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import FrameMismatchError, InputError
from wavedask.simulate import Distortion, Feature, speckle_field

Floats = NDArray[Any]

SHAPE = (120, 150)
BENT = Distortion(SHAPE, barrel=2.5, features=(Feature((40.0, 90.0), (0.4, -0.3), 30.0),))
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)


def calibration() -> xr.Dataset:
    f_y, f_x = BENT(Y, X)
    return xr.Dataset(
        {"distortion_y": (("y", "x"), f_y), "distortion_x": (("y", "x"), f_x)}
    ).astype("f4")


def scan_of(images: Floats, *, chunks: tuple[int, ...] | None = None) -> xr.DataArray:
    data = da.from_array(images, chunks=chunks) if chunks else images
    return xr.DataArray(data, dims=("frame", "y", "x")[-images.ndim :], attrs={"camera": "pco"})


def test_the_image_of_a_perfect_detector() -> None:
    speckle = speckle_field(192, grain=4.0, seed=3)
    f_y, f_x = BENT(Y, X)
    found = wd.correct(scan_of(8000 * speckle(Y + f_y, X + f_x)), distortion=calibration())
    error = found.values / (8000 * speckle(Y, X)) - 1
    assert np.isfinite(error).mean() > 0.99
    assert np.nanstd(error) < 1e-3
    assert found.attrs["units"] == "counts"
    assert found.attrs["camera"] == "pco"


def test_straight_lines_are_straight() -> None:
    f_y, _ = BENT(Y, X)
    lines = [20.0, 60.0, 105.0]
    image = sum(np.exp(-((Y + f_y - line) ** 2) / 8) for line in lines)
    found = np.nan_to_num(wd.correct(scan_of(np.asarray(image)), distortion=calibration()).values)

    def wander(picture: Floats, line: float) -> float:
        band = picture[int(line) - 9 : int(line) + 10, 12:-12]
        at = np.arange(len(band))[:, None]
        return float(np.ptp((band * at).sum(0) / band.sum(0)))

    assert max(wander(np.asarray(image), line) for line in lines) > 0.5
    assert max(wander(found, line) for line in lines) < 0.01


def test_dark_and_flat_are_those_of_the_raw_pixels() -> None:
    random = np.random.default_rng(0)
    dark, gain = 100 + 5 * random.random(SHAPE), 1 + 0.2 * random.random(SHAPE)
    f_y, f_x = BENT(Y, X)
    truth = 1 + 0.3 * np.sin(Y / 9) * np.cos(X / 7)
    seen = 1 + 0.3 * np.sin((Y + f_y) / 9) * np.cos((X + f_x) / 7)
    found = wd.correct(
        scan_of((dark + 900 * gain * seen)[None]),
        dark=scan_of(dark),
        flat=scan_of(dark + 900 * gain),
        distortion=calibration(),
    )
    assert found.dims == ("frame", "y", "x")
    assert found.attrs["units"] == "1"
    assert np.nanmax(np.abs(found.values[0] - truth)[3:-3, 3:-3]) < 1e-3


def test_lazy_in_lazy_out_whatever_the_chunks() -> None:
    images = np.random.default_rng(1).random((3, *SHAPE))
    whole = wd.correct(scan_of(images), distortion=calibration()).values
    for chunks in ((1, *SHAPE), (2, 50, 70)):
        with forbid_computing():
            lazy = wd.correct(scan_of(images, chunks=chunks), distortion=calibration().chunk())
        assert isinstance(lazy.data, da.Array)
        assert lazy.chunks is not None
        assert lazy.chunks[1:] == ((120,), (150,))
        assert np.array_equal(lazy.values, whole, equal_nan=True)


def test_what_is_unknown_is_nan() -> None:
    cal = calibration()
    cal["distortion_y"][:, :30] = np.nan
    image = np.ones(SHAPE)
    image[70, 100] = 0
    flat = image * 10
    found = wd.correct(scan_of(image), flat=scan_of(flat), distortion=cal)
    unknown = np.isnan(found.values)
    assert unknown[:, :25].all()
    assert unknown[70, 100]
    assert unknown[:, 40:].sum() <= 49
    assert np.allclose(found.values[~unknown], 0.1)


def test_calibrations_that_do_not_fit() -> None:
    frames = scan_of(np.ones((60, 75)))
    with pytest.raises(FrameMismatchError, match=r"\(60, 75\).*\(120, 150\).*binning of 2"):
        wd.correct(frames, distortion=calibration())
    with pytest.raises(FrameMismatchError, match=r"\(50, 75\)"):
        wd.correct(frames[:50], distortion=calibration())
    with pytest.raises(InputError, match="no distortion_y and no distortion_x"):
        wd.correct(frames, distortion=xr.Dataset())
    moved = scan_of(np.ones(SHAPE)).assign_coords(y=np.arange(10.0, 130.0))
    with pytest.raises(FrameMismatchError, match="y of the scan is 10 to 129"):
        wd.correct(moved, distortion=calibration().assign_coords(y=np.arange(120.0)))
    folded: xr.Dataset = 10 * xr.ufuncs.sin(calibration() * 50)
    with pytest.raises(InputError, match="no inverse"):
        wd.correct(scan_of(np.ones(SHAPE)), distortion=folded)


def dots_of(picture: Floats) -> Floats:
    """Centres (y, x) of the dark dots of a target, px."""
    dark = ndimage.uniform_filter(picture, 41) - picture
    spots, _ = ndimage.label(dark > 0.5 * np.percentile(dark, 99))
    sizes = np.bincount(spots.ravel())
    chosen = np.flatnonzero((sizes > 10) & (sizes < 200))
    return np.array(ndimage.center_of_mass(dark.clip(0), spots, chosen))


def bow_of(points: Floats) -> float:
    """How far the dots of a square pattern stray from the straight lines they form, px rms."""
    tree = KDTree(points)
    start = int(tree.query(points.mean(0))[1])
    around = points[np.asarray(tree.query(points[start], 5)[1])[1:]] - points[start]
    right = around[around[:, 1].argmax()]
    down = around[around[:, 0].argmax()]
    places, waiting = {start: (0, 0)}, [start]
    for here in waiting:
        row, column = places[here]
        for step, (i, j) in ((down, (1, 0)), (-down, (-1, 0)), (right, (0, 1)), (-right, (0, -1))):
            away, found = tree.query(points[here] + step)
            if away < 0.25 * np.hypot(*step) and int(found) not in places:
                places[int(found)] = (row + i, column + j)
                waiting.append(int(found))
    dots, lines = points[list(places)], np.array(list(places.values()))
    strays = []
    for axis in (0, 1):
        for line in np.unique(lines[:, axis]):
            along, across = dots[lines[:, axis] == line][:, [1 - axis, axis]].T
            if along.size >= 20:
                strays.append(across - np.polyval(np.polyfit(along, across, 1), along))
    return float(np.concatenate(strays).std())


def test_a_real_target_of_dots(data_dir: Callable[[str], Path]) -> None:
    folder = data_dir("distortion_grid")
    raw = imread(folder / "dot_pattern_05.jpg").astype(np.float64)
    lines = (folder / "coef_dot_05.txt").read_text(encoding="utf-8").splitlines()
    published = {
        name.strip(): float(value) for name, value in (line.split(":") for line in lines if line)
    }
    # The published model leads from true to distorted radii.
    true = np.linspace(0, 1500, 15001)
    distorted = true * np.polynomial.Polynomial([published[f"factor{i}"] for i in range(5)])(true)
    y, x = np.mgrid[: raw.shape[0], : raw.shape[1]].astype(np.float64)
    y, x = y - published["ycenter"], x - published["xcenter"]
    radius = np.hypot(y, x)
    stretch = np.interp(radius, distorted, true) / radius - 1
    cal = xr.Dataset(
        {"distortion_y": (("y", "x"), y * stretch), "distortion_x": (("y", "x"), x * stretch)}
    )
    assert float(np.abs(cal.distortion_x).max()) > 5
    straight = wd.correct(scan_of(raw), distortion=cal).values
    assert bow_of(dots_of(raw)) > 0.3
    assert bow_of(dots_of(np.where(np.isnan(straight), np.nanmedian(straight), straight))) < 0.08
