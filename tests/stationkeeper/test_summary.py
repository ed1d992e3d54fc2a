"""The last page judges the run by what the topics hold, and names the stage that failed."""

from datetime import UTC, datetime

import polars as pl
import pytest

from stationkeeper.contracts.messages import DeploymentAction, Level, Onset, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.demo.loop_history import LoopHistory
from stationkeeper.demo.scenario import Plot
from stationkeeper.demo.served import stretch
from stationkeeper.demo.summary import summarise
from tests.stationkeeper.test_lineage import CANDIDATE, PROMOTED, REQUEST, verdict

HOUR = 3_600_000
START = round(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1_000)
PLOT = Plot("title", True, START + HOUR, "a new method", HOUR)
QUIET = Plot("title", False, None, "", HOUR)


def served() -> pl.DataFrame:
    """Return six events: precision 1 before, 1/2 during, 1 after; one label is still unknown."""
    return pl.DataFrame(
        {
            "time": [START, START + 1, START + HOUR, START + HOUR + 1, START + 3 * HOUR, START + 3 * HOUR + 1],
            "prediction": [0.9, 0.1, 0.9, 0.9, 0.9, 0.9],
            "flagged": [True, False, True, True, True, True],
            "label": [True, False, True, False, True, None],
            "version": ["1", "1", "1", "1", "2", "2"],
        }
    )


def story(*stages: str) -> LoopHistory:
    history = LoopHistory()
    page = verdict("ver-1", "inc-1").model_copy(update={"time": to_datetime(START + 2 * HOUR)})
    started = PROMOTED.model_copy(update={"action": DeploymentAction.STARTED})
    promoted = PROMOTED.model_copy(update={"time": to_datetime(START + 3 * HOUR)})
    parts = {
        "page": lambda: history.verdicts.append(page),
        "request": lambda: history.requests.append(REQUEST),
        "candidate": lambda: history.candidates.append(CANDIDATE),
        "canary": lambda: history.deployments.append(started),
        "promotion": lambda: history.deployments.append(promoted),
    }
    for name in stages:
        parts[name]()
    return history


@pytest.mark.parametrize(
    ("stages", "failed"),
    [
        ((), "detection"),
        (("page",), "request"),
        (("page", "request"), "retraining"),
        (("page", "request", "candidate"), "canary"),
        (("page", "request", "candidate", "canary"), "promotion"),
    ],
)
def test_a_loop_that_stops_names_its_stage(stages: tuple[str, ...], failed: str) -> None:
    summary = summarise("fraud", PLOT, story(*stages), served(), (START, START + 4 * HOUR), 1.0)
    assert not summary.passed
    assert summary.verdict.startswith(f"the loop did not close: {failed}")


def test_a_closed_loop_shows_precision_before_during_and_after() -> None:
    closed = story("page", "request", "candidate", "canary", "promotion")
    summary = summarise("fraud", PLOT, closed, served(), (START, START + 4 * HOUR), 1.0)
    assert summary.passed
    assert [(p.name, p.precision) for p in summary.stretches] == [("before", 1.0), ("during", 0.5), ("after", 1.0)]
    assert summary.seen_after == "1h"
    assert summary.seen_after_events == 2
    times = [row["time"] for row in summary.timeline]
    assert times == sorted(times)


def test_where_nothing_is_planted_the_change_is_the_one_that_was_cured() -> None:
    """A page about bad data days before is not when the change began that the replacement was asked for."""
    closed = story("page", "request", "candidate", "canary", "promotion")
    closed.verdicts.insert(0, closed.verdicts[0].model_copy(update={"onset": None}))
    request = REQUEST.model_copy(
        update={"onset": Onset(time=to_datetime(START + HOUR), low=to_datetime(START), high=to_datetime(START + HOUR))}
    )
    closed.requests[0] = request
    real = Plot("title", True, None, "", HOUR)
    summary = summarise("flights", real, closed, served(), (START, START + 4 * HOUR), 1.0)
    assert [(p.name, p.events) for p in summary.stretches] == [("before", 2), ("during", 2), ("after", 2)]


def test_without_a_shift_a_single_page_fails_the_run() -> None:
    span = (START, START + 4 * HOUR)
    assert summarise("fraud", QUIET, story(), served(), span, 1.0).passed
    noisy = summarise("fraud", QUIET, story("page"), served(), span, 1.0)
    assert not noisy.passed
    assert "1 page(s) and 0 request(s)" in noisy.verdict


def test_warnings_and_recoveries_are_not_pages() -> None:
    history = LoopHistory()
    history.verdicts.append(verdict("w", None, Level.WARN))
    history.verdicts.append(verdict("r", "i").model_copy(update={"kind": VerdictKind.RECOVERED}))
    assert history.pages == []


def test_a_stretch_without_flags_has_no_precision_rather_than_zero() -> None:
    part = stretch(served(), "x", START + 1, START + 2)
    assert part.precision is None
    assert part.recall is None
    assert part.events == 1
    assert part.confidence == pytest.approx(0.8)


def test_the_cure_begins_when_the_old_version_has_answered_for_the_last_time() -> None:
    """The router followed the record an hour later: the old version's error of that hour is no fault of the new one."""
    late = {"time": [START + 4 * HOUR, START + 4 * HOUR + 1], "prediction": [0.9, 0.9], "flagged": [True, True]}
    more = pl.DataFrame(late | {"label": [False, True], "version": ["1", "3"]})
    closed = story("page", "request", "candidate", "canary", "promotion")
    table = pl.concat([served(), more])
    summary = summarise("fraud", PLOT, closed, table, (START, START + 5 * HOUR), 1.0)
    assert [(p.name, p.events) for p in summary.stretches] == [("before", 2), ("during", 5), ("after", 1)]
    assert summary.stretches[-1].precision == 1.0
    row = next(row for row in summary.timeline if row["what"] == "took over")
    assert row["time"] == to_datetime(START + 4 * HOUR + 1).isoformat()


def test_a_follow_up_has_a_stretch_of_its_own_and_the_story_goes_on_until_it_is_seen() -> None:
    history = story("page", "request", "candidate", "canary", "promotion")
    assert history.over(START + 4 * HOUR, HOUR)
    out = PROMOTED.model_copy(update={"action": DeploymentAction.STEP})
    history.deployments.append(out)
    assert not history.over(START + 9 * HOUR, HOUR)
    second = PROMOTED.model_copy(update={"champion": "3", "time": to_datetime(START + 5 * HOUR)})
    history.deployments.append(second)
    assert not history.over(START + 5 * HOUR, HOUR)
    assert history.over(START + 6 * HOUR, HOUR)
    later = served().with_columns(pl.lit("3").alias("version")).with_columns(pl.col("time") + 5 * HOUR)
    summary = summarise("fraud", PLOT, history, pl.concat([served(), later]), (START, START + 9 * HOUR), 1.0)
    assert [part.name for part in summary.stretches] == ["before", "during", "after", "after the follow-up"]
    assert [row["since"] for row in summary.timeline if row["what"].startswith("promoted")] == ["2:00 h", "4:00 h"]
