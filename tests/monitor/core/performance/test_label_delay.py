"""Delays of labels by hand, as sums, and the gate that shuts when labels stop."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.monitor.core.performance import LabelDelays, LateGate, delayed_counts, late_labels
from stationkeeper.monitor.core.reference import classes_by_group
from stationkeeper.retrain.core.labels import age_of_absence

MINUTE = 60_000
HOUR = 3_600_000
DAY = 24 * HOUR


def scored(negatives: int, positives: int) -> np.ndarray:
    out = np.zeros((32, 2), np.int64)
    out[6] = negatives, positives
    return out


def scores(rows: int) -> np.ndarray:
    return np.array(scored(rows, 0).sum(1))


def fed(delays: LabelDelays, hours: int, of: dict[int, tuple[int, int]], rows: int = 100) -> None:
    """Predictions of each hour, and labels: by delay (hours) how many negatives and positives."""
    for hour in range(hours):
        delays.predicted(hour * HOUR, rows, scores(rows))
        for late, counts in of.items():
            if hour + late < hours:
                delays.known(hour * HOUR, late * HOUR, sum(counts), scored(*counts))


def test_a_cohort_is_mature_when_nearly_all_labels_are_there() -> None:
    delays = LabelDelays(HOUR, 30 * DAY)
    fed(delays, 48, {1: (50, 10), 5: (40, 0)})
    found = delays.maturity(48 * HOUR, HOUR, 0.1)
    # Ages two an octave: the first of at least five hours.
    assert found.age == pytest.approx(5.66 * HOUR, rel=0.01)
    assert found.usual == 1.0
    # Of the negatives the slower class, 50 of 90 are known after an hour.
    assert found.expected == pytest.approx(5 / 9)


def test_one_class_is_not_enough_where_the_reference_has_two() -> None:
    delays = LabelDelays(HOUR, 30 * DAY)
    fed(delays, 96, {1: (0, 10)})
    assert delays.maturity(96 * HOUR, HOUR, 0.1).missing == "negative"
    assert delays.maturity(96 * HOUR, HOUR, None).missing is None
    only = delays.maturity(96 * HOUR, HOUR, 0.1, only_positives=True)
    assert (only.age, only.missing) == (HOUR, None)


def test_what_stopped_is_believed_once_it_was_watched_for_twice_as_long() -> None:
    delays = LabelDelays(HOUR, 30 * DAY)
    # Half of the predictions never get a label; the others within four hours.
    fed(delays, 7, {4: (45, 5)})
    assert delays.maturity(7 * HOUR, HOUR, 0.1).age is None
    fed(delays := LabelDelays(HOUR, 30 * DAY), 20, {4: (45, 5)})
    assert delays.maturity(20 * HOUR, HOUR, 0.1).age == 4 * HOUR


def test_labels_of_other_scores_than_all_predictions_are_waited_for() -> None:
    delays = LabelDelays(HOUR, 4 * DAY)
    early = np.zeros((32, 2), np.int64)
    early[25] = 15, 15
    for hour in range(24 * 8):
        every = scores(100)
        every[25] += 10
        delays.predicted(hour * HOUR, 110, every)
        delays.known(hour * HOUR, HOUR, 30, early)
    assert delays.maturity(40 * HOUR, HOUR, 0.1).age is None
    late = delays.maturity(24 * 8 * HOUR, HOUR, 0.1)
    assert (late.age, late.selective) == (HOUR, True)


@given(st.permutations(range(40)), st.integers(1, 39))
def test_any_order_and_any_batches_give_the_same(order: list[int], cut: int) -> None:
    def one(hour: int, delays: LabelDelays) -> None:
        delays.known(hour * HOUR, hour % 7 * HOUR, 3, scored(2, 1))

    whole, parts = LabelDelays(HOUR, DAY), LabelDelays(HOUR, DAY)
    for delays in (whole, parts):
        for hour in range(40):
            delays.predicted(hour * HOUR, 5, scores(5))
    for hour in range(40):
        one(hour, whole)
    for hour in order[:cut]:
        one(hour, parts)
    again = LabelDelays(HOUR, DAY)
    again.restore(parts.state())
    for hour in order[cut:]:
        one(hour, again)
    for delays in (whole, again):
        delays.advance(90 * HOUR)
    assert whole.state().counts.tolist() == again.state().counts.tolist()
    assert whole.maturity(90 * HOUR, HOUR, 0.3) == again.maturity(90 * HOUR, HOUR, 0.3)


def test_epochs_stay_few_and_what_is_older_than_two_horizons_goes() -> None:
    delays = LabelDelays(HOUR, 2 * DAY)
    for hour in range(24 * 30):
        delays.predicted(hour * HOUR, 10, scores(10))
        delays.known(hour * HOUR, 0, 10, scored(9, 1))
        delays.advance((hour + 1) * HOUR)
    state = delays.state()
    assert len(state.index) <= 65
    assert state.counts[:, 0].sum() <= 10 * 24 * 4 + 10 * 2
    assert state.length == 2 * HOUR


def test_the_gate_shuts_when_three_predictions_in_a_row_lack_their_label_and_not_by_chance() -> None:
    gate = LateGate()
    assert gate.after(3, 0, 1.0) == pytest.approx(3 * np.log(0.55 / 0.1))
    assert [gate.shuts(gate.after(n, 0, 1.0)) for n in (2, 3)] == [False, True]
    rng = np.random.default_rng(3)
    shut = 0
    for arrived in rng.binomial(20, 0.97, 5_000):
        after = gate.after(20, int(arrived), 0.97)
        shut += gate.shuts(after)
        gate.sum = after
    assert shut == 0
    # Where a half has labels anyway, a fall to a tenth shows within a few dozen.
    assert gate.shuts(gate.after(60, 6, 0.5))
    said = late_labels(0, 60, 6, 0.5)
    assert said.reason == "10.0% of predictions have their label at an age at which 50.0% have: performance waits"


def test_right_answers_of_several_classes_are_no_selection_though_only_a_part_is_labelled():
    """They counted with the highest score and all predictions with the lowest: nothing below 95 % was ever judged."""
    delays = LabelDelays(MINUTE, 10 * 60 * MINUTE)
    at = np.array([3.0] * 30 + [5.0] * 20, np.int64)
    sums = classes_by_group(at, np.where(np.arange(50) < 40, at, 7), np.zeros(50, np.int64), 1)[0]
    for minute in range(60 * 24):
        start = minute * MINUTE
        # Of a hundred answers without a probability half get a label within the minute, 40 of them right.
        delays.predicted(start, 100, np.bincount([0], [100], 32).astype(np.int64))
        raw = np.zeros((32, 2), np.int64)
        raw[31, 0], raw[0, 0] = 40, 10
        delays.known(start, MINUTE, 50, delayed_counts(np.array([0, 10, 0, 40]), raw.ravel(), sums))
        delays.advance(start + MINUTE)
    found = delays.maturity(60 * 24 * MINUTE, 10 * MINUTE)
    assert found.age == 10 * MINUTE
    assert not found.selective


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=40),
    st.integers(0, 20),
    st.integers(1, 50),
)
# A label that came just now, at an age that is told apart: whether it is seen decides.
@example([(57, 4)], 0, 50)
def test_monitor_and_trainer_take_absence_for_a_negative_from_one_age(
    told: list[tuple[int, int]], least: int, horizon: int
) -> None:
    """Positives by the hour of their prediction and how many hours late their label came, 61 hours after the first."""
    came = [(hour, late) for hour, late in told if hour + late <= 61]
    delays = LabelDelays(HOUR, horizon * HOUR)
    for hour in range(61):
        delays.predicted(hour * HOUR, 10, scores(10))
    for hour, late in came:
        delays.known(hour * HOUR, late * HOUR, 1, scored(0, 1))
    judged = delays.maturity(62 * HOUR, least * HOUR, 0.1, only_positives=True).age
    # The monitor counts from the end of a pane of an hour.
    ages = np.array([61 - hour for hour, _ in came], np.int64) * HOUR
    late_by = np.array([late for _, late in came], np.int64) * HOUR
    absence = Absence(HOUR, horizon * HOUR, least * HOUR)
    assert age_of_absence(absence, ages, late_by, 61 * HOUR).age_ms == judged
