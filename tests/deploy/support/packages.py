"""Debian packages that a test needs: installed by name, or the test fails."""

import shutil
import subprocess


def install(commands: dict[str, str]) -> None:
    """Install the packages of the commands that are missing.

    A machine that cannot install them fails the test: it must not pass by skipping.
    """
    missing = sorted(
        {package for command, package in commands.items() if not shutil.which(command)}
    )
    if not missing:
        return
    for attempt in (["apt-get", "update"], None):
        done = subprocess.run(
            ["apt-get", "install", "-y", "--no-install-recommends", *missing],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode == 0:
            return
        if attempt is not None:
            subprocess.run(attempt, capture_output=True, timeout=300, check=False)
    raise AssertionError(f"{' '.join(missing)} cannot be installed:\n{done.stdout}{done.stderr}")
