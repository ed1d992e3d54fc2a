from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.times import (
    Absence,
    absence_age,
    complete_share,
    delay_edges,
    format_duration,
    parse_duration,
    to_datetime,
    to_ms,
)


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


def test_the_share_known_at_an_age_is_a_product_over_reversed_time():
    # Five of ten labels after an hour, five after six: at ages between, half are known.
    came = np.array([[5, 0, 0, 0, 0, 5]])
    assert complete_share(came, np.ones_like(came)).tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 1.0]
    # Of eight with a delay of at most two days four took the second; of two seen for three days one took the third.
    epochs, seen = np.array([[0, 1, 1], [4, 3, 0]]), np.array([[1, 1, 1], [1, 1, 0]])
    assert complete_share(epochs, seen).tolist() == [0.25, 0.5, 1.0]


def test_absence_is_a_negative_from_the_age_at_which_nearly_all_positives_are_known():
    hour = 3_600_000
    edges, rule = delay_edges(hour, 24 * hour), Absence(hour, 24 * hour, 2 * hour)
    share = np.where(edges < 5 * hour, 0.9, 0.96)
    age = absence_age(edges, share, rule, 24 * hour)
    # Ages two an octave: the first of at least five hours.
    assert age == pytest.approx(5.66 * hour, rel=0.01)
    assert absence_age(edges, np.full(len(edges), 0.96), rule, 24 * hour) == rule.least
    assert absence_age(edges, share, rule, 11 * hour) is None, "watched for less than twice as long"
    assert absence_age(edges, np.full(len(edges), 0.9), rule, 24 * hour) is None
