"""The state machine: no weight without a record, the same minutes give the same decisions, doubt is not success."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import (
    Approval,
    Candidate,
    Deployment,
    DeploymentAction,
    GateOutcome,
    Level,
    Rollout,
    RolloutPhase,
    State,
    Subject,
    SubjectType,
    Verdict,
    VerdictKind,
)
from contracts.times import to_datetime
from contracts.wire import SCORE_BINS
from deploy.core.admission import advance, decide, names, note_verdict, offer
from deploy.core.minutes import ArmCounts, Minute, OutcomeCounts
from deploy.core.moves import steady
from deploy.core.policy import Action, Guardrail, GuardrailPolicy, TimeoutAction
from deploy.core.reasons import REASON_TEXT, Reason, because
from deploy.core.rollout import close_minute, tick
from deploy.core.state import memory
from deploy.settings import RolloutSettings

MINUTE = 60_000
POLICY = RolloutSettings(
    step_duration=5 * MINUTE, min_rows=20, max_duration=240 * MINUTE, probation_rows=2_000, probation=5 * MINUTE
).policy()
Phase = RolloutPhase


def first() -> Rollout:
    return steady("fraud", "1", 0, because(Reason.ADOPTED, version="1", by="test")).rollout


def candidate(version: str = "2", champion: str = "1", gate: GateOutcome = GateOutcome.PASS) -> Candidate:
    return Candidate(
        id=f"cand-{version}",
        time=to_datetime(0),
        request=f"req-{version}",
        model="fraud",
        version=version,
        champion=champion,
        run_id="run",
        snapshot="snap",
        reference="ref",
        artifact="uri",
        gate=gate,
        gate_reason="because",
    )


def minute(index: int, arms: dict[str, tuple[int, int]], outcomes: tuple[OutcomeCounts, ...] = ()) -> Minute:
    """Build a minute from rows and errors by version."""
    counts = {
        version: ArmCounts(rows=rows, errors=errors, scores=(rows, *(0,) * (SCORE_BINS - 1)))
        for version, (rows, errors) in arms.items()
        if rows
    }
    return Minute(start=index * MINUTE, length=MINUTE, arms=counts, outcomes=outcomes)


def drive(rollout, policy, minutes, *, rng, rows=1_000, bad=0.0, base=0.0, applied=None):
    """Play minutes in which traffic follows the record, ``applied`` overrides the share; returns records and audits."""
    records: list[Rollout] = [rollout]
    audits: list[Deployment] = []
    for index in minutes:
        share = (applied if applied is not None else rollout.weight_bp / 10_000) if rollout.canary else 0.0
        b = int(rng.binomial(rows, share))
        arms = {rollout.champion: (rows - b, int(rng.binomial(rows - b, base)))}
        if rollout.canary:
            arms[rollout.canary] = (b, int(rng.binomial(b, bad)))
        step = advance(close_minute(rollout, minute(index, arms), policy), policy, (index + 1) * MINUTE)
        rollout = step.rollout
        records.append(rollout)
        audits += step.deployments
    return records, audits


def started(policy=POLICY) -> Rollout:
    return offer(first(), candidate(), policy, MINUTE).rollout


def test_a_harmless_canary_climbs_every_step_and_is_confirmed():
    records, audits = drive(started(), POLICY, range(1, 80), rng=np.random.default_rng(1))
    weights = [one.weight_bp for one in records if one.phase is Phase.CANARY]
    assert sorted(set(weights)) == [100, 500, 2500, 5000]
    assert weights == sorted(weights)
    assert [one.action.value for one in audits] == ["step", "step", "step", "promoted", "confirmed"]
    last = records[-1]
    assert (last.phase, last.champion, last.canary, last.weight_bp) == (Phase.STEADY, "2", None, 0)
    assert memory(last).previous == "1"


def test_a_failing_canary_is_rolled_back_with_its_numbers():
    records, audits = drive(started(), POLICY, range(1, 80), rng=np.random.default_rng(2), bad=0.2)
    assert [one.action for one in audits][-1] is DeploymentAction.ROLLED_BACK
    assert (records[-1].champion, records[-1].canary, records[-1].weight_bp) == ("1", None, 0)
    back = audits[-1]
    assert back.evidence["code"] == "harm"
    assert back.evidence["guardrail"] == "errors"
    assert back.evidence["e"] >= back.evidence["limit"] == pytest.approx(1 / POLICY.rail_alpha())
    assert back.canary == "2"


def test_without_canary_rows_nothing_advances_and_the_time_limit_rolls_back():
    records, audits = drive(started(), POLICY, range(1, 260), rng=np.random.default_rng(3), applied=0.0)
    assert {one.weight_bp for one in records if one.canary} == {100}
    assert [one.action.value for one in audits] == ["rolled_back"]
    assert audits[0].evidence["code"] == "timeout"


def test_at_the_time_limit_hold_holds_and_promote_needs_rows_at_the_last_step():
    hold = replace(POLICY, on_timeout=TimeoutAction.HOLD)
    records, audits = drive(started(hold), hold, range(1, 260), rng=np.random.default_rng(3), applied=0.0)
    assert records[-1].phase is Phase.HOLD
    assert [one.evidence["code"] for one in audits] == ["timeout"]
    promote = replace(POLICY, on_timeout=TimeoutAction.PROMOTE)
    records, audits = drive(started(promote), promote, range(1, 260), rng=np.random.default_rng(3), applied=0.0)
    assert records[-1].champion == "1"
    labels = replace(promote, promote_on_labels=True)
    records, audits = drive(started(labels), labels, range(1, 260), rng=np.random.default_rng(3))
    assert [one.evidence["code"] for one in audits if one.action is DeploymentAction.PROMOTED] == ["timeout_no_harm"]


def test_traffic_that_does_not_follow_the_weight_is_held_and_goes_on_when_it_does():
    rollout, rng = started(), np.random.default_rng(4)
    records, _ = drive(rollout, POLICY, range(1, 10), rng=rng)
    rollout = records[-1]
    assert rollout.weight_bp == 500
    records, audits = drive(rollout, POLICY, range(10, 20), rng=rng)
    rollout = next(one for one in records if one.weight_bp == 2500 and memory(one).steps[-1].settled)
    at = memory(rollout).clock // MINUTE
    records, audits = drive(rollout, POLICY, range(at, at + 3), rng=rng, applied=0.9)
    assert audits[0].evidence["code"] == "share_mismatch"
    assert records[-1].phase is Phase.HOLD
    records, audits = drive(records[-1], POLICY, range(at + 3, at + 6), rng=rng)
    assert records[-1].phase is Phase.CANARY
    assert audits[0].evidence["code"] == "resumed"


def verdict(kind: VerdictKind, incident: str, level: Level = Level.PAGE) -> Verdict:
    return Verdict(
        id="ver",
        time=to_datetime(0),
        model="fraud",
        version="1",
        subject=Subject(type=SubjectType.FEATURE, name="amount"),
        kind=kind,
        level=level,
        state=State.BROKEN,
        cause="nulls",
        reason="nulls",
        rows=10,
        incident=incident,
    )


def test_broken_data_holds_until_the_incident_recovers():
    rollout = note_verdict(started(), verdict(VerdictKind.DATA_QUALITY, "inc-1"))
    rng = np.random.default_rng(5)
    records, audits = drive(rollout, POLICY, range(1, 30), rng=rng)
    assert records[-1].phase is Phase.HOLD
    assert {one.weight_bp for one in records} == {100}
    assert [one.action.value for one in audits] == ["held"]
    freed = note_verdict(records[-1], verdict(VerdictKind.RECOVERED, "inc-1"))
    records, _ = drive(freed, POLICY, range(30, 40), rng=rng)
    assert records[-1].weight_bp >= 500


def test_drift_and_warnings_hold_nothing():
    rollout = started()
    assert note_verdict(rollout, verdict(VerdictKind.DATA_DRIFT, "inc-1")) is rollout
    assert note_verdict(rollout, verdict(VerdictKind.DATA_QUALITY, "inc-1", Level.WARN)) is rollout


def test_a_shifted_score_distribution_informs_and_rolls_back_only_where_asked():
    def shifted(index, rollout):
        b = rollout.weight_bp // 10
        low, high = (1_000, *(0,) * 31), (*(0,) * 31, b)
        arms = {"1": ArmCounts(rows=1_000 - b, scores=tuple(c * (1_000 - b) // 1_000 for c in low))}
        arms["2"] = ArmCounts(rows=b, scores=high)
        return Minute(start=index * MINUTE, length=MINUTE, arms=arms)

    rollout = started()
    for index in range(1, 12):
        rollout = close_minute(rollout, shifted(index, rollout), POLICY).rollout
    assert rollout.canary == "2"
    assert rollout.weight_bp > 100
    strict = replace(POLICY, guardrails={**POLICY.guardrails, Guardrail.SCORES: GuardrailPolicy(Action.ROLL_BACK, 1.0)})
    rollout = started(strict)
    for index in range(1, 12):
        rollout = close_minute(rollout, shifted(index, rollout), strict).rollout
    assert rollout.canary is None


def outcomes(version: str, start: int, *, tp=0, fp=0, fn=0, tn=0, loss=0.0) -> OutcomeCounts:
    return OutcomeCounts(
        version=version,
        start=start,
        rows=tp + fp + fn + tn,
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        loss=loss,
    )


def with_labels(rollout, policy, minutes, rng, *, wrong_a, wrong_b, old="1", new="2"):
    """Play minutes in which half of the positives of either arm turn out wrong at the given rates, a minute later."""
    audits: list[Deployment] = []
    for index in minutes:
        share = rollout.weight_bp / 10_000 if rollout.canary else 0.0
        b = int(rng.binomial(1_000, share))
        before = (index - 1) * MINUTE
        known = [
            outcomes(version, before, tp=60 - bad, fp=bad, tn=40, loss=float(bad))
            for version, rate in ((old, wrong_a), (new, wrong_b))
            for bad in [int(rng.binomial(60, rate))]
        ]
        arms = {old: (1_000 - b, 0), new: (b, 0)} if rollout.canary else {rollout.champion: (1_000, 0)}
        step = close_minute(rollout, minute(index, arms, tuple(known)), policy)
        rollout = step.rollout
        audits += step.deployments
    return rollout, audits


def test_worse_precision_on_labels_rolls_back():
    _, audits = with_labels(started(), POLICY, range(1, 40), np.random.default_rng(6), wrong_a=0.2, wrong_b=0.7)
    assert audits[-1].action is DeploymentAction.ROLLED_BACK
    assert audits[-1].evidence["guardrail"] in {"precision", "loss"}


@pytest.mark.parametrize(("factor", "champion"), [(1.2, None), (3.0, "1")])
def test_a_regression_is_judged_by_the_sign_of_its_losses(factor, champion):
    rollout, rng = started(), np.random.default_rng(6)
    for index in range(1, 30):
        if rollout.canary is None:
            break
        known = tuple(
            OutcomeCounts(
                version=version,
                start=(index - 1) * MINUTE,
                rows=20,
                true_positives=0,
                false_positives=0,
                false_negatives=0,
                true_negatives=0,
                loss=float(scale * rng.exponential(50.0, 20).sum()),
            )
            for version, scale in (("1", 1.0), ("2", factor))
        )
        b = rollout.weight_bp // 10
        rollout = close_minute(rollout, minute(index, {"1": (1_000 - b, 0), "2": (b, 0)}, known), POLICY).rollout
    assert (rollout.champion if rollout.phase is Phase.STEADY else None) == champion


def test_labels_that_mature_on_probation_bring_the_old_champion_back():
    rng = np.random.default_rng(7)
    patient = replace(POLICY, probation_rows=10**9)
    records, _ = drive(started(patient), patient, range(1, 40), rng=rng)
    rollout = records[-1]
    assert rollout.phase is Phase.PROBATION
    assert rollout.champion == "2"
    step = memory(rollout).steps[-1]
    assert step.settled is not None
    audits: list[Deployment] = []
    for index in range(40, 80):
        known = (
            outcomes("1", step.settled, tp=50, fp=10, tn=40),
            outcomes("2", step.settled, tp=20, fp=40, tn=40),
        )
        move = close_minute(rollout, minute(index, {"2": (1_000, 0)}, known), patient)
        rollout = move.rollout
        audits += move.deployments
    assert [one.action.value for one in audits] == ["rolled_back"]
    assert (rollout.champion, rollout.phase) == ("1", Phase.STEADY)


def test_promotion_on_labels_waits_for_noninferiority_and_says_so():
    labelled = replace(POLICY, promote_on_labels=True)
    _, audits = with_labels(
        started(labelled), labelled, range(1, 60), np.random.default_rng(8), wrong_a=0.5, wrong_b=0.1
    )
    promoted = [one for one in audits if one.action is DeploymentAction.PROMOTED]
    assert [one.evidence["code"] for one in promoted] == ["noninferior"]
    records, audits = drive(started(labelled), labelled, range(1, 60), rng=np.random.default_rng(8))
    assert records[-1].phase is Phase.CANARY
    assert "E = " in records[-1].reason


def test_labels_of_minutes_between_steps_are_left_out():
    rollout = started()
    assert memory(rollout).step_at(MINUTE) is None
    rollout = close_minute(rollout, minute(1, {"1": (990, 0), "2": (10, 0)}), POLICY).rollout
    assert memory(rollout).step_at(MINUTE) is None
    assert memory(rollout).step_at(2 * MINUTE) == 0
    between, settled = outcomes("2", MINUTE, tp=50, fp=10), outcomes("2", 2 * MINUTE, tp=30, fp=10)
    arms = {"1": (990, 0), "2": (10, 0)}
    after = close_minute(rollout, minute(2, arms, (between, settled)), POLICY).rollout
    assert memory(after).labels_b == 40


weights = st.sampled_from([0.0, 0.3, 1.0])


@given(
    seed=st.integers(0, 2**32 - 1),
    plan=st.lists(st.tuples(st.integers(1, 15), weights, st.sampled_from([0.0, 0.05])), max_size=8),
)
def test_a_replay_decides_alike_and_a_restart_changes_nothing(seed, plan):
    def play(*, restart: bool):
        rng, rollout, index, records = np.random.default_rng(seed), started(), 1, []
        for length, follows, bad in plan:
            for _ in range(length):
                share = follows * rollout.weight_bp / 10_000 if rollout.canary else 0.0
                b = int(rng.binomial(400, share))
                arms = {rollout.champion: (400 - b, 0)}
                if rollout.canary:
                    arms[rollout.canary] = (b, int(rng.binomial(b, bad)))
                if restart:
                    rollout = Rollout.decode(rollout.encode())
                rollout = close_minute(rollout, minute(index, arms), POLICY).rollout
                records.append(rollout.encode())
                index += 1
        return records

    once = play(restart=False)
    assert once == play(restart=True)
    steps = {0, *POLICY.steps_bp}
    previous = 100
    for one in map(Rollout.decode, once):
        assert one.weight_bp in steps
        assert bool(one.weight_bp) == (one.canary is not None)
        if one.canary and previous:
            assert (
                one.weight_bp == previous or POLICY.steps_bp.index(one.weight_bp) == POLICY.steps_bp.index(previous) + 1
            )
        previous = one.weight_bp


def test_small_traffic_climbs_by_time_and_still_needs_its_rows_to_be_promoted():
    """Like flights: 40 rows an hour, so that 200 rows at 1 % would take three weeks."""
    policy = RolloutSettings().policy()
    rollout, rng = offer(first(), candidate(), policy, 0).rollout, np.random.default_rng(3)
    audits: list[Deployment] = []
    hour, index = 60 * MINUTE, 0
    while rollout.canary and index < 24 * 7:
        b = int(rng.binomial(40, rollout.weight_bp / 10_000))
        arms = {"1": ArmCounts(rows=40 - b), "2": ArmCounts(rows=b)}
        step = close_minute(rollout, Minute(start=index * hour, length=hour, arms=arms), policy)
        rollout, index = step.rollout, index + 1
        audits += step.deployments
    assert [one.evidence["code"] for one in audits] == ["small_traffic"] * 3 + ["no_harm"]
    assert audits[-1].evidence["rows"] >= policy.promote_rows
    assert index < 24 * 4


def test_few_entities_that_send_more_or_less_than_their_share_do_not_stop_the_ramp():
    for factor in (0.6, 1.6):
        rollout, rng = started(), np.random.default_rng(5)
        for index in range(1, 60):
            if rollout.canary is None:
                break
            b = int(rng.binomial(1_000, (factor if rollout.weight_bp < 2_500 else 1.0) * rollout.weight_bp / 10_000))
            rollout = close_minute(rollout, minute(index, {"1": (1_000 - b, 0), "2": (b, 0)}), POLICY).rollout
        assert rollout.champion == "2"


def test_an_old_minute_changes_nothing():
    records, _ = drive(started(), POLICY, range(1, 8), rng=np.random.default_rng(1))
    assert close_minute(records[-1], minute(3, {"1": (10, 10)}), POLICY).rollout is records[-1]


@pytest.mark.parametrize(
    ("offered", "code"),
    [
        (candidate(gate=GateOutcome.FAIL), "gate_failed"),
        (candidate(version="1"), "already_champion"),
        (candidate(champion="0"), "stale_champion"),
    ],
)
def test_candidates_that_cannot_go_out_are_refused_once(offered, code):
    refused = offer(first(), offered, POLICY, MINUTE)
    assert [(one.action.value, one.evidence["code"]) for one in refused.deployments] == [("refused", code)]
    assert refused.rollout.phase is Phase.STEADY
    again = offer(refused.rollout, offered, POLICY, MINUTE)
    assert again.deployments == ()


def test_a_candidate_without_evidence_and_one_that_needs_approval_wait_for_a_person():
    for policy, offered in (
        (POLICY, candidate(gate=GateOutcome.NO_EVIDENCE)),
        (replace(POLICY, approval=True), candidate()),
    ):
        waiting = offer(first(), offered, policy, MINUTE).rollout
        assert (waiting.phase, waiting.weight_bp) == (Phase.AWAITING_APPROVAL, 0)
        going = decide(waiting, word("approve", waiting), policy, 2 * MINUTE)
        assert (going.rollout.phase, going.rollout.weight_bp) == (Phase.CANARY, 100)
        refused = decide(waiting, word("reject", waiting), policy, 2 * MINUTE)
        assert (refused.rollout.phase, refused.deployments[0].action.value) == (Phase.STEADY, "refused")
        assert memory(refused.rollout).rollbacks == 0


def word(decision, rollout: Rollout, name: str | None = None) -> Approval:
    return Approval(
        time=to_datetime(0),
        target="rollout",
        id=name or min(names(rollout)),
        model="fraud",
        decision=decision,
        by="ana",
        note="looks wrong",
    )


def test_a_person_rolls_back_a_canary_and_a_confirmed_promotion():
    rollout = started()
    back = decide(rollout, word("roll_back", rollout), POLICY, MINUTE)
    assert (back.rollout.champion, back.rollout.canary) == ("1", None)
    records, _ = drive(rollout, POLICY, range(1, 80), rng=np.random.default_rng(1))
    confirmed = records[-1]
    back = decide(confirmed, word("roll_back", confirmed), POLICY, 90 * MINUTE)
    assert back.rollout.champion == "1"
    assert "ana" in back.deployments[0].reason


def test_a_word_about_nothing_is_refused_in_the_log():
    rollout = started()
    unknown = decide(rollout, word("approve", rollout, "roll-x"), POLICY, MINUTE)
    assert unknown.deployments[0].evidence["code"] == "unknown_rollout"
    idle = decide(rollout, word("approve", rollout), POLICY, MINUTE)
    assert idle.deployments[0].evidence["code"] == "not_waiting"


def test_a_second_candidate_waits_and_the_newest_is_offered_when_the_rollout_ends():
    rollout = offer(started(), candidate("3"), POLICY, MINUTE).rollout
    queued = offer(rollout, candidate("4"), POLICY, MINUTE)
    assert [one.evidence["code"] for one in queued.deployments] == ["queued", "superseded"]
    records, audits = drive(queued.rollout, POLICY, range(1, 60), rng=np.random.default_rng(2), bad=0.3)
    assert [one.action.value for one in audits][:2] == ["rolled_back", "started"]
    assert next(one for one in records if one.epoch == 2).canary == "4"


def test_the_wall_clock_ends_a_rollout_for_which_no_minute_closes():
    rollout = started()
    assert tick(rollout, POLICY, MINUTE + POLICY.max_ms - 1).rollout is rollout
    assert tick(rollout, POLICY, MINUTE + POLICY.max_ms).rollout.canary is None


def test_every_reason_has_its_sentence():
    assert set(REASON_TEXT) == set(Reason)
