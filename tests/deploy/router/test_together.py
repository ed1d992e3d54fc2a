"""Requests that share a batch: each gets its own answer, and only its own fault."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from stationkeeper.deploy.router.answers import Answer
from stationkeeper.deploy.router.refusals import Refusal, Refused
from stationkeeper.deploy.router.router import Router
from stationkeeper.deploy.router.router import Served as Answered
from stationkeeper.deploy.router.together import Asked, Given, Reply, RequestQueue, answer_together
from stationkeeper.streams.errors import Retryable
from tests.deploy.serving import Served, record


def asked(event_id: str, features: dict[str, Any], model: str = "fraud") -> Asked:
    return Asked(model, json.dumps({"event_id": event_id, "features": features}).encode(), plain=True)


def answered(router: Router, each: Sequence[Asked]) -> list[Reply]:
    """Return the replies in the order of the requests; each comes once."""
    replies: dict[int, Reply] = {}
    for some in answer_together(router, each):
        assert not replies.keys() & some.keys()
        replies.update(some)
    return [replies[at] for at in range(len(each))]


def bodies(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in replies if isinstance(one, Given)]


def rows(count: int) -> list[dict[str, Any]]:
    return [{"amount": at / count, "method": "card"} for at in range(count)]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the rows of each call of a model, in their order."""
    from stationkeeper.registry import ServedModel

    sizes: list[int] = []
    answer = ServedModel.answer

    def counting(self: ServedModel, columns: Any) -> Any:
        sizes.append(len(next(iter(columns.values()))))
        return answer(self, columns)

    monkeypatch.setattr(ServedModel, "answer", counting)
    return sizes


def test_small_requests_are_scored_at_once_and_answered_as_if_alone(
    serve: Callable[..., Served], scored: list[int]
) -> None:
    served = serve()
    scored.clear()
    each = [asked(f"e{at}", row) for at, row in enumerate(rows(5))]
    infer = {"id": "r", "inputs": [
        {"name": "amount", "shape": [2], "datatype": "FP32", "data": [0.2, 0.4]},
        {"name": "method", "shape": [2], "datatype": "BYTES", "data": ["card", "card"]},
        {"name": "event_id", "shape": [2], "datatype": "BYTES", "data": ["v0", "v1"]},
    ]}  # fmt: skip
    each.append(Asked("fraud", json.dumps(infer).encode(), plain=False))
    together = answered(served.router, each)
    assert scored == [7]
    alone = [answered(served.router, [one])[0] for one in each]
    for one, other in zip(bodies(together), bodies(alone), strict=True):
        # A float32 sum over a larger batch differs in its last digit.
        assert one.pop("prediction", 0.0) == pytest.approx(other.pop("prediction", 0.0), abs=1e-6)
        for tensors in (one.get("outputs", []), other.get("outputs", [])):
            del tensors[:1]
        assert one == other
    assert json.loads(together[5].body)["id"] == "r"  # type: ignore[union-attr]
    assert [one["event_id"] for one in served.events()[:7]] == ["e0", "e1", "e2", "e3", "e4", "v0", "v1"]


def test_what_is_wrong_with_one_request_is_refused_to_it_alone(serve: Callable[..., Served]) -> None:
    served = serve()
    good = rows(3)
    each = [
        asked("good-0", good[0]),
        asked("text", {"amount": "much", "method": "card"}),
        Asked("fraud", b"{", plain=True),
        asked("absent", {"amount": 1.0}),
        asked("good-1", good[1]),
    ]
    replies = answered(served.router, each)
    told = [one.reason if isinstance(one, Refused) else type(one) for one in replies]
    wrong = [Refusal.WRONG_TYPE, Refusal.BAD_JSON, Refusal.MISSING_FEATURE]
    assert told == [Given, *wrong, Given]
    # Whoever was refused is not in the log, and whoever was answered is there once.
    assert [one["event_id"] for one in served.events()] == ["good-0", "good-1"]


