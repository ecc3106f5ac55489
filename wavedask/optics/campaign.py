"""The numbers of a campaign as a table: one row for each frame, motors first."""

import pandas as pd
import xarray as xr

from wavedask.conventions import FRAME, UNITS, uncertainty_name
from wavedask.errors import InputError
from wavedask.scalars import scalars


def table(found: xr.Dataset) -> pd.DataFrame:
    """Collect the numbers of each frame of a result beside the motors.

    Parameters
    ----------
    found : xarray.Dataset
        Result of `fit_lens`, `zernike`, `legendre`, `mirror`, `find_focus` or of a run, with or
        without the dimension ``frame``. Its numbers are computed, and no maps.

    Returns
    -------
    pandas.DataFrame
        One row for each frame. First the coordinates along ``frame``, then the numbers, each
        followed by its standard error; coefficients of modes have the names of the modes. The
        attribute ``units`` holds the unit of each column.

    Raises
    ------
    InputError
        A dataset without numbers of frames.

    Examples
    --------
    >>> fits = xr.Dataset(
    ...     {
    ...         "radius_uncertainty": ("frame", [1e-7, 2e-7]),
    ...         "radius": ("frame", [5.0e-5, 5.1e-5], {"units": "m"}),
    ...     },
    ...     {"energy": ("frame", [17.0, 18.0], {"units": "keV"})},
    ... )
    >>> print(table(fits))
           energy    radius  radius_uncertainty
    frame
    0        17.0  0.000050        1.000000e-07
    1        18.0  0.000051        2.000000e-07
    """
    if FRAME not in found.dims:
        found = found.expand_dims(FRAME)
    known = scalars(found)
    if not known:
        raise InputError(
            f"the dataset has no number of a frame; it has {', '.join(map(str, found))}",
            "Give the result of fit_lens, zernike, legendre, mirror or find_focus.",
        )
    errors: dict[str, str] = {}
    for name in known:
        error = uncertainty_name(name)
        if error is not None and error in known:
            errors[name] = error
    names: list[str] = []
    # Standard errors of modes have no quantity of their own, and follow their modes already.
    for name in known:
        if name not in errors.values():
            names += [name, errors[name]] if name in errors else [name]
    motors = {
        str(name): coord
        for name, coord in found.coords.items()
        if coord.dims == (FRAME,) and name != FRAME
    }
    columns = {**motors, **{name: known[name] for name in names}}
    plain = xr.Dataset({name: array.reset_coords(drop=True) for name, array in columns.items()})
    frame = plain.compute().to_dataframe()
    frame.attrs[UNITS] = {name: array.attrs.get(UNITS, "") for name, array in columns.items()}
    return frame
