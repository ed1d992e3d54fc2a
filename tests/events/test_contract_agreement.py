"""The hot path and the contract's own models agree on which events are good and on what they hold."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stationkeeper.contracts.messages import PredictionEvent
from stationkeeper.contracts.times import to_ms
from stationkeeper.events.ids import hash_ids
from tests.events.decoding import SALT, decoder, event, raw

good_features = st.dictionaries(
    st.sampled_from(["amount", "country"]),
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)),
)


@given(
    st.lists(
        st.builds(
            event,
            event_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
            time=st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2200, 1, 1)).map(  # noqa: DTZ001
                lambda t: t.isoformat(timespec="milliseconds") + "Z"
            ),
            version=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
            features=good_features,
            prediction=st.one_of(st.none(), st.floats(0, 1), st.booleans()),
            latency_ms=st.one_of(st.none(), st.floats(0, 1e6)),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_the_contract_accepts_is_decoded_to_the_same_values(events: list[dict[str, Any]]) -> None:
    values = [json.dumps(one).encode() for one in events]
    models = [PredictionEvent.model_validate_json(value) for value in values]
    found = decoder().read(values)
    assert found.rejected == ()
    (columns,) = found.events
    assert columns.time.tolist() == [m.time if isinstance(m.time, int) else to_ms(m.time) for m in models]
    assert [columns.owners[o][1] for o in columns.owner.tolist()] == [m.version for m in models]
    assert columns.ids.tolist() == hash_ids([str(m.event_id) for m in models], SALT).tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": ...},
        {"event_id": ""},
        {"model": ...},
        {"version": ...},
        {"kind": "label"},
        {"features": None},
        {"prediction": {"1": 2}},
        {"weight": 0},
        {"latency_ms": -1},
        {"time": "2026-01-01T00:00:00"},
    ],
)
def test_what_the_contract_refuses_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PredictionEvent.model_validate_json(raw(**change))
    assert len(decoder().read([raw(**change)]).rejected) == 1
