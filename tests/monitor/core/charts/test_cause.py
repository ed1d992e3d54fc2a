from typing import Any

import numpy as np
import pytest

from stationkeeper.monitor.core.charts.cause import name_cause
from stationkeeper.monitor.core.reasons import Cause
from tests.monitor.core.streams import bank, panes, reference_of

REFERENCE = reference_of(bank(8_000))


def named(name: str, data: dict[str, Any]) -> Any:
    total = sum((pane.counts for pane in panes(REFERENCE, data)), REFERENCE.layout.zeros())
    place = REFERENCE.layout[name]
    return name_cause(REFERENCE.by_name[name], total[place.histogram], total[place.quality : place.quality + 7])


def changed(**columns: Any) -> dict[str, Any]:
    data = bank(4_000, 5)
    return data | {name: change(data[name]) for name, change in columns.items()}


def replaced(values: Any, share: float, by: Any) -> Any:
    values = values.copy()
    values[: int(share * len(values))] = by
    return values


@pytest.mark.parametrize(
    ("name", "change", "cause"),
    [
        ("age", lambda v: v + 8, Cause.SHIFT),
        ("age", lambda v: 40 + (v - 40) * 1.5, Cause.SCALE),
        ("age", lambda v: replaced(v, 0.3, 40.0), Cause.SPIKE),
        ("age", lambda v: replaced(v, 0.3, 400.0), Cause.OUT_OF_RANGE),
        ("age", lambda v: replaced(v, 0.3, np.nan), Cause.MISSING),
        ("method", lambda v: replaced(v, 0.3, "cash"), Cause.CATEGORY_SHARE),
        ("method", lambda v: replaced(v, 0.3, "crypto"), Cause.NEW_CATEGORY),
    ],
)
def test_the_planted_change_is_named(name: str, change: Any, cause: Cause):
    found = named(name, changed(**{name: change}))
    assert found.cause is cause
    assert found.reason.startswith(f"{name}: ")


def test_a_shift_is_told_in_standard_deviations():
    assert named("age", changed(age=lambda v: v + 8)).evidence["shift_sd"] == pytest.approx(0.8, abs=0.1)
