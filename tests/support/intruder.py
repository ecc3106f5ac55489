"""Another user of the machine, who tries to use a Dask cluster.

Called with the user's number and an address; everything is imported before the user changes, since
that user may not be able to read the installation. Prints what the attempts gave, as JSON.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

from distributed import Client
from distributed.security import Security

TIMEOUT = "20s"
PAGES = ("/", "/status", "/info/main/workers.html", "/json/identity.json", "/metrics")


def user_of_tasks(address: str, security: Security | None) -> Any:
    """Run code on a cluster: the number of the user as whom it runs, or why it does not."""
    try:
        with Client(address, security=security, timeout=TIMEOUT, set_as_default=False) as client:
            return client.run_on_scheduler(os.getuid)
    except Exception as error:
        return type(error).__name__


def pages(port: int) -> list[str]:
    """Web pages that a port hands out."""
    found = []
    for page in PAGES:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
                found.append(f"{page}: {answer.status}")
        except (urllib.error.URLError, OSError):
            continue
    return found


def attempts(address: str, ports: list[int]) -> dict[str, Any]:
    """Try to run code and to see pages, in every way."""
    plain = address.replace("tls://", "tcp://")
    tries = {
        "plain": user_of_tasks(plain, None),
        "pages": [page for port in ports for page in pages(port)],
    }
    if address != plain:
        tries["own certificate"] = user_of_tasks(address, Security.temporary())
        tries["no certificate"] = user_of_tasks(address, None)
    return tries


def main(user: int, address: str, ports: list[int]) -> None:
    """Change the user, and try."""
    # Much is imported at its first use only.
    attempts(address, ports)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    print(json.dumps(attempts(address, ports)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3:]])
