"""A promotion is provisional: the old champion answers a share of the same minutes, and comes back when they say so."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.messages import Deployment, Rollout
from stationkeeper.deploy.core.comparison import harm_limit, log_e
from stationkeeper.deploy.core.dispersion import FIRST_BLOCKS, LEAST
from stationkeeper.deploy.core.evidence import HARM, SLOW
from stationkeeper.deploy.core.minutes import Minute
from stationkeeper.deploy.core.rollout import close_minute
from stationkeeper.deploy.core.split import as_served, to_canary
from stationkeeper.deploy.core.state import Spread, memory, remember
from stationkeeper.deploy.settings import RolloutSettings
from tests.deploy.core.ramp import MINUTE, POLICY, Phase, drive, minute, outcomes, started

PEOPLE = [f"person-{number}" for number in range(20_000)]


def promoted(policy=POLICY) -> Rollout:
    """Return the first record on probation; minute 60 is not closed yet."""
    records, audits = drive(started(policy), policy, range(1, 60), rng=np.random.default_rng(1))
    assert [one.weight_bp for one in audits if one.action.value == "promoted"] == [10_000 - policy.holdback_bp]
    found: Rollout = next(one for one in records if one.phase is Phase.PROBATION)
    return found


def on_probation(rollout: Rollout, bad_old: float, bad_new: float, minutes: int = 60, policy=POLICY):
    """Play minutes whose traffic follows the record; returns the record and the audits."""
    rng, first = np.random.default_rng(7), memory(rollout).clock // MINUTE
    audits: list[Deployment] = []
    for index in range(first, first + minutes):
        if rollout.phase is not Phase.PROBATION:
            break
        held = int(rng.binomial(1_000, as_served(rollout).weight_bp / 10_000))
        rows = {"1": (held, int(rng.binomial(held, bad_old)))}
        rows["2"] = (1_000 - held, int(rng.binomial(1_000 - held, bad_new)))
        step = close_minute(rollout, minute(index, rows), policy)
        rollout, audits = step.rollout, [*audits, *step.deployments]
    return rollout, audits


def test_the_old_champion_keeps_two_of_a_hundred_until_the_promotion_is_confirmed():
    rollout = promoted()
    assert (rollout.champion, rollout.canary, rollout.weight_bp) == ("2", None, 0)
    served = as_served(rollout)
    assert (served.champion, served.canary, served.weight_bp) == ("2", "1", 200)
    ended, audits = on_probation(rollout, 0.0, 0.0)
    assert [one.action.value for one in audits] == ["confirmed"]
    assert as_served(ended) is ended
    assert (ended.phase, ended.champion, memory(ended).holdback_bp) == (Phase.STEADY, "2", 0)


def test_those_who_are_held_back_are_others_than_those_who_had_the_canary_first():
    ramp, served = started(), as_served(promoted())
    early, held = to_canary(ramp.salt, PEOPLE, 200), to_canary(served.salt, PEOPLE, served.weight_bp)
    assert held.mean() == pytest.approx(0.02, abs=0.004)
    assert (early & held).mean() < 0.002


def test_a_fault_that_begins_after_the_promotion_brings_the_old_champion_back_with_its_numbers():
    """Only labels spoke on probation: errors of the new version alone were compared with nothing."""
    labelled = replace(POLICY, labels_expected=True)
    ended, audits = on_probation(promoted(labelled), 0.0, 0.05, policy=labelled)
    assert (ended.phase, ended.champion, ended.canary) == (Phase.STEADY, "1", None)
    assert audits[-1].action.value == "rolled_back"
    assert (audits[-1].evidence["code"], audits[-1].evidence["guardrail"]) == ("harm", "errors")
    assert audits[-1].canary == "2"


def test_a_bad_hour_of_both_is_no_harm():
    labelled = replace(POLICY, labels_expected=True)
    ended, audits = on_probation(promoted(labelled), 0.05, 0.05, policy=labelled)
    assert (ended.phase, ended.champion, audits) == (Phase.PROBATION, "2", [])


def test_labels_of_rows_answered_on_probation_count_for_the_comparison():
    labelled = replace(POLICY, labels_expected=True)
    rollout = promoted(labelled)
    start = memory(rollout).clock
    known = tuple(outcomes(version, start, tp=40, tn=60, fp=wrong) for version, wrong in (("1", 2), ("2", 2)))
    before = memory(rollout).labels_b
    after = close_minute(rollout, minute(start // MINUTE + 1, {"1": (20, 0), "2": (980, 0)}, known), labelled).rollout
    assert memory(after).labels_b == before + 102
    assert "confirm" in memory(after).wealth


def test_latency_takes_nothing_back_as_the_holdback_answers_fewer_rows_of_each_request():
    rollout = promoted()
    believed = Spread(blocks=FIRST_BLOCKS + int(LEAST), squares=LEAST)
    policy = RolloutSettings().policy(labels_expected=True)
    for name, size, phase in (
        ("latency", len(SLOW.shares), Phase.PROBATION),
        ("errors", len(HARM.shares), Phase.STEADY),
    ):
        state = memory(rollout).model_copy(update={"wealth": {name: (50.0,) * size}, "spread": {name: believed}})
        assert log_e(state, name, policy) > harm_limit(policy)
        quiet = Minute(start=state.clock, length=MINUTE)
        assert close_minute(remember(rollout, state), quiet, policy).rollout.phase is phase


def test_without_a_holdback_nothing_is_held_and_nobody_is_split():
    none = replace(POLICY, holdback_bp=0)
    rollout = promoted(none)
    assert as_served(rollout) is rollout


@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([0.0, 0.05]), holdback=st.sampled_from([0, 200, 5_000]))
def test_only_a_provisional_promotion_holds_back_and_a_restart_changes_nothing(seed, bad, holdback):
    policy, rng = replace(POLICY, holdback_bp=holdback), np.random.default_rng(seed)
    rollout = started(policy)
    for index in range(1, 50):
        served = as_served(rollout)
        assert served.weight_bp in {0, holdback, *policy.steps_bp}
        assert (served.canary != rollout.canary) == (rollout.phase is Phase.PROBATION and holdback > 0)
        assert served.canary != served.champion
        b = int(rng.binomial(400, served.weight_bp / 10_000)) if served.canary else 0
        arms = {served.champion: (400 - b, int(rng.binomial(400 - b, bad if served.champion == "2" else 0.0)))}
        if served.canary:
            arms[served.canary] = (b, int(rng.binomial(b, bad if served.canary == "2" else 0.0)))
        again = close_minute(Rollout.decode(rollout.encode()), minute(index, arms), policy).rollout
        rollout = close_minute(rollout, minute(index, arms), policy).rollout
        assert again.encode() == rollout.encode()
