"""What each lens contributes to a stack that is built up one by one."""

import numpy as np
import xarray as xr

from wavedask.conventions import (
    FIGURE_ERROR,
    FOCAL_LENGTH,
    FOCAL_LENGTH_UNCERTAINTY,
    FRAME,
    RADIUS,
    RADIUS_UNCERTAINTY,
)
from wavedask.errors import InputError
from wavedask.optics.lens import DELTA, SURFACES
from wavedask.units import relabelled


def lens_contributions(fits: xr.Dataset, *, along: str | None = None) -> xr.Dataset:
    """Find focal length, radius and figure of each lens that was added to a stack.

    Thin lenses one behind the other add their powers, ``1 / f = 1 / f_1 + 1 / f_2 + ...``. The
    first frame holds the first lens, and each other frame one lens more.

    Parameters
    ----------
    fits : xarray.Dataset
        Result of `fit_lens` for several frames, with ``lenses=1``.
    along : str, optional
        Coordinate along ``frame`` by which the frames are ordered, such as the number of lenses,
        which is computed; by default they are in order.

    Returns
    -------
    xarray.Dataset
        Along ``frame``, lazy if `fits` is: ``focal_length`` of each lens and its standard error in
        m; with a material also ``radius`` and its error, and ``figure_error``, in m. The errors of
        two frames are taken as independent.

    Raises
    ------
    InputError
        Less than two frames, no such coordinate, or a dataset that is no fit of lenses.

    Examples
    --------
    >>> f = ("frame", [20.0, 10.0, 6.0])
    >>> fits = xr.Dataset({"focal_length": f, "focal_length_uncertainty": ("frame", [0.1] * 3)})
    >>> print(lens_contributions(fits).focal_length.values.round(6))
    [20. 20. 15.]
    """
    names = (FOCAL_LENGTH.name, FOCAL_LENGTH_UNCERTAINTY.name)
    missing = [name for name in names if name not in fits]
    if missing or fits.sizes.get(FRAME, 0) < 2:
        problem = f"fits has no {missing[0]!r}" if missing else "fits has less than two frames"
        raise InputError(problem, "Give the result of fit_lens for a stack of two lenses or more.")
    if along is not None:
        if along not in fits.coords or fits[along].dims != (FRAME,):
            raise InputError(
                f"fits has no coordinate {along!r} along {FRAME!r}",
                f"It has {', '.join(map(str, fits.coords))}.",
            )
        fits = fits.isel({FRAME: np.argsort(fits[along].to_numpy(), kind="stable")})
    power = 1 / fits[names[0]]
    error = fits[names[1]] * power**2
    before = {FRAME: 1}
    own = power - power.shift(before, fill_value=0.0)
    variance = error**2
    with np.errstate(divide="ignore", invalid="ignore"):
        focal = 1 / own
        uncertainty = (variance + variance.shift(before, fill_value=0.0)) ** 0.5 / own**2
    variables = [
        relabelled(focal, FOCAL_LENGTH),
        relabelled(uncertainty, FOCAL_LENGTH_UNCERTAINTY),
    ]
    delta = fits.coords[DELTA] if DELTA in fits.coords else fits.attrs.get(DELTA)
    if delta is not None:
        scale = delta * fits.attrs.get(SURFACES, 2)
        variables += [
            relabelled(focal * scale, RADIUS),
            relabelled(uncertainty * scale, RADIUS_UNCERTAINTY),
        ]
        if FIGURE_ERROR.name in fits:
            figure = fits[FIGURE_ERROR.name]
            variables.append(
                relabelled(figure - figure.shift(before, fill_value=0.0), FIGURE_ERROR)
            )
    return xr.Dataset({v.name: v for v in variables}, attrs=fits.attrs)
