"""Distances and pixel sizes of the detectors, and their standard errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
import xarray as xr

from wavedask.conventions import METRE, PIXEL
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_number, agreed_pixels
from wavedask.units import DISTANCE, NEAR_DISTANCE, NEAR_PIXEL_SIZE, PIXEL_SIZE, in_range, number_of

Sizes = tuple[float, float]

DISTANCE_ERROR: Final = "distance_error"
"""Attribute: standard error of each distance, in m; only where it was given."""
PIXEL_SIZE_ERROR: Final = "pixel_size_error"
"""Attribute: standard error of each pixel size along y and x, in m; only where it was given."""
DISTORTION_ERROR: Final = "distortion_error"
"""Attribute: rms error of each detector's undistorted positions, in px; only where given."""


class Geometry(NamedTuple):
    """The two detectors of absolute mode.

    Attributes
    ----------
    near, far : float
        Their distances from the optic, m.
    pixel_near, pixel_far : (float, float)
        Their pixel sizes along (y, x), m.
    """

    near: float
    far: float
    pixel_near: Sizes
    pixel_far: Sizes

    @property
    def gap(self) -> float:
        """Distance between the two detectors, m."""
        return self.far - self.near

    @property
    def attrs(self) -> dict[str, Any]:
        """As attributes of a result."""
        return {
            DISTANCE: self.far,
            NEAR_DISTANCE: self.near,
            PIXEL_SIZE: list(self.pixel_far),
            NEAR_PIXEL_SIZE: list(self.pixel_near),
        }

    @classmethod
    def from_attrs(cls, attrs: Mapping[Any, Any]) -> Self:
        """Read back from the attributes of a result in absolute mode."""
        near, far = (
            (float(attrs[name][0]), float(attrs[name][1])) for name in (NEAR_PIXEL_SIZE, PIXEL_SIZE)
        )
        return cls(float(attrs[NEAR_DISTANCE]), float(attrs[DISTANCE]), near, far)


@dataclass(frozen=True, slots=True)
class Errors:
    """Standard errors of a set-up, one entry per detector; None where they are not known.

    Attributes
    ----------
    distance : tuple of float or None
        Of the distances, m.
    pixel_size : tuple of (float, float) or None
        Of the pixel sizes along (y, x), m.
    distortion : tuple of float or None
        Of the undistorted positions, rms, px.
    """

    distance: tuple[float, ...] | None = None
    pixel_size: tuple[Sizes, ...] | None = None
    distortion: tuple[float, ...] | None = None

    @property
    def attrs(self) -> dict[str, list[float]]:
        """As attributes of a result: flat lists, of what is known."""
        attrs = {}
        if self.distance is not None:
            attrs[DISTANCE_ERROR] = list(self.distance)
        if self.pixel_size is not None:
            attrs[PIXEL_SIZE_ERROR] = [error for sizes in self.pixel_size for error in sizes]
        if self.distortion is not None:
            attrs[DISTORTION_ERROR] = list(self.distortion)
        return attrs

    @classmethod
    def from_attrs(cls, attrs: Mapping[Any, Any]) -> Self:
        """Read back from the attributes of a result."""
        lists = {
            name: tuple(float(value) for value in attrs[name])
            for name in (DISTANCE_ERROR, PIXEL_SIZE_ERROR, DISTORTION_ERROR)
            if name in attrs
        }
        sizes = lists.get(PIXEL_SIZE_ERROR)
        return cls(
            lists.get(DISTANCE_ERROR),
            None if sizes is None else tuple(zip(sizes[::2], sizes[1::2], strict=True)),
            lists.get(DISTORTION_ERROR),
        )


def geometry(
    distance: Any = None,
    pixel_size: Any = None,
    data: Mapping[str, xr.Dataset] | None = None,
    *,
    sure: Names = (),
) -> Geometry:
    """Return the set-up of two detectors on which the arguments and the data agree.

    Parameters
    ----------
    distance : (float, float), optional
        From the optic, or any other common origin, to the near and to the far detector, m.
    pixel_size : pair, optional
        Pixel size of the near and of the far detector, m; each one number, or a pair (y, x).
    data : mapping of str to xarray.Dataset, optional
        What may state them, too: the tracking of the two detectors.
    sure : str or sequence of str, optional
        As of `wavedask.facts.agreed`.

    Returns
    -------
    Geometry

    Raises
    ------
    InputError
        Not two of each, a value out of range, a value that differs from that of the data, or a far
        detector that is not farther.

    Examples
    --------
    >>> geometry((0.5, 1.0), (0.65e-6, (1e-6, 1e-6))).gap
    0.5
    """
    distances = _pair_of(DISTANCE, distance, "Give two distances in m, to the near and to the far")
    sizes = _pair_of(
        PIXEL_SIZE, pixel_size, "Give two, each one size in m or a pair (y, x), of the near and far"
    )
    labels = [f"{PIXEL_SIZE} of the {name} detector" for name in ("near", "far")]
    near = agreed_number(
        NEAR_DISTANCE, distances[0], data, sure=sure, label="distance to the near detector"
    )
    far = agreed_number(
        DISTANCE, distances[1], data, sure=sure, label="distance to the far detector"
    )
    pixel_near = agreed_pixels(sizes[0], data, sure=sure, near=True, label=labels[0])
    pixel_far = agreed_pixels(sizes[1], data, sure=sure, label=labels[1])
    if near is None or far is None:
        raise InputError(
            f"distance is {distance!r} with mode 'absolute'",
            "Give two distances in m, to the near and to the far detector.",
        )
    if pixel_near is None or pixel_far is None:
        raise InputError(
            f"pixel_size is {pixel_size!r} with mode 'absolute'",
            "Give two, of the near and of the far detector: each one size in m, or a pair (y, x).",
        )
    if not far > near:
        raise InputError(
            f"distance is ({near:g}, {far:g}) m",
            "Give (near, far), the far one larger: slopes are read between the two detectors.",
        )
    in_range("distance between the detectors", far - near, low=1e-4, high=1e4, unit=METRE)
    return Geometry(near, far, pixel_near, pixel_far)


