import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel

import stationkeeper as sk
from stationkeeper.client import Client, Delivery, arm_of
from stationkeeper.deploy.core.split import rollout_salt, to_canary
from stationkeeper.events import EventReader, own_form
from tests.conformance.worlds import KafkaWorld, everything
from tests.waiting import until


class Kept:
    """A delivery that keeps records; ``open`` holds them back as a broker that does not answer."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, dict[str, Any]]] = []
        self.open = threading.Event()
        self.open.set()
        self._sent = 0

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        self.open.wait(10)
        self.records.append((topic, key, json.loads(value)))
        self._sent += 1

    def poll(self) -> tuple[int, int]:
        found, self._sent = self._sent, 0
        return found, 0

    def close(self, timeout_s: float) -> None:
        """Have nothing to wait for."""


def client(delivery: Delivery, **more: Any) -> Client:
    return Client("localhost:1", delivery=delivery, predictions="scores", labels="outcomes", **more)


class Row(BaseModel):
    amount: float
    method: str | None = None


@dataclass
class Plain:
    amount: float


@pytest.mark.parametrize(
    ("features", "seen"),
    [
        ({"amount": np.float32(1.5), "n": np.int64(2)}, {"amount": 1.5, "n": 2}),
        ({"amount": float("nan"), "b": float("inf")}, {"amount": None, "b": None}),
        (Row(amount=2.0, method="card"), {"amount": 2.0, "method": "card"}),
        (Plain(3.0), {"amount": 3.0}),
        (None, {}),
    ],
)
def test_features_come_as_people_hold_them(features: Any, seen: dict[str, Any]):
    kept = Kept()
    with client(kept) as log:
        assert log.prediction(model="fraud", version="3", event_id="e1", features=features, prediction=np.float64(0.5))
    [(topic, key, event)] = kept.records
    assert (topic, key) == ("scores", b"e1")
    assert event["features"] == seen
    assert event["prediction"] == 0.5


def test_what_is_sent_is_what_every_role_reads():
    kept = Kept()
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    with client(kept) as log:
        log.prediction(model="fraud", version="3", event_id="e1", features={"a": 1.0}, prediction=0.5, time=moment)
        log.label(model="fraud", event_id="e1", label=True, time=moment)
        log.features(model="fraud", event_id="e1", features={"b": 2.0}, time=moment)
    assert [topic for topic, *_ in kept.records] == ["scores", "outcomes", "features"]
    reading = EventReader(own_form()).discover([json.dumps(event).encode() for *_, event in kept.records])
    assert not reading.rejected
    assert {events.kind for events in reading.events} == {"prediction", "label", "feature"}
    assert {int(events.time[0]) for events in reading.events} == {round(moment.timestamp() * 1_000)}


def test_a_broker_that_does_not_answer_makes_nobody_wait_and_every_event_is_counted():
    kept = Kept()
    kept.open.clear()
    log = client(kept, queue=100)
    # One more may be in the thread's hands.
    taken = [log.label(model="m", event_id=str(n), label=1) for n in range(300)]
    counts = log.counts()
    assert 100 <= sum(taken) <= 102
    assert (counts.queued, counts.dropped) == (sum(taken), 300 - sum(taken))
    kept.open.set()
    until(lambda: log.counts().waiting == 0, "what was queued is sent")
    assert log.close().sent == sum(taken)
    assert log.label(model="m", event_id="late", label=1) is False


def test_without_any_broker_a_call_returns_and_close_says_what_was_lost():
    log = Client("localhost:1")
    assert log.label(model="m", event_id="e", label=1)
    found = log.close(timeout_s=3)
    assert (found.sent, found.failed, found.waiting) == (0, 1, 0)


def test_one_event_that_json_cannot_hold_is_lost_alone():
    kept = Kept()
    log = client(kept)
    log.label(model="m", event_id="bad", label=object())
    log.label(model="m", event_id="good", label=1)
    found = log.close()
    assert (found.sent, found.failed) == (1, 1)
    assert [key for _, key, _ in kept.records] == [b"good"]


def test_an_id_that_is_a_number_is_sent_and_ends_no_thread():
    kept = Kept()
    log = client(kept)
    number: Any = 7
    log.label(model="m", event_id=number, label=True)
    log.label(model="m", event_id="after", label=True)
    assert log.close().sent == 2
    assert [key for _, key, _ in kept.records] == [b"7", b"after"]


def test_a_delivery_that_cannot_count_for_once_loses_nothing():
    class Faulty(Kept):
        faults = 1

        def poll(self) -> tuple[int, int]:
            if self.faults:
                self.faults -= 1
                raise RuntimeError("not now")
            return super().poll()

    kept = Faulty()
    log = client(kept)
    log.label(model="m", event_id="1", label=True)
    until(lambda: kept.faults == 0, "the fault")
    log.label(model="m", event_id="2", label=True)
    assert log.close().sent == 2
    assert [key for _, key, _ in kept.records] == [b"1", b"2"]


def test_an_event_without_an_id_is_refused_where_it_is_logged():
    nothing: Any = None
    with client(Kept()) as log:
        with pytest.raises(ValueError, match="event_id is None"):
            log.prediction(model="m", version="1", event_id=nothing, prediction=0.5)
        frame = pl.DataFrame({"event_id": ["a", None], "prediction": [0.1, 0.2]})
        with pytest.raises(ValueError, match="event_id of row 1"):
            log.predictions(frame, model="m", version="1")
        assert log.counts().queued == 0


def test_a_datetime_beyond_pythons_calendar_is_milliseconds_like_any_other():
    times = np.array(["12000-01-01", "NaT", "1970-01-01T00:00:01"], "datetime64[s]")
    kept = Kept()
    with client(kept) as log:
        log.predictions(
            {"event_id": np.array(["a", "b", "c"]), "prediction": np.full(3, 0.5), "day": times},
            model="m",
            version="1",
        )
    assert [event["features"]["day"] for *_, event in kept.records] == [316_516_204_800_000, None, 1_000]


def test_a_frames_datetimes_are_times_of_its_events():
    times = [datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 1, 0, 0, 1, 500_000, tzinfo=UTC)]
    rows = pl.DataFrame({"event_id": ["a", "b"], "prediction": [0.1, 0.9], "t": times})
    kept = Kept()
    with client(kept) as log:
        for frame in (rows, rows.to_pandas()):
            assert log.predictions(frame, model="m", version="1", time="t") == 2
    first = 1_777_593_600_000
    assert [event["time"] for _, _, event in kept.records] == [first, first + 1_500] * 2


def test_a_frame_is_logged_row_by_row():
    kept = Kept()
    frame = pl.DataFrame({"event_id": [1, 2], "amount": [1.0, None], "prediction": [0.1, 0.9]})
    with client(kept) as log:
        assert log.predictions(frame, model="fraud", version="1") == 2
    assert [(event["event_id"], event["features"]) for *_, event in kept.records] == [
        ("1", {"amount": 1.0}),
        ("2", {"amount": None}),
    ]


def test_an_entity_gets_the_arm_that_the_router_gives_it():
    salt = rollout_salt("fraud", 7)
    entities = [f"card-{n}" for n in range(2_000)]
    mine = [sk.client.arm_of(entity, salt=salt, weight_bp=500) for entity in entities]
    assert [arm == "canary" for arm in mine] == to_canary(salt, entities, 500).tolist()
    assert 50 < mine.count("canary") < 150
    assert all(
        arm_of(e, salt=salt, weight_bp=2_500) == "canary" for e, a in zip(entities, mine, strict=True) if a == "canary"
    )


@pytest.mark.broker
def test_events_reach_a_real_broker(kafka: Any):
    world = KafkaWorld(kafka.bootstrap)
    try:
        topic = world.create("outcomes", 2)
        with Client(kafka.bootstrap, labels=topic) as log:
            for number in range(50):
                log.label(model="m", event_id=str(number), label=number % 2 == 0)
        assert (log.counts().sent, log.counts().failed) == (50, 0)
        found = [json.loads(value or b"")["event_id"] for *_, value in everything(world, topic)]
        assert sorted(map(int, found)) == list(range(50))
    finally:
        world.close()
