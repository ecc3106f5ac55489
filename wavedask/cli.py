"""The command line: it walks as the user does, from a look at the files to a result."""

import io
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from wavedask.conventions import FRAME
from wavedask.errors import WavedaskError

if TYPE_CHECKING:
    from wavedask.experiment import Experiment
    from wavedask.stages import Stages

FAILED: Final = 1
BAD_INPUT: Final = 2

MAX_WIDTH: Final = 2000
"""Columns of a table that is not shown on a terminal."""


class _Commands(click.Group):
    """Commands whose foreseen errors are one message and no traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            _complain("Stopped.", "What was written is kept; run it again to resume.")
            context.exit(FAILED)
        except Exception as error:
            if context.params.get("debug"):
                traceback.print_exc()
            if isinstance(error, WavedaskError):
                _complain("Error:", str(error))
                context.exit(BAD_INPUT)
            if isinstance(error, OSError):
                _complain("Failed:", f"{error}. Check permissions, free space and the path.")
                context.exit(BAD_INPUT if isinstance(error, PermissionError) else FAILED)
            _complain(
                "Failed:",
                f"{type(error).__name__}: {error}\nThis is not an error that wavedask foresaw: run "
                "it again as 'wavedask --debug ...' and report what it prints.",
            )
            context.exit(FAILED)


def _complain(headline: str, message: str) -> None:
    # As Text, because paths may hold what rich takes for markup.
    line = Text.assemble((headline, "bold red"), " ", message)
    Console(stderr=True).print(line, soft_wrap=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wavedask", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks and every log message.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Measure the wavefront of an X-ray beam from images of speckle.

    \b
    Start here:
      wavedask demo                 simulate a campaign, analyse it, compare with the truth
      wavedask info FOLDER          what is in my files?
      wavedask run --plan EXP.yaml  what will it take?
      wavedask run EXP.yaml         from raw frames to a wavefront; run again to resume
      wavedask history STORE        how did this result come about?
      wavedask export STORE FILE    a result for other programs: NeXus, TIFF, CSV
      wavedask distortion SCAN ...  calibrate a detector from a mesh scan

    Lengths are in m, energies in keV, windows and displacements in px. A folder that was written
    is never overwritten.

    Exit code 0: done; 1: failed; 2: something in the input is wrong.
    """  # noqa: D301 (click takes the backspace for "leave these lines as they are")
    for stream in (sys.stdout, sys.stderr):
        # A terminal without µ or … shows a question mark, rather than no result.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Only our own messages: those of the cluster are about its housekeeping.
    logger = logging.getLogger("wavedask")
    before = logger.level
    handler = RichHandler(console=Console(stderr=True), show_path=debug, show_time=debug)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.addHandler(handler)
    context.call_on_close(lambda: logger.removeHandler(handler))
    context.call_on_close(lambda: logger.setLevel(before))


