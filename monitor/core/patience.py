"""Drift that one odd evening or a slow season explains warns, in a model with seasons; what goes beyond it pages.

The mix of an hour of the week is known from the weeks of its reference, and two things no few weeks can teach: how far
one bad evening lies from the others, and how a season moves. So a page of drift rests on more rows than an evening
brings, and on evidence that is no older than two weeks; what is held back is a warning, and enters the bags.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.monitor.core.detect import Drift
from stationkeeper.monitor.core.finding import INFORM, PAGE, WARN, Finding

EVENING_ROWS = 300
"""Rows since the onset that a page rests on at least: what evenings of a small model bring in some hours. Of so many a
share is known to 3 % (1 / (2 sqrt(300))), near the smallest effect floor; at half one bad evening is enough, at double
a change at 100 rows an hour is told after six hours at the earliest."""

SLOW_MS = 14 * 86_400_000
"""Evidence that began before that is a season's: a drift so small that two weeks of rows do not show it. At half a
change that one week of few rows has shown may be held, at double what a month brings anyway pages."""

ONE_DAY_MS = 86_400_000
"""Until a change is older it rests on one day, and of the law of days a reference of D days knows that many draws: the
oddest comes again with chance 1 / (D + 1), which no budget of a page a month allows. So within its first day it pages
where it moved more than days are known to; at half, an odd morning pages, at double a change waits two days."""

ODD_DAY = 1.5
"""What one day must move by to page alone, in effect floors: with a floor of 1.5 times what nine days in ten stay below
that is 3.7 standard deviations of days, which 14 days know to 1 in 400 (Student's t), so ten subjects to one in six
weeks. At 1 an odd day a fortnight pages, at 2 a shift of five such deviations waits for its second day."""

_DRIFT = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})

# How long what was held is remembered: what comes back on the day after is one with it, and then a day old.
_REMEMBERED_MS = 2 * ONE_DAY_MS


class Patience:
    """Which drift of a watch is held back; ``since`` is when what was held began, by key of the finding (ms).

    Holding back only ever takes pages away; that evidence of models with seasons pays for dependence within days alone
    (`plan_subject`) rests on it. By hand: 40 rows an hour that jump far at 20:00 warn at 21:00, after 40 rows, and page
    at 04:00, after 320; where they move no further than days do, they page at 21:00 on the day after.
    """

    def __init__(self, drifts: Iterable[Drift]) -> None:
        seasonal = [drift for drift in drifts if drift.plan.strata > 1]
        self._floors = {(drift.type, one.name): one.delta for drift in seasonal for one in drift.plan.subjects}
        self.since: dict[str, int] = {}

    def hold(self, finding: Finding, now: int, seen_since: Callable[[int], tuple[int, float]]) -> Finding:
        """Return a page of drift as a warning, and a warning as news for the page alone, where it must wait.

        ``seen_since`` gives the rows since a time and how far they moved (TV beyond noise). A detector that crossed
        begins anew, so both count from the first time it did, within two days.
        """
        floor = self._floors.get((finding.type, finding.subject))
        if finding.level < WARN or floor is None or finding.check is not None or finding.kind not in _DRIFT:
            return finding
        begin = min(finding.onset, self.since.get(finding.key, finding.onset))
        if now - begin > _REMEMBERED_MS:
            begin = finding.onset
        young = now - begin <= ONE_DAY_MS
        # A warning of old standing comes with each pane, and reading what came since costs milliseconds.
        if finding.level != PAGE and not young:
            return finding
        rows, moved = seen_since(begin)
        if young and moved < floor:
            if finding.level == PAGE:
                self.since[finding.key] = begin
            why = f"moved {moved:.1%} of the rows, within what a day moves by itself ({floor:.1%}), and is no day old"
            return replace(_held(finding, why), level=INFORM)
        if finding.level != PAGE:
            return finding
        self.since.pop(finding.key, None)
        if rows < EVENING_ROWS:
            self.since[finding.key] = begin
            return _held(finding, f"{rows} rows since it began, a page rests on {EVENING_ROWS}")
        if young and moved < ODD_DAY * floor:
            self.since[finding.key] = begin
            return _held(finding, f"moved {moved:.1%} of the rows in less than a day, which may be an odd one")
        if self.slow(finding, now):
            return _held(finding, "it took more than two weeks to show: a slow season")
        return finding

    def slow(self, finding: Finding, now: int) -> bool:
        """Return whether drift took so long to show that it is a season's, and no broken data."""
        return (finding.type, finding.subject) in self._floors and now - finding.onset > SLOW_MS


def _held(finding: Finding, why: str) -> Finding:
    return replace(finding, level=WARN, evidence={**finding.evidence, "held": why})
