"""The monitor's three stages over the in-memory log: what goes in comes out once, through restarts and replicas."""

import json
from collections import Counter
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import Level, VerdictKind
from stationkeeper.contracts.status import check
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, labels, predictions, reference, rollout


def panes(rig: Rig, topic: str) -> dict[Any, tuple[int, bytes]]:
    """Sums of the pane deltas of a topic by key, so that runs can be compared whatever the flushes."""
    rows: Counter[Any] = Counter()
    counts: dict[Any, Any] = {}
    for record in rig.records(topic):
        if isinstance(record, PaneDelta):
            key = (record.version, record.digest, record.source, record.segment, record.start)
            counts.setdefault(key, np.zeros(record.width, np.int64))
            counts[key][record.first : record.first + len(record.vector())] += record.vector()
            rows[key] += record.rows if record.first == 0 else 0
    return {key: (rows[key], counts[key].tobytes()) for key in counts}


def run(rig: Rig, *, shift: float = 0.6) -> Rig:
    """Two steady hours and one that drifts."""
    rig.put_reference(reference())
    rig.send("scores", predictions(120, 50))
    rig.turn()
    rig.send("scores", predictions(60, 50, first=6_000, start=START + 120 * MINUTE, shift=shift))
    rig.turn()
    return rig


def test_drift_is_seen_dated_and_asked_to_be_cured_once() -> None:
    rig = run(Rig({"fraud": fraud()}))
    pages = [v for v in rig.verdicts() if v.level is Level.PAGE]
    assert [v.kind for v in pages] == [VerdictKind.DATA_DRIFT]
    assert pages[0].subject.name == "amount"
    onset = pages[0].onset
    assert onset is not None
    assert abs(onset.time.timestamp() * 1_000 - (START + 120 * MINUTE)) <= 5 * MINUTE
    assert [r.incident for r in rig.requests()] == [pages[0].incident]
    for role in ("tally", "join", "judge"):
        check(rig.stage(role).status())


def test_without_drift_nothing_is_said() -> None:
    rig = run(Rig({"fraud": fraud()}), shift=0.0)
    assert [v for v in rig.verdicts() if v.level is Level.PAGE] == []
    assert rig.requests() == []
    status = rig.stage("judge").status()["models"][0]
    assert status["state"] == "steady"


def test_metrics_status_and_verdict_carry_the_same_numbers() -> None:
    rig = run(Rig({"fraud": fraud()}))
    page = next(v for v in rig.verdicts() if v.level is Level.PAGE)
    judge = rig.stage("judge")
    subject = next(s for s in judge.status()["models"][0]["subjects"] if s["name"] == "amount")
    where = ("fraud", "1", "", "amount")
    found = {s.metric: s.value for s in judge.samples() if s.labels == where}
    assert found["stationkeeper_drift_evidence_threshold"] == subject["threshold"] == page.threshold
    assert found["stationkeeper_drift_evidence"] == subject["statistic"]
    assert found["stationkeeper_drift_effect_ratio"] == subject["effect"]
    assert found["stationkeeper_window_rows"] == subject["rows"]


def test_conservation_holds_in_status_and_metrics() -> None:
    rig = Rig({"fraud": fraud()})
    rig.put_reference(reference())
    good = predictions(20, 20)
    rig.send("scores", [*good, *good[:30], b"{", None, b"[]"], partition=0)
    rig.turn(4)
    row = next(c for c in rig.stage("tally").status()["conservation"] if (c["topic"], c["partition"]) == ("scores", 0))
    assert row["received"] == 433 == sum(row[o] for o in ("tallied", "late", "duplicate", "rejected", "dropped"))
    assert (row["tallied"], row["duplicate"], row["rejected"]) == (400, 30, 3)
    assert len(rig.read("scores.dlq")) == 2  # the tombstone has no value
    totals = {s.labels: s.value for s in rig.stage("tally").samples() if s.metric == "stationkeeper_records_total"}
    assert totals["scores", "0", "tallied"] == 400


