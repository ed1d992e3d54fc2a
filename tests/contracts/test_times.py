from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.times import format_duration, parse_duration, to_datetime, to_ms


@given(st.integers(0, 4_102_444_800_000))
def test_milliseconds_survive_the_calendar(ms):
    assert to_ms(to_datetime(ms)) == ms


def test_a_zone_moves_the_instant_and_its_absence_is_an_error():
    noon = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert to_ms(noon) == to_ms(datetime(2026, 5, 1, 10, tzinfo=UTC)) == 1_777_629_600_000
    with pytest.raises(ValueError, match="zone"):
        to_ms(datetime(2026, 5, 1, 12))  # noqa: DTZ001 - the missing zone is the point


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("5m", 300_000), (" 12 h ", 43_200_000), ("1.5d", 129_600_000), ("250ms", 250)]
)
def test_durations_read_as_written(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "5 minutes", "-5m", "5m30s", "9" * 400 + "d"])
def test_what_is_no_duration_says_what_one_is(text):
    with pytest.raises(ValueError, match="5m or 30d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["999999999999999w", "600000w"])
def test_a_duration_longer_than_the_calendar_is_refused_by_name(text):
    with pytest.raises(ValueError, match=f"'{text}' is too long"):
        parse_duration(text)


@given(st.integers(0, 10**13))
def test_a_duration_survives_its_text(ms):
    assert parse_duration(format_duration(ms)) == ms
