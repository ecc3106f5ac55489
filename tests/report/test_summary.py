"""The numbers of many frames in a few lines."""

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.report import matched_rows, numbers_of_frames, summary_rows
from wavedask.report.summary import value_text
from wavedask.tracking import why_missing
from wavedask.wavefront import frame_numbers


def maps(frames: int = 3, side: int = 6) -> xr.Dataset:
    rng = np.random.default_rng(3)
    surface = rng.normal(scale=2e-9, size=(frames, side, side)) + 5e-3
    reason = np.zeros((frames, side, side), np.uint8)
    surface[0, 0, :], reason[0, 0, :] = np.nan, 1  # beyond the border
    surface[1, :, 0], reason[1, :, 0] = np.nan, 9  # outside of the pupil
    surface[2], reason[2] = np.nan, 7
    return xr.Dataset(
        {
            "wavefront": (("frame", "y", "x"), surface, {"units": "m"}),
            "reason": (("frame", "y", "x"), reason),
        }
    )


@pytest.mark.parametrize("chunks", [None, {"frame": 2}, {"frame": 1, "y": 2, "x": 5}])
def test_numbers_of_a_frame_are_those_of_its_pixels(chunks: dict[str, int] | None) -> None:
    result = maps() if chunks is None else maps().chunk(chunks)
    numbers = frame_numbers(result)
    if chunks is not None:
        assert all(array.chunks is not None for array in numbers.data_vars.values())
    np.testing.assert_allclose(numbers.matched_share, [30 / 36, 1.0, 0.0])
    surface = maps().wavefront.values
    for frame in range(2):
        known = surface[frame][np.isfinite(surface[frame])]
        assert float(numbers.wavefront_rms[frame]) == pytest.approx(known.std(), rel=1e-6)
        assert float(numbers.wavefront_pv[frame]) == pytest.approx(np.ptp(known), rel=1e-9)
    assert np.isnan(numbers.wavefront_rms[2])
    assert np.isnan(numbers.wavefront_pv[2])
    assert {name: a.attrs["units"] for name, a in numbers.items()} == {
        "matched_share": "1",
        "wavefront_rms": "m",
        "wavefront_pv": "m",
    }


def test_numbers_that_a_store_has_are_not_computed_again() -> None:
    result = maps().assign(matched_share=("frame", [0.1, 0.2, 0.3]))
    numbers = numbers_of_frames(result)
    assert numbers.matched_share.values.tolist() == [0.1, 0.2, 0.3]
    assert np.isfinite(numbers.wavefront_rms[0])
    assert not [name for name, array in numbers.items() if array.ndim > 1]


def test_frames_that_are_not_written_do_not_count() -> None:
    result = maps().assign(complete=("frame", [True, False, True]))
    numbers = numbers_of_frames(result)
    assert numbers.frame.values.tolist() == [0, 2]


def test_the_worst_frame_is_named() -> None:
    numbers = xr.Dataset(
        {
            "matched_share": ("frame", [0.9, 0.4, 0.8, 0.7, np.nan]),
            "radius": ("frame", np.array([50.0, 51.0, 50.5, 40.0, 50.2]) * 1e-6),
            "radius_uncertainty": ("frame", np.full(5, 0.3e-6)),
            "wavefront_rms": ("frame", np.array([1.0, 2.0, 3.0, 9.0, 4.0]) * 1e-9),
        },
        attrs={"wavelength": 1e-10},
    )
    rows = dict(summary_rows(numbers))
    assert rows["pixels matched"].endswith("last –, worst 40.0 % (frame 1); none in 1 of 5 frames")
    assert rows["lens radius"] == (
        "median 50.20 µm, first 50.00 ± 0.30 µm, last 50.20 ± 0.30 µm, "
        "worst 40.00 ± 0.30 µm (frame 3)"
    )
    assert "worst 9 nm (90 waves) (frame 3)" in rows["wavefront, rms"]
    few = dict(summary_rows(numbers.isel(frame=[0, 1])))
    assert few["pixels matched"] == "90.0 %, 40.0 %"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (5.000123e-5, 2.7e-8, "50.001 ± 0.027 µm"),
        (21.2, 0.9, "21.20 ± 0.90 m"),
        (21.2, 0.0, "21.2 m"),
        (21.2, np.inf, "21.2 m"),
        (3.0, 400.0, "3 ± 400 m"),
        (np.nan, 1.0, "–"),
    ],
)
def test_digits_end_where_the_error_begins(value: float, error: float, text: str) -> None:
    assert value_text(value, "m", error=error) == text


