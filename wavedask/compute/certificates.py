"""Temporary TLS certificates, in files that only this user can read."""

import os
from pathlib import Path
from typing import Final

from distributed import Security

PARTS: Final = {"ca_file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
"""Parts of a certificate, and the names of their files."""


def new_certificate(folder: Path) -> Security:
    """Make a certificate that scheduler, workers and clients of one cluster share.

    It is valid for this cluster alone: whoever has its files may use the cluster, and nobody else.

    Parameters
    ----------
    folder : Path
        Where to put its files; all nodes must see it.

    Returns
    -------
    distributed.Security
        With the paths of the files.

    Examples
    --------
    >>> import stat, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     security = new_certificate(Path(folder))
    ...     stat.filemode(Path(security.tls_client_key).stat().st_mode)
    '-rw-------'
    """
    texts = Security.temporary().get_tls_config_for_role("scheduler")
    for part, name in PARTS.items():
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as opened:
            opened.write(texts[part])
    return certificate(folder)


def certificate(folder: Path) -> Security:
    """Find the certificate that `new_certificate` has put into a folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    distributed.Security
        With the paths of the files.

    Examples
    --------
    >>> certificate(Path("shared")).tls_worker_key
    'shared/key.pem'
    """
    own = {
        f"tls_{role}_{part}": str(folder / PARTS[part])
        for role in ("scheduler", "worker", "client")
        for part in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=str(folder / PARTS["ca_file"]), **own)
