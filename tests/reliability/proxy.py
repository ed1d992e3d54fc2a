"""A TCP proxy that makes a network bad: slow, narrow, cut, or half open; for the listener that workers use."""

import asyncio
import random
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK = 16 * 1024
_IN_FLIGHT = 256


class Proxy:
    """Forwards a port of this machine to ``target``; its attributes may be changed while connections are open.

    ``delay_s`` holds back what the broker answers, ``bytes_per_s`` narrows it, ``cut_share`` is the chance that a
    connection is cut in a second, ``closed`` cuts all and refuses new ones, and ``silent`` keeps every connection open
    while nothing passes, as a network does that drops packets. ``cuts`` and ``held`` (chunks) prove that it happened.
    """

    def __init__(self) -> None:
        self.target = 0
        self.port = 0
        self.delay_s = 0.0
        self.bytes_per_s = 0.0
        self.cut_share = 0.0
        self.closed = self.silent = False
        self.cuts = self.held = 0
        self._random = random.Random(7)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def heal(self) -> None:
        """Make the network good again."""
        self.delay_s = self.bytes_per_s = self.cut_share = 0.0
        self.closed = self.silent = False

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._cutting = asyncio.create_task(self._cut())
        return int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            self.cuts += 1
            writer.transport.abort()
            return
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            await asyncio.gather(self._pump(reader, ours, slow=False), self._pump(theirs, writer, slow=True))
        finally:
            self._open.discard(writer)
            for one in (writer, ours):
                one.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, slow: bool) -> None:
        """Carry bytes one way; each chunk is due after the delay, so that a delay is no limit on the pace."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)

        async def carry() -> None:
            while True:
                due, data = await line.get()
                if not data:
                    return
                self.held += due > self._loop.time()
                await asyncio.sleep(max(due - self._loop.time(), 0))
                if slow and self.bytes_per_s:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                while self.silent:
                    self.held += 1
                    await asyncio.sleep(0.05)
                sink.write(data)
                await sink.drain()

        carrying = asyncio.create_task(carry())
        with suppress(OSError, asyncio.IncompleteReadError):
            data = b"-"
            while data and not carrying.done():
                data = await source.read(_CHUNK)
                await line.put((self._loop.time() + (self.delay_s if slow else 0.0), data))
        with suppress(OSError):
            await carrying
        sink.close()

    async def _cut(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            for writer in list(self._open):
                if self.closed or self._random.random() < self.cut_share / 20:
                    self.cuts += 1
                    self._open.discard(writer)
                    writer.transport.abort()
