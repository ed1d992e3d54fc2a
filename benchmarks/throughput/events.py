"""The events of the benchmark: 451 bytes, twelve numbers and three categories and a score, the same every run."""

import json
from typing import Any

import numpy as np

from monitor.core.profile import profile
from monitor.core.reference import Reference

NUMBERS = tuple(f"feature_{i:02d}" for i in range(12))
CATEGORIES = {"country": ("DE", "FR", "US", "IT"), "method": ("card", "sepa", "wallet"), "device": ("ios", "web")}
START_MS = 1_767_225_600_000
BYTES = 451


def table(rows: int, seed: int) -> dict[str, Any]:
    """Columns of features and the score."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: np.round(rng.normal(0.0, 1.0, rows), 6) for name in NUMBERS}
    columns |= {name: rng.choice(values, rows) for name, values in CATEGORIES.items()}
    columns["score"] = np.round(rng.random(rows), 6)
    return columns


def reference(rows: int = 10_000) -> Reference:
    """A reference of 10 000 rows."""
    return profile(table(rows, 0), model="fraud", version="3", prediction="score", salt="benchmark")


def events(rows: int, seed: int = 1, *, per_minute: int = 60_000) -> list[bytes]:
    """Events in our own form, padded by an unread field to 451 bytes on average."""
    columns = table(rows, seed)
    names = [*NUMBERS, *CATEGORIES]
    plain = {name: values.tolist() for name, values in columns.items()}
    out = []
    for i in range(rows):
        event = {
            "kind": "prediction",
            "event_id": f"{seed:04x}{i:012x}",
            "time": START_MS + i * 60_000 // per_minute,
            "model": "fraud",
            "version": "3",
            "features": {name: plain[name][i] for name in names},
            "prediction": plain["score"][i],
        }
        text = json.dumps(event, separators=(",", ":"))
        spare = BYTES - len(text) - len(',"note":""')
        out.append((text[:-1] + f',"note":"{"x" * max(spare, 0)}"}}').encode())
    return out
