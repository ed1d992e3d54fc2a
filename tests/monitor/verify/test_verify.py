"""``verify`` counts again what the tally counted, and says so when a number is wrong."""

import json
import random
from typing import Any

import msgspec
import numpy as np

from stationkeeper.contracts.wire import ArmDelta, JoinBatch, OutcomeDelta, PaneDelta, Record, decode, encode
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.monitor.verify import Verification, verify
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Outgoing
from stationkeeper.streams.settings import KafkaSettings
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, labels, predictions, reference


def messy(rig: Rig) -> None:
    """Good events, duplicates, disorder, late ones, odd features and junk, from a fixed seed."""
    shuffled = random.Random(4)
    values: list[bytes | None] = list(predictions(30, 20))
    odd: list[Any] = [None, True, "text", [1], 1e9, -1e9, 10**400, "cut\ud83d", {"a": "\ud83d"}, 12345678]
    for i, value in enumerate(odd):
        event = json.loads(values[i * 7] or b"{}")
        event["event_id"] = f"odd{i}"
        event["features"] = {"amount": value, "country": value} if i % 2 else {"country": value}
        event["weight"] = 2.0**i
        values.insert(100 + i, json.dumps(event).encode().replace(b"12345678", b"1" * 5_000))
    values += [json.dumps(json.loads(values[2] or b"{}") | {"event_id": "o", "segment": {"a": []}}).encode()]
    values += [values[0], values[1], None, b"", b"{", b"[]", b'{"event_id": "x"}', b"\xff"]
    for i in range(0, 90, 2):
        event = json.loads(values[i] or b"{}") | {"event_id": f"shop{i}", "latency_ms": i * 1.5}
        event["segment"] = {"shop": f"s{i % 5}"} if i % 4 else {"shop": i % 7, "country": None}
        event["prediction"] = [0.7, True, "yes", None, {"1": 0.4, "0": 0.6}, 10**20][i % 6]
        values.append(json.dumps(event).encode())
    for first in range(0, len(values), 40):
        part = values[first : first + 40]
        shuffled.shuffle(part)
        values[first : first + 40] = part
    values += predictions(1, 5, first=9_000, start=START - 60 * MINUTE)
    rig.send("scores", values)
    rig.send("outcomes", [*labels(range(50)), *labels(range(10))])


def check(rig: Rig) -> Verification:
    return verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")


def test_a_messy_log_counts_the_same_twice() -> None:
    rig = Rig({"fraud": fraud(segments=["country", "amount", "shop"], limits={"segments": 3})})
    rig.send("scores", predictions(5, 10, first=20_000))
    rig.turn(3)
    rig.put_reference(reference())
    rig.turn(2)
    messy(rig)
    rig.turn(4)
    rig.put_reference(reference("2", shift=1.0))
    rig.turn(1)
    rig.send("scores", predictions(10, 20, first=30_000, start=START + 30 * MINUTE, version="2"))
    rig.turn(4)
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert found.differences == []
    assert found.unverifiable == []
    assert found.panes >= 40
    conservation = rig.stage("tally").status()["conservation"]
    assert found.records == sum(row["received"] for row in conservation)
    for outcome in ("tallied", "late", "duplicate", "rejected"):
        assert sum(row[outcome] for row in conservation) > 0


def test_a_count_that_is_off_by_one_is_found() -> None:
    rig = Rig({"fraud": fraud()})
    rig.put_reference(reference())
    rig.send("scores", predictions(5, 20))
    rig.turn(4)
    assert verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream").equal
    value = next(v for v in rig.read(TOPICS.panes.name) if isinstance(decode(v)[0], PaneDelta))
    first = decode(value)[0]
    assert isinstance(first, PaneDelta)
    counts = first.vector().copy()
    counts[:] = 0
    counts[3] = 1
    again = PaneDelta(
        first.model,
        first.version,
        first.digest,
        first.source,
        "",
        first.start,
        first.length,
        0,
        first.first,
        first.width,
        counts.tobytes(),
    )
    record = Outgoing(TOPICS.panes.name, encode([again]), b"fraud")
    rig.log.produce(record.topic, [record.value], keys=[record.key])
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert len(found.differences) == 1
    assert "3: " in found.differences[0]


def test_records_that_retention_removed_are_named_and_not_guessed() -> None:
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.send("scores", predictions(5, 20))
    rig.turn(4)
    rig.log.trim("scores", 0, 10)
    rig.send("outcomes", labels(range(5)))
    rig.turn(2)
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert any("scores/0" in line for line in found.unverifiable)
    assert "equal as far" in found.summary()
    assert not found.complete
    assert found.panes == 0


def test_references_that_cannot_be_read_keep_nobody_from_counting() -> None:
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.put_reference(reference())
    rig.log.produce(TOPICS.references.name, [b"{not json", b"\xff"], keys=[b"credit/1", b"\xff"])
    rig.send("scores", predictions(5, 20))
    rig.turn(4)
    found = check(rig)
    assert (found.differences, found.complete) == ([], True)


