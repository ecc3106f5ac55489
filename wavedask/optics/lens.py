"""Refractive lens: focal length, radius and figure error from its wavefront."""

import logging
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
import xraydb

from wavedask.conventions import (
    CENTER_X,
    CENTER_Y,
    FIGURE_ERROR,
    FOCAL_LENGTH,
    RADIUS,
    RADIUS_X,
    RADIUS_Y,
    RESIDUAL,
    RESIDUAL_RMS,
    WAVEFRONT,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.wavefront import DISTANCE, ENERGY, in_range

FloatArray = npt.NDArray[np.float64]

DELTA: Final = "delta"
"""Attribute: refractive index decrement of the lens."""
MATERIAL: Final = "material"
"""Attribute: material of the lens; only where it was given."""
LENSES: Final = "lenses"
"""Attribute: number of lenses in the stack."""
SURFACES: Final = "surfaces"
"""Attribute: number of parabolic surfaces of each lens."""

_PARAMETER: Final = "paraboloid_parameter"

logger = logging.getLogger("wavedask")


class _Paraboloid(NamedTuple):
    """Fit of one wavefront; order of the parameters that travel in one array."""

    radius: float
    radius_y: float
    radius_x: float
    center_y: float
    center_x: float


def fit_lens(
    wf: xr.Dataset,
    *,
    material: str | None = None,
    delta: float | None = None,
    density: float | None = None,
    energy: float | None = None,
    lenses: int = 1,
    surfaces: int = 2,
) -> xr.Dataset:
    r"""Fit a paraboloid to a wavefront; return focal length, radius and figure error.

    The fit is linear least squares over the pixels with data,

    .. math:: W = c_0 + c_y y + c_x x - (y^2 + x^2) / 2 q.

    Rays are straight, so that a lens of focal length f at the distance d makes at the detector a
    wavefront of radius q = f - d; hence f = q + d. A stack of N thin lenses, each with n parabolic
    surfaces of apex radius R, has f = R / (n N delta) (Lengeler et al., J. Synchrotron Rad. 6,
    1153, 1999, eq. 1 with n = 2); hence R.

    A thickness t delays the phase by less than vacuum does: its path length is W = -delta t. What
    the paraboloid leaves of W is therefore, divided by -delta, the excess of material.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`: ``wavefront`` in m with coordinates ``y`` and ``x`` in m, and the
        attribute ``distance``.
    material : str, optional
        Chemical formula or name ("Be", "Al", "kapton"), for the refractive index by xraydb.
    delta : float, optional
        Refractive index decrement, instead of `material`.
    density : float, optional
        Density of `material` in g/cm3; by default that of xraydb.
    energy : float, optional
        Photon energy in keV, for `material`; by default the attribute ``energy_keV``.
    lenses : int, default 1
        Number N of lenses in the stack.
    surfaces : int, default 2
        Number n of parabolic surfaces of each lens.

    Returns
    -------
    xarray.Dataset
        Lazy if `wf` is. Per frame:

        * ``focal_length``: f in m; positive for a focusing lens,
        * ``center_y``, ``center_x``: where the fitted wavefront has no slope, in m. A tilt of the
          beam, or a shift between sample and reference image, moves it,
        * ``residual``: wavefront without the fitted paraboloid, tilt and piston, in m,
        * ``residual_rms``: its root mean square over the pixels with data, in m.

        And, with `material` or `delta`, without which they cannot be known:

        * ``radius``: apex radius R of one surface in m, if all are alike,
        * ``radius_y``, ``radius_x``: the same with an own curvature for each axis; they differ by
          astigmatism,
        * ``figure_error``: excess thickness in m along the beam, summed over all surfaces, at the
          place where its ray meets the detector.

        A frame with fewer than six pixels with data, or with all in one line, is NaN, and a
        warning is logged.

    Raises
    ------
    InputError
        If the wavefront, its coordinates or its distance are missing, if a value is outside its
        range, if `material` and `delta` are both given, or if the material is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> x = np.linspace(-2e-4, 2e-4, 21)
    >>> surface = -(x[:, np.newaxis] ** 2 + x**2) / (2 * (20.0 - 1.0))
    >>> wf = xr.Dataset(
    ...     {"wavefront": (("y", "x"), surface)}, {"y": x, "x": x}, {"distance": 1.0}
    ... )
    >>> lens = fit_lens(wf, delta=5e-6)
    >>> print(f"f = {float(lens.focal_length):.3f} m, R = {1e6 * float(lens.radius):.1f} um")
    f = 20.000 m, R = 200.0 um
    """
    surface, distance = _checked(wf)
    for name, count in (("lenses", lenses), ("surfaces", surfaces)):
        if count < 1 or count != int(count):
            raise InputError(f"{name} is {count}", "It must be a whole number, at least 1.")
    attrs: dict[str, Any] = {**wf.attrs, LENSES: int(lenses), SURFACES: int(surfaces)}
    decrement = _decrement(wf, material=material, delta=delta, density=density, energy=energy)
    if material is not None:
        attrs[MATERIAL] = material

    parameters, residual = _fit_lazily(surface)
    fit = _Paraboloid(*(parameters.isel({_PARAMETER: i}) for i in range(parameters.sizes[_PARAMETER])))
    variables = [
        _named(fit.radius + distance, FOCAL_LENGTH),
        _named(fit.center_y, CENTER_Y),
        _named(fit.center_x, CENTER_X),
        _named(residual, RESIDUAL),
        _named(np.sqrt((residual**2).mean((Y, X))), RESIDUAL_RMS),
    ]
    if decrement is not None:
        attrs[DELTA] = decrement
        power = surfaces * lenses * decrement
        for radius, quantity in (
            (fit.radius, RADIUS),
            (fit.radius_y, RADIUS_Y),
            (fit.radius_x, RADIUS_X),
        ):
            variables.append(_named((radius + distance) * power, quantity))
        variables.append(_named(-residual / decrement, FIGURE_ERROR))
    return xr.Dataset({v.name: v for v in variables}, attrs=attrs)
