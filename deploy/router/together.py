"""Requests that are answered together: small ones that wait at the same moment are scored by one call."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stationkeeper.deploy.router.answers import infer_body, plain_body
from stationkeeper.deploy.router.refusals import Refusal, Refused
from stationkeeper.deploy.router.requests import Rows, parse_infer, parse_plain
from stationkeeper.deploy.router.router import Router, Served
from stationkeeper.deploy.router.traffic import wall_ms

# Requests of one call: a call of 64 rows of a small model costs little more than of one. Chosen.
_TOGETHER = 64
# Bytes. A longer body is a job by itself: it gains nothing, and the others would wait for it. Sixteen rows of twelve
# numbers take about as much; the body's size is known before anything is parsed. Chosen.
_SMALL = 4_096
# Seconds of processor time that a joined call may last, by what a request of the model took last: all of a call are
# answered at its end, so with a slow model the first would wait for the last. About what the log takes to acknowledge
# an answer. Chosen.
_LONGEST_S = 0.01
# Seconds of processor time up to which a request is answered by the event loop itself: a thread's wake and the way back
# cost about as much, so for a small model they were more than half of all. A slower one would hold up the probes.
_AT_ONCE_S = 0.00025
# Seconds that the event loop may be held by one call of several such requests, before it looks at its sockets again.
_HELD_S = 0.001


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

Work = Callable[[Sequence[Asked]], Iterator[Mapping[int, Reply]]]
"""Answers requests, each by its place among them, as soon as it is ready; runs in a worker."""

_Job = list[tuple[Asked, "asyncio.Future[Reply]"]]


class RequestQueue:
    """Requests that wait for a worker's thread, or for the event loop where their model is quick, in their order.

    A free worker takes the first, and with it those right behind that are small, of the same model, while ``joins``
    says that the model's requests may share a call: at most a worker's share of what waits, and no more than last
    about 10 ms. Small requests of such a model that last took at most .25 ms each go to no worker: the event loop
    answers them itself, 1 ms at a time. Nothing waits for others to come. Used by one event loop, whose thread alone
    touches the fields.
    """

    def __init__(
        self, work: Work, workers: int, joins: Callable[[str], bool], clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._work, self._joins, self._clock = work, joins, clock
        self._workers = self._free = workers
        self._queue: deque[tuple[Asked, asyncio.Future[Reply]]] = deque()
        # By model: what a small request took last, in its worker's processor time: by the wall clock of a busy machine
        # every model is slow. Only of models that answered: callers cannot make it grow.
        self._took: dict[str, float] = {}
        self._due = self._closed = False
        # Scoring holds its thread for milliseconds and would hold the event loop, and with it the probes.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="predict")

    async def ask(self, asked: Asked) -> Given:
        """Return what a request gets; raises what it was refused with."""
        if self._closed:
            raise _stopping()
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._queue.append((asked, reply))
        self._soon(loop)
        given = await reply
        if isinstance(given, Exception):
            raise given
        return given

    def close(self) -> None:
        """Wait for what is under way; what no worker has is refused, to be asked again."""
        self._closed = True
        while self._queue:
            _reply(self._queue.popleft()[1], _stopping())
        self._threads.shutdown(wait=True)

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        # After the requests that the loop read in the same turn: one by one they would share no call.
        if not self._due:
            self._due = True
            loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        # A share of all workers, not of the free ones: one that is done soon would find nothing left to take.
        share = math.ceil(len(self._queue) / self._workers)
        while self._queue:
            if self._quick(self._queue[0][0]):
                self._free -= 1
                # One call, then the sockets: what is left has its turn after them.
                self._run(lambda tell, *what: tell(*what), loop, self._next(len(self._queue), _HELD_S))
                return
            if not self._free:
                return
            job = self._next(share, _LONGEST_S)
            self._free -= 1
            self._threads.submit(self._run, loop.call_soon_threadsafe, loop, job)

    def _quick(self, asked: Asked) -> bool:
        # What one of two versions took says nothing of the other, nor of the one that stays: that one is timed anew.
        if not self._joins(asked.model):
            self._took.pop(asked.model, None)
        return _small(asked) and self._took.get(asked.model, math.inf) <= _AT_ONCE_S

    def _next(self, share: int, longest: float) -> _Job:
        """Take the first request and those behind it that may share its call, which is to last so many seconds."""
        first = self._queue[0][0]
        most = 1
        # A model that has not answered yet may be a slow one: its first request goes alone.
        if _small(first) and first.model in self._took and self._joins(first.model):
            quick = longest / max(self._took[first.model], longest / _TOGETHER)
            most = min(share, int(quick))
        job = [self._queue.popleft()]
        # Only from the front: a request that is skipped would be overtaken by those that came later.
        while len(job) < most and self._queue:
            asked = self._queue[0][0]
            if asked.model != first.model or not _small(asked):
                break
            job.append(self._queue.popleft())
        return job

    def _run(self, tell: Callable[..., object], loop: asyncio.AbstractEventLoop, job: _Job) -> None:
        """Answer a job; ``tell`` calls what it is given in the event loop's thread."""
        # Asked before the work: the version that answers may have gone by its end.
        timed, began, answered = self._joins(job[0][0].model), self._clock(), 0
        failed: Exception = RuntimeError("the worker gave no answer")
        try:
            for replies in self._work([asked for asked, _ in job]):
                answered += sum(isinstance(one, Given) for one in replies.values())
                tell(self._give, job, replies)
        except Exception as error:  # noqa: BLE001 - whatever failed, each caller gets an answer
            failed = error
        except BaseException as error:  # noqa: BLE001 - raised in the event loop it would end the server
            failed = RuntimeError(f"the worker ended with {type(error).__name__}: {error}")
        took = (self._clock() - began) / answered if timed and answered else None
        tell(self._end, loop, job, took, failed)

    def _give(self, job: _Job, replies: Mapping[int, Reply]) -> None:
        for at, one in replies.items():
            _reply(job[at][1], one)

    def _end(self, loop: asyncio.AbstractEventLoop, job: _Job, took: float | None, failed: Exception) -> None:
        self._free += 1
        for _, reply in job:
            _reply(reply, failed)
        first = job[0][0]
        # A large request says nothing of what a small one takes.
        if took is not None and _small(first):
            self._took[first.model] = took
        if self._queue:
            self._soon(loop)


