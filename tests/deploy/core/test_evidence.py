"""The laws of STATISTICS: an e-value's mean is at most one, A/A rolls back at most alpha, harm is caught."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.deploy.core.evidence import (
    CALM,
    CALM_RATIO,
    CALM_RATIOS,
    COIN_RATIOS,
    COINS,
    HARM,
    HARM_COIN_RATIOS,
    HARM_RATIOS,
    SLOW,
    TILTS,
    Arms,
    Mixture,
    Stakes,
    calm_bets,
    calm_sign_bets,
    changeover,
    log_bets,
    quiet,
    score_bets,
    share_log_e,
    sign_bets,
    slower_chance,
)

STEPS = (0.01, 0.05, 0.25, 0.5)
ALPHA = 0.05


def test_a_bet_by_hand():
    # 90 champion rows, 10 canary rows, one canary error: pi = 0.1, theta = 2, r = 1.
    # q = 0.1*2/(0.9+0.1*2) = 2/11; the factor is q/pi = 20/11.
    bets = log_bets(Arms(90, 0, 10, 1), 1.0, np.array([2.0]))
    assert bets[0] == pytest.approx(math.log(20 / 11))
    # One champion error: (1-q)/(1-pi) = (9/11)/(9/10) = 10/11.
    assert log_bets(Arms(90, 1, 10, 0), 1.0, np.array([2.0]))[0] == pytest.approx(math.log(10 / 11))


@given(
    rows_a=st.integers(1, 500),
    rows_b=st.integers(1, 500),
    rate=st.floats(0.0, 1.0),
    tolerated=st.floats(1.0, 5.0),
    part=st.floats(0.0, 1.0),
)
def test_the_mean_factor_is_at_most_one_for_every_alternative(rows_a, rows_b, rate, tolerated, part):
    """Exact expectation: rows are independent, so the mean of the factor is a product over rows."""
    rate_b = min(1.0, rate * tolerated * part)
    for ratios in (HARM_RATIOS,):
        one_a = np.exp(log_bets(Arms(rows_a, 1, rows_b, 0), tolerated, ratios))
        one_b = np.exp(log_bets(Arms(rows_a, 0, rows_b, 1), tolerated, ratios))
        log_mean = rows_a * np.log1p(rate * (one_a - 1)) + rows_b * np.log1p(rate_b * (one_b - 1))
        assert (log_mean <= 1e-9).all()


@given(rows_a=st.integers(1, 500), rows_b=st.integers(1, 500), rate=st.floats(0.0, 0.5), more=st.floats(1.0, 3.0))
def test_noninferiority_has_mean_at_most_one_when_the_canary_is_at_the_margin_or_worse(rows_a, rows_b, rate, more):
    margin = 1.25
    rate_b = min(1.0, rate * margin * more)
    one_a = np.exp(log_bets(Arms(rows_a, 1, rows_b, 0), margin, CALM_RATIOS))
    one_b = np.exp(log_bets(Arms(rows_a, 0, rows_b, 1), margin, CALM_RATIOS))
    log_mean = rows_a * np.log1p(rate * (one_a - 1)) + rows_b * np.log1p(rate_b * (one_b - 1))
    if rate * margin * more <= 1.0:
        assert (log_mean <= 1e-9).all()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=6))
def test_score_bets_have_mean_at_most_one_over_every_assignment(cells):
    """Exact: all ways to draw the canary's rows without replacement are equally likely under the null."""
    from itertools import combinations

    scores = [cell for cell, _ in cells]
    n = len(scores)
    for canary in range(1, n):
        total = np.zeros(2 * TILTS.size)
        draws = list(combinations(range(n), canary))
        for drawn in draws:
            b = np.bincount([scores[i] for i in drawn], minlength=10)
            a = np.bincount([scores[i] for i in range(n) if i not in drawn], minlength=10)
            total += np.exp(score_bets(a, b, (3, 6)))
        assert (total / len(draws) <= 1 + 1e-9).all()


def ramp(rng, base, ratio, tolerated=1.0, minutes=30, rows=1_000):
    """Play a ramp; returns the minute in which E reached 1/alpha, None if it never did."""
    mixture, minute = Mixture(HARM), 0
    for weight in STEPS:
        for _ in range(minutes):
            minute += 1
            rate = base * (1 + 0.5 * math.sin(minute / 7))
            b = int(rng.binomial(rows, weight))
            arms = Arms(rows - b, int(rng.binomial(rows - b, rate)), b, int(rng.binomial(b, min(rate * ratio, 1.0))))
            mixture.bet(log_bets(arms, tolerated, HARM_RATIOS))
            if mixture.log_e() >= -math.log(ALPHA):
                return minute
    return None


