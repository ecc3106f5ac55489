"""Registration of two detectors in one beam: the map from pixels of one to the other."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import FRAME, SURE, X, Y
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_pixels, confirmed_facts
from wavedask.frames import image_of, masked_images
from wavedask.geometry import Sizes, each
from wavedask.kernels.start import CENTRES, find_affine, scale_steps
from wavedask.tables import Rows, html_table, titled_table
from wavedask.units import NEAR_PIXEL_SIZE, PIXEL_SIZE, pixel_numbers

Floats = NDArray[np.float64]

REGISTRATION_MATRIX: Final = "registration_matrix"
"""Attribute of a tracking: the matrix of its registration, row by row."""
REGISTRATION_OFFSET: Final = "registration_offset"
"""Attribute of a tracking: the offset of its registration along y and x, px."""

ANY_SCALE: Final = (0.3, 3.3)
"""Scales that are tried if the pixel sizes are unknown."""
BENT_BEAM: Final = 1.45
"""Factor by which a focusing or diverging beam may change the ratio of the pixel sizes."""

ORIENTATIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "flipped along y": lambda image: image[::-1],
    "flipped along x": lambda image: image[:, ::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "transposed": lambda image: image.T,
    "turned by 90 degrees": lambda image: np.rot90(image),
    "turned by -90 degrees": lambda image: np.rot90(image, -1),
    "transposed and turned by 180 degrees": lambda image: image.T[::-1, ::-1],
}
"""Orientations in which a mirror or a rotated camera shows the same image."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Map from the pixels of a sample to those of its reference: ``q = matrix @ p + offset``.

    Attributes
    ----------
    matrix : ndarray, shape (2, 2)
        Acts on pixel numbers (y, x) of the sample.
    offset : ndarray, shape (2,)
        Pixel (y, x) of the reference at which pixel (0, 0) of the sample lies.
    residual : float
        Rms distance of the matches from this map in pixels of the reference; NaN if unknown. It
        contains what the beam bends beyond an affine map, and does not measure success.
    correlation : float
        Median correlation of the matches; NaN if unknown.
    matches, points : int
        Number of matches without outliers, and of points in the common field.
    shape, reference_shape : (int, int) or None
        Pixels (y, x) of the images it was made from.
    pixel_size, reference_pixel_size : (float, float) or None
        Pixel sizes (y, x) of sample and reference, m, where they are known.
    sure : tuple of str
        ``pixel_size`` if the user confirmed these.

    Examples
    --------
    >>> half = Registration(0.5 * np.eye(2), np.array([3.0, -4.0]))
    >>> half.magnification, half.rotation
    (2.0, 0.0)
    """

    matrix: Floats
    offset: Floats
    residual: float = math.nan
    correlation: float = math.nan
    matches: int = 0
    points: int = 0
    shape: tuple[int, int] | None = field(default=None)
    reference_shape: tuple[int, int] | None = field(default=None)
    pixel_size: tuple[float, float] | None = field(default=None)
    reference_pixel_size: tuple[float, float] | None = field(default=None)
    sure: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        matrix, offset = (np.array(given, np.float64) for given in (self.matrix, self.offset))
        if matrix.shape != (2, 2) or offset.shape != (2,) or not np.linalg.det(matrix) > 0:
            raise InputError(
                f"registration with the matrix {matrix.tolist()} and the offset {offset.tolist()}",
                "Give a 2 x 2 matrix that does not mirror the image, and two offsets.",
            )
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "offset", offset)

    @property
    def rows(self) -> Rows:
        """Rows of the table that a notebook shows."""
        return [
            ("offset (y, x)", f"({self.offset[0]:.2f}, {self.offset[1]:.2f}) px"),
            ("rotation angle", f"{math.degrees(self.rotation):.3f} deg"),
            ("magnification", f"{self.magnification:.5f}"),
            ("matches", f"{self.matches} of {self.points} points"),
            ("residual, rms", f"{self.residual:.3f} px"),
            ("median correlation", f"{self.correlation:.2f}"),
        ]

    def __repr__(self) -> str:
        """Write the table as text."""
        return titled_table(type(self).__name__, self.rows)

    def _repr_html_(self) -> str:
        """Write the table for a notebook."""
        return html_table(self.rows, title=type(self).__name__)

    @property
    def rotation(self) -> float:
        """Rotation of the reference's detector against the sample's, rad; positive from y to x."""
        m = self.matrix
        return float(np.arctan2(m[0, 1] - m[1, 0], m[0, 0] + m[1, 1]))

    @property
    def magnification(self) -> float:
        """Size of the pattern on the sample relative to the reference, each in its own pixels."""
        return float(1 / np.sqrt(np.linalg.det(self.matrix)))

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of a tracking that hold the registration."""
        sizes = {PIXEL_SIZE: self.pixel_size, NEAR_PIXEL_SIZE: self.reference_pixel_size}
        return {
            REGISTRATION_MATRIX: self.matrix.ravel().tolist(),
            REGISTRATION_OFFSET: self.offset.tolist(),
            **{name: list(size) for name, size in sizes.items() if size is not None},
            **({SURE: list(self.sure)} if self.sure else {}),
        }

    def __str__(self) -> str:
        """Describe the registration in words."""
        return (
            f"offset ({self.offset[0]:.2f}, {self.offset[1]:.2f}) px, "
            f"rotation {math.degrees(self.rotation):.3f} deg, "
            f"magnification {self.magnification:.5f}; "
            f"{self.matches} of {self.points} points, residual {self.residual:.3f} px rms, "
            f"correlation {self.correlation:.2f}"
        )


