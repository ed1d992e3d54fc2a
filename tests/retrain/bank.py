"""A small bank: transactions with a planted change, as rows, events and requests."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stationkeeper.contracts.messages import Onset, RetrainRequest, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.events import own_form
from stationkeeper.registry import Registry
from stationkeeper.retrain.bootstrap import FirstChampion, bootstrap
from stationkeeper.retrain.service.steps import ReferenceRows
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from stationkeeper.streams.ports import Batch, Partition

START = 1_767_571_200_000
HOUR = 3_600_000
ONSET = START + 2 * HOUR
PREDICTIONS, LABELS = "bank.predictions", "bank.labels"

SMALL: dict[str, object] = {
    "trainer": "logistic-regression",
    "data": {"min_rows": 1_200, "min_positives": 30},
    "labels": {"maturity": "10m"},
    "gate": {"replicates": 500},
    "threshold": {"rule": "f1"},
    "training": {"retry_after": "50ms", "max_rows": 20_000},
}


def transactions(n: int, start: int, end: int, *, seed: int, shifted: bool) -> pl.DataFrame:
    """Draw n payments; once ``shifted`` a wallet exists whose honest customers look like old fraud."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(start, end, n))
    wallet = rng.random(n) < (0.3 if shifted else 0.0)
    fraud = rng.random(n) < 0.08
    amount = rng.lognormal(3.0 + 1.5 * (fraud & ~wallet) + 1.5 * (wallet & ~fraud), 0.4, n)
    age = rng.gamma(3.0, 100.0, n)
    age[wallet & fraud] = rng.gamma(1.0, 10.0, int((wallet & fraud).sum()))
    return pl.DataFrame(
        {
            "event_id": [f"tx-{seed}-{i}" for i in range(n)],
            "time": time,
            "amount": np.log(amount),
            "age": np.where(rng.random(n) < 0.05, np.nan, age),
            "foreign": rng.random(n) < 0.1,
            "method": np.where(wallet, "wallet", rng.choice(["card", "transfer"], n)),
            "label": fraud,
        }
    ).with_columns(pl.col("age").fill_nan(None))


def events(rows: pl.DataFrame, version: str, *, delay_ms: int = 300_000) -> tuple[list[bytes], list[bytes]]:
    """Return predictions and labels of rows as JSON in the own form."""
    predictions, labels = [], []
    for row in rows.iter_rows(named=True):
        about = {"event_id": row["event_id"], "model": "bank"}
        features = {name: row[name] for name in ("amount", "age", "foreign", "method")}
        asked = {"kind": "prediction", "time": row["time"], "version": version, "features": features, "prediction": 0.1}
        told = {"kind": "label", "time": row["time"] + delay_ms, "label": row["label"]}
        predictions.append(json.dumps(about | asked).encode())
        labels.append(json.dumps(about | told).encode())
    return predictions, labels


def batch_of(partition: Partition, values: Sequence[bytes | None], first: int = 0) -> Batch:
    n = len(values)
    return Batch(
        partition=partition,
        offsets=np.arange(first, first + n, dtype=np.int64),
        timestamps=np.full(n, START + 100 * HOUR, dtype=np.int64),
        keys=[None] * n,
        values=list(values),
        next_offset=first + n,
    )


def reference_builder(rows: ReferenceRows) -> tuple[str, bytes]:
    """Build a reference that says what it was given."""
    facts = {
        "version": rows.version,
        "rows": len(rows.features),
        "features": list(rows.card.names),
        "mean_score": float(rows.scores.mean()),
        "labelled": int(np.isfinite(rows.labels).sum()),
        "first": int(rows.times[0]),
    }
    text = json.dumps(facts).encode()
    return f"ref-{len(rows.features)}", text


def a_request(version: str = "1", *, at: int = ONSET + HOUR // 2, **changes: object) -> RetrainRequest:
    """Return a request about the planted change."""
    facts: dict[str, object] = {
        "id": "req-1",
        "time": to_datetime(at),
        "model": "bank",
        "version": version,
        "incident": "inc-1",
        "verdict": "ver-1",
        "kind": VerdictKind.DATA_DRIFT,
        "cause": "method moved",
        "onset": Onset(time=to_datetime(ONSET), low=to_datetime(ONSET), high=to_datetime(ONSET)),
        "subjects": ("method",),
    }
    return RetrainRequest.model_validate(facts | changes)


TOPICS = (
    own_form(("prediction",), source=PREDICTIONS, models=("bank",)),
    own_form(("label",), source=LABELS, models=("bank",)),
)


@dataclass(frozen=True)
class Bank:
    """A bootstrapped model with its stores."""

    directory: Path
    registry: Registry
    snapshots: SnapshotStore
    champion: FirstChampion
    settings: RetrainSettings

    def challenger(self, rows: pl.DataFrame, work_dir: Path, **changes: Any) -> FirstChampion:
        """Train and register a version on rows, beside the champion."""
        stores: dict[str, Any] = {"registry": self.registry, "snapshots": self.snapshots, "alias": "challenger"}
        made = {**stores, **changes}
        return bootstrap("bank", rows, self.settings, build_reference=reference_builder, work_dir=work_dir, **made)
