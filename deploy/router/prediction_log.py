"""Where every answer is logged: a bounded queue that one thread writes to Kafka, each batch acknowledged as one."""

import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import structlog
from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.deploy.settings import ServeSettings
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.settings import KafkaSettings

_log = structlog.get_logger()
# Half of the broker's default max.message.bytes (1 MiB), which it measures by the batch; large enough to compress.
_BATCH_BYTES = 512 * 1024
# Records handed to the producer and not acknowledged: ten full batches keep the line busy, and after an outage no more
# than these are written a second time (the monitor counts an id once).
_IN_FLIGHT = 20_000
# Seconds before a broker that failed is tried again: half doubles the warnings of an outage, double its length.
_RETRY_S = 1.0
# How long the writer may stand at a topic whose partitions are not known, while others wait behind it.
_BLOCK_MS = 2_000
# Seconds: a lost answer keeps the server unready this long, so that a probe every ten seconds does not miss it.
_LOSS_SHOWN_S = 15.0


class Unlogged(StrEnum):
    """Why an answer never came to the log."""

    FULL = "full"
    TOO_LARGE = "too_large"
    CLOSED = "closed"


class PredictionLog(Protocol):
    """Takes encoded prediction events; the future resolves once all of a batch are durable."""

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        """Hand over a batch without waiting; raises ``Retryable`` when no room is left for it, or it is stuck."""

    def pending(self) -> int:
        """Return how many records wait for their acknowledgement."""

    def unlogged(self) -> Mapping[tuple[str, str], int]:
        """Return how many records never came to the log, by topic and ``Unlogged``."""

    def problem(self) -> str | None:
        """Return why answers are not logged now, None while they are."""

    def close(self) -> None:
        """Write what waits and let go."""


def _options(kafka: KafkaSettings, serve: ServeSettings) -> dict[str, Any]:
    return {
        **kafka.connection(f"{kafka.prefix}.serve"),
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": serve.linger,
        "batch_size": _BATCH_BYTES,
        "compression_type": None if serve.compression == "none" else serve.compression,
        "max_block_ms": _BLOCK_MS,
        "delivery_timeout_ms": max(serve.produce_timeout, kafka.request_timeout + serve.linger + 1),
        "max_request_size": kafka.max_message_bytes,
    }


def _let_go(producer: Any) -> None:
    """Close a producer without waiting; whatever it says of it, the writer goes on with the next."""
    if producer is None:
        return
    try:
        producer.close(timeout=0)
    except Exception as error:  # noqa: BLE001 - its records are written again by the next one
        _log.warning(LogEvent.BROKER_UNREACHABLE, role="serve", doing="closing a producer", error=str(error))


@dataclass(slots=True)
class _Batch:
    """Records of one request; ``left`` of the present attempt are not acknowledged."""

    topic: str
    keys: Sequence[bytes]
    values: Sequence[bytes]
    since: float
    future: Future[None] = field(default_factory=Future)
    left: int = 0


