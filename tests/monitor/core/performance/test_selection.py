"""Labels that an action keeps away: found by their numbers, and measures that weigh those which came for them."""

import math

import numpy as np
import pytest

from stationkeeper.monitor.core.performance import actions_without_labels, label_selection, measures
from stationkeeper.monitor.core.performance.measures import weighted_measures
from stationkeeper.monitor.core.reference import AssignedRows, assigned_by_group, drawn_by_group


def rows_of(drawn: np.ndarray, cell: np.ndarray, labelled: np.ndarray) -> AssignedRows:
    """All rows of one action drawn with these probabilities, of which some have a label."""
    known = drawn[labelled]
    every = drawn_by_group(drawn, np.zeros(len(drawn), np.int64), 1)[0]
    return AssignedRows.of(every + assigned_by_group(known, cell[labelled], np.zeros(len(known), np.int64), 1)[0])


def counted(rows: int, labelled: int, drawn: float = math.nan) -> AssignedRows:
    return rows_of(np.full(rows, drawn), np.full(rows, 3), np.arange(rows) < labelled)


def payments(n: int, seed: int, *, through: float = 0.05) -> tuple[dict[str, AssignedRows], np.ndarray]:
    """Of payments that a score calls fraud all but ``through`` are blocked and never labelled; the confusion of all.

    What is called fraud is fraud in six of ten, which the labels of those let through alone tell.
    """
    rng = np.random.default_rng(seed)
    called = rng.random(n) < 0.2
    truth = rng.random(n) < np.where(called, 0.6, 0.02)
    cell = np.select([called & truth, called & ~truth, ~called & truth], [0, 1, 2], 3)
    let = ~called | (rng.random(n) < through)
    drawn = np.where(let, np.where(called, through, 1.0), 1 - through)
    found = {
        "approve": rows_of(drawn[let], cell[let], np.ones(int(let.sum()), np.bool_)),
        "block": rows_of(drawn[~let], cell[~let], np.zeros(int((~let).sum()), np.bool_)),
    }
    return found, np.bincount(cell, minlength=4)


def test_an_action_whose_rows_get_no_label_is_shut():
    # 180 of the 200 were due; 18 would be merely few.
    found = actions_without_labels(
        {"approve": counted(1_000, 900), "block": counted(200, 3), "review": counted(200, 19)}
    )
    assert [(one.action, one.rows, one.labelled) for one in found] == [("block", 200, 3)]
    # Ten must be due before anything is said.
    assert not actions_without_labels({"approve": counted(1_000, 900), "block": counted(11, 0)})
    assert not actions_without_labels({"approve": counted(1_000, 0), "block": counted(1_000, 0)})
    assert label_selection({"approve": counted(1_000, 900)}, ()) is None


def test_two_open_actions_that_are_drawn_by_chance_would_stand_for_the_same_rows_twice():
    sure, all_of = np.full(8_000, 1.0), np.ones(500, np.bool_)
    approved = rows_of(np.append(sure, np.full(500, 0.25)), np.full(8_500, 3), np.ones(8_500, np.bool_))
    reviewed = rows_of(np.full(500, 0.25), np.full(500, 3), all_of)
    blocked = rows_of(np.full(1_000, 0.5), np.full(1_000, 3), np.zeros(1_000, np.bool_))
    found = label_selection({"approve": approved, "review": reviewed, "block": blocked}, ["block"])
    assert found is not None
    assert (found.weighted, found.unseen) == (0, 1_000)
    # A review of all that it meets takes nobody's place.
    certain = rows_of(np.full(500, 1.0), np.full(500, 3), all_of)
    other = label_selection({"approve": approved, "review": certain, "block": blocked}, ["block"])
    assert other is not None
    assert other.weighted == 9_000


def test_weights_and_shares_as_by_hand():
    found = weighted_measures(
        np.array([8, 2, 10, 90]), np.array([32.0, 8.0, 10.0, 90.0]), np.array([128.0, 32.0, 10.0, 90.0])
    )
    assert found["precision"].value == pytest.approx(0.8)
    assert found["recall"].value == pytest.approx(32 / 42)
    assert found["accuracy"].value == pytest.approx(122 / 140)
    assert found["f1"].value == pytest.approx(64 / 82)
    assert found["precision"].low < 0.8 < found["precision"].high


def test_equal_weights_change_no_value_and_no_interval_is_narrower():
    cells = np.array([40, 10, 20, 130])
    plain, weighed = measures(cells), weighted_measures(cells, cells * 3.0, cells * 9.0)
    for name, one in plain.items():
        assert weighed[name].value == pytest.approx(one.value)
        assert weighed[name].low <= one.low + 1e-9 <= one.high <= weighed[name].high + 1e-9


