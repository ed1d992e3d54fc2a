"""What was done upon answers, as sums: by octave of the probability and cell of the confusion, in any order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.reference import (
    CHANCE_OCTAVES,
    AssignedRows,
    OutcomeSums,
    added_actions,
    assigned_by_group,
    drawn_by_group,
)

chances = st.one_of(st.just(float("nan")), st.floats(1e-6, 1.0), st.just(1.0))


def test_rows_lie_in_the_octave_of_their_probability_and_weigh_one_over_it():
    (sums,) = assigned_by_group(np.array([0.5, 0.5, 0.05, np.nan]), np.array([3, 3, 0, 2]), np.zeros(4, np.int64), 1)
    found = AssignedRows.of(sums)
    assert (found.labelled[1, 3], found.inverse[1, 3]) == (2, 4.0)
    assert (found.labelled[4, 0], found.inverse[4, 0]) == (1, 20.0)
    assert (found.labelled[CHANCE_OCTAVES, 2], found.inverse[CHANCE_OCTAVES, 2]) == (1, 0.0)
    assert found.labelled.sum() == 4


def test_all_rows_lie_in_the_octave_of_the_chance_of_any_other_action():
    (sums,) = drawn_by_group(np.array([0.5, 0.9, 1.0, np.nan]), np.zeros(4, np.int64), 1)
    found = AssignedRows.of(sums)
    assert found.rows.nonzero()[0].tolist() == [1, 3, CHANCE_OCTAVES]
    assert found.rows[CHANCE_OCTAVES] == 2
    assert not found.labelled.any()


@given(st.lists(st.tuples(chances, st.integers(0, 3), st.booleans()), min_size=1, max_size=30))
def test_sums_do_not_depend_on_batches_or_order(rows: list[tuple[float, int, bool]]) -> None:
    def packed(part: list[tuple[float, int, bool]]) -> dict[str, bytes]:
        if not part:
            return {}
        drawn, cell = np.array([row[0] for row in part]), np.array([row[1] for row in part])
        nothing = np.zeros(len(part), np.int64)
        both = assigned_by_group(drawn, cell, nothing, 1)[0] + drawn_by_group(drawn, nothing, 1)[0]
        return {"block": both.pack()}

    first, second = ([row for row in rows if row[2] is which] for which in (True, False))
    assert added_actions(packed(first), packed(second)) == packed(rows) == packed(rows[::-1])


def test_actions_of_either_side_stay():
    one, other = {"b": OutcomeSums(np.array([0]), np.array([2])).pack()}, {"a": b""}
    assert list(added_actions(one, other)) == ["a", "b"]
    assert added_actions(one, {}) == one
