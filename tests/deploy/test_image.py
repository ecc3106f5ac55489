"""The container image: its files are checked, and it is really built and run."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.support.kubernetes import DEPLOY, REPOSITORY, Tools
from deploy.support.needs import debian
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.deploy

DOCKER = DEPLOY / "docker"
TAG = "localhost/wavedask-test:latest"
BUILD_SECONDS = 1800
"""It takes some three minutes on two cores that do nothing else."""


def test_hadolint_has_nothing_to_say(tools: Tools) -> None:
    done = tools.run("hadolint", DOCKER / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_shellcheck_has_nothing_to_say(tools: Tools) -> None:
    scripts = sorted(DEPLOY.rglob("*.sh"))
    assert len(scripts) >= 5
    done = tools.run("shellcheck", *scripts)
    assert done.returncode == 0, done.stdout


def locked(file: Path) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of a lock."""
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE))
    found = {}
    for entry in filter(None, map(str.strip, entries)):
        name, _, version = entry.split()[0].partition("==")
        found[name] = version, re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)
    return found


@pytest.mark.parametrize("name", ["build.lock", "requirements.lock"])
def test_every_package_has_a_version_and_hashes(name: str) -> None:
    packages = locked(DOCKER / name)
    assert packages
    for package, (version, hashes) in packages.items():
        assert version, package
        assert hashes, package
    # Nor does it say where packages come from.
    assert not re.search(r"https?:|index-url|find-links", (DOCKER / name).read_text())


def test_the_lock_fits_what_the_image_needs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"--extra (\w+)", (DOCKER / "lock.sh").read_text())
    assert {"gateway", "kubernetes", "s3", "slurm"} <= set(extras)
    wanted = [*project["dependencies"], *(DOCKER / "requirements.in").read_text().splitlines()]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    packages = locked(DOCKER / "requirements.lock")
    for line in wanted:
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        version, _ = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{line}: locked at {version}"


class Image:
    """The built image, and a container of it.

    Parameters
    ----------
    storage : Path
        Folder of images and layers.
    """

    def __init__(self, storage: Path) -> None:
        self._options = ["--root", str(storage), "--runroot", str(storage.parent / "run")]
        self._container = self._buildah("from", TAG).strip()

    def _buildah(self, *words: str, check: bool = True, timeout: float = 300) -> str:
        done = subprocess.run(
            ["buildah", *self._options, "--storage-driver", "overlay", *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def inspected(self, template: str) -> str:
        """Ask for a part of the image's description."""
        return self._buildah("inspect", "--format", template, self._container).strip()

    def run(self, command: str, *, user: str = "") -> str:
        """Run a shell command in the container; return what it prints."""
        options = ["--user", user] if user else []
        isolation = ["--isolation", "chroot", "--network", "host"]
        shell = ["sh", "-euc", command]
        return self._buildah("run", *isolation, *options, self._container, "--", *shell)

    def close(self) -> None:
        """Remove the container and the images."""
        self._buildah("rm", "--all", check=False)
        self._buildah("rmi", "--all", "--force", check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if not os.environ.get("WAVEDASK_BUILD_IMAGE"):
        pytest.skip("set WAVEDASK_BUILD_IMAGE=1 to build the image, which takes over five minutes")
    debian(buildah="buildah", crun="crun", mmdebstrap="mmdebstrap")
    folder = tmp_path_factory.mktemp("image")
    storage = folder / "storage"
    done = subprocess.run(
        [DOCKER / "build_without_docker.sh", TAG],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        | {"STORAGE": str(storage), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "demonstration run in the image" in done.stdout
    assert "uid=1000(wavedask)" in done.stdout
    built = Image(storage)
    try:
        yield built
    finally:
        built.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_image_says_what_it_is(image: Image) -> None:
    assert image.inspected("{{.Docker.Config.User}}") == "1000:1000"
    entry = image.inspected("{{.Docker.Config.Entrypoint}} {{.Docker.Config.Cmd}}")
    assert entry.startswith("[tini -- wavedask-entrypoint] [dask scheduler ")
    assert "wavedask-health" in image.inspected("{{.Docker.Config.Healthcheck}}")
    label = '{{index .Docker.Config.Labels "org.opencontainers.image.%s"}}'
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert image.inspected(label % "version") == version
    assert re.fullmatch("[0-9a-f]{40}|unknown", image.inspected(label % "revision"))


def test_the_image_has_no_compiler_and_its_programs_cannot_be_changed(image: Image) -> None:
    assert image.run("for name in gcc cc c++ ld as make uv; do which $name || true; done") == ""
    writable = "find /opt/wavedask ! -type l -writable | head"
    assert image.run(writable) == ""
    assert image.run(f"{writable}; id -u", user="12345:12345").split() == ["12345"]
    # One time for all, in whole seconds: layers keep no more.
    fractions = "find /opt/wavedask/lib -name '*.py' -printf '%T@\\n' | sort -u"
    assert len(image.run(fractions).split()) == 1


@pytest.mark.parametrize("user", ["", "12345:12345"])
def test_kernels_and_bytecode_of_the_image_are_used(image: Image, user: str) -> None:
    code = "from wavedask.kernels.warm import warm; warm()"
    said = image.run(
        "export TMPDIR=$(mktemp -d) HOME=/nowhere NUMBA_DEBUG_CACHE=1; "
        f"wavedask-entrypoint python -v -c '{code}' 2>&1; stat -c %a $TMPDIR/wavedask-kernels-*",
        user=user,
    )
    assert said.count("[cache] data loaded from") >= 5
    assert "[cache] data saved" not in said
    # python -v says so of a source without bytecode.
    assert not re.search(r"code object from /opt/\S+\.py$", said, re.MULTILINE)
    assert said.splitlines()[-1] == "700"


HEALTH = """
export TMPDIR=$(mktemp -d) HEALTH_URL=http://127.0.0.1:28787/health
wavedask-health 2>/dev/null || echo none
tini -s -- wavedask-entrypoint dask scheduler --host 127.0.0.1 --port 28786 \\
    --dashboard-address 127.0.0.1:28787 >$TMPDIR/log 2>&1 &
server=$!
for i in $(seq 60); do
    wavedask-health 2>/dev/null && echo healthy && break
    sleep 1
done
kill $server
wait $server || true
wavedask-health 2>/dev/null || echo ended
"""


def test_the_health_check_follows_the_server(image: Image) -> None:
    assert image.run(HEALTH).split() == ["none", "healthy", "ended"]
