from stationkeeper.streams.ports import Partition
from tests.conformance.worlds import KafkaWorld, poll_rows, rows, take_over
from tests.waiting import until


def test_records_come_as_columns_with_everything_they_carry(world):
    topic = world.create("in", 1)
    world.produce(
        topic,
        [b"a", b"", None],
        keys=[b"k", None, b"t"],
        partition=0,
        headers=[(("h", b"1"), ("h", b"2")), (), (("x", b""),)],
    )
    source = world.source(world.settings())
    source.subscribe([topic])
    assert take_over(source) == {Partition(topic, 0)}
    (batch,) = until(lambda: [b for b in source.poll(0.05, 100) if len(b)], "a batch")
    assert batch.partition == Partition(topic, 0)
    assert (list(batch.keys), list(batch.values)) == ([b"k", None, b"t"], [b"a", b"", None])
    assert (batch.offsets.tolist(), batch.offsets.dtype) == ([0, 1, 2], "int64")
    assert list(batch.headers) == [(("h", b"1"), ("h", b"2")), (), (("x", b""),)]
    assert batch.next_offset == 3
    assert batch.timestamps.min() > 1_600_000_000_000


def test_a_partition_gives_nothing_before_its_first_seek(world):
    topic = world.create("in", 1)
    world.produce(topic, [b"a"], partition=0)
    source = world.source(world.settings())
    source.subscribe([topic])
    until(lambda: source.poll(0.05, 10) == [] and source.joined(), "joined")
    for _ in range(5):
        assert source.poll(0.05, 10) == []
    source.take_rebalance()
    source.seek(Partition(topic, 0), 0)
    assert poll_rows(source, 1) == [(0, 0, None, b"a")]


def test_what_is_held_gives_nothing_until_it_is_sought_again(world):
    topic = world.create("in", 2)
    source = world.source(world.settings())
    source.subscribe([topic])
    take_over(source)
    world.produce(topic, [b"a"], partition=0)
    world.produce(topic, [b"b"], partition=1)
    source.hold([Partition(topic, 0)])
    assert poll_rows(source, 1) == [(1, 0, None, b"b")]
    for _ in range(5):
        assert rows(source.poll(0.05, 10)) == []
    source.seek(Partition(topic, 0), 0)
    assert poll_rows(source, 1) == [(0, 0, None, b"a")]


def test_a_topic_that_is_created_anew_has_another_id_and_one_that_is_gone_has_none(world):
    topic, other = world.create("in", 1), world.create("other", 1)
    source = world.source(world.settings())
    source.subscribe([topic])
    before = source.topic_ids([topic, other, f"{topic}.none"])
    assert before.keys() == {topic, other}
    assert len({*before.values()}) == 2
    assert all(len(one) == 32 for one in before.values())
    world.delete(topic)
    until(lambda: source.topic_ids([topic, other]) == {other: before[other]}, "gone")
    world.create("in", 1)
    after = until(lambda: source.topic_ids([topic]).get(topic), "back")
    assert after not in before.values()


def test_seek_goes_anywhere_and_a_poll_takes_no_more_than_asked(world):
    topic = world.create("in", 1)
    world.produce(topic, [b"%d" % i for i in range(50)], partition=0)
    source = world.source(world.settings())
    source.subscribe([topic])
    take_over(source, {Partition(topic, 0): 40})
    first = until(lambda: rows(source.poll(0.05, 3)), "records")
    assert len(first) <= 3
    assert [offset for _, offset, _, _ in first + poll_rows(source, 10 - len(first))] == list(range(40, 50))
    source.seek(Partition(topic, 0), 48)
    assert [offset for _, offset, _, _ in poll_rows(source, 2)] == [48, 49]


def test_aborted_records_are_never_seen_and_positions_pass_the_markers(world):
    topic = world.create("in", 1)
    sink = world.sink(world.settings(), "writer")
    from stationkeeper.streams.ports import Outgoing

    sink.recover()
    for value, keep in ((b"a", True), (b"lost", False), (b"b", True), (b"lost too", False)):
        sink.begin()
        sink.send([Outgoing(topic, value, partition=0)])
        if keep:
            sink.commit({}, None)
        else:
            # A client drops what it has not sent yet: only what the broker holds can be seen.
            if isinstance(world, KafkaWorld):
                sink._client.flush()
            sink.abort()
    source = world.source(world.settings())
    source.subscribe([topic])
    take_over(source)
    seen = poll_rows(source, 2)
    assert [value for _, _, _, value in seen] == [b"a", b"b"]
    partition = Partition(topic, 0)
    end = source.bounds([partition])[partition][1]
    assert end > seen[-1][1] + 1
    reached: list[int] = []

    def at_the_end():
        reached.extend(batch.next_offset for batch in source.poll(0.05, 10))
        return reached and reached[-1] == end

    if not world.prefix or reached != [end]:
        # The move past the last marker comes with the last record or as a batch without records.
        source.seek(partition, 0)
        until(at_the_end, "the position is past the last marker")


def test_offsets_are_committed_with_a_transaction_and_read_by_the_group(world):
    topic = world.create("in", 2)
    source, sink = world.source(world.settings()), world.sink(world.settings())
    source.subscribe([topic])
    take_over(source)
    both = [Partition(topic, 0), Partition(topic, 1)]
    assert source.committed(both) == {}
    sink.recover()
    sink.begin()
    sink.commit({both[0]: 7}, source.group())
    assert source.committed(both) == {both[0]: 7}


def test_retention_is_counted_and_does_not_stop_the_reading(world):
    topic = world.create("in", 1)
    world.produce(topic, [b"%d" % i for i in range(10)], partition=0)
    world.trim(topic, 0, 6)
    source = world.source(world.settings())
    source.subscribe([topic])
    partition = Partition(topic, 0)
    take_over(source, {partition: 0})
    assert [offset for _, offset, _, _ in poll_rows(source, 4)] == [6, 7, 8, 9]
    assert source.expired() == {partition: 6}
    assert source.bounds([partition]) == {partition: (6, 10)}


def test_two_members_share_without_overlap_and_say_so_once(world):
    topic = world.create("in", 4)
    one, two = world.source(world.settings("a")), world.source(world.settings("b"))
    one.subscribe([topic])
    assert len(take_over(one)) == 4
    one.take_rebalance()
    assert not one.take_rebalance()
    two.subscribe([topic])
    changes = {"a": 0, "b": 0}

    def shared():
        for name, source in (("a", one), ("b", two)):
            source.poll(0.05, 10)
            changes[name] += source.take_rebalance()
        return one.joined() and two.joined() and len(one.assignment()) == len(two.assignment()) == 2

    until(shared, "two partitions each")
    assert one.assignment() | two.assignment() == {Partition(topic, index) for index in range(4)}
    assert not one.assignment() & two.assignment()
    assert changes["a"] >= 1
    assert changes["b"] >= 1
    assert not one.take_rebalance()
