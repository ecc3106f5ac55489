"""A scheduler that is already running."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dask
from distributed import Security

from wavedask.compute.kinds.models import AddressProfile
from wavedask.compute.started import ENCRYPTED, Started
from wavedask.errors import InputError
from wavedask.paths import expanded

CERTIFICATE: Final = "distributed.comm.tls.client.cert"
"""Setting of Dask: the certificate of a client."""


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
        The scheduler needs a certificate, and there is none.
    """
    given = profile.address
    security = None
    if given.certificate is not None:
        files = {
            "tls_ca_file": given.ca_file,
            "tls_client_cert": given.certificate,
            "tls_client_key": given.key,
        }
        security = Security(
            require_encryption=True,
            **{role: str(expanded(file)) for role, file in files.items() if file is not None},
        )
    else:
        check_certificate(given.address)
    # It has the workers that it has: the run itself waits for the first one.
    yield Started(given.address, security, first_worker=profile.wait is not None)


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