@pytest.mark.parametrize("base", [0.002, 0.008, 0.1])
def test_an_identical_canary_is_rolled_back_at_most_alpha_of_the_time(base):
    rng = np.random.default_rng(7)
    false = sum(ramp(rng, base, 1.0) is not None for _ in range(300))
    # alpha plus three standard deviations of 300 draws.
    assert false <= 300 * ALPHA + 3 * math.sqrt(300 * ALPHA * (1 - ALPHA))


def test_a_canary_with_twice_the_errors_is_caught():
    rng = np.random.default_rng(8)
    found = [ramp(rng, 0.008, 2.0) for _ in range(60)]
    assert all(minute is not None for minute in found)
    assert np.median([minute for minute in found if minute]) < 80


def test_what_is_tolerated_is_not_harm():
    rng = np.random.default_rng(9)
    assert sum(ramp(rng, 0.02, 1.5, tolerated=1.5) is not None for _ in range(100)) <= 5 + 7


def test_fractional_losses_bet_like_counts_of_the_same_sum_and_never_more_often_falsely():
    rng = np.random.default_rng(10)
    false = 0
    for _ in range(200):
        mixture = Mixture(HARM)
        for _ in range(60):
            a, b = rng.beta(0.3, 2.0, 90), rng.beta(0.3, 2.0, 10)
            mixture.bet(log_bets(Arms(90, float(a.sum()), 10, float(b.sum())), 1.0, HARM_RATIOS))
            if mixture.log_e() >= -math.log(ALPHA):
                false += 1
                break
    assert false <= 200 * ALPHA + 3 * math.sqrt(200 * ALPHA * (1 - ALPHA))


def test_an_empty_arm_says_nothing():
    assert not log_bets(Arms(100, 5, 0, 0), 1.0, HARM_RATIOS).any()
    assert not score_bets(np.zeros(32, np.int64), np.ones(32, np.int64), (3, 6)).any()


def test_loss_beyond_the_rows_is_refused():
    with pytest.raises(ValueError, match="loss must lie"):
        Arms(10, 11, 10, 0)


def test_a_state_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3 alternatives"):
        Mixture(HARM, [0.0, 0.0, 0.0])


def test_sign_bets_have_mean_one_and_find_a_slow_canary_within_ten_minutes():
    worse, better = np.exp(sign_bets(True, HARM_COIN_RATIOS)), np.exp(sign_bets(False, HARM_COIN_RATIOS))
    assert worse + better == pytest.approx(np.full(HARM_COIN_RATIOS.size, 2.0))
    mixture = Mixture(HARM)
    for _ in range(10):
        mixture.bet(sign_bets(True, HARM_COIN_RATIOS))
    assert mixture.log_e() > math.log(100)


def test_a_share_is_accepted_within_the_tolerance_and_found_out_beyond_it():
    rng = np.random.default_rng(11)
    for share in (0.1, 0.13):
        b = int(rng.binomial(20_000, share))
        assert share_log_e(20_000 - b, b, 0.1, 0.5) < math.log(20)
    b = int(rng.binomial(20_000, 0.2))
    assert share_log_e(20_000 - b, b, 0.1, 0.5) > math.log(20)


def test_a_share_at_the_weight_is_falsely_refused_at_most_alpha_of_the_time():
    rng = np.random.default_rng(12)
    false = 0
    for _ in range(300):
        a = b = 0
        for _ in range(40):
            one = int(rng.binomial(200, 0.05))
            a, b = a + 200 - one, b + one
            if share_log_e(a, b, 0.05, 1e-6) >= -math.log(ALPHA):
                false += 1
                break
    assert false <= 300 * ALPHA + 3 * math.sqrt(300 * ALPHA * (1 - ALPHA))


def test_the_changeover_speaks_for_the_weight_that_traffic_shows():
    assert changeover(950, 50, 0.01, 0.05) > 10
    assert changeover(990, 10, 0.01, 0.05) < -10
    assert changeover(99, 1, 0.0, 0.01) == math.inf
    assert changeover(100, 0, 0.0, 0.01) < 0


