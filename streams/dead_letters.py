"""Poison is data: rejected records go to the dead-letter topic as they came, and too many stop the consumer."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from contracts.codes import DEAD_LETTER_HELP, DeadLetterCode
from contracts.topics import dead_letter_topic
from streams.errors import Fatal, StreamError
from streams.ports import Batch, Headers, Outgoing, Partition
from streams.settings import DeadLetterSettings

PREFIX = "stationkeeper."
CONNECT = "__connect.errors."


class DeadLetterLimit(Fatal):
    """So many records of a partition are rejected that the contract, not the record, is wrong."""


class DeadLetterRefused(Fatal):
    """The dead-letter topic will never take a record as it is configured; going on would lose that record."""


def refused(record: Outgoing, error: StreamError) -> StreamError:
    """Return the error of writing a record, as ``DeadLetterRefused`` where a dead letter met one that is ``Fatal``.

    A fencing, which is ``Fatal`` by a class of its own, says nothing about the topic and is returned as it is.
    """
    return DeadLetterRefused(str(error)) if type(error) is Fatal and is_dead_letter(record) else error


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
    stamp = datetime.fromtimestamp(int(batch.timestamps[row]) / 1_000, tz=UTC)
    facts = {
        "topic": partition.topic,
        "partition": str(partition.index),
        "offset": str(offset),
        "timestamp": stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "error.code": code.value,
        "error.detail": detail,
        "stage": stage,
    }
    headers: Headers = tuple((PREFIX + name, text.encode()) for name, text in facts.items() if text)
    if connect_headers:
        connect = {
            "topic": partition.topic,
            "partition": str(partition.index),
            "offset": str(offset),
            "connector.name": "stationkeeper",
            "task.id": "0",
            "stage": "VALUE_CONVERTER",
            "class.name": stage,
            "exception.class.name": code.value,
            "exception.message": detail or DEAD_LETTER_HELP[code],
        }
        headers += tuple((CONNECT + name, text.encode()) for name, text in connect.items())
    if batch.headers:
        headers += tuple((name, value or b"") for name, value in batch.headers[row])
    key, value = batch.keys[row], batch.values[row]
    return Outgoing(
        topic=dead_letter_topic(partition.topic),
        value=value,
        key=b"" if key is None and value is None else key,
        headers=headers,
    )


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
    address = b"/".join(own[PREFIX + part] for part in ("topic", "partition", "offset"))
    return letter._replace(value=None, key=address, headers=tuple(own.items()))


@dataclass(slots=True)
class _Tally:
    seen: int = 0
    rejected: int = 0
    run: int = 0


@dataclass(slots=True)
class Limit:
    """Watches the share and the run length of rejected records, partition by partition.

    Call ``observe`` for each batch before its records are counted; it raises ``DeadLetterLimit`` and the loop
    then stops with nothing of the batch committed. The share is taken over blocks of ``minimum`` records, so
    that a long good history cannot hide a broken present.
    """

    settings: DeadLetterSettings = field(default_factory=DeadLetterSettings)
    _tallies: dict[Partition, _Tally] = field(default_factory=dict)

    def observe(self, partition: Partition, accepted: int, rejected: int, run: int | None = None) -> None:
        """Count one batch's records; ``run`` is the length of its last unbroken run of rejected records.

        Without ``run`` a batch with an accepted record ends the run. Raises ``DeadLetterLimit``.
        """
        tally = self._tallies.setdefault(partition, _Tally())
        tally.seen += accepted + rejected
        tally.rejected += rejected
        if accepted == 0:
            tally.run += rejected
        else:
            tally.run = run or 0
        where = f"{partition.topic}/{partition.index}"
        if tally.run >= self.settings.run:
            raise DeadLetterLimit(
                f"{tally.run} records in a row of {where} are rejected (limit {self.settings.run}); nothing of them "
                f"is committed. Look at {dead_letter_topic(partition.topic)} or correct the mapping, then start again"
            )
        if tally.seen >= self.settings.minimum:
            share = tally.rejected / tally.seen
            if share > self.settings.share:
                raise DeadLetterLimit(
                    f"{tally.rejected} of the last {tally.seen} records of {where} are rejected: share {share:.3f}, "
                    f"limit {self.settings.share:g}; nothing of them is committed. Correct the producer or the mapping"
                )
            tally.seen = tally.rejected = 0

    def forget(self) -> None:
        """Start counting again, after an abort or a rebalance gave the same records back."""
        self._tallies.clear()
