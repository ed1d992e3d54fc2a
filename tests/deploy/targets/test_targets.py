from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from email.message import Message
from typing import Any, cast

import pytest

from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.plugins import NotConforming, PluginError
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import (
    Abilities,
    HttpTarget,
    Observation,
    RouterTarget,
    Target,
    check_target,
    serves,
    target_for,
)
from stationkeeper.streams.errors import Retryable
from tests.deploy.targets.team_server import Platform, TeamServer
from tests.dripping_server import CUT, HEAD, dripping
from tests.json_server import JsonServer

STEADY = Rollout(model="churn", epoch=1, time=datetime(2026, 1, 1, tzinfo=UTC), phase=RolloutPhase.STEADY, champion="1")


class MemoryTarget:
    name = "memory"

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def apply(self, rollout: Rollout) -> None:
        self._platform.take(rollout.model_dump())

    def observe(self, model: str) -> Observation | None:
        one = self._platform.wanted.get(model)
        return None if one is None else Observation(one["champion"], one["canary"], one["weight_bp"])


@pytest.fixture
def team() -> Iterator[TeamServer]:
    with closing(TeamServer()) as server:
        yield server


def test_a_target_in_memory_and_one_over_http_keep_every_promise(team: TeamServer):
    platform = Platform()
    check_target(lambda: MemoryTarget(platform))
    settings = TargetSettings(kind="http", url=team.url)
    check_target(lambda: target_for(settings))


class Careless(MemoryTarget):
    """Takes whatever comes last, doubles weights, and raises for what it does not know."""

    name = ""

    def apply(self, rollout: Rollout) -> None:
        self._platform.wanted[rollout.model] = {**rollout.model_dump(), "weight_bp": rollout.weight_bp * 2}

    def observe(self, model: str) -> Observation | None:
        found = super().observe(model)
        if found is None:
            raise Retryable("no such model")
        return found


def test_the_suite_names_each_promise_that_a_target_breaks():
    platform = Platform()
    with pytest.raises(NotConforming) as caught:
        check_target(lambda: Careless(platform))
    for said in (
        "name is not a text",
        "unknown model raises",
        "200 bp go to the canary",
        "an older epoch moved traffic",
    ):
        assert said in str(caught.value)


def test_a_target_that_is_not_idempotent_is_named():
    platform = Platform()

    class Counting(MemoryTarget):
        def apply(self, rollout: Rollout) -> None:
            known = platform.wanted.get(rollout.model, {"weight_bp": 0})
            platform.wanted[rollout.model] = {
                **rollout.model_dump(),
                "weight_bp": known["weight_bp"] + rollout.weight_bp,
            }

    with pytest.raises(NotConforming, match="must be idempotent"):
        check_target(lambda: Counting(platform))


@pytest.mark.parametrize(("kind", "made"), [("router", RouterTarget), ("http", HttpTarget)])
def test_a_target_is_found_by_its_name(kind: str, made: type[Target]):
    assert isinstance(target_for(TargetSettings(kind=kind, url="http://127.0.0.1:1")), made)


def test_a_target_of_another_distribution_is_found_by_its_import_path():
    with pytest.raises(ValueError, match="is no target: it lacks name, apply or observe"):
        target_for(TargetSettings(kind="builtins:repr"))
    with pytest.raises(PluginError, match="gateway-api, http, kserve"):
        target_for(TargetSettings(kind="nobody"))


@pytest.mark.parametrize("url", [None, "router:8080", "ftp://host", "http://"])
def test_an_address_that_is_none_is_named(url: str | None):
    with pytest.raises(ValueError, match="write http://HOST:PORT"):
        target_for(TargetSettings(kind="http", url=url))


def test_what_cannot_be_told_is_retried_and_never_taken_for_an_answer(team: TeamServer):
    target = HttpTarget(TargetSettings(kind="http", url=team.url))
    team.status = 503
    with pytest.raises(Retryable, match="with 503"):
        target.observe("fraud")
    team.status = 0
    team.platform.wanted["fraud"] = {"champion": "1"}
    with pytest.raises(Retryable, match="lacks or garbles"):
        target.observe("fraud")
    team.platform.wanted["fraud"] = cast("Any", ["1"])
    with pytest.raises(Retryable, match="no object"):
        target.observe("fraud")
    away = HttpTarget(TargetSettings(kind="http", url="http://127.0.0.1:1", timeout=200))
    with pytest.raises(Retryable, match="does not answer"):
        away.observe("fraud")


SERVED = {"champion": "1", "canary": None, "weight_bp": 0}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"champion": 3}, r"got `int` - at `\$.champion"),
        ({"weight_bp": 10_001}, r"<= 10000 - at `\$.weight_bp"),
        ({"weight_bp": "some"}, r"got `str` - at `\$.weight_bp"),
        ({"weight_bp": float("inf")}, r"got `float` - at `\$.weight_bp"),
        ({"unfit": ["2"]}, r"got `array` - at `\$.unfit"),
        ({"proven": [[]]}, r"got `array` - at `\$.proven"),
    ],
)
def test_a_wrong_field_of_a_server_is_named(team: TeamServer, wrong: dict[str, Any], said: str):
    target = HttpTarget(TargetSettings(kind="http", url=team.url))
    team.platform.wanted["fraud"] = {**SERVED, "weight_bp": 500.0, "more": 1}
    assert target.observe("fraud") == Observation("1", None, 500)
    team.platform.wanted["fraud"] = {**SERVED, **wrong}
    with pytest.raises(Retryable, match=said):
        target.observe("fraud")


