"""The monitor's three stages over a real broker: the same answers, and every count equal to a plain recount."""

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.contracts.topics import Topics
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.judge import Judge
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.status import ModelView
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.monitor.verify import verify
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.kafka.sink import KafkaSink
from stationkeeper.streams.kafka.source import KafkaSource
from stationkeeper.streams.kafka.topics import ensure_inputs, ensure_internal
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.settings import KafkaSettings
from tests.monitor.rig import MINUTE, START, fraud, labels, predictions, reference, values_of
from tests.waiting import until

pytestmark = pytest.mark.broker
WAIT_S = 90.0


class Running:
    """Loops in threads, as the monitor role runs them."""

    def __init__(self, settings: KafkaSettings, models: dict[str, ModelSettings], topics: Topics) -> None:
        counter = KafkaReader(settings, "partitions")
        self._counter = counter
        stages: list[Any] = [
            Tally(models, topics, clock="stream"),
            Join(models, topics),
            Judge(
                models, topics, view=ModelView, clock="stream", partitions=lambda topic: len(counter.partitions(topic))
            ),
        ]
        self.stop = threading.Event()
        self.loops = {stage.name: _loop(stage, settings) for stage in stages}
        self.threads = [threading.Thread(target=loop.run, args=(self.stop,)) for loop in self.loops.values()]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """Drain and stop."""
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        self._counter.close()


def _loop(stage: Any, settings: KafkaSettings) -> Loop:
    name = stage.name
    return Loop(stage, KafkaSource(settings, name), KafkaSink(settings, name), KafkaReader(settings, name), settings)


@pytest.fixture
def settings(kafka: FoundBroker) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"mon{uuid.uuid4().hex[:8]}", flush_interval=300)


@pytest.fixture
def send(settings: KafkaSettings) -> Iterator[Callable[[str, list[bytes], bytes | None], None]]:
    from kafka import KafkaProducer

    producer = KafkaProducer(acks="all", **settings.connection("test"))

    def produce(topic: str, values: list[bytes], key: bytes | None = None) -> None:
        for sent in [producer.send(topic, value, key=key) for value in values]:
            sent.get(30)

    yield produce
    producer.close()


def test_the_loop_on_a_real_broker_survives_a_restart_and_counts_every_event_once(
    settings: KafkaSettings, send: Callable[..., None]
) -> None:
    scores, outcomes = f"{settings.prefix}-scores", f"{settings.prefix}-outcomes"
    model = fraud(predictions=scores, labels=outcomes, label_maturity="10m")
    topics = Topics(settings.prefix)
    ensure_internal(settings, topics)
    ensure_inputs(settings, [scores, outcomes], create_inputs=True)
    send(topics.references.name, [dump(reference()).encode()], b"fraud/1")
    running = Running(settings, {"fraud": model}, topics)
    reader = KafkaReader(settings, "test")

    def tallied(total: int) -> bool:
        rows = running.loops["tally"].status().get("conservation", [])
        return bool(sum(row["tallied"] for row in rows) >= total)

    def labelled(due: int) -> bool:
        models = running.loops["judge"].status().get("models", [])
        found = models[0].get("labels", {}) if models else {}
        return bool(found.get("due", 0) >= due and found["due"] == found["arrived"])

    try:
        send(scores, predictions(60, 40))
        send(outcomes, labels(range(2_400)))
        until(lambda: tallied(4_800), "the loop has come so far", WAIT_S)
        running.close()
        # The rest waits for the restart, as after an outage longer than the maturity of labels.
        send(outcomes, labels(range(2_400, 4_000), start=START + 60 * MINUTE))
        running = Running(settings, {"fraud": model}, topics)
        send(scores, [*predictions(40, 40, first=2_400, start=START + 60 * MINUTE, shift=0.7), b"{"])
        until(lambda: tallied(8_000), "the loop has come so far", WAIT_S)
        until(lambda: len(values_of(reader, topics.requests.name)) == 1, "the loop has come so far", WAIT_S)
        # Panes close up to minute 97; all that was ten minutes old then has its label.
        until(lambda: labelled(40 * 87), "every label is judged", WAIT_S)
        pages = [v for v in map(Verdict.decode, values_of(reader, topics.verdicts.name)) if v.level is Level.PAGE]
        assert [v.subject.name for v in pages] == ["amount"]
        found = verify(reader, {"fraud": model}, topics, clock="stream")
        assert found.summary().endswith("equal")
        assert found.records == 8_001
        assert found.unverifiable == []
    finally:
        running.close()
        reader.close()
