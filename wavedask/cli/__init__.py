"""The command line: from a look at the files to a result."""

import io
import logging
import sys

import click
from rich.console import Console
from rich.logging import RichHandler

from wavedask.cli.clusters import cluster
from wavedask.cli.common import Commands
from wavedask.cli.compute import demo, distortion, run, track
from wavedask.cli.look import compare, export, history, info, init, report


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wavedask", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks and every log message.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Measure the wavefront of an X-ray beam from images of speckle.

    \b
    Start here:
      wavedask demo                 simulate a campaign, analyse it, compare with the truth
      wavedask info FOLDER          show what the files contain
      wavedask init FOLDER          draft an experiment file from the files
      wavedask run --plan EXP.yaml  show the size of a run, without running it
      wavedask run EXP.yaml         from raw frames to a wavefront; run again to resume
      wavedask report STORE         write a page for the logbook: pictures, numbers, errors
      wavedask compare A B          compare two wavefronts
      wavedask history STORE        show how a result was made
      wavedask export STORE FILE    save a result for other programs: NeXus, TIFF, CSV
      wavedask distortion SCAN ...  calibrate a detector from a mesh scan
      wavedask cluster list         where to compute: this machine, SLURM, a gateway, Kubernetes

    Lengths are in m, energies in keV, windows and displacements in px. Existing results are never
    overwritten.

    Exit code 0: success; 1: failure; 2: error in the input.
    """  # noqa: D301 (click reads the backspace as "do not wrap this paragraph")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show µ or … prints a question mark, and not an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Show only our own messages, not the internal ones of the cluster.
    logger = logging.getLogger("wavedask")
    before = logger.level
    handler = RichHandler(console=Console(stderr=True), show_path=debug, show_time=debug)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.addHandler(handler)
    context.call_on_close(lambda: logger.removeHandler(handler))
    context.call_on_close(lambda: logger.setLevel(before))


for command in (
    *(demo, info, init, run, report, compare, history),
    *(export, track, distortion, cluster),
):
    main.add_command(command)
