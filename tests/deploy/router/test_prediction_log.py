"""The router on a real broker: every acknowledged answer is in the topic once, outages push back and end."""

import json
import os
import threading
import time
from collections import Counter
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from stationkeeper.contracts.messages import PredictionEvent, Rollout, RolloutPhase
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topics
from stationkeeper.deploy.core.split import rollout_salt
from stationkeeper.deploy.router.prediction_log import KafkaPredictionLog
from stationkeeper.deploy.router.requests import parse_plain
from stationkeeper.deploy.router.router import Router
from stationkeeper.deploy.router.traffic import TrafficTable, wall_ms
from stationkeeper.deploy.settings import ServeSettings
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.errors import RecordTooLarge, Retryable
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.ports import Ended
from stationkeeper.streams.settings import KafkaSettings

pytestmark = pytest.mark.broker


def predictions(settings: KafkaSettings) -> str:
    return f"{settings.prefix}.predictions"


@pytest.fixture(scope="module", params=["kafka-python", "librdkafka"])
def settings(kafka: FoundBroker, request: pytest.FixtureRequest) -> KafkaSettings:
    prefix = f"deploy-{request.param}"
    found = KafkaSettings(bootstrap=kafka.bootstrap, prefix=prefix, client=request.param)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(predictions(found), 3, 1), NewTopic(Topics(found.prefix).rollouts.name, 1, 1)])
    admin.close()
    return found


def write(settings: KafkaSettings, rollout: Rollout) -> None:
    producer = KafkaProducer(**settings.connection("test"))
    producer.send(Topics(settings.prefix).rollouts.name, rollout.encode(), key=b"fraud").get(10)
    producer.close()


def logged(settings: KafkaSettings) -> list[tuple[int, dict[str, Any]]]:
    reader = KafkaReader(settings, "check")
    found = [
        (batch.partition.index, json.loads(value))
        for batch in reader.read(reader.partitions(predictions(settings)))
        for value in batch.values
        if value is not None
    ]
    reader.close()
    return found


def test_acknowledged_answers_are_in_the_topic_once_and_an_id_keeps_its_partition(settings, registry, eventually):
    # A machine full of other tests may take seconds to write: refused answers would be another test.
    serve = ServeSettings(client=settings.client, produce_timeout=30_000)
    traffic = TrafficTable(registry)
    log = KafkaPredictionLog(settings, serve)
    rollouts = Topics(settings.prefix).rollouts.name
    router = Router(serve, {"fraud": predictions(settings)}, rollouts, KafkaReader(settings, "serve"), log, traffic)
    router.start()
    now = wall_ms()
    steady = Rollout(model="fraud", epoch=0, time=to_datetime(now), phase=RolloutPhase.STEADY, champion="1")
    write(settings, steady)
    eventually(lambda: not router.readiness())
    canary = steady.model_copy(
        update={
            "epoch": 1,
            "phase": RolloutPhase.CANARY,
            "canary": "2",
            "weight_bp": 2_500,
            "salt": rollout_salt("fraud", 1),
            "lease_until": to_datetime(now + 600_000),
        }
    )
    write(settings, canary)
    eventually(lambda: traffic.status("fraud")["weight_bp"] == 2_500)

    def ask(sender: int) -> None:
        for request in range(5):
            rows = [
                {
                    "event_id": f"{sender}-{request}-{i}",
                    "entity_id": f"c{i}",
                    "features": {"amount": i / 100, "method": "card"},
                }
                for i in range(200)
            ]
            served = router.predict("fraud", parse_plain(json.dumps({"instances": rows}).encode(), now))
            served.logged.result(30)

    senders = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for one in senders:
        one.start()
    for one in senders:
        one.join()
    found = logged(settings)
    assert len(found) == 3_000
    assert set(Counter(event["event_id"] for _, event in found).values()) == {1}
    arms = Counter(event["arm"] for _, event in found)
    assert 0.1 < arms["canary"] / 3_000 < 0.4
    assert log.pending() == 0
    again = found[0][1]
    body = {key: again[key] for key in ("event_id", "entity_id", "features")}
    router.predict("fraud", parse_plain(json.dumps(body).encode(), now)).logged.result(30)
    places = {partition for partition, event in logged(settings) if event["event_id"] == again["event_id"]}
    assert places == {found[0][0]}
    for _, event in found[:20]:
        PredictionEvent.model_validate(event)
    router.close()


def test_answers_wait_for_a_topic_and_a_broker_that_are_not_there_and_the_log_says_so(settings, eventually):
    nowhere = f"{settings.prefix}.nowhere"
    log = KafkaPredictionLog(settings, ServeSettings(client=settings.client, produce_timeout=200))
    waiting = log.send(nowhere, [b"k"], [b"v"])
    eventually(lambda: nowhere in (log.problem() or ""))
    with pytest.raises(Retryable, match="cannot be logged to " + nowhere):
        log.send(predictions(settings), [b"k"], [b"v"])
    assert (log.pending(), waiting.done()) == (1, False)
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap)
    admin.create_topics([NewTopic(nowhere, 1, 1)])
    admin.close()
    waiting.result(30)
    assert (log.pending(), log.problem(), log.unlogged()) == (0, None, {})
    log.close()