def register(
    sample: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    *,
    pixel_size: tuple[Any, Any] | None = None,
    sure: Names = (),
) -> Registration:
    """Find the map from the pixels of one detector to another that sees the same speckle.

    The two may be shifted by any amount that leaves a common field, rotated by 2 degrees, and
    differ in scale by a factor of three. Patches of the sample are searched for in the whole
    reference, on reduced images, at all possible scales and angles. Then a grid of patches over the
    common field is matched up to full resolution, and an affine map is fitted without outliers.

    This function computes the images, because tracking needs the offset.

    Parameters
    ----------
    sample : DataArray or Dataset, dims ([frame], y, x)
        Image of the far detector, corrected; of a stack, the first frame.
    reference : DataArray or Dataset, dims ([frame], y, x)
        Image of the near detector at the same time, with the same position of the membrane.
    pixel_size : (float, float), optional
        Pixel sizes of sample and reference, in this order, in m; each may be a pair (y, x). By
        default those that the images state. With them, only scales are tried that a beam may make
        of their ratio: faster, and safer. The tracking keeps them for `wavefront`.
    sure : str or sequence of str, optional
        ``"pixel_size"`` confirms unusual pixel sizes, and that the given ones count although the
        images state others.

    Returns
    -------
    Registration
        Map from pixel numbers of the sample to those of the reference; `print` describes it.

    Raises
    ------
    InputError
        Two images that have nothing in common, or one that is mirrored or rotated by a right angle:
        the message says how. A pixel size that is unusual or that differs from that of
        its image.

    See Also
    --------
    wavedask.track : takes it as `registration`.

    Examples
    --------
    >>> import xarray as xr
    >>> from wavedask.simulate import speckle_field
    >>> speckle = speckle_field(300, seed=1)
    >>> y, x = np.mgrid[:160.0, :160.0]
    >>> near = xr.DataArray(speckle(y, x), dims=("y", "x"))
    >>> far = xr.DataArray(speckle(y * 1.1 - 20, x * 1.1 + 10), dims=("y", "x"))
    >>> found = register(far, near, pixel_size=(1.1e-6, 1e-6))
    >>> (found.offset + 0.0).round(1).tolist(), round(found.magnification, 3)
    ([-20.0, 10.0], 0.909)
    """
    images = [_first(image, name) for image, name in ((sample, "sample"), (reference, "reference"))]
    sizes = _pixel_sizes(pixel_size, {"sample": sample, "reference": reference}, sure)
    low, high = ANY_SCALE
    if sizes[0] is not None and sizes[1] is not None:
        ratio = _mean_size(sizes[0]) / _mean_size(sizes[1])
        low, high = ratio / BENT_BEAM, ratio * BENT_BEAM
    scales = scale_steps(low, high)
    arrays = [np.asarray(image.to_numpy(), np.float32) for image in images]
    found = find_affine(arrays[0], arrays[1], scales)
    if found is None:
        raise _nothing_in_common(arrays, scales)
    origins = [np.array([pixel_numbers(image, dim)[0] for dim in (Y, X)]) for image in images]
    shapes = [(image.sizes[Y], image.sizes[X]) for image in images]
    return Registration(
        found.matrix,
        found.offset + origins[1] - found.matrix @ origins[0],
        found.residual,
        found.correlation,
        found.matches,
        found.points,
        shape=shapes[0],
        reference_shape=shapes[1],
        pixel_size=sizes[0],
        reference_pixel_size=sizes[1],
        sure=tuple(confirmed_facts(sure)),
    )


