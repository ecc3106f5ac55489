"""Commands that read files and results: info, init, history, export, report, compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from wavedask.cli.common import FAILED, print_rows
from wavedask.errors import FileError, StoreError

if TYPE_CHECKING:
    from wavedask.io import Motors

PICTURES: Final = (".png", ".svg", ".pdf")
"""How the name of a picture ends."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--scan", "scans", multiple=True, help="Scan of an HDF5 file, such as 1.1; can be repeated."
)
@click.option(
    "--image",
    metavar="PLACE",
    help="Location of the frames: a path in an HDF5 file, or SOURCE[key] in a European XFEL run.",
)
@click.option(
    "--motors",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file with the positions, one row per frame, if the files hold none.",
)
@click.option(
    "--motor",
    "places",
    multiple=True,
    metavar="NAME=PLACE",
    help="A motor and the location of its positions, as for --image; can be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="Also list fixed motors and all counters.")
@click.option(
    "--speckle",
    is_flag=True,
    help="Measure the speckle of the first frame: grains, visibility, noise, and the settings"
    " that suit them.",
)
def info(
    paths: tuple[str, ...],
    scans: tuple[str, ...],
    image: str | None,
    motors: Path | None,
    places: tuple[str, ...],
    everything: bool,
    speckle: bool,
) -> None:
    """Show what is in raw files, folders or result stores.

    Several paths are frames of one scan: quote a glob or let the shell expand it. For an HDF5 file,
    all scans are listed unless --scan or --image selects one.
    """
    given = _motors(motors, places)
    scan = scans[0] if len(scans) == 1 else scans or None
    from wavedask.cli.scans import describe_scan, describe_scans, hdf5_file
    from wavedask.cli.stores import describe_store, is_store
    from wavedask.store import URL

    # A URL is always a store; raw frames are files.
    if len(paths) == 1 and (URL.match(paths[0]) or is_store(paths[0])):
        if speckle:
            raise click.UsageError("--speckle needs raw frames, and this is a result store")
        print_rows(paths[0], describe_store(paths[0]))
        return
    if len(paths) == 1 and scan is None and image is None and hdf5_file(paths[0]):
        from wavedask.io import list_scans

        listed = list_scans(Path(paths[0]))
        print_rows(f"scans of {paths[0]}", describe_scans(listed))
        cameras = [camera for one in listed for camera in one.cameras]
        if len(cameras) != 1:
            return
        # Other scans may be in missing files.
        (scan,) = cameras
    from wavedask.io import open_scan

    stores = [path for path in paths if URL.match(path) or is_store(path)]
    if stores:
        raise click.UsageError(f"{stores[0]} is a result store: give it alone")
    source = paths[0] if len(paths) == 1 else list(paths)
    opened = open_scan(source, scan=scan, image=image, motors=given)
    title = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    print_rows(title, describe_scan(opened, everything=everything))
    if speckle:
        from wavedask.tracking import describe_speckle

        print_rows("speckle of the first frame", describe_speckle(opened).rows)


def _motors(table: Path | None, places: tuple[str, ...]) -> "Motors | None":
    """Motors as `open_scan` takes them, from one of the two options."""
    if table is not None and places:
        raise click.UsageError("--motors and --motor exclude each other: give only one of them")
    pairs = [place.partition("=") for place in places]
    for name, _, where in pairs:
        if not name or not where:
            raise click.UsageError("--motor is NAME=PLACE, such as lens_x=/run/stage/x")
    return {name: where for name, _, where in pairs} or table


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Experiment file to write; by default experiment.yaml in FOLDER.",
)
@click.option("--distance", type=float, help="Distance from optic to detector, m.")
@click.option("--pixel-size", type=float, help="Pixel size, m.")
@click.option("--energy", type=float, help="Photon energy, keV; by default from the files.")
def init(
    folder: Path,
    output: Path | None,
    distance: float | None,
    pixel_size: float | None,
    energy: float | None,
) -> None:
    """Draft a commented experiment file from the files in FOLDER.

    Roles are guessed from the names of files, folders and scans: dark, flat, reference, sample. The
    guesses are printed and stand as comments in the file. Nothing is overwritten.
    """
    from wavedask.experiment import draft_experiment

    file = folder / "experiment.yaml" if output is None else output
    if file.exists():
        raise FileError(f"{file} exists", "Nothing was changed. Give another --output.")
    draft = draft_experiment(
        folder, beside=file.parent, distance=distance, pixel_size=pixel_size, energy=energy
    )
    try:
        file.write_text(draft.text, encoding="utf-8")
    except OSError as error:
        raise FileError(
            f"{file} cannot be written: {error.strerror}", "Check the folder and its permissions."
        ) from error
    rows = [*draft.rows, ("experiment file", str(file))]
    if draft.missing:
        rows.append(("to fill in", ", ".join(draft.missing)))
    print_rows(f"experiment of {folder}", rows)


