"""Whether a segment meets other decisions than the rest of its dimension: bets on the gap of each rate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.budget import log_thresholds
from stationkeeper.monitor.core.detect import EvidenceState, OneSided, level_of_score
from stationkeeper.monitor.core.finding import NONE, PAGE, Finding
from stationkeeper.monitor.core.performance.confidence import share_sequence
from stationkeeper.monitor.core.performance.segment_gaps import FEW_LABELS, RATES
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Counts

TOLERANCE = 0.05
"""Points by which a segment's rate may differ from that of the others unremarked: five, the gate's own bound of harm to
a protected segment. At half, the mix of what people ask for is called unfair; at double, one rejection in ten more."""

NAMES = tuple(RATES)
"""The rates, in the order of the counts: true positive, false positive, approval."""

APPROVAL = NAMES.index("approval rate")
"""The place of the rate that needs no labels."""

GAPS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Bets, as points beyond the tolerance: each about twice the one before, so that none between loses more than a fifth
of its evidence."""

# A bet at 0 or 1 would be ruined by a single row for good.
_EDGE = 0.001
# Halvings of the interval that holds the nearest fair pair: to a thousandth of a millionth.
_HALVINGS = 30
# Weight of the past a block in where bets are centred: the last twenty blocks or so. At .5 the bets follow noise, at
# .99 they stay where a rate was weeks ago; whatever it is, no bet is unfair by it.
_FORGET = 0.95
# Blocks whose counts are kept apart, to show what came since an onset: older ones are added up in pairs.
_KEPT = 64
# Nats from which a gap counts as closed: falsely about once in a thousand tries, as for other recoveries.
_BACK = float(np.log(1_000))


@dataclass(frozen=True, slots=True)
class FairnessRules:
    """Which ``dimensions`` are compared, and by how many points of 1 a segment's rates may differ: ``tolerance``."""

    dimensions: tuple[str, ...]
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class RateGap:
    """A segment's ``rate`` (``mine`` of ``rows``) and that of the others of its dimension since the last decision.

    ``low`` to ``high`` holds the difference with chance .9 at least, however often it is looked at. ``open`` says that
    it was told and has not closed.
    """

    dimension: str
    segment: str
    rate: str
    mine: float
    others: float
    rows: int
    others_rows: int
    low: float
    high: float
    open: bool

    @property
    def gap(self) -> float:
        """The segment's rate less the others'."""
        return self.mine - self.others


class SideState(State, frozen=True):
    """One segment and one rate: both directions' evidence, what waits, bets' centre, blocks, and what is open.

    ``excess`` is by how many nats an open gap's evidence exceeded its limit as it opened; older builds kept none.
    """

    evidence: EvidenceState
    held: Counts
    waited: float
    since: int | None
    centre: Floats
    blocks: list[tuple[int, Counts]]
    open: list[bool]
    back: list[float]
    excess: tuple[float, float] = (0.0, 0.0)


class FairnessState(State, frozen=True):
    """What `Fairness` keeps: for each segment in order of its coming its name and a state a rate."""

    segments: list[tuple[str, list[SideState]]]


def log_gap_bets(counts: Counts, tolerance: float, gaps: Floats, centre: float) -> Floats:
    """Return the log e-value [L] of bets that the first of two rates is ``gaps`` [L] above the second.

    Null: it is at most ``tolerance`` above. counts int64[2, 2] are hits and rows of both sides. A bet on (q, r) about
    ``centre`` is the likelihood ratio to the null's nearest pair in relative entropy, weighted by the rows; its mean is
    at most 1 under every pair of the null (Turner, Ly and Grunwald, "Generic E-variables for exact sequential k-sample
    tests", 2024: from 1 + x <= exp(x), as the slopes of both sides weighted by rows are equal and opposite). By hand:
    6 of 10 against 4 of 10, tolerance 0, gap .2 about .5: 12 log 1.2 + 8 log .8 = .403.
    """
    (hits, rows), (other_hits, other_rows) = counts.astype(np.float64)
    share = other_rows / (rows + other_rows)
    low = np.clip(centre - gaps * (1 - share), np.maximum(_EDGE, _EDGE - gaps), np.minimum(1 - _EDGE, 1 - _EDGE - gaps))
    high = low + gaps
    # The nearest fair pair (p + tolerance, p) lies between: there the weighted slope changes its sign.
    left, right = np.maximum(low, -tolerance), np.minimum(high - tolerance, 1.0)
    for _ in range(_HALVINGS):
        p = (left + right) / 2
        a = p + tolerance
        slope = rows * (a - high) / (a * (1 - a)) + other_rows * (p - low) / (p * (1 - p))
        left, right = np.where(slope < 0, p, left), np.where(slope < 0, right, p)
    p, a = left, left + tolerance
    mine = hits * np.log(high / a) + (rows - hits) * np.log((1 - high) / (1 - a))
    theirs = other_hits * np.log(low / p) + (other_rows - other_hits) * np.log((1 - low) / (1 - p))
    return np.asarray(mine + theirs, np.float64)


