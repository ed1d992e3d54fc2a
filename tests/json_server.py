"""A server of JSON in the test's own process: a double says only what it answers."""

import json
import threading
from abc import ABC, abstractmethod
from datetime import datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JsonServer(ThreadingHTTPServer, ABC):
    """Serves from a free port of this machine from its making until ``close``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # A short poll: each test waits for it once at its end.
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @abstractmethod
    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        """Return status and body of the answer: JSON, bytes as they are, or None for an empty body."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: JsonServer
    # Head and body in one packet: in two, each answer waits 40 ms for an acknowledgement.
    wbufsize = -1

    def do_GET(self) -> None:
        length = int(self.headers["content-length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        status, told = self.server.respond(self.command, self.path, self.headers, body)
        text = told if isinstance(told, bytes) else json.dumps(told, default=datetime.timestamp).encode()
        text = b"" if told is None else text
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output quiet."""