def test_the_accessor_and_the_function_are_public() -> None:
    assert "write_report" in dir(wd)


def test_the_strongest_aberrations_are_told_with_their_errors_and_in_waves() -> None:
    rng = np.random.default_rng(1)
    names = ["tilt x", "defocus", "coma x", "coma y", "trefoil x", "spherical", "Z(7, 1)"]
    sizes = np.array([90.0, 50.0, 1.0, 5.0, 4.0, 3.0, 0.5]) * 1e-10
    values = sizes * rng.normal(1, 0.01, (5, 7))
    values[4] = np.nan
    fit = xr.Dataset(
        {
            "coefficient": (("frame", "mode_number"), values, {"units": "m"}),
            "coefficient_uncertainty": (("frame", "mode_number"), np.full((5, 7), 1e-11)),
        },
        {"mode_name": ("mode_number", names)},
        {"wavelength": 1e-10},
    )
    rows = dict(summary_rows(numbers_of_frames(fit)))
    assert list(rows) == [
        f"mode, {name}" for name in ("defocus", "coma y", "trefoil x", "spherical")
    ]
    assert "± 10 pm (4.9" in rows["mode, coma y"]
    assert rows["mode, coma y"].endswith("none in 1 of 5 frames")


def test_a_fit_that_cannot_be_a_lens_is_told() -> None:
    flags = {
        "flag_values": [0, 1, 2, 3, 4],
        "flag_meanings": "plausible defocusing poor_fit too_wide not_fitted",
    }
    numbers = xr.Dataset({"verdict": ("frame", np.array([0, 1, 0, 1, 4], np.uint8), flags)})
    (name, told), *others = summary_rows(numbers)
    assert name == "doubt about the lens"
    assert not others
    assert told == (
        "it spreads the beam (are sample and reference interchanged?) in 2 of 5 frames, first 1; "
        "there is no fit in 1 of 5 frames, first 4"
    )
    assert summary_rows(numbers.isel(frame=[0, 2])) == []
    (_, told), *_ = summary_rows(numbers.isel(frame=[1, 3]))
    assert told.endswith("in all frames")


def test_every_verdict_is_told() -> None:
    from wavedask.optics.lens_map import Verdict
    from wavedask.report.summary import DOUBTS

    assert {name.lower() for name in Verdict.__members__} - {"plausible"} == set(DOUBTS)


def test_a_number_that_was_given_is_told_once() -> None:
    numbers = xr.Dataset(
        {
            "ellipse_p": ("frame", np.full(5, np.inf)),
            "ellipse_theta": ("frame", np.full(5, 3e-3)),
            "ellipse_theta_uncertainty": ("frame", np.zeros(5)),
            "focal_length": ("frame", [np.inf, 20.0, 21.0, 22.0, np.nan]),
        }
    )
    rows = dict(summary_rows(numbers))
    assert rows["mirror, source distance p"] == "infinite in all frames"
    assert rows["mirror, grazing angle"] == "3 mrad in all frames"
    numbers["ellipse_theta"][1] = np.nan
    told = dict(summary_rows(numbers))["mirror, grazing angle"]
    assert told == "3 mrad; none in 1 of 5 frames"
    assert rows["focal length"].startswith("median 21.5 m, first infinite, last –, worst infinite")


def test_a_number_that_no_frame_has_is_told() -> None:
    numbers = xr.Dataset({"strehl": ("frame", [np.nan, np.nan])})
    assert summary_rows(numbers) == [("Strehl ratio", "– (in no frame)")]


def test_the_worst_frame_says_why_its_pixels_are_lost() -> None:
    result = maps().isel(frame=[0, 1, 2]).assign(complete=("frame", [True, False, True]))
    done = result.isel(frame=[0, 2])
    numbers = numbers_of_frames(result)
    for frames in (done, result):
        rows = dict(matched_rows(frames, numbers, why_missing(done)))
        assert rows["matched by frame"] == "83.3 %, 0.0 %"
        assert rows["lost in frame 2, the worst"] == "uncorrelated 100.0 %"
