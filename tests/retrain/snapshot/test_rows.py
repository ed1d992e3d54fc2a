import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.config import Config
from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.events import Form, forms, own_form
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.registry import FeatureKind, ModelTask
from stationkeeper.retrain.core.labels import NegativeRule
from stationkeeper.retrain.core.plan import AbsentLabels
from stationkeeper.retrain.snapshot import TrainingTable, labels_words
from stationkeeper.retrain.snapshot.events import ACTION, EVENT_ID, LABEL, TIME, EventColumns
from stationkeeper.retrain.snapshot.files import SnapshotError
from stationkeeper.retrain.snapshot.frames import EventFrames
from stationkeeper.retrain.snapshot.rows import LabelledRows
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore, merge_base
from stationkeeper.retrain.snapshot.table import WIDEST
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.ports import Partition
from tests.retrain.bank import HOUR, LABELS, ONSET, PREDICTIONS, START, TOPICS, events, transactions

MINUTE = 60_000


def prediction(event: str, time: object, features: dict[str, object], **more: object) -> bytes:
    facts = {"kind": "prediction", "event_id": event, "time": time, "model": "bank", "version": "1"}
    return json.dumps(facts | {"features": features} | more).encode()


def label(event: str, time: object, value: object) -> bytes:
    facts = {"kind": "label", "event_id": event, "time": time, "model": "bank", "label": value}
    return json.dumps(facts).encode()


def rows_of(log: MemoryLog, *, since: int = 0, limit: int = 10_000, topics: tuple[Form, ...] = TOPICS):
    rows = LabelledRows(topics, EventColumns("bank"), since, limit)
    rows.advance(MemoryReader(log))
    return rows


def frame_of(rows: LabelledRows, as_of_ms: int, maturity_ms: int) -> pl.DataFrame:
    return pl.concat(list(rows.pieces(as_of_ms, maturity_ms)))


def canonical_bytes(*pieces: pl.DataFrame) -> bytes:
    """Return the bytes that a snapshot of these rows has."""
    with tempfile.TemporaryDirectory() as directory:
        return SnapshotStore(Path(directory)).write(pieces if len(pieces) > 1 else pieces[0], {}).path.read_bytes()


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog()
    made.create(PREDICTIONS, 2)
    made.create(LABELS)
    return made


def test_predictions_meet_the_last_label_known(log: MemoryLog):
    log.produce(PREDICTIONS, [prediction("a", 10, {"x": 1}), prediction("b", 20, {"x": 2.5})], partition=0)
    log.produce(PREDICTIONS, [prediction("a", 11, {"x": 9}), prediction("c", 15, {})], partition=1)
    log.produce(LABELS, [label("a", 30, True), label("a", 50, False), label("b", 40, 1), label("z", 40, True)])
    rows = rows_of(log)
    frame = frame_of(rows, as_of_ms=45, maturity_ms=0)
    assert frame["@event_id"].to_list() == ["a", "c", "b"]
    assert frame[LABEL].to_list() == ["true", None, "1"]
    assert frame["x"].to_list() == [1.0, None, 2.5]
    assert frame_of(rows, 60, 0)[LABEL].to_list() == ["false", None, "1"]
    assert frame_of(rows, 60, 45)[LABEL].to_list() == ["false", None, None], "younger than the maturity"
    counted = rows.statistics(onset_ms=15, as_of_ms=60, maturity_ms=0, positive="true")
    assert (counted.rows_before, counted.rows_after, counted.positives_after) == (1, 1, 1)


@pytest.mark.parametrize(("positive", "told"), [("1", ["1", None, "0"]), ("fraud", ["1", "NA", "none"])])
def test_a_word_for_nothing_among_labels_that_are_numbers_is_no_label(
    log: MemoryLog, positive: str, told: list[str | None]
):
    log.produce(PREDICTIONS, [prediction(one, 10, {"x": 1}) for one in "abc"], partition=0)
    # The word comes after a's truth and before c's: neither may lose it.
    texts = [("a", 20, "1"), ("a", 30, "n/a"), ("b", 20, "NA"), ("c", 20, "NA"), ("c", 30, "0")]
    if positive == "fraud":
        texts = [("a", 20, "1"), ("b", 20, "NA"), ("c", 20, "none")]
    log.produce(LABELS, [label(*one) for one in texts])
    rows = LabelledRows(TOPICS, EventColumns("bank"), 0, 10_000, positive)
    rows.advance(MemoryReader(log))
    assert frame_of(rows, 40, 0)[LABEL].to_list() == told
    assert set(rows.label_texts(40)) == {one for one in told if one is not None}


