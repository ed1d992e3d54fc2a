"""The border to confluent-kafka (the extra ``librdkafka``): its options, errors, time limits, messages as columns."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.errors import Denied, Displaced, Fatal, Fenced, Retryable, StreamError
from stationkeeper.streams.ports import Batch, Partition
from stationkeeper.streams.settings import KafkaSettings

# What a call may take beyond its own time limit, to which most of the library's calls keep within milliseconds. Without
# it a busy machine's answer would be thrown away with its producer; ten times as long and a loop that hangs stands
# still for longer than the 30 s of its bar.
_GRACE_S = 2.0
# Another process has taken over what we are: the group member or the transactional id.
_FENCED = {
    KafkaError._FENCED,  # noqa: SLF001 - the library's public names for its own errors begin with an underscore
    KafkaError.PRODUCER_FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: LogEvent.BROKER_RIGHTS,
    KafkaError.GROUP_AUTHORIZATION_FAILED: LogEvent.BROKER_RIGHTS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: LogEvent.BROKER_RIGHTS,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: LogEvent.BROKER_RIGHTS,
    KafkaError.SASL_AUTHENTICATION_FAILED: LogEvent.BROKER_CREDENTIALS,
    KafkaError._AUTHENTICATION: LogEvent.BROKER_CREDENTIALS,  # noqa: SLF001
}
# Trying again changes nothing: they are answers to how we are configured.
_HOPELESS = {
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError.INVALID_SESSION_TIMEOUT,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
    KafkaError._INVALID_ARG,  # noqa: SLF001
}
# As for kafka-python: long for a broker under load, short of the session.
ANSWER_S = 5.0
_LEADERSHIP = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.UNKNOWN_TOPIC_ID,
}
"""Answers of a broker that does not lead as the client believes: whoever asks must first ask who leads."""
_ASKED = 3
"""Times that bounds are asked of freshly looked up leaders before the loop goes back to what is committed: an election
takes a fraction of a second. One gives up at each; ten would hold the loop up for as long as its broker is away."""
_ELECTION_S = 0.2
"""Pause before leaders are looked up again: an election in KRaft is seldom over sooner, and half would ask in vain."""
_UINT64 = (1 << 64) - 1
_AHEAD = 100_000
"""Records to have queued before the library rests: some polls of the loop, so that a poll never waits for a fetch."""
_QUEUED = 1_000_000
"""Messages to take at once to have all that is queued: the library's most, ten times `_AHEAD`."""
# A timestamp is (kind, milliseconds).
_MILLISECONDS = itemgetter(1)
_SASL = {
    "sasl_mechanism": "sasl.mechanism",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
}


def raised(doing: str, error: KafkaError) -> StreamError:
    """Return an error of the library as ours."""
    said = f"{doing}: {error.name()}: {' '.join(error.str().split())}"
    # A fatal error of a producer hides its reason in the text.
    final = error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001
    if error.code() in _FENCED or (final and "fenced" in said.lower()):
        # A fatal error of a consumer has its reason in the text, too.
        displaced = error.code() == KafkaError.FENCED_INSTANCE_ID or "group.instance.id" in said
        if displaced:
            return Displaced(f"{said}; its name was given to another member")
        return Fenced(f"{said}; another process runs with the same instance: give each replica its own kafka.instance")
    if error.code() in _DENIED:
        event = _DENIED[error.code()]
        where = "; see docs/kafka-rights.md" if event is LogEvent.BROKER_RIGHTS else ""
        return Denied(event, said + where)
    if error.code() in _HOPELESS or final:
        return Fatal(said)
    return Retryable(said)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the library's errors raised inside into ``Retryable``, ``Fatal`` or ``Fenced``."""
    try:
        yield
    except TimeoutError as error:
        # Of a future of the library's admin client that outlasts the request's own limit.
        raise Retryable(f"{doing}: no answer") from error
    except KafkaException as error:
        raise raised(doing, error.args[0]) from error


