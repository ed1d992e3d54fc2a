"""How late labels come, by class: what share of those still to come is there at each age of a prediction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Integers
from stationkeeper.contracts.labels.delay import (
    COMPLETE,
    WATCHED,
    Absence,
    absence_age,
    ages_from,
    complete_share,
    delay_edges,
)
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.finding import WARN, Finding
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import Counts

EPOCHS = 64
"""Groups of predictions by time, each with the delays of its labels: a day with a horizon of thirty. Half learns two
days late; double doubles what is stored with each pane."""

FEW = 20
"""Labels of a class below which its delays say nothing: .95 of them is one label more or less. At half, one slow label
stops all judging; at double a class of one in a thousand is waited for twice as long."""

MOVED = 0.05
"""How far the scores of labelled predictions may be from those of all, beyond chance, before labels count as a
selection (total variation). A class that comes first moves them by its power to be told: at double, an early class of a
weak model passes; at half, a few missing hours of a day do not."""

_GROUPS = 16
"""Score groups in which labelled predictions are compared with all: pairs of the shared bins. At half a selection
within one group is not seen; at double chance alone moves a hundred labels by more than ``MOVED``."""

_KINDS = 3
"""All labels, negatives and positives: each has its delays, in this order."""


class LabelDelaysState(State, frozen=True):
    """What was seen: the epochs' length and numbers, and a row of counts for each."""

    length: int
    since: int | None
    index: Integers
    counts: npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Maturity:
    """When labels are complete enough to be judged.

    ``age`` (ms) is None while that is not known. ``expected`` is the share of labels that come at all which are known
    at the least age, of the class that is slowest; ``usual`` the share of predictions that have a label at ``age``
    (0 where absence is a label).
    ``watched`` (ms) is how long delays were watched. ``missing`` names a class that the reference has and that never
    came; ``selective`` says that labelled predictions are not like the others, so that only what holds at each score
    may be judged.
    """

    age: int | None
    expected: float
    usual: float
    watched: int
    missing: str | None = None
    selective: bool = False


