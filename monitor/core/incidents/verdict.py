"""From findings and incidents to what is said: verdicts, and at most one retrain request an incident."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stationkeeper.contracts.identity import request_id, verdict_id
from stationkeeper.contracts.messages import Level, Onset, RetrainRequest, State, Subject, Verdict, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.finding import INFORM, PAGE, WARN, Dated, Finding
from stationkeeper.monitor.core.incidents.incident import Incident
from stationkeeper.monitor.core.reasons import BLOCKS_RETRAINING, Cause

LEVELS = {PAGE: Level.PAGE, WARN: Level.WARN, INFORM: Level.INFORM}
CURABLE = frozenset(
    {VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT, VerdictKind.PERFORMANCE, VerdictKind.CONCEPT_DRIFT}
)


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a verdict is about: the watch's model, version, segment and reference digest."""

    model: str
    version: str
    segment: str
    digest: str


def refusal_of(finding: Finding) -> str:
    """Return why an incident led by this finding must not start a retraining, or "" if it may."""
    if finding.kind is VerdictKind.DATA_QUALITY and (finding.check is None or finding.check in BLOCKS_RETRAINING):
        return f"broken data ({finding.check}): repair the source, a model trained on it would learn the fault"
    if finding.cause is Cause.MISSING:
        return "missing values rose: repair the source, a model trained on it would learn the gap"
    return ""


def verdict_of(  # noqa: PLR0913 - a verdict is these parts
    named: Named,
    finding: Finding,
    *,
    now: int,
    level: int,
    effect: float,
    rows: int,
    onset: Dated,
    incident: Incident | None,
    last_row: int | None,
    evidence: Mapping[str, Any],
) -> Verdict:
    """Return the verdict on a finding at the pane that closed at ``now``; its numbers are those of the chart."""
    broken = finding.kind is VerdictKind.DATA_QUALITY
    return Verdict(
        id=verdict_id(named.model, named.version, named.segment, finding.key, finding.kind, now),
        time=to_datetime(now),
        model=named.model,
        version=named.version,
        segment=named.segment,
        subject=Subject(type=finding.type, name=finding.subject, check=finding.check),
        kind=finding.kind,
        level=LEVELS[level],
        state=State.BROKEN if broken else State.DRIFTING,
        cause=finding.cause,
        reason=finding.reason,
        statistic=_finite(finding.score),
        threshold=_finite(finding.threshold),
        effect=_finite(effect),
        rows=rows,
        row=last_row,
        onset=_onset(onset),
        incident=incident.id if incident else None,
        reference=named.digest,
        budgeted=finding.budgeted,
        evidence={**finding.evidence, **evidence},
    )


def recovered_verdict(named: Named, incident: Incident, *, now: int, rows: int, last_row: int | None) -> Verdict:
    """Return the verdict that closes an incident."""
    leader = incident.members[incident.leader]
    return Verdict(
        id=verdict_id(named.model, named.version, named.segment, leader.key, VerdictKind.RECOVERED, now),
        time=to_datetime(now),
        model=named.model,
        version=named.version,
        segment=named.segment,
        subject=Subject(type=leader.type, name=leader.subject, check=leader.check),
        kind=VerdictKind.RECOVERED,
        level=Level.INFORM,
        state=State.STEADY,
        cause=incident.cause,
        reason=f"{', '.join(incident.subjects[:5])}: back at the reference",
        rows=rows,
        row=last_row,
        onset=_onset(incident.onset),
        incident=incident.id,
        reference=named.digest,
        evidence={"subjects": list(incident.subjects)},
    )


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """When an incident may ask for a new model: clock units of the watch.

    ``cooldown`` after any request of the model, at most ``most`` requests in ``period``, ``kinds`` that may ask.
    """

    cooldown: int = 6 * 3_600_000
    most: int = 4
    period: int = 7 * 86_400_000
    kinds: frozenset[VerdictKind] = CURABLE


@dataclass(frozen=True, slots=True)
class Answer:
    """A request, or the reason why there is none."""

    request: RetrainRequest | None
    reason: str


@dataclass(slots=True)
class RequestDesk:
    """One model's requests: cooldown, budget and in-flight suppression; survives restarts by ``state``.

    ``in_flight`` is told from outside (the rollouts and candidates the judge reads); ``asked`` are past request times.
    """

    settings: RequestSettings = field(default_factory=RequestSettings)
    asked: list[int] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    suppressed: int = 0

    def consider(self, incident: Incident, verdict: Verdict, *, now: int, in_flight: str | None = None) -> Answer:
        """Return a request for this incident, or why not. One incident asks at most once, ever (invariant 8)."""
        reason = self._refuse(incident, now, in_flight)
        if reason:
            if not incident.refusal:
                self.suppressed += 1
            return Answer(None, reason)
        self.asked.append(now)
        self.answered = [*self.answered, incident.id][-100:]
        request = RetrainRequest(
            id=request_id(incident.model, incident.version, incident.id),
            time=to_datetime(now),
            model=incident.model,
            version=incident.version,
            incident=incident.id,
            verdict=verdict.id,
            kind=incident.kind,
            cause=incident.cause,
            onset=_onset(incident.onset),
            subjects=incident.subjects,
            reference=verdict.reference,
            evidence={**verdict.evidence, "reason": incident.reason, "effect": verdict.effect, "rows": verdict.rows},
        )
        return Answer(request, "published")

    def _refuse(self, incident: Incident, now: int, in_flight: str | None) -> str:
        settings = self.settings
        if incident.refusal:
            return incident.refusal
        if incident.kind not in settings.kinds:
            return f"{incident.kind} does not start a retraining; retraining starts on {', '.join(settings.kinds)}"
        if incident.id in self.answered:
            return "this incident has its request"
        if in_flight:
            return f"{in_flight} is still in work; one retraining of a model at a time"
        if self.asked and now - self.asked[-1] < settings.cooldown:
            left = settings.cooldown - (now - self.asked[-1])
            return f"cooldown: {left} clock units left of {settings.cooldown}"
        within = sum(now - time < settings.period for time in self.asked)
        if within >= settings.most:
            return f"budget: {within} requests in the last {settings.period} clock units, at most {settings.most}"
        return ""

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs, JSON values."""
        return {"asked": self.asked[-100:], "answered": list(self.answered), "suppressed": self.suppressed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the desk whose ``state`` this was."""
        self.asked = [int(time) for time in state["asked"]]
        self.answered = [str(item) for item in state["answered"]]
        self.suppressed = int(state["suppressed"])


def _onset(onset: Dated) -> Onset:
    return Onset(time=to_datetime(onset.time), low=to_datetime(onset.low), high=to_datetime(onset.high), row=onset.row)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