FRAUDS_ONLY = Absence(pane=MINUTE, horizon=24 * HOUR, least=30 * MINUTE)


def frauds_only(log: MemoryLog, hours: int = 8) -> None:
    """A payment a minute; every tenth is a fraud, which is told an hour later, and nothing else ever is."""
    minutes = range(hours * 60)
    log.produce(PREDICTIONS, [prediction(f"p{m:04d}", START + m * MINUTE, {"x": m}) for m in minutes], partition=0)
    told = [m for m in minutes if m % 10 == 0 and m + 60 < hours * 60]
    log.produce(LABELS, [label(f"p{m:04d}", START + (m + 60) * MINUTE, value=True) for m in told])


def absent_rows(log: MemoryLog, frames: EventFrames | None = None) -> LabelledRows:
    rows = LabelledRows(TOPICS, EventColumns("bank"), 0, 10_000, absence=FRAUDS_ONLY, frames=frames or EventFrames())
    rows.advance(MemoryReader(log))
    return rows


def test_absence_is_a_negative_once_frauds_would_have_been_told(log: MemoryLog):
    frauds_only(log)
    rows, as_of = absent_rows(log), START + 479 * MINUTE
    told = rows.statistics(START + 2 * HOUR, as_of, None, "true")
    # All frauds come within the hour, and ages are told apart two an octave: 64 minutes, back from the last label.
    assert (told.maturity_ms, told.absent) == (73 * MINUTE, AbsentLabels(258, 64 * MINUTE))
    # Of the first hour, before any label, nothing is known: of its rows the frauds alone would count.
    assert (told.rows_before, told.rows_after, told.positives_after) == (60, 287, 29)
    frame = frame_of(rows, as_of, told.maturity_ms)
    ripe = frame[TIME].is_between(START + HOUR, as_of - told.maturity_ms)
    fraud = frame["x"] % 10 == 0
    expected = pl.select(pl.when(ripe).then(pl.when(fraud).then(pl.lit("true")).otherwise(pl.lit("false"))))
    assert frame[LABEL].to_list() == expected.to_series().to_list(), "younger rows have no label, frauds or not"
    assert frame["@label_time"].is_not_null().to_list() == (ripe & fraud).to_list()
    with tempfile.TemporaryDirectory() as directory:
        made = SnapshotStore(Path(directory)).write(frame, {"as_of": as_of, "maturity": told.maturity_ms})
        assert (made.manifest["labelled"], made.manifest["absent"]) == (347, 312)
        assert labels_words(made.manifest) == "347 labelled, 312 of them negative for want of a label"
        # Its own negatives take the word of the labels of now, which are those of a table with both classes.
        log.produce(LABELS, [label("p0001", as_of, value=0)])
        later = prediction("q", as_of + HOUR, {"x": 1})
        log.produce(PREDICTIONS, [later], partition=1)
        again = LabelledRows(TOPICS, EventColumns("bank"), as_of, 10_000, absence=FRAUDS_ONLY)
        again.advance(MemoryReader(log))
        (joined,) = again.pieces(as_of + 2 * HOUR, HOUR, made.path)
        assert joined[LABEL].value_counts(sort=True).rows() == [("0", 314), ("true", 35)]
        assert joined[LABEL][-1] == "0", "the row that came last has no label either"


def test_what_is_too_young_or_came_after_the_last_label_is_no_negative(log: MemoryLog):
    frauds_only(log, hours=1)
    young = absent_rows(log).statistics(START, START + HOUR, None, "true")
    assert (young.rows_after, young.absent) == (0, AbsentLabels(0, None)), "no fraud has been told yet"
    frauds_only(log)
    # The topic of labels stops; payments go on for a day.
    log.produce(PREDICTIONS, [prediction("late", START + 32 * HOUR, {"x": 1})], partition=0)
    rows = absent_rows(log)
    stopped = rows.statistics(START, START + 32 * HOUR, None, "true")
    assert stopped.rows_after == 347
    assert rows.statistics(START, START + 32 * HOUR, 2 * HOUR, "true").absent == AbsentLabels(261, 2 * HOUR)


