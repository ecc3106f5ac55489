"""The page for the logbook: whole, true, and without a request to anywhere."""

import base64
import html
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from matplotlib.image import imread, imsave
from support.experiments import FRAMES, copied, load

import wavedask as wd
from wavedask.cli import main
from wavedask.errors import FileError, InputError, StoreError
from wavedask.experiment.pipeline import RunReport, run
from wavedask.report import write_picture


class Page(HTMLParser):
    """What a page holds: references, pictures, cells, headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.pictures: dict[str, str] = {}
        self.keys: list[float] = []
        self.rows: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name in ("href", "src", "srcset", "data", "action", "poster"):
            if (value := given.get(name)) is not None:
                self.references.append(value)
        if tag == "img":
            self.pictures[str(given["alt"])] = str(given["src"])
        if "data-key" in given:
            self.keys.append(float(str(given["data-key"])))
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1] += data.strip() + " "


@pytest.fixture(scope="module")
def finished(
    raw: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, RunReport]]:
    folder = copied(raw, tmp_path_factory.mktemp("reported"))
    with dask.config.set(scheduler="threads", num_workers=2):
        yield folder, run(load(folder, lens={"material": "Be"}, report=True))


def test_a_run_writes_its_page_and_says_where(finished: tuple[Path, RunReport]) -> None:
    folder, report = finished
    assert report.page == folder / "results.html"
    rows = dict(report.rows)
    assert rows["report"] == str(folder / "results.html")
    assert rows["picture"] == str(folder / "results.png")
    assert np.ptp(imread(folder / "results.png")[..., :3]) > 0.5
    stored = wd.open_store(folder / "results.zarr")
    assert stored.radius.dims == ("frame",)
    assert f"{float(stored.radius[0]) * 1e6:.1f}" in rows["lens radius"]
    assert rows["lens radius"].count("±") == FRAMES
    chosen = stored.wave.query("radius > 0 and matched_share > 0")
    assert chosen.sizes["frame"] == FRAMES


def test_no_request_leaves_the_page(finished: tuple[Path, RunReport]) -> None:
    text = (finished[0] / "results.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.references
    assert all(one.startswith(("data:image/png;base64,", "#")) for one in page.references)
    assert "default-src 'none'" in html.unescape(text)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|<link|<iframe", text)
    for target in re.findall(r'href="#([a-z]+)"', text):
        assert f'id="{target}"' in text


def test_every_picture_is_there(finished: tuple[Path, RunReport], tmp_path: Path) -> None:
    page = Page((finished[0] / "results.html").read_text(encoding="utf-8"))
    wanted = {
        "intensity relative to the flat field",
        "wavefront (path length)",
        "excess thickness of the lens",
        "vertical wavefront slope",
        "standard error of the wavefront",
        "why a pixel has no displacement",
        "wavefront of the frames",
    }
    assert wanted <= page.pictures.keys()
    trends, *_ = (text for text in page.pictures if text.startswith("numbers of the frames: "))
    assert "matched_share, wavefront_rms, wavefront_pv, radius" in trends
    for number, source in enumerate(page.pictures.values()):
        file = tmp_path / f"{number}.png"
        file.write_bytes(base64.b64decode(source.partition(",")[2]))
        pixels = imread(file)
        assert min(pixels.shape[:2]) > 100
        assert np.ptp(pixels[..., :3]) > 0.5  # something is drawn


def test_values_are_those_of_the_store(finished: tuple[Path, RunReport]) -> None:
    folder, _ = finished
    page = Page((folder / "results.html").read_text(encoding="utf-8"))
    stored = wd.open_store(folder / "results.zarr")
    keys = np.array(page.keys).reshape(FRAMES, -1)
    assert keys[:, 0].tolist() == list(range(FRAMES))
    for name, scale in (
        *(("lens_x", 1.0), ("matched_share", 100.0), ("wavefront_rms", 1e12)),
        ("wavefront_pv", 1e12),
        *(("radius", 1e6), ("radius_uncertainty", 1e9), ("focal_length", 1.0)),
    ):
        values = np.asarray(stored[name].values, np.float64)
        found = [column for column in keys.T if np.allclose(column, values * scale, rtol=1e-9)]
        thousand = [column for column in keys.T if np.allclose(column, values * scale / 1e3)]
        assert found or thousand, name
    rows = " ".join(page.rows)
    for words in ("17 keV", "differential", "track.window 15", "wavedask run --from", "numpy"):
        assert words in rows, words


def test_a_page_of_ours_is_replaced_and_nothing_else(
    finished: tuple[Path, RunReport], tmp_path: Path
) -> None:
    store = finished[0] / "results.zarr"
    page = tmp_path / "r.html"
    wd.write_report(store, page, title="first")
    wd.write_report(store, page, title="<second & last>", frame=-1)
    text = page.read_text(encoding="utf-8")
    assert "<h1>&lt;second &amp; last&gt;</h1>" in text
    assert f"Frame {FRAMES - 1} of {FRAMES}" in text
    assert "first" not in Page(text).rows[0]
    with pytest.raises(FileError, match=r"r\.pdf does not end with \.html or \.htm\. A report is"):
        wd.write_report(store, page.with_suffix(".pdf"))
    page.write_text("notes")
    with pytest.raises(FileError, match="is no report"):
        wd.write_report(store, page)
    assert page.read_text() == "notes"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]


def test_a_picture_of_ours_is_replaced_and_nothing_else(
    finished: tuple[Path, RunReport], tmp_path: Path
) -> None:
    picture = tmp_path / "p.png"
    write_picture(finished[0] / "results.zarr", picture)
    before = picture.read_bytes()
    write_picture(finished[0] / "results.zarr", picture, frame=1)
    assert picture.read_bytes() != before
    imsave(picture, np.zeros((4, 4)))
    with pytest.raises(FileError, match="is no report"):
        write_picture(finished[0] / "results.zarr", picture)


@pytest.mark.parametrize("ending", ["html", "png"])
def test_a_file_in_the_way_is_told_before_the_run(
    finished: tuple[Path, RunReport], ending: str
) -> None:
    folder = finished[0]
    (folder / f"other.{ending}").write_text("notes")
    with pytest.raises(FileError, match=f"other.{ending} exists and is no report"):
        run(load(folder, output="other.zarr", report=True))
    assert not (folder / "other.zarr").exists()
    (folder / f"other.{ending}").unlink()


@pytest.mark.parametrize("frame", [3, -4])
def test_a_frame_that_there_is_not(finished: tuple[Path, RunReport], frame: int) -> None:
    with pytest.raises(InputError, match=f"frame is {frame}.*3 complete frames of 3"):
        wd.write_report(finished[0] / "results.zarr", finished[0] / "other.html", frame=frame)


def test_the_first_complete_frame_is_shown_and_compared(
    finished: tuple[Path, RunReport], tmp_path: Path
) -> None:
    whole, part = str(finished[0] / "results.zarr"), str(tmp_path / "part.zarr")
    shutil.copytree(whole, part)
    zarr.open_array(f"{part}/complete", mode="r+")[0] = False
    page = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", part, "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert f"Frame 1 of {FRAMES}" in page.read_text(encoding="utf-8")
    assert write_picture(part, tmp_path / "picture.png").stat().st_size
    mixed = CliRunner().invoke(main, ["info", str(finished[0] / "raw"), part])
    assert mixed.exit_code == 2
    assert "part.zarr is a result store: give it alone" in mixed.output.replace("\n", " ")
    refused = CliRunner().invoke(main, ["compare", whole, part])
    assert refused.exit_code == 2
    assert f"frame 0 of {part} is not complete" in refused.output.replace("\n", " ")
    assert CliRunner().invoke(main, ["compare", whole, part, "--frame", "1"]).exit_code == 0


def test_a_result_without_a_complete_frame(tmp_path: Path) -> None:
    empty = xr.Dataset(
        {"wavefront": (("frame", "y", "x"), np.zeros((1, 2, 2)))}, {"complete": ("frame", [False])}
    )
    with pytest.raises(InputError, match="no complete frame"):
        wd.write_report(empty, tmp_path / "r.html")


def test_a_tracking_without_set_up_has_a_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = {
        name: (("y", "x"), rng.normal(size=(20, 30)), {"units": "px"})
        for name in ("displacement_y", "displacement_x")
    }
    page = wd.write_report(xr.Dataset(maps), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<svg" not in page
    assert "Error budget" not in page
    assert set(Page(page).pictures) == {"displacement_y", "displacement_x"}


def test_the_command(finished: tuple[Path, RunReport], tmp_path: Path) -> None:
    store = str(finished[0] / "results.zarr")
    page = tmp_path / "logbook.html"
    done = CliRunner().invoke(main, ["report", store, "-o", str(page), "--title", "June"])
    assert done.exit_code == 0, done.output
    assert str(page) in done.output
    assert "<h1>June</h1>" in page.read_text(encoding="utf-8")
    with pytest.raises(StoreError, match="no store at"):
        wd.write_report(tmp_path / "none.zarr", page)
    bad = CliRunner().invoke(main, ["report", store, "-o", str(tmp_path / "no" / "r.html")])
    assert bad.exit_code == 2


def test_two_results_are_compared(finished: tuple[Path, RunReport], tmp_path: Path) -> None:
    store = str(finished[0] / "results.zarr")
    picture = tmp_path / "difference.png"
    done = CliRunner().invoke(
        main, ["compare", store, store, "--other-frame", "1", "--picture", str(picture)]
    )
    assert done.exit_code == 0, done.output
    for words in ("rms of the difference", "difference over its error", str(picture)):
        assert words in done.output
    assert imread(picture).size
    drawn = picture.read_bytes()
    for name, words in (("difference.png", "exists"), ("difference.xyz", "must end with .png")):
        options = ["compare", store, store, "--picture", str(tmp_path / name)]
        refused = CliRunner().invoke(main, options)
        assert refused.exit_code == 2
        assert words in refused.output
    assert picture.read_bytes() == drawn
    wrong = CliRunner().invoke(main, ["compare", store, store, "--frame", "9"])
    assert wrong.exit_code == 2
    assert "frames 0 to 2, not 9" in wrong.output
