"""The controller's memory lies in the rollout record, comes back equal, and outlives a rollout only in part."""

import pytest

from stationkeeper.deploy.core.state import HANDLED_KEPT, Controller, StepLog, memory, remember
from tests.deploy.core.ramp import candidate, first


def test_what_is_remembered_comes_back():
    state = Controller(clock=7, steps=(StepLog(weight_bp=100, started=1),), wealth={"errors": (0.5, 1.5)})
    assert memory(remember(first(), state)) == state
    assert memory(first()) == Controller()


@pytest.mark.parametrize(("start", "step"), [(9, None), (10, 0), (19, 0), (20, None), (30, 1), (10_000, 1)])
def test_a_minute_belongs_to_the_step_whose_settled_span_holds_it(start, step):
    steps = (
        StepLog(weight_bp=100, started=5, settled=10, ended=20),
        StepLog(weight_bp=500, started=20, settled=30),
        StepLog(weight_bp=900, started=40),
    )
    assert Controller(steps=steps).step_at(start) == step


def test_only_the_last_step_changes():
    state = Controller(steps=(StepLog(weight_bp=1, started=0), StepLog(weight_bp=2, started=1)))
    assert [one.ended for one in state.with_step(ended=9).steps] == [None, 9]


def test_the_newest_handled_candidates_are_kept():
    state = Controller()
    for index in range(HANDLED_KEPT + 1):
        state = state.handling(f"cand-{index}")
    assert len(state.handled) == HANDLED_KEPT
    assert (state.handled[0], state.handled[-1]) == ("cand-1", f"cand-{HANDLED_KEPT}")


def test_evidence_ends_with_its_rollout_and_the_queue_does_not():
    state = Controller(wealth={"errors": (2.0,)}, labels_b=3, after=candidate(), promotions=2, incidents=("inc",))
    kept = state.for_next()
    assert (kept.wealth, kept.labels_b) == ({}, 0)
    assert (kept.after, kept.promotions, kept.incidents) == (candidate(), 2, ("inc",))


def test_a_record_of_another_version_is_read_without_the_fields_that_only_it_knows():
    """``middle`` was kept until the ratio of a scatter was; a controller that was put back reads what a newer wrote."""
    written = {"clock": 7, "middle": {"rows_a": 3}, "spread": {"errors": {"blocks": 2, "squares": 1.5, "of_later": 1}}}
    state = memory(first().model_copy(update={"controller": written}))
    assert (state.clock, state.split, state.spread["errors"].blocks) == (7, None, 2)
