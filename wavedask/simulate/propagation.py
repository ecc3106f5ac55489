"""Free-space propagation of a wave in the coordinates of a fan of rays, with its sampling checked.

The phase of a wave that diverges from a source or converges behind a lens is too steep to sample.
Relative to a fan of paraxial rays it is smooth. A ray of the fan has the lab position
``x = h(z) + m(z) X``, where ``h`` is the chief ray and ``m`` the scale of the fan. The wave is

    psi(x) = m^-1 exp[i k (x-h)^2 m' / 2m + i k (x-h) h'] phi(X)

and phi propagates like a parallel beam over the path ``zeta``, with ``d zeta = dz / m^2``; between
two planes it is ``dz / (m_1 m_2)``. This is the Fresnel scaling theorem (Paganin, Coherent X-Ray
Optics, App. B): behind a source at a distance z_1, with m = 1 in the plane of the sample,
``zeta = z_2 / M`` and ``m = M = (z_1 + z_2) / z_1``. A thin lens bends the fan, so that phi
holds only the errors of the lens.
"""

from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from wavedask.conventions import X, Y
from wavedask.errors import InputError

Floats = NDArray[np.float64]
Pair = tuple[float, float]
Wave = NDArray[np.complex64]

OUTER_BAND: Final = 2 / 3
"""Fraction of the Nyquist frequency above which a wave must have no power: its intensity has twice
the bandwidth, and aliases fall above this fraction."""
MAX_OUTER_POWER: Final = 1e-3
"""Largest share of the power above it: the error of the intensity."""


@dataclass(frozen=True, slots=True)
class Fan:
    """A fan of paraxial rays in one plane, per axis (y, x).

    Attributes
    ----------
    position : float
        Distance of the plane from the source, m.
    chief, tilt : (float, float)
        Lab position of the chief ray, m, and its slope, rad.
    scale, divergence : (float, float)
        Lab metres per metre of the fan's own coordinate, and its derivative along the beam, 1/m.
    path : (float, float)
        Path zeta since the plane where the fan began, m.
    """

    position: float
    chief: Pair
    tilt: Pair
    scale: Pair
    divergence: Pair
    path: Pair = (0.0, 0.0)

    @classmethod
    def from_source(cls, position: float, *, source: Pair = (0.0, 0.0)) -> Self:
        """Begin a fan at a distance from a point source, with its chief ray on the lab axis."""
        return cls(
            position=position,
            chief=(0.0, 0.0),
            tilt=(-source[0] / position, -source[1] / position),
            scale=(1.0, 1.0),
            divergence=(1 / position, 1 / position),
        )

    def at(self, position: float) -> Self:
        """Propagate the fan to another plane through free space.

        Raises
        ------
        InputError
            The rays come to a focus before that plane.
        """
        length = position - self.position
        scale = _pair(m + length * d for m, d in zip(self.scale, self.divergence, strict=True))
        if min(scale) <= 0:
            focus = min(m / -d for m, d in zip(self.scale, self.divergence, strict=True) if d < 0)
            raise InputError(
                f"the beam is focused {focus:.4g} m behind the plane at {self.position:.4g} m,"
                f" before the plane at {position:.4g} m",
                "Put the detector between the optic and its focus: behind it, rays have crossed.",
            )
        return replace(
            self,
            position=position,
            chief=_pair(h + length * t for h, t in zip(self.chief, self.tilt, strict=True)),
            scale=scale,
            path=_pair(
                z + length / (a * b) for z, a, b in zip(self.path, self.scale, scale, strict=True)
            ),
        )

    def through(self, power: Pair, center: Pair) -> Self:
        """Pass an ideal lens with these powers (1/f) and this axis."""
        return replace(
            self,
            tilt=_pair(
                t - p * (h - c)
                for t, p, h, c in zip(self.tilt, power, self.chief, center, strict=True)
            ),
            divergence=_pair(
                d - p * m for d, p, m in zip(self.divergence, power, self.scale, strict=True)
            ),
        )


def _pair(values: Any) -> Pair:
    y, x = values
    return float(y), float(x)


