"""The picture is the one that suits the dataset."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError
from wavedask.plot import KINDS, plot_dataset
from wavedask.plot.pictures import kinds_of

UNITS = {"wavefront": "m", "slope_y": "rad", "slope_x": "rad", "correlation": "1"}


def result(frames: int = 3) -> xr.Dataset:
    """A wavefront over frames whose motor moved backward."""
    values = np.random.default_rng(0).normal(size=(frames, 8, 9))
    maps = {name: (("frame", "y", "x"), values, {"units": unit}) for name, unit in UNITS.items()}
    radius = ("frame", 40.0 + np.arange(frames), {"units": "m", "long_name": "radius"})
    lens = ("frame", -np.arange(float(frames)), {"units": "mm", "role": "motor"})
    return xr.Dataset({**maps, "radius": radius}, {"lens_x": lens})


def titles(figure: Figure) -> list[str]:
    return [title for axes in figure.axes if (title := axes.get_title())]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["image"], "image"),
        (["displacement_y", "displacement_x", "correlation"], "displacement"),
        (["curvature_x", "curvature_uncertainty_x"], "curvature"),
        (["wavefront", "slope_y", "slope_x", "displacement_y", "displacement_x"], "wavefront"),
        (["wavefront", "residual", "slope_y"], "lens"),
        (["distortion_y", "distortion_x"], "calibration"),
    ],
)
def test_the_kind_follows_from_the_variables(names: list[str], kind: str) -> None:
    field = (("y", "x"), np.eye(4))
    dataset = xr.Dataset(dict.fromkeys(names, field))
    assert kinds_of(dataset)[0] == kind
    if kind != "calibration":
        assert set(titles(plot_dataset(dataset))) <= {*names}


def test_a_frame_is_chosen_and_named() -> None:
    dataset = result()
    figure = dataset.wave.plot(frame=-1)
    assert isinstance(figure, Figure)
    assert figure.get_suptitle() == "frame 2 of 3"
    assert titles(figure) == ["wavefront", "slope_y", "slope_x"]
    shown = np.ma.getdata(np.asarray(figure.axes[0].images[0].get_array()))
    ratio = shown / dataset.wavefront.values[2]
    np.testing.assert_allclose(ratio, ratio[0, 0])
    assert titles(dataset.wave.plot(kind="quality")) == ["correlation"]
    with pytest.raises(InputError, match="frames 0 to 2"):
        dataset.wave.plot(frame=3)


def test_numbers_are_drawn_against_the_motor_that_moved() -> None:
    (axes,) = result().wave.plot(kind="series").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lens_x [mm]", "radius [m]")
    (line,) = axes.lines
    assert np.asarray(line.get_xdata()).tolist() == [-2.0, -1.0, 0.0]
    assert np.asarray(line.get_ydata()).tolist() == [42.0, 41.0, 40.0]
    (axes,) = result().drop_vars("lens_x").wave.plot(kind="series").axes
    assert axes.get_xlabel() == "frame"
    with pytest.raises(InputError, match="against is 'energy'"):
        plot_dataset(result(), kind="series", against="energy")


@pytest.mark.parametrize(
    ("dataset", "kind", "words"),
    [
        (result(), "curvature", "Kinds that fit it: wavefront, quality, series"),
        (result(), "portrait", ", ".join(KINDS)),
        (xr.Dataset(), None, "there is nothing to draw: the dataset has no variables"),
        (xr.Dataset({"a": ("y", [1.0])}), None, "Kinds that fit it: none"),
    ],
)
def test_what_cannot_be_drawn(dataset: xr.Dataset, kind: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        plot_dataset(dataset, kind=kind)
    assert words in str(caught.value)


def test_only_what_is_drawn_is_computed() -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise AssertionError

    lazy = da.zeros((2, 8, 9), chunks=(1, 8, 9)).map_blocks(fail, meta=np.empty((0, 0, 0)))
    dataset = result(2).assign(phase=(("frame", "y", "x"), lazy))
    with forbid_computing():
        assert len(titles(plot_dataset(dataset))) == 3
    with pytest.raises(AssertionError):
        plot_dataset(dataset, kind="contrast")


def test_the_module_and_the_public_names() -> None:
    assert wd.plot.plot_dataset is plot_dataset
    assert set(dir(wd)) == {*wd.__all__, "__version__"}
    assert all(hasattr(wd, name) for name in dir(wd))


def test_a_wrong_frame_or_kind_is_named_in_a_short_message() -> None:
    names = [f"map{number}" for number in range(100)]
    many = xr.Dataset({name: (("frame", "y", "x"), np.ones((1, 4, 4))) for name in names})
    with pytest.raises(InputError, match=r"map7, 92 more\. Kinds") as caught:
        plot_dataset(many.rename(map0="wavefront"), kind="nonsense")
    assert "map8" not in str(caught.value)
    one = many.rename(map0="wavefront")[["wavefront"]]
    wrong: list[Any] = ["a", None, 1.5, 1]
    for frame in wrong:
        with pytest.raises(InputError, match=f"frame is {frame!r}.*frames 0 to 0"):
            plot_dataset(one, frame=frame)
    with pytest.raises(InputError, match="the dataset has no frames"):
        plot_dataset(one.isel(frame=[]))
