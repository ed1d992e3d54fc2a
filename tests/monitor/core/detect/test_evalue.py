from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.core.detect.alternatives import ReferenceCells, build_alternatives, ordered_alternatives
from stationkeeper.monitor.core.detect.evalue import finite_reference, huber_clip, share_bounds
from stationkeeper.monitor.core.detect.quantile import clopper_pearson

SEEDS = st.integers(0, 2**32 - 1)


def ball_supremum(e, p, delta):
    """Exact largest mean of e over {r : TV(r, p) <= delta}: move mass delta from the lowest e to the highest.

    e and p have shape [..., K]; returns [...].  O(K log K).  By hand: e = (2, 0), p = (.5, .5), delta = .1
    gives .6 * 2 = 1.2.
    """
    e, p = np.broadcast_arrays(np.asarray(e, np.float64), np.asarray(p, np.float64))
    order = np.argsort(e, axis=-1)
    e_sorted, p_sorted = np.take_along_axis(e, order, -1), np.take_along_axis(p, order, -1)
    before = np.cumsum(p_sorted, axis=-1) - p_sorted
    moved = np.clip(delta - before, 0, p_sorted)
    gain = moved.sum(-1) * e_sorted[..., -1] - (moved * e_sorted).sum(-1)
    return (e * p).sum(-1) + gain


def _clip_by_bisection(q, p, delta):
    """Oracle: the two equations of the clip solved by bisection, one row."""

    def solve(above):
        low, high = (1.0, 1e9) if above else (0.0, 1.0)
        for _ in range(200):
            c = (low + high) / 2
            if above:
                positive = np.maximum(q - c * p, 0).sum() > c * delta
            else:
                positive = np.maximum(c * p - q, 0).sum() < c * delta
            low, high = (c, high) if positive else (low, c)
        return low

    return np.clip(q / p, solve(above=False), solve(above=True))


def test_clip_by_hand():
    e, live = huber_clip([0.9, 0.1], [0.5, 0.5], 0.1)
    np.testing.assert_allclose(e, [1.5, 0.25])
    assert live


def test_supremum_by_hand():
    assert ball_supremum([2.0, 0.0], [0.5, 0.5], 0.1) == pytest.approx(1.2)


@given(SEEDS, st.integers(2, 64), st.sampled_from([0.0, 0.005, 0.02, 0.1]))
@settings(max_examples=60, deadline=None)
def test_clip_solves_the_equations_of_the_least_favourable_pair(seed, cells, delta):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(cells), 2)
    e, live = huber_clip(q, p, delta)
    assert live == (0.5 * np.abs(q - p).sum() > delta + 1e-9) or 0.5 * np.abs(q - p).sum() == pytest.approx(delta)
    if live:
        np.testing.assert_allclose(e, _clip_by_bisection(q, p, delta), rtol=1e-6)
        assert ball_supremum(e, p, delta) == pytest.approx(1.0, abs=1e-9)
    else:
        np.testing.assert_array_equal(e, 1.0)


@given(SEEDS, st.integers(2, 64), st.sampled_from([0.0, 0.01, 0.05]))
@settings(max_examples=60, deadline=None)
def test_no_member_of_the_ball_gives_any_row_a_mean_above_one(seed, cells, delta):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(cells, 5.0))
    reference = ReferenceCells(p[None], np.array([np.inf]), np.ones((1, cells), bool), np.ones((1, cells), bool))
    table = build_alternatives(reference, "numeric", np.array([delta]), np.ones((1, 15)), 0.01)
    rows = [np.exp(table.dense[0])]
    for level in range(table.inside.shape[1]):
        e = np.repeat(np.exp(table.outside[0, level])[:, None], cells, axis=1)
        e[np.arange(cells), np.arange(cells)] = np.exp(table.inside[0, level])
        rows.append(e)
    for e in rows:
        assert (ball_supremum(e, p, delta) <= 1 + 1e-6).all()
        for _ in range(20):
            step = rng.standard_normal(cells)
            step -= step.mean()
            member = p + step / np.abs(step).sum() * 2 * delta * rng.random()
            if member.min() >= 0:
                assert (e @ member <= 1 + 1e-6).all()


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_padding_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(7), 2)
    zeros = np.zeros(4)
    e, _ = huber_clip(np.append(q, zeros), np.append(p, zeros), 0.03)
    np.testing.assert_allclose(e[:7], huber_clip(q, p, 0.03)[0])
    np.testing.assert_array_equal(e[7:], 1.0)


