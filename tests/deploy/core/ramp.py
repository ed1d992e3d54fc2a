"""Builders of rollouts, candidates and minutes, and traffic that follows the record."""

from stationkeeper.contracts.messages import (
    Approval,
    Candidate,
    Deployment,
    GateOutcome,
    Level,
    Rollout,
    RolloutPhase,
    Subject,
    SubjectState,
    SubjectType,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.deploy.core.admission import advance, names, note_proven, offer
from stationkeeper.deploy.core.minutes import ArmCounts, Minute, OutcomeCounts
from stationkeeper.deploy.core.moves import steady
from stationkeeper.deploy.core.policy import Action, Guardrail
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.deploy.core.rollout import close_minute
from stationkeeper.deploy.settings import GuardrailSettings, RolloutSettings
from tests import messages

MINUTE = 60_000


# The minutes of these tests carry no latency, so that none can be compared.
NO_LATENCY = {Guardrail.LATENCY: GuardrailSettings(action=Action.INFORM, margin=2.0)}
SETTINGS = RolloutSettings(
    step_duration=5 * MINUTE,
    min_rows=20,
    max_duration=240 * MINUTE,
    probation_rows=2_000,
    probation=5 * MINUTE,
    guardrails=NO_LATENCY,
)
POLICY = SETTINGS.policy()


Phase = RolloutPhase


def first() -> Rollout:
    return steady("fraud", "1", 0, because(Reason.ADOPTED, version="1", by="test")).rollout


def candidate(version: str = "2", champion: str = "1", gate: GateOutcome = GateOutcome.PASS) -> Candidate:
    return messages.candidate(0, version, champion, gate=gate)


def minute(index: int, arms: dict[str, tuple[int, int]], outcomes: tuple[OutcomeCounts, ...] = ()) -> Minute:
    """Build a minute from rows and errors by version."""
    counts = {
        version: ArmCounts(rows=rows, errors=errors, scores=(rows, *(0,) * (SCORE_BINS - 1)))
        for version, (rows, errors) in arms.items()
        if rows
    }
    return Minute(start=index * MINUTE, length=MINUTE, arms=counts, outcomes=outcomes)


def drive(rollout, policy, minutes, *, rng, rows=1_000, bad=0.0, base=0.0, applied=None):
    """Play minutes in which traffic follows the record, ``applied`` overrides the share; returns records and audits."""
    records: list[Rollout] = [rollout]
    audits: list[Deployment] = []
    for index in minutes:
        share = (applied if applied is not None else rollout.weight_bp / 10_000) if rollout.canary else 0.0
        b = int(rng.binomial(rows, share))
        arms = {rollout.champion: (rows - b, int(rng.binomial(rows - b, base)))}
        if rollout.canary:
            arms[rollout.canary] = (b, int(rng.binomial(b, bad)))
        step = advance(close_minute(rollout, minute(index, arms), policy), policy, (index + 1) * MINUTE)
        rollout = step.rollout
        records.append(rollout)
        audits += step.deployments
    return records, audits


def started(policy=POLICY) -> Rollout:
    return note_proven(offer(first(), candidate(), policy, MINUTE).rollout, "2")


def verdict(kind: VerdictKind, incident: str, level: Level = Level.PAGE) -> Verdict:
    return Verdict(
        id="ver",
        time=to_datetime(0),
        model="fraud",
        version="1",
        subject=Subject(type=SubjectType.FEATURE, name="amount"),
        kind=kind,
        level=level,
        state=SubjectState.BROKEN,
        cause="nulls",
        reason="nulls",
        rows=10,
        incident=incident,
    )


def outcomes(version: str, start: int, *, tp=0, fp=0, fn=0, tn=0, loss=0.0) -> OutcomeCounts:
    return OutcomeCounts(
        version=version,
        start=start,
        rows=tp + fp + fn + tn,
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        loss=loss,
    )


def with_labels(rollout, policy, minutes, rng, *, wrong_a, wrong_b, old="1", new="2"):
    """Play minutes in which half of the positives of either arm turn out wrong at the given rates, a minute later."""
    audits: list[Deployment] = []
    for index in minutes:
        share = rollout.weight_bp / 10_000 if rollout.canary else 0.0
        b = int(rng.binomial(1_000, share))
        before = (index - 1) * MINUTE
        known = [
            outcomes(version, before, tp=60 - bad, fp=bad, tn=40, loss=float(bad))
            for version, rate in ((old, wrong_a), (new, wrong_b))
            for bad in [int(rng.binomial(60, rate))]
        ]
        arms = {old: (1_000 - b, 0), new: (b, 0)} if rollout.canary else {rollout.champion: (1_000, 0)}
        step = close_minute(rollout, minute(index, arms, tuple(known)), policy)
        rollout = step.rollout
        audits += step.deployments
    return rollout, audits


def word(decision, rollout: Rollout, name: str | None = None) -> Approval:
    return Approval(
        time=to_datetime(0),
        target="rollout",
        id=name or min(names(rollout)),
        model="fraud",
        decision=decision,
        by="ana",
        note="looks wrong",
    )
