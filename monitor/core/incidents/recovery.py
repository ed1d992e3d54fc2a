"""Whether a drifted subject came back: a sequential test of the reference against what it had drifted to."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.adoption import HOURS_OF_DAY
from stationkeeper.monitor.core.charts import coarse_cells, distances
from stationkeeper.monitor.core.incidents.incident import Incident, Member
from stationkeeper.monitor.core.panes import Pane, stratum_of
from stationkeeper.monitor.core.performance import judged
from stationkeeper.monitor.core.quality import DUPLICATES_AND_LATE, RULES
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import QUALITY, Counts, Reference

THRESHOLD = math.log(1_000.0)
"""Nats at which a subject has recovered: while half of the drift lasts or more, a try crosses them with probability
below 1/1000 (Wald's bound). A recovery declared too early closes an incident that opens again, with a second page. At
half the nats one try in 32 crosses; at double the incident stays open about twice as long after the cure."""

MIN_ROWS = 200
"""Rows that a recovery must rest on at least. Chosen: twenty equal cells then show a distance of .12 by noise alone
(.5 sqrt(2/pi) sum sqrt(p(1-p)/n)), which is taken off. At half, .17 of noise hides half of most drifts; at double, a
subject with few rows stays drifting twice as long after the cure."""

# Pseudo-rows that pull the drifted cells towards the expected ones, so that a cell without rows in a short onset keeps
# a finite ratio: one row a coarse cell. At half or double the ratio of an empty cell changes by a factor two, no more.
_PRIOR_ROWS = 20.0

# The latest rows halve when they exceed this: "near the reference" then tells of now. Ten times MIN_ROWS: the noise of
# the distance is small beside half of a page's effect, and an hour of drift long ago is forgotten after a few halvings.
_FORGET = 2_000

# The share of the drift seen at the page at which a subject is near the reference again, and of the threshold at which
# a recovery shows as likely. Halfway, because what paged was seen at its worst: a smaller share never lets small drifts
# end, whose distance is mostly noise; a larger one takes a lasting half drift for a recovery. Evidence above zero alone
# says nothing: it is there half of the time while the drift lasts.
_HALF = 0.5

# Duplicates and late events have no counts in the reference: of so many rows a sound source sends what is allowed.
_SOUND_ROWS = 1_000


class RecoveryState(State, frozen=True):
    """A recovery test as it stands."""

    drifted: Counts
    weights: Counts
    phi: float
    evidence: float
    latest: Counts
    latest_weights: Counts


class Recovery:
    """A CUSUM of log p / q over cells, R <- max(0, R + sum N log(p/q) / phi): p the reference, q halfway to the drift.

    While at least half of the drift seen at the page lasts, it crosses ``THRESHOLD`` falsely about once in a thousand
    tries; halfway, because what paged was seen at its worst. The latest ``MIN_ROWS`` or more must also lie nearer to
    the reference than half of the drift: a third law is no recovery. Of a model with seasons they come from the hours
    of the day at which half of the drift's rows were seen: a night says nothing of what mornings do. With strata, p is
    that of the pane's hour and q is p tilted by what the drift did to the hours it was seen in: the cells' ratio of
    drifted to expected. By hand: two
    cells at p = (.5, .5) that drifted far to (.9, .1) give halfway (.7, .3), so each row in the second cell adds
    log(.5 / .3) = .51 nats and each in the first takes log(.7 / .5) = .34.
    """

    def __init__(self, reference: Counts, drifted: Counts, weights: Counts, phi: float) -> None:
        """Test against the reference's counts int64[S, K] by stratum.

        ``drifted`` int64[K] came since the onset, ``weights`` int64[S] rows of it from each stratum.
        """
        self.drifted, self.weights, self.phi = drifted, weights, phi
        self.evidence = 0.0
        self.latest: Counts = np.zeros(reference.shape[1], np.int64)
        self.latest_weights: Counts = np.zeros(len(reference), np.int64)
        self._rows = int(reference.sum())
        rows = reference.sum(1, keepdims=True)
        self._p: Floats = (reference + 0.5) / (rows + 0.5 * reference.shape[1])
        usual = self._mixture(weights)
        tilt = (drifted + _PRIOR_ROWS * usual) / (drifted.sum() + _PRIOR_ROWS) / usual
        q = self._p * tilt
        q /= q.sum(1, keepdims=True)
        self._log_ratio: Floats = np.log(self._p) - np.log(_HALF * self._p + _HALF * q)
        self.effect = 0.5 * float(np.abs(drifted / max(int(drifted.sum()), 1) - usual).sum())

    @property
    def likely(self) -> bool:
        """Whether the evidence is half way to a recovery: above zero it is half of the time while the drift lasts."""
        return self.evidence >= _HALF * THRESHOLD

    def step(self, counts: Counts, stratum: int = 0) -> bool:
        """Take the cells of a closed pane of a stratum; returns whether the subject has recovered."""
        if not counts.any():
            return False
        self.evidence = max(0.0, self.evidence + float(counts @ self._log_ratio[stratum]) / self.phi)
        if self.evidence == 0.0:
            self.latest[:] = 0
            self.latest_weights[:] = 0
            return False
        self.latest += counts
        self.latest_weights[stratum] += int(counts.sum())
        if self.latest.sum() > _FORGET:
            self.latest //= 2
            self.latest_weights //= 2
        enough = self.evidence >= THRESHOLD and int(self.latest.sum()) >= MIN_ROWS
        return enough and self._same_hours() and self._near()

    def state(self) -> RecoveryState:
        """Return the test as it stands."""
        return RecoveryState(
            drifted=self.drifted.copy(),
            weights=self.weights.copy(),
            phi=self.phi,
            evidence=self.evidence,
            latest=self.latest.copy(),
            latest_weights=self.latest_weights.copy(),
        )

    @classmethod
    def restore(cls, reference: Counts, state: RecoveryState) -> "Recovery":
        """Build the test against the reference's counts whose ``state`` this was."""
        made = cls(reference, state.drifted, state.weights, state.phi)
        made.evidence = state.evidence
        made.latest, made.latest_weights = state.latest.copy(), state.latest_weights.copy()
        return made

    def _mixture(self, weights: Counts) -> Floats:
        """Cell probabilities of rows that came from the strata in these proportions."""
        if not weights.any():
            return np.asarray(self._p.mean(0), np.float64)
        return np.asarray(weights @ self._p / weights.sum(), np.float64)

    def _same_hours(self) -> bool:
        """Whether the latest rows came at the hours of half of the drift's rows or more; without strata any hour does.

        What paged in the morning is usual each evening: without this it came back and paged again each day.
        """
        if len(self.weights) < HOURS_OF_DAY or not self.weights.any():
            return True
        drifted, latest = (w.reshape(-1, HOURS_OF_DAY).sum(0) for w in (self.weights, self.latest_weights))
        # An hour beside it will do: when the clocks change, a daily batch never comes at its old hour again.
        seen = latest + np.roll(latest, 1) + np.roll(latest, -1) > 0
        return float(drifted[seen].sum()) >= _HALF * float(drifted.sum())

    def _near(self) -> bool:
        found = distances(self.latest, self._mixture(self.latest_weights) * self._rows)
        return bool(found) and found["tv"].value <= _HALF * self.effect


def member_counts(reference: Reference, member: Member, pane: Pane) -> Counts:
    """Return a member's counts in a pane (or the sum of several), int64[K]; not for performance, which has labels."""
    layout, counts = reference.layout, pane.counts
    if member.subject not in layout:
        bad = int(counts[layout.pane_counter(str(member.check))])
        return np.array([bad, pane.rows])
    place = layout[member.subject]
    if member.check is not None and member.check in QUALITY:
        bad = int(counts[place.counter(member.check)])
        return np.array([bad, max(pane.rows - bad, 0)])
    return coarse_cells(reference.by_name[member.subject], counts[place.histogram])


def member_expected(reference: Reference, member: Member) -> Counts:
    """Return the reference's side of the same counts by stratum, int64[S, K]."""
    if member.type is SubjectType.PERFORMANCE and reference.labels is not None:
        return (judged(reference) or reference.labels).scored.reshape(1, -1)
    if member.subject not in reference.layout:
        bad = round(_SOUND_ROWS * next(share for name, share in DUPLICATES_AND_LATE.values() if name == member.check))
        return np.array([[bad, _SOUND_ROWS - bad]])
    subject = reference.by_name[member.subject]
    if member.check is not None and member.check in QUALITY:
        bad = int(subject.quality[QUALITY.index(member.check)])
        return np.array([[bad, max(subject.rows - bad, 1)]])
    return coarse_cells(subject, subject.strata if len(subject.strata) else subject.counts[None, :])


def strata_weights(panes: Iterable[Pane], strata: int, timezone: str) -> Counts:
    """Return the rows of these panes by stratum, int64[S]."""
    weights = np.zeros(strata, np.int64)
    for pane in panes:
        weights[stratum_of(pane.start, strata, timezone)] += pane.rows
    return weights


def moved_since(reference: Reference, name: str, panes: Sequence[Pane]) -> float:
    """Return how far a subject moved in these panes from what their hours bring (TV beyond noise); 0 without rows.

    Not from the reference's mix of all hours, against which each weekday of a model with a weekend's rhythm has moved.
    """
    subject, place = reference.by_name[name], reference.layout[name]
    usual = coarse_cells(subject, subject.strata if len(subject.strata) else subject.counts[None, :])
    weights = strata_weights(panes, len(usual), reference.timezone)
    if not weights.any():
        return 0.0
    shares = (usual + 0.5) / (usual.sum(1, keepdims=True) + 0.5 * usual.shape[1])
    seen = coarse_cells(subject, np.sum([pane.counts[place.histogram] for pane in panes], axis=0))
    found = distances(seen, weights @ shares / weights.sum() * int(usual.sum()))
    return found["tv"].value if found else 0.0


def member_phi(reference: Reference, member: Member) -> float:
    """Return the variance inflation of a member's counts, 1 where unknown."""
    if member.type is SubjectType.PERFORMANCE and reference.labels is not None:
        return reference.labels.phi
    subject = reference.by_name.get(member.subject)
    return subject.inflation if subject is not None else 1.0


def is_tested(member: Member) -> bool:
    """Return whether a member's recovery is tested on its counts: rules, volume and fairness tell theirs."""
    tells = member.check in RULES or member.check is Check.VOLUME or member.type is SubjectType.FAIRNESS
    return not tells


class RecoveryTests:
    """The recovery tests of a watch's open incidents, by incident and key of the member."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._tests: dict[tuple[str, str], Recovery] = {}

    def start(self, incident: str, member: Member, seen: Pane, labelled: Counts | None, panes: Iterable[Pane]) -> None:
        """Test a member that drifted to ``seen`` (performance: to the ``labelled`` score bins) during ``panes``."""
        expected = member_expected(self._reference, member)
        drifted = member_counts(self._reference, member, seen) if labelled is None else labelled.ravel()
        weights = strata_weights(panes, len(expected), self._reference.timezone)
        self._tests[incident, member.key] = Recovery(expected, drifted, weights, member_phi(self._reference, member))

    def back(self, incident: str, member: Member, pane: Pane, firing: Collection[str], *, volume_usual: bool) -> bool:
        """Take a closed pane; returns whether the member has recovered.

        A rule's is back when the rule no longer holds (``firing`` are the keys of those that do), that of volume when
        it is usual again.
        """
        if not is_tested(member):
            return volume_usual if member.check is Check.VOLUME else member.key not in firing
        test = self._tests[incident, member.key]
        stratum = stratum_of(pane.start, len(test.weights), self._reference.timezone)
        return test.step(member_counts(self._reference, member, pane), stratum)

    def step_labelled(self, incident: str, member: Member, scored: Counts) -> bool:
        """Take newly labelled rows by score bin; returns whether the member has recovered."""
        return self._tests[incident, member.key].step(scored.ravel())

    def likely(self, incident: str, key: str) -> bool:
        """Return whether the evidence of a member is half way to a recovery."""
        test = self._tests.get((incident, key))
        return test is not None and test.likely

    def end(self, incident: str, member: Member) -> None:
        """Forget the test of a member."""
        self._tests.pop((incident, member.key), None)

    def state(self) -> list[tuple[str, str, RecoveryState]]:
        """Return each test with its incident and key."""
        return [(*key, test.state()) for key, test in self._tests.items()]

    def restore(self, state: Iterable[tuple[str, str, RecoveryState]], incidents: Mapping[str, Incident]) -> None:
        """Take over the tests of open incidents."""
        self._tests = {}
        for incident, key, kept in state:
            member = incidents[incident].member(key)
            if member is not None:
                self._tests[incident, key] = Recovery.restore(member_expected(self._reference, member), kept)
