"""Of several brokers one that is ill stops nobody whom another lets in; what we lack ourselves is said."""

import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.errors import Denied
from stationkeeper.streams.handshake import explained, refusal
from stationkeeper.streams.settings import KafkaSettings

# The answers of a broker, version 1: no error and the mechanisms; no error, no message, no bytes, no lifetime.
OFFERS = {one: struct.pack(">hih", 0, 1, len(one)) + one.encode() for one in ("PLAIN", "GSSAPI", "AWS_MSK_IAM")}
LET_IN = struct.pack(">hhiq", 0, -1, 0, 0)


class _Broker(socketserver.BaseRequestHandler):
    """Answers the two requests of a handshake; hangs up on all where it offers nothing."""

    offers: bytes | None

    def handle(self) -> None:
        for answer in (self.offers, LET_IN):
            head = self.request.recv(4)
            if answer is None or not head:
                return
            asked = self.request.recv(*struct.unpack(">i", head))
            # Behind the request's key and version stands the number that its answer must bear.
            self.request.sendall(struct.pack(">i", 4 + len(answer)) + asked[4:8] + answer)


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Yield what starts a broker for each mechanism named, None for one that hangs up, and returns their addresses."""
    with ExitStack() as stack:

        def start(*mechanisms: str | None) -> str:
            found = []
            for one in mechanisms:
                kind = type("Broker", (_Broker,), {"offers": OFFERS[one] if one else None})
                server = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), kind))
                thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
                thread.start()
                stack.callback(thread.join)
                stack.callback(server.shutdown)
                found.append(f"127.0.0.1:{server.server_address[1]}")
            return ",".join(found)

        yield start


def settings(bootstrap: str, **security: Any) -> KafkaSettings:
    given = {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": "ann", "password": "x", **security}
    return KafkaSettings.model_validate({"bootstrap": bootstrap, "security": given})


@pytest.mark.parametrize(
    "brokers", [("PLAIN",), ("GSSAPI", "PLAIN"), ("GSSAPI", None, "PLAIN"), ("GSSAPI",) * 4 + ("PLAIN",)]
)
def test_a_client_is_made_where_one_broker_lets_us_in(serve: Serve, brokers: tuple[str | None, ...]) -> None:
    made = []
    with explained(settings(serve(*brokers))):
        made.append(1)
    assert made


@pytest.mark.parametrize("brokers", [("GSSAPI",), ("GSSAPI", "GSSAPI"), (None, "GSSAPI"), ("GSSAPI", None)])
def test_where_all_that_answer_refuse_no_client_is_made(serve: Serve, brokers: tuple[str | None, ...]) -> None:
    with pytest.raises(Denied, match="it offers GSSAPI"), explained(settings(serve(*brokers))):
        raise AssertionError("a client was made")


def test_brokers_that_hang_up_are_no_refusal(serve: Serve) -> None:
    assert refusal(settings(serve(None, None))) is None


def test_a_host_without_aws_credentials_is_told_so(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore")
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)
    # MSK has TLS alone; what is asked for here comes behind it.
    monkeypatch.setattr("stationkeeper.streams.handshake._Look._tls", lambda _, raw: raw)
    found = refusal(settings(serve("AWS_MSK_IAM"), protocol="SASL_SSL", mechanism="AWS_MSK_IAM"))
    assert found is not None
    assert (found.event, "no credentials (none are found)" in str(found)) == (LogEvent.BROKER_CREDENTIALS, True)
