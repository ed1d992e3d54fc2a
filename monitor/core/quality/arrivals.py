"""Whether events arrive as they should: their number by hour of the week, and silence."""

from dataclasses import replace

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.monitor.core.adoption import HOUR_MS, STEADY, VolumeModel
from stationkeeper.monitor.core.detect import EvidenceState, level_of_score
from stationkeeper.monitor.core.finding import INFORM, NONE, PAGE, WARN, Finding
from stationkeeper.monitor.core.panes import Pane, stratum_of
from stationkeeper.monitor.core.quality.learned_traffic import QUIET, LearnedTraffic, LearnedTrafficState
from stationkeeper.monitor.core.quality.spells import Spells, SpellsState
from stationkeeper.monitor.core.quality.volume import SMALLEST_MEAN, SMALLEST_SIZE, VolumeDetector
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, Reference, TrafficProfile

TRAINING = "training"
"""The source of a reference whose rows were sampled for training: its traffic says nothing of production's."""

STALE_NATS = 30.0
"""Silence pages when the chance of so many empty panes is below exp(-30), about 1e-13: less than once in the panes that
a thousand models close in a century, so it needs no budget. A source of one event a minute is called silent after half
an hour. At half (3e-7) a thousand models page by chance every two or three days; at double it takes a full hour."""

USUAL = 1.25
"""Volume is usual again when the latest panes together brought within this factor of what they should: more than the
tolerance of 10 %, so that an incident ends where none would begin. At 1.12 noise of small panes keeps it open; at 1.5
it ends while a third of the traffic is still missing."""

NEVER_EMPTY = float(np.log(1_000))
"""Nats from which an empty pane is no ordinary evening: its hour is empty once in a thousand times, of panes of an hour
once in six weeks. At log 30 a night hour of four events is an outage twice a year; at log 100 000 an hour of thirty
that brings nothing may be held for an evening."""

# Weight of the past a pane in that sum: a mean age of 20 panes, so about the last half hour at one-minute panes. At
# .975 an incident ends an hour late, at .9 a lull of ten panes ends it.
_FORGET = 0.95


def own_traffic(reference: Reference) -> TrafficProfile | None:
    """Return the traffic that a reference teaches of production; None where it cannot, and live panes have to.

    Rows of training say nothing of production's traffic. Where less than two weeks leave the rhythm of the week
    unknown, one mean for all hours would make each burst of a daily batch a surge and each weekend an outage.
    """
    traffic = None if reference.source == TRAINING else reference.traffic
    return traffic if traffic is not None and len(traffic.rows_per_hour) == HOURS_OF_WEEK else None


def in_bursts(traffic: TrafficProfile | None) -> bool:
    """Return whether traffic comes in bursts at any hour: its size is no estimate then but the bound of one.

    By hand: of 30 to 500 rows in an hour of four, whatever the hour, two weeks show most hours of the week empty, and
    any later burst in one of those would be a surge.
    """
    return traffic is not None and traffic.size <= SMALLEST_SIZE


def _tells(usual: float | Floats, size: float) -> bool:
    """Return whether panes of so many events tell volume: of few a pane only where these come like Poisson's.

    A night of three events is six times the usual of a source that sells in bursts, and an ordinary one of 50 an hour
    that are spread by chance alone is told from 2 000 in its first minutes.
    """
    return bool(np.max(usual) >= QUIET) or size >= STEADY


