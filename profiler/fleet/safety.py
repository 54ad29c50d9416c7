"""Who may listen and connect: Dask runs what it receives, so that beyond this machine's loopback nothing goes without TLS."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distributed.security import Security

from layerclock.errors import FleetError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificates", "safe_security"]

_HOW = "docs/fleet.md says how to make certificates; then name them with --tls-ca, --tls-cert and --tls-key, and the address as tls://"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM form: the authority that all members trust, and this member's certificate and key.

    What is left out is looked up in Dask's configuration (``DASK_DISTRIBUTED__COMM__TLS__CA_FILE`` and so on).
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def security(self) -> Security:
        """As Dask takes them. Raises :class:`FleetError` for a file that is not there."""
        roles = ("client", "worker", "scheduler")
        given: dict[str, str] = {"tls_ca_file": str(self.ca)} if self.ca else {}
        given |= {f"tls_{role}_cert": str(self.cert) for role in roles if self.cert}
        given |= {f"tls_{role}_key": str(self.key) for role in roles if self.key}
        for file in filter(None, (self.ca, self.cert, self.key)):
            if not file.is_file():
                raise FleetError(f"there is no certificate file {file}", _HOW)
        return Security(**given)


def safe_security(address: str, certificates: Certificates) -> Security:
    """The security of a connection to, or a listener on, ``address``: ``tls://host:port``, or ``tcp://`` on loopback.

    Raises :class:`FleetError` for any other address, and for ``tls://`` without certificates.
    """
    parts = urlsplit(address)
    try:
        named = bool(parts.hostname) and parts.port is not None
    except ValueError:
        named = False
    if not named or parts.scheme not in ("tcp", "tls"):
        raise FleetError(f"{address!r} is no address of a scheduler", "write tls://HOST:8786, or tcp://127.0.0.1:8786 on one machine")
    security = certificates.security()
    if parts.scheme == "tls":
        lacking = [name for name in ("tls_ca_file", "tls_client_cert", "tls_client_key") if not getattr(security, name)]
        if lacking:
            raise FleetError(f"{address} needs certificates: {', '.join(lacking)} not known", _HOW)
        security.require_encryption = True
    elif not _is_loopback(str(parts.hostname)):
        raise FleetError(f"{address} is beyond this machine, and without TLS: whoever reaches it could run anything", _HOW)
    return security


def _is_loopback(host: str) -> bool:
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
        return bool(found) and all(ip_address(address).is_loopback for address in found)
    except (OSError, ValueError):
        return False