def _pixel_sizes(
    given: Any, images: Mapping[str, xr.DataArray | xr.Dataset], sure: Names
) -> list[Sizes | None]:
    """Pixel sizes of sample and reference, given or stated by the images."""
    pair = [None, None] if given is None else each(given)
    if len(pair) != 2:
        raise InputError(
            f"pixel_size is {given!r}", "Give that of the sample and of the reference."
        )
    return [
        agreed_pixels(
            size,
            {f"the {name}": image_of(part, name)},
            sure=sure,
            label=f"{PIXEL_SIZE} of the {name}",
        )
        for size, (name, part) in zip(pair, images.items(), strict=True)
    ]


def _mean_size(pixels: Sizes) -> float:
    return math.sqrt(math.prod(pixels))


def check_scale(registration: Registration, far: Sizes, near: Sizes) -> None:
    """Refuse pixel sizes that a registration contradicts, such as those in the wrong order.

    Parameters
    ----------
    registration : Registration
        From the pixels of the far detector to those of the near one.
    far, near : (float, float)
        Their pixel sizes along (y, x), m.

    Raises
    ------
    InputError
        The pattern changes its size between the detectors by more than a beam does.

    Examples
    --------
    >>> half = Registration(0.5 * np.eye(2), np.zeros(2))
    >>> check_scale(half, far=(1e-6, 1e-6), near=(2e-6, 2e-6))
    >>> check_scale(half, far=(2e-6, 2e-6), near=(1e-6, 1e-6))
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: pixel_size is 1e-06 m of the near and 2e-06 m of the far ...
    """
    bent = registration.magnification * _mean_size(far) / _mean_size(near)
    if 1 / BENT_BEAM <= bent <= BENT_BEAM:
        return
    other = registration.magnification * _mean_size(near) / _mean_size(far)
    swapped = " Are the two swapped?" if 1 / BENT_BEAM <= other <= BENT_BEAM else ""
    raise InputError(
        f"pixel_size is {_mean_size(near):g} m of the near and {_mean_size(far):g} m of the far"
        f" detector, and with these the pattern on the far one is {bent:.3g} times as large as on"
        " the near one",
        f"A beam changes it by less than {BENT_BEAM:g}.{swapped} If they are right, add"
        f" sure={PIXEL_SIZE!r}.",
    )


def _first(images: xr.DataArray | xr.Dataset, name: str) -> xr.DataArray:
    """First frame, computed and checked."""
    array = image_of(images, name)
    if FRAME in array.dims:
        array = array.isel({FRAME: 0}, drop=True)
    array = masked_images(array, name).compute()
    if min(array.shape) < 64:
        raise InputError(
            f"{name} is {array.shape} pixels (y, x)", "A registration needs 64 along each axis."
        )
    if not np.isfinite(array).any():
        raise InputError(f"{name} has no pixel with a value", "Look at the corrected image.")
    return array


def _nothing_in_common(arrays: list[NDArray[np.float32]], scales: Floats) -> InputError:
    sample, reference = arrays
    for words, turned in ORIENTATIONS.items():
        other = np.ascontiguousarray(turned(reference))
        # One patch is enough for a hint in the message.
        if find_affine(sample, other, scales, centres=CENTRES[:1]) is not None:
            return InputError(
                f"sample matches the reference only when that is {words}",
                "Bring the images of one detector into the orientation of the other when they are"
                " opened, and register again.",
            )
    return InputError(
        "sample and reference have no speckle in common: no patch of the sample was found in the "
        f"reference, at scales from {scales.min():.2f} to {scales.max():.2f} and angles up to 4 "
        "degrees",
        "Look at both images: the same pulse and membrane position, a common field of a quarter of "
        "the sample, dark and flat corrected? Is pixel_size in the order (sample, reference)?",
    )


def is_registered(tracking: xr.Dataset) -> bool:
    """Tell whether a tracking is of two registered detectors.

    Examples
    --------
    >>> is_registered(xr.Dataset())
    False
    """
    return REGISTRATION_MATRIX in tracking.attrs


def registration_of(tracking: xr.Dataset) -> Registration:
    """Read the registration of a tracking from its attributes.

    Raises
    ------
    InputError
        A tracking without registration.

    Examples
    --------
    >>> given = Registration(np.eye(2), np.array([5.0, 7.0]))
    >>> registration_of(xr.Dataset(attrs=given.attrs)).offset.tolist()
    [5.0, 7.0]
    """
    if not is_registered(tracking):
        raise InputError(
            "tracking has no registration, and absolute mode needs that of its two detectors",
            "Track with it: track(far, near, registration=register(far, near)).",
        )
    matrix, offset = (
        np.array(tracking.attrs[name], np.float64)
        for name in (REGISTRATION_MATRIX, REGISTRATION_OFFSET)
    )
    return Registration(matrix.reshape(2, 2), offset)
