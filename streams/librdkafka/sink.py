"""The ``Sink`` over confluent-kafka: a transactional producer whose every result is checked."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from stationkeeper.streams.dead_letters.letters import refused
from stationkeeper.streams.dead_letters.oversize import BATCH_BYTES, Oversize
from stationkeeper.streams.errors import Displaced, Fatal, Fenced, Retryable
from stationkeeper.streams.handshake import explained
from stationkeeper.streams.librdkafka.clients import connection, raised, theirs, translated, within
from stationkeeper.streams.ports import Outgoing, Partition, ProducerEpoch
from stationkeeper.streams.settings import KafkaSettings

_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_TAKEN_DOWN = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # noqa: SLF001 - the library's public names
_OTHER_MEMBERS = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION}
# An abort is one request; a broker that does not answer within this lets the transaction time out by itself.
_ABORT_S = 5.0
# Commits of a producer at which its epoch is asked for: in an election the first may get no answer, and where the
# cluster does not tell it, no further commit should wait.
_ASKED = 3


class _Records:
    """The records of a transaction that were handed to a producer, and those that brokers refused."""

    def __init__(self) -> None:
        self._oversize = Oversize()
        self._failed: list[tuple[Outgoing, KafkaError]] = []

    @property
    def alone(self) -> bool:
        """Whether each record must be a batch of its own, so that one that is too large is refused alone."""
        return self._oversize.alone

    def clear(self) -> None:
        """Forget those of the transaction before."""
        self._failed = []

    def hand(self, producer: Producer, record: Outgoing, limit_s: float) -> None:
        """Hand over one record, waiting for room up to ``limit_s``."""
        record = self._oversize.fitted(record)

        def answered(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                # Kept and not raised: it runs within the library's poll, where an exception would be lost.
                self._failed.append((record, error))

        more: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
        deadline = time.monotonic() + limit_s
        while True:
            try:
                producer.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    on_delivery=answered,
                    **more,
                )
                return
            except BufferError as error:
                if time.monotonic() > deadline:
                    raise Retryable(f"no room to send to {record.topic}: the broker takes nothing") from error
                # Delivers answers, which makes room; it returns with the first, and a tenth of a second is how late a
                # deadline that has passed may be seen.
                with translated("send"):
                    producer.poll(0.1)
            except KafkaException as error:
                self._refuse(record, error.args[0])
                # An earlier record that the broker refused meanwhile shows only as a producer that takes nothing more.
                with translated("send"):
                    producer.poll(0)
                self._raise_failed()
                raise raised("send", error.args[0]) from error

    def _refuse(self, record: Outgoing, error: KafkaError) -> None:
        if error.code() in _TOO_LARGE:
            self._oversize.refuse(record, error.name())

    def written(self, producer: Producer, limit_s: float) -> None:
        """Wait until every record is answered; raises for one that failed, and for those without an answer."""
        with translated("write"):
            left = _flushed(producer, limit_s)
        self._raise_failed()
        if left:
            raise Retryable(f"write: no answer for {left} records within {limit_s:g} s")

    def _raise_failed(self) -> None:
        if self._failed:
            # A refused record is told with what it takes down with it; the refusal is the reason.
            self._failed.sort(key=lambda one: one[1].code() in _TAKEN_DOWN)
            record, error = self._failed[0]
            self._refuse(record, error)
            raise refused(record, raised(f"write to {record.topic}", error))


class ConfluentSink:
    """The ``Sink`` of one replica of a role; its transactional.id is the replica's stable name.

    ``newest`` asks what the coordinator gave the latest producer of that name: once for each of ours that wrote, and
    where somebody else may have begun.
    """

    def __init__(
        self, settings: KafkaSettings, role: str, newest: Callable[[], ProducerEpoch | None] = lambda: None
    ) -> None:
        self._settings = settings
        self._newest = newest
        self._epoch: ProducerEpoch | None = None
        self._asked, self._unheard = 0, False
        self._last: Outgoing | None = None
        self._name = settings.member(role)
        self._client: Producer | None = None
        self._former: Producer | None = None
        self._former_open = False
        self._records = _Records()
        self._open = self._damaged = False

    @property
    def _limit_s(self) -> float:
        return self._settings.transaction_timeout / 1_000

    def recover(self) -> None:
        """Fence earlier owners of this slot and end their open transaction; does nothing while the producer lives."""
        if self._client is not None:
            return
        settings = self._settings
        with explained(settings), translated(f"start the producer {self._name} at {settings.bootstrap}"):
            client = _producer(settings, self._name, alone=self._records.alone)
            # Here earlier owners are fenced; it waits for their open transaction to be ended.
            self._unheard = True
            within(self._limit_s, client.init_transactions, self._limit_s)
        # Not before: while none has begun the former one still tells whether a successor has.
        self._client, self._former, self._epoch, self._asked, self._unheard = client, None, None, 0, False

    def begin(self) -> None:
        """Start a transaction."""
        self.recover()
        self._records.clear()
        # Also a producer that fails here is thrown away by the abort that follows.
        self._open = self._damaged = True
        with translated("begin a transaction"):
            self._producer.begin_transaction()
        self._damaged = False

    def send(self, records: Sequence[Outgoing]) -> None:
        """Hand records to the open transaction; ``commit`` checks every result."""
        self._damaged = True
        producer = self._producer
        for record in records:
            self._records.hand(producer, record, self._limit_s)
        if records:
            # Only to be written again by ``ask``, and aborted. With a value: to whoever reads what is not committed a
            # record without one is the end of its key.
            self._last = records[-1]._replace(value=b"")

    def commit(self, offsets: Mapping[Partition, int], group: Any, note: str = "") -> None:
        """Commit records and input offsets together; raises ``Retryable``, ``Fenced`` or ``Fatal``.

        ``note`` is not written: confluent-kafka 2.16.1 cuts it at a NUL, and without one reads it past its end.
        """
        producer = self._producer
        self._damaged = True
        # Before the commit: it would be refused, without saying for want of what.
        self._records.written(producer, self._limit_s)
        # Before the commit, which says by going through that nobody had begun until then: what is told is ours.
        untold = self._epoch is None and self._asked < _ASKED
        epoch, self._asked = self._newest() if untold else self._epoch, self._asked + untold
        with _let_in(), translated("commit"):
            if offsets:
                positions = [theirs(partition, offset) for partition, offset in offsets.items()]
                # Inside the transaction: outputs without offsets would be written again, offsets without outputs lost.
                self._add(positions, group)
            self._ask(producer.commit_transaction, self._limit_s)
        self._open = self._damaged = False
        self._epoch = epoch

    def latest(self) -> bool:
        """Return whether no producer of this name has begun since this one's last; false where that cannot be told."""
        return self._epoch is not None and self._epoch == self._newest()

    def _add(self, positions: Sequence[object], group: Any) -> None:
        """Add offsets to the transaction, within half of its time: the other half is for whoever begins anew.

        It is here that the library may wait for ever for a coordinator that was lost.
        """
        limit = self._limit_s / 2
        self._ask(self._producer.send_offsets_to_transaction, positions, group, limit, limit_s=limit)

    def _ask(self, call: Callable[..., object], *arguments: object, limit_s: float | None = None) -> None:
        """Call the library, and leave the producer behind where no answer comes: an abort would wait for it, too."""
        try:
            within(limit_s or self._limit_s, call, *arguments)
        except Retryable:
            self._client, self._open, self._damaged = None, False, False
            raise

    @property
    def alive(self) -> bool:
        """Whether a producer that began here lives and has no transaction open, or one that failed may be asked by."""
        return self._former is not None or (self._client is not None and not self._open)

    def abort(self) -> None:
        """Undo the open transaction and throw the producer away if anything of it was sent."""
        if self._client is None or not self._open:
            return
        self._open = self._former_open = False
        try:
            self._client.abort_transaction(_ABORT_S)
        except KafkaException:
            self._damaged = self._former_open = True
        if self._damaged:
            # Kept until another begins, to ask by whether a successor has its place: that needs one of before.
            self._former, self._client, self._damaged = self._client, None, False

    def ask(self, partition: Partition, group: Any) -> None:
        """Write where the last record went and abort it, by the producer of before where another has not begun yet.

        No group's coordinator is asked, which may have been lost together with what fails.
        """
        try:
            self._resume()
            if self._last is None:
                self.abandon(partition, group)
            else:
                self._write_again(self._last)
        except Fenced as refused:
            if self._unheard:
                raise Retryable(f"{refused}; a start of its own had no answer, and may be what refuses it") from refused
            raise
        except Fatal as refused:
            # A coordinator looks at the state of a transaction once it has found that nobody newer has its name.
            if not _of_state(refused):
                raise
            self._client = self._former = None

    def _write_again(self, record: Outgoing) -> None:
        self.begin()
        producer = self._producer
        self.send([record])
        try:
            self._records.written(producer, self._limit_s)
        finally:
            # Asked even so: of a producer that was fenced the records may be thrown away without a word.
            with translated("write"):
                self._ask(producer.abort_transaction, self._limit_s)
            self._former, self._client = producer, None
            self._open = self._damaged = self._former_open = False

    def _resume(self) -> None:
        """Take up the producer of before, and end what it has open."""
        if self._former is not None:
            self._client, self._former = self._former, None
            if self._former_open:
                with translated("end a transaction"):
                    self._ask(self._producer.abort_transaction, self._limit_s)

    def abandon(self, partition: Partition, group: Any) -> None:
        """Abort a transaction over a group's offset of a partition: its end is also that of one a broker forgot."""
        self._resume()
        self.begin()
        self._damaged = True
        with _let_in(), translated("begin a transaction over offsets"):
            try:
                self._add([theirs(partition, 0)], group)
            except KafkaException as error:
                # Of a group that has forgotten this member, or begun another generation since, as after an election:
                # the producer was let in before, and the abort ends over these offsets what is to be ended.
                if error.args[0].code() not in _OTHER_MEMBERS:
                    raise
        self.abort()

    def close(self) -> None:
        """Let go of the producer."""
        self.abort()
        self._client = self._former = None

    @property
    def _producer(self) -> Producer:
        if self._client is None:
            raise Retryable("the producer is gone; start a new transaction")
        return self._client


