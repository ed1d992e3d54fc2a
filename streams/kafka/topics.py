"""Making sure that topics exist as they must: created when absent, refused when their shape would break the maths."""

import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from kafka import KafkaAdminClient, errors
from kafka.admin import NewTopic

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.topics import Topic, Topics, dead_letter_topic
from stationkeeper.streams.errors import Denied, Fatal, Retryable
from stationkeeper.streams.handshake import explained
from stationkeeper.streams.kafka.clients import made, translated
from stationkeeper.streams.kafka.topic_config import set_config, topic_config
from stationkeeper.streams.settings import MIB, KafkaSettings

# What the headers of a dead letter (source, offset, code, reason) add to the record they wrap.
DEAD_LETTER_SLACK = 64 * 1024
# Two weeks: longer than a holiday, so that whoever comes back can still look and replay.
DEAD_LETTER_RETENTION_MS = 14 * 86_400_000
# A topic is known to all brokers a moment after it is made; ten seconds are for a cluster under load. Chosen: half
# would refuse a slow start, double delays the message about one that fails.
_KNOWN_S = 10.0
# What a broker says that has no ids for topics: the id of none.
_NO_ID = uuid.UUID(int=0)
# The broker's default max.message.bytes, for brokers that do not tell theirs.
_DEFAULT_MAX_BYTES = 1_048_588


@contextmanager
def admin_client(settings: KafkaSettings, *, explaining: bool = True, **more: int) -> Iterator[KafkaAdminClient]:
    """Yield an admin client; raises ``Retryable`` while no broker answers. ``more`` are limits of its own.

    Without ``explaining`` nobody looks why a broker refuses: that goes on for seconds beyond those limits.
    """
    told = explained(settings) if explaining else nullcontext()
    with told, translated(f"connect to Kafka at {settings.bootstrap}"):
        client = made(KafkaAdminClient, **settings.connection(f"{settings.prefix}.admin") | more)
    try:
        yield client
    finally:
        with translated("close the admin client"):
            client.close()


def partition_counts(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """Return the number of partitions of the topics that the broker which answers knows.

    In a cluster that can be another one each time: of a topic made a moment ago it may know the name and no partition.
    """
    with translated("list topics"):
        existing = set(admin.list_topics())
        wanted = [name for name in names if name in existing]
        described = admin.describe_topics(wanted) if wanted else []
    return {_name(entry): len(entry["partitions"]) for entry in described if entry["partitions"]}


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("topic") or entry["name"])


def topic_ids(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, str]:
    """Return the id (KIP-516) of each topic that exists, 32 hexadecimal digits; "" from a broker older than 2.8."""
    found: dict[str, str] = {}
    with translated("look up the ids of topics"):
        for entry in admin.describe_topics(sorted(names)):
            failed = errors.for_code(entry.get("error_code") or 0)
            if failed is errors.UnknownTopicOrPartitionError:
                continue
            if failed is not errors.NoError:
                raise failed(f"describe {_name(entry)}")
            known = uuid.UUID(str(entry.get("topic_id") or _NO_ID))
            found[_name(entry)] = known.hex if known != _NO_ID else ""
    return found


def create(admin: KafkaAdminClient, topics: Iterable[Topic], settings: KafkaSettings) -> list[str]:
    """Create the topics that do not exist and return their names; one that appears meanwhile is fine."""
    user = settings.security.username
    wanted = list(topics)
    existing = partition_counts(admin, [topic.name for topic in wanted])
    new: list[str] = []
    for topic in wanted:
        if topic.name in existing:
            continue
        request = NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=settings.replication or -1,
            topic_configs=topic.config(),
        )
        with translated(f"create topic {topic.name}"):
            try:
                admin.create_topics([request])
            except errors.TopicAlreadyExistsError:
                continue
            except errors.AuthorizationError as error:
                # Not the client's words: they are the whole request and answer, a screen for each topic.
                who = f"the Kafka user {user}" if user else "this Kafka user"
                raise Denied(
                    LogEvent.BROKER_RIGHTS,
                    f"topic {topic.name} does not exist, and {who} may not make it: let one that may run stationkeeper "
                    "check --create once (docs/kafka-rights.md, setup), then start this again",
                ) from error
        new.append(topic.name)
    _wait_until_known(admin, new)
    return new


