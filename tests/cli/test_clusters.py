"""Commands on clusters, and the options that choose one."""

import re
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from distributed import LocalCluster
from support.experiments import write

from wavedask.cli import main, trial
from wavedask.cli.trial import same_bits


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a site's profiles."""
    folder = tmp_path / "site" / "wavedask"
    folder.mkdir(parents=True)
    monkeypatch.setattr(dask.config, "paths", [str(folder.parent)])
    return folder


@pytest.fixture
def address() -> Iterator[str]:
    """Address of a scheduler with one worker."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster.scheduler_address


def test_list_names_every_profile_and_its_file(site: Path) -> None:
    (site / "ours.yaml").write_text("kind: local\ndescription: two processes\nworkers: 2\n")
    (site / "broken.yaml").write_text("kind: lokal\n")
    result = invoke("cluster", "list")
    assert result.exit_code == 0
    for words in ("slurm: one SLURM job", f"local: two processes ({site}/ours.yaml)"):
        assert words in result.stdout
    assert "cannot be used" in result.stdout
    assert "Give one of local, threads" in result.stdout


def test_show_prints_a_profile_that_can_be_copied(site: Path) -> None:
    result = invoke("cluster", "show", "slurm")
    assert result.exit_code == 0
    (site / "copy.yaml").write_text(result.stdout)
    again = invoke("cluster", "show", "copy")
    assert yaml.safe_load(again.stdout) == yaml.safe_load(result.stdout)
    assert yaml.safe_load(again.stdout)["memory"] == "4.00 GiB"
    wrong = invoke("cluster", "show", "slrum")
    assert wrong.exit_code == 2
    assert "Did you mean 'slurm'?" in wrong.stderr


def test_check_tries_a_cluster(address: str, tmp_path: Path) -> None:
    file = tmp_path / "frame.edf"
    file.write_bytes(b"frame")
    result = invoke("cluster", "check", address, "--path", tmp_path, "--path", file)
    assert result.exit_code == 0, result.output
    for words in (address, "1 worker on", "numpy", "visible", "the same bits as here"):
        assert words in result.stdout


def test_check_fails_where_a_result_is_another(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "same_bits", lambda *_: False)
    result = invoke("cluster", "check", address)
    assert result.exit_code == 1
    assert "computes other results" in result.stderr


def test_same_bits_sees_one_bit() -> None:
    here = trial.trial().compute(scheduler="threads")
    other = here.copy(deep=True)
    values = other.displacement_x.values
    values[0, 48, 48] = np.nextafter(values[0, 48, 48], np.float32(np.inf))
    assert same_bits(here, here)
    assert not same_bits(here, other)


@pytest.mark.parametrize("on", ["threads", "cluster"])
def test_report_of_a_computation(on: str, address: str, tmp_path: Path) -> None:
    pytest.importorskip("bokeh")
    report, output = tmp_path / "report.html", tmp_path / "demo"
    where = "threads" if on == "threads" else address
    command = ("demo", "--output", output, "--side", "256", "--positions", "1")
    result = invoke(*command, "--cluster", where, "--report", report)
    assert result.exit_code == 0, result.output
    page = report.read_text()
    assert "<html" in page
    # Its scripts are inside: a beamline may have no way out.
    assert not re.search("<script[^>]* src=", page)


def test_a_report_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    result = invoke("demo", "--output", output, "--report", tmp_path / "none" / "report.html")
    assert result.exit_code == 2
    assert "report.html cannot be written" in result.stderr
    assert not output.exists()


def test_two_names_for_one_thing() -> None:
    result = invoke("demo", "--cluster", "threads", "--address", "threads")
    assert result.exit_code == 2
    assert "give one of them" in result.stderr


def test_the_plan_compares_the_memory_of_the_workers(raw: Path, site: Path) -> None:
    file = write(raw, cluster="small")
    (site / "small.yaml").write_text("kind: slurm\nmemory: 200 MiB\n")
    plan = invoke("run", "--plan", file)
    assert plan.exit_code == 0, plan.output
    assert "200.0 MiB each, too small: " in plan.stdout
    # An option replaces the cluster of the file.
    assert "4.0 GiB each, enough" in invoke("run", "--plan", file, "--cluster", "slurm").stdout
    assert invoke("run", "--plan", file, "--cluster", "slrum").exit_code == 2
