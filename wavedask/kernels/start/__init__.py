"""The start of a tracker: template matching, rigid shifts, maps between two detectors."""

from wavedask.kernels.start.coarse import start_field, start_reach, start_step
from wavedask.kernels.start.images import MaskedImage
from wavedask.kernels.start.matching import Matches, match_points, windows_between
from wavedask.kernels.start.outliers import without_outliers
from wavedask.kernels.start.registration import CENTRES, find_affine, onto_sample, scale_steps
from wavedask.kernels.start.rigid import moved_part, rigid_shift, shifted

__all__ = [
    "CENTRES",
    "MaskedImage",
    "Matches",
    "find_affine",
    "match_points",
    "moved_part",
    "onto_sample",
    "rigid_shift",
    "scale_steps",
    "shifted",
    "start_field",
    "start_reach",
    "start_step",
    "windows_between",
    "without_outliers",
]