class LabelDelays:
    """Counts of labels by class and delay, for each group of predictions: sums, so that any batching gives the same.

    What share of them is there at an age is `complete_share`, O(epochs x ages) an estimate.
    """

    def __init__(self, pane: int, horizon: int) -> None:
        """``pane`` and ``horizon`` (ms) are the shortest and the longest delay told apart."""
        self._pane, self._horizon = pane, horizon
        self.edges = delay_edges(pane, horizon)
        self._width = 1 + _KINDS * len(self.edges) + 2 * _GROUPS
        self._length = pane
        self._since: int | None = None
        self._epochs: dict[int, Counts] = {}

    def predicted(self, start: int, rows: int, scores: Counts) -> None:
        """Count predictions of the pane that began at ``start``: ``scores`` int64[32] by shared bin."""
        self._since = start if self._since is None else min(self._since, start)
        mine = self._of(start)
        mine[0] += rows
        mine[-2 * _GROUPS : -_GROUPS] += _grouped(scores)

    def known(self, start: int, delay: int, rows: int, scored: Counts) -> None:
        """Count labels that came ``delay`` ms after their predictions: ``scored`` int64[32, 2] by bin and class."""
        if self._since is None or start < self._since:
            # Their predictions were not counted: an older version saw them.
            return
        mine, n = self._of(start), len(self.edges)
        at = 1 + min(int(np.searchsorted(self.edges, delay)), n - 1)
        for kind, count in enumerate((rows, *scored.sum(0).tolist())):
            mine[at + kind * n] += count
        mine[-_GROUPS:] += _grouped(scored.sum(1))

    def _of(self, start: int) -> Counts:
        return self._epochs.setdefault(start // self._length, np.zeros(self._width, np.int64))

    def advance(self, now: int) -> None:
        """See that labels are in up to ``now`` (ms): what is older than two horizons goes, and epochs widen to fit."""
        if self._since is None:
            return
        # Two: a label may come one horizon after its prediction, and delays of another horizon are learned from.
        oldest = max(self._since, now - 2 * self._horizon)
        while (now - oldest) // self._length >= EPOCHS:
            self._length *= 2
            wider: dict[int, Counts] = {}
            for index, counts in self._epochs.items():
                wider[index // 2] = wider[index // 2] + counts if index // 2 in wider else counts
            self._epochs = wider
        for index in [index for index in self._epochs if (index + 1) * self._length <= oldest]:
            del self._epochs[index]

    def maturity(
        self, now: int, least: int, positives: float | None = None, *, only_positives: bool = False
    ) -> Maturity:
        """Return the first age of at least ``least`` ms at which cohorts may be judged, as of ``now``.

        That is where .95 of the predictions have their label, or where .95 of each class's labels have come, watched
        for twice as long, and labelled predictions are like all others. If they are not, the horizon is waited for:
        what has not come by then is a selection. ``positives`` is the reference's share of them, None where unknown;
        with ``only_positives`` it is `absence_age`, and nothing else is waited for.
        """
        if not self._epochs:
            return Maturity(None, 0.0, 0.0, 0)
        index = np.array(sorted(self._epochs), np.int64)
        table = np.stack([self._epochs[one] for one in index.tolist()])
        age = now - (index + 1) * self._length
        watched = int(max(age.max(), 0))
        n = len(self.edges)
        seen = (age[:, None] >= self.edges).astype(np.int64)
        delays = table[:, 1 : 1 + _KINDS * n].reshape(-1, _KINDS, n)
        rows = table[:, 0] @ seen
        share = (np.cumsum(delays[:, 0], 1) * seen).sum(0) / np.maximum(rows, 1)
        known = complete_share(delays, seen[:, None])
        first = next(ages_from(self.edges, least))[0]
        if only_positives:
            reached = absence_age(self.edges, known[2], Absence(self._pane, self._horizon, least), watched)
            return Maturity(reached, min(float(known[2][first]), 1.0), 0.0, watched)
        counts = delays.sum((0, 2))
        needed, missing = _needed(counts, positives)
        slowest = known[needed].min(0) if needed else np.zeros(n)
        full = (rows >= FEW) & (share >= COMPLETE)
        selective = self._selective(table[age >= least])
        final = watched >= self._horizon
        for at, waited in ages_from(self.edges, least):
            believed = watched >= WATCHED * waited and (final or not selective) and missing is None
            if full[at] or (needed and slowest[at] >= COMPLETE and (believed or (final and missing is None))):
                chosen = bool(selective and not full[at])
                return Maturity(waited, float(slowest[first]), float(share[at]), watched, selective=chosen)
        # Of a class that never came nothing is known: then the share of all predictions says more.
        expected = float(share[first]) if missing or not needed else float(slowest[first])
        return Maturity(None, min(expected, 1.0), 0.0, watched, missing, selective)

    def _selective(self, table: Counts) -> bool:
        """Whether scores of labelled predictions are further from those of all than chance and ``MOVED`` explain."""
        every, labelled = table[:, -2 * _GROUPS : -_GROUPS].sum(0), table[:, -_GROUPS:].sum(0)
        total, n = every.sum(), labelled.sum()
        if n < FEW or not total:
            return True
        moved = 0.5 * float(np.abs(labelled / n - every / total).sum())
        # The mean of half the absolute differences of G shares is at most sqrt(G / n) / 2; with as much again on top
        # chance passes it less than once in a thousand looks.
        return moved > MOVED + float(np.sqrt(_GROUPS / n))

    def state(self) -> LabelDelaysState:
        """Return what ``restore`` needs."""
        index = np.array(sorted(self._epochs), np.int64)
        rows = [self._epochs[one] for one in index.tolist()]
        counts = np.stack(rows) if rows else np.zeros((0, self._width), np.int64)
        # Most counts are small, and they are written with every pane.
        narrow = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
        return LabelDelaysState(length=self._length, since=self._since, index=index, counts=narrow)

    def restore(self, state: LabelDelaysState) -> None:
        """Go on from ``state``; with another pane or horizon the ages differ, and learning begins anew."""
        if state.counts.shape[1:] == (self._width,) and state.length % self._pane == 0:
            self._length, self._since = state.length, state.since
            self._epochs = {
                int(index): row.astype(np.int64) for index, row in zip(state.index.tolist(), state.counts, strict=True)
            }


def _grouped(bins: Counts) -> Counts:
    grouped: Counts = bins.reshape(_GROUPS, SCORE_BINS // _GROUPS).sum(1)
    return grouped


def _needed(counts: Counts, positives: float | None) -> tuple[list[int], str | None]:
    """Which kinds must be complete, and the name of a class that the reference has and that never came.

    counts int64[3]: all labels, negatives and positives. Labels that are no class are judged by all.
    """
    total, classes = int(counts[0]), counts[1:]
    if not classes.sum():
        return ([0] if total >= FEW else []), None
    needed = [kind + 1 for kind in (0, 1) if classes[kind] >= FEW]
    if positives is not None:
        for kind, share, name in ((0, 1 - positives, "negative"), (1, positives, "positive")):
            # A quarter of what is enough: with more it comes, only late, and its delays are learned with time.
            if share * total >= FEW and classes[kind] < FEW / 4:
                return needed, name
    return needed, None


class LateGate:
    """Whether cohorts still have the labels that those before them had at the same age: a cumulative sum.

    log of P(with or without label | .45 of the usual share) over P(... | .9 of it), summed over the predictions of
    cohorts in order, never below 0 (Page 1954). By hand, all labels usual: three predictions without label in a row
    make 3 log(.55 / .1) = 5.1 and shut it.
    """

    def __init__(self) -> None:
        self.sum = 0.0

    def after(self, due: int, arrived: int, usual: float) -> float:
        """Return what the sum would be with one more cohort: ``arrived`` of ``due`` predictions have their label."""
        high = min(max(_STILL_USUAL * usual, _LEAST_SHARE), 1 - _LEAST_SHARE)
        # Half of the usual is what a lost source or a stopped feed leaves; a smaller gap is told by more cohorts.
        low = high / 2
        missing = max(due - arrived, 0)
        step = min(arrived, due) * np.log(low / high) + missing * np.log((1 - low) / (1 - high))
        return max(self.sum + float(step), 0.0)

    def shuts(self, after: float) -> bool:
        """Return whether cohorts must wait at such a sum."""
        return after > _SHUT


def late_labels(since: int, due: int, arrived: int, usual: float) -> Finding:
    """Return that cohorts since ``since`` wait, ``arrived`` of whose ``due`` predictions have their label."""
    share = arrived / max(due, 1)
    return Finding(
        subject="labels",
        type=SubjectType.QUALITY,
        kind=VerdictKind.DATA_QUALITY,
        level=WARN,
        score=1 - share,
        threshold=1 - _STILL_USUAL * usual,
        onset=since,
        rows=due,
        cause=Cause.QUALITY,
        reason=f"{share:.1%} of predictions have their label at an age at which {usual:.1%} have: performance waits",
        check=Check.LABEL_DELAY,
        effect=usual - share,
        budgeted=False,
    )


# Nine tenths of the usual share are usual: at .95 an hour with a slow source shuts it, at .8 a tenth of the labels may
# be missing unremarked, which is more than the tolerance of an error rate.
_STILL_USUAL = 0.9
# Shares of 0 and 1 have no logarithm; a thousandth is below every share that says something.
_LEAST_SHARE = 0.001
# Chance passes exp(5) in one of 150 cohorts that are all incomplete by half; a whole one of five predictions without
# labels passes at once. At half every burst of late labels shuts it; at double two such cohorts are judged before.
_SHUT = 5.0
