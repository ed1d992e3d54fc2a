"""A blocked payment never gets a label: the monitor says so, and weighs what was let through by its probability."""

import json
from typing import Any

import pytest

from stationkeeper.contracts.status import check
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
from stationkeeper.monitor.core.reference import AssignedRows, OutcomeSums
from stationkeeper.monitor.verify import verify
from stationkeeper.report.history import read_history
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, labels, predictions, reference

ROWS, PER_MINUTE = 6_000, 50


def decided(*, drawn: bool = True, actions: int = 0, said: int = 1) -> tuple[list[bytes], list[int]]:
    """Predictions of which those called positive are blocked with .75; the numbers of those that get a label."""
    out, known = [], []
    for i, value in enumerate(predictions(120, PER_MINUTE)):
        event = json.loads(value)
        through = event["prediction"] < 0.5 or i % 4 == 3
        event["action"] = f"offer {i}" if i < actions else "approve" if through else "block"
        if through and i % said:
            del event["action"]
        elif drawn:
            event["assignment_prob"] = 1.0 if event["prediction"] < 0.5 else 0.25 if through else 0.75
        out.append(json.dumps(event).encode())
        if through:
            known.append(i)
    return out, known


def played(*, restart: bool = False, drawn: bool = True, actions: int = 0, said: int = 1) -> Rig:
    rig = Rig({"fraud": fraud(label_maturity="30m", label_horizon="1h", segments=["country"])}, partitions=1)
    rig.put_reference(reference())
    scores, known = decided(drawn=drawn, actions=actions, said=said)
    for first in range(0, ROWS, ROWS // 4):
        last = first + ROWS // 4
        rig.send("scores", scores[first:last])
        # Five minutes after the prediction.
        mine = [i for i in known if first <= i < last]
        rig.send("outcomes", [labels([i], start=START + i * MINUTE // PER_MINUTE, delay=5 * MINUTE)[0] for i in mine])
        rig.turn(3)
        if restart:
            for role in ("tally", "join", "judge"):
                rig.start(role)
    rig.turn()
    return rig


def shown(rig: Rig) -> dict[str, Any]:
    status: dict[str, Any] = rig.stage("judge").status()["models"][0]
    return status


@pytest.fixture(scope="module")
def rig() -> Rig:
    return played()


def measure(status: dict[str, Any], name: str, segment: str = "") -> dict[str, Any]:
    return next(one for one in status["performance"] if (one["measure"], one["segment"]) == (name, segment))


def test_counts_by_action_are_those_of_the_events(rig: Rig) -> None:
    told = rig.records(TOPICS.panes.name)
    rows = {"approve": 0, "block": 0}
    labelled = {"approve": 0, "block": 0}
    for one in told:
        if isinstance(one, ArmDelta | OutcomeDelta) and not one.segment:
            for name, sums in one.actions.items():
                found = AssignedRows.of(OutcomeSums.unpack(sums))
                rows[name] += int(found.rows.sum())
                labelled[name] += int(found.labelled.sum())
    known = len(decided()[1])
    assert rows == {"approve": known, "block": ROWS - known}
    assert labelled == {"approve": known, "block": 0}
    assert verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream").equal


def test_the_status_says_whose_labels_never_come_and_corrects_for_them(rig: Rig) -> None:
    status = shown(rig)
    check(status_of(rig))
    found = status["labels"]["selection"]
    assert [one["action"] for one in found["actions"]] == ["block"]
    assert found["actions"][0]["labelled"] == 0
    assert found["unseen"] == 0
    assert "rows of 'block' have one" in status["labels"]["reason"]
    recall = measure(status, "recall")
    # Every fifth is positive whatever its score, so that recall is the share of rows called positive: of the labelled
    # a quarter of those stands for all.
    assert recall["state"] == "steady"
    assert recall["labelled"] < recall["value"]
    called = [json.loads(value)["prediction"] >= 0.5 for value in predictions(120, PER_MINUTE)]
    assert recall["low"] <= sum(called) / ROWS <= recall["high"]
    assert "labelled" in measure(status, "accuracy", "country=de")
    samples = {one.metric: one.value for one in rig.stage("judge").samples() if one.labels == ("fraud",)}
    assert samples["stationkeeper_labels_unseen_ratio"] == 0.0


def status_of(rig: Rig) -> Any:
    return rig.stage("judge").status()


def test_a_restart_in_between_shows_the_same(rig: Rig) -> None:
    again = shown(played(restart=True))
    assert again["labels"] == shown(rig)["labels"]
    names = ("measure", "segment", "value", "low", "high", "labelled")
    before, after = ([[one.get(name) for name in names] for one in s["performance"]] for s in (shown(rig), again))
    assert after == before


def test_without_probabilities_performance_is_unknown() -> None:
    status = shown(played(drawn=False))
    found = measure(status, "accuracy")
    assert found["state"] == "unknown"
    assert found["reason"].startswith(UNKNOWN_HELP[Unknown.SELECTIVE])
    assert "labelled" not in found
    assert status["labels"]["selection"]["weighted"] == 0


def test_where_most_approved_payments_do_not_say_so_performance_is_unknown() -> None:
    rig = played(said=5)
    found = measure(shown(rig), "accuracy")
    assert (found["state"], "labelled" in found) == ("unknown", False)
    assert found["reason"].startswith(UNKNOWN_HELP[Unknown.SELECTIVE])
    assert "labelled rows say no action" in found["reason"]
    check(status_of(rig))
    history = read_history(MemoryReader(rig.log), TOPICS, "fraud", None, None)
    report = next(one for one in history.performance() if one["measure"] == "accuracy")
    assert "labelled rows say no action" in report["reason"]
    assert "labelled" not in report


def test_actions_beyond_those_with_a_place_count_as_not_said() -> None:
    told = played(actions=40).records(TOPICS.panes.name)
    names = {name for one in told if isinstance(one, ArmDelta | OutcomeDelta) for name in one.actions}
    assert names == {f"offer {i}" for i in range(16)}