def test_a_model_that_fails_on_one_row_answers_the_others(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stationkeeper.registry import ServedModel

    served = serve()
    answer = ServedModel.answer

    def failing(self: ServedModel, columns: Any) -> Any:
        if 13.0 in columns["amount"]:
            raise RuntimeError("the model divides by zero")
        return answer(self, columns)

    monkeypatch.setattr(ServedModel, "answer", failing)
    each = [asked(f"e{amount}", {"amount": amount, "method": "card"}) for amount in (1.0, 13.0, 2.0)]
    found = [json.loads(one.body)["prediction"] for one in answered(served.router, each)]  # type: ignore[union-attr]
    assert found[1] is None
    assert None not in {found[0], found[2]}


def test_versions_that_are_compared_are_scored_request_by_request(
    serve: Callable[..., Served], scored: list[int], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """In one batch the version with fewer rows would look quicker: its latency is a guardrail."""
    served = serve()
    served.rollouts.write(record(canary="2", weight_bp=5_000, epoch=2))
    eventually(lambda: served.applied() == ("1", "2", 5_000))
    scored.clear()
    replies = answered(served.router, [asked(f"e{at}", row) for at, row in enumerate(rows(8))])
    assert {json.loads(one.body)["arm"] for one in replies if isinstance(one, Given)} == {"champion", "canary"}
    assert scored == [1] * 8


def test_one_culprit_costs_the_others_little(serve: Callable[..., Served], scored: list[int]) -> None:
    served = serve()
    scored.clear()
    each = [asked(f"e{at}", row) for at, row in enumerate(rows(64))]
    each[21] = asked("e21", {"amount": "much", "method": "card"})
    replies = answered(served.router, each)
    assert [at for at, one in enumerate(replies) if not isinstance(one, Given)] == [21]
    # One call for all, then two for each of the six halvings.
    assert len(scored) == 13
    assert sorted(one["event_id"] for one in served.events()) == sorted(f"e{at}" for at in range(64) if at != 21)


def test_each_request_is_logged_by_itself(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    """As one log batch, a row that the log cannot take would refuse all of those that it was scored with."""
    served = serve()
    send, sent = served.log.send, []

    def picky(topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Any:
        sent.append(list(keys))
        if b"e1" in keys:
            raise Retryable("no room")
        return send(topic, keys, values)

    monkeypatch.setattr(served.log, "send", picky)
    replies = answered(served.router, [asked(f"e{at}", row) for at, row in enumerate(rows(3))])
    assert [one.reason if isinstance(one, Refused) else type(one) for one in replies] == [
        Given, Refusal.NOT_LOGGED, Given,
    ]  # fmt: skip
    assert sent == [[b"e0"], [b"e1"], [b"e2"]]


def test_the_limit_of_rows_is_a_request_s(serve: Callable[..., Served], scored: list[int]) -> None:
    served = serve(max_rows=2)
    scored.clear()
    assert len(bodies(answered(served.router, [asked(f"e{at}", row) for at, row in enumerate(rows(5))]))) == 5
    assert scored == [5]


GIVEN = Given(Answered([Answer("e", 0.5, "1", "champion")], Future()), b"{}")


class Workers:
    """What a queue's workers are given, job by job; a body ``held`` waits for ``gate``, ``panic`` ends the worker.

    ``seconds`` is what a request takes on the clock that the queue reads; by default too long for the event loop.
    """

    def __init__(self, seconds: float = 0.0003) -> None:
        self.jobs: list[list[bytes]] = []
        self.threads: list[str] = []
        self.begun, self.gate = threading.Event(), threading.Event()
        self.now, self.seconds = 0.0, seconds

    def work(self, each: Sequence[Asked]) -> Iterator[Mapping[int, Reply]]:
        self.jobs.append([one.body for one in each])
        self.threads.append(threading.current_thread().name)
        for at, one in enumerate(each):
            if one.body == b"panic":
                raise SystemExit("panic")
            if one.body == b"held":
                self.begun.set()
                assert self.gate.wait(30)
            self.now += self.seconds
            yield {at: GIVEN}

    def queue(self, workers: int = 1, *, joins: bool = True) -> RequestQueue:
        return RequestQueue(self.work, workers, lambda _model: joins, lambda: self.now)


def asking(queue: RequestQueue, bodies: Sequence[bytes], model: str = "fraud") -> "list[asyncio.Task[Given]]":
    return [asyncio.create_task(queue.ask(Asked(model, body, plain=True))) for body in bodies]


def sizes(workers: Workers) -> list[int]:
    return [len(job) for job in workers.jobs]


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


async def quick(queue: RequestQueue, workers: int = 1) -> None:
    """Let the model answer once, and wait until all workers are free: the answer goes out a moment before."""
    await asyncio.gather(*asking(queue, [b"first"]))
    while queue._free < workers:  # noqa: ASYNC110 - the queue tells nobody that a worker is free
        await asyncio.sleep(0)


async def held_up(workers: Workers, queue: RequestQueue, more: Sequence[bytes]) -> "list[asyncio.Task[Given]]":
    """Let more requests wait behind one that holds the only worker; the model has answered before."""
    await quick(queue)
    tasks = asking(queue, [b"held"])
    await wait_for(workers.begun)
    tasks += asking(queue, more)
    # One turn of the loop: each of them has asked, and none is taken while the one worker is busy.
    await asyncio.sleep(0)
    return tasks


def test_what_waits_while_the_worker_is_busy_is_taken_at_once() -> None:
    workers = Workers()

    async def story() -> None:
        queue = workers.queue()
        tasks = await held_up(workers, queue, [b"small"] * 100)
        workers.gate.set()
        await asyncio.gather(*tasks)
        queue.close()

    asyncio.run(story())
    # As many as take 10 ms, so that the first does not wait for a hundred; a model's first request is alone.
    assert sizes(workers) == [1, 1, 33, 33, 33, 1]


def test_a_small_model_s_requests_are_answered_by_the_event_loop_without_a_thread() -> None:
    workers = Workers(1 / 8_192)

    async def story() -> None:
        queue = workers.queue(2)
        await quick(queue, 2)
        await asyncio.gather(*asking(queue, [b"small"] * 20))
        # What no event loop may be held by goes to a worker: a large body, and a model that takes longer.
        await asyncio.gather(*asking(queue, [b"x" * 5_000]))
        workers.seconds = 1 / 1_024
        await asyncio.gather(*asking(queue, [b"small"]))
        await asyncio.gather(*asking(queue, [b"small"]))
        queue.close()

    asyncio.run(story())
    # A millisecond at a time; both workers stand idle, so nobody gets a share less.
    assert sizes(workers) == [1, 8, 8, 4, 1, 1, 1]
    here = threading.current_thread().name
    assert [name == here for name in workers.threads] == [False, True, True, True, False, True, False]


def test_a_slow_canary_and_its_promotion_never_hold_the_event_loop() -> None:
    """Timed by the quick champion, a canary of 300 ms was answered by the event loop, ahead of the probes."""
    workers, compared, here = Workers(1 / 8_192), False, threading.current_thread().name

    async def story() -> None:
        nonlocal compared
        queue = RequestQueue(workers.work, 1, lambda _model: not compared, lambda: workers.now)
        await quick(queue)
        await asyncio.gather(*asking(queue, [b"champion"]))
        compared = True
        for version, seconds in ((b"champion", 1 / 8_192), (b"canary", 0.3), (b"champion", 1 / 8_192)):
            workers.seconds = seconds
            await asyncio.gather(*asking(queue, [version]))
        assert here not in workers.threads[2:]
        # The old champion's last request began with the canary out, and ends after its promotion.
        tasks = asking(queue, [b"held"])
        await wait_for(workers.begun)
        compared = False
        workers.gate.set()
        await asyncio.gather(*tasks)
        workers.seconds = 0.3
        for _ in range(2):
            await asyncio.gather(*asking(queue, [b"promoted"]))
        queue.close()

    asyncio.run(story())
    assert [name == here for name in workers.threads] == [False, True, *[False] * 6]


def test_other_requests_have_their_turn_between_two_calls_on_the_event_loop() -> None:
    workers, seen = Workers(1 / 8_192), list[int]()

    async def probe() -> None:
        seen.append(len(workers.jobs))

    async def story() -> None:
        queue = workers.queue()
        await quick(queue)
        tasks = asking(queue, [b"small"] * 16)
        # The first call is due once all have asked; what comes meanwhile does not wait for the second.
        await asyncio.sleep(0)
        await asyncio.create_task(probe())
        await asyncio.gather(*tasks)
        queue.close()

    asyncio.run(story())
    assert sizes(workers) == [1, 8, 8]
    assert seen == [2]


def test_free_workers_share_what_waits() -> None:
    workers = Workers()

    async def story() -> None:
        queue = workers.queue(2)
        await quick(queue, 2)
        await asyncio.gather(*asking(queue, [b"small"] * 9))
        queue.close()

    asyncio.run(story())
    assert sorted(sizes(workers)) == [1, 4, 5]


@pytest.mark.parametrize(
    ("seconds", "joins", "body", "model"),
    [(0.2, True, b"small", "fraud"), (0.0003, False, b"small", "fraud"), (0.0003, True, b"x" * 5_000, "fraud"),
     (0.0003, True, b"small", "new")],
    ids=["slow model", "versions compared", "large", "never answered"],
)  # fmt: skip
def test_what_would_wait_for_others_is_a_job_by_itself(seconds: float, joins: bool, body: bytes, model: str) -> None:
    workers = Workers(seconds)

    async def story() -> None:
        queue = workers.queue(joins=joins)
        tasks = await held_up(workers, queue, [])
        tasks += asking(queue, [body], model)
        tasks += asking(queue, [body], "other")
        tasks += asking(queue, [body] * 2)
        await asyncio.sleep(0)
        workers.gate.set()
        await asyncio.gather(*tasks)
        queue.close()

    asyncio.run(story())
    joined = [job for job in workers.jobs if len(job) > 1]
    # Only the two quick small requests at the end may share a call.
    assert joined == ([[body] * 2] if model == "new" else [])


def test_models_do_not_share_a_call() -> None:
    workers = Workers()

    async def story() -> None:
        queue = workers.queue()
        await asyncio.gather(*asking(queue, [b"first"], "churn"))
        tasks = await held_up(workers, queue, [b"fraud"] * 2)
        tasks += asking(queue, [b"churn"] * 3, "churn")
        await asyncio.sleep(0)
        workers.gate.set()
        await asyncio.gather(*tasks)
        queue.close()

    asyncio.run(story())
    assert workers.jobs[3:] == [[b"fraud"] * 2, [b"churn"] * 3]


def test_a_slow_model_s_requests_share_a_call_again_once_it_is_quick() -> None:
    workers = Workers(0.25)

    async def story() -> None:
        queue = workers.queue()
        tasks = await held_up(workers, queue, [b"small"] * 8)
        workers.seconds = 1 / 512
        workers.gate.set()
        await asyncio.gather(*tasks)
        queue.close()

    asyncio.run(story())
    # As many as take 10 ms at 2 ms each.
    assert sizes(workers) == [1, 1, 5, 3]


def test_a_reply_goes_out_when_it_is_ready() -> None:
    workers = Workers()

    async def story() -> None:
        queue = workers.queue(2)
        await quick(queue, 2)
        early, slow, _, behind = asking(queue, [b"early", b"held", b"other", b"behind"])
        # The other worker takes the second half; the gate stands still.
        assert await asyncio.wait_for(early, 30) is await asyncio.wait_for(behind, 30)
        await wait_for(workers.begun)
        assert not slow.done()
        workers.gate.set()
        await slow
        queue.close()

    asyncio.run(story())
    assert [b"early", b"held"] in workers.jobs


def test_what_waits_when_the_server_stops_is_refused_to_be_asked_again() -> None:
    workers = Workers()

    async def story() -> list[Any]:
        queue = workers.queue()
        tasks = await held_up(workers, queue, [b"small"] * 2)
        threading.Timer(0.0, workers.gate.set).start()
        queue.close()
        tasks += asking(queue, [b"late"])
        return list(await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30))

    told = asyncio.run(story())
    # The one under way is answered.
    assert told[0] is GIVEN
    assert [one.reason for one in told[1:]] == [Refusal.NOT_READY] * 3


def test_whatever_ends_a_job_its_callers_are_answered_and_the_worker_stays() -> None:
    workers = Workers()

    async def story() -> list[Any]:
        queue = workers.queue()
        tasks = asking(queue, [b"panic", b"after"])
        told = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        queue.close()
        return list(told)

    failed, after = asyncio.run(story())
    assert (type(failed), str(failed)) == (RuntimeError, "the worker ended with SystemExit: panic")
    assert after is GIVEN
