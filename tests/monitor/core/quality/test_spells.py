"""Spells of odd traffic: one evening is told where it is the oddest of a quarter, what lasts a day is told."""

from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.adoption import DAY_MS, HOUR_MS
from stationkeeper.monitor.core.quality.spells import APART_MS, LASTING_MS, QUARTER_MS, Spells


def test_an_evening_is_held_where_one_of_the_last_quarter_was_as_odd_by_hand() -> None:
    made = Spells()
    assert made.take(0, 17.0, crossed=True) is None
    second = 10 * DAY_MS
    why = made.take(second, 15.0, crossed=True)
    assert why == "15 nats within a day; within the last 91 days a spell had 17"
    # An hour later it has 15 + 8.
    assert made.take(second + HOUR_MS, 8.0, crossed=False) is None


def test_evidence_that_has_not_been_reset_counts_once() -> None:
    made = Spells()
    made.take(0, 17.0, crossed=True)
    assert made.take(10 * DAY_MS, 9.0, crossed=False) is not None
    assert made.take(10 * DAY_MS + HOUR_MS, 10.0, crossed=False) is not None


def test_what_lasts_a_day_is_told_whatever_came_before() -> None:
    made = Spells()
    made.take(0, 900.0, crossed=True)
    begin = 10 * DAY_MS
    assert made.take(begin, 12.0, crossed=False) is not None
    assert made.take(begin + LASTING_MS, 12.0, crossed=False) is not None
    assert made.take(begin + LASTING_MS + HOUR_MS, 12.0, crossed=False) is None


def test_spells_of_more_than_a_quarter_ago_hide_nothing() -> None:
    made = Spells()
    made.take(0, 40.0, crossed=True)
    assert made.take(QUARTER_MS, 12.0, crossed=False) is not None
    assert made.take(QUARTER_MS + APART_MS + HOUR_MS, 12.0, crossed=False) is not None
    again = Spells()
    again.take(0, 40.0, crossed=True)
    assert again.take(QUARTER_MS + HOUR_MS, 12.0, crossed=False) is None


def test_an_outage_is_no_ordinary_evening() -> None:
    made = Spells()
    made.take(0, 400.0, crossed=True)
    made.outage()
    assert made.take(10 * DAY_MS, 12.0, crossed=False) is None


def test_what_lasted_a_day_hides_no_evening() -> None:
    made = Spells()
    for hour in range(30):
        made.take(hour * HOUR_MS, 20.0, crossed=True)
    assert made.take(10 * DAY_MS, 12.0, crossed=False) is None


def test_a_restored_one_says_the_same() -> None:
    made, again = Spells(), Spells()
    for at in range(8):
        made.take(at * 3 * DAY_MS, 10.0 + at % 3, crossed=True)
    again.restore(made.state())
    more = [(30 * DAY_MS, 11.0), (30 * DAY_MS + HOUR_MS, 2.0), (40 * DAY_MS, 50.0)]
    assert [again.take(*one, crossed=False) for one in more] == [made.take(*one, crossed=False) for one in more]


@given(st.lists(st.floats(1, 100), min_size=1, max_size=40))
def test_of_single_odd_evenings_each_that_is_told_is_a_record(nats: list[float]) -> None:
    made = Spells()
    told = [made.take(at * 3 * DAY_MS, one, crossed=True) is None for at, one in enumerate(nats)]
    assert told == [one > max(nats[max(at - 30, 0) : at], default=0.0) for at, one in enumerate(nats)]
    assert len(made.state().before) <= QUARTER_MS // APART_MS + 1
