"""A model's status at moments of the fraud story, as a judge would hand it over, drawn from a fixed seed."""

import itertools
from typing import Any

import numpy as np

START = 1_790_000_000_000
MINUTE = 60_000
ONSET = START + 90 * MINUTE
SEEN = ONSET + 6 * MINUTE
REQUEST = "req-5f0c7c2b9ad14e6f8d31"
INCIDENT = "inc-0b8f4f0f6c1d2e3a4b5c"
THRESHOLD = 16.4
FEATURES = ("payment_method", "amount", "merchant_age_days", "hour", "country", "card_age_days", "items", "is_gift")


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
