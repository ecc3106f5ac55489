"""The demonstration: a campaign on disk with known truth, analysed from its files."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import yaml

from wavedask.conventions import (
    FIGURE_ERROR,
    FRAME,
    METRE,
    RADIUS,
    RADIUS_UNCERTAINTY,
    RESIDUAL,
    SLOPE_X,
    SLOPE_Y,
    WAVEFRONT,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import FileError
from wavedask.experiment import (
    SCHEMA,
    Experiment,
    Frames,
    RunReport,
    Stages,
    Track,
    Wavefront,
    load_experiment,
    run,
    stages_of,
)
from wavedask.optics import fit_lens, refractive_decrement
from wavedask.plot import plot_maps
from wavedask.simulate import Campaign, Distortion, Lens, mesh_scan, write_campaign
from wavedask.store import differences, open_store

ENERGY: Final = 17.0
DISTANCE: Final = 1.0
PIXEL_SIZE: Final = 0.65e-6
RADIUS_TRUE: Final = 50e-6
MATERIAL: Final = "Be"
SHIFT: Final = 20e-6
"""Distance between neighbouring positions of the lens, m."""
FIGURE: Final = ((0, 0, 0, 1.5e-6), (0, 1.0e-6, 0, 0), (0, 0, 0, 0), (-2.0e-6, 0, 0, 0))
"""Thickness error of the lens, m: products of Legendre polynomials over the frame."""

MOTOR_UNITS: Final = {"energy": "keV", "lens_x": "mm", "lens_y": "mm", "detz": "mm"}
"""Units of the motors; EDF headers hold none."""

RAW: Final = "raw"
MESH: Final = "mesh"
"""Folder, inside the raw data, of a scan of the detector for `wavedask distortion`."""
MESH_SIDE: Final = 256
MESH_POSITIONS: Final = (4, 4)
RECIPE: Final = "simulated.json"
EXPERIMENT: Final = "experiment.yaml"
STORE: Final = "results.zarr"
PICTURE: Final = "demo.png"

ERROR: Final = Quantity(RESIDUAL.name, METRE, "wavefront, measured - true")


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The results of the demonstration, and the simulated values.

    Attributes
    ----------
    run : RunReport
        Report of the run.
    shape : (int, int)
        Rows and columns of a frame.
    points : int
        Number of tracked points per frame.
    radius_true, radius_found : float
        Apex radius of the lens in m: simulated, and fitted (mean over the frames).
    radius_here : float
        What the same fit gives for the true wavefront, m: with the figure error of the lens in the
        part of it that is seen.
    radius_error : float
        Standard error of the mean over the frames, m, from those of the fits.
    error_rms : float
        Wavefront, measured minus true, rms over the valid pixels of all frames, m.
    wavefront_range : float
        Peak to valley of the true wavefront, m.
    marked : float
        Fraction of pixels without a match.
    picture : Path
        The picture.
    """

    run: RunReport
    shape: tuple[int, int]
    points: int
    radius_true: float
    radius_found: float
    radius_here: float
    radius_error: float
    error_rms: float
    wavefront_range: float
    marked: float
    picture: Path


def demo_campaign(folder: Path, *, side: int, positions: int, seed: int) -> Campaign:
    """Simulate the raw files of the demonstration, or find existing ones.

    Parameters
    ----------
    folder : Path
        Folder of the demonstration: new, empty, or with an earlier demonstration with the same
        parameters.
    side : int
        Rows and columns of a frame.
    positions : int
        Positions of the lens, one sample frame each.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    Campaign

    Raises
    ------
    FileError
        The folder holds other files, or a demonstration with other parameters.
    """
    delta = refractive_decrement(MATERIAL, energy=ENERGY)
    offsets = (np.arange(positions) - (positions - 1) / 2) * SHIFT
    lens = Lens(
        radius=RADIUS_TRUE,
        delta=delta,
        error=np.array(FIGURE),
        half_aperture=side / 2 * PIXEL_SIZE,
    )
    numbers: dict[str, Any] = {
        "centers": tuple((0.0, float(offset)) for offset in offsets),
        "shape": (side, side),
        "pixel_size": PIXEL_SIZE,
        "distance": DISTANCE,
        "energy": ENERGY,
    }
    recipe = json.dumps(
        {**numbers, RADIUS.name: RADIUS_TRUE, "figure": FIGURE, "seed": seed}, indent=2
    )
    raw = folder / RAW
    if folder.is_file():
        raise FileError(f"{folder} is a file", "Choose a folder that is new or empty.")
    # A hidden folder is left over from a demonstration that was stopped during the simulation.
    if not folder.is_dir() or all(entry.name.startswith(".") for entry in folder.iterdir()):
        draft = folder / f".{RAW}-{uuid.uuid4().hex}"
        write_campaign(draft, lens=lens, seed=seed, **numbers)
        _write_mesh(draft / MESH, seed=seed)
        (draft / RECIPE).write_text(recipe)
        draft.rename(raw)
    elif not (raw / RECIPE).is_file():
        raise FileError(
            f"{folder} is not empty and holds no demonstration",
            "Nothing was changed. Choose another folder.",
        )
    elif changed := differences(json.loads((raw / RECIPE).read_text()), json.loads(recipe)):
        raise FileError(
            f"{folder} holds a demonstration with other parameters: {'; '.join(changed)}",
            "Nothing was changed. Choose another folder, or remove this one.",
        )
    return Campaign.in_folder(raw, lens=lens, **numbers)