def propagate(
    wave: NDArray[np.complexfloating[Any, Any]],
    *,
    wavelength: float,
    spacing: float | Pair,
    distance: float | Pair,
) -> Wave:
    """Propagate a sampled wave through free space by its angular spectrum, paraxially.

    The wave is treated as periodic: leave a guard band around it that stays empty.

    Parameters
    ----------
    wave : ndarray of complex, shape (rows, columns)
        Field in one plane.
    wavelength : float
        Wavelength, m.
    spacing : float or (float, float)
        Distance between its points along y and x, m.
    distance : float or (float, float)
        Propagation distance, m; for a wave in the coordinates of a `Fan`, its path along y and x.

    Returns
    -------
    ndarray of complex64, shape (rows, columns)
        Field in the other plane, without the phase ``2 pi distance / wavelength``.

    Raises
    ------
    InputError
        The sampling is too coarse, or the wave leaves the grid on its way.

    Examples
    --------
    >>> x = np.arange(-64, 64) * 1e-6
    >>> wave = np.exp(-(x**2 + x[:, None]**2) / (20e-6)**2)
    >>> far = propagate(wave, wavelength=1e-10, spacing=1e-6, distance=1.0)
    >>> print(f"{np.sum(abs(far)**2) / np.sum(wave**2):.4f}")
    1.0000
    """
    steps, paths = both(spacing), both(distance)
    return propagated(
        angular_spectrum(wave, spacing=steps), wavelength=wavelength, spacing=steps, path=paths
    )


def both(value: float | Pair) -> Pair:
    """Make a pair (y, x) of one number; leave a pair as it is."""
    return value if isinstance(value, tuple) else (value, value)


def angular_spectrum(wave: NDArray[Any], *, spacing: Pair) -> Wave:
    """Fourier transform of a wave, with a check of its sampling.

    Raises
    ------
    InputError
        The sampling is too coarse for the wave or for its intensity.
    """
    spectrum = np.asarray(fft.fft2(wave.astype(np.complex64, copy=False), workers=1), np.complex64)
    for density, step, name in zip(_marginals(spectrum), spacing, (Y, X), strict=True):
        frequencies = np.abs(fft.fftfreq(density.size))
        share = float(density[frequencies > OUTER_BAND / 2].sum() / density.sum())
        if share > MAX_OUTER_POWER:
            raise InputError(
                f"the wave is sampled every {step:.3g} m along {name}, and {100 * share:.3g} % of"
                f" its power lies beyond two thirds of the Nyquist frequency: it aliases",
                f"At most {100 * MAX_OUTER_POWER:.3g} % may: take a finer grid (oversampling), a"
                " coarser membrane or a weaker optic.",
            )
    return spectrum


def propagated(spectrum: Wave, *, wavelength: float, spacing: Pair, path: Pair) -> Wave:
    """Wave at the end of a path, from its angular spectrum at the beginning.

    Raises
    ------
    InputError
        The wave spreads over more than half the grid: the transfer function is undersampled.
    """
    filters = []
    for axis, (density, step, length) in enumerate(
        zip(_marginals(spectrum), spacing, path, strict=True)
    ):
        frequencies = fft.fftfreq(density.size, step)
        _check_kernel(density, frequencies, wavelength * abs(length), density.size * step, axis)
        phase = -np.pi * wavelength * length * frequencies**2
        filters.append(np.exp(1j * phase).astype(np.complex64))
    moved = spectrum * filters[0][:, None] * filters[1][None, :]
    return np.asarray(fft.ifft2(moved, workers=1, overwrite_x=True), np.complex64)


def _marginals(spectrum: Wave) -> tuple[Floats, Floats]:
    power = spectrum.real**2 + spectrum.imag**2
    return power.sum(axis=1, dtype=np.float64), power.sum(axis=0, dtype=np.float64)


def _check_kernel(
    density: Floats, frequencies: Floats, area: float, width: float, axis: int
) -> None:
    """Raise an error if the edge of the band of a wave moves by more than half the grid."""
    order = np.argsort(np.abs(frequencies))
    within = np.cumsum(density[order]) / density.sum()
    last = min(int(np.searchsorted(within, 1 - MAX_OUTER_POWER)), order.size - 1)
    aside = area * abs(float(frequencies[order[last]]))
    if aside > width / 2:
        raise InputError(
            f"over {area:.3g} m2 (wavelength times path) the wave spreads by"
            f" {aside:.3g} m along {(Y, X)[axis]}, more than half the grid of {width:.3g} m: the"
            " propagation kernel is beyond its Nyquist frequency",
            "Take a larger grid, a shorter distance, or a wave with a narrower band.",
        )
