"""Event times: every form by one definition, alone or in a batch."""

from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.events.settings import TimeUnit
from stationkeeper.events.timestamps import BAD, ahead_of_broker, parse_instant, parse_instants

UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)


@pytest.mark.parametrize(
    ("value", "unit", "ms"),
    [
        ("1970-01-01T00:00:00Z", "ms", 0),
        ("2026-01-31T12:00:00Z", "rfc3339", 1_769_860_800_000),
        ("2026-01-31T13:00:00.250+01:00", "ms", 1_769_860_800_250),
        ("2026-01-31t12:00:00,2509z", "ms", 1_769_860_800_250),
        ("2024-02-29T00:00:00.999999Z", "ms", 1_709_164_800_999),
        (1_769_860_800, "s", 1_769_860_800_000),
        (1_769_860_800.25, "s", 1_769_860_800_250),
        (1_769_860_800_250_999, "us", 1_769_860_800_250),
        (1_769_860_800_250_999_999, "ns", 1_769_860_800_250),
        ("2026-01-31T12:00:00", "ms", None),
        ("2026-02-30T12:00:00Z", "ms", None),
        ("2025-02-29T12:00:00Z", "ms", None),
        ("2026-01-31T24:00:00Z", "ms", None),
        ("2026-01-31T12:60:00Z", "ms", None),
        ("1969-12-31T23:59:59Z", "ms", None),
        ("1769860800000", "ms", None),
        ("", "ms", None),
        (1_769_860_800, "rfc3339", None),
        (-1, "ms", None),
        (10**30, "ns", None),
        (float("inf"), "s", None),
        (True, "ms", None),
        (None, "ms", None),
    ],
)
def test_one_value(value: Any, unit: TimeUnit, ms: int | None) -> None:
    assert parse_instant(value, unit) == ms
    assert parse_instants([value], unit).tolist() == [BAD if ms is None else ms]


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2400, 1, 1)),  # noqa: DTZ001 - hypothesis takes naive bounds
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_calendar_text_is_the_standard_librarys(moment: datetime, precision: str) -> None:
    text = moment.isoformat(timespec=precision) + "Z"
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    fraction = 0 if precision == "seconds" else moment.microsecond // 1_000
    assert parse_instants([text] * 2, "ms").tolist() == [int(whole.timestamp()) * 1_000 + fraction] * 2


near_text = st.text("0123456789-T:.Z", min_size=20, max_size=24)
values = st.one_of(
    near_text, st.integers(-(10**20), 10**20), st.floats(), st.datetimes().map(lambda t: t.isoformat() + "Z")
)


@given(st.lists(values, max_size=8), st.sampled_from(UNITS))
def test_a_batch_is_its_values(batch: list[Any], unit: TimeUnit) -> None:
    alone = [parse_instant(value, unit) for value in batch]
    assert parse_instants(batch, unit).tolist() == [BAD if ms is None else ms for ms in alone]
    for kind in (str, int):
        same = [value for value in batch if type(value) is kind]
        alone = [parse_instant(value, unit) for value in same]
        assert parse_instants(same, unit).tolist() == [BAD if ms is None else ms for ms in alone]


def test_an_event_ahead_of_its_broker_by_more_than_the_skew_is_too_early() -> None:
    times, stamps = np.array([1_000, 1_001, 5_000]), np.array([500, 500, -1])
    assert ahead_of_broker(times, stamps, 500).tolist() == [False, True, False]
