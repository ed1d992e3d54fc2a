"""Statuses as the roles would hand them over at moments of the fraud story, drawn from a fixed seed."""

from collections.abc import Mapping, Sequence
from typing import Any

from stationkeeper.contracts.messages import SubjectState
from stationkeeper.contracts.metrics import STATE_NUMBER, Sample
from tests.stationkeeper.story_model import (
    FEATURES,
    INCIDENT,
    MINUTE,
    ONSET,
    REQUEST,
    SEEN,
    START,
    THRESHOLD,
    broken_model,
    incident,
    model,
    performance,
    subject,
    unknown_model,
)

__all__ = [
    "FEATURES",
    "INCIDENT",
    "MINUTE",
    "ONSET",
    "PATHS",
    "REQUEST",
    "SEEN",
    "START",
    "THRESHOLD",
    "Role",
    "broken_model",
    "canary_moment",
    "conservation",
    "deploy",
    "healthy_moment",
    "incident",
    "judge",
    "model",
    "performance",
    "retrain",
    "subject",
    "subject_samples",
    "tally",
    "unknown_model",
]

# The pages that a browser is sent to, by tests and by the screenshots of the documents.
PATHS = {
    "fleet": "/",
    "model": "/models/fraud",
    "unknown": "/models/churn",
    "subject": "/models/fraud/subjects/amount",
    "incident": f"/incidents/{INCIDENT}",
}


class Role:
    """A role as the web server sees it, with what a test gives it."""

    def __init__(
        self,
        role: str,
        status: Mapping[str, Any],
        samples: Sequence[Sample] = (),
        *,
        live: bool = True,
        ready: bool = True,
        reasons: Sequence[str] = (),
    ) -> None:
        self.role = role
        self._status, self._samples = status, samples
        self._live, self._ready, self._reasons = live, ready, reasons

    def samples(self) -> Sequence[Sample]:
        return self._samples

    def status(self) -> Mapping[str, Any]:
        return self._status

    def live(self) -> bool:
        return self._live

    def ready(self) -> bool:
        return self._ready

    def reasons(self) -> Sequence[str]:
        return self._reasons


def conservation() -> list[dict[str, Any]]:
    rows = []
    for topic, partitions, scale in (("fraud.predictions", 3, 1.0), ("fraud.labels", 2, 0.9)):
        for partition in range(partitions):
            tallied, late, duplicate, rejected = round(39_400 * scale) + partition * 117, 12, 31 + partition, 3
            rows.append(
                {
                    "topic": topic,
                    "partition": partition,
                    "received": tallied + late + duplicate + rejected,
                    "tallied": tallied,
                    "late": late,
                    "duplicate": duplicate,
                    "rejected": rejected,
                    "dropped": 0,
                    "expired": 0,
                    "clock": SEEN,
                    "idle": partition == 2,
                }
            )
    return rows


def tally() -> dict[str, Any]:
    return {"role": "tally", "conservation": conservation(), "dead_letters": {"not_json": 9, "bad_time": 6}}


def retrain(stage: str = "training") -> dict[str, Any]:
    request: dict[str, Any] = {
        "id": REQUEST,
        "model": "fraud",
        "incident": INCIDENT,
        "stage": stage,
        "reason": "Training a gradient boosting on 41 200 labelled rows.",
        "created": SEEN + MINUTE,
        "plan": "Retrain on rows since 20 minutes before the onset, with older rows at half weight.",
        "stages": [
            {"stage": "planned", "entered": SEEN + MINUTE, "left": SEEN + 2 * MINUTE},
            {
                "stage": "snapshot",
                "entered": SEEN + 2 * MINUTE,
                "left": SEEN + 3 * MINUTE,
                "note": "41 200 rows, sha256 51ab…",
            },
            {"stage": "training", "entered": SEEN + 3 * MINUTE},
        ],
    }
    if stage == "done":
        request["stages"][-1]["left"] = SEEN + 5 * MINUTE
        request |= {
            "outcome": "candidate",
            "gate": "pass",
            "gate_reason": "Challenger is better by 0.14 in average precision, 95 % interval 0.10 to 0.18.",
            "version": "4",
            "candidate": "cand-12",
        }
    return {"role": "retrain", "requests": [request]}


