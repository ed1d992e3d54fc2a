"""Records that retention took unread are part of a partition's committed totals, and a topic made anew is refused."""

from dataclasses import replace

import pytest

from stationkeeper.contracts.status import check
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.settings import KafkaSettings
from tests.monitor.rig import TOPICS, Rig, fraud, predictions


def expired(rig: Rig, role: str = "tally") -> tuple[list[int], list[float]]:
    """The expired counts of the status and of the metrics."""
    loop = rig.loops[role]
    check(dict(loop.status()))
    rows = [row["expired"] for row in loop.status()["conservation"] if row["topic"] == "scores"]
    return rows, [s.value for s in loop.samples() if s.metric == "stationkeeper_records_expired_total"]


def test_what_retention_took_is_counted_with_the_partition_through_restarts_and_takeover() -> None:
    rig = Rig({"fraud": fraud()})
    rig.send("scores", predictions(2, 50), partition=0)
    rig.turn(3)
    assert expired(rig) == ([0, 0], [])
    rig.send("scores", predictions(2, 50, first=500), partition=0)
    rig.log.trim("scores", 0, 130)
    rig.start("tally")
    rig.turn(3)
    assert expired(rig) == ([30, 0], [30])
    row = rig.loops["tally"].status()["conservation"][2]
    assert (row["received"], row["tallied"]) == (170, 170)
    # While it reads, and then with another owner.
    rig.send("scores", predictions(2, 50, first=900), partition=0)
    rig.log.trim("scores", 0, 240)
    rig.turn(3)
    assert expired(rig) == ([70, 0], [70])
    rig.loops.pop("tally").close()
    rig.start("tally", "1")
    rig.turn(3)
    assert expired(rig, "tally-1") == ([70, 0], [70])


def test_what_is_gone_with_nothing_behind_it_is_counted_once_however_often_it_starts() -> None:
    rig = Rig({"fraud": fraud()})
    rig.send("scores", predictions(2, 50), partition=0)
    rig.turn(3)
    rig.loops.pop("tally").close()
    rig.send("scores", predictions(2, 50, first=500), partition=0)
    rig.log.trim("scores", 0, 200)
    for _ in range(3):
        rig.start("tally")
        rig.turn(3)
        assert expired(rig) == ([100, 0], [100])
        rig.loops.pop("tally").close()


def test_an_internal_topic_of_another_shape_stops_the_role_before_it_reads() -> None:
    log = MemoryLog()
    for topic in TOPICS.all():
        log.create(replace(topic, partitions=topic.partitions + 1) if topic is TOPICS.panes else topic)
    log.create("scores", 1)
    settings = KafkaSettings(prefix=TOPICS.prefix)
    internal = {topic.name: topic.partitions for topic in TOPICS.all()}
    stage = Tally({"fraud": fraud(labels=None)}, TOPICS)
    source, sink = MemorySource(log, settings, "tally"), MemorySink(log, settings, "tally")
    loop = Loop(stage, source, sink, MemoryReader(log), settings, internal=internal)
    with pytest.raises(Fatal, match=r"rig\.panes has 7 partitions, must have 6.*another kafka\.prefix"):
        loop.turn()
    assert log.groups == {}