def _nats(usual: float, size: float, since: int, pane: Pane) -> float:
    """Return what a pane without events adds to minus the log of the chance of a silence ``since`` (ms).

    An hour that should bring mu events is empty with chance (r / (r + mu))**r, and its panes are looks at one thing. By
    hand: the minutes of an hour of 60 add 60 where events come like Poisson's, 2 log(31) = 6.87 at r = 2.
    """
    begin = max(since, pane.start // HOUR_MS * HOUR_MS) if pane.length < HOUR_MS else pane.start
    before, now = (size * float(np.log1p(usual * (at - begin) / HOUR_MS / size)) for at in (pane.start, pane.end))
    return now - before


def _quiet(volume: VolumeDetector) -> int:
    sizes = volume.model.size if volume.sizes is None else volume.sizes
    told = (volume.model.mean >= QUIET) | (sizes >= STEADY)
    return HOURS_OF_WEEK - int(np.count_nonzero(np.broadcast_to(told, HOURS_OF_WEEK)))


def hours_to_silence(traffic: TrafficProfile) -> float:
    """Return after how many hours without an event silence pages at the median of the hours that bring any.

    By hand: 60 an hour at size 20 add 20 log(4) = 27.7 nats an hour, and the other 2.3 come in .04: 1.04 hours. Where
    events came like Poisson's it would be 30 / 60 of an hour.
    """
    awake = traffic.rows_per_hour[traffic.rows_per_hour > 0]
    if not len(awake):
        return np.inf
    usual, size = float(np.median(awake)), traffic.size
    whole, rest = divmod(STALE_NATS, size * float(np.log1p(usual / size)))
    return whole + size / usual * float(np.expm1(rest / size))


def _silence(pane: Pane, since: int, score: float, limit: float, level: int) -> Finding:
    return Finding(
        subject="events",
        type=SubjectType.QUALITY,
        kind=VerdictKind.DATA_QUALITY,
        level=level,
        score=score,
        threshold=limit,
        onset=since,
        rows=0,
        cause=Cause.QUALITY,
        reason=f"no event for {(pane.end - since) / 60_000:.0f} minutes",
        check=Check.FRESHNESS,
        effect=1.0,
        budgeted=False,
    )


class Arrivals:
    """Volume and freshness of one watch's events, by what the reference or live panes teach of traffic."""

    def __init__(
        self,
        reference: Reference,
        limit: float | None,
        learned_limit: float,
        *,
        stale_after: int | None,
        learn_traffic: int | None,
        timezone: str = UTC_ZONE,
        whole: bool,
    ) -> None:
        """``limit`` is the log threshold of a reference's own volume, None where it has no budget; see ``Quality``.

        ``learned_limit`` is that of volume that live panes teach, which warns and spends nothing; their hours are those
        of ``timezone``.
        """
        self._traffic = own_traffic(reference)
        # What live panes teach replaces the reference's only where it has none, so one zone is enough.
        self._timezone = timezone if self._traffic is None else reference.timezone
        self._stale_after, self._whole = stale_after, whole
        self.volume: VolumeDetector | None = None
        if self._traffic is not None and limit is not None and not self.bursty:
            mean = np.maximum(self._traffic.rows_per_hour * (self._traffic.pane_ms / HOUR_MS), SMALLEST_MEAN)
            if _tells(mean, self._traffic.size):
                self.volume = VolumeDetector(VolumeModel(mean, self._traffic.size), limit)
        self._budgeted = limit is not None or self._traffic is None
        self.learned: LearnedTraffic | None = None
        if self._traffic is None and learn_traffic is not None:
            self.learned = LearnedTraffic(learn_traffic, timezone)
        # A sale says nothing of how odd a loss may be.
        self._drops, self._surges = Spells(), Spells()
        self._learned_limit = learned_limit
        self.silent_since: int | None = None
        self.silent_nats = 0.0
        self.came = self.expected = self._empty_nats = 0.0

    @property
    def usual(self) -> bool:
        """Whether the last half hour or so of panes brought about what it should, or nothing says what that is."""
        if self.volume is None:
            return True
        return self.expected > 0 and 1 / USUAL <= self.came / self.expected <= USUAL

    @property
    def known(self) -> bool:
        """Whether it is known what traffic is usual, so that volume and silence are judged."""
        return self._traffic is not None

    @property
    def bursty(self) -> bool:
        """Whether rows come in bursts that no hour of the week tells, so that neither volume nor silence is judged."""
        return in_bursts(self._traffic)

    @property
    def quiet_hours(self) -> int:
        """How many hours of the week bring too few events a pane for volume, where it is known; silence is judged."""
        known = self._traffic is not None and self._budgeted and not self.bursty
        return 0 if not known else HOURS_OF_WEEK if self.volume is None else _quiet(self.volume)

    @property
    def silent_by(self) -> TrafficProfile | None:
        """The traffic by which silence is judged; None where none tells it, or ``stale_after`` does."""
        return None if self.bursty or self._stale_after is not None else self._traffic

    def step(self, pane: Pane, elapsed: float, *, holiday: bool = False) -> list[Finding]:
        """Take the next closed pane, also one without rows; of a ``holiday`` only ``stale_after`` is judged."""
        if holiday:
            if pane.volume or self._stale_after is None:
                self.silent_since, self.silent_nats = None, 0.0
                return []
            return self._freshness(pane)
        found = self._volume(pane, elapsed)
        if not pane.volume:
            found += self._freshness(pane)
        else:
            self.silent_since, self.silent_nats = None, 0.0
        if self.learned is not None and self.learned.add(pane, odd=bool(found)):
            self._take_over_learned(self.learned, pane.length)
        return found

    def margin(self) -> float:
        """Return how far the volume's evidence lies above its page threshold, in nats; -inf where none is judged."""
        if self.volume is None:
            return -np.inf
        return float(self.volume.evidence.score()[0] - self.volume.log_threshold[0])

    def learned_state(self) -> tuple[int | None, LearnedTrafficState] | None:
        """Return the pane that learned traffic is judged by (None before it is) and what was learned."""
        if self.learned is None:
            return None
        return (None if self._traffic is None else self._traffic.pane_ms), self.learned.state()

    def restore(self, learned: tuple[int | None, LearnedTrafficState] | None, volume: EvidenceState | None) -> None:
        """Take over learned traffic and the evidence of volume."""
        if self.learned is not None and learned is not None:
            pane, state = learned
            self.learned.restore(state)
            if pane:
                self._take_over_learned(self.learned, pane)
        if self.volume is not None and volume is not None:
            self.volume.restore(volume)

    def hold(self, finding: Finding, now: int) -> Finding:
        """Return a warning of learned volume as news where its spell is no odder than others of late (`spells`).

        It is the last to say what a pane's volume warns, at ``now``, its end: what it holds back is not raised again.
        """
        if self.learned is None or finding.check is not Check.VOLUME or finding.level != WARN:
            return finding
        # A pane without any event, where events hardly ever fail to come, is no ordinary evening: it warns, and hides
        # nothing that comes later.
        if not finding.rows and self._empty_nats >= NEVER_EMPTY:
            return finding
        spells = self._surges if (finding.effect or 0.0) > 0 else self._drops
        held = spells.take(now, finding.score, crossed=finding.score >= finding.threshold)
        return finding if held is None else replace(finding, level=INFORM, evidence={**finding.evidence, "held": held})

    def learn_from(self, other: "Arrivals") -> None:
        """Know of traffic what another version's watch of the same events has learned, where neither reference does."""
        if self.learned is not None and other.learned is not None:
            self.restore(other.learned_state(), None)
            self.restore_spells(other.spells())

    def spells(self) -> tuple[SpellsState, SpellsState]:
        """Return the odd spells of late, of drops and of surges."""
        return self._drops.state(), self._surges.state()

    def restore_spells(self, state: tuple[SpellsState, SpellsState]) -> None:
        """Take over what ``spells`` gave."""
        self._drops.restore(state[0])
        self._surges.restore(state[1])

    def _take_over_learned(self, learned: LearnedTraffic, pane: int) -> None:
        """Judge volume and freshness by what was learned; evidence so far is kept."""
        self._traffic = learned.traffic(pane)
        if self._traffic is None or not _tells(learned.mean, learned.size) or self.bursty:
            self.volume = None
            return
        before, model = self.volume, VolumeModel(np.maximum(learned.mean, SMALLEST_MEAN), learned.size)
        self.volume = VolumeDetector(model, self._learned_limit, learned.tolerance, learned.sizes())
        if before is not None:
            self.volume.restore(before.state())

    def _volume(self, pane: Pane, elapsed: float) -> list[Finding]:
        if self.volume is None or self._traffic is None or pane.length != self._traffic.pane_ms:
            return []
        stratum = stratum_of(pane.start, HOURS_OF_WEEK, self._timezone)
        usual = float(self.volume.model.mean[stratum])
        size = self.volume.model.size if self.volume.sizes is None else float(self.volume.sizes[stratum])
        if not _tells(usual, size):
            return []
        self.came, self.expected = _FORGET * self.came + pane.volume, _FORGET * self.expected + usual
        # The chance that a negative binomial pane is empty is (r / (r + mu))**r.
        self._empty_nats = size * float(np.log1p(usual / size))
        scores = self.volume.step(pane.volume, stratum, pane.start, elapsed)
        level = level_of_score(float(scores.score[0]), float(scores.log_threshold[0]))
        if level == PAGE:
            self.came, self.expected = float(pane.volume), usual
        if level == NONE:
            return []
        return [
            Finding(
                subject="volume",
                type=SubjectType.VOLUME,
                kind=VerdictKind.DATA_QUALITY,
                # A few weeks know no holiday and no change of the clock: what live panes taught warns, never pages.
                level=level if self.learned is None else min(level, WARN),
                score=float(scores.score[0]),
                threshold=float(scores.log_threshold[0]),
                onset=int(scores.onset[0]),
                rows=pane.volume,
                cause=Cause.VOLUME,
                reason=f"{pane.volume} events in a pane that usually brings {usual:.1f}",
                check=Check.VOLUME,
                effect=pane.volume / usual - 1,
            )
        ]

    def _freshness(self, pane: Pane) -> list[Finding]:
        self.silent_since = pane.start if self.silent_since is None else self.silent_since
        score, limit = 0.0, STALE_NATS
        if self._stale_after is not None:
            score, limit = float(pane.end - self.silent_since), float(self._stale_after)
        # Of the burstiest traffic, such as one batch a day, an empty pane tells nothing: most of them are.
        elif self._traffic is not None and not self.bursty:
            usual = float(self._traffic.rows_per_hour[stratum_of(pane.start, HOURS_OF_WEEK, self._timezone)])
            self.silent_nats = score = self.silent_nats + _nats(usual, self._traffic.size, self.silent_since, pane)
        if score < limit or limit <= 0:
            return []
        self._drops.outage()
        # A segment may be silent by itself (a shop closes); silence of all traffic is an outage.
        return [_silence(pane, self.silent_since, score, limit, PAGE if self._whole else WARN)]
