"""One picture of the loop out of many roles and processes."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import closing
from email.message import Message
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.status import FleetStatus, check
from stationkeeper.page.fleet import fleet_page
from stationkeeper.page.fleet_status import Fleet, PeerRoles, brief, derived_samples, fresh_samples, merge, own_status
from stationkeeper.process.web import WebServer, create_app
from tests.dripping_server import CUT, HEAD, dripping
from tests.json_server import JsonServer
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
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no role of this version says"),
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


@pytest.mark.parametrize("head", [HEAD, CUT])
def test_a_peer_whose_answer_drips_is_given_up_at_its_time_limit(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stationkeeper.page.fleet_status.PEER_TIMEOUT_S", 0.2)
    with dripping(head) as url:
        peers = PeerRoles({"monitor": url})
        (fleet,) = peers.fleets(0)
        assert fleet["roles"][0]["reasons"] == [f"did not answer at {url}: timed out"]
        # The other pages are not kept from an answer meanwhile, and a model is asked for in the same way.
        with pytest.raises(TimeoutError):
            peers._get(url, "/api/v1/models/fraud", "model", print)


def answered(**wrong: Any) -> FleetStatus:
    """What a role of ours answers, with some of its keys replaced."""
    fleet = own_status(story.canary_moment(), story.SEEN)
    fleet["models"] = [brief(model) for model in fleet["models"]]
    return {**fleet, **wrong}  # type: ignore[typeddict-item] # wrong on purpose


class Peer(JsonServer):
    """A process that answers its status, and a model, whatever they are."""

    def __init__(self, status: Any, model: Any = None) -> None:
        super().__init__()
        self.status, self.model = status, model

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        return 200, self.status if path.startswith("/api/v1/status") else self.model


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (answered(models=[5]), "models.0: Input should be a valid dictionary"),
        (answered(roles=[{"role": "deploy", "live": "yes", "ready": True, "reasons": []}]), "roles.0.live"),
        (answered(roles=None), "roles: Input should be a valid list"),
        (answered(schema_version=2), "schema_version: Input should be 1"),
        (answered(conservation=[{"topic": "t", "partition": 0}]), "conservation.0.received: Field required"),
        (answered(rollouts=[{**story.deploy()["rollouts"][0], "phase": "beta"}]), "rollouts.0.phase"),
        (answered(dead_letters={"undecodable": float("nan")}), "JSON is malformed"),
        (json.dumps(answered()).replace('"fraud"', '"\\ud800"').encode(), "DecodeError"),
        (json.dumps(answered()).replace(str(story.SEEN), "9" * 400).encode(), "OverflowError"),
        # Each field is of its type, and no page can show it.
        (answered(generated=10**15), "ValueError"),
        (b"[" * 100_000, "RecursionError"),
    ],
)
def test_a_peer_whose_answer_has_other_contents_is_shown_by_itself_with_the_field(wrong: Any, said: str) -> None:
    with closing(Peer(wrong)) as strange, closing(Peer(answered())) as sound:
        fleet = Fleet([], PeerRoles({"deploy": strange.url, "monitor": sound.url})).whole()
    *_, told = sorted(fleet["roles"], key=lambda role: role["role"] == "deploy" and len(role["reasons"]))
    assert (told["role"], told["live"], told["ready"]) == ("deploy", False, False)
    assert f"answered at {strange.url}: what no role of this version says" in told["reasons"][0]
    assert said in told["reasons"][0]
    assert "fraud" in {model["model"] for model in fleet["models"]}
    assert strange.url in fleet_page(fleet)


def test_a_field_of_a_newer_version_is_passed_on() -> None:
    with closing(Peer(answered(weather="fine"))) as newer:
        (fleet,) = PeerRoles({"monitor": newer.url}).fleets(0)
    assert fleet["weather"] == "fine"  # type: ignore[typeddict-item] # of a version to come
    assert all(role["live"] for role in fleet["roles"])


def test_a_model_that_no_page_can_show_is_shown_as_far_as_the_status_tells_it() -> None:
    whole = next(model for model in own_status(story.canary_moment(), 0)["models"] if model["model"] == "fraud")
    broken = json.loads(json.dumps(whole))
    next(subject for subject in broken["subjects"] if "series" in subject)["series"]["time"] = []
    answers: list[Any] = [broken, {**whole, "model": "churn"}, {**whole, "state": "fine"}, []]
    for wrong in answers:
        with closing(Peer(answered(models=[brief(whole)]), wrong)) as peer:
            peers = PeerRoles({"monitor": peer.url})
            assert peers.model("fraud") is None
            web = WebServer(create_app([], peers=peers, strict=True))
            web.start()
            try:
                with urlopen(f"{web.url}/models/fraud") as page:
                    assert "amount" in page.read().decode()
            finally:
                web.stop()


def places(value: Any) -> Iterator[tuple[MutableMapping[Any, Any] | MutableSequence[Any], Any]]:
    """Every place in a JSON value that can hold something else: what holds it, and where."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield value, key
        yield from places(one)


class Body(BytesIO):
    """An answer of which nothing is missing."""

    length = 0


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_whatever_stands_anywhere_in_an_answer_the_page_of_the_others_is_shown(data: st.DataObject) -> None:
    answer: Any = json.loads(json.dumps(answered()))
    for _ in range(data.draw(st.integers(1, 3))):
        found = [*places(answer)]
        holder, key = found[data.draw(st.integers(0, len(found) - 1))]
        holder[key] = data.draw(ANYTHING)
    peers = PeerRoles({"deploy": "http://127.0.0.1:1"})
    peers._opener = SimpleNamespace(open=lambda *_, **__: Body(json.dumps(answer).encode()))  # type: ignore[assignment] # a double
    fleet = Fleet([story.Role("tally", story.tally())], peers)
    whole: Mapping[str, Any] = fleet.whole()
    assert "tally" in {role["role"] for role in whole["roles"]}
    assert "tally" in fleet_page(fleet.whole())
    json.dumps(whole, allow_nan=False)


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
