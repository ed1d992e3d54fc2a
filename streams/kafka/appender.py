"""The ``Appender`` over kafka-python: a producer whose thread sends, and whose every record's end is told."""

import zlib
from typing import Any

from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError

from stationkeeper.streams.errors import RecordTooLarge, Retryable
from stationkeeper.streams.kafka.clients import describe, made
from stationkeeper.streams.ports import APPEND_BATCH_BYTES, APPEND_LINGER_MS, Ended
from stationkeeper.streams.settings import KafkaSettings

# How long one call may stand at a topic whose partitions are not known, while records of others wait behind it.
_BLOCK_MS = 2_000


class KafkaAppender:
    """The ``Appender`` of one client name; a record is tried for ``delivery_ms``, at least for one request."""

    def __init__(self, settings: KafkaSettings, name: str, compression: str | None, delivery_ms: int) -> None:
        # A client that is refused at its making (a wrong mechanism, no broker) is one to be made again.
        try:
            self._producer: Any = made(
                KafkaProducer,
                **settings.connection(name),
                # What one broker has and loses is nowhere.
                acks="all",
                enable_idempotence=True,
                linger_ms=APPEND_LINGER_MS,
                batch_size=APPEND_BATCH_BYTES,
                compression_type=compression,
                max_block_ms=_BLOCK_MS,
                # The client refuses less than one request and the linger together; one more millisecond satisfies it.
                delivery_timeout_ms=max(delivery_ms, settings.request_timeout + APPEND_LINGER_MS + 1),
                max_request_size=settings.max_message_bytes,
            )
        except Exception as error:
            raise Retryable(describe(error)) from error
        self._partitions: dict[str, int] = {}
        self._ended_by_size = False

    def know(self, topic: str) -> None:
        """Learn a topic's partitions; raises ``Retryable`` while nobody tells them."""
        try:
            self._partitions[topic] = len(self._producer.partitions_for(topic))
        except Exception as error:
            raise Retryable(describe(error)) from error

    def append(self, topic: str, key: bytes, value: bytes, ended: Ended) -> None:
        """Hand over one record of a known topic; raises what ``ended`` would have been told."""
        # The partition by our own rule: kafka-python hashes keys with murmur2, producers in C with CRC-32, and an id
        # that is sent again through another of them must meet its first in one partition, where ids are deduplicated.
        partition = zlib.crc32(key) % self._partitions[topic]
        try:
            record = self._producer.send(topic, value, key=key, partition=partition)
        except Exception as error:
            # Refused here, by the client's own limit, it is of this record and leaves the producer as it was.
            of_record = isinstance(error, MessageSizeTooLargeError)
            raise RecordTooLarge(describe(error)) if of_record else Retryable(describe(error)) from error
        record.add_callback(lambda _metadata: ended(None))
        record.add_errback(lambda error: ended(self._failed(error)))

    def close(self) -> None:
        """Let go without waiting."""
        self._producer.close(timeout=0)

    def _failed(self, error: BaseException) -> Exception:
        # A batch that a broker refuses is split until the record that is too large is alone; it ends the producer,
        # which then tells each record behind it the same error. Called by the producer's one thread, in that order.
        if isinstance(error, MessageSizeTooLargeError) and not self._ended_by_size:
            self._ended_by_size = True
            return RecordTooLarge(describe(error))
        return Retryable(describe(error))
