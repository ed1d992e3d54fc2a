"""Log predictions, features and labels from a service to Kafka without ever making a request wait.

In: dicts, dataclasses, pydantic models or frames. Out: events of docs/events.md on the topics that the monitor reads.
State: a bounded queue and one background thread with a producer. Invariant: `queued = sent + failed + waiting`, and
what found no place is counted as `dropped`; a log call returns at once, broker or not, and raises nothing of Kafka's.

    import stationkeeper as sk

    log = sk.client.Client("localhost:9092", predictions="scores", labels="outcomes")
    log.prediction(model="fraud", version="3", event_id=id, features=row, prediction=score)
    log.label(model="fraud", event_id=id, label=True)
    log.close()
"""

import contextlib
import math
import threading
import time as clock
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import msgspec
import numpy as np

from stationkeeper.contracts.times import to_ms
from stationkeeper.deploy.core.split import to_canary
from stationkeeper.monitor.profiling import Frame, columns_of
from stationkeeper.streams.settings import KafkaSettings

# Ten seconds of 1 000 events a second at some 2 kB each: 20 MB while a broker changes its leader. Half of it loses
# events in a slow election; twice costs a small service more memory than itself.
QUEUE_EVENTS = 10_000

# How long the thread sleeps when nothing waits: the latest an event leaves after it was logged. Half wakes a quiet
# service twice as often for nothing.
_IDLE_S = 0.05

# Until a broker that does not answer is asked again. Half fills its log of connections, double holds events back.
_AGAIN_S = 1.0

# How long close() waits for what is queued: less than the grace that orchestrators give a process that must end (30 s).
CLOSE_S = 10.0


@dataclass(frozen=True, slots=True)
class LogCounts:
    """What became of events so far: ``queued`` were taken, ``dropped`` found the queue full."""

    queued: int
    dropped: int
    sent: int
    failed: int

    @property
    def waiting(self) -> int:
        """Events that are queued and not yet acknowledged or failed."""
        return self.queued - self.sent - self.failed


class Delivery(Protocol):
    """A producer as this client needs one: `KafkaDelivery`, or a double in tests."""

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Hand a record over; may wait, raises for a record that cannot be sent."""

    def poll(self) -> tuple[int, int]:
        """Return how many records were acknowledged and how many failed since the last call."""

    def close(self, timeout_s: float) -> None:
        """Wait for what was handed over, then let go."""


class KafkaDelivery:
    """The kafka-python producer: acknowledged by all replicas in sync, compressed, results counted by callbacks."""

    def __init__(self, settings: KafkaSettings) -> None:
        from kafka import KafkaProducer

        from stationkeeper.streams.kafka.clients import made

        self._lock = threading.Lock()
        self._sent = self._failed = 0
        # Events of 5 ms travel together and share one compression; at none each is a request of its own.
        self._producer = made(
            KafkaProducer,
            acks="all",
            linger_ms=5,
            compression_type="lz4",
            **settings.connection("stationkeeper.client"),
        )

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Hand a record over; waits for metadata or a place in the producer's buffer."""
        future = self._producer.send(topic, key=key, value=value)
        future.add_callback(self._acknowledged)
        future.add_errback(self._lost)

    def poll(self) -> tuple[int, int]:
        """Return acknowledged and failed records since the last call."""
        with self._lock:
            found, self._sent, self._failed = (self._sent, self._failed), 0, 0
        return found

    def close(self, timeout_s: float) -> None:
        """Wait for what was handed over, then let go."""
        self._producer.close(timeout=timeout_s)

    def _acknowledged(self, _metadata: object) -> None:
        with self._lock:
            self._sent += 1

    def _lost(self, _error: object) -> None:
        with self._lock:
            self._failed += 1