def test_history_holds_every_closed_pane_once() -> None:
    rig = run(Rig({"fraud": fraud()}))
    tallied, closed = panes(rig, TOPICS.panes.name), panes(rig, TOPICS.history.name)
    assert len(closed) >= 175
    assert {key: tallied[key] for key in closed} == closed
    arms = [r for r in rig.records(TOPICS.history.name) if isinstance(r, ArmDelta)]
    assert [a.start for a in arms] == sorted({a.start for a in arms})


def test_a_restart_in_the_middle_changes_nothing() -> None:
    whole = run(Rig({"fraud": fraud()}))
    broken = Rig({"fraud": fraud()})
    broken.put_reference(reference())
    broken.send("scores", predictions(120, 50))
    broken.turn(3)
    for role in ("tally", "join", "judge"):
        broken.start(role)
    broken.turn(6)
    broken.send("scores", predictions(60, 50, first=6_000, start=START + 120 * MINUTE, shift=0.6))
    broken.turn(1)
    for role in ("tally", "join", "judge"):
        broken.start(role)
    broken.turn()
    assert panes(broken, TOPICS.history.name) == panes(whole, TOPICS.history.name)
    assert [v.encode() for v in broken.verdicts()] == [v.encode() for v in whole.verdicts()]
    assert [r.encode() for r in broken.requests()] == [r.encode() for r in whole.requests()]
    assert broken.stage("tally").status()["conservation"] == whole.stage("tally").status()["conservation"]


def test_two_tallies_give_the_panes_of_one() -> None:
    one = run(Rig({"fraud": fraud()}))
    two = Rig({"fraud": fraud()})
    two.start("tally", "1")
    run(two)
    assert panes(two, TOPICS.panes.name) == panes(one, TOPICS.panes.name)
    assert [v.encode() for v in two.verdicts()] == [v.encode() for v in one.verdicts()]


def test_labels_meet_their_predictions_whatever_comes_first() -> None:
    rig = Rig({"fraud": fraud(label_maturity="30m")})
    rig.put_reference(reference())
    early = list(range(0, 1_000, 2))
    rig.send("outcomes", labels(early))
    rig.turn(4)
    rig.send("scores", predictions(120, 50))
    rig.turn(4)
    rig.send("outcomes", labels(list(range(1, 1_000, 2))))
    rig.turn()
    outcomes = [r for r in rig.records(TOPICS.panes.name) if isinstance(r, OutcomeDelta)]
    assert sum(o.rows for o in outcomes) == 1_000
    confusion = np.sum([np.frombuffer(o.confusion, "<i8") for o in outcomes], axis=0)
    score = np.array([json.loads(value)["prediction"] for value in predictions(120, 50)[:1_000]])
    truth = np.arange(1_000) % 5 == 0
    said = score >= 0.5
    expected = [said & truth, said & ~truth, ~said & truth, ~said & ~truth]
    assert confusion.tolist() == [int(cell.sum()) for cell in expected]
    status = rig.stage("judge").status()
    check(status)
    assert status["models"][0]["labels"]["due"] >= status["models"][0]["labels"]["arrived"] > 0
    # Its window is empty by now: what is read from scores has nothing to be read from.
    shown = {p["measure"] for p in status["models"][0]["performance"]}
    assert shown == {"precision", "recall", "accuracy", "f1"}


def _labelled(rig: Rig) -> tuple[int, int]:
    found = rig.stage("judge").status()["models"][0]["labels"]
    return found["due"], found["arrived"]


