"""The pupil of an experiment as a mask on the pixels of its result."""

import logging
from typing import Any, Final

import numpy as np
import xarray as xr
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from wavedask.conventions import X, Y
from wavedask.errors import InputError
from wavedask.experiment.optic_sections import Pupil

Mask = NDArray[np.bool_]
Roi = tuple[tuple[int, int], tuple[int, int]]

HALF: Final = 0.5
"""Part of a shape that should lie in the map: a mode that is seen less is mostly extrapolated."""
ROUNDING: Final = 1e-9
"""Area of a polygon, over the sizes of its terms, that is zero up to rounding."""

logger = logging.getLogger("wavedask")


def pupil_mask(
    pupil: Pupil,
    result: xr.Dataset,
    *,
    image: Mask | None = None,
    roi: Roi | None = None,
    key: str = "pupil",
) -> xr.DataArray | None:
    """Return the pixels of a result that lie in a pupil.

    Parameters
    ----------
    pupil : Pupil
        The section of an experiment file.
    result : xarray.Dataset
        Maps with the coordinates ``y`` and ``x`` in m.
    image : ndarray of bool, shape (rows, columns), optional
        The content of ``pupil.mask``, on the pixels of whole frames.
    roi : ((int, int), (int, int)), optional
        Region of the frame that the maps show: first and end of the rows, and of the columns.
    key : str, default "pupil"
        Key of the experiment file that gave it, for messages.

    Returns
    -------
    xarray.DataArray of bool, dims (y, x), or None
        None for ``auto``, which is a mask of its own for each frame.

    Raises
    ------
    InputError
        A pupil without pixels or a polygon without area, or a mask of another shape than the
        frames. If less than half of a shape lies in the map, a warning is logged.

    Examples
    --------
    >>> axes = {"y": np.linspace(-1e-3, 1e-3, 21), "x": np.linspace(-1e-3, 1e-3, 21)}
    >>> corners = [(-5e-4, -5e-4), (-5e-4, 5e-4), (5e-4, 0.0)]
    >>> mask = pupil_mask(Pupil(polygon=corners), xr.Dataset(coords=axes))
    >>> bool(mask.sel(y=0.0, x=0.0)), bool(mask.sel(y=4e-4, x=4e-4, method="nearest"))
    (True, False)
    """
    if pupil.auto:
        return None
    y, x = (np.asarray(result[dim].values, np.float64) for dim in (Y, X))
    down, across = y[:, None], x[None, :]
    if pupil.circle is not None:
        middle_y, middle_x, radius = pupil.circle
        inside = np.hypot(down - middle_y, across - middle_x) <= radius
        area = np.pi * radius**2
        told = f"circle {[*pupil.circle]}"
    elif pupil.rectangle is not None:
        middle_y, middle_x, high, wide = pupil.rectangle
        inside = (np.abs(down - middle_y) <= high) & (np.abs(across - middle_x) <= wide)
        told = f"rectangle {[*pupil.rectangle]}"
        area = 4 * high * wide
    elif pupil.polygon is not None:
        inside = _in_polygon(pupil.polygon, y, x)
        told = f"polygon {[[*point] for point in pupil.polygon]}"
        area = _polygon_area(pupil.polygon)
        if not area:
            raise InputError(f"{key}: the {told} has no area", "Its corners are in one line.")
    else:
        inside = _cut(image, roi, (y.size, x.size))
        told = f"mask {pupil.mask}"
        area = 0.0
    if not inside.any() and pupil.mask is not None:
        raise InputError(
            f"{key}: the {told} holds no pixel",
            "Pixels of the pupil are those that are not zero in the image.",
        )
    if not inside.any():
        raise InputError(
            f"{key}: the {told} holds no pixel, and the map goes {_ends(y)} along y and {_ends(x)} "
            "along x",
            "Give it in m, in the coordinates of the wavefront.",
        )
    part = inside.sum() * _step(y) * _step(x) / area if area else 1.0
    if part < HALF:
        logger.warning(
            "%s: only %s %% of the %s lie in the map, which goes %s along y and %s along x. Is it "
            "in m? Modes over what is not seen are extrapolated.",
            *(key, f"{100 * part:.2g}", told, _ends(y), _ends(x)),
        )
    return xr.DataArray(inside, {dim: result[dim] for dim in (Y, X)}, (Y, X))


def _polygon_area(corners: list[tuple[float, float]]) -> float:
    """Area of a polygon, by the cross products of neighbouring corners; zero up to rounding."""
    y, x = np.asarray(corners).T
    parts = y * np.roll(x, -1) - x * np.roll(y, -1)
    area = abs(parts.sum()) / 2
    return float(area) if area > ROUNDING * np.abs(parts).sum() else 0.0


def _step(line: Any) -> float:
    """Distance between the pixels of an axis."""
    return float((line[-1] - line[0]) / max(line.size - 1, 1))


def _in_polygon(corners: list[tuple[float, float]], y: Any, x: Any) -> Mask:
    """Pixels whose middle is in a polygon."""
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = Outline(np.asarray(corners)).contains_points(grid)
    return np.asarray(inside, np.bool_).reshape(len(y), len(x))


def _cut(image: Mask | None, roi: Roi | None, shape: tuple[int, int]) -> Mask:
    """Part of a mask of whole frames that a result shows."""
    assert image is not None  # the caller has read it
    part = image if roi is None else image[slice(*roi[0]), slice(*roi[1])]
    if part.shape != shape:
        raise InputError(
            f"pupil: the mask has {image.shape} pixels (y, x), and the maps have {shape}",
            "Give a mask on the pixels of whole frames.",
        )
    return part


def _ends(line: Any) -> str:
    return f"from {line.min():.4g} to {line.max():.4g} m"
