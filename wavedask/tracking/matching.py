"""How a pair of images is matched: the engine, its settings, and what is wrong with them."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from wavedask.conventions import DIMENSIONLESS, WINDOW
from wavedask.errors import InputError
from wavedask.geometry import each
from wavedask.kernels.dense import Dense, DetectorNoise
from wavedask.kernels.spline import Order
from wavedask.kernels.start import rigid_shift, windows_between
from wavedask.kernels.threads import one_opencv_thread
from wavedask.kernels.twopass import TwoPass
from wavedask.tracking.moving import middle
from wavedask.units import number_of, whole_number

Array = NDArray[Any] | da.Array
Engine = Literal["dense", "opencv"]
Splines = Order | Literal["auto"]
Noise = DetectorNoise | dict[str, Any]
Rigid = Literal["auto"] | tuple[int, int] | None
Tracker = Dense | TwoPass

ENGINES: Final = ("dense", "opencv")
ORDERS: Final = (3, 5)
DEFAULT_ORDER: Final = 3
STEP: Final = 4
"""Pixels between the points of the two-pass tracker, by default."""


@dataclass(frozen=True, slots=True)
class Matching:
    """How images are matched: all that goes with them through tiles and tasks.

    Attributes
    ----------
    tracker : Dense or TwoPass
        The engine with its settings.
    rigid : "auto", (int, int) or None
        Displacement (y, x) common to all pixels, in pixels: to be found, given, or none.
    joint : bool
        Whether all frames share one displacement.
    """

    tracker: Tracker
    rigid: Rigid
    joint: bool

    def shift(self, sample: NDArray[Any], reference: NDArray[Any]) -> tuple[int, int]:
        """Rigid shift of a pair of frames, in whole pixels."""
        if self.rigid is None:
            return 0, 0
        if self.rigid == "auto":
            window, search = max(self.tracker.windows), self.tracker.search
            with one_opencv_thread():
                return rigid_shift(middle(sample), middle(reference), window=window, search=search)
        return round(self.rigid[0]), round(self.rigid[1])

    def stacks(self, frames: int) -> list[slice]:
        """Frames that are tracked together: all of them, or one by one."""
        if self.joint:
            return [slice(0, frames)]
        return [slice(frame, frame + 1) for frame in range(frames)]


def checked_settings(
    *,
    engine: Engine = "dense",
    window: int | tuple[int, int],
    search: int,
    good: float,
    step: int | None = None,
    order: Splines | None = None,
    detector_noise: Noise | None = None,
) -> Tracker:
    """Resolve the settings of an engine, or say what is wrong with them.

    Parameters
    ----------
    engine, window, search, good, step, order, detector_noise
        As in `cross_spot`.

    Returns
    -------
    Dense or TwoPass
        With splines of order 3 where `order` is ``"auto"``, which needs an image.

    Raises
    ------
    InputError
        A setting that makes no sense, or belongs to the other engine.
    """
    if engine not in ENGINES:
        raise InputError(f"engine is {engine!r}", f"Choose one of: {', '.join(ENGINES)}.")
    smallest, largest = _checked_window(window)
    if largest < smallest:
        raise InputError(
            f"window is {window!r}", "Give the smallest side first: (smallest, largest)."
        )
    remedy = (
        "Give the largest displacement to look for, beyond the rigid shift, in whole pixels from 1"
        " up."
    )
    if whole_number("search", search, remedy=remedy) < 1:
        raise InputError(f"search is {search!r}", remedy)
    if not 0 < number_of("good", good, unit=DIMENSIONLESS) <= 1:
        raise InputError(f"good is {good!r}", "Give a correlation between 0 and 1.")
    windows = tuple(windows_between(smallest, largest))
    if engine == "dense":
        if step is not None:
            raise InputError(
                f"step is {step!r} with engine 'dense', which gives every pixel",
                'Leave it out, or choose engine="opencv".',
            )
        if order not in (None, "auto", *ORDERS):
            raise InputError(f"order is {order!r}", 'Give 3, 5 or "auto".')
        noise = None if detector_noise is None else DetectorNoise.of(detector_noise)
        if noise is not None and noise.side > smallest:
            raise InputError(
                f"detector_noise: psf is {noise.side:g} px wide, and the window {smallest} px",
                "Give a window that is larger than the spot of a photon, or a smaller psf.",
            )
        splines: Order = 5 if order == 5 else DEFAULT_ORDER
        return Dense(windows, int(search), float(good), splines, noise)
    if detector_noise is not None:
        raise InputError(
            "detector_noise is given with engine 'opencv', which takes noise from the correlation",
            'Leave it out, or choose engine="dense".',
        )
    if order is not None:
        raise InputError(
            f"order is {order!r} with engine 'opencv', which has no splines",
            'Leave it out, or choose engine="dense".',
        )
    remedy = (
        f"Give a whole number of pixels from 1 to the window ({smallest}): wider steps leave pixels"
        " unseen."
    )
    apart = STEP if step is None else whole_number("step", step, remedy=remedy)
    if not 1 <= apart <= smallest:
        raise InputError(f"step is {step!r}", remedy)
    return TwoPass(windows, int(search), apart, float(good))


def _checked_window(window: Any) -> tuple[int, int]:
    remedy = "Give an odd number of pixels from 5 up, or a pair (smallest, largest)."
    given = each(window)
    sides = [whole_number(WINDOW.name, side, remedy=remedy, given=window) for side in given]
    if len(sides) not in (1, 2) or any(side < 5 or side % 2 == 0 for side in sides):
        raise InputError(f"window is {window!r}", remedy)
    return sides[0], sides[-1]


def checked_rigid(rigid: Any) -> Rigid:
    """Return a rigid shift, or say what is wrong with it.

    Raises
    ------
    InputError
        Neither "auto", nor a pair of finite numbers, nor None.
    """
    if rigid is None:
        return None
    if isinstance(rigid, str) and rigid == "auto":
        return "auto"
    pair = np.asarray(rigid, dtype=object)
    if pair.shape != (2,) or not all(
        isinstance(part, int | float | np.number) and np.isfinite(part) for part in pair
    ):
        raise InputError(
            f"rigid is {rigid!r}", 'Give "auto", a pair (y, x) of pixels, or None for no shift.'
        )
    return pair[0], pair[1]


def check_pair(sample: Array, reference: Array, matching: Matching) -> None:
    """Check that a pair of images can be matched.

    Raises
    ------
    InputError
        Shapes that do not fit each other, the window, or the matching; no real numbers.
    """
    for name, array in (("sample", sample), ("reference", reference)):
        if array.ndim not in (2, 3):
            raise InputError(
                f"{name} has {array.ndim} dimensions, shape {array.shape}",
                "Give (y, x) or (frame, y, x).",
            )
        if np.isnan(array.shape).any():
            raise InputError(
                f"{name} has the shape {array.shape}: its Dask chunks are of unknown size",
                "Call compute_chunk_sizes() on the Dask array first, or load it.",
            )
        if array.dtype.kind not in "uif":
            raise InputError(f"{name} has data type {array.dtype}", "Give real numbers.")
    if sample.shape[-2:] != reference.shape[-2:]:
        raise InputError(
            f"sample frames are {sample.shape[-2:]}, reference frames {reference.shape[-2:]} "
            "(y, x)",
            "Crop both to the same region of the detector.",
        )
    frames, references = number_of_frames(sample), number_of_frames(reference)
    if references not in (1, frames):
        raise InputError(
            f"{frames} sample frames but {references} reference frames",
            "Give one reference for all samples or one for each.",
        )
    if matching.joint and sample.ndim != 3:
        raise InputError(f"a joint sample has shape {sample.shape}", "Give a stack: (frame, y, x).")
    if matching.joint and not frames:
        raise InputError(f"a joint sample has shape {sample.shape}", "Give a stack with frames.")
    largest = max(matching.tracker.windows)
    if min(sample.shape[-2:]) < largest:
        raise InputError(
            f"frames of {sample.shape[-2:]} pixels are smaller than the window ({largest})",
            "Give a smaller window.",
        )


def number_of_frames(array: Array) -> int:
    """Count the frames of a stack; a single image is one."""
    return int(array.shape[0]) if array.ndim == 3 else 1
