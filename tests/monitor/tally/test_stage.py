"""The tally stage alone: a function of each partition's log prefix, whatever the batches and restarts."""

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.status import check
from stationkeeper.contracts.wire import PART_BYTES, ArmDelta, JoinBatch, PaneDelta, Progress, Record, decode
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.streams.dead_letters.letters import DeadLetterLimit
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Outgoing, Partition, Restored
from stationkeeper.streams.settings import DeadLetterSettings
from tests.monitor.rig import MINUTE, START, TOPICS, batch, fraud, labels, predictions, reference

REFERENCE = dump(reference()).encode()
SCORES, OUTCOMES = Partition("scores", 0), Partition("outcomes", 0)
BOTH = frozenset({SCORES, OUTCOMES})


def tally(state: dict[bytes, bytes] | None = None, *, known: bool = True, clock: Any = "stream", **more: Any) -> Tally:
    """A tally that owns one partition of each topic."""
    keep = more.pop("dead_letters", None)
    stage = Tally({"fraud": fraud(**more)}, TOPICS, clock=clock, dead_letters=keep)
    if known:
        stage.table(TOPICS.references.name, b"fraud/1", REFERENCE)
    stage.assigned(BOTH, Restored(state or {}))
    return stage


def records(out: list[Outgoing], topic: str) -> list[Record]:
    """The binary records sent to a topic."""
    return [record for one in out if one.topic == topic for record in decode(one.value or b"")]


def state_of(out: list[Outgoing]) -> dict[bytes, bytes]:
    """The state records, latest by key."""
    return {one.key: one.value for one in out if one.topic == TOPICS.tally_state.name and one.key and one.value}


def totals(out: list[Outgoing]) -> dict[Any, Any]:
    """Everything that adds, summed by key."""
    found: dict[Any, Any] = {}
    for record in [*records(out, TOPICS.panes.name), *records(out, TOPICS.joins.name)]:
        match record:
            case PaneDelta():
                key: Any = ("pane", record.version, record.digest, record.source, record.segment, record.start)
                rows = record.rows if record.first == 0 else 0
                mine = found.setdefault(key, [0, np.zeros(record.width, np.int64)])
                mine[0] += rows
                mine[1][record.first : record.first + len(record.vector())] += record.vector()
            case ArmDelta():
                key = ("arm", record.version, record.segment, record.start)
                mine = found.setdefault(key, [0, np.zeros(37, np.int64)])
                numbers = [record.rows, record.errors, record.positives, record.timed, record.latency_us]
                mine[1] += np.concatenate([numbers, np.frombuffer(record.scores, "<i8")])
            case JoinBatch():
                mine = found.setdefault(("join", record.side), [0, np.zeros(1, np.int64)])
                mine[0] += len(record.table())
                mine[1] += record.table()["time"].sum()
    return {key: (rows, counts.tolist()) for key, (rows, counts) in found.items()}


def messy() -> list[bytes | None]:
    """Good, odd, repeated, late and broken records from a fixed seed."""
    shuffled = random.Random(7)
    values: list[bytes | None] = list(predictions(12, 10))
    event = json.loads(predictions(1, 1)[0])
    for i, odd in enumerate([None, True, "x", [1], 1e9]):
        features = {"amount": odd, "country": odd}
        more = {"event_id": f"o{i}", "features": features, "latency_ms": 1.5, "weight": 2, "segment": {"shop": "a"}}
        values.insert(20 * i, json.dumps(event | more).encode())
    values += [*values[:9], None, b"{", b"\xff"]
    for first in range(0, len(values), 12):
        part = values[first : first + 12]
        shuffled.shuffle(part)
        values[first : first + 12] = part
    return values + predictions(1, 3, first=900, start=START - 30 * MINUTE)


MESSY = messy()


def whole() -> tuple[dict[Any, Any], list[Any]]:
    """One batch, one flush."""
    stage = tally(segments=["country"])
    stage.absorb(batch("scores", MESSY))
    out = stage.flush(0)
    stage.committed()
    return totals(out), stage.status()["conservation"]


WHOLE = whole()


@settings(max_examples=12)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_batches_flushes_and_restarts_change_nothing(sizes: list[int], flushes: set[int], restarts: set[int]) -> None:
    stage = tally(segments=["country"])
    out: list[Outgoing] = []
    state: dict[bytes, bytes] = {}
    at = turn = 0
    while at < len(MESSY):
        size = sizes[turn % len(sizes)]
        stage.absorb(batch("scores", MESSY[at : at + size], first=at))
        at += size
        if turn in flushes or turn in restarts:
            out += stage.flush(turn)
            stage.committed()
            state |= state_of(out)
        if turn in restarts:
            # What is absorbed and not flushed is lost with the process, and read again by its successor.
            stage.absorb(batch("scores", MESSY[at : at + 5], first=at))
            stage = tally(state, segments=["country"])
            assert stage.start_offsets(BOTH)[SCORES] == min(at, len(MESSY))
        turn += 1
    out += stage.flush(99)
    stage.committed()
    assert totals(out) == WHOLE[0]
    assert stage.status()["conservation"] == WHOLE[1]


