"""Scenes of a real detector with known displacement: what `benchmarks/trust.py` measures on.

Every function takes a seed and the side of the frame in pixels, and returns a `Scene`: sample,
reference, the true displacement, and the pixels that count. There are three ways to make one:

* `drawn`: the speckle of `wavedask.simulate.speckle_field`, evaluated where the rays come from;
* `splat`: rays go forward from the reference to the sample and are summed by a non-uniform Fourier
  transform (ducc0); the speckle is a direct Fourier series. It shares no code with the first way;
* wave optics, by the virtual beamline.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import ducc0
import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from wavedask.simulate import SAMPLE, Source, absolute_beamline, speckle_field

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Field = Callable[[Floats, Floats, int], tuple[Any, Any]]
Map = Callable[[Floats, Floats, int], Any]

WINDOW: Final = 21
"""Side of the tracker's window in pixels, for which the scenes are laid out."""
BORDER: Final = 2 * WINDOW
"""Pixels at the border that do not count, where a scene does not say otherwise."""
SHIFT: Final = (0.37, -1.62)
COUNTS: Final = 8000.0
CONTRAST: Final = 0.25
GRAIN: Final = 4.0
FWHM: Final = float(np.sqrt(8 * np.log(2)))
"""Full width at half maximum of a Gaussian over its standard deviation."""
EDGE_WIDTH: Final = 3.0
"""Pixels within which the transmission of an edge rises from 10 to 90 %."""
RAYS: Final = 3
"""Rays per pixel of a splat, along each axis."""


@dataclass(frozen=True)
class Scene:
    """One simulated measurement.

    Attributes
    ----------
    sample, reference : ndarray of float32, shape (y, x)
        Images in counts.
    true_y, true_x : ndarray of float64, shape (y, x)
        True displacement in px: ``sample(p) = reference(p - u)``; NaN where there is none.
    counted : ndarray of bool, shape (y, x)
        Pixels over which errors are summed up.
    transmission, dark_field : ndarray or float
        True ratio of the means, and of the relative visibilities.
    """

    sample: Images
    reference: Images
    true_y: Floats
    true_x: Floats
    counted: Mask
    transmission: Any = 1.0
    dark_field: Any = 1.0


def rigid(y: Floats, x: Floats, size: int) -> tuple[Any, Any]:
    """Shift all pixels alike."""
    return SHIFT


def cubic(y: Floats, x: Floats, size: int) -> tuple[Any, Any]:
    """Displace by spherical aberration: 6 px at the middle of each side."""
    down, across = 2 * y / size - 1, 2 * x / size - 1
    square = down**2 + across**2
    return 6 * square * down, 6 * square * across


def wave(y: Floats, x: Floats, size: int) -> tuple[Any, Any]:
    """Displace by 0.2 sin cos px with a period of 60 px."""
    k = 2 * np.pi / 60
    return 0.2 * np.sin(k * y) * np.cos(k * x), 0.2 * np.cos(k * y) * np.sin(k * x)


def inside_border(size: int, border: int = BORDER) -> Mask:
    """Pixels that are not at the border."""
    counted = np.zeros((size, size), np.bool_)
    counted[border:-border, border:-border] = True
    return counted


def at_border(size: int) -> Mask:
    """Pixels within two windows of the border."""
    return ~inside_border(size)


def grid(size: int) -> tuple[Floats, Floats]:
    """Row and column of every pixel."""
    y, x = np.mgrid[:size, :size].astype(np.float64)
    return y, x


