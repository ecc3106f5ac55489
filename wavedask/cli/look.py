"""Commands that look at what is there: info, history, export."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavedask.cli.common import FAILED, print_rows

if TYPE_CHECKING:
    from wavedask.io import Motors


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--scan", "scans", multiple=True, help="Scan of an HDF5 file, such as 1.1; may be repeated."
)
@click.option(
    "--image",
    metavar="PLACE",
    help="Where the frames are: a path in an HDF5 file, or SOURCE[key] in a run of the XFEL.",
)
@click.option(
    "--motors",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file with the positions, a row per frame, where the files name none.",
)
@click.option(
    "--motor",
    "places",
    multiple=True,
    metavar="NAME=PLACE",
    help="A motor, and the place of its positions, as for --image; may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="List still motors and all counters, too.")
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

    Several paths are frames of one scan: quote a glob or let the shell expand it. Of an HDF5 file
    all scans are listed, unless --scan or --image chooses one.
    """
    given = _motors(motors, places)
    scan = scans[0] if len(scans) == 1 else scans or None
    from wavedask.cli.summary import (
        describe_scan,
        describe_scans,
        describe_store,
        hdf5_file,
        is_store,
    )
    from wavedask.store import URL

    # Raw frames are files: what is not there, or may not be seen, is a store as well.
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
        # Other scans may be in files that are not there.
        (scan,) = cameras
    from wavedask.io import open_scan

    source = paths[0] if len(paths) == 1 else list(paths)
    opened = open_scan(source, scan=scan, image=image, motors=given)
    title = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    print_rows(title, describe_scan(opened, everything=everything))
    if speckle:
        from wavedask.tracking import describe_speckle

        print_rows("speckle of the first frame", describe_speckle(opened).rows)


def _motors(table: Path | None, places: tuple[str, ...]) -> "Motors | None":
    """Motors as open_scan() takes them, of either option."""
    if table is not None and places:
        raise click.UsageError("--motors and --motor exclude each other: give one of them")
    pairs = [place.partition("=") for place in places]
    for name, _, where in pairs:
        if not name or not where:
            raise click.UsageError("--motor is NAME=PLACE, such as lens_x=/run/stage/x")
    return {name: where for name, _, where in pairs} or table


@click.command()
@click.argument("store")
@click.option(
    "--verify",
    is_flag=True,
    help="Look whether the inputs are still the same, and the results still there.",
)
@click.pass_context
def history(context: click.Context, store: str, verify: bool) -> None:
    """Show how the result STORE came about: runs, settings, versions, inputs.

    With --verify, exit code 1 says that something has changed or is missing.
    """
    from wavedask.cli.summary import describe_history, describe_soundness
    from wavedask.store import verify as verify_store

    rows = describe_history(store)
    found = verify_store(store) if verify else None
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
    help="By default by the ending: .csv, .h5 or .nxs, a folder without one for TIFF maps.",
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

    print_rows(
        f"export of {store}",
        export_store(store, output, file_format=file_format, where=where, variables=variables),
    )
