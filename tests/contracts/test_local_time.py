"""The clock on the wall of a time zone, and what it does when it changes."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.times import check_timezone, local_ms, local_times, to_ms

HOUR_MS = 3_600_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


def at(*moment: int) -> int:
    return to_ms(datetime(*moment, tzinfo=UTC))  # type: ignore[arg-type, misc]


@given(st.integers(0, 4_102_444_800_000), st.sampled_from(ZONES))
def test_it_shows_what_the_calendar_of_the_zone_shows(ms, zone):
    shown = datetime.fromtimestamp(ms / 1_000, ZoneInfo(zone)).replace(tzinfo=UTC)
    assert local_ms(ms, zone) == to_ms(shown)


def test_spring_leaves_an_hour_out_and_autumn_repeats_one_by_hand():
    # New York, 10 March 2013: 01:59 is followed by 03:00; 3 November: 01:59 by 01:00.
    spring = [local_ms(at(2013, 3, 10, hour), "America/New_York") for hour in (6, 7)]
    assert spring == [at(2013, 3, 10, 1), at(2013, 3, 10, 3)]
    autumn = [local_ms(at(2013, 11, 3, hour), "America/New_York") for hour in (5, 6)]
    assert autumn == [at(2013, 11, 3, 1)] * 2


@pytest.mark.parametrize("ms", [-(10**15), -62_135_596_800_000, 253_402_300_799_000, 253_402_300_800_000, 10**15])
def test_where_the_calendar_ends_the_last_clock_that_it_knows_is_meant(ms):
    # Berlin kept the sun's time (53 min 28 s ahead) before 1893.
    assert local_ms(ms, "Europe/Berlin") - ms == (HOUR_MS if ms > 0 else 3_208_000)
    assert local_times(np.array([ms]), "Europe/Berlin").tolist() == [local_ms(ms, "Europe/Berlin")]


@given(st.lists(st.integers(0, 4_102_444_800_000), max_size=20), st.sampled_from(ZONES))
def test_many_are_as_each(times, zone):
    found = local_times(np.array(times, np.int64), zone)
    assert found.tolist() == [local_ms(ms, zone) for ms in times]


@pytest.mark.parametrize("name", ["", "Berlin", "America", "../../etc/passwd", "/etc/localtime", "CET+1", "a\0b"])
def test_what_is_no_zone_is_refused_with_one_that_is(name):
    with pytest.raises(ValueError, match="write an IANA name such as Europe/Berlin"):
        check_timezone(name)


def test_a_known_zone_is_taken_as_written():
    assert [check_timezone(name) for name in ZONES] == list(ZONES)
