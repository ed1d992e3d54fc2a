"""From a status to a person: the real Prometheus and Alertmanager page once for an incident and never without one."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.contracts.metrics import Sample
from stationkeeper.process.web import WebServer, create_app
from tests.e2e.alerting import Alerting
from tests.stationkeeper import story
from tests.waiting import until

pytestmark = pytest.mark.prometheus


class Monitor:
    """A monitor process whose status a test changes; its heart beats, as that of a loop does."""

    def __init__(self) -> None:
        self.model: Any = story.model(story.ONSET)
        self.extra: list[Sample] = []
        judge = story.Role("judge", {})
        judge.status = lambda: story.judge(self.model)  # type: ignore[method-assign]
        judge.samples = self._samples  # type: ignore[method-assign]
        self.server = WebServer(create_app([judge], strict=True))
        self.server.start()

    def _samples(self) -> list[Sample]:
        now = time.time()
        return [
            *story.subject_samples([self.model]),
            *self.extra,
            Sample("stationkeeper_stage_heartbeat_timestamp_seconds", ("judge",), now),
            Sample("stationkeeper_watermark_timestamp_seconds", ("fraud",), now),
        ]


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    monitor = Monitor()
    yield monitor
    monitor.server.stop()


@pytest.fixture
def alerting(tool: Callable[[str], str], monitor: Monitor, tmp_path: Path) -> Iterator[Alerting]:
    alerting = Alerting(tool, tmp_path, {"monitor": monitor.server.port})
    until(lambda: bool(alerting.query("stationkeeper_model_state")), "the first scrape")
    yield alerting
    alerting.close()


def test_one_incident_is_one_page_with_its_id_and_cause_and_ends_with_the_cure(
    alerting: Alerting, monitor: Monitor
) -> None:
    alerting.wait_evaluations(3)
    assert alerting.receiver.got("page") == []
    monitor.model = story.model(story.SEEN, drifting=True)
    verdict = Sample("stationkeeper_verdicts_total", ("fraud", "data_drift", "page"), 1.0, exemplar="ver-77b1c0d4")
    monitor.extra = [verdict]
    until(lambda: bool(alerting.receiver.got("page", "firing")), "the page")
    # More of the same, also from a monitor that is away for a moment, is no second page.
    monitor.model = story.model(story.SEEN)
    alerting.wait_evaluations(2)
    monitor.model = story.model(story.SEEN, drifting=True)
    alerting.wait_evaluations(6)
    assert alerting.receiver.got("page", "resolved") == []
    (page,) = alerting.receiver.got("page")
    (alert,) = page["alerts"]
    assert page["groupLabels"] == {"alertname": "StationkeeperIncident", "model": "fraud"}
    told = alert["annotations"]["description"]
    assert told.startswith(f"Incident {story.INCIDENT}: data_drift, new value in payment_method (version 3).")
    monitor.model = story.model(story.SEEN + story.MINUTE)
    until(lambda: bool(alerting.receiver.got("page", "resolved")), "the end of the page")
    assert len(alerting.receiver.got("page")) == 2
    assert alerting.receiver.got("warn") == []
    stored = alerting.exemplars('stationkeeper_verdicts_total{model="fraud"}')
    assert {exemplar["labels"]["verdict_id"] for exemplar in stored} == {"ver-77b1c0d4"}


def test_without_an_incident_nobody_is_told_anything(alerting: Alerting) -> None:
    alerting.wait_evaluations(15)
    assert alerting.receiver.got("page") == []
    assert alerting.receiver.got("warn") == []


def test_broken_data_warns_and_does_not_page(alerting: Alerting, monitor: Monitor) -> None:
    monitor.model = story.broken_model(story.SEEN, name="fraud")
    until(lambda: bool(alerting.receiver.got("warn", "firing")), "the warning")
    (warning,) = alerting.receiver.got("warn", "firing")
    assert warning["commonLabels"]["cause"] == "burst of nulls in amount"
    assert alerting.receiver.got("page") == []


def test_a_monitor_that_is_gone_is_one_warning(alerting: Alerting, monitor: Monitor) -> None:
    monitor.server.stop()
    until(lambda: bool(alerting.receiver.got("warn", "firing")), "the warning")
    alerting.wait_evaluations(4)
    names = {notification["groupLabels"]["alertname"] for notification in alerting.receiver.got("warn", "firing")}
    assert names <= {"StationkeeperDown", "StationkeeperAbsent"}
    assert alerting.receiver.got("page") == []
