"""The report in a real browser: no request, no error, every picture, the values of the store."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import xarray as xr
from deploy.support.needs import debian, install
from support.experiments import FRAMES, SIDE, campaign, load

import wavedask as wd
from wavedask.experiment import run
from wavedask.report.summary import value_text
from wavedask.scalars import scalars

pytestmark = pytest.mark.deploy

MIDDLE = 0.65e-6 * (SIDE - 1) / 2
SECTIONS: dict[str, Any] = {
    "pupil": {"circle": [MIDDLE, MIDDLE, 3.5e-5]},
    "lens": {"material": "Be"},
    "modes": {},
    "mirror": {"axis": "x", "theta": 3e-3, "p": 40.0, "shape": "cylinder"},
    "focus": {},
}
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PREFIXES = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}
FACTORS = {"%": 1e-2} | {
    prefix + unit: factor for prefix, factor in PREFIXES.items() for unit in ("m", "rad")
}
"""Units of the table, in those of the store."""


class Seen:
    """An open page, and all that it asked for or complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = campaign(tmp_path_factory.mktemp("browser"))
    with dask.config.set(scheduler="threads", num_workers=2):
        run(load(place, report=True, **SECTIONS))
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    install("playwright")
    debian(chromium="chromium")
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def seen(browser: Any, folder: Path) -> Iterator[Seen]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(30_000)
    opened = Seen(page)
    page.goto((folder / "results.html").as_uri())
    try:
        yield opened
    finally:
        page.close()


def test_no_request_leaves_the_page_and_nothing_is_wrong(seen: Seen, folder: Path) -> None:
    outside = [url for url in seen.requests if not url.startswith("data:")]
    assert outside == [(folder / "results.html").as_uri()]
    assert not seen.complaints
    # The page itself refuses to load anything, even if something in it tried.
    seen.page.evaluate("() => { new Image().src = 'http://127.0.0.1:9/away.png' }")
    seen.page.wait_for_timeout(200)
    assert any("Content Security Policy" in text for text in seen.complaints)


def test_every_picture_is_drawn(seen: Seen) -> None:
    pictures = seen.page.evaluate(
        "() => [...document.images].map(one => [one.alt, one.naturalWidth, one.complete])"
    )
    assert len(pictures) > 15
    assert all(done and width > 200 for _, width, done in pictures)
    shown = " ".join(text for text, _, _ in pictures)
    for words in (
        "intensity",
        "modes of the wavefront",
        "caustic",
        "mirror",
        "has no displacement",
    ):
        assert words in shown, words
    assert seen.page.locator("svg").count() == 1


def table_of(seen: Seen) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table of frames, as a person reads them."""
    table = seen.page.locator(".scroll table")
    head = table.locator("thead th").all_inner_texts()
    cells = table.locator("tbody td").all_inner_texts()
    width = len(head)
    return head, [cells[start : start + width] for start in range(0, len(cells), width)]


def test_values_are_those_of_the_store(seen: Seen, folder: Path) -> None:
    stored = wd.open_store(folder / "results.zarr").load()
    numbers: dict[str, xr.DataArray] = {**scalars(stored), "lens_x": stored.lens_x}
    head, rows = table_of(seen)
    assert len(rows) == FRAMES
    checked = 0
    for column, label in enumerate(head[1:], 1):
        name, _, unit = re.fullmatch(r"(\w+)( \[(.*)\])?", label).groups()  # type: ignore[union-attr] # every label fits
        factor = 1.0 if unit is None or name == "lens_x" else FACTORS[unit]
        for frame, row in enumerate(rows):
            if row[column] != "–":
                value = float(numbers[name][frame])
                assert float(row[column]) * factor == pytest.approx(value, rel=6e-5), name
                checked += 1
    assert checked > 40 * FRAMES
    text = seen.page.locator("#result").inner_text()
    radius, error = float(stored.radius[0]), float(stored.radius_uncertainty[0])
    assert value_text(radius, "m", error=error) in text
    assert "waves" in text


def test_a_click_sorts_the_table(seen: Seen) -> None:
    head, rows = table_of(seen)
    column = head.index("lens_x [mm]")
    before = [float(row[column]) for row in rows]
    assert before == sorted(before)
    button = seen.page.locator(".scroll thead button").nth(column)
    for expected in (sorted(before), sorted(before, reverse=True)):
        button.click()
        assert [float(row[column]) for row in table_of(seen)[1]] == expected
    assert seen.page.locator('.scroll th[aria-sort="descending"]').count() == 1


def test_it_prints(seen: Seen) -> None:
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("nav").is_visible()
    assert not seen.page.locator(".scroll").is_visible()
    assert seen.page.locator(".printed table").first.is_visible()
    # What is wider than the paper would be cut.
    seen.page.set_viewport_size({"width": 720, "height": 1000})
    wide = seen.page.evaluate(
        "() => [...document.querySelectorAll('table, img, svg')]"
        ".filter(one => one.getBoundingClientRect().right > 725).length"
    )
    assert wide == 0
    document = seen.page.pdf(format="A4")
    assert document.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", document)) >= 3


def test_a_page_that_is_made_later_shows_the_corrected_image_too(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from wavedask.cli import main

    store = str(folder / "results.zarr")
    later = tmp_path / "later.html"
    done = CliRunner().invoke(main, ["report", store, "-o", str(later), "--frame", "1"])
    assert done.exit_code == 0, done.output
    page = browser.new_page()
    try:
        page.goto(later.as_uri())
        assert page.locator('img[alt="intensity relative to the flat field"]').count() == 1
    finally:
        page.close()
    # Without the raw frames it says so.
    moved = (folder / "raw").rename(folder / "elsewhere")
    try:
        done = CliRunner().invoke(main, ["report", store, "-o", str(later), "--frame", "1"])
    finally:
        moved.rename(folder / "raw")
    text = later.read_text(encoding="utf-8")
    assert done.exit_code == 0
    assert "The corrected image is not shown: " in text
    assert "intensity relative to the flat field" not in text
