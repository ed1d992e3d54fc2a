"""A calendar of retrainings: from the last request or promotion on."""

from stationkeeper.contracts.messages import Level
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.ageing import Calendar, CalendarState
from stationkeeper.monitor.core.incidents import RequestPolicy, RequestRules, WatchIdentity
from stationkeeper.monitor.core.reasons import Cause

DAY, HOUR = 86_400_000, 3_600_000
FIRST, SECOND = WatchIdentity("m", "1", "", "digest"), WatchIdentity("m", "2", "", "digest")


def asked(calendar: Calendar, policy: RequestPolicy, who: WatchIdentity, hours: range, broken: str = "") -> list[int]:
    return [hour for hour in hours if calendar.ask(who, policy, hour * HOUR, None, broken)[1]]


def test_it_asks_each_period_after_the_last_request_or_promotion():
    calendar, policy = Calendar(7 * DAY), RequestPolicy(RequestRules(when="schedule"))
    assert asked(calendar, policy, FIRST, range(400)) == [168, 336]
    # The version that came at hour 400 begins a period of its own.
    assert asked(calendar, policy, SECOND, range(400, 700)) == [568]


def test_what_is_held_back_is_asked_again_and_its_request_says_why():
    calendar, policy = Calendar(2 * DAY), RequestPolicy(RequestRules(when="schedule"))
    assert asked(calendar, policy, FIRST, range(60), "inc is open: broken data (null)") == []
    kept = Calendar(2 * DAY)
    kept.state = state_of({"version": "1", "since": 0, "due": calendar.state.due}, CalendarState)
    assert kept.state == calendar.state
    (verdict,), (request,) = kept.ask(FIRST, policy, 60 * HOUR, None)
    assert (verdict.level, verdict.cause, request.cause) == (Level.INFORM, Cause.SCHEDULE, "schedule")
    assert verdict.reason == "2d have passed since the last retraining (requests.every)"


def test_without_a_period_it_never_asks():
    assert asked(Calendar(None), RequestPolicy(RequestRules()), FIRST, range(10_000)) == []
