"""Warnings: a subject below its page is warned of once an episode, however its evidence flickers (hysteresis)."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from stationkeeper.contracts.messages import SubjectType, Verdict
from stationkeeper.contracts.state import State, replaced
from stationkeeper.monitor.core.budget import LEVELS
from stationkeeper.monitor.core.finding import NONE, Dated, Finding
from stationkeeper.monitor.core.incidents.explanation import (
    Explainer,
    explained_by_faults,
    follows,
    subjects_with_evidence,
)
from stationkeeper.monitor.core.incidents.incident import OpenIncidents
from stationkeeper.monitor.core.incidents.verdict import DecisionTime, WatchIdentity, explained_verdict
from stationkeeper.monitor.core.reasons import Check

REARM_PANES = 30
"""Quiet panes in a row after which a subject may be warned of again. Chosen: half an hour of one-minute panes. At half,
evidence that wanders over an hour warns several times; at double, a second, separate episode within the hour is not
told apart from the first."""

REARM_MS = 86_400_000
"""Quiet time after which a subject may be warned of again, where panes are of time: a day, so that what comes back each
night is one episode. At half, a warm spring warns each afternoon; at double, two bad days in a week are told as one."""

REARM_NATS = -math.log(10 * LEVELS["inform"])
"""Quiet is evidence below a tenth of the inform level, in nats over the page threshold: log(1/1000). Without the factor
of ten, evidence that flickers about the inform level warns at each crossing. A factor of five rearms a little sooner,
twenty later; an e-value decays by a tenth within a few panes once its drift is over."""

# What the values of a subject are, whether its cells tell it or the share beyond the reference's range.
_SHAPES = frozenset({None, Check.BELOW, Check.ABOVE})


class WarnedSubject(State, frozen=True, array_like=True):
    """What was warned of: a subject, the highest level so far, and the quiet panes since."""

    subject: str
    type: SubjectType
    check: Check | None
    level: int
    quiet: int = 0


class WarningHysteresis:
    """Lets a finding through when its level is higher than what was given for its subject in this episode.

    An episode ends after ``REARM_PANES`` quiet panes in a row that last ``rearm`` clock units together, or by
    ``release`` on a recovery. Hysteresis: evidence between a tenth of the inform level and the inform level neither
    warns nor ends the episode.
    """

    def __init__(self, rearm: int = 0) -> None:
        self._rearm = rearm
        self._warned: dict[str, WarnedSubject] = {}

    def news(self, finding: Finding) -> bool:
        """Return whether a finding says more than what its subject was warned of."""
        known = self._warned.get(finding.key)
        if known is None and finding.check in _SHAPES:
            # The tail beyond the reference and the cells say one thing: a warm spring is one episode, not two.
            same = (w for w in self._warned.values() if w.subject == finding.subject and w.type is finding.type)
            known = max((w for w in same if w.check in _SHAPES), key=lambda w: w.level, default=None)
        return finding.level > (NONE if known is None else known.level)

    def admit(self, finding: Finding) -> bool:
        """Return whether a finding is news, and remember it."""
        if not self.news(finding):
            return False
        self._warned[finding.key] = WarnedSubject(finding.subject, finding.type, finding.check, finding.level)
        return True

    def rest(
        self,
        found: Collection[str],
        judged: Collection[SubjectType],
        margin: Callable[[WarnedSubject], float],
        length: int = 1,
    ) -> None:
        """Count a closed pane of ``length`` that judged these types; ``found`` are the keys of its findings.

        ``margin`` gives a subject's log evidence less its page threshold, -inf where a rule has none.
        """
        enough = max(REARM_PANES, -(-self._rearm // length))
        for key, warned in list(self._warned.items()):
            if warned.type not in judged:
                continue
            loud = key in found or margin(warned) >= REARM_NATS
            quiet = 0 if loud else warned.quiet + 1
            if quiet >= enough:
                del self._warned[key]
            else:
                self._warned[key] = replaced(warned, quiet=quiet)

    def release(self, subject: str) -> None:
        """Forget the warnings of a subject: it has recovered."""
        self._warned = {key: warned for key, warned in self._warned.items() if warned.subject != subject}

    def state(self) -> dict[str, WarnedSubject]:
        """Return what was warned of, by the key of its finding."""
        return dict(self._warned)

    def restore(self, state: Mapping[str, WarnedSubject]) -> None:
        """Take over what ``state`` gave."""
        self._warned = dict(state)


class Warnings:
    """What is said of findings below a page: each level once an episode of its subject, and no fault a second time."""

    def __init__(
        self, identity: WatchIdentity, explainer: Explainer, margin: Callable[[WarnedSubject], float], rearm: int
    ) -> None:
        """``margin`` and ``rearm`` are those of the hysteresis."""
        self._identity, self._explainer, self._margin = identity, explainer, margin
        self.hysteresis = WarningHysteresis(rearm)

    def step(
        self,
        findings: Sequence[Finding],
        at: DecisionTime,
        incidents: OpenIncidents,
        date: Callable[[Finding, DecisionTime], Dated],
    ) -> Iterator[Verdict]:
        """Yield the verdicts on a closed pane's findings below a page; what an open incident holds is said there."""
        present = {f.key: f for f in findings}
        with_evidence = subjects_with_evidence(findings, incidents)
        self.hysteresis.rest(present, at.judged, self._margin, at.length)
        for finding in present.values():
            if incidents.of_subject(finding.subject) is not None or not self.hysteresis.news(finding):
                continue
            explained, counts = self._explainer.since_onset(finding)
            faulty = explained_by_faults(present.values(), self._explainer.reference, finding, explained.effect, counts)
            # A pair that moves with its features keeps its warning: it is said when they are quiet and it is not.
            if not faulty and follows(explained.finding) and not with_evidence.isdisjoint(finding.parts):
                continue
            # What a fault explains is the fault's: its evidence fades after it, and must not be said then.
            self.hysteresis.admit(finding)
            if faulty:
                continue
            yield explained_verdict(self._identity, explained, finding.level, date(finding, at), at, None, {})
