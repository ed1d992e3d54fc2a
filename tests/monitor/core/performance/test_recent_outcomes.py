"""Remembered labelled panes: their sums since an onset, and the sentences that explain what changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.performance import (
    LabelledPaneState,
    OutcomePane,
    RecentOutcomes,
    explain_calibration,
    explain_errors,
)
from stationkeeper.monitor.core.performance.recent_outcomes import MAX_PANES
from stationkeeper.monitor.core.reference import Labels, Task, labels_of
from stationkeeper.monitor.core.reference.outcome_sums import errors_by_group

SCORED = np.arange(2 * SCORE_BINS).reshape(SCORE_BINS, 2)


def test_errors_are_explained_against_the_reference():
    labels = Labels(SCORED, np.array([50, 5, 5, 40]))
    text, change, numbers = explain_errors(labels, SCORED, np.array([40, 15, 15, 30]))
    assert change == pytest.approx(0.2)
    assert text.startswith("wrong in 30.0% of labelled rows, 10.0% on the reference; the mix of scores explains +0.0")
    assert numbers["labels"] == 100


@pytest.mark.parametrize(
    ("wrong", "mix", "said"),
    [
        # Half of the reference's rows are hard and three in four of these: .25 is what the same concept lets expect.
        (250, 5.0, "the mix of scores explains +5.0 points, the rest is within chance"),
        (350, 5.0, "the mix of scores explains +5.0 points, a changed meaning of scores +10.0"),
    ],
)
def test_what_other_scores_explain_is_told_from_another_concept(wrong: int, mix: float, said: str) -> None:
    usual, now = np.zeros((32, 2), np.int64), np.zeros((32, 2), np.int64)
    # Called positive from .5 on (bin 16): wrong in 30 % there, in 10 % below.
    usual[10], usual[20] = (45_000, 5_000), (15_000, 35_000)
    now[10], now[20] = (225, 25), (225, 525)
    labels = Labels(usual, np.array([35_000, 15_000, 5_000, 45_000]))
    text, change, numbers = explain_errors(labels, now, np.array([500, wrong, 0, 500 - wrong]))
    assert said in text
    assert change == pytest.approx(wrong / 1_000 - 0.2)
    assert numbers["mix_points"] == pytest.approx(mix)
    assert (numbers["concept_low"] <= 0 <= numbers["concept_high"]) == (wrong == 250)


def law(rows: int, middle: float, seed: int, threshold: float) -> Labels:
    """Labels of a score that is always true: one concept, whatever the scores."""
    rng = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-(rng.normal(size=rows) + middle)))
    return labels_of(score, (rng.random(rows) < score).astype(float), Task.BINARY, threshold, "1")


@pytest.mark.parametrize(("rows", "before", "after"), [(10_000, -4.0, 0.0), (2_000, -3.0, 1.0), (500, -3.0, -1.0)])
def test_scores_that_the_reference_hardly_has_are_no_changed_meaning(rows: int, before: float, after: float) -> None:
    """Of one concept at other scores a half to nine tenths were told as a changed meaning, instead of a twentieth."""
    for seed in range(20):
        usual, now = law(rows, before, seed, 0.45), law(3_000, after, 1_000 + seed, 0.45)
        text, _, numbers = explain_errors(usual, now.scored, now.confusion, 0.45)
        assert "whether other scores explain it is not known" in text
        assert "changed meaning" not in text
        assert numbers["thin_share"] > 0.05
        assert "concept_points" not in numbers


@pytest.mark.parametrize("threshold", [0.5, 0.45, 0.4, 0.3, 0.15])
def test_a_threshold_inside_a_score_bin_is_no_changed_meaning(threshold: float) -> None:
    usual = law(50_000, -0.8, 1, threshold)
    for now in (usual, law(20_000, -0.3, 2, threshold)):
        text, _, numbers = explain_errors(usual, now.scored, now.confusion, threshold)
        assert "the rest is within chance" in text
        assert numbers["concept_points"] == pytest.approx(0.0, abs=1.0)
    same = explain_errors(usual, usual.scored, usual.confusion, threshold)[2]
    assert same["concept_points"] == pytest.approx(0.0, abs=1e-9)


def test_calibration_is_explained_by_what_the_scores_stood_for():
    reference, now = np.zeros((32, 2), np.int64), np.zeros((32, 2), np.int64)
    reference[30], now[30] = (20, 80), (80, 20)
    reference[10], now[10] = (90, 10), (88, 12)
    reference[3], now[3] = (100, 0), (0, 0)
    now[20] = (0, 80)  # the reference has no label of these scores
    text, change, numbers = explain_calibration(Labels(reference, np.array([80, 20, 10, 190])), now)
    assert text == "positive in 20.0% of 100 labelled rows, 80.0% at these scores on the reference"
    assert change == pytest.approx(-0.6)
    assert numbers["labels"] == 280


def test_panes_of_builds_that_wrote_lists_are_read():
    plain = [[60, 120, SCORED.ravel().tolist(), [1, 2, 3, 4], 9, None]]
    made = RecentOutcomes()
    made.restore([state_of(item, LabelledPaneState) for item in plain])
    scored, confusion = made.total(60)
    assert scored.tolist() == SCORED.tolist()
    assert confusion.tolist() == [1, 2, 3, 4]
    made.add(OutcomePane(120, 180, SCORED, np.array([1, 0, 0, 0]), 10, 10))
    assert made.first_row(60) is None
    assert made.first_row(120) == 10
    assert made.total(120)[1].tolist() == [1, 0, 0, 0]


def pane(start: int, *confusion: int, scored: np.ndarray | None = None, first: int | None = None) -> OutcomePane:
    return OutcomePane(start, start + 60, SCORED if scored is None else scored, np.array(confusion), first, first)


def test_the_oldest_labelled_panes_are_forgotten() -> None:
    made = RecentOutcomes()
    for at in range(MAX_PANES + 5):
        made.add(pane(at * 60, 1, 0, 0, 0, first=at))
    assert made.total(0)[1].tolist() == [MAX_PANES, 0, 0, 0]
    assert made.first_row(0) == 5


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 9), min_size=4, max_size=4)), max_size=12))
def test_a_memory_read_back_sums_alike_from_any_onset(steps: list[tuple[int, list[int]]]) -> None:
    made, again = RecentOutcomes(), RecentOutcomes()
    for start, confusion in steps:
        made.add(pane(start, *confusion, first=start or None))
    again.restore(made.state())
    for since in range(11):
        expected = [sum(confusion[k] for start, confusion in steps if start >= since) for k in range(4)]
        for one in (made, again):
            scored, table = one.total(since)
            assert table.tolist() == expected
            assert scored.tolist() == (SCORED * sum(start >= since for start, _ in steps)).tolist()
        assert made.first_row(since) == again.first_row(since)


def test_precision_is_not_said_where_nothing_was_flagged() -> None:
    labels = Labels(SCORED, np.array([50, 5, 5, 40]))
    _, _, numbers = explain_errors(labels, SCORED, np.array([0, 0, 10, 90]))
    assert (numbers["precision"], numbers["recall"]) == (None, 0.0)


def test_the_size_of_errors_is_told_against_the_reference() -> None:
    # Errors of 3 lie in the octave 2..4 and errors of 12 in 8..16, whose middles are 3 and 12: four times as far off.
    sums = errors_by_group(np.full(10, 3.0), np.zeros(10, np.int64), 1)[0]
    usual, now = np.zeros((32, 2), np.int64), np.zeros((32, 2), np.int64)
    usual.ravel()[33], now.ravel()[35] = 10, 4
    labels = Labels(usual, np.array([10, 0, 0, 0]), sums=sums)
    text, change, numbers = explain_errors(labels, now, np.array([4, 0, 0, 0]))
    assert text == "off by 12 on average in labelled rows, by 3 on the reference"
    assert change == 3.0
    assert numbers["labels"] == 4
