"""The dense tracker: refinement of the displacement of every pixel, and how good it is."""

from wavedask.kernels.dense.block import Dense

__all__ = [
    "Dense",
]
