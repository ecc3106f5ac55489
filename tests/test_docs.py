"""What the documentation says is what the package does."""

import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_origin

import click
import dask
import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from pydantic import BaseModel

import wavedask as wd
from wavedask import errors
from wavedask.cli import main
from wavedask.cli.demo import demo_campaign
from wavedask.experiment import run
from wavedask.experiment.model import Experiment, load_experiment

DataDir = Callable[[str], Path]

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
GUIDES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = [
    *(README, *GUIDES, ROOT / "deploy" / "README.md"),
    *sorted([*DOCS.glob("*.md"), *DOCS.glob("deploy/*.md")]),
]
NOTEBOOK = ROOT / "notebooks" / "first_light.md"
ON_RESULTS = ["howto_lens", "howto_zernike", "howto_mirror", "howto_focus", "faq_empty_map"]
"""Pages whose code begins with a result store."""
ON_THE_DEMONSTRATION = ["howto_window", "howto_masks"]
"""Pages whose code begins with the files of the demonstration."""


def blocks(page: Path, *languages: str) -> list[str]:
    """Code blocks of a page in one of these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def commands(page: Path) -> list[list[str]]:
    """Calls of ``wavedask`` on a page, as lists of words without the name itself."""
    calls = []
    for block in blocks(page, "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.removeprefix("$ ").split("&&"):
                words = shlex.split(part)
                if words and words[0].rpartition("/")[2] == "wavedask":
                    calls.append(words[1:])
    return calls


def keys(section: type[BaseModel]) -> set[str]:
    """Keys that a section of an experiment file may have, and those of the sections in it."""
    found = set(section.model_fields)
    for field in section.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if inspect.isclass(kind) and issubclass(kind, BaseModel):
                found |= keys(kind)
    return found


def test_readme_example_runs_on_the_files_of_the_demonstration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks(README, "python")
    assert len(example.splitlines()) <= 18
    demo_campaign(tmp_path / "wavedask-demo", side=256, positions=2, seed=0)
    monkeypatch.chdir(tmp_path)
    with dask.config.set(scheduler="threads", num_workers=1):
        exec(compile(example, str(README), "exec"), {})
    radius = float(capsys.readouterr().out.strip("[] m\n"))
    assert radius == pytest.approx(50e-6, rel=0.05)
    assert (tmp_path / "lens.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name."""
    folder = tmp_path_factory.mktemp("documented")
    demo_campaign(folder / "wavedask-demo", side=256, positions=2, seed=0)
    y, x = np.mgrid[-40.0:41.0, -40.0:41.0]
    powers = xr.DataArray([0.05, 0.1], dims="frame")  # of one lens and of two, 1/m
    tracking = xr.Dataset(
        {
            "displacement_y": -powers * xr.DataArray(y, dims=("y", "x")),
            "displacement_x": -powers * xr.DataArray(x, dims=("y", "x")),
        },
        {"number_of_lenses": ("frame", [1, 2])},
    )
    for name in ("uncertainty_y", "uncertainty_x"):
        tracking[name] = xr.full_like(tracking.displacement_x, 0.01)
    tracking["window"] = xr.full_like(tracking.displacement_x, 5.0)
    tracking["reason"] = xr.zeros_like(tracking.window, dtype=np.uint8)
    wf = wd.wavefront(tracking.chunk(frame=1), distance=1.0, pixel_size=2e-6, energy=17.0)
    wd.write_store(folder / "results.zarr", wf, settings={})
    return folder


def run_the_code_of(page: Path) -> None:
    """Run the Python code of a page, from the first block to the last."""
    code = "\n".join(blocks(page, "python"))
    assert "import wavedask as wd" in code
    with dask.config.set(scheduler="threads", num_workers=1):
        exec(compile(code, str(page), "exec"), {})


