"""Configuration of a Dask Gateway server: Dask clusters on one machine, with limits for each user.

Start it with `dask-gateway-server -f dask_gateway_config.py`; README.md beside this file says how.
A site copies this file and edits the first section, or writes a short one of its own that begins
with `load_subconfig("dask_gateway_config.py")` and changes single settings after it.

Users log in with their JupyterHub (then this server is one of its services), or with one password
that the file named by WAVEDASK_GATEWAY_PASSWORD_FILE contains. There is no default password: the
server does not start without one of the two.
"""

import os
import pwd
import stat
import sys
from ipaddress import ip_address
from pathlib import Path

from dask_gateway_server.backends.base import Backend, PublicException
from dask_gateway_server.backends.local import LocalBackend, UnsafeLocalBackend
from dask_gateway_server.options import Float, Integer, Options, Select
from dask_gateway_server.proxy import Proxy
from traitlets import Integer as IntegerSetting

c = get_config()  # noqa: F821 - the name is given by the server that reads this file

# What a site edits -------------------------------------------------------------------------------

INSTALLATIONS = {"wavedask": sys.prefix}
"""Environments that users may choose, name and folder: an older version of wavedask, for example.
Each needs wavedask and dask-gateway, in the same versions as the notebook that connects."""

CLUSTERS_PER_USER = 2
"""Clusters that one user may have at the same time."""
CORES_PER_CLUSTER = os.cpu_count() or 1
"""Cores of all workers of one cluster."""
GIB_PER_CLUSTER = 4 * CORES_PER_CLUSTER
"""Memory of all workers of one cluster in GiB."""
CORES_PER_WORKER, MOST_CORES_PER_WORKER = 1, 4
"""Cores of one worker process: default and maximum. A task of wavedask keeps one core busy."""
GIB_PER_WORKER, MOST_GIB_PER_WORKER = 2.0, 16.0
"""Memory of one worker process in GiB: default and maximum."""
IDLE_SECONDS = 1800
"""A cluster without a running task is stopped after this time."""

ADDRESS = os.environ.get("WAVEDASK_GATEWAY_ADDRESS", "127.0.0.1:8010")
"""Where users reach the server: one port for requests, dashboards and schedulers."""

KERNELS = "WAVEDASK_NODE_CACHE"
"""Variable of the environment: a folder on a local disk for compiled kernels. Without it, they are
beside the package, or where users cannot write there, in the folder of temporary files."""

# Authentication ----------------------------------------------------------------------------------

PASSWORD_FILE = "WAVEDASK_GATEWAY_PASSWORD_FILE"
SHORTEST_PASSWORD = 12


def password_from(file: Path) -> str:
    """Read the password; stop the server if others may read or write the file."""
    try:
        status = file.stat()
        password = file.read_text().strip()
    except OSError as error:
        sys.exit(f"{PASSWORD_FILE} is {file}, which cannot be read: {error.strerror}")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        sys.exit(f"others may use the password file {file} (mode {mode:o}): chmod 600 {file}")
    if status.st_uid != os.geteuid():
        sys.exit(f"the password file {file} belongs to user {status.st_uid}, not to this server's")
    if len(password) < SHORTEST_PASSWORD:
        sys.exit(f"the password in {file} has fewer than {SHORTEST_PASSWORD} characters")
    return password


# Limits and accounts -----------------------------------------------------------------------------


class UserLimits(Backend):
    """What holds for every backend: clusters per user, and no open port without TLS."""

    clusters_per_user = IntegerSetting(
        1, min=1, help="Clusters that one user may have at the same time.", config=True
    )

    async def setup(self, app):
        """Refuse to send passwords and pages in plain text over a network."""
        proxy = Proxy(parent=self, log=self.log)
        host = proxy.address.rpartition(":")[0]
        if not (is_loopback(host) or proxy.tls_cert):
            raise ValueError(
                f"the address {proxy.address} can be reached from other machines, and TLS is off: "
                "set c.Proxy.tls_cert and c.Proxy.tls_key, or listen on 127.0.0.1"
            )
        await super().setup(app)

    async def start_cluster(self, user, cluster_options):
        """Start a cluster, if the user has fewer than allowed."""
        active = await self.list_clusters(username=user.name)
        if len(active) >= self.clusters_per_user:
            names = ", ".join(cluster.name for cluster in active)
            raise PublicException(
                f"{user.name} has {len(active)} of {self.clusters_per_user} allowed clusters "
                f"({names}); close one first"
            )
        return await super().start_cluster(user, cluster_options)


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class OneAccount(UserLimits, UnsafeLocalBackend):
    """All clusters run under the account of this server: for one group that shares its data."""


