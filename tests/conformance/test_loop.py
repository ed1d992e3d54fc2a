import threading

import pytest
from structlog.testing import capture_logs

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.errors import Fenced, Retryable
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import DeadLetterSettings
from tests.conformance.counting import Setting
from tests.waiting import until


def test_every_record_is_counted_once_and_a_stop_leaves_nothing_behind(setting):
    setting.send(300, 0)
    run = setting.start()
    until(run.loop.ready, "ready")
    setting.send(200, 1)
    until(lambda: run.stage.durable == 500, "500 records")
    setting.send(50, 1)
    # What a stop finds unread is the next owner's to count; what it finds absorbed must be written.
    until(lambda: sum(run.stage.counts.values()) == 550, "550 absorbed")
    run.stop()
    assert run.error is None
    assert run.stage.closed
    again = setting.start()
    setting.settled()
    until(lambda: again.stage.restored, "the state is read back")
    assert again.stage.restored[-1] == {b"0": b'{"count": 300}', b"1": b'{"count": 250}'}
    setting.send(1, 0)
    until(lambda: again.loop.status() == {"role": "counting", "counted": 551}, "the status after a commit")


def test_what_is_absorbed_when_the_stop_comes_is_written_before_the_end(setting):
    setting.send(100, 0)
    run = setting.start(flush_interval="1h")
    until(lambda: sum(run.stage.counts.values()) == 100, "absorbed")
    assert setting.addresses() == []
    run.stop()
    assert len(setting.addresses()) == 100


def test_aborted_transactions_leave_no_trace(setting):
    setting.send(100, 0)
    run = setting.start()
    until(lambda: run.stage.durable == 100, "a first commit")
    sink, failures = run.loop._sink, [0]
    commit = sink.commit

    def refusing(offsets, group, note=""):
        if failures[0] < 3 and offsets and run.stage.durable < 1_000:
            failures[0] += 1
            raise Retryable("the test says no")
        commit(offsets, group, note)

    sink.commit = refusing
    for _ in range(10):
        setting.send(20, 0)
        setting.send(20, 1)
    setting.settled()
    assert failures[0] >= 1
    assert any(s.metric == "stationkeeper_stage_errors_total" and s.value >= 1 for s in run.loop.samples())
    assert until(run.loop.ready, "ready again")


def test_a_crash_between_writing_and_committing_is_undone_by_the_next_owner(setting):
    setting.send(50, 0)
    crashed = setting.start()
    until(lambda: crashed.stage.durable == 50, "a first commit")
    entered, never = threading.Event(), threading.Event()

    def hang(*_):
        # The records of the transaction are on the broker; its offsets and its end never come.
        entered.set()
        never.wait()
        raise Fenced("a dead process")

    crashed.loop._sink.commit = hang
    setting.send(70, 0)
    assert entered.wait(30)
    owner = setting.start()
    setting.send(30, 1)
    setting.settled()
    assert owner.stage.restored[-1][b"0"] == b'{"count": 50}'
    never.set()
    crashed.thread.join(30)
    assert isinstance(crashed.error, Fenced)


def test_a_zombie_of_the_same_slot_is_fenced_and_says_so(setting):
    setting.send(50, 0)
    zombie = setting.start()
    until(lambda: zombie.stage.durable == 50, "a first commit")
    asleep, wake = threading.Event(), threading.Event()
    absorb = zombie.stage.absorb

    def sleeping(batch):
        absorb(batch)
        if len(batch):
            asleep.set()
            wake.wait()

    zombie.stage.absorb = sleeping
    setting.send(40, 0)
    assert asleep.wait(30)
    with capture_logs() as logs:
        owner = setting.start()
        until(lambda: owner.stage.durable == 90, "the new owner counts")
        wake.set()
        zombie.thread.join(30)
    assert isinstance(zombie.error, Fenced)
    assert LogEvent.PRODUCER_FENCED in [line["event"] for line in logs]
    assert not zombie.loop.ready()
    setting.settled()


def test_a_zombie_that_failed_otherwise_does_not_fence_its_successor(setting):
    setting.send(50, 0)
    zombie = setting.start()
    until(lambda: zombie.stage.durable == 50, "a first commit")
    asleep, wake = threading.Event(), threading.Event()

    def late(*_):
        asleep.set()
        wake.wait()
        raise Retryable("no answer for a record: the batch has expired")

    zombie.loop._sink.commit = late
    setting.send(40, 0)
    assert asleep.wait(30)
    owner = setting.start()
    until(lambda: owner.stage.durable == 90, "the new owner counts")
    wake.set()
    zombie.thread.join(30)
    assert isinstance(zombie.error, Fenced)
    setting.send(30, 1)
    setting.settled()
    assert owner.error is None


def test_two_members_share_and_one_takes_over_from_the_other(world):
    setting = Setting(world, partitions=4)
    try:
        for partition in range(4):
            setting.send(100, partition)
        one = setting.start("a", poll_timeout="200ms")
        until(lambda: one.stage.durable == 400, "one counts all")
        two = setting.start("b", poll_timeout="200ms")
        until(lambda: len(two.stage.counts) == len(one.stage.counts) == 2, "two partitions each")
        assert set(one.stage.counts) | set(two.stage.counts) == {Partition(setting.topic, i) for i in range(4)}
        for partition in range(4):
            setting.send(50, partition)
        setting.settled()
        two.stop()
        for partition in range(4):
            setting.send(25, partition)
        setting.settled()
        assert len(one.stage.counts) == 4
    finally:
        setting.close()