class KafkaPredictionLog:
    """A queue of at most ``max_pending_rows`` records and the thread that hands them to an idempotent producer.

    ``send`` never waits for the broker. What a producer did not get acknowledged is written again by the next one, in
    order and as often as it takes, so an outage costs memory up to the bound and, beyond it, answers that are counted
    (``ack: queued``) or refused (``ack: produced``). Every record leaves the count of the waiting exactly once: when
    its batch is acknowledged or given up, never by a call of a producer that was replaced.
    """

    def __init__(self, kafka: KafkaSettings, serve: ServeSettings) -> None:
        self._options = _options(kafka, serve)
        self._bootstrap = kafka.bootstrap
        self._limit = serve.max_pending_rows
        self._stuck_s = serve.produce_timeout / 1_000
        self._refuses = serve.ack == "produced"
        self._producer: Any = None
        self._attempt = 0
        self._failed: str | None = None
        self._why = ""
        self._waiting: deque[_Batch] = deque()
        self._flying: dict[int, _Batch] = {}
        self._rows = self._handed = 0
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self._lost_at = float("-inf")
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        """Queue a batch; a key keeps its partition, CRC-32 modulo their number like librdkafka's.

        Where answers wait for the log a stuck log takes no more, so that the next caller is told at once.
        """
        batch = _Batch(topic, keys, values, time.monotonic())
        if not keys:
            batch.future.set_result(None)
            return batch.future
        with self._wake:
            stuck = self._problem() if self._refuses else None
            if stuck or self._closing:
                raise Retryable(stuck or "the server is stopping")
            if self._rows + len(keys) > self._limit:
                if self._refuses:
                    raise Retryable(f"{self._rows} answers wait for the log, at most {self._limit}")
                self._lose(batch, Unlogged.FULL)
                raise Retryable("the answer was not logged: too many wait")
            self._rows += len(keys)
            self._waiting.append(batch)
            self._wake.notify_all()
        return batch.future

    def pending(self) -> int:
        """Return how many records wait for their acknowledgement."""
        return self._rows

    def unlogged(self) -> Mapping[tuple[str, str], int]:
        """Return how many records never came to the log, by topic and reason."""
        with self._wake:
            return dict(self._unlogged)

    def problem(self) -> str | None:
        """Return why answers are not logged now: one waits longer than ``produce_timeout``, or was lost just now."""
        with self._wake:
            if time.monotonic() - self._lost_at < _LOSS_SHOWN_S:
                found = "; ".join(f"{topic}: {count} {why}" for (topic, why), count in sorted(self._unlogged.items()))
                return f"predictions are lost ({found}) on the way to {self._bootstrap}"
            return self._problem()

    def close(self) -> None:
        """Write what waits, at most five seconds, and let go; what is left is counted."""
        until = time.monotonic() + 5.0
        with self._wake:
            self._closing = True
            self._wake.notify_all()
            while self._rows and time.monotonic() < until:
                self._wake.wait(until - time.monotonic())
            self._limit = 0
            self._wake.notify_all()
        self._thread.join(timeout=5.0)
        with self._wake:
            for batch in (*self._flying.values(), *self._waiting):
                self._give_up(batch, Unlogged.CLOSED, "the server stopped")
            self._flying.clear()
            self._waiting.clear()
        _let_go(self._producer)

    def _problem(self) -> str | None:
        oldest = next(iter(self._flying.values()), self._waiting[0] if self._waiting else None)
        if oldest is None or time.monotonic() - oldest.since <= self._stuck_s:
            return None
        waited = time.monotonic() - oldest.since
        why = f": {self._why}" if self._why else ""
        return f"predictions cannot be logged to {oldest.topic} at {self._bootstrap} for {waited:.0f} s{why}"

    def _run(self) -> None:
        while True:
            with self._wake:
                while (
                    not self._stopped() and self._failed is None and (not self._waiting or self._handed >= _IN_FLIGHT)
                ):
                    self._wake.wait()
                if self._stopped():
                    return
                failed = self._failed
                batch = self._waiting[0] if self._waiting and failed is None else None
            if failed is not None:
                self._begin_again(failed)
            elif batch is not None:
                self._hand_over(batch)

    def _stopped(self) -> bool:
        return self._closing and (self._limit == 0 or not self._rows)

    def _hand_over(self, batch: _Batch) -> None:
        """Give the first waiting batch to the producer; what it cannot take goes behind the others."""
        try:
            if self._producer is None:
                self._producer = KafkaProducer(**self._options)
            partitions = len(self._producer.partitions_for(batch.topic))
        except Exception as error:  # noqa: BLE001 - whatever the client raises, answers wait and the thread goes on
            why = f"{error}; is the broker up, and does the topic {batch.topic} exist?"
            _log.warning(LogEvent.BROKER_UNREACHABLE, role="serve", doing="logging predictions", error=why)
            with self._wake:
                self._waiting.rotate(-1)
                self._why = why
                self._wake.wait_for(lambda: self._closing or self._failed is not None, _RETRY_S)
            return
        with self._wake:
            self._waiting.popleft()
            self._flying[id(batch)] = batch
            batch.left = len(batch.keys)
            self._handed += batch.left
            attempt = self._attempt
        for key, value in zip(batch.keys, batch.values, strict=True):
            try:
                record = self._producer.send(batch.topic, value, key=key, partition=zlib.crc32(key) % partitions)
            except MessageSizeTooLargeError:
                self._too_large(batch, attempt)
                continue
            except Exception as error:  # noqa: BLE001 - as above: written again by the next producer
                self._fail(attempt, error)
                return
            record.add_callback(self._landed(batch, attempt))
            record.add_errback(self._not_landed(batch, attempt))

    def _landed(self, batch: _Batch, attempt: int) -> Callable[[object], None]:
        def landed(_metadata: object) -> None:
            with self._wake:
                self._one_ended(batch, attempt)

        return landed

    def _not_landed(self, batch: _Batch, attempt: int) -> Callable[[BaseException], None]:
        def not_landed(error: BaseException) -> None:
            if isinstance(error, MessageSizeTooLargeError):
                self._too_large(batch, attempt)
            else:
                self._fail(attempt, error)

        return not_landed

    def _too_large(self, batch: _Batch, attempt: int) -> None:
        """One record that no broker takes: asking again would hold up all others for ever."""
        with self._wake:
            if attempt == self._attempt:
                self._unlogged[batch.topic, Unlogged.TOO_LARGE] += 1
                self._lost_at = time.monotonic()
                self._one_ended(batch, attempt)

    def _one_ended(self, batch: _Batch, attempt: int) -> None:
        if attempt != self._attempt:
            return
        batch.left -= 1
        self._handed -= 1
        if batch.left == 0:
            del self._flying[id(batch)]
            self._rows -= len(batch.keys)
            self._why = ""
            batch.future.set_result(None)
        self._wake.notify_all()

    def _fail(self, attempt: int, error: BaseException) -> None:
        with self._wake:
            if attempt == self._attempt:
                self._failed = str(error) or type(error).__name__
                self._wake.notify_all()

    def _begin_again(self, why: str) -> None:
        """Let go of a producer that failed, as it would fail every later send, and queue what it held again."""
        _log.warning(LogEvent.BROKER_UNREACHABLE, role="serve", doing="writing predictions again", error=why)
        with self._wake:
            old, self._producer = self._producer, None
            self._why = why
            self._attempt += 1
            self._handed = 0
            self._waiting.extendleft(reversed(self._flying.values()))
            self._flying.clear()
        _let_go(old)
        with self._wake:
            if not self._closing:
                self._wake.wait_for(lambda: self._closing, _RETRY_S)
            self._failed = None

    def _give_up(self, batch: _Batch, reason: Unlogged, why: str) -> None:
        self._rows -= len(batch.keys)
        self._lose(batch, reason)
        batch.future.set_exception(Retryable(f"the prediction was not logged: {why}"))

    def _lose(self, batch: _Batch, reason: Unlogged) -> None:
        self._unlogged[batch.topic, reason] += len(batch.keys)
        self._lost_at = time.monotonic()