def _small(asked: Asked) -> bool:
    return len(asked.body) <= _SMALL


def _stopping() -> Refused:
    return Refused(Refusal.NOT_READY, "the server stops; ask again")


def _reply(reply: "asyncio.Future[Reply]", given: Reply) -> None:
    # A caller that was given up meanwhile has a cancelled future.
    if not reply.done():
        reply.set_result(given)


def answer_together(router: Router, asked: Sequence[Asked]) -> Iterator[Mapping[int, Reply]]:
    """Answer requests of one model, by one call of its champion where they are several; yields each when ready."""
    parsed: dict[int, tuple[Rows, str | None]] = {}
    for at, one in enumerate(asked):
        try:
            parsed[at] = (parse_plain(one.body, wall_ms()), None) if one.plain else parse_infer(one.body, wall_ms())
        except Exception as error:  # noqa: BLE001 - it is the answer of this request alone
            yield {at: error}
    if not parsed:
        return
    model = asked[0].model
    left = [list(parsed)]
    while left:
        some = left.pop()
        try:
            if len(some) == 1:
                answers: list[Served | Exception] = [router.predict(model, parsed[some[0]][0])]
            else:
                answers = router.predict_together(model, [parsed[at][0] for at in some])
        except Exception as error:  # noqa: BLE001 - whose fault it is shows when there is one left
            if len(some) == 1:
                yield {some[0]: error}
            else:
                # Halves, so that one culprit among 64 costs twelve calls more and not sixty-four. The first half is
                # next.
                middle = len(some) // 2
                left += [some[middle:], some[:middle]]
            continue
        yield {at: _given(asked[at], one, *parsed[at]) for at, one in zip(some, answers, strict=True)}


def _given(asked: Asked, served: Served | Exception, rows: Rows, request_id: str | None) -> Reply:
    if isinstance(served, Exception):
        return served
    try:
        if asked.plain:
            return Given(served, plain_body(asked.model, served.answers, single=rows.single))
        return Given(served, infer_body(asked.model, served.answers, request_id))
    except Exception as error:  # noqa: BLE001 - it is the answer of this request alone
        return error