def _write_mesh(folder: Path, *, seed: int) -> None:
    """Write a simulated mesh scan of a detector with a barrel distortion of one pixel."""
    detector = Distortion((MESH_SIDE, MESH_SIDE), barrel=1.0)
    mesh = mesh_scan(detector, positions=MESH_POSITIONS, pixel_size=PIXEL_SIZE, seed=seed)
    mesh.write(folder)


def write_experiment(folder: Path) -> Path:
    """Write the experiment file of the demonstration, unless it exists; return its path."""
    file = folder / EXPERIMENT
    if not file.exists():
        experiment = Experiment(
            sample=Frames(files=f"{RAW}/sample_*.edf", units=MOTOR_UNITS),
            reference=Frames(files=f"{RAW}/reference_*.edf"),
            dark=Frames(files=f"{RAW}/dark_*.edf"),
            flat=Frames(files=f"{RAW}/flat_*.edf"),
            track=Track(window=21, search=32),
            wavefront=Wavefront(
                mode="differential",
                distance=DISTANCE,
                pixel_size=PIXEL_SIZE,
                energy=ENERGY,
                method="least_squares",
            ),
            output=STORE,
        )
        # Leave out keys with their default value.
        content = experiment.model_dump(mode="json", exclude_unset=True)
        file.write_text(
            f"# yaml-language-server: $schema={SCHEMA.as_uri()}\n"
            "# From raw frames to a wavefront: wavedask run experiment.yaml\n"
            "# Lengths in m, energy in keV, window and search in px.\n"
            + yaml.safe_dump(content, sort_keys=False)
        )
    return file


def run_demo(
    folder: str | Path,
    *,
    side: int = 768,
    positions: int = 4,
    seed: int = 0,
    progress: bool | None = None,
) -> DemoReport:
    """Simulate a campaign, run the pipeline on its files and compare with the truth.

    It runs on the current Dask client or local scheduler, and resumes an unfinished run with the
    same parameters.

    Parameters
    ----------
    folder : path
        Folder for the raw frames, the experiment file, the store and the picture.
    side : int, default 768
        Rows and columns of a frame.
    positions : int, default 4
        Positions of the lens.
    seed : int, default 0
        Seed of the random numbers.
    progress : bool, optional
        Whether to show progress bars; by default on a terminal and in a notebook.

    Returns
    -------
    DemoReport

    Raises
    ------
    WavedaskError
        The folder holds other files.
    """
    target = Path(folder).absolute()
    campaign = demo_campaign(target, side=side, positions=positions, seed=seed)
    experiment = load_experiment(write_experiment(target))
    prepared = stages_of(experiment, progress=progress)
    report = run(experiment, prepared=prepared, progress=progress)
    stored = open_store(report.store.path)
    found = stored[WAVEFRONT.name].compute()
    truths = [campaign.truth(frame) for frame in range(found.sizes[FRAME])]
    truth = np.stack([one.wavefront for one in truths])
    deviation = found - truth
    error = labelled((deviation - deviation.mean((Y, X))).values, ERROR, coords=found.coords)
    wanted = [RADIUS.name, RADIUS_UNCERTAINTY.name, FIGURE_ERROR.name]
    lens = fit_lens(stored, material=MATERIAL)[wanted].compute()
    perfect = xr.Dataset(
        {
            quantity.name: stored[quantity.name]
            .copy(data=np.stack([getattr(one, quantity.name) for one in truths]))
            .where(found.notnull())
            for quantity in (WAVEFRONT, SLOPE_Y, SLOPE_X)
        },
        attrs=stored.attrs,
    )
    of_truth = fit_lens(perfect, material=MATERIAL)[RADIUS.name].compute()
    picture = target / PICTURE
    _draw(prepared, stored, error, lens[FIGURE_ERROR.name], picture)
    radii = lens[RADIUS.name].values
    valid = np.isfinite(error.values)
    step = experiment.track.step or 1
    return DemoReport(
        run=report,
        shape=campaign.shape,
        points=int(np.prod([-(-length // step) for length in campaign.shape])),
        radius_true=campaign.lens.radius,
        radius_found=float(radii.mean()),
        radius_here=float(of_truth.mean()),
        # Half of the variance is that of the reference, which is the same for all frames.
        radius_error=float(
            np.sqrt(np.square(lens[RADIUS_UNCERTAINTY.name]).mean() * (1 + 1 / radii.size) / 2)
        ),
        error_rms=float(np.sqrt(np.mean(np.square(error.values[valid])))),
        wavefront_range=float(truth.max() - truth.min()),
        marked=float(1 - valid.mean()),
        picture=picture,
    )


def _draw(
    prepared: Stages,
    stored: xr.Dataset,
    error: xr.DataArray,
    figure_error: xr.DataArray,
    picture: Path,
) -> None:
    middle = {FRAME: stored.sizes[FRAME] // 2}
    image = prepared.image.isel(middle).assign_coords({dim: stored[dim] for dim in (Y, X)})
    figure = plot_maps(
        [
            image,
            stored[SLOPE_Y.name].isel(middle),
            stored[SLOPE_X.name].isel(middle),
            stored[WAVEFRONT.name].isel(middle),
            error.isel(middle),
            figure_error.isel(middle),
        ],
        title=f"wavedask demo: {MATERIAL} lens, R = {RADIUS_TRUE * 1e6:.0f} µm, "
        f"{ENERGY:g} keV, {DISTANCE:g} m from the detector",
    )
    figure.savefig(picture, dpi=110)