def _cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say where to compute."""
    command = click.option(
        "--workers", type=click.IntRange(min=1), help="Processes (or threads); one per core."
    )(command)
    return click.option(
        "--address",
        metavar="ADDRESS",
        help="Dask scheduler to use, as tcp://host:8786, or 'threads'; by default a cluster of "
        "processes on this machine.",
    )(command)


@main.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("wavedask-demo"),
    show_default=True,
    help="Where to put raw frames, experiment file, result and picture.",
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
    help="Positions of the lens, a frame each.",
)
@_cluster_options
def demo(output: Path, side: int, positions: int, address: str | None, workers: int | None) -> None:
    """Simulate a campaign, analyse it and compare with the truth.

    Writes raw EDF frames of a beryllium lens as a beamline would, an experiment file, the result
    store and a picture. A second run into the same folder resumes; it overwrites nothing.
    """
    from wavedask.cluster import connect
    from wavedask.demo import EXPERIMENT, run_demo

    with connect(address, workers=workers):
        report = run_demo(output, side=side, positions=positions)
    store = report.run.store
    rate = report.points * store.written / report.run.seconds
    rows = [
        ("frames", f"{store.frames} ({store.written} computed now, {store.kept} kept)"),
        ("pixels per frame", f"{report.shape[0]} x {report.shape[1]} px"),
        ("points matched", f"{report.points * store.frames:,} ({report.points:,} per frame)"),
        ("points per second", f"{rate:,.0f}" if store.written else "- (nothing left to compute)"),
        ("time of the pipeline", f"{report.run.seconds:.1f} s"),
        (
            "pixels without a match",
            f"{100 * report.marked:.1f} % (borders, whose speckle the reference does not hold)",
        ),
        ("flat pixels without beam", f"{report.run.blind_pixels}"),
        ("lens radius, true", f"{report.radius_true * 1e6:.3f} µm"),
        (
            "lens radius, recovered",
            f"{report.radius_found * 1e6:.3f} ± {report.radius_spread * 1e6:.3f} µm "
            f"({100 * (report.radius_found / report.radius_true - 1):+.2f} %)",
        ),
        (
            "rms wavefront error",
            f"{report.error_rms * 1e9:.5f} nm of {report.wavefront_range * 1e9:.2f} nm",
        ),
        ("experiment file", str(output / EXPERIMENT)),
        ("result store", str(store.path)),
        ("picture", str(report.picture)),
    ]
    _print_rows("wavedask demo", rows)


def _print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        # As Text, because "[rad]" is not meant as markup.
        table.add_row(Text(name), Text(value))
    # In a file or a pipe a line is as long as it is: what reads it may look for a path.
    Console(width=None if sys.stdout.isatty() else MAX_WIDTH).print(table)


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--scan", help="Scan of an HDF5 file, such as 1.1.")
@click.option("--all", "everything", is_flag=True, help="List the motors that stand still, too.")
def info(paths: tuple[str, ...], scan: str | None, everything: bool) -> None:
    """Show what is in raw files, folders or result stores.

    Several paths are frames of one scan: quote a glob or let the shell expand it. Of an HDF5 file
    all scans are listed, unless --scan chooses one.
    """
    from wavedask.summary import describe_scan, describe_scans, describe_store, hdf5_file, is_store

    if len(paths) == 1 and is_store(paths[0]):
        _print_rows(paths[0], describe_store(paths[0]))
        return
    if len(paths) == 1 and scan is None and hdf5_file(paths[0]):
        from wavedask.io.hdf5 import list_scans

        listed = list_scans(Path(paths[0]))
        _print_rows(f"scans of {paths[0]}", describe_scans(listed))
        if sum(len(one.cameras) for one in listed) != 1:
            return
    from wavedask.io import open_scan

    opened = open_scan(list(paths), scan=scan)
    title = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    _print_rows(title, describe_scan(opened, everything=everything))


@main.command()
@click.argument("experiment", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--plan", "only_plan", is_flag=True, help="Say what it will take, and stop.")
@click.option(
    "--from", "store", metavar="STORE", help="Make this result again, instead of EXPERIMENT."
)
@click.option("--output", help="With --from: the new result store.")
@click.option("--hash", "hashed", is_flag=True, help="Keep the SHA-256 of every input.")
@_cluster_options
def run(
    experiment: Path | None,
    only_plan: bool,
    store: str | None,
    output: str | None,
    hashed: bool,
    address: str | None,
    workers: int | None,
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

    With two detectors, 'near' and 'far' take the place of sample and reference, each with its own
    files, dark, flat and distortion, and 'wavefront' has mode: absolute and two distances.

    If the store was begun with the same settings and files, only what is missing is computed; new
    sample frames are appended. 'wavedask run --from results.zarr --output again.zarr' makes a
    result again from the settings that it remembers.
    """  # noqa: D301 (as above)
    from wavedask.experiment import load_experiment
    from wavedask.places import place_of
    from wavedask.reproduce import check_inputs, experiments_of
    from wavedask.stages import stages

    if (experiment is None) == (store is None) or (store is None) != (output is None):
        raise click.UsageError("give an EXPERIMENT file, or both --from STORE and --output STORE")
    if experiment is not None:
        asked = load_experiment(experiment)
        _run_one(str(experiment), asked, stages(asked), only_plan, hashed, address, workers)
        return
    for again in experiments_of(str(store), output=place_of(str(output)).text):
        prepared = stages(again)
        check_inputs(str(store), prepared.inputs)
        _run_one(f"from {store}", again, prepared, only_plan, hashed, address, workers)