class AnotherServer(JsonServer):
    def __init__(self, said: Any) -> None:
        super().__init__()
        self.said = said

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        return 200, self.said


@pytest.mark.parametrize(
    "said",
    [
        {"models": [{"name": "fraud"}]},
        {"models": ["fraud"]},
        {"models": 5},
        {"status": "ok"},
        {"models": [{**SERVED, "model": "fraud"}]},
        {"models": [{**SERVED, "model": "fraud", "unfit": [], "proven": []}]},
        {"models": [{**SERVED, "model": "fraud", "unfit": {}, "proven": [7]}]},
    ],
)
def test_a_server_that_is_no_router_is_told_as_one(said: Any):
    with closing(AnotherServer(said)) as server:
        target = RouterTarget(TargetSettings(kind="router", url=server.url))
        with pytest.raises(Retryable, match="no router of this version"):
            target.observe("fraud")


@pytest.mark.parametrize("other", [{"model": "churn", "champion": "1"}, {"champion": "1"}, 5])
def test_a_garbled_entry_of_another_model_is_nothing_to_this_one(other: Any):
    mine: dict[str, Any] = {**SERVED, "model": "fraud", "unfit": {}, "proven": []}
    for models in ([other, mine], [mine, other]):
        with closing(AnotherServer({"models": models})) as server:
            found = RouterTarget(TargetSettings(kind="router", url=server.url)).observe("fraud")
        assert found is not None
        assert found.champion == SERVED["champion"]


@pytest.mark.parametrize("head", [HEAD, CUT])
def test_an_answer_that_drips_is_given_up_at_its_time_limit(head: bytes):
    with dripping(head) as url, pytest.raises(Retryable, match="timed out"):
        RouterTarget(TargetSettings(kind="router", url=url, timeout=200)).observe("fraud")


def test_json_without_end_is_no_answer():
    with closing(AnotherServer(b"[" * 100_000)) as server:
        target = RouterTarget(TargetSettings(kind="router", url=server.url))
        with pytest.raises(Retryable, match="does not answer"):
            target.observe("fraud")


def test_what_a_server_says_to_a_post_is_its_own_matter(team: TeamServer):
    team.said = b"done"
    HttpTarget(TargetSettings(kind="http", url=team.url)).apply(STEADY)
    assert team.platform.wanted["churn"]["champion"] == "1"


@pytest.mark.parametrize(
    ("can", "taken"),
    [
        (Abilities(), {50: 50, 250: 250, 0: 0}),
        (Abilities(step_bp=100), {50: None, 250: 200, 2_500: 2_500, 0: 0}),
        (Abilities(step_bp=100, round_up=True), {50: 100, 250: 200, 0: 0}),
    ],
)
def test_a_weight_between_two_steps_of_a_platform_is_never_exceeded_unasked(
    can: Abilities, taken: dict[int, int | None]
):
    assert {asked: can.weight(asked) for asked in taken} == taken


def test_what_a_platform_cannot_do_of_a_ramp_is_said_before_it_begins():
    coarse = Abilities(step_bp=100, sticky=False, lapses=False)
    refused, rounded, *rest = coarse.limits((50, 250, 500))
    assert refused == (True, "0.005 is refused: the least weight is 0.01")
    assert rounded == (False, "0.025 becomes 0.02: weights are whole per cent")
    assert [told for told, _ in rest] == [False, False]
    assert list(Abilities().limits((1, 250))) == []


def test_a_target_of_some_models_is_left_alone_by_the_others(team: TeamServer):
    target = target_for(TargetSettings(kind="http", url=team.url, models=("fraud",)))
    assert (serves(target, "fraud"), serves(target, "churn")) == (True, False)
    target.apply(STEADY)
    target.apply(STEADY.model_copy(update={"model": "fraud"}))
    assert set(team.platform.wanted) == {"fraud"}
    assert (target.observe("churn"), target.observe("fraud")) == (None, Observation("1", None, 0))


def test_a_platform_that_needs_time_is_asked_again_and_one_that_never_gets_there_is_named():
    platform = Platform()

    class Slow(MemoryTarget):
        turns, patience = 0, 2

        def apply(self, rollout: Rollout) -> None:
            Slow.turns += 1
            if Slow.turns % Slow.patience:
                raise Retryable("Updating")
            super().apply(rollout)

    check_target(lambda: Slow(platform))
    Slow.patience = 10_000
    with pytest.raises(NotConforming, match="not in force after 20 calls of apply: Updating"):
        check_target(lambda: Slow(platform))