def drawn(
    seed: int,
    size: int,
    *,
    field: Field = rigid,
    transmission: Map | None = None,
    grain: float = GRAIN,
    contrast: float = CONTRAST,
    counts: float = COUNTS,
    lost: float = 0.0,
    blur: float = 0.0,
    pattern: float = 0.0,
    longer: float = 1.0,
    counted: Mask | None = None,
) -> Scene:
    """Evaluate speckle where the rays come from, and count photons.

    Parameters
    ----------
    seed, size : int
        Of the pattern and the noise; side of the frame in pixels.
    field : callable
        Displacement (y, x) at the pixels of the sample.
    transmission : callable, optional
        Of the sample.
    grain, contrast, counts
        Of the reference.
    lost : float
        Part of the speckle of the sample that another pattern replaces; its correlation with the
        reference is one minus this.
    blur : float
        Full width at half maximum, in pixels, of the light that one photon makes: noise is
        correlated over it. The speckle of grain `grain` is blurred too.
    pattern : float
        Relative standard deviation of the fixed gain of the pixels, common to both images.
    longer : float
        Exposure of the reference over that of the sample.
    counted : ndarray of bool, optional
        By default all pixels but those at the border.

    Returns
    -------
    Scene
    """
    y, x = grid(size)
    u_y, u_x = (
        np.broadcast_to(np.asarray(part, np.float64), y.shape) for part in field(y, x, size)
    )
    margin = int(np.ceil(max(np.abs(u_y).max(), np.abs(u_x).max()))) + 1
    speckle = speckle_field(size + 2 * margin, grain=grain, contrast=contrast, seed=seed)
    bright = speckle(y - u_y, x - u_x)
    if lost:
        other = speckle_field(
            size + 2 * margin, grain=grain, contrast=contrast, seed=seed + 1_000_000
        )
        kept = 1 - lost
        bright = 1 + kept * (bright - 1) + np.sqrt(1 - kept**2) * (other(y, x) - 1)
    absorbed = 1.0 if transmission is None else transmission(y, x, size)
    gain = 1 + pattern * np.random.default_rng([seed, 2]).standard_normal(y.shape)
    rng = np.random.default_rng([seed, 1])
    images = []
    for image in (bright * absorbed, longer * speckle(y, x)):
        seen = rng.poisson(counts * gain * np.maximum(image, 0)).astype(np.float64)
        if blur:
            seen = ndimage.gaussian_filter(seen, blur / FWHM, mode="reflect")
        images.append(seen.astype(np.float32))
    return Scene(
        images[0],
        images[1],
        u_y,
        u_x,
        inside_border(size) if counted is None else counted,
        absorbed,
    )


def splat(
    seed: int,
    size: int,
    *,
    field: Field = rigid,
    transmission: Map | None = None,
    blur: float = 0.0,
    counts: float = COUNTS,
    counted: Mask | None = None,
) -> Scene:
    """Send rays forward from the reference to the sample, and sum them up by a Fourier transform.

    Rays on a grid of three per pixel carry the intensity of the reference, a Fourier series with
    random coefficients. A ray is displaced by the field *at its origin*, and absorbed where it
    arrives. With `blur` every ray carries a Poisson number of photons, each of which makes a
    Gaussian spot; without it, pixels collect the rays and count photons.

    Parameters
    ----------
    seed, size, transmission, blur, counts, counted
        As of `drawn`; the grain is `GRAIN` before the blur.
    field : callable
        Displacement (y, x) as a function of where a ray *comes from*.

    Returns
    -------
    Scene
        The true displacement is NaN where no ray, or more than one, arrives.
    """
    margin = 24
    period = fft.next_fast_len(size + 2 * margin, real=True)
    period += period % 2
    rng = np.random.default_rng([seed, 3])
    series = _random_series(period, rng)
    line = (np.arange(RAYS * period) + 0.5) / RAYS - 0.5
    from_y, from_x = (part.ravel() for part in np.meshgrid(line, line, indexing="ij"))
    bright = np.maximum(1 + CONTRAST * _series_at(series, from_y, from_x), 0)
    u_y, u_x = (
        np.broadcast_to(np.asarray(part, np.float64), from_y.shape)
        for part in field(from_y - margin, from_x - margin, size)
    )
    images = []
    for moved in (True, False):
        to_y, to_x = (from_y + u_y, from_x + u_x) if moved else (from_y, from_x)
        weight = counts / RAYS**2 * bright
        if moved and transmission is not None:
            weight = weight * transmission(to_y - margin, to_x - margin, size)
        if blur:
            weight = rng.poisson(weight).astype(np.float64)
        image = _summed(weight, to_y, to_x, period, blur=blur)
        image = image[margin : margin + size, margin : margin + size]
        if not blur:
            image = rng.poisson(np.maximum(image, 0)).astype(np.float64)
        images.append(image.astype(np.float32))
    y, x = grid(size)
    true_y, true_x = _inverted(field, y, x, size)
    absorbed = 1.0 if transmission is None else transmission(y, x, size)
    return Scene(
        images[0],
        images[1],
        true_y,
        true_x,
        inside_border(size) if counted is None else counted,
        absorbed,
    )


