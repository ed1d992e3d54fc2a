"""Aliases and tag in a real MLflow on SQLite, and the webhook to a server of the team's own."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.config import Config
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import ChangedByOthers, Observation, Target, check_target, target_for
from stationkeeper.deploy.targets.mlflow_alias import TAG
from stationkeeper.process.wiring import target_settings
from stationkeeper.registry import MlflowConnection, RegistrySettings
from stationkeeper.streams.errors import Retryable
from tests.deploy.targets.team_server import TeamServer


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow whose database takes seconds to make: one for all."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(uri: str, tmp_path: Path) -> Iterator[Any]:
    with MlflowConnection(RegistrySettings(tracking_uri=uri)).asking("make models") as found:
        for model in ("conformance", "fraud"):
            found.create_registered_model(model)
            for _ in range(3):
                found.create_model_version(model, source=str(tmp_path))
        yield found
        for model in ("conformance", "fraud"):
            found.delete_registered_model(model)


@pytest.fixture
def team() -> Iterator[TeamServer]:
    with closing(TeamServer()) as server:
        yield server


def aliases(client: Any) -> dict[str, str]:
    # A database gives numbers, a server texts.
    return {name: str(version) for name, version in client.get_registered_model("fraud").aliases.items()}


def target(uri: str, team: TeamServer | None = None) -> Target:
    return target_for(
        TargetSettings(kind="mlflow-alias", url=None if team is None else team.url, options={"tracking_uri": uri})
    )


def record(weight_bp: int, canary: str | None = "2", champion: str = "1", epoch: int = 1) -> Rollout:
    phase = RolloutPhase.CANARY if canary else RolloutPhase.STEADY
    now = datetime(2026, 1, 1, tzinfo=UTC)
    lease = now if canary else None
    return Rollout(
        model="fraud", epoch=epoch, time=now, phase=phase, champion=champion, canary=canary, weight_bp=weight_bp,
        lease_until=lease,
    )  # fmt: skip


def test_the_target_keeps_every_promise(uri: str, client: Any):
    check_target(lambda: target(uri))


def test_aliases_and_tag_say_what_to_serve_and_the_server_is_told_once_a_change(
    uri: str, client: Any, team: TeamServer
):
    one = target(uri, team)
    one.apply(record(500))
    one.apply(record(500))
    # After a restart, too.
    target(uri, team).apply(record(500))
    found = client.get_registered_model("fraud")
    assert (aliases(client), len(team.platform.taken)) == ({"champion": "1", "challenger": "2"}, 1)
    wanted = {"epoch": 1, "champion": "1", "canary": "2", "weight_bp": 500}
    assert json.loads(found.tags[TAG]) == {**wanted, "told": True}
    assert team.platform.wanted["fraud"] == {**wanted, "model": "fraud", "lease_until": None}
    assert one.observe("fraud") == Observation("1", "2", 500)
    one.apply(record(0, canary=None, champion="2"))
    assert aliases(client) == {"champion": "2"}


def test_a_server_that_was_away_is_told_when_it_is_back(uri: str, client: Any, team: TeamServer):
    team.status = 503
    with pytest.raises(Retryable, match="with 503"):
        target(uri, team).apply(record(500))
    team.status = 0
    target(uri, team).apply(record(500))
    assert team.platform.wanted["fraud"]["weight_bp"] == 500


def test_an_alias_that_somebody_moved_is_told_and_left_and_a_newer_candidate_keeps_its_own(uri: str, client: Any):
    one = target(uri)
    one.apply(record(500))
    client.set_registered_model_alias("fraud", "champion", "3")
    with pytest.raises(ChangedByOthers, match="names 3, epoch 1 left 1; nothing was overwritten"):
        one.apply(record(2_500))
    assert aliases(client)["champion"] == "3"
    client.delete_registered_model_tag("fraud", TAG)
    one.apply(record(2_500))
    # Training registered version 3 as the next challenger before the canary was dropped.
    client.set_registered_model_alias("fraud", "challenger", "3")
    one.apply(record(0, canary=None))
    assert aliases(client) == {"champion": "1", "challenger": "3"}


def test_a_model_that_is_not_registered_and_a_later_epoch_are_said(uri: str, client: Any):
    one = target(uri)
    with pytest.raises(Retryable, match="churn is no registered model"):
        one.apply(record(500).model_copy(update={"model": "churn"}))
    one.apply(record(500, epoch=7))
    with pytest.raises(Retryable, match=r"a later epoch \(7\) than 1 is in force"):
        one.apply(record(0, canary=None))


def test_the_registry_of_the_configuration_is_followed_where_none_is_named(uri: str):
    config = Config.parse({"registry": {"tracking_uri": uri}, "targets": [{"kind": "mlflow-alias"}]})
    (found,) = target_settings(config)
    assert found.options == {"tracking_uri": uri}
