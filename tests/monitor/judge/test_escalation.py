"""Which findings page and ask: the champion's, once for a cause."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from msgspec import structs

from stationkeeper.contracts.messages import Level, SubjectType, VerdictKind
from stationkeeper.monitor.core.finding import Dated
from stationkeeper.monitor.core.incidents import RETRY_PANES, Harm, Incident, IncidentChanges, Member
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.judge.escalation import KEPT_RECOVERED, Escalation
from stationkeeper.monitor.judge.labels import Cohorts
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.succession import Ended
from stationkeeper.monitor.judge.watches import Stepped, Watches
from stationkeeper.monitor.references import References
from tests.monitor.core.incidents.test_request_policy import verdict_for
from tests.monitor.rig import fraud

KEY = WatchKey("1", "sha256:0", "country=de")


def incident(name: str) -> Incident:
    where = ("fraud", "1", "country=de")
    return Incident(name, *where, 2, Dated(1, 1, 2), f"feature:{name}:x", VerdictKind.DATA_DRIFT, Cause.SHIFT, "moved")


def escalation(cause: Incident | None = None, **settings_: Any) -> Escalation:
    settings = fraud(**settings_)
    watches = Mock(spec=Watches)
    watches.same_onset.return_value = cause
    watches.of.return_value = []
    return Escalation(settings, watches, References({"fraud": settings}), Cohorts(settings))


def stepped(opened: Incident) -> Stepped:
    verdict = verdict_for(opened)
    outcome = IncidentChanges((verdict,), (structs.replace(opened, verdict=verdict.id),))
    watch = SimpleNamespace(lifecycle=SimpleNamespace(incidents=SimpleNamespace(open={opened.id: opened})))
    return Stepped(KEY, cast("Any", watch), outcome)


def test_the_champions_incident_pages_and_asks() -> None:
    made, one = escalation(), incident("a")
    verdicts, requests = made.of(stepped(one), "1", 100)
    assert [verdict.level for verdict in verdicts] == [Level.PAGE]
    assert [request.incident for request in requests] == ["a"]
    assert made.incident_status(one, KEY, "1")["level"] == "page"


def test_another_version_informs_and_does_not_ask() -> None:
    made, one = escalation(), incident("a")
    (verdict,), requests = made.of(stepped(one), "2", 100)
    assert (verdict.level, requests) == (Level.INFORM, [])
    assert "version 1 is not champion, 2 is" in verdict.reason
    assert made.incident_status(one, KEY, "2")["level"] == "inform"


def test_an_incident_that_began_with_another_segments_is_paged_with_that() -> None:
    made, one = escalation(incident("first")), incident("a")
    (verdict,), requests = made.of(stepped(one), "1", 100)
    assert (verdict.level, requests) == (Level.INFORM, [])
    assert "began with first, which has paged" in verdict.reason
    assert made.incident_status(one, KEY, "1")["level"] == "inform"


def test_the_latest_that_ended_are_kept_with_why_and_verdicts_are_counted() -> None:
    made = escalation()
    for at in range(KEPT_RECOVERED + 2):
        one = incident(f"i{at}")
        made.remember([Ended(KEY, one, verdict_for(one))], "1")
        made.count([verdict_for(one)])
    assert len(made.recovered) == KEPT_RECOVERED
    assert (made.recovered[0]["id"], made.recovered[0]["recovered_reason"]) == ("i2", "i2 moved")
    assert made.verdicts == {("data_drift", "page"): KEPT_RECOVERED + 2}


def watching(made: Escalation, *incidents: Incident) -> None:
    watch = SimpleNamespace(incidents=lambda: list(incidents))
    cast("Any", made)._watches.of.return_value = [watch]


def weighing(made: Escalation, monkeypatch: pytest.MonkeyPatch, harm: Harm) -> None:
    def weigh(incident: Incident, _: object) -> Harm:
        made.harms.restore({**made.harms.state(), incident.id: harm})
        return harm

    monkeypatch.setattr(made.harms, "weigh", weigh)


HARMLESS = Harm("estimated", "estimated from the scores of 900 rows", "accuracy", 0.001, -0.01, 0.012, 0.9, 900)
HARMFUL = Harm("measured", "measured on 400 labelled rows", "accuracy", 0.05, 0.02, 0.08, 0.9, 400, value=1.5)


def test_with_page_on_harm_drift_warns_and_pages_once_it_does_harm(monkeypatch: pytest.MonkeyPatch):
    made, one = escalation(page_on="harm", requests={"when": "harm"}), incident("a")
    weighing(made, monkeypatch, HARMLESS)
    (verdict,), requests = made.of(stepped(one), "1", 60_000)
    assert (verdict.level, requests) == (Level.WARN, [])
    assert "no harm so far: costs 0.1 points of accuracy (-1.0 to 1.2), estimated" in verdict.reason
    assert verdict.evidence["harm"]["source"] == "estimated"
    assert made.incident_status(one, KEY, "1")["level"] == "warn"
    watching(made, one)
    # Weighed by the incident's own clock, every half an hour of panes.
    later = one.opened + RETRY_PANES * 60_000
    assert made.again("1", later) == ([], [])
    weighing(made, monkeypatch, HARMFUL)
    kept = escalation(page_on="harm", requests={"when": "harm"})
    kept.restore(made.state())
    kept.requests.restore(made.requests.state())
    weighing(kept, monkeypatch, HARMFUL)
    watching(kept, one)
    for each in (made, kept):
        (paged,), (request,) = each.again("1", one.opened + 3 * RETRY_PANES * 60_000)
        assert paged.level is Level.PAGE
        assert paged.id != verdict.id
        assert "by now it does harm: costs 5.0 points of accuracy (2.0 to 8.0) and 1.5 of value a row" in paged.reason
        assert request.evidence["harm"]["lost"] == 0.05
        assert each.incident_status(one, KEY, "1")["level"] == "page"
        # Once.
        assert each.again("1", one.opened + 6 * RETRY_PANES * 60_000) == ([], [])


def member(name: str, kind: VerdictKind, check: Check | None = None) -> Member:
    type_ = SubjectType.PERFORMANCE if kind is VerdictKind.PERFORMANCE else SubjectType.FEATURE
    return Member(f"{type_}:{name}:x", name, type_, kind, check, 3, 3, 0.1)


def joined(one: Incident, more: Member) -> Stepped:
    """A pane in which a subject joins an incident, with the warning that tells it."""
    now = one.with_member(member("a", VerdictKind.DATA_DRIFT)).with_member(more)
    verdict = verdict_for(now).model_copy(update={"level": Level.WARN, "kind": more.kind, "id": "joined"})
    return Stepped(KEY, stepped(one).watch, IncidentChanges((verdict,), changed=(now,)))


def test_errors_that_rise_within_a_drift_that_waits_for_harm_page_at_once(monkeypatch: pytest.MonkeyPatch):
    made, one = escalation(page_on="harm"), incident("a")
    weighing(made, monkeypatch, HARMLESS)
    made.of(stepped(one), "1", 60_000)
    told, paged = made.of(joined(one, member("error_rate", VerdictKind.PERFORMANCE)), "1", 120_000)[0]
    assert (told.level, paged.level) == (Level.WARN, Level.PAGE)
    assert "(by now performance joined it: costs 0.1 points" in paged.reason
    assert made.incident_status(one, KEY, "1")["level"] == "page"
    assert len(made.of(joined(one, member("error_rate", VerdictKind.PERFORMANCE)), "1", 180_000)[0]) == 1


def test_broken_data_that_join_a_drift_take_its_request_back_and_let_nothing_ask():
    made, one = escalation(), incident("a")
    _, (request,) = made.of(stepped(one), "1", 100)
    fault = joined(one, member("b", VerdictKind.DATA_QUALITY, Check.NULL))
    _, (taken,) = made.of(fault, "1", 200)
    assert (taken.id, taken.withdrawn) == (request.id, "a: b: broken data (null)")
    watching(made, fault.outcome.changed[0])
    assert made.broken("1") == "a is open: b: broken data (null)"


def test_with_page_on_drift_harm_is_told_and_changes_no_level(monkeypatch: pytest.MonkeyPatch):
    made, one = escalation(), incident("a")
    weighing(made, monkeypatch, HARMLESS)
    (verdict,), (request,) = made.of(stepped(one), "1", 100)
    assert verdict.level is Level.PAGE
    assert request.evidence["harm"]["words"].startswith("costs 0.1 points of accuracy")
    assert made.incident_status(one, KEY, "1")["harm"]["rows"] == 900


def test_an_incident_that_heals_and_broken_data_withdraw_the_request_in_work():
    for broken in (False, True):
        made, one = escalation(), incident("a")
        _, (request,) = made.of(stepped(one), "1", 100)
        if broken:
            fault = structs.replace(incident("b"), kind=VerdictKind.DATA_QUALITY, refusal="broken data (null)")
            _, requests = made.of(stepped(fault), "1", 200)
            why = "b: broken data (null)"
        else:
            back = Stepped(KEY, stepped(one).watch, IncidentChanges(closed=(structs.replace(one, closed=200),)))
            _, requests = made.of(back, "1", 200)
            why = "healed:  came back"
        assert [(each.id, each.withdrawn) for each in requests] == [(request.id, why)]
        assert made.incident_status(one, KEY, "1")["request_reason"] == f"withdrawn: {why}"


def test_a_harm_that_does_not_pay_says_its_numbers(monkeypatch: pytest.MonkeyPatch):
    made = escalation(requests={"when": "pays", "cost": 100}, labels="labels")
    weighing(made, monkeypatch, HARMFUL)
    _, requests = made.of(stepped(incident("a")), "1", 100, lambda harm: f"will not pay: {harm.lost}")
    assert requests == []
    answer = made.requests.answer("a")
    assert answer is not None
    assert answer.reason == "requests.when is pays: will not pay: 0.05"