def _random_series(period: int, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Fourier coefficients of a real random field of unit variance and grain `GRAIN`."""
    numbers = np.arange(period) - period // 2
    frequency = numbers / period
    sigma = GRAIN / FWHM
    weight = np.exp(-2 * (np.pi * sigma) ** 2 * np.add.outer(frequency**2, frequency**2))
    amplitude = weight * (
        rng.standard_normal((period, period)) + 1j * rng.standard_normal((period, period))
    )
    amplitude[0] = amplitude[:, 0] = 0  # the Nyquist rows
    amplitude[period // 2, period // 2] = 0
    # The real part of a series is the series with Hermitian coefficients.
    return np.asarray(amplitude / np.sqrt(np.sum(np.abs(amplitude) ** 2) / 2))


def _series_at(series: npt.NDArray[np.complex128], y: Floats, x: Floats) -> Floats:
    """Sum a Fourier series at points."""
    period = series.shape[0]
    values = ducc0.nufft.u2nu(
        grid=series,
        coord=np.stack([y, x], axis=1) * (2 * np.pi / period),
        forward=False,
        epsilon=1e-9,
        fft_order=False,
    )
    return np.asarray(values.real)


def _summed(weight: Floats, y: Floats, x: Floats, period: int, *, blur: float) -> Floats:
    """Sum weighted rays in pixels, or as Gaussian spots, by their Fourier coefficients."""
    series = ducc0.nufft.nu2u(
        points=weight.astype(np.complex128),
        coord=np.stack([y, x], axis=1) * (2 * np.pi / period),
        forward=True,
        epsilon=1e-9,
        out=np.zeros((period, period), np.complex128),
        fft_order=True,
    )
    frequency = fft.fftfreq(period)
    # A pixel is a square; a spot is a Gaussian.
    one = np.sinc(frequency) if not blur else np.exp(-2 * (np.pi * blur / FWHM * frequency) ** 2)
    return np.asarray(fft.ifft2(series * np.outer(one, one)).real)


def _inverted(field: Field, y: Floats, x: Floats, size: int) -> tuple[Floats, Floats]:
    """Displacement at pixels from that at the origins of rays; NaN where the iteration fails."""
    from_y, from_x = y.copy(), x.copy()
    for _ in range(60):
        u_y, u_x = (np.broadcast_to(part, y.shape) for part in field(from_y, from_x, size))
        from_y, from_x = (from_y + y - u_y) / 2, (from_x + x - u_x) / 2
    u_y, u_x = (np.broadcast_to(part, y.shape) for part in field(from_y, from_x, size))
    missed = np.hypot(from_y + u_y - y, from_x + u_x - x) > 1e-6
    return np.where(missed, np.nan, u_y), np.where(missed, np.nan, u_x)


def blurred(
    seed: int, size: int, *, blur: float, counts: float = COUNTS, longer: float = 1.0
) -> Scene:
    """Blur signal and noise alike, as a scintillator does; the reference is exposed longer."""
    # The pattern on the detector keeps its grain.
    grain = np.sqrt(max(GRAIN**2 - blur**2, 2.0**2))
    return drawn(seed, size, blur=blur, grain=float(grain), counts=counts, longer=longer)


def blurred_splat(seed: int, size: int, *, blur: float) -> Scene:
    """Blur as `blurred` does, one spot per photon."""
    return splat(seed, size, blur=blur)


def decorrelated(seed: int, size: int, *, lost: float, grain: float = GRAIN) -> Scene:
    """Replace part of the speckle of the sample."""
    return drawn(seed, size, lost=lost, grain=grain)


def diffracted(seed: int, size: int) -> Scene:
    """Propagate waves to two detectors: diffraction changes the speckle between them."""
    beamline = absolute_beamline(
        source_distance=40.0,
        distances=(0.3, 0.8),
        shape=(size, size),
        pixel_sizes=(1.6e-6, 1.6e-6),
        source=Source(energy=9.1, size=(15e-6, 40e-6)),
        counts=COUNTS,
        seed=seed,
    )
    beamline = replace(
        beamline,
        detectors=tuple(
            replace(detector, camera=replace(detector.camera, structure=0.0))
            for detector in beamline.detectors
        ),
    )
    near, far = (
        beamline.expose([SAMPLE], detector=number, first=100 * seed).values[0] for number in (0, 1)
    )
    truth = beamline.truth(SAMPLE, SAMPLE, detector=1, reference_detector=0)
    y, x = grid(size)
    return Scene(
        far.astype(np.float32),
        near.astype(np.float32),
        y - truth.reference_y,
        x - truth.reference_x,
        inside_border(size),
    )


def fine_grain(seed: int, size: int, *, grain: float) -> Scene:
    """Draw grains that two pixels hardly sample, with many photons: spline errors show."""
    return drawn(seed, size, grain=grain, counts=30_000)


def edge_transmission(y: Floats, x: Floats, size: int) -> Floats:
    """Rise from 0.3 to 1 along a line through the middle, a little off the axes."""
    across = (x - size / 2) * np.cos(0.2) + (y - size / 2) * np.sin(0.2)
    # A logistic function rises from 10 to 90 % within 2 log 9 of its widths.
    return np.asarray(0.3 + 0.7 / (1 + np.exp(-across * 2 * np.log(9) / EDGE_WIDTH)))


def _near_edge(size: int) -> Mask:
    y, x = grid(size)
    across = (x - size / 2) * np.cos(0.2) + (y - size / 2) * np.sin(0.2)
    return np.asarray(inside_border(size) & (np.abs(across) <= 3 * WINDOW), np.bool_)


def edge(seed: int, size: int) -> Scene:
    """Absorb behind an edge: rod, pinhole, holder."""
    return drawn(seed, size, transmission=edge_transmission, counted=_near_edge(size))


def edge_divided(seed: int, size: int) -> Scene:
    """Divide the same by its true transmission: what an ideal tracker would see."""
    scene = edge(seed, size)
    return replace(scene, sample=(scene.sample / scene.transmission).astype(np.float32))


def edge_splat(seed: int, size: int) -> Scene:
    """Absorb behind the same edge, by rays."""
    return splat(seed, size, transmission=edge_transmission, counted=_near_edge(size))


def textured(seed: int, size: int) -> Scene:
    """Absorb by a texture, such as wood."""
    texture = speckle_field(size, grain=12.0, contrast=0.05, seed=seed + 2_000_000)
    return drawn(seed, size, transmission=lambda y, x, size: 0.8 * texture(y, x))


def _lens_radius(size: int) -> float:
    return 0.3 * size


def _lens(jump: float) -> Field:
    """Make the field of a lens smaller than the frame: a gradient inside, nothing outside."""

    def field(y: Floats, x: Floats, size: int) -> tuple[Any, Any]:
        down, across, radius = y - size / 2, x - size / 2, _lens_radius(size)
        inside = np.hypot(down, across) < radius
        return np.where(inside, jump * down / radius, 0), np.where(
            inside, jump * across / radius, 0
        )

    return field


def _beside_outline(size: int) -> Mask:
    """From one to two windows away from the outline."""
    y, x = grid(size)
    away = np.abs(np.hypot(y - size / 2, x - size / 2) - _lens_radius(size))
    beside = (away > WINDOW) & (away < 2 * WINDOW)
    return np.asarray(beside & inside_border(size, WINDOW), np.bool_)


def outline(seed: int, size: int, *, jump: float) -> Scene:
    """Let the displacement jump at the outline of a lens."""
    return drawn(seed, size, field=_lens(jump), counted=_beside_outline(size))


def outline_splat(seed: int, size: int, *, jump: float) -> Scene:
    """Draw the same by rays, which leave a dark ring or overlap at the outline."""
    return splat(seed, size, field=_lens(jump), counted=_beside_outline(size))


def curved_border(seed: int, size: int) -> Scene:
    """Look at a curved field within two windows of the border."""
    return drawn(seed, size, field=cubic, counted=at_border(size))


def waves(seed: int, size: int) -> Scene:
    """Displace by a wave of three windows."""
    return drawn(seed, size, field=wave)


def waves_at_border(seed: int, size: int) -> Scene:
    """Look at the same wave at the border."""
    return drawn(seed, size, field=wave, counted=at_border(size))


def fixed_pattern(seed: int, size: int) -> Scene:
    """Keep a fixed gain of the pixels, 3 %, in both images: it pulls toward zero."""
    return drawn(seed, size, pattern=0.03, field=lambda y, x, size: (0.3, -0.2))


def hot_pixels(seed: int, size: int) -> Scene:
    """Make one pixel in a hundred hot, the same in both images."""
    scene = drawn(seed, size)
    rng = np.random.default_rng([seed, 4])
    hot = rng.random((size, size)) < 0.01
    level = rng.uniform(1.5, 3, (size, size)) * COUNTS
    images = [
        np.where(hot, rng.poisson(level), image).astype(np.float32)
        for image in (scene.sample, scene.reference)
    ]
    return replace(scene, sample=images[0], reference=images[1])


def coarse_grain(seed: int, size: int, *, lost: float) -> Scene:
    """Draw grains of half a window that decorrelate."""
    return drawn(seed, size, grain=10.0, lost=lost)


def grating(seed: int, size: int, *, period: float = 12.0, shift: float = 4.0) -> Scene:
    """Shift a periodic pattern by less than half its period."""
    y, x = grid(size)
    k = 2 * np.pi / period
    rng = np.random.default_rng([seed, 5])

    def bright(y: Floats, x: Floats) -> Floats:
        return np.asarray(1 + 0.25 * np.sin(k * y) * np.sin(k * x))

    images = [
        rng.poisson(COUNTS * bright(y - moved, x - moved)).astype(np.float32)
        for moved in (shift, 0.0)
    ]
    moved = np.full((size, size), shift)
    return Scene(images[0], images[1], moved, moved, inside_border(size))


def fringes(seed: int, size: int) -> Scene:
    """Bend Talbot fringes of 8.8 px on weak speckle."""
    period = 8.8
    y, x = grid(size)
    weak = speckle_field(size + 32, grain=GRAIN, contrast=0.03, seed=seed)
    k = 2 * np.pi / period
    rng = np.random.default_rng([seed, 6])

    def bright(y: Floats, x: Floats) -> Floats:
        return np.asarray((1 + 0.25 * np.cos(k * y) * np.cos(k * x)) * weak(y, x))

    u_y, u_x = cubic(y, x, size)
    images = [
        rng.poisson(COUNTS * bright(y - moved_y, x - moved_x)).astype(np.float32)
        for moved_y, moved_x in ((u_y, u_x), (0 * y, 0 * x))
    ]
    return Scene(images[0], images[1], u_y, u_x, inside_border(size))


def far_field(seed: int, size: int) -> Scene:
    """Displace by (57, 21) +- 17 px behind a frame with strong edges that stays in place."""

    def field(y: Floats, x: Floats, size: int) -> tuple[Any, Any]:
        return 57 + 34 * (y / size - 0.5), 21 + 34 * (x / size - 0.5)

    y, x = grid(size)
    scene = drawn(seed, size, field=field, contrast=0.1)
    half = 0.42 * size
    away = np.maximum(np.abs(y - size / 2), np.abs(x - size / 2))
    frame = np.where(away < half, 1.0, 0.2)
    images = [(image * frame).astype(np.float32) for image in (scene.sample, scene.reference)]
    # What comes from beyond the frame of the reference cannot be found.
    came = np.maximum(np.abs(y - scene.true_y - size / 2), np.abs(x - scene.true_x - size / 2))
    counted = (came < half - WINDOW) & (away < half - WINDOW)
    return replace(scene, sample=images[0], reference=images[1], counted=counted)


def dim(seed: int, size: int, *, counts: float, contrast: float = CONTRAST) -> Scene:
    """Count few photons, for dark field and transmission."""
    return drawn(seed, size, counts=counts, contrast=contrast)
