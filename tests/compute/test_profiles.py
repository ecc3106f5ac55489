"""Profiles of clusters: found, checked, and changed by arguments."""

from pathlib import Path
from typing import Any

import dask
import pytest
import yaml

from wavedask.compute.kinds.models import KINDS, GatewayProfile, SlurmProfile, seconds_of
from wavedask.compute.profiles import load_profile, profile_files
from wavedask.errors import InputError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a site's profiles, and after it one of the user's."""
    folders = [tmp_path / name / "wavedask" for name in ("site", "user")]
    for folder in folders:
        folder.mkdir(parents=True)
    monkeypatch.setattr(dask.config, "paths", [str(folder.parent) for folder in folders])
    return folders[0]


def write(folder: Path, name: str, **content: Any) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_ours_are_valid_and_say_what_they_are() -> None:
    assert set(KINDS) - {"address"} == set(profile_files())
    for name in profile_files():
        assert load_profile(name).profile.description


def test_a_file_of_a_site_replaces_ours_and_one_of_a_user_replaces_it(site: Path) -> None:
    assert load_profile("slurm").profile.workers is not None
    write(site, "slurm", kind="slurm", slurm={"partition": "site"})
    found = load_profile("slurm")
    assert isinstance(found.profile, SlurmProfile)
    assert found.profile.slurm.partition == "site"
    file = write(site.parents[1] / "user" / "wavedask", "slurm", kind="gateway")
    assert load_profile("slurm").file == file
    assert isinstance(load_profile("slurm").profile, GatewayProfile)


def test_arguments_change_a_profile() -> None:
    found = load_profile(
        "slurm",
        workers={"minimum": 0, "maximum": 3},
        memory="2 GiB",
        wait="1 minute",
        partition="wide",
        slurm={"walltime": "02:00:00"},
    ).profile
    assert isinstance(found, SlurmProfile)
    assert (found.workers.minimum, found.workers.maximum) == (0, 3)
    assert (found.memory, found.wait) == (2**31, 60.0)
    assert (found.slurm.partition, found.slurm.walltime) == ("wide", "02:00:00")
    # Nothing given changes nothing.
    assert load_profile("slurm", workers=None, partition=None).profile.workers is not None


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("slrum", {}, ["no cluster profile 'slrum'", "Did you mean 'slurm'?", "wavedask cluster"]),
        ("host:8786", {}, ["no cluster profile", "Did you mean 'tcp://host:8786'?"]),
        ("threads", {"wait": "soon"}, ["threads.yaml with wait as given has a mistake", "wait is"]),
        ("http://host:8787", {}, ["no cluster profile", "tcp://host:8786"]),
        ("slurm", {"partitoin": "a"}, ["slurm.partitoin: unknown key; did you mean 'partition'?"]),
        ("slurm", {"memroy": "1 GiB"}, ["memroy: unknown key; did you mean 'memory'?"]),
        ("slurm", {"memory": "much"}, ["memory is 'much'", "4 GiB"]),
        ("slurm", {"memory": True}, ["memory is True"]),
        ("slurm", {"wait": "a while"}, ["wait is 'a while'", "10 minutes"]),
        ("slurm", {"wait": -1}, ["wait is -1"]),
        ("slurm", {"walltime": 36000}, ["slurm.walltime is 36000", "quotation marks"]),
        ("slurm", {"walltime": "soon"}, ["slurm.walltime is 'soon'", "01:30:00"]),
        ("slurm", {"workers": {"minimum": 3, "maximum": 2}}, ["minimum is 3, above"]),
        ("slurm", {"workers": {"maximum": 2}}, ["workers.minimum: missing"]),
        ("local", {"cores": 0}, ["cores is 0", "1 or more"]),
        ("local", {"partition": "a"}, ["partition: unknown key"]),
        ("allocation", {"workers": 2}, ["as many as it has tasks"]),
        ("tcp://host:8786", {"workers": 2}, ["has its own"]),
    ],
)
def test_mistakes(name: str, settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_profile(name, **settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("kind: slum", ["has the kind 'slum'", "local, threads, slurm"]),
        ("workers: 3", ["has no kind"]),
        ("- slurm", ["holds no keys and values"]),
        ("kind: slurm\nkind: local", ["line 2", "'kind' is repeated"]),
        ("kind: address\naddress: {address: host}", ["'host' names no protocol"]),
    ],
)
def test_files_that_are_wrong(site: Path, content: str, words: list[str]) -> None:
    file = site / "ours.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        load_profile("ours")
    for word in (str(file), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [("5", 300), ("5:30", 330), ("1:0:0", 3600), ("1-2", 93600), ("1-2:30", 95400)],
)
def test_wall_times_are_those_of_sbatch(walltime: str, seconds: float) -> None:
    assert seconds_of(walltime) == seconds
