"""What a wavefront says about the optic that made it."""

from wavedask.optics.aberrations import legendre, remove, zernike
from wavedask.optics.campaign import table
from wavedask.optics.comparison import Comparison, compare
from wavedask.optics.contributions import lens_contributions
from wavedask.optics.focus import find_focus, propagate
from wavedask.optics.kb_pair import KBMirror, KBPair, kb_pair
from wavedask.optics.lens import LensShape, fit_lens
from wavedask.optics.lens_map import fitted_lens
from wavedask.optics.material import refractive_decrement
from wavedask.optics.mirror import Shape as MirrorShape
from wavedask.optics.mirror import mirror
from wavedask.optics.mode_names import Index as ModeIndex
from wavedask.optics.modes import (
    ModalSurface,
    ModeFit,
    evaluate_modes,
    fit_modes,
    gradient_modes,
    mode_orders,
)
from wavedask.optics.spectrum import psd
from wavedask.optics.stitching import stitch
from wavedask.optics.wavefront_modes import fit_wavefront

__all__ = [
    "Comparison",
    "KBMirror",
    "KBPair",
    "LensShape",
    "MirrorShape",
    "ModalSurface",
    "ModeFit",
    "ModeIndex",
    "compare",
    "evaluate_modes",
    "find_focus",
    "fit_lens",
    "fit_modes",
    "fit_wavefront",
    "fitted_lens",
    "gradient_modes",
    "kb_pair",
    "legendre",
    "lens_contributions",
    "mirror",
    "mode_orders",
    "propagate",
    "psd",
    "refractive_decrement",
    "remove",
    "stitch",
    "table",
    "zernike",
]
