"""Verdicts: what is published of a finding, and of an incident that closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stationkeeper.contracts.identity import verdict_id
from stationkeeper.contracts.messages import Level, Onset, Subject, SubjectState, SubjectType, Verdict, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.finding import INFORM, PAGE, WARN, Dated, Finding
from stationkeeper.monitor.core.incidents.explanation import Explanation
from stationkeeper.monitor.core.incidents.incident import Incident
from stationkeeper.monitor.core.reasons import BLOCKS_RETRAINING, Cause

# The levels of findings as messages name them.
_MESSAGE_LEVELS = {PAGE: Level.PAGE, WARN: Level.WARN, INFORM: Level.INFORM}


@dataclass(frozen=True, slots=True)
class WatchIdentity:
    """Whom a verdict is about: the watch's model, version, segment and reference digest."""

    model: str
    version: str
    segment: str
    digest: str


@dataclass(frozen=True, slots=True)
class DecisionTime:
    """The closed pane a decision is made at: its end and length in clock units, and its last row if numbered.

    ``judged`` are the types of the subjects that were judged in it.
    """

    end: int
    length: int
    last_row: int | None
    judged: frozenset[SubjectType] = frozenset()


def refusal_of(finding: Finding) -> str:
    """Return why an incident led by this finding must not start a retraining, or "" if it may."""
    if finding.kind is VerdictKind.DATA_QUALITY and (finding.check is None or finding.check in BLOCKS_RETRAINING):
        return f"broken data ({finding.check}): repair the source, a model trained on it would learn the fault"
    if finding.cause is Cause.MISSING:
        return "missing values rose: repair the source, a model trained on it would learn the gap"
    return ""


def fault_in(incident: Incident) -> str:
    """Return why no model may be trained while this incident is as it is, "" where one may.

    It opened with broken data, or a member that joined it since is broken and has not come back.
    """
    broken = [m for m in incident.drifting if m.kind is VerdictKind.DATA_QUALITY and m.check in BLOCKS_RETRAINING]
    return incident.refusal or "; ".join(f"{m.subject}: broken data ({m.check})" for m in broken)


def verdict_of(  # noqa: PLR0913 - a verdict is these parts
    named: WatchIdentity,
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
        level=_MESSAGE_LEVELS[level],
        state=SubjectState.BROKEN if broken else SubjectState.DRIFTING,
        cause=finding.cause,
        reason=finding.reason,
        statistic=_finite(finding.score),
        threshold=_finite(finding.threshold),
        effect=_finite(effect),
        rows=rows,
        row=last_row,
        onset=onset_of(onset),
        incident=incident.id if incident else None,
        reference=named.digest,
        budgeted=finding.budgeted,
        evidence={**finding.evidence, **evidence},
    )


def explained_verdict(
    identity: WatchIdentity,
    explained: Explanation,
    level: int,
    onset: Dated,
    at: DecisionTime,
    incident: Incident | None,
    evidence: Mapping[str, Any],
) -> Verdict:
    """Return the verdict on an explained finding at the pane that closed at ``at``."""
    return verdict_of(
        identity,
        explained.finding,
        now=at.end,
        level=level,
        effect=explained.effect,
        rows=explained.rows,
        onset=onset,
        incident=incident,
        last_row=at.last_row,
        evidence=evidence,
    )


def recovered_verdict(
    named: WatchIdentity, incident: Incident, *, now: int, rows: int, last_row: int | None
) -> Verdict:
    """Return the verdict that closes an incident."""
    leader = incident.leading
    # Five names are a line that a person reads; the evidence has them all.
    return Verdict(
        id=verdict_id(named.model, named.version, named.segment, leader.key, VerdictKind.RECOVERED, now),
        time=to_datetime(now),
        model=named.model,
        version=named.version,
        segment=named.segment,
        subject=Subject(type=leader.type, name=leader.subject, check=leader.check),
        kind=VerdictKind.RECOVERED,
        level=Level.INFORM,
        state=SubjectState.STEADY,
        cause=incident.cause,
        reason=f"{', '.join(incident.subjects[:5])}: back at the reference",
        rows=rows,
        row=last_row,
        onset=onset_of(incident.onset),
        incident=incident.id,
        reference=named.digest,
        evidence={"subjects": list(incident.subjects)},
    )


def onset_of(onset: Dated) -> Onset:
    """Return an onset as messages carry it."""
    return Onset(time=to_datetime(onset.time), low=to_datetime(onset.low), high=to_datetime(onset.high), row=onset.row)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
