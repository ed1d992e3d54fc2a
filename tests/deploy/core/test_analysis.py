"""Two versions that somebody else ramps, judged by the evidence of our own rollouts."""

import numpy as np
import pytest

from stationkeeper.deploy.core.analysis import CanaryComparison, Judgement, pair
from stationkeeper.deploy.core.comparison import log_e
from stationkeeper.deploy.core.minutes import Minute
from stationkeeper.deploy.core.reasons import Reason
from tests.deploy.core.ramp import MINUTE, POLICY, SETTINGS, minute, outcomes

RAMP = (0.02, 0.1, 0.25, 0.5)


def played(seed: int, *, base: float, bad: float, minutes: int = 240, rows: int = 1_000) -> tuple[Judgement, int]:
    """Return the first judgement that is one, looked at every minute of a ramp that is not ours, and its minute."""
    rng, one = np.random.default_rng(seed), CanaryComparison("1", "2", POLICY)
    for index in range(minutes):
        b = int(rng.binomial(rows, RAMP[min(index // 30, 3)]))
        one.add(
            minute(index, {"1": (rows - b, int(rng.binomial(rows - b, base))), "2": (b, int(rng.binomial(b, bad)))})
        )
        found = one.finding(labels=False)
        if found.judgement is not Judgement.INCONCLUSIVE:
            return found.judgement, index
    return Judgement.INCONCLUSIVE, minutes


def test_an_equal_canary_passes_and_one_that_fails_twice_as_often_is_caught_at_every_look():
    equal = [played(seed, base=0.02, bad=0.02) for seed in range(12)]
    worse = [played(seed, base=0.02, bad=0.04) for seed in range(12)]
    assert [found for found, _ in equal].count(Judgement.FAILED) == 0
    assert [found for found, _ in equal].count(Judgement.SUCCESSFUL) >= 11
    assert {found for found, _ in worse} == {Judgement.FAILED}


def test_no_rows_of_one_arm_are_no_success():
    one = CanaryComparison("1", "2", POLICY)
    for index in range(100):
        one.add(minute(index, {"1": (1_000, 10)}))
    found = one.finding(labels=False)
    assert (found.judgement, found.because.reason) == (Judgement.INCONCLUSIVE, Reason.NOT_COMPARED)
    assert (found.minutes, found.since) == (0, None)


def test_success_waits_for_labels_where_they_are_asked_for_and_wrong_ones_fail():
    good, bad = CanaryComparison("1", "2", POLICY), CanaryComparison("1", "2", POLICY)
    for one, wrong in ((good, 2), (bad, 30)):
        for index in range(120):
            one.add(minute(index, {"1": (500, 10), "2": (500, 10)}))
        assert one.finding(labels=False).judgement is Judgement.SUCCESSFUL
        assert one.finding(labels=True).judgement is Judgement.INCONCLUSIVE
        for index in range(120, 180):
            # An hour later the labels of the first hour are known, of both arms alike.
            start = (index - 120) * MINUTE
            known = (
                outcomes("1", start, tp=90, fp=10, tn=900, loss=20.0),
                outcomes("2", start, tp=100 - wrong * 3, fp=wrong * 3, tn=900, loss=wrong * 6.0),
            )
            one.add(minute(index, {"1": (500, 10), "2": (500, 10)}, known))
    assert good.finding(labels=True).judgement is Judgement.SUCCESSFUL
    found = bad.finding(labels=False)
    assert found.judgement is Judgement.FAILED
    assert "E =" in found.because.text


def test_a_minute_that_was_weighed_counts_once():
    one = CanaryComparison("1", "2", POLICY)
    for _ in range(3):
        one.add(minute(5, {"1": (900, 9), "2": (100, 1)}))
    found = one.finding(labels=False)
    assert (found.minutes, found.rows_champion, found.rows_canary, found.since) == (1, 900, 100, 5 * MINUTE)
    shown = {one["name"]: one for one in found.guardrails}
    assert shown["errors"]["ratio"] == pytest.approx(1.0)
    assert shown["errors"]["harm_limit"] == pytest.approx(np.exp(-np.log(POLICY.rail_alpha())))
    assert log_e(one._state, "errors", POLICY) == pytest.approx(np.log(shown["errors"]["harm"]))


def test_a_guardrail_that_holds_is_no_failure():
    from stationkeeper.deploy.core.policy import Action, Guardrail
    from stationkeeper.deploy.settings import GuardrailSettings

    rails = {**SETTINGS.guardrails, Guardrail.ERRORS: GuardrailSettings(action=Action.HOLD, margin=1.0)}
    one = CanaryComparison("1", "2", SETTINGS.model_copy(update={"guardrails": rails}).policy())
    for index in range(60):
        one.add(minute(index, {"1": (500, 5), "2": (500, 50)}))
    found = one.finding(labels=False)
    assert (found.judgement, found.because.reason) == (Judgement.INCONCLUSIVE, Reason.HARM)


@pytest.mark.parametrize(
    ("given", "expected"),
    [((None, None), ("1", "2")), (("2", None), ("2", "1")), ((None, "1"), ("2", "1")), (("0", "9"), ("0", "9"))],
)
def test_the_canary_is_the_version_that_appeared_last(given: tuple[str | None, str | None], expected: tuple[str, str]):
    minutes = [
        minute(0, {"0": (9, 0), "1": (9, 0)}),
        minute(1, {"1": (9, 0)}),
        minute(2, {"1": (900, 0), "2": (90, 0)}),
    ]
    assert pair(minutes, *given) == expected
    # Both were there already when the log begins; later the canary has more rows.
    begun = [minute(0, {"1": (900, 0), "2": (100, 0)}), minute(1, {"1": (100, 0), "2": (900, 0)})]
    assert pair(begun, None, None) == ("1", "2")
    alone: list[Minute] = [minute(0, {"1": (9, 0)})]
    assert pair(alone, None, None) == (None, None)
