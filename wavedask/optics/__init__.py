"""What a wavefront says about the optic that made it."""

from wavedask.optics.lens import fit_lens
from wavedask.optics.material import refractive_decrement

__all__ = ["fit_lens", "refractive_decrement"]
