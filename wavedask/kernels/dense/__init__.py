"""The dense tracker: refinement of the displacement of every pixel, and how good it is."""

from wavedask.kernels.dense.block import Dense
from wavedask.kernels.dense.detectornoise import DetectorNoise
from wavedask.kernels.dense.residual import ResidualParts, residual_parts

__all__ = [
    "Dense",
    "DetectorNoise",
    "ResidualParts",
    "residual_parts",
]
