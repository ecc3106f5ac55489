"""The wave of one exposure: its grid, its propagation to a detector, checks against aliasing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from wavedask.conventions import X, Y
from wavedask.errors import InputError
from wavedask.simulate.detector import Detector
from wavedask.simulate.elements import Membrane, Pair, Source
from wavedask.simulate.optics import Optic
from wavedask.simulate.propagation import Wave, angular_spectrum, both, propagated
from wavedask.simulate.rays import OpticalSystem

Floats = NDArray[np.float64]

MAX_BEND: Final = 0.25
"""Largest phase change per grid point, in cycles: half the Nyquist frequency, so that the
intensity does not alias."""
COARSE: Final = 12
"""Pixels between the rays that are traced to find the size of the grid."""
TAIL: Final = 4.0
"""Standard deviations beyond which a Gaussian is neglected."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Points on which a wave is sampled, in the coordinates of its fan.

    Attributes
    ----------
    spacing : (float, float)
        Distance of its points, m.
    y, x : ndarray
        Coordinates of its rows and columns, m.
    fade : (int, int)
        Points at each end of the axes over which the wave fades out, so that nothing wraps around
        to the other side.
    """

    spacing: Pair
    y: Floats
    x: Floats
    fade: tuple[int, int]

    def edge(self) -> NDArray[np.float32]:
        """Amplitude that fades out smoothly at the edges."""
        ramps = []
        for points, fade in zip((self.y.size, self.x.size), self.fade, strict=True):
            ramp = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / fade) ** 2
            ramps.append(np.concatenate([ramp, np.ones(points - 2 * fade), ramp[::-1]]))
        return np.asarray(ramps[0][:, None] * ramps[1], np.float32)


@dataclass(frozen=True)
class Beam:
    """Source, optics and membrane at their positions during an exposure.

    Attributes
    ----------
    source : Source
        Its energy, size and divergence.
    system : OpticalSystem
        Position of the source, and the optics.
    membrane : Membrane or None
        The membrane, if it is in the beam.
    place : (float, float)
        Displacement (y, x) of the membrane, m.
    """

    source: Source
    system: OpticalSystem
    membrane: Membrane | None
    place: Pair

    def grid(
        self,
        detector: Detector,
        places: Sequence[Pair],
        *,
        oversampling: float,
        max_points: int,
    ) -> Grid:
        """Choose a grid that holds every ray to a detector, and a guard band around them.

        Parameters
        ----------
        detector : Detector
            The detector.
        places : sequence of (float, float)
            Its displacements (y, x), m.
        oversampling : float
            Points per pixel.
        max_points : int
            Largest number of points along an axis.

        Returns
        -------
        Grid

        Raises
        ------
        InputError
            The grid needs more points than allowed, or rays cross.
        """
        fan = self.system.fan(detector.position)
        scale, path = np.array(fan.scale), np.array(fan.path)
        size = np.array(both(detector.pixel_size))
        spacing = size.min() / oversampling / scale
        seen = detector.undistorted(*detector.pixels(step=COARSE))
        rays = np.stack(
            [
                self.system.reaching(*detector.lab(*seen, motors=place), detector.position)
                for place in places
            ]
        )
        low, high = np.nanmin(rays, axis=(0, 2, 3)), np.nanmax(rays, axis=(0, 2, 3))
        # How far waves spread: by diffraction at an edge, by scattering in the membrane, by blur.
        fresnel = np.sqrt(self.source.wavelength * path)
        scattered = 0.0
        if self.membrane is not None:
            scattered = TAIL * self.membrane.slope(self.source.wavelength)
        blur = np.hypot(detector.psf, self.blur(detector.position))
        guard = (TAIL * (blur + size)) / scale + 2 * fresnel + scattered * path
        fade = np.ceil(2 * fresnel / spacing).astype(int) + 16
        axes = []
        for axis, name in enumerate((Y, X)):
            width = float(high[axis] - low[axis] + 2 * guard[axis])
            wanted = int(np.ceil(width / spacing[axis])) + 1 + 2 * int(fade[axis])
            points = fft.next_fast_len(wanted, real=True)
            if points > max_points:
                raise InputError(
                    f"the grid needs {points} points along {name}: {spacing[axis]:.3g} m apart"
                    f" over {width:.3g} m of beam and guard bands",
                    f"max_points is {max_points}: raise it, or take a smaller detector or scan, a"
                    " shorter distance, a weaker optic or less oversampling.",
                )
            middle = (low[axis] + high[axis]) / 2
            axes.append(middle + (np.arange(points) - (points - 1) / 2) * spacing[axis])
        return Grid(
            (float(spacing[0]), float(spacing[1])), axes[0], axes[1], (int(fade[0]), int(fade[1]))
        )

    def blur(self, position: float) -> Pair:
        """Find the rms width (y, x) of the image of the source in a plane.

        The image is through the grains of the membrane, or else through the last optic.
        """
        if self.membrane is not None:
            marker = self.membrane.position
        elif self.system.optics:
            marker = self.system.optics[-1][0].position
        else:
            return (0.0, 0.0)
        out, to = self.system.lever(marker, position), self.system.lever(0.0, marker)
        blur_y, blur_x = (
            size * abs(a / b) for size, a, b in zip(self.source.size, out, to, strict=True)
        )
        return blur_y, blur_x

    def intensity(self, grid: Grid, position: float) -> NDArray[np.float32]:
        """Intensity of a point source on a grid, in a plane behind all elements.

        Parameters
        ----------
        grid : Grid
            As from `grid`.
        position : float
            Distance of the plane from the source, m.

        Returns
        -------
        ndarray of float32, shape (rows, columns)
            1 is the beam without membrane and optics, on its axis.

        Raises
        ------
        InputError
            Something aliases, or the membrane repeats in the beam.
        """
        wave = self.wave(grid, position)
        # The optics concentrate the beam compared with its free expansion from the source.
        scale_y, scale_x = self.system.fan(position).scale
        expansion = (position / self.system.start) ** 2 / (scale_y * scale_x)
        return np.asarray((wave.real**2 + wave.imag**2) * np.float32(expansion), np.float32)

    def wave(self, grid: Grid, position: float) -> Wave:
        """Wave on a grid, in a plane behind all elements, without the phase of its fan."""
        wave = np.asarray(grid.edge() * self._profile(grid), np.complex64)
        path = (0.0, 0.0)
        stations: list[tuple[float, Optic | Membrane, Pair]] = [
            (optic.position, optic, center) for optic, center in self.system.optics
        ]
        if self.membrane is not None:
            stations.append((self.membrane.position, self.membrane, self.place))
        for place, item, center in sorted(stations, key=lambda station: station[0]):
            fan = self.system.fan(place)
            wave = self._moved(wave, grid, path, fan.path)
            path = fan.path
            y = fan.chief[0] + fan.scale[0] * grid.y - center[0]
            x = fan.chief[1] + fan.scale[1] * grid.x - center[1]
            if isinstance(item, Membrane):
                _check_membrane(item, y, x, self.source.wavelength)
                wave *= item.transmitted(y, x)
            else:
                self._pass(wave, item, y, x)
        return self._moved(wave, grid, path, self.system.fan(position).path)

    def _profile(self, grid: Grid) -> Floats:
        """Amplitude of the beam of the source, in the first plane."""
        profile = np.ones((1, 1))
        if self.source.divergence is not None:
            for axis, places in enumerate((grid.y[:, None], grid.x[None, :])):
                angle = (places - self.system.source[axis]) / self.system.start
                profile = profile * np.exp(-((angle / self.source.divergence[axis]) ** 2) / 4)
        return profile

    def _moved(self, wave: Wave, grid: Grid, begin: Pair, end: Pair) -> Wave:
        if begin == end:
            return wave
        return propagated(
            angular_spectrum(wave, spacing=grid.spacing),
            wavelength=self.source.wavelength,
            spacing=grid.spacing,
            path=(end[0] - begin[0], end[1] - begin[1]),
        )

    def _pass(self, wave: Wave, optic: Optic, y: Floats, x: Floats) -> None:
        """Apply an optic to a wave in place, without the ideal shape, which the fan has."""
        _check_bend(optic, y, x, self.source.wavelength)
        rows, columns = y[:, None], x[None, :]
        power_y, power_x = optic.power
        # The fan contains the ideal shape, at any position of its chief ray.
        rest = optic.wavefront(rows, columns) + (power_y * rows**2 + power_x * columns**2) / 2
        if np.any(rest):
            wave *= np.exp(2j * np.pi / self.source.wavelength * rest).astype(np.complex64)
        attenuation = optic.attenuation(rows, columns, wavelength=self.source.wavelength)
        if attenuation is not None:
            wave *= np.exp(-attenuation / 2).astype(np.float32)


def _check_membrane(membrane: Membrane, y: Floats, x: Floats, wavelength: float) -> None:
    """Raise an error if a membrane repeats in the beam or is too fine for the grid."""
    for places in (y, x):
        width = float(np.ptp(places))
        if width > membrane.period:
            raise InputError(
                f"the beam is {width:.4g} m wide on the membrane, which repeats after"
                f" {membrane.period:.4g} m",
                f"Give the membrane a size of {1.05 * width:.2g} m or more.",
            )
        step = width / (places.size - 1)
        cycles = TAIL * membrane.slope(wavelength) * step / wavelength
        if cycles > MAX_BEND:
            raise InputError(
                f"the phase of the membrane changes by {cycles:.2g} cycles per grid point"
                f" ({step:.3g} m), at {TAIL:g} standard deviations",
                f"At most {MAX_BEND} is sampled: multiply oversampling by"
                f" {cycles / MAX_BEND:.2f}, or take coarser grains or less phase.",
            )


def _check_bend(optic: Optic, y: Floats, x: Floats, wavelength: float) -> None:
    """Raise an error if the phase of an optic, beyond its ideal shape, is too steep to sample."""
    rows, columns = y[::4, None], x[None, ::4]
    power_y, power_x = optic.power
    slope_y, slope_x = optic.slope(rows, columns)
    for name, rest, places in (
        (Y, slope_y + power_y * rows, y),
        (X, slope_x + power_x * columns, x),
    ):
        step = float(np.ptp(places)) / (places.size - 1)
        cycles = float(np.abs(rest).max()) * step / wavelength
        if cycles > MAX_BEND:
            raise InputError(
                f"{type(optic).__name__} at {optic.position:.4g} m: its phase beyond the ideal lens"
                f" changes by {cycles:.2g} cycles per grid point ({step:.3g} m) along {name}",
                f"At most {MAX_BEND} is sampled: multiply oversampling by"
                f" {cycles / MAX_BEND:.2f}, or take weaker errors or a wider aperture.",
            )
