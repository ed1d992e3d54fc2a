"""The state machine: no weight without a record, the same minutes give the same decisions, doubt is not success."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.messages import Deployment, DeploymentAction, Rollout
from stationkeeper.deploy.core.admission import decide, note_proven, offer
from stationkeeper.deploy.core.minutes import ArmCounts, Minute
from stationkeeper.deploy.core.policy import Action, Guardrail, GuardrailPolicy, TimeoutAction
from stationkeeper.deploy.core.reasons import UNCOUNTED_TEXT, Uncounted
from stationkeeper.deploy.core.rollout import close_minute
from stationkeeper.deploy.core.state import memory
from stationkeeper.deploy.settings import RolloutSettings
from tests.deploy.core.ramp import MINUTE, NO_LATENCY, POLICY, Phase, candidate, drive, first, minute, started, word


def test_a_harmless_canary_climbs_every_step_and_is_confirmed():
    records, audits = drive(started(), POLICY, range(1, 80), rng=np.random.default_rng(1))
    weights = [one.weight_bp for one in records if one.phase is Phase.CANARY]
    assert sorted(set(weights)) == [100, 500, 2500, 5000]
    assert weights == sorted(weights)
    assert [one.action.value for one in audits] == ["step", "step", "step", "promoted", "confirmed"]
    last = records[-1]
    assert (last.phase, last.champion, last.canary, last.weight_bp) == (Phase.STEADY, "2", None, 0)
    assert memory(last).previous == "1"


@pytest.mark.parametrize(("steps", "at"), [((100, 500, 2_500, 8_000), 8_000), ((100, 500), 5_000)])
def test_steps_edited_in_mid_ramp_leave_a_way_to_the_promotion(steps, at):
    """By number the ramp was at its last step, by weight it was not: such a rollout waited for latency for ever."""
    rng = np.random.default_rng(1)
    before, _ = drive(started(), POLICY, range(1, 24), rng=rng)
    assert before[-1].weight_bp == 5_000
    records, audits = drive(before[-1], replace(POLICY, steps_bp=steps), range(24, 60), rng=rng)
    assert max(one.weight_bp for one in records if one.canary) == at
    assert DeploymentAction.PROMOTED in [one.action for one in audits]


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


def test_at_the_time_limit_hold_holds():
    hold = replace(POLICY, on_timeout=TimeoutAction.HOLD)
    records, audits = drive(started(hold), hold, range(1, 260), rng=np.random.default_rng(3), applied=0.0)
    assert records[-1].phase is Phase.HOLD
    assert [one.evidence["code"] for one in audits] == ["timeout"]


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


def paused(rollout: Rollout, decision: str, at: int) -> tuple[Rollout, list[Deployment]]:
    moved = decide(rollout, word(decision, rollout), POLICY, at * MINUTE)
    return moved.rollout, list(moved.deployments)


@given(
    seed=st.integers(0, 2**32 - 1),
    plan=st.lists(
        st.one_of(st.tuples(st.integers(1, 20), st.sampled_from([0.0, 0.3])), st.sampled_from(["pause", "resume"])),
        max_size=10,
    ),
)
def test_a_pause_holds_the_weight_against_all_but_harm_and_survives_a_restart(seed, plan):
    rng, rollout, index, held = np.random.default_rng(seed), started(), 1, False
    for move in plan:
        if isinstance(move, str):
            told = paused(rollout, move, index)
            fits = rollout.canary is not None and held is (move == "resume")
            assert [one.action.value for one in told[1]] == (
                [{"pause": "held", "resume": "step"}[move]] if fits else ["refused"]
            )
            if fits:
                assert "ana" in told[1][0].reason
                assert "looks wrong" in told[1][0].reason
                held = move == "pause"
            rollout = told[0]
            continue
        length, bad = move
        before = rollout
        records, audits = drive(rollout, POLICY, range(index, index + length), rng=rng, bad=bad)
        rollout, index = Rollout.decode(records[-1].encode()), index + length
        if held and before.canary:
            done = [one.action for one in audits]
            assert done in ([], [DeploymentAction.ROLLED_BACK])
            assert rollout.champion == before.champion
            if not done:
                assert (rollout.phase, rollout.weight_bp, rollout.reason) == (
                    Phase.HOLD,
                    before.weight_bp,
                    before.reason,
                )
        held = held and rollout.canary is not None


def test_harm_and_the_deadline_end_a_pause_and_what_held_before_it_holds_after_it():
    rng = np.random.default_rng(3)
    records, _ = drive(started(), POLICY, range(1, 10), rng=rng)
    rollout, told = paused(records[-1], "pause", 10)
    assert (told[0].evidence["code"], told[0].evidence["by"], told[0].evidence["note"]) == (
        "paused",
        "ana",
        "looks wrong",
    )
    bad, audits = drive(rollout, POLICY, range(10, 60), rng=rng, bad=0.2)
    assert [one.evidence["code"] for one in audits] == ["harm"]
    assert bad[-1].canary is None
    left, audits = drive(rollout, POLICY, range(10, 260), rng=rng)
    assert {one.weight_bp for one in left if one.canary} == {500}
    assert [one.evidence["code"] for one in audits] == ["timeout"]
    going, told = paused(rollout, "resume", 12)
    assert memory(going).steps[-1].rows_b == 0
    assert (going.phase, told[0].evidence["code"]) == (Phase.CANARY, "resumed_by")
    records, _ = drive(going, POLICY, range(10, 60), rng=rng)
    assert records[-1].champion == "2"


def test_nothing_is_paused_before_the_first_weight_and_after_the_last():
    waiting = offer(first(), candidate(), replace(POLICY, approval=True), MINUTE).rollout
    records, _ = drive(started(), POLICY, range(1, 60), rng=np.random.default_rng(1))
    promoted = next(one for one in records if one.phase is Phase.PROBATION)
    for rollout in (waiting, promoted, records[-1]):
        assert [one.evidence["code"] for one in paused(rollout, "pause", 61)[1]] == ["not_waiting"]


def test_minutes_that_a_step_does_not_count_are_told_by_why():
    rollout, rng = started(), np.random.default_rng(1)
    records, _ = drive(rollout, POLICY, range(1, 4), rng=rng, applied=0.0)
    assert memory(records[-1]).steps[-1].uncounted == {"weight_not_seen": 3 * MINUTE}
    records, _ = drive(records[-1], POLICY, range(4, 6), rng=rng)
    seen = records[-1]
    assert memory(seen).steps[-1].settled is not None
    told = memory(seen).steps[-1].uncounted["weight_not_seen"]
    at = memory(seen).clock // MINUTE
    arms = ({"1": (1_000, 0)}, {"2": (10, 0)})
    for index, one in enumerate(arms):
        seen = close_minute(seen, minute(at + index, one), POLICY).rollout
    assert memory(seen).steps[-1].uncounted == {
        "weight_not_seen": told,
        "no_canary_rows": MINUTE,
        "no_champion_rows": MINUTE,
    }
    settled = memory(seen).steps[-1].settled
    held, _ = paused(seen, "pause", at + 2)
    going, _ = paused(held, "resume", at + 3)
    # The two minutes of one arm are noted already.
    assert memory(going).steps[-1].uncounted.get("restarted", 0) == memory(held).clock - settled - 2 * MINUTE


@pytest.mark.parametrize("silent", [1, 3, 7])
def test_no_minute_of_a_step_is_noted_apart_twice(silent):
    """A step of four minutes had seven that did not count: those without the canary, and the span they lay in."""
    records, _ = drive(started(), POLICY, range(1, 12), rng=np.random.default_rng(1), applied=None)
    rollout = next(one for one in records if one.canary and memory(one).steps[-1].settled is not None)
    at = memory(rollout).clock // MINUTE
    for turn in range(2):
        for _ in range(silent):
            rollout = close_minute(rollout, minute(at, {"1": (100, 0)}), POLICY).rollout
            at += 1
        rollout = close_minute(rollout, minute(at, {"1": (99, 0), "2": (1, 0)}), POLICY).rollout
        at += 1
        for decision in ("pause", "resume"):
            rollout, _ = paused(rollout, decision, at)
        step = memory(rollout).steps[-1]
        assert step.uncounted["no_canary_rows"] == (turn + 1) * silent * MINUTE
        assert sum(step.uncounted.values()) == memory(rollout).clock - step.started


def test_minutes_of_one_arm_count_as_time_so_that_small_traffic_ends_its_ramp():
    records, _ = drive(started(), POLICY, range(1, 4), rng=np.random.default_rng(1))
    rollout = next(one for one in records if one.canary and memory(one).steps[-1].settled is not None)
    at = memory(rollout).clock // MINUTE
    for turn in range(2):
        rollout = close_minute(rollout, minute(at + turn, {"1": (10, 0)}), POLICY).rollout
    assert rollout.reason.startswith("2 of 5 minutes")
    assert "their time counts" in UNCOUNTED_TEXT[Uncounted.NO_CANARY_ROWS]


def test_what_the_deadline_holds_is_neither_paused_nor_resumed():
    """A pause was taken, undone with the next minute, and both were told anew each time."""
    policy, rng = replace(POLICY, on_timeout=TimeoutAction.HOLD), np.random.default_rng(1)
    records, _ = drive(started(policy), policy, range(1, 6), rng=rng)
    rollout, _ = paused(records[-1], "pause", 6)
    records, told = drive(rollout, policy, range(6, 260), rng=rng)
    assert [one.evidence["code"] for one in told] == ["timeout"]
    for decision in ("pause", "resume"):
        moved = decide(records[-1], word(decision, records[-1]), policy, 261 * MINUTE)
        assert moved.rollout is records[-1]
        assert [one.evidence["code"] for one in moved.deployments] == ["past_deadline"]
        assert "promote it and accept the risk, or roll it back" in moved.deployments[0].reason
    back = decide(records[-1], word("roll_back", records[-1]), policy, 261 * MINUTE)
    assert back.rollout.canary is None


@pytest.mark.parametrize("per_minute", [65, 134, 1_000])
def test_the_shipped_ramp_takes_its_half_hours_at_any_traffic(per_minute):
    """A fixed number of rows made 65 a minute wait twice a step at 5 %, and 134 a minute for hours at 1 %."""
    policy, rng = RolloutSettings(guardrails=NO_LATENCY).policy(), np.random.default_rng(per_minute)
    records, _ = drive(started(policy), policy, range(2, 150), rng=rng, rows=per_minute)
    reached = next(number for number, one in enumerate(records) if one.weight_bp == 5_000)
    # Three half hours, the minutes until traffic shows each weight, and some luck of few rows.
    assert reached <= 115
    # Not sooner either, however little the next weight seems to expose: of a burst quiet minutes say nothing.
    first = next(number for number, one in enumerate(records) if one.weight_bp == 500)
    assert first >= 30


@pytest.mark.parametrize(("busiest", "least"), [(65, 5), (130, 5), (140, 30), (1_000, 30)])
def test_a_weight_that_shows_nothing_is_short_where_the_log_knows_no_busier_hour(busiest, least):
    """At 65 a minute the next weight gives a hundred rows in half an hour; at 140 it gives more than `min_rows`."""
    policy, rng = RolloutSettings(guardrails=NO_LATENCY).policy(), np.random.default_rng(1)
    told = candidate().model_copy(update={"busiest": float(busiest)})
    begun = note_proven(offer(first(), told, policy, MINUTE).rollout, "2")
    records, _ = drive(begun, policy, range(2, 150), rng=rng, rows=65)
    raised = next(number for number, one in enumerate(records) if one.weight_bp == 500)
    # The minutes until traffic shows the weight are luck of few rows.
    assert least <= raised <= least + 10
    # What the next weight exposes to more takes its half hour.
    assert next(number for number, one in enumerate(records) if one.weight_bp == 2_500) >= raised + 30


def test_small_traffic_climbs_by_time_and_still_needs_its_rows_to_be_promoted():
    """Like flights: 40 rows an hour, so that 200 rows at 1 % would take three weeks."""
    policy = RolloutSettings(guardrails=NO_LATENCY, max_duration=30 * 24 * 60 * MINUTE).policy()
    rollout, rng = note_proven(offer(first(), candidate(), policy, 0).rollout, "2"), np.random.default_rng(3)
    audits: list[Deployment] = []
    hour, index = 60 * MINUTE, 0
    while rollout.canary and index < 24 * 14:
        b = int(rng.binomial(40, rollout.weight_bp / 10_000))
        arms = {"1": ArmCounts(rows=40 - b), "2": ArmCounts(rows=b)}
        step = close_minute(rollout, Minute(start=index * hour, length=hour, arms=arms), policy)
        rollout, index = step.rollout, index + 1
        audits += step.deployments
    assert [one.evidence["code"] for one in audits] == ["small_traffic"] * 3 + ["noninferior"]
    assert audits[-1].evidence["rows"] >= 3_100 > policy.promote_rows


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


def test_twenty_entities_that_send_more_than_their_share_do_not_stop_the_ramp():
    """At a weight of 25 % they sent 40 % of the rows, and at 50 % as many: no minute can show which weight it was."""
    rollout, index, arms = started(), 1, dict[str, ArmCounts]()
    while rollout.canary and len(memory(rollout).steps) < 4 and index < 120:
        share = {100: 0.0, 500: 0.05}.get(rollout.weight_bp, 0.4)
        people = np.zeros((2, 3, 32), int)
        for person in range(20):
            people[int(person < 20 * share), 0, person] = 50
        arms = {
            version: ArmCounts(rows=int(people[arm, 0].sum()), groups=tuple(people[arm].ravel().tolist()))
            for arm, version in enumerate(("1", "2"))
            if people[arm, 0].any()
        }
        rollout = close_minute(rollout, Minute(start=index * MINUTE, length=MINUTE, arms=arms), POLICY).rollout
        index += 1
    assert rollout.weight_bp == 5_000
    while index < 180:
        rollout = close_minute(rollout, Minute(start=index * MINUTE, length=MINUTE, arms=arms), POLICY).rollout
        index += 1
    assert rollout.champion == "2"