def _of_state(error: Fatal) -> bool:
    """Return whether a coordinator refused to end a transaction that is over, as one whose first answer was lost."""
    said = error.__cause__
    return isinstance(said, KafkaException) and said.args[0].code() == KafkaError.INVALID_TXN_STATE


def _producer(settings: KafkaSettings, name: str, *, alone: bool) -> Producer:
    """Return a transactional producer that has not begun; ``alone``: each record is a batch of its own."""
    return Producer(
        {
            "transactional.id": name,
            "transaction.timeout.ms": settings.transaction_timeout,
            # As over kafka-python, so that a change of client changes no topic's size.
            "compression.type": "lz4",
            # Kafka's own hash of the key, as Java and kafka-python have it: a key must fall into the same
            # partition from every client.
            "partitioner": "murmur2_random",
            # A flush sends what it has: waiting for more would only delay its commit.
            "linger.ms": 0,
            "batch.size": BATCH_BYTES,
            **({"batch.num.messages": 1} if alone else {}),
            "message.max.bytes": settings.max_message_bytes,
            "allow.auto.create.topics": False,
            **connection(settings, name),
            # The library refuses an answer that may take longer than the transaction.
            "socket.timeout.ms": min(settings.request_timeout, settings.transaction_timeout),
        }
    )


@contextmanager
def _let_in() -> Iterator[None]:
    """Say of a refused member that its producer was let in: a broker asks for that before it takes offsets."""
    try:
        yield
    except Displaced as error:
        error.writing = True
        raise


def _flushed(producer: Producer, seconds: float) -> int:
    """Wait for every record's answer and return how many are missing."""
    try:
        return int(producer.flush(seconds))
    except SystemError:
        # confluent-kafka 2.16.1 forgets to say what went wrong when a producer is fenced; the commit will say it.
        return 0
