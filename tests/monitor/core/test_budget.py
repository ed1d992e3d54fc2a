import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.budget import (
    SHARES,
    Budget,
    level_of,
    log_thresholds,
    parse_budget,
    split_alpha,
)


@pytest.mark.parametrize(
    ("text", "pages", "period", "clock"),
    [
        ("1 per 30 days", 1, 43_200, "minutes"),
        ("2 false pages per week", 2, 10_080, "minutes"),
        ("1 every 12 hours", 1, 720, "minutes"),
        ("0.5 per day", 0.5, 1440, "minutes"),
        ("1 per 1000000 rows", 1, 1e6, "rows"),
        ("1 per 1_000_000 events", 1, 1e6, "rows"),
        ("1/90 minutes", 1, 90, "minutes"),
    ],
)
def test_budget_sentences(text, pages, period, clock):
    assert parse_budget(text) == Budget(pages, period, clock)


@pytest.mark.parametrize("text", ["", "often", "1 per 30 fortnights", "0 per day", "1 per 0 days", "-1 per day"])
def test_a_bad_budget_is_refused_with_its_text_and_the_accepted_form(text):
    with pytest.raises(ValueError, match="1 per 30 days") as raised:
        parse_budget(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("text", ["1 per 30 days", "1 per 12 hours", "3 per 2 weeks", "1 per 1000000 rows"])
def test_a_budget_prints_as_it_reads(text):
    assert str(parse_budget(text)) == text


def test_the_clock_counts_rows_or_minutes():
    assert parse_budget("1 per 30 days").elapsed(500, 120_000) == 2
    assert parse_budget("1 per 1000 rows").elapsed(500, 120_000) == 500


@given(
    st.sets(st.sampled_from(sorted(SHARES)), min_size=1),
    st.lists(st.text(min_size=1, max_size=3), max_size=4, unique=True),
)
def test_the_split_spends_exactly_the_budget(groups, segments):
    alphas = split_alpha(0.01, sorted(groups), ["", *segments])
    assert sum(alphas.values()) == pytest.approx(0.01)
    assert min(alphas.values()) > 0


def test_split_by_hand():
    on_top = {"joint", "label_shift", "fairness"}
    alphas = split_alpha(1.0, [group for group in SHARES if group not in on_top], ["", "DE", "FR"])
    assert alphas["features", ""] == pytest.approx(0.175)
    assert alphas["volume", "DE"] == pytest.approx(0.025)
    # Pairs, the share of positives and fairness take a twentieth on top each, and all shares are of 1.15 then.
    assert split_alpha(1.0, list(SHARES), [""])["joint", ""] == pytest.approx(0.05 / 1.15)
    with pytest.raises(ValueError, match="colour"):
        split_alpha(1.0, ["colour"], [""])


def test_thresholds_by_hand():
    assert log_thresholds(1 / 43_200, np.ones(300))[0] == pytest.approx(np.log(300 * 43_200))
    two = log_thresholds(0.001, [3.0, 1.0], [1, 2])
    np.testing.assert_allclose(np.exp(two), [2 / (0.001 * 1.5), 2 * 2 / (0.001 * 0.5)])


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.floats(1e-9, 1))
def test_the_thresholds_of_all_subjects_spend_alpha(importance, alpha):
    arms = [1 + i % 2 for i in range(len(importance))]
    spent = (np.array(arms) / np.exp(log_thresholds(alpha, importance, arms))).sum()
    assert spent == pytest.approx(alpha)


def test_levels_rise_tenfold():
    np.testing.assert_array_equal(level_of(np.log([0.9, 1.1, 11, 101]), np.full(4, np.log(100.0))), [0, 1, 2, 3])
