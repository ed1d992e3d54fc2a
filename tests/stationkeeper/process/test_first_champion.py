"""The first champion, adopted twice: the second time is refused before any work, and nothing is lost."""

from pathlib import Path

import pytest

from stationkeeper.config import Config
from stationkeeper.deploy.adoption import DeploymentError, read_deployments
from stationkeeper.process import first_champion
from stationkeeper.process.wiring import topics_of
from stationkeeper.registry import ArtifactError, Registry
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink
from tests.retrain.bank import HOUR, SMALL, START, transactions


def test_adopting_twice_keeps_the_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = Config.parse(
        {
            "registry": {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"},
            "snapshots": {"directory": str(tmp_path / "snapshots")},
            "models": {"bank": {"predictions": "scores", "labels": "outcomes", "retrain": SMALL}},
        }
    )
    topics, log = topics_of(config), MemoryLog()
    for topic in (topics.rollouts, topics.deployments, topics.references):
        log.create(topic)
    monkeypatch.setattr(first_champion, "reader_for", lambda *_: MemoryReader(log))
    monkeypatch.setattr(first_champion, "sink_for", lambda kafka, name: MemorySink(log, kafka, name))
    table = transactions(2_000, START - 100 * HOUR, START - HOUR, seed=1, shifted=False).drop("event_id")
    first = first_champion.adopt_first_champion(config, "bank", table, at_ms=START)
    assert read_deployments(MemoryReader(log), topics).rollout("bank").champion == first.version

    with monkeypatch.context() as no_work:
        no_work.setattr(first_champion, "train_first_champion", lambda *_, **__: pytest.fail("trained for a refusal"))
        with pytest.raises(DeploymentError, match="has champion 1 already"):
            first_champion.adopt_first_champion(config, "bank", table, at_ms=START)

    # Even a training that does not ask the log (a race of two people) deletes nothing that has a name.
    again = first_champion.train_first_champion(config, "bank", table)
    registry = Registry(config.registry)
    assert registry.tags("bank", first.version)["cause"] == "first champion"
    assert registry.champion("bank") == again.version

    monkeypatch.setattr(first_champion, "look_at", lambda *_: pytest.fail("looked at a version for a refusal"))
    with pytest.raises(DeploymentError, match="has champion 1 already"):
        first_champion.adopt_champion(config, "bank", again.version, None, START, "ann")


def test_a_version_that_the_registry_does_not_have_is_refused_before_the_log_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = Config.parse(
        {
            "registry": {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"},
            "models": {"bank": {"predictions": "scores"}},
        }
    )
    for port in ("reader_for", "sink_for"):
        monkeypatch.setattr(first_champion, port, lambda *_: pytest.fail("opened the log for a refusal"))
    with pytest.raises(ArtifactError, match="version 7 of bank"):
        first_champion.adopt_champion(config, "bank", "7", None, START, "ann")