def test_frauds_whose_labels_are_gone_are_no_negatives(log: MemoryLog):
    """Labels are kept for a shorter time than payments: what was told before the first that is left is not known."""
    frauds_only(log)
    # Of the first four hours of labels nothing is left.
    gone = sum(1 for m in range(0, 480, 10) if m + 60 < 240)
    log.trim(LABELS, 0, gone)
    rows, as_of = absent_rows(log), START + 479 * MINUTE
    told = rows.statistics(START, as_of, None, "true")
    frame = frame_of(rows, as_of, told.maturity_ms)
    frauds = frame.filter(pl.col("x") % 10 == 0)
    assert set(frauds[LABEL].drop_nulls()) == {"true"}
    negatives = frame.filter(pl.col(LABEL) == "false")
    assert negatives[TIME].min() >= START + 240 * MINUTE
    assert told.absent is not None
    assert told.absent.rows == len(negatives)


def test_labels_are_known_from_where_the_last_partition_that_lost_any_begins():
    log, minutes = MemoryLog(), range(480)
    log.create(PREDICTIONS)
    log.create(LABELS, 3)
    log.produce(PREDICTIONS, [prediction(f"p{m:04d}", START + m * MINUTE, {"x": m}) for m in minutes], partition=0)
    frauds = [m for m in minutes if m % 10 == 0 and m + 60 < 480]
    for number in range(2):
        mine = [m for m in frauds if m // 10 % 2 == number]
        log.produce(LABELS, [label(f"p{m:04d}", START + (m + 60) * MINUTE, value=True) for m in mine], partition=number)
    # The one keeps its labels from the third hour on, the other from the fifth.
    for number, until in ((0, 180), (1, 300)):
        log.trim(LABELS, number, sum(1 for m in frauds if m // 10 % 2 == number and m + 60 < until))
    rows, as_of = absent_rows(log), START + 479 * MINUTE
    told = rows.statistics(START, as_of, 64 * MINUTE, "true")
    frame = frame_of(rows, as_of, told.maturity_ms)
    assert set(frame.filter(pl.col("x") % 10 == 0)[LABEL].drop_nulls()) == {"true"}
    assert frame.filter(pl.col(LABEL) == "false")[TIME].min() > START + 300 * MINUTE
    assert told.absent is not None
    assert "labels of before 2026-01-05T05:10Z are gone from their topic" in told.absent.words()


def test_labels_that_were_written_in_any_order_cut_nothing_off(log: MemoryLog):
    minutes = range(480)
    log.produce(PREDICTIONS, [prediction(f"p{m:04d}", START + m * MINUTE, {"x": m}) for m in minutes], partition=0)
    frauds = [m for m in minutes if m % 10 == 0 and m + 60 < 480]
    told = [label(f"p{m:04d}", START + (m + 60) * MINUTE, value=True) for m in reversed(frauds)]
    log.produce(LABELS, told)
    found = absent_rows(log).statistics(START, START + 479 * MINUTE, 64 * MINUTE, "true").absent
    assert found is not None
    assert found.rows > 300
    assert "gone" not in found.words()


def test_payments_that_were_blocked_are_no_negatives(log: MemoryLog):
    """A tenth is approved frauds, and as many are blocked, of which nobody hears."""
    minutes = range(480)
    log.produce(
        PREDICTIONS,
        [
            prediction(f"p{m:04d}", START + m * MINUTE, {"x": m}, action="block" if m % 3 == 1 else "approve")
            for m in minutes
        ],
        partition=0,
    )
    frauds = [m for m in minutes if m % 10 == 0 and m % 3 != 1 and m + 60 < 480]
    log.produce(LABELS, [label(f"p{m:04d}", START + (m + 60) * MINUTE, value=True) for m in frauds])
    rows, as_of = absent_rows(log), START + 479 * MINUTE
    told = rows.statistics(START, as_of, 70 * MINUTE, "true")
    frame = frame_of(rows, as_of, told.maturity_ms)
    assert frame.filter(pl.col("@action") == "block")[LABEL].null_count() == 160
    assert frame.filter(pl.col("@action") == "approve")[LABEL].value_counts().filter(pl.col(LABEL) == "false").height
    assert told.absent is not None
    assert told.absent.rows == len(frame.filter(pl.col(LABEL) == "false"))
    assert [one.action for one in told.shut] == ["block"]
    assert told.rule == NegativeRule(START + HOUR, ("block",))


def test_what_is_blocked_where_frauds_are_rare_is_no_negative_though_few_labels_were_due(log: MemoryLog):
    """Four frauds of a thousand approved payments, three blocked ones of a thousand: not one label was due of those."""
    blocked = {m for m in range(9_000) if m % 333 == 7}
    log.produce(
        PREDICTIONS,
        [
            prediction(f"p{m:05d}", START + m * 1_000, {"x": m}, action="block" if m in blocked else "approve")
            for m in range(9_000)
        ],
        partition=0,
    )
    told = [m for m in range(0, 9_000, 250) if m not in blocked]
    log.produce(LABELS, [label(f"p{m:05d}", START + m * 1_000 + MINUTE, value=True) for m in told])
    rows, as_of = absent_rows(log), START + 9_000_000
    found = rows.statistics(START, as_of, 10 * MINUTE, "true")
    frame = frame_of(rows, as_of, found.maturity_ms)
    assert [(one.action, one.rows, one.labelled) for one in found.shut] == [("block", 24, 0)]
    assert frame.filter(pl.col("@action") == "block")[LABEL].null_count() == len(blocked)
    assert frame.filter(pl.col("@action") == "approve")[LABEL].is_not_null().sum() > 8_000


def test_the_age_of_absence_is_that_of_the_latest_label_however_long_the_topic_stands_still(log: MemoryLog):
    minutes = range(480)
    log.produce(PREDICTIONS, [prediction(f"p{m:04d}", START + m * MINUTE, {"x": m}) for m in minutes], partition=0)
    late = {m: m + 37 * m % 400 for m in minutes if m % 4 == 0 and m + 37 * m % 400 < 480}
    log.produce(LABELS, [label(f"p{m:04d}", START + at * MINUTE, value=True) for m, at in sorted(late.items())])
    latest = START + max(late.values()) * MINUTE
    ages = []
    for as_of in (latest, latest + 20 * HOUR):
        absent = absent_rows(log).statistics(START, as_of, None, "true").absent
        assert absent is not None
        ages.append(absent.age_ms)
    assert ages[0] == ages[1]


def test_absence_gives_the_same_bytes_where_rows_outgrow_memory(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    frauds_only(log)
    as_of = START + 479 * MINUTE
    told = absent_rows(log).statistics(START + 2 * HOUR, as_of, None, "true")
    (one,) = absent_rows(log).pieces(as_of, told.maturity_ms)
    monkeypatch.setattr("stationkeeper.retrain.snapshot.frames.HELD_BYTES", 2_000)
    monkeypatch.setattr("stationkeeper.retrain.snapshot.frames.BUCKETS", 4)
    frames = EventFrames(tmp_path)
    small = absent_rows(log, frames)
    assert len(frames.buckets) > 1
    assert small.statistics(START + 2 * HOUR, as_of, None, "true") == told
    assert canonical_bytes(*small.pieces(as_of, told.maturity_ms)) == canonical_bytes(one)
    small.close()


def test_actions_and_their_probabilities_are_kept_where_events_tell_them(log: MemoryLog):
    told = [
        prediction("a", 10, {"x": 1}, action="approve", assignment_prob=0.9),
        prediction("b", 11, {"x": 2}, action="block", assignment_prob=1),
        # Which arm answered was drawn, not what was done.
        prediction("c", 12, {"x": 3}, action="approve", assignment_prob=0.1, arm="canary"),
        prediction("d", 13, {"x": 4}, assignment_prob=0.5),
        prediction("e", 14, {"x": 5}, action="approve", assignment_prob=0),
    ]
    log.produce(PREDICTIONS, told, partition=0)
    log.produce(LABELS, [label("a", 20, True), label("c", 20, False)])
    rows = rows_of(log)
    frame = frame_of(rows, 30, 10)
    assert frame.columns[5:] == ["@action", "@assignment_prob", "x"]
    assert frame["@action"].to_list() == ["approve", "block", "approve", None, "approve"]
    assert frame["@assignment_prob"].to_list() == [0.9, 1.0, None, None, None]
    counted = rows.statistics(onset_ms=11, as_of_ms=30, maturity_ms=17, positive="true")
    assert (counted.rows_after, counted.shut) == (1, ()), "of one blocked row one label was due"
    with tempfile.TemporaryDirectory() as directory:
        made = SnapshotStore(Path(directory)).write(frame, {"as_of": 30, "maturity": 17})
        assert (made.manifest["schema_version"], made.ripe_until) == (2, 13)
        assert SnapshotStore(Path(directory)).find(made.digest) is not None
    plain = frame_of(rows_of(log), 30, 10).drop("@action", "@assignment_prob")
    assert plain.columns == ["@event_id", "@time", "@version", "@label", "@label_time", "x"]


def test_anothers_action_is_read_where_it_is_mapped_alone(log: MemoryLog):
    record = {"id": "a", "ts": 10, "action": "block", "done": {"what": "approve", "p": 0.5}, "v": "1"}
    mapping = {"topic": PREDICTIONS, "map": {"event_id": "id", "time": "ts", "version": "v", "features": {"x": "x"}}}
    for more, known in (({}, None), ({"action": "done.what", "assignment_prob": "done.p"}, "approve")):
        model = {"name": "bank", "predictions": mapping | {"map": mapping["map"] | more}}
        topics = tuple(forms([ModelSettings.model_validate(model)]).values())
        log.produce(PREDICTIONS, [json.dumps(record | {"x": 1}).encode()], partition=0)
        frame = frame_of(rows_of(log, topics=topics), 30, 0)
        assert (frame["@action"][0] if "@action" in frame.columns else None) == known
        assert known is None or frame["@assignment_prob"][0] == 0.5


def test_poison_is_counted_and_changes_nothing(log: MemoryLog):
    good = prediction("a", "2026-01-05T00:00:00Z", {"x": 1, "huge": 10**400, "nested": {"y": 1}})
    poison = [b"", b"{", b"[]", b"\xff", b'{"kind":"prediction"}', prediction("b", "yesterday", {}), None]
    poison += [prediction("c", True, {}), prediction("d", 5, {}, event_id=7.5), label("a", 6, None)]
    log.produce(PREDICTIONS, [*poison[:5], good, *poison[5:]], partition=0)
    rows = rows_of(log)
    frame = frame_of(rows, START + 1, 0)
    assert frame["@event_id"].to_list() == ["a"]
    assert frame[TIME].to_list() == [START]
    assert frame["x"].to_list() == [1.0]
    assert rows.columns.unusable == len(poison), "a label in a topic of predictions is no event there, as for the tally"


def test_a_text_that_is_a_number_by_the_decimal_mark_is_trained_on_as_one(log: MemoryLog):
    """As the monitor counts it; ``text`` keeps a feature as it is written."""
    amounts = ["1.234,50 €", "14,9%", None, 7, "unknown"]
    found = [prediction(f"e{i}", i, {"amount": v, "zip": "01067"}) for i, v in enumerate(amounts)]
    log.produce(PREDICTIONS, found, partition=0)
    model = {"predictions": PREDICTIONS, "values": {"decimal": ",", "text": ["zip"]}}
    topics = tuple(forms([ModelSettings.model_validate({"name": "bank", **model})]).values())
    frame = frame_of(rows_of(log, topics=topics), 100, 0)
    assert frame["amount"].to_list() == [1234.5, pytest.approx(0.149), None, 7.0, None]
    assert frame["zip"].to_list() == ["01067"] * 5


def test_a_feature_is_what_it_mostly_is(log: MemoryLog):
    values: list[object] = ["de", "fr", 7, None, True]
    log.produce(
        PREDICTIONS,
        [prediction(f"e{i}", i, {"text": v, "flag": i % 2 == 0, "number": i}) for i, v in enumerate(values)]
        + [prediction("e9", 9, {"text": "it", "flag": None, "number": "nine"})],
        partition=0,
    )
    frame = frame_of(rows_of(log), 100, 0)
    assert frame.schema["text"] == pl.String
    assert frame["text"].to_list() == ["de", "fr", "7", None, "1", "it"]
    assert frame["flag"].to_list() == [True, False, True, False, True, None]
    assert frame["number"].to_list() == [0, 1, 2, 3, 4, None]
    types = EventColumns("bank").types
    types.add("x", 1, 1, 2)
    assert types.kind("x") is FeatureKind.NUMERIC


def test_feature_events_fill_what_predictions_lack(log: MemoryLog):
    log.create("bank.features")
    log.produce(PREDICTIONS, [prediction("a", 10, {"x": 1}), prediction("b", 11, {})], partition=0)
    facts = {"kind": "feature", "time": 9, "model": "bank"}
    sent = [facts | {"event_id": e, "features": {"x": 5, "y": "u"}} for e in ("a", "b")]
    log.produce("bank.features", [json.dumps(one).encode() for one in sent])
    features = own_form(("feature",), source="bank.features", models=("bank",))
    frame = frame_of(rows_of(log, topics=(*TOPICS, features)), 100, 0)
    assert frame["x"].to_list() == [1.0, 5.0]
    assert frame["y"].to_list() == ["u", "u"]


def test_a_mapped_topic_with_integer_ids_is_trained_on_as_it_is_counted(log: MemoryLog):
    mapping = {"topic": PREDICTIONS, "map": {"event_id": "id", "time": "ts", "features": "f"}, "time_unit": "s"}
    labels = {"topic": LABELS, "map": {"event_id": "id", "time": "ts", "label": "y"}, "time_unit": "s"}
    inputs = {"predictions": mapping | {"constants": {"version": "4"}}, "labels": labels}
    found = forms([ModelSettings.model_validate({"name": "bank"} | inputs)])
    log.produce(
        PREDICTIONS, [json.dumps({"id": i, "ts": 10 + i, "f": {"x": i}}).encode() for i in range(3)], partition=0
    )
    log.produce(LABELS, [json.dumps({"id": 1, "ts": 20, "y": True}).encode()])
    rows = rows_of(log, topics=(found[PREDICTIONS], found[LABELS]))
    frame = frame_of(rows, 100_000, 0)
    assert rows.columns.unusable == 0
    assert frame["@event_id"].to_list() == ["0", "1", "2"]
    assert frame[TIME].to_list() == [10_000, 11_000, 12_000]
    assert frame["@version"].to_list() == ["4"] * 3
    assert frame[LABEL].to_list() == [None, "true", None]


def test_reading_on_gives_what_reading_at_once_gives(log: MemoryLog):
    predictions, labels = events(transactions(600, START, ONSET, seed=5, shifted=False), "1")
    step = LabelledRows(TOPICS, EventColumns("bank"), 0, 10_000)
    for low in range(0, 600, 200):
        log.produce(PREDICTIONS, predictions[low : low + 200], partition=low // 200 % 2)
        log.produce(LABELS, labels[low : low + 200])
        assert step.advance(MemoryReader(log)) == 400
    assert step.advance(MemoryReader(log)) == 0
    whole = rows_of(log)
    clock = whole.clock_ms
    assert clock is not None
    assert canonical_bytes(frame_of(step, clock, 1_000)) == canonical_bytes(frame_of(whole, clock, 1_000))
    assert step.end == whole.end


def test_recorded_ends_bound_what_is_read(log: MemoryLog):
    predictions, labels = events(transactions(300, START, ONSET, seed=5, shifted=False), "1")
    log.produce(PREDICTIONS, predictions, partition=0)
    log.produce(LABELS, labels)
    rows = LabelledRows(TOPICS, EventColumns("bank"), 0, 10_000)
    rows.advance(MemoryReader(log), {Partition(PREDICTIONS, 0): 100, Partition(LABELS, 0): 50})
    frame = frame_of(rows, ONSET + HOUR, 0)
    assert len(frame) == 100
    assert frame[LABEL].is_not_null().sum() == 50


def test_the_oldest_rows_go_first(log: MemoryLog):
    minute = 60_000
    log.produce(PREDICTIONS, [prediction(f"e{i}", i * minute, {"x": i}) for i in range(100)], partition=0)
    rows = rows_of(log, limit=40)
    frame = frame_of(rows, 100 * minute, 0)
    assert frame[TIME].to_list() == [i * minute for i in range(60, 100)]
    late = frame_of(rows_of(log, since=90 * minute), 100 * minute, 0)
    assert late[TIME].to_list() == [i * minute for i in range(90, 100)]


def test_rows_that_outgrow_memory_give_the_same_bytes(log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    predictions, labels = events(transactions(2_000, START, ONSET, seed=5, shifted=False), "1")
    # One time for half of them, as a nightly batch has it, twice the same event, and labels that come in between.
    batch = [prediction(f"n{i}", START, {"amount": i, "method": "card"}) for i in range(500)]
    log.produce(PREDICTIONS, [*predictions, *batch[:250]], partition=0)
    log.produce(PREDICTIONS, [*batch, *predictions[:100]], partition=1)
    log.produce(LABELS, [*labels, *(label(f"n{i}", START + i, i % 3 == 0) for i in range(0, 500, 2))])
    base = SnapshotStore(tmp_path).write(snapshot_frame(0, 300, prefix="old", amount=[1.0] * 300), {})
    whole = rows_of(log)
    (one,) = whole.pieces(ONSET, 1_000, base.path)
    told = whole.statistics(START + HOUR, ONSET, None, "true")

    monkeypatch.setattr("stationkeeper.retrain.snapshot.frames.HELD_BYTES", 20_000)
    monkeypatch.setattr("stationkeeper.retrain.snapshot.frames.PIECE_CELLS", 5_000)
    frames = EventFrames(tmp_path / "near")
    small = LabelledRows(TOPICS, EventColumns("bank"), 0, 10_000, frames=frames)
    small.advance(MemoryReader(log))
    assert len(frames.buckets) > 1
    pieces = list(small.pieces(ONSET, 1_000, base.path))
    assert len(pieces) > 3
    assert canonical_bytes(*pieces) == canonical_bytes(one)
    found = small.statistics(START + HOUR, ONSET, told.maturity_ms, "true")
    assert found == told
    assert small.label_texts(ONSET) == whole.label_texts(ONSET)
    # A step that is tried again finds the same, the base's rows once.
    assert canonical_bytes(*small.pieces(ONSET, 1_000, base.path)) == canonical_bytes(one)
    small.close()
    assert list((tmp_path / "near").iterdir()) == []


def test_a_training_reads_the_newest_rows_of_a_larger_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stationkeeper.retrain.snapshot.snapshot.ROW_GROUP", 10)
    store = SnapshotStore(tmp_path)
    made = store.write(snapshot_frame(0, 95), {})
    assert pq.ParquetFile(made.path).num_row_groups == 10
    assert store.read(made.digest, 12)[TIME].to_list() == list(range(83, 95))
    assert len(store.read(made.digest, 2**63 - 1)) == 95
    # Cut into pieces of any size it is the same file.
    frame = snapshot_frame(0, 95)
    again = store.write((frame[at : at + 7] for at in range(0, 95, 7)), {})
    assert again.digest == made.digest
    assert again.manifest["last_labelled"] == 94


def test_rows_without_a_label_do_not_use_up_what_a_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stationkeeper.retrain.snapshot.snapshot.ROW_GROUP", 10)
    store, frame = SnapshotStore(tmp_path), snapshot_frame(0, 95)

    def read(labelled: Callable[[int], bool], most: int) -> tuple[list[int], list[int]]:
        texts = ["true" if labelled(at) else None for at in range(95)]
        made = store.write(frame.with_columns(pl.Series(LABEL, texts)), {})
        found = store.read(made.digest, most)
        assert found[TIME].is_sorted()
        known = found[LABEL].is_not_null()
        return found.filter(known)[TIME].to_list(), found.filter(~known)[TIME].to_list()

    # The newest twenty wait for their labels; ten of each.
    assert read(lambda at: at < 75, 10) == ([*range(65, 75)], [*range(85, 95)])
    # One in three: what lies among the labelled ones comes along, and no row from before the oldest of them.
    assert read(lambda at: at % 3 == 0, 10) == ([*range(66, 94, 3)], [at for at in range(80, 95) if at % 3])
    assert read(lambda at: at % 3 > 0, 10) == ([at for at in range(80, 95) if at % 3], [81, 84, 87, 90, 93])
    assert read(lambda _: False, 10) == ([], [*range(85, 95)])


@pytest.mark.parametrize("name", ["faith", "count", "rows"])
def test_values_of_a_sensitive_feature_name_no_segment(name: str):
    faith: list[object] = [*["a"] * 20, *["b"] * 40]
    region: list[object] = [*["n", "s"] * 30]
    frame = snapshot_frame(0, 60, region=region)
    frame = frame.with_columns(pl.Series("@label", ["true", "false"] * 30), pl.Series(name, faith))
    table = TrainingTable.of(frame, ModelTask.BINARY, "true", segments=(None, (), (name,)))
    assert set(table.groups[name]) == {"group 1", "group 2"}
    assert table.groups[name].to_list().count("group 1") == 40
    assert set(table.groups["region"]) == {"n", "s"}
    model = {"predictions": "p", "labels": "l", "sensitive": ["faith"], "retrain": {}}
    assert Config.model_validate({"models": {"m": model}}).models["m"].retraining().gate.sensitive == ("faith",)


def test_one_long_action_or_segment_does_not_make_every_row_as_wide():
    """Numpy gives each row the width of the longest: 10 000 letters are 40 kB a row."""
    long = ["x" * 10_000, *(["eu", "us"] * 30)[1:]]
    frame = pl.DataFrame(
        {EVENT_ID: [f"{i}" for i in range(60)], TIME: range(60), LABEL: ["true", "false"] * 30, ACTION: long}
        | {"region": long, "x": [float(i) for i in range(60)]},
    )
    table = TrainingTable.of(frame, ModelTask.BINARY, "true", segments=(("region",), (), ()))
    assert set(table.actions) == {"x" * WIDEST, "eu", "us"}
    assert table.actions.itemsize == 4 * WIDEST
    assert set(table.groups_at(np.arange(60))["region"]) == {"x" * WIDEST, "eu", "us"}


def test_maturity_is_the_age_by_which_labels_have_come(log: MemoryLog):
    log.produce(PREDICTIONS, [prediction(f"e{i}", i * 10, {"x": i}) for i in range(1_000)], partition=0)
    # One label in a hundred takes 700, the others 100: the 99 % quantile is one of the slow ones.
    log.produce(LABELS, [label(f"e{i}", i * 10 + (700 if i % 50 == 0 else 100), True) for i in range(1_000)])
    found = rows_of(log).statistics(0, 20_000, None, "true")
    assert found.maturity_ms == 700


FRAMES = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from(["true", "false", None]), st.none() | st.floats(-9, 9)), max_size=30
)


@given(rows=FRAMES, seed=st.randoms(use_true_random=False))
def test_the_same_rows_give_the_same_bytes_in_any_order(rows: list[tuple[int, str | None, float | None]], seed):
    made = [
        {"@event_id": f"e{i}", "@time": t, "@version": "1", "@label": y, "@label_time": t if y else None, "x": x}
        for i, (t, y, x) in enumerate(rows)
    ]
    schema = {
        "@event_id": pl.String, "@time": pl.Int64, "@version": pl.String, "@label": pl.String, "@label_time": pl.Int64,
        "x": pl.Float64,
    }  # fmt: skip
    shuffled = list(made)
    seed.shuffle(shuffled)
    one, two = pl.DataFrame(made, schema=schema), pl.DataFrame(shuffled, schema=schema)
    assert canonical_bytes(one) == canonical_bytes(two.select(reversed(two.columns)))


def snapshot_frame(first: int, n: int, prefix: str = "e", **columns: list[object]) -> pl.DataFrame:
    base = {
        "@event_id": [f"{prefix}{i}" for i in range(first, first + n)],
        "@time": list(range(first, first + n)),
        "@version": ["1"] * n,
        "@label": ["true"] * n,
        "@label_time": list(range(first, first + n)),
    }
    return pl.DataFrame(base | columns)


def test_a_snapshot_is_stored_once_and_damage_is_seen(tmp_path):
    store = SnapshotStore(tmp_path)
    frame = snapshot_frame(0, 5, x=[1.0, 2.0, 3.0, 4.0, None])
    one = store.write(frame, {"model": "bank"})
    inode = one.path.stat().st_ino
    assert store.write(frame.reverse(), {"model": "other"}) == one
    assert one.path.stat().st_ino == inode
    assert (one.rows, one.manifest["labelled"], one.manifest["model"]) == (5, 5, "bank")
    assert store.read(one.digest, 9).equals(frame)
    with pytest.raises(SnapshotError, match="no snapshot beef"):
        store.read("beef", 9)
    one.path.write_bytes(one.path.read_bytes()[:-1] + b"!")
    with pytest.raises(SnapshotError, match="damaged"):
        store.read(one.digest, 9)
    assert store.prune(tuple, one.path.stat().st_mtime + 1) == [one.digest]
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_whose_disk_is_full_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        SnapshotStore(tmp_path).write(snapshot_frame(0, 5), {"model": "bank"})
    assert list(tmp_path.iterdir()) == []


def test_the_champions_rows_come_before_those_of_the_topics():
    base = snapshot_frame(0, 10, prefix="old", x=["1", "2", "z", *["3"] * 7], gone=[1] * 10)
    rows = snapshot_frame(6, 5, x=[0.5] * 5, new=[True] * 5)
    merged = merge_base(rows, base, 6)
    assert merged["@event_id"].to_list() == [f"old{i}" for i in range(6)] + [f"e{i}" for i in range(6, 11)]
    assert merged["x"].to_list() == [1.0, 2.0, None, 3.0, 3.0, 3.0] + [0.5] * 5
    assert merged["new"].to_list() == [None] * 6 + [True] * 5
    assert merged.columns == rows.columns