@dataclass(slots=True)
class _Side:
    """One rate of one segment against the others: e-SR both ways, a block of at least ``FEW_LABELS`` rows at a time.

    Rows wait for the smaller side, because bets on one of two rates alone say nothing of their gap.
    """

    test: OneSided
    tolerance: float
    held: Counts = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    waited: float = 0.0
    since: int | None = None
    # Half a hit of one row: Jeffreys' middle, before anything is known.
    centre: Floats = field(default_factory=lambda: np.array([0.5, 1.0]))
    blocks: list[tuple[int, Counts]] = field(default_factory=list)
    open: list[bool] = field(default_factory=lambda: [False, False])
    back: list[float] = field(default_factory=lambda: [0.0, 0.0])
    excess: list[float] = field(default_factory=lambda: [0.0, 0.0])
    level: int = NONE
    direction: int = 0
    onset: int = 0
    beyond: float = 0.0

    def add(self, mine: Counts, others: Counts, start: int) -> None:
        """Add int64[2] hits and rows of both sides of what began at ``start``."""
        if not mine[1] and not others[1]:
            return
        self.since = start if self.since is None else self.since
        self.held += np.stack([mine, others])

    def step(self, elapsed: float) -> None:
        """Judge the block that waits, if both sides have rows enough."""
        self.waited += elapsed
        if self.held[:, 1].min() < FEW_LABELS or self.since is None:
            return
        block, start, waited = self.held, self.since, self.waited
        self.held, self.since, self.waited = np.zeros((2, 2), np.int64), None, 0.0
        centre = float(self.centre[0] / self.centre[1])
        gaps = self.tolerance + np.array(GAPS)
        ways = (block, block[::-1])
        log_e = np.stack([log_gap_bets(one, self.tolerance, gaps, centre) for one in ways])
        scores = self.test.take(log_e, np.ones(2, np.bool_), start, waited)
        self.blocks.append((start, block))
        self._thin()
        self.centre = _FORGET * self.centre + block.sum(axis=0)
        self._close(ways, centre)
        # One that is open says nothing more until it has closed: its evidence begins anew with each page.
        levels = [level_of_score(float(scores.score[k]), float(scores.log_threshold[k])) for k in (0, 1)]
        self.direction = int(np.argmax([-np.inf if self.open[k] else scores.score[k] for k in (0, 1)]))
        self.level, self.onset = levels[self.direction], int(scores.onset[self.direction])
        self.beyond = float(scores.score[self.direction] - scores.log_threshold[self.direction])

    @property
    def crosses(self) -> bool:
        """Whether the block just judged shows a gap that is not open."""
        return self.level == PAGE and not self.open[self.direction]

    def begin(self) -> None:
        """Open the gap that crosses, and keep what came since its onset."""
        k = self.direction
        self.open[k], self.back[k], self.excess[k] = True, 0.0, self.beyond
        self.blocks = [(at, counts) for at, counts in self.blocks if at >= self.onset]

    def _close(self, ways: tuple[Counts, Counts], centre: float) -> None:
        """Bet that an open gap is half of the tolerance or none, against that it is at least the tolerance."""
        inside = np.array([-self.tolerance / 2, 0.0])
        for k in (0, 1):
            if not self.open[k]:
                continue
            bets = log_gap_bets(ways[1 - k], -self.tolerance, inside, centre) / self.test.phi[0]
            self.back[k] = max(0.0, self.back[k] + float(np.logaddexp.reduce(bets) - np.log(len(bets))))
            if self.back[k] >= _BACK:
                self.open[k], self.back[k], self.blocks = False, 0.0, self.blocks[-1:]

    def _thin(self) -> None:
        if len(self.blocks) > _KEPT:
            old, new = self.blocks[: _KEPT // 2], self.blocks[_KEPT // 2 :]
            self.blocks = [(first[0], first[1] + then[1]) for first, then in list(pairwise(old))[::2]] + new

    def total(self, since: int | None = None) -> Counts:
        """Return hits and rows of both sides, int64[2, 2], of the blocks that are kept, or that began ``since``."""
        out: Counts = np.zeros((2, 2), np.int64)
        for at, counts in self.blocks:
            out += counts if since is None or at >= since else 0
        return out

    def explained_by(self, other: "_Side") -> bool:
        """Whether the rest without another segment's rows is not shown to lie further off than is tolerated.

        One segment that changes moves the rest of each of the others. With two segments nothing is left to compare
        with: theirs is one gap.
        """
        mine, others = self.total(self.onset).astype(np.float64)
        lead = other.total(self.onset).astype(np.float64)
        # Panes without rows of this segment count in the other's rows and not in this one's rest.
        share = min(1.0, float(mine[1] + others[1]) / max(float(lead[:, 1].sum()), 1.0))
        rest = np.maximum(others - share * lead[0], 0.0)
        if rest[1] < FEW_LABELS:
            return True
        phi = float(self.test.phi[0])
        low, high = share_sequence(mine[0] / phi, mine[1] / phi)
        rest_low, rest_high = share_sequence(min(rest[0], rest[1]) / phi, rest[1] / phi)
        return low - rest_high <= self.tolerance and high - rest_low >= -self.tolerance

    def state(self) -> SideState:
        """Return what ``restore`` needs."""
        kept = [(at, counts.copy()) for at, counts in self.blocks]
        return SideState(
            evidence=self.test.state(),
            held=self.held.copy(),
            waited=self.waited,
            since=self.since,
            centre=self.centre.copy(),
            blocks=kept,
            open=list(self.open),
            back=list(self.back),
            excess=(self.excess[0], self.excess[1]),
        )

    def restore(self, state: SideState) -> None:
        """Become what ``state`` was taken from."""
        self.test.restore(state.evidence)
        self.held, self.waited, self.since = state.held.copy(), state.waited, state.since
        self.centre, self.blocks = state.centre.copy(), [(at, counts.copy()) for at, counts in state.blocks]
        self.open, self.back, self.excess = list(state.open), list(state.back), list(state.excess)


class Fairness:
    """The segments of declared dimensions against the rest of their dimension, by three rates, both ways.

    Counts come with ``add`` in any pieces and are judged with ``step``. Approvals need no labels; the other two rates
    take matured ones only. The k-th segment of a dimension that comes has 1 / (k (k + 1)) of its budget, which sums to
    1 however many there are: a hundredth costs log 100 nats.
    """

    def __init__(self, rules: FairnessRules, alpha: float, phi: Mapping[str, float]) -> None:
        """``alpha`` is the false pages per unit of the clock, ``phi`` the variance inflation by rate (1 if unknown)."""
        self.rules, self._alpha, self._phi = rules, alpha, phi
        self._sides: dict[str, list[_Side]] = {}

    def add(self, rates: Mapping[str, Counts], start: int) -> None:
        """Take int64[3, 2] hits and rows by rate of each segment, "" all traffic, of what began at ``start``."""
        whole = rates.get("")
        for segment in sorted(rates):
            if whole is None or segment.partition("=")[0] not in self.rules.dimensions:
                continue
            sides = self._sides[segment] if segment in self._sides else self._begin(segment)
            for k, side in enumerate(sides):
                side.add(rates[segment][k], whole[k] - rates[segment][k], start)

    def step(self, elapsed: float) -> list[Finding]:
        """Judge what has come; at most one finding a dimension, of the gap with most evidence; an open one stays.

        Evidence is compared beyond its limit, that of an open gap as it was when it opened.
        """
        found: dict[str, Finding] = {}
        for sides in self._sides.values():
            for side in sides:
                side.step(elapsed)
        self._open()
        for segment, sides in self._sides.items():
            for rate, side in zip(NAMES, sides, strict=True):
                for finding in self._findings(segment, rate, side):
                    known = found.get(finding.subject)
                    if known is None or (finding.level, finding.strength) > (known.level, known.strength):
                        found[finding.subject] = finding
        return list(found.values())

    def gaps(self) -> Iterator[RateGap]:
        """Yield every gap that has rows enough, in the order in which segments came."""
        for segment, sides in self._sides.items():
            for rate, side in zip(NAMES, sides, strict=True):
                if side.blocks:
                    yield self._gap(segment, rate, side)

    def margin(self, subject: str) -> float:
        """Return how far the evidence on a dimension lies above its page threshold, in nats; -inf without any."""
        mine = [s.test for name, sides in self._sides.items() if _subject(name) == subject for s in sides]
        return max((float((test.evidence.score() - test.log_threshold).max()) for test in mine), default=-np.inf)

    def state(self) -> FairnessState:
        """Return what ``restore`` needs."""
        return FairnessState(segments=[(name, [side.state() for side in mine]) for name, mine in self._sides.items()])

    def restore(self, state: FairnessState) -> None:
        """Take over what ``state`` gave; a dimension that is no longer declared is left out."""
        self._sides = {}
        for name, kept in state.segments:
            if name.partition("=")[0] in self.rules.dimensions:
                for side, one in zip(self._begin(name), kept, strict=True):
                    side.restore(one)

    def _begin(self, segment: str) -> list[_Side]:
        dimension = segment.partition("=")[0]
        place = 1 + sum(name.partition("=")[0] == dimension for name in self._sides)
        alpha = self._alpha / len(self.rules.dimensions) / (place * (place + 1))
        limit = float(log_thresholds(alpha, np.ones(2 * len(NAMES)))[0])
        live = np.ones((2, len(GAPS)), np.bool_)
        sides = [_Side(OneSided(live, limit, self._phi.get(rate, 1.0)), self.rules.tolerance) for rate in NAMES]
        self._sides[segment] = sides
        return sides

    def _open(self) -> None:
        """Open the gaps that cross, the strongest first; not those that an open one of dimension and rate explains."""
        crossing = [(name, k) for name, sides in self._sides.items() for k, side in enumerate(sides) if side.crosses]
        for name, k in sorted(crossing, key=lambda one: -self._sides[one[0]][one[1]].beyond):
            side, beside = self._sides[name][k], (n for n in self._sides if n != name and _subject(n) == _subject(name))
            if any(any(self._sides[n][k].open) and side.explained_by(self._sides[n][k]) for n in beside):
                side.level = NONE
            else:
                side.begin()

    def _findings(self, segment: str, rate: str, side: _Side) -> Iterator[Finding]:
        limit = float(side.test.log_threshold[0])
        held = any(side.open)
        # What is below a page is said once, at the block that showed it.
        level, side.level = (PAGE, NONE) if held else (side.level, NONE)
        if level == NONE or not side.blocks:
            return
        gap = self._gap(segment, rate, side)
        score = limit + (max(side.excess[k] for k in (0, 1) if side.open[k]) if held else side.beyond)
        yield Finding(
            subject=_subject(segment),
            type=SubjectType.FAIRNESS,
            kind=VerdictKind.PERFORMANCE,
            level=level,
            score=score,
            threshold=limit,
            onset=side.blocks[0][0] if held else side.onset,
            rows=gap.rows,
            cause=Cause.FAIRNESS,
            reason=gap_words(gap, self.rules.tolerance),
            effect=abs(gap.gap),
            evidence={"segment": segment, "rate": rate, "low": round(gap.low, 6), "high": round(gap.high, 6)},
        )

    def _gap(self, segment: str, rate: str, side: _Side) -> RateGap:
        (hits, rows), (other_hits, other_rows) = side.total().tolist()
        # Rows that lean on each other say as much as so many fewer that do not.
        phi = float(side.test.phi[0])
        mine, others = share_sequence(hits / phi, rows / phi), share_sequence(other_hits / phi, other_rows / phi)
        return RateGap(
            dimension=segment.partition("=")[0],
            segment=segment,
            rate=rate,
            mine=hits / max(rows, 1),
            others=other_hits / max(other_rows, 1),
            rows=rows,
            others_rows=other_rows,
            low=mine[0] - others[1],
            high=mine[1] - others[0],
            open=any(side.open),
        )


def gap_words(gap: RateGap, tolerance: float) -> str:
    """Return a gap as a person reads it."""
    return (
        f"{gap.segment}: {gap.rate} {gap.mine:.1%} of {gap.rows} rows, the others {gap.others:.1%} of "
        f"{gap.others_rows}: {100 * gap.gap:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}), "
        f"{100 * tolerance:g} are tolerated"
    )


def rates_of(confusion: Counts) -> Counts:
    """Return hits and rows by rate, int64[3, 2], of a confusion of labelled rows; none of approvals.

    Those are counted of all predictions, labelled or not. By hand: 90, 5, 10, 95 has 90 of 100 and 5 of 100.
    """
    out = np.zeros((len(NAMES), 2), np.int64)
    for k, (hits, of) in enumerate(RATES.values()):
        if k != APPROVAL:
            out[k] = confusion[list(hits)].sum(), confusion[list(of)].sum()
    return out


def _subject(segment: str) -> str:
    return f"fairness of {segment.partition('=')[0]}"