def _run_one(
    title: str,
    asked: "Experiment",
    prepared: "Stages",
    only_plan: bool,
    hashed: bool,
    address: str | None,
    workers: int | None,
) -> None:
    """Run one experiment, or say what it will take."""
    from wavedask.cluster import connect
    from wavedask.pipeline import run as run_experiment
    from wavedask.sections import Cluster
    from wavedask.summary import describe_plan

    if only_plan:
        _print_rows(f"plan of {title}", describe_plan(prepared))
        return
    where = asked.cluster
    if address is not None:
        # Another place altogether: the number of workers in the file was for the one in the file.
        where = Cluster(address=address)
    with connect(where.address, workers=where.workers if workers is None else workers):
        report = run_experiment(asked, prepared=prepared, hashed=hashed)
    _print_rows(
        title,
        [
            (
                "frames",
                f"{report.store.frames} ({report.store.written} computed now, "
                f"{report.store.kept} kept)",
            ),
            ("flat pixels without beam", f"{report.blind_pixels}"),
            ("time", f"{report.seconds:.1f} s"),
            ("result store", str(report.store.path)),
        ],
    )
    if asked.wavefront.mode == "absolute":
        from wavedask import budget, open_store

        # A relative error of a pixel size is a hundred times larger in the radius: say so here.
        first = open_store(report.store.path).isel({FRAME: 0})
        click.echo(f"\nErrors of the first frame:\n{budget(first)}")


@main.command()
@click.argument("store")
@click.option("--verify", is_flag=True, help="Look whether the inputs are still the same.")
def history(store: str, verify: bool) -> None:
    """Show how the result STORE came about: runs, settings, versions, inputs."""
    from wavedask.summary import describe_history

    _print_rows(f"history of {store}", describe_history(store, verify=verify))


@main.command()
@click.argument("store")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["nexus", "tiff", "csv"]),
    help="By default by the ending: .csv, a folder without one for TIFF maps, else NeXus.",
)
@click.option("--where", metavar="CONDITION", help="Frames, such as 'lens_x > 0 and energy < 18'.")
@click.option("--variable", "variables", multiple=True, help="Only this; may be repeated.")
def export(
    store: str,
    output: Path,
    file_format: str | None,
    where: str | None,
    variables: tuple[str, ...],
) -> None:
    """Export the result STORE to OUTPUT: a NeXus/HDF5 file, TIFF maps, or a CSV table.

    A NeXus file opens plotted in silx, h5web and other viewers. TIFF maps are one file per
    variable and frame in a folder. The table has a row per frame: motors, and all that is one
    number per frame.
    """
    from wavedask.export import export_store

    _print_rows(
        f"export of {store}",
        export_store(store, output, file_format=file_format, where=where, variables=variables),
    )


