"""An HTTP port under callers that mean harm, over real sockets."""

import asyncio
import base64
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from stationkeeper.access import HttpSettings, client_context
from stationkeeper.config import Config, ConfigError
from stationkeeper.page.fleet_status import PeerRoles
from stationkeeper.process.listener import Access, bound, server_for
from stationkeeper.process.web import WebServer, create_app
from stationkeeper.process.wiring import access_to, deploy_stage, peers_of
from tests.stationkeeper import story
from tests.waiting import until

SECRET = "correct-horse-battery"
OTHER = "staple-of-another-one"
CALLERS = {"prometheus": {"secret": SECRET}, "ann": {"secret": OTHER}}


def http(**more: Any) -> HttpSettings:
    return HttpSettings.model_validate(more)


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": len(await request.body())})


async def not_ready(_: Request) -> PlainTextResponse:
    return PlainTextResponse("tally: kafka-7.internal does not answer", 503)


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[int, Access]]]:
    """Yield what serves a small application with the settings given and returns its ``Access``, with the port."""
    running = []

    def start(*hosts: str, body: int | None = 1_000, **settings: Any) -> tuple[int, Access]:
        access = Access.of(http(**settings), hosts, body)
        routes = [Route("/echo", echo, methods=["GET", "POST"]), Route("/readyz", not_ready)]
        server = server_for(Starlette(routes=routes), access)
        found = bound("127.0.0.1", 0, "http:")
        thread = threading.Thread(target=server.run, args=([found],), daemon=True)
        thread.start()
        running.append((server, thread))
        until(lambda: server.started, "the server to start")
        return found.getsockname()[1], access

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)