def test_a_cold_start_on_a_backlog_judges_every_label_however_far_they_are_read_apart() -> None:
    # In the order of their names a turn reads predictions first, and labels when those are read to their end.
    rig = Rig({"fraud": fraud(label_maturity="30m", labels="truth")}, poll=400)
    rig.put_reference(reference())
    rig.send("scores", predictions(180, 20))
    rig.send("truth", [one for m in range(180) for one in labels(range(m * 20, m * 20 + 20), start=START + m * MINUTE)])
    rig.turn(40)
    # All that is half an hour old when the last pane that can close has closed.
    assert _labelled(rig) == (20 * 147, 20 * 147)
    found = {s.metric: s.value for s in rig.stage("judge").samples() if s.labels == ("fraud",)}
    assert found["stationkeeper_label_maturity_seconds"] == 1_800
    assert found["stationkeeper_labels_expected_ratio"] == 1.0
    check(rig.stage("judge").status())


def test_after_an_outage_longer_than_the_maturity_every_label_is_judged() -> None:
    def minutes(first: int, last: int) -> tuple[list[bytes], list[bytes]]:
        scores = predictions(last - first, 20, first=20 * first, start=START + first * MINUTE)
        known = [
            one for m in range(first, last) for one in labels(range(m * 20, m * 20 + 20), start=START + m * MINUTE)
        ]
        return scores, known

    rig = Rig({"fraud": fraud(label_maturity="30m", labels="truth")}, poll=200)
    rig.put_reference(reference())
    for minute in range(0, 60, 10):
        scores, known = minutes(minute, minute + 10)
        rig.send("scores", scores)
        rig.send("truth", known)
        rig.turn(3)
    scores, known = minutes(60, 300)
    rig.send("scores", scores)
    rig.send("truth", known)
    for role in ("tally", "join", "judge"):
        rig.start(role)
    rig.turn(30)
    # Stopped once more while labels are behind.
    for role in ("judge", "tally", "join"):
        rig.start(role)
    rig.turn(40)
    assert _labelled(rig) == (20 * 267, 20 * 267)


def test_labels_that_never_come_hold_nothing_back() -> None:
    rig = Rig({"fraud": fraud(label_maturity="30m")})
    rig.put_reference(reference())
    rig.send("scores", predictions(120, 20))
    rig.turn(24)
    assert _labelled(rig) == (20 * 87, 0)


def test_performance_is_unknown_again_once_labels_stop_coming() -> None:
    rig = Rig({"fraud": fraud(label_maturity="30m")})
    rig.put_reference(reference())
    rig.send("outcomes", labels(list(range(3_000))))
    rig.turn(4)

    def states() -> set[tuple[str, bool]]:
        return {(p["state"], "value" in p) for p in rig.stage("judge").status()["models"][0]["performance"]}

    rig.send("scores", predictions(120, 50))
    rig.turn()
    assert states() == {("steady", True)}
    rig.send("scores", predictions(120, 50, first=6_000, start=START + 120 * MINUTE))
    rig.turn()
    assert states() == {("unknown", False)}
    assert {p["reason"] for p in rig.stage("judge").status()["models"][0]["performance"]} == {
        UNKNOWN_HELP[Unknown.STALE]
    }


def test_a_segment_is_compared_with_itself_and_one_cause_pages_once() -> None:
    rig = Rig({"fraud": fraud(segments=["country"])})
    rig.put_reference(reference())
    rig.send("scores", predictions(240, 100))
    rig.turn()
    assert rig.verdicts() == []
    rig.send("scores", predictions(60, 100, first=24_000, start=START + 240 * MINUTE, shift=0.6))
    rig.turn()
    said = rig.verdicts()
    assert len([v for v in said if v.level is Level.PAGE]) == 1
    assert {v.segment for v in said} >= {"", "country=de"}
    assert len(rig.requests()) == 1
    check(rig.stage("judge").status())


