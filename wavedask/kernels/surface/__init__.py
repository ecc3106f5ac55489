"""Integration: two slope maps to the surface that has them."""

from wavedask.kernels.surface.integration import (
    Solution,
    frankot_chellappa,
    grad2surf,
    least_squares,
)

__all__ = [
    "Solution",
    "frankot_chellappa",
    "grad2surf",
    "least_squares",
]
