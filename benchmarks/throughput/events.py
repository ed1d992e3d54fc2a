"""The events of the benchmark: 451 bytes, twelve numbers and three categories and a score, the same every run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stationkeeper.monitor.core.reference import Reference, profile

NUMBERS = tuple(f"feature_{i:02d}" for i in range(12))
CATEGORIES: dict[str, tuple[str, ...]] = {
    "country": ("DE", "FR", "US", "IT"),
    "method": ("card", "sepa", "wallet"),
    "device": ("ios", "web"),
}
SCORE = "score"
START_MS = 1_767_225_600_000
BYTES = 451


def table(
    rows: int, seed: int, numbers: Sequence[str] = NUMBERS, categories: Mapping[str, Sequence[str]] = CATEGORIES
) -> dict[str, Any]:
    """Return columns of features and the score."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: np.round(rng.normal(0.0, 1.0, rows), 6) for name in numbers}
    columns |= {name: rng.choice(np.array(values), rows) for name, values in categories.items()}
    columns[SCORE] = np.round(rng.random(rows), 6)
    return columns


def reference(rows: int = 10_000, *, model: str = "fraud", columns: Mapping[str, Any] | None = None) -> Reference:
    """Return a reference of 10 000 rows."""
    known = table(rows, 0) if columns is None else columns
    return profile(known, model=model, version="3", prediction=SCORE, salt="benchmark")


def events(
    rows: int,
    seed: int = 1,
    *,
    per_minute: int = 60_000,
    columns: Mapping[str, Any] | None = None,
    models: Sequence[str] = ("fraud",),
    size: int = BYTES,
    start: int = START_MS,
    first: int = 0,
) -> list[bytes]:
    """Return events in our own form, padded by an unread field to 451 bytes on average; models take turns."""
    columns = table(rows, seed) if columns is None else columns
    plain = {name: values.tolist() for name, values in columns.items()}
    scores = plain.pop(SCORE)
    names = list(plain)
    out = []
    for i, values in enumerate(zip(*plain.values(), strict=True)):
        event = {
            "kind": "prediction",
            "event_id": f"{seed:04x}{first + i:012x}",
            "time": start + i * 60_000 // per_minute,
            "model": models[i % len(models)],
            "version": "3",
            "features": dict(zip(names, values, strict=True)),
            "prediction": scores[i],
        }
        text = json.dumps(event, separators=(",", ":"))
        spare = size - len(text) - len(',"note":""')
        out.append((text[:-1] + f',"note":"{"x" * max(spare, 0)}"}}').encode())
    return out
