"""Facts that several places state: agreement, units, plausibility, and no silent difference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError
from wavedask.facts import agreed, agreed_energy, agreed_number, agreed_pixels, confirmed_facts
from wavedask.frames import matched_pair
from wavedask.units import HC_KEV_M

Energies = tuple[float, float]
Place = Callable[[xr.DataArray, Energies], xr.DataArray]


def stack(**coords: Any) -> xr.DataArray:
    """Two frames, with coordinates as (values, unit)."""
    labels = {
        name: ("frame" if np.ndim(values) else (), values, {} if unit is None else {"units": unit})
        for name, (values, unit) in coords.items()
    }
    return xr.DataArray(np.ones((2, 8, 8)), dims=("frame", "y", "x"), coords=labels)


def asked(name: str, given_value: Any, data: xr.DataArray, **options: Any) -> Any:
    return agreed(name, given_value, {"the scan": data}, **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (stack(energy=(8.0, "keV")), 8.0),
        (stack(energy=(8000.0, "eV")), 8.0),
        (stack(energy=(8.0, None)), 8.0),
        (stack(energy=(8.0, "unknown")), 8.0),
        (stack(energy=(8, "KEV")), 8.0),
        (stack(wavelength=(1.5498, "angstrom")), 8.0),
        (stack(wavelength=(0.15498, "nm")), 8.0),
        (stack(energy=([8000.0, 12000.0], "eV")), [8.0, 12.0]),
        (stack().assign_attrs(energy=8.0), 8.0),
        (stack().assign_attrs(energy="8000 eV"), 8.0),
        (stack().assign_attrs(photon_energy="8.0"), 8.0),
        (stack().assign_attrs(energy_keV=8.0, wavelength=HC_KEV_M / 8), 8.0),
    ],
)
def test_an_energy_is_read_wherever_it_stands(data: xr.DataArray, expected: Any) -> None:
    np.testing.assert_allclose(asked("energy", None, data), expected, rtol=1e-4)
    np.testing.assert_allclose(asked("energy", expected, data), expected, rtol=1e-4)
    with pytest.raises(InputError, match="energy is 17 keV as given and 8"):
        asked("energy", 17.0, data)
    assert float(asked("energy", 17.0, data, sure="energy")) == 17.0


@pytest.mark.parametrize(
    "data",
    [
        stack(),
        stack(energy=(0.0, "keV")),
        stack(energy=(np.nan, "keV")),
        stack().assign_attrs(energy="white beam"),
        stack().assign_attrs(energy=True),
        stack().assign_attrs(energy=[8.0, 12.0]),
        stack(energy=("white", None)),
    ],
)
def test_what_is_no_positive_number_states_nothing(data: xr.DataArray) -> None:
    assert asked("energy", None, data) is None


def test_a_fact_of_a_mesh_is_refused() -> None:
    mesh = stack().assign_coords(energy=("y", np.arange(8.0)))
    with pytest.raises(InputError, match=r"'energy' lies along \('y',\)"):
        asked("energy", None, mesh)


def test_frames_fill_each_other_where_one_place_does_not_know() -> None:
    data = stack(energy=([8.0, np.nan], "keV"))
    np.testing.assert_array_equal(asked("energy", None, data), [8.0, np.nan])
    np.testing.assert_array_equal(asked("energy", 8.0, data), [8.0, 8.0])
    with pytest.raises(InputError, match=r"8 keV in coordinate 'energy' of the scan \(frame 0\)"):
        asked("energy", 12.0, data)
    with pytest.raises(InputError, match=r"9 keV as given and 8 keV .*\(frame 0\)"):
        asked("energy", np.array([9.0, 12.0]), data)
    with pytest.raises(InputError, match="energy has 3 values as given, and the scan has 2 frames"):
        asked("energy", np.array([8.0, 8.0, 8.0]), data)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("energy", 17000.0, "energy is 17000 keV. It must lie between.*another unit"),
        ("energy", 0.5, "energy is 0.5 keV as given, which is unusual.*sure='energy'"),
        ("energy", 250.0, "Usual are 1 to 200 keV"),
        ("energy", np.nan, "energy is nan keV"),
        ("energy", "17", "energy is '17'. Give a number, in keV"),
        ("energy", True, "energy is True"),
        ("energy", [], r"energy is \[\]"),
        ("distance", 150.0, "distance is 150 m as given, which is unusual"),
        ("distance", np.inf, "distance is inf m"),
        ("distance", -1.0, "distance is -1 m"),
        ("membrane_distance", 1000.0, "membrane_distance is 1000 m as given, which is unusual"),
        ("source_distance", 40000.0, "source_distance is 40000 m as given, which is unusual"),
    ],
)
def test_values_that_cannot_be_or_are_unusual(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(name, value, stack())


def test_an_unusual_value_is_accepted_with_a_confirmation() -> None:
    assert agreed_number("distance", 150.0, sure="distance") == 150.0
    assert agreed_number("source_distance", np.inf) == np.inf
    assert agreed_pixels(5e-9, sure=["pixel_size", "energy"]) == (5e-9, 5e-9)
    with pytest.raises(InputError, match=r"sure is 'pixel'. Name some of: .*pixel_size"):
        agreed_pixels(5e-9, sure="pixel")
    with pytest.raises(InputError, match="pixel_size is 5e-09 m as given, which is unusual"):
        agreed_pixels(5e-9, sure="distance")
    with pytest.raises(InputError, match=r"pixel_size is 2e-13 m. It must lie"):
        agreed_pixels(2e-13, sure="pixel_size")


def test_an_unusual_value_in_the_data_is_named_by_its_place() -> None:
    with pytest.raises(InputError, match=r"8000 keV.*another unit"):
        asked("energy", None, stack(energy=(8000.0, "unknown")))
    # A wavelength in angstrom whose unit nobody wrote.
    bare = stack().assign_attrs(wavelength="1.55")
    with pytest.raises(InputError, match="keV in attribute 'wavelength' of the scan, which cannot"):
        asked("energy", None, bare)
    with pytest.raises(InputError, match=r"8 keV as given and .* keV in attribute 'wavelength'"):
        asked("energy", 8.0, bare)
    assert float(asked("energy", 8.0, bare, sure="energy")) == 8.0
    with pytest.raises(InputError, match="250 keV in coordinate 'energy' of the scan, which is un"):
        asked("energy", None, stack(energy=([250.0, 8.0], "keV")))
    with pytest.raises(InputError, match="'energy' of the scan is in 'kg', which does not convert"):
        asked("energy", None, stack(energy=(8.0, "kg")))
    with pytest.raises(InputError, match="'distance' of the scan is in 'keV'"):
        asked("distance", None, stack(distance=(8.0, "keV")))


def test_pixel_sizes_are_read_by_axis() -> None:
    pair = stack().assign_attrs(pixel_size=[1e-6, 2e-6])
    text = stack().assign_attrs(pixel_size="1e-6 x 2e-6")
    apart = stack(pixel_size_y=(1.0, "µm"), pixel_size_x=(2.0, "micron"))
    calibration = xr.Dataset({"pixel_size_y": 1e-6, "pixel_size_x": 2e-6})
    for data in (pair, text, apart, calibration):
        places: Any = {"the scan": data}
        assert agreed_pixels(None, places) == pytest.approx((1e-6, 2e-6))
        assert agreed_pixels((1e-6, 2.00001e-6), places) == pytest.approx((1e-6, 2.00001e-6))
        with pytest.raises(InputError, match="pixel_size is 1e-06 m as given and 2e-06 m in"):
            agreed_pixels(1e-6, places)
        with pytest.raises(InputError, match=r"pixel_size is 2.0001e-06 m as given and 2e-06 m in"):
            agreed_pixels((1e-6, 2.0001e-6), places)
    with pytest.raises(InputError, match="Give one size, or one along y and one along x"):
        agreed_pixels((1e-6, 1e-6, 1e-6))
    with pytest.raises(InputError, match="pixel_size is '1e-6'"):
        agreed_pixels("1e-6")


def test_one_value_for_each_frame_or_one_for_all() -> None:
    assert asked("energy", np.array([8.0]), stack()).shape == ()
    assert asked("energy", xr.DataArray([8e3, 9e3], attrs={"units": "eV"}), stack()).tolist() == [
        8.0,
        9.0,
    ]
    for data, values in ((stack(), [8.0] * 3), (stack()[0], [8.0, 9.0])):
        with pytest.raises(InputError, match=r"has . values as given, and the scan has . frames"):
            asked("energy", np.array(values), data)


def test_a_distance_that_changes_is_not_one_distance() -> None:
    moved = stack(detector_distance=([500.0, 700.0], "mm"))
    with pytest.raises(InputError, match=r"from 0.5 m to 0.7 m. Select the frames"):
        agreed_number("distance", None, {"the scan": moved})
    assert agreed_number("distance", None, {"the scan": moved[:1]}) == pytest.approx(0.5)


def test_a_confirmation_holds_in_later_steps() -> None:
    data = stack(energy=(8.0, "keV")).assign_attrs(energy_keV=17.0, sure=["energy"])
    assert float(asked("energy", None, data)) == 17.0
    assert confirmed_facts((), {"the scan": data}) == ["energy"]
    with pytest.raises(InputError, match="energy is 8 keV as given and 17 keV in attribute"):
        asked("energy", 8.0, data)


def test_energy_and_wavelength_agree_or_are_refused() -> None:
    assert agreed_energy(None, 1e-10) == pytest.approx(12.39842, rel=1e-6)
    assert agreed_energy(12.3984, 1e-10) == pytest.approx(12.3984, rel=1e-6)
    with pytest.raises(InputError, match=r"17 keV as given and 12.39.* by the wavelength"):
        agreed_energy(17.0, 1e-10)
    with pytest.raises(InputError, match=r"wavelength is 0.73 m"):
        agreed_energy(None, 0.73)


def test_labels_are_read_without_a_scheduler() -> None:
    lazy = stack(energy=([8.0, 12.0], "keV")).chunk(1)
    lazy = lazy.assign_coords(energy=lazy.energy.chunk(1))
    with forbid_computing():
        assert asked("energy", None, lazy).tolist() == [8.0, 12.0]


PLACES: dict[str, Place] = {
    "keV for all": lambda s, e: s.assign_coords(energy=((), e[0], {"units": "keV"})),
    "eV for each": lambda s, e: s.assign_coords(
        energy=("frame", np.multiply(e, 1e3), {"units": "eV"})
    ),
    "no unit for each": lambda s, e: s.assign_coords(energy=("frame", np.array(e))),
    "angstrom for all": lambda s, e: s.assign_coords(
        wavelength=((), 1e10 * HC_KEV_M / e[0], {"units": "angstrom"})
    ),
    "nm for each": lambda s, e: s.assign_coords(
        wavelength=("frame", 1e9 * HC_KEV_M / np.array(e), {"units": "nm"})
    ),
    "attribute in keV": lambda s, e: s.assign_attrs(energy_keV=e[0]),
    "attribute as text": lambda s, e: s.assign_attrs(photon_energy=f"{1e3 * e[0]!r} eV"),
}
"""Ways in which frames state their energy; those for all frames state the first."""
FOR_ALL = {name for name in PLACES if "each" not in name}
VALUES: list[Energies] = [(8.0, 8.0), (12.0, 12.0), (8.0, 12.0)]


@settings(max_examples=150, deadline=None)
@given(
    sample=st.dictionaries(st.sampled_from(sorted(PLACES)), st.sampled_from(VALUES), max_size=2),
    reference=st.dictionaries(st.sampled_from(sorted(PLACES)), st.sampled_from(VALUES), max_size=2),
    argument=st.sampled_from([None, 8.0, 12.0]),
    by_wavelength=st.booleans(),
)
def test_no_combination_of_energies_differs_in_silence(
    sample: dict[str, Energies],
    reference: dict[str, Energies],
    argument: float | None,
    by_wavelength: bool,
) -> None:
    """Whatever states the energy: the phase is that of all of it, or there is an error."""
    stated: list[NDArray[np.float64]] = [] if argument is None else [np.full(2, argument)]
    images = []
    for places in (sample, reference):
        image, seen = stack(), dict[str, Energies]()
        for name, value in places.items():
            image = PLACES[name](image, value)
            # A coordinate of one name takes the place of another.
            seen[image_name(name)] = (value[0], value[0]) if name in FOR_ALL else value
        stated += [np.array(value) for value in seen.values()]
        images.append(image)
    contradict = any(not np.array_equal(value, stated[0]) for value in stated)
    given_value: dict[str, Any] = {} if argument is None else {"energy": argument}
    if by_wavelength and argument is not None:
        given_value = {"wavelength": HC_KEV_M / argument}

    def measured() -> xr.Dataset:
        one, other = matched_pair(*images)
        u = xr.DataArray(np.add.outer(np.zeros((2, 8)), np.arange(8.0)), dims=("frame", "y", "x"))
        tracking = xr.Dataset({"displacement_y": u, "displacement_x": 0.1 * u})
        tracking = tracking.assign_coords(one.coords).assign_attrs(one.attrs)
        assert other.shape == one.shape
        return wd.wavefront(tracking, distance=1.0, pixel_size=1e-6, **given_value)

    if contradict:
        with pytest.raises(InputError, match="energy is"):
            measured()
        return
    result = measured()
    if not stated:
        assert "phase" not in result
        return
    ratio = (result.phase / result.wavefront).isel(y=0, x=0).values
    np.testing.assert_allclose(ratio, 2 * np.pi * stated[0] / HC_KEV_M, rtol=1e-6)


def image_name(place: str) -> str:
    if "attribute" in place:
        return place
    return "wavelength" if place in ("angstrom for all", "nm for each") else "energy"


@settings(max_examples=100, deadline=None)
@given(
    pixel=st.sampled_from([None, 1e-6, 2e-6]),
    stated_pixel=st.sampled_from([None, 1e-6, 2e-6]),
    as_pair=st.booleans(),
    length=st.sampled_from([None, 0.5, 0.8]),
    stated_length=st.sampled_from([None, 0.5, 0.8]),
    of_file=st.sampled_from(["attribute", "coordinate", "frames"]),
)
def test_no_combination_of_lengths_differs_in_silence(
    pixel: float | None,
    stated_pixel: float | None,
    as_pair: bool,
    length: float | None,
    stated_length: float | None,
    of_file: str,
) -> None:
    """The slope is that of the one pixel size and the one distance, or there is an error."""
    u = xr.DataArray(np.full((2, 8, 8), 0.25), dims=("frame", "y", "x"))
    tracking = xr.Dataset({"displacement_y": u, "displacement_x": u})
    if stated_pixel is not None:
        tracking.attrs["pixel_size"] = [stated_pixel] * 2 if as_pair else stated_pixel
    if stated_length is not None:
        values = {"attribute": None, "coordinate": stated_length, "frames": [stated_length] * 2}
        if (value := values[of_file]) is None:
            tracking.attrs["detector_distance"] = stated_length
        else:
            labels = ("frame" if np.ndim(value) else (), np.multiply(value, 1e3), {"units": "mm"})
            tracking = tracking.assign_coords(detector_distance=labels)

    def slope() -> float:
        result = wd.wavefront(tracking, distance=length, pixel_size=pixel)
        return float(result.slope_x[0, 4, 4])

    sizes, lengths = {pixel, stated_pixel} - {None}, {length, stated_length} - {None}
    if len(sizes) == 1 and len(lengths) == 1:
        expected = 0.25 * sizes.pop() / lengths.pop()  # type: ignore[operator] # None is left out
        assert slope() == pytest.approx(expected, rel=1e-6)
    else:
        with pytest.raises(InputError, match=r"(pixel_size|distance) (is|are) (not given|\d)"):
            slope()
