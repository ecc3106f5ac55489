"""An experiment file is read whole or refused with every mistake named."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.experiments import content, load, write

from wavedask.errors import ExperimentError
from wavedask.experiment.model import Experiment, load_experiment
from wavedask.experiment.optic_sections import OPTICS
from wavedask.experiment.sections import METHODS, Frames, Mesh


def refused(folder: Path, **changes: Any) -> str:
    """Message about an experiment file with changes."""
    file = write(folder, **changes)
    with pytest.raises(ExperimentError) as caught:
        load_experiment(file)
    assert str(file) in caught.value.problem
    return str(caught.value)


def refused_text(folder: Path, text: str) -> str:
    file = folder / "experiment.yaml"
    file.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        load_experiment(file)
    assert str(file) in caught.value.problem
    assert caught.value.remedy
    return str(caught.value)


def test_what_is_left_out_has_the_defaults_of_the_functions(tmp_path: Path) -> None:
    experiment = load(tmp_path, track=None, correct=None, cluster=None, dark=None, flat=None)
    assert experiment.track.window == 21
    assert experiment.track.search == 16
    assert experiment.track.rigid == "auto"
    assert experiment.correct.average == "mean"
    assert experiment.dark is None
    assert experiment.cluster.address is None
    assert experiment.wavefront is not None
    assert experiment.wavefront.method == "least_squares"


def test_defaults_are_those_of_the_functions() -> None:
    """The file and the functions must not drift apart."""
    import inspect

    import wavedask as wd
    from wavedask.experiment.sections import Correct, Track, Wavefront

    for section, function in ((Correct, wd.correct), (Track, wd.track), (Wavefront, wd.wavefront)):
        parameters = inspect.signature(function).parameters
        for name, field in section.model_fields.items():
            default = parameters[name].default
            if default is not inspect.Parameter.empty:
                assert field.default == default, f"{section.__name__}.{name}"
            else:
                assert field.is_required(), f"{section.__name__}.{name}"


@pytest.mark.parametrize("files", ["a.edf", ["a.edf", "b.edf"]])
def test_files_alone_are_a_section(files: Any, tmp_path: Path) -> None:
    assert load(tmp_path, sample=files).sample == Frames(files=files)


def test_paths_start_at_the_experiment_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load(tmp_path)
    monkeypatch.chdir("/")
    assert experiment.path("results.zarr") == tmp_path / "results.zarr"
    assert experiment.source("raw/*.edf") == tmp_path / "raw/*.edf"
    assert experiment.path("/data/a.edf") == Path("/data/a.edf")
    assert experiment.path("~/a.edf") == Path("~/a.edf").expanduser()


def test_brackets_of_the_folder_are_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]"
    folder.mkdir()
    (folder / "a.edf").touch()
    experiment = load(folder)
    assert experiment.source("a.edf") == folder / "a.edf"
    found = list(Path("/").glob(str(experiment.source("*.edf")).lstrip("/")))
    assert found == [folder / "a.edf"]


def test_where_it_is_computed_and_written_is_no_setting(tmp_path: Path) -> None:
    settings = load(tmp_path).settings
    other = load(tmp_path, output="other.zarr", cluster={"address": None, "workers": 3})
    assert other.settings == settings
    assert load(tmp_path, track={"window": 17}).settings != settings
    assert load(tmp_path, wavefront={"distance": 1.5}).settings != settings
    elsewhere = {"output", "cluster", "durable", "report"}
    assert set(settings) == set(Experiment.model_fields) - {*elsewhere, *METHODS, *OPTICS, "pupil"}
    assert load(tmp_path, combine={}).settings["combine"]["remove_drift"] is True


def test_numbers_as_yaml_writes_them(tmp_path: Path) -> None:
    # YAML 1.1 takes 1e-6, without a point, for a text.
    file = tmp_path / "experiment.yaml"
    text = yaml.safe_dump(content()).replace("6.5e-07", "1e-6")
    file.write_text(text)
    assert "pixel_size: 1e-6" in text
    setup = load_experiment(file).wavefront
    assert setup is not None
    assert setup.pixel_size == 1e-6
    assert load(tmp_path, track={"window": [11, 31]}).track.window == (11, 31)
    assert load(tmp_path, track={"rigid": [3, -4]}).track.rigid == (3, -4)


@pytest.mark.parametrize(
    ("changes", "key", "nearest"),
    [
        ({"smaple": "a"}, "smaple", "sample"),
        ({"track": {"windwo": 3}}, "track.windwo", "window"),
        ({"wavefront": {"pixelsize": 3}}, "wavefront.pixelsize", "pixel_size"),
        ({"correct": {"hotpixels": 3}}, "correct.hotpixels", "hot_pixels"),
        ({"cluster": {"worker": 3}}, "cluster.worker", "workers"),
        ({"flat": {"files": "a", "motor": "m.csv"}}, "flat.motor", "motors"),
        ({"sample": {"mesh": {"snakes": True}}}, "sample.mesh.snakes", "snake"),
    ],
)
def test_an_unknown_key_is_told_with_its_nearest(
    changes: dict[str, Any], key: str, nearest: str, tmp_path: Path
) -> None:
    assert f"{key}: unknown key; did you mean {nearest!r}?" in refused(tmp_path, **changes)


def test_an_unknown_key_like_no_other_is_told_with_all(tmp_path: Path) -> None:
    message = refused(tmp_path, cluster={"gpu": 1})
    assert "cluster.gpu: unknown key; known: profile, address, workers, " in message


def test_all_mistakes_at_once_and_each_once(tmp_path: Path) -> None:
    message = refused(
        tmp_path, output=None, smaple="a", track={"window": "big"}, wavefront={"distance": -1}
    )
    assert "has 4 mistakes" in message
    for line in (
        "output: missing; give the path of the result store",
        "smaple: unknown key",
        "track.window is 'big': give an odd number of pixels, or a pair",
        "wavefront.distance is -1: give the distance from optic to detector in m",
    ):
        assert message.count(line) == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"wavefront": None}, "wavefront: missing"),
        ({"sample": {"files": None}}, "sample.files is nothing: give a file, a glob"),
        ({"sample": {"files": 3}}, "sample.files is 3: give a file, a glob, a folder"),
        ({"reference": []}, "reference.files is []: give a file"),
        ({"reference": 3}, "reference is 3: give files, or a section"),
        ({"wavefront": [1]}, "wavefront is [1]: give a section"),
        ({"track": "fast"}, "track is 'fast': give a section"),
        ({"track": {"window": 20}}, "track: window is 20. Give an odd number"),
        ({"track": {"window": [31, 11]}}, "window is (31, 11). Give the smallest side first"),
        ({"track": {"window": [1, 2, 3]}}, "track.window is [1, 2, 3]: give an odd number"),
        ({"track": {"search": 2.5}}, "track.search is 2.5: give a whole number"),
        ({"track": {"search": True}}, "track.search is True: give a whole number"),
        ({"track": {"search": 0}}, "track: search is 0."),
        ({"track": {"engine": "opencv", "step": 40}}, "track: step is 40."),
        ({"track": {"good": 2}}, "track: good is 2.0."),
        ({"track": {"rigid": "no"}}, "track.rigid is 'no': give auto, a displacement [y, x]"),
        ({"track": {"engine": "dens"}}, "track.engine is 'dens': give one of: dense, opencv"),
        ({"correct": {"average": "mode"}}, "correct.average is 'mode': give one of: mean, median"),
        ({"correct": {"hot_pixels": -1}}, "correct.hot_pixels is -1: give a positive fraction"),
        ({"wavefront": {"roi": [0, 100]}}, "wavefront.roi[0] is 0: give pixels [[first_y, end_y]"),
        ({"wavefront": {"pupil": [9, 9]}}, "wavefront.pupil is [9, 9]: give a circle [centre_y,"),
        (
            {"pupil": {"circle": [1e-5, 1e-5, 0]}, "modes": {}},
            "pupil.circle[2] is 0: give a circle [centre_y, centre_x, radius] in m",
        ),
        ({"pupil": {"circle": [1, 2]}, "modes": {}}, "pupil.circle is [1, 2]: give a circle"),
        ({"lens": {"aperture": [0, 0, -1]}}, "lens.aperture is [0, 0, -1]: give auto, a circle"),
        ({"lens": {"geometric_aperture": 0.4}}, "lens.geometric_aperture is 0.4: give the width"),
        ({"wavefront": {"distance": "1 m"}}, "wavefront.distance is '1 m': give the distance"),
        ({"wavefront": {"distance": float("nan")}}, "wavefront.distance is nan"),
        ({"wavefront": {"method": "zonal"}}, "wavefront.method is 'zonal': give one of: "),
        ({"cluster": {"workers": 0}}, "cluster.workers is 0: give a number of at least 1"),
        ({"output": 3}, "output is 3: give the path"),
        ({"sample": {"motors": {"lens_x": "a"}}}, "sample.motors is {'lens_x': 'a'}"),
        ({"sample": {"motors": {"lens_x": [1, True]}}}, "sample.motors is "),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert line in refused(tmp_path, **changes)


MESH = {"motor_x": "a", "motor_y": "b", "nx": 2, "ny": 3, "step_x": 0.1, "step_y": 0.2}


def test_a_mesh_gives_positions(tmp_path: Path) -> None:
    sample = load(tmp_path, sample={"mesh": MESH}).sample
    assert sample is not None
    mesh = sample.mesh
    assert isinstance(mesh, Mesh)
    positions = mesh.positions()
    assert positions["a"].tolist() == [0, 0.1, 0, 0.1, 0, 0.1]
    assert positions["b"].tolist() == pytest.approx([0, 0, 0.2, 0.2, 0.4, 0.4])


def test_a_mesh_that_cannot_be(tmp_path: Path) -> None:
    assert "sample.mesh: " in refused(tmp_path, sample={"mesh": {**MESH, "nx": 0}})
    assert "sample.mesh: " in refused(tmp_path, sample={"mesh": {**MESH, "motor_y": "a"}})
    message = refused(tmp_path, sample={"mesh": MESH, "motors": "positions.csv"})
    assert "sample: motors and mesh exclude each other: give only one of them" in message


def test_no_yaml(tmp_path: Path) -> None:
    assert "line 2, column 10: " in refused_text(tmp_path, "sample: a\ntrack: [1}")
    assert "'\\t'" in refused_text(tmp_path, "track:\n\t- window")
    assert "holds nothing, not keys" in refused_text(tmp_path, "")
    assert "holds ['a'], not keys" in refused_text(tmp_path, "- a")
    assert "special characters" in refused_text(tmp_path, "a: \x00")


def test_an_empty_section_is_not_taken_for_none(tmp_path: Path) -> None:
    text = yaml.safe_dump(content(), sort_keys=False)
    message = refused_text(tmp_path, text + "modes:\n  # order: 6\nfocus:\n")
    assert "has nothing behind modes, focus. Write 'modes: {}' for the defaults, or null" in message
    (tmp_path / "experiment.yaml").write_text(
        text + "modes: null\nlens: ~\nfocus: {}\nflat_dark:\n"
    )
    experiment = load_experiment(tmp_path / "experiment.yaml")
    assert (experiment.modes, experiment.lens, experiment.flat_dark) == (None, None, None)
    assert experiment.focus is not None


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    """YAML leaves it open, and PyYAML takes the last: a guess."""
    text = yaml.safe_dump(content(), sort_keys=False)
    message = refused_text(tmp_path, text + "output: elsewhere.zarr\n")
    assert "the key 'output' is repeated" in message
    assert f"line {text.count(chr(10)) + 1}" in message
    assert "'window' is repeated" in refused_text(tmp_path, "track: {window: 3, window: 5}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ExperimentError, match=reason) as caught:
            load_experiment(path)
        assert str(path) in str(caught.value)
    (tmp_path / "latin.yaml").write_bytes("# µ".encode("latin-1"))
    with pytest.raises(ExperimentError, match="UTF-8"):
        load_experiment(tmp_path / "latin.yaml")


def test_a_yaml_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "aliases stand for more values" in refused_text(tmp_path, "\n".join(lines))
    assert "aliases stand for more values" in refused_text(tmp_path, "a: &a [*a]")
    assert "nested too deeply" in refused_text(tmp_path, "[" * 20000)
    assert "has 1048577 bytes" in refused_text(tmp_path, "#" * (2**20 + 1))


def test_an_alias_may_stand_for_a_section(tmp_path: Path) -> None:
    text = yaml.safe_dump(content(), sort_keys=False)
    (tmp_path / "experiment.yaml").write_text(
        text.replace("output:", "keep: &maps [slope_y, slope_x]\noutput:")
    )
    assert load_experiment(tmp_path / "experiment.yaml").keep == ["slope_y", "slope_x"]
