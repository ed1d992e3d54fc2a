"""A team's own server that takes weights by POST and tells them by GET, as docs/extending.md asks."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


class Platform:
    """A serving platform in memory: what is in force by model."""

    def __init__(self) -> None:
        self.wanted: dict[str, dict[str, Any]] = {}
        self.taken: list[dict[str, Any]] = []

    def take(self, one: dict[str, Any]) -> bool:
        known = self.wanted.get(one["model"])
        if known is not None and one["epoch"] < known["epoch"]:
            return False
        self.wanted[one["model"]] = one
        self.taken.append(one)
        return True


class TeamServer(ThreadingHTTPServer):
    """A team's own server that takes weights by POST and tells them by GET."""

    def __init__(self) -> None:
        self.platform, self.status = Platform(), 0
        platform, server = self.platform, self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._answer(server.status or (204 if platform.take(body) else 409))

            def do_GET(self) -> None:
                model = parse_qs(urlsplit(self.path).query)["model"][0]
                found = platform.wanted.get(model)
                self._answer(server.status or (200 if found else 404), found)

            def _answer(self, status: int, body: Any = None) -> None:
                self.send_response(status)
                self.end_headers()
                if status == 200:
                    self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                """Keep the test's output quiet."""

        super().__init__(("127.0.0.1", 0), Handler)

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """Serve for as long as the block lasts."""
        server = cls()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights"
