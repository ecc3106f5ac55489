"""Labelled tracking: where the speckle of a sample came from in its reference."""

from typing import Final

import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    DARK_FIELD,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    FRAME,
    LONG_NAME,
    TRANSMISSION,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    UNITS,
    WINDOW,
    labelled,
)
from wavedask.crossspot import Engine, Rigid, cross_spot
from wavedask.errors import InputError
from wavedask.images import image_of
from wavedask.kernels.fields import Fields
from wavedask.kernels.spline import Order

FIELDS: Final = Fields(
    displacement_y=DISPLACEMENT_Y,
    displacement_x=DISPLACEMENT_X,
    uncertainty_y=UNCERTAINTY_Y,
    uncertainty_x=UNCERTAINTY_X,
    correlation=CORRELATION,
    window=WINDOW,
    transmission=TRANSMISSION,
    dark_field=DARK_FIELD,
)
"""The quantity that each field of the tracker is."""


def track(
    sample: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    *,
    over: str | None = None,
    engine: Engine = "dense",
    window: int | tuple[int, int] = 21,
    search: int = 16,
    good: float = 0.8,
    rigid: Rigid = "auto",
    step: int | None = None,
    order: Order | None = None,
) -> xr.Dataset:
    """Track the speckle of sample images in reference images (X-ray speckle tracking).

    Each sample frame against its reference (XST), or all frames of a stack together (XSVT, UMPA).

    Parameters
    ----------
    sample : xarray.DataArray or Dataset, dims ([frame], y, x)
        Images with the optic; of a dataset, its variable ``image``.
    reference : xarray.DataArray or Dataset, dims ([frame], y, x)
        Images without the optic: one for all samples, or one for each, paired by position.
    over : str, optional
        Dimension whose frames share one displacement and are matched jointly: ``"frame"``. By
        default each frame is matched alone.
    engine : "dense" or "opencv", default "dense"
        The tracker: Gauss-Newton at every pixel, or the report's loop of template matches.
    window, search, good, rigid, step, order
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
            Side of the window that gave the match; 0 where there is none.
        ``transmission``, ``dark_field`` (1)
            Ratio of the local means, and of the relative visibilities, sample to reference.

        A joint tracking has no ``frame``, and no coordinates along it; a sample without ``frame``
        gives maps without it, too.

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
    images, targets = image_of(sample, "sample"), image_of(reference, "reference")
    if over is not None and (over != FRAME or over not in images.dims):
        raise InputError(
            f"over is {over!r}, the sample has dimensions {images.dims}",
            f"Give {FRAME!r}, and a stack of frames; or leave it out.",
        )
    fields = cross_spot(
        images.data,
        targets.data,
        engine=engine,
        window=window,
        search=search,
        good=good,
        rigid=rigid,
        joint=over is not None,
        step=step,
        order=order,
    )
    kept = (
        images
        if over is None
        else images.isel({FRAME: 0}, drop=True).drop_vars(
            [name for name, coord in images.coords.items() if FRAME in coord.dims], errors="ignore"
        )
    )
    variables = {
        quantity.name: labelled(
            field, quantity, dims=tuple(map(str, kept.dims)), coords=kept.coords
        )
        for quantity, field in zip(FIELDS, fields, strict=True)
    }
    # A unit is that of the image, not of the tracking.
    attrs = {name: value for name, value in sample.attrs.items() if name not in (UNITS, LONG_NAME)}
    return xr.Dataset(variables, attrs=attrs)
