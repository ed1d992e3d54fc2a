"""Sums over labelled predictions: whole numbers at fixed places, so that any parts in any order add up alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.reference.outcome_sums import (
    BIN_OF_CELL,
    CLASSES,
    ERRORS,
    LOG_LOSS,
    LOG_LOSS_SQUARE,
    MICRO,
    RANKED,
    ROWS,
    SCORES,
    SQUARE,
    OutcomeSums,
    class_code,
    classes_by_group,
    error_cell,
    error_scale,
    error_tops,
    errors_by_group,
    scores_by_group,
    total,
)

_PAIRS = st.lists(st.tuples(st.integers(0, 20), st.integers(-5, 5)), max_size=20)


def of(*pairs: tuple[int, int]) -> OutcomeSums:
    return OutcomeSums.of(
        np.array([at for at, _ in pairs], np.int64), np.array([value for _, value in pairs], np.int64)
    )


def as_dict(sums: OutcomeSums) -> dict[int, int]:
    return dict(zip(sums.at.tolist(), sums.sum.tolist(), strict=True))


def zeros(rows: int) -> np.ndarray:
    return np.zeros(rows, np.int64)


def test_values_add_up_by_position_and_zeros_take_no_room() -> None:
    sums = of((7, 2), (3, 5), (7, 1), (4, 6), (4, -6))
    assert as_dict(sums) == {3: 5, 7: 3}
    assert [sums.one(at) for at in (3, 4, 7, 99)] == [5, 0, 3, 0]
    # The end of a stretch is outside, as of every slice.
    assert sums.part(slice(3, 7)).tolist() == [5, 0, 0, 0]


@given(_PAIRS, _PAIRS, _PAIRS)
def test_sums_add_in_any_order_and_nesting(
    a: list[tuple[int, int]], b: list[tuple[int, int]], c: list[tuple[int, int]]
):
    one, two, three = of(*a), of(*b), of(*c)
    assert as_dict(one + two) == as_dict(two + one)
    assert as_dict((one + two) + three) == as_dict(one + (two + three)) == as_dict(total([three, one, two]))
    assert as_dict(one + two + three) == as_dict(of(*a, *b, *c))
    assert as_dict(one + OutcomeSums.none()) == as_dict(one)


@given(_PAIRS)
def test_packed_sums_come_back_in_twelve_bytes_each(pairs: list[tuple[int, int]]) -> None:
    sums = of(*pairs)
    assert len(sums.pack()) == 12 * len(sums.at)
    assert as_dict(OutcomeSums.unpack(sums.pack())) == as_dict(sums)


def test_places_are_stored_and_never_move() -> None:
    # They stand in topics, references and state of every build: a moved one adds losses to amounts.
    assert (ROWS, LOG_LOSS, SQUARE, LOG_LOSS_SQUARE) == (0, 1, 2, 3)
    assert slice(8, 40) == SCORES
    assert (slice(64, 1_088), slice(2_048, 2_304), slice(4_096, 200_704)) == (RANKED, ERRORS, CLASSES)
    assert class_code("cat") == 0x9E5E43A8 % 65_536
    assert BIN_OF_CELL[[0, 128, 255, 256, 511]].tolist() == [0, 0, 15, 16, 31]


def test_a_confident_wrong_answer_by_hand() -> None:
    (sums,) = scores_by_group(np.array([0.9]), zeros(1), zeros(1), 1)
    assert sums.one(ROWS) == 1
    # -log .1 = 2.302585; .9^2 = .81; 2.302585^2 = 5.301898, in millionths.
    assert sums.one(LOG_LOSS) == pytest.approx(2.302585 * MICRO, abs=1)
    assert sums.one(SQUARE) == 810_000
    assert sums.one(LOG_LOSS_SQUARE) == pytest.approx(5.301898 * MICRO, abs=1)
    assert sums.part(SCORES).sum() == 900_000
    # log(.9 / .1) = 2.197 log-odds: cell (2.197 + 16) x 16 = 291, label 0.
    assert np.argwhere(sums.ranked).tolist() == [[291, 0]]


def test_a_score_that_is_no_probability_counts_nowhere_and_a_sure_one_costs_a_finite_loss() -> None:
    score = np.array([np.nan, -0.1, 1.1, 1.0])
    (sums,) = scores_by_group(score, zeros(4), zeros(4), 1)
    assert sums.one(ROWS) == 1
    assert sums.one(LOG_LOSS) == pytest.approx(15.94 * MICRO, rel=1e-3)


def test_the_octave_of_an_error_by_hand() -> None:
    assert error_cell(np.array([0.5, 1.0, 3.0, 0.0, 1e-30, -1e30])).tolist() == [31, 32, 33, 0, 0, 63]
    assert error_tops()[[31, 32]].tolist() == [1.0, 2.0]


def test_errors_by_hand() -> None:
    (sums,) = errors_by_group(np.array([3.0, -1.0, np.nan, np.inf]), zeros(4), 1)
    table, share = sums.errors, 1 << 20
    assert table[33].tolist() == [1, 1.5 * share, 1.5 * share, 2.25 * share]
    assert table[32].tolist() == [1, share, -share, share]
    absolute, square = error_scale()
    read = table[:, 1] @ absolute, table[:, 2] @ absolute, table[:, 3] @ square
    assert [float(value) for value in read] == [4.0, 2.0, 10.0]


def test_classes_by_hand() -> None:
    cat, dog = class_code("cat"), class_code("dog")
    first, second = classes_by_group(np.array([cat, cat, dog]), np.array([cat, dog, dog]), np.array([0, 0, 1]), 2)
    # Rows that are both, that were predicted, that are true.
    assert first.classes == {cat: (1, 2, 1), dog: (0, 0, 1)}
    assert second.classes == {dog: (1, 1, 1)}


def test_a_weighted_row_counts_as_often_as_it_stands_for() -> None:
    (once,) = scores_by_group(np.array([0.9, 0.9]), zeros(2), zeros(2), 1)
    (weighted,) = scores_by_group(np.array([0.9]), zeros(1), zeros(1), 1, np.array([2.0]))
    assert weighted.one(ROWS) == 2
    assert weighted.one(LOG_LOSS) == pytest.approx(once.one(LOG_LOSS), abs=1)


def test_curves_are_left_out_and_the_rest_stays() -> None:
    sums = of((ROWS, 1), (SCORES.start, 2), (RANKED.stop - 1, 3), (RANKED.stop, 4), (4, 5))
    assert as_dict(sums.without_curves()) == {ROWS: 1, 4: 5, RANKED.stop: 4}


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1), st.integers(0, 2)), max_size=30), st.integers(0, 30))
def test_any_batches_give_the_same_sums(rows: list[tuple[float, int, int]], cut: int) -> None:
    score = np.array([score for score, _, _ in rows])
    positive, group = (np.array([row[k] for row in rows], np.int64) for k in (1, 2))
    whole = scores_by_group(score, positive, group, 3)
    parts = [scores_by_group(score[at], positive[at], group[at], 3) for at in (slice(cut), slice(cut, None))]
    for k in range(3):
        assert as_dict(parts[0][k] + parts[1][k]) == as_dict(whole[k])
    error = score - positive.astype(np.float64)
    errors = errors_by_group(error, group, 3)
    halves = [errors_by_group(error[at], group[at], 3) for at in (slice(cut), slice(cut, None))]
    assert [as_dict(a + b) for a, b in zip(*halves, strict=True)] == [as_dict(one) for one in errors]
