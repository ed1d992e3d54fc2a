"""A cluster that refuses us is called that, by its reason, through both clients; one that is away is not."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.topics import Topics
from stationkeeper.streams.connect import reader_for, source_for
from stationkeeper.streams.errors import Denied, Retryable
from stationkeeper.streams.handshake import explained, refusal
from stationkeeper.streams.kafka.topics import admin_client, ensure_internal
from stationkeeper.streams.settings import KafkaSettings
from tests.secured import PASSWORD, SecuredBroker

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3.0.12 leaves the socket of a refused connection to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CLIENTS = ("kafka-python", "librdkafka")
WRONG = "another-password-entirely"


def settings(broker: SecuredBroker, **security: Any) -> KafkaSettings:
    if security.get("ca_file") == "wrong":
        security["ca_file"] = str(broker.wrong_ca)
    return KafkaSettings.model_validate({**broker.settings("ann", **security), "connect_timeout": "1s"})


def read(used: KafkaSettings) -> None:
    reader = reader_for(used, "denied")
    try:
        reader.partitions("any")
    finally:
        reader.close()


def join(used: KafkaSettings) -> None:
    source = source_for(used, "denied")
    try:
        source.subscribe(["any"])
    finally:
        source.close()


def administer(used: KafkaSettings) -> None:
    with admin_client(used):
        raise AssertionError("it was let in")


CASES = {
    "password": ({"password": WRONG}, LogEvent.BROKER_CREDENTIALS, "'ann' and its secret are not accepted"),
    "user": ({"username": "nobody"}, LogEvent.BROKER_CREDENTIALS, "'nobody' and its secret"),
    "authority": ({"ca_file": "wrong"}, LogEvent.BROKER_CERTIFICATE, "kafka.security.ca_file must hold"),
    "no TLS": ({"protocol": "SASL_PLAINTEXT"}, LogEvent.BROKER_PROTOCOL, "it speaks TLS"),
    "mechanism": ({"mechanism": "SCRAM-SHA-256"}, LogEvent.BROKER_PROTOCOL, "it offers SCRAM-SHA-512"),
}


@pytest.fixture(scope="module", autouse=True)
def ann(secured: SecuredBroker) -> None:
    secured.add_user("ann")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", ["password", "authority"])
@pytest.mark.parametrize("use", [read, join])
def test_a_wrong_password_or_authority_is_called_that_by_both_clients(
    secured: SecuredBroker, client: str, case: str, use: Callable[[KafkaSettings], None]
) -> None:
    wrong, event, words = CASES[case]
    used = settings(secured, **wrong).model_copy(update={"client": client})
    with pytest.raises(Denied, match=words) as caught:
        use(used)
    assert caught.value.event is event
    assert WRONG not in str(caught.value)


@pytest.mark.parametrize("case", ["password", "authority"])
def test_a_refusal_is_told_before_any_client_tries(secured: SecuredBroker, case: str) -> None:
    wrong, event, _ = CASES[case]
    with pytest.raises(Denied) as caught, explained(settings(secured, **wrong)):
        raise AssertionError("a client was made, and its tries were waited for")
    assert caught.value.event is event


@pytest.mark.parametrize("case", CASES)
def test_each_refusal_has_its_reason(secured: SecuredBroker, case: str) -> None:
    wrong, event, words = CASES[case]
    found = refusal(settings(secured, **wrong))
    assert found is not None
    assert (found.event, words in str(found)) == (event, True)
    if case == "password":
        with pytest.raises(Denied, match=words):
            administer(settings(secured, **wrong))


def test_a_listener_of_another_kind_is_told(secured: SecuredBroker) -> None:
    at_the_open_one = settings(secured).model_copy(update={"bootstrap": secured.open})
    found = refusal(at_the_open_one)
    assert found is not None
    assert (found.event, "speaks no TLS" in str(found)) == (LogEvent.BROKER_PROTOCOL, True)
    plain = at_the_open_one.model_copy(
        update={"security": at_the_open_one.security.model_copy(update={"protocol": "SASL_PLAINTEXT"})}
    )
    found = refusal(plain)
    assert found is not None
    assert "it asks for no SASL" in str(found)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_right_password_is_let_in(secured: SecuredBroker, client: str) -> None:
    used = settings(secured).model_copy(update={"client": client})
    assert refusal(used) is None
    read(used)


def test_who_may_not_make_topics_is_told_who_must(secured: SecuredBroker) -> None:
    with pytest.raises(Denied) as caught:
        ensure_internal(settings(secured), Topics("nobody"))
    assert caught.value.event is LogEvent.BROKER_RIGHTS
    assert str(caught.value) == (
        "topic nobody.panes does not exist, and the Kafka user ann may not make it: let one that may run stationkeeper "
        "check --create once (docs/kafka-rights.md, setup), then start this again"
    )


class _Tokens(BaseHTTPRequestHandler):
    """A token endpoint of one client, whose tokens are signed by nobody: the test's broker takes those."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        known = self.headers["authorization"] == "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
        now = time.time()
        claims = {"sub": "ann", "iat": now, "exp": now + 300, "scope": "kafka"}
        parts = [
            base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({"alg": "none"}, claims)
        ]
        answer = {"access_token": ".".join([*parts, ""]), "token_type": "Bearer", "expires_in": 300}
        self.send_response(200 if known and "client_credentials" in asked else 401)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer if known else {"error": "invalid_client"}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def token_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Tokens) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/token"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_token_is_fetched_and_let_in_and_a_refused_one_is_told(
    secured: SecuredBroker, client: str, token_url: str
) -> None:
    oauth = {"mechanism": "OAUTHBEARER", "token_url": token_url, "scope": "kafka"}
    read(settings(secured, **oauth).model_copy(update={"client": client}))
    with pytest.raises(Denied, match="answers 401 for a token") as caught:
        read(settings(secured, **oauth, password=WRONG).model_copy(update={"client": client}))
    assert caught.value.event is LogEvent.BROKER_CREDENTIALS


def test_a_broker_that_is_away_or_says_nothing_is_not_called_a_refusal() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        used = KafkaSettings(bootstrap=f"127.0.0.1:{held.getsockname()[1]}", connect_timeout=200)
        assert refusal(used) is None
        held.listen()
        assert refusal(used) is None
        with pytest.raises(Retryable):
            read(used)
    assert PASSWORD not in repr(used)
