"""From displacements to slopes, wavefront and curvature, with the budget of errors."""

from wavedask.wavefront.error_budget import NEEDED, Budget, budget
from wavedask.wavefront.integration import Method, integrate
from wavedask.wavefront.noise import surface_uncertainty
from wavedask.wavefront.numbers import frame_numbers
from wavedask.wavefront.physical import wavefront

__all__ = [
    "NEEDED",
    "Budget",
    "Method",
    "budget",
    "frame_numbers",
    "integrate",
    "surface_uncertainty",
    "wavefront",
]