def test_tables_are_shown_before_the_first_record_and_followed(world):
    setting = Setting(world)
    table = world.create("table", 1, cleanup_policy="compact")
    world.produce(table, [b"1", b"2", None], keys=[b"a", b"b", b"b"], partition=0)
    setting.send(10, 0)
    stage = setting.stage(table=table)
    first: list[dict[bytes, bytes]] = []
    absorb = stage.absorb

    def noting(batch):
        first.append(dict(stage.shown))
        absorb(batch)

    stage.absorb = noting  # type: ignore[method-assign]
    try:
        setting.start(stage=stage)
        until(lambda: stage.durable == 10, "counted")
        assert first[0] == {b"a": b"1"}
        world.produce(table, [b"9"], keys=[b"c"], partition=0)
        until(lambda: stage.shown == {b"a": b"1", b"c": b"9"}, "the new row is shown")
    finally:
        setting.close()


def test_a_table_that_is_not_there_is_waited_for_by_name(world):
    setting = Setting(world)
    stage = setting.stage(table=f"{world.prefix}.table")
    try:
        run = setting.start(stage=stage)
        until(lambda: any("table" in reason for reason in run.loop.reasons()), "the reason names the topic")
        assert not run.loop.ready()
        assert run.loop.live()
        world.create("table", 1, cleanup_policy="compact")
        until(run.loop.ready, "ready")
    finally:
        setting.close()


def test_past_the_limit_a_topic_is_not_read_and_nothing_past_it_is_committed(setting):
    setting.send(40, 0)
    run = setting.start(stage=setting.stage(limit=DeadLetterSettings(run=20)))
    until(lambda: run.stage.durable == 40, "good records")
    with capture_logs() as logs:
        setting.send(100, 0, b"bad")
        until(lambda: run.stage.stops and run.loop.ready(), "stopped, and ready without it")
    assert any("records in a row" in line.get("reason", "") for line in logs)
    setting.send(10, 1)
    flushes = run.stage.flushes
    until(lambda: run.stage.flushes > flushes + 5, "it turns on")
    assert run.loop.ready()
    # Batches may have split the bad records; what is committed lies below the limit.
    assert len(setting.addresses()) < 40 + 20
    run.stop()
    assert run.error is None
    # With the limit raised nothing is lost.
    setting.start(stage=setting.stage(limit=DeadLetterSettings(run=1_000, minimum=1_000)))
    setting.settled()


def test_records_that_retention_took_are_counted_and_told(setting):
    setting.send(60, 0)
    run = setting.start()
    until(lambda: run.stage.durable == 60, "counted")
    run.stop()
    setting.send(40, 0)
    setting.world.trim(setting.topic, 0, 85)
    with capture_logs() as logs:
        again = setting.start()
        until(lambda: again.stage.durable == 75, "the rest")
    expired = [s for s in again.loop.samples() if s.metric == "stationkeeper_records_expired_total"]
    assert [(s.labels, s.value) for s in expired] == [((setting.topic, "0"), 25)]
    assert [line["records"] for line in logs if line["event"] == LogEvent.RECORDS_EXPIRED] == [25]


@pytest.mark.parametrize("first_start", ["earliest", "latest"])
def test_added_partitions_are_read_from_their_beginning(setting, first_start):
    run = setting.start(first_start=first_start, poll_timeout="200ms")
    until(run.loop.ready, "ready")
    setting.send(10, 0)
    setting.send(10, 1)
    setting.settled()
    setting.world.enlarge(setting.topic, 3)
    until(lambda: len(setting.world.reader().partitions(setting.topic)) == 3, "the new partition exists")
    setting.send(15, 2)
    setting.settled()


def test_a_partition_alone_with_a_newcomer_is_known_by_its_topic(world):
    setting = Setting(world, partitions=1)
    try:
        one = setting.start("a", first_start="latest", poll_timeout="200ms")
        until(one.loop.ready, "ready")
        setting.send(10, 0)
        setting.settled()
        world.enlarge(setting.topic, 2)
        until(lambda: len(world.reader().partitions(setting.topic)) == 2, "the new partition exists")
        setting.send(5, 1)
        two = setting.start("b", first_start="latest", poll_timeout="200ms")
        until(lambda: len(two.stage.counts) + len(one.stage.counts) == 2, "shared")
        setting.settled()
    finally:
        setting.close()


def test_quiet_partitions_are_told_apart_and_lag_is_shown(setting):
    setting.send(30, 0)
    run = setting.start()
    both = {Partition(setting.topic, 0), Partition(setting.topic, 1)}
    until(lambda: run.stage.quiet == both, "both lie at their end")

    def lag():
        return {s.labels[1:]: s.value for s in run.loop.samples() if s.metric == "stationkeeper_consumer_lag_records"}

    until(lambda: lag() == {(setting.topic, "0"): 0, (setting.topic, "1"): 0}, "no lag")


def test_a_slow_stage_commits_between_batches(setting):
    setting.send(2_000, 0)
    run = setting.start(stage=setting.stage(slow_s=0.05), max_poll_records=50, flush_interval="100ms")
    until(lambda: run.stage.durable > 0, "a first commit")
    assert run.stage.durable < 2_000
    setting.settled()


def test_a_wall_clock_that_is_set_back_does_not_stop_the_commits(setting):
    run = setting.start()
    until(run.loop.ready, "ready")
    now = run.loop._now_ms
    run.loop._now_ms = lambda: now() - 3_600_000
    setting.send(10, 0)
    setting.settled()


def test_a_member_without_partitions_is_ready_and_takes_over(world):
    setting = Setting(world, partitions=1)
    try:
        one = setting.start("a", poll_timeout="200ms")
        until(one.loop.ready, "ready")
        spare = setting.start("b", poll_timeout="200ms")
        until(spare.loop.ready, "the spare is ready")
        setting.send(10, 0)
        setting.settled()
        one.stop()
        setting.send(10, 0)
        setting.settled()
    finally:
        setting.close()
