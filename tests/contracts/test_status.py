"""The shape of the status JSON: what is right passes, what is misspelt or not JSON is named."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stationkeeper.contracts.status import BY_ROLE, check


def judge(**subject: Any) -> dict[str, Any]:
    """Return the smallest judge status with one subject, changed by ``subject``."""
    one = {
        "name": "amount",
        "type": "feature",
        "version": "3",
        "segment": "",
        "state": "unknown",
        "reason": "40 rows; 200 are needed",
        "rows": 40,
    }
    model = {
        "model": "fraud",
        "state": "unknown",
        "reason": "too few rows",
        "champion": None,
        "watermark": None,
        "pane_ms": 60_000,
        "versions": [],
        "subjects": [one | subject],
        "incidents": [],
    }
    return {"role": "judge", "models": [model]}


def test_the_smallest_statuses_pass() -> None:
    check(judge())
    check({"role": "tally", "conservation": []})
    check({"role": "join"})
    check({"role": "retrain", "requests": []})
    check({"role": "deploy", "rollouts": []})


@pytest.mark.parametrize(
    ("field", "value"),
    [("state", "green"), ("rows", np.int64(4)), ("rows", 4.0), ("statistc", 1.0), ("effect", "2 %")],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        check(judge(**{field: value}))


@pytest.mark.parametrize("value", [np.float32(1), float("nan"), float("inf")])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        check(judge(statistic=value))


def test_a_fleet_is_checked_by_name() -> None:
    fleet = {
        "schema_version": 1,
        "generated": 0,
        "roles": [],
        "models": judge()["models"],
        "conservation": [],
        "requests": [],
        "rollouts": [],
    }
    check(fleet, "fleet")
    assert set(BY_ROLE) == {"tally", "join", "judge", "retrain", "deploy", "fleet", "model"}
