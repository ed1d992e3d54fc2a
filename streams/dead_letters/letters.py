"""Poison is data: rejected records go to the dead-letter topic as they came, and too many stop their topic."""

import hashlib
from datetime import UTC, datetime

from stationkeeper.contracts.codes import DEAD_LETTER_HELP, DeadLetterCode
from stationkeeper.contracts.topics import dead_letter_topic
from stationkeeper.streams.errors import Denied, Fatal, Retryable, StreamError
from stationkeeper.streams.ports import Batch, Headers, Outgoing

PREFIX = "stationkeeper."
# The names that Kafka Connect gives its own dead letters, so that tools which read those read ours too.
CONNECT = "__connect.errors."


class DeadLetterLimit(Retryable):
    """So many records of a partition are rejected that the contract, not the record, is wrong.

    ``row`` is the place in its batch of the record that was one too many. What was absorbed is given up, and the stage
    no longer takes this topic.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


class DeadLetterRefused(Fatal):
    """The dead-letter topic will never take a record as it is configured; going on would lose that record."""


def refused(record: Outgoing, error: StreamError) -> StreamError:
    """Return the error of writing a record, as ``DeadLetterRefused`` where a dead letter met one that is ``Fatal``.

    A fencing, which is ``Fatal`` by a class of its own, says nothing about the topic and is returned as it is.
    """
    # By the exact class: a subclass of `Fatal` tells of something else, as a fencing of a second process.
    return DeadLetterRefused(str(error)) if type(error) in {Fatal, Denied} and is_dead_letter(record) else error


def is_dead_letter(record: Outgoing) -> bool:
    """Return whether an outgoing record is one that ``dead_letter`` built."""
    return any(name == PREFIX + "error.code" for name, _ in record.headers)


def dead_letter(
    batch: Batch, row: int, code: DeadLetterCode, stage: str, *, detail: str = "", connect_headers: bool = False
) -> Outgoing:
    """Return record ``row`` of a batch for the dead-letter topic: value and key byte-identical, facts in headers.

    Own headers are UTF-8 text under ``stationkeeper.``: topic, partition, offset, timestamp (RFC 3339, the broker's),
    error.code (closed list), error.detail (a field name or limit, never a value) and stage. The record's own
    headers follow. A record without value and key gets an empty key, because Kafka wants one of the two.
    """
    partition, offset = batch.partition, int(batch.offsets[row])
    facts = {
        "topic": partition.topic,
        "partition": str(partition.index),
        "offset": str(offset),
        "timestamp": _stamp(int(batch.timestamps[row])),
        "error.code": code.value,
        "error.detail": detail,
        "stage": stage,
    }
    # Ours come first: who reads a header by name takes the first, and a record that was itself a dead letter once bears
    # foreign ones of the same name.
    headers: Headers = tuple((PREFIX + name, text.encode()) for name, text in facts.items() if text)
    if connect_headers:
        connect = {
            "topic": partition.topic,
            "partition": str(partition.index),
            "offset": str(offset),
            "connector.name": "stationkeeper",
            # Connect numbers its tasks; we have none, and who reads these headers wants a number.
            "task.id": "0",
            "stage": "VALUE_CONVERTER",
            "class.name": stage,
            "exception.class.name": code.value,
            "exception.message": detail or DEAD_LETTER_HELP[code],
        }
        headers += tuple((CONNECT + name, text.encode()) for name, text in connect.items())
    if batch.headers:
        headers += tuple((name, value or b"") for name, value in batch.headers[row])
    # Never decoded and encoded again: what cannot be read is what came.
    key, value = batch.keys[row], batch.values[row]
    return Outgoing(
        topic=dead_letter_topic(partition.topic),
        value=value,
        key=b"" if key is None and value is None else key,
        headers=headers,
    )


def _stamp(ms: int) -> str:
    """A time as RFC 3339, as the bare number where no calendar has it: producers stamp records as they like."""
    try:
        stamp = datetime.fromtimestamp(ms / 1_000, tz=UTC)
    # Which of the three depends on the number and the platform.
    except (ValueError, OverflowError, OSError):
        return str(ms)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def without_value(letter: Outgoing) -> Outgoing:
    """Return what is kept of a dead letter whose size the broker refuses: its address and the value's SHA-256.

    This is the one stated exception to byte-identical: value and foreign headers are left out, the code becomes
    ``oversize``.
    """
    value = letter.value or b""
    own = {name: text for name, text in letter.headers if name.startswith(PREFIX)}
    own[PREFIX + "error.detail"] = own[PREFIX + "error.code"]
    own[PREFIX + "error.code"] = DeadLetterCode.OVERSIZE.value.encode()
    own[PREFIX + "value.sha256"] = hashlib.sha256(value).hexdigest().encode()
    own[PREFIX + "value.bytes"] = str(len(value)).encode()
    # The record's own key goes too: it counts towards the size, and without a value Kafka wants some key.
    address = b"/".join(own[PREFIX + part] for part in ("topic", "partition", "offset"))
    return letter._replace(value=None, key=address, headers=tuple(own.items()))
