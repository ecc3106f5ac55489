"""Slopes -> surface: NumPy, Dask or labelled arrays, a map or a stack of maps."""

import logging
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal, cast, get_args

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    DIMENSIONLESS,
    PIXEL,
    RADIAN,
    UNITS,
    UNKNOWN_UNIT,
    WAVEFRONT,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.kernels.integration import Solution, frankot_chellappa, grad2surf, least_squares

Method = Literal["least_squares", "frankot_chellappa", "grad2surf"]
Array = npt.NDArray[Any] | da.Array

METHODS: Final[Mapping[str, Callable[..., Solution]]] = {
    "least_squares": least_squares,
    "frankot_chellappa": frankot_chellappa,
    "grad2surf": grad2surf,
}
"""Methods of integration by name; the first is the default, and the only one with weights."""

STEP_TOLERANCE: Final = 1e-4
"""Steps of a coordinate may differ by this part of their mean."""

logger = logging.getLogger("wavedask")


def integrate[T: (npt.NDArray[Any], da.Array, xr.DataArray)](x):
    ...