def connection(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Return the options that every client of the cluster shares, in this library's names."""
    known = settings.connection(client_id)
    options: dict[str, Any] = {
        "bootstrap.servers": ",".join(known["bootstrap_servers"]),
        "client.id": client_id,
        "security.protocol": known["security_protocol"],
        "socket.timeout.ms": settings.request_timeout,
        # The library takes no less than a second.
        "socket.connection.setup.timeout.ms": max(settings.connect_timeout, 1_000),
        "topic.metadata.refresh.interval.ms": settings.metadata_max_age,
        # The default of 10 s would be the longest part of an outage.
        "reconnect.backoff.max.ms": 1_000,
        # What goes wrong comes as an error and into our own log, once; the library's lines would stand on stderr beside
        # it.
        "log_level": 0,
    }
    options |= {name: known[ours] for ours, name in _SASL.items() if known.get(ours) is not None}
    security = settings.security
    if security.mechanism == "OAUTHBEARER":
        options |= {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": security.username,
            "sasl.oauthbearer.client.secret": security.secret(),
            "sasl.oauthbearer.token.endpoint.url": security.token_url,
            **({"sasl.oauthbearer.scope": security.scope} if security.scope else {}),
        }
    if known.get("ssl_check_hostname") is False:
        options["ssl.endpoint.identification.algorithm"] = "none"
    return options


def reading(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every consumer of ours has in common: read committed, no own commits, no silent reset.

    The library fetches ahead in a thread of its own until ``fetch_bytes`` are queued. When that is reached it rests for
    ``fetch.queue.backoff.ms``, whose default of a second would leave a fast reader waiting with an empty queue.
    """
    return {
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        # Without it nothing tells that a position passed the markers at the end of a log.
        "enable.partition.eof": True,
        # As over kafka-python: an empty answer waits a quarter of a second, four requests a second of a quiet topic.
        "fetch.wait.max.ms": 250,
        "max.partition.fetch.bytes": settings.partition_fetch_bytes,
        # One record must fit, however small the room for fetches is set.
        "fetch.max.bytes": max(settings.fetch_bytes, settings.max_message_bytes),
        "message.max.bytes": settings.max_message_bytes,
        # The library wants 512 bytes more than a fetch, for what stands around it; a MiB is enough for any headers.
        "receive.message.max.bytes": max(settings.fetch_bytes, settings.max_message_bytes) + 1024 * 1024,
        "queued.max.messages.kbytes": settings.fetch_bytes // 1024,
        "queued.min.messages": _AHEAD,
        # The library's second would leave a full queue, once drained, without records for that long.
        "fetch.queue.backoff.ms": 5,
    }


def theirs(partition: Partition, offset: int = 0) -> TopicPartition:
    """Return our partition, at an offset, as the library's."""
    return TopicPartition(partition.topic, partition.index, int(offset))


class Asker:
    """Asks brokers about topics and offsets; its client is made when first needed, and anew where it knows too little.

    librdkafka asks the leader that it knows, with the epoch that it knows, and does not ask again who leads: after an
    election the answer stays FENCED_LEADER_EPOCH until its metadata are refreshed (67 s on three brokers).
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._settings, self._name = settings, name
        self._client: AdminClient | None = None

    @property
    def _admin(self) -> AdminClient:
        if self._client is None:
            self._client = AdminClient(connection(self._settings, self._name))
        return self._client

    def bounds(self, partitions: Sequence[Partition], *, committed: bool = True) -> dict[Partition, tuple[int, int]]:
        """Return first and end offsets, the end as of committed transactions or of all; raises ``Retryable``."""
        if not partitions:
            return {}
        for left in reversed(range(_ASKED)):
            try:
                with self._asking("ask for the bounds of partitions"):
                    return self._bounds(partitions, committed=committed)
            except Retryable as error:
                said = error.__cause__
                # Any other answer is one, and asking again would only repeat it.
                if not left or not isinstance(said, KafkaException) or said.args[0].code() not in _LEADERSHIP:
                    raise
                time.sleep(_ELECTION_S)
        raise AssertionError("unreachable")

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Throw away a client whose question failed: it may ask a leader or controller for ever that is no more."""
        try:
            with translated(doing):
                yield
        except StreamError:
            self._client = None
            raise

    def _bounds(self, partitions: Sequence[Partition], *, committed: bool) -> dict[Partition, tuple[int, int]]:
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        ends: list[dict[tuple[str, int], int]] = []
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
            asked = self._admin.list_offsets(
                {theirs(partition): spec for partition in partitions}, isolation_level=level, request_timeout=ANSWER_S
            )
            # A second more than the request has: the library's own error says more than a wait that ended.
            found = {(tp.topic, tp.partition): future.result(ANSWER_S + 1).offset for tp, future in asked.items()}
            # Of a leader that did not answer within the request's time confluent-kafka 2.16.1 gives -1001 and no error;
            # taken for an end it is that of a log that holds nothing, and a state read up to it is empty.
            silent = sorted(place for place, offset in found.items() if offset < 0)
            if silent:
                raise Retryable(f"no answer for {', '.join(f'{topic}/{index}' for topic, index in silent)}")
            ends.append(found)
        return {p: (ends[0][p.topic, p.index], ends[1][p.topic, p.index]) for p in partitions}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the id (KIP-516) of each topic that exists, 32 hexadecimal digits; "" from a broker older than 2.8."""
        found: dict[str, str] = {}
        with self._asking("look up the ids of topics"):
            asked = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_S)
            for topic, future in asked.items():
                try:
                    known = future.result(ANSWER_S + 1).topic_id
                except KafkaException as error:
                    if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        continue
                    raise
                # Java's way of a UUID: two signed halves, which Python shows with their sign.
                halves = (known.get_most_significant_bits(), known.get_least_significant_bits())
                found[topic] = "".join(f"{half & _UINT64:016x}" for half in halves) if any(halves) else ""
        return found

    def close(self) -> None:
        """Let go of the client."""
        self._client = None


def to_batch(partition: Partition, messages: Sequence[Message], next_offset: int) -> Batch:
    """Turn one partition's messages into columns; each method is mapped over all of them, with no Python step each."""
    n = len(messages)
    headers = _headers(messages)
    return Batch(
        partition=partition,
        offsets=np.fromiter(map(Message.offset, messages), np.int64, n),
        timestamps=np.fromiter(map(_MILLISECONDS, map(Message.timestamp, messages)), np.int64, n),
        keys=tuple(map(Message.key, messages)),
        values=tuple(map(Message.value, messages)),
        next_offset=next_offset,
        headers=tuple(tuple((name, value or b"") for name, value in one or ()) for one in headers)
        if any(headers)
        else (),
    )


def _headers(messages: Sequence[Message]) -> list[Any]:
    """Return the headers of each record, none where a name is not UTF-8: the library then gives none of them.

    Each record is asked once: the library keeps what it could not decode, and crashes when that is used.
    """
    found: list[Any] = []
    each = map(Message.headers, messages)
    while len(found) < len(messages):
        try:
            # What came before the record that fails stays in the list, and the iterator stands behind that record.
            found.extend(each)
        except (SystemError, UnicodeDecodeError):
            found.append(None)
    return found


def consume(
    consumer: Consumer, limit: int, timeout_s: float, positions: dict[Partition, int], *, member: bool = True
) -> tuple[list[Batch], list[Partition]]:
    """Return batches of the partitions in ``positions``, which move, and the partitions whose offset is out of range.

    A reader is no ``member`` of a group: the library asks for its group all the same, and needs no right to it.
    The library tells the end of a partition as a message of its own; its offset has passed the transaction markers.
    """
    moved: dict[Partition, int] = {}
    lost: list[Partition] = []
    with translated("read"):
        messages: Any = consumer.consume(num_messages=limit, timeout=timeout_s)
    errors = list(map(Message.error, messages))
    if any(error is not None for error in errors):
        for message, error in zip(messages, errors, strict=True):
            if error is None:
                continue
            partition = Partition(message.topic() or "", message.partition())
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                moved[partition] = max(message.offset(), moved.get(partition, 0))
            elif error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001
                lost.append(partition)
            elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED and not member:
                continue
            # Retriable ones the library retries itself; told of them the loop would give up its work for nothing.
            elif not error.retriable() or error.fatal():
                raise raised("read", error)
        messages = [message for message, error in zip(messages, errors, strict=True) if error is None]
    rows = _by_partition(messages)
    for partition, mine in rows.items():
        # The end that was told lies behind the records of the same poll.
        moved[partition] = max(mine[-1].offset() + 1, moved.get(partition, 0))
    batches = []
    for partition, position in moved.items():
        if partition in positions and position != positions[partition]:
            positions[partition] = position
            batches.append(to_batch(partition, rows.get(partition, ()), position))
    return batches, lost


def leave(consumer: Consumer) -> None:
    """Close a member of a group, which has then heard what its group decided.

    librdkafka 2.16 may wait for itself for ever where an assignment is first heard while it closes: it drops the answer
    to ``assign``, which confluent-kafka waits for with Python's lock held, so that not one thread of the process goes
    on. What is queued is dropped; a callback of the group that stands behind it is called here. What comes in the
    fraction of a millisecond until the close is not excluded: 6 of 1 000 closed right then on purpose, none hung.
    """
    # What it still has to say, a group's fatal error for one, changes nothing any more.
    with suppress(KafkaException):
        consumer.consume(num_messages=_QUEUED, timeout=0)
    consumer.close()


def _by_partition(messages: Sequence[Message]) -> dict[Partition, Sequence[Message]]:
    """Return the messages of each partition in order; messages of one partition mostly come in long runs."""
    topics, indexes = set(map(Message.topic, messages)), set(map(Message.partition, messages))
    if len(topics) == len(indexes) == 1:
        return {Partition(topics.pop() or "", indexes.pop()): messages}
    rows: dict[Partition, Sequence[Message]] = {}
    for (topic, index), mine in groupby(messages, lambda message: (message.topic(), message.partition())):
        partition = Partition(topic or "", index)
        rows[partition] = [*rows.get(partition, ()), *mine]
    return rows


def within(seconds: float, call: Callable[..., object], *arguments: object) -> None:
    """Call the library with a time limit that it may forget; raises what it raises, ``Retryable`` for no answer.

    librdkafka 2.16 waits for ever for a group coordinator whose connection was cut (its issues 5456 and 5511), in C,
    where not even SIGTERM reaches it. The thread stays behind with its client until an answer comes: what a producer
    could still write is fenced by the next one of its name, and a consumer leaves the group when its session ends.
    """
    answer: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            call(*arguments)
        except BaseException as error:  # noqa: BLE001 - it is raised by whoever waits for it
            answer.put(error)
        else:
            answer.put(None)

    threading.Thread(target=run, daemon=True, name="librdkafka call").start()
    try:
        found = answer.get(timeout=seconds + _GRACE_S)
    except queue.Empty:
        raise Retryable(
            f"librdkafka gave no answer to {call.__name__} within {seconds:g} s; a new client begins"
        ) from None
    try:
        if found is not None:
            raise found
    finally:
        # Error and frame would hold each other, and with them a producer that failed to begin: as soon as the brokers
        # are back it would begin after all, and fence the one that works.
        del found


def topic_partitions(metadata: Mapping[str, Any], topic: str) -> tuple[Partition, ...]:
    """Return the partitions of a topic in a metadata answer; empty when it does not exist."""
    found = metadata.get(topic)
    if found is None or found.error is not None:
        return ()
    return tuple(Partition(topic, index) for index in sorted(found.partitions))
