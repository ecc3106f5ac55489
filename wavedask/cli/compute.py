"""Commands that compute: demo, run, track, distortion."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wavedask.cli.common import FAILED, Where, cluster_options, print_rows
from wavedask.conventions import FRAME, METRE, REFERENCE_FILE

if TYPE_CHECKING:
    from wavedask.experiment import Experiment, RunReport, Stages


window_option = click.option(
    "--window", type=int, default=21, show_default=True, help="Side of the matching window, px."
)
dark_option = click.option("--dark", help="Frames without beam.")
flat_option = click.option("--flat", help="Frames without membrane.")


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("wavedask-demo"),
    show_default=True,
    help="Folder for raw frames, experiment file, result and picture.",
)
@click.option(
    "--side",
    type=click.IntRange(min=256),
    default=768,
    show_default=True,
    help="Rows and columns of a frame.",
)
@click.option(
    "--positions",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Positions of the lens, one frame each.",
)
@cluster_options
def demo(output: Path, side: int, positions: int, where: Where) -> None:
    """Simulate a campaign, analyse it and compare with the truth.

    Writes raw EDF frames of a beryllium lens, an experiment file, the result store and a picture.
    A second run with the same folder resumes; it overwrites nothing.
    """
    from wavedask.cli.demo import EXPERIMENT, run_demo
    from wavedask.report import value_text

    with where.connected():
        report = run_demo(output, side=side, positions=positions)
    store = report.run.store
    rate = report.points * store.written / report.run.seconds
    frames, path = store.rows
    rows = [
        frames,
        ("pixels per frame", f"{report.shape[0]} x {report.shape[1]} px"),
        ("points matched", f"{report.points * store.frames:,} ({report.points:,} per frame)"),
        ("points per second", f"{rate:,.0f}" if store.written else "- (nothing left to compute)"),
        ("time of the pipeline", f"{report.run.seconds:.1f} s"),
        (
            "pixels without a match",
            f"{100 * report.marked:.1f} % (borders, whose speckle the reference does not hold)",
        ),
        ("flat pixels without beam", f"{report.run.blind_pixels}"),
        (
            "lens radius, true",
            f"{report.radius_true * 1e6:.3f} µm (with its figure error, where it is seen: "
            f"{value_text(report.radius_here, METRE, digits=report.radius_error)})",
        ),
        (
            "lens radius, recovered",
            f"{value_text(report.radius_found, METRE, error=report.radius_error)} "
            f"({100 * (report.radius_found / report.radius_here - 1):+.3f} %)",
        ),
        (
            "rms wavefront error",
            f"{value_text(report.error_rms, METRE)} of {value_text(report.wavefront_range, METRE)}",
        ),
        ("experiment file", str(output / EXPERIMENT)),
        path,
        ("picture", str(report.picture)),
    ]
    print_rows("wavedask demo", rows)


@click.command()
@click.argument("experiment", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--plan", "only_plan", is_flag=True, help="Print the size of the run, and stop.")
@click.option("--from", "store", metavar="STORE", help="Repeat this result, instead of EXPERIMENT.")
@click.option("--output", help="With --from: the new result store.")
@click.option("--hash", "hashed", is_flag=True, help="Save the SHA-256 of every input file.")
@click.option("--repair", is_flag=True, help="Compute frames again that the store has lost.")
@cluster_options
def run(
    experiment: Path | None,
    only_plan: bool,
    store: str | None,
    output: str | None,
    hashed: bool,
    repair: bool,
    where: Where,
) -> None:
    """Run an experiment file: raw frames to a result store.

    \b
    An experiment file is YAML; 'wavedask demo' writes one to start from:
      sample: raw/sample_*.edf
      reference: raw/reference_*.edf
      dark: raw/dark_*.edf
      flat: raw/flat_*.edf
      track: {window: 21, search: 16}
      wavefront: {distance: 1.0, pixel_size: 0.65e-6, energy: 17.0}
      output: results.zarr

    With two detectors, 'near' and 'far' replace sample and reference. Each has its own files, dark,
    flat and distortion, and 'wavefront' has mode: absolute and two distances.

    If the store already exists with the same settings and files, only missing frames are computed;
    new sample frames are appended. 'wavedask run --from results.zarr --output again.zarr' repeats a
    result with the settings in its record.
    """  # noqa: D301 (as above)
    from wavedask.cli.runs import describe_plan
    from wavedask.compute import load_profile
    from wavedask.experiment import (
        bytes_at_work,
        check_inputs,
        experiments_of,
        load_experiment,
        stages_of,
    )
    from wavedask.experiment import run as run_experiment
    from wavedask.store import place_of

    if (experiment is None) == (store is None) or (store is None) != (output is None):
        raise click.UsageError("give an EXPERIMENT file, or both --from STORE and --output STORE")

    def run_one(title: str, asked: "Experiment", prepared: "Stages") -> None:
        if only_plan:
            chosen = where.arguments(asked.cluster.arguments)
            named = load_profile(chosen.pop("profile", None), **chosen)
            print_rows(f"plan of {title}", describe_plan(prepared, named.profile))
            return
        with where.connected(asked.cluster.arguments, per_task=bytes_at_work(prepared)):
            report = run_experiment(asked, prepared=prepared, hashed=hashed, repair=repair)
        _print_run(title, asked, prepared, report)

    if experiment is not None:
        asked = load_experiment(experiment)
        run_one(str(experiment), asked, stages_of(asked))
        return
    for again in experiments_of(str(store), output=place_of(str(output)).text):
        prepared = stages_of(again)
        check_inputs(str(store), prepared.inputs)
        run_one(f"from {store}", again, prepared)


def _print_run(title: str, asked: "Experiment", prepared: "Stages", report: "RunReport") -> None:
    """Print the last table of a run."""
    print_rows(
        title,
        report.rows,
    )
    if report.missing is not None and not report.missing.matched:
        raise click.exceptions.Exit(FAILED)  # the warning has been logged
    if asked.mode == "absolute":
        from wavedask import open_store
        from wavedask.wavefront import NEEDED, budget

        if not {*NEEDED} <= {*prepared.result.data_vars}:
            return
        # A relative error of a pixel size is a hundred times larger in the radius: show it.
        first = open_store(report.store.path).isel({FRAME: 0})
        click.echo(f"\nErrors of the first frame:\n{budget(first)}")


@click.command()
@click.argument("sample")
@click.argument("reference")
@click.option("--output", required=True, help="Result store to write (Zarr): a folder, or a URL.")
@dark_option
@flat_option
@window_option
@click.option("--largest-window", type=int, help="Let the window grow up to this size, px.")
@click.option(
    "--search",
    type=int,
    default=16,
    show_default=True,
    help="Largest displacement on top of the rigid shift, px.",
)
@click.option(
    "--engine",
    type=click.Choice(["dense", "opencv"]),
    default="dense",
    show_default=True,
    help="dense: every pixel by Gauss-Newton. opencv: the loop of template matches of the report.",
)
@click.option("--step", type=int, help="Distance between points, px; opencv only, default 4.")
@click.option(
    "--gain",
    type=float,
    help="Counts per photon: errors follow from the noise of the detector; dense only.",
)
@click.option("--readout", type=float, help="Noise of the readout, counts; with --gain.")
@click.option("--psf", type=float, help="Width (FWHM) of the spot of a photon, px; with --gain.")
@cluster_options
def track(
    sample: str,
    reference: str,
    output: str,
    dark: str | None,
    flat: str | None,
    window: int,
    largest_window: int | None,
    search: int,
    engine: Any,
    step: int | None,
    gain: float | None,
    readout: float | None,
    psf: float | None,
    where: Where,
) -> None:
    """Track SAMPLE frames in REFERENCE frames, without computing a wavefront.

    SAMPLE and REFERENCE are files, folders or quoted globs. If there is one reference frame, all
    samples share it. Write a scan of an HDF5 file as bliss.h5::1.1.
    """
    from wavedask import correct, input_files, open_scan, write_store
    from wavedask import track as track_frames
    from wavedask.compute import check_paths, check_url
    from wavedask.experiment import StatedNoise, Track
    from wavedask.frames import sources_of
    from wavedask.store import URL, open_store, place_of
    from wavedask.tracking import first_residual, why_missing

    given = {"sample": sample, "reference": reference, "dark": dark, "flat": flat}
    sources = {role: str(Path(path).absolute()) for role, path in given.items() if path is not None}
    if gain is None and (readout is not None or psf is not None):
        raise click.UsageError("--readout and --psf need --gain, the counts per photon")
    # track() checks the settings; its message also fits this command.
    noise = StatedNoise.model_construct(gain=gain, readout=readout or 0.0, psf=psf or 0.0)
    settings = Track.model_construct(
        window=window if largest_window is None else (window, largest_window),
        engine=engine,
        search=search,
        step=step,
        detector_noise=None if gain is None else noise,
    )
    scans = {role: open_scan(path) for role, path in sources.items()}
    images, targets = (
        correct(scans[role], dark=scans.get("dark"), flat=scans.get("flat"))
        for role in ("sample", "reference")
    )
    tracked = track_frames(images, targets, **settings.options)
    residual = first_residual(images, targets, settings.options)
    if residual is not None:
        residual.log("track")
        tracked.attrs |= residual.attrs
    inputs = [path for scan in scans.values() for path in input_files(scan)]
    # A single reference is shared by all frames; otherwise each frame names its own.
    own = {"sample", "reference"} if REFERENCE_FILE in tracked.coords else {"sample"}
    with where.connected() as client:
        if client is not None:
            outputs = [] if URL.match(output) else [Path(output)]
            check_paths(client, inputs=inputs, outputs=outputs)
            if not outputs:
                check_url(client, output, opener=place_of)
        report = write_store(
            output,
            tracked,
            settings={"track": settings.recorded, "files": sources},
            inputs=inputs,
            shared={role: sources_of(scan) for role, scan in scans.items() if role not in own},
        )
    missing = why_missing(open_store(output))
    missing.log(str(report.path))
    frames, path = report.rows
    left = [] if residual is None else residual.rows
    left = [(f"first frame, {name}", value) for name, value in left]
    print_rows("wavedask track", [frames, *missing.rows, *left, path])
    if not missing.matched:
        raise click.exceptions.Exit(FAILED)


@click.command()
@click.argument("scan")
@click.option("--motor-y", required=True, help="Motor that moves the detector along y.")
@click.option("--motor-x", required=True, help="Motor that moves the detector along x.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Result store to write (Zarr); the picture is written next to it.",
)
@dark_option
@flat_option
@click.option(
    "--motors",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file with the positions, one row per frame, if the files hold none.",
)
@click.option("--unit", help="Unit of both motors, such as mm, if the files hold none.")
@click.option(
    "--method",
    type=click.Choice(["global", "gradient"]),
    default="global",
    show_default=True,
    help="global: the whole mesh at once. gradient: the mean derivatives of the report.",
)
@window_option
@click.option(
    "--search",
    type=int,
    default=8,
    show_default=True,
    help="Largest displacement on top of the step, px.",
)
@click.option(
    "--spacing",
    type=float,
    default=16.0,
    show_default=True,
    help="Distance between the control points of the distortion, px.",
)
@cluster_options
def distortion(scan: str, output: Path, where: Where, **settings: Any) -> None:
    """Calibrate a detector from SCAN, a mesh scan of the detector behind a fixed membrane.

    SCAN is a file (bliss.h5::1.1 for one scan of a file), a folder or a quoted glob. Use the result
    as 'distortion' in an experiment file or in wavedask.correct.
    """
    from wavedask.experiment import calibrate

    with where.connected():
        report = calibrate(scan, output, **settings)
    print_rows(
        "wavedask distortion",
        report.rows,
    )
