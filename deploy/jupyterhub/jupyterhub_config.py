"""Configuration of JupyterHub on one machine: notebooks for the accounts of the system.

Start it as root with `jupyterhub -f jupyterhub_config.py`; README.md beside this file says how.
Users log in with the name and password of their account (PAM), and their servers, kernels and Dask
workers run under it. Nobody may log in until WAVEDASK_HUB_GROUP names a group of the system.

A site copies this folder and edits, or writes a short file of its own that begins with
`load_subconfig("jupyterhub_config.py")` and changes single settings after it.
"""

import grp
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

c = get_config()  # noqa: F821 - the name is given by the server that reads this file

HERE = Path(__file__).resolve().parent

# What a site edits, or sets in the environment ---------------------------------------------------

URL = os.environ.get("WAVEDASK_HUB_URL", "http://127.0.0.1:8000")
"""Where the proxy listens. Beyond this machine only with https."""
CERTIFICATE = os.environ.get("WAVEDASK_HUB_CERTIFICATE", "")
KEY = os.environ.get("WAVEDASK_HUB_KEY", "")
"""Files of the certificate and its key, for https."""
GROUP = os.environ.get("WAVEDASK_HUB_GROUP", "")
"""Group of the system whose members may log in."""
STATE = Path(os.environ.get("WAVEDASK_HUB_STATE", "/var/lib/wavedask-hub"))
"""Folder of the hub's database and secrets."""
GATEWAY = os.environ.get("WAVEDASK_GATEWAY_ADDRESS", "127.0.0.1:8010")
"""Where the Dask Gateway of this hub listens, on this machine only."""
GATEWAY_CONFIG = HERE.parent / "gateway" / "dask_gateway_config.py"
NOTEBOOKS = Path(os.environ.get("WAVEDASK_HUB_NOTEBOOKS", HERE.parent.parent / "notebooks"))
"""Folder of the notebooks that each user finds in the home folder."""
KERNELS = {name: os.environ[name] for name in ("WAVEDASK_NODE_CACHE",) if name in os.environ}
"""Folder on a local disk for compiled kernels, in which each user gets a private one. By default it
is the folder of temporary files."""
PROXY_COMMAND = os.environ.get("WAVEDASK_HUB_PROXY", "configurable-http-proxy")
"""The proxy, installed by npm."""


def check_url(url: str) -> None:
    """Refuse to send passwords in plain text over a network."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        if not (CERTIFICATE and KEY):
            sys.exit(f"{url} needs WAVEDASK_HUB_CERTIFICATE and WAVEDASK_HUB_KEY")
        return
    try:
        local = ip_address(parts.hostname or "").is_loopback
    except ValueError:
        local = parts.hostname == "localhost"
    if not local:
        sys.exit(
            f"{url} would send passwords in plain text: use https with a certificate, or let a "
            "web server on this machine do the encryption and listen on 127.0.0.1"
        )


def check_group(name: str) -> None:
    """Refuse to start with a group that nobody has chosen, or that does not exist."""
    if not name:
        sys.exit("nobody could log in: set WAVEDASK_HUB_GROUP to a group of this system")
    try:
        grp.getgrnam(name)
    except KeyError:
        sys.exit(f"WAVEDASK_HUB_GROUP is {name!r}, and this system has no such group")


check_url(URL)
check_group(GROUP)
STATE.mkdir(mode=0o700, parents=True, exist_ok=True)

# The hub and its proxy ---------------------------------------------------------------------------

c.JupyterHub.bind_url = URL
c.JupyterHub.ssl_cert = CERTIFICATE
c.JupyterHub.ssl_key = KEY
c.JupyterHub.hub_bind_url = "http://127.0.0.1:8081"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8001"
c.ConfigurableHTTPProxy.command = [PROXY_COMMAND]
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")
c.JupyterHub.db_url = f"sqlite:///{STATE / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")

# Who may log in ----------------------------------------------------------------------------------

c.JupyterHub.authenticator_class = "pam"
c.PAMAuthenticator.allowed_groups = {GROUP}
c.Authenticator.blocked_users = {"root"}
# A session of PAM belongs to a login at the machine; the hub only has the password checked.
c.PAMAuthenticator.open_sessions = False

# The servers of the users ------------------------------------------------------------------------

c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
# Runs as the user: puts the notebooks into the home folder, then becomes the server.
c.Spawner.cmd = [sys.executable, str(HERE / "start_server.py")]
c.Spawner.ip = "127.0.0.1"
c.Spawner.default_url = "/lab"
c.Spawner.start_timeout = c.Spawner.http_timeout = 90

GATEWAY_PORT = GATEWAY.rpartition(":")[2]
c.Spawner.environment = {
    "WAVEDASK_HUB_NOTEBOOKS": str(NOTEBOOKS),
    **KERNELS,
    # With these, wavedask.connect("gateway") needs no further argument. Dask puts the value of the
    # variable in braces in: the path of the user's own server, which asks for the login.
    "DASK_GATEWAY__ADDRESS": f"http://{GATEWAY}",
    "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
    "DASK_GATEWAY__PUBLIC_ADDRESS": "{JUPYTERHUB_SERVICE_PREFIX}" + f"proxy/{GATEWAY_PORT}",
    # Dashboards of clusters that a notebook starts itself.
    "DASK_DISTRIBUTED__DASHBOARD__LINK": "{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status",
}

# Dask Gateway, a service of the hub --------------------------------------------------------------

SERVICE = "dask-gateway"
USE_IT = f"access:services!service={SERVICE}"
c.JupyterHub.services = [
    {
        "name": SERVICE,
        "command": [str(Path(sys.prefix, "bin", "dask-gateway-server")), "-f", str(GATEWAY_CONFIG)],
        "environment": {"WAVEDASK_GATEWAY_ADDRESS": GATEWAY, **KERNELS},
    }
]
c.JupyterHub.load_roles = [{"name": "user", "scopes": ["self", USE_IT]}]
c.Spawner.server_token_scopes = ["users:activity!user", "access:servers!server", USE_IT]
