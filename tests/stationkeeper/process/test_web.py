"""The HTTP side over a real socket: probes, API, errors, headers."""

import socket
import urllib.parse

import httpx
import pytest

from stationkeeper.contracts.masking import printable
from stationkeeper.process.web import WebServer, create_app
from tests.stationkeeper import story


def served(roles: list[story.Role]) -> WebServer:
    server = WebServer(create_app(roles, strict=True))
    server.start()
    return server


def test_the_api_answers_what_the_roles_know(canary_url: str) -> None:
    status = httpx.get(f"{canary_url}/api/v1/status").json()
    assert {r["role"] for r in status["roles"]} == {"tally", "join", "judge", "retrain", "deploy"}
    assert all("cells" not in s for m in status["models"] for s in m["subjects"])
    model = httpx.get(f"{canary_url}/api/v1/models/fraud").json()
    assert model["subjects"][0]["cells"]["window"]
    incident = httpx.get(f"{canary_url}/api/v1/incidents/{story.INCIDENT}").json()
    assert {s["name"] for s in incident["subject_status"]} == {"payment_method", "amount", "score"}
    assert incident["retrain"]["version"] == incident["rollout"]["canary"] == "4"
    assert len(httpx.get(f"{canary_url}/api/v1/metrics-list").json()) > 30


@pytest.mark.parametrize("path", ["/api/v1/models/frod", "/api/v1/incidents/inc-0"])
def test_an_unknown_name_is_404_with_the_known_ones(canary_url: str, path: str) -> None:
    answer = httpx.get(canary_url + path)
    assert answer.status_code == 404
    assert answer.json()["known"]


@pytest.mark.parametrize("path", ["/models/frod", "/incidents/inc-0", "/models/fraud/subjects/nothing"])
def test_an_unknown_page_is_404_with_a_way_on(canary_url: str, path: str) -> None:
    answer = httpx.get(canary_url + path)
    assert answer.status_code == 404
    assert 'href="/models/fraud"' in answer.text


def test_the_metrics_are_the_numbers_of_the_api(canary_url: str) -> None:
    body = httpx.get(f"{canary_url}/metrics").text
    subject = httpx.get(f"{canary_url}/api/v1/models/fraud").json()["subjects"][0]
    line = f'stationkeeper_drift_evidence{{model="fraud",segment="",subject="{subject["name"]}",version="3"}}'
    assert f"{line} {subject['statistic']}" in body
    assert 'stationkeeper_model_state{model="churn"} 0.0' in body
    assert 'stationkeeper_role_ready{role="retrain"} 0.0' in body
    assert 'stationkeeper_label_completeness_ratio{model="fraud"} 0.976' in body
    assert 'stationkeeper_performance_ratio{measure="precision",model="fraud",segment="",version="3"} 0.75' in body
    assert 'stationkeeper_build_info{role="judge",version="' in body


def test_live_looks_at_the_loop_only_and_ready_says_what_is_missing() -> None:
    waiting = story.Role("tally", {}, ready=False, reasons=["the broker at localhost:9092 does not answer"])
    server = served([waiting])
    try:
        assert httpx.get(f"{server.url}/livez").status_code == 200
        ready = httpx.get(f"{server.url}/readyz")
        assert ready.status_code == 503
        assert "tally: the broker at localhost:9092 does not answer" in ready.text
        # Before the first commit a role has no status: the page still comes, and says that nothing is known.
        assert "No model has been seen yet." in httpx.get(server.url).text
    finally:
        server.stop()
    stuck = served([story.Role("tally", {}, live=False, reasons=["the loop last turned 40 s ago"])])
    try:
        assert httpx.get(f"{stuck.url}/livez").status_code == 503
    finally:
        stuck.stop()


@pytest.mark.parametrize(
    "path", ["/", "/models/fraud", "/models/churn", "/models/credit", f"/incidents/{story.INCIDENT}"]
)
def test_every_page_is_drawn(canary_url: str, path: str) -> None:
    answer = httpx.get(canary_url + path)
    assert answer.status_code == 200
    assert "None" not in answer.text


def test_pages_ask_for_nothing_from_elsewhere(canary_url: str) -> None:
    answer = httpx.get(canary_url)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert httpx.get(f"{canary_url}/static/page.css").headers["content-type"].startswith("text/css")
    assert httpx.get(f"{canary_url}/static/../web.py").status_code == 404


def test_what_comes_from_data_is_escaped() -> None:
    evil = story.model(story.SEEN, drifting=True)
    evil["subjects"][0]["name"] = evil["incidents"][0]["leader"] = "<script>alert(1)</script>"
    server = served([story.Role("judge", story.judge(evil))])
    try:
        for path in ("/", "/models/fraud", f"/incidents/{story.INCIDENT}"):
            page = httpx.get(server.url + path).text
            assert "<script>alert" not in page
            assert "&lt;script&gt;alert" in page
    finally:
        server.stop()


def test_a_port_in_use_is_said_with_the_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot serve on 127.0.0.1:{port}"):
            WebServer(create_app([]), port=port)


HOSTILE = [
    "a\x00b",
    'size 15"',
    "income\n(EUR)",
    "\x1b[31mred",
    "abc\u202edef",
    "<script>alert(1)</script>",
    "a/b?c %41 é",
]


def test_pages_and_metrics_of_hostile_names_hold_no_control_character_and_no_markup() -> None:
    judged = story.model(story.SEEN, drifting=True)
    for one, name in zip(judged["subjects"], HOSTILE, strict=False):
        one["name"] = name
    judged["subjects"] = judged["subjects"][: len(HOSTILE)]
    server = served([story.Role("judge", story.judge(judged), story.subject_samples([judged]))])
    pages = ["/", "/models/fraud", *(f"/models/fraud/subjects/{urllib.parse.quote(name)}" for name in HOSTILE)]
    nowhere = f"/models/{urllib.parse.quote(HOSTILE[0])}"
    try:
        for route in (*pages, nowhere, "/metrics"):
            answer = httpx.get(server.url + route)
            assert answer.status_code == (404 if route == nowhere else 200), route
            line = answer.text.replace("\n", "")
            assert printable(line) == line, route
            assert "<script>alert" not in line or route == "/metrics"
        assert httpx.get(f"{server.url}/api/v1/models/fraud").json()["subjects"][0]["name"] == HOSTILE[0]
    finally:
        server.stop()
