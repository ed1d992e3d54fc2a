"""A consumer-group member over kafka-python that hands out columns and never loses its place silently."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, errors
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import TopicPartition

from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.handshake import explained
from stationkeeper.streams.kafka.clients import made, ours, theirs, translated
from stationkeeper.streams.kafka.fetch import Columns, columnar, joined
from stationkeeper.streams.kafka.membership import Membership
from stationkeeper.streams.kafka.topics import topic_ids
from stationkeeper.streams.offsets import resume_at
from stationkeeper.streams.ports import Batch, Partition
from stationkeeper.streams.settings import KafkaSettings

# How long a question about offsets may take: long for a broker under load, short of the session, so that asking never
# costs the membership.
_ANSWER_MS = 5_000
# A static member does not leave the group on closing; what is waited for is a request in flight.
_CLOSE_MS = 3_000
# One unanswered question is a slow broker; a second one is a client that waits for a connection it has lost, and is
# replaced.
_UNANSWERED = 2


def reading_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every consumer of ours has in common: read committed, no own commits, no silent reset.

    A fetch waits for one byte, so a quiet topic is answered at once, and takes up to 4 MiB a partition: the
    fixed cost of a request then spreads over thousands of events, while ``fetch_bytes`` bounds the memory.
    """
    return {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        "fetch_min_bytes": 1,
        # An empty answer waits a quarter of a second at the broker: four requests a second of a quiet topic.
        "fetch_max_wait_ms": 250,
        "max_partition_fetch_bytes": settings.partition_fetch_bytes,
        "fetch_max_bytes": settings.fetch_bytes,
        "receive_message_max_bytes": settings.fetch_bytes + settings.max_message_bytes,
        "metrics_enabled": False,
    }


def to_batch(partition: Partition, parts: Sequence[Columns], next_offset: int) -> Batch:
    """Turn what was polled of one partition into a batch."""
    whole = joined(parts)
    return Batch(
        partition=partition,
        offsets=whole.offsets,
        timestamps=whole.timestamps,
        keys=whole.keys,
        values=tuple(whole.values),
        next_offset=next_offset,
        headers=tuple(tuple((name, value or b"") for name, value in one) for one in whole.headers)
        if any(whole.headers)
        else (),
    )


