"""What a model may cost at most: refusals are counted by name, and the same in every batching, restart and recount."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.status import check
from stationkeeper.contracts.wire import JoinBatch, PaneDelta, decode
from stationkeeper.events import Assigned, Events
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.references import References
from stationkeeper.monitor.tally.accumulator import Accumulator
from stationkeeper.monitor.tally.cardinality import CardinalityLimits
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.monitor.verify import verify
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.ports import Outgoing, Partition, Restored
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, batch, fraud, predictions, reference

HERE = Partition("events", 0)
REFERENCE = reference()


def one(number: int, **more: Any) -> bytes:
    """An event of the mixed topic."""
    event = {
        "kind": "prediction",
        "event_id": f"e{number}",
        "time": START + number * 20_000,
        "model": "fraud",
        "version": "1",
        "features": {"amount": 0.1, "age": 1.0, "country": "de"},
        "prediction": 0.25,
    }
    return json.dumps({name: value for name, value in (event | more).items() if value is not None}).encode()


def mixed() -> list[bytes]:
    """Predictions, features and labels in one topic, with more versions and shops than have a place."""
    values = []
    for i in range(60):
        shop = {"shop": f"s{i * 7 % 11}"}
        values.append(one(i, version=f"v{i * 5 % 9}", segment=shop))
        values.append(one(i, kind="feature", version=f"v{i * 4 % 13}", prediction=None, segment=shop))
        if i % 3 == 0:
            values.append(one(i, kind="label", label=i % 2, features=None, prediction=None, version=None))
        if i % 20 == 19:
            # A jump of the clock, and what it makes late or not, whatever its kind.
            values.append(one(1_000 + i, kind="feature", time=START + (i + 30) * 20_000, prediction=None))
            values += [one(2_000 + i, time=START + i * 20_000), values[-3], b"{"]
            values.append(one(3_000 + i, kind="feature", time=START + (i + 28) * 20_000, version="late"))
    return values


def stage(state: dict[bytes, bytes] | None = None, **more: Any) -> Tally:
    """A tally of one model whose events all come in one topic."""
    limits = {"versions": 4, "segments": 3} | more.pop("limits", {})
    inputs = dict.fromkeys(("predictions", "features", "labels"), "events")
    model = fraud(**inputs, segments=["shop"], limits=limits, **more)
    made = Tally({"fraud": model}, TOPICS, clock="stream")
    made.table(TOPICS.references.name, b"fraud/v8", dump(replace(REFERENCE, version="v8")).encode())
    made.assigned(frozenset({HERE}), Restored(state or {}))
    return made


def told(out: list[Outgoing]) -> dict[Any, Any]:
    """Rows and counts by pane, and joined rows by version and segment names."""
    found: dict[Any, Any] = {}
    for each in out:
        if each.topic not in {TOPICS.panes.name, TOPICS.joins.name}:
            continue
        for record in decode(each.value or b""):
            match record:
                case PaneDelta():
                    key: Any = (record.version, record.source, record.segment, record.start)
                    rows, counts = found.setdefault(key, (0, {}))
                    for at, count in enumerate(record.vector().tolist(), record.first):
                        counts[at] = counts.get(at, 0) + count
                    found[key] = (rows + (record.rows if record.first == 0 else 0), counts)
                case JoinBatch():
                    for segment in record.table()["segment"].tolist():
                        join = ("join", record.side, record.version, record.segments[segment])
                        found[join] = found.get(join, 0) + 1
    return found


def whole(values: list[bytes], **more: Any) -> tuple[dict[Any, Any], dict[str, Any]]:
    made = stage(**more)
    made.absorb(batch("events", values))
    out = made.flush(0)
    made.committed()
    return told(out), made.status()


MIXED = mixed()
WHOLE = whole(MIXED)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.sets(st.integers(0, 20)))
def test_one_topic_of_every_kind_counts_the_same_in_any_batches_and_restarts(
    sizes: list[int], restarts: set[int]
) -> None:
    made, state, out = stage(), dict[bytes, bytes](), list[Outgoing]()
    at = turn = 0
    while at < len(MIXED):
        size = sizes[turn % len(sizes)]
        made.absorb(batch("events", MIXED[at : at + size], first=at))
        at += size
        if turn in restarts:
            mine = made.flush(turn)
            out += mine
            state |= {o.key: o.value for o in mine if o.topic == TOPICS.tally_state.name and o.key and o.value}
            made = stage(state)
        turn += 1
    out += made.flush(99)
    made.committed()
    assert told(out) == WHOLE[0]
    assert made.status() == WHOLE[1]


def test_what_has_no_place_is_other_and_counted_by_its_limit() -> None:
    counts, status = WHOLE
    check(status)
    assert {key[0] for key in counts if key[0] != "join"} == {"v0", "v5", "v4", "v8", "v1", "(other)"}
    assert {key[2] for key in counts if key[0] != "join"} == {"", "shop=s0", "shop=s7", "shop=s3", "shop=(other)"}
    assert status["detail"]["refused by limits.versions"] > 50
    assert status["detail"]["refused by limits.segments"] > 20
    made = stage()
    made.absorb(batch("events", [*MIXED, b" " * 2_000_000]))
    made.flush(0)
    made.committed()
    refused = {s.labels[0]: s.value for s in made.samples() if s.metric == "stationkeeper_limits_refused_total"}
    assert refused["versions"] == status["detail"]["refused by limits.versions"]
    assert refused["message_bytes"] == 1


def test_a_recount_of_the_mixed_topic_finds_the_same() -> None:
    inputs = dict.fromkeys(("predictions", "features", "labels"), "events")
    rig = Rig({"fraud": fraud(**inputs, limits={"versions": 4})}, partitions=1)
    rig.put_reference(replace(REFERENCE, version="v8"))
    for first in range(0, len(MIXED), 17):
        rig.send("events", MIXED[first : first + 17])
        rig.turn(1)
    rig.turn(2)
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert found.differences == []
    assert found.records == len(MIXED)
    row = rig.stage("tally").status()["conservation"][0]
    assert min(row[outcome] for outcome in ("tallied", "late", "duplicate", "rejected")) > 0


def test_features_beyond_the_limit_are_left_out_by_name_least_important_first() -> None:
    rig = Rig({"fraud": fraud(limits={"features": 2}, importance={"country": 9.0, "age": 3.0})}, partitions=1)
    rig.put_reference(REFERENCE)
    rig.send("scores", predictions(5, 20))
    rig.turn(6)
    kept = rig.stage("tally").references.of("fraud", "1")
    assert [subject.name for subject in kept.features] == ["age", "country"]
    assert kept.digest != REFERENCE.digest
    status = rig.stage("tally").status()
    assert status["detail"]["features beyond limits.features"] == "fraud/amount"
    panes = [r for r in rig.records(TOPICS.panes.name) if isinstance(r, PaneDelta)]
    assert {(pane.digest, pane.width) for pane in panes} == {(kept.digest, len(kept.layout))}
    # A feature that the limit left out is known, so it is not an unseen field.
    assert sum(int(p.vector()[kept.layout.pane_counter("unseen_fields")]) for p in panes) == 0
    assert verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream").equal


def test_fields_that_no_reference_knows_are_counted_and_named() -> None:
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.put_reference(REFERENCE)
    values = [json.loads(value) for value in predictions(10, 80)]
    for event in values[400:]:
        event["features"] |= {"new": 1.0, "newer": None}
    rig.send("scores", [json.dumps(event).encode() for event in values])
    rig.turn(6)
    at = REFERENCE.layout.pane_counter("unseen_fields")
    unseen: dict[int, int] = {}
    for record in rig.records(TOPICS.panes.name):
        if isinstance(record, PaneDelta) and record.first <= at < record.first + len(record.vector()):
            unseen[record.start] = unseen.get(record.start, 0) + int(record.vector()[at - record.first])
    assert [unseen[START + minute * MINUTE] for minute in range(5)] == [0] * 5
    assert sum(unseen.values()) == pytest.approx(2 * 400, rel=0.25)
    assert rig.stage("tally").status()["detail"]["fields no reference knows"] == "new, newer"
    assert verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream").equal


def test_an_event_a_minute_packs_panes_early_and_counts_the_same() -> None:
    values = [one(i, time=START + i * MINUTE) for i in range(40)]
    expected = whole(values)[0]
    made = stage()
    width = len(REFERENCE.layout)
    accumulator = Accumulator(made._models, made.references, most_cells=3 * width)
    made._accumulator = accumulator
    made.absorb(batch("events", values))
    assert len(accumulator) <= 3
    assert told(made.flush(0)) == expected


def test_of_free_text_as_action_the_names_with_a_place_alone_are_numbered() -> None:
    names = tuple(f"offer {i}" for i in range(100))
    code = np.append(-1, np.arange(100).repeat(2)[::-1])
    who, drawn = np.zeros(201, np.int64), np.full(201, 0.5)
    events = Events(
        *("prediction", who, who, who.astype(np.uint64), who, (("fraud", "1"),)), assigned=Assigned(names, code, drawn)
    )
    state = PartitionState(HERE, 0)
    found = CardinalityLimits({"fraud": fraud()}, References({"fraud": fraud()})).actions(state, events).assigned
    assert found is not None
    # All that follows goes through the rows once a name.
    assert list(found.names) == state.actions["fraud"] == [f"offer {i}" for i in range(99, 83, -1)]
    assert found.code.tolist() == [-1, *np.arange(16).repeat(2), *[-1] * 168]
