"""Units in any spelling, and numbers of any type."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from wavedask.errors import InputError
from wavedask.units import conversion, number_of, whole_number


@pytest.mark.parametrize(
    "unit",
    ["um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "Micrometer", "UM", "µ"],
)
def test_a_micrometre_is_one_unit_in_every_spelling(unit: str) -> None:
    assert conversion(unit, "m") == pytest.approx(1e-6, rel=1e-12)
    assert conversion("micron", unit) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "to", "factor"),
    [
        ("mm", "m", 1e-3),
        ("MM", "m", 1e-3),
        ("A", "m", 1e-10),
        ("Angstrom", "m", 1e-10),
        ("Å", "m", 1e-10),
        ("KeV", "keV", 1.0),
        ("EV", "keV", 1e-3),
        ("ms", "s", 1e-3),
        ("deg", "rad", np.pi / 180),
    ],
)
def test_units_of_files_convert(unit: str, to: str, factor: float) -> None:
    assert conversion(unit, to) == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize(
    "unit", ["px", "unknown", "", "keV", "counts", "a.u.", "(", "m)", "1", "10**10**10", "m" * 99]
)
def test_what_is_no_length_does_not_convert(unit: str) -> None:
    assert conversion(unit, "m") is None


@pytest.mark.parametrize(
    "value", [2, 2.0, np.float32(2), np.int8(2), np.array(2.0), da.ones(2).sum()]
)
def test_numbers_come_in_many_types(value: Any) -> None:
    assert number_of("distance", value, unit="m") == 2.0
    assert whole_number("window", value, remedy="") == 2
    assert whole_number("window", xr.DataArray(value), remedy="") == 2


@pytest.mark.parametrize("value", ["2", None, True, [2], np.array([2]), 1j, {}, np.nan, 2.5])
def test_other_things_are_no_whole_numbers(value: Any) -> None:
    with pytest.raises(InputError, match=r"window is .*Give a number of pixels"):
        whole_number("window", value, remedy="Give a number of pixels.")
    if not isinstance(value, float):
        with pytest.raises(InputError, match=r"distance is .*Give a number, in m"):
            number_of("distance", value, unit="m")
