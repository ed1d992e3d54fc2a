import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stationkeeper.contracts.plugins import NotConforming, PluginGroup, plugin_names
from stationkeeper.contracts.settings import SettingError
from stationkeeper.notify import Notice, NotifierSettings, Told, check_notifier, notifier_for
from stationkeeper.streams.errors import Retryable
from tests.dripping_server import CUT, dripping
from tests.listening import free_port
from tests.stationkeeper.notify.receiver import Receiver, receiving
from tests.waiting import LIMIT_S

pytestmark = pytest.mark.usefixtures("without_proxies")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def notice(name: str = "v1") -> Notice:
    return Notice.model_validate(
        {"id": name, "told": "page", "time": "2026-01-05T06:01:00Z", "model": "fraud", "version": "1", "text": "moved"}
    )


def settings(url: object, kind: str = "webhook", **more: object) -> NotifierSettings:
    return NotifierSettings.model_validate({"kind": kind, "url": url, "timeout": f"{LIMIT_S:g}s", **more})


@pytest.mark.parametrize("kind", plugin_names(PluginGroup.NOTIFIERS))
def test_what_ships_conforms(kind: str, receiver: Receiver):
    @contextmanager
    def away() -> Iterator[None]:
        receiver.answer = lambda _: 503
        yield

    check_notifier(lambda: notifier_for(settings(receiver.url, kind)), lambda: receiver.bodies, away)


def test_one_that_keeps_an_error_to_itself_does_not_conform(receiver: Receiver):
    class Silent:
        def notify(self, notice: Notice) -> None:
            pass

    with pytest.raises(NotConforming, match="had not arrived") as found:
        check_notifier(Silent, lambda: receiver.bodies, receiving)
    assert "as if it had been told" in str(found.value)


def test_a_cloud_event_has_what_its_specification_demands(receiver: Receiver):
    for told in Told:
        notifier_for(settings(receiver.url, "cloudevents")).notify(notice().model_copy(update={"told": told}))
    for headers, event in zip(receiver.headers, receiver.events(), strict=True):
        # CloudEvents 1.0.2, sections 3.1 and 3.1.2: the structured mode's media type, names, and required attributes.
        assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
        assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)
        assert event["specversion"] == "1.0"
        assert all(isinstance(event[name], str) and event[name] for name in ("id", "source", "type", "subject"))
        assert urlsplit(event["source"]).path == "/stationkeeper/models/fraud"
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
        assert event["datacontenttype"] == "application/json"
        assert Notice.model_validate(event["data"]).id == event["id"]
    assert [event["type"] for event in receiver.events()] == [f"stationkeeper.{told.value}" for told in Told]


def test_a_webhook_gets_the_notice_and_its_line(receiver: Receiver):
    notifier_for(settings(receiver.url)).notify(notice())
    # Chat systems read `text` and leave the rest.
    assert receiver.events() == [json.loads(notice().encode())]
    assert receiver.events()[0]["text"] == "moved"


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refusal_gives_the_notice_up(status: int, receiver: Receiver):
    receiver.answer = lambda _: status
    with pytest.raises(ValueError, match=f"refuses it with {status}"):
        notifier_for(settings(receiver.url)).notify(notice())


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
def test_what_a_person_or_time_can_mend_is_tried_again(status: int, receiver: Receiver):
    receiver.answer = lambda _: status
    with pytest.raises(Retryable, match=f"answers with {status}"):
        notifier_for(settings(receiver.url)).notify(notice())


def test_a_receiver_that_is_away_is_tried_again_and_its_secret_address_is_not_shown():
    url = f"http://127.0.0.1:{free_port()}/hooks/T0/secret-path"
    with pytest.raises(Retryable, match=r"the receiver at 127\.0\.0\.1 does not answer") as found:
        notifier_for(settings(url)).notify(notice())
    assert "secret-path" not in str(found.value)


