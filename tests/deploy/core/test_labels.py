"""What labels decide: harm, non-inferiority, probation, and which rows count."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import Deployment, DeploymentAction
from stationkeeper.deploy.core.comparison import applies
from stationkeeper.deploy.core.minutes import OutcomeCounts
from stationkeeper.deploy.core.policy import Guardrail
from stationkeeper.deploy.core.rollout import close_minute
from stationkeeper.deploy.core.state import memory
from tests.deploy.core.ramp import MINUTE, POLICY, Phase, drive, minute, outcomes, started, with_labels

UNNAMED = set(Guardrail) - {Guardrail.PRECISION, Guardrail.RECALL}


def test_classes_keep_their_precision_also_where_no_row_is_decided_positive_yet():
    rollout, rng = started(), np.random.default_rng(6)
    for index in range(1, 12):
        b = int(rng.binomial(1_000, rollout.weight_bp / 10_000))
        known = tuple(outcomes(version, (index - 1) * MINUTE, tn=20) for version in "12")
        rollout = close_minute(rollout, minute(index, {"1": (1_000 - b, 0), "2": (b, 0)}, known), POLICY).rollout
        assert all(applies(memory(rollout), name) for name in Guardrail)
    assert Guardrail.LOSS in memory(rollout).wealth


def test_worse_precision_on_labels_rolls_back():
    _, audits = with_labels(started(), POLICY, range(1, 40), np.random.default_rng(6), wrong_a=0.2, wrong_b=0.7)
    assert audits[-1].action is DeploymentAction.ROLLED_BACK
    assert audits[-1].evidence["guardrail"] in {"precision", "loss"}


@pytest.mark.parametrize(("factor", "champion"), [(1.2, None), (3.0, "1")])
def test_a_regression_is_judged_by_the_sign_of_its_losses(factor, champion):
    rollout, rng, shown = started(), np.random.default_rng(6), list[set[Guardrail]]()
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
        if rollout.canary:
            shown.append({name for name in Guardrail if applies(memory(rollout), name)})
    # Neither precision nor recall of numbers is shown beside what decides, from the first label that counts on.
    assert (shown[0], shown[-1]) == (set(Guardrail), UNNAMED)
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
