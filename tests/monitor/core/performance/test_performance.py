"""Errors that rise and scores that stand for something else page; steady ones and small regions do not."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.state import replaced
from stationkeeper.monitor.core.finding import PAGE
from stationkeeper.monitor.core.performance import ErrorSize, OutcomePane, Performance
from stationkeeper.monitor.core.reference import Labels


def labels_of(rate: float, flip: float = 0.0, rows: int = 5_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bins = np.where(rng.random(rows) < 0.5, 4, 28)
    truth = (rng.random(rows) < np.where(bins == 28, 1 - rate, rate)) ^ (rng.random(rows) < flip)
    scored = np.bincount(bins * 2 + truth, minlength=64).reshape(32, 2)
    said = bins == 28
    parts = [said & truth, said & ~truth, ~said & truth, ~said & ~truth]
    return scored, np.array([np.count_nonzero(part) for part in parts])


def test_errors_that_rise_page_and_steady_ones_do_not():
    reference = Labels(*labels_of(0.1))
    kinds: set[VerdictKind] = set()
    for flip, wanted in ((0.0, False), (0.15, True)):
        made = Performance(reference, alpha=1 / 10_000)
        kinds = set()
        for k in range(60):
            pane = OutcomePane(k * 50, k * 50 + 50, *labels_of(0.1, flip, 50, seed=k + 1))
            kinds |= {f.kind for f in made.step(pane, 50.0) if f.level == PAGE}
        assert bool(kinds) is wanted
    assert VerdictKind.CONCEPT_DRIFT in kinds


@pytest.mark.parametrize(("share", "pages"), [(0.80, False), (0.15, True)])
def test_a_small_region_pages_only_when_half_a_point_of_the_traffic_changed(share: float, pages: bool):
    def labels(rows: int, positive: float) -> tuple[np.ndarray, np.ndarray]:
        few = rows // 100
        hits = round(few * positive)
        scored = np.zeros((32, 2), np.int64)
        scored[4], scored[28] = (rows - few, 0), (few - hits, hits)
        return scored, np.array([hits, few - hits, 0, rows - few])

    made = Performance(Labels(*labels(40_000, 0.99)), alpha=1 / 10_000)
    found = [f for k in range(60) for f in made.step(OutcomePane(k, k + 1, *labels(2_000, share)), 1.0)]
    assert any(f.level == PAGE and f.kind is VerdictKind.CONCEPT_DRIFT for f in found) is pages


@pytest.mark.parametrize(("tolerance", "pages"), [(0.0, True), (0.01, False)])
def test_a_point_of_accuracy_pages_within_two_days_only_without_tolerance(tolerance: float, pages: bool) -> None:
    usual, lost = np.array([455, 45, 45, 455]), np.array([450, 50, 50, 450])

    def pane(hour: int, confusion: np.ndarray) -> OutcomePane:
        scored = np.zeros((32, 2), np.int64)
        scored[4], scored[28] = confusion[[3, 2]], confusion[[1, 0]]
        return OutcomePane(hour, hour + 1, scored, confusion)

    reference = pane(0, 10 * usual)
    made = Performance(Labels(reference.scored, reference.confusion), alpha=0.2 / 43_200, tolerance=tolerance)
    calm = [f for hour in range(14 * 24) for f in made.step(pane(hour, usual), 60.0)]
    after = [f for hour in range(14 * 24, 16 * 24) for f in made.step(pane(hour, lost), 60.0)]
    assert not calm
    assert any(f.level == PAGE and f.kind is VerdictKind.PERFORMANCE for f in after) is pages


def test_evidence_against_other_labels_is_not_taken_over():
    """A table that is profiled again with its probabilities has the digest it had, and other rates to watch."""
    scored, confusion = labels_of(0.1)
    first = Performance(Labels(scored, confusion), alpha=1 / 10_000)
    first.step(OutcomePane(0, 50, *labels_of(0.1, 0.4, 500, seed=1)), 50.0)
    fewer = np.zeros_like(scored)
    fewer[28] = scored.sum(0)
    turned = np.array([confusion[i] for i in (0, 2, 1, 3)])
    for other in (Labels(fewer, confusion), Labels(scored[:, ::-1].copy(), confusion), Labels(scored, turned)):
        made = Performance(other, alpha=1 / 10_000)
        made.restore(first.state())
        assert made.margin("error_rate") == Performance(other, alpha=1 / 10_000).margin("error_rate")
    # Dependence is learned later, and builds before told no labels: both go on.
    for state in (first.state(), replaced(first.state(), labels=None)):
        again = Performance(replace(first.labels, phi=2.0), alpha=1 / 10_000)
        again.restore(state)
        assert again.margin("error_rate") == first.margin("error_rate")
    # Of builds before only the shape tells.
    made = Performance(Labels(fewer, confusion), alpha=1 / 10_000)
    made.restore(replaced(first.state(), labels=None))
    assert made.margin("error_rate") == Performance(made.labels, alpha=1 / 10_000).margin("error_rate")


def test_evidence_against_the_errors_of_other_numbers_is_not_taken_over():
    counts = np.zeros((32, 2), np.int64)
    counts[10] = 500
    first = ErrorSize(Labels(counts, np.array([0, 0, 0, 1_000])), alpha=1 / 10_000)
    first.step(OutcomePane(0, 50, counts * 2, np.array([0, 0, 0, 2_000])), 50.0)
    made = ErrorSize(Labels(counts * 3, np.array([0, 0, 0, 3_000])), alpha=1 / 10_000)
    usual = made.margin("absolute_error")
    made.restore(first.state())
    assert made.margin("absolute_error") == usual != first.margin("absolute_error")
