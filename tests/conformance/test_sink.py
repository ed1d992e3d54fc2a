import hashlib

import numpy as np
import pytest

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.streams.dead_letters.letters import dead_letter
from stationkeeper.streams.errors import Fatal, Fenced, Retryable, StreamError
from stationkeeper.streams.kafka.topics import DEAD_LETTER_SLACK
from stationkeeper.streams.ports import Batch, Outgoing, Partition
from tests.conformance.worlds import everything, take_over
from tests.waiting import until


def write(sink, records, offsets=None, group=None):
    sink.begin()
    sink.send(records)
    sink.commit(offsets or {}, group)


def test_a_transaction_is_seen_whole_or_not_at_all(world):
    out = world.create("out", 3)
    sink = world.sink(world.settings())
    sink.recover()
    sink.begin()
    sink.send([Outgoing(out, b"1", partition=0), Outgoing(out, b"2", partition=2)])
    reader = world.reader()
    assert all(not len(batch) for batch in reader.follow(reader.partitions(out), {}, 0.2))
    sink.commit({}, None)
    write(sink, [Outgoing(out, None, key=b"gone", partition=1, headers=(("h", b"v"),))])
    sink.begin()
    sink.send([Outgoing(out, b"never", partition=0)])
    sink.abort()
    assert sorted(row[0::2] + row[3:] for row in everything(world, out)) == [
        (0, None, b"1"),
        (1, b"gone", None),
        (2, None, b"2"),
    ]
    (tombstone,) = [batch for batch in reader.read([Partition(out, 1)]) if len(batch)]
    assert list(tombstone.headers) == [(("h", b"v"),)]


@pytest.mark.parametrize(("key", "partition"), [(b"fraud", 0), (b"flights", 5), (b"21", 0)])
def test_keys_go_where_every_kafka_producer_sends_them(world, key, partition):
    out = world.create("out", 6)
    sink = world.sink(world.settings())
    sink.recover()
    write(sink, [Outgoing(out, b"v", key=key)])
    from kafka.partitioner import murmur2

    assert [row[0] for row in everything(world, out)] == [(murmur2(key) & 0x7FFFFFFF) % 6]


def test_a_newer_owner_of_the_slot_fences_the_older(world):
    out = world.create("out", 1)
    zombie, owner = world.sink(world.settings("7")), world.sink(world.settings("7"))
    zombie.recover()
    write(zombie, [Outgoing(out, b"before")])
    zombie.begin()
    zombie.send([Outgoing(out, b"zombie")])
    owner.recover()
    write(owner, [Outgoing(out, b"after")])
    with pytest.raises(Fenced, match=r"kafka\.instance|transactional"):
        zombie.commit({}, None)
    assert [row[3] for row in everything(world, out)] == [b"before", b"after"]


def test_recovering_ends_what_a_dead_owner_left_open_and_does_not_fence_oneself(world):
    out = world.create("out", 1)
    dead, owner = world.sink(world.settings("7")), world.sink(world.settings("7"))
    dead.recover()
    dead.begin()
    dead.send([Outgoing(out, b"half")])
    owner.recover()
    owner.recover()
    write(owner, [Outgoing(out, b"whole")])
    owner.recover()
    write(owner, [Outgoing(out, b"again")])
    assert [row[3] for row in everything(world, out)] == [b"whole", b"again"]


def test_a_member_that_lost_its_partitions_cannot_commit(world):
    topic, out = world.create("in", 2), world.create("out", 1)
    old, sink = world.source(world.settings("a")), world.sink(world.settings("a"))
    old.subscribe([topic])
    take_over(old)
    sink.recover()
    before = old.group()
    write(sink, [Outgoing(out, b"owned")], {Partition(topic, 0): 1}, before)
    new = world.source(world.settings("b"))
    new.subscribe([topic])

    def shared():
        for source in (old, new):
            # As long as a role polls: kafka-python loses the answer to a join that comes as a poll's time runs out.
            source.poll(0.2, 10)
            source.take_rebalance()
        return old.joined() and new.joined() and len(new.assignment()) == 1

    until(shared, "the newcomer has its share", 90)
    sink.begin()
    sink.send([Outgoing(out, b"not owned any more")])
    with pytest.raises(StreamError):
        sink.commit({Partition(topic, 0): 5, Partition(topic, 1): 5}, before)
    sink.abort()
    assert new.committed([Partition(topic, 0), Partition(topic, 1)]) == {Partition(topic, 0): 1}
    assert [row[3] for row in everything(world, out)] == [b"owned"]


def test_a_dead_letter_too_large_for_its_topic_leaves_its_address_and_sum(world):
    topic, value = world.create("in", 1, max_message_bytes="300000"), b"x" * 200_000
    letters = world.create("in.dlq", 1, max_message_bytes="10000")
    world.produce(topic, [b"fine", value], partition=0)
    reader = world.reader()
    (batch,) = [b for b in reader.read([Partition(topic, 0)]) if len(b)]
    sink = world.sink(world.settings())
    sink.recover()
    letter = dead_letter(batch, 1, DeadLetterCode.NOT_JSON, "tally")
    # lz4 would make the repeated byte small, so the value must not compress.
    letter = letter._replace(value=hashlib.shake_256(value).digest(200_000))
    with pytest.raises(Retryable):
        write(sink, [letter])
    sink.abort()
    write(sink, [letter])
    (found,) = [b for b in reader.read([Partition(letters, 0)]) if len(b)]
    headers = dict(found.headers[0])
    assert found.values == (None,)
    assert headers["stationkeeper.error.code"] == b"oversize"
    assert headers["stationkeeper.error.detail"] == b"not_json"
    assert headers["stationkeeper.topic"] == topic.encode()
    assert headers["stationkeeper.offset"] == b"1"
    assert headers["stationkeeper.value.sha256"] == hashlib.sha256(letter.value or b"").hexdigest().encode()


def test_any_other_record_too_large_for_its_topic_is_fatal_and_names_it(world):
    out = world.create("out", 1, max_message_bytes="10000")
    sink = world.sink(world.settings())
    sink.recover()
    with pytest.raises(Fatal, match=rf"{out} refused a record of 50000 bytes"):
        write(sink, [Outgoing(out, hashlib.shake_256(b"").digest(50_000))])
    sink.abort()
    assert everything(world, out) == []


@pytest.mark.parametrize(
    ("source_limit", "size", "count"),
    # As `check` makes a dead-letter topic, and one whose limit is below that of a producer's batch.
    [(50_000, 20_000, 40), (10_000 - DEAD_LETTER_SLACK, 4_000, 12)],
)
def test_dead_letters_that_each_fit_are_written_whole_whatever_they_come_to_together(world, source_limit, size, count):
    topic = world.create("in", 1)
    letters = world.create("in.dlq", 1, max_message_bytes=str(source_limit + DEAD_LETTER_SLACK))
    values = tuple(hashlib.shake_256(bytes([n])).digest(size) for n in range(count))
    at = np.arange(count)
    batch = Batch(Partition(topic, 0), at, at + 1_700_000_000_000, (None,) * count, values, count)
    poison = [dead_letter(batch, row, DeadLetterCode.NOT_JSON, "tally") for row in range(count)]
    sink = world.sink(world.settings())
    sink.recover()
    for _ in range(2):
        try:
            write(sink, poison)
        except Retryable:
            # Once, by a client that cannot say which record of a batch the broker refused.
            sink.abort()
        else:
            break
    assert [row[3] for row in everything(world, letters)] == list(values)
