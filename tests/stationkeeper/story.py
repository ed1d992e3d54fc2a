"""Statuses as the roles would hand them over at moments of the fraud story, drawn from a fixed seed."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contracts.messages import State
from contracts.metrics import STATE_NUMBER, Sample

START = 1_790_000_000_000
MINUTE = 60_000
ONSET = START + 90 * MINUTE
SEEN = ONSET + 6 * MINUTE
REQUEST = "req-5f0c7c2b9ad14e6f8d31"
INCIDENT = "inc-0b8f4f0f6c1d2e3a4b5c"
THRESHOLD = 16.4
FEATURES = ("payment_method", "amount", "merchant_age_days", "hour", "country", "card_age_days", "items", "is_gift")


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


def series(rng: np.random.Generator, now: int, onset: int | None, height: float) -> dict[str, Any]:
    times = np.arange(START, now, MINUTE)
    after = np.clip((times - onset) / MINUTE, 0, None) if onset else np.zeros(len(times))
    ratio = np.abs(rng.normal(0.06, 0.04, len(times))) + np.minimum(after * 0.16, 1.3) * height
    distance = np.abs(rng.normal(0.004, 0.003, len(times))) + np.minimum(after / 10, 1) * 0.21 * height
    points = [None if i == 20 else round(float(v), 4) for i, v in enumerate(ratio)]
    return {
        "time": [int(t) for t in times],
        "ratio": points,
        "distance": [None if i == 20 else round(float(v), 5) for i, v in enumerate(distance)],
        "distance_name": "psi",
        "noise": [0.009] * len(times),
    }


def numeric_cells(rng: np.random.Generator, shift: float) -> dict[str, Any]:
    edges = np.round(np.linspace(0, 500, 19), 1)
    reference = np.histogram(rng.gamma(2.0, 60, 10_000), edges)[0]
    window = np.histogram(rng.gamma(2.0, 60 * (1 + shift), 1_200), edges)[0]
    labels = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)]
    return {
        "labels": [*labels, "missing"],
        "reference": [int(c) for c in reference] + [12],
        "window": [int(c) for c in window] + [3],
        "edges": [float(e) for e in edges],
    }


def categorical_cells(*, new: bool) -> dict[str, Any]:
    return {
        "labels": ["card", "transfer", "wallet", "voucher", "other values", "missing"],
        "reference": [6_200, 2_400, 1_100, 260, 40, 0],
        "window": [610, 240, 110, 25, 190 if new else 4, 0],
    }


def subject(name: str, now: int, rng: np.random.Generator, *, drifting: bool = False, type_: str = "feature") -> Any:
    height = {"payment_method": 1.0, "amount": 0.85}.get(name, 0.8)
    statistic = THRESHOLD * 1.35 * height if drifting else float(rng.uniform(0.2, 3.0))
    moved = 0.152 if drifting else 0.0
    status: dict[str, Any] = {
        "name": name,
        "type": type_,
        "version": "3",
        "segment": "",
        "state": "drifting" if drifting else "steady",
        "reason": f"{15.2 * height:.1f} % of the traffic moved, more than the 2 % that this feature may move by itself."
        if drifting
        else "Within what sampling alone produces.",
        "rows": 1_175,
        "statistic": round(statistic, 3),
        "threshold": THRESHOLD,
        "effect": moved * height,
        "floor": 0.02,
        "window_start": now - 10 * MINUTE,
        "window_end": now,
        "distances": {"psi": 0.21 * height if drifting else 0.003, "js": 0.06, "ks": 0.15 if drifting else 0.01},
        "noise": {"psi": 0.009, "js": 0.02, "ks": 0.03},
        "quality": {"null": 0.002, "absent": 0.0},
        "series": series(rng, now, ONSET if drifting else None, height),
        "cells": categorical_cells(new=drifting)
        if name in {"payment_method", "country", "is_gift"}
        else numeric_cells(rng, 0.3 if drifting else 0.0),
    }
    if drifting:
        status |= {"incident": INCIDENT, "onset": ONSET}
    return status


def performance(now: int, *, fell: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    times = np.arange(START, now, 5 * MINUTE)
    drop = np.where(fell & (times > ONSET), 0.16, 0.0)
    real = 0.91 - drop + rng.normal(0, 0.008, len(times))
    matured = times < now - 30 * MINUTE
    cut = [round(float(v), 4) if m else None for v, m in zip(real, matured, strict=True)]
    return [
        {
            "version": "3",
            "segment": "",
            "measure": "precision",
            "state": "drifting" if fell else "steady",
            "reason": "75 % of alerts were fraud, 91 % on the reference." if fell else "As on the reference.",
            "rows": 412,
            "value": 0.75 if fell else 0.91,
            "low": 0.71 if fell else 0.88,
            "high": 0.79 if fell else 0.94,
            "reference": 0.91,
            "estimated": 0.78 if fell else 0.91,
            "series": {
                "time": [int(t) for t in times],
                "real": cut,
                "low": [None if v is None else round(v - 0.03, 4) for v in cut],
                "high": [None if v is None else round(v + 0.03, 4) for v in cut],
                "estimated": [round(float(v), 4) for v in 0.912 - drop * 0.8],
            },
        }
    ]


def incident(**more: Any) -> Any:
    return {
        "id": INCIDENT,
        "model": "fraud",
        "version": "3",
        "segment": "",
        "kind": "data_drift",
        "cause": "new value in payment_method",
        "level": "page",
        "reason": "A value that the reference does not hold, instant, makes up 15.2 % of payment_method; "
        "amount and score moved at the same minute.",
        "onset": ONSET,
        "onset_low": ONSET - 2 * MINUTE,
        "onset_high": ONSET + MINUTE,
        "opened": SEEN,
        "leader": "payment_method",
        "subjects": ["payment_method", "amount", "score"],
        "statistic": 22.1,
        "threshold": THRESHOLD,
        "effect": 0.152,
        "rows": 1_175,
        "verdicts": ["ver-77b1c0d4e5f60718293a"],
        "request": REQUEST,
        "request_outcome": "published",
        **more,
    }


def model(now: int, *, name: str = "fraud", drifting: bool = False, **more: Any) -> Any:
    rng = np.random.default_rng(11)
    moved = {"payment_method", "amount"} if drifting else set()
    subjects = [subject(f, now, rng, drifting=f in moved) for f in FEATURES]
    subjects.append(subject("score", now, rng, drifting=drifting, type_="prediction"))
    return {
        "model": name,
        "state": "drifting" if drifting else "steady",
        "reason": "The inputs changed: payment_method with 2 others."
        if drifting
        else "Nothing moved by more than it may.",
        "champion": "3",
        "watermark": now,
        "pane_ms": MINUTE,
        "clock": "wall",
        "false_pages": "1 per 30 days",
        "versions": [
            {"version": "3", "role": "champion", "rows": 118_340, "reference": "9c41e2aa"},
        ],
        "subjects": subjects,
        "incidents": [incident()] if drifting else [],
        "performance": performance(now, fell=drifting),
        "labels": {
            "due": 9_120,
            "arrived": 8_901,
            "completeness": 0.976,
            "reason": "Labels arrive 30 minutes after the prediction.",
        },
        "power": [
            {"subject": "amount", "within": "1 hour", "shift": 0.31, "unit": "standard deviations"},
            {"subject": "amount", "within": "1 day", "shift": 0.08, "unit": "standard deviations"},
        ],
        **more,
    }


def unknown_model(now: int, name: str = "churn") -> Any:
    return {
        "model": name,
        "state": "unknown",
        "reason": "No reference: make one with stationkeeper profile, or wait for the adoption period to end.",
        "champion": None,
        "watermark": None,
        "pane_ms": MINUTE,
        "versions": [],
        "subjects": [
            {
                "name": "tenure",
                "type": "feature",
                "version": "1",
                "segment": "",
                "state": "unknown",
                "reason": "41 rows; 200 are needed.",
                "rows": 41,
            }
        ],
        "incidents": [],
    }


def broken_model(now: int, name: str = "credit") -> Any:
    broken = model(now, name=name)
    broken["state"], broken["reason"] = (
        "broken",
        "amount is null in 38 % of the rows; a retrain is refused until it is mended.",
    )
    one = next(s for s in broken["subjects"] if s["name"] == "amount")
    one |= {"state": "broken", "reason": "null in 38 % of the rows, 0.2 % in the reference.", "incident": "inc-77aa"}
    broken["incidents"] = [
        {
            **incident(id="inc-77aa", model=name, kind="data_quality", cause="burst of nulls in amount", level="warn"),
            "leader": "amount",
            "subjects": ["amount"],
            "reason": "amount is null in 38 % of the rows, 0.2 % in the reference.",
            "request_outcome": "suppressed",
            "request_reason": "Broken data are not a reason to retrain.",
        }
    ]
    del broken["incidents"][0]["request"]
    return broken


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
            samples.append(Sample("stationkeeper_subject_state", key, STATE_NUMBER[State(s["state"])]))
            samples.append(Sample("stationkeeper_window_rows", key, s["rows"]))
            if "statistic" in s:
                samples.append(Sample("stationkeeper_drift_evidence", key, s["statistic"]))
                samples.append(Sample("stationkeeper_drift_evidence_threshold", key, s["threshold"]))
                samples.append(Sample("stationkeeper_drift_effect_ratio", key, s["effect"]))
        for i in one["incidents"]:
            labels = (one["model"], i["version"], i["id"], i["kind"], i["cause"], i["level"])
            samples.append(Sample("stationkeeper_incident_info", labels, 1.0))
    return samples
