"""What a broker keeps of a topic: its effective configuration, and how that differs from what we would make."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from stationkeeper.contracts.topics import Topic
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.ports import Reader

# The broker's default segment.ms, a week, for brokers that do not tell theirs.
_SEGMENT_MS = 7 * 86_400_000


def refuse_reshaped(reader: Reader, internal: Mapping[str, int]) -> None:
    """Raise ``Fatal`` where a topic that exists has another number of partitions than ``internal`` says."""
    found = {name: len(reader.partitions(name)) for name in internal}
    wrong = [
        f"{name} has {found[name]} partitions, must have {wanted}"
        for name, wanted in internal.items()
        if found[name] not in {0, wanted}
    ]
    if wrong:
        raise Fatal(
            f"{'; '.join(wrong)}. Keys are placed by this number: delete the topic, or choose another kafka.prefix"
        )


def topic_config(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    """Return the effective configuration of a topic, defaults included; empty when it does not exist."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    with translated(f"read the configuration of {topic}"):
        answer = admin.describe_configs([resource], config_filter="all")
    found = answer.get("topic", {}).get(topic, {})
    return {name: str(entry.get("value")) for name, entry in found.items()}


class KeptSince(NamedTuple):
    """Since when (ms) a topic has lost nothing, and the longest span (ms) of a segment, which is lost as a whole."""

    since_ms: int
    segment_ms: int


def kept_since(kept: Mapping[str, str], now_ms: int) -> KeptSince | None:
    """Return since when a topic of this configuration has lost nothing, None where it does not say by time alone.

    A compacted topic loses what has a successor under its key, which says the same later.
    """
    retention = int(kept.get("retention.ms", -1))
    by_time = "delete" in kept.get("cleanup.policy", "delete") and int(kept.get("retention.bytes", -1)) < 0
    if not by_time or retention < 0:
        return None
    return KeptSince(now_ms - retention, int(kept.get("segment.ms", _SEGMENT_MS)))


def set_config(admin: KafkaAdminClient, topic: str, name: str, value: str) -> None:
    """Set one value of a topic's configuration; raises ``Fatal`` where that is not allowed."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
    with translated(f"set {name} of {topic}"):
        admin.alter_configs([resource])


def differences(topic: Topic, kept: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield what of an existing topic's configuration does harm: the name, the value it has, and the one it needs.

    How long records are kept is left to whoever changed it; ``check`` compares that with what is read back.
    """
    for name, wanted in topic.config().items():
        has = kept.get(name)
        if has is None:
            continue
        match name:
            case "cleanup.policy":
                wrong = set(has.split(",")) != set(wanted.split(","))
            case "max.message.bytes":
                wrong = int(has) < int(wanted)
            case "segment.bytes" | "min.cleanable.dirty.ratio":
                wrong = float(has) > float(wanted)
            case _:
                wrong = False
        if wrong:
            yield name, has, wanted
