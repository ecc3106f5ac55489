"""The calibration of a detector against a simulated one, and meshes that cannot give one."""

import logging
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client

import wavedask as wd
from wavedask.errors import InputError, MotorError, WavedaskError
from wavedask.kernels.mesh.gauge import without_affine
from wavedask.kernels.mesh.motor_axes import motor_axes
from wavedask.simulate import (
    DARK,
    FLAT,
    Beamline,
    Camera,
    Detector,
    Distortion,
    Feature,
    Membrane,
    MeshScan,
    Source,
    detector_mesh,
    mesh_scan,
)

SIDE = 320
BENT = Distortion(
    (SIDE, SIDE), barrel=1.0, features=(Feature((0.4 * SIDE, 0.6 * SIDE), (0.3, -0.2), 60.0),)
)
ROTATION = float(np.deg2rad(0.2))
CENTRAL = (slice(8, -8),) * 2


def calibrate(mesh: Any, **asked: Any) -> xr.Dataset:
    return wd.detector_distortion(mesh, **{"motor_y": "dety", "motor_x": "detx", **asked})


@pytest.fixture(scope="module")
def simulated() -> MeshScan:
    return mesh_scan(
        BENT,
        positions=(4, 4),
        step=20.0,
        pixel_size=(0.65e-6, 0.66e-6),
        rotation=ROTATION,
        shear=1e-3,
        backward=(False, True),
        jitter=0.2,
        seed=3,
    )


@pytest.fixture(scope="module")
def calibrated(simulated: MeshScan) -> xr.Dataset:
    return calibrate(simulated.scan)


def errors_of(found: xr.Dataset, mesh: MeshScan) -> list[float]:
    """Root mean square errors (y, x) of the maps over the central 90 %, px."""
    valid = np.isfinite(found.distortion_y.values)
    truth = mesh.truth(valid)
    return [
        float(np.sqrt(np.nanmean((field.values - f)[CENTRAL] ** 2)))
        for field, f in zip((found.distortion_y, found.distortion_x), truth[:2], strict=True)
    ]


def test_the_maps_are_the_truth(calibrated: xr.Dataset, simulated: MeshScan) -> None:
    assert max(errors_of(calibrated, simulated)) < 0.005  # asked for: 0.05
    assert float(calibrated.distortion_y.notnull().mean()) > 0.99
    for axis in "yx":
        stated = float(np.sqrt((calibrated[f"distortion_{axis}_error"] ** 2).mean()))
        assert 0.0005 < stated < 0.004
        assert float(np.abs(calibrated[f"distortion_{axis}_residual"]).mean()) < 0.01


def test_pixel_size_and_angles(calibrated: xr.Dataset, simulated: MeshScan) -> None:
    valid = np.isfinite(calibrated.distortion_y.values)
    axes = motor_axes(simulated.truth(valid)[2])
    assert float(calibrated.pixel_size_y) == pytest.approx(axes.pixel_size_y, rel=1e-4)
    assert float(calibrated.pixel_size_x) == pytest.approx(axes.pixel_size_x, rel=1e-4)
    assert float(calibrated.rotation) == pytest.approx(axes.rotation, abs=np.deg2rad(0.005))
    assert float(calibrated.shear) == pytest.approx(axes.shear, abs=np.deg2rad(0.01))
    assert float(calibrated.motor_matrix.sel(pixel_axis="x", motor_axis="detx")) < 0
    for name, relative in (("pixel_size_y", 1e-4), ("rotation", 0.05)):
        assert 0 < float(calibrated[f"{name}_error"]) < relative * float(calibrated[name])


def test_the_maps_have_no_affine_part(calibrated: xr.Dataset) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    valid = np.isfinite(calibrated.distortion_y.values)
    terms = np.stack([y[valid], x[valid], np.ones(valid.sum())], axis=1)
    for field in (calibrated.distortion_y, calibrated.distortion_x):
        fitted = np.linalg.lstsq(terms, field.values[valid], rcond=None)[0]
        assert np.abs(fitted * [SIDE, SIDE, 1]).max() < 1e-4


def test_what_it_says_beside(calibrated: xr.Dataset) -> None:
    assert calibrated.attrs["grid"] == [4, 4]
    assert calibrated.attrs["settings"]["method"] == "global"
    assert calibrated.attrs["rejected_pairs"] == []
    assert calibrated.pair_status.attrs["flag_meanings"].startswith("accepted ")
    assert dict(calibrated.sizes)["pair"] == 24
    assert float(np.abs(calibrated.stage_error_y).max()) < 0.01
    assert float(calibrated.pair_residual.max()) < 0.03
    for name, variable in calibrated.variables.items():
        assert variable.attrs.get("units"), name
        assert variable.attrs.get("long_name"), name


