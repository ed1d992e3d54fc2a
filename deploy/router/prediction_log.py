"""Where every answer is logged: batches of records to Kafka, each batch acknowledged as one."""

import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.deploy.settings import ServeSettings
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.settings import KafkaSettings

_log = structlog.get_logger()
# Half of the broker's default max.message.bytes (1 MiB), which it measures by the batch; large enough to compress.
_BATCH_BYTES = 512 * 1024


class PredictionLog(Protocol):
    """Takes encoded prediction events; the future resolves once all of a batch are durable."""

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        """Hand over a batch without waiting; raises ``Retryable`` when the topic cannot be reached."""

    def pending(self) -> int:
        """Return how many records wait for their acknowledgement."""

    def close(self) -> None:
        """Write what waits and let go."""


class _Countdown:
    """Resolves one future when all sends of a batch have ended; the first error wins."""

    def __init__(self, count: int, ended: Callable[[int, BaseException | None], None]) -> None:
        self.future: Future[None] = Future()
        self._count = count
        self._left = count
        self._ended = ended
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def landed(self, _metadata: object) -> None:
        self._one(None)

    def failed(self, error: BaseException) -> None:
        self._one(error)

    def _one(self, error: BaseException | None) -> None:
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            if self._left:
                return
        self._ended(self._count, self._error)
        if self._error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(Retryable(f"the prediction was not logged: {self._error}"))


class KafkaPredictionLog:
    """An idempotent producer that batches; one that failed is replaced, as it would fail every later send."""

    def __init__(self, kafka: KafkaSettings, serve: ServeSettings) -> None:
        timeout = max(serve.produce_timeout, kafka.request_timeout + serve.linger + 1)
        self._options = {
            **kafka.connection(f"{kafka.prefix}.serve"),
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": serve.linger,
            "batch_size": _BATCH_BYTES,
            "compression_type": None if serve.compression == "none" else serve.compression,
            "max_block_ms": serve.produce_timeout,
            "delivery_timeout_ms": timeout,
            "max_request_size": kafka.max_message_bytes,
        }
        self._bootstrap = kafka.bootstrap
        self._producer: Any = None
        self._broken = False
        self._pending = 0
        self._lock = threading.Lock()

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        """Hand a batch to the producer; a key keeps its partition, CRC-32 modulo their number like librdkafka's."""
        batch = _Countdown(len(keys), self._ended)
        if not keys:
            batch.future.set_result(None)
            return batch.future
        try:
            producer = self._current()
            partitions = len(producer.partitions_for(topic))
            with self._lock:
                self._pending += len(keys)
            try:
                for key, value in zip(keys, values, strict=True):
                    record = producer.send(topic, value, key=key, partition=zlib.crc32(key) % partitions)
                    record.add_callback(batch.landed)
                    record.add_errback(batch.failed)
            except BaseException:
                # Some of the batch may still be written; the caller asks again with the same ids, the monitor dedupes.
                with self._lock:
                    self._pending -= len(keys)
                raise
        except (KafkaError, OSError) as error:
            self._broken = True
            where = f"predictions cannot be logged to {topic} at {self._bootstrap}"
            raise Retryable(f"{where}: {error}; is the broker up, and does the topic exist?") from error
        return batch.future

    def _ended(self, count: int, error: BaseException | None) -> None:
        with self._lock:
            self._pending -= count
            self._broken = self._broken or error is not None

    def _current(self) -> Any:
        with self._lock:
            old, replace = self._producer, self._broken
            if old is not None and not replace:
                return old
            self._producer = None
            self._broken = False
        if old is not None:
            _log.warning(LogEvent.BROKER_UNREACHABLE, role="serve", doing="replacing a failed producer")
            old.close(timeout=0)
        made = KafkaProducer(**self._options)
        with self._lock:
            if self._producer is None:
                self._producer = made
                return made
            kept = self._producer
        made.close(timeout=0)
        return kept

    def pending(self) -> int:
        """Return how many records wait for their acknowledgement."""
        return self._pending

    def close(self) -> None:
        """Write what waits, at most five seconds, and let go."""
        if self._producer is not None:
            self._producer.close(timeout=5)
