"""The numbers of each frame of a result: its variables along ``frame``, and its named modes."""

import re
from collections.abc import Mapping
from typing import Final

import xarray as xr

from wavedask.conventions import (
    COEFFICIENT,
    COEFFICIENT_UNCERTAINTY,
    COEFFICIENT_WAVES,
    COEFFICIENT_WAVES_UNCERTAINTY,
    FRAME,
    LONG_NAME,
    MODE_NAME,
    MODE_NUMBER,
    MODE_PREFIX,
    UNCERTAINTY,
)

WAVES: Final = "_waves"
"""End of the name of a number in waves."""
PARTS: Final = ((COEFFICIENT, "", ""), (COEFFICIENT_UNCERTAINTY, UNCERTAINTY, "standard error of "))
IN_WAVES: Final = (
    (COEFFICIENT_WAVES, WAVES, "in waves, "),
    (COEFFICIENT_WAVES_UNCERTAINTY, f"{WAVES}{UNCERTAINTY}", "in waves, standard error of "),
)
"""Variables with a value for each mode, with the end of their names and the begin of their
descriptions as numbers per frame: in m, and in waves."""


def scalar_name(mode: str) -> str:
    """Return the name of the number per frame that is the coefficient of a mode.

    Parameters
    ----------
    mode : str
        Name of the mode.

    Returns
    -------
    str
        The prefix ``mode_`` and the name in lower case, its words joined by underscores; a minus
        becomes ``m``.

    Examples
    --------
    >>> scalar_name("coma x"), scalar_name("astigmatism 45°"), scalar_name("Z(7, -3)")
    ('mode_coma_x', 'mode_astigmatism_45', 'mode_z_7_m3')
    >>> scalar_name("P3(y) P1(x)")
    'mode_p3_y_p1_x'
    """
    words = re.findall(r"[a-z0-9]+", mode.lower().replace("-", " m"))
    return MODE_PREFIX + "_".join(words)


def mode_scalars(data: xr.Dataset, *, waves: bool = False) -> dict[str, xr.DataArray]:
    """Take the coefficients of modes apart: one number per frame for each mode, and its error.

    Parameters
    ----------
    data : xarray.Dataset
        A result. Without named modes there is nothing to take apart.
    waves : bool, default False
        Whether the coefficients in waves are taken, too, where `data` has them: it has them where
        the photon energy is known.

    Returns
    -------
    dict of str to xarray.DataArray
        By the names of `scalar_name`, for example ``mode_coma_x`` and ``mode_coma_x_uncertainty``,
        in m; ``mode_coma_x_waves`` and ``mode_coma_x_waves_uncertainty``. Lazy if `data` is.

    Examples
    --------
    >>> fit = xr.Dataset(
    ...     {"coefficient": (("frame", "mode_number"), [[1e-9, 2e-9]], {"units": "m"})},
    ...     {"mode_name": ("mode_number", ["defocus", "coma x"])},
    ... )
    >>> {name: float(value[0]) for name, value in mode_scalars(fit).items()}
    {'mode_defocus': 1e-09, 'mode_coma_x': 2e-09}
    """
    found: dict[str, xr.DataArray] = {}
    number = MODE_NUMBER.name
    if MODE_NAME.name not in data.coords or data[MODE_NAME.name].dims != (number,):
        return found
    names = [str(name) for name in data[MODE_NAME.name].values]
    for quantity, end, begin in (*PARTS, *(IN_WAVES if waves else ())):
        if quantity.name not in data or set(data[quantity.name].dims) - {FRAME} != {number}:
            continue
        values = data[quantity.name]
        along = [name for name, coord in values.coords.items() if number in coord.dims]
        values = values.drop_vars(along)
        for place, mode in enumerate(names):
            name = scalar_name(mode) + end
            label = {LONG_NAME: f"{begin}coefficient of {mode}"}
            found[name] = values.isel({number: place}).rename(name).assign_attrs(label)
    return found


def scalars(data: xr.Dataset, *, waves: bool = False) -> Mapping[str, xr.DataArray]:
    """Collect the numbers of each frame: variables along ``frame`` alone, and named modes.

    Parameters
    ----------
    data : xarray.Dataset
        A result.
    waves : bool, default False
        As of `mode_scalars`.

    Returns
    -------
    mapping of str to xarray.DataArray
        A variable of `data` comes before a mode of the same name.

    Examples
    --------
    >>> data = xr.Dataset({"radius": ("frame", [5e-5]), "image": (("frame", "y"), [[1.0]])})
    >>> list(scalars(data))
    ['radius']
    """
    own = {
        str(name): array for name, array in data.data_vars.items() if not {*array.dims} - {FRAME}
    }
    modes = mode_scalars(data, waves=waves)
    return {**own, **{name: v for name, v in modes.items() if name not in data}}