def test_comparing_nothing_is_no_success() -> None:
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.send("scores", predictions(5, 20))
    rig.turn(4)
    rig.log.trim("scores", 0, 10)
    found = check(rig)
    assert (found.counts, found.equal, found.complete) == (0, True, False)
    assert found.summary().endswith("nothing could be compared")


def test_panes_of_a_reference_that_was_published_again_are_those_of_the_one_before() -> None:
    rig = Rig({"fraud": fraud(segments=["country"])}, partitions=1)
    rig.put_reference(reference())
    rig.send("scores", predictions(3, 50))
    rig.turn(4)
    rig.put_reference(reference(shift=0.5))
    rig.send("scores", predictions(3, 50, first=1_000, start=START + 3 * MINUTE))
    rig.turn(4)
    found = check(rig)
    assert found.differences == []
    assert found.complete
    rig.log.trim(TOPICS.references.name, 0, 1)
    found = check(rig)
    assert found.differences == []
    assert found.panes >= 6
    assert [line for line in found.unverifiable if reference().digest[:12] in line and "fraud/1" in line]


def test_counting_begins_where_the_tally_began() -> None:
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.put_reference(reference())
    rig.send("scores", predictions(3, 100))
    rig.loops.clear()
    settings = KafkaSettings(prefix=TOPICS.prefix, flush_interval=0, poll_timeout=0, first_start="latest")
    source, sink = MemorySource(rig.log, settings, "tally"), MemorySink(rig.log, settings, "tally")
    stage = Tally(rig.models, TOPICS, clock="stream")
    rig.loops["tally"] = Loop(stage, source, sink, MemoryReader(rig.log), settings, now_ms=lambda: rig.now)
    rig.turn(3)
    rig.send("scores", predictions(3, 100, first=1_000, start=START + 5 * MINUTE))
    rig.turn(3)
    found = check(rig)
    assert (found.differences, found.records, found.complete) == ([], 300, True)
    rig.log.trim("scores", 0, 200)
    assert check(rig).complete
    rig.log.trim("scores", 0, 301)
    assert not check(rig).complete


def again(topic: str, which: Any) -> list[str]:
    """What ``verify`` says of a log in which some records of a topic came twice."""
    rig = Rig({"fraud": fraud(segments=["country"])}, partitions=1)
    rig.put_reference(reference())
    rig.send("scores", predictions(3, 100))
    rig.send("outcomes", labels(range(50)))
    rig.turn(4)
    assert check(rig).complete
    log = rig.log
    for partition in MemoryReader(log).partitions(topic):
        values = [v for batch in MemoryReader(log).read([partition]) for v in batch.values if v is not None]
        for value in values:
            twice: list[Record] = [one for one in decode(value) if which(one)]
            if twice:
                log.produce(topic, [encode(twice)], partition=partition.index)
    return check(rig).differences


def test_segments_arms_and_join_rows_are_compared() -> None:
    panes, joins = TOPICS.panes.name, TOPICS.joins.name
    assert any("country=de" in line for line in again(panes, lambda r: isinstance(r, PaneDelta) and r.segment))
    assert any("Arm(" in line for line in again(panes, lambda r: isinstance(r, ArmDelta)))
    assert any("JoinKey(" in line for line in again(joins, lambda r: isinstance(r, JoinBatch)))


def test_what_came_out_of_the_join_is_paired_again_and_a_wrong_outcome_is_found() -> None:
    rig = Rig({"fraud": fraud(segments=["country"], label_horizon="1h", label_maturity="10m")})
    rig.put_reference(reference())
    drawn = random.Random(7)
    # Labels before and after their predictions, twice, of no prediction, of no class, and a day after the horizon.
    early, late = labels(range(100, 140), delay=0), labels(range(100), delay=5 * MINUTE)
    odd = [
        json.dumps(json.loads(one) | {"label": [0.25, "yes", 3, True][i % 4]}).encode()
        for i, one in enumerate(late[:30])
    ]
    nulls = [json.dumps(json.loads(one) | {"prediction": None}).encode() for one in predictions(2, 5, first=900)]
    rig.send("outcomes", [*early, *drawn.sample(odd, 30)])
    rig.turn(2)
    rig.send("scores", [*predictions(20, 20), *nulls])
    rig.turn(2)
    rig.start("join")
    rig.send("outcomes", [*late, *late[:20], *labels(range(900, 910))])
    rig.send("scores", predictions(2, 5, first=2_000, start=START + 90 * MINUTE))
    rig.send("outcomes", [*labels(range(2_000, 2_005), start=START + 90 * MINUTE), *labels(range(140, 160), delay=1)])
    rig.turn(4)
    outcomes = [one for one in rig.records(TOPICS.panes.name) if isinstance(one, OutcomeDelta)]
    assert sum(one.rows for one in outcomes if not one.segment) > 100
    found = check(rig)
    assert (found.differences, found.unverifiable) == ([], [])
    wrong = msgspec.structs.replace(outcomes[0], rows=1, loss=0, age_ms=0, confusion=bytes(32), scored=bytes(512))
    rig.log.produce(TOPICS.panes.name, [encode([wrong])], keys=[b"fraud"])
    (difference,) = check(rig).differences
    assert "rows: " in difference
    assert "counted again" in difference


