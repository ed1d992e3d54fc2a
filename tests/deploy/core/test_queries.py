"""Guardrails of the team's own Prometheus: what an answer says, what acts, and that no answer is no success."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.core.moves import Phase
from stationkeeper.deploy.core.policy import Action, Policy, QueryPolicy
from stationkeeper.deploy.core.promotion import risks
from stationkeeper.deploy.core.queries import QueryAnswer, failing, noted, outcome, resumed, unanswered
from stationkeeper.deploy.core.reasons import Reason
from stationkeeper.deploy.core.rollout import answered, compared
from stationkeeper.deploy.core.state import memory, remember
from stationkeeper.deploy.settings import QuerySettings, RolloutSettings
from tests.deploy.core.ramp import MINUTE, SETTINGS, drive, started

GOOD, BAD, NONE, AWAY = QueryAnswer(0.001), QueryAnswer(0.5), QueryAnswer(None), QueryAnswer(None, "Prometheus is away")


def policy(action: str = "roll_back", failures: int = 3) -> Policy:
    asked = QuerySettings(url="http://p:9090", query="up", at_most=0.01, action=Action(action), failures=failures)
    return SETTINGS.model_copy(update={"queries": {"checkouts": asked}}).policy()


def play(rules: Policy, answers: list[QueryAnswer], first: int = 1) -> tuple[Rollout, list[str]]:
    """Play minutes of an equal canary, after each of which one of the answers comes."""
    rollout, told, rng = started(rules), list[str](), np.random.default_rng(0)
    for index, answer in enumerate(answers, first):
        if rollout.phase is Phase.PROBATION:
            break
        records, audits = drive(rollout, rules, [index], rng=rng)
        rollout = records[-1]
        if compared(rollout):
            moved = answered(rollout, rules, {"checkouts": answer})
            rollout, audits = moved.rollout, [*audits, *moved.deployments]
        told += [one.evidence["code"] for one in audits]
    return rollout, told


@pytest.mark.parametrize(("answer", "said"), [
    (QueryAnswer(0.01), "Successful"), (QueryAnswer(0.0101), "Failed"), (QueryAnswer(math.inf), "Failed"),
    (QueryAnswer(math.nan), "Inconclusive"), (NONE, "Inconclusive"), (AWAY, "Error"),
])  # fmt: skip
def test_an_answer_is_one_of_four(answer, said):
    assert outcome(answer, QueryPolicy(Action.HOLD, 1, at_most=0.01)) == said


def test_both_bounds_hold_and_are_said():
    both = QueryPolicy(Action.HOLD, 1, at_most=2.0, at_least=1.0)
    assert [outcome(QueryAnswer(one), both).value for one in (0.9, 1.0, 2.1)] == ["Failed", "Successful", "Failed"]
    assert both.words() == "at least 1 and at most 2"


def test_as_many_failures_in_a_row_as_are_too_many_roll_back_at_once_and_fewer_do_not():
    rollout, told = play(policy(), [GOOD, BAD, BAD, GOOD, BAD, BAD])
    assert rollout.canary == "2"
    assert Reason.QUERY_FAILED not in told
    # An answer that is none neither adds to the row nor ends it.
    rollout, told = play(policy(), [GOOD, BAD, BAD, AWAY, NONE, BAD])
    assert (rollout.canary, told[-1]) == (None, Reason.QUERY_FAILED)
    assert rollout.reason == "query checkouts: 0.5 where at most 0.01 is wanted, 3 times in a row"


def test_an_answer_that_is_given_again_is_no_second_failure():
    def come(*turns: tuple[str, int]) -> int:
        rollout, rules = started(policy(failures=99)), policy(failures=99)
        for asker, turn in turns:
            rollout = answered(rollout, rules, {"checkouts": replace(BAD, asker=asker, turn=turn)}).rollout
        return memory(rollout).asked["checkouts"].failed

    assert come(("a", 1), ("a", 2)) == 2
    assert come(("a", 1), ("a", 2), ("a", 1), ("a", 2)) == 2
    # Another process counts its own, from one.
    assert come(("a", 1), ("a", 2), ("b", 1)) == 3


def test_a_query_that_holds_holds_until_it_is_successful_again():
    rollout, told = play(policy("hold", 1), [GOOD, GOOD, BAD, BAD, BAD])
    assert (rollout.phase, told[-1]) == (Phase.HOLD, Reason.QUERY_FAILED)
    rollout, told = play(policy("hold", 1), [GOOD, GOOD, BAD, BAD, GOOD, GOOD, GOOD])
    assert (rollout.phase, told[-1]) == (Phase.CANARY, Reason.RESUMED)


@pytest.mark.parametrize("then", [[NONE] * 6, [AWAY] * 6, [AWAY] * 6 + [BAD], [AWAY] * 2 + [BAD] + [NONE] * 6])
def test_what_a_query_holds_goes_on_by_an_answer_and_not_because_none_came(then: list[QueryAnswer]):
    rules = replace(policy("hold", 2), max_ms=10_000 * MINUTE)
    rollout, told = play(rules, [GOOD, GOOD, BAD, BAD, *then])
    assert (rollout.phase, told[-1], told.count(Reason.QUERY_FAILED)) == (Phase.HOLD, Reason.QUERY_FAILED, 1)
    # Nor does a process that takes over from the record, which counts no failure of before.
    again = remember(rollout, resumed(memory(rollout)))
    records, audits = drive(again, rules, range(20, 40), rng=np.random.default_rng(5))
    assert (records[-1].phase, audits) == (Phase.HOLD, [])
    assert records[-1].reason.startswith("query checkouts said")
    good = answered(records[-1], rules, {"checkouts": GOOD}).rollout
    records, audits = drive(good, rules, [40], rng=np.random.default_rng(6))
    assert (records[-1].phase, [one.evidence["code"] for one in audits]) == (Phase.CANARY, [Reason.RESUMED])
    # The same where the query is asked no more, or does no more than inform.
    for fewer in (replace(rules, queries={}), replace(rules, queries=policy("inform").queries)):
        assert drive(again, fewer, [20], rng=np.random.default_rng(7))[0][-1].phase is Phase.CANARY


def test_what_a_query_holds_is_not_let_go_by_the_end_of_something_else_that_holds():
    rules = policy("hold", 1)
    rollout, _ = play(rules, [GOOD, GOOD, BAD, BAD, *[AWAY] * 5])
    broken = remember(rollout, memory(rollout).model_copy(update={"incidents": ("inc-1",)}))
    records, _ = drive(broken, rules, [10, 11], rng=np.random.default_rng(5))
    cured = remember(records[-1], memory(records[-1]).model_copy(update={"incidents": ()}))
    records, _ = drive(cured, rules, [12, 13], rng=np.random.default_rng(6))
    assert records[-1].phase is Phase.HOLD


@pytest.mark.parametrize("none", [NONE, AWAY, None])
def test_no_number_is_no_success_the_weight_stays_and_the_deadline_decides(none):
    rules = policy()
    if none is None:
        records, audits = drive(started(rules), rules, range(1, 300), rng=np.random.default_rng(0))
        told = [one.evidence["code"] for one in audits]
        waited = records[100]
    else:
        _, told = play(rules, [none] * 300)
        waited, _ = play(rules, [none] * 60)
    assert waited.weight_bp == 100
    assert waited.reason.startswith("query checkouts said")
    assert told[-1] == Reason.TIMEOUT
    assert Reason.STEP_PASSED not in told
    assert any("query checkouts" in risk for risk in risks(memory(waited), rules))


def test_a_success_of_the_step_before_says_nothing_of_the_present_weight():
    rules = policy()
    rollout, _ = play(rules, [GOOD] * 7)
    assert rollout.weight_bp == 500
    records, _ = drive(rollout, rules, range(9, 60), rng=np.random.default_rng(1))
    assert records[-1].weight_bp == 500
    assert "said nothing yet" in records[-1].reason


def test_minutes_of_a_backlog_take_no_step_and_promote_nobody_by_the_answer_before_it():
    rules = replace(policy(), step_ms=20 * MINUTE)
    rollout, _ = play(rules, [GOOD] * 8)
    records, audits = drive(rollout, rules, range(9, 60), rng=np.random.default_rng(1))
    assert audits == []
    assert (records[0].weight_bp, records[-1].weight_bp) == (100, 100)
    assert "query checkouts said nothing yet" in records[-1].reason
    # Where minutes close far apart, an answer between each two is a fresh one.
    rollout, _ = play(rules, [GOOD] * 8)
    for index in range(9, 60, 10):
        rollout = answered(rollout, rules, {"checkouts": GOOD}).rollout
        rollout = drive(rollout, rules, [index], rng=np.random.default_rng(2))[0][-1]
    assert rollout.weight_bp > 100


def test_failures_of_before_a_pause_stand_in_no_row_with_one_after_it():
    rules = policy(failures=3)
    rollout, _ = play(rules, [BAD, BAD])
    away = resumed(memory(rollout))
    assert noted(away, rules, {"checkouts": BAD}).asked["checkouts"].failed == 1
    assert noted(memory(rollout), rules, {"checkouts": BAD}).asked["checkouts"].failed == 3
    # Nor do they act by themselves under a policy that takes fewer.
    strict = policy(failures=1)
    assert [action for action, _ in failing(memory(rollout), strict)] == ["roll_back"]
    assert list(failing(away, strict)) == []


def test_failures_add_up_while_a_backlog_closes_minutes_between_two_answers():
    rules = replace(policy(failures=3), step_ms=200 * MINUTE)
    rollout, _ = play(rules, [GOOD] * 8)
    for index in range(9, 29, 10):
        rollout = answered(rollout, rules, {"checkouts": BAD}).rollout
        records, audits = drive(rollout, rules, range(index, index + 10), rng=np.random.default_rng(3))
        rollout = records[-1]
        assert audits == []
    moved = answered(rollout, rules, {"checkouts": BAD})
    assert (moved.rollout.phase, moved.deployments[0].evidence["code"]) == (Phase.STEADY, "query_failed")


def test_a_query_that_holds_keeps_the_canary_held_while_a_backlog_closes_minutes_between_two_answers():
    rules = replace(policy("hold", failures=3), step_ms=200 * MINUTE)
    rollout, _ = play(rules, [GOOD] * 8)
    told = []
    for index in range(9, 109, 10):
        rollout = answered(rollout, rules, {"checkouts": BAD}).rollout
        records, audits = drive(rollout, rules, range(index, index + 10), rng=np.random.default_rng(4))
        rollout = records[-1]
        told += [one.action.value for one in audits]
    assert (rollout.phase, told) == (Phase.HOLD, ["held"])


@pytest.mark.parametrize("nothing", [NONE, AWAY])
def test_a_row_of_failures_ends_where_nothing_was_measured_for_long(nothing: QueryAnswer):
    rules = policy(failures=3)
    rollout, _ = play(rules, [BAD, BAD])
    state = memory(rollout)
    for _ in range(3):
        state = noted(state, rules, {"checkouts": nothing})
    assert noted(state, rules, {"checkouts": BAD}).asked["checkouts"].failed == 3
    state = noted(state, rules, {"checkouts": nothing})
    assert noted(state, rules, {"checkouts": BAD}).asked["checkouts"].failed == 1


def test_an_answer_is_to_the_query_that_was_asked_and_not_to_the_next_of_its_name():
    before, after = policy("inform"), policy("roll_back")
    rollout, _ = play(before, [BAD] * 8)
    records, audits = drive(rollout, after, [9], rng=np.random.default_rng(1))
    assert audits == []
    state = memory(records[-1])
    written: dict[str, Any] = {"url": "http://p", "query": "up", "at_most": 1.0}

    def rules(**change: Any) -> Policy:
        asked = QuerySettings.model_validate({**written, **change})
        return SETTINGS.model_copy(update={"queries": {"q": asked}}).policy()

    old = rules()
    held = noted(state, old, {"q": GOOD})
    assert unanswered(held, old) is None
    for change in ({"url": "http://q:9090"}, {"query": "down"}, {"at_most": 0.1}, {"at_least": 0.0}):
        assert unanswered(held, rules(**change)) is not None
    # Nor does an answer of a build that kept none of this say anything; a password is no part of it.
    bare = held.model_copy(update={"asked": {"q": held.asked["q"].model_copy(update={"asks": ""})}})
    assert unanswered(bare, old) is not None
    assert rules(url="http://me:secret@p") == old


def test_with_good_answers_an_equal_canary_is_promoted_and_the_queries_go_on_on_probation():
    rules = policy()
    rollout, _ = play(rules, [GOOD] * 45)
    assert (rollout.champion, rollout.phase) == ("2", Phase.PROBATION)
    assert compared(rollout) == ("1", "2")
    told: list[str] = []
    for _ in range(3):
        assert compared(rollout) == ("1", "2")
        moved = answered(rollout, rules, {"checkouts": BAD})
        rollout, told = moved.rollout, [*told, *(one.evidence["code"] for one in moved.deployments)]
    assert (rollout.champion, told) == ("1", [Reason.QUERY_FAILED])


def test_a_query_that_informs_moves_nothing():
    rollout, _ = play(policy("inform", 1), [BAD] * 45)
    assert rollout.champion == "2"
    assert memory(play(policy("inform", 1), [BAD] * 5)[0]).asked["checkouts"].failed == 5


def test_a_query_that_left_the_policy_is_left_out():
    rules = policy()
    moved = answered(started(rules), rules, {"gone": BAD})
    assert memory(moved.rollout).asked == {}


@pytest.mark.parametrize(("given", "says"), [
    ({"at_most": 1}, "url: is no address"), ({"url": "http://p"}, "write at_most: or at_least:"),
    ({"url": "http://p", "at_most": 1, "at_least": 2}, "no answer is within"),
])  # fmt: skip
def test_a_query_that_could_say_nothing_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        RolloutSettings.model_validate({"queries": {"q": {"url": "prometheus:9090", "query": "up", **given}}})
