"""Labelled tracking: where the speckle of a sample came from in its reference."""

from typing import Final, Literal

import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    LONG_NAME,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    UNITS,
    WINDOW,
    labelled,
)
from wavedask.crossspot import CrossSpot, Rigid, cross_spot
from wavedask.errors import InputError
from wavedask.images import image_of

Engine = Literal["opencv"]
ENGINES: Final = ("opencv",)

FIELDS: Final = CrossSpot(
    displacement_y=DISPLACEMENT_Y,
    displacement_x=DISPLACEMENT_X,
    uncertainty_y=UNCERTAINTY_Y,
    uncertainty_x=UNCERTAINTY_X,
    correlation=CORRELATION,
    window=WINDOW,
)
"""The quantity that each field of the tracker is."""


def track(
    sample: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    *,
    engine: Engine = "opencv",
    window: int | tuple[int, int] = 21,
    search: int = 16,
    step: int = 4,
    good: float = 0.8,
    rigid: Rigid = "auto",
) -> xr.Dataset:
    """Track the speckle of sample images in reference images (X-ray speckle tracking, XST).

    Parameters
    ----------
    sample : xarray.DataArray or Dataset, dims ([frame], y, x)
        Images with the optic; of a dataset, its variable ``image``.
    reference : xarray.DataArray or Dataset, dims ([frame], y, x)
        Images without the optic: one for all samples, or one for each, paired by position.
    engine : "opencv", default "opencv"
        The tracker: the report's crossSpot, a loop of OpenCV template matches.
    window, search, step, good, rigid
        As in `wavedask.cross_spot`.

    Returns
    -------
    xarray.Dataset
        Lazy where the images are, with the coordinates of `sample` and the variables

        ``displacement_y``, ``displacement_x`` (px)
            ``u`` with ``sample(p) = reference(p - u)``, positive toward larger index; NaN where
            there is no match.
        ``uncertainty_y``, ``uncertainty_x`` (px)
            Standard error of the displacement; infinite where there is no match.
        ``correlation`` (1)
            Zero-normalised cross-correlation at the match.
        ``window`` (px)
            Side of the template that gave the match; 0 where there is none.

        A sample without ``frame`` gives maps without it.

    Raises
    ------
    InputError
        An unknown engine, images of other dimensions, unequal shapes, or settings that make no
        sense.

    See Also
    --------
    wavedask.cross_spot : the same on bare arrays.
    wavedask.wavefront : what to do with the displacement.

    Examples
    --------
    >>> import xarray as xr
    >>> from wavedask.simulate import displaced_pair
    >>> pair = displaced_pair((96, 96), displacement_x=2.3, seed=1)
    >>> sample, reference = (
    ...     xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
    ... )
    >>> tracked = track(sample, reference, window=15, search=4)
    >>> print(f"{tracked.displacement_x[48, 48]:.1f} {tracked.displacement_x.units}")
    2.3 px
    """
    if engine not in ENGINES:
        raise InputError(f"engine is {engine!r}", f"Choose one of: {', '.join(ENGINES)}.")
    images, targets = image_of(sample, "sample"), image_of(reference, "reference")
    fields = cross_spot(
        images.data,
        targets.data,
        window=window,
        search=search,
        step=step,
        good=good,
        rigid=rigid,
    )
    variables = {
        quantity.name: labelled(
            field, quantity, dims=tuple(map(str, images.dims)), coords=images.coords
        )
        for quantity, field in zip(FIELDS, fields, strict=True)
    }
    # A unit is that of the image, not of the tracking.
    attrs = {name: value for name, value in sample.attrs.items() if name not in (UNITS, LONG_NAME)}
    return xr.Dataset(variables, attrs=attrs)