@main.command()
@click.argument("sample")
@click.argument("reference")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="Result store to write (Zarr)."
)
@click.option("--dark", help="Frames without beam.")
@click.option("--flat", help="Frames without membrane.")
@click.option("--window", type=int, default=21, show_default=True, help="Side of the window, px.")
@click.option("--largest-window", type=int, help="Let the window grow up to this side, px.")
@click.option(
    "--search",
    type=int,
    default=16,
    show_default=True,
    help="Largest displacement beyond the rigid shift, px.",
)
@click.option(
    "--engine",
    type=click.Choice(["dense", "opencv"]),
    default="dense",
    show_default=True,
    help="Every pixel by Gauss-Newton, or the report's loop of template matches.",
)
@click.option("--step", type=int, help="Distance of points, px; engine opencv only, there 4.")
@_cluster_options
def track(
    sample: str,
    reference: str,
    output: Path,
    dark: str | None,
    flat: str | None,
    window: int,
    largest_window: int | None,
    search: int,
    engine: Any,
    step: int | None,
    address: str | None,
    workers: int | None,
) -> None:
    """Track SAMPLE frames in REFERENCE frames, without going on to a wavefront.

    SAMPLE and REFERENCE are files, folders or quoted globs; one reference serves all samples.
    """
    from wavedask import correct, input_files, open_scan, write_store
    from wavedask import track as track_frames
    from wavedask.cluster import connect
    from wavedask.sections import Track

    given = {"sample": sample, "reference": reference, "dark": dark, "flat": flat}
    sources = {role: str(Path(path).absolute()) for role, path in given.items() if path is not None}
    # Not checked here: track() does, and its message is for users of this command, too.
    settings = Track.model_construct(
        window=window if largest_window is None else (window, largest_window),
        engine=engine,
        search=search,
        step=step,
    )
    scans = {role: open_scan(path) for role, path in sources.items()}
    images, targets = (
        correct(scans[role], dark=scans.get("dark"), flat=scans.get("flat"))
        for role in ("sample", "reference")
    )
    tracked = track_frames(images, targets, **dict(settings))
    with connect(address, workers=workers):
        report = write_store(
            output,
            tracked,
            settings={"track": settings.model_dump(mode="json"), "files": sources},
            inputs=[path for scan in scans.values() for path in input_files(scan)],
        )
    _print_rows(
        "wavedask track",
        [
            ("frames", f"{report.frames} ({report.written} computed now, {report.kept} kept)"),
            ("result store", str(report.path)),
        ],
    )


@main.command()
@click.argument("scan")
@click.option("--motor-y", required=True, help="Motor that moves the detector along y.")
@click.option("--motor-x", required=True, help="Motor that moves it along x.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Result store to write (Zarr); the picture is put beside it.",
)
@click.option("--dark", help="Frames without beam.")
@click.option("--flat", help="Frames without membrane.")
@click.option(
    "--motors",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file with the positions, a row per frame, where the files name none.",
)
@click.option("--unit", help="Unit of both motors, such as mm, where it is not known.")
@click.option(
    "--method",
    type=click.Choice(["global", "gradient"]),
    default="global",
    show_default=True,
    help="The whole mesh at once, or the report's mean derivatives.",
)
@click.option("--window", type=int, default=21, show_default=True, help="Side of the window, px.")
@click.option(
    "--search",
    type=int,
    default=8,
    show_default=True,
    help="Largest displacement beyond the step, px.",
)
@click.option(
    "--spacing",
    type=float,
    default=16.0,
    show_default=True,
    help="Distance of the control points of the distortion, px.",
)
@_cluster_options
def distortion(
    scan: str, output: Path, address: str | None, workers: int | None, **settings: Any
) -> None:
    """Calibrate a detector from SCAN, a mesh scan of it in front of speckle.

    SCAN is a file, a folder or a quoted glob. The result goes to 'wavedask.correct' as distortion.
    """
    from wavedask.calibration import calibrate, describe_calibration
    from wavedask.cluster import connect

    with connect(address, workers=workers):
        report = calibrate(scan, output, **settings)
    _print_rows(
        "wavedask distortion",
        [
            *describe_calibration(report.calibration),
            ("time", f"{report.seconds:.1f} s"),
            ("result store", str(report.store.path)),
            ("picture", str(report.picture)),
        ],
    )
