"""Which findings page and ask: the champion's, once for a cause."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

from msgspec import structs

from stationkeeper.contracts.messages import Level, VerdictKind
from stationkeeper.monitor.core.finding import Dated
from stationkeeper.monitor.core.incidents import Incident, IncidentChanges
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.judge.escalation import KEPT_RECOVERED, Escalation
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


def escalation(cause: Incident | None = None) -> Escalation:
    settings = fraud()
    watches = Mock(spec=Watches)
    watches.same_onset.return_value = cause
    return Escalation(settings, watches, References({"fraud": settings}))


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
