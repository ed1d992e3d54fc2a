"""A reference rebuilt from closed panes of production: the cells stay, the counts are those of the period."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.adoption.adopt import MIN_PANES, pane_phi
from stationkeeper.monitor.core.adoption.period import MIN_ROWS, AdoptionPeriod
from stationkeeper.monitor.core.adoption.traffic import traffic_of
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import (
    QUALITY,
    Counts,
    Labels,
    OutcomeSums,
    Reference,
    ReferenceSubject,
    total,
)

HISTORY = "history"


@dataclass(frozen=True, slots=True)
class PaneLabels:
    """The matured labels of one pane as in ``Labels``: int64[32, 2] by score bin, int64[4] confusion, and sums."""

    start: int
    scored: Counts
    confusion: Counts
    sums: OutcomeSums = field(default_factory=OutcomeSums.none)


def rebase(
    reference: Reference, panes: Sequence[Pane], labels: Sequence[PaneLabels] = (), timezone: str = UTC_ZONE
) -> Reference:
    """Return the reference whose normal state is that of ``panes``: counts, quality, dependence, days, hours, traffic.

    Panes are of one length, in order, counted in the reference's cells; hours and days are those of ``timezone``.
    Labels of the period replace the reference's, where there are any. Unlike an adoption period, which leaves quality
    as training had it, the period is taken whole: somebody chose it. Raises ``ValueError`` for fewer than ``MIN_PANES``
    panes or ``MIN_ROWS`` rows. O(panes width).
    """
    used = [pane for pane in panes if pane.rows]
    rows = sum(pane.rows for pane in used)
    if len(used) < MIN_PANES or rows < MIN_ROWS:
        raise ValueError(
            f"{len(used)} panes with {rows} rows are too little for a reference: at least {MIN_PANES} panes and "
            f"{MIN_ROWS} rows; choose a longer period"
        )
    period = AdoptionPeriod(reference, 0, timezone)
    for pane in used:
        period.add(pane)
    learned = period.learned()
    subjects = tuple(_with_quality(subject, reference, period.counts) for subject in learned.subjects)
    starts = np.array([pane.start for pane in used])
    traffic = traffic_of(starts, used[0].length, np.array([pane.rows for pane in used]), timezone)
    return replace(
        learned,
        subjects=subjects,
        source=HISTORY,
        first=used[0].start,
        last=used[-1].end,
        traffic=traffic,
        labels=_labels(labels, reference.labels) or reference.labels,
        notes=(f"from {len(used)} panes of production with {rows} rows",),
    )


def _with_quality(subject: ReferenceSubject, reference: Reference, counts: Counts) -> ReferenceSubject:
    place = reference.layout[subject.name]
    quality = counts[place.quality : place.quality + len(QUALITY)].copy()
    # A reference counts values never seen before on every other of its rows.
    quality[QUALITY.index("unseen")] //= 2
    return replace(subject, quality=quality) if counts[place.histogram].any() else subject


def _labels(panes: Sequence[PaneLabels], before: Labels | None) -> Labels | None:
    confusion = sum((pane.confusion for pane in panes), np.zeros(4, np.int64))
    if not confusion.any():
        return None
    scored = sum((pane.scored for pane in panes), np.zeros((SCORE_BINS, 2), np.int64))
    found = Labels(scored, confusion, sums=total(pane.sums for pane in panes))
    if found.numeric:
        # All numbers count as right, so that panes say nothing of how their errors cluster: that of before holds.
        return replace(found, phi=1.0 if before is None else before.phi)
    wrong = np.array([pane.confusion[1] + pane.confusion[2] for pane in panes], np.float64)
    rows = np.array([pane.confusion.sum() for pane in panes], np.float64)
    return replace(found, phi=pane_phi(wrong, rows))