class KafkaSource:
    """The ``Source`` of one replica of a role: static member, range assignor, read committed.

    Nothing is connected before ``subscribe``. A partition gives no records until ``seek``.
    """

    def __init__(self, settings: KafkaSettings, role: str) -> None:
        self._settings = settings
        self._role = role
        self._client: KafkaConsumer | None = None
        self._admin: KafkaAdminClient | None = None
        self._positions: dict[Partition, int] = {}
        # Where a partition was before a rebalance is no longer where it is read: it gives nothing until it is sought.
        self._membership = Membership(self._positions.clear)
        self._expired: dict[Partition, int] = {}
        self._topics: tuple[str, ...] = ()
        self._unanswered = 0

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics; raises ``Retryable`` while no broker answers."""
        settings, self._topics = self._settings, tuple(topics)
        with explained(settings), translated(f"connect to Kafka at {settings.bootstrap}"):
            client = made(
                KafkaConsumer,
                group_id=settings.group(self._role),
                group_instance_id=settings.member(self._role),
                partition_assignment_strategy=[RangePartitionAssignor],
                session_timeout_ms=settings.session_timeout,
                # Kafka asks for a third at most; of ten beats nine may be lost. Below 100 ms they are load only.
                heartbeat_interval_ms=max(settings.session_timeout // 10, 100),
                max_poll_interval_ms=settings.max_poll_interval,
                **reading_options(settings),
                **settings.connection(settings.member(self._role)),
            )
            self._client = columnar(client)
            self._membership.follow(self._client)
            try:
                self._client.subscribe(topics=list(topics), listener=self._membership)
                for topic in topics:
                    # Known before the first join, or the group would first share out nothing and then join again.
                    self._client.partitions_for_topic(topic)
            except BaseException:
                # The next try makes another: this one's thread and connections would stay.
                self._client = None
                client.close(autocommit=False, timeout_ms=_CLOSE_MS)
                raise

    def poll(self, timeout_s: float, max_records: int) -> list[Batch]:
        """Return what has arrived; an empty batch tells that a position moved past markers only."""
        if self._client is None and self._topics:
            self.subscribe(self._topics)
        with translated("read"):
            try:
                fetched = self._consumer.poll(timeout_ms=int(timeout_s * 1_000), max_records=max_records)
            except errors.OffsetOutOfRangeError as error:
                self._resume_after_expiry(error.args[0])
                return []
        self._membership.check(self._settings.member(self._role))
        if self._membership.changed:
            return []
        batches = []
        for partition in tuple(self._positions):
            records = fetched.get(theirs(partition), ())
            position = self._position(partition)
            if records or position != self._positions[partition]:
                self._positions[partition] = position
                batches.append(to_batch(partition, records, position))
        return batches

    def _position(self, partition: Partition) -> int:
        with translated(f"find the position of {partition.topic}/{partition.index}"):
            position = self._consumer.position(theirs(partition), timeout_ms=_ANSWER_MS)
        if position is None:
            raise Retryable(f"the position of {partition.topic}/{partition.index} is being checked by the broker")
        return int(position)

    def _resume_after_expiry(self, out_of_range: Mapping[TopicPartition, int]) -> None:
        bounds = self.bounds([ours(partition) for partition in out_of_range])
        for partition, (first, end) in bounds.items():
            offset, lost = resume_at(partition, out_of_range[theirs(partition)], (first, end))
            self._expired[partition] = self._expired.get(partition, 0) + lost
            self.seek(partition, offset)

    def expired(self) -> Mapping[Partition, int]:
        """Return how many offsets retention removed before they were read, since this process began."""
        return dict(self._expired)

    def assignment(self) -> frozenset[Partition]:
        """Return what is assigned now."""
        return self._membership.assigned

    def joined(self) -> bool:
        """Return whether the group has given this member its share, which may be nothing."""
        return self._membership.joined

    def take_rebalance(self) -> bool:
        """Return whether the assignment changed since the last call."""
        return self._membership.take_change()

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return committed offsets, after open transactions that carry offsets have ended."""
        return {partition: int(found.offset) for partition, found in self._found(partitions).items()}

    def notes(self, partitions: Sequence[Partition]) -> Sequence[str]:
        """Return what was noted beside committed offsets."""
        return [found.metadata for found in self._found(partitions).values() if found.metadata]

    def _found(self, partitions: Sequence[Partition]) -> dict[Partition, Any]:
        found = {}
        for partition in partitions:
            with translated(f"read the committed offset of {partition.topic}/{partition.index}"):
                try:
                    limit_ms = self._settings.transaction_timeout
                    offset = self._consumer.committed(theirs(partition), metadata=True, timeout_ms=limit_ms)
                except errors.KafkaTimeoutError:
                    self._ask_anew()
                    raise
            if offset is not None:
                found[partition] = offset
        self._unanswered = 0
        return found

    def _ask_anew(self) -> None:
        """Drop a question for offsets that was not answered; after the second one in a row, the client with it.

        kafka-python 3.0.12 would wait for the very same request again. And after twenty seconds without a broker it
        was seen to leave each new question unanswered as well, for as long as it was asked; a new client is answered.
        """
        self._unanswered += 1
        if self._unanswered < _UNANSWERED:
            self._consumer._coordinator._offset_fetch_futures.clear()  # noqa: SLF001 - nothing public does
            return
        self._unanswered = 0
        self.close()
        self._membership.leave()

    def hold(self, partitions: Collection[Partition]) -> None:
        """Give no records of assigned partitions until they are sought again."""
        for partition in partitions:
            if self._positions.pop(partition, None) is not None:
                self._consumer.pause(theirs(partition))

    def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the id of each topic as of now; over a connection of its own, so that no fetch holds the answer up."""
        if self._admin is None:
            settings = self._settings
            with translated(f"connect to Kafka at {settings.bootstrap}"):
                self._admin = made(KafkaAdminClient, **settings.connection(f"{settings.member(self._role)}.topics"))
        return topic_ids(self._admin, topics)

    def seek(self, partition: Partition, offset: int) -> None:
        """Move the position of an assigned partition and let its records flow."""
        with translated(f"seek {partition.topic}/{partition.index}"):
            self._consumer.seek(theirs(partition), int(offset))
            self._consumer.resume(theirs(partition))
        self._positions[partition] = int(offset)

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset (read committed) of partitions."""
        return offset_bounds(self._consumer, partitions)

    def group(self) -> Any:
        """Return the group metadata that fences a zombie's transaction."""
        return self._consumer.group_metadata()

    def close(self) -> None:
        """Let go of the connection; a static member stays in the group until its session ends."""
        client, self._client = self._client, None
        admin, self._admin = self._admin, None
        if admin is not None:
            with translated("close the admin client"):
                admin.close()
        if client is not None:
            with translated("close the consumer"):
                client.close(autocommit=False, timeout_ms=_CLOSE_MS)

    @property
    def _consumer(self) -> KafkaConsumer:
        if self._client is None:
            raise Retryable("not connected to Kafka")
        return self._client


def offset_bounds(consumer: KafkaConsumer, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
    """Return first and end offsets as the consumer's isolation level sees them; raises ``Retryable``."""
    wanted = [theirs(partition) for partition in partitions]
    if not wanted:
        return {}
    with translated("ask for the bounds of partitions"):
        try:
            first = consumer.beginning_offsets(wanted, timeout_ms=_ANSWER_MS)
            end = consumer.end_offsets(wanted, timeout_ms=_ANSWER_MS)
        except KeyError as error:
            # How the client tells of a topic that was deleted meanwhile: raised as it is, it ends the whole role.
            (gone,) = error.args
            raise Retryable(f"ask for the bounds of partitions: the brokers do not know {gone} any more") from error
    return {ours(p): (int(first[p]), int(end[p])) for p in wanted}
