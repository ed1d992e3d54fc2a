import threading

from stationkeeper.streams.ports import Outgoing, Partition
from tests.conformance.worlds import rows
from tests.waiting import until


def test_a_topic_that_does_not_exist_has_no_partitions(world):
    assert world.reader().partitions(f"{world.prefix}.nothing") == ()


def test_everything_is_read_in_order_to_the_end_and_no_further(world):
    topic = world.create("t", 2)
    world.produce(topic, [b"%d" % i for i in range(30)], partition=0)
    world.produce(topic, [b"x"], partition=1)
    reader = world.reader()
    partitions = reader.partitions(topic)
    assert partitions == (Partition(topic, 0), Partition(topic, 1))
    assert reader.bounds(partitions) == {Partition(topic, 0): (0, 30), Partition(topic, 1): (0, 1)}
    reading = reader.read(partitions)
    batches = list(reading)
    assert [row for row in rows(batches) if row[0] == 0] == [(0, i, None, b"%d" % i) for i in range(30)]
    assert [row for row in rows(batches) if row[0] == 1] == [(1, 0, None, b"x")]
    assert rows(list(reader.read(partitions, {Partition(topic, 0): 28, Partition(topic, 1): 1}))) == [
        (0, 28, None, b"28"),
        (0, 29, None, b"29"),
    ]
    assert list(reader.read([])) == []


def test_a_start_below_what_retention_left_begins_at_what_is_left(world):
    topic = world.create("t", 1)
    world.produce(topic, [b"%d" % i for i in range(10)], partition=0)
    world.trim(topic, 0, 8)
    reader = world.reader()
    assert [row[1] for row in rows(list(reader.read(reader.partitions(topic), {Partition(topic, 0): 2})))] == [8, 9]


def test_a_transaction_open_at_the_call_is_waited_for(world):
    topic = world.create("t", 1)
    sink = world.sink(world.settings(), "writer")
    sink.recover()
    sink.begin()
    sink.send([Outgoing(topic, b"soon", partition=0)])
    began = threading.Event()

    def commit():
        began.wait()
        sink.commit({}, None)

    other = threading.Thread(target=commit)
    other.start()
    try:
        reader = world.reader()
        partitions = reader.partitions(topic)
        began.set()

        # The in-memory log shows a transaction only when it ends; a broker holds the reader until then.
        found = until(lambda: rows(list(reader.read(partitions))), "the record")
        assert [row[3] for row in found] == [b"soon"]
    finally:
        began.set()
        other.join()


def test_a_table_is_followed_from_where_it_stands(world):
    topic = world.create("t", 2, cleanup_policy="compact")
    world.produce(topic, [b"1"], keys=[b"k"], partition=0)
    reader = world.reader()
    partitions = reader.partitions(topic)
    positions: dict[Partition, int] = {}
    seen: list[tuple[int, int, bytes | None, bytes | None]] = []

    def follow(count):
        def enough():
            seen.extend(rows(reader.follow(partitions, positions, 0.05)))
            return len(seen) >= count

        until(enough, f"{count} records")

    follow(1)
    world.produce(topic, [b"2", None], keys=[b"k", b"gone"], partition=1)
    follow(3)
    assert seen == [(0, 0, b"k", b"1"), (1, 0, b"k", b"2"), (1, 1, b"gone", None)]
    assert positions == {Partition(topic, 0): 1, Partition(topic, 1): 2}
    # Reading something else meanwhile does not lose the place.
    assert len(rows(list(reader.read(partitions)))) == 3
    assert reader.follow(partitions, positions, 0.05) == []