class Client:
    """Queues events and sends them from a thread of its own; safe to call from any thread.

    ``kafka`` is ``host:port`` or the `kafka` block of the configuration, security included. Nothing is connected
    before the first event. A full queue drops the newest event and counts it: old ones are about to be sent.
    """

    def __init__(
        self,
        kafka: str | Mapping[str, Any] | KafkaSettings,
        *,
        predictions: str = "predictions",
        labels: str = "labels",
        features: str = "features",
        queue: int = QUEUE_EVENTS,
        delivery: Delivery | None = None,
    ) -> None:
        given = {"bootstrap": kafka} if isinstance(kafka, str) else kafka
        self._settings = given if isinstance(given, KafkaSettings) else KafkaSettings.model_validate(given)
        self._topics = {"prediction": predictions, "label": labels, "feature": features}
        self._most = queue
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._delivery = delivery
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._queued = self._dropped = self._sent = self._failed = 0

    def prediction(
        self,
        *,
        model: str,
        version: str,
        event_id: str,
        prediction: Any,
        features: Any = None,
        time: datetime | int | None = None,
        arm: Literal["champion", "canary"] | None = None,
        **more: Any,
    ) -> bool:
        """Queue what a model was asked and answered; returns whether it was queued. ``more`` are further fields.

        Raises ``ValueError`` for an ``event_id`` of None: no label could ever find its prediction.
        """
        event = {"version": version, "prediction": _value(prediction), "features": _plain(features), "arm": arm, **more}
        return self._put("prediction", model, event_id, time, event)

    def features(
        self, *, model: str, event_id: str, features: Any, time: datetime | int | None = None, **more: Any
    ) -> bool:
        """Queue features that travel apart from the prediction; returns whether they were queued."""
        return self._put("feature", model, event_id, time, {"features": _plain(features), **more})

    def label(self, *, model: str, event_id: str, label: Any, time: datetime | int | None = None) -> bool:
        """Queue what turned out to be true; returns whether it was queued."""
        return self._put("label", model, event_id, time, {"label": _value(label)})

    def predictions(
        self,
        frame: Frame,
        *,
        model: str,
        version: str,
        event_id: str = "event_id",
        prediction: str = "prediction",
        time: str | None = None,
    ) -> int:
        """Queue one prediction a row of a frame, every other column a feature; returns how many were queued."""
        columns = {name: _listed(values) for name, values in columns_of(frame).items()}
        ids, answers = columns.pop(event_id), columns.pop(prediction)
        # Before the first is queued: half a frame would have to be told from the other half.
        if (without := next((row for row, one in enumerate(ids) if _value(one) is None), None)) is not None:
            raise ValueError(f"event_id of row {without} is missing; give each row the id of its label")
        times = columns.pop(time) if time is not None else [None] * len(ids)
        return sum(
            self.prediction(
                model=model,
                version=version,
                event_id=str(ids[row]),
                prediction=answers[row],
                features={name: values[row] for name, values in columns.items()},
                time=times[row],
            )
            for row in range(len(ids))
        )

    def counts(self) -> LogCounts:
        """Return what became of events so far."""
        with self._lock:
            return LogCounts(self._queued, self._dropped, self._sent, self._failed)

    def close(self, timeout_s: float = CLOSE_S) -> LogCounts:
        """Send what is queued, for at most ``timeout_s``; what is then left counts as failed."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        with self._lock:
            self._failed = self._queued - self._sent
        return self.counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, kind: str, model: str, event_id: str, time: datetime | int | None, event: Mapping[str, Any]) -> bool:
        if event_id is None:
            raise ValueError("event_id is None; give the id under which the label of this event will come")
        stamp = to_ms(time) if isinstance(time, datetime) else time
        whole = {"kind": kind, "event_id": event_id, "model": model, "time": stamp or round(clock.time() * 1_000)}
        whole |= {name: value for name, value in event.items() if value is not None or name == "prediction"}
        with self._lock:
            if len(self._waiting) >= self._most or self._stop.is_set():
                self._dropped += 1
                return False
            self._queued += 1
            self._waiting.append((kind, whole))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stationkeeper-client", daemon=True)
                self._thread.start()
        return True

    def _run(self) -> None:
        """Send until told to stop and nothing waits; a broker that is away is tried again, unknown to callers."""
        delivery = self._delivery
        while not (self._stop.is_set() and not self._waiting):
            if delivery is None:
                delivery = self._connected()
                if delivery is None:
                    self._stop.wait(_AGAIN_S)
                    if self._stop.is_set():
                        return
                    continue
            if not self._waiting:
                self._stop.wait(_IDLE_S)
            self._send(delivery)
        if delivery is not None:
            delivery.close(CLOSE_S)
            with contextlib.suppress(Exception):
                self._count(*delivery.poll())

    def _connected(self) -> Delivery | None:
        from kafka.errors import KafkaError

        try:
            return KafkaDelivery(self._settings)
        except (KafkaError, OSError, ValueError):
            # A ValueError is a secret's file that cannot be read, and may be mounted later. The queue keeps what comes
            # meanwhile; `counts().waiting` and `dropped` show it.
            return None

    def _send(self, delivery: Delivery) -> None:
        while self._waiting:
            kind, event = self._waiting.popleft()
            try:
                delivery.send(self._topics[kind], str(event["event_id"]).encode(), msgspec.json.encode(event))
            except Exception:  # noqa: BLE001 - JSON, Kafka and what a caller gave refuse an event in ways of their own
                # That event's loss alone: a thread that ended would lose all that come after it.
                self._count(0, 1)
        # Suppressed for the same reason; what it would have told is told by the next one.
        with contextlib.suppress(Exception):
            self._count(*delivery.poll())

    def _count(self, sent: int, failed: int) -> None:
        with self._lock:
            self._sent += sent
            self._failed += failed


def arm_of(entity: str, *, salt: str, weight_bp: int) -> Literal["champion", "canary"]:
    """Return which arm answers an entity, by the router's own keyed hash: whoever is in at 1 % is in at 5 %.

    ``salt`` and ``weight_bp`` (basis points) are those of the model's record on the rollouts topic.
    """
    return "canary" if bool(to_canary(salt, [entity], weight_bp)[0]) else "champion"


def _plain(features: Any) -> dict[str, Any]:
    """Return features as a mapping of JSON values, whatever holds them."""
    if features is None:
        return {}
    if hasattr(features, "model_dump"):
        features = features.model_dump()
    elif is_dataclass(features) and not isinstance(features, type):
        features = asdict(features)
    return {str(name): _value(value) for name, value in dict(features).items()}


def _listed(values: np.ndarray[Any, Any]) -> list[Any]:
    """Return a column as a list; datetimes as ms of UTC, whatever they count in the frame, None for a missing one."""
    if values.dtype.kind != "M":
        return list(values.tolist())
    whole = values.astype("datetime64[ms]")
    # As numbers: numpy counts years that Python's calendar, which ends with 9999, has not.
    return [None if gap else ms for ms, gap in zip(whole.astype(np.int64).tolist(), np.isnat(whole), strict=True)]


def _value(value: Any) -> Any:
    """Return a scalar as JSON has it: numpy's as Python's, NaN and infinities, which JSON lacks, as null."""
    if isinstance(value, Mapping):
        return {str(name): _value(one) for name, one in value.items()}
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
