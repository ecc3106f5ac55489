"""Propagation against what is known in closed form; what cannot be sampled is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedask.errors import InputError
from wavedask.simulate.propagation import Fan, propagate

WAVELENGTH = 1e-10


def axes(points: int, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    x = (np.arange(points) - points // 2) * spacing
    return x[:, None], x[None, :]


def gaussian_beam(y: np.ndarray, x: np.ndarray, waist: float, z: float) -> np.ndarray:
    """Gaussian beam at a distance from its waist, without the phase along the axis."""
    rayleigh = np.pi * waist**2 / WAVELENGTH
    q = 1 - 1j * -z / rayleigh
    return np.asarray(np.exp(-(x**2 + y**2) / (waist**2 * q)) / q)


@pytest.mark.parametrize("z", [-2.0, 0.5, 3.0, 8.0])
def test_a_gaussian_beam_is_the_analytic_one(z: float) -> None:
    spacing, waist = 1e-6, 12e-6
    y, x = axes(320, spacing)
    found = propagate(
        np.exp(-(x**2 + y**2) / waist**2), wavelength=WAVELENGTH, spacing=spacing, distance=z
    )
    np.testing.assert_allclose(found, gaussian_beam(y, x, waist, z), atol=2e-5)


def test_a_grating_images_itself_at_the_talbot_distance() -> None:
    spacing, period = 0.5e-6, 8e-6
    _, x = axes(128, spacing)
    grating = np.broadcast_to(np.exp(0.7j * np.sin(2 * np.pi * x / period)), (64, 128))
    talbot = 2 * period**2 / WAVELENGTH
    again = propagate(grating, wavelength=WAVELENGTH, spacing=spacing, distance=talbot)
    np.testing.assert_allclose(again, grating, atol=1e-5)
    shifted = propagate(grating, wavelength=WAVELENGTH, spacing=spacing, distance=talbot / 2)
    np.testing.assert_allclose(np.roll(shifted, 8, axis=1), grating, atol=1e-5)
    # A pure phase has contrast in between.
    between = propagate(grating, wavelength=WAVELENGTH, spacing=spacing, distance=talbot / 4)
    assert np.ptp(np.abs(between) ** 2) > 1


@settings(max_examples=10, deadline=None)
@given(there=st.floats(0.01, 1.0), tilt=st.integers(-8, 8))
def test_energy_is_conserved_and_the_way_back_leads_home(there: float, tilt: int) -> None:
    y, x = axes(128, 1e-6)
    wave = np.exp(-(x**2 + y**2) / (15e-6) ** 2 + 2j * np.pi * tilt * x / 128e-6)
    far = propagate(wave, wavelength=WAVELENGTH, spacing=1e-6, distance=there)
    assert np.sum(np.abs(far) ** 2) == pytest.approx(np.sum(np.abs(wave) ** 2), rel=1e-5)
    home = propagate(far, wavelength=WAVELENGTH, spacing=1e-6, distance=-there)
    np.testing.assert_allclose(home, wave, atol=1e-5)


def test_a_tilted_wave_goes_along_its_slope() -> None:
    y, x = axes(256, 1e-6)
    slope = 12e-6
    wave = np.exp(-(x**2 + y**2) / (15e-6) ** 2 + 2j * np.pi * slope * y / WAVELENGTH)
    far = propagate(wave, wavelength=WAVELENGTH, spacing=1e-6, distance=2.0)
    power = np.abs(far) ** 2
    assert np.sum(power * y) / power.sum() == pytest.approx(2.0 * slope, rel=1e-3)
    assert np.sum(power * x) / power.sum() == pytest.approx(0, abs=1e-8)


def test_a_diverging_wave_in_its_fan_is_the_wave_sampled_outright() -> None:
    spacing, waist, source, z = 0.5e-6, 15e-6, 8.0, 3.0
    y, x = axes(360, spacing)
    aperture = np.exp(-(x**2 + y**2) / waist**2) * (1 + 0.3 * np.cos(2 * np.pi * x / 10e-6))
    spherical = np.exp(1j * np.pi / WAVELENGTH * (x**2 + y**2) / source)
    outright = propagate(aperture * spherical, wavelength=WAVELENGTH, spacing=spacing, distance=z)
    fan = Fan.from_source(source).at(source + z)
    assert fan.scale[0] == pytest.approx((source + z) / source)
    assert fan.path[0] == pytest.approx(z / fan.scale[0])
    scaled = propagate(aperture, wavelength=WAVELENGTH, spacing=spacing, distance=fan.path)
    # On every eleventh point of the fan's grid lies an eighth of the other one.
    inner = np.arange(-88, 89, 8)
    on_fan = (np.abs(scaled) ** 2 / fan.scale[0] ** 2)[np.ix_(180 + inner, 180 + inner)]
    at_lab = (np.abs(outright) ** 2)[np.ix_(180 + inner * 11 // 8, 180 + inner * 11 // 8)]
    np.testing.assert_allclose(on_fan, at_lab, atol=2e-4)


def test_a_fan_through_a_lens_obeys_the_lens_equation() -> None:
    focal, source = 20.0, 40.0
    behind = Fan.from_source(source, source=(1e-4, 0.0)).through((1 / focal, 0.0), (0.0, 2e-5))
    image = 1 / (1 / focal - 1 / source)
    near_image = behind.at(source + image * (1 - 1e-9))
    assert near_image.scale[0] == pytest.approx(0, abs=1e-8)
    assert near_image.chief[0] == pytest.approx(-1e-4 * image / source, rel=1e-6)
    assert near_image.scale[1] == pytest.approx((source + image) / source)
    with pytest.raises(InputError, match=r"focused 40 m behind the plane at 40 m"):
        behind.at(source + 1.1 * image)


def test_the_path_does_not_depend_on_stops() -> None:
    fan = Fan.from_source(30.0).through((0.04, 0.0), (1e-4, 0.0))
    straight, stopped = fan.at(33.0), fan.at(31.0).at(32.5).at(33.0)
    np.testing.assert_allclose(straight.path, stopped.path, rtol=1e-13)
    np.testing.assert_allclose(straight.chief, stopped.chief, rtol=1e-13)


def test_what_cannot_be_sampled_is_refused() -> None:
    y, x = axes(128, 1e-6)
    steep = np.exp(-(x**2 + y**2) / (15e-6) ** 2 + 2j * np.pi * 0.45 * x / 1e-6)
    with pytest.raises(InputError, match=r"every 1e-06 m along x.*100 % .*aliases"):
        propagate(steep, wavelength=WAVELENGTH, spacing=1e-6, distance=0.1)
    narrow = np.exp(-(x**2 + y**2) / (3e-6) ** 2)
    with pytest.raises(InputError, match=r"more than half the grid of 0\.000128 m: .*kernel"):
        propagate(narrow, wavelength=WAVELENGTH, spacing=1e-6, distance=20.0)
