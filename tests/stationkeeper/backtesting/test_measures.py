"""A backtest measures and judges what a model answers: several classes and numbers as well as two answers."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from stationkeeper.backtesting.replay import ReplaySettings
from stationkeeper.backtesting.run import run
from stationkeeper.backtesting.table import Table, table_of
from stationkeeper.contracts.messages import SubjectState
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.tables import read_table

ROWS, REFERENCE, PANE = 4_000, 1_500, 50


def settings() -> ReplaySettings:
    return ReplaySettings(parse_budget("1 per 100000 rows"), pane=PANE, window=500, reference_rows=REFERENCE)


def table(guess: np.ndarray, truth: np.ndarray, times: np.ndarray | None = None) -> Table:
    columns = {"guess": guess, "truth": truth}
    return Table(columns, np.arange(len(guess)), times, prediction="guess", label="truth")


def test_errors_that_grow_are_paged_and_measured():
    rng = np.random.default_rng(1)
    truth = rng.gamma(2.0, 100.0, ROWS)
    size = np.where(np.arange(ROWS) < 2_500, 20.0, 50.0)
    guess = truth + rng.laplace(0.0, 1.0, ROWS) * size
    err = io.StringIO()
    found = run(table(guess, truth), settings(), err=err, course=True)
    pages = [one for one in found.verdicts if one.level == "page" and one.subject.name == "absolute_error"]
    assert [one.cause for one in pages] == ["error_size"]
    assert pages[0].row is not None
    assert 2_500 < pages[0].row < 3_000
    measures = found.replay.summary.measures
    assert measures["mae"].value == pytest.approx(np.abs(guess - truth)[REFERENCE:].mean(), rel=1e-5)
    assert f"mae: {measures['mae'].value:.4g}" in err.getvalue()
    assert found.course is not None
    assert {one["measure"] for one in found.course.performance} == {"mae", "rmse", "bias", "quantile_loss"}


def test_several_classes_have_their_recall():
    rng = np.random.default_rng(2)
    names = np.array(["bird", "cat", "dog"])
    truth = rng.choice(names, ROWS)
    guess = np.where(rng.random(ROWS) < 0.8, truth, rng.choice(names, ROWS))
    found = run(table(guess, truth), settings())
    measures = found.replay.summary.measures
    judged = slice(REFERENCE, REFERENCE + measures["accuracy"].rows)
    assert measures["accuracy"].value == pytest.approx((guess == truth)[judged].mean())
    assert measures["recall of cat"].value == pytest.approx((guess == "cat")[judged][truth[judged] == "cat"].mean())


def decided(path: Path, *, said: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Events of which those called positive are blocked with .75 and never labelled; (called, truth) of each."""
    rng = np.random.default_rng(3)
    called = rng.random(ROWS) < 0.3
    truth, through = rng.random(ROWS) < np.where(called, 0.8, 0.1), ~called | (rng.random(ROWS) < 0.25)
    lines = []
    for i in range(ROWS):
        head = {"event_id": f"e{i}", "time": i * 60_000, "model": "fraud"}
        event = {**head, "kind": "prediction", "version": "1", "features": {"a": 1.0}, "prediction": float(called[i])}
        chance = 1.0 if not called[i] else 0.25 if through[i] else 0.75
        action = {"action": "approve" if through[i] else "block", "assignment_prob": chance}
        lines.append(json.dumps(event | (action if said or not through[i] else {})))
        if through[i]:
            lines.append(json.dumps({**head, "kind": "label", "time": i * 60_000 + 1, "label": int(truth[i])}))
    path.write_text("\n".join(lines))
    return called, truth


@pytest.mark.parametrize("said", [True, False])
def test_an_action_that_keeps_labels_away_is_told_and_corrected_for(tmp_path: Path, *, said: bool):
    called, truth = decided(tmp_path / "events.jsonl", said=said)
    err = io.StringIO()
    hour = ReplaySettings(
        parse_budget("1 per 30 days"), 3_600_000, 3_600_000, REFERENCE, maturity=3_600_000, adoption=None
    )
    found = run(table_of(read_table(tmp_path / "events.jsonl")), hour, err=err, course=True)
    selection = found.replay.labels.selection()
    assert selection is not None
    assert [(one.action, one.labelled) for one in selection.shut] == [("block", 0)]
    measures = found.replay.summary.measures
    judged = slice(REFERENCE, None)
    recall = (called & truth)[judged].sum() / truth[judged].sum()
    # As if nobody had been blocked, where the events tell how those let through were drawn.
    assert (measures["recall"].low <= recall <= measures["recall"].high) == said
    assert f"note: {selection.words()}" in err.getvalue()
    assert ("weigh 1/assignment_prob" if said else "labelled rows say no action") in selection.words()
    assert found.course is not None
    assert all(selection.words().lower() in one["reason"].lower() for one in found.course.performance)
    # As the monitor has it: known where those let through stand for the others, and what needs scores in order never.
    state = {one["measure"]: one["state"] for one in found.course.performance}
    assert state["recall"] == (SubjectState.STEADY if said else SubjectState.UNKNOWN)
    assert {state[name] for name in state if name not in selection.measures} <= {SubjectState.UNKNOWN}