@pytest.mark.parametrize("page", [*ON_RESULTS, *ON_THE_DEMONSTRATION])
def test_code_of_the_guides_runs(
    page: str, documented: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(documented)
    run_the_code_of(DOCS / f"{page}.md")


def test_the_readme_calibrates_the_camera_of_the_demonstration(
    documented: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(documented)
    (line,) = (words for words in commands(README) if words[0] == "distortion")
    main([*line, "--cluster", "threads"], standalone_mode=False)
    found = xr.open_zarr("camera.zarr")
    # The barrel changes the mean pixel size by some 1e-3.
    assert float(found.pixel_size_x) == pytest.approx(0.65e-6, rel=0.01)
    assert 0.1 < float(found.distortion_x.max()) < 2


def test_the_tutorial_on_your_data_finds_what_it_says(
    data_dir: DataDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = DOCS / "your_data.md"
    (experiment,) = blocks(page, "yaml")
    for file in data_dir("xray_fourrod").glob("[FRS]*.tif"):
        # The first rows and columns hold the rod, and take a third of the time.
        tifffile.imwrite(tmp_path / file.name, tifffile.imread(file)[:250, :1250])
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text(experiment.replace("report: true", "cluster: threads"))
    with dask.config.set(scheduler="threads", num_workers=1):
        run(load_experiment("experiment.yaml"))
    capsys.readouterr()
    run_the_code_of(page)
    found = re.findall(r"\d\.\d+(?:e-\d+)?", capsys.readouterr().out)
    said = re.search(r"prints (\S+) and (\S+),\s+with a residual of\s+(\S+) µrad", page.read_text())
    assert said
    assert [*map(float, found)] == pytest.approx([*map(float, said.groups())], rel=0.06)
    assert float(found[0]) == pytest.approx(float(found[1]), rel=0.02)


@pytest.mark.parametrize("ending", ["pytest", "wavedask demo"])
def test_readme_has_one_line_that_sets_itself_up(ending: str) -> None:
    lines = [
        line
        for block in blocks(README, "bash")
        for line in block.splitlines()
        if line.startswith("python3 -m venv .venv && ") and line.endswith(f".venv/bin/{ending}")
    ]
    assert len(lines) == 1


def test_numbers_of_the_readme_are_those_of_the_benchmarks() -> None:
    rows = re.findall(
        r"^\| [^|]* \| ([^|]*) \| ([^|]*) \| \[\w+\]\((docs/figures/\w+\.md)\) \|$",
        README.read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 3
    for *cells, figures in rows:
        table = re.findall(r"\d[\d,]*\.?\d*", (ROOT / figures).read_text())
        measured = [float(number.replace(",", "")) for number in table]
        for number, millions in re.findall(r"(\d+(?:\.\d+)?)( million)?", " ".join(cells)):
            digits = len(number.partition(".")[2])
            scale = 1e6 if millions else 1.0
            assert float(number) in {round(value / scale, digits) for value in measured}, number


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    for words in commands(page):
        name, *arguments = words
        command = main.commands[name]
        if isinstance(command, click.Group):
            name, *arguments = arguments
            command = command.commands[name]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= options, words
        # What click itself thinks of the line: required arguments, kinds of values. Below the
        # group, as it is run: a command keeps the names of its help option from the first time.
        above = click.Context(main, **main.context_settings)
        command.make_context(name, list(arguments), parent=above, resilient_parsing=False)


def test_pages_with_commands_were_read() -> None:
    named = {words[0] for page in PAGES for words in commands(page)}
    assert named == set(main.commands)
    assert isinstance(main, click.Group)


def test_experiment_of_the_documentation_is_valid_and_complete(tmp_path: Path) -> None:
    example, *variations = blocks(DOCS / "experiment.md", "yaml")
    file = tmp_path / "experiment.yaml"
    file.write_text(example)
    shown = load_experiment(file)
    words = set(re.findall(r"\w+", "".join([example, *variations])))
    assert keys(Experiment) <= words
    required = {
        name: yaml.safe_load(example)[name] for name in ("sample", "reference", "output")
    } | {"wavefront": {"distance": 1.0, "pixel_size": 0.65e-6, "energy": 17.0}}
    default = Experiment.model_validate(required)
    assert shown.correct.average == default.correct.average
    assert shown.wavefront == default.wavefront
    assert shown.track.model_copy(update={"search": default.track.search}) == default.track
    for variation in variations:
        changes = yaml.safe_load(variation)
        pair = ["sample", "reference"]
        others = {"near": pair, "train": ["reference"], "roles": pair}
        dropped = {key for other in others.keys() & changes.keys() for key in others[other]}
        if "self_reference" in changes or "distance" in changes.get("track_scan", {}):
            # The page says that these examples have no such sections.
            dropped |= {"reference", "wavefront"}
        kept = {key: value for key, value in required.items() if key not in dropped}
        Experiment.model_validate(kept | changes)


def test_mistakes_are_reported_as_the_documentation_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = blocks(DOCS / "experiment.md", "yaml")[0]
    (report,) = blocks(DOCS / "experiment.md", "text")
    monkeypatch.chdir(tmp_path)
    file = Path("experiment.yaml")
    file.write_text(example.replace("search:", "serach:").replace("e: 1.0 ", "e: -1.0 "))
    with pytest.raises(errors.ExperimentError) as raised:
        load_experiment(file)
    assert f"Error: {raised.value}" == report.strip()


def test_reference_lists_the_public_api() -> None:
    listed = {
        line.strip().rpartition(".")[2]
        for block in re.findall(r":nosignatures:\n\n(.*?)```", (DOCS / "api.md").read_text(), re.S)
        for line in block.splitlines()
    }
    public = {
        name
        for module in (wd, wd.optics, wd.simulate)
        for name in module.__all__
        if not inspect.ismodule(item := getattr(module, name)) and get_origin(item) is None
    }
    raised = {name for name, item in vars(errors).items() if inspect.isclass(item)}
    assert public | raised <= listed


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK], ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_every_page_is_in_one_of_the_parts() -> None:
    front = (DOCS / "index.md").read_text()
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", front, re.MULTILINE | re.DOTALL)
    captions = [caption for tree in trees for caption in re.findall(r":caption: (.*)", tree)]
    listed = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    pages = [page.stem for page in DOCS.glob("*.md") if page.stem != "index"]
    pages += [f"deploy/{page.stem}" for page in (DOCS / "deploy").glob("*.md")]
    notebooks = [f"notebooks/{page.stem}" for page in NOTEBOOK.parent.glob("*.md")]
    assert captions == ["Tutorials", "How-to guides", "On a cluster", "Explanation", "Reference"]
    assert sorted(listed) == sorted([*pages, *notebooks])


def test_citation_names_this_version_and_the_papers_of_the_docstrings() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == wd.__version__
    cited = {
        (str(paper.get("volume")), str(paper.get("start"))) for paper in citation["references"]
    }
    journals = r"(?:Lett\.|Rev\. A|Express|Rad\.|Am\. A|Intell\.)"
    for module in (wd.cross_spot, wd.track_scan, wd.self_reference, wd.wavefront, wd.integrate):
        text = " ".join(str(inspect.getdoc(module)).split())
        papers = re.findall(journals + r" (\d+), (\d+)", text)
        assert papers
        assert set(papers) <= cited
