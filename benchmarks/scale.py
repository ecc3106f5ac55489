"""Scale: cores, frames, large frames, pulse trains, and clusters that this machine does not have.

Run ``python benchmarks/scale.py --write docs/figures``. Each section writes one table; ``--only``
runs some of them. Times of processors are compared where possible: a machine that is busy with
other work changes them less than times of the clock.
"""

import argparse
import tempfile
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


def main(argv: Sequence[str] | None = None) -> dict[str, list[Row]]:
    """Print a table for each section, and return the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--workers", type=int, default=cores(), help="processes")
    parser.add_argument("--size", type=int, default=1024, help="side of a frame of a batch, px")
    parser.add_argument("--frames", type=int, default=16, help="frames of a batch")
    parser.add_argument("--repeat", type=int, default=3, help="turns, whose median counts")
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=[10, 100, 1000, 10_000, 100_000],
        help="numbers of frames of the graphs",
    )
    parser.add_argument("--scheduled", type=int, default=4000, help="small frames of a run")
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
            found[section] = measure(arguments, Path(name))
            show(
                title,
                ("what", "measured", "wanted"),
                [(row.label, row.text, row.wanted) for row in found[section]],
                write=arguments.write and arguments.write / f"scale_{section}.md",
            )
    return found


if __name__ == "__main__":
    main()
