"""An HTTP port as anyone may reach it: who is let in, under which name, and how much a caller may take of it."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import importlib
import importlib.util
import ipaddress
import json
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from stationkeeper.access import HttpSettings
from stationkeeper.contracts.masking import printable
from stationkeeper.contracts.metrics import Sample

App = Callable[[Any, Any, Any], Awaitable[None]]

# Of a page, a probe and a metric nothing has a body; what a proxy adds is far below.
NO_BODY_BYTES: Final = 16_384
# Asked by programs that hold no secret and only want yes or no.
PROBES: Final = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
# Characters of a hostile header that are repeated in the answer that refuses it: a name and its port; more would be a
# stranger's page under our address.
_SHOWN: Final = 80


def plain_answer(status: str, sentence: str, *more: str) -> bytes:
    """Return a whole answer for a connection that is closed after it."""
    body = f"{sentence}\n"
    head = [
        f"HTTP/1.1 {status}",
        "content-type: text/plain",
        f"content-length: {len(body)}",
        "connection: close",
        *more,
    ]
    return ("\r\n".join([*head, "", ""]) + body).encode()


@dataclass(frozen=True, slots=True)
class Access:
    """What a port asks of its callers, made once at the start: the settings with every secret read.

    ``hosts`` are the names under which the port is reached, beside addresses and localhost. With ``max_body_bytes`` of
    None the application looks at bodies itself.
    """

    settings: HttpSettings = field(default_factory=HttpSettings)
    hosts: Collection[str] = ()
    max_body_bytes: int | None = NO_BODY_BYTES
    digests: Mapping[str, bytes] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def samples(self) -> list[Sample]:
        """Return how many requests were refused, by the limit that did."""
        return [
            Sample("stationkeeper_limits_refused_total", (f"http_{why}",), n) for why, n in sorted(self.refused.items())
        ]

    @classmethod
    def of(
        cls, settings: HttpSettings, hosts: Collection[str] = (), max_body_bytes: int | None = NO_BODY_BYTES
    ) -> "Access":
        """Return what the settings say; raises ``ValueError`` for a secret that cannot be read."""
        digests = {name: _digest(secret) for name, secret in settings.secrets().items()}
        return cls(settings, (*settings.allowed_hosts, *hosts), max_body_bytes, digests)

    def knows(self, authorization: str) -> bool:
        """Return whether an Authorization header carries the secret of one of the callers.

        Every secret is compared, by digest and in constant time, so that the time tells neither name nor prefix.
        """
        scheme, _, given = authorization.strip().partition(" ")
        name: str | None = None
        if scheme.lower() == "basic":
            try:
                name, _, given = base64.b64decode(given.strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        digest = _digest(given.strip())
        same = [hmac.compare_digest(digest, known) and name in {None, who} for who, known in self.digests.items()]
        return any(same)

    def serves(self, host: str) -> bool:
        """Return whether a Host header names this port: an address, or a name that the configuration gives it.

        A page of another site reaches a port behind the firewall by a name of its own that it lets point here (DNS
        rebinding). It cannot do so by an address.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".") if _one_host(host) else ""
        except ValueError:
            # A bracket without its other one, or around no address: urlsplit reads neither.
            return False
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return any(
            pattern == "*"
            or name == pattern.lower()
            or (pattern.startswith("*.") and name.endswith(pattern[1:].lower()))
            for pattern in ("localhost", *self.hosts)
        )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _one_host(host: str) -> bool:
    return not set("/@?#\\, \t") & set(host)


