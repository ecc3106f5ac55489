"""The dense tracker: refinement of the displacement of every pixel, and how good it is."""

from wavedask.kernels.dense.block import Dense
from wavedask.kernels.dense.residual import ResidualParts, residual_parts

__all__ = [
    "Dense",
    "ResidualParts",
    "residual_parts",
]
