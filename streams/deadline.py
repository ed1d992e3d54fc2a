"""HTTP whose time limit holds for a whole answer, head and body: Python's own begins again with every byte."""

import http.client
import io
import socket
import ssl
import time
import urllib.request
from typing import Any


class _Rest(io.RawIOBase):
    """What is left of an answer; raises ``TimeoutError`` once the socket's time limit is over."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw
        limit = sock.gettimeout()
        self._until = None if limit is None else time.monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _WholeAnswer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp = io.BufferedReader(_Rest(sock, self.fp.detach()))


class HTTPConnection(http.client.HTTPConnection):
    """The library's, with an answer that has come whole within ``timeout`` of the question or raises."""

    response_class = _WholeAnswer


class HTTPSConnection(http.client.HTTPSConnection):
    """The library's, with an answer that has come whole within ``timeout`` of the question or raises."""

    response_class = _WholeAnswer


class HTTPHandler(urllib.request.HTTPHandler):
    """Opens addresses of ``http`` by our connection."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Return the answer, whose body may still be on its way."""
        return self.do_open(HTTPConnection, req)


class HTTPSHandler(urllib.request.HTTPSHandler):
    """Opens addresses of ``https`` by our connection."""

    def __init__(self, *, context: ssl.SSLContext | None) -> None:
        super().__init__(context=context)
        self._trust = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Return the answer, whose body may still be on its way."""
        return self.do_open(HTTPSConnection, req, context=self._trust)
