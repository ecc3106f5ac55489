"""The elements that make speckle: a small source, and a random membrane in its beam."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, sparse

from wavedask.errors import InputError
from wavedask.simulate.speckle import OVERSAMPLING, SPLINE_ORDER, SpeckleField, speckle_field
from wavedask.units import HC_KEV_M

Floats = NDArray[np.float64]
Pair = tuple[float, float]

UNITS_PER_GRAIN: Final = 2.5
"""Grid points per grain on which the random numbers of a membrane are drawn: only 3e-3 of the
amplitude of a Gaussian grain lies beyond the Nyquist frequency of this grid."""
ABSORPTION_MARGIN: Final = 3.0
"""Mean thickness of a membrane, in rms thicknesses: large enough that it never amplifies."""


@dataclass(frozen=True)
class Source:
    """A small, partially coherent source at the origin of the beam.

    Attributes
    ----------
    energy : float, default 17.0
        Photon energy, keV.
    size : (float, float), default (0, 0)
        Root mean square size (y, x) of a Gaussian source, m. Its points are mutually incoherent:
        the image of the source through the grains of the membrane blurs the speckle.
    divergence : (float, float), optional
        Root mean square half-angle (y, x) of the intensity, rad; by default the beam is uniform.

    Raises
    ------
    InputError
        An energy or divergence that is not above zero, or a negative size.
    """

    energy: float = 17.0
    size: Pair = (0.0, 0.0)
    divergence: Pair | None = None

    def __post_init__(self) -> None:
        above_zero("energy", self.energy, "keV")
        if min(self.size) < 0:
            raise InputError(f"size of the source is {self.size} m", "Give zero or more.")
        for angle in self.divergence or ():
            above_zero("divergence", angle, "rad")

    @property
    def wavelength(self) -> float:
        """Wavelength in m."""
        return HC_KEV_M / self.energy


@dataclass(frozen=True)
class Membrane:
    """A thin random screen, such as sandpaper or filter paper.

    Its thickness is periodic Gaussian noise with Gaussian grains, kept as a spline, so that it can
    be moved by any distance without an interpolation error. The same seed gives the same membrane.

    Attributes
    ----------
    position : float
        Distance from the source, m.
    grain : float, default 6e-6
        Full width at half maximum of a grain, m.
    phase : float, default 0.4
        Root mean square phase depth, rad, at the energy of the source.
    absorption : float, default 0.0
        Root mean square of the attenuation exponent (of the intensity). Its mean is three times as
        large. Phase delay and attenuation are both proportional to the thickness.
    size : float, default 1.2e-3
        Period along both axes, m; it must exceed the width of the visible beam.
    seed : int, default 0
        Seed of the random numbers.

    Raises
    ------
    InputError
        A position, grain or size that is not above zero, or a negative phase or absorption.
    """

    position: float
    grain: float = 6e-6
    phase: float = 0.4
    absorption: float = 0.0
    size: float = 1.2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("position", "grain", "size"):
            above_zero(f"{name} of the membrane", getattr(self, name), "m")
        if min(self.phase, self.absorption) < 0:
            raise InputError(
                f"phase is {self.phase} rad, absorption {self.absorption}", "Give zero or more."
            )

    @cached_property
    def _unit(self) -> float:
        """Spacing in m of the points on which the random numbers are drawn."""
        return self.grain / UNITS_PER_GRAIN

    @cached_property
    def _field(self) -> SpeckleField:
        points = int(np.ceil(self.size / self._unit))
        return speckle_field(points, grain=UNITS_PER_GRAIN, contrast=0.1, seed=self.seed)

    @property
    def period(self) -> float:
        """Distance after which the membrane repeats, m."""
        return self._field.period * self._unit

    def thickness(self, y: Floats, x: Floats) -> Floats:
        """Thickness, mean 0 and standard deviation 1, on a grid.

        Parameters
        ----------
        y, x : ndarray, shape (rows,) and (columns,)
            Positions of the rows and columns on the membrane, m.

        Returns
        -------
        ndarray, shape (rows, columns)
        """
        rows, columns = (self._weights(places) for places in (y, x))
        across = np.asarray((columns @ self._field.coefficients.T).T)
        return np.asarray(rows @ across)

    def _weights(self, places: Floats) -> sparse.csr_array:
        """Values of the periodic B-splines at positions on the membrane."""
        length = self._field.coefficients.shape[0]
        scaled = np.asarray(places, np.float64) * (OVERSAMPLING / self._unit)
        spline = interpolate.BSpline.basis_element(
            np.arange(SPLINE_ORDER + 2) - (SPLINE_ORDER + 1) / 2, extrapolate=False
        )
        half = (SPLINE_ORDER + 1) // 2
        nearest = np.floor(scaled).astype(np.intp)[:, None] + np.arange(1 - half, half + 1)
        values = np.nan_to_num(spline(scaled[:, None] - nearest))
        rows = np.broadcast_to(np.arange(scaled.size)[:, None], nearest.shape)
        return sparse.csr_array(
            (values.ravel(), (rows.ravel(), (nearest % length).ravel())),
            shape=(scaled.size, length),
        )

    def transmitted(self, y: Floats, x: Floats) -> NDArray[np.complex64]:
        """Complex amplitude behind the membrane, on a grid as in `thickness`."""
        thickness = self.thickness(y, x)
        if not self.absorption:
            return np.asarray(np.exp(-1j * self.phase * thickness), np.complex64)
        depth = self.absorption / 2 * (ABSORPTION_MARGIN + thickness)
        return np.asarray(np.exp(-1j * self.phase * thickness - depth), np.complex64)

    def slope(self, wavelength: float) -> float:
        """Root mean square deflection of the rays along one axis, rad."""
        sigma = self.grain / np.sqrt(8 * np.log(2))
        return float(self.phase / (np.sqrt(2) * sigma) * wavelength / (2 * np.pi))


def above_zero(name: str, value: Any, unit: str) -> None:
    """Raise an error unless a number is finite and above zero."""
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value} {unit}".rstrip(), "It must be above zero.")
