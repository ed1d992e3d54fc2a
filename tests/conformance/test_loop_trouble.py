"""A loop in trouble: stopping, losing partitions, a dead-letter topic that takes nothing, a narrow line."""

import json

import pytest
from structlog.testing import capture_logs

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.dead_letters.letters import DeadLetterRefused, dead_letter
from stationkeeper.streams.errors import Retryable, TopicReplaced
from stationkeeper.streams.ports import Outgoing, Partition
from tests.conformance.counting import Setting
from tests.conformance.worlds import ConfluentWorld, KafkaWorld, MemoryWorld, everything
from tests.waiting import until


def test_a_loop_that_stops_is_not_called_ready(setting):
    setting.send(10, 0)
    with capture_logs() as logs:
        run = setting.start(flush_interval="1h")
        until(lambda: sum(run.stage.counts.values()) == 10, "absorbed, and never flushed before the stop")
        run.stop()
    events = [line["event"] for line in logs]
    assert len(setting.addresses()) == 10
    assert LogEvent.READY not in events[events.index(LogEvent.STOPPING) :]
    assert run.loop.reasons() == ("stopping",)


def test_a_rebalance_tells_what_is_taken_away_and_an_abort_does_not(world):
    setting = Setting(world)
    try:
        with capture_logs() as logs:
            one = setting.start("a", poll_timeout="200ms")
            until(one.loop.ready, "ready")
            assert LogEvent.PARTITIONS_REVOKED not in [line["event"] for line in logs]
            two = setting.start("b", poll_timeout="200ms")
            until(lambda: len(one.stage.counts) == len(two.stage.counts) == 1, "one partition each")
        told = [line["partitions"] for line in logs if line["event"] == LogEvent.PARTITIONS_REVOKED]
        assert told[0] == [f"{setting.topic}/0", f"{setting.topic}/1"]
    finally:
        setting.close()


def letters_for(setting, topic):
    """Return a stage that writes each bad record to a dead-letter topic."""
    stage = setting.stage()
    out: list[Outgoing] = []
    absorb, flush = stage.absorb, stage.flush

    def absorbing(batch):
        absorb(batch)
        bad = [row for row, value in enumerate(batch.values) if value == b"bad"]
        out.extend(dead_letter(batch, row, DeadLetterCode.NOT_JSON, "counting") for row in bad)

    def flushing(now_ms):
        found, out[:] = list(out), []
        return [*(letter._replace(topic=topic) for letter in found), *flush(now_ms)]

    def revoked(partitions):
        out.clear()
        stage.counts, stage.written = {}, []

    stage.absorb, stage.flush, stage.revoked = absorbing, flushing, revoked
    return stage


def test_a_dead_letter_topic_that_is_gone_is_named_and_waited_for(setting):
    gone = f"{setting.world.prefix}.in.dlq"
    with capture_logs() as logs:
        run = setting.start(stage=letters_for(setting, gone), transaction_timeout="1s", request_timeout="900ms")
        setting.send(5, 0)
        until(lambda: run.stage.durable == 5, "good records")
        setting.send(1, 0, b"bad")
        until(lambda: LogEvent.DEAD_LETTER_UNWRITABLE in [line["event"] for line in logs], "the log says it")
        assert any(gone in reason for reason in run.loop.reasons())
        assert len(setting.addresses()) == 5
    setting.world.create("in.dlq", 1)
    setting.settled()
    assert [row[3] for row in everything(setting.world, gone)] == [b"bad"]


def test_a_topic_of_our_own_that_is_another_than_before_ends_the_loop(setting):
    """What the new one would be given lacks all that the old one held."""
    with capture_logs() as logs:
        run = setting.start(internal={setting.state: 4})
        setting.send(5, 0)
        until(lambda: run.stage.durable == 5, "counted, and written to the topic of states")
        setting.world.delete(setting.state)
        setting.world.create("state", 4, cleanup_policy="compact")
        until(lambda: not run.thread.is_alive(), "the loop ends")
    assert isinstance(run.error, TopicReplaced)
    assert setting.state in str(run.error)
    assert setting.counted() == {}
    assert LogEvent.TOPIC_REPLACED in [line["event"] for line in logs]
    setting.sent = {}
    again = setting.start(internal={setting.state: 4})
    until(again.loop.ready, "it was told once, and begins with what the new one holds")