def test_secrets_come_from_files_and_variables_and_stay_in_no_dump(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "url").write_text(receiver.url + "\n")
    monkeypatch.setenv("HOOK_TOKEN", "token-of-the-hook")
    made = settings({"file": str(tmp_path / "url")}, token={"env": "HOOK_TOKEN"})
    notifier_for(made).notify(notice())
    assert receiver.headers[0]["Authorization"] == "Bearer token-of-the-hook"
    assert "secret-path" not in made.model_dump_json()
    monkeypatch.delenv("HOOK_TOKEN")
    with pytest.raises(SettingError, match=r"notifiers\.token\.env names HOOK_TOKEN, which is not set"):
        notifier_for(made)


def test_a_redirect_takes_the_token_nowhere(receiver: Receiver):
    with receiving() as elsewhere:
        receiver.answer, receiver.location = (lambda _: 302), elsewhere.url
        with pytest.raises(Retryable, match="answers with 302"):
            notifier_for(settings(receiver.url, token={"secret": "token-of-the-hook"})).notify(notice())
        assert elsewhere.asked == []


@contextmanager
def answering(said: bytes, *, reset: bool = False) -> Iterator[str]:
    """Yield the address of one that answers each request with these bytes and breaks off, or keeps the line open."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line, _ = server.accept()
                    held.append(line)
                    line.recv(65_536)
                    line.sendall(said)
                    if reset:
                        # Linger for no time: the close is a reset.
                        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        line.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
        # A close alone wakes nobody who waits in accept.
        server.shutdown(socket.SHUT_RDWR)
    for line in held:
        line.close()


# Of those that hang: waited for in full by each such test; a machine on which the status comes later says the same.
SHORT = "100ms"


@pytest.mark.parametrize(
    ("said", "timeout", "reset"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n<html>", SHORT, False),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n<html>", "2m", True),
        (b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "2m", False),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[bad/\r\nContent-Length: 0\r\n\r\n", "2m", False),
        (b"HTTP/1.1 302 Found\r\nLocation: ftp://x/\r\nContent-Length: 0\r\n\r\n", "2m", False),
        (b"hello\r\n\r\n", "2m", False),
    ],
    ids=["hangs", "reset", "no chunk", "location is no address", "location is no http", "no http"],
)
def test_an_answer_that_breaks_off_does_not_give_the_notice_up(said: bytes, timeout: str, reset: bool):
    with answering(said, reset=reset) as url, pytest.raises(Retryable, match=r"answers with|does not answer"):
        notifier_for(settings(url, timeout=timeout)).notify(notice())


def test_a_status_that_drips_is_given_up_at_the_time_limit():
    with dripping(CUT) as url, pytest.raises(Retryable, match="timed out"):
        notifier_for(settings(url, timeout="200ms")).notify(notice())


def test_a_status_that_takes_it_counts_though_the_body_never_comes():
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n") as url:
        notifier_for(settings(url)).notify(notice())


def test_a_proxy_of_the_environment_is_used_and_one_that_is_none_loses_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", receiver.url)
    notifier_for(settings("http://tickets.invalid/hook")).notify(notice())
    assert [event["id"] for event in receiver.events()] == ["v1"]
    monkeypatch.setenv("http_proxy", "http:///nowhere")
    with pytest.raises(Retryable, match="does not answer"):
        notifier_for(settings("http://tickets.invalid/hook")).notify(notice())


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "hooks.example/x",
        "ftp://hooks.example",
        "https://me:word@hooks.example/x",
        "https://hooks.example/word \u00e4",
        "https://hooks.example/word\n",
        "https://b\u00fccher.example/word",
        "https://hooks.example:99x/word",
        "https://hooks.example:65536/word",
        "https://hooks.example:0/word",
        "https://[hooks/word",
        f"https://{'h' * 64}.example/word",
    ],
)
def test_what_is_no_address_is_refused_without_showing_it(url: str | None):
    with pytest.raises(ValueError, match="notifiers: url is no address: write https://HOST:PORT/PATH") as found:
        notifier_for(settings(url))
    assert "word" not in str(found.value)


def test_a_token_that_no_header_carries_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="notifiers: token has a space") as found:
        notifier_for(settings("https://hooks.example/x", token={"secret": "w\u00f6rd"}))
    assert "w\u00f6rd" not in str(found.value)
