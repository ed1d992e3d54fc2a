"""What a role does while no broker answers: it says so, is not ready, lives, tries again, and stops when asked."""

import threading

import pytest
from structlog.testing import capture_logs

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.broker.local import free_ports
from stationkeeper.streams.connect import reader_for, sink_for, source_for
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.settings import KafkaSettings
from tests.conformance.counting import Counting
from tests.waiting import until


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_without_a_broker_at_the_start_the_loop_waits_and_names_the_address(client):
    address = f"127.0.0.1:{free_ports(1)[0]}"
    settings = KafkaSettings(bootstrap=address, client=client, connect_timeout=300, request_timeout=500)
    stage = Counting("in", "state", "out", table="table")
    loop = Loop(stage, source_for(settings, "r"), sink_for(settings, "r"), reader_for(settings, "r"), settings)
    stop = threading.Event()
    with capture_logs() as logs:
        thread = threading.Thread(target=loop.run, args=(stop,))
        thread.start()
        told = [line for line in logs if line["event"] == LogEvent.BROKER_UNREACHABLE]
        until(lambda: sum(line["event"] == LogEvent.BROKER_UNREACHABLE for line in logs) >= 2, "two attempts")
        assert not loop.ready()
        assert loop.live()
        assert address in " ".join(loop.reasons())
        stop.set()
        thread.join(30)
        told = [line for line in logs if line["event"] == LogEvent.BROKER_UNREACHABLE]
    assert not thread.is_alive()
    assert stage.closed
    assert [line["attempt"] for line in told] == list(range(1, len(told) + 1))


def test_a_broker_that_goes_and_comes_back_takes_readiness_with_it_and_nothing_else():
    log = MemoryLog()
    for topic in ("in", "out"):
        log.create(topic)
    log.create("state", 1, compacted=True)
    settings = KafkaSettings(prefix="p", flush_interval=0, poll_timeout=10, session_timeout=100)
    stage = Counting("in", "state", "out")
    loop = Loop(stage, MemorySource(log, settings, "r"), MemorySink(log, settings, "r"), MemoryReader(log), settings)
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        log.produce("in", [b"1", b"2"])
        until(lambda: stage.durable == 2, "two records")
        assert loop.ready()
        log.available = False
        until(lambda: not loop.ready(), "not ready")
        assert loop.live()
        log.produce("in", [b"3"])
        log.available = True
        until(lambda: stage.durable == 3 and loop.ready(), "the third, and ready")
    finally:
        stop.set()
        thread.join(30)
    assert list(log.at(log.partitions("out")[0]).values) == [b"0/0", b"0/1", b"0/2"]