def test_stakes_are_a_whole_and_most_lies_where_the_wait_is_longest():
    """Equal wealth of all is its own mean, whatever they are staked: no evidence comes from the stakes."""
    for stakes in (HARM, SLOW, CALM, CALM_RATIO, COINS):
        assert Mixture(stakes, [2.0] * len(stakes.shares)).log_e() == pytest.approx(2.0)
    with pytest.raises(ValueError, match="sum to 1"):
        Stakes((0.5, 0.4))
    clean = calm_bets(Arms(4_200, 0, 4_200, 0), 1.5, 0.001)
    assert Mixture(CALM, clean.tolist()).log_e() > math.log(20)
    assert float(np.mean(np.exp(clean))) < 20


def test_where_nothing_fails_what_a_ratio_has_no_use_for_shows_it_sooner():
    """4 200 rows by the stake of "hardly ever" alone; three thousand is what any rule needs (.999 ** -3000 = 20)."""
    mixture, rows_a, rows_b = Mixture(CALM), 0, 0
    while mixture.log_e() < math.log(20):
        # The champion has its thousand rows while the canary has one of a hundred, as on any ramp.
        a, b = (59, 1) if rows_b < 20 else (30, 30)
        mixture.bet(calm_bets(Arms(a, 0, b, 0), 1.5, 0.001, quiet=quiet(rows_a + rows_b, 0.0)))
        rows_a, rows_b = rows_a + a, rows_b + b
    assert 3_000 < rows_b <= 3_400


@given(rate=st.floats(0.001, 0.2), more=st.floats(1.0, 3.0), rows_a=st.integers(0, 9), rows_b=st.integers(1, 9))
def test_what_is_lent_while_nothing_fails_has_mean_at_most_one_too(rate, more, rows_a, rows_b):
    """Exact, over all numbers of failures: the canary at the margin and at the floor, or worse."""
    from math import comb

    rate_b = min(max(0.001, rate * 1.5 * more), 1.0)
    mean = np.zeros(len(CALM.shares))
    for lost_a in range(rows_a + 1):
        for lost_b in range(rows_b + 1):
            chance_a = comb(rows_a, lost_a) * rate**lost_a * (1 - rate) ** (rows_a - lost_a)
            chance_b = comb(rows_b, lost_b) * rate_b**lost_b * (1 - rate_b) ** (rows_b - lost_b)
            bets = calm_bets(Arms(rows_a, lost_a, rows_b, lost_b), 1.5, 0.001, quiet=True)
            mean += chance_a * chance_b * np.exp(bets)
    assert (mean <= 1 + 1e-9).all()


def test_a_first_failure_of_the_canary_leaves_a_ratio_its_tenth():
    lent = calm_bets(Arms(50, 0, 50, 1), 1.5, 0.001, quiet=True)[: CALM_RATIOS.size]
    alone = log_bets(Arms(50, 0, 50, 1), 1.5, CALM_RATIOS)
    assert (lent - alone >= math.log(0.1) - 1e-9).all()


def test_the_slower_of_two_arms_is_told_by_the_ranks_of_their_bins():
    """The example worked by hand; a tie that outweighs what is ahead says nothing, one that does not a little."""
    a, b = [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]
    assert [slower_chance(a, b, [bin_ + steps for bin_ in range(5)]) for steps in (0, 2, 3)] == [1.0, 0.5, 0.0]
    # Seven of ten are tied with the only answer of B, three are slower: 1.5 ahead, 7 * 9 / 12 of variance.
    assert slower_chance([7, 3], [1, 0], [0, 1]) == 0.5
    # Ninety of a hundred slower: 45 ahead, 10 * 12 / 12 of variance.
    assert slower_chance([10, 90], [1, 0], [0, 1]) == pytest.approx(10 / (2 * 45**2))


@pytest.mark.parametrize("quick", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize(("rows_a", "rows_b"), [(30, 1), (9, 2), (5, 5), (2, 9)])
def test_the_coin_of_equally_slow_arms_has_mean_factors_of_one_at_most_whatever_their_rows(quick, rows_a, rows_b):
    """Every outcome of the worst law, two bins: with ties left out one row a minute was the quicker in most of them."""
    mean = np.zeros(COIN_RATIOS.size)
    for quick_a in range(rows_a + 1):
        for quick_b in range(rows_b + 1):
            chance = math.comb(rows_a, quick_a) * math.comb(rows_b, quick_b)
            chance *= quick ** (quick_a + quick_b) * (1 - quick) ** (rows_a + rows_b - quick_a - quick_b)
            worse = slower_chance([quick_a, rows_a - quick_a], [quick_b, rows_b - quick_b], [0, 1])
            mean += chance * np.exp(calm_sign_bets(worse, COIN_RATIOS))
    assert (mean <= 1.0 + 1e-9).all()
