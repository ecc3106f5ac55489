"""Integration: two slope maps to the surface that has them."""

from wavedask.kernels.surface.integration import (
    Solution,
    frankot_chellappa,
    grad2surf,
    least_squares,
)
from wavedask.kernels.surface.noise import (
    AREA,
    SurfaceNoise,
    mean_window,
    spread,
    surface_noise,
    surface_uncertainty,
)

__all__ = [
    "AREA",
    "Solution",
    "SurfaceNoise",
    "frankot_chellappa",
    "grad2surf",
    "least_squares",
    "mean_window",
    "spread",
    "surface_noise",
    "surface_uncertainty",
]
