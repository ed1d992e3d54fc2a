"""What a reference says of a subject: its rows by season, and the names of its cells."""

from dataclasses import replace

import numpy as np

from stationkeeper.monitor.core.reference import Labels, dump, in_season, load, rank_grid
from tests.monitor.core.streams import bank, reference_of

AGE = reference_of(bank(1_000)).by_name["age"]
METHOD = reference_of(bank(1_000)).by_name["method"]


def test_hours_are_mixed_as_the_traffic_came_from_them_by_hand() -> None:
    subject = replace(METHOD, name="seasonal", strata=np.array([[8, 2], [2, 8]]))
    lonely = replace(METHOD, name="lonely", strata=np.array([[9, 1, 0], [1, 0, 0]]))
    # The second one by hand: 1 / (1 / 40 + 1 / 4) rows of .95, .05 and 0. One without hours stays.
    mixed = in_season([subject, METHOD, lonely], np.array([5, 5]))
    assert [one.counts.tolist() for one in (mixed[0], mixed[2])] == [[10, 10], [3, 0, 0]]
    assert mixed[1] is METHOD
    # All of it from the first hour: that hour as it was counted.
    assert in_season([subject], np.array([7, 0]))[0].counts.tolist() == [8, 2]
    for rows in ([0, 0], [5, 5, 5]):
        assert in_season([subject], np.array(rows))[0] is subject


def test_missing_is_a_coarse_cell_of_its_own() -> None:
    assert np.count_nonzero(AGE.grid == AGE.grid[-1]) == 1
    assert AGE.cell_name(AGE.cells.count - 1) == "missing"


def test_coarse_cells_follow_the_counts_of_a_changed_subject_and_are_those_of_a_reference_read() -> None:
    moved = replace(AGE, counts=np.append(AGE.counts[:-1][::-1] ** 2, AGE.counts[-1]))
    alone = rank_grid(moved.counts[:-1])
    assert moved.grid.tolist() == [*alone, alone[-1] + 1] != AGE.grid.tolist()
    read = load(dump(reference_of(bank(1_000)))).by_name
    assert read["age"].grid.tolist() == AGE.grid.tolist()
    assert read["method"].grid.tolist() == METHOD.grid.tolist() == list(range(METHOD.cells.count))


def test_cells_are_named_as_a_person_reads_them() -> None:
    assert METHOD.cell_name(0) == "'card'"
    assert METHOD.cell_name(len(METHOD.counts) - 2).startswith("other values (bucket ")
    assert AGE.cell_name(0).startswith("in (-inf, ")


def test_shares_of_labels_by_hand() -> None:
    labels = Labels(np.zeros((32, 2), np.int64), np.array([3, 1, 2, 14]))
    assert (labels.rows, labels.positives, labels.error_rate, labels.numeric) == (20, 0.25, 0.15, False)
