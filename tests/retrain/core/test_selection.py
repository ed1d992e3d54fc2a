"""Whom labels do not tell of, and how much the labelled rows weigh for them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.retrain.core.selection import (
    Selected,
    chosen_by_score,
    effective_rows,
    inverse_weights,
    select,
)
from tests.retrain.core.test_verdict import compared, judged, scores

N = 20_000


def payments(seed: int = 1, explored: float = 0.1) -> dict[str, Any]:
    """Return payments of which the riskiest fifth is blocked, but for an ``explored`` share, and then has no label."""
    rng = np.random.default_rng(seed)
    risk = rng.random(N)
    fraud = rng.random(N) < risk**3
    block = np.where(risk > 0.8, 1.0 - explored, 0.0)
    blocked = rng.random(N) < block
    return {
        "labelled": ~blocked,
        "ripe": np.ones(N, bool),
        "actions": np.where(blocked, "block", "approve"),
        "drawn": np.where(blocked, block, 1.0 - block),
        "scores": risk,
        "fraud": fraud,
    }


def found(**changes: Any) -> Selected:
    facts = payments() | changes
    del facts["fraud"]
    one = select(**facts)
    assert one is not None
    return one


def test_weights_give_back_what_holds_of_all():
    facts, one = payments(), found()
    told = facts["labelled"]
    every, among = facts["fraud"].mean(), facts["fraud"][told].mean()
    assert every - among > 0.08, "the labelled are not like all"
    assert np.average(facts["fraud"][told], weights=one.weights[told]) == pytest.approx(every, abs=0.02)
    assert one.weights[told].mean() == pytest.approx(1.0)
    selection = one.selection
    assert [shut.action for shut in selection.shut] == ["block"]
    assert (selection.unseen, selection.weighted, selection.clipped) == (0, int(told.sum()), 0)
    assert selection.effective == pytest.approx(effective_rows(one.weights[told]), abs=0.1)
    assert "0 of 3618 rows of 'block'" in selection.words()
    assert f"{selection.weighted} labelled rows weigh 1/assignment_prob and are worth" in selection.words()


@pytest.mark.parametrize("explored", [0.0, 0.004])
def test_nobody_stands_for_rows_that_had_no_chance_of_another_action(explored: float):
    """.004 is below one in the root of some 16 000 rows: one row would stand for 250."""
    facts = payments(explored=explored)
    del facts["fraud"]
    one = select(**facts)
    assert one is not None
    assert one.selection.unseen == int((facts["actions"] == "block").sum())
    assert "rows without a label have none that stands for them" in one.selection.words()


def test_nobody_stands_for_rows_whose_other_chance_was_an_action_that_is_shut_too():
    """Above .9 a coin blocks or holds, and neither is ever labelled: 1 - p is the chance of the other shut one."""
    rng = np.random.default_rng(0)
    scores = rng.random(N)
    high = scores > 0.9
    actions = np.where(high, np.where(rng.random(N) < 0.5, "block", "hold"), "approve").astype(str)
    one = select(actions == "approve", np.ones(N, bool), actions, np.where(high, 0.5, 1.0), scores)
    assert one is not None
    assert one.selection.unseen == high.sum()
    assert np.array_equal(one.unseen, high)


def test_two_open_actions_that_are_drawn_by_chance_would_stand_for_the_same_rows_twice():
    rng = np.random.default_rng(0)
    high = rng.random(N) < 0.2
    drawn = rng.random(N)
    risky = np.where(drawn < 0.5, "block", np.where(drawn < 0.75, "approve", "review"))
    actions = np.where(high, risky, "approve").astype(str)
    chance = np.where(high, np.where(actions == "block", 0.5, 0.25), 1.0)
    one = select(actions != "block", np.ones(N, bool), actions, chance, None)
    assert one is not None
    assert one.selection.weighted == 0
    assert (one.weights == 1.0).all()
    # A review of all that it meets takes nobody's place.
    sure = np.where(actions == "review", 1.0, chance)
    other = select(actions != "block", np.ones(N, bool), actions, sure, None)
    assert other is not None
    assert other.selection.weighted


def test_without_probabilities_nothing_is_weighed_and_it_is_said():
    few = payments()["drawn"].copy()
    few[::10] = np.nan
    for drawn in (np.full(N, np.nan), few):
        one = found(drawn=drawn)
        assert (one.weights == 1.0).all()
        assert one.selection.unseen == one.selection.shut[0].rows
        assert f"of {one.selection.unseen} rows nothing is known" in one.selection.words()
    few = payments()["drawn"].copy()
    few[::30] = np.nan
    assert found(drawn=few).selection.weighted


def test_only_what_is_ripe_and_since_the_change_says_whether_labels_are_selective():
    facts = payments()
    old = np.arange(N) < N // 2
    # Before the change nobody was blocked, and every row has its label.
    facts["actions"] = np.where(old, "approve", facts["actions"])
    facts["labelled"] = facts["labelled"] | old
    facts["drawn"] = np.where(old, np.nan, facts["drawn"])
    one = found(**facts | {"ripe": ~old})
    assert (one.weights[old] == 1.0).all()
    assert not one.unseen[old].any()
    assert one.selection.rows == N // 2
    assert select(**{**{k: v for k, v in facts.items() if k != "fraud"}, "ripe": old}) is None


def test_open_rows_that_are_labelled_by_score_stand_for_no_others():
    facts = payments()
    rng, open_rows = np.random.default_rng(3), facts["actions"] == "approve"
    for told in (open_rows & (rng.random(N) < 0.3), open_rows & (facts["scores"] > 0.3)):
        one = found(labelled=told)
        by_score = int(told[facts["scores"] < 0.2].sum()) == 0
        unlabelled = int((open_rows & ~told).sum())
        # Labelled by chance, the blocked alone could be unseen, and each has one that stands for it.
        assert one.selection.unseen == (unlabelled if by_score else 0)
        assert int(one.unseen.sum()) == one.selection.unseen


def test_labels_for_some_scores_without_an_action_leave_every_unlabelled_row_unseen():
    facts = payments()
    one = found(actions=np.full(N, ""), drawn=np.full(N, np.nan))
    assert one.selection.shut == ()
    assert one.selection.words().startswith("labels come for some scores rather than others")
    assert np.array_equal(one.unseen, ~facts["labelled"])
    rng = np.random.default_rng(3)
    assert not chosen_by_score(facts["scores"], rng.random(N) < 0.3)
    assert not chosen_by_score(facts["scores"], np.ones(N, bool))


def test_labels_that_stop_while_scores_move_are_no_selection():
    scores = np.linspace(0.0, 1.0, N) + np.random.default_rng(1).normal(0, 0.1, N)
    assert not chosen_by_score(scores, np.arange(N) < 0.55 * N)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=200))
def test_weights_are_of_mean_one_bounded_and_worth_no_more_than_their_number(drawn: list[float]):
    weights, bound, clipped = inverse_weights(np.array(drawn))
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() <= bound * weights.min() * (1 + 1e-9)
    assert clipped == sum(1.0 / p > bound for p in drawn)
    assert effective_rows(weights) <= len(drawn) * (1 + 1e-9)


def test_the_gate_weighs_rows_and_counts_what_they_are_worth():
    one = compared()
    even = judged(replace(one, weights=np.ones(4_000)))
    assert even == judged(one)
    # The challenger knows nothing of one row in twenty, which stands for ten.
    rare = np.random.default_rng(5).random(4_000) < 0.05
    blind = np.where(rare, 1.0 - one.challenger, scores(one.labels == 1.0, 3.0, np.random.default_rng(6)))
    weights = np.where(rare, 20.0, 1.0)
    pair = replace(one, challenger=blind, groups={})
    assert judged(pair).outcome is GateOutcome.PASS
    weighed = judged(replace(pair, weights=weights))
    assert weighed.outcome is GateOutcome.NO_EVIDENCE
    assert "may be worse overall" in weighed.reason
    heavy = np.where(np.arange(4_000) % 100 == 0, 1_000.0, 1.0)
    short = judged(replace(one, weights=heavy))
    assert short.outcome is GateOutcome.NO_EVIDENCE
    # 26 heavy rows of 2 667: (26 000 + 2 641)^2 / (26 * 10^6 + 2 641) = 31.5.
    assert "2667 held-out rows worth 32 equal ones after the change" in short.reason


def test_too_many_new_decisions_where_no_label_tells_are_no_evidence():
    selection = replace(found(drawn=np.full(N, np.nan)).selection, flipped=600)
    passed = judged(compared(selection=selection))
    assert passed.outcome is GateOutcome.PASS
    assert "rows of 'block'" in passed.reason
    assert passed.numbers["selection"]["unseen"] == selection.unseen
    held = judged(compared(selection=replace(selection, flipped=601)))
    assert held.outcome is GateOutcome.NO_EVIDENCE
    assert "601 of 20000 matured rows get another decision and never a label, at most 3% may" in held.reason
