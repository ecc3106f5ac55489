"""Frames by their motors: queries, grids, pairs, roles, and the files they came from."""

from wavedask.frames.images import dataset_of, for_correction, image_of, matched_pair, of_one_set_up
from wavedask.frames.labels import aligned, common_pixels, covering
from wavedask.frames.masks import (
    DECLARED,
    BadValues,
    GivenMask,
    MaskRule,
    masked_array,
    masked_images,
)
from wavedask.frames.motors import listed, metres_per_unit, names_of, positions
from wavedask.frames.pairing import TrainReference, paired_frames, train_pairs
from wavedask.frames.picking import pick_frames
from wavedask.frames.queries import nearest, select, where_motors
from wavedask.frames.regrid import grid
from wavedask.frames.roles import select_roles
from wavedask.frames.scangrid import ScanGrid, scan_grid
from wavedask.frames.sources import (
    ORIGIN,
    Sources,
    behind_inputs,
    frame_files,
    origins_of,
    positions_of,
    reference_coordinates,
    sources_of,
    stack_coordinates,
    without_keys,
)

__all__ = [
    "DECLARED",
    "ORIGIN",
    "BadValues",
    "GivenMask",
    "MaskRule",
    "ScanGrid",
    "Sources",
    "TrainReference",
    "aligned",
    "behind_inputs",
    "common_pixels",
    "covering",
    "dataset_of",
    "for_correction",
    "frame_files",
    "grid",
    "image_of",
    "listed",
    "masked_array",
    "masked_images",
    "matched_pair",
    "metres_per_unit",
    "names_of",
    "nearest",
    "of_one_set_up",
    "origins_of",
    "paired_frames",
    "pick_frames",
    "positions",
    "positions_of",
    "reference_coordinates",
    "scan_grid",
    "select",
    "select_roles",
    "sources_of",
    "stack_coordinates",
    "train_pairs",
    "where_motors",
    "without_keys",
]
