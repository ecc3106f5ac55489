"""Commands on clusters: list, show and check their profiles."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wavedask.cli.common import FAILED, complain, print_rows
from wavedask.cli.words import counted, file_size
from wavedask.tables import Rows

if TYPE_CHECKING:
    from wavedask.compute import Connection


@click.group()
def cluster() -> None:
    """List, show and check the profiles of clusters."""


@cluster.command("list")
def list_profiles() -> None:
    """List the profiles: those of wavedask, of this site, and yours."""
    from wavedask.compute import load_profile, profile_files
    from wavedask.errors import InputError

    rows: Rows = []
    for name in sorted(profile_files()):
        try:
            found = load_profile(name)
        except InputError as error:
            rows.append((name, f"cannot be used: {error}"))
            continue
        told = f"{found.profile.kind}: {found.profile.description}".removesuffix(": ")
        rows.append((name, f"{told} ({found.file})"))
    print_rows("cluster profiles", rows)


@cluster.command()
@click.argument("name")
def show(name: str) -> None:
    """Show the profile NAME with all its settings, as YAML."""
    import yaml

    from wavedask.compute import load_profile

    found = load_profile(name)
    click.echo(f"# {found.file or 'the address of a scheduler'}")
    settings = found.profile.model_dump(mode="json", exclude_none=True)
    click.echo(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), nl=False)


@cluster.command()
@click.argument("name")
@click.option(
    "--path",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder that the workers must see; can be given several times.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Number of workers.")
@click.option("--wait", metavar="TIME", help="How long to wait for the first worker.")
def check(name: str, paths: tuple[Path, ...], workers: int | None, wait: str | None) -> None:
    """Start the cluster NAME, try it, and close it.

    Tracks a few small frames on the workers and compares them with the same frames tracked here.
    Exit code 1 if the cluster does not start, its software differs, a path is not visible, or the
    result differs.
    """
    import dask

    from wavedask.cli.trial import same_bits, trial
    from wavedask.compute import connect, invisible

    with dask.config.set(scheduler="threads"):
        here = trial().compute()
    began = time.perf_counter()
    problems: list[str] = []
    with connect(name, workers=workers, wait=wait) as client:
        rows: Rows = [("time to start", f"{time.perf_counter() - began:.1f} s")]
        if client is not None:
            rows += _described(client)
            folders = [path / "results.zarr" for path in paths if path.is_dir()]
            files = [path for path in paths if not path.is_dir()]
            problems += invisible(client, inputs=files, outputs=folders)
        began = time.perf_counter()
        same = same_bits(trial().compute(), here)
        seconds = time.perf_counter() - began
    if paths:
        rows.append(("paths", "not all visible" if problems else "visible to the workers"))
    rows.append(
        ("small tracking", f"{'the same' if same else 'other'} bits as here, {seconds:.1f} s")
    )
    if not same:
        problems.append("the cluster computes other results than this process")
    print_rows(f"cluster {name}", rows)
    for problem in problems:
        complain("Problem:", problem)
    if problems:
        raise click.exceptions.Exit(FAILED)


def _described(client: "Connection") -> Rows:
    """Describe the scheduler and the workers of a cluster."""
    from wavedask.compute import software

    info = client.scheduler_info(n_workers=-1)
    workers: list[dict[str, Any]] = list(info["workers"].values())
    threads = sorted({worker["nthreads"] for worker in workers})
    memory = [worker["memory_limit"] for worker in workers]
    machines = sorted({worker["host"] for worker in workers})
    # Elsewhere the administrator of the scheduler has decided.
    served = client.cluster_profile.dashboard or client.cluster_profile.kind not in (
        "local",
        "slurm",
    )
    versions = ", ".join(f"{name} {version}" for name, version in software().items())
    return [
        ("scheduler", str(info["address"])),
        ("workers", f"{counted(len(workers), 'worker')} on {', '.join(machines)}"),
        ("threads per worker", ", ".join(map(str, threads))),
        ("memory per worker", file_size(min(memory)) if all(memory) else "no limit"),
        ("dashboard", str(client.dashboard_link) if served else "off"),
        ("versions", f"{versions}; the same on the scheduler and all workers"),
    ]
