"""A real HTTP receiver of notices in the test's own process: it keeps what arrived and answers as it is told."""

import http.server
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

from tests.listening import listening


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the body and headers of each POST that it takes; ``answer`` gives the status for a body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[str] = []
        self.headers: list[Message] = []
        self.asked: list[str] = []
        self.answer: Callable[[str], int] = lambda _: 204
        self.location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/T0/secret-path"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append(body)
        status = self.server.answer(body)
        if status < 300:
            self.server.bodies.append(body)
            self.server.headers.append(self.headers)
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    # A redirect that is followed comes back as a GET.
    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Authorization", ""))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    with listening(Receiver()) as server:
        yield server
