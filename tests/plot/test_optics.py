"""Pictures of modes, mirrors and caustics show the numbers of the fit."""

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.errors import InputError
from wavedask.plot import kinds_of, plot_caustic, plot_dataset, plot_mirror, plot_modes

LINE = np.linspace(-1e-4, 1e-4, 81)


def wavefront(frames: int = 2) -> xr.Dataset:
    y, x = LINE[:, None], LINE
    surface, slope_y, slope_x = (
        -(x**2 + y**2) / 2 + 1e2 * x**3,
        -y + 0 * x,
        -x + 3e2 * x**2 + 0 * y,
    )
    maps = {"wavefront": surface, "slope_y": slope_y, "slope_x": slope_x}
    return xr.Dataset(
        {name: (("frame", "y", "x"), np.stack([part] * frames)) for name, part in maps.items()},
        {"y": LINE, "x": LINE},
        {"mode": "absolute", "distance": 0.1, "source_distance": 40.0, "energy_keV": 17.0},
    )


def test_bars_are_the_coefficients_and_tilts_are_left_out() -> None:
    fit = wd.optics.zernike(wavefront(), order=3)
    assert "modes" in kinds_of(fit)
    figure = plot_dataset(fit, kind="modes", frame=1)
    first, second = figure.axes
    named = fit.isel(frame=1).set_xindex("mode_name").coefficient
    assert first.get_ylabel() == "coefficient [nm]"
    assert first.patches[0].get_height() == pytest.approx(  # type: ignore[attr-defined] # a bar
        1e9 * float(named.sel(mode_name="defocus"))
    )
    labels = [label.get_text() for label in second.get_xticklabels()]
    assert "coma x" in labels
    assert len(labels) == fit.sizes["mode_number"] - 3
    with pytest.raises(InputError, match="Choose one frame"):
        plot_modes(fit)
    with pytest.raises(InputError, match="there is no coefficient"):
        plot_modes(wavefront())


def test_a_mirror_is_drawn_along_its_length() -> None:
    wf = wavefront(1)
    found = wd.optics.mirror(wf, axis="x", theta=3e-3)
    assert "mirror" in kinds_of(found)
    figure = plot_dataset(found, kind="mirror")
    slope, height = figure.axes
    assert slope.get_ylabel().startswith("slope_error")
    drawn = np.asarray(height.lines[0].get_ydata(), np.float64)
    values = found.height_error.values.ravel()
    assert np.corrcoef(drawn, values)[0, 1] > 0.999999
    assert height.get_xlabel() == "position along the mirror [mm]"
    with pytest.raises(InputError, match="there is no slope_error, height_error"):
        plot_mirror(wf)


def test_a_caustic_is_drawn_about_its_focus() -> None:
    focus = wd.optics.find_focus(wavefront(1))
    figure = plot_dataset(focus, kind="focus")
    for axes, dim in zip(figure.axes, "yx", strict=True):
        assert axes.get_title().startswith(f"along {dim}: ")
        low, high = axes.get_xlim()
        unit = axes.get_xlabel().partition("[")[2][:-1]
        place = float(focus[f"focus_distance_{dim}"][0]) * {"m": 1.0, "mm": 1e3}[unit]
        assert low <= place <= high
    one = focus.isel(frame=0)
    wide = one.assign(focus_fwhm_y=np.nan * one.focus_fwhm_y)
    assert plot_caustic(wide).axes[0].get_title() == "along y"
    unknown = xr.full_like(one, np.nan)
    assert [axes.get_title() for axes in plot_caustic(unknown).axes] == [
        "along y: none",
        "along x: none",
    ]