def raw(port: int, data: bytes) -> bytes:
    """Return all that a port answers to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        parts = []
        try:
            while part := connection.recv(65_536):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.nip.io",
        "127.0.0.1@evil.example",
        "",
        "a b",
        "[",
        "[monitor]",
        "sub.good.example.evil",
    ],
)
def test_a_name_that_nobody_gave_the_port_is_misdirected(serve: Any, host: str) -> None:
    port, access = serve("monitor", "*.good.example")
    answer = raw(port, f"GET /echo HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"http.allowed_hosts" in answer
    assert access.samples()[0].labels == ("http_host",)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:9101", "[::1]:9101", "10.0.0.7", "Monitor.", "a.good.example:1"]
)
def test_addresses_and_the_names_of_the_configuration_are_served(serve: Any, host: str) -> None:
    port, _ = serve("monitor", "*.good.example")
    assert httpx.get(f"http://127.0.0.1:{port}/echo", headers={"host": host}).status_code == 200


def test_an_answer_does_not_wait_for_the_callers_acknowledgement() -> None:
    """With Nagle's delay on, each answer on a kept connection came 40 ms late: its body waited behind its head."""

    async def delay_is_off() -> bool:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = bound("127.0.0.1", 0, "http:")
        async with await asyncio.start_server(connected, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await seen
            writer.close()
            await writer.wait_closed()
        return bool(found)

    assert asyncio.run(delay_is_off())


@pytest.mark.parametrize("limit", [1_024, 32_768])
def test_a_header_is_bounded_whether_it_ends_or_not(serve: Any, limit: int) -> None:
    port, _ = serve(max_header_bytes=limit)
    whole = b"GET /echo HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * limit + b"\r\n\r\n"
    assert raw(port, whole).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    endless = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * (limit // 2)
    assert raw(port, endless).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


GET = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\nabc"


@pytest.mark.parametrize(
    "part",
    [b"", GET, POST, GET + b"\r\n" + POST],
    ids=["silent", "half a header", "half a body", "half a second body"],
)
def test_what_does_not_come_in_time_is_closed(serve: Any, part: bytes) -> None:
    port, _ = serve(header_timeout=200, body_timeout=200)
    assert b"HTTP/1.1 408 " in raw(port, part)


def test_a_connection_beyond_the_cap_is_told_so_and_the_others_go_on(serve: Any) -> None:
    port, _ = serve(max_connections=3)
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    for one in held:
        one.sendall(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 200 ")
    assert raw(port, b"").startswith(b"HTTP/1.1 503 ")
    held.pop().close()

    def served() -> bool:
        return raw(port, b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 200 "
        )

    until(served, "a place that was given back")
    for one in held:
        one.close()


def test_a_large_body_is_refused_before_it_is_read_and_left_to_an_application_that_asks(serve: Any) -> None:
    port, _ = serve()
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n"
    assert raw(port, head).startswith(b"HTTP/1.1 413 ")
    port, _ = serve(body=None)
    assert httpx.post(f"http://127.0.0.1:{port}/echo", content=b"x" * 200_000).json() == {"bytes": 200_000}


def test_a_page_of_another_site_may_not_send(serve: Any) -> None:
    port, _ = serve()
    url = f"http://127.0.0.1:{port}/echo"
    assert httpx.post(url, headers={"origin": "https://evil.example"}).status_code == 403
    assert httpx.post(url, headers={"origin": "null"}).status_code == 403
    assert httpx.post(url, headers={"origin": f"http://127.0.0.1:{port}"}).status_code == 200
    assert httpx.post(url).status_code == 200


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("Bearer " + SECRET, 200),
        ("bearer  " + OTHER, 200),
        (basic("ann", OTHER), 200),
        (basic("ann", SECRET), 401),
        (basic("", OTHER), 401),
        ("Bearer", 401),
        ("Bearer " + SECRET[:-1], 401),
        ("Basic !!", 401),
        (SECRET, 401),
        ("Digest " + SECRET, 401),
    ],
)
def test_only_a_caller_with_a_secret_is_answered(serve: Any, given: str | None, status: int) -> None:
    port, _ = serve(callers=CALLERS)
    headers = {} if given is None else {"authorization": given}
    answer = httpx.get(f"http://127.0.0.1:{port}/echo", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers.get_list("www-authenticate")[0].startswith("Basic realm=")
        assert SECRET not in answer.text


def test_a_probe_of_a_stranger_is_answered_without_reasons(serve: Any) -> None:
    port, _ = serve(callers=CALLERS)
    url = f"http://127.0.0.1:{port}/readyz"
    stranger, caller = httpx.get(url), httpx.get(url, headers={"authorization": f"Bearer {SECRET}"})
    assert (stranger.status_code, caller.status_code) == (503, 503)
    assert "kafka-7" not in stranger.text
    assert "kafka-7" in caller.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_peers_ask_each_other_by_tls_and_with_the_first_callers_secret(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    tls = {"cert_file": str(cert), "key_file": str(key), "ca_file": str(cert)}
    settings = {"callers": CALLERS, "tls": tls}
    peer = WebServer(create_app([story.Role("judge", {})]), access=Access.of(http(**settings)))
    peer.start()
    try:
        assert peer.url.startswith("https://")
        config = Config.parse({"http": {**settings, "peers": {"monitor": peer.url}}})
        (fleet,) = peers_of(config, "deploy").fleets(0)
        assert [role["role"] for role in fleet["roles"]] == ["judge"]
        (fleet,) = PeerRoles({"monitor": peer.url}, context=client_context(cert, "")).fleets(0)
        assert "Unauthorized" in fleet["roles"][0]["reasons"][0]
        (fleet,) = PeerRoles({"monitor": peer.url}).fleets(0)
        assert "CERTIFICATE_VERIFY_FAILED" in fleet["roles"][0]["reasons"][0]
    finally:
        peer.stop()


def test_deploy_asks_the_router_with_the_first_callers_secret(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    tls = {"cert_file": str(cert), "key_file": str(key), "ca_file": str(cert)}
    stage: Any = deploy_stage(Config.parse({"serve": {}, "http": {"callers": CALLERS, "tls": tls}}))
    (target,) = stage._effects._targets
    assert target._client._parts.scheme == "https"
    assert target._client._headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "where", [("http", "0.0.0.0"), ("serve", "0.0.0.0"), ("http", "::"), ("serve", ""), ("http", "10.0.0.7")]
)
def test_a_port_that_others_reach_needs_callers_tls_or_a_word(where: tuple[str, str]) -> None:
    block, host = where
    open_to = {block: {"host": host}}
    with pytest.raises(ConfigError, match=rf"{block}\.host .*http\.callers .*http\.unprotected: true") as caught:
        Config.parse(open_to)
    assert "docs" not in str(caught.value)
    for word in ({"unprotected": True}, {"callers": CALLERS}):
        Config.parse({**open_to, "http": {**open_to.get("http", {}), **word}})


def test_names_in_peers_and_targets_are_names_of_the_port() -> None:
    given = {
        "http": {"peers": {"monitor": "http://monitor.team.example:9101"}, "allowed_hosts": ["drift.example"]},
        "targets": [{"url": "http://serve:8080"}],
    }
    access = access_to(Config.parse(given))
    assert all(map(access.serves, ("monitor.team.example:9101", "serve:8080", "drift.example", socket.gethostname())))
    assert not access.serves("team.example")


@pytest.mark.parametrize(
    "one", [{}, {"secret": "short"}, {"secret": "x" * 20, "env": "X"}, {"file": "/nowhere/at/all"}]
)
def test_a_credential_that_cannot_be_used_is_named(one: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"http\.callers.* ann|http\.callers\.ann"):
        access_to(Config.parse({"http": {"callers": {"ann": one}}}))
