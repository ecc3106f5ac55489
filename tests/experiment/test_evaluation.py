"""Lens, modes, mirror and focus of an experiment: what a store holds, and what is refused."""

import logging
import math
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from support.experiments import FRAMES, SIDE, copied, load
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import ExperimentError, InputError
from wavedask.experiment.evaluation import evaluated
from wavedask.experiment.pipeline import run
from wavedask.experiment.pupils import pupil_mask
from wavedask.experiment.stages import stages_of
from wavedask.export import to_csv
from wavedask.report import numbers_of_frames, summary_rows

pytestmark = pytest.mark.usefixtures("threads")

MIDDLE = 0.65e-6 * (SIDE - 1) / 2
CIRCLE = (MIDDLE, MIDDLE, 3.5e-5)
MIRROR: dict[str, Any] = {"axis": "x", "theta": 3e-3, "p": math.inf, "shape": "cylinder"}
SECTIONS: dict[str, Any] = {
    "pupil": {"circle": list(CIRCLE)},
    "lens": {"delta": 1.2e-6},
    "modes": {"order": 4},
    "mirror": MIRROR,
    "focus": {},
}


@pytest.fixture(scope="module")
def stored(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """Store of a run with all sections, which grew by its last frame."""
    folder = copied(raw, tmp_path_factory.mktemp("evaluated"))
    with dask.config.set(scheduler="threads", num_workers=2):
        files = {"files": "raw/sample_000[01].edf"}
        assert run(load(folder, sample=files, **SECTIONS)).store.written == FRAMES - 1
        report = run(load(folder, **SECTIONS))
    assert report.store.written == 1
    rows = dict(report.rows)
    focus = "focus along x, behind the detector"
    for name in ("lens radius", "mode, defocus", "mirror, radius", focus):
        assert rows[name].count("±") == FRAMES, name
    for name in ("aberrations, rms", "mode, defocus"):
        assert rows[name].count("waves") == FRAMES, name
    assert "Strehl ratio" in rows
    assert "matched by frame" in rows
    return wd.open_store(folder / "results.zarr").load()


def test_the_modes_of_a_store_are_those_of_its_wavefront(stored: xr.Dataset) -> None:
    assert stored.coefficient.dims == ("frame", "mode_number")
    assert stored.coefficient.attrs["units"] == "m"
    for frame in range(FRAMES):
        single = stored.isel(frame=frame)
        fit = wd.optics.zernike(single, order=4, pupil=CIRCLE)
        for name in ("coefficient", "coefficient_uncertainty", "coefficient_waves"):
            np.testing.assert_allclose(single[name], fit[name], rtol=1e-6, atol=1e-18)
        kept = fit.set_xindex("mode_name").sel(mode_name=["tilt x", "tilt y", "defocus"])
        left = wd.optics.remove(single, kept).wavefront
        inside = np.hypot(left.y - MIDDLE, left.x - MIDDLE) <= CIRCLE[2]
        left = left.where(inside) - left.where(inside).mean()
        np.testing.assert_allclose(single.aberration, left, atol=1e-17)
        assert float(single.aberration_rms) == pytest.approx(float(left.std()), rel=1e-4)
    # W = -r^2 / 2 (f - d): its defocus over a disc of radius a is -a^2 / (4 sqrt(3) (f - d)).
    true = -(CIRCLE[2] ** 2) / (4 * math.sqrt(3) * (50e-6 / 2.4e-6 - 1))
    defocus = stored.set_xindex("mode_name").coefficient.sel(mode_name="defocus")
    np.testing.assert_allclose(defocus, true, rtol=0.02)
    assert float(abs(stored.radius / 50e-6 - 1).max()) < 0.02


def test_the_rms_of_the_wavefront_is_that_of_the_pupil(stored: xr.Dataset) -> None:
    inside = np.hypot(stored.y - MIDDLE, stored.x - MIDDLE) <= CIRCLE[2]
    surface = stored.wavefront.where(inside)
    np.testing.assert_allclose(stored.wavefront_rms, surface.std(("y", "x")), rtol=1e-4)
    high, low = surface.max(("y", "x")), surface.min(("y", "x"))
    np.testing.assert_allclose(stored.wavefront_pv, high - low, rtol=1e-4)
    # That of all pixels is far larger.
    assert (stored.wavefront.std(("y", "x")) > 1.5 * stored.wavefront_rms).all()
    assert stored.wavefront_rms.attrs["long_name"] == "rms wavefront in the pupil"
    numbers = numbers_of_frames(stored)
    assert "wavefront in the pupil, rms" in dict(summary_rows(numbers))


def test_a_frame_is_found_by_its_numbers(stored: xr.Dataset) -> None:
    values = stored.set_xindex("mode_name").coefficient.sel(mode_name="coma x").values
    middle = float(np.median(values))
    found = stored.wave.query(f"mode_coma_x > {middle!r} and focus_distance_x > 1")
    assert found.sizes["frame"] == int((values > middle).sum()) == 1
    assert stored.wave.query("mode_defocus > 0").sizes["frame"] == 0
    assert stored.wave.query("mode_defocus_uncertainty < 1e-12").sizes["frame"] == FRAMES
    with pytest.raises(InputError, match="Did you mean 'mode_defocus'"):
        stored.wave.query("mode_defocs > 0")


def test_mirror_and_focus_of_a_store_are_those_of_its_maps(stored: xr.Dataset) -> None:
    inside = np.hypot(stored.y - MIDDLE, stored.x - MIDDLE) <= CIRCLE[2]
    for frame in (0, FRAMES - 1):
        single = stored.isel(frame=frame)
        names = ("slope_x", "slope_uncertainty_y", "slope_uncertainty_x", "window", "wavefront")
        within = single[[*names, "transmission"]]
        within = within.where(inside).assign_attrs(stored.attrs)
        mirror = wd.optics.mirror(within, **MIRROR)
        for name in ("slope_error_rms", "height_error_rms", "mirror_radius"):
            assert float(single[name]) == pytest.approx(float(mirror[name]), rel=1e-6), name
        assert single.height_error.dims == ("mirror_point",)
        heights = np.interp(single.mirror_position, mirror.mirror_position, mirror.height_error)
        np.testing.assert_allclose(single.height_error, heights, atol=1e-15)
        focus = wd.optics.find_focus(within.assign(transmission=single.transmission), energy=17.0)
        for name in ("focus_distance_y", "focus_fwhm_x", "strehl_uncertainty", "caustic_y"):
            np.testing.assert_allclose(single[name], focus[name], rtol=1e-6)
    assert stored.focus_distance_x.attrs["units"] == "m"


def test_the_table_holds_every_number(stored: xr.Dataset, tmp_path: Path) -> None:
    heads = to_csv(stored, tmp_path / "t.csv").read_text().splitlines()[0].split(",")
    columns = {head.split(" [")[0] for head in heads}
    numbers = {str(name) for name, array in stored.data_vars.items() if array.dims == ("frame",)}
    assert len(numbers) > 40
    assert numbers <= columns
    for name in ("mode_spherical", "mode_spherical_uncertainty", "mode_astigmatism_45"):
        assert f"{name} [m]" in heads
    table = pd.read_csv(tmp_path / "t.csv")
    waves = table["mode_defocus [m]"] / stored.attrs["wavelength"]
    np.testing.assert_allclose(table["mode_defocus_waves"], waves, rtol=1e-6)
    assert (table["mode_defocus_waves_uncertainty"] > 0).all()


def test_nothing_is_computed_before_the_run(raw: Path) -> None:
    with forbid_computing():
        result = stages_of(load(raw, **SECTIONS)).result
    for name in ("coefficient", "aberration", "slope_error", "caustic_x", "strehl"):
        assert result[name].chunks is not None, name


def test_a_mask_file_is_an_input(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:90, 30:70] = 1
    tifffile.imwrite(folder / "pupil.tif", mask)
    sections = {"pupil": {"mask": "pupil.tif"}, "modes": {"basis": "legendre", "order": 2}}
    prepared = stages_of(load(folder, **sections))
    assert folder / "pupil.tif" in prepared.inputs
    assert prepared.result.attrs["half_width"] == pytest.approx([69 * 0.325e-6, 39 * 0.325e-6])
    cut = {"wavefront": {"roi": [[10, 100], [20, 80]]}}
    again = stages_of(load(folder, **sections, **cut)).result
    assert again.attrs["half_width"] == prepared.result.attrs["half_width"]
    tifffile.imwrite(folder / "pupil.tif", mask[:50])
    with pytest.raises(InputError, match=r"pupil: the mask has \(50, 128\) pixels"):
        stages_of(load(folder, **sections))
    tifffile.imwrite(folder / "pupil.tif", 0 * mask)
    with pytest.raises(InputError, match=r"pupil: the mask pupil\.tif holds no pixel"):
        stages_of(load(folder, **sections))


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ({"circle": [0.0, 0.0, 0.5]}, math.pi * 0.25),
        ({"rectangle": [0.1, 0.0, 0.4, 0.25]}, 0.4),
        ({"polygon": [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5]]}, 0.5),
    ],
)
def test_shapes_of_a_pupil(shape: dict[str, Any], area: float, raw: Path) -> None:
    line = np.linspace(-1, 1, 401)
    pupil = load(raw, pupil=shape, focus={}).pupil
    assert pupil is not None
    mask = pupil_mask(pupil, xr.Dataset(coords={"y": line, "x": line}))
    assert mask is not None
    assert float(mask.sum()) * 0.005**2 == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"pupil": "auto"}, "pupil: has no effect without lens, modes, mirror, focus"),
        ({"pupil": {}, "focus": {}}, "pupil: no shape given: give auto, or one of circle"),
        ({"pupil": {"circle": [0, 0, -1]}, "focus": {}}, r"circle \[centre_y, centre_x, radius\]"),
        (
            {"pupil": {"circle": [0, 0, 1], "mask": "a.tif"}, "focus": {}},
            "circle and mask given",
        ),
        ({"pupil": {"polygon": [[0, 0], [1, 1]]}, "focus": {}}, "give three corners or more"),
        ({"pupil": "auto", "lens": {"aperture": None}}, "lens.aperture: pupil says where"),
        ({"modes": {"order": 0}}, "modes.order is 0: give the highest order"),
        ({"modes": {"order": 41}}, "modes.order is 41"),
        ({"modes": {"index": "zemax"}}, "modes.index is 'zemax': give one of: noll, osa, fringe"),
        ({"modes": {"basis": "legendre", "index": "osa"}}, "modes: index: Legendre modes"),
        ({"mirror": {"axis": "x"}}, "mirror.theta: missing; give the grazing angle in rad"),
        ({"mirror": {**MIRROR, "theta": 3.0}}, "mirror.theta is 3.0: give the grazing angle"),
        ({"mirror": {**MIRROR, "q": 0.4}}, "q and free are numbers of an ellipse"),
        ({"mirror": {**MIRROR, "free": ["r"]}}, r"mirror.free\[0\] is 'r': give the numbers"),
        ({"focus": {"intensity": "flat"}}, "focus.intensity is 'flat': give measured"),
    ],
)
def test_mistakes_in_the_file(sections: dict[str, Any], words: str, raw: Path) -> None:
    with pytest.raises(ExperimentError, match=words):
        load(raw, **sections)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"pupil": {"circle": [64, 64, 50]}, "modes": {}},
            r"pupil: the circle \[64.0, 64.0, 50.0\] holds no pixel, .* to 8.255e-05 m along y",
        ),
        (
            {"pupil": {"circle": [4e-5, 4e-5, 6e-6]}, "modes": {"order": 12}},
            "modes: order is 12 and the pupil 18 pixels wide.*ask for order=9 or less",
        ),
        (
            {"modes": {"order": 2, "remove": ["comma x"]}},
            "modes: remove names 'comma x', which is no mode up to order 2",
        ),
        ({"modes": {"remove": ["comma x"]}}, "Did you mean 'coma x'"),
        (
            {"mirror": {**MIRROR, "p": None}},
            "mirror: source_distance is not known. Give mirror.p, or wavefront.source_distance",
        ),
        (
            # Only the wavefront has the key `sure`.
            {"mirror": {**MIRROR, "distance": 0.5}},
            r"mirror: distance is 0.5 m as given and 1 m in .*\. Correct the one that is wrong\.$",
        ),
        ({"lens": {"delta": 1.0}}, r"lens: delta is 1\. It must lie between 1e-12 and 0\.1\.$"),
        (
            {"mirror": {**MIRROR, "center": 64}},
            "mirror: center is 64 m, and the map goes from 0 to 8.255e-05 m along x",
        ),
        (
            {"lens": {"aperture": [0.04, 0.04, 0.02]}},
            r"lens: aperture: the circle \[0.04, 0.04, 0.02\] holds no pixel, and the map goes",
        ),
        (
            {"pupil": {"polygon": [[0.1, 0.1], [0.2, 0.2], [0.4, 0.4]]}, "modes": {}},
            r"pupil: the polygon .* has no area. Its corners are in one line",
        ),
        (
            {"focus": {}, "sample": {"files": "raw/sample_0000.edf"}, "energy": None},
            "focus: the photon energy is not known",
        ),
    ],
)
def test_settings_that_do_not_fit_the_data(
    sections: dict[str, Any], words: str, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "energy" in sections:
        # The files of the campaign state the energy.
        monkeypatch.setattr("wavedask.optics.focus.agreed_energy", lambda *_, **__: None)
        sections = {name: part for name, part in sections.items() if name != "energy"}
    with pytest.raises(InputError, match=words):
        stages_of(load(raw, **sections))


def test_a_pupil_that_leaves_the_map_is_told(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    for shape, warned in (
        ({"circle": [MIDDLE, MIDDLE, 3e-3]}, True),
        ({"rectangle": [MIDDLE, 0.0, 4e-5, 4e-3]}, True),
        ({"polygon": [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]}, True),
        ({"circle": [MIDDLE, MIDDLE, 1.1 * MIDDLE]}, False),
        ({"circle": [MIDDLE, MIDDLE, 1e-6]}, False),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="wavedask"):
            stages_of(load(raw, pupil=shape, modes={"order": 2} if warned else None, focus={}))
        assert ("lie in the map, which goes from 0 to 8.255e-05 m" in caplog.text) == warned, shape


def _small_lens(frames: int = 2, side: int = 192) -> xr.Dataset:
    """Wavefronts of a lens that fills a part of the map, at another place in each frame."""
    line = np.arange(side) * 1e-6
    surfaces: list[Any] = []
    slopes: list[Any] = []
    for frame in range(frames):
        y, x = line[:, None] - (84 + 10 * frame) * 1e-6, line - 100e-6
        lens = np.hypot(y, x) < 54e-6
        surfaces.append(np.where(lens, -(y**2 + x**2) / 30 + 12 * x**3, 0.0))
        slopes.append(
            [
                np.where(lens, -y / 15 + 0 * x, 0.0),
                np.where(lens, -x / 15 + 36 * x**2 + 0 * y, 0.0),
            ]
        )
    stack: Any = np.array(slopes)
    dims = ("frame", "y", "x")
    return xr.Dataset(
        {
            "wavefront": (dims, np.array(surfaces)),
            "slope_y": (dims, stack[:, 0]),
            "slope_x": (dims, stack[:, 1]),
            "window": (dims, np.full((frames, side, side), 3.0)),
        },
        {"y": line, "x": line},
        {"distance": 1.0, "energy_keV": 17.0, "mode": "differential"},
    )


def test_a_material_without_an_energy_is_told_in_the_words_of_the_file(raw: Path) -> None:
    result = _small_lens(1)
    del result.attrs["energy_keV"]
    with pytest.raises(
        InputError, match=r"lens: .*'Be' needs .* Give wavefront\.energy in keV, or"
    ):
        evaluated(result, load(raw, lens={"material": "Be"}), None)


def test_the_pupil_is_found_in_each_frame(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = _small_lens(3)
    result["slope_y"][2], result["slope_x"][2], result["wavefront"][2] = np.nan, np.nan, np.nan
    lazy = result.chunk({"frame": 1})
    experiment = load(raw, pupil="auto", modes={"order": 3, "remove": ["tilt x", "defocus"]})
    with forbid_computing():
        waiting = evaluated(lazy, experiment, None)
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        found = waiting.compute()
    assert "modes: a frame is not evaluated" in caplog.text
    assert found.coefficient.isel(frame=2).isnull().all()
    assert not found.aperture[2].any()
    moved = float(found.aperture_center_y[1] - found.aperture_center_y[0])
    assert moved == pytest.approx(10e-6, abs=3e-6)
    assert "center" not in found.attrs  # the disc of each frame is its own
    for frame in range(2):
        single, mask = result.isel(frame=frame), found.aperture[frame]
        fit = wd.optics.zernike(single, order=3, pupil=mask)
        np.testing.assert_allclose(found.coefficient[frame], fit.coefficient, rtol=1e-9)
        assert found.aberration[frame].notnull().sum() == mask.sum()
    assert float(found.set_xindex("mode_name").coefficient.sel(mode_name="coma x")[0]) > 1e-14


def test_one_frame_that_cannot_be_evaluated_costs_no_other(
    raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = _small_lens()
    result["wavefront"][1, 80] = np.nan  # in two pieces, whose relative height is not known
    circle = {"circle": [84e-6, 100e-6, 4e-5]}
    experiment = load(raw, pupil=circle, focus={"intensity": "uniform"})
    assert experiment.pupil is not None
    pupil = pupil_mask(experiment.pupil, result)
    found = evaluated(result.chunk({"frame": 1}), experiment, pupil)
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        found = found.compute()
    assert "focus: a frame is not evaluated" in caplog.text
    assert np.isfinite(found.focus_distance_y[0])
    assert found.focus_distance_y[1].isnull()
    assert found.caustic_x[1].isnull().all()


def test_a_curvature_without_a_wavefront_has_a_mirror(raw: Path) -> None:
    place = np.linspace(-1e-4, 1e-4, 101)
    bend = np.full((1, 5, place.size), -1 / 0.4)
    curved = xr.Dataset(
        {"curvature_x": (("frame", "y", "x"), bend, {"units": "1/m"})},
        {"y": place[:5], "x": place},
    )
    section = {"axis": "x", "theta": 3e-3, "p": 40.0, "distance": 0.1}
    step = {"step": [0, 4e-6], "pixel_size": 0.65e-6, "distance": 1.0}
    experiment = load(raw, wavefront=None, self_reference=step, mirror=section)
    found = evaluated(curved.chunk({"frame": 1}), experiment, None).compute()
    assert float(found.ellipse_q[0]) == pytest.approx(0.5, rel=1e-3)
    assert float(found.height_error_rms[0]) < 1e-10
    with pytest.raises(ExperimentError, match="modes: not for a curvature"):
        load(raw, wavefront=None, self_reference=step, modes={})
