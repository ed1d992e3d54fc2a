"""A transactional producer over kafka-python: every result is checked, nothing waits without a limit."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer, errors
from kafka.structs import OffsetAndMetadata

from stationkeeper.streams.dead_letters.letters import refused
from stationkeeper.streams.dead_letters.oversize import BATCH_BYTES, Oversize
from stationkeeper.streams.errors import Retryable, StreamError
from stationkeeper.streams.handshake import explained
from stationkeeper.streams.kafka.clients import describe, made, theirs, translated
from stationkeeper.streams.kafka.topics import admin_client
from stationkeeper.streams.ports import Outgoing, Partition, ProducerEpoch
from stationkeeper.streams.settings import KafkaSettings

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
# An abort is one request; a broker that does not answer within this lets the transaction time out by itself.
_ABORT_S = 5.0
# How long each step of asking who has a producer's name may take, at most: connecting, looking up the coordinator and
# its answer take some 20 ms. A sixth of the transaction's timeout where that is less: it is open meanwhile, and all
# three at their limit leave half of it.
_DESCRIBED_MS, _DESCRIBED_SHARE = 2_000, 6


def writing_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every producer of ours has in common: idempotent, compressed, large requests allowed."""
    return {
        "enable_idempotence": True,
        "compression_type": "lz4",
        "batch_size": BATCH_BYTES,
        "linger_ms": 0,
        # kafka-python waits this long twice, asleep, in a producer's first transaction, before and after it asks who
        # coordinates the group; for partitions that are being added it waits 20 ms itself instead of its 100.
        "retry_backoff_ms": 20,
        "max_request_size": settings.max_message_bytes,
        "max_block_ms": settings.transaction_timeout,
        # The library refuses one that is not above request_timeout and linger together; a second is well above.
        "delivery_timeout_ms": max(settings.transaction_timeout, settings.request_timeout + 1_000),
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


class KafkaSink:
    """The ``Sink`` of one replica of a role; its transactional.id is the replica's stable name.

    A producer that failed in any way is thrown away: the next one starts with the same transactional.id, which
    ends whatever the old one left open. A dead letter that the broker finds too large is written without its
    value when the records come by again.
    """

    def __init__(self, settings: KafkaSettings, role: str) -> None:
        self._settings = settings
        self._name = settings.member(role)
        self._client: KafkaProducer | None = None
        self._pending: list[tuple[Outgoing, Any]] = []
        # The library splits a batch that is too large until each record went or was refused alone.
        self._oversize = Oversize(alone=True)
        self._open = False
        self._damaged = False

    def recover(self) -> None:
        """Fence earlier owners of this slot and end their open transaction; does nothing while the producer lives."""
        if self._client is not None:
            return
        settings = self._settings
        with explained(settings), translated(f"start the producer {self._name} at {settings.bootstrap}"):
            client = made(
                KafkaProducer,
                transactional_id=self._name,
                transaction_timeout_ms=settings.transaction_timeout,
                **writing_options(settings),
                **settings.connection(self._name),
            )
            self._client = client
            try:
                client.init_transactions()
            except BaseException:
                self._discard()
                raise

    def begin(self) -> None:
        """Start a transaction."""
        self.recover()
        self._pending = []
        # Also a producer that fails here is thrown away by the abort that follows.
        self._open = self._damaged = True
        with translated("begin a transaction"):
            self._producer.begin_transaction()
        self._damaged = False

    def send(self, records: Sequence[Outgoing]) -> None:
        """Hand records to the open transaction; ``commit`` checks every result."""
        self._damaged = True
        self._ask_for({record.topic for record in records})
        for record in records:
            self._send(self._oversize.fitted(record))

    def _ask_for(self, topics: set[str]) -> None:
        """Ask for the partitions of all topics at once.

        kafka-python asks for a topic when its first record comes, and not again within a tenth of a second.
        """
        metadata = self._producer._metadata  # noqa: SLF001 - nothing public asks without waiting for one topic
        with translated("look up topics"):
            metadata.set_topics(metadata._topics | topics)  # noqa: SLF001

    def _send(self, record: Outgoing) -> None:
        try:
            with translated(f"send to {record.topic}"):
                future = self._producer.send(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                )
        except StreamError as error:
            if isinstance(error.__cause__, _TOO_LARGE):
                self._oversize.refuse(record, describe(error.__cause__))
            # An earlier record that the broker refused meanwhile shows only as a producer that takes nothing more.
            for earlier, answer in self._pending:
                if answer.failed():
                    self._check(earlier, answer)
            raise refused(record, error) from error
        self._pending.append((record, future))

    def commit(self, offsets: Mapping[Partition, int], group: Any, note: str = "") -> None:
        """Commit records and input offsets together.

        Raises ``Retryable`` when the outcome is unknown or the transaction was refused, ``Fenced`` when another
        process has this slot, ``Fatal`` for a record the broker will never take.
        """
        producer = self._producer
        self._damaged = True
        limit = self._settings.transaction_timeout / 1_000
        with translated("write"):
            _flush(producer, limit)
        for record, future in self._pending:
            self._check(record, future)
        with translated("commit"):
            if offsets:
                positions = {theirs(p): OffsetAndMetadata(offset, note, -1) for p, offset in offsets.items()}
                _bounded(lambda: producer.send_offsets_to_transaction(positions, group), limit)
            _bounded(producer.commit_transaction, limit)
        self._pending = []
        self._open = self._damaged = False

    def _check(self, record: Outgoing, future: Any) -> None:
        if future.is_done and not future.failed():
            return
        try:
            with translated(f"write to {record.topic}"):
                if not future.is_done:
                    raise errors.KafkaTimeoutError("no answer for a record")
                if isinstance(future.exception, _TOO_LARGE):
                    self._oversize.refuse(record, describe(future.exception))
                raise future.exception
        except StreamError as error:
            raise refused(record, error) from error

    def abort(self) -> None:
        """Undo the open transaction and throw the producer away if anything of it was sent.

        What failed leaves gaps in an idempotent producer's sequence numbers, which no later send would survive. The
        next producer with this transactional.id ends on the broker what the abort did not.
        """
        if self._client is None or not self._open:
            return
        self._open = False
        self._pending = []
        try:
            _bounded(self._client.abort_transaction, _ABORT_S)
        except (errors.KafkaError, OSError):
            self._damaged = True
        if self._damaged:
            self._discard()

    @property
    def alive(self) -> bool:
        """Whether the producer that began here lives and has no transaction open."""
        return self._client is not None and not self._open

    def latest(self) -> bool:
        """Say that it cannot be told: this client asks a group once, so that it meets no late answer of its own."""
        return False

    def ask(self, partition: Partition, group: Any) -> None:
        """Return where a transaction over the group's offset of a partition was let in, and abort it."""
        self.abandon(partition, group)

    def abandon(self, partition: Partition, group: Any) -> None:
        """Abort a transaction over a group's offset of a partition: its end is also that of one a broker forgot."""
        self.begin()
        self._damaged = True
        limit, positions = self._settings.transaction_timeout / 1_000, {theirs(partition): OffsetAndMetadata(0, "", -1)}
        with translated("begin a transaction over offsets"):
            _bounded(lambda: self._producer.send_offsets_to_transaction(positions, group), limit)
        self.abort()

    def close(self) -> None:
        """Let go of the producer."""
        self.abort()
        self._discard()

    def _discard(self) -> None:
        client, self._client = self._client, None
        self._open = self._damaged = False
        if client is not None:
            threading.Thread(target=_close, args=(client,), daemon=True, name=f"close-{self._name}").start()

    @property
    def _producer(self) -> KafkaProducer:
        if self._client is None:
            raise Retryable("the producer is gone; start a new transaction")
        return self._client


def latest_producer(settings: KafkaSettings, name: str) -> ProducerEpoch | None:
    """Return what the coordinator gave the latest producer of a transactional.id; None where nobody tells in time."""
    step = min(_DESCRIBED_MS, settings.transaction_timeout // _DESCRIBED_SHARE)
    limits = {"bootstrap_timeout_ms": step, "request_timeout_ms": step}
    try:
        # Without the look at why a broker refuses: it takes seconds more, and what refuses is told by the commit.
        with admin_client(settings, explaining=False, **limits) as admin, translated(f"describe the producer {name}"):
            found = admin.describe_transactions([name])[name]
    except StreamError:
        return None
    return ProducerEpoch(found.producer_id, found.producer_epoch)


def _flush(producer: KafkaProducer, seconds: float) -> None:
    """Wait until every record is answered; raises ``KafkaTimeoutError`` past ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            producer.flush(timeout=max(deadline - time.monotonic(), 0))
            return
        except errors.UnknownError:
            # The library calls a flush failed when it split one of the batches, whose parts are on their way.
            if time.monotonic() > deadline:
                raise errors.KafkaTimeoutError(f"no answer within {seconds:g} s") from None
            # Chosen: as long as one request to a near broker; without it this loop would take a core until they arrive.
            time.sleep(0.005)


def _close(client: KafkaProducer) -> None:
    # The client's close first waits for what is buffered, which a dead broker never takes.
    try:
        # Chosen: the time of an answer in flight. Nothing is lost past it: the broker aborts what is open.
        client.close(timeout=1)
    except errors.KafkaTimeoutError:
        client._sender.force_close()  # noqa: SLF001 - the public close gives up before it comes to this


def _bounded(call: Callable[[], None], seconds: float) -> None:
    """Run a client call that has no time limit of its own; raises ``KafkaTimeoutError`` past ``seconds``."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise errors.KafkaTimeoutError(f"no answer within {seconds:g} s")
    if failure:
        raise failure[0]