def test_labels_that_contradict_are_corrections_and_everything_still_adds_up() -> None:
    rig = Rig({"fraud": fraud(dedupe=300)}, partitions=1)
    rig.put_reference(reference())
    rig.send("scores", predictions(30, 20))
    rig.send("outcomes", labels(range(400), delay=40 * MINUTE))
    rig.turn(4)
    # The same again is a duplicate within the horizon, and a repetition past it; what says something else is neither.
    rig.send("outcomes", labels(range(200, 400), delay=40 * MINUTE))
    rig.send("outcomes", labels(range(0, 100, 5), delay=60 * MINUTE, positive=1_000_000))
    rig.send("outcomes", labels(range(300, 310), delay=60 * MINUTE, positive=1))
    # So far that every label's pane has closed.
    rig.send("scores", predictions(2, 5, first=5_000, start=START + 90 * MINUTE))
    rig.turn(4)
    counted = next(row for row in rig.stage("tally").status()["conservation"] if row["topic"] == "outcomes")
    assert (counted["received"], counted["tallied"], counted["duplicate"]) == (630, 428, 202)
    detail = rig.stage("join").status()["detail"]
    # Two of the ten were positive already, and so was 0 of the first lot: a repetition past the horizon.
    assert (detail["paired"], detail["corrected"]) == (400, 19 + 8)
    # None of them waits as a label of no prediction, which would alarm.
    assert (detail["repeated"], detail["waiting labels"]) == (1, 0)
    told = [record for record in rig.records(TOPICS.history.name) if isinstance(record, OutcomeDelta)]
    truth = [0] * 2
    for record in told:
        negative, positive = np.frombuffer(record.scored, "<i8").reshape(-1, 2).sum(0).tolist()
        truth = [truth[0] + negative, truth[1] + positive]
    assert sum(record.rows for record in told) == 400
    assert truth == [400 - (80 - 19 + 8), 80 - 19 + 8]
    found = check(rig)
    assert found.differences == found.unverifiable == []


def test_sums_by_action_are_counted_again_and_any_that_is_off_is_found() -> None:
    rig = Rig({"fraud": fraud(segments=["country"])}, partitions=1)
    rig.put_reference(reference())
    # Texts, numbers, none, more than have a place; chances known, unknown, impossible, tiny, and those of an arm.
    actions: list[Any] = ["block", "approve", 7, None, "", 1.5, *(f"offer {i}" for i in range(20))]
    chances: list[Any] = [1.0, 0.5, 0.3, 1e-9, None, True, 2, "0.5", 0]
    values = []
    for i, value in enumerate(predictions(20, 20)):
        event = json.loads(value) | {"action": actions[i % len(actions)], "assignment_prob": chances[i % len(chances)]}
        values.append(json.dumps(event | ({"arm": "canary"} if i % 5 == 0 else {})).encode())
    rig.send("scores", values)
    rig.send("outcomes", labels(range(0, 400, 3)))
    rig.turn(12)
    assert check(rig).differences == []
    told = [one for value in rig.read(TOPICS.panes.name) for one in decode(value)]
    arm = next(one for one in told if isinstance(one, ArmDelta) and "block" in one.actions)
    outcome = next(one for one in told if isinstance(one, OutcomeDelta) and "block" in one.actions)
    # Nothing but the sums of one action once more.
    nothing: dict[str, Any] = {"rows": 0, "actions": {"block": arm.actions["block"]}}
    whole = msgspec.structs.replace(
        arm, **nothing, errors=0, positives=0, timed=0, latency_us=0, scores=bytes(8 * 32), latencies=b"", groups=b""
    )
    empty: dict[str, Any] = {"confusion": bytes(8 * 4), "scored": bytes(8 * 64), "loss": 0, "age_ms": 0, "sums": b""}
    paired = msgspec.structs.replace(outcome, rows=0, actions={"block": outcome.actions["block"]}, **empty)
    for one, key in ((whole, "Arm("), (paired, "OutcomeKey(")):
        before = len(check(rig).differences)
        rig.log.produce(TOPICS.panes.name, [encode([one])], keys=[b"fraud"])
        found = check(rig).differences
        assert len(found) > before
        assert all("action 'block' at " in line for line in found)
        assert any(line.startswith(key) for line in found)