def _pair_of(name: str, given: Any, remedy: str) -> list[Any]:
    """List what was given for the near and the far detector; None for what was not."""
    values = [None, None] if given is None else each(given)
    if len(values) != 2:
        raise InputError(f"{name} is {given!r} with mode 'absolute'", f"{remedy} detector.")
    return values


def errors_of(
    *, detectors: int, distance: Any = None, pixel_size: Any = None, distortion: Any = None
) -> Errors:
    """Check the errors of a set-up.

    Parameters
    ----------
    detectors : int
        How many: 1 or 2.
    distance, pixel_size, distortion : optional
        As in `Errors`: for two detectors one value for both, or one for each.

    Returns
    -------
    Errors

    Raises
    ------
    InputError
        Not so many values, or a negative one.

    Examples
    --------
    >>> errors_of(detectors=2, pixel_size=(1e-10, (2e-10, 3e-10))).pixel_size
    ((1e-10, 1e-10), (2e-10, 3e-10))
    """

    def spread(name: str, given: Any) -> list[Any]:
        if detectors == 1:
            return [given]
        values = each(given)
        if len(values) == 1:
            return values * 2
        if len(values) != 2:
            raise InputError(f"{name} is {given!r}", "Give one for both detectors, or (near, far).")
        return values

    def size_errors(given: Any) -> Sizes:
        values = each(given)
        if len(values) not in (1, 2):
            raise InputError(
                f"pixel_size_error is {given!r}", "Give one error in m, or one along y and x."
            )
        along_y, along_x = (
            _error("pixel_size_error", value, high=1e-4, unit=METRE)
            for value in (values[0], values[-1])
        )
        return along_y, along_x

    return Errors(
        None
        if distance is None
        else tuple(
            _error("distance_error", value, high=1e3, unit=METRE)
            for value in spread("distance_error", distance)
        ),
        None
        if pixel_size is None
        else tuple(size_errors(value) for value in spread("pixel_size_error", pixel_size)),
        None
        if distortion is None
        else tuple(
            _error("distortion_error", value, high=1e3, unit=PIXEL)
            for value in spread("distortion_error", distortion)
        ),
    )


def each(given: Any) -> list[Any]:
    """List the values that were given, one for each detector; a single number gives one value.

    Examples
    --------
    >>> each(0.5), each((0.5, (1.0, 2.0)))
    ([0.5], [0.5, (1.0, 2.0)])
    """
    # Not with NumPy: a size beside a pair of sizes is a ragged array.
    return [given] if np.isscalar(given) or getattr(given, "ndim", 1) == 0 else list(given)


def _error(name: str, value: Any, *, high: float, unit: str) -> float:
    number = number_of(name, value, unit=unit)
    if not 0 <= number < high:
        raise InputError(
            f"{name} is {number:g} {unit}",
            f"It must lie between 0 and {high:g} {unit}: it is a standard error, not a fraction.",
        )
    return number


def radius_effects(
    radius: Any, spread: Any, *, axis: int, setup: Geometry, errors: Errors
) -> dict[tuple[str, int], Any]:
    """Return the relative error of a radius of curvature for each error of the two detectors.

    With the scale ``A = 1 - gap / R`` of the far image, seen from the near one, ``R = gap / (1 -
    A)``: an error of a pixel size is an error of A, and enlarged by ``|R / gap - 1|``; one of the
    gap is not enlarged. How much of an error of the undistorted positions is a change of scale is
    not known; the worst case is taken, all of it.

    Parameters
    ----------
    radius : float or array
        Radius of curvature at the far detector, m.
    spread : float or array
        Rms distance of the pixels from their mean along the axis, m.
    axis : int
        0 for y, 1 for x.
    setup : Geometry
    errors : Errors

    Returns
    -------
    dict
        By kind of error (``distance``, ``pixel size``, ``distortion``) and detector (0 is near).

    Examples
    --------
    >>> setup = geometry((0.5, 1.0), (1e-6, 1e-6))
    >>> errors = errors_of(detectors=2, pixel_size=(1e-10, 0))
    >>> effects = radius_effects(40.0, 2e-4, axis=0, setup=setup, errors=errors)
    >>> print(f"{100 * effects['pixel size', 0]:.2f} %")
    0.79 %
    """
    effects = {}
    pixels = (setup.pixel_near, setup.pixel_far)
    for detector in (0, 1):
        pixel = pixels[detector][axis]
        if errors.pixel_size is not None:
            relative = errors.pixel_size[detector][axis] / pixel
            effects["pixel size", detector] = abs(radius / setup.gap - 1) * relative
        if errors.distance is not None:
            effects["distance", detector] = 0 * radius + errors.distance[detector] / setup.gap
        if errors.distortion is not None:
            scale = errors.distortion[detector] * pixel / spread
            effects["distortion", detector] = abs(radius) / setup.gap * scale
    return effects
