"""Overlapping fields become one map of the optic."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from wavedask.errors import InputError
from wavedask.optics import stitch, stitching
from wavedask.optics.surface import without_plane

STEP = 1e-6
SIDE = 40


def optic(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 5e-9 * np.sin(y[:, None] / 9e-6) * np.cos(x / 13e-6) + y[:, None] ** 2 / 60 - x**2 / 90


def fields(
    moves: list[tuple[float, float]], *, noise: float = 0.0, grain: float = 0.0, seed: int = 0
) -> xr.Dataset:
    """Fields of an optic that moved by these pixels, each with its own piston and tilt."""
    rng = np.random.default_rng(seed)
    axis = np.arange(SIDE) * STEP
    maps = []
    for dy, dx in moves:
        level, tilt_y, tilt_x = rng.normal(size=3) * (1e-6, 1e-5, 1e-5)
        field = optic(axis - dy * STEP, axis - dx * STEP)
        field += level + tilt_y * axis[:, None] + tilt_x * axis
        if noise:
            own = rng.normal(size=(SIDE, SIDE))
            if grain:
                own = ndimage.gaussian_filter(own, grain)
                own /= own.std()
            field += noise * own
        maps.append(field)
    coords = {
        "y": axis,
        "x": axis,
        "ty": ("frame", [1e-3 * dy for dy, _ in moves], {"units": "mm"}),
        "tx": ("frame", [1.0 * dx for _, dx in moves], {"units": "um"}),
    }
    data = {"wavefront": (("frame", "y", "x"), np.array(maps), {"units": "m"})}
    if noise:
        data["wavefront_uncertainty"] = (
            ("frame", "y", "x"),
            np.full((len(moves), SIDE, SIDE), noise),
            {"units": "m"},
        )
    return xr.Dataset(data, coords)


MESH = [(dy, dx) for dy in (0.0, 20.0) for dx in (0.0, -15.5, -31.25)]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_mesh_of_fields_is_joined(lazy: bool) -> None:
    wf = fields(MESH)
    joined = stitch(wf.chunk({"frame": 1}) if lazy else wf, motor_y="ty", motor_x="tx")
    truth = without_plane(optic(joined.y.values, joined.x.values), joined.y.values, joined.x.values)
    known = np.isfinite(joined.wavefront.values)
    assert known.mean() > 0.98
    left = np.where(known, joined.wavefront.values - truth, np.nan)
    left = without_plane(left, joined.y.values, joined.x.values)
    assert np.nanstd(left) < 2e-4 * np.nanstd(truth)
    assert int(joined.coverage.max()) == 6
    assert float(joined.stitching_misfit.max()) < 1e-12
    assert joined.stitching_tilt_y.attrs["units"] == "rad"
    assert "wavefront_uncertainty" not in joined


def test_a_lazy_map_is_joined_in_parts_and_computes_each_field_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wf = fields(MESH, noise=1e-10)
    wf["wavefront"][1, 5:9, 30:] = np.nan
    known = stitch(wf, motor_y="ty", motor_x="tx")
    assert not known.chunks
    monkeypatch.setattr(stitching, "TILE", 17)
    computed: list[int] = []

    def counted(block: np.ndarray, number: np.ndarray) -> np.ndarray:
        computed.append(int(number.item()))
        return block

    lazy = wf.chunk({"frame": 1})
    numbers = da.arange(len(MESH), chunks=1)[:, None, None]
    pair = da.stack([lazy.wavefront.data, lazy.wavefront_uncertainty.data], axis=3)
    both = da.map_blocks(counted, pair.rechunk({3: 2}), numbers[..., None], dtype=float, meta=pair)
    lazy["wavefront"] = lazy.wavefront.copy(data=both[..., 0])
    lazy["wavefront_uncertainty"] = lazy.wavefront.copy(data=both[..., 1])
    joined = stitch(lazy, motor_y="ty", motor_x="tx")
    assert {str(name) for name in joined if joined[name].chunks is None} == set()
    assert max(joined.wavefront.chunksizes["y"]) == 17
    assert computed == []
    found = joined.compute(scheduler="synchronous")
    assert sorted(computed) == list(range(len(MESH)))
    for name in known:
        np.testing.assert_allclose(found[name], known[name], rtol=1e-6, atol=1e-15)


def test_pistons_and_tilts_are_those_that_were_added() -> None:
    wf = fields([(0.0, 0.0), (10.0, 0.0), (20.0, 5.0)])
    extra = wf.copy(deep=True)
    extra["wavefront"][1] += 4e-8 + 3e-4 * wf.y
    one, two = (stitch(part, motor_y="ty", motor_x="tx") for part in (wf, extra))
    tilt = (two.stitching_tilt_y - one.stitching_tilt_y).values
    assert tilt[1] - tilt[0] == pytest.approx(3e-4, rel=1e-6)
    assert tilt[2] - tilt[0] == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(one.wavefront, two.wavefront, atol=1e-14)


def test_signs_and_what_moves() -> None:
    wf = fields([(0.0, 0.0), (12.0, 7.0)])
    right = stitch(wf, motor_y="ty", motor_x="tx")
    turned = wf.assign_coords(ty=-wf.ty, tx=-wf.tx)
    for motor, name in (("ty", "ty"), ("tx", "tx")):
        turned[motor].attrs = wf[name].attrs
    same = stitch(turned, motor_y="ty", motor_x="tx", moving="detector")
    xr.testing.assert_allclose(right.wavefront, same.wavefront)
    also = stitch(turned, motor_y="ty", motor_x="tx", signs=(-1, -1))
    xr.testing.assert_allclose(right.wavefront, also.wavefront)
    wrong = stitch(wf, motor_y="ty", motor_x="tx", signs=(-1, 1))
    assert float(wrong.stitching_misfit.max()) > 100 * float(right.stitching_misfit.max())


@pytest.mark.parametrize("grain", [0.0, 2.0])
def test_errors_hold(grain: float) -> None:
    moves = [(0.0, 0.0), (0.0, -20.0), (0.0, -40.0)]
    scores = []
    for seed in range(12):
        joined = stitch(fields(moves, noise=1e-10, grain=grain, seed=seed), motor_x="tx")
        y, x = joined.y.values, joined.x.values
        left = without_plane(joined.wavefront.values - optic(y, x), y, x)
        scores.append(np.mean((left / joined.wavefront_uncertainty.values) ** 2))
    assert 0.6 < np.sqrt(np.mean(scores)) < 1.3


def test_gaps_of_one_field_are_filled_by_the_others() -> None:
    wf = fields([(0.0, 0.0), (10.0, 0.0)])
    wf["wavefront"][1, 12:18, 5:9] = np.nan
    joined = stitch(wf, motor_y="ty")
    assert np.isfinite(joined.wavefront.values).all()
    wf["wavefront"][0] = np.nan
    wf["wavefront"][0, -2:] = 0.0
    lazy = stitch(wf.chunk({"frame": 1}), motor_y="ty")
    with pytest.raises(InputError, match="2 pieces that do not overlap"):
        lazy.compute()
    with pytest.raises(InputError, match="2 pieces that do not overlap"):
        stitch(fields([(0.0, 0.0), (60.0, 0.0)]), motor_y="ty")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no motor is given"),
        ({"motor_y": "tz"}, "no motor 'tz'.*ty, tx"),
        ({"motor_y": "ty", "moving": "beam"}, "moving is 'beam'"),
        ({"motor_y": "ty", "signs": (1, 2)}, "signs is"),
    ],
)
def test_wrong_motors(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        stitch(fields([(0.0, 0.0), (10.0, 0.0)]), **options)  # type: ignore[arg-type] # the mistakes


def test_one_field_or_no_unit() -> None:
    wf = fields([(0.0, 0.0), (10.0, 0.0)])
    with pytest.raises(InputError, match="at least two fields"):
        stitch(wf.isel(frame=[0]), motor_y="ty")
    wf.ty.attrs["units"] = "unknown"
    with pytest.raises(InputError, match="'ty' is in 'unknown'"):
        stitch(wf, motor_y="ty")
