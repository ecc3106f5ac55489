"""Maps with little, torn or senseless data: a right answer, or an error that says what is wrong."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wavedask.errors import WavedaskError
from wavedask.optics import (
    compare,
    find_focus,
    fit_lens,
    legendre,
    mirror,
    propagate,
    psd,
    stitch,
    zernike,
)

ROWS, COLUMNS, STEP = 36, 30, 2e-6
STRIDES = {"sphere": 11, "focus": 8, "crossed": 5, "cylinder": 5, "paraboloid": 2, "stitch": 3}
"""Slow functions are tried on every so many maps."""
RADIUS = 2.0
"""Radius of the wavefront, m."""
SURFACES = ("wavefront", "slope_y", "slope_x")
ERRORS = ("slope_uncertainty_y", "slope_uncertainty_x")
Map = xr.Dataset


def lens_map(rows: int = ROWS, columns: int = COLUMNS) -> Map:
    """A focused wavefront with a little figure, and errors that a tracker could state."""
    y = (np.arange(rows) - rows / 2 + 0.3) * STEP
    x = (np.arange(columns) - columns / 2 - 0.2) * STEP
    down, across = np.meshgrid(y, x, indexing="ij")
    figure, wave = 2e-13, 1e-5
    maps = {
        "wavefront": -(down**2 + across**2) / (2 * RADIUS) + figure * np.sin(down / wave),
        "slope_y": -down / RADIUS + figure / wave * np.cos(down / wave),
        "slope_x": -across / RADIUS,
        "slope_uncertainty_y": np.full(down.shape, 1e-8),
        "slope_uncertainty_x": np.full(down.shape, 1e-8),
        "window": np.full(down.shape, 9.0),
        "wavefront_uncertainty": np.full(down.shape, 1e-13),
        "transmission": np.ones(down.shape),
    }
    attrs = {"distance": 1.0, "mode": "differential", "source_distance": np.inf, "energy": 17.0}
    return xr.Dataset(
        {name: (("y", "x"), values) for name, values in maps.items()}, {"y": y, "x": x}, attrs
    )


def regions() -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Pixels with data."""
    row, column = np.indices((ROWS, COLUMNS))
    away = np.hypot(row - 18, column - 15)
    random = np.random.default_rng(3)
    return {
        "nothing": row < 0,
        "three pixels": (row == column) & np.isin(row, (5, 20, 29)),
        "six pixels": (row // 2 == 3) & (column // 3 == 4),
        "a line of seven": (row == 7) & (column // 7 == 1),
        "one row": row == 7,
        "one column": column == 9,
        "two rows": row // 2 == 4,
        "diagonal": row == column,
        "no neighbours": (row + column) % 2 == 0,
        "every other row": row % 2 == 0,
        "few": random.random((ROWS, COLUMNS)) < 0.03,
        "half": random.random((ROWS, COLUMNS)) < 0.45,
        "two pieces": abs(row - 17) > 2,
        "a piece and a pixel": (row < 22) | ((row == 33) & (column == 5)),
        "cross": (row == 18) | (column == 15),
        "corner": (row < 5) & (column < 5),
        "ring": (away > 10) & (away < 14),
        "border": (row < 2) | (row > 33) | (column < 2) | (column > 27),
    }


def hostile_maps() -> Iterator[tuple[str, Map]]:
    whole = lens_map()
    for name, keep in regions().items():
        there = xr.DataArray(keep, dims=("y", "x"))
        yield name, whole.where(there)
        yield (
            f"{name} has errors",
            whole.assign({part: whole[part].where(there) for part in ERRORS}),
        )
        yield (
            f"{name} has finite errors",
            whole.assign({part: whole[part].where(there, np.inf) for part in ERRORS}),
        )
        yield f"{name} has heights", whole.assign(wavefront=whole["wavefront"].where(there))
        yield f"{name} has slopes along x", whole.assign(slope_x=whole["slope_x"].where(there))
        yield f"{name} without errors", whole[[*SURFACES]].where(there)
        yield f"{name} without slopes", whole[["wavefront"]].where(there)
    for rows, columns in (
        (1, 1),
        (1, 30),
        (30, 1),
        (2, 2),
        (2, 30),
        (3, 3),
        (4, 4),
        (5, 7),
        (9, 40),
    ):
        yield f"{rows} x {columns} pixels", lens_map(rows, columns)
    yield "positions that fall", whole.isel(y=slice(None, None, -1), x=slice(None, None, -1))
    yield "negative positions", whole.assign_coords(y=whole["y"] - 1.0, x=whole["x"] - 1.0)
    yield "one position", whole.assign_coords(y=whole["y"] * 0)
    yield "a position that is no number", whole.assign_coords(y=whole["y"].where(whole["y"] > 0))
    yield "no wavefront", whole.assign({part: whole[part] * 0 for part in SURFACES})
    for size in (1e-200, 1e10, 1e150, 1e300):
        yield f"times {size:g}", whole.assign({part: whole[part] * size for part in SURFACES})
    infinite = whole.copy(deep=True)
    infinite["wavefront"][5, 5], infinite["slope_x"][7, 7] = np.inf, -np.inf
    yield "infinite pixels", infinite
    for value in (0.0, np.nan, np.inf):
        same = {part: xr.full_like(whole[part], value) for part in ERRORS}
        yield f"errors of {value}", whole.assign(same)
        yield f"window of {value}", whole.assign(window=xr.full_like(whole["window"], value))
        light = xr.full_like(whole["transmission"], value)
        yield f"transmission of {value}", whole.assign(transmission=light)
    yield "whole numbers", whole.assign(wavefront=(whole["wavefront"] * 1e12).astype(int))
    yield "single precision", whole.astype(np.float32)


def joined(wf: Map) -> Map:
    fields = xr.concat([wf, wf], "frame", combine_attrs="override")
    moved = ("frame", [0.0, -20.5], {"units": "um"})
    return stitch(fields.assign_coords(lens_y=moved), motor_y="lens_y")


def corner_pupil(wf: Map) -> tuple[float, float, float]:
    return float(wf["y"][0]), float(wf["x"][0]), 1.5e-5


FUNCTIONS: dict[str, Callable[[Map], Map]] = {
    "paraboloid": lambda wf: fit_lens(wf, delta=1e-6),
    "cylinder": lambda wf: fit_lens(wf, shape="cylinder"),
    "crossed": lambda wf: fit_lens(wf, shape="crossed", aperture=None),
    "sphere": lambda wf: fit_lens(wf, shape="sphere", delta=1e-6, aperture=None),
    "lens at the corner": lambda wf: fit_lens(wf, aperture=corner_pupil(wf)),
    "zernike": lambda wf: zernike(wf, order=4, orthonormal=True),
    "zernike at the corner": lambda wf: zernike(wf, order=2, pupil=corner_pupil(wf)),
    "legendre": lambda wf: legendre(wf, order=4),
    "mirror": lambda wf: mirror(wf, axis="x", theta=3e-3, p=40.0),
    "plane": lambda wf: mirror(wf, axis="y", theta=3e-3, p=40.0, shape="plane"),
    "focus": find_focus,
    "propagate": lambda wf: propagate(wf, RADIUS),
    "psd": psd,
    "compare": lambda wf: compare(wf, lens_map(), register=False).maps,
    "stitch": joined,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_hostile_map_gives_numbers_or_says_what_is_wrong(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answered = 0
    unclear: list[str] = []
    step = STRIDES.get(name, 1)
    for kind, wf in islice(hostile_maps(), 0, None, step):
        caplog.clear()
        try:
            with caplog.at_level(logging.WARNING, "wavedask"):
                found = FUNCTIONS[name](wf).compute()
        except WavedaskError as error:
            unclear += [] if error.remedy else [kind]
            continue
        except Exception as error:
            raise AssertionError(f"{name} of a map with {kind}: {error!r}") from error
        numbers = [part for part in found.data_vars.values() if part.dtype.kind == "f"]
        answered += bool(numbers)
        empty = all(bool(part.isnull().all()) for part in numbers if part.name != "verdict")
        assert not empty or caplog.records, f"{name} of a map with {kind}: NaN without a reason"
    assert answered > 20 / step
    assert not unclear, f"{name}: errors without a remedy"


PARTIAL = ("half", "two pieces", "a piece and a pixel", "ring", "border", "every other row")
"""Regions from which a lens can be told."""


@pytest.mark.parametrize("region", PARTIAL)
@pytest.mark.parametrize("of", [SURFACES, ERRORS, ("slope_x",), ("wavefront",)])
def test_part_of_a_map_gives_the_lens_of_the_whole(region: str, of: tuple[str, ...]) -> None:
    whole = lens_map()
    there = xr.DataArray(regions()[region], dims=("y", "x"))
    wf = whole.assign({part: whole[part].where(there) for part in of})
    lens = fit_lens(wf, aperture=None)
    assert float(lens.focal_length) == pytest.approx(RADIUS + 1.0, rel=1e-3)
    # The pixels that were fitted are those that have all there is to know of them.
    assert bool((lens.aperture == there).all())
    assert float(lens.residual_rms) < 5e-12


def test_heights_of_single_pixels_have_no_noise_that_is_known() -> None:
    there = xr.DataArray(regions()["no neighbours"], dims=("y", "x"))
    wf = lens_map().where(there).isel(y=slice(12), x=slice(12))
    lens = fit_lens(wf, aperture=None)
    assert float(lens.focal_length) == pytest.approx(RADIUS + 1.0, rel=1e-3)
    assert np.isnan(float(lens.residual_rms_uncertainty))
    assert np.isnan(float(lens.residual_noise))
