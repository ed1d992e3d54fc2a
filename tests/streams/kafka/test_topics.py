import uuid
from dataclasses import replace

import pytest

from stationkeeper.contracts.topics import Topics
from stationkeeper.streams.errors import Fatal, Retryable
from stationkeeper.streams.kafka.topic_config import differences, kept_since, set_config, topic_config
from stationkeeper.streams.kafka.topics import (
    _wait_until_known,
    admin_client,
    create,
    dead_letter_for,
    ensure_inputs,
    ensure_internal,
    input_topic,
    partition_counts,
)
from stationkeeper.streams.settings import KafkaSettings


@pytest.fixture
def settings(kafka):
    return KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"t{uuid.uuid4().hex[:8]}")


@pytest.mark.broker
def test_our_topics_are_created_once_compacted_and_small_in_segments(settings):
    topics = Topics(settings.prefix)
    assert ensure_internal(settings, topics) == [topic.name for topic in topics.all()]
    assert ensure_internal(settings, topics) == []
    with admin_client(settings) as admin:
        found = topic_config(admin, topics.judge_state.name)
    assert found["cleanup.policy"] == "compact"
    assert found["segment.bytes"] == str(8 * 1024 * 1024)
    assert float(found["min.cleanable.dirty.ratio"]) == 0.1


@pytest.mark.broker
def test_a_topic_of_another_width_is_refused_by_name_and_numbers(settings):
    topics = Topics(settings.prefix)
    with admin_client(settings) as admin:
        create(admin, [input_topic(topics.panes.name, partitions=2)], settings)
    with pytest.raises(Fatal, match=rf"{topics.panes.name} has 2 partitions, must have {topics.panes.partitions}"):
        ensure_internal(settings, topics)


@pytest.mark.broker
def test_inputs_get_dead_letter_topics_that_take_their_largest_record(settings):
    name = f"{settings.prefix}.in"
    large = f"{settings.prefix}.large"
    with admin_client(settings) as admin:
        create(admin, [replace(input_topic(large), max_message_bytes=3_000_000)], settings)
    ensure_inputs(settings, [name, large], create_inputs=True, partitions=2)
    assert ensure_inputs(settings, [name, large], create_inputs=False) == []
    with admin_client(settings) as admin:
        # A clock that a producer has wrong must not decide which events lie in the future.
        assert topic_config(admin, name)["message.timestamp.type"] == "LogAppendTime"
        assert int(topic_config(admin, f"{large}.dlq")["max.message.bytes"]) == 3_000_000 + 64 * 1024
        assert int(topic_config(admin, f"{name}.dlq")["max.message.bytes"]) >= (
            int(topic_config(admin, name)["max.message.bytes"]) + 64 * 1024
        )


def test_the_dead_letter_topic_of_a_large_topic_is_larger():
    assert dead_letter_for("t", 10_000_000).max_message_bytes == 10_000_000 + 65_536


def test_an_unreachable_broker_is_retryable_and_named():
    nowhere = KafkaSettings(bootstrap="127.0.0.1:1", connect_timeout=300)
    with pytest.raises(Retryable, match=r"connect to Kafka at 127\.0\.0\.1:1"), admin_client(nowhere):
        raise AssertionError("there is no broker")


@pytest.mark.broker
def test_inputs_that_are_absent_are_returned_and_have_their_dead_letter_topic_nevertheless(settings):
    name = f"{settings.prefix}.absent"
    assert ensure_inputs(settings, [name, name], create_inputs=False) == [name]
    with admin_client(settings) as admin:
        assert partition_counts(admin, [name, f"{name}.dlq"]) == {f"{name}.dlq": 1}


class LaggingAdmin:
    """A cluster in which the broker that answers knows a new topic's name before its partitions."""

    def __init__(self) -> None:
        self.asked = 0

    def list_topics(self) -> list[str]:
        return ["old", "new"]

    def describe_topics(self, names: list[str]) -> list[dict[str, object]]:
        self.asked += 1
        known: dict[str, list[object]] = {"old": [{}, {}], "new": [{}] if self.asked > 3 else []}
        return [{"name": name, "partitions": known[name]} for name in names]


def test_a_topic_whose_partitions_a_broker_does_not_know_yet_is_not_called_wrong():
    admin = LaggingAdmin()
    assert partition_counts(admin, ["old", "new"]) == {"old": 2}
    _wait_until_known(admin, ["new"])
    assert partition_counts(admin, ["new"]) == {"new": 1}


def test_what_does_harm_in_a_topic_that_someone_else_made_is_told():
    state, panes = Topics("t").tally_state, Topics("t").panes
    assert list(differences(state, state.config())) == []
    assert list(differences(state, {})) == []
    made = {"cleanup.policy": "delete", "segment.bytes": "1073741824", "retention.ms": "1", "max.message.bytes": "9"}
    assert list(differences(state, made)) == [
        ("cleanup.policy", "delete", "compact"),
        ("max.message.bytes", "9", "1048576"),
        ("segment.bytes", "1073741824", "8388608"),
    ]
    better = {"max.message.bytes": "2000000", "retention.ms": "-1", "cleanup.policy": "delete", "segment.bytes": "9"}
    assert list(differences(panes, better)) == []


@pytest.mark.broker
def test_a_dead_letter_topic_grows_with_its_source_and_never_shrinks(settings):
    name = f"{settings.prefix}.in"
    ensure_inputs(settings, [name], create_inputs=True, partitions=1)
    for largest, expected in (("3000000", 3_065_536), ("2000000", 3_065_536)):
        with admin_client(settings) as admin:
            set_config(admin, name, "max.message.bytes", largest)
        ensure_inputs(settings, [name], create_inputs=False)
        with admin_client(settings) as admin:
            found = topic_config(admin, f"{name}.dlq")
        assert int(found["max.message.bytes"]) == expected
        # Of the rest nothing was set back to the broker's default.
        assert found["retention.ms"] == str(14 * 86_400_000)


@pytest.mark.parametrize(
    ("kept", "since"),
    [
        ({"retention.ms": "1000", "cleanup.policy": "delete", "retention.bytes": "-1"}, (9_000, 7 * 86_400_000)),
        ({"retention.ms": "1000", "cleanup.policy": "compact,delete", "segment.ms": "500"}, (9_000, 500)),
        ({"retention.ms": "1000", "cleanup.policy": "compact"}, None),
        ({"retention.ms": "1000", "retention.bytes": "500"}, None),
        ({"retention.ms": "-1"}, None),
        ({}, None),
    ],
)
def test_a_topic_has_lost_nothing_of_its_retention_where_time_alone_cuts_it(kept, since):
    assert kept_since(kept, 10_000) == since
