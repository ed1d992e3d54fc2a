"""Our own topics by their ids, over the log in memory: what is noted, and what is told at the next start."""

import pytest

from stationkeeper.streams.errors import TopicReplaced
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemorySink, MemorySource
from stationkeeper.streams.own_topics import OwnTopics
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import KafkaSettings


def test_a_topic_that_appears_after_the_start_is_noted_with_the_next_transaction():
    log, settings = MemoryLog(), KafkaSettings(prefix="own")
    log.create("in")
    log.create("state")
    source, sink = MemorySource(log, settings, "judge"), MemorySink(log, settings, "judge")
    source.subscribe(["in"])
    source.poll(0, 1)
    names = ["state", "late"]
    own = OwnTopics(source, lambda: 7)
    own.begin(names, [Partition("in", 0)])
    sink.begin()
    sink.commit(own.carried({Partition("in", 0): 0}), source.group(), own.note)
    own.settled()
    assert own.carried({}) == {}
    log.create("late")
    own._looked = float("-inf")
    own.check(names)
    carried = own.carried({})
    assert Partition("late", 0) in carried
    sink.begin()
    sink.commit(carried, source.group(), own.note)
    own.settled()
    assert own.carried({}) == {}
    # No role runs while it is replaced: the next start knows of it.
    log.delete("late")
    log.create("late")
    with pytest.raises(TopicReplaced, match="late"):
        OwnTopics(source, lambda: 8).begin(names, [Partition("in", 0)])


def test_a_topic_that_is_gone_while_a_role_begins_anew_keeps_its_id():
    log, settings = MemoryLog(), KafkaSettings(prefix="own")
    log.create("in")
    log.create("state")
    source = MemorySource(log, settings, "judge")
    source.subscribe(["in"])
    source.poll(0, 1)
    # Nothing is ever noted beside the offsets, as over a client that writes no notes.
    own = OwnTopics(source, lambda: 7)
    own.begin(["state"], [Partition("in", 0)])
    log.delete("state")
    own.begin(["state"], [Partition("in", 0)])
    log.create("state")
    with pytest.raises(TopicReplaced, match="state"):
        own.begin(["state"], [Partition("in", 0)])