def _wait_until_known(admin: KafkaAdminClient, names: Collection[str]) -> None:
    """Wait until the broker that answers knows topics that the controller has made a moment ago."""
    deadline = time.monotonic() + _KNOWN_S
    while True:
        missing = set(names) - set(partition_counts(admin, names))
        if not missing:
            return
        if time.monotonic() > deadline:
            raise Retryable(f"{', '.join(sorted(missing))}: created, but not known to the broker after {_KNOWN_S:g} s")
        # A new topic is known within tens of milliseconds, and a look is one small request.
        time.sleep(0.02)


def ensure_internal(settings: KafkaSettings, topics: Topics) -> list[str]:
    """Create our own topics; raises ``Fatal`` when one exists with another number of partitions.

    The partition of a model or an event id is computed from the number of partitions, so it may never change.
    """
    with admin_client(settings) as admin:
        created = create(admin, topics.all(), settings)
        counts = partition_counts(admin, [topic.name for topic in topics.all()])
    wrong = [
        f"{topic.name} has {counts[topic.name]} partitions, must have {topic.partitions}"
        for topic in topics.all()
        if counts.get(topic.name, topic.partitions) != topic.partitions
    ]
    if wrong:
        raise Fatal(
            f"{'; '.join(wrong)}. Keys are placed by this number: delete the topic, or choose another kafka.prefix"
        )
    return created


def input_topic(name: str, *, partitions: int = 3, retention_ms: int = -1) -> Topic:
    """Return an input topic as the demo and ``check --create`` make it.

    The broker stamps its records: a clock that a producer has wrong would call events of the future good. Chosen: three
    partitions, a replica each of a small cluster of three brokers; more can be added, fewer cannot be made of them.
    """
    return Topic(name, partitions, "delete", retention_ms, "event_id", "events", broker_time=True)


def create_missing(settings: KafkaSettings, names: Iterable[str]) -> list[str]:
    """Create the topics that do not exist, as ``input_topic`` makes them; returns all that the broker has now."""
    with admin_client(settings) as admin:
        create(admin, map(input_topic, names), settings)
        with translated("list topics"):
            return sorted(name for name in admin.list_topics() if not name.startswith(("__", f"{settings.prefix}.")))


def dead_letter_for(source: str, source_max_bytes: int = _DEFAULT_MAX_BYTES) -> Topic:
    """Return the dead-letter topic of an input: it takes the source's largest record and our headers."""
    return Topic(
        dead_letter_topic(source),
        1,
        "delete",
        DEAD_LETTER_RETENTION_MS,
        "the record's own",
        "rejected records, byte-identical",
        # The default of kafka.max_message_bytes: a larger record our producers would not send.
        min(source_max_bytes + DEAD_LETTER_SLACK, 64 * MIB),
    )


def _largest_record(admin: KafkaAdminClient, topic: str) -> int:
    return int(topic_config(admin, topic).get("max.message.bytes", _DEFAULT_MAX_BYTES))


def _enlarge(admin: KafkaAdminClient, letters: Topic) -> None:
    """Let an older dead-letter topic take what its source takes by now."""
    name, wanted = "max.message.bytes", letters.max_message_bytes
    # Where that is not ours to see or set, a letter that is too large goes without its value, as it did before.
    with suppress(Fatal):
        if int(topic_config(admin, letters.name).get(name, wanted)) < wanted:
            set_config(admin, letters.name, name, str(wanted))


def ensure_inputs(
    settings: KafkaSettings, inputs: Iterable[str], *, create_inputs: bool, partitions: int = 3
) -> list[str]:
    """Create the inputs' dead-letter topics, and the inputs themselves if asked; returns inputs that are absent."""
    names = sorted(set(inputs))
    with admin_client(settings) as admin:
        if create_inputs:
            create(admin, [input_topic(name, partitions=partitions) for name in names], settings)
        existing = partition_counts(admin, names)
        letters = [dead_letter_for(name, _largest_record(admin, name)) for name in names]
        new = create(admin, letters, settings)
        for letter in letters:
            if letter.name not in new:
                _enlarge(admin, letter)
    return [name for name in names if name not in existing]