def test_the_messy_log_holds_every_outcome() -> None:
    row = next(c for c in WHOLE[1] if c["topic"] == "scores")
    assert row["received"] == len(MESSY)
    assert (row["tallied"], row["duplicate"], row["late"], row["rejected"]) == (121, 9, 7, 3)


def test_status_and_samples_show_what_is_committed_only() -> None:
    stage = tally()
    stage.absorb(batch("scores", predictions(1, 10)))
    assert stage.status()["conservation"][1]["received"] == 0
    stage.flush(0)
    assert stage.status()["conservation"][1]["received"] == 0
    stage.committed()
    assert stage.status()["conservation"][1]["received"] == 10
    check(stage.status())


def test_without_a_reference_rows_are_counted_and_nothing_else() -> None:
    stage = tally(known=False)
    stage.absorb(batch("scores", predictions(2, 10)))
    panes = [r for r in records(stage.flush(0), TOPICS.panes.name) if isinstance(r, PaneDelta)]
    assert [(p.digest, p.rows, p.width, p.counts) for p in panes] == [("", 10, 0, b"")] * 2


def test_a_version_without_reference_is_counted_with_the_champions() -> None:
    stage = tally()
    stage.absorb(batch("scores", predictions(1, 10, version="2")))
    (pane,) = [r for r in records(stage.flush(0), TOPICS.panes.name) if isinstance(r, PaneDelta)]
    assert (pane.version, pane.digest) == ("2", reference().digest)


def test_on_the_wall_clock_a_future_event_is_rejected_and_closes_nothing() -> None:
    stage = tally(clock="wall")
    values = predictions(1, 4)
    ahead = predictions(1, 1, first=50, start=START + 60 * MINUTE)
    stage.absorb(batch("scores", [*values[:2], *ahead, *values[2:]], stamp=START + MINUTE))
    out = stage.flush(0)
    stage.committed()
    (letter,) = [one for one in out if one.topic == "scores.dlq"]
    assert dict(letter.headers)["stationkeeper.error.code"] == DeadLetterCode.FUTURE_TIME.value.encode()
    assert letter.value == ahead[0]
    row = next(c for c in stage.status()["conservation"] if c["topic"] == "scores")
    assert (row["tallied"], row["rejected"]) == (4, 1)
    assert row["clock"] < START + MINUTE


def test_progress_comes_once_a_second_and_says_when_a_partition_is_idle() -> None:
    stage = tally()
    stage.absorb(batch("scores", predictions(1, 5)))

    def told(out: list[Outgoing]) -> dict[str, Progress]:
        mine = [r for r in records([o for o in out if o.partition == 0], TOPICS.panes.name) if isinstance(r, Progress)]
        return {p.topic: p for p in mine}

    first = told(stage.flush(10_000))
    assert (first["scores"].next_offset, first["scores"].idle) == (5, False)
    assert told(stage.flush(10_500)) == {}
    idle = []
    for now in range(11_000, 50_000, 1_000):
        stage.absorb(batch("scores", [], first=5))
        idle.append(told(stage.flush(now))["scores"].idle)
    assert idle.index(True) == 30
    stage.flush(60_000)
    assert told(stage.flush(61_000))["scores"].idle is False  # the broker no longer says that it is the end


