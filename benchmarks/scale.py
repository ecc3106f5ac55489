"""Scale: cores, frames, large frames, pulse trains, and clusters that this machine does not have.

Run ``python benchmarks/scale.py --write docs/figures``. Each section writes one table of its own;
``--only`` runs some of them, and leaves the tables of the others as they are. The train runs only
if ``--only train`` asks for it: it takes as long as all others together. Times of processors are
compared where possible: a machine that is busy with other work changes them less than times of the
clock.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import scale_graph
import scale_model
import scale_speed
import scale_train
from figures import show
from scale_rows import Row

from wavedask.compute import cores

Section = Callable[[argparse.Namespace, Path], list[Row]]

SECTIONS: Final[dict[str, tuple[str, Section]]] = {
    "cores": ("Several processes on this machine", scale_speed.cores_section),
    "graph": ("Graph and scheduler against frames of 2048 x 2048 px", scale_graph.section),
    "memory": ("Memory of a worker against the number of frames", scale_speed.memory_section),
    "large": ("One large pair in tiles", scale_speed.large_section),
    "train": ("A train of pulses of 400 x 250 px", scale_train.section),
    "model": ("A cluster, simulated from the measured costs", scale_model.section),
}
LONG: Final = ("train",)
"""Sections that run only if they are asked for."""
HEADINGS: Final = ("what", "measured", "wanted", "verdict")


def main(argv: Sequence[str] | None = None) -> dict[str, list[Row]]:
    """Print a table for each section, and return the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=[name for name in SECTIONS if name not in LONG],
        help="sections to run; by default all but the train",
    )
    parser.add_argument("--workers", type=int, default=cores(), help="processes")
    parser.add_argument("--size", type=int, default=1024, help="side of a frame of a batch, px")
    parser.add_argument("--frames", type=int, default=64, help="frames of a batch")
    parser.add_argument("--repeat", type=int, default=3, help="turns, whose median counts")
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=[10, 1000, 10_000, 100_000],
        help="numbers of frames of the graphs",
    )
    parser.add_argument(
        "--files",
        type=int,
        nargs="+",
        default=[4000, 16_000],
        help="numbers of files of EDF, a frame in each",
    )
    parser.add_argument("--scheduled", type=int, default=4000, help="small frames of a run")
    parser.add_argument(
        "--tasks",
        type=int,
        nargs="+",
        default=[5000, 20_000, 100_000],
        help="numbers of frames of the scheduler, without pixels",
    )
    parser.add_argument(
        "--many",
        type=int,
        nargs="+",
        default=[500, 2000, 8000],
        help="numbers of frames for the memory of the workers",
    )
    parser.add_argument("--large", type=int, default=16384, help="side of the large pair, px")
    parser.add_argument("--tile", type=int, default=1536, help="side of its tiles, px")
    parser.add_argument("--pulses", type=int, default=27_000, help="frames of the train")
    parser.add_argument(
        "--nodes", type=int, nargs="+", default=[1, 10, 100, 1000], help="simulated nodes"
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write Markdown there")
    arguments = parser.parse_args(argv)
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        arguments.found = found
        for section in arguments.only:
            title, measure = SECTIONS[section]
            begin = time.perf_counter()
            found[section] = measure(arguments, Path(name))
            seconds = time.perf_counter() - begin
            show(
                title,
                HEADINGS,
                [_cells(row) for row in [*found[section], Row("time of this table", seconds, "s")]],
                write=arguments.write and arguments.write / f"scale_{section}.md",
            )
    show(
        "All bars",
        HEADINGS,
        [
            (f"{section}: {row.label}", *_cells(row)[1:])
            for section in arguments.only
            for row in found[section]
            if row.verdict
        ],
        write=None,
    )
    return found


def _cells(row: Row) -> tuple[str, str, str, str]:
    return row.label, row.text, row.wanted, row.verdict


if __name__ == "__main__":
    main()