def test_a_full_queue_answers_and_counts_or_refuses_and_what_is_left_at_the_end_is_counted(settings):
    away = settings.model_copy(update={"bootstrap": "127.0.0.1:9", "connect_timeout": 200})
    log = KafkaPredictionLog(away, ServeSettings(client=settings.client, ack="queued", max_pending_rows=10))
    log.send(predictions(settings), [b"k"] * 8, [b"v"] * 8)
    with pytest.raises(Retryable, match="too many wait"):
        log.send(predictions(settings), [b"k"] * 8, [b"v"] * 8)
    assert log.unlogged() == {(predictions(settings), "full"): 8}
    assert "predictions are lost" in (log.problem() or "")
    left = log.send(predictions(settings), [b"k"], [b"v"])
    log.close()
    assert log.unlogged() == {(predictions(settings), "full"): 8, (predictions(settings), "closed"): 9}
    assert isinstance(left.exception(1), Retryable)
    refusing = KafkaPredictionLog(away, ServeSettings(client=settings.client, max_pending_rows=10))
    with pytest.raises(Retryable, match="at most 10"):
        refusing.send(predictions(settings), [b"k"] * 11, [b"v"] * 11)
    assert refusing.unlogged() == {}
    refusing.close()


class Deaf:
    """A producer that takes records and tells of none, as one whose broker is paused."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.asked = away, 0
        self.taken: list[Ended] = []
        self.at: list[float] = []
        self.closed = False

    def know(self, topic: str) -> None:
        """Every topic is known, from the question after ``away`` on."""
        self.asked += 1
        if self.asked <= self.away:
            raise Retryable("not there")

    def append(self, topic: str, key: bytes, value: bytes, ended: Ended) -> None:
        self.taken.append(ended)
        self.at.append(time.monotonic())

    def close(self) -> None:
        self.closed = True


def test_a_producer_that_dies_with_answers_in_hand_loses_none_and_frees_the_queue(settings, eventually):
    """What a paused broker does: the producer gives its records up, some without a word; all are written again."""
    log, deaf = KafkaPredictionLog(settings, ServeSettings(client=settings.client)), Deaf()
    connect = log._connect
    # The first is deaf, the next ones are real.
    made = iter([deaf])
    log._connect = lambda: next(made, None) or connect()
    topic, values = predictions(settings), [b'{"event_id": "again"}'] * 10
    first = log.send(topic, [b"k"] * 10, values)
    eventually(lambda: len(deaf.taken) == 10)
    deaf.taken[3](Retryable("fenced"))
    first.result(30)
    assert deaf.closed
    assert log.pending() == 0
    # What the one that was let go says now is of nobody's count.
    deaf.taken[4](None)
    deaf.taken[5](RecordTooLarge("late"))
    log.send(topic, [b"k"] * 10, values).result(30)
    assert (log.pending(), log.unlogged()) == (0, {})
    log.close()
    assert sum(event["event_id"] == "again" for _, event in logged(settings)) == 20


def test_answers_of_one_linger_go_together_and_the_first_waits_no_longer_than_it(settings, eventually):
    log, deaf = KafkaPredictionLog(settings, ServeSettings(client=settings.client, ack="queued", linger=500)), Deaf()
    log._connect = lambda: deaf
    began = time.monotonic()
    log.send(predictions(settings), [b"k"], [b"v"])
    # The last one is due nearly half a second after the first, and goes with it.
    time.sleep(0.45)
    last = time.monotonic()
    for _ in range(3):
        log.send(predictions(settings), [b"k"], [b"v"])
    eventually(lambda: len(deaf.taken) == 4)
    assert deaf.at[0] - began >= 0.5
    # On a machine so busy that the sleep took longer than the linger the last ones may be of the next.
    assert last - began >= 0.5 or deaf.at[-1] - last < 0.5
    for ended in deaf.taken:
        ended(None)
    log.close()
    assert (log.pending(), log.unlogged()) == (0, {})


def test_at_its_end_what_waits_goes_at_once_and_a_topic_that_is_away_is_asked_for_with_pauses(settings, eventually):
    log, deaf = (
        KafkaPredictionLog(settings, ServeSettings(client=settings.client, ack="queued", linger=3_600_000)),
        Deaf(away=2),
    )
    log._connect = lambda: deaf
    log.send(predictions(settings), [b"k"], [b"v"])
    closing = threading.Thread(target=log.close)
    closing.start()
    began = time.monotonic()
    eventually(lambda: deaf.taken)
    assert deaf.asked == 3
    assert time.monotonic() - began >= 0.3
    deaf.taken[0](None)
    closing.join(10)
    assert (log.pending(), log.unlogged()) == (0, {})


def test_a_record_that_no_broker_takes_is_counted_and_holds_up_nobody(settings):
    log = KafkaPredictionLog(settings, ServeSettings(client=settings.client))
    log.send(
        predictions(settings), [b"k", b"k"], [b"x" * (settings.max_message_bytes + 1), b'{"event_id": "small"}']
    ).result(30)
    assert (log.pending(), log.unlogged()) == (0, {(predictions(settings), "too_large"): 1})
    log.close()


def test_a_record_that_the_topic_alone_refuses_takes_no_other_with_it(settings):
    topic = f"{settings.prefix}.small"
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap)
    admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    admin.close()
    log = KafkaPredictionLog(
        settings, ServeSettings(client=settings.client, compression="none", produce_timeout=30_000)
    )
    values = [b"%03d" % at + os.urandom(500) for at in range(20)]
    values[7] += os.urandom(3_000)
    log.send(topic, [b"k"] * 20, values).result(60)
    assert (log.pending(), log.unlogged()) == (0, {(topic, "too_large"): 1})
    log.close()
    reader = KafkaReader(settings, "check")
    landed = {value[:3] for batch in reader.read(reader.partitions(topic)) for value in batch.values if value}
    reader.close()
    assert landed == {value[:3] for at, value in enumerate(values) if at != 7}
