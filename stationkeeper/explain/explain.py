"""A chain of decisions in words, with the numbers by which each can be redone by hand."""

import json
from collections.abc import Mapping
from typing import Any

from stationkeeper.contracts.messages import Candidate, Deployment, RetrainRequest, Verdict
from stationkeeper.contracts.times import to_datetime
from stationkeeper.explain.bins import Bins
from stationkeeper.explain.lineage import Chain
from stationkeeper.retrain.service.state import RetrainState


def chain_text(chain: Chain, bins: Mapping[str, Bins] | None = None) -> str:
    """Return the chain as text, in the order in which it happened; ``bins`` are tables by the verdict's id."""
    # In the order in which it happened, cause before effect: a person reads down to where it went wrong.
    parts = [_verdict(verdict, (bins or {}).get(verdict.id)) for verdict in chain.verdicts]
    if chain.request is not None:
        parts.append(_request(chain.request))
    if chain.outcome is not None:
        parts.append(_outcome(chain.outcome))
    if chain.candidate is not None:
        parts.append(_candidate(chain.candidate))
    parts += [_deployment(deployment) for deployment in chain.deployments]
    return "\n\n".join(parts)


def _verdict(verdict: Verdict, bins: Bins | None) -> str:
    where = f"{verdict.model} version {verdict.version}{_segment(verdict.segment)}"
    lines = [
        f"VERDICT {verdict.id}  {verdict.time.isoformat()}  {verdict.level}",
        f"  {verdict.kind} of {verdict.subject.type} {verdict.subject.name} in {where}",
        f"  {verdict.reason}",
    ]
    if verdict.statistic is not None and verdict.threshold is not None:
        # A verdict may stand under its threshold: a recovery, or a subject that joined an incident.
        side = "≥" if verdict.statistic >= verdict.threshold else "<"
        lines.append(f"  evidence (log e-value) {verdict.statistic:.3f} {side} threshold {verdict.threshold:.3f}")
    if verdict.effect is not None:
        lines.append(f"  effect: {verdict.effect:.2%} of {verdict.rows:,} rows moved (total variation)")
    if verdict.onset is not None:
        onset = verdict.onset
        span = f"{onset.low.isoformat()} … {onset.high.isoformat()}"
        lines.append(f"  onset: {onset.time.isoformat()} (between {span})")
    lines += _evidence(verdict.evidence)
    # Only where history still holds the panes: they are kept for a time, verdicts for longer.
    if bins is not None:
        made = " as it was made, before it followed a season" if "followed" in verdict.evidence else ""
        lines += [
            f"  by hand, from the onset to this verdict, against {bins.digest}{made}:",
            *(f"    {x}" for x in bins.lines()),
        ]
    return "\n".join(lines)


def _segment(segment: str) -> str:
    return f", segment {segment}" if segment else ""


def _request(request: RetrainRequest) -> str:
    return "\n".join(
        [
            f"REQUEST {request.id}  {request.time.isoformat()}",
            f"  retrain {request.model} version {request.version}: {request.cause}",
            f"  incident {request.incident}, verdict {request.verdict}, subjects {', '.join(request.subjects)}",
            f"  the change began {request.onset.time.isoformat()}; training data start there or compete with it",
            *([f"  withdrawn: {request.withdrawn}"] if request.withdrawn else []),
            *([f"  {request.cure.replace('_', ' ')}: {request.cure_reason}"] if request.cure else []),
            *_evidence(request.evidence),
        ]
    )


def _outcome(state: RetrainState) -> str:
    """Say what became of a request: where it stands and why, and each stage with its time and what it found."""
    steps = [
        f"  {to_datetime(entry.entered).isoformat()}  {entry.stage.value.replace('_', ' ')}"
        f"{': ' + _short(entry.note) if entry.note else ''}"
        for entry in state.history
    ]
    return "\n".join([f"OUTCOME {state.words()}", *steps])


def _candidate(candidate: Candidate) -> str:
    return "\n".join(
        [
            f"CANDIDATE {candidate.id}  {candidate.time.isoformat()}",
            f"  version {candidate.version} of {candidate.model} against champion {candidate.champion}",
            f"  gate: {candidate.gate}: {candidate.gate_reason}",
            *([f"  shadow: {candidate.shadow.words()}"] if candidate.shadow else []),
            f"  snapshot {candidate.snapshot}, run {candidate.run_id}, reference {candidate.reference}",
            *_evidence(candidate.evidence),
        ]
    )


def _deployment(deployment: Deployment) -> str:
    weight = f"{deployment.weight_bp / 100:g} %"
    return "\n".join(
        [
            f"DEPLOYMENT {deployment.id}  {deployment.time.isoformat()}",
            f"  {deployment.action}: champion {deployment.champion}, canary {deployment.canary or 'none'} at {weight}",
            f"  {deployment.reason}",
            *_evidence(deployment.evidence),
        ]
    )


def _evidence(evidence: dict[str, Any]) -> list[str]:
    return [f"  {name}: {_short(value)}" for name, value in evidence.items()]


def _short(value: Any) -> str:
    # Six digits are more than any of these numbers is known to; seventeen hide them.
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Two or three lines of a terminal: the evidence of a gate is a page of numbers.
    return text if len(text) <= 400 else f"{text[:400]} … ({len(text)} characters; --json shows all)"
