"""Numbers of each frame: variables along ``frame`` and the coefficients of named modes."""

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.conventions import uncertainty_name
from wavedask.optics.mode_names import ZERNIKE_NAMES, legendre_name, zernike_name
from wavedask.scalars import mode_scalars, scalar_name, scalars


def fit(**more: object) -> xr.Dataset:
    values = np.arange(6.0).reshape(3, 2)
    return xr.Dataset(
        {
            "coefficient": (("frame", "mode_number"), values, {"units": "m"}),
            "coefficient_uncertainty": (("frame", "mode_number"), values / 10, {"units": "m"}),
            **more,
        },
        {"mode_name": ("mode_number", ["defocus", "Z(7, -3)"]), "mode_number": [4, 33]},
    )


def test_every_mode_has_a_name_of_its_own_that_a_condition_can_hold() -> None:
    names = [zernike_name(n, m) for n in range(21) for m in range(-n, n + 1, 2)]
    names += [legendre_name(i, k) for i in range(12) for k in range(12) if i + k != 1]
    slugs = {scalar_name(name) for name in names}
    # Both bases have one piston.
    assert len(slugs) == len(names) - 1
    assert all(slug.isidentifier() for slug in slugs)
    assert scalar_name(ZERNIKE_NAMES[3, -1]) == "mode_coma_y"


def test_coefficients_are_numbers_of_the_frame() -> None:
    found = mode_scalars(fit())
    assert found["mode_defocus"].values.tolist() == [0.0, 2.0, 4.0]
    assert found["mode_z_7_m3_uncertainty"].values == pytest.approx([0.1, 0.3, 0.5])
    for name, values in found.items():
        assert values.dims == ("frame",)
        assert values.attrs["units"] == "m"
        if not name.endswith("_uncertainty"):
            assert uncertainty_name(name) in found
    assert wd.select(fit(), "mode_defocus > 1 and mode_z_7_m3 < 5").sizes["frame"] == 1


def test_a_variable_of_the_same_name_comes_first() -> None:
    data = fit(mode_defocus=("frame", [7.0, 8.0, 9.0]))
    assert scalars(data)["mode_defocus"].values.tolist() == [7.0, 8.0, 9.0]
    assert not mode_scalars(data.drop_vars("mode_name"))
    assert list(scalars(fit().drop_vars("mode_name"))) == []
