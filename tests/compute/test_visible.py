"""Workers without the memory or the files of a run are told before it starts."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from distributed import Client, LocalCluster
from support.s3 import BUCKET, KEY, SECRET, options, server

from wavedask.compute import LIBRARIES
from wavedask.compute.visible import (
    _look,
    _reach,
    check_memory_of_workers,
    check_paths,
    check_url,
    needed,
)
from wavedask.errors import ClusterError, FileError
from wavedask.store import place_of


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            memory_limit=needed(2**20, 2),
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as made,
    ):
        made.wait_for_workers(1, timeout=30)
        yield made


def test_memory_of_each_thread_counts(client: Client) -> None:
    check_memory_of_workers(client, 2**20)
    with pytest.raises(ClusterError, match=r"1 of 1 workers are too small: .* 2 threads") as caught:
        check_memory_of_workers(client, 2**21)
    assert "memory, in the profile" in caught.value.remedy
    assert needed(5, 3) == LIBRARIES + 15


def test_files_that_the_workers_see(client: Client, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.edf" for number in range(5)]
    for file in files:
        file.write_bytes(b"frame")
    check_paths(client, inputs=files, outputs=[tmp_path / "new" / "results.zarr"])
    # Nothing is left behind.
    assert sorted(tmp_path.iterdir()) == files


def test_what_a_worker_on_another_machine_sees(tmp_path: Path) -> None:
    file = tmp_path / "frame.edf"
    file.write_bytes(b"frame")
    there, elsewhere = tmp_path / "mark", tmp_path / "nowhere" / "mark"
    there.write_text("that of another machine")
    found = _look(
        {str(file): 3, str(tmp_path / "other.edf"): 5},
        {str(there): "ours", str(elsewhere): "ours"},
    )
    assert found == [
        f"{file} is another file, of 5 bytes and not 3",
        f"there is no {tmp_path / 'other.edf'}",
        f"{tmp_path} is another folder than that of this machine",
        f"there is no folder {elsewhere.parent}",
    ]


def test_a_folder_that_may_not_be_written(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ClusterError, match=f"{tmp_path} cannot be written"):
        check_paths(client, outputs=[tmp_path / "results.zarr"])


def test_a_folder_that_this_process_may_not_write(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # The superuser may write everywhere.
    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(FileError, match=f"folder {tmp_path} cannot be written: Permission denied"):
        check_paths(client, outputs=[tmp_path / "results.zarr"])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("s3")) as address:
        yield address


URL = f"s3://{BUCKET}/visible/results.zarr"


def objects_beside(given: dict[str, Any]) -> list[str]:
    found = obstore.list(place_of(URL, given).parent.open().client).collect()
    return [one["path"] for one in found]


def test_a_url_that_the_workers_reach(client: Client, endpoint: str) -> None:
    given = options(endpoint)
    check_url(client, URL, opener=place_of, options=given)
    assert objects_beside(given) == []


def test_a_worker_without_credentials_is_named_before_the_run(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(endpoint)
    # Where a machine in the cloud would ask for credentials; nobody listens there.
    given["aws_metadata_endpoint"] = "http://127.0.0.1:9"
    del given["access_key_id"], given["secret_access_key"]
    with (
        LocalCluster(
            n_workers=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as made,
    ):
        made.wait_for_workers(1, timeout=60)
        # The worker has started without them.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        with pytest.raises(ClusterError, match=rf"do not reach {URL}: tcp://.* cannot be read") as (
            caught
        ):
            check_url(made, URL, opener=place_of, options=given)
    assert "AWS_ACCESS_KEY_ID" in caught.value.remedy
    assert objects_beside(given) == []


def test_what_a_worker_elsewhere_sees_of_a_url(endpoint: str) -> None:
    """Other objects, wrong credentials, and a server that it cannot reach."""
    given = options(endpoint, retry_config={"max_retries": 0})
    place = place_of(URL, given).parent
    assert _reach(place, "mark") == [f"{place} is another place than that of this machine"]
    place.write("mark", b"mark")
    assert _reach(place, "mark") == []
    wrong = place_of(URL, {**given, "secret_access_key": "guessed"}).parent
    away = place_of(URL, {**given, "endpoint": "http://127.0.0.1:9"}).parent
    for one in (wrong, away):
        (problem,) = _reach(one, "mark")
        assert problem.startswith(f"{place} cannot be read: ")
    place.delete("mark")
    assert objects_beside(given) == []