def told_at_the_next_start_once(world, replaced):
    setting = Setting(world)
    try:
        table = world.create("table", 1, cleanup_policy="compact")
        own = {setting.state: 4, setting.topic: 2, table: 1}
        first = setting.start(internal=own, stage=setting.stage(table=table))
        setting.send(5, 0)
        until(lambda: first.stage.durable == 5, "counted, and written to the topic of states")
        first.stop()
        again = setting.start(internal=own, stage=setting.stage(table=table))
        until(again.loop.ready, "the same topics as before")
        again.stop()
        name = f"{world.prefix}.{replaced}"
        world.delete(name)
        until(lambda: not world.reader().partitions(name), "gone")
        world.create(replaced, own[name], cleanup_policy="delete" if replaced == "in" else "compact")
        with capture_logs() as logs:
            second = setting.start(internal=own, stage=setting.stage(table=table))
            until(lambda: not second.thread.is_alive(), "the loop ends")
        assert isinstance(second.error, TopicReplaced)
        assert name in str(second.error)
        assert LogEvent.TOPIC_REPLACED in [line["event"] for line in logs]
        third = setting.start(internal=own, stage=setting.stage(table=table))
        until(third.loop.ready, "it begins with what the new one holds")
        third.stop()
    finally:
        setting.close()


@pytest.mark.parametrize("replaced", ["state", "table", "in"])
def test_a_topic_of_our_own_that_was_replaced_while_no_role_ran_is_told_at_the_next_start_once(replaced):
    """Whichever of them it is, the others tell of it."""
    told_at_the_next_start_once(MemoryWorld(), replaced)


@pytest.mark.broker
def test_a_real_broker_keeps_the_note_and_the_other_client_can_read_beside_it(kafka):
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    world = KafkaWorld(kafka.bootstrap)
    told_at_the_next_start_once(world, "state")
    other = ConfluentWorld(kafka.bootstrap)
    settings = world.settings().model_copy(update={"client": "librdkafka"})
    source = other.source(settings, "counting")
    try:
        source.subscribe([f"{world.prefix}.in"])
        asked = [Partition(f"{world.prefix}.in", 0), Partition(f"{world.prefix}.table", 0)]
        # Many times, for what it read past the end was chance.
        for _ in range(50):
            assert source.committed(asked) == {asked[0]: 5, asked[1]: 0}
            assert all(json.loads(note)["topics"].keys() >= {asked[1].topic} for note in source.notes(asked))
    finally:
        other.close()
        world.close()


def test_a_topic_of_our_own_that_is_gone_is_named_and_nothing_is_committed(setting):
    run = setting.start(internal={setting.state: 4})
    until(run.loop.ready, "ready")
    setting.world.delete(setting.state)
    until(lambda: any(f"{setting.state}: deleted" in reason for reason in run.loop.reasons()), "the reason says it")
    assert not run.loop.ready()


def test_a_dead_letter_topic_that_takes_not_even_the_address_stops_the_loop(setting):
    letters = setting.world.create("in.dlq", 1, max_message_bytes="100")
    # The headers alone are larger than that.
    stage = letters_for(setting, letters)
    with capture_logs() as logs:
        run = setting.start(stage=stage)
        setting.send(5, 0)
        until(lambda: run.stage.durable == 5, "good records")
        setting.send(1, 0, b"bad")
        run.thread.join(30)
    assert isinstance(run.error, DeadLetterRefused)
    assert "max.message.bytes" in str(run.error)
    assert LogEvent.DEAD_LETTER_UNWRITABLE in [line["event"] for line in logs]
    assert len(setting.addresses()) == 5


def test_records_that_came_are_committed_though_news_of_the_others_fails(setting):
    run = setting.start(flush_interval="1500ms")
    until(run.loop.ready, "ready")
    bounds, refused = run.loop._source.bounds, []

    def telling(partitions):
        # As on a narrow line, where the answer waits behind the records that are being fetched.
        if run.loop._positions.uncommitted:
            refused.append(1)
            raise Retryable("no answer")
        return bounds(partitions)

    run.loop._source.bounds = telling
    with capture_logs() as logs:
        while not refused:
            setting.send(10, 0)
            until(lambda: refused or run.stage.durable == sum(setting.sent.values()), "asked, or committed")
        setting.settled()
    assert LogEvent.TRANSACTION_ABORTED not in [line["event"] for line in logs]