def test_an_unread_error_of_the_stage_is_in_the_error_of_the_pixel_size() -> None:
    blind = mesh_scan(BENT, positions=(3, 3), step=20.0, jitter=0.2, readback=False, seed=5)
    found = calibrate(blind.scan)
    assert max(errors_of(found, blind)) < 0.01
    # 9 frames about a mean, 0.2 px each, on a lever of sqrt(6) steps of 20 px.
    stated = float(found.pixel_size_y_error / found.pixel_size_y)
    assert 0.2 / (np.sqrt(6) * 20) / 2 < stated < 0.2 / (np.sqrt(6) * 20) * 2
    truth = motor_axes(blind.truth(np.isfinite(found.distortion_y.values))[2])
    assert abs(float(found.pixel_size_y) / truth.pixel_size_y - 1) < 4 * stated
    assert 0.05 < float(found.stage_error_y.std()) < 0.4


def test_the_report_as_it_stands_is_coarser(calibrated: xr.Dataset, simulated: MeshScan) -> None:
    found = calibrate(simulated.scan, method="gradient")
    coarse, fine = errors_of(found, simulated), errors_of(calibrated, simulated)
    assert max(coarse) < 0.05
    assert min(coarse) > 4 * max(fine)
    truth = motor_axes(simulated.truth(np.isfinite(found.distortion_y.values))[2])
    assert float(found.pixel_size_y) == pytest.approx(truth.pixel_size_y, rel=1e-3)
    assert "distortion_y_error" not in found
    assert found.attrs["settings"]["method"] == "gradient"


def test_the_wave_optics_of_the_virtual_beamline_agree() -> None:
    side, pixel, rotation = 160, (2.0e-6, 2.04e-6), 4e-3
    bent = Distortion((side, side), barrel=1.0)
    detector = Detector(
        position=41.0,
        pixel_size=pixel,
        camera=Camera((side, side), vignetting=0.0, structure=0.02),
        psf=1e-6,
        rotation=rotation,
        distortion=bent,
    )
    beamline = Beamline(Source(), (detector,), membrane=Membrane(position=40.0))
    raw, flat, dark = (
        beamline.expose(settings)
        for settings in (detector_mesh(3, 3, 15 * pixel[0]), [FLAT], [DARK])
    )
    found = calibrate(wd.correct(raw.chunk({"frame": 1}), dark=dark, flat=flat))
    valid = np.isfinite(found.distortion_y.values)
    f_y, f_x, change = without_affine(*bent(*np.mgrid[:side, :side]), valid)
    for field, f in ((found.distortion_y, f_y), (found.distortion_x, f_x)):
        assert np.nanstd((field.values - f)[CENTRAL]) < 0.01
    sine, cosine = np.sin(rotation), np.cos(rotation)
    turned = np.array([[cosine, sine], [-sine, cosine]]) / np.reshape(pixel, (2, 1))
    truth = motor_axes(change @ turned)
    assert float(found.pixel_size_y) == pytest.approx(truth.pixel_size_y, rel=1e-4)
    assert float(found.pixel_size_x) == pytest.approx(truth.pixel_size_x, rel=1e-4)
    assert float(found.rotation) == pytest.approx(truth.rotation, abs=np.deg2rad(0.005))


def test_frames_that_are_missing_repeated_or_out_of_order(
    simulated: MeshScan, caplog: pytest.LogCaptureFixture
) -> None:
    order = [3, 0, 1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15]
    with caplog.at_level(logging.WARNING, "wavedask"):
        found = calibrate(simulated.scan.isel(frame=order))
    assert found.attrs["missing_positions"] == [[1, 1]]
    assert found.attrs["repeated_frames"] == [15]
    assert found.attrs["disordered_frames"]
    assert "no frame at positions (y, x) (1, 1)" in caplog.text
    valid = np.isfinite(found.distortion_y.values)
    f_y, _, _ = simulated.truth(valid)
    assert np.nanstd((found.distortion_y.values - f_y)[CENTRAL]) < 0.005


def test_frames_that_show_something_else_are_left_out(simulated: MeshScan) -> None:
    scan = simulated.scan.copy(deep=True)
    scan.image[5] = np.random.default_rng(0).poisson(8000, (SIDE, SIDE))
    found = calibrate(scan)
    bad = (found.pair_sample == 5) | (found.pair_reference == 5)
    assert (found.pair_status.values[bad.values] > 0).all()
    assert (found.pair_status.values[~bad.values] == 0).all()
    assert len(found.attrs["rejected_pairs"]) == 4
    assert all("5" in line for line in found.attrs["rejected_pairs"])
    assert bool(found.stage_error_y.isnull()[5])
    assert max(errors_of(found, simulated)) < 0.005


