from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from stationkeeper.contracts.messages import Rollout, RolloutPhase, SubjectType, Verdict, VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.finding import PAGE, Dated, Finding
from stationkeeper.monitor.core.incidents import (
    Incident,
    IncidentHarm,
    RequestPolicy,
    RequestPolicyState,
    RequestRules,
    WatchIdentity,
    verdict_of,
)
from stationkeeper.monitor.core.incidents.request_policy import KEPT, LOST_AFTER_MS, RETRY_PANES
from stationkeeper.monitor.core.reasons import Cause

DAY = 86_400_000


def incident(name: str, kind: VerdictKind = VerdictKind.DATA_DRIFT, refusal: str = "") -> Incident:
    return Incident(name, "m", "1", "", 2, Dated(1, 1, 2), name, kind, Cause.SHIFT, "moved", refusal=refusal)


def verdict_for(made: Incident) -> Verdict:
    finding = Finding(
        made.id, SubjectType.FEATURE, made.kind, PAGE, 11.0, 10.0, 0, 100, Cause.SHIFT, f"{made.id} moved"
    )
    named = WatchIdentity("m", "1", "", "sha256:0")
    return verdict_of(
        named,
        finding,
        now=made.opened,
        level=PAGE,
        effect=0.1,
        rows=100,
        onset=made.onset,
        incident=made,
        last_row=None,
        evidence={},
    )


def policy(**rules: Any) -> RequestPolicy:
    return RequestPolicy(RequestRules(**rules))


def reason(one: RequestPolicy, made: Incident, now: int, rollout: Rollout | None = None) -> str:
    assert one.consider(made, verdict_for(made), now=now, rollout=rollout) is None
    answer = one.answer(made.id)
    assert answer is not None
    assert answer.outcome == "suppressed"
    return answer.reason


def rollout(phase: RolloutPhase = RolloutPhase.STEADY, request: str | None = None) -> Rollout:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    canary = None if phase is RolloutPhase.STEADY else "2"
    return Rollout(model="m", epoch=1, time=now, phase=phase, champion="1", canary=canary, request=request)


def test_an_incident_asks_once_ever_also_after_a_restart():
    first = incident("a")
    before = policy(cooldown=0)
    assert before.consider(first, verdict_for(first), now=0) is not None
    after = policy(cooldown=0)
    after.restore(state_of(msgspec.to_builtins(before.state()), RequestPolicyState))
    assert reason(after, first, now=10 * DAY) == "this incident has its request"


def test_the_request_of_an_incident_has_one_name_whenever_it_is_made():
    made = incident("a")
    ids = set()
    for now in (0, 77):
        request = policy().consider(made, verdict_for(made), now=now)
        assert request is not None
        ids.add(request.id)
    assert len(ids) == 1


def test_cooldown_and_budget_hold_back_with_their_numbers():
    one = policy(cooldown=3_600_000, most=2, period=7 * DAY)
    settled = rollout()
    for number, now in enumerate((0, 2 * DAY)):
        made = incident(f"i{number}")
        assert one.consider(made, verdict_for(made), now=now, rollout=settled) is not None
    late = incident("late")
    assert reason(one, late, 2 * DAY + 1_800_000 + LOST_AFTER_MS - 1_800_001).startswith("request ")
    assert "budget: 2 requests in the last 1w, at most 2" in reason(one, late, 4 * DAY)
    assert one.consider(late, verdict_for(late), now=10 * DAY) is not None


def test_a_cooldown_says_how_much_of_it_is_left():
    one = policy(cooldown=3 * LOST_AFTER_MS)
    made = incident("a")
    assert one.consider(made, verdict_for(made), now=0) is not None
    assert reason(one, incident("b"), now=LOST_AFTER_MS + 1).startswith("cooldown: ")


def test_nothing_is_asked_while_a_request_or_a_rollout_is_in_work():
    one = policy(cooldown=0)
    made = incident("a")
    request = one.consider(made, verdict_for(made), now=0)
    assert request is not None
    other = incident("b")
    assert reason(one, other, now=1) == f"request {request.id} is still in work; one retraining of a model at a time"
    assert reason(one, other, 2, rollout(RolloutPhase.CANARY, request.id)).startswith(
        "the rollout of version 2 (canary)"
    )
    # The rollout that the request led to has ended.
    assert one.consider(other, verdict_for(other), now=3, rollout=rollout(request=request.id)) is not None


def test_a_request_that_led_nowhere_within_a_day_holds_nobody_back():
    one = policy(cooldown=0)
    first, second = incident("a"), incident("b")
    assert one.consider(first, verdict_for(first), now=0) is not None
    assert one.consider(second, verdict_for(second), now=LOST_AFTER_MS + 1) is not None


def test_what_was_held_back_asks_again_and_a_refused_one_never():
    one = policy(cooldown=0, pane=1_000)
    first, second, broken = incident("a"), incident("b"), incident("c", refusal="broken data (null)")
    published = one.consider(first, verdict_for(first), now=0)
    assert published is not None
    reason(one, second, now=1)
    assert reason(one, broken, now=1) == "broken data (null)"
    everyone = [first, second, broken]
    assert one.consider_again(everyone, now=RETRY_PANES * 1_000, rollout=rollout()) == []
    free = rollout(request=published.id)
    found = one.consider_again(everyone, now=1 + RETRY_PANES * 1_000, rollout=free)
    assert [request.incident for request in found] == ["b"]
    assert one.counts == {"published": 2, "suppressed": 2}


