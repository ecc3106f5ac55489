"""System accounts that exist for the processes of one test only, in a mount namespace of their own.

A server that changes to the accounts of its users can be tested for real by root without a change
to the machine: the namespace shows other files at /etc/passwd, /etc/group and /etc/shadow, and
opens what the accounts must read below folders that are closed to them, such as root's home.
"""

import os
import shlex
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GROUP = "beamline"
FIRST_ID = 30_000
"""Below the range that Debian hands out automatically for containers."""


@dataclass(frozen=True)
class Account:
    """A user of the system."""

    name: str
    number: int
    home: Path


def make_accounts(
    folder: Path, passwords: Mapping[str, str], members: Collection[str]
) -> dict[str, Account]:
    """Write the account files and homes of some users into a folder; some are in `GROUP`."""
    # Tests that run at the same time have numbers of their own.
    first = FIRST_ID + 10 * (os.getpid() % 3000)
    accounts = {}
    texts = {name: Path("/etc", name).read_text() for name in ("passwd", "group", "shadow")}
    texts["group"] += f"{GROUP}:x:{first}:{','.join(members)}\n"
    for number, (name, password) in enumerate(passwords.items(), start=first + 1):
        home = folder / "home" / name
        home.mkdir(parents=True)
        os.chown(home, number, number)
        home.chmod(0o700)
        texts["passwd"] += f"{name}:x:{number}:{number}::{home}:/bin/bash\n"
        texts["group"] += f"{name}:x:{number}:\n"
        texts["shadow"] += f"{name}:{_hash(password)}:20000:0:99999:7:::\n"
        accounts[name] = Account(name, number, home)
    for name, text in texts.items():
        file = folder / name
        file.write_text(text)
        file.chmod(0o600 if name == "shadow" else 0o644)
    return accounts


def _hash(password: str) -> str:
    command = ["openssl", "passwd", "-6", "-stdin"]
    done = subprocess.run(command, input=password, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def in_namespace(
    command: Sequence[str | Path], folder: Path, readable: Iterable[Path]
) -> list[str | Path]:
    """Command that runs another with the accounts of a folder, and with some folders readable."""
    lines = ["set -eu"]
    closed: dict[Path, list[Path]] = {}
    for place in sorted({path.resolve() for path in readable}):
        above = next((up for up in reversed(place.parents) if not up.stat().st_mode & 1), None)
        if above is not None:
            closed.setdefault(above, []).append(place)
    for above, places in closed.items():
        stages = [folder / f"stage-{number}-{above.name}" for number in range(len(places))]
        for place, stage in zip(places, stages, strict=True):
            stage.mkdir()
            lines.append(shlex.join(["mount", "--bind", str(place), str(stage)]))
        lines.append(shlex.join(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(above)]))
        for place, stage in zip(places, stages, strict=True):
            lines.append(shlex.join(["mkdir", "-p", str(place)]))
            lines.append(shlex.join(["mount", "--bind", str(stage), str(place)]))
    lines += [f"mount --bind {folder}/{name} /etc/{name}" for name in ("passwd", "group", "shadow")]
    lines.append('exec "$@"')
    script = "\n".join(lines)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command]