def test_records_that_cannot_move_the_clock_leave_a_partition_idle_and_an_event_does_not() -> None:
    stage = tally()
    stage.absorb(batch("scores", predictions(1, 5)))
    late, offset, told = predictions(1, 1, first=900, start=START - 60 * MINUTE), 5, {}

    def turn(now: int, values: list[bytes]) -> bool | None:
        nonlocal offset
        for part in (values, []):
            stage.absorb(batch("scores", part, first=offset))
            offset += len(part)
        mine = [r for r in records(stage.flush(now), TOPICS.panes.name) if isinstance(r, Progress)]
        return next((r.idle for r in mine if r.topic == "scores"), None)

    for second in range(100):
        trickle = {0: b"not json", 1: predictions(1, 1)[0], 2: late[0]}.get(second // 10 % 3, b"")
        told[second] = turn(10_000 + second * 1_000, [trickle] if second % 10 == 5 else [])
    assert [second for second, idle in told.items() if idle] == list(range(30, 100))
    assert turn(120_000, predictions(1, 1, first=901, start=START + MINUTE)) is False


def test_a_backlog_of_rejected_records_is_not_idle_before_its_end_is_seen() -> None:
    stage = tally()
    for now in range(10_000, 50_000, 1_000):
        stage.absorb(batch("scores", []))
        stage.flush(now)
    stage.absorb(batch("scores", [b"not json"] * 10))
    mine = [r for r in records(stage.flush(50_000), TOPICS.panes.name) if isinstance(r, Progress)]
    assert not any(r.idle for r in mine if r.topic == "scores")


def test_the_segment_of_an_event_does_not_depend_on_what_its_neighbours_say() -> None:
    values = predictions(1, 40)
    values[3] = json.dumps(json.loads(values[3]) | {"segment": {"country": None}}).encode()
    values[4] = json.dumps(json.loads(values[4]) | {"segment": {"country": "de"}}).encode()

    def rows(size: int) -> dict[str, int]:
        stage, found = tally(segments=["country"]), dict[str, int]()
        for first in range(0, 40, size):
            stage.absorb(batch("scores", values[first : first + size], first=first))
        for pane in records(stage.flush(0), TOPICS.panes.name):
            if isinstance(pane, PaneDelta) and pane.first == 0:
                found[pane.segment] = found.get(pane.segment, 0) + pane.rows
        return found

    assert rows(1) == rows(40)
    assert rows(1)["country=(other)"] == 1


def test_many_segments_in_one_batch_count_as_few_do() -> None:
    values: list[bytes | None] = []
    for i, value in enumerate(predictions(3, 200)):
        event = json.loads(value)
        values.append(json.dumps(event | {"segment": {"shop": f"s{i % 60}"}}).encode())
    more: dict[str, Any] = {"segments": ["shop", "country"], "limits": {"segments": 100}}
    whole, parts = tally(**more), tally(**more)
    whole.absorb(batch("scores", values))
    for first in range(0, len(values), 20):
        parts.absorb(batch("scores", values[first : first + 20], first=first))
    found = totals(whole.flush(0))
    assert found == totals(parts.flush(0))
    panes = {key[4:]: counts for key, counts in found.items() if key[0] == "pane"}
    assert len({segment for segment, _ in panes}) > 60
    for start in {start for _, start in panes}:
        shops = [counts for (segment, at), counts in panes.items() if at == start and segment.startswith("shop=")]
        assert panes["", start][0] == 200 == sum(rows for rows, _ in shops)
        np.testing.assert_array_equal(panes["", start][1], np.sum([counts for _, counts in shops], axis=0))


def test_too_many_rejections_stop_their_topic() -> None:
    stage = tally(dead_letters=DeadLetterSettings(run=5))
    stage.absorb(batch("scores", [*predictions(1, 10), b"{", b"{"]))
    with pytest.raises(DeadLetterLimit, match="5 records in a row of scores/0"):
        stage.absorb(batch("scores", [b"{"] * 3, first=12))
    assert set(stage.stopped({"scores": "1", "outcomes": "2"}, {})) == {"scores"}


def test_state_of_another_format_is_refused_with_a_message() -> None:
    with pytest.raises(Fatal, match=r"scores/0 has format 9, this version reads 1 to 1"):
        tally({b"scores/0": b"\x09rest"})


def test_values_stay_within_their_size() -> None:
    stage = tally(segments=["country"])
    stage.absorb(batch("scores", predictions(600, 5)))
    stage.absorb(batch("outcomes", labels(range(40_000))))
    out = stage.flush(0)
    panes = [one for one in out if one.topic == TOPICS.panes.name and one.key]
    assert len(panes) > 1
    for one in panes:
        held = [r for r in decode(one.value or b"") if isinstance(r, PaneDelta)]
        assert sum(len(r.counts) + len(r.steps) for r in held) <= PART_BYTES
    for one in out:
        assert len(one.value or b"") < 1_000_000


def test_latencies_and_entities_are_counted_in_bins_that_all_versions_share_for_all_traffic_only() -> None:
    """Whatever the batches, and with none where no event carries them."""
    values = []
    for place, one in enumerate(predictions(1, 40)):
        event = json.loads(one)
        event |= {"latency_ms": 0.125 * (1 + place % 2), "entity_id": [f"card-{place % 4}", None][place % 8 == 7]}
        values.append(json.dumps(event).encode())

    def counted(chunk: int) -> list[ArmDelta]:
        stage = tally()
        for first in range(0, len(values), chunk):
            stage.absorb(batch(SCORES.topic, values[first : first + chunk], first=first))
        return [one for one in records(stage.flush(START), TOPICS.panes.name) if isinstance(one, ArmDelta)]

    (whole,) = [one for one in counted(100) if not one.segment]
    latencies = np.frombuffer(whole.latencies, "<i8")
    assert (latencies[4], latencies[8], latencies.sum()) == (20, 20, whole.timed)
    rows, errors, positives = np.frombuffer(whole.groups, "<i8").reshape(3, -1)
    assert (rows.sum(), errors.sum(), positives.sum()) == (whole.rows, whole.errors, whole.positives)
    # Three people of ten rows, one of five whose other five rows have no entity and stand for themselves.
    assert sorted(rows.tolist())[-3:] == [10, 10, 10]
    assert [one for one in counted(7) if not one.segment] == [whole]
    assert not any(one.latencies or one.groups for one in counted(100) if one.segment)
    stage = tally()
    stage.absorb(batch(SCORES.topic, predictions(1, 5)))
    plain = [one for one in records(stage.flush(START), TOPICS.panes.name) if isinstance(one, ArmDelta)]
    assert {(one.latencies, one.groups) for one in plain} == {(b"", b"")}
