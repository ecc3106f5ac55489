"""What a wavefront says about the optic that made it."""

from wavedask.optics.lens import fit_lens

__all__ = ["fit_lens"]
