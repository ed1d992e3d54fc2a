"""The ``Appender`` over confluent-kafka: records are packed and sent in C, a thread hears how each ended."""

import threading
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from stationkeeper.streams.errors import RecordTooLarge, Retryable, StreamError
from stationkeeper.streams.librdkafka.clients import connection, raised, translated
from stationkeeper.streams.ports import APPEND_BATCH_BYTES, APPEND_LINGER_MS, Ended
from stationkeeper.streams.settings import KafkaSettings

_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
# Seconds that one call may stand at a topic whose partitions are not known, while records of others wait behind it.
_BLOCK_S = 2.0
# Seconds after which the thread that hears of ends looks whether it is to stop; ends themselves wake it at once.
_HEARD_S = 0.5


class ConfluentAppender:
    """The ``Appender`` of one client name; a record is tried for ``delivery_ms``, at least for one request.

    A broker refuses a batch as a whole, and this library tells each of its records that it is too large: such a record
    goes once more, in a request of its own, before that is said of it.
    """

    def __init__(self, settings: KafkaSettings, name: str, compression: str | None, delivery_ms: int) -> None:
        self._what = f"start the producer {name} at {settings.bootstrap}"
        self._options = {
            **connection(settings, name),
            # What one broker has and loses is nowhere.
            "enable.idempotence": True,
            # The library's name for CRC-32 of the key: an id that is sent again through another client must meet its
            # first in one partition, where ids are deduplicated.
            "partitioner": "consistent",
            "linger.ms": APPEND_LINGER_MS,
            "batch.size": APPEND_BATCH_BYTES,
            "compression.type": compression or "none",
            # Beyond one request, as over kafka-python: what is given up may be written all the same, and would be twice
            # in the log.
            "delivery.timeout.ms": max(delivery_ms, settings.request_timeout + APPEND_LINGER_MS + 1),
            "message.max.bytes": settings.max_message_bytes,
            "allow.auto.create.topics": False,
        }
        self._known: set[str] = set()
        self._closed = threading.Event()
        self._producer = self._started({})
        self._alone: Any = None

    def _started(self, more: dict[str, Any]) -> Any:
        with translated(self._what):
            producer = Producer({**self._options, **more})
        threading.Thread(target=_hear, args=(producer, self._closed), daemon=True, name="appender").start()
        return producer

    def know(self, topic: str) -> None:
        """Learn a topic's partitions; raises ``Retryable`` while nobody tells them."""
        if topic in self._known:
            return
        # Asked once: of a topic that goes later the library tells each record's end, which ends this producer, too.
        with translated(f"look up the topic {topic}"):
            found = self._producer.list_topics(topic, timeout=_BLOCK_S).topics[topic]
        if found.error is not None:
            raise raised(f"look up the topic {topic}", found.error)
        self._known.add(topic)

    def append(self, topic: str, key: bytes, value: bytes, ended: Ended) -> None:
        """Hand over one record of a known topic; raises what ``ended`` would have been told."""
        self._append(self._producer, topic, key, value, ended)

    def _append(self, producer: Any, topic: str, key: bytes, value: bytes, ended: Ended) -> None:
        def delivered(error: KafkaError | None, _message: object) -> None:
            if error is not None and error.code() in _TOO_LARGE and producer is not self._alone:
                self._append_alone(topic, key, value, ended)
            else:
                ended(None if error is None else _ours(error))

        try:
            producer.produce(topic, value, key, on_delivery=delivered)
        except KafkaException as error:
            raise _ours(error.args[0]) from error
        except BufferError as error:
            raise Retryable(f"no room to send to {topic}: the broker takes nothing") from error

    def _append_alone(self, topic: str, key: bytes, value: bytes, ended: Ended) -> None:
        # Called by the one thread that hears of the first producer's records. An exception here would reach nobody.
        try:
            self._alone = self._alone or self._started({"batch.num.messages": 1})
            self._append(self._alone, topic, key, value, ended)
        except StreamError as error:
            ended(error)

    def close(self) -> None:
        """Let go without waiting."""
        self._closed.set()
        self._producer.purge()
        if self._alone is not None:
            self._alone.purge()


def _hear(producer: Any, closed: threading.Event) -> None:
    # Not a method: a thread that held the appender would keep its producer for ever where nobody closes it.
    while not closed.is_set():
        producer.poll(_HEARD_S)


def _ours(error: KafkaError) -> Exception:
    if error.code() in _TOO_LARGE:
        return RecordTooLarge(f"write: {error.name()}")
    return raised("write", error)
