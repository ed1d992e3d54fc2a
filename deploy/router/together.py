"""Requests that are answered together: what waits while a worker is busy is scored and logged as one batch."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stationkeeper.deploy.router.answers import infer_body, plain_body
from stationkeeper.deploy.router.requests import Rows, parse_infer, parse_plain
from stationkeeper.deploy.router.router import Router, Served
from stationkeeper.deploy.router.traffic import wall_ms

# Requests that a worker takes at once: scoring 64 rows costs little more than one, and the first of them waits for the
# last, so twice as many would be felt. Chosen.
_TOGETHER = 64
# A request of more rows is a batch by itself: it gains nothing, and the others would wait for it.
_MOST_ROWS = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A body as it came, for a model; ``plain`` is the plain route, else KServe v2."""

    model: str
    body: bytes
    plain: bool


@dataclass(frozen=True, slots=True)
class Given:
    """What a request gets: its answers, and the body that says them."""

    served: Served
    body: bytes


Reply = Given | Exception
"""An exception is the answer of the request it belongs to alone: ``Refused``, or a fault of the server."""


class RequestQueue:
    """Requests that wait for one of ``workers`` threads; a free one takes all that wait.

    Nothing waits for others to come: a lone request starts at once. Used by one event loop, whose thread alone
    touches the fields.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Sequence[Reply]], workers: int) -> None:
        self._work = work
        self._free = workers
        self._queue: deque[tuple[Asked, asyncio.Future[Reply]]] = deque()
        self._due = False
        # Scoring holds its thread for milliseconds and would hold the event loop, and with it the probes.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="predict")

    async def ask(self, asked: Asked) -> Given:
        """Return what a request gets; raises what it was refused with."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._queue.append((asked, reply))
        # After the requests that the loop read in the same turn: handing over one by one costs a thread's wake each.
        if not self._due:
            self._due = True
            loop.call_soon(self._begin, loop)
        given = await reply
        if isinstance(given, Exception):
            raise given
        return given

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown(wait=True)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        while self._free and self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _TOGETHER))]
            self._free -= 1
            self._threads.submit(self._run, loop, batch)

    def _run(self, loop: asyncio.AbstractEventLoop, batch: list[tuple[Asked, "asyncio.Future[Reply]"]]) -> None:
        try:
            given = self._work([asked for asked, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever failed, each caller gets an answer
            given = [error] * len(batch)
        loop.call_soon_threadsafe(self._end, loop, batch, given)

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Asked, "asyncio.Future[Reply]"]],
        given: Sequence[Reply],
    ) -> None:
        self._free += 1
        for (_, reply), one in zip(batch, given, strict=True):
            # A caller that was given up meanwhile has a cancelled future.
            if not reply.done():
                reply.set_result(one)
        self._begin(loop)


def answer_together(router: Router, asked: Sequence[Asked]) -> list[Reply]:
    """Answer requests in their order, the small ones of a model in one batch.

    What is wrong with one request is refused to it alone: a batch in which anything fails is answered request by
    request.
    """
    parsed: list[tuple[Rows, str | None] | Exception] = [_parsed(one) for one in asked]
    replies: dict[int, Reply] = {at: one for at, one in enumerate(parsed) if isinstance(one, Exception)}
    rows = {at: one[0] for at, one in enumerate(parsed) if not isinstance(one, Exception)}
    for model in {asked[at].model for at in rows}:
        small = [at for at, one in rows.items() if asked[at].model == model and 0 < len(one) <= _MOST_ROWS]
        # While two versions are compared each request is scored by itself: the version with the smaller share would be
        # scored in smaller batches, and look quicker than it is.
        if len(small) < 2 or not router.one_version(model):
            continue
        try:
            together = router.predict(model, Rows.joined([rows[at] for at in small]), shared=True)
        except Exception:  # noqa: BLE001, S112 - whose fault it is shows when each is answered by itself, below
            continue
        begin = 0
        for at in small:
            end = begin + len(rows[at])
            served = Served(together.answers[begin:end], together.logged)
            replies[at], begin = _given(asked[at], served, parsed[at]), end
    for at, one in rows.items():
        if at not in replies:
            try:
                replies[at] = _given(asked[at], router.predict(asked[at].model, one), parsed[at])
            except Exception as error:  # noqa: BLE001 - it is the answer of this request alone
                replies[at] = error
    return [replies[at] for at in range(len(asked))]


def _parsed(asked: Asked) -> tuple[Rows, str | None] | Exception:
    try:
        return (parse_plain(asked.body, wall_ms()), None) if asked.plain else parse_infer(asked.body, wall_ms())
    except Exception as error:  # noqa: BLE001 - it is the answer of this request alone
        return error


def _given(asked: Asked, served: Served, parsed: tuple[Rows, str | None] | Exception) -> Given:
    assert not isinstance(parsed, Exception)  # noqa: S101 - only what was parsed is answered
    rows, request_id = parsed
    if asked.plain:
        return Given(served, plain_body(asked.model, served.answers, single=rows.single))
    return Given(served, infer_body(asked.model, served.answers, request_id))
