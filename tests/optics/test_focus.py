"""The focus of a beam lies where theory has it, and is as small."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import special

from wavedask.errors import InputError
from wavedask.optics import find_focus, propagate
from wavedask.optics.beam import beam_of
from wavedask.optics.caustic import sizes

ENERGY = 12.39841984  # keV: 1 angstrom
WAVELENGTH = 1e-10
HALF = 1e-4
FOCUS = 1.2


def beam(
    *,
    focus: tuple[float, float] = (FOCUS, FOCUS),
    side: int = 121,
    rest: np.ndarray | float = 0.0,
    stop: float = 0.0,
    circle: bool = False,
    middle: tuple[float, float] = (0.0, 0.0),
) -> xr.Dataset:
    """A beam with sharp edges that two spheres focus, with aberrations in waves."""
    axis = np.linspace(-HALF, HALF, side)
    y, x = axis[:, None], axis
    surface = -(y**2) / (2 * focus[0]) - x**2 / (2 * focus[1]) + rest * WAVELENGTH
    surface = surface * np.ones((side, side)) + 2e-9 + 1e-6 * x
    radius = np.hypot(y, x)
    if circle:
        surface[radius > HALF] = np.nan
    if stop:
        surface[(radius if circle else np.abs(x + 0 * y)) < stop * HALF] = np.nan
    return xr.Dataset(
        {"wavefront": (("y", "x"), surface, {"units": "m"})},
        {"y": axis + middle[0], "x": axis + middle[1]},
        {"energy_keV": ENERGY, "mode": "absolute"},
    )


def depth(focus: float = FOCUS) -> float:
    return WAVELENGTH * focus**2 / HALF**2


@pytest.mark.parametrize("away", [2.0, -0.8])
def test_a_gaussian_beam(away: float) -> None:
    waist = np.array([1.2e-6, 0.9e-6])  # along y and x
    rayleigh = math.pi * waist**2 / WAVELENGTH
    radius = away * (1 + (rayleigh / away) ** 2)
    width = waist * np.sqrt(1 + (away / rayleigh) ** 2)
    axis = np.linspace(-2.5 * width.max(), 2.5 * width.max(), 161)
    y, x = axis[:, None], axis
    power = 7.0 * np.exp(-2 * (y / width[0]) ** 2 - 2 * (x / width[1]) ** 2)
    wf = xr.Dataset(
        {"wavefront": (("y", "x"), -(y**2) / 2 / radius[0] - x**2 / 2 / radius[1])},
        {"y": axis, "x": axis},
        {"energy_keV": ENERGY},
    )
    found = find_focus(wf, intensity=xr.DataArray(power, dims=("y", "x")))
    for axis_name, size, length in zip(("y", "x"), waist, rayleigh, strict=True):
        assert float(found[f"focus_distance_{axis_name}"]) == pytest.approx(away, abs=0.02 * length)
        fwhm = size * math.sqrt(2 * math.log(2))
        assert float(found[f"focus_fwhm_{axis_name}"]) == pytest.approx(fwhm, rel=0.01)
        assert float(found[f"focus_rms_{axis_name}"]) == pytest.approx(size / 2, rel=0.02)
        assert float(found[f"focus_width_{axis_name}"]) == pytest.approx(1.2816 * size, rel=0.01)
    assert float(found.strehl) == pytest.approx(1.0, abs=0.01)


def test_a_slit_and_its_sinc() -> None:
    found = find_focus(beam(focus=(FOCUS, 1.25)))
    for name, focus in (("y", FOCUS), ("x", 1.25)):
        assert float(found[f"focus_distance_{name}"]) == pytest.approx(
            focus, abs=0.1 * depth(focus)
        )
        fwhm = 0.8859 * WAVELENGTH * focus / (2 * HALF)
        assert float(found[f"focus_fwhm_{name}"]) == pytest.approx(fwhm, rel=0.02)
        assert float(found[f"focus_depth_{name}"]) == pytest.approx(depth(focus), rel=0.03)
    assert float(found.astigmatic_difference) == pytest.approx(-0.05, abs=0.1 * depth())
    caustic = found.caustic_y
    total = caustic.sum("caustic_point") * float(found.caustic_position_y.diff("caustic_point")[0])
    assert float(total.max()) <= 1.001
    assert float(total.min()) > 0.98


def test_a_central_stop_sharpens_the_line() -> None:
    stop = 0.4
    found = find_focus(beam(stop=stop, circle=True, side=161))
    assert float(found.focus_distance_x) == pytest.approx(FOCUS, abs=0.1 * depth())
    assert float(found.strehl) == pytest.approx(1.0, abs=0.005)
    spot = propagate(beam(stop=stop, circle=True, side=161), FOCUS).intensity
    radius = np.hypot(spot.y, spot.x).values
    v = 2 * np.pi * HALF * np.maximum(radius, 1e-12) / (WAVELENGTH * FOCUS)
    airy = 2 * special.j1(v) / v - stop**2 * 2 * special.j1(stop * v) / (stop * v)
    expected = (airy / (1 - stop**2)) ** 2
    near = radius < 3 * WAVELENGTH * FOCUS / (2 * HALF)
    shown = spot.values / spot.values.max()
    np.testing.assert_allclose(shown[near], expected[near], atol=0.02)


@pytest.mark.parametrize("kind", ["coma", "spherical", "trefoil"])
@pytest.mark.parametrize("rms", [0.03, 0.06])
def test_third_order_aberrations_cost_as_marechal_says(kind: str, rms: float) -> None:
    axis = np.linspace(-1, 1, 161)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    r, angle = np.hypot(y, x), np.arctan2(y, x)
    mode = {
        "coma": np.sqrt(8) * (3 * r**3 - 2 * r) * np.cos(angle),
        "spherical": np.sqrt(5) * (6 * r**4 - 6 * r**2 + 1),
        "trefoil": np.sqrt(8) * r**3 * np.cos(3 * angle),
    }[kind]
    found = find_focus(beam(rest=rms * mode, circle=True, side=161))
    assert float(found.strehl) == pytest.approx(math.exp(-((2 * math.pi * rms) ** 2)), abs=0.01)


def test_the_curvature_of_the_beam_is_added_to_a_differential_wavefront() -> None:
    source, distance = 40.0, 1.0
    wf = beam().assign_attrs(mode="differential", distance=distance)
    found = find_focus(wf, source_distance=source)
    q = 1 / (1 / FOCUS - 1 / (source + distance))
    assert float(found.focus_distance_y) == pytest.approx(q, abs=0.1 * depth())
    plain = find_focus(wf)
    assert float(plain.focus_distance_y) == pytest.approx(FOCUS, abs=0.1 * depth())


def test_frames_stay_lazy_and_apart() -> None:
    one, two = beam(side=61), beam(focus=(1.3, 1.1), side=61)
    stack = xr.concat([one, two], "frame")
    lazy = find_focus(stack.chunk({"frame": 1, "y": 20}))
    assert lazy.strehl.chunks is not None
    assert lazy.caustic_y.dims == ("frame", "caustic_plane", "caustic_point")
    assert lazy.focus_distance_y.attrs["units"] == "m"
    for number, single in enumerate((one, two)):
        xr.testing.assert_allclose(
            lazy.isel(frame=number).compute().reset_coords(drop=True), find_focus(single)
        )


def test_the_power_is_kept_far_from_the_focus_and_near() -> None:
    wf = beam(side=257, circle=True)
    for distance in (0.05, FOCUS, FOCUS + 0.3 * depth()):
        plane = propagate(wf, distance).intensity
        cell = float(plane.y[1] - plane.y[0]) * float(plane.x[1] - plane.x[0])
        assert float(plane.sum()) * cell == pytest.approx(1.0, abs=0.02)
    # Close to the detector the beam is a little smaller, and as bright.
    near = propagate(wf, 0.05).intensity
    assert float(near.y[-1]) == pytest.approx(HALF * (1 - 0.05 / FOCUS), rel=0.01)


def test_both_ways_to_propagate_agree_where_they_meet() -> None:
    axis = np.linspace(-HALF, HALF, 401)
    power = np.exp(-2 * (axis[:, None] ** 2 + axis**2) / (0.4 * HALF) ** 2)
    wf = beam(side=401)
    intensity = xr.DataArray(power, dims=("y", "x"))
    # The two regions meet where N s^2 |1/z - 1/q| is the wavelength.
    meet = WAVELENGTH / (401 * (axis[1] - axis[0]) ** 2)
    planes = [
        propagate(wf, 1 / (1 / FOCUS + part * meet), intensity=intensity).intensity
        for part in (0.999, 1.001)
    ]
    widths = [np.sqrt(float((plane.sum("x") * plane.y**2).sum() / plane.sum())) for plane in planes]
    assert widths[0] == pytest.approx(widths[1], rel=0.01)
    assert float(planes[0].max()) == pytest.approx(float(planes[1].max()), rel=0.01)


def test_a_phase_that_pixels_do_not_sample_is_refused() -> None:
    rough = np.random.default_rng(0).normal(size=(61, 61))
    with pytest.raises(InputError, match=r"changes by .* waves from pixel to pixel"):
        find_focus(beam(side=61, rest=rough))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energy_keV": None}, "photon energy is not known"),
        ({"pieces": True}, "2 pieces whose relative heights"),
        ({"intensity": True}, "intensity has the sizes"),
    ],
)
def test_wrong_input(change: dict[str, object], words: str) -> None:
    wf, options = beam(side=41), {}
    if "energy_keV" in change:
        del wf.attrs["energy_keV"]
    if "pieces" in change:
        wf.wavefront[20] = np.nan
    if "intensity" in change:
        options["intensity"] = xr.DataArray(np.ones((3, 3)), dims=("y", "x"))
    with pytest.raises(InputError, match=words):
        find_focus(wf, **options)  # type: ignore[arg-type] # of a table


def test_a_frame_without_beam_is_nan() -> None:
    wf = beam(side=41)
    wf["wavefront"][:] = np.nan
    found = find_focus(wf)
    assert np.isnan(found.strehl)
    assert np.isnan(found.caustic_y).all()
    assert (
        beam_of(
            wf.wavefront.values, np.ones((41, 41)), y=wf.y.values, x=wf.x.values, wavelength=1e-10
        )
        is None
    )
    with pytest.raises(InputError, match="no pixels with data"):
        propagate(wf, 1.0)


def test_sizes_of_a_box() -> None:
    x = np.linspace(-5, 5, 10001)
    box = np.where(np.abs(x) <= 1, 0.5, 0.0)
    spot = sizes(box, x)
    assert spot.fwhm == pytest.approx(2.0, rel=0.01)
    assert spot.width == pytest.approx(1.6, rel=0.01)
    assert spot.rms == pytest.approx(1 / math.sqrt(3), rel=0.01)
    assert np.isnan(sizes(box / 4, x).width)  # most of the power is elsewhere
