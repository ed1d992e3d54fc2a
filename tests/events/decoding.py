"""What the tests of decoding share: a decoder, events, and what a decoding says as plain values."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stationkeeper.contracts.column import Status
from stationkeeper.events.columns import Events, NumberColumn
from stationkeeper.events.ids import salt_of
from stationkeeper.events.json_reader import JsonReader, Reading
from stationkeeper.events.mapping import forms
from stationkeeper.events.score import decide
from stationkeeper.monitor.settings import ModelSettings

SALT = salt_of("test")
FEATURES = {"amount": True, "country": False}


def decoder(**more: Any) -> JsonReader:
    model = ModelSettings.model_validate({"name": "fraud", "predictions": "scores", "labels": "outcomes"} | more)
    made = JsonReader(replace(forms([model])["scores"], max_bytes=4_096, max_fields=64), salt=SALT)
    made.learn(FEATURES)
    return made


def event(**changes: Any) -> dict[str, Any]:
    base = {
        "kind": "prediction",
        "event_id": "e1",
        "time": "2026-01-01T00:00:00Z",
        "model": "fraud",
        "version": "3",
        "features": {"amount": 1.5, "country": "de"},
        "prediction": 0.25,
    }
    return {key: value for key, value in (base | changes).items() if value is not ...}


def raw(**changes: Any) -> bytes:
    return json.dumps(event(**changes)).encode()


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just([1]), st.just({})
)


def shape(found: Reading) -> Any:
    """What a decoding says, record by record, comparable across batches."""
    out: dict[int, Any] = {r.row: (r.code, r.detail) for r in found.rejected}
    for events in found.events:
        for i, row in enumerate(events.rows.tolist()):
            out[row] = _record(events, i)
    return [out[row] for row in sorted(out)]


def _record(events: Events, i: int) -> Any:
    def cell(column: Any) -> Any:
        if column is None:
            return None
        if isinstance(column, NumberColumn):
            status = 0 if column.status is None else int(column.status[i])
            if status == 0 and np.isnan(column.values[i]):
                return ("status", Status.NULL)
            return ("status", status) if status else ("value", repr(float(column.values[i])))
        code = int(column.codes[i])
        return ("status", code) if code < 0 else ("key", column.keys[code])

    def number(values: Any) -> Any:
        return None if values is None or np.isnan(values[i]) else float(values[i])

    score, chosen, missing = decide(events, 0.5, "1")
    return (
        events.kind,
        (repr(float(score[i])), bool(chosen[i]), bool(missing[i])),
        int(events.time[i]),
        int(events.ids[i]),
        events.owners[int(events.owner[i])],
        number(events.weight),
        number(events.latency),
        {name: cell(column) for name, column in events.segments.items() if cell(column) != ("status", Status.ABSENT)},
    )
