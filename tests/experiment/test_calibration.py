"""A calibration from the command line: files in, a store and a picture out."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import wavedask as wd
from wavedask.cli import main
from wavedask.simulate import Distortion, MeshScan, mesh_scan

THREADS = ["--address", "threads", "--workers", "2"]
MOTORS = ["--motor-y", "dety", "--motor-x", "detx"]
SHAPE = (128, 128)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MeshScan]:
    """Raw frames of a mesh scan with dark, flat and a sidecar, as a beamline may leave them."""
    folder = tmp_path_factory.mktemp("mesh")
    mesh = mesh_scan(Distortion(SHAPE, barrel=0.5), positions=(3, 3), step=12.0, counts=4000.0)
    flat = 1 + 0.2 * np.random.default_rng(1).random(SHAPE)
    raw = 100 + mesh.scan.image.values * flat
    for name, frames in (
        ("mesh", raw),
        ("dark", np.full((2, *SHAPE), 100)),
        ("flat", 100 + 4000 * flat[None]),
    ):
        tifffile.imwrite(folder / f"{name}.tif", frames.astype(np.uint16), photometric="minisblack")
    lines = ["dety,detx"] + [
        f"{y * 1e3:.9f},{x * 1e3:.9f}"
        for y, x in zip(mesh.scan.dety.values, mesh.scan.detx.values, strict=True)
    ]
    (folder / "motors.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder, mesh


def command(folder: Path, output: Path, *more: str) -> list[str]:
    given = ["distortion", str(folder / "mesh.tif"), *MOTORS, "-o", str(output)]
    corrections = ["--dark", str(folder / "dark.tif"), "--flat", str(folder / "flat.tif")]
    sidecar = ["--motors", str(folder / "motors.csv")]
    return [*given, *corrections, *sidecar, "--window", "15", *THREADS, *more]


def test_a_calibration_and_its_use(files: tuple[Path, MeshScan], tmp_path: Path) -> None:
    folder, mesh = files
    output = tmp_path / "cal.zarr"
    asked = command(folder, output, "--unit", "mm")
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for word in ("3 x 3 positions", "12, 0 rejected", "±", "µm", "mrad", "cal.png"):
        assert word in result.stdout
    assert (tmp_path / "cal.png").stat().st_size > 10_000
    cal = wd.open_store(output)
    truth = mesh.truth(np.isfinite(cal.distortion_y.values))
    assert np.nanstd(cal.distortion_y.values - truth[0]) < 0.02
    assert cal.attrs["settings"]["distortion"]["window"] == 15
    assert len(cal.attrs["inputs"]) == 3
    frames = wd.open_scan(folder / "mesh.tif")
    straight = wd.correct(frames, dark=wd.open_scan(folder / "dark.tif"), distortion=cal)
    assert np.isfinite(straight[0].values).mean() > 0.9
    again = CliRunner().invoke(main, asked)
    assert again.exit_code == 0, again.output


def test_what_is_wrong_is_said_in_one_message(files: tuple[Path, MeshScan], tmp_path: Path) -> None:
    folder, _ = files
    result = CliRunner().invoke(main, command(folder, tmp_path / "cal.zarr"))
    assert result.exit_code == 2
    assert "has no unit" in result.stderr
    assert "--unit mm" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "cal.zarr").exists()


@pytest.mark.parametrize("unit", ["um", "km"])
def test_a_wrong_unit_of_the_motors_is_told(
    unit: str, files: tuple[Path, MeshScan], tmp_path: Path
) -> None:
    folder, _ = files
    done = CliRunner().invoke(main, command(folder, tmp_path / "cal.zarr", "--unit", unit))
    assert done.exit_code == 2
    told = " ".join(done.stderr.split())
    assert f"m, with the motor 'dety' in '{unit}'; pixels have 1e-08 to 0.0005 m" in told
    assert not (tmp_path / "cal.zarr").exists()
