"""Drift of an evening, or of a slow season, warns; with more rows, or sooner, it pages."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stationkeeper.contracts.column import numbers
from stationkeeper.contracts.messages import Level, SubjectType, VerdictKind
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.finding import INFORM, PAGE, WARN, Finding
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.patience import EVENING_ROWS, SLOW_MS, Patience
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.watch import Watch, WatchSettings

HOUR, DAY, MONDAY = 3_600_000, 86_400_000, 978_307_200_000


def watch_of(rhythm=1.0):
    """A watch of 40 numbers an hour, at night ``rhythm`` sd higher, after three weeks."""
    rng = np.random.default_rng(0)
    hours = np.repeat(np.arange(24 * 21), 40)
    values = rng.normal(size=len(hours)) + rhythm * (hours % 24 < 6)
    return Watch(profile({"x": values, "t": MONDAY + hours * HOUR}, time="t", pane="1h"), settings=WatchSettings())


def page_of(onset, type_=SubjectType.FEATURE, check=None):
    kind = VerdictKind.DATA_DRIFT
    return Finding("x", type_, kind, PAGE, 15.0, 14.0, onset, rows=40, cause=Cause.SHIFT, check=check)


def seen(rows: int, moved: float) -> Callable[[int], tuple[int, float]]:
    return lambda _: (rows, moved)


def test_an_evening_waits_and_is_remembered_for_two_days():
    patience = Patience(watch_of().drifts)
    first = patience.hold(page_of(0), HOUR, lambda _: (64, 1.0))
    assert first.level == WARN
    assert first.evidence["held"] == f"64 rows since it began, a page rests on {EVENING_ROWS}"
    # The detector began anew at the third hour; what it found before counts.
    assert patience.hold(page_of(3 * HOUR), 5 * HOUR, {0: (EVENING_ROWS, 1.0)}.__getitem__).level == PAGE
    patience.hold(page_of(0), HOUR, lambda _: (64, 1.0))
    assert patience.hold(page_of(3 * DAY), 3 * DAY + HOUR, {3 * DAY: (50, 1.0)}.__getitem__).level == WARN


def test_within_a_day_a_page_must_move_more_than_days_do():
    drifts = watch_of().drifts
    floor = drifts[0].plan.subjects[0].delta
    for moved, level in ((0.9 * floor, INFORM), (1.4 * floor, WARN), (1.6 * floor, PAGE)):
        patience = Patience(drifts)
        assert patience.hold(page_of(0), 20 * HOUR, seen(900, moved)).level == level
        # An odd day ends with its last hour; crossing after it, the change is older by the first time it did.
        assert patience.hold(page_of(22 * HOUR), DAY, seen(900, moved)).level == level
        assert patience.hold(page_of(22 * HOUR), DAY + HOUR, seen(900, moved)).level == PAGE
    warned = replace(page_of(0), level=WARN)
    assert Patience(drifts).hold(warned, HOUR, lambda _: (900, 0.0)).level == INFORM
    assert Patience(drifts).hold(warned, DAY + HOUR, lambda _: (900, 0.0)).level == WARN
    skew = replace(warned, kind=VerdictKind.TRAIN_SERVE_SKEW)
    assert Patience(drifts).hold(skew, HOUR, lambda _: (900, 0.0)) == skew


def test_a_slow_season_warns_and_what_came_lately_pages():
    patience = Patience(watch_of().drifts)
    assert patience.hold(page_of(0), SLOW_MS + HOUR, lambda _: (9_000, 0.0)).level == WARN
    assert patience.hold(page_of(0), SLOW_MS, lambda _: (9_000, 0.0)).level == PAGE


def test_only_drift_of_a_model_with_seasons_waits():
    patience = Patience(watch_of().drifts)
    assert patience.hold(page_of(0, check=Check.CONSTANT), HOUR, lambda _: (1, 0.0)).level == PAGE
    assert patience.hold(page_of(0, type_=SubjectType.PERFORMANCE), HOUR, lambda _: (1, 0.0)).level == PAGE
    assert Patience(watch_of(rhythm=0.0).drifts).hold(page_of(0), HOUR, lambda _: (1, 0.0)).level == PAGE


def said_of_a_jump(hours, restart=None):
    """What a jump of 2 sd that lasts so many hours brings, by hour since it began."""
    watch, rng = watch_of(), np.random.default_rng(1)
    said: dict[Level, list[int]] = {}
    for hour in range(21 * 24, 21 * 24 + 60):
        since = hour - 21 * 24 - 20
        values = rng.normal(size=40) + (hour % 24 < 6) + 2.0 * (0 <= since < hours)
        (vector,) = watch.layout.tally({"x": numbers(values)}, np.zeros(40, np.int64), np.array([40]))
        for verdict in watch.step(Pane(MONDAY + hour * HOUR, HOUR, 40, vector)).verdicts:
            said.setdefault(verdict.level, []).append(since + 1)
        if since == restart:
            other = watch_of()
            other.restore(watch.state())
            watch = other
    return said


def test_a_strange_evening_never_pages_and_a_change_that_stays_does():
    evening = said_of_a_jump(3)
    assert Level.PAGE not in evening
    assert evening[Level.WARN]
    stays = said_of_a_jump(60)
    assert stays[Level.WARN][0] < stays[Level.PAGE][0] <= EVENING_ROWS / 40 + 2
    assert said_of_a_jump(60, restart=3) == stays