class OwnAccounts(UserLimits, LocalBackend):
    """Each cluster runs under the system account of its user; the server needs to be root."""

    async def start_cluster(self, user, cluster_options):
        """Start a cluster for a user who has an account on this machine."""
        try:
            account = pwd.getpwnam(user.name)
        except KeyError:
            raise PublicException(f"{user.name} has no account on this machine") from None
        if account.pw_uid == 0:
            raise PublicException("root may not start clusters")
        return await super().start_cluster(user, cluster_options)

    def set_file_permissions(self, paths, username):
        """Give a cluster's folders, and the certificate in them, to its user.

        dask-gateway-server 2026.3.0 appends the paths of certificate and key letter by letter:
        its own method would give "/" to the user, and fail on the next letter.
        """
        folders = [path for path in paths if len(path) > 1]
        files = [file for folder in folders for file in Path(folder).iterdir() if file.is_file()]
        super().set_file_permissions([*folders, *files], username)


# Settings ----------------------------------------------------------------------------------------

if PASSWORD_FILE in os.environ:
    c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
    c.SimpleAuthenticator.password = password_from(Path(os.environ[PASSWORD_FILE]))
    # The password says nothing about who it is: nobody may choose an account by a name.
    c.DaskGateway.backend_class = OneAccount
elif os.environ.get("JUPYTERHUB_API_TOKEN"):
    c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
    c.DaskGateway.backend_class = OwnAccounts
else:
    sys.exit(
        "nobody could log in: start this server as a service of JupyterHub "
        f"(deploy/jupyterhub), or put a password into a file and name it in {PASSWORD_FILE}"
    )

c.Proxy.address = ADDRESS
c.UserLimits.clusters_per_user = CLUSTERS_PER_USER
c.LocalBackend.cluster_heartbeat_period = 5
# A scheduler on a machine under full load may be late; the default is two periods.
c.LocalBackend.cluster_heartbeat_timeout = 120
c.LocalBackend.cluster_start_timeout = c.LocalBackend.worker_start_timeout = 120
c.LocalBackend.cluster_status_period = 5
c.LocalBackend.worker_status_period = 5

# Since distributed 2026.6 there are no scripts `dask-scheduler` and `dask-worker`, which
# dask-gateway-server 2026.3.0 still calls by default. Full paths do not depend on PATH.
c.ClusterConfig.idle_timeout = IDLE_SECONDS
# The server counts the scheduler in the limits of a cluster.
c.ClusterConfig.scheduler_cores = 1
c.ClusterConfig.scheduler_memory = "1 G"
c.ClusterConfig.cluster_max_cores = CORES_PER_CLUSTER + 1
c.ClusterConfig.cluster_max_memory = f"{GIB_PER_CLUSTER + 1} G"
c.ClusterConfig.environment = {
    # Dask runs one task per core: libraries may not start threads of their own.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # The acquisition of a facility stops if a reader holds a lock on its file.
    "HDF5_USE_FILE_LOCKING": "FALSE",
    # The pages of a worker have no password, and the dashboard of the scheduler shows the same.
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
}
if KERNELS in os.environ:
    # Below this folder, each user has one for compiled kernels, which workers and notebooks share.
    c.ClusterConfig.environment[KERNELS] = os.environ[KERNELS]


def settings_of(options):
    """Translate what the user chose into settings of the cluster."""
    dask = str(Path(options.installation, "bin", "dask"))
    return {
        "scheduler_cmd": [dask, "scheduler"],
        # Without the host, the nanny of a worker listens on all interfaces.
        "worker_cmd": [dask, "worker", "--host", "127.0.0.1"],
        "worker_cores": options.worker_cores,
        "worker_memory": int(options.worker_memory * 2**30),
    }


c.Backend.cluster_options = Options(
    Integer("worker_cores", CORES_PER_WORKER, 1, MOST_CORES_PER_WORKER, label="Cores per worker"),
    Float("worker_memory", GIB_PER_WORKER, 1.0, MOST_GIB_PER_WORKER, label="GiB per worker"),
    Select("installation", list(INSTALLATIONS.items()), label="Installation"),
    handler=settings_of,
)
