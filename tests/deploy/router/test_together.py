"""Requests that share a batch: each gets its own answer, and only its own fault."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stationkeeper.deploy.router.refusals import Refusal, Refused
from stationkeeper.deploy.router.together import Asked, Given, Reply, RequestQueue, answer_together
from tests.deploy.serving import Served, record


def asked(event_id: str, features: dict[str, Any], model: str = "fraud") -> Asked:
    return Asked(model, json.dumps({"event_id": event_id, "features": features}).encode(), plain=True)


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
    together = answer_together(served.router, each)
    assert scored == [7]
    alone = [answer_together(served.router, [one])[0] for one in each]
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
        asked("other", good[0], model="churn"),
        asked("good-1", good[1]),
    ]
    replies = answer_together(served.router, each)
    told = [one.reason if isinstance(one, Refused) else type(one) for one in replies]
    wrong = [Refusal.WRONG_TYPE, Refusal.BAD_JSON, Refusal.MISSING_FEATURE, Refusal.UNKNOWN_MODEL]
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
    found = [json.loads(one.body)["prediction"] for one in answer_together(served.router, each)]  # type: ignore[union-attr]
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
    replies = answer_together(served.router, [asked(f"e{at}", row) for at, row in enumerate(rows(8))])
    assert {json.loads(one.body)["arm"] for one in replies if isinstance(one, Given)} == {"champion", "canary"}
    assert scored == [1] * 8


def test_what_waits_while_the_worker_is_busy_is_taken_at_once() -> None:
    batches: list[int] = []

    async def story() -> list[Exception | None]:
        free = asyncio.Event()
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work(each: Sequence[Asked]) -> Sequence[Reply]:
            batches.append(len(each))
            if len(batches) == 1:
                loop.call_soon_threadsafe(begun.set)
                asyncio.run_coroutine_threadsafe(free.wait(), loop).result()
            return [Refused(Refusal.NO_ROWS, "counted") for _ in each]

        waiting = RequestQueue(work, 1)

        async def ask() -> Exception | None:
            try:
                await waiting.ask(Asked("fraud", b"", plain=True))
            except Refused as refused:
                return refused
            return None

        first = asyncio.create_task(ask())
        await begun.wait()
        others = [asyncio.create_task(ask()) for _ in range(100)]
        # One turn of the loop: each of them has asked, and none is taken while the one worker is busy.
        await asyncio.sleep(0)
        free.set()
        told = await asyncio.gather(first, *others)
        waiting.close()
        return list(told)

    assert all(isinstance(one, Refused) for one in asyncio.run(story()))
    # At most 64 together, so that the first does not wait for a hundred.
    assert batches == [1, 64, 36]
