"""A scheduler that is already running."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dask
from distributed import Security

from wavedask.compute.kinds.models import AddressProfile
from wavedask.compute.started import ENCRYPTED, Started
from wavedask.errors import InputError
from wavedask.paths import expanded

CERTIFICATE: Final = "distributed.comm.tls.client.cert"
"""Setting of Dask: the certificate of a client."""


ROLES: Final = {
    "ca_file": "tls_ca_file",
    "certificate": "tls_client_cert",
    "key": "tls_client_key",
}
"""Keys of a profile that name files, and what Dask calls them."""


@contextmanager
def started(profile: AddressProfile, name: str) -> Iterator[Started]:
    """Find the certificate for a running scheduler.

    Parameters
    ----------
    profile : AddressProfile
        The address, and the files of the certificate if they are not in Dask's configuration.
    name : str
        Name of the profile, or the address.

    Yields
    ------
    Started

    Raises
    ------
    InputError
        The scheduler needs a certificate, and there is none, or one of its files is missing.
    """
    given = profile.address
    security = None
    files = {key: getattr(given, key) for key in ROLES if getattr(given, key) is not None}
    if files:
        security = Security(
            require_encryption=True,
            **{ROLES[key]: str(file) for key, file in _checked(files, name).items()},
        )
    else:
        check_certificate(given.address)
    # It has the workers that it has: the run itself waits for the first one.
    yield Started(given.address, security, first_worker=profile.wait is not None)


def _checked(files: Mapping[str, str], name: str) -> dict[str, Path]:
    """Check that a certificate is whole and its files can be read; the key may be in its file."""
    for needed in ("ca_file", "certificate"):
        if needed not in files:
            raise InputError(
                f"profile {name} has {' and '.join(files)}, and no {needed}",
                f"Give address: {needed}, too.",
            )
    paths = {key: expanded(file) for key, file in files.items()}
    for key, path in paths.items():
        if not path.is_file() or not os.access(path, os.R_OK):
            raise InputError(
                f"{key} of profile {name} is {path}, which is no file that can be read",
                "Check the path and its permissions.",
            )
    return paths


def check_certificate(address: str) -> None:
    """Check that Dask's configuration has a certificate, if an address needs one.

    Parameters
    ----------
    address : str
        Address of a scheduler.

    Raises
    ------
    InputError
        There is none.

    Examples
    --------
    >>> check_certificate("tcp://127.0.0.1:8786")
    """
    if address.startswith(ENCRYPTED) and not dask.config.get(CERTIFICATE, None):
        raise InputError(
            f"the scheduler at {address} needs a certificate, and there is none",
            f"Give one in the profile (address: ca_file, certificate, key), or in Dask's "
            f"configuration ({CERTIFICATE}, see docs: Security). The cluster of another 'wavedask "
            "run' keeps its certificate to itself.",
        )
