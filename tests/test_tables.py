"""Results show themselves as tables, in a terminal and in a notebook."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import xarray as xr

import wavedask as wd
from wavedask.experiment import RunReport
from wavedask.tables import html_table
from wavedask.wavefront.error_budget import Budget, Contribution

STORE = wd.StoreReport(Path("/a <b>/results.zarr"), frames=5, written=2)


def cells(html: str) -> list[list[str]]:
    """Texts of a table; it must be well-formed."""
    table = ElementTree.fromstring(html)
    return [[cell.text or "" for cell in row] for row in table.iter("tr")]


def test_a_report_is_a_table() -> None:
    report = RunReport(STORE, blind_pixels=3, seconds=1.25)
    assert dict(report.rows)["frames"] == "5 (2 computed now, 3 kept)"
    assert cells(report._repr_html_()) == [list(row) for row in report.rows]
    lines = repr(report).splitlines()
    assert lines[0] == "RunReport"
    assert lines[-1].split() == ["result", "store", "/a", "<b>/results.zarr"]
    assert "&lt;b&gt;" in STORE._repr_html_()


def test_the_reasons_of_missing_pixels_are_a_table() -> None:
    result = xr.Dataset(
        {"reason": (("y", "x"), np.array([[0, 0], [0, 5]]), {"search": 4})},
    )
    report = wd.why_missing(result)
    shown = [
        ["pixels with a displacement", "3 (75.0 %)"],
        ["pixels without one", "ambiguous 25.0 %"],
    ]
    assert cells(report._repr_html_()) == shown
    assert [line.split("  ")[1].strip() for line in str(report).splitlines()[1:]] == [
        name for name, _ in shown
    ]


def test_a_registration_is_a_table() -> None:
    found = wd.Registration(0.5 * np.eye(2), np.array([3.0, -4.0]), matches=7, points=9)
    shown = dict(cells(found._repr_html_()))
    assert shown["offset (y, x)"] == "(3.00, -4.00) px"
    assert shown["matches"] == "7 of 9 points"
    assert repr(found).splitlines()[1].split("  ")[-1].strip() == "(3.00, -4.00) px"
    assert str(found).startswith("offset (3.00, -4.00) px")


def test_a_budget_is_the_same_table_in_text_and_html() -> None:
    parts = (
        Contribution("distance", 1e-3, "m", 0.01, 0.02, 1e-9),
        Contribution("pixel size", 1e-10, "m", 0.001, 0.002, 1e-10, given=False),
    )
    table = Budget(40.0, 41.0, 5e-9, parts)
    html = table._repr_html_()
    body, remark = html.split("<p>")
    shown = cells(body)
    assert shown[0][0] == "source of error"
    assert [row[0] for row in shown[1:]] == ["distance", "pixel size *", "total"]
    for row in shown:
        assert any(line.split() == " ".join(row).split() for line in str(table).splitlines())
    assert "not given" in remark


def test_an_accessor_lists_its_methods() -> None:
    wave = xr.Dataset().wave
    shown = dict(cells(wave._repr_html_()))
    assert shown["track"] == (wd.track.__doc__ or "").splitlines()[0]
    assert "query" in repr(wave)


def test_a_header_is_a_row_of_names() -> None:
    assert cells(html_table([("a", "b"), ("c", "d")], header=True)) == [["a", "b"], ["c", "d"]]