class Guard:
    """The ASGI application around another: refuses what is too large, misdirected or unknown before it is looked at."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access
        # Callers of one port use one or two names of it, and reading one costs as much as a small model's answer.
        # Bounded, as hostile callers use many.
        self._serves = lru_cache(maxsize=64)(access.serves)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a refusal, or let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            if name in _READ:
                headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        refused = self._refusal(scope, headers)
        if refused is not None:
            await self._refuse(send, *refused)
        elif self._access.digests and not any(map(self._access.knows, headers.get("authorization", ()))):
            if scope["path"] in PROBES:
                await _without_reasons(self._app, scope, receive, send)
            else:
                await self._refuse(send, 401, "give the token or password of a caller that http.callers names")
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Any, headers: Mapping[str, list[str]]) -> tuple[int, str] | None:
        access = self._access
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > access.settings.max_header_bytes:
            return (
                431,
                f"the header has {size} bytes, at most {access.settings.max_header_bytes} (http.max_header_bytes)",
            )
        for host in headers.get("host", ()):
            if not self._serves(host):
                return 421, f"{_shown(host)} is no name of this port; add it to http.allowed_hosts if callers use it"
        length = headers.get("content-length", ["0"])[0]
        if access.max_body_bytes is not None and length.isdecimal() and int(length) > access.max_body_bytes:
            return 413, f"the body has {_shown(length)} bytes, at most {access.max_body_bytes} are taken here"
        origins = headers.get("origin", ())
        if scope["method"] not in {"GET", "HEAD"} and any(_of(one) not in headers.get("host", ()) for one in origins):
            return 403, "a page of another site may not send here"
        return None

    async def _refuse(self, send: Any, status: int, sentence: str) -> None:
        self._access.refused[_WHY[status]] += 1
        body = json.dumps({"error": sentence}).encode() + b"\n"
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        # What the caller still sends of a refused request is not read.
        headers += [(b"connection", b"close"), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        if status == 401:
            headers += [
                (b"www-authenticate", b'Basic realm="stationkeeper", charset="UTF-8"'),
                (b"www-authenticate", b"Bearer"),
            ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


# The headers that decide here; the others are not decoded.
_READ: Final = frozenset({b"host", b"content-length", b"origin", b"authorization"})
# How each refusal is counted, beside the limits that records meet.
_WHY: Final = {401: "credentials", 403: "origin", 413: "body_bytes", 421: "host", 431: "header_bytes"}


def _of(origin: str) -> str:
    return origin.partition("://")[2]


def _shown(text: str) -> str:
    return printable(text[:_SHOWN])


async def _without_reasons(app: App, scope: Any, receive: Any, send: Any) -> None:
    """Answer a probe of a stranger with the status alone: the reasons name brokers, topics and models."""
    status = 503

    async def keep_status(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, keep_status)
    body = b"ok\n" if status == 200 else b"not ready; callers of http.callers are told why\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Bounded:
    """What one connection may take, beside one of uvicorn's protocols: a place, bytes of a header, time for a request.

    A connection that says nothing, or a byte a second, is closed; one beyond the cap is told so and closed.
    """

    settings: HttpSettings
    cycle: Any
    connections: set[Any]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        """Take a place, or close where none is left; the header's time begins."""
        super().connection_made(transport)  # type: ignore[misc]
        self._timer: asyncio.TimerHandle | None = None
        self._waits_for: str | None = None
        self._begun: Any = None
        self._header_bytes = 0
        if len(self.connections) > self.settings.max_connections:
            self._end(plain_answer("503 Service Unavailable", "too many connections", "retry-after: 1"))
        else:
            self._wait("header")

    def data_received(self, data: bytes) -> None:
        """Hand bytes on, and see whether a header or a body is still to come."""
        if self.transport.is_closing():
            return
        super().data_received(data)  # type: ignore[misc]
        self._watch(len(data))

    def on_response_complete(self) -> None:
        """Go on to the next request, which may be here in part already."""
        super().on_response_complete()  # type: ignore[misc]
        self._watch(0)

    def _watch(self, arrived: int) -> None:
        cycle = self.cycle
        if cycle is not None and cycle is not self._begun:
            self._begun, self._header_bytes, arrived = cycle, 0, 0
        if cycle is not None and not cycle.response_complete:
            self._wait("body" if cycle.more_body else None)
            return
        # Bytes of the next header, or of a body whose request was answered without it.
        self._header_bytes += arrived
        if self._header_bytes > self.settings.max_header_bytes:
            self._end(plain_answer("431 Request Header Fields Too Large", "the header is too large"))
        else:
            self._wait("header" if self._header_bytes else None)

    def connection_lost(self, error: Exception | None) -> None:
        """Give the place back."""
        self._wait(None)
        super().connection_lost(error)  # type: ignore[misc]

    def _wait(self, what: str | None) -> None:
        """Let the clock of a header or a body run, once each; None stops it."""
        if what == self._waits_for:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waits_for = what
        if what is not None:
            limit = self.settings.header_timeout if what == "header" else self.settings.body_timeout
            self._timer = self.loop.call_later(limit / 1_000, self._too_slow)

    def _too_slow(self) -> None:
        # Half an answer cannot be followed by another one.
        begun = self._waits_for == "body" and self.cycle.response_started
        self._end(b"" if begun else plain_answer("408 Request Timeout", "the request did not come in time"))

    def _end(self, answer: bytes) -> None:
        self._wait(None)
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def server_for(app: App, access: Access, *, grace_s: int = 1) -> uvicorn.Server:
    """Return a uvicorn server of a guarded application, for sockets of ``bound``; ``grace_s`` is for open requests.

    httptools is taken where it is installed (the extra ``serve``): a small request costs half the time. A second is
    what pages and scrapes need; the router asks for more.
    """
    fast = importlib.util.find_spec("httptools") is not None
    module = importlib.import_module(f"uvicorn.protocols.http.{'httptools_impl' if fast else 'h11_impl'}")
    protocol = module.HttpToolsProtocol if fast else module.H11Protocol
    bounded = type("BoundedProtocol", (_Bounded, protocol), {"settings": access.settings})
    config = uvicorn.Config(
        Guard(app, access),
        http=bounded,
        ws="none",
        # Below that, each request that is no HTTP would be a line of log.
        log_level="error",
        access_log=False,
        server_header=False,
        # What a proxy says of its caller decides nothing here.
        proxy_headers=False,
        timeout_graceful_shutdown=grace_s,
        h11_max_incomplete_event_size=access.settings.max_header_bytes,
        **(access.settings.tls.server() if access.settings.tls else {}),
    )
    return uvicorn.Server(config)


def bound(host: str, port: int, key: str) -> socket.socket:
    """Return a socket bound before anything starts; raises ``OSError`` that names the address and the setting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, not 0 (which is TCP as well): asyncio switches Nagle's delay off only where it reads TCP, and with the
    # delay each answer on a kept connection waits 40 ms for the caller's acknowledgement of its head.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise OSError(
            error.errno, f"cannot serve on {host}:{port}: {error.strerror}; set {key} to a free port"
        ) from None
    return found