def deploy(phase: str = "canary") -> dict[str, Any]:
    guardrails = [
        {
            "name": "error rate",
            "reason": "no sign of harm",
            "evidence": 0.4,
            "threshold": 4.6,
            "champion": 0.061,
            "canary": 0.031,
        },
        {
            "name": "latency p99",
            "reason": "no sign of harm",
            "evidence": -1.2,
            "threshold": 4.6,
            "champion": 11.2,
            "canary": 11.9,
        },
        {"name": "precision", "reason": "labels are not due yet"},
    ]
    rollout: dict[str, Any] = {
        "model": "fraud",
        "phase": phase,
        "champion": "3",
        "canary": "4",
        "weight_bp": 2_500,
        "reason": "Step 3 of 5, no guardrail found harm.",
        "since": SEEN + 6 * MINUTE,
        "request": REQUEST,
        "candidate": "cand-12",
        "steps": [
            {"weight_bp": 100, "state": "done", "rows_champion": 9_900, "rows_canary": 100, "guardrails": guardrails},
            {"weight_bp": 500, "state": "done", "rows_champion": 9_400, "rows_canary": 500, "guardrails": guardrails},
            {
                "weight_bp": 2_500,
                "state": "current",
                "rows_champion": 6_100,
                "rows_canary": 2_020,
                "guardrails": guardrails,
            },
            {"weight_bp": 5_000, "state": "planned"},
            {"weight_bp": 10_000, "state": "planned"},
        ],
        "deployments": [
            {
                "id": "d2",
                "time": SEEN + 8 * MINUTE,
                "action": "step",
                "champion": "3",
                "canary": "4",
                "weight_bp": 500,
                "reason": "1 000 rows, no harm found.",
            },
            {
                "id": "d1",
                "time": SEEN + 6 * MINUTE,
                "action": "started",
                "champion": "3",
                "canary": "4",
                "weight_bp": 100,
                "reason": "Candidate cand-12 passed its gate.",
            },
        ],
    }
    if phase == "steady":
        for gone in ("canary", "candidate", "steps", "request", "deployments"):
            del rollout[gone]
        rollout |= {"weight_bp": 0, "reason": "Version 3 was adopted from the registry."}
    return {"role": "deploy", "rollouts": [rollout]}


def judge(*models: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": "judge", "models": list(models)}


def canary_moment() -> list[Role]:
    """The middle of the story: a candidate is at 25 %; another model is unknown, another has broken data."""
    now = SEEN + 12 * MINUTE
    models = (model(now, drifting=True, canary="4"), unknown_model(now), broken_model(now), model(now, name="churn-2"))
    return [
        Role("tally", tally(), [Sample("stationkeeper_consumer_lag_records", ("tally", "fraud.predictions", "0"), 42)]),
        Role("judge", judge(*models), subject_samples(models)),
        Role(
            "retrain", retrain("done"), ready=False, reasons=["the registry at http://localhost:5000 does not answer"]
        ),
        Role("join", {"role": "join", "detail": {"paired": 7_731, "waiting_labels": 12}}),
        Role("deploy", deploy()),
    ]


def healthy_moment() -> list[Role]:
    """Nothing is wrong."""
    now = ONSET - 10 * MINUTE
    one = model(now)
    return [
        Role("tally", tally()),
        Role("judge", judge(one), subject_samples([one])),
        Role("retrain", {"role": "retrain", "requests": []}),
        Role("deploy", deploy("steady")),
    ]


def subject_samples(models: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """The gauges that a judge would hand over for the subjects and incidents of a status."""
    samples = []
    for one in models:
        for s in one["subjects"]:
            key = (one["model"], s["version"], s["segment"], s["name"])
            samples.append(Sample("stationkeeper_subject_state", key, STATE_NUMBER[SubjectState(s["state"])]))
            samples.append(Sample("stationkeeper_window_rows", key, s["rows"]))
            if "statistic" in s:
                samples.append(Sample("stationkeeper_drift_evidence", key, s["statistic"]))
                samples.append(Sample("stationkeeper_drift_evidence_threshold", key, s["threshold"]))
                samples.append(Sample("stationkeeper_drift_effect_ratio", key, s["effect"]))
        for i in one["incidents"]:
            labels = (one["model"], i["version"], i["id"], i["kind"], i["cause"], i["level"])
            samples.append(Sample("stationkeeper_incident_info", labels, 1.0))
    return samples