def test_what_was_let_through_stands_for_what_was_blocked():
    covered, alone = 0, []
    for seed in range(20):
        actions, everything = payments(8_000, seed)
        found = label_selection(actions, {one.action for one in actions_without_labels(actions)})
        assert found is not None
        assert found.known
        truth = measures(everything)["recall"].value
        covered += found.measures["recall"].low <= truth <= found.measures["recall"].high
        labelled = measures(actions["approve"].labelled.sum(0))["recall"]
        alone.append(labelled.low <= truth <= labelled.high)
        assert found.measures["recall"].value == pytest.approx(truth, abs=0.12)
    assert covered == 20
    # Without weights the frauds that were blocked count as if there were none.
    assert not any(alone)


def test_no_probability_corrects_nothing_and_says_so():
    found = label_selection({"approve": counted(900, 900), "block": counted(100, 0)}, {"block"})
    assert found is not None
    assert (found.weighted, found.unseen, dict(found.measures)) == (0, 100, {})
    assert not found.known
    assert "no assignment_prob" in found.words()
    assert "0 of 100 rows of 'block'" in found.words()


@pytest.mark.parametrize(("lacking", "weighted"), [(50, 1_000), (60, 0)])
def test_few_labelled_rows_may_lack_their_probability(lacking: int, weighted: int) -> None:
    drawn = np.where(np.arange(1_000) < lacking, np.nan, 0.9)
    actions = {"approve": rows_of(drawn, np.full(1_000, 3), np.ones(1_000, np.bool_)), "block": counted(300, 0, 0.9)}
    found = label_selection(actions, {"block"})
    assert found is not None
    assert found.weighted == weighted


def test_rows_that_were_sure_to_be_blocked_have_none_that_stands_for_them():
    actions, _ = payments(8_000, 1)
    drawn = np.append(np.full(1_000, 0.95), np.full(400, 1.0))
    actions["block"] = rows_of(drawn, np.full(1_400, 3), np.zeros(1_400, np.bool_))
    found = label_selection(actions, {"block"})
    assert found is not None
    assert found.unseen == 400
    assert not found.known
    assert "for 400 rows without a label none stands" in found.words()


def test_of_several_actions_without_labels_nobody_stands_for_the_rows():
    actions, _ = payments(8_000, 1)
    found = label_selection({**actions, "deny": counted(300, 0, 0.5)}, {"block", "deny"})
    assert found is not None
    assert found.unseen == int(actions["block"].rows.sum()) + 300
    assert not found.known


def test_a_few_reviewed_in_full_do_not_shut_a_stream():
    assert not actions_without_labels({"approve": counted(9_000, 800), "review": counted(50, 50)})


def test_rows_of_an_open_action_that_are_chosen_by_score_stand_for_nobody():
    rng = np.random.default_rng(0)
    n = 40_000
    score, block = rng.random(n), 0.95
    truth = rng.random(n) < 0.6 * score**2
    blocked = (score > 0.5) & (rng.random(n) < block)
    drawn = np.where(score > 0.5, np.where(blocked, block, 1 - block), 1.0)
    cell = np.select([(score > 0.5) & truth, (score > 0.5) & ~truth, truth], [0, 1, 2], 3)
    for labelled, known in ((score > 0.3, False), (np.ones(n, np.bool_), True)):
        chosen = labelled & (known | (rng.random(n) < 0.1))
        actions = {
            "approve": rows_of(drawn[~blocked], cell[~blocked], chosen[~blocked]),
            "block": rows_of(drawn[blocked], cell[blocked], np.zeros(int(blocked.sum()), np.bool_)),
        }
        found = label_selection(actions, {"block"})
        assert found is not None
        assert found.weighted > 0
        assert (found.known, found.followed) == (known, known)
        assert ("rows of the others have one" in found.words()) is not known


def test_a_weight_is_cut_at_the_root_of_the_rows():
    drawn = np.where(np.arange(100) < 1, 1 / 64, 1.0)
    cells = np.where(np.arange(100) < 1, 0, 3)
    actions = {"approve": rows_of(drawn, cells, np.ones(100, np.bool_)), "block": counted(60, 0, 1 - 1 / 64)}
    found = label_selection(actions, {"block"})
    assert found is not None
    assert found.clipped == 1
    # One row of weight 10 beside 99 of 1: (109)^2 / (100 + 99) equal ones.
    assert found.effective == pytest.approx(109**2 / 199)
    assert found.measures["positive_rate"].value == pytest.approx(10 / 109)
