"""A hundred swaps of the champion and a hundred controllers lost in mid-canary, under callers that never stop."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stationkeeper.contracts.times import to_datetime
from stationkeeper.deploy.core.split import buckets
from tests.deploy.serving import LEASE, Served, instances, record

TIMES = 100
ROWS = instances(50)


@contextmanager
def callers(served: Served, count: int = 4) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Ask over kept connections until the block ends; yield what was answered, complete after it."""
    ended = threading.Event()
    answers: list[tuple[int, dict[str, Any]]] = []

    def ask(who: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        asked = 0
        # At least one each, however late a thread begins on a busy machine.
        while not asked or not ended.is_set():
            asked += 1
            row = {"event_id": f"{who}-{asked}", "features": {"amount": 1.0, "method": "card"}}
            connection.request("POST", "/predict/fraud", json.dumps(row).encode())
            answer = connection.getresponse()
            answers.append((answer.status, json.loads(answer.read())))
        connection.close()

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)


def check(served: Served, answers: list[tuple[int, dict[str, Any]]]) -> None:
    """Every caller got its own answer, from a version that the log names, and each stands once in the log."""
    assert {status for status, _ in answers} == {200}
    assert {one["version"] for _, one in answers} <= {"1", "2"}
    given = [one["event_id"] for _, one in answers]
    logged = [one["event_id"] for one in served.events() if "-" in one["event_id"]]
    assert len(given) >= 4
    assert sorted(given) == sorted(logged)


def test_a_hundred_swaps_of_the_champion_drop_no_request(
    serve: Callable[..., Served], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    served = serve()
    with callers(served) as answers:
        for turn in range(TIMES):
            champion = "12"[turn % 2]
            served.rollouts.write(record(champion, epoch=turn + 2))
            eventually(lambda champion=champion: served.applied()[0] == champion)  # type: ignore[misc]
    check(served, answers)


def test_a_hundred_controllers_lost_in_mid_canary_drop_no_request_and_give_no_more_than_the_record(
    serve: Callable[..., Served], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    served = serve()
    entities = [one["entity_id"] for one in ROWS["instances"]]

    def canaries() -> set[str]:
        status, answer = served.ask("/predict/fraud", ROWS)
        assert status == 200
        arms = zip(entities, answer["predictions"], strict=True)
        return {entity for entity, one in arms if one["arm"] == "canary"}

    with callers(served) as answers:
        for turn in range(TIMES):
            # A controller goes on where the log ends, at weights that rise and fall, and is lost: no lease is renewed.
            weight = (100, 2_500, 500, 5_000)[turn % 4]
            written = record(canary="2", weight_bp=weight, epoch=turn + 2)
            lease = to_datetime(served.clock[0] + LEASE)
            served.rollouts.write(written.model_copy(update={"lease_until": lease}))
            eventually(lambda weight=weight: served.applied() == ("1", "2", weight))  # type: ignore[misc]
            below = buckets(written.salt, entities) < weight
            assert canaries() == {entity for entity, one in zip(entities, below, strict=True) if one}
            served.clock[0] += LEASE
            assert canaries() == set()
    check(served, answers)
