"""Receiving a fetch in place: kafka-python takes 4 KiB from its socket at a time and copies what came five times.

Each of a thousand small pieces also hands the interpreter to whoever computes, for up to 5 ms, so that a fetch could
not arrive while its predecessor was worked on. The protocol stays with the library: it sees where each answer begins
and is given its end; only what lies between is written by the socket to where the library would have copied it.
"""

import ssl
from typing import Any, Final, TypeVar

from kafka import errors
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.frame import KafkaBytes

_PIECE: Final = 64 * 1024
"""What is received where an answer may begin or end, and the least size of a field that is not copied."""
_WAITING: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Client = TypeVar("Client")


def in_place(client: Client) -> Client:
    """Let every connection that a consumer opens from now on receive fetches in place; returns the consumer."""
    manager = client._client._manager  # type: ignore[attr-defined]  # noqa: SLF001 - nothing public chooses a transport
    build = manager._build_transport  # noqa: SLF001

    async def built(*node: Any, **options: Any) -> Any:
        transport = await build(*node, **options)
        transport._sock_recv = Receiving(transport)  # noqa: SLF001
        return transport

    manager._build_transport = built  # noqa: SLF001
    return client


class Frame(KafkaBytes):  # type: ignore[misc] # kafka-python has no types
    """The bytes of one answer, of which long fields are read as views."""

    def read(self, nbytes: int | None = None) -> bytes | memoryview:
        """Return the next bytes; a view of them where they are many."""
        at = self.tell()
        if nbytes is None or nbytes < _PIECE or at + nbytes > len(self):
            return super().read(nbytes)  # type: ignore[no-any-return]
        self.seek(at + nbytes)
        return memoryview(self)[at : at + nbytes]


class Receiving:
    """What takes the place of a transport's ``_sock_recv``: bytes for the parser, or what broke the connection.

    The parser is given all bytes but those that were written to its frame, which it must not see twice.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __call__(self) -> tuple[bytes, Exception | None]:
        """Return what has come for the parser, which is nothing while the middle of an answer is received."""
        try:
            return self._received(), None
        except _WAITING:
            return b"", None
        except Exception as error:  # noqa: BLE001 - as in the library: what gets past this ends the reading unnoticed
            return b"", errors.KafkaConnectionError(error)

    def _received(self) -> bytes:
        sock = self._transport._sock  # noqa: SLF001
        frame = self._frame()
        # The last byte is the parser's, which then takes the frame as it would have.
        while frame is not None and (missing := len(frame) - frame.tell() - 1) > 0:
            at = frame.tell()
            with memoryview(frame) as whole, whole[at : at + missing] as rest:
                size = sock.recv_into(rest)
            if not size:
                raise ConnectionError("socket disconnected")
            frame.seek(at + size)
            # A short read empties a plain socket; TLS gives one of its own records at a time, however many wait.
            if size < missing and not isinstance(sock, ssl.SSLSocket):
                return b""
        data: bytes = sock.recv(_PIECE)
        if not data:
            raise ConnectionError("socket disconnected")
        return data

    def _frame(self) -> Frame | None:
        """The frame of a fetch whose middle is being received."""
        parser = getattr(self._transport.get_protocol(), "parser", None)
        if parser is None or not parser._receiving:  # noqa: SLF001
            return None
        frame = parser._rbuffer  # noqa: SLF001
        if isinstance(frame, Frame):
            return frame
        waiting = parser.in_flight_requests
        if len(frame) <= _PIECE or not waiting or waiting[0].request_api_key != FetchRequest.API_KEY:
            return None
        mine = parser._rbuffer = Frame(len(frame))  # noqa: SLF001
        mine.write(memoryview(frame)[: frame.tell()])
        return mine