def test_shift_rows_by_hand():
    q, rows = ordered_alternatives(np.array([0.5, 0.5]))
    at = next(i for i, row in enumerate(rows) if row.kind == "shift" and row.size == 0.4)
    # Phi(-.4) = .34458.
    np.testing.assert_allclose(q[at], [0.34458, 0.65542], atol=1e-5)


@pytest.mark.parametrize("n_ref", [200, 10_000])
def test_finite_reference_keeps_means_below_one_where_the_plain_ratio_does_not(n_ref):
    rng = np.random.default_rng(5)
    p = np.full((400, 20), 0.05)
    counts = rng.multinomial(n_ref, p[0], size=400).astype(float)
    everything = np.ones(p.shape, bool)
    reference = ReferenceCells(counts, counts.sum(-1), everything, everything)
    table = build_alternatives(reference, "numeric", np.zeros(400), np.ones((400, 15)), 0.01)
    means = np.einsum("flk,fk->fl", np.exp(table.dense), p)
    assert (means > 1 + 1e-9).mean() < 0.01
    e, _ = huber_clip(
        ordered_alternatives(reference.probabilities)[0], reference.probabilities[:, None], np.zeros((400, 1))
    )
    assert (np.einsum("flk,fk->fl", e, p) > 1 + 1e-9).mean() > 0.3


def test_finite_reference_by_hand():
    # e = (2, 0) on halves: sd 1; z = 3, n = 900, phi = 4 gives a margin of 3 * sqrt(4 / 900) = .2.
    log_e = finite_reference(np.array([2.0, 1e-300]), np.array([0.5, 0.5]), 900, 3.0, 4.0)
    assert log_e[0] == pytest.approx(np.log(2 / 1.2))


@pytest.mark.parametrize("n", [1, 5, 60, 4000])
@pytest.mark.parametrize("eta", [0.05, 1e-4, 1e-9])
def test_share_bounds_are_valid_and_near_clopper_pearson(n, eta):
    x = np.unique(np.round(np.linspace(0, n, 30)))
    lower, upper = share_bounds(x, n, eta)
    exact_lower, exact_upper = clopper_pearson(x, n, eta)
    assert (upper >= exact_upper * (1 - 1e-9)).all()
    assert (lower <= exact_lower * (1 + 1e-9)).all()
    # Zubkov and Serov's bound is Clopper-Pearson's of at most one count more.
    assert (upper[:-1] <= clopper_pearson(np.minimum(x + 1, n), n, eta)[1][:-1] * (1 + 1e-6)).all()


def bisected(share, target, end):
    """The root of kl(share, u) = target between share and an end, by halving."""
    low, high = np.full(share.shape, share), np.full(share.shape, end)
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            one = np.where(share > 0, share * np.log(share / middle), 0.0)
            other = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - middle)), 0.0)
        close = one + other < target
        low, high = np.where(close, middle, low), np.where(close, high, middle)
    return high


@given(st.integers(1, 10**5), st.floats(1e-12, 0.4))
def test_share_bounds_are_the_roots_that_bisection_finds(n, eta):
    x = np.unique(np.concatenate([np.arange(min(n, 5) + 1), n - np.arange(min(n, 5) + 1), [n // 3, n // 2]])) * 1.0
    chernoff, serov = -np.log(eta) / n, NormalDist().inv_cdf(eta) ** 2 / 2 / n
    upper = np.minimum(bisected(x / n, chernoff, 1.0), bisected(np.minimum(x + 1, n) / n, serov, 1.0))
    lower = np.maximum(bisected(x / n, chernoff, 0.0), bisected(np.maximum(x - 1, 0) / n, serov, 0.0))
    found_lower, found_upper = share_bounds(x, n, eta)
    np.testing.assert_allclose(found_upper, upper, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found_lower, lower, rtol=0, atol=1e-12)


def test_share_bound_by_hand():
    assert share_bounds(0, 100, 0.05)[1] == pytest.approx(1 - 0.05**0.01)
    assert share_bounds(100, 100, 0.05)[0] == pytest.approx(0.05**0.01)
