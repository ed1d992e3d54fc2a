"""The router on a real broker: every acknowledged answer is in the topic once, outages push back and end."""

import json
import threading
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
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.settings import KafkaSettings

pytestmark = pytest.mark.broker
PREDICTIONS = "deploy-test.predictions"


@pytest.fixture(scope="module")
def settings(kafka: FoundBroker) -> KafkaSettings:
    found = KafkaSettings(bootstrap=kafka.bootstrap, prefix="deploy-test")
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(PREDICTIONS, 3, 1), NewTopic(Topics(found.prefix).rollouts.name, 1, 1)])
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
        for batch in reader.read(reader.partitions(PREDICTIONS))
        for value in batch.values
        if value is not None
    ]
    reader.close()
    return found


def test_acknowledged_answers_are_in_the_topic_once_and_an_id_keeps_its_partition(settings, registry, eventually):
    serve = ServeSettings()
    traffic = TrafficTable(registry)
    log = KafkaPredictionLog(settings, serve)
    rollouts = Topics(settings.prefix).rollouts.name
    router = Router(serve, {"fraud": PREDICTIONS}, rollouts, KafkaReader(settings, "serve"), log, traffic)
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


def test_a_topic_that_does_not_exist_and_a_broker_that_is_away_are_retryable(settings):
    serve = ServeSettings(produce_timeout=1_000)
    log = KafkaPredictionLog(settings, serve)
    with pytest.raises(Retryable, match="deploy-test-nowhere"):
        log.send("deploy-test-nowhere", [b"k"], [b"v"])
    assert log.pending() == 0
    log.close()
    away = settings.model_copy(update={"bootstrap": "127.0.0.1:9", "connect_timeout": 500})
    with pytest.raises(Retryable, match="cannot be logged"):
        KafkaPredictionLog(away, serve).send(PREDICTIONS, [b"k"], [b"v"])


def test_a_failed_producer_is_replaced(settings):
    log = KafkaPredictionLog(settings, ServeSettings())
    log.send(PREDICTIONS, [b"k"], [b"{}"]).result(30)
    first = log._producer
    log._ended(0, RuntimeError("fenced"))
    log.send(PREDICTIONS, [b"k"], [b"{}"]).result(30)
    assert log._producer is not first
    log.close()
