"""What a wavefront says about the optic that made it."""

from wavedask.optics.aberrations import legendre, remove, zernike
from wavedask.optics.contributions import lens_contributions
from wavedask.optics.lens import fit_lens
from wavedask.optics.lens_map import fitted_lens
from wavedask.optics.material import refractive_decrement
from wavedask.optics.modes import (
    ModalSurface,
    ModeFit,
    evaluate_modes,
    fit_modes,
    gradient_modes,
    mode_orders,
)
from wavedask.optics.wavefront_modes import fit_wavefront

__all__ = [
    "ModalSurface",
    "ModeFit",
    "evaluate_modes",
    "fit_lens",
    "fit_modes",
    "fit_wavefront",
    "fitted_lens",
    "gradient_modes",
    "legendre",
    "lens_contributions",
    "mode_orders",
    "refractive_decrement",
    "remove",
    "zernike",
]
