"""One program that asks a server over kept connections, each again as soon as it was answered."""

import selectors
import socket
import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Asked:
    """What a stretch of asking gave: answers with status 200, others, and the seconds of each answer."""

    answered: int
    failed: int
    wall: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.wall


class _Caller:
    """One kept connection, its request under way and what came of its answer."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._got = b""
        self.began = 0.0

    def ask(self) -> None:
        self._got = b""
        self.began = time.perf_counter()
        self.socket.sendall(self._request)

    def answer(self) -> bytes | None:
        """Read what is there; returns the answer once it is whole."""
        got = self.socket.recv(65_536)
        if not got:
            raise ConnectionError("the server closed a connection")
        self._got += got
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return None
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), None
        )
        whole = body.endswith(b"0\r\n\r\n") if length is None else len(body) >= length
        return self._got if whole else None


def post(path: str, body: bytes) -> bytes:
    """Return a request as it goes over the line."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def once(port: int, request: bytes) -> bytes:
    """Return one answer; raises ``OSError`` while nobody listens."""
    caller = _Caller(port, request)
    caller.ask()
    while (got := caller.answer()) is None:
        pass
    caller.socket.close()
    return got


def ask(port: int, request: bytes, connections: int, seconds: float) -> Asked:
    """Ask over so many connections at once for so long."""
    waiting = selectors.DefaultSelector()
    for _ in range(connections):
        caller = _Caller(port, request)
        waiting.register(caller.socket, selectors.EVENT_READ, caller)
        caller.ask()
    took, failed = [], 0
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        for key, _ in waiting.select(1.0):
            caller = key.data
            got = caller.answer()
            if got is None:
                continue
            took.append(time.perf_counter() - caller.began)
            failed += not got.startswith(b"HTTP/1.1 200")
            caller.ask()
    for key in list(waiting.get_map().values()):
        key.data.socket.close()
    p50, p99 = np.percentile(took, [50, 99]) * 1_000 if took else (float("nan"), float("nan"))
    return Asked(len(took) - failed, failed, now - began, float(p50), float(p99))
