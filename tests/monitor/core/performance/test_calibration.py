"""What a score stands for follows labels of calm weeks, never further than the reference and its tolerance allow."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.detect import clopper_pearson
from stationkeeper.monitor.core.finding import PAGE
from stationkeeper.monitor.core.performance import (
    Calibration,
    Measure,
    OutcomePane,
    Performance,
    PerformanceState,
    calibrated,
    estimate,
    refreshed,
)
from stationkeeper.monitor.core.reference import Counts, Labels, isotonic
from stationkeeper.monitor.state_codec import freeze, thaw

DAY = 86_400_000
TABLES = st.lists(
    st.tuples(st.integers(0, SCORE_BINS - 1), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=12
)


def table(rows: list[tuple[int, int, int]]) -> Counts:
    found = np.zeros((SCORE_BINS, 2), np.int64)
    for at, negative, positive in rows:
        found[at] += negative, positive
    return found


def labels_of(scored: Counts, phi: float = 1.0) -> Labels:
    return Labels(scored, np.array([scored[:, 1].sum(), 0, 0, scored[:, 0].sum()]), phi)


@given(TABLES, TABLES, st.integers(1, 500), st.sampled_from([0.0, 0.01]), st.sampled_from([1.0, 4.0]))
def test_no_labels_move_a_share_further_than_the_reference_and_the_tolerance_allow(
    reference: list[tuple[int, int, int]], live: list[tuple[int, int, int]], times: int, tolerance: float, phi: float
) -> None:
    known, came = labels_of(table(reference), phi), table(live) * times
    found = refreshed(known, came, tolerance).scored
    pool, hits, rows = isotonic(known.scored)
    low, high = clopper_pearson(hits / phi, rows / phi, 0.025)
    positives = np.bincount(pool, weights=found[:, 1], minlength=len(rows))
    total = np.bincount(pool, weights=found.sum(1), minlength=len(rows))
    # A cell may lack a part of a row, and no more.
    spare = np.bincount(pool, minlength=len(rows))
    assert (positives <= np.minimum(high + tolerance, 1) * (total + spare) + 1e-6).all()
    assert (positives + spare >= np.maximum(low - tolerance, 0) * total - 1e-6).all()
    # Nothing of the reference is lost, no label counts twice, and what it never saw stays unknown.
    assert (found >= known.scored).all()
    assert (found - known.scored <= came).all()
    assert not found[known.scored.sum(1) == 0].any()


def test_labels_that_pass_the_bound_count_for_less_by_hand():
    known = labels_of(table([(4, 50, 50)]))
    found = refreshed(known, table([(4, 100, 900)]), 0.01).scored[4]
    low, high = (float(one[0]) for one in clopper_pearson([50], [100], [0.025]))
    assert low == pytest.approx(0.398, abs=1e-3)
    assert high == pytest.approx(0.602, abs=1e-3)
    assert found.tolist() == [50 + 3, 50 + 34]
    assert refreshed(known, table([(4, 300, 300)]), 0.01).scored[4].tolist() == [350, 350]


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=40), st.integers(0, 40))
def test_a_calibration_restored_anywhere_is_the_one_that_went_on(steps: list[tuple[int, bool, bool]], cut: int) -> None:
    known = labels_of(table([(4, 90, 10), (28, 20, 80)]))
    first, second, now = Calibration(known, 0.01), Calibration(known, 0.01), 0
    for k, (days, calm, drifts) in enumerate(steps):
        if k == cut:
            restored = Calibration(known, 0.01)
            restored.restore(second.state())
            second = restored
        now += days * DAY
        for one in (first, second):
            one.add(now, table([(4, 9, k % 3), (28, 2, 8)]), calm=calm)
            if drifts:
                one.withdraw(now - 10 * DAY)
    assert np.array_equal(first.labels.scored, second.labels.scored)
    assert first.state().begin == second.state().begin


def test_a_week_counts_once_it_is_over_and_calm_and_goes_where_the_concept_changed_in_it():
    known, week = labels_of(table([(4, 500, 500)])), table([(4, 50, 50)])
    made, counted = Calibration(known, 0.01), []
    for day in range(43):
        # From day 14 to 16 a test of the labels warns: the second week waits for it.
        made.add(day * DAY, week, calm=day not in {14, 15, 16})
        counted.append(int(made.labels.scored.sum()) - 1_000)
    assert counted[6:8] == [0, 700]
    assert counted[16:18] == [700, 700 + 1_000]
    # Of more than four weeks the latest count.
    assert counted[24] == 2_400
    made.withdraw(18 * DAY)
    assert int(made.labels.scored.sum()) - 1_000 == 1_000
    made.withdraw(0)
    assert np.array_equal(made.labels.scored, known.scored)


def rows(rng: np.random.Generator, count: int, concept: float = 0.0) -> tuple[Counts, Counts]:
    """Labels by score bin and the confusion, of a model that is too sure of itself."""
    odds = rng.normal(-1.0, 1.5, count)
    score, truth = 1 / (1 + np.exp(-odds)), rng.random(count) < 1 / (1 + np.exp(-0.7 * odds - concept))
    said, at = score >= 0.5, score_bin(score)
    scored = np.bincount(at * 2 + truth, minlength=2 * SCORE_BINS).reshape(SCORE_BINS, 2)
    cells = (said & truth, said & ~truth, ~said & truth, ~said & ~truth)
    return scored, np.array([np.count_nonzero(one) for one in cells])


def test_four_calm_weeks_bring_the_estimate_of_a_small_reference_nearer_to_the_truth():
    rng = np.random.default_rng(11)
    before: list[tuple[float, Measure]] = []
    after: list[tuple[float, Measure]] = []
    for _ in range(12):
        made = Performance(Labels(*rows(rng, 500)), alpha=1 / 43_200)
        for day in range(29):
            made.step(OutcomePane(day * DAY, (day + 1) * DAY, *rows(rng, 200)), 1_440.0)
        many, _ = rows(rng, 100_000)
        told = [estimate(many.sum(1), one, 0.5).measures for one in (made.labels, calibrated(made, made.labels))]
        for found, kept in zip(told, (before, after), strict=True):
            real = many[np.arange(SCORE_BINS) >= score_bin(np.array([0.5]))[0]]
            kept.append((abs(found["precision"].value - real[:, 1].sum() / real.sum()), found["precision"]))
    assert np.mean([off for off, _ in after]) < 0.6 * np.mean([off for off, _ in before])
    assert np.mean([one.high - one.low for _, one in after]) < 0.6 * np.mean([one.high - one.low for _, one in before])


def kept(came: tuple[Counts, Counts]) -> Callable[[], tuple[Counts, Counts]]:
    return lambda: came


def test_labels_that_page_for_another_concept_are_taken_back():
    rng = np.random.default_rng(12)
    made, onset = Performance(Labels(*rows(rng, 2_000)), alpha=1 / 43_200), None
    counted = []
    for day in range(40):
        concept = 0.0 if day < 18 else 0.7
        came = rows(rng, 200, concept)
        paged = [f for f in made.step(OutcomePane(day * DAY, (day + 1) * DAY, *came), 1_440.0) if f.level == PAGE]
        onset = paged[0].onset if paged and onset is None else onset
        # As a watch does while the incident is open.
        made.hold(set() if onset is None else {"calibration"}, onset or 0, kept(came))
        counted.append(int(made.calibration.labels.scored.sum()) - 2_000)
    # The weeks before the change stay; that of the change waits while its test warns, and none counts while it drifts.
    assert onset is not None
    assert 14 * DAY <= onset <= 21 * DAY
    assert 0 < counted[14] == max(counted) == counted[-1]
    again = Performance(made.labels, alpha=1 / 43_200)
    again.restore(state_of(thaw(freeze(made.state())), PerformanceState))
    assert np.array_equal(again.calibration.labels.scored, made.calibration.labels.scored)
