import numpy as np

from stationkeeper.monitor.core.detect.fixed_reference import GROUPS, Grouping, subject_cells


def test_groups_have_about_equal_mass_and_missing_is_last():
    grouping = Grouping(np.full((1, 200), 5), np.array([7]))
    np.testing.assert_array_equal(grouping.reference.counts, [[50.0] * GROUPS + [7.0]])
    pane = np.zeros((1, 200), np.int64)
    pane[0, [0, 9, 10, 199]] = 1
    assert grouping.counts(pane, np.array([3]))[0].tolist() == [2, 1, *[0] * 17, 1, 3]


def test_a_heavy_atom_keeps_a_group_of_its_own():
    fine = np.array([[10, 10, 60, 10, 10]])
    used = Grouping(fine, np.array([0])).reference.counts
    assert sorted(used[0][used[0] > 0].tolist()) == [10, 10, 10, 10, 60]


def test_categories_are_bet_on_as_they_are():
    reference, groups = subject_cells("categorical", np.array([5, 3, 0]), np.array([[1, 0, 2]]))
    assert reference.counts.tolist() == [[5, 3, 0]]
    assert not reference.ordered.any()
    assert groups.tolist() == [[1, 0, 2]]