def test_a_frame_that_is_not_where_its_motors_say_is_told(simulated: MeshScan) -> None:
    scan = simulated.scan.copy(deep=True)
    matrix = simulated.matrix
    away = np.linalg.solve(matrix, [3.0, 0.0])
    for axis, name in enumerate(("dety", "detx")):
        scan[name].values[6] += away[axis]
    found = calibrate(scan)
    assert max(errors_of(found, simulated)) < 0.005
    assert int(np.abs(found.stage_error_y.values).argmax()) == 6
    assert float(found.stage_error_y[6]) == pytest.approx(-3.0, abs=0.8)


def test_lazy_frames_give_the_same_on_any_scheduler(
    simulated: MeshScan, calibrated: xr.Dataset
) -> None:
    lazy = simulated.scan.chunk({"frame": 1, "y": 160, "x": 320})
    with dask.config.set(scheduler="threads", num_workers=2):
        threaded = calibrate(lazy)
    xr.testing.assert_identical(threaded, calibrated)


def test_on_a_cluster() -> None:
    mesh = mesh_scan(Distortion((96, 96), barrel=0.3), positions=(2, 3), step=10.0)
    here = calibrate(mesh.scan, window=15)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None):
        there = calibrate(mesh.scan.chunk({"frame": 1}), window=15)
    xr.testing.assert_identical(there, here)


def test_steps_of_a_third_of_the_frame() -> None:
    mesh = mesh_scan(Distortion((192, 192), barrel=1.0), positions=(3, 3), step=60.0, jitter=0.5)
    found = calibrate(mesh.scan, window=15)
    f_y, _, _ = mesh.truth(np.isfinite(found.distortion_y.values))
    assert np.nanstd((found.distortion_y.values - f_y)[CENTRAL]) < 0.02


SMALL = Distortion((96, 96))


@pytest.mark.parametrize(
    ("step", "words"),
    [(0.8, "moves the speckle by 0.80 px"), (94.0, "do not match")],
    ids=["noise", "beyond"],
)
def test_steps_that_tell_nothing(step: float, words: str) -> None:
    mesh = mesh_scan(SMALL, positions=(2, 2), step=step)
    with pytest.raises(InputError, match=words):
        calibrate(mesh.scan, window=15)


def test_frames_without_speckle() -> None:
    mesh = mesh_scan(SMALL, positions=(2, 2), step=9.0).scan
    mesh.image.values[:] = np.random.default_rng(0).poisson(8000, mesh.image.shape)
    with pytest.raises(InputError, match=r"do not match: tried frames .* in "):
        calibrate(mesh, window=15)


def changed(**coords: object) -> xr.Dataset:
    return mesh_scan(SMALL, positions=(2, 2), step=9.0).scan.assign_coords(coords)


@pytest.mark.parametrize(
    ("mesh", "asked", "kind", "words"),
    [
        (changed(), {"motor_y": "lens"}, MotorError, "no motor 'lens'.*detx, dety"),
        (changed(), {"motor_y": "detx"}, InputError, "detx"),
        (changed(dety=("frame", [0.0, 0, 1, 1])), {}, MotorError, "'unknown'"),
        (changed(dety=("frame", [0.0, 0, 0, 0], {"units": "mm"})), {}, MotorError, "1 x 2"),
        (changed().isel(frame=0), {}, InputError, "frame"),
        (changed(), {"method": "magic"}, InputError, "magic"),
        (changed(), {"window": 20}, InputError, "window is 20"),
        (changed().isel(frame=slice(0, 0)), {}, InputError, "mesh has no frames"),
        (changed(), {"spacing": "16"}, InputError, "spacing is '16'"),
        (changed(), {"smoothing": None}, InputError, "smoothing is None"),
        (changed(), {"spacing": 1.0}, InputError, "spacing is 1.0"),
        (changed(), {"smoothing": 0.0}, InputError, "smoothing is 0.0"),
        (changed(), {"least_correlation": 1.5}, InputError, "least_correlation is 1.5"),
    ],
)
def test_what_cannot_be_calibrated(
    mesh: xr.Dataset, asked: dict[str, object], kind: type[WavedaskError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        calibrate(mesh, **asked)


def test_exchanged_motors() -> None:
    mesh = mesh_scan(SMALL, positions=(2, 2), step=9.0).scan
    with pytest.raises(InputError, match="Exchange motor_y and motor_x"):
        calibrate(mesh, motor_y="detx", motor_x="dety", window=15)
