"""What a token endpoint answers is looked at before it is used."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from stationkeeper.streams.oauth import ClientCredentials, TokenRefused
from tests.dripping_server import CUT, HEAD, dripping


class _Endpoint(BaseHTTPRequestHandler):
    said = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def credentials() -> Iterator[ClientCredentials]:
    with HTTPServer(("127.0.0.1", 0), _Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield ClientCredentials(f"http://127.0.0.1:{server.server_port}/token", "ann", "secret", None)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        *(
            (f'{{"access_token": "a", "expires_in": {life}}}', "no access_token")
            for life in ("NaN", "1e999", "[]", '"x"')
        ),
        ('{"access_token": "a", "expires_in": ' + "9" * 400 + "}", "no access_token"),
        ("{}", "no access_token"),
        ("[]", "no access_token"),
        ("null", "no access_token"),
        ("[" * 60_000, "gives no token"),
        ("<html>", "gives no token"),
    ],
)
def test_an_answer_without_a_token_of_a_finite_life_is_refused(
    said: str, why: str, credentials: ClientCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Endpoint, "said", said.encode())
    with pytest.raises(TokenRefused, match=why):
        credentials.token()


@pytest.mark.parametrize("head", [HEAD, CUT])
def test_an_answer_that_drips_is_given_up_at_its_time_limit(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stationkeeper.streams.oauth._ASK_S", 0.2)
    with dripping(head) as url, pytest.raises(TokenRefused, match="timed out"):
        ClientCredentials(url, "ann", "secret", None).token()


def test_a_token_is_kept_for_most_of_its_life(credentials: ClientCredentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Endpoint, "said", b'{"access_token": "a", "expires_in": 300}')
    assert credentials.token() == "a"
    monkeypatch.setattr(_Endpoint, "said", b'{"access_token": "b"}')
    assert credentials.token() == "a"