def test_a_promotion_ends_the_old_incident_once_the_new_version_is_steady() -> None:
    rig = run(Rig({"fraud": fraud()}))
    incident = rig.requests()[0].incident
    rig.put_reference(reference("2", shift=0.6))
    rig.put_rollout(rollout("2", epoch=2, time=START + 180 * MINUTE))
    rig.send("scores", predictions(90, 50, first=9_000, start=START + 180 * MINUTE, version="2", shift=0.6))
    rig.turn()
    closing = [v for v in rig.verdicts() if v.kind is VerdictKind.RECOVERED]
    assert [(v.incident, v.version) for v in closing] == [(incident, "1")]
    # Nobody took the request up and another version came: what it asked for was measured against the old one.
    asked, taken_back = rig.requests()
    assert (taken_back.id, asked.withdrawn, taken_back.withdrawn) == (asked.id, "", closing[0].reason)
    status = rig.stage("judge").status()["models"][0]
    assert status["champion"] == "2"
    assert status["state"] == "steady"
    check(rig.stage("judge").status())


def test_an_incident_names_the_new_value_through_restarts_and_any_batching():
    """The judge and the tally are replaced in the middle; history replays to the same words."""
    rig = Rig({"fraud": fraud()})
    rig.put_reference(reference())
    before, after = predictions(30, 40), predictions(60, 40, first=1_200, start=START + 30 * MINUTE)
    changed = [value.replace(b'"us"', b'"instant_wallet"') for value in after]
    rig.send("scores", before)
    rig.turn(4)
    for at in range(0, len(changed), 700):
        rig.send("scores", changed[at : at + 700])
        rig.turn(1)
        for role in ("tally", "judge"):
            rig.loops.pop(role).close()
            rig.start(role)
        rig.turn(3)
    rig.turn()
    pages = [verdict for verdict in rig.verdicts() if verdict.level == "page"]
    assert [verdict.subject.name for verdict in pages] == ["country"]
    assert "'instant_wallet'" in pages[0].reason
    assert pages[0].evidence["cell"] == "'instant_wallet'"
    assert any(record.new for record in rig.records(TOPICS.history.name) if isinstance(record, PaneDelta))
    new = [record.new for record in rig.records(TOPICS.panes.name) if isinstance(record, PaneDelta) and record.new]
    assert {*new[0]} == {"country"}
    sent = sum(b"instant_wallet" in value for value in changed)
    assert sum(one["country"]["instant_wallet"] for one in new) == sent


def test_the_state_of_a_model_stands_over_the_reason_of_the_incident_that_makes_it():
    """A column breaks, and later the world changes elsewhere: broken data, and why, not the newer drift."""
    rig = Rig({"fraud": fraud()})
    rig.put_reference(reference())
    rig.send("scores", predictions(60, 50))
    rig.turn()
    broken = predictions(90, 50, first=3_000, start=START + 60 * MINUTE)
    broken = [value.replace(b'"amount": ', b'"other": ') for value in broken]
    later = [value.replace(b'"us"', b'"fr"') for value in broken[2_500:]]
    rig.send("scores", broken[:2_500])
    rig.turn()
    rig.send("scores", later)
    rig.turn()
    (model,) = rig.stage("judge").status()["models"]
    opened = [one for one in model["incidents"] if "closed" not in one]
    assert [one["kind"] for one in opened] == ["data_drift", "data_quality"]
    assert (model["state"], model["reason"]) == ("broken", opened[1]["reason"])
    assert opened[0]["moved"][0]["name"] == "country"
    assert opened[0]["effect"] == opened[0]["moved"][0]["effect"] > 0.05


def test_an_incident_that_no_chart_shows_is_in_the_state_of_the_model():
    """Nothing came for half an hour, and what came before was steady."""
    rig = Rig({"fraud": fraud(quality={"stale_after": "10m"})}, partitions=1)
    rig.put_reference(reference())
    rig.send("scores", predictions(60, 50))
    rig.turn()
    rig.send("scores", predictions(1, 1, first=3_000, start=START + 100 * MINUTE))
    rig.turn()
    (model,) = rig.stage("judge").status()["models"]
    (incident,) = [one for one in model["incidents"] if "closed" not in one]
    assert incident["leader"] == "events"
    assert (model["state"], model["reason"]) == ("broken", incident["reason"])