@click.command()
@click.argument("store")
@click.option(
    "--verify",
    is_flag=True,
    help="Check that the inputs are unchanged, and read all results to check their checksums.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="With --verify: threads that read; one per core."
)
@click.pass_context
def history(context: click.Context, store: str, verify: bool, workers: int | None) -> None:
    """Show how the result STORE was made: runs, settings, versions, inputs.

    With --verify, exit code 1 means that something has changed or is missing.
    """
    from wavedask.cli.stores import describe_history, describe_soundness
    from wavedask.compute import connect
    from wavedask.store import verify as verify_store

    rows = describe_history(store)
    found = None
    if verify:
        with connect("threads", workers=workers):
            found = verify_store(store)
    print_rows(f"history of {store}", rows + (describe_soundness(found) if found else []))
    if found is not None and not found.sound:
        context.exit(FAILED)


@click.command()
@click.argument("store")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["nexus", "tiff", "csv"]),
    help="By default from the ending: .csv, .h5 or .nxs; a folder without an ending for TIFF.",
)
@click.option(
    "--where",
    metavar="CONDITION",
    help="Export only these frames, such as 'lens_x > 0 and energy < 18'.",
)
@click.option(
    "--variable", "variables", multiple=True, help="Export only this variable; can be repeated."
)
def export(
    store: str,
    output: Path,
    file_format: str | None,
    where: str | None,
    variables: tuple[str, ...],
) -> None:
    """Export the result STORE to OUTPUT: a NeXus/HDF5 file, TIFF maps, or a CSV table.

    silx, h5web and other viewers plot a NeXus file when they open it. TIFF maps are one file per
    variable and frame in a folder. The table has one row per frame: motors, and all values that
    are one number per frame.
    """
    from wavedask.export import export_store

    print_rows(
        f"export of {store}",
        export_store(store, output, file_format=file_format, where=where, variables=variables),
    )


@click.command()
@click.argument("store")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML file to write; by default the name of the store with .html, beside it.",
)
@click.option("--frame", type=int, help="Frame to show large; by default the first complete one.")
@click.option("--title", help="Title of the page; by default the path of the store.")
def report(store: str, output: Path | None, frame: int | None, title: str | None) -> None:
    """Write a page about the result STORE, for the logbook: pictures, numbers, errors, provenance.

    The page is one HTML file without links to other files or servers; print it to PDF from a
    browser. A page of an earlier report is replaced. The corrected image is made again from the raw
    frames, if they are still where they were.
    """
    from wavedask.experiment import write_page
    from wavedask.report import report_path

    file = report_path(store) if output is None else output
    page = write_page(store, file, frame=frame, title=title)
    print_rows(f"report of {store}", [("page", str(page))])


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--frame", type=int, default=0, show_default=True, help="Frame of FIRST.")
@click.option("--other-frame", type=int, help="Frame of SECOND; by default the same number.")
@click.option(
    "--register/--no-register",
    default=True,
    help="Move SECOND sideways to where the difference is smallest (default).",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Draw the difference: a new file, {', '.join(PICTURES)}.",
)
def compare(
    first: str,
    second: str,
    frame: int,
    other_frame: int | None,
    register: bool,
    picture: Path | None,
) -> None:
    """Compare a wavefront of the result stores FIRST and SECOND.

    Piston and tilt do not count. A difference over its error of about 1 is explained by noise.
    """
    from wavedask.conventions import COMPLETE, FRAME
    from wavedask.optics import compare as compare_wavefronts
    from wavedask.plot import plot_maps
    from wavedask.store import open_store

    if picture is not None and picture.suffix.lower() not in PICTURES:
        raise click.UsageError(f"--picture {picture} must end with {', '.join(PICTURES)}")
    if picture is not None and picture.exists():
        raise FileError(f"{picture} exists", "It was left as it is: give another --picture.")
    stores, frames = (first, second), (frame, frame if other_frame is None else other_frame)
    wavefronts = []
    for store, number in zip(stores, frames, strict=True):
        opened = open_store(store)
        count = opened.sizes[FRAME]
        if not -count <= number < count:
            raise click.UsageError(f"{store} has the frames 0 to {count - 1}, not {number}")
        single = opened.isel({FRAME: number})
        if COMPLETE.name in single and not single[COMPLETE.name]:
            raise StoreError(
                f"frame {number} of {store} is not complete",
                "Give another --frame or --other-frame; or run the experiment again, which "
                "computes what is missing.",
            )
        wavefronts.append(single)
    found = compare_wavefronts(*wavefronts, register=register)
    rows = found.rows
    if picture is not None:
        maps = [array for array in found.maps.data_vars.values() if array.ndim == 2]
        plot_maps(maps, title=f"{first} minus {second}").savefig(picture)
        rows = [*rows, ("picture", str(picture))]
    print_rows(f"{first} and {second}", rows)