@pytest.mark.parametrize("kind", [VerdictKind.DATA_QUALITY, VerdictKind.TRAIN_SERVE_SKEW])
def test_what_training_cannot_cure_never_asks(kind: VerdictKind):
    assert "does not start a retraining" in reason(policy(), incident("a", kind), now=0)


def test_a_model_may_switch_requests_off():
    assert reason(policy(enabled=False), incident("a"), now=0).startswith("requests.enabled is false")


def test_an_incident_of_the_same_cause_is_answered_with_the_first():
    one = policy()
    one.note_same_cause(incident("b"), incident("a"))
    answer = one.answer("b")
    assert answer is not None
    assert (answer.outcome, answer.same_cause) == ("suppressed", True)
    assert "began with a" in answer.reason


def test_state_of_older_builds_is_read_by_position():
    old = {
        "desk": {"asked": [5], "answered": ["a"], "suppressed": 3},
        "asked": {"a": ["published", "published", "req-1", 0, "", False], "b": ["suppressed", "cooldown"]},
        "counts": {"published": 1},
        "outstanding": ["req-1", 5],
    }
    one = policy()
    one.restore(state_of(old, RequestPolicyState))
    answer = one.answer("a")
    assert answer is not None
    assert answer.request == "req-1"
    assert one.counts == {"published": 1}


@pytest.mark.parametrize("when", ["harm", "pays"])
def test_what_does_no_harm_does_not_ask_and_asks_once_it_does(when: Any):
    one, made = policy(when=when), incident("inc-1")
    harmless = IncidentHarm("no harm so far: costs nothing")
    assert one.consider(made, verdict_for(made), now=0, harm=harmless) is None
    answer = one.answer("inc-1")
    assert answer is not None
    assert answer.reason == f"requests.when is {when}: no harm so far: costs nothing"
    weighed = IncidentHarm("", {"harm": {"words": "costs 3 points"}})
    later = RETRY_PANES * 60_000
    (request,) = one.consider_again([made], now=later, harm=lambda _: weighed)
    assert request.evidence["harm"] == {"words": "costs 3 points"}


def test_drift_asks_whatever_it_costs_and_a_calendar_lets_no_incident_ask():
    made = incident("inc-1")
    assert policy().consider(made, verdict_for(made), now=0, harm=IncidentHarm("no harm so far")) is not None
    one = policy(when="schedule")
    assert one.consider(made, verdict_for(made), now=0) is None
    answer = one.answer("inc-1")
    assert answer is not None
    assert answer.reason == "requests.when is schedule: no incident asks"


def test_while_data_are_broken_nothing_asks():
    one, made = policy(), incident("inc-1")
    assert one.consider(made, verdict_for(made), now=0, broken="inc-0 is open: broken data (null)") is None
    assert one.consider_again([made], now=RETRY_PANES * 60_000)


def test_a_request_whose_candidate_was_rolled_out_has_nothing_to_take_back():
    for phase in (RolloutPhase.CANARY, RolloutPhase.STEADY):
        one, made = policy(), incident("inc-1")
        request = one.consider(made, verdict_for(made), now=0)
        assert request is not None
        assert one.withdraw("inc-2: broken data", rollout=rollout(phase, request.id)) is None
        answer = one.answer("inc-1")
        assert answer is not None
        assert "withdrawn" not in answer.reason
        assert one.counts == {"published": 1}


def test_a_request_is_withdrawn_once_by_its_incident_or_by_any():
    one, made = policy(cooldown=0), incident("inc-1")
    request = one.consider(made, verdict_for(made), now=0)
    assert request is not None
    assert one.withdraw("healed", "another") is None
    kept = policy(cooldown=0)
    kept.restore(state_of(msgspec.to_builtins(one.state()), RequestPolicyState))
    taken = kept.withdraw("healed", "inc-1")
    assert taken == request.model_copy(update={"withdrawn": "healed"})
    answer = kept.answer("inc-1")
    assert answer is not None
    assert (answer.request, answer.reason) == (request.id, "withdrawn: healed")
    assert kept.withdraw("healed", "inc-1") is None
    # What is withdrawn holds nobody back.
    other = incident("inc-2")
    assert kept.consider(other, verdict_for(other), now=1) is not None
    assert kept.withdraw("broken data") is not None
    assert kept.counts == {"published": 2, "withdrawn": 2}


def test_answers_are_forgotten_alike_with_and_without_a_restart():
    made = policy(when="schedule")
    for number in range(KEPT + 40):
        reason(made, incident(f"i{number}"), number)
    again = policy(when="schedule")
    again.restore(made.state())
    for number in range(KEPT + 40):
        assert (made.answer(f"i{number}") is None) == (again.answer(f"i{number}") is None) == (number < 40)
