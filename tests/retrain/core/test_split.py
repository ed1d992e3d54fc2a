import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.retrain.core.plan import TrainingWindow, WindowKind
from stationkeeper.retrain.core.split import blocked_folds, split_rows, window_rows

TIMES = np.arange(100, dtype=np.int64)


def test_a_split_by_hand():
    split = split_rows(TIMES, 60, 0.25, 0.25)
    assert np.flatnonzero(split.holdout).tolist() == list(range(90, 100))
    assert np.flatnonzero(split.validation).tolist() == list(range(80, 90))
    assert np.flatnonzero(split.guard).tolist() == list(range(50, 60))
    assert int(split.learn.sum()) == 70


def test_rows_that_the_champion_has_learnt_are_no_guard_and_may_be_learnt():
    split = split_rows(TIMES, 60, 0.25, 0.25, learnt_until=54)
    assert np.flatnonzero(split.guard).tolist() == [55, 56, 57, 58, 59]
    assert split.learn[50:55].all()
    # Of a model that learnt up to the onset nothing before it is new.
    aged = split_rows(TIMES, 60, 0.25, 0.25, learnt_until=59)
    assert not aged.guard.any()
    assert aged.judged.sum() == aged.holdout.sum() == 10


@given(
    times=st.lists(st.integers(0, 1_000), min_size=1, max_size=80).map(sorted),
    onset=st.integers(-5, 1_005),
    holdout=st.floats(0.01, 0.6),
    validation=st.floats(0.01, 0.3),
)
def test_every_row_has_one_part_and_time_goes_forward(times: list[int], onset: int, holdout: float, validation: float):
    split = split_rows(np.array(times, dtype=np.int64), onset, holdout, validation)
    parts = np.stack([split.learn, split.validation, split.holdout, split.guard])
    assert (parts.sum(axis=0) == 1).all()
    learnt = np.flatnonzero((split.learn | split.validation) & split.after)
    held = np.flatnonzero(split.holdout)
    if len(learnt) and len(held):
        assert learnt.max() < held.min()
    assert not (split.guard & split.after).any()


def test_unsorted_times_are_refused():
    with pytest.raises(ValueError, match="time order"):
        split_rows(np.array([2, 1]), 0, 0.2, 0.2)


def test_windows_by_hand():
    after = TIMES >= 60
    usable = TIMES < 90
    rng = np.random.default_rng(0)
    rows, weights = window_rows(TrainingWindow(WindowKind.SINCE_CHANGE), usable, after, 1_000, rng)
    assert rows.tolist() == list(range(60, 90))
    rows, weights = window_rows(TrainingWindow(WindowKind.LAST, rows=40), usable, after, 1_000, rng)
    assert rows.tolist() == list(range(50, 90))
    rows, weights = window_rows(TrainingWindow(WindowKind.REWEIGHTED, weight=10.0), usable, after, 1_000, rng)
    assert weights.sum() == 60 + 30 * 10


def test_thinned_rows_stand_for_those_that_are_gone():
    after = TIMES >= 60
    rows, weights = window_rows(TrainingWindow(WindowKind.ALL), np.ones(100, bool), after, 50, np.random.default_rng(0))
    assert len(rows) == 50
    assert (np.diff(rows) > 0).all()
    assert after[rows].sum() == 25
    assert weights.sum() == pytest.approx(100)
    # Few old rows leave the rest of the room to the new ones.
    late = TIMES >= 10
    rows, weights = window_rows(TrainingWindow(WindowKind.ALL), np.ones(100, bool), late, 50, np.random.default_rng(0))
    assert (late[rows].sum(), (~late[rows]).sum()) == (40, 10)
    assert weights[late[rows]].sum() == pytest.approx(90)


@pytest.mark.parametrize("kind", [WindowKind.ALL, WindowKind.REWEIGHTED])
def test_long_after_a_change_history_is_still_history(kind: WindowKind):
    # More new rows than there is room: were they all kept, each window would be the newest rows.
    after = TIMES >= 30
    rows, _ = window_rows(TrainingWindow(kind, weight=10.0), np.ones(100, bool), after, 40, np.random.default_rng(0))
    assert (~after[rows]).sum() == 20
    assert rows[after[rows]].min() < 60, "of the new ones the older too"
    newest, _ = window_rows(
        TrainingWindow(WindowKind.SINCE_CHANGE), np.ones(100, bool), after, 40, np.random.default_rng(0)
    )
    assert newest.tolist() == list(range(60, 100))


def test_the_last_rows_are_the_last_and_stand_for_none_that_are_gone():
    after = TIMES >= 90
    last = TrainingWindow(WindowKind.LAST, rows=80)
    rows, weights = window_rows(last, np.ones(100, bool), after, 30, np.random.default_rng(0))
    assert rows.tolist() == list(range(70, 100))
    assert (weights == 1.0).all()
    # The new rows alone fill the room: no old one is left, and not all of them.
    full, _ = window_rows(last, np.ones(100, bool), after, 10, np.random.default_rng(0))
    assert full.tolist() == list(range(90, 100))


def test_folds_are_runs():
    folds = blocked_folds(np.arange(10), 3)
    assert [fold.tolist() for fold in folds] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
