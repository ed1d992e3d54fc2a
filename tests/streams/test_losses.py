"""Where reading begins, and what was gone before: both last over aborts and restarts."""

import pytest

from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import KafkaSettings
from tests.conformance.counting import Counting


class Keeping(Counting):
    """Counts losses with its state, as the tally does."""

    expired = 0

    def lost(self, partition, offset, records):
        self.expired += records

    def revoked(self, partitions):
        super().revoked(partitions)
        self.expired = 0


class Refusing(MemorySink):
    """Takes no transaction while it is told to."""

    refusing = False

    def commit(self, offsets, group, note=""):
        if self.refusing:
            raise Retryable("the broker is away")
        super().commit(offsets, group)


class Bench:
    """One loop over a log of two partitions, turned by hand."""

    def __init__(self, made=Counting, **settings):
        self.log, self.made = MemoryLog(), made
        for topic, partitions in (("in", 2), ("state", 2), ("out", 1)):
            self.log.create(topic, partitions, compacted=topic == "state")
        self.settings = KafkaSettings(flush_interval=0, poll_timeout=0, **settings)
        self.start()

    def start(self):
        log, settings = self.log, self.settings
        self.stage = self.made("in", "state", "out")
        self.sink = Refusing(log, settings, "r")
        self.loop = Loop(self.stage, MemorySource(log, settings, "r"), self.sink, MemoryReader(log), settings)

    def turn(self, times=3):
        for _ in range(times):
            self.loop._attempt(self.loop.turn)

    def send(self, count, partition=0):
        self.log.produce("in", [b"v"] * count, partition=partition)

    def failing(self):
        """Let one transaction fail after its records were absorbed."""
        self.sink.refusing = True
        self.turn(1)
        self.sink.refusing = False

    def expired(self):
        if isinstance(self.stage, Keeping):
            return self.stage.expired
        return sum(s.value for s in self.loop.samples() if s.metric == "stationkeeper_records_expired_total")


@pytest.mark.parametrize("made", [Counting, Keeping])
def test_what_retention_took_around_an_abort_is_counted_once(made):
    bench = Bench(made)
    bench.send(50)
    bench.turn()
    bench.send(1)
    bench.failing()
    bench.send(99)
    bench.log.trim("in", 0, 120)
    bench.turn()
    assert bench.expired() == 70


def test_a_loss_that_was_told_before_an_abort_is_taken_back():
    bench = Bench()
    bench.send(10)
    bench.turn()
    bench.send(20)
    # Gone while reading, and told; the transaction that would have carried it fails.
    bench.log.trim("in", 0, 20)
    bench.failing()
    bench.log.trim("in", 0, 25)
    bench.turn()
    assert bench.expired() == 15
    bench.send(1)
    bench.failing()
    bench.turn()
    assert bench.expired() == 15


def test_a_loss_is_told_once_to_a_stage_that_always_begins_before_its_committed_offset():
    bench = Bench()
    bench.stage.start_offsets = lambda assigned: dict.fromkeys(assigned, 0)
    bench.send(30)
    bench.turn()
    bench.log.trim("in", 0, 20)
    for _ in range(2):
        bench.send(1)
        bench.failing()
        bench.turn()
        assert bench.expired() == 20


def test_what_was_lost_is_committed_though_nothing_comes_behind_it():
    bench = Bench()
    bench.send(10)
    bench.turn()
    bench.send(10)
    bench.log.trim("in", 0, 20)
    bench.turn()
    assert bench.expired() == 10
    bench.start()
    bench.turn()
    assert bench.expired() == 0


def test_latest_skips_the_backlog_of_a_quiet_partition_after_a_restart_too():
    bench = Bench(first_start="latest")
    for partition in (0, 1):
        bench.send(100, partition)
    bench.turn()
    bench.send(5)
    bench.turn()
    bench.start()
    bench.send(5)
    bench.send(1, 1)
    bench.turn()
    assert bench.stage.counts == {Partition("in", 0): 10, Partition("in", 1): 1}
