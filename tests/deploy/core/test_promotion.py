"""A promotion needs evidence: no data, few rows and the gate of another model promote and confirm nothing."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import Deployment, GateOutcome
from stationkeeper.deploy.core.admission import decide, note_proven, offer
from stationkeeper.deploy.core.comparison import CONFIRM, WRONG, calm
from stationkeeper.deploy.core.policy import TimeoutAction
from stationkeeper.deploy.core.promotion import confirmation, promote_limit, risks, wanted, why_labels
from stationkeeper.deploy.core.rollout import close_minute, tick
from stationkeeper.deploy.core.state import Controller, Pool, memory
from stationkeeper.deploy.settings import RolloutSettings
from tests.deploy.core.ramp import (
    MINUTE,
    NO_LATENCY,
    POLICY,
    SETTINGS,
    Phase,
    candidate,
    drive,
    first,
    minute,
    outcomes,
    started,
    word,
)

SHIPPED = RolloutSettings(guardrails=NO_LATENCY).policy()
RARE = 0.005
JUDGED = Controller(gate="pass", proven=True)


def codes(audits: list[Deployment]) -> list[str]:
    return [one.evidence["code"] for one in audits]


def test_a_promotion_has_to_show_every_acting_guardrail_and_the_least_shown_is_named():
    assert [proof.name for proof in wanted(JUDGED, POLICY)] == ["errors", "decisions"]
    shown = JUDGED.model_copy(update={"wealth": {calm("errors"): (9.0,) * 6, calm("decisions"): (2.0,) * 6}})
    least = wanted(shown, POLICY)[0]
    assert (least.name, least.margin) == ("decisions", 10.0)
    assert least.log_e == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (JUDGED, ""),
        (Controller(gate="pass"), "no target shows that it serves the model that the gate scored"),
        (Controller(gate="no_evidence", proven=True), "the gate had no evidence"),
    ],
)
def test_the_gate_counts_for_labels_only_where_serving_is_proven(state, why):
    assert why_labels(state, POLICY) == why
    assert (WRONG in {proof.name for proof in wanted(state, POLICY)}) is bool(why)
    assert why_labels(JUDGED, replace(POLICY, promote_on_labels=True)) == "promote_on is labels"


def test_a_canary_twice_as_bad_is_not_promoted_for_lack_of_traffic():
    """20 requests a minute, base .8 %: on rows alone the old rule promoted nearly nine of ten in three hours."""
    rng = np.random.default_rng(1)
    for _ in range(8):
        records, audits = drive(
            offer(first(), candidate(), SHIPPED, MINUTE).rollout, SHIPPED, range(1, 600), rng=rng, rows=20,
            base=0.008, bad=0.016,
        )  # fmt: skip
        assert "noninferior" not in codes(audits)
        assert records[-1].champion == "1"


def test_slow_traffic_is_given_time_and_an_equal_canary_is_promoted_with_its_numbers():
    proven = note_proven(offer(first(), candidate(), SHIPPED, MINUTE).rollout, "2")
    records, audits = drive(
        proven, SHIPPED, range(1, 2_000), rng=np.random.default_rng(2), rows=200, base=0.005, bad=0.005
    )
    promoted = next(one for one in audits if one.action.value == "promoted")
    assert promoted.evidence["code"] == "noninferior"
    assert promoted.evidence["e"] >= promoted.evidence["limit"] == pytest.approx(20.0)
    assert promoted.evidence["guardrails"] == "decisions, errors"
    waiting = next(one.reason for one in records if "twice as bad" in one.reason)
    assert waiting.startswith("errors: E = ")


def test_arms_that_never_fail_are_told_by_the_floor():
    """After 4 100 canary rows without a failure the canary is promoted, and not before."""
    records, audits = drive(started(), POLICY, range(1, 60), rng=np.random.default_rng(3))
    promoted = next(one for one in audits if one.action.value == "promoted")
    # A few more count as evidence: those that came before a step's weight was seen.
    assert 3_900 <= promoted.evidence["rows"] <= 4_100 + 500
    assert records[-1].champion == "2"


def test_a_person_promotes_before_the_evidence_and_the_risk_is_written_down():
    records, _ = drive(started(), POLICY, range(1, 4), rng=np.random.default_rng(4), base=0.01, bad=0.01)
    assert risks(memory(records[-1]), POLICY)[0].startswith("errors: a canary twice as bad would pass in ")
    done = decide(records[-1], word("promote", records[-1]), POLICY, 5 * MINUTE)
    assert (done.rollout.champion, done.rollout.phase) == ("2", Phase.PROBATION)
    assert codes(list(done.deployments)) == ["risk_accepted"]
    assert "ana promotes before the evidence and accepts the risk: errors: " in done.deployments[0].reason
    steady = decide(first(), word("promote", started()), POLICY, 5 * MINUTE)
    assert (steady.rollout.champion, codes(list(steady.deployments))) == ("1", ["unknown_rollout"])


LABELLED = SETTINGS.policy(labels_expected=True)


def on_probation():
    records, _ = drive(started(LABELLED), LABELLED, range(1, 60), rng=np.random.default_rng(5))
    rollout = next(one for one in records if one.phase is Phase.PROBATION)
    return rollout, memory(rollout).clock // MINUTE


def labelled_minute(rollout, index, wrong_b: int):
    start = memory(rollout).steps[-1].settled
    assert start is not None
    known = (
        outcomes("1", start, tp=50, fp=2, tn=48),
        outcomes("2", start, tp=50, fp=wrong_b, tn=50 - wrong_b),
    )
    return minute(index, {"2": (1_000, 0)}, known)


def test_without_labels_nothing_is_confirmed_and_the_deadline_brings_the_old_champion_back():
    rollout, at = on_probation()
    day = 24 * 60
    for index in range(at, at + day):
        rollout = close_minute(rollout, minute(index, {"2": (1_000, 0)}), LABELLED).rollout
    assert rollout.phase is Phase.PROBATION
    assert rollout.reason.startswith("0 canary labels: E = 1 of 20")
    late = tick(rollout, LABELLED, memory(rollout).promoted + LABELLED.probation_max_ms)
    assert (late.rollout.champion, late.rollout.phase) == ("1", Phase.STEADY)
    assert codes(list(late.deployments)) == ["probation_timeout"]
    held = replace(LABELLED, on_timeout=TimeoutAction.HOLD)
    late = tick(rollout, held, memory(rollout).promoted + held.probation_max_ms)
    assert (late.rollout.champion, late.rollout.phase) == ("2", Phase.PROBATION)
    again = tick(late.rollout, held, memory(rollout).promoted + held.probation_max_ms + MINUTE)
    assert (codes(list(late.deployments)), again.deployments) == (["probation_timeout"], ())


def test_ripe_labels_confirm_an_equal_champion_and_take_back_one_that_is_wrong_in_half():
    for wrong, code in ((2, "confirmed_by_labels"), (50, "harm")):
        rollout, at = on_probation()
        audits: list[Deployment] = []
        for index in range(at, at + 120):
            move = close_minute(rollout, labelled_minute(rollout, index, wrong), LABELLED)
            rollout, audits = move.rollout, [*audits, *move.deployments]
            if rollout.phase is Phase.STEADY:
                break
        assert codes(audits) == [code]
        assert rollout.champion == ("2" if wrong == 2 else "1")


def test_a_confirmation_wants_labels_only_where_they_are_expected():
    assert confirmation(JUDGED, POLICY) is None
    lacking = confirmation(JUDGED.model_copy(update={"sums": {WRONG: Pool(rows_a=9, rows_b=9)}}), LABELLED)
    assert lacking is not None
    assert (lacking.margin, lacking.as_good) == (LABELLED.probation_margin, 1.0)
    shown = JUDGED.model_copy(update={"wealth": {CONFIRM: (promote_limit(LABELLED) + 0.1,) * 6}})
    assert confirmation(shown, LABELLED) is None


def test_a_person_may_approve_a_candidate_without_gate_evidence_but_labels_then_decide():
    asked = offer(first(), candidate(gate=GateOutcome.NO_EVIDENCE), POLICY, MINUTE).rollout
    begun = note_proven(decide(asked, word("approve", asked), POLICY, MINUTE).rollout, "2")
    records, audits = drive(begun, POLICY, range(1, 80), rng=np.random.default_rng(6))
    assert "promoted" not in {one.action.value for one in audits}
    assert records[-1].reason.endswith("labels decide because the gate had no evidence")
