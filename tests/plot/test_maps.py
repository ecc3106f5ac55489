"""Pictures say what they show: units that can be read, zero in the middle, gaps as gaps."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, imread

from wavedask.errors import InputError
from wavedask.plot import plot_map, plot_maps
from wavedask.prefixes import prefixed


def field(
    values: object, *, name: str = "wavefront", units: str = "m", step: float | None = None
) -> xr.DataArray:
    array = np.asarray(values, dtype=np.float64)
    coords = {}
    if step is not None:
        for dim, size in zip(("y", "x"), array.shape, strict=True):
            coords[dim] = (dim, np.arange(size) * step, {"units": "m"})
    return xr.DataArray(
        array,
        dims=("y", "x"),
        coords=coords,
        name=name,
        attrs={"units": units, "long_name": f"the {name}"},
    )


def bar_label(drawn: AxesImage) -> str:
    assert drawn.colorbar is not None
    return str(drawn.colorbar.ax.get_ylabel())


@pytest.mark.parametrize(
    ("largest", "units", "factor", "label"),
    [
        (3.2e-9, "m", 1e9, "nm"),
        (250e-9, "m", 1e9, "nm"),
        (1e-6, "rad", 1e6, "µrad"),
        (999e-6, "rad", 1e6, "µrad"),
        (0.4e-3, "m", 1e6, "µm"),
        (4e-3, "m", 1e3, "mm"),
        (2.0, "m", 1.0, "m"),
        (150e3, "m", 1e-3, "km"),
        (1e-15, "m", 1e12, "pm"),
        (0.0, "m", 1.0, "m"),
        (5e-6, "px", 1.0, "px"),
        (4e4, "1/m", 1.0, "1/m"),
    ],
)
def test_prefixes(largest: float, units: str, factor: float, label: str) -> None:
    found, unit = prefixed(largest, units)
    assert found == pytest.approx(factor)
    assert unit == label


@given(st.floats(1e-12, 9.99e5))
def test_a_prefix_gives_a_number_that_can_be_read(largest: float) -> None:
    factor, unit = prefixed(largest, "m")
    assert largest * factor * (1 + 1e-12) >= 1
    assert largest * factor < 1000 * (1 + 1e-12)
    assert unit.endswith("m")


def test_a_map_says_what_it_shows() -> None:
    drawn = plot_map(field([[0.0, 2e-9], [-4e-9, 1e-9]], step=0.65e-6))
    assert bar_label(drawn) == "wavefront [nm]"
    assert drawn.axes.get_title() == "the wavefront"
    assert drawn.axes.get_xlabel() == "x [nm]"
    assert drawn.axes.get_ylabel() == "y [nm]"
    np.testing.assert_allclose(np.asarray(drawn.get_array()), [[0, 2], [-4, 1]])
    # Edges of the pixels, half a step outside of their centres; row 0 on top.
    np.testing.assert_allclose(drawn.get_extent(), (-325, 975, 975, -325))


def test_axes_are_pixels_without_coordinates_and_physical_with() -> None:
    drawn = plot_map(field(np.ones((4, 6))))
    assert drawn.axes.get_xlabel() == "x [px]"
    np.testing.assert_allclose(drawn.get_extent(), (-0.5, 5.5, 3.5, -0.5))
    drawn = plot_map(field(np.ones((4, 3000)), step=1e-6))
    assert drawn.axes.get_xlabel() == "x [mm]"
    assert drawn.axes.get_ylabel() == "y [µm]"


def test_axes_that_run_backward_are_drawn_backward() -> None:
    drawn = plot_map(field(np.ones((3, 3)), step=1.0).isel(x=slice(None, None, -1)))
    np.testing.assert_allclose(drawn.get_extent(), (2.5, -0.5, 2.5, -0.5))


def test_zero_is_in_the_middle_where_it_has_a_meaning() -> None:
    values = np.linspace(-1, 3, 100).reshape(10, 10)
    signed = plot_map(field(values, name="displacement_x", units="px"))
    low, high = signed.get_clim()
    assert high is not None
    assert low == -high
    assert high == pytest.approx(3, rel=0.02)
    assert signed.get_cmap().name == "RdBu_r"
    plain = plot_map(field(values, name="correlation", units="1"))
    low, high = plain.get_clim()
    assert low == pytest.approx(-1, rel=0.02)
    assert high == pytest.approx(3, rel=0.02)
    assert plain.get_cmap().name == "viridis"
    assert bar_label(plain) == "correlation"
    low, high = plot_map(field(values, name="correlation"), signed=True).get_clim()
    assert high is not None
    assert low == -high


def test_a_few_outliers_do_not_take_the_colours() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, (100, 100))
    values[3, 4] = 1e6
    low, high = plot_map(field(values, units="1")).get_clim()
    assert low == pytest.approx(-1, rel=0.02)
    assert high == pytest.approx(1, rel=0.02)


def test_what_is_missing_is_neither_zero_nor_a_colour() -> None:
    values = np.linspace(-1, 1, 16).reshape(4, 4)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    drawn = plot_map(field(values, units="1"))
    pixels = drawn.get_array()
    assert pixels is not None
    assert np.ma.getmaskarray(np.ma.masked_invalid(pixels)).sum() == 3
    low, high = drawn.get_clim()
    assert np.isfinite([low, high]).all()
    assert drawn.get_cmap().get_bad()[3] == 0  # transparent: the grey behind is seen
    red, green, blue = to_rgb(drawn.axes.get_facecolor())
    assert red == green == blue < 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
@pytest.mark.parametrize("step", [None, 1e-6])
def test_maps_at_the_edge_of_sense_are_drawn(
    shape: tuple[int, int], step: float | None, tmp_path: Path
) -> None:
    maps = [
        field(np.full(shape, value), name=name, step=step)
        for name in ("wavefront", "correlation")
        for value in (np.nan, 0.0, -2e-9)
    ]
    figure = plot_maps(maps)
    figure.savefig(tmp_path / "map.png", dpi=40)
    images = [image for axes in figure.axes for image in axes.get_images()]
    assert len(images) == len(maps)
    for image in images:
        left, right, bottom, top = image.get_extent()
        assert right > left
        assert bottom > top


def test_a_lazy_and_transposed_map_is_the_same_picture() -> None:
    eager = field(np.arange(12.0).reshape(3, 4), units="1")
    lazy = eager.chunk({"y": 1}).transpose("x", "y")
    expected, drawn = plot_map(eager), plot_map(lazy)
    np.testing.assert_array_equal(np.asarray(drawn.get_array()), np.asarray(expected.get_array()))
    assert drawn.get_extent() == expected.get_extent()


def test_no_map() -> None:
    with pytest.raises(InputError, match=r"isel\(frame=0\)"):
        plot_map(xr.DataArray(np.ones((1, 2, 3)), dims=("frame", "y", "x"), name="wavefront"))
    with pytest.raises(InputError, match="dimensions"):
        plot_map(xr.DataArray(np.ones(3), dims="x"))
    with pytest.raises(InputError, match="no maps"):
        plot_maps([])


def test_maps_side_by_side(tmp_path: Path) -> None:
    maps = [field(np.random.default_rng(n).normal(size=(8, 8))) for n in range(4)]
    figure = plot_maps(maps, title="four", columns=2)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 8  # each with its colour bar
    figure.savefig(tmp_path / "maps.png", dpi=50)
    picture = imread(tmp_path / "maps.png")
    assert picture.shape[:2] == (390, 460)
    assert picture[..., :3].std() > 0.05


def test_nothing_global_is_touched(tmp_path: Path) -> None:
    """No pyplot, so no figure leaks, no backend is chosen and no display is needed."""
    code = (
        "import sys, numpy as np, xarray as xr\n"
        "from wavedask.plot import plot_maps\n"
        "field = xr.DataArray(np.eye(4), dims=('y', 'x'), name='wavefront')\n"
        f"plot_maps([field]).savefig({str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {"PATH": "", "MPLCONFIGDIR": str(tmp_path), "MPLBACKEND": "TkAgg"}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert imread(tmp_path / "a.png").std() > 0.05
