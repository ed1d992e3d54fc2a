"""One picture of the loop out of many roles and processes."""

import socket
import threading

import pytest

from stationkeeper.contracts.status import check
from stationkeeper.page.fleet_status import Fleet, PeerRoles, brief, derived_samples, fresh_samples, merge, own_status
from stationkeeper.process.web import WebServer, create_app
from tests.stationkeeper import story


def test_the_story_has_the_agreed_shape_and_so_has_the_fleet() -> None:
    for role in [*story.canary_moment(), *story.healthy_moment()]:
        check(role.status())
    check(Fleet(story.canary_moment()).whole(), "fleet")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00\x15 no http\r\n", "BadStatusLine"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"roles": [', "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no role of this loop"),
    ],
)
def test_a_peer_that_answers_something_else_or_breaks_off_is_shown_as_not_answering(answer: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as peer:

        def serve() -> None:
            for _ in range(2):
                asked, _address = peer.accept()
                with asked:
                    asked.recv(4_096)
                    asked.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        fleet = Fleet([], PeerRoles({"retrain": f"http://127.0.0.1:{peer.getsockname()[1]}"}))
        (broken,) = fleet.whole()["roles"]
        # Its answer about a model is of as little use.
        fleet.model("nobody")
        thread.join()
    assert not broken["live"]
    assert said in broken["reasons"][0]


def test_a_model_known_twice_is_taken_with_the_later_watermark() -> None:
    old, new = story.model(story.SEEN), story.model(story.SEEN + story.MINUTE, drifting=True)
    fleets = [own_status([story.Role("judge", story.judge(m))], 0) for m in (new, old)]
    assert [m["state"] for m in merge(fleets, 0)["models"]] == ["drifting"]


def test_a_judge_that_stands_still_leaves_its_models_unknown_and_its_gauges_withdrawn() -> None:
    drifting = story.model(story.SEEN, drifting=True)
    samples = story.subject_samples([drifting])
    stuck = Fleet([story.Role("judge", story.judge(drifting), samples, live=False, reasons=["stands still"])])
    (model,) = stuck.whole()["models"]
    assert (model["state"], {s["state"] for s in model["subjects"]}) == ("unknown", {"unknown"})
    assert "judge stands still" in model["reason"]
    assert not any("statistic" in s for s in model["subjects"])
    check(stuck.whole(), "fleet")
    left = {s.metric for s in fresh_samples(stuck.views[0])}
    # An incident is a fact until it is closed; a measurement is not.
    assert left == {"stationkeeper_incident_info"}
    states = {s.value for s in stuck.samples() if s.metric == "stationkeeper_model_state"}
    assert states == {0}
    assert fresh_samples(story.Role("judge", {}, samples)) == samples


def test_brief_models_keep_numbers_and_lose_plots() -> None:
    short = brief(story.model(story.SEEN))
    assert all("series" not in s and "cells" not in s and s["rows"] for s in short["subjects"])


def test_staleness_is_bounded_on_the_wall_clock_only() -> None:
    wall, stream = story.model(0, name="w"), story.model(0, name="s", clock="stream")
    fleet = own_status([story.Role("judge", story.judge(wall, stream))], 0)
    bounds = {s.labels for s in derived_samples(fleet, []) if s.metric == "stationkeeper_stale_after_seconds"}
    assert bounds == {("w",)}


def test_what_a_stage_hands_over_itself_is_not_derived_again() -> None:
    fleet = own_status([story.Role("judge", story.judge(story.model(0)))], 0)
    own = derived_samples(fleet, [])
    assert "stationkeeper_model_state" in {s.metric for s in own}
    again = derived_samples(fleet, [s for s in own if s.metric == "stationkeeper_model_state"])
    assert "stationkeeper_model_state" not in {s.metric for s in again}


def test_peers_are_shown_and_a_silent_one_is_neither_live_nor_ready() -> None:
    roles = {role.role: role for role in story.canary_moment()}
    peer = WebServer(create_app([roles["judge"]], strict=True))
    peer.start()
    try:
        fleet = Fleet([roles["tally"]], PeerRoles({"monitor": peer.url, "deploy": "http://127.0.0.1:1"}))
        whole = fleet.whole()
        assert [m["model"] for m in whole["models"]] == ["churn", "churn-2", "credit", "fraud"]
        silent = next(r for r in whole["roles"] if r["role"] == "deploy")
        assert (silent["live"], silent["ready"]) == (False, False)
        assert "did not answer at http://127.0.0.1:1" in silent["reasons"][0]
        full = fleet.model("fraud")
        assert full is not None
        assert "cells" in full["subjects"][0]
        assert fleet.model("nobody") is None
    finally:
        peer.stop()


def test_a_peer_address_is_checked_at_once() -> None:
    with pytest.raises(ValueError, match="write http://host:port"):
        PeerRoles({"deploy": "localhost:9103"})
