import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stationkeeper.monitor.core.detect.alternatives import ordered_alternatives
from stationkeeper.monitor.core.detect.conformal import (
    PART_SHARE,
    RANK_CELLS,
    Part,
    RankBag,
    pane_generator,
    rank_counts,
)


def _rank_each_event(fine, bag, rng):
    """Oracle: p = (below + U (ties + 1)) / (n + 1) for every event of one feature."""
    below = np.concatenate([[0], np.cumsum(bag)[:-1]])
    events = np.repeat(np.arange(fine.size), fine)
    p = (below[events] + rng.random(events.size) * (bag[events] + 1)) / (bag.sum() + 1)
    return np.bincount(np.minimum((p * RANK_CELLS).astype(int), RANK_CELLS - 1), minlength=RANK_CELLS)


@pytest.mark.parametrize(
    "bag",
    [
        np.full(40, 5),
        np.array([100, 3, 0, 0, 7, 900, 1]),
        np.array([0, 0, 0]),
        np.array([12, 1]),
    ],
    ids=["quantile cells", "atoms", "empty", "tiny"],
)
def test_splitting_a_pane_has_the_law_of_ranking_each_event(bag):
    rng = np.random.default_rng(2)
    fine = np.arange(bag.size) % 7 + 3
    copies = 3000
    stacked = np.tile(fine, (copies, 1))
    drawn = rank_counts(stacked, np.tile(bag, (copies, 1)).astype(np.uint32), rng, RANK_CELLS)
    assert (drawn.sum(axis=1) == fine.sum()).all()
    oracle = np.array([_rank_each_event(fine, bag, rng) for _ in range(copies)])
    for moment in (lambda x: x.mean(0), lambda x: x.var(0)):
        spread = np.maximum(oracle.std(0) ** (2 if moment(oracle) is not oracle.mean(0) else 1), 0.3)
        assert (np.abs(moment(drawn) - moment(oracle)) < 6 * spread * np.sqrt(2 / copies) + 0.05).all()


@pytest.mark.parametrize("law", ["continuous", "atoms", "constant"])
def test_ranks_are_uniform_with_ties_atoms_and_fifty_reference_rows(law):
    rng = np.random.default_rng(3)
    streams, rounds = 400, 60
    p = {"continuous": np.full(50, 0.02), "atoms": np.array([0.6, 0.3, 0.05, 0.05]), "constant": np.ones(1)}[law]
    bag = RankBag(rng.multinomial(50, p, size=(1, streams)))
    total = np.zeros(RANK_CELLS)
    for t in range(rounds):
        for part in bag.parts(rng.multinomial(2, p, size=streams), 0, pane_generator(b"ranks", 0, t)):
            total += part.cells.sum(axis=0)
    assert total.sum() == streams * rounds * 2
    assert stats.chisquare(total).pvalue > 1e-3


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_parts_cover_the_pane_and_the_bag_grows_by_it(seed, events, rows):
    rng = np.random.default_rng(seed)
    bag = RankBag(rng.multinomial(rows, np.full(16, 1 / 16), size=(1, 3)))
    before = bag.counts.copy()
    pane = rng.multinomial(events, rng.dirichlet(np.ones(16)), size=3)
    parts = list(bag.parts(pane, 0, rng))
    np.testing.assert_array_equal(sum(part.events for part in parts), pane.sum(axis=1))
    np.testing.assert_array_equal(bag.counts[0], before[0] + pane)
    for part in parts:
        assert (part.cells.sum(axis=1) == part.events).all()
        # Parts are random with this mean; six standard deviations hold them all.
        quota = np.maximum(1, part.bag * PART_SHARE)
        assert (part.events <= quota + 6 * np.sqrt(quota) + 6).all()


def test_a_small_pane_is_one_part():
    bag = RankBag(np.full((1, 2, 10), 100))
    assert len(list(bag.parts(np.full((2, 10), 5), 0, np.random.default_rng(0)))) == 1


def test_frozen_bags_do_not_grow_and_retraction_undoes_growth():
    rng = np.random.default_rng(4)
    bag = RankBag(np.full((2, 2, 8), 50))
    bag.frozen[1] = True
    pane = rng.multinomial(30, np.full(8, 1 / 8), size=2)
    list(bag.parts(pane, 1, rng))
    assert bag.counts[1, 0].sum() == 430
    assert bag.counts[1, 1].sum() == 400
    bag.retract(pane[:1], 1, np.array([True, False]))
    assert (bag.counts == 50).all()
    with pytest.raises(ValueError, match="feature 0"):
        bag.retract(np.full((1, 8), 51), 1, np.array([True, False]))


def test_the_same_pane_draws_the_same_numbers_and_another_pane_others():
    draw = [
        pane_generator(key, s, t).random() for key, s, t in [(b"a", 0, 1), (b"a", 0, 1), (b"a", 1, 1), (b"b", 0, 1)]
    ]
    assert draw[0] == draw[1]
    assert len(set(draw)) == 3


def test_the_correction_takes_back_what_events_of_one_part_share():
    # Twenty events ranked against one bag of a hundred lean the same way: without the correction the mean of the
    # product of their e-values is near exp(20 * 19 / 200 * s2), s2 the variance of one.
    rng = np.random.default_rng(6)
    streams, n, b = 40_000, 100, 20
    p = np.full(32, 1 / 32)
    part = Part(
        rank_counts(
            rng.multinomial(b, p, size=streams), rng.multinomial(n, p, size=streams).astype(np.uint32), rng, RANK_CELLS
        ),
        np.full(streams, float(b)),
        np.full(streams, float(n)),
    )
    uniform = np.full(RANK_CELLS, 1 / RANK_CELLS)
    rows, names = ordered_alternatives(uniform)
    e = rows[[str(name) for name in names].index("shift +0.4 sd")] / uniform
    s2 = (e**2).mean() - 1
    log_product = part.cells @ np.log(e)
    assert np.exp(log_product).mean() > 1.2
    assert np.exp(log_product - part.excess() * s2).mean() < 1.06
