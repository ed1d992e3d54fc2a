"""Who may ask the HTTP ports, under which names, and how much one caller may take: the block ``http:``."""

import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from stationkeeper.contracts.settings import Credential, Duration, Settings, read_secret

# Guessing 12 random characters takes longer than a port is up; a word of a dictionary does not.
_SHORTEST_CREDENTIAL = 12

# 64 characters are more than a name needs that people type; 253 is the longest that DNS has.
PeerName = Annotated[str, Field(pattern=r"^(monitor|retrain|deploy)(-[A-Za-z0-9._-]{1,64})?$")]
Port = Annotated[int, Field(ge=0, le=65_535)]
CallerName = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._@-]+$")]
"""Who calls, as a browser asks for it; without the colon that separates it from the secret."""
HostName = Annotated[str, Field(max_length=253, pattern=r"^(\*|(\*\.)?[A-Za-z0-9._-]+)$")]
"""A name as callers write it, without a port; ``*.example.org`` for all below it, ``*`` for any name at all."""


class TlsSettings(Settings):
    """The certificate of every HTTP port. The roles check each other's by ``ca_file``, or by what the system trusts."""

    cert_file: Path
    key_file: Path
    key_password_file: Path | None = None
    ca_file: Path | None = None

    def server(self) -> dict[str, Any]:
        """Return uvicorn's options; raises ``ValueError`` for a file that is not there."""
        for key in ("cert_file", "key_file"):
            if not getattr(self, key).is_file():
                raise ValueError(f"http.tls.{key} {getattr(self, key)} is not a file")
        password = self.key_password_file and read_secret(self.key_password_file, "http.tls.key_password_file")
        return {
            "ssl_certfile": str(self.cert_file),
            "ssl_keyfile": str(self.key_file),
            "ssl_keyfile_password": password,
        }


def client_context(ca_file: Path | None, key: str) -> ssl.SSLContext:
    """Return how another server's certificate is checked; raises ``ValueError`` that names ``key`` and the file."""
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{key} {ca_file} is no file of certificates: {error}") from None


class HttpSettings(Settings):
    """Where each role serves /metrics, probes, the API and the status page, and who may ask; port 0 takes a free one.

    ``peers`` are the addresses at which the page of one role finds the others; left out, they are on this machine.
    Of several processes of one role each has a name of its own, such as ``monitor-1``. All but the addresses holds
    for ``serve`` as well.

    ``callers`` name who may ask, each with a secret that is taken as a bearer token or as the password of that
    name; the roles use the first among themselves. Probes stay open, and give their reasons to those alone.
    ``allowed_hosts`` are the names under which the ports are reached, beside localhost, addresses, this machine's
    name, and the names in ``peers`` and ``targets``. ``unprotected`` is the word that a port beyond this machine needs
    when nothing asks who is there: neither callers nor TLS.
    """

    host: str = "127.0.0.1"
    # Three in a row beside the client port of Kafka, none of which a common program takes.
    monitor: Port = 9101
    retrain: Port = 9102
    deploy: Port = 9103
    peers: dict[PeerName, Annotated[str, Field(pattern="^https?://")]] | None = None
    callers: dict[CallerName, Credential] = {}
    tls: TlsSettings | None = None
    allowed_hosts: tuple[HostName, ...] = ()
    unprotected: bool = False
    # Chosen: half of the 1 024 files that a process may open by default, the other half is for Kafka and caches.
    max_connections: Annotated[int, Field(ge=1)] = 512
    # Twice what browsers and proxies send at most (16 KiB of cookies); twice as much only helps who attacks.
    max_header_bytes: Annotated[int, Field(ge=1_024)] = 32_768
    # Chosen: a header is one packet, also on a slow line; who sends a byte a second holds a connection no longer.
    header_timeout: Annotated[Duration, Field(ge=100)] = 10_000
    # Chosen: the largest body (serve.max_body_bytes, 8 MiB) in half a minute needs 2 Mbit/s.
    body_timeout: Annotated[Duration, Field(ge=100)] = 30_000

    @field_validator("callers")
    @classmethod
    def _long_enough(cls, value: dict[str, Credential]) -> dict[str, Credential]:
        for name, one in value.items():
            if one.secret is not None:
                _refuse_short(name, one.secret.get_secret_value())
        return value

    def secrets(self) -> dict[str, str]:
        """Return each caller's secret; raises ``ValueError`` for one that cannot be read or is too short."""
        found = {name: one.read(f"http.callers.{name}") for name, one in self.callers.items()}
        for name, secret in found.items():
            _refuse_short(name, secret)
        return found

    def exposed(self, host: str) -> bool:
        """Return whether a port bound to ``host`` can be reached from elsewhere with nothing that asks who is there."""
        return not (self.unprotected or self.callers or self.tls) and not _loopback(host)


def _refuse_short(name: str, secret: str) -> None:
    if len(secret) < _SHORTEST_CREDENTIAL:
        raise ValueError(
            f"the secret of {name} has {len(secret)} characters, at least {_SHORTEST_CREDENTIAL} are needed; "
            "openssl rand -base64 24 makes one"
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # An empty text is every address, and a name may be any.
        return False
