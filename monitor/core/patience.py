"""What one evening or a slow season shows: of a model with seasons, such drift warns, and pages only beyond.

The mix of an hour of the week is known from the weeks of its reference, and two things no few weeks can teach: how far
one bad evening lies from the others, and how a season moves. So a page of drift rests on more rows than an evening
brings, and on evidence that is no older than two weeks; what is held back is a warning, and enters the bags.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from stationkeeper.monitor.core.detect import Drift
from stationkeeper.monitor.core.finding import PAGE, WARN, Finding

EVENING_ROWS = 300
"""Rows since the onset that a page rests on at least. On the flights of 2013 the evenings after thunderstorms paged on
64 and 130 rows and were over by morning. At half two such evenings of the year page; at double a change at 100 rows an
hour is told after six hours at the earliest."""

SLOW_MS = 14 * 86_400_000
"""Evidence that began before that is a season's: a drift so small that two weeks of rows do not show it. On the flights
of 2013 the summer's timetable (distances .06 sd shorter) took 36 days. At half a weekly report of 50 rows an hour may
be held, at double the timetable pages."""

# How long an evening that was held is remembered: what comes back on the day after is one with it.
_REMEMBERED_MS = 86_400_000


class Patience:
    """Which drift of a watch is held back; ``since`` is when what was held began, by key of the finding (ms).

    Holding back only ever takes pages away, so the budget holds as it did. By hand: 40 rows an hour that jump at 20:00
    warn at 21:00, after 40 rows, and page at 04:00, after 320.
    """

    def __init__(self, drifts: Iterable[Drift]) -> None:
        self._seasonal = {drift.type for drift in drifts if drift.plan.strata > 1}
        self.since: dict[str, int] = {}

    def hold(self, finding: Finding, now: int, rows_since: Callable[[int], int]) -> Finding:
        """Return a page of drift as a warning where it must wait; any other finding as it is.

        A detector that crossed begins anew, so rows count from the first time it did, within a day.
        """
        if finding.level != PAGE or finding.type not in self._seasonal or finding.check is not None:
            return finding
        begin = min(finding.onset, self.since.pop(finding.key, finding.onset))
        if now - begin > _REMEMBERED_MS:
            begin = finding.onset
        rows = rows_since(begin)
        if rows < EVENING_ROWS:
            self.since[finding.key] = begin
            return _held(finding, f"{rows} rows since it began, a page rests on {EVENING_ROWS}")
        if self.slow(finding, now):
            return _held(finding, "it took more than two weeks to show: a slow season")
        return finding

    def slow(self, finding: Finding, now: int) -> bool:
        """Return whether drift took so long to show that it is a season's, and no broken data."""
        return finding.type in self._seasonal and now - finding.onset > SLOW_MS


def _held(finding: Finding, why: str) -> Finding:
    return replace(finding, level=WARN, evidence={**finding.evidence, "held": why})
