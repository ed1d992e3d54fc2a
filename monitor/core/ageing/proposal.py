"""A retraining proposed without an incident: as the request policy takes it, and the verdict that says why."""

from collections.abc import Mapping
from typing import Any

from stationkeeper.contracts.identity import content_id, verdict_id
from stationkeeper.contracts.messages import Level, Subject, SubjectState, SubjectType, Verdict, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.finding import Dated
from stationkeeper.monitor.core.incidents import Incident, WatchIdentity, onset_of
from stationkeeper.monitor.core.reasons import Cause

# A proposal that the policy held back (a rollout, broken data) is made again after an hour: it counts days, and a
# proposal a pane would fill the counts of refusals.
AGAIN_MS = 3_600_000


def proposal(  # noqa: PLR0913 - a verdict is these parts
    identity: WatchIdentity,
    now: int,
    *,
    name: str,
    cause: Cause,
    reason: str,
    since: int,
    number: int,
    statistic: float | None = None,
    threshold: float | None = None,
    rows: int = 0,
    evidence: Mapping[str, Any] | None = None,
) -> tuple[Incident, Verdict]:
    """Return an incident that never opened, for the request policy, and the verdict that says why it asks.

    ``name`` is the subject's, ``since`` (ms) what the request counts from, ``number`` tells this proposal for the
    version from its others.
    """
    onset = Dated(since, since, now)
    key = f"{SubjectType.PERFORMANCE}:{name}"
    verdict = Verdict(
        id=verdict_id(identity.model, identity.version, "", key, VerdictKind.PERFORMANCE, now),
        time=to_datetime(now),
        model=identity.model,
        version=identity.version,
        subject=Subject(type=SubjectType.PERFORMANCE, name=name),
        kind=VerdictKind.PERFORMANCE,
        level=Level.INFORM,
        # Of a calendar nothing is known to drift, but a request says that the model may be better.
        state=SubjectState.DRIFTING,
        cause=cause,
        reason=reason,
        statistic=statistic,
        threshold=threshold,
        rows=rows,
        onset=onset_of(onset),
        reference=identity.digest,
        budgeted=False,
        evidence=dict(evidence or {}),
    )
    incident = Incident(
        id=content_id(name, identity.model, identity.version, number),
        model=identity.model,
        version=identity.version,
        segment="",
        opened=now,
        onset=onset,
        leader=key,
        kind=VerdictKind.PERFORMANCE,
        cause=cause,
        reason=reason,
        verdict=verdict.id,
    )
    return incident, verdict
